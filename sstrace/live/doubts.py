"""What the table may be wrong about, as far as anybody knows: events that were lost, and what no program was run for.
And when a sweep is to heal that, so that sweeps take no more than their share of a CPU.

Loss. The programs count where they lose events, by network namespace: a sweep that heals a loss is of those alone.

Audit. A kernel may run a program less often than it fires its tracepoint: some sandboxes run none while a task of
theirs is interrupted. The table is compared with a sweep soon after, where that can be known (live.missed); and now
and then in any case, though nothing is known to be lost. What that finds is told as a Resync, and the row of a socket
whose end nobody heard does not stay for ever.

What something took is CPU time of this thread: a machine that is busy elsewhere must not make sweeps rare.
"""

import time
from collections.abc import Callable, Collection, Mapping

from sstrace.live.missed import Missed
from sstrace.table import Resync

__all__ = ["Doubts", "pause"]

_RESYNC_PAUSE_NS = 250_000_000
"""Least time between two sweeps that heal a loss: a storm must not be answered with sweeps alone."""
_RESYNC_DUTY = 4
"""And it is so many times longer than the sweep took: what lost events was short of time already."""
_AUDIT_NS = 10_000_000_000
_AUDIT_DUTY = 200
"""An audit is not sooner than that, and one that took t not before 200 t have passed: half a percent of a CPU."""
_LISTEN_NS = 250_000_000
_LISTEN_DUTY = 200
"""What fired and was not heard is counted this often; where that takes t (many CPUs), not before 200 t have passed."""
_MISSED_PAUSE_NS = 250_000_000
_MISSED_DUTY = 20
"""Least time between two audits for what was not heard; and 20 t, for it may happen again and again."""
_LONGEST_PAUSE_NS = 60_000_000_000
"""But no table goes uncompared for longer, however large it is."""
_SHORT_NS = 20_000_000


def pause(least_ns: int, duty: int, took_ns: int) -> int:
    """How long to wait for the next sweep after one that took so much."""
    return min(max(least_ns, duty * took_ns), _LONGEST_PAUSE_NS)


