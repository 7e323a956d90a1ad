"""Lines into a descriptor without ever waiting for whoever reads them, and never half a line.

What cannot be written at once waits in a queue; the owner decides how long the queue may grow (``queued``). How a
descriptor is kept from blocking depends on what it is:

* a pipe or a terminal is opened once more through /proc/self/fd, because O_NONBLOCK belongs to the open file, which
  other processes may share (the shell has the same terminal);
* a socket is sent to with MSG_DONTWAIT;
* a regular file never blocks for long. When the disk is full, what was written of a line is taken back, and writing is
  tried again every second.

A pipe takes up to 4096 bytes whole or not at all (PIPE_BUF, pipe(7)), so lines go in pieces of that size that end
with a line: a reader that is stuck, or gone, has been given whole lines only.
"""

import contextlib
import errno
import os
import select
import socket
import stat
import time
from collections import deque

from sstrace.errors import SstraceError, reason
from sstrace.sources import files

__all__ = ["Stream", "count_lines", "open_output"]

_PIPE_BUF = 4096
_RETRY_NS = 1_000_000_000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def count_lines(data: bytes | bytearray) -> int:
    """Newlines. ``data.count`` looks at every byte by itself (CPython 3.11); what removes them looks for them first."""
    return len(data) - len(data.replace(b"\n", b""))


def open_output(path: str) -> int:
    """Open a file to append lines to, or to make. Raises SstraceError."""
    try:
        # O_NONBLOCK: a FIFO without a reader must not hold us; it is refused (ENXIO).
        fd = files.open_for_writing(path, os.O_APPEND | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        unread = isinstance(error, OSError) and error.errno == errno.ENXIO
        why = "nobody reads it" if unread else reason(error)
        raise SstraceError(f"cannot write {path}: {why}") from None
    with contextlib.suppress(OSError):
        if stat.S_ISREG(os.fstat(fd).st_mode) and _is_cut(fd):
            os.write(fd, b"\n")
    return fd


def _is_cut(fd: int) -> bool:
    """Whether a file ends in the middle of a line: a crash, or somebody else, left it so."""
    with open(f"/proc/self/fd/{fd}", "rb") as file:  # this one, whatever its name is by now
        size = file.seek(0, os.SEEK_END)
        if not size:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


class Stream:
    """A descriptor that lines are written to. Raises BrokenPipeError from ``put`` and ``pump`` once nobody reads."""

    def __init__(self, fd: int, *, owned: bool = False) -> None:
        """``owned``: close it in the end."""
        self._given = fd
        self._owned = owned
        self._queue: deque[memoryview] = deque()
        self._retry_ns = 0
        self.queued = 0
        """Bytes that wait."""
        self.sent = 0
        """Bytes written."""
        self.stuck: str | None = None
        """Why a regular file cannot be written now (text of the error); None while it can."""
        self._begin()

    def _begin(self) -> None:
        fd = self._given
        mode = os.fstat(fd).st_mode
        self._regular = stat.S_ISREG(mode)
        self._socket: socket.socket | None = None
        self._fd = fd
        self._ready: select.poll | None = None
        self._limit = 0
        if stat.S_ISSOCK(mode):
            self._socket = socket.socket(fileno=os.dup(fd))
        elif stat.S_ISFIFO(mode) or os.isatty(fd):
            self._limit = _PIPE_BUF
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            except OSError:
                # No /proc, or not our user's pipe. poll(2) says when PIPE_BUF bytes fit.
                self._ready = select.poll()
                self._ready.register(fd, select.POLLOUT)
        self._errors = select.poll()
        if not self._regular:
            self._errors.register(self._fd, 0)  # only what is always reported: POLLERR, POLLHUP

    def gone(self) -> bool:
        """Whether nobody reads any more."""
        return bool(self._errors.poll(0))

    def put(self, data: bytes | bytearray) -> None:
        """Write whole lines, or keep what cannot be written now. ``data`` is the caller's again afterwards."""
        if self._queue:
            self._keep(memoryview(bytes(data)))
            self.pump()
            return
        with memoryview(data) as view:
            done = self._write(view)
            if done < len(view):
                self._keep(memoryview(bytes(view[done:])))

    def _keep(self, rest: memoryview) -> None:
        self._queue.append(rest)
        self.queued += len(rest)

    def pump(self) -> None:
        """Write of the queue what can be written now."""
        queue = self._queue
        if self.stuck is not None and time.monotonic_ns() < self._retry_ns:
            return
        while queue:
            done = self._write(queue[0])
            self.queued -= done
            if done < len(queue[0]):
                queue[0] = queue[0][done:]
                return
            queue.popleft()
        self.stuck = None

    def wait(self, seconds: float) -> None:
        """Until more can be written, at most so long."""
        if self._regular:
            time.sleep(seconds)
            return
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(seconds * 1000)

    def drain(self, seconds: float) -> int:
        """Write the queue out, for at most so long; how many lines are left."""
        end = time.monotonic() + seconds
        self._retry_ns = 0
        self.pump()
        while self._queue and self.stuck is None and (left := end - time.monotonic()) > 0:
            self.wait(min(left, 0.05))
            self.pump()
        return sum(count_lines(bytes(view)) for view in self._queue)

    def replace(self, fd: int) -> None:
        """Go on in another file: what waits goes there. The old one is closed, where it is ours."""
        self._release()
        self._given = fd
        self.stuck = None
        self._begin()

    def close(self) -> None:
        """Let go of it; what waits is lost."""
        self._queue.clear()
        self.queued = 0
        self._release()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._fd != self._given:
            os.close(self._fd)
        if self._owned:
            os.close(self._given)

    # Writing: how many bytes were taken.

    def _write(self, view: memoryview) -> int:
        if self._regular:
            return self._write_file(view)
        done = 0
        while done < len(view):
            end = len(view)
            if self._limit and end - done > self._limit:
                end = self._piece(view, done)
            if self._ready is not None and not any(events & select.POLLOUT for _, events in self._ready.poll(0)):
                if self.gone():
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
                break
            try:
                if self._socket is not None:
                    taken = self._socket.send(view[done:end], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                else:
                    taken = os.write(self._fd, view[done:end])
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET):
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
                if error.errno == errno.EIO:
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None  # a terminal hung up
                raise SstraceError(f"cannot write: {reason(error)}") from None
            done += taken
            self.sent += taken
        return done

    def _piece(self, view: memoryview, start: int) -> int:
        """Where a piece ends that a pipe takes whole: behind a line's end, unless one line is longer."""
        end = bytes(view[start : start + self._limit]).rfind(b"\n")
        return start + end + 1 if end >= 0 else start + self._limit

    def _write_file(self, view: memoryview) -> int:
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done:])
        except OSError as error:
            if error.errno not in _FULL:
                raise SstraceError(f"cannot write: {reason(error)}") from None
            done -= self._take_back(view, done)
            self.stuck = reason(error)
            self._retry_ns = time.monotonic_ns() + _RETRY_NS
        else:
            self.stuck = None
        self.sent += done
        return done

    def _take_back(self, view: memoryview, done: int) -> int:
        """Cut off what was written of a line; how many bytes that were."""
        part = done - (bytes(view[:done]).rfind(b"\n") + 1)
        if part:
            with contextlib.suppress(OSError):
                at = os.lseek(self._fd, 0, os.SEEK_CUR)
                # Only where nobody else has written behind it.
                if at == os.fstat(self._fd).st_size:
                    os.ftruncate(self._fd, at - part)
                    os.lseek(self._fd, at - part, os.SEEK_SET)
                    return part
        return 0
