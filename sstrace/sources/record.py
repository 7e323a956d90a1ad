"""Writing a recording: a file that is whole lines up to the last flush, whatever happens; compressed by its name.

``.gz`` and ``.zst`` are compressed as they are written and ended with a flush point every time, so that a reader of a
file that was cut off gets everything up to there.
"""

import contextlib
import os
import zlib
from pathlib import Path
from typing import Protocol

from sstrace.errors import FeatureError, SstraceError

__all__ = ["RecordFile", "numbered", "older_parts"]

_SUFFIXES = (".gz", ".zst")
_FORMATS = (".ndjson", ".jsonl", ".json", ".log")


class _Compressor(Protocol):
    def run(self, data: bytes, *, last: bool) -> bytes:
        """Compressed bytes that can be read back up to here."""
        ...


class _Plain:
    def run(self, data: bytes, *, last: bool) -> bytes:
        return data


class _Gzip:
    def __init__(self) -> None:
        # Level 1: the writer runs beside the event path, and these lines shrink to a tenth at any level.
        self._stream = zlib.compressobj(1, zlib.DEFLATED, 31)

    def run(self, data: bytes, *, last: bool) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)


class _Zstd:
    def __init__(self) -> None:
        try:
            import zstandard
        except ImportError:
            raise FeatureError(
                "a recording whose name ends in .zst needs the Python package zstandard: install it, or use .gz"
            ) from None
        self._stream = zstandard.ZstdCompressor(level=1).compressobj()
        self._block = zstandard.COMPRESSOBJ_FLUSH_BLOCK
        self._end = zstandard.COMPRESSOBJ_FLUSH_FINISH

    def run(self, data: bytes, *, last: bool) -> bytes:
        done: bytes = self._stream.compress(data) + self._stream.flush(self._end if last else self._block)
        return done


def _compressor(path: str) -> _Compressor:
    if path.endswith(".gz"):
        return _Gzip()
    return _Zstd() if path.endswith(".zst") else _Plain()


class RecordFile:
    """A file that is being written. ``size`` is its length in bytes as far as it is whole."""

    def __init__(self, path: str) -> None:
        """Make the file, or empty it. Raises SstraceError, and FeatureError where .zst cannot be written."""
        self.path = path
        self.size = 0
        self._compressor = _compressor(path)
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a name has no NUL in it"
            raise SstraceError(f"cannot record to {path}: {reason}") from None

    def write(self, data: bytes | bytearray, *, last: bool = False) -> None:
        """Append whole lines. An OSError leaves the file as it was before the call, ready for another try."""
        done = memoryview(self._compressor.run(bytes(data), last=last))
        count = len(done)
        try:
            while done:
                done = done[os.write(self._fd, done) :]
        except OSError:
            with contextlib.suppress(OSError):  # a pipe or a device cannot be cut
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            self._compressor = _compressor(self.path)  # a new member, as gzip and zstd allow
            raise
        self.size += count

    def close(self) -> None:
        """End the file; what cannot be written any more is left out."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self.write(b"", last=True)
            os.close(self._fd)
            self._fd = -1


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
