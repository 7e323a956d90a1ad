"""What others have named: as a terminal may have it, where nothing moves the cursor and nothing begins a line
(``plain``, ``printable``; ``visible`` of JSON), and as whatever is made for programs, which takes any text
(``spelled``). How many cells a text takes there, and where a line is broken (``cells``, ``broken``). And how many of
something there are (``counted``, ``were``).
"""

__all__ = ["broken", "cells", "counted", "plain", "printable", "spelled", "visible", "were"]


def counted(number: int, what: str, does: str = "") -> str:
    """``1 line``, ``2 lines``; and what it or they do: ``is/are`` gives ``1 line is``, ``2 lines are``."""
    verb = does.partition("/")[0 if number == 1 else 2]
    return f"{number} {what}{'s' * (number != 1)}{' ' * bool(verb)}{verb}"


def were(number: int) -> str:
    """What follows that."""
    return "was" if number == 1 else "were"


def cells(text: str) -> int:
    """How many a terminal takes for it: two for the wide ones of East Asia, none for what stands above another."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width  # hardly any text needs it

    return sum(2 if east_asian_width(char) in "WF" else not combining(char) for char in text)


def broken(line: str, width: int) -> str:
    """A line as lines of at most so many cells, broken between words, all but the first indented. What has no room in
    any of them, such as a long path, is broken by the terminal.
    """
    first, *words = line.split(" ")
    out, used = first, cells(first)
    for word in words:
        size = cells(word)
        begins = used + 1 + size > width and len(_INDENT) + size <= width
        out += f"\n{_INDENT}{word}" if begins else f" {word}"
        used = len(_INDENT) + size if begins else (used + size) % width + 1
    return out


_INDENT = "  "


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


def spelled(name: bytes | str) -> str:
    """Bytes, or a name that the system gave as ``str`` (surrogates for strays), as text that UTF-8 can hold: escapes,
    as ``plain`` has them, for what is none. The same name is the same text in JSON, in a log and on a terminal.
    """
    if isinstance(name, str):
        if name.isascii():
            return name
        name = name.encode(errors="surrogateescape")
    return name.decode(errors="backslashreplace")


def visible(lines: bytes | bytearray) -> bytes:
    """Lines of JSON with JSON's own escapes for what would not be seen, such as the controls of ISO 8859-1, which JSON
    takes as they are: the same values, fit for a terminal.
    """
    text = lines.decode(errors="replace")
    if text.replace("\n", "").isprintable():
        return bytes(lines)
    return "".join(char if char.isprintable() or char == "\n" else _json_escape(char) for char in text).encode()


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
