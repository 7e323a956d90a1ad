"""Looks at sockets that tell nothing: unix, packet, netlink, vsock and XDP sockets. The kernel is asked for all of a
family, round by round, and what differs from the round before has happened in between.

How long a round waits for the next goes by what it has cost, in CPU time of this thread: rows that say the same as
before are compared as bytes, so that a look costs 2 µs a row, the kernel's part among them.
"""

import time
from collections.abc import Collection, Iterable, Iterator

from sstrace.coordinates import found
from sstrace.errors import SstraceError
from sstrace.live.asked import Asked
from sstrace.live.owners import OwnerLooks
from sstrace.live.places import Place, Places
from sstrace.model import Space, Table
from sstrace.plain import counted
from sstrace.protocols import OF_TABLE, UNIX
from sstrace.render.times import span_text
from sstrace.sources.diag import Diag, Netlink
from sstrace.table import Row, SocketTable, Transition
from sstrace.table.swept import SweptFold

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

    def __init__(self, table: SocketTable, places: Places, owners: OwnerLooks, tables: Collection[Table]) -> None:
        self._table = table
        self._places = places
        self._owners = owners
        self._numbers = {OF_TABLE[each].number for each in tables if OF_TABLE[each].swept}
        self._families, self._unlisted = families(tables)
        self._known: dict[tuple[int, str], dict[bytes, Row]] = {}
        """By namespace and family: what the kernel has said of each row."""
        self.others = tuple(each for each in tables if not OF_TABLE[each].swept)
        """The tables that are followed in another way."""
        self.number = 0
        """Of rounds so far, the first included."""
        self._next_ns = 0

    @property
    def limits(self) -> list[str]:
        """What is not seen, a sentence each."""
        return [*lacks(self._unlisted), *([looks(self._families)] if self._families else [])]

    @property
    def account(self) -> str:
        """How many there were, to end a list with; empty where nothing is looked for."""
        return f", {counted(self.number, 'look')}" if self._families else ""

    def start(self) -> None:
        """The first round: whatever there is, is not new."""
        if not self._families:
            return
        for _ in self._round(silent=True):
            pass
        rows = [row for row in self._table if row.protocol in self._numbers]
        self._own(rows)
        self._meet(rows)

    def wait_s(self, seconds: float) -> float:
        """At most so long, and until the next is due."""
        return min(seconds, (self._next_ns - time.monotonic_ns()) / 1e9) if self._families else seconds

    def due(self) -> list[Transition]:
        """``look``, when it is time."""
        return self.look() if time.monotonic_ns() >= self._next_ns else []

    def look(self) -> list[Transition]:
        """A round: what has happened since the one before. Each transition's row is as that left it, for as long as
        there is no other round.
        """
        if not self._families:
            return []
        spent = time.thread_time_ns()
        changes = list(self._round(silent=False))
        alive = [change.row for change in changes if not change.ended]
        self._disown()
        self._own(row for row in alive if not row.owners)
        self._meet(change.row for change in changes)
        self._next_ns = time.monotonic_ns() + max(_SOONEST_NS, _DUTY * (time.thread_time_ns() - spent))
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
                    left = [row for row in left if row.cookie in gone]
        except (SstraceError, OSError):
            return  # not a whole look: nothing is gone that it has not shown
        ended += filter(None, (folds[row.protocol].gone(row) for row in left))

    def _dump(self, place: Place, asked: Asked, diag: Netlink, folds: dict[int, SweptFold]) -> Iterator[Transition]:
        key = place.netns.cookie, asked.name
        known, new = self._known.get(key, {}), dict[bytes, Row]()
        for payload in asked.payloads(diag):
            row = known.get(payload)
            if row is not None:
                row.seen = self.number
                new[payload] = row
                continue
            fact = found(asked.row_of(payload))
            fold = folds.get(fact.protocol) if fact is not None else None
            if fact is None or fold is None or asked.is_own(fact.sport):
                continue
            new[payload], change = fold.shown(fact)
            if change is not None:
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


def looks(families: Iterable[Asked]) -> str:
    """How these are followed, and what that does not see, a sentence."""
    names = ", ".join(each.name for each in families)
    return (
        f"{names} sockets are looked for every {span_text(_SOONEST_NS)}, less often where there are many "
        f"({100 // _DUTY} % of a CPU at most): what comes and goes between two looks is not seen"
    )


def lacks(families: Iterable[Asked]) -> list[str]:
    """Of which nothing is seen, a sentence each."""
    return [f"this kernel does not list {each.name} sockets" for each in families]
