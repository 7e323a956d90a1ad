"""Messages to a log daemon on a unix socket, one datagram each, without ever waiting for it.

A daemon that is busy (EAGAIN) or restarting (ECONNREFUSED, ENOENT) is tried again; what it cannot take meanwhile waits
in a queue, whose length (``queued``) is for the owner to limit. A message that is too long for a datagram goes as the
journal wants it, as a descriptor of a sealed memory file, where the daemon is the journal; elsewhere it is lost and
counted.
"""

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections import deque

from sstrace.errors import FeatureError, reason

__all__ = ["JOURNAL", "SYSLOG", "Datagrams"]

JOURNAL = "/run/systemd/journal/socket"
SYSLOG = "/dev/log"

_RETRY_NS = 500_000_000
_AWAY = frozenset({errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.EACCES})


class Datagrams:
    """A unix socket of a log daemon. Raises FeatureError when nobody listens there at the start."""

    def __init__(self, path: str, what: str, *, memory_files: bool = False) -> None:
        """``what``: how to call it in sentences. ``memory_files``: it takes long messages as descriptors."""
        self.path = path
        self._memory_files = memory_files
        self._queue: deque[bytes] = deque()
        self._retry_ns = 0
        self._stream = False
        self.queued = 0
        """Bytes that wait."""
        self.sent = 0
        """Bytes sent."""
        self.stuck: str | None = None
        """Why nothing can be sent now; None while it can."""
        self.lost = 0
        """Messages that were too long."""
        self._socket: socket.socket | None = None
        try:
            self._connect()
        except OSError as error:
            raise FeatureError(f"no {what} at {path}: {reason(error)}") from None

    def _connect(self) -> None:
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            made = socket.socket(socket.AF_UNIX, kind)
            made.setblocking(False)
            try:
                made.connect(self.path)
            except OSError as error:
                made.close()
                if error.errno == errno.EPROTOTYPE and kind == socket.SOCK_DGRAM:
                    continue
                raise
            with contextlib.suppress(OSError):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
            self._socket = made
            self._stream = kind == socket.SOCK_STREAM
            return

    def gone(self) -> bool:
        """Never: a daemon comes back."""
        return False

    def put(self, data: bytes | bytearray) -> None:
        """Send one message, or keep it while it cannot be sent."""
        message = bytes(data)
        if self._queue or self.stuck is not None or not self._send(message):
            self._queue.append(message)
            self.queued += len(message)
            self.pump()

    def pump(self) -> None:
        """Send of the queue what can be sent now."""
        if self.stuck is not None:
            if time.monotonic_ns() < self._retry_ns:
                return
            self._retry_ns = time.monotonic_ns() + _RETRY_NS
            try:
                self._connect()
            except OSError:
                return
            self.stuck = None
        queue = self._queue
        while queue and self._send(queue[0]):
            self.queued -= len(queue.popleft())

    def wait(self, seconds: float) -> None:
        """A moment: a full receiver makes a datagram socket no less writable (unix(7)), so there is nothing to
        wait on.
        """
        time.sleep(min(seconds, 0.005))

    def drain(self, seconds: float) -> int:
        """Send the queue, for at most so long; how many messages are left."""
        end = time.monotonic() + seconds
        self.pump()
        while self._queue and time.monotonic() < end:
            self.wait(0.005)
            self.pump()
        return len(self._queue)

    def close(self) -> None:
        """Let go; what waits is lost."""
        self._queue.clear()
        self.queued = 0
        if self._socket is not None:
            self._socket.close()

    def _send(self, message: bytes) -> bool:
        """Whether it has been dealt with."""
        assert self._socket is not None
        try:
            if self._stream:
                # All or nothing cannot be had of a stream; the messages are far smaller than its buffer.
                message += b"\n"
                sent = self._socket.send(message, socket.MSG_NOSIGNAL)
                while sent < len(message):
                    self._socket.setblocking(True)
                    sent += self._socket.send(message[sent:], socket.MSG_NOSIGNAL)
                    self._socket.setblocking(False)
            else:
                self._socket.send(message, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return False
            if error.errno == errno.EMSGSIZE:
                if not (self._memory_files and self._send_file(message)):
                    self.lost += 1
                return True
            if error.errno in _AWAY:
                self._socket.close()
                self.stuck = reason(error)
                self._retry_ns = time.monotonic_ns() + _RETRY_NS
                return False
            raise
        self.sent += len(message)
        return True

    def _send_file(self, message: bytes) -> bool:
        """As systemd's journal takes what is too long: an empty datagram with a sealed memfd."""
        assert self._socket is not None
        fd = os.memfd_create("sstrace", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.write(fd, message)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | 1)
            socket.send_fds(self._socket, [b""], [fd])
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
