"""What no transition tells: rows that came, went, or got a port or another device's name while nobody was looking.

Most lines of a stream are transitions. But a sweep or a look can teach the table a listener's port or IPV6_V6ONLY, or
who holds what by now, and after a loss a row may be removed because another socket turns up in its place. A stream that
is to be folded into the same table elsewhere must tell of these too.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

from sstrace.changes import Change, Told
from sstrace.table import Row, SocketTable

__all__ = ["Announcer"]


class Announcer:
    """Adds ``Told`` to a run of changes. One table takes one of them at a time."""

    def __init__(self, table: SocketTable) -> None:
        self._table = table
        self._silent: dict[int, tuple[Row, int]] = {}
        table.silent = self._silent

    def begin(self, at_ns: int) -> None:
        """Everything in the table has been told."""
        for row in self._table:
            row.told = True
        self._silent.clear()
        self._table.passed(at_ns)

    def through(self, changes: Iterable[Change | Told]) -> Iterator[Change | Told]:
        """The same changes; after the last of them, what they did not tell."""
        return chain(changes, self._untold())

    def _untold(self) -> Iterator[Told]:
        table = self._table
        for row, at_ns in self._silent.values():
            alive = table.holds(row)
            if alive or row.told:  # who never heard of it need not hear of its end
                row.told = True
                table.passed(max(row.since_ns, at_ns))  # it may have come after the latest change
                yield Told(table.last_ns, row, alive)
        self._silent.clear()

    def close(self) -> None:
        """Nobody is told any more."""
        if self._table.silent is self._silent:
            self._table.silent = None
