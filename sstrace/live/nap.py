"""Waiting for events: the rings wake their reader only when they fill, so it looks at them now and then."""

import select
import time
from collections.abc import Callable

__all__ = ["TICK_S", "is_calm", "nap"]

TICK_S = 0.05
"""The rings are looked at this often when they do not fill: what a person takes for at once."""
_CALM_TICK_S = 0.1
_CALM_NS = 2_000_000_000
"""And this often where nothing has happened for that long: still at once, for half of what being woken costs."""


def is_calm(last_ns: int) -> bool:
    """Whether nothing has happened for a while. ``last_ns``: since then, CLOCK_MONOTONIC."""
    return time.monotonic_ns() - last_ns >= _CALM_NS


def nap(waiting: select.poll, seconds: float, wakes: Callable[[], bool], last_ns: int = 0) -> list[tuple[int, int]]:
    """Wait so long for what a poll object waits for, and give that; or until something ``wakes``, which is asked every
    tick: a tenth of what a turn of all that there is to do costs. ``last_ns``: when something happened last,
    CLOCK_MONOTONIC.
    """
    tick_s = _CALM_TICK_S if is_calm(last_ns) else TICK_S
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        found = waiting.poll(max(0, min(left, tick_s)) * 1000)
        if found or left <= tick_s or wakes():
            return found