class Doubts:
    """Of one tracer."""

    def __init__(self, missed: Missed, losses: Callable[[], Mapping[int, int]], *, audits: bool) -> None:
        """``losses``: how many events have been lost in which namespace, by its inode; ``audits``: sweep now and then
        though nothing is in doubt.
        """
        self._missed = missed
        self._losses = losses
        self._healed: Mapping[int, int] = {}
        """Those that a sweep has healed, or heals."""
        self._partial = False
        """The sweep that goes on is of some namespaces alone."""
        self._audits = audits
        self.lost = False
        """Events were, and no sweep that heals it has begun since."""
        self.deaf = False
        """Something was not heard since the last sweep began; or that one saw not all."""
        self.healing = False
        """A sweep goes on that heals what nobody who asks is to be told."""
        self._heals_loss = False
        self.next_audit_ns = 0
        self._heard = 0
        """Events that had come by the last audit."""
        self._next_listen_ns = 0
        self._resync_after = 0
        self._missed_after = 0
        self._began_ns = 0
        self._took_ns = 0

    def listen(self) -> None:
        """Note what was not heard."""
        began = time.thread_time_ns()
        self.deaf |= self._missed.listen(lost=self.lost)
        took_ns = time.thread_time_ns() - began
        self._next_listen_ns = time.monotonic_ns() + max(_LISTEN_NS, _LISTEN_DUTY * took_ns)

    def compare(self, uncertain: int) -> None:
        """See ``Missed.compare``."""
        self.deaf |= self._missed.compare(uncertain, lost=self.lost)

    def listen_now_and_then(self) -> None:
        """The same, when it is time."""
        if time.monotonic_ns() >= self._next_listen_ns:
            self.listen()

    def any(self) -> bool:
        """Whether something is in doubt."""
        return self.lost or self.deaf

    def ails(self) -> bool:
        """Whether the table is known to be wrong, and who asks now had better be told by the kernel."""
        return self.lost or self.healing

    def lasts(self) -> bool:
        """Whether that is so, and nobody who asks now can wait until it is healed."""
        return self.healing or (self.lost and not self._is_short())

    def pardoned(self) -> bool:
        """Whether events were lost: that leaves nothing in doubt as long as the table is still to be filled."""
        lost, self.lost = self.lost, False
        self._healed = self._losses() if lost else self._healed
        return lost

    def lost_in(self, unread: int) -> Callable[[int], bool]:
        """Whether events have been lost in a network namespace, by its inode, ever: of one that nobody knew of, no
        sweep heals that. ``unread``: events that have been lost so far.
        """
        losses = self._losses() if unread else {}
        return losses.__contains__ if sum(losses.values()) >= unread else lambda _: True

    # When to heal.

    def is_resync_due(self) -> bool:
        """Whether it is time for a sweep that heals a loss."""
        return self.lost and time.monotonic_ns() >= self._resync_after

    def is_audit_due(self, heard: int) -> bool:
        """Whether it is time for one that heals what was not heard, or that only looks whether all is well. ``heard``:
        events so far; where none has come since the last, that can wait.
        """
        now = time.monotonic_ns()
        rest_ns = _LONGEST_PAUSE_NS - _AUDIT_NS if heard == self._heard else 0
        due = not self.lost and (
            (self._audits and now >= self.next_audit_ns + rest_ns) or (self.deaf and now >= self._missed_after)
        )
        if due:
            self._heard = heard
        return due

    def is_cure_due(self) -> bool:
        """Whether to heal it for one who asks, and need not wait long for that."""
        return self._is_short() and (self.lost or (self.deaf and time.monotonic_ns() >= self._missed_after))

    def _is_short(self) -> bool:
        return self._took_ns < _SHORT_NS

    # Sweeps.

    def sweep_begins(self, *, loss: bool, unread: int) -> tuple[bool, Collection[int] | None]:
        """Whether anything is in doubt that it is to heal; and the inodes of the namespaces in which that is, None: it
        may be in all. ``loss``: a Resync will tell that it healed one; ``unread``: events that have been lost so far.
        """
        self.listen()
        doubted, where = self.any(), self._where(unread) if self.lost else None
        if not loss or self.deaf:
            where = None
        self._partial = where is not None
        self._heals_loss = loss
        self.healing = loss or (self.deaf and self._is_short())
        self.lost &= not loss
        self.deaf = False
        self._began_ns = time.thread_time_ns()
        return doubted, where

    def _where(self, unread: int) -> Collection[int] | None:
        """Where events have been lost that no sweep has healed; None where not all are counted there. What is lost
        just now may be counted already, and the dump that follows shows what it told of.
        """
        losses, before = self._losses(), self._healed
        self._healed = losses
        if sum(losses.values()) < unread:
            return None
        return {inode for inode, count in losses.items() if count > before.get(inode, 0)}

    def sweep_ends(self, found: Resync | None, *, complete: bool) -> None:
        """``found``: what it repaired, None where it was broken off; ``complete``: it saw all, and removed what is no
        more.
        """
        if found is not None:
            self._missed.sweep_ends(found, lost=self._heals_loss, complete=complete and not self._partial)
        self.healing = False
        self.deaf |= not complete
        took_ns = self._took_ns = time.thread_time_ns() - self._began_ns
        now = time.monotonic_ns()
        if not self._partial:
            self.next_audit_ns = now + pause(_AUDIT_NS, _AUDIT_DUTY, took_ns)
        self._missed_after = now + pause(_MISSED_PAUSE_NS, _MISSED_DUTY, took_ns)
        if self._heals_loss:
            self._resync_after = now + pause(_RESYNC_PAUSE_NS, _RESYNC_DUTY, took_ns)
