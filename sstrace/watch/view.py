"""The rows that a watcher looks at: those of the live table that the filter lets pass, in order, marked and counted.

Enters: the live table's transitions and its journal, as they come. Leaves: a slice of rows, and numbers. No I/O and no
clock: every time is an argument.

Cost. A hundred thousand rows are kept in order so that a picture needs no look at those outside the screen. News is
only noted when it comes; ``fold`` puts it in order once a picture, one by one when it concerns few rows, by one merge
when many. The dead are in no order: of the last ``_LINGER_MOST`` a few stand among the living, in the room that these
leave, or in a quarter of the screen.
"""

import copy
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from operator import methodcaller
from typing import Literal, Protocol

import msgspec

from sstrace.causes import has_failed
from sstrace.fields import Reported
from sstrace.lifecycle.udp import UNSEEN
from sstrace.model import State
from sstrace.protocols import APPEARING, IPPROTO_TCP
from sstrace.query.expression import Expr
from sstrace.query.match import thresholds
from sstrace.table import Row, Transition
from sstrace.watch.order import RANK, SORTS, Order

__all__ = ["Entry", "Mark", "Tally", "Verdict", "Watched"]

_CLOSE, _ESTABLISHED = int(State.CLOSE), int(State.ESTABLISHED)

_DEAD_SHARE = 4
"""Of a full screen the dead get no more than one part in so many."""

_copied = methodcaller("__copy__")
"""What copy.copy does in three times the time; there may be 100,000 rows."""

_LINGER_MOST = 1000
"""Closed rows that stay to be seen; in a storm the screen holds fewer than that anyway."""

_DUE_SLACK = 65536
"""So many dates of dead or changed rows may wait before they are weeded out."""

Mark = Literal["+", "*", "-", " "]
"""New, changed its state, closed; a blank: none of these since the last mark faded."""


class Entry(msgspec.Struct, gc=False):
    """One row that the filter lets pass."""

    row: Row
    state: int
    """The state that it is counted in; of a closed row the one that it closed from."""
    shown: bool
    """Whether its state is among those asked for, so that it has a place in the order."""
    key: bytes
    mark: Mark
    mark_ns: int
    cause: str | None = None
    """Of a closed row: why it closed."""
    held_ns: int | None = None
    """Of a closed row: how long it had been in the state it closed from."""


class Tally(msgspec.Struct):
    """What has happened to the rows that the filter lets pass, since the start."""

    opened: int = 0
    """Connections that were established."""
    closed: int = 0
    """Connections that ended, but for those that failed."""
    failed: int = 0
    """Connections that ended by a cause that means failure: refused, reset, timed out, unreachable, killed."""


def tally(counts: Tally, change: Transition) -> None:
    """Count one transition. A socket without states that has no peer is as a listener is."""
    if change.new == _ESTABLISHED:
        counts.opened += change.old != _ESTABLISHED  # as what a unix socket has called is accepted
    elif change.ended and (change.old == _ESTABLISHED or change.row.protocol not in APPEARING):
        if has_failed(change.cause):
            counts.failed += 1
        else:
            counts.closed += 1


# Filters.


class Matches(Protocol):
    """An expression: see RowFilter.row."""

    def __call__(self, row: Row, held_ns: int, /, *, reported: Reported | None) -> bool: ...


class Verdict:
    """Whether a row is let pass. ``matches`` is the expression, of a row, its time in its state (ns), and what was
    reported of its end.
    """

    def __init__(
        self,
        families: int,
        expression: Expr | None = None,
        matches: Matches = lambda _row, _held_ns, reported: True,
        protocols: Collection[int] = (IPPROTO_TCP,),
    ) -> None:
        """``families``: a mask; ``protocols``: IP protocols. Other rows are not let pass."""
        self._families = families
        self._protocols = protocols
        self.now_ns = 0
        self.thresholds = thresholds(expression)
        self._matches = matches

    def __call__(self, row: Row, end: Transition | None = None) -> bool:
        """At ``now_ns``. The time in a state that is older than the trace counts from the trace's start. ``end``: how
        the row ended, if it just did.
        """
        if not self._families >> row.family & 1 or row.protocol not in self._protocols:
            return False
        return self._matches(row, self.now_ns - row.since_ns, reported=end.reported if end is not None else None)


