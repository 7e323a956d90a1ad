"""Standard output and standard error: written at once and whole; how large the screen is."""

import os
from collections.abc import Mapping
from contextlib import suppress

from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.plain import broken, plain, visible

__all__ = [
    "give",
    "is_quiet",
    "our_line",
    "quieten",
    "refusal",
    "remark",
    "say",
    "screen_size",
    "screen_width",
    "show",
    "tell",
    "write_all",
]

_quiet = False
"""-q."""
_shown = False
"""Whether ``show`` has left a line that others have to erase."""


def write_all(fd: int, data: bytes | bytearray | memoryview, *, patient: bool = False) -> None:
    """Write every byte, however many calls that takes, to a file or stream. Raises OSError.

    Whoever shares a terminal or a pipe may have made it non-blocking for all: ``patient`` waits for it.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            if not patient:
                raise
            from select import POLLOUT, poll  # hardly anybody has to wait

            ready = poll()
            ready.register(fd, POLLOUT)
            ready.poll()


def give(lines: bytes) -> None:
    """Lines on standard output, text as a terminal may have it, or JSON, of which a terminal gets no controls. Raises
    OSError.
    """
    write_all(1, visible(lines) if os.isatty(1) else lines)


def tell(data: bytes, *, grey: bool = False) -> None:
    """Lines on standard error, our own broken between words where that is a terminal, which can be told to show them in
    grey; where it is full or closed there is nowhere to complain.
    """
    width = _width()
    if width and _OURS in data:
        lines = data.decode(errors="surrogateescape").split("\n")
        lines = [broken(line, width) if line.startswith(_OURS.decode()) else line for line in lines]
        data = "\n".join(lines).encode(errors="surrogateescape")
    if grey:
        data = b"\x1b[2m" + data.removesuffix(b"\n") + b"\x1b[0m\n"
    with suppress(OSError):
        write_all(2, _erased() + data)


_OURS = b"sstrace: "
"""What a line of ours begins with, and none of ss's."""


def _width() -> int:
    """Of the terminal that standard error is; 0: it is none, or one that does not say."""
    try:
        return os.get_terminal_size(2).columns
    except OSError:
        return 0


def _erased() -> bytes:
    """What takes away the line that ``show`` has left."""
    global _shown
    shown, _shown = _shown, False
    return b"\r\x1b[K" if shown else b""


def show(line: str) -> None:
    """A line that the next one takes the place of; empty: none. Of a terminal."""
    global _shown  # noqa: PLW0603 - there is one standard error
    with suppress(OSError):
        write_all(2, _erased() + plain(line)[: (_width() or 80) - 1].encode())
    _shown = bool(line)


def quieten() -> None:
    """-q: from here on there are no remarks, and no progress."""
    global _quiet  # noqa: PLW0603 - there is one standard error
    _quiet = True


def is_quiet() -> bool:
    """Whether somebody wants that."""
    return _quiet


def remark(sentence: str) -> None:
    """The same as ``say``, of what nobody has to know: summaries, advice."""
    if not _quiet:
        say(sentence)


def say(sentence: str) -> None:
    """One of sstrace's sentences on standard error; what others have named in it is escaped."""
    tell(f"sstrace: {plain(sentence)}\n".encode())


def refusal(error: SstraceError, *, snapshot: bool) -> str:
    """What standard error is told of an error, one character a byte. ``snapshot``: whoever asked reads ss's own
    sentences, as ss has them; UsageError and LookupFailed are ss's where they do not begin with ``sstrace:``.
    """
    text = str(error)
    if not snapshot:
        return our_line(text.removeprefix("ss: ") + (f" ({error.advice})" if error.advice else ""))
    theirs = isinstance(error, UsageError | LookupFailed) or text.startswith("ss: ")
    return f"{text}\n" if theirs and not text.startswith("sstrace: ") else our_line(text)


def our_line(sentence: str) -> str:
    """A line in our own words, as a terminal may have it, one character a byte. In it there may be somebody else's: as
    text, or with a character for each byte, which tells itself by what is UTF-8 among it.
    """
    with suppress(UnicodeEncodeError):
        told = sentence.encode("latin-1").decode(errors="surrogateescape")
        if len(told) < len(sentence):
            sentence = told
    return f"sstrace: {plain(sentence.removeprefix('sstrace: '))}\n".encode().decode("latin-1")


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
