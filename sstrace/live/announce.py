"""What no transition tells: rows that came, went, or got a port or another device's name while nobody was looking.

Most lines of a stream are transitions. But a sweep or a look can teach the table a listener's port or IPV6_V6ONLY, or
who holds what by now, and after a loss a row may be buried because another socket turns up in its place. A stream that
is to be folded into the same table elsewhere must tell of these too.
"""

from collections.abc import Iterable, Iterator

from sstrace.changes import Change, Told
from sstrace.model import Lost, Renamed
from sstrace.native import twins
from sstrace.table import Resync, Row, SocketTable, Transition

__all__ = ["Telling"]


class Telling:
    """Adds ``Told`` to a run of changes. One table takes one of them at a time."""

    def __init__(self, table: SocketTable) -> None:
        self._table = table
        self._silent: dict[int, tuple[Row, int]] = {}
        table.silent = self._silent
        self.last_ns = 0
        """Time of the latest change."""

    def begin(self, at_ns: int) -> None:
        """Everything in the table has been told."""
        for row in self._table:
            row.told = True
        self._silent.clear()
        self.last_ns = at_ns

    def through(self, changes: Iterable[Change]) -> Iterator[Change | Told]:
        """The same changes; after the last of them, what they did not tell."""
        if twins is None:
            return self._heeded(changes)
        teller: Iterator[Change | Told] = twins.Teller(
            iter(changes), Transition, self._silent, self._heed, self._finish, self.last_ns
        )
        return teller

    def _heeded(self, changes: Iterable[Change]) -> Iterator[Change | Told]:
        silent = self._silent
        last_ns = self.last_ns
        for change in changes:
            if type(change) is Transition:  # nearly all
                if change.at_ns > last_ns:  # noqa: PLR1730 - half of max()'s price
                    last_ns = change.at_ns
                change.row.told = True
                if silent:
                    silent.pop(change.row.id, None)
            else:
                self._heed(change)
            yield change
        yield from self._finish(last_ns)

    def _heed(self, change: Change) -> None:
        """Note what it tells, of a change that is no transition."""
        if type(change) is Resync:
            self.last_ns = max(self.last_ns, change.at_ns)
            for row in (*change.removed, *change.added, *(row for row, _ in change.changed)):
                row.told = True
                self._silent.pop(row.id, None)
        elif type(change) is Lost:
            self.last_ns = max(self.last_ns, change.before_ns)
        elif type(change) is Renamed and change.before is not None:
            # Of a device that comes no row knows yet.
            self.last_ns = max(self.last_ns, change.at_ns)
            self._silent.update((row.id, (row, change.at_ns)) for row in self._table if row.ifindex == change.index)

    def _finish(self, last_ns: int) -> Iterator[Told]:
        """What the changes did not tell, the latest of which was then."""
        self.last_ns = max(self.last_ns, last_ns)
        return self._untold() if self._silent else iter(())

    def close(self) -> None:
        """Nobody tells any more."""
        if self._table.silent is self._silent:
            self._table.silent = None

    def _untold(self) -> Iterator[Told]:
        for row, at_ns in self._silent.values():
            alive = row.id in self._table
            if alive or row.told:  # who never heard of it need not hear of its end
                row.told = True
                self.last_ns = max(self.last_ns, row.since_ns, at_ns)  # it may have come after the latest change
                yield Told(self.last_ns, row, alive)
        self._silent.clear()
