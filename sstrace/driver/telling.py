"""What no transition tells: rows that came, went, or got a port while nobody was looking.

Most lines of a stream are transitions. But a sweep or a look can teach the table a listener's port or IPV6_V6ONLY, and
after a loss a row may be buried because another socket turns up in its place. A stream that is to be folded into the
same table elsewhere must tell of these too.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from sstrace.model import Lost, State
from sstrace.table import Resync, Row, SocketTable, Transition

if TYPE_CHECKING:  # a replay needs no BPF
    from sstrace.driver.tracer import Change

__all__ = ["Telling", "Told"]

_CLOSE = int(State.CLOSE)

Key = tuple[int, int, int, bool | None]


class Told(msgspec.Struct, frozen=True, gc=False):
    """A row as it is now (``alive``), or its end."""

    at_ns: int
    """Time of the latest change before: when exactly it happened, nobody saw."""
    row: Row
    alive: bool


class Telling:
    """Adds ``Told`` to a run of changes. Takes the table's journal, unless another keeps it: then it reads along,
    and must be asked before the other empties it.
    """

    def __init__(self, table: SocketTable) -> None:
        self._table = table
        self._told: dict[int, Key] = {}
        self._journal: dict[int, Row] = {}
        if table.journal is None:
            table.journal = self._journal
        self.last_ns = 0
        """Time of the latest change."""

    def begin(self, at_ns: int) -> None:
        """Everything in the table has been told."""
        self._told = {row.id: _key(row) for row in self._table}
        self.last_ns = at_ns
        if self._table.journal is self._journal:
            self._journal.clear()

    def through(self, changes: "Iterable[Change]") -> "Iterator[Change | Told]":
        """The same changes; after the last of them, what they did not tell."""
        told = self._told
        for change in changes:
            if type(change) is Transition:  # nearly all: written out flat
                if change.at_ns > self.last_ns:  # noqa: PLR1730 - half of max()'s price
                    self.last_ns = change.at_ns
                row, new = change.row, change.new
                if new == _CLOSE:
                    told.pop(row.id, None)
                else:
                    told[row.id] = row.state, row.sport, row.dport, row.v6only
            elif type(change) is Resync:
                self.last_ns = max(self.last_ns, change.at_ns)
                for row in change.removed:
                    told.pop(row.id, None)
                for row in (*change.added, *(row for row, _ in change.changed)):
                    told[row.id] = _key(row)
            elif type(change) is Lost:
                self.last_ns = max(self.last_ns, change.before_ns)
            yield change
        yield from self._silent()

    def close(self) -> None:
        """Give the journal back."""
        if self._table.journal is self._journal:
            self._table.journal = None

    def _silent(self) -> Iterator[Told]:
        table, told = self._table, self._told
        journal = table.journal
        if not journal:
            return
        for row_id, row in journal.items():
            if row_id in table:
                now = _key(row)
                if told.get(row_id) != now:
                    told[row_id] = now
                    yield Told(self.last_ns, row, True)
            elif told.pop(row_id, None) is not None:
                yield Told(self.last_ns, row, False)
        if journal is self._journal:
            journal.clear()


def _key(row: Row) -> Key:
    return row.state, row.sport, row.dport, row.v6only
