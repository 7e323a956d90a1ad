"""Memory that Python has let go of, back to the system."""

import ctypes
import gc
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["give_back", "plugged"]

_CLASS = re.compile(rb"^ *\d+ +(\d+) +\d+ +\d+ +(\d+)$", re.MULTILINE)
"""Of what sys._debugmallocstats() tells: class, size, pools, blocks in use, blocks that are free in pools in use."""
_RUN = 20_000
"""Blocks between two breaths."""


def give_back() -> None:
    """Shrink the process to what it holds, after much has been made and let go: malloc_trim(3), 10 ms for 100 MB. Where
    the C library has no such function (it is glibc's), nothing happens.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@contextmanager
def plugged(breathe: Callable[[], object] = lambda: None) -> Iterator[None]:
    """For one who makes copies of what is left of much, and then lets go of what is copied: the copies lie together,
    and the rest is given back.

    CPython's allocator (Objects/obmalloc.c) uses the holes that the dead have left before it takes new memory, and
    gives back a MB only when nothing in it lives. So copies would lie as scattered as what is copied. Here the holes
    are filled first, with blocks that go at the end. Where the interpreter does not tell of its holes, nothing is
    filled, and little is given back. ``breathe`` is called every few milliseconds.
    """
    gc.collect()  # what Python keeps for the next tuple lies in those holes, too
    plugs: list[object] = []
    for size, count in _holes():
        for done in range(0, count, _RUN):
            plugs.append(_plug(size, min(_RUN, count - done)))
            breathe()
    try:
        yield
    finally:
        while plugs:
            plugs.pop()
            breathe()
        gc.collect()
        give_back()


def _plug(size: int, count: int) -> object:
    """So many blocks of a size. The smallest that bytes take has more than 32; a float takes that."""
    rest = size - sys.getsizeof(b"")
    return [bytes(rest) for _ in range(count)] if rest >= 0 else [number + 0.5 for number in range(count)]


def _holes() -> list[tuple[int, int]]:
    """Size of a block, and how many such blocks are free among others that are not."""
    tell = getattr(sys, "_debugmallocstats", None)
    try:
        text = _told(tell) if tell is not None else b""
    except OSError:  # no memory, no descriptor, no standard error
        text = b""
    return [(size, count) for size, count in (map(int, found) for found in _CLASS.findall(text)) if size >= 32]


def _told(tell: Callable[[], object]) -> bytes:
    """What it says on standard error."""
    standard = os.dup(2)
    try:
        told = os.memfd_create("told", os.MFD_CLOEXEC)
        try:
            os.dup2(told, 2)
            try:
                tell()
            finally:
                os.dup2(standard, 2)
            return os.pread(told, 1 << 16, 0)
        finally:
            os.close(told)
    finally:
        os.close(standard)
