"""Waiting for events: the rings wake their reader only when they fill, so it looks at them now and then."""

import select
import time
from collections.abc import Callable

__all__ = ["TICK_S", "nap"]

TICK_S = 0.05
"""The rings are looked at this often when they do not fill: what a person takes for at once."""


def nap(waiting: select.poll, seconds: float, wakes: Callable[[], bool]) -> list[tuple[int, int]]:
    """Wait so long for what a poll object waits for, and give that; or until something ``wakes``, which is asked every
    TICK_S: a tenth of what a turn of all that there is to do costs.
    """
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        found = waiting.poll(max(0, min(left, TICK_S)) * 1000)
        if found or left <= TICK_S or wakes():
            return found
