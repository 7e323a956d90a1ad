"""Looks at sockets that tell nothing: unix, packet, netlink, vsock and XDP sockets. The kernel is asked for all of a
family, round by round, and what differs from the round before has happened in between. Of unix sockets some calls are
heard besides (live.unix_calls): what they tell is folded in before each round, which finds the rest.

How long a round waits for the next goes by what it has cost, in CPU time of this thread: rows that say the same as
before are compared as bytes, so that a look costs 2 µs a row, the kernel's part among them.
"""

import select
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress

from sstrace.coordinates import found
from sstrace.errors import SstraceError
from sstrace.live.asked import Asked
from sstrace.live.owners import OwnerLooks
from sstrace.live.places import Place, Places
from sstrace.live.unix_calls import UnixCalls
from sstrace.model import Space, Table
from sstrace.plain import counted
from sstrace.protocols import OF_TABLE, UNIX
from sstrace.render.times import span_text
from sstrace.sources.diag import Diag, Netlink
from sstrace.table import Row, SocketTable, Transition
from sstrace.table.swept import SweptFold
from sstrace.wire.unix_call import UnixCall

__all__ = ["Rounds", "families", "lacks", "looks"]

_SOONEST_NS = 200_000_000
_DUTY = 50
"""A round that took t of CPU time is not followed by another before 50 t have passed: 2 % of a CPU at most."""
_EXACT_MOST = 16
"""Up to so many unix sockets that a dump has not shown are asked for one by one: for each the kernel looks through all
of its own (net/unix/diag.c: unix_lookup_by_ino), 0.1 µs apiece. Of more there is another dump.
"""


