"""The columns of what connections carry: which there is room for, and their texts."""

from collections.abc import Iterable
from typing import Final

import msgspec

__all__ = ["FIGURES", "Figure", "chosen", "taken"]


class Figure(msgspec.Struct, frozen=True):
    """One column."""

    title: str
    width: int


FIGURES: Final = {
    "sent": Figure("Sent", 4),
    "received": Figure("Recv", 4),
    "sent/s": Figure("Sent/s", 6),
    "received/s": Figure("Recv/s", 6),
    "rtt": Figure("RTT", 6),
}
"""By the name of the order that goes by it, in the order in which they stand."""

_DEAREST: Final = ("sent/s", "received/s", "rtt", "sent", "received")


def taken(names: Iterable[str]) -> int:
    """Cells that these columns take, a blank behind each."""
    return sum(FIGURES[name].width + 1 for name in names)


def chosen(room: int, sort: str) -> tuple[str, ...]:
    """Those for which there is room, the one that is sorted by before all others."""
    found: set[str] = set()
    for name in sorted(_DEAREST, key=lambda name: name != sort):
        if taken((*found, name)) <= room:
            found.add(name)
    return tuple(name for name in FIGURES if name in found)
