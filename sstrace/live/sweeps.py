"""Sweeps: what the kernel shows of one namespace or of many, held against the table, protocol by protocol.

Many are swept together: what has happened meanwhile is waited for, and folded in, once for all of them.
"""

import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from itertools import chain

from sstrace.changes import Change
from sstrace.live.dumps import Answer, Dumps, Swept
from sstrace.live.kernel import DRAIN_NS, EXACT_MOST
from sstrace.live.places import Place
from sstrace.model import SweepBegin, SweepEnd, Table
from sstrace.sources.memory import give_back
from sstrace.table import Resync, SocketTable
from sstrace.wire import inet_diag

__all__ = ["Sweeps"]

_MANY_DATAGRAMS = 64
"""A dump of more leaves behind some MB that are worth giving back."""


class Sweeps:
    """``meanwhile`` folds in what has happened by now, ``breathe`` sees to what cannot wait for the end of a sweep,
    ``pant`` to as much of that as folds nothing in. ``dumps``: whom to ask what there is. ``tables``: what is followed.
    """

    def __init__(
        self,
        table: SocketTable,
        meanwhile: Callable[[], Iterator[Change]],
        breathe: Callable[[], int],
        pant: Callable[[], object],
        dumps: Dumps,
        *,
        tables: Sequence[Table],
    ) -> None:
        self._table = table
        self._dumps = dumps
        self._tables = tables
        self._meanwhile = meanwhile
        self._breathe = breathe
        self._pant = pant
        self._drained_ns = 0

    def run(self, places: Collection[Place], *, doubted: bool) -> Generator[Change, None, tuple[Resync, bool]]:
        """The changes folded in meanwhile; then what was repaired, and whether everything was seen. ``doubted``: events
        were lost, or not heard.
        """
        table, began = self._table, time.monotonic_ns()
        sweeps = [Swept(place, which) for place in places for which in self._tables if place.kernel.lists(which)]
        for swept in sweeps:
            table.begin(SweepBegin(swept.space, began, doubted))
        whole = yield from self._see_all(sweeps)
        ended = time.monotonic_ns()
        resyncs = [table.end(SweepEnd(swept.space, ended, swept in whole), self._pant) for swept in sweeps]
        # One that cannot be entered is gone, or never will be.
        return _together(ended, resyncs), all(swept in whole or not swept.place.kernel.reachable for swept in sweeps)

    def _see_all(self, sweeps: Collection[Swept]) -> Generator[Change, None, set[Swept]]:
        """Show the table what the kernel has; where that was all."""
        whole = yield from self._see(sweeps)
        again = [swept for swept in whole if self._table.unseen(swept.space)]
        if again:
            whole -= set(again) - (yield from self._see(again))
        # Where much comes and goes, both dumps may pass over a socket; a question for just that one does not. Of
        # datagram sockets an exact question finds any of several between the same addresses.
        doubted = [(swept, self._table.unseen(swept.space)) for swept in whole.intersection(again)]
        asked = [
            (swept, swept.place.kernel.exact(rows))
            for swept, rows in doubted
            if swept.table is Table.TCP and 0 < len(rows) <= EXACT_MOST
        ]
        if asked:
            yield from self._meanwhile()
            for swept, answers in asked:
                self._table.met(swept.space, chain.from_iterable(answers))
        return whole

    def _see(self, sweeps: Collection[Swept]) -> Generator[Change, None, set[Swept]]:
        """One dump of each; which were complete."""
        answers = self._dumps.of(sweeps)
        yield from self._meanwhile()
        whole = {swept for swept, answer in answers if self._hand_over(swept, answer)}
        if sum(len(answer.datagrams) for _, answer in answers) > _MANY_DATAGRAMS:
            del answers
            give_back()
        return whole

    def _hand_over(self, swept: Swept, answer: Answer) -> bool:
        """Hand what a dump found to the table; whether the dump was complete."""
        table, space, which = self._table, swept.space, swept.table
        if answer.records is not None:
            if time.monotonic_ns() - self._drained_ns > DRAIN_NS:
                self._drained_ns = self._breathe()
            swept.place.kernel.reachable = True
            table.met(space, answer.sockets())
            return True
        datagrams = answer.datagrams
        complete = bool(datagrams)
        drained = time.monotonic_ns()

        def others(message: bytes) -> None:
            table.met(space, inet_diag.decode(message, which).rows)

        for datagram in datagrams:
            if time.monotonic_ns() - drained > DRAIN_NS:
                drained = self._breathe()
            if not table.read(space, datagram, others):
                batch = inet_diag.decode(datagram, which)
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
