"""Writing a recording: a file that is whole lines up to the last flush, whatever happens; compressed by its name.

``.gz`` and ``.zst`` are compressed as they are written, each write by itself, so that a reader of a file that was cut
off, or that has a hole, gets everything else.
"""

import contextlib
import os
import zlib
from collections.abc import Callable
from pathlib import Path

from sstrace.errors import FeatureError, SstraceError, reason
from sstrace.sources import files
from sstrace.sources.standard import write_all

__all__ = ["RecordFile", "numbered", "older_parts"]

_SUFFIXES = (".gz", ".zst")
_FORMATS = (".ndjson", ".jsonl", ".json", ".log")


def _compressor(path: str) -> Callable[[bytes | bytearray], bytes]:
    """What makes a piece of the file out of lines: each piece is a whole gzip member or zstd frame."""
    if path.endswith(".gz"):
        # Level 1: the writer runs beside the event path, and these lines shrink to a tenth at any level.
        return lambda data: zlib.compress(data, 1, wbits=31)
    if path.endswith(".zst"):
        try:
            import zstandard
        except ImportError:
            raise FeatureError(
                "a recording whose name ends in .zst needs the Python package zstandard: install it, or use .gz"
            ) from None
        return zstandard.ZstdCompressor(level=1).compress
    return bytes


class RecordFile:
    """A file that is being written. ``size`` is its length in bytes as far as it is whole."""

    def __init__(self, path: str) -> None:
        """Make the file, or empty it. Raises SstraceError, and FeatureError where .zst cannot be written."""
        self.path = path
        self.size = 0
        self.ready = True
        """Whether trying again may help: always, since others make room on a disk."""
        self.queued = self.lost = 0
        """What is written is there."""
        self._compress = _compressor(path)
        try:
            self._fd = files.open_for_writing(path, mode=0o640, empty=True)
        except (OSError, ValueError) as error:
            raise SstraceError(f"cannot record to {path}: {reason(error)}") from None

    def write(self, data: bytes | bytearray) -> None:
        """Append whole lines. An OSError leaves the file as it was before the call, ready for another try."""
        piece = self._compress(data)
        try:
            write_all(self._fd, piece)
        except OSError:
            with contextlib.suppress(OSError):  # a pipe or a device cannot be cut
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += len(piece)

    def close(self) -> None:
        """End the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def summary(self) -> str:
        """Nothing."""
        return ""


def _split(path: str) -> tuple[str, str]:
    """Split ``dir/rec.ndjson.gz`` into ``dir/rec`` and ``.ndjson.gz``."""
    stem, end = path, ""
    for suffixes in (_SUFFIXES, _FORMATS):
        for suffix in suffixes:
            if stem.endswith(suffix) and len(stem.rpartition("/")[2]) > len(suffix):
                stem, end = stem[: -len(suffix)], suffix + end
                break
    return stem, end


def numbered(path: str, number: int) -> str:
    """Name of a finished part: ``rec.0007.ndjson.gz`` of ``rec.ndjson.gz``."""
    stem, end = _split(path)
    return f"{stem}.{number:04d}{end}"


def older_parts(path: str) -> list[tuple[int, str]]:
    """The finished parts that exist: (number, path), oldest first."""
    stem, end = _split(path)
    folder, _, name = stem.rpartition("/")
    found = []
    with contextlib.suppress(OSError):
        for entry in Path(folder or ("/" if stem[:1] == "/" else ".")).iterdir():
            middle = entry.name.removeprefix(name + ".").removesuffix(end)
            if (
                entry.name.startswith(name + ".")
                and entry.name.endswith(end)
                and middle.isdecimal()
                and middle.isascii()
            ):
                found.append((int(middle), numbered(path, int(middle))))
    return sorted(found)
