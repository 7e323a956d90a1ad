"""Standard output and standard error, written at once and whole."""

import os
from contextlib import suppress
from select import POLLOUT, poll

from sstrace.plain import plain, visible

__all__ = ["give", "say", "tell", "write_all"]


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
            ready = poll()
            ready.register(fd, POLLOUT)
            ready.poll()


def give(lines: bytes) -> None:
    """Lines on standard output, text as a terminal may have it, or JSON, of which a terminal gets no controls. Raises
    OSError.
    """
    write_all(1, visible(lines) if os.isatty(1) else lines)


def tell(data: bytes) -> None:
    """Bytes on standard error; where that is full or closed there is nowhere to complain."""
    with suppress(OSError):
        write_all(2, data)


def say(sentence: str) -> None:
    """One of sstrace's sentences on standard error; what others have named in it is escaped."""
    tell(f"sstrace: {plain(sentence)}\n".encode())
