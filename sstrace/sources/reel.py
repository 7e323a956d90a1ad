"""Recordings, one behind the other, as one that can be read anywhere: the files of a rotation, in the order of time.
What is compressed, or a pipe, is unpacked into a file without a name.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sstrace.errors import SstraceError, reason
from sstrace.sources.replay import Recording

__all__ = ["Reel", "reel"]

_BACK = 1 << 20


class _Piece(NamedTuple):
    fd: int
    begin: int
    """Where it lies in the whole."""
    size: int


def reel(sources: Sequence[Recording]) -> Recording:
    """These as one, which has them from here on. Raises SstraceError where there is no room to unpack one."""
    if len(sources) == 1 and sources[0].seekable:
        return sources[0]
    return Reel(sources)


class Reel(Recording):
    """See above; the last may still grow."""

    def __init__(self, sources: Sequence[Recording]) -> None:
        self.name = sources[0].name if len(sources) == 1 else f"{sources[0].name} to {sources[-1].name}"
        self.block = sources[0].block
        self.progress = None
        self.error = None
        self._regular, self._kind = True, ""
        self._sources = sources
        self._pieces: list[_Piece] = []
        self._fd = -1
        begin = 0
        for source in sources:
            fd = os.dup(source.fileno()) if source.seekable else _unpacked(source)
            size = os.fstat(fd).st_size if source is sources[-1] else _whole(fd)
            self._pieces.append(_Piece(fd, begin, size))
            begin += size

    def close(self) -> None:
        """See Recording."""
        for piece in self._pieces:
            os.close(piece.fd)
        self._pieces = []
        for source in self._sources:
            source.close()

    def size(self) -> int:
        """See Recording."""
        last = self._pieces[-1]
        return last.begin + os.fstat(last.fd).st_size

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """See Recording."""
        self.error = None
        while block := self._read(self.block, offset):
            offset += len(block)
            yield block
        self.error = next((source.error for source in self._sources if source.error is not None), None)

    def _read(self, count: int, offset: int) -> bytes:
        found = b""
        for piece in self._pieces:
            last = piece is self._pieces[-1]
            if offset < piece.begin + piece.size or last:
                at = offset - piece.begin
                wanted = count - len(found) if last else min(count - len(found), piece.size - at)
                self._fd = piece.fd
                found += super()._read(wanted, at)
                offset = piece.begin + piece.size
                if len(found) == count:
                    break
        return found


def _whole(fd: int) -> int:
    """Bytes of a file up to the end of its last line: what stands behind it would be one with the next file's first."""
    size = os.fstat(fd).st_size
    tail = os.pread(fd, _BACK, max(0, size - _BACK))
    return size - len(tail) + tail.rfind(b"\n") + 1


def _unpacked(source: Recording) -> int:
    """A descriptor of what is in it."""
    source.wait()
    try:
        with tempfile.TemporaryFile(prefix="sstrace-") as file:
            for block in source.blocks():
                file.write(block)
            file.flush()
            return os.dup(file.fileno())
    except OSError as error:
        where = tempfile.gettempdir()
        raise SstraceError(
            f"cannot unpack {source.name} into {where}: {reason(error)}: name another place with TMPDIR"
        ) from None
    finally:
        if source.progress is not None:
            source.progress.end()
