"""Memory given back after a storm: once most rows have gone, those that are left are gathered."""

import time
from collections.abc import Callable

from sstrace.sources.memory import plugged
from sstrace.table import SocketTable

__all__ = ["Shrink"]

_LEAST = 20_000
"""Rows that were there at least: of fewer there is little to be given back."""
_PART = 3
"""Where no more than a third of them is left: their copies need room, for a moment."""
_PAUSE_NS = 1_000_000_000
_CALM = 20
"""And in the pause before not a twentieth of those went: the storm is over."""


class Shrink:
    """When to gather the rows of a table, and how. ``breathe`` is called every few milliseconds meanwhile; ``forget``
    lets go of what others keep for speed, for it lies among the rows.
    """

    def __init__(self, table: SocketTable, breathe: Callable[[], object], forget: Callable[[], object]) -> None:
        self._table = table
        self._forget = forget
        self._breathe = breathe
        self._most = 0
        self._before = 0
        self._next_ns = 0

    def now_and_then(self) -> None:
        """Gather them, if it is time for that."""
        now = time.monotonic_ns()
        if now < self._next_ns:
            return
        self._next_ns = now + _PAUSE_NS
        left, before = len(self._table), self._before
        self._before = left
        self._most = max(self._most, left)
        if self._most < _LEAST or left > self._most // _PART or before - left > before // _CALM:
            return
        if self._table.journal is not None:
            return  # somebody keeps rows
        self._forget()
        self._table.forget_shared()
        with plugged(self._breathe):
            self._table.gather(self._breathe)
        self._most = left
