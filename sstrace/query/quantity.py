"""Durations and sizes as people type them."""

from collections.abc import Mapping
from typing import Final

__all__ = ["parse_duration", "parse_size", "scaled"]

_UNITS: Final = {"": 10**9, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_UNITS_DAY: Final = {**_UNITS, "d": 86400 * 10**9}
# Far beyond any use, and well inside what clocks and timers take (signed 64-bit nanoseconds: 292 years).
_LONGEST: Final = 100 * 365 * 86400 * 10**9


def _split_number(text: str) -> tuple[str, str]:
    length = 0
    while length < len(text) and text[length] in "0123456789.":
        length += 1
    return text[:length], text[length:]


def scaled(text: str, units: Mapping[str, int]) -> int | None:
    """Read a number with its unit, ``1.5s``, exactly (no float in between); None when it is not that. ``units``: unit →
    what one of it is.
    """
    number, unit = _split_number(text)
    whole, _, fraction = number.partition(".")
    scale = units.get(unit)
    if scale is None or not (whole + fraction).isdecimal() or "." in fraction or len(number) > 40:
        return None
    shift: int = 10 ** len(fraction)
    return (int(whole or "0") * shift + int(fraction or "0")) * scale // shift


def parse_duration(text: str) -> int | None:
    """Give the nanoseconds of ``5`` (seconds), ``1.5s``, ``250ms``, ``5m``, ``2h``, ``1d``; None for anything else."""
    ns = scaled(text, _UNITS_DAY)
    return ns if ns is not None and ns <= _LONGEST else None


def parse_size(text: str, kilo: int = 1024) -> int | None:
    """Give the bytes of ``4096``, ``100k``, ``100M``, ``2G`` (powers of ``kilo``, with or without B) and ``1KiB`` (of
    1024); None for anything else.
    """
    units = {"": 1}
    for power, letter in enumerate("kmgt", 1):
        units |= {letter: kilo**power, letter + "b": kilo**power, letter + "ib": 1024**power}
    return scaled(text.lower() if text.isascii() else "x", {"b": 1, **units})
