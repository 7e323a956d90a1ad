"""What the rings bring, in the order of time, as it goes into the table.

Perf buffers are per CPU. A look takes the time, reads every head, then drains; so what is older than that time, less
the moment that a program needs between its timestamp and its record, is complete and can be merged by timestamp. What
comes later all the same is counted (``late``) and applied, never fatal.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import chain
from operator import attrgetter
from typing import Any

from sstrace.changes import Change
from sstrace.live.doubts import Doubts
from sstrace.live.incidents import Incidents
from sstrace.live.interfaces import Interfaces
from sstrace.live.missed import Missed
from sstrace.live.probes import Hooks
from sstrace.model import Lost
from sstrace.table import SocketTable
from sstrace.wire.event import Event

__all__ = ["Arrivals"]

# From a program's timestamp to its record in the ring: microseconds, unless the host takes the virtual CPU away
# meanwhile.
_SLACK_NS = 1_000_000

_AT = attrgetter("at_ns")


class Arrivals:
    """Of one tracer. Without ``hooks`` none come but changes of interfaces."""

    def __init__(
        self,
        hooks: Hooks | None,
        incidents: Incidents | None,
        interfaces: Interfaces,
        table: SocketTable,
        *,
        missed: Missed,
        doubts: Doubts,
    ) -> None:
        self._hooks = hooks
        self._incidents = incidents
        self._interfaces = interfaces
        self._table = table
        self._missed = missed
        self._doubts = doubts
        self._unread: tuple[int, ...] = ()
        self._losses: list[Lost] = []
        self.waiting: list[Event] = []
        """What has come and is not folded in yet."""
        self.events = self.lost = self.late = 0
        self.last_ns = 0
        """Time of the latest event that has been folded in, or is about to be."""

    @property
    def unread(self) -> int:
        """How many events have been lost, of which nobody knows what they were."""
        return sum(self._unread)

    def drain(self, *, counting: bool = False) -> int:
        """Take what the rings hold. The time before which, but for the slack, nothing is missing."""
        self._interfaces.hear()
        if self._hooks is None:
            return time.monotonic_ns()
        look = self._hooks.read(self.waiting, counting=counting)
        until = look.until_ns
        if self._incidents is not None:  # read after the time was taken: what is older is complete
            self.waiting += self._incidents.read()
        for run in look.runs:
            events = self._hooks.decoder.events(run.cpu, run.data)
            self.waiting += events
            if not run.complete and events:
                until = min(until, self._hooks.whole_until(events[-1].at_ns + _SLACK_NS))
        if look.unread != self._unread:
            self._note_loss(look.unread, look.until_ns)
        return until

    def reveal(self) -> int:
        """Have what is kept back stand among what has come, and nothing be kept back until ``keep``. Up to when events
        have to be folded in for these to be; 0 where nothing ever is.
        """
        found = self._hooks.reveal() if self._hooks is not None else []
        self.waiting += found
        return found[-1].at_ns if found else 0

    def keep(self) -> None:
        """See ``Hooks.keep``."""
        if self._hooks is not None:
            self._hooks.keep()

    def drain_until_now(self) -> int:
        """Take everything that has happened by now: the time of that."""
        now = time.monotonic_ns()
        while self.drain(counting=True) <= now + _SLACK_NS:
            time.sleep(_SLACK_NS / 1e9)
        return now

    def forget(self) -> None:
        """Nobody is to hear of what has come, nor of what was lost, so far."""
        self.waiting, self._losses, self.lost = [], [], 0

    def _note_loss(self, unread: tuple[int, ...], until_ns: int) -> None:
        before = self._unread or (0,) * len(unread)
        for cpu, (old, new) in enumerate(zip(before, unread, strict=True)):
            if new > old:
                self.lost += new - old
                self._losses.append(Lost(cpu, new - old, self.last_ns, until_ns))
                self._doubts.lost = True
        self._unread = unread

    def fold(self, horizon_ns: int) -> Iterator[Change]:
        """What happened up to then: each event is folded in as its change is taken."""
        due = self._missed.due(horizon_ns)
        return self._fold_until(horizon_ns) if due is None else self._fold_in_two(due, horizon_ns)

    def _fold_in_two(self, due: tuple[int, int], horizon_ns: int) -> Iterator[Change]:
        """The same, and in between the table, as of the moment of a count, is held against that."""
        self.waiting.sort(key=_AT)
        since, at = (bisect_right(self.waiting, moment, key=_AT) for moment in due)
        yield from self._fold_until(due[1])
        self._doubts.compare(at - since)
        yield from self._fold_until(horizon_ns)

    def _fold_until(self, horizon_ns: int) -> Iterator[Change]:
        losses, self._losses = self._losses, []
        for loss in losses:
            self._table.lost(loss)
        renamed = self._interfaces.until(horizon_ns)
        waiting = self.waiting
        if self._hooks is not None:
            waiting += self._hooks.waiting(horizon_ns, quiet=not waiting)
        waiting.sort(key=_AT)
        cut = bisect_right(waiting, horizon_ns, key=_AT)
        if not cut:
            names = self._interfaces.between([], renamed, self._folder(), self._table) if renamed else ()
            return chain(losses, names)
        ready, self.waiting = waiting[:cut], waiting[cut:]
        last = self.last_ns
        if ready[0].at_ns < last:
            self.late += bisect_right(ready, last - 1, key=_AT)
        self.last_ns = max(last, ready[-1].at_ns)
        self.events += cut
        if renamed:
            return chain(losses, self._interfaces.between(ready, renamed, self._folder(), self._table))
        return chain(losses, filter(None, map(self._folder(), ready)))

    def _folder(self) -> Callable[[Any], Change | None]:
        """What folds a run of events in."""
        return self._table.folder() if self._incidents is None else self._incidents.folder(self._table)
