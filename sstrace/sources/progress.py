"""How far long work has come, for who waits at a terminal: one line on standard error, from its first second on."""

import os
import time
from typing import Final

from sstrace.sources import standard

__all__ = ["Progress"]

_FIRST_NS: Final = 700_000_000
"""What is done sooner needs no word."""
_PACE_NS: Final = 200_000_000


class Progress:
    """Tells how much of ``total`` is done, as often as an eye can follow; nothing where nobody waits. ``what`` is being
    done, in two words or three.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._began_ns = time.monotonic_ns()
        self._due_ns = self._began_ns + _FIRST_NS
        self._wanted = os.isatty(2) and not standard.is_quiet()

    def __call__(self, done: int) -> None:
        """So much is done now."""
        now = time.monotonic_ns()
        if not self._wanted or now < self._due_ns:
            return
        self._due_ns = now + _PACE_NS
        share = min(1.0, done / self._total) if self._total else 1.0
        left = (now - self._began_ns) * (1 - share) / share / 1e9 if share else 0.0
        standard.show(f"{self._what}: {share:.0%}, {left:.0f} s left")

    def end(self) -> None:
        """It is done: the line goes."""
        if self._wanted:
            standard.show("")
