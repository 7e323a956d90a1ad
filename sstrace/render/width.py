"""Texts that have to fit: what is left of one where a terminal has fewer cells than it takes."""

from sstrace.plain import cells

__all__ = ["amount", "cut", "end_shortened", "padded", "shortened"]


def padded(text: str, width: int) -> str:
    """With blanks behind it, up to so many cells."""
    return text + " " * (width - cells(text))


def cut(text: str, width: int) -> str:
    """At most so many cells: what is left away shows as an ellipsis."""
    if cells(text) <= width:
        return text
    return f"{_beginning(text, width - 1)}…" if width > 0 else ""


def shortened(text: str, width: int) -> str:
    """Cut in the middle, so that the beginning of an address and its port stay."""
    if cells(text) <= width:
        return text
    tail = width // 2
    return f"{_beginning(text, width - tail - 1)}…{_beginning(text[::-1], tail)[::-1]}"


def end_shortened(end: str, width: int) -> str:
    """One end of a connection, its address cut in the middle: the port stays, also where ``width`` is too small."""
    if cells(end) <= width:
        return end
    host, colon, port = end.rpartition(":")
    return shortened(host, max(1, width - cells(colon + port))) + colon + port


def amount(number: int | None) -> str:
    """Bytes in at most four characters, by thousands: 999, 9.9k, 999M."""
    if number is None:
        return "-"
    if number < 1000:
        return str(number)
    size, unit = number / 1000, "k"
    for larger in "MGTPE":
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f}{unit}" if size < 9.95 else f"{size:.0f}{unit}"


def _beginning(text: str, width: int) -> str:
    if text.isascii():
        return text[:width]
    end, used = 0, 0
    for char in text:
        used += cells(char)
        if used > width:
            break
        end += 1
    return text[:end]
