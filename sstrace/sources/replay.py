"""Reading recordings: plain, ``.gz`` and ``.zst`` files, pipes; whole or from a place in the middle.

Decodes no line. ``Recording.seek`` finds by bisection, in a few dozen reads, where lines of a certain time begin;
``before`` finds the nearest line above that begins in a certain way. Both only for files that can be read anywhere:
a compressed file is read through from its beginning.
"""

import os
import stat
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Self

from sstrace.errors import DecodeError, FeatureError, reason
from sstrace.sources.progress import Progress

__all__ = ["Recording"]

_BLOCK = 1 << 20
_PROBE = 1 << 14
_LONGEST = 1 << 20


class Recording:
    """A file that is open for reading. ``name`` as given; ``-`` is standard input. What looks for a place in it raises
    DecodeError where the system does not let it read.
    """

    def __init__(self, name: str) -> None:
        """Open it. Raises DecodeError where it cannot be read, and FeatureError where .zst cannot be read."""
        self.name = name
        self.block = _BLOCK
        """Bytes that ``blocks`` read at once."""
        self.progress: Progress | None = None
        """Is told how far ``blocks`` have come."""
        self.error: str | None = None
        """Why reading ended early: damaged compression, or what the system says."""
        try:
            fd = os.dup(0) if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            mode = os.fstat(fd).st_mode
        except (OSError, ValueError) as error:
            raise DecodeError(f"cannot read {name}: {reason(error)}") from None
        if stat.S_ISDIR(mode):
            os.close(fd)
            raise DecodeError(f"cannot read {name}: it is a directory; name the recording in it")
        self._fd = fd
        self._regular = stat.S_ISREG(mode)
        try:
            magic = self._read(4, 0) if self._regular else b""
        except DecodeError:
            self.close()
            raise
        self._kind = ""
        # What it begins with says more than its name, as long as there is enough of it.
        named = len(magic) < 4
        if magic[:2] == b"\x1f\x8b" or (named and name.endswith(".gz")):
            self._kind = "gzip"
        elif magic == b"\x28\xb5\x2f\xfd" or (named and name.endswith(".zst")):
            self._kind = "zstd"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self.progress is not None:
                self.progress.end()

    def fileno(self) -> int:
        """Its descriptor."""
        return self._fd

    def wait(self) -> None:
        """Somebody waits for all of it: tell who sits at a terminal how far it has been read."""
        if self._regular:
            self.progress = Progress(f"reading {self.name}", self.size())

    @property
    def seekable(self) -> bool:
        """Whether ``seek``, ``before`` and ``blocks`` from the middle work."""
        return self._regular and not self._kind

    @property
    def regular(self) -> bool:
        """Whether it can be read more than once."""
        return self._regular

    def size(self) -> int:
        """Bytes of the file now."""
        return os.fstat(self._fd).st_size

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """What is in it, from a place on, in pieces; the last may end in the middle of a line. Errors in the middle end
        it: see ``error``.
        """
        self.error = None
        if self._kind:
            yield from self._compressed()
            return
        while True:
            try:
                block = os.pread(self._fd, self.block, offset) if self._regular else os.read(self._fd, self.block)
            except OSError as error:
                self.error = reason(error)
                return
            if not block:
                return
            offset += len(block)
            if self.progress is not None:
                self.progress(offset)
            yield block

    def _compressed(self) -> Iterator[bytes]:
        if self._regular:
            os.lseek(self._fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            try:
                for block in self._unzipped(file) if self._kind == "gzip" else self._unzstd(file):
                    if self.progress is not None and self._regular:
                        self.progress(os.lseek(self._fd, 0, os.SEEK_CUR))
                    yield block
            except OSError as error:
                self.error = reason(error)

    def _unzipped(self, file: IO[bytes]) -> Iterator[bytes]:
        # gzip.GzipFile gives nothing of a block that is cut off; zlib itself gives what it has.
        stream = zlib.decompressobj(31)
        while data := file.read(1 << 17):
            try:
                while data:
                    if out := stream.decompress(data, self.block):
                        yield out
                    data = stream.unconsumed_tail
                    if stream.eof:
                        data = stream.unused_data.lstrip(b"\0")
                        stream = zlib.decompressobj(31)
                        if not data:
                            break
            except zlib.error:
                self.error = "its compression is damaged"
                return

    def _unzstd(self, file: IO[bytes]) -> Iterator[bytes]:
        try:
            import zstandard
        except ImportError:
            raise FeatureError(
                f"{self.name} is compressed with zstd: install the Python package zstandard, or unpack it with zstd -d"
            ) from None
        try:
            with zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True) as stream:
                while out := stream.read1(self.block):
                    yield out
        except zstandard.ZstdError:
            self.error = "its compression is damaged"

    # Places in a plain file.

    def first_line(self) -> bytes:
        """The first line that has anything in it."""
        for block in self.blocks():
            for line in block.split(b"\n"):
                if line.strip():
                    return line
        return b""

    def last_line(self, wanted: Callable[[bytes], object]) -> bytes | None:
        """The last whole line that ``wanted`` takes."""
        if not self.seekable:
            last: bytes | None = None
            rest = b""
            for block in self.blocks():
                end = block.rfind(b"\n") + 1
                if not end:
                    rest = (rest + block)[-_LONGEST:]
                    continue
                for line in reversed((rest + block[:end]).split(b"\n")):
                    if line.strip() and wanted(line):
                        last = line
                        break
                rest = block[end:]
            return last
        end, rest = self.size(), b""
        while end > 0:
            begin = max(end - _PROBE * 4, 0)
            data = self._read(end - begin, begin) + rest
            lines = data.split(b"\n")
            for line in reversed(lines[1:] if begin else lines):
                if line.strip() and wanted(line):
                    return line
            rest, end = lines[0][-_LONGEST:], begin
        return None

    def seek(self, at: int, when: Callable[[bytes], int | None]) -> int:
        """Offset of a line such that, in a file that is in order, no line before it is later than ``at``; ``when``
        reads a line's time.
        """
        low, high = 0, self.size()
        while high - low > _PROBE:
            middle = (low + high) // 2
            found = self._line_from(middle, high, when)
            if found is None:
                high = middle
            elif found[1] <= at:
                low = found[0]
            else:
                high = middle
        return high

    def _line_from(self, offset: int, end: int, when: Callable[[bytes], int | None]) -> tuple[int, int] | None:
        """The first line that begins after ``offset`` and has a time: (where it ends, its time)."""
        position, tries = offset, 0
        rest = b""
        skip = offset > 0
        while position < end and tries < 256:
            data = self._read(_PROBE, position)
            if not data:
                return None
            tries += 1
            position += len(data)
            *lines, rest = (rest + data).split(b"\n")
            at = position - len(rest) - sum(len(line) + 1 for line in lines)
            for line in lines:
                at += len(line) + 1
                if skip:
                    skip = False
                    continue
                if at > end + _PROBE:
                    return None
                time_ns = when(line)
                if time_ns is not None:
                    return at, time_ns
        return None

    def before(self, offset: int, starts: Sequence[bytes]) -> Iterator[int]:
        """Offsets of lines that begin with one of ``starts``, from ``offset`` backwards."""
        end = min(offset, self.size())
        marks = [b"\n" + start for start in starts]
        more = max(map(len, marks))
        while end > 0:
            begin = max(end - _BLOCK, 0)
            # A little more, for a line that begins in this piece and whose mark reaches into the next.
            data = self._read(end - begin + more, begin)
            limit = end - begin
            while True:
                limit = max(data.rfind(mark, 0, limit - 1 + len(mark)) for mark in marks)
                if limit < 0:
                    break
                yield begin + limit + 1
            if begin == 0 and data.startswith(tuple(starts)):
                yield 0
            end = begin

    def line_start(self, offset: int) -> int:
        """Where the first line begins that does so at ``offset`` or behind it, within 1 MiB; else ``offset``."""
        if not offset:
            return 0
        found = self._read(_LONGEST, offset - 1).find(b"\n")
        return offset + found if found >= 0 else offset

    def line_at(self, offset: int) -> bytes:
        """The line that begins there, up to 1 MiB of it."""
        line = b""
        while b"\n" not in line and len(line) < _LONGEST:
            data = self._read(_PROBE, offset + len(line))
            if not data:
                break
            line += data
        return line.partition(b"\n")[0]

    def _read(self, count: int, offset: int) -> bytes:
        """So many bytes from a place on, fewer at the end."""
        try:
            return os.pread(self._fd, count, offset)
        except OSError as error:
            raise DecodeError(f"cannot read {self.name}: {reason(error)}") from None
