"""Rows put together by what they have in common → a screen."""

from collections.abc import Sequence
from typing import Final

import msgspec
from rich.segment import Segment
from rich.style import Style

from sstrace.render.watch_frame import BAR, PLAIN, Look, Screen, cut, fit, fixed_rows, framed

__all__ = ["Group", "groups"]

_CURSOR: Final = Style(reverse=True, bold=True)
_NUMBERS: Final = (
    ("Rows", 7), ("ESTAB", 7), ("LISTEN", 7), ("TIME-WAIT", 10), ("Opened", 8), ("Closed", 8), ("Failed", 8),
)  # fmt: skip
_LEAST: Final = 16


class Group(msgspec.Struct):
    """Those of one name: how many there are, and what happens to them in a second."""

    name: str
    rows: int = 0
    established: int = 0
    listening: int = 0
    waiting: int = 0
    """In TIME-WAIT."""
    opened: float = 0.0
    closed: float = 0.0
    failed: float = 0.0


def groups(look: Look, title: str, of: Sequence[Group], width: int, height: int) -> Screen:
    """The page: ``of`` are those from ``look.top`` on, ``look.cursor`` is the line of the one that is pointed at."""
    numbers, used = [], 0
    for name, cells in _NUMBERS:  # the last go where there is no room
        if used + cells + _LEAST <= width:
            numbers.append((name, cells))
            used += cells
    room = max(0, width - used)
    bar = fit(title, room) + "".join(f"{name:>{cells}}" for name, cells in numbers)
    body = []
    for number, group in enumerate(of[: max(1, height - fixed_rows(height))]):
        values = (
            str(group.rows), str(group.established), str(group.listening), str(group.waiting),
            _rate(group.opened), _rate(group.closed), _rate(group.failed),
        )  # fmt: skip
        text = fit(cut(group.name, room - 1), room)
        text += "".join(f"{value:>{cells}}" for value, (_, cells) in zip(values, numbers, strict=False))
        body.append([Segment(text, _CURSOR if number == look.cursor else PLAIN)])
    last = look.top + len(body)
    place = f"{look.top + 1}-{last} of {look.total}" if body else "none"
    return framed(look, [Segment(bar, BAR)], body, place=place, width=width, height=height)


def _rate(value: float) -> str:
    return "-" if not value else f"{value:.1f}/s" if value < 100 else f"{value:.0f}/s"
