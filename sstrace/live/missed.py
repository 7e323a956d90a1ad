"""What happened and was missed, as far as something tells of it.

A kernel may run a program less often than it fires its tracepoint. What tells of that:

* the kernel's own counters of what it fired (live.probes);
* its count of timewait sockets (live.timewaits);
* events of others: a full socket gives up in favour of a timewait socket (the table looks at that one at once), a
  handshake completes that nobody saw begin.
"""

from itertools import chain

from sstrace.live.probes import Hooks
from sstrace.live.timewaits import Timewaits
from sstrace.model import Kind
from sstrace.table import Resync, SocketTable

__all__ = ["Missed"]


class Missed:
    """Of one table. Close it to let go."""

    def __init__(self, hooks: Hooks | None, table: SocketTable, *, at_home: bool = True) -> None:
        """``at_home``: the namespace of this process, whose timewait sockets the kernel counts, is in the table."""
        self._hooks = hooks
        self._table = table
        self._timewaits = Timewaits() if hooks is not None and hooks.minisockets and at_home else None
        self._fired = 0
        self._requests = self._unmet = 0
        self._repaired = 0
        self._has_baseline = False

    @property
    def total(self) -> int:
        """How often so far; the kernel's counters do not say of whose socket."""
        return self._fired + self._requests + self._repaired + self._table.implied

    def listen(self, *, lost: bool) -> bool:
        """Whether there is more than when this was last asked, by which the table may be wrong. ``lost``: events are
        known to be missing, so that others tell of those.
        """
        if self._hooks is None:
            return False
        news = False
        fired = self._hooks.missed()
        if fired is not None and fired > self._fired:
            self._fired, news = fired, True
        unmet = self._table.unmet
        if unmet > self._unmet and not lost:
            self._requests, news = self._requests + unmet - self._unmet, True
        self._unmet = unmet
        if self._timewaits is not None:
            self._timewaits.look()
        return news

    def due(self, until_ns: int) -> tuple[int, int] | None:
        """See ``Timewaits.due``."""
        return self._timewaits.due(until_ns) if self._timewaits is not None else None

    def compare(self, uncertain: int, *, lost: bool) -> bool:
        """See ``Timewaits.compare``, of the table as it is now."""
        if self._timewaits is None:
            return False
        if lost:
            self._timewaits.forget()
            return False
        return self._timewaits.compare(self._table.timewaits, uncertain)

    def sweep_ends(self, found: Resync, *, lost: bool, complete: bool) -> None:
        """``found``: what a sweep repaired; ``lost``: because events were."""
        self._unmet = self._table.unmet
        if self._timewaits is None:
            return
        wrong = chain(found.added, found.removed, (row for row, _ in found.changed))
        timewaits = sum(row.kind is Kind.TIMEWAIT for row in wrong)
        if self._has_baseline and not lost:
            self._repaired += timewaits
        self._has_baseline = True
        if complete:
            self._timewaits.sweep_ends(repaired=timewaits > 0)

    def close(self) -> None:
        """Let go; harmless when done twice."""
        if self._timewaits is not None:
            self._timewaits.close()
