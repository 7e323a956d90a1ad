"""The wall clock beside the one that events have: what lines say of when, and what somebody sets meanwhile."""

import time

__all__ = ["WallClock", "clock_offset"]

_MEASURES = 10
_STEP_NS = 50_000_000
"""Clocks that have moved against each other by less are left as they are: lines must stay in order."""
_LOOK_NS = 1_000_000_000


def clock_offset() -> int:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, ns."""

    def measure() -> tuple[int, int]:
        before = time.monotonic_ns()
        now = time.time_ns()
        after = time.monotonic_ns()
        return after - before, now - (before + after) // 2

    # Who is put off the CPU between two readings is wrong by half of that time: by milliseconds where it is busy.
    return min(measure() for _ in range(_MEASURES))[1]


class WallClock:
    """Looks each second whether the clock was set, by hand, by NTP or by a machine that was suspended: CLOCK_MONOTONIC
    knows nothing of it (clock_gettime(2)).
    """

    def __init__(self) -> None:
        self.offset_ns = clock_offset()
        self._due_ns = 0

    def moved(self) -> int | None:
        """By how many ns since the offset was taken, when that is a step; then ``offset_ns`` is another one."""
        now = time.monotonic_ns()
        if now < self._due_ns:
            return None
        self._due_ns = now + _LOOK_NS
        offset = clock_offset()
        step = offset - self.offset_ns
        if abs(step) < _STEP_NS:
            return None
        self.offset_ns = offset
        return step
