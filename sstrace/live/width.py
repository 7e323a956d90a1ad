"""How large the screen is that text is laid out for."""

import os
from collections.abc import Mapping

__all__ = ["screen_size", "screen_width"]


def screen_width(env: Mapping[str, str], *, columns_env: bool) -> int | None:
    """The width that ss lays its table out for: the terminal's, else (6.11 and later) that of COLUMNS, else none."""
    try:
        width = os.get_terminal_size(1).columns
    except (OSError, ValueError):
        width = 0
    if width > 0:
        return width
    if columns_env:
        width = _atoi(env.get("COLUMNS", ""))
        if width > 0:
            return width
    return None


def screen_size() -> tuple[int, int] | None:
    """Columns and lines of the terminal that standard output is, as it is now; None where it does not know."""
    try:
        size = os.get_terminal_size(1)
    except (OSError, ValueError):
        return None
    return (size.columns, size.lines) if size.columns > 0 else None


def _atoi(text: str) -> int:
    """C's atoi: leading blanks, a sign, digits; 0 when there are none."""
    text = text.lstrip(" \t\n\v\f\r")
    sign = -1 if text[:1] == "-" else 1
    digits = text[1:] if text[:1] in ("-", "+") else text
    end = 0
    while end < len(digits) and digits[end] in "0123456789":
        end += 1
    return sign * int(digits[:end]) if end else 0