class Rounds:
    """Of one trace. ``tables``: what is followed, of which some may be none of these families'."""

    def __init__(
        self,
        table: SocketTable,
        places: Places,
        owners: OwnerLooks,
        tables: Collection[Table],
        calls: Callable[[], UnixCalls] | None = None,
    ) -> None:
        """``calls``: attaches the programs that hear of unix sockets' calls; None: there are to be none."""
        self._table = table
        self._places = places
        self._owners = owners
        self._numbers = {OF_TABLE[each].number for each in tables if OF_TABLE[each].swept}
        self._families, self._unlisted = families(tables)
        self._known: dict[tuple[int, str], dict[bytes, Row]] = {}
        """By namespace and family: what the kernel has said of each row."""
        self._altered: set[int] = set()
        """Ids of the rows that are otherwise since, because of calls."""
        self.others = tuple(each for each in tables if not OF_TABLE[each].swept)
        """The tables that are followed in another way."""
        self.number = 0
        """Of rounds so far, the first included."""
        self._next_ns = 0
        self.last_ns = 0
        """Up to when everything that was called, or found by a look, has been folded in."""
        self._calls: UnixCalls | None = None
        if calls is not None and any(each.family is UNIX for each in self._families):
            with suppress(SstraceError, OSError):  # then looks are all that there is, as the limits say
                self._calls = calls()

    @property
    def limits(self) -> list[str]:
        """What is not seen, a sentence each."""
        heard = self._calls is not None
        return [*lacks(self._unlisted), *([looks(self._families, heard=heard)] if self._families else [])]

    @property
    def account(self) -> str:
        """How many there were, to end a list with; empty where nothing is looked for."""
        text = f", {counted(self.number, 'look')}" if self._families else ""
        if self._calls is not None:
            heard, lost = self.calls
            text += f", {counted(heard, 'call')} heard, {lost} lost"
        return text

    @property
    def calls(self) -> tuple[int, int]:
        """How many were heard, and how many lost; looks find what came of these."""
        return (self._calls.calls, self._calls.lost) if self._calls is not None else (0, 0)

    @property
    def holds(self) -> bool:
        """Whether calls have come that are to be folded in."""
        return self._calls is not None and self._calls.holds

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there are many."""
        if self._calls is not None:
            self._calls.register(poll)

    def close(self) -> None:
        """Detach; harmless when done twice."""
        if self._calls is not None:
            self._calls.close()

    def start(self) -> None:
        """The first round: whatever there is, is not new."""
        if not self._families:
            return
        for _ in self._called():
            pass
        for _ in self._round(silent=True):
            pass
        rows = [row for row in self._table if row.protocol in self._numbers]
        began = time.monotonic_ns()
        for row in rows:
            row.touched_ns = began  # what was called before is older news
        self._own(rows)
        self._meet(rows)

    def wait_s(self, seconds: float) -> float:
        """At most so long, and until the next is due."""
        return min(seconds, (self._next_ns - time.monotonic_ns()) / 1e9) if self._families else seconds

    def due(self) -> Iterator[Transition]:
        """What was called, and ``look``, when it is time."""
        if time.monotonic_ns() >= self._next_ns:
            yield from self.look()
        elif self.holds:
            yield from self._called()

    def _called(self) -> Iterator[Transition]:
        """What the owners of unix sockets have done. Each transition's row is as that left it."""
        if self._calls is None:
            return
        nets = {place.netns.inode: place.netns.cookie for place in self._places}
        for event in self._calls.read():
            net, number = nets.get(event.netns), event.found.protocol
            if net is None or number not in self._numbers:
                continue
            fold = self._table.looked_for(Space(net, number))
            if event.call is UnixCall.CLOSE:
                ended = fold.closed(event.found, event.at_ns)
                if ended is not None:
                    self._altered.add(ended.row.id)  # where another holds it all the same, it is found anew
                    yield ended
                continue
            for row, change in fold.called(event.found, event.at_ns):
                if row.ino == event.found.ino and event.owner is not None and event.owner not in row.owners:
                    self._table.own(row, (event.owner,), event.call.name.lower(), event.at_ns)
                fold.meet(row)
                self._altered.add(row.id)
                yield change

    def look(self) -> Iterator[Transition]:
        """A round: what has happened since the one before, and what was called. Each transition's row is as that left
        it.
        """
        if not self._families:
            return
        yield from self._called()
        yield from self._look()

    def _look(self) -> list[Transition]:
        spent = time.thread_time_ns()
        changes = list(self._round(silent=False))
        self._altered.clear()
        alive = [change.row for change in changes if not change.ended]
        self._disown()
        self._own(row for row in alive if not row.owners)
        self._meet(change.row for change in changes)
        self.last_ns = time.monotonic_ns()
        self._next_ns = self.last_ns + max(_SOONEST_NS, _DUTY * (time.thread_time_ns() - spent))
        return changes

    def _round(self, *, silent: bool) -> Iterator[Transition]:
        self.number += 1
        ended: list[Transition] = []
        for place in self._places:
            for asked in self._families:
                yield from self._of(place, asked, ended, silent=silent)
        yield from ended
        nets = {place.netns.cookie for place in self._places}
        self._known = {key: known for key, known in self._known.items() if key[0] in nets}

    def _of(self, place: Place, asked: Asked, ended: list[Transition], *, silent: bool) -> Iterator[Transition]:
        """What is new of a family in a namespace; what has ended goes into a list."""
        folds = {
            number: self._table.looked_for(Space(place.netns.cookie, number))
            for number in asked.numbers & self._numbers
        }
        now = time.monotonic_ns()
        for fold in folds.values():
            fold.begin(self.number, now, silent=silent)
        try:
            with place.kernel.diag() as diag:
                yield from self._dump(place, asked, diag, folds)
                left = [row for fold in folds.values() for row in fold.missing()]
                if left and (asked.family is not UNIX or len(left) > _EXACT_MOST):
                    # Where much comes and goes, a dump may pass over a socket.
                    yield from self._dump(place, asked, diag, folds)
                    left = [row for fold in folds.values() for row in fold.missing()]
                elif left:
                    gone = asked.gone(diag, left)
                    left = [row for row in left if row.id in gone]
        except (SstraceError, OSError):
            return  # not a whole look: nothing is gone that it has not shown
        ended += filter(None, (folds[row.protocol].gone(row) for row in left))

    def _dump(self, place: Place, asked: Asked, diag: Netlink, folds: dict[int, SweptFold]) -> Iterator[Transition]:
        key = place.netns.cookie, asked.name
        known, new = self._known.get(key, {}), dict[bytes, Row]()
        for payload in asked.payloads(diag):
            row = known.get(payload)
            if row is not None and row.id not in self._altered:
                row.seen = self.number
                new[payload] = row
                continue
            fact = found(asked.row_of(payload))
            fold = folds.get(fact.protocol) if fact is not None else None
            if fact is None or fold is None or asked.is_own(fact.sport):
                continue
            new[payload], change = fold.shown(fact)
            if change is not None:
                new[payload].touched_ns = time.monotonic_ns()  # what was called before is older news
                yield change
        self._known[key] = new

    def _own(self, rows: Iterable[Row]) -> None:
        """Look who holds these."""
        mine = list(rows)
        if mine:
            self._owners.own(self._table, mine, lambda _: (), time.monotonic_ns(), few=True)

    def _disown(self) -> None:
        """Whom nobody held at the last look, and who is there all the same, is in flight, or in a listener's queue."""
        unheld, self._owners.unheld = self._owners.unheld, {}
        for row in unheld.values():
            if row.seen == self.number:
                self._table.own(row, (), self._owners.source, time.monotonic_ns())

    def _meet(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._table.looked_for(Space(row.net, row.protocol)).meet(row)


def families(tables: Iterable[Table]) -> tuple[list[Asked], list[Asked]]:
    """The families of those among some tables that tell nothing: those that this kernel lists, and the others."""
    found = {OF_TABLE[each].family.name: OF_TABLE[each].family for each in tables if OF_TABLE[each].swept}
    asked = [Asked(each) for each in found.values()]
    listed = [each for each in asked if each.is_listed(Diag)]
    return listed, [each for each in asked if each not in listed]


def looks(families: Iterable[Asked], *, heard: bool) -> str:
    """How these are followed, and what that does not see, a sentence. ``heard``: so are the calls of unix sockets'
    owners.
    """
    names = ", ".join(each.name for each in families)
    calls = "bind, listen, connect, accept and close of unix sockets are heard; besides, " if heard else ""
    return (
        f"{calls}{names} sockets are looked for every {span_text(_SOONEST_NS)}, less often where there are many "
        f"({100 // _DUTY} % of a CPU at most): what comes and goes between two looks is not seen"
    )


def lacks(families: Iterable[Asked]) -> list[str]:
    """Of which nothing is seen, a sentence each."""
    return [f"this kernel does not list {each.name} sockets" for each in families]
