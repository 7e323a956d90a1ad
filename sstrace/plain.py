"""What others have named, as a terminal may have it: nothing that moves the cursor, and nothing that begins a line."""

__all__ = ["plain", "printable"]


def plain(text: str) -> str:
    """A text with escapes for what would not be seen, bytes that were no UTF-8 (surrogates) among it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    stray = 0xDC80 <= ord(char) <= 0xDCFF
    return f"\\x{ord(char) - 0xDC00:02x}" if stray else char.encode("unicode_escape").decode("ascii")


def printable(cell: str) -> str:
    """The same of a cell, in which each character is a byte."""
    return plain(cell if cell.isascii() else cell.encode("latin-1", "replace").decode(errors="surrogateescape"))
