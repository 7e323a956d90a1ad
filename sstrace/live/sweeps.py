"""Sweeps: what netlink shows of one namespace or of many, held against the table.

Many are swept together: what has happened meanwhile is waited for, and folded in, once for all of them.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterator
from itertools import chain

from sstrace.changes import Change
from sstrace.live.kernel import DRAIN_NS, EXACT_MOST
from sstrace.live.places import Place
from sstrace.model import ALL_STATES, State, SweepBegin, SweepEnd, Table
from sstrace.sources.memory import give_back
from sstrace.table import Resync, SocketTable
from sstrace.wire import inet_diag

__all__ = ["TABLE_STATES", "Sweeps"]

TABLE_STATES = ALL_STATES & ~(1 << State.BOUND_INACTIVE)
"""What the table holds. Of sockets that are bound and idle, which Linux 6.8 and newer dump as well, no event tells."""

_MANY_DATAGRAMS = 64
"""A dump of more leaves behind some MB that are worth giving back."""


class Sweeps:
    """``meanwhile`` folds in what has happened by now, ``breathe`` sees to what cannot wait for the end of a sweep."""

    def __init__(
        self, table: SocketTable, meanwhile: Callable[[], Iterator[Change]], breathe: Callable[[], int]
    ) -> None:
        self._table = table
        self._meanwhile = meanwhile
        self._breathe = breathe

    def run(self, places: Collection[Place], *, doubted: bool) -> Generator[Change, None, tuple[Resync, bool]]:
        """The changes folded in meanwhile; then what was repaired, and whether everything was seen. ``doubted``: events
        were lost, or not heard.
        """
        table, began = self._table, time.monotonic_ns()
        for place in places:
            table.begin(SweepBegin(place.space, began, doubted))
        whole = yield from self._see_all(places)
        ended = time.monotonic_ns()
        resyncs = [table.end(SweepEnd(place.space, ended, place in whole)) for place in places]
        # One that cannot be entered is gone, or never will be.
        return _together(ended, resyncs), all(place in whole or not place.kernel.reachable for place in places)

    def _see_all(self, places: Collection[Place]) -> Generator[Change, None, set[Place]]:
        """Show the table what the kernel has; where that was all."""
        whole = yield from self._see(places)
        again = [place for place in whole if self._table.unseen(place.space)]
        if again:
            whole -= set(again) - (yield from self._see(again))
        # Where much comes and goes, both dumps may pass over a socket; a question for just that one does not.
        doubted = [(place, self._table.unseen(place.space)) for place in whole.intersection(again)]
        asked = [(place, place.kernel.exact(rows)) for place, rows in doubted if 0 < len(rows) <= EXACT_MOST]
        if asked:
            yield from self._meanwhile()
            for place, answers in asked:
                self._table.met(place.space, chain.from_iterable(answers))
        return whole

    def _see(self, places: Collection[Place]) -> Generator[Change, None, set[Place]]:
        """One dump of each; which were complete."""
        answers = [(place, place.kernel.everything(TABLE_STATES)) for place in places]
        yield from self._meanwhile()
        whole = {place for place, answer in answers if self._hand_over(place, answer)}
        if sum(len(answer) for _, answer in answers) > _MANY_DATAGRAMS:
            del answers
            give_back()
        return whole

    def _hand_over(self, place: Place, datagrams: list[bytes]) -> bool:
        """Hand what a dump found to the table; whether the dump was complete."""
        complete = bool(datagrams)
        table, space = self._table, place.space
        drained = time.monotonic_ns()

        def others(message: bytes) -> None:
            table.met(space, inet_diag.decode(message, Table.TCP).rows)

        for datagram in datagrams:
            if time.monotonic_ns() - drained > DRAIN_NS:
                drained = self._breathe()
            if not table.read(space, datagram, others):
                batch = inet_diag.decode(datagram, Table.TCP)
                complete = complete and not batch.interrupted and batch.error == 0
                table.met(space, batch.rows)
        return complete


def _together(at_ns: int, resyncs: list[Resync]) -> Resync:
    if len(resyncs) == 1:
        return resyncs[0]
    return Resync(
        at_ns,
        [row for resync in resyncs for row in resync.added],
        [row for resync in resyncs for row in resync.removed],
        [pair for resync in resyncs for pair in resync.changed],
        frozenset().union(*(resync.ended for resync in resyncs)),
    )
