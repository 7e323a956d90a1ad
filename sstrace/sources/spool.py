"""Lines that wait on disk for whoever takes them: in order, up to a bound, over crashes and restarts.

Everything goes through files, also where it waits for no time at all: such a file has been removed before the kernel
would have written it to the disk. So there is one way, and what was put survives the process.

    FOLDER/1234-18c0f5a3b2/lock            held for as long as the process 1234 lives
    FOLDER/1234-18c0f5a3b2/00000007        lines, whole ones but for the last after a crash

A process that begins takes over what dead ones have left, oldest first. What waits for long is compressed (``shrink``:
``00000007.zst``). What could not be taken by anybody (``set_aside``) gets the ending ``.refused`` and stays.
"""

import errno
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sstrace.errors import SstraceError, reason
from sstrace.sources import files
from sstrace.sources.standard import write_all

__all__ = ["Piece", "Spool"]

_PIECE = 4 << 20
"""Bytes of a file."""
_REFUSED, _PACKED, _UNFINISHED = ".refused", ".zst", ".new"


class Piece(NamedTuple):
    """One file of lines."""

    path: str
    size: int


class Spool:
    """A queue of lines on disk. One thread puts, another one takes."""

    def __init__(
        self,
        folder: str,
        most: int,
        *,
        wait_s: float,
        pack: Callable[[bytes], bytes],
        unpack: Callable[[bytes], bytes],
    ) -> None:
        """``folder``: made where it is missing; ``most``: bytes that may wait; ``wait_s``: how long lines are gathered
        before they can be taken; ``pack``, ``unpack``: zstd's two ways. Raises SstraceError.
        """
        self._pack = pack
        self._unpack = unpack
        self.folder = folder
        self._most = most
        self._wait_s = wait_s
        self._change = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._locks: dict[str, int] = {}
        self._number = 0
        self._fd = -1
        self._open = Piece("", 0)
        self._since = 0.0
        self._ending = False
        self.size = 0
        """Bytes that wait."""
        self._full = False
        self._own = f"{folder}/{os.getpid()}-{time.time_ns():x}"
        try:
            files.own_directory(folder, 0o700)
            for left in sorted(Path(folder).iterdir(), key=lambda path: path.name.rpartition("-")[2]):
                with suppress(OSError):  # another one that begins now was first
                    self._adopt(str(left))
            files.own_directory(self._own, 0o700)
            self._lock(self._own)
        except (OSError, ValueError) as error:
            raise SstraceError(f"cannot keep lines in {folder}: {reason(error)}") from None
        self.adopted = self.size
        """Bytes that others have left."""

    def _lock(self, folder: str) -> bool:
        """Whether it is ours now, because nobody else who lives has it."""
        fd = files.open_for_writing(f"{folder}/lock", mode=0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._locks[folder] = fd
        return True

    def _adopt(self, folder: str) -> None:
        if not self._lock(folder):
            return
        for path in sorted(Path(folder).iterdir()):
            if path.name.removesuffix(_PACKED).isdecimal():
                piece = Piece(str(path), path.lstat().st_size)
                self._pieces.append(piece)
                self.size += piece.size
        self._leave(folder)

    # To put.

    @property
    def ready(self) -> bool:
        """Whether there is room: where there was none, not before half of it is free again."""
        return not self._full or self.size * 2 <= self._most

    def put(self, lines: bytes) -> None:
        """Keep whole lines together. An OSError leaves everything as it was; ENOSPC: the bound, or the disk."""
        with self._change:
            if not self.ready or self.size + len(lines) > self._most:
                self._full = True
                raise OSError(errno.ENOSPC, f"{self.folder} is full")
            self._full = False
            if self._fd < 0:
                self._number += 1
                path = f"{self._own}/{self._number:08d}"
                self._fd = files.open_for_writing(path, mode=0o600, empty=True)
                self._open = Piece(path, 0)
                self._since = time.monotonic()
                self._change.notify_all()
            try:
                write_all(self._fd, lines)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, self._open.size)
                    os.lseek(self._fd, self._open.size, os.SEEK_SET)
                raise
            self._open = Piece(self._open.path, self._open.size + len(lines))
            self.size += len(lines)
            if self._open.size >= _PIECE:
                self._cut()

    def _cut(self) -> None:
        """What is written can be taken from here on."""
        os.close(self._fd)
        self._fd = -1
        self._pieces.append(self._open)
        self._change.notify_all()

    def _end(self) -> None:
        """Nothing more is put: what is written can be taken at once."""
        self._ending = True
        if self._fd >= 0:
            self._cut()
        self._change.notify_all()

    def wait_empty(self, seconds: float) -> bool:
        """Have everything taken, and wait for that, at most so long."""
        with self._change:
            self._end()
            return self._change.wait_for(lambda: not self.size, seconds)

    # To take.

    def take(self, most: int) -> list[Piece]:
        """Wait for lines; the oldest, not many more bytes than ``most``; none in the end."""
        with self._change:
            while not self._pieces:
                left = self._since + self._wait_s - time.monotonic() if self._fd >= 0 else None
                if left is not None and left <= 0:
                    self._cut()
                elif self._ending:
                    return []
                else:
                    self._change.wait(left)
            taken: list[Piece] = []
            size = 0
            for piece in self._pieces:
                # As it is read: a compressed one holds what a file held.
                held = _PIECE if piece.path.endswith(_PACKED) else piece.size
                if taken and size + held > most:
                    break
                taken.append(piece)
                size += held
            return taken

    def read(self, pieces: list[Piece]) -> bytes:
        """The whole lines in them. Raises OSError."""
        found = []
        for piece in pieces:
            lines = files.read_trusted(piece.path)
            if piece.path.endswith(_PACKED):
                try:
                    lines = self._unpack(lines)
                except Exception:  # a library's, of a damaged file: there is nothing to be had from it
                    lines = b""
            found.append(lines[: lines.rfind(b"\n") + 1])
        return b"".join(found)

    def shrink(self) -> bool:
        """Compress one file that waits, by the thread that takes, of nothing that it has taken; False: there is none,
        or it cannot be done.
        """
        with self._change:
            piece = next((one for one in self._pieces if not one.path.endswith(_PACKED)), None)
        if piece is None:
            return False
        path = piece.path + _PACKED
        try:
            lines = self._pack(self.read([piece]))
            fd = files.open_for_writing(path + _UNFINISHED, mode=0o600, empty=True)
            try:
                write_all(fd, lines)
            finally:
                os.close(fd)
            files.rename(path + _UNFINISHED, path.rpartition("/")[2])
        except OSError:
            return False
        with self._change:
            self._pieces[self._pieces.index(piece)] = Piece(path, len(lines))
            self.size += len(lines) - piece.size
        with suppress(OSError):  # both are there for a moment: whoever finds them so takes the same lines twice
            files.remove(piece.path)
        return True

    def done(self, pieces: list[Piece]) -> None:
        """They have been taken: forget them."""
        for piece in pieces:
            with suppress(OSError):
                files.remove(piece.path)
        self._forget(pieces)

    def set_aside(self, pieces: list[Piece]) -> None:
        """Nobody will ever take them: keep them under another name."""
        for piece in pieces:
            with suppress(OSError):
                files.rename(piece.path, f"{piece.path.rpartition('/')[2]}{_REFUSED}")
        self._forget(pieces)

    def _forget(self, pieces: list[Piece]) -> None:
        with self._change:
            for piece in pieces:
                self._pieces.remove(piece)
                self.size -= piece.size
                self._leave(piece.path.rpartition("/")[0])
            self._change.notify_all()

    def _leave(self, folder: str) -> None:
        """Give a directory up once nothing in it waits."""
        if folder != self._own and not self._waits(folder):
            self._remove(folder)

    def _waits(self, folder: str) -> bool:
        return any(one.path.startswith(f"{folder}/") for one in self._pieces)

    def _remove(self, folder: str) -> None:
        fd = self._locks.pop(folder, None)
        if fd is None:
            return
        with suppress(OSError):
            files.remove(f"{folder}/lock")
            files.remove_directory(folder)
        os.close(fd)

    def close(self) -> None:
        """Let go; what waits is there for the next one."""
        with self._change:
            self._end()
            if not self._waits(self._own):
                self._remove(self._own)
            for fd in self._locks.values():
                os.close(fd)
            self._locks.clear()
