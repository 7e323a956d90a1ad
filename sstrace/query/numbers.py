"""Numbers as C reads them: strtol, strtoul and sscanf with base 0, whose leniency is part of ss's filter language.

Blanks in front, a sign, 0x and 0 prefixes; a number ends where its digits end; too large ones stick at the end of long.
(The 0b prefix of C2x is not among them: glibc reads it only in programs built for C2x.)
"""

__all__ = ["get_integer", "get_unsigned", "scan_integer", "scan_unsigned", "strtol", "strtoul"]

_BLANKS = " \t\n\v\f\r"
_LONG_MAX = (1 << 63) - 1
_ULONG_MAX = (1 << 64) - 1


def _digits(text: str, at: int = 0) -> tuple[int, bool, int]:
    """Give (magnitude, negative, index after the number); the index is ``at`` when there is no number."""
    start = at
    end = len(text)
    while at < end and text[at] in _BLANKS:
        at += 1
    negative = text[at : at + 1] == "-"
    if text[at : at + 1] in ("+", "-"):
        at += 1
    alphabet = "0123456789"
    if text[at : at + 1] == "0":
        alphabet = "01234567"
        if text[at + 1 : at + 2] in ("x", "X") and text[at + 2 : at + 3] in tuple("0123456789abcdefABCDEF"):
            alphabet = "0123456789abcdefABCDEF"
            at += 2
    first = at
    while at < end and text[at] in alphabet:
        at += 1
    if at == first:
        return 0, False, start
    base = {10: 10, 8: 8, 22: 16}[len(alphabet)]
    # Python refuses very long decimals; anything this long is out of every range, so the exact value does not matter.
    digits = text[first:at].lstrip("0")
    return (_ULONG_MAX + 1 if len(digits) > 64 else int(digits or "0", base)), negative, at


def strtol(text: str) -> tuple[int, int, bool]:
    """Give (value, index after it, whether it was out of range); index 0 when there is no number."""
    magnitude, negative, at = _digits(text)
    value = -magnitude if negative else magnitude
    if value > _LONG_MAX:
        return _LONG_MAX, at, True
    if value < -_LONG_MAX - 1:
        return -_LONG_MAX - 1, at, True
    return value, at, False


def strtoul(text: str) -> tuple[int, int, bool]:
    """Give the same for unsigned long; a minus sign wraps around, as C has it."""
    magnitude, negative, at = _digits(text)
    if magnitude > _ULONG_MAX:
        return _ULONG_MAX, at, True
    return (-magnitude & _ULONG_MAX if negative else magnitude), at, False


def get_integer(text: str, bits: int = 32) -> int | None:
    """Give a whole text as a signed integer of 32 or 64 bits; None when it is none or does not fit."""
    value, at, overflow = strtol(text)
    if not at or at != len(text) or overflow or not -(1 << bits - 1) <= value < 1 << bits - 1:
        return None
    return value


def get_unsigned(text: str, limit: int = 0xFFFFFFFF) -> int | None:
    """Give a whole text as an unsigned integer up to ``limit``; None when it is none or does not fit."""
    value, at, overflow = strtoul(text)
    if not at or at != len(text) or overflow or value > limit:
        return None
    return value


def scan_integer(text: str, at: int = 0) -> tuple[int, int]:
    """Give (value modulo 2**32, index after it) as ``%i`` reads it; the index is ``at`` when there is no number.

    Unlike strtol, scanf takes the ``0x`` of a number that has no hexadecimal digits.
    """
    magnitude, negative, after = _digits(text, at)
    if after == at:
        return 0, at
    if (
        text[after - 1] == "0"
        and magnitude == 0
        and text[after : after + 1] in ("x", "X")
        and _single_zero(text, after)
    ):
        after += 1
    value = max(-_LONG_MAX - 1, -magnitude) if negative else min(_LONG_MAX, magnitude)
    return value & 0xFFFFFFFF, after


def _single_zero(text: str, after: int) -> bool:
    return text[after - 2 : after - 1] in ("", "+", "-", *_BLANKS, "/")


def scan_unsigned(text: str, at: int) -> int:
    """Read a decimal number at an index as ``%u`` does: blanks and a sign before it, modulo 2**32; 0 when there is
    none.
    """
    digits = text[at:].lstrip(" \t\n\v\f\r")
    sign = digits[:1]
    if sign in ("+", "-"):
        digits = digits[1:]
    end = 0
    while end < len(digits) and digits[end] in "0123456789":
        end += 1
    # Too large a number sticks at the end of unsigned long; beyond 20 digits its value does not matter.
    number = min(int(digits[: min(end, 25)] or "0"), (1 << 64) - 1)
    return (-number if sign == "-" and number < (1 << 64) - 1 else number) & 0xFFFFFFFF