class _Moves(msgspec.Struct):
    """What one ``fold`` will do to the order."""

    now_ns: int
    gone: set[tuple[bytes, int]] = msgspec.field(default_factory=set)
    come: dict[int, bytes] = msgspec.field(default_factory=dict)


class Watched:
    """The view. ``states``: mask of the states to list; rows in others are counted all the same."""

    def __init__(
        self,
        verdict: Verdict,
        states: int,
        *,
        fade_ns: int,
        sorts: Mapping[str, Callable[[Row, int, int], bytes]] = SORTS,
    ) -> None:
        self.verdict = verdict
        self.states = states
        self.sorts = sorts
        self.sort = next(iter(sorts))
        self.backwards = False
        self.dead = True
        """Whether closed rows are shown until their marks fade."""
        self.tally = Tally()
        self._fade_ns = fade_ns
        self._entries: dict[int, Entry] = {}
        self._order = Order()
        self._counts = [0] * 16
        self._news: dict[int, Row] = {}
        self._ends: dict[int, Transition] = {}
        self._lives: dict[int, list[Transition]] = {}
        self._marked: deque[tuple[int, int]] = deque()
        self._lingering: deque[int] = deque()
        # (when the clock may change the filter's answer, a number that makes it unique, the row, its since_ns)
        self._due: list[tuple[int, int, Row, int]] = []
        self._due_number = 0
        self._due_most = _DUE_SLACK
        self.changes = 0
        """Transitions of rows that the filter lets pass, since the start."""

    def __len__(self) -> int:
        """The living rows to be listed."""
        return len(self._order)

    @property
    def known(self) -> int:
        """Rows that the filter lets pass, whatever their state; closed ones that linger are not counted."""
        return sum(self._counts)

    def counts(self) -> list[tuple[int, int]]:
        """(state, how many rows the filter lets pass), those that exist, in the order of a connection's life."""
        found = [(state, count) for state, count in enumerate(self._counts) if count]
        return sorted(found, key=lambda item: bytes((item[0],)).translate(RANK))

    def reset(self, rows: Iterable[Row], now_ns: int) -> None:
        """Begin again with these rows, none of them marked."""
        self._entries.clear()
        self._counts = [0] * 16
        self._news.clear()
        self._ends.clear()
        self._lives.clear()
        self._marked.clear()
        self._lingering.clear()
        self._due.clear()
        self.verdict.now_ns = now_ns
        for row in rows:
            self._await(row, now_ns)
            if self.verdict(row):
                self._entries[row.id] = Entry(row, row.state, False, b"", " ", now_ns)
                self._counts[row.state] += 1
        self.resort()

    def resort(self) -> None:
        """Put the rows in order anew, after ``sort`` or ``states`` was changed."""
        make, states = self.sorts[self.sort], self.states
        for entry in self._entries.values():
            row = entry.row
            entry.key = make(row, entry.state, entry.mark_ns if entry.mark == "-" else row.since_ns)
            entry.shown = bool(states >> entry.state & 1)
        self._order.reset(
            (entry.key, number) for number, entry in self._entries.items() if entry.shown and entry.mark != "-"
        )

    def note(self, change: Transition) -> bool:
        """A transition, as soon as it comes; whether the filter lets its row pass."""
        row = change.row
        self._news[row.id] = row
        if change.new in (_CLOSE, UNSEEN):  # in CLOSE, a datagram socket lives
            self._ends[row.id] = change
        if row.id not in self._entries and not self.verdict(row, change if change.ended else None):
            return False
        self.changes += 1
        tally(self.tally, change)
        self._lives.setdefault(row.id, []).append(change)
        return True

    def fold(self, journal: dict[int, Row], alive: Callable[[Row], bool], now_ns: int) -> None:
        """Bring the view up to ``now_ns``: what was noted, what the table's ``journal`` tells (which is emptied), what
        the clock alone changes, and marks that fade. ``alive``: whether the table still has a row.
        """
        self.verdict.now_ns = now_ns
        news, self._news = self._news, {}
        news.update(journal)
        journal.clear()
        while self._due and self._due[0][0] <= now_ns:
            row = heappop(self._due)[2]
            news.setdefault(row.id, row)
        moves = _Moves(now_ns)
        gone, come = moves.gone, moves.come
        self._fade(now_ns, gone)
        for row in news.values():
            self._place(row, alive(row), moves)
        while len(self._lingering) > _LINGER_MOST:
            self._drop(self._lingering.popleft(), gone)
        self._ends.clear()
        if len(self._due) > self._due_most:
            self._due = [date for date in self._due if date[2].since_ns == date[3] and alive(date[2])]
            heapify(self._due)
            self._due_most = 2 * len(self._due) + _DUE_SLACK
        # One by one costs some 4 µs each, a pass over all 0.2 µs for each row that there is.
        if (len(gone) + len(come)) * 16 > len(self._order):
            self._order.merge(gone, [(key, number) for number, key in come.items()])
        else:
            for item in gone:
                self._order.remove(item)
            for number, key in come.items():
                self._order.add((key, number))

    def _place(self, row: Row, alive: bool, moves: _Moves) -> None:
        """One row of which there is news: what it means for the view."""
        number, now_ns, gone, come = row.id, moves.now_ns, moves.gone, moves.come
        entry = self._entries.get(number)
        if not alive:
            self._end(row, entry, moves)
            return
        self._await(row, now_ns)
        if not self.verdict(row):
            self._drop(number, gone)
            return
        state = row.state
        shown = bool(self.states >> state & 1)
        key = self.sorts[self.sort](row, state, row.since_ns)
        if entry is None:
            self._entries[number] = Entry(row, state, shown, key, "+", now_ns)
            self._counts[state] += 1
            self._marked.append((now_ns, number))
            if shown:
                come[number] = key
            return
        if state != entry.state:
            self._counts[entry.state] -= 1
            self._counts[state] += 1
            entry.state = state
            if entry.mark != "+":  # new goes before changed: both are news of the same moment
                entry.mark = "*"
            entry.mark_ns = now_ns
            self._marked.append((now_ns, number))
        if key != entry.key or shown != entry.shown:
            if entry.shown:
                gone.add((entry.key, number))
            if shown:
                come[number] = key
            entry.key, entry.shown = key, shown

    def _end(self, row: Row, entry: Entry | None, moves: _Moves) -> None:
        """A row has died: it lingers, marked, unless nobody could have seen it or nothing tells how it ended."""
        number, now_ns = row.id, moves.now_ns
        end = self._ends.get(number)
        state = end.old if end is not None else _CLOSE
        if end is None or not self.states >> state & 1 or (entry is None and not self.verdict(row, end)):
            self._drop(number, moves.gone)
            return
        key = self.sorts[self.sort](row, state, now_ns)
        if entry is None:
            entry = self._entries[number] = Entry(row, state, True, key, "-", now_ns)
        else:
            if entry.mark == "-":
                return
            self._counts[entry.state] -= 1
            if entry.shown:
                moves.gone.add((entry.key, number))
            entry.state, entry.mark, entry.mark_ns, entry.shown, entry.key = state, "-", now_ns, True, key
        entry.cause, entry.held_ns = end.cause, end.held_ns
        self._marked.append((now_ns, number))
        self._lingering.append(number)

    def _drop(self, number: int, gone: set[tuple[bytes, int]]) -> None:
        self._lives.pop(number, None)
        entry = self._entries.pop(number, None)
        if entry is None:
            return
        if entry.mark != "-":
            self._counts[entry.state] -= 1
            if entry.shown:
                gone.add((entry.key, number))

    def _fade(self, now_ns: int, gone: set[tuple[bytes, int]]) -> None:
        """Take away marks that have been seen, and with theirs the closed rows."""
        marked = self._marked
        while marked and marked[0][0] + self._fade_ns <= now_ns:
            at_ns, number = marked.popleft()
            entry = self._entries.get(number)
            if entry is not None and entry.mark_ns == at_ns:
                if entry.mark == "-":
                    self._drop(number, gone)
                else:
                    entry.mark = " "
        while self._lingering and self._lingering[0] not in self._entries:
            self._lingering.popleft()

    def _await(self, row: Row, now_ns: int) -> None:
        """Note when the clock alone may change the filter's answer for this row."""
        for ns in self.verdict.thresholds:
            if row.since_ns + ns > now_ns:
                self._due_number += 1
                heappush(self._due, (row.since_ns + ns, self._due_number, row, row.since_ns))

    def rekey(self, rows: Iterable[Row]) -> None:
        """These may have moved in the order without a transition: they are put in their places at the next ``fold``."""
        for row in rows:
            self._news[row.id] = row

    def rows(self, start: int, count: int) -> list[Entry]:
        """The entries of one screen: the living from place ``start`` on, and among them, where they would stand, the
        latest of the dead, as many as there is room for.
        """
        living = self.living(start, count)
        dead = self._dead_among(living, start, count)
        if dead:
            living = [*living[: count - len(dead)], *dead]
            living.sort(key=lambda entry: (entry.key, entry.row.id), reverse=self.backwards)
        return living

    def living(self, start: int, count: int) -> list[Entry]:
        """The entries from a place on, without the dead."""
        entries = self._entries
        return [entries[number] for number in self._order.ids(start, count, backwards=self.backwards)]

    def _dead_among(self, living: list[Entry], start: int, count: int) -> list[Entry]:
        if not self.dead or not self._lingering:
            return []
        room = max(count - len(living), count // _DEAD_SHARE)
        lowest = living[0].key if living and start else b""
        highest = living[-1].key if living and start + len(living) < len(self._order) else b"\xff" * 64
        if self.backwards:
            lowest, highest = (
                living[-1].key if living and start + len(living) < len(self._order) else b"",
                living[0].key if living and start else b"\xff" * 64,
            )
        found: list[Entry] = []
        for number in reversed(self._lingering):
            if len(found) >= room:
                break
            entry = self._entries.get(number)
            if entry is not None and lowest <= entry.key <= highest:
                found.append(entry)
        return found

    def place(self, number: int) -> int | None:
        """Where a living row stands, by its id; None for what is not listed."""
        entry = self._entries.get(number)
        if entry is None or not entry.shown or entry.mark == "-":
            return None
        place = self._order.place((entry.key, number))
        return len(self._order) - 1 - place if self.backwards else place

    def life(self, number: int) -> Sequence[Transition]:
        """What has happened to a row since somebody watches, the latest last; it goes on as the row does."""
        return self._lives.setdefault(number, [])

    def end(self, number: int) -> Transition | None:
        """How a row ended, if it has and that was seen."""
        return next((change for change in reversed(self._lives.get(number, ())) if change.ended), None)

    def entry(self, number: int) -> Entry | None:
        """What there is to know of a row, alive or not, by its id."""
        return self._entries.get(number)

    def frozen(self) -> "Watched":
        """A copy that the table's further life does not touch; sort it, filter it by states, look at it."""
        other = Watched(self.verdict, self.states, fade_ns=self._fade_ns, sorts=self.sorts)
        other.sort, other.backwards, other.changes = self.sort, self.backwards, self.changes
        other.tally, other.dead = copy.copy(self.tally), self.dead
        other._lingering = self._lingering.copy()
        other._lives = {number: list(life) for number, life in self._lives.items()}
        other._counts = list(self._counts)
        for number, entry in self._entries.items():
            clone = other._entries[number] = _copied(entry)
            clone.row = _copied(entry.row)
        other._order = self._order.copy()
        return other
