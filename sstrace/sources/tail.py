"""Following a serving sstrace, the client's end: the bytes that it tells from now on (server.followers).

One descriptor for all its life, also while nobody serves there and when somebody does again, so that it can be waited
for.
"""

import os
import socket
from contextlib import suppress

from sstrace.errors import PrivilegeError, SstraceError
from sstrace.sources import asking

__all__ = ["Tail"]

_PIECE = 1 << 20
_MOST_SAID = 4096


class Tail:
    """What is told at ``path`` to one who asks so. Close it."""

    def __init__(self, path: str, request: bytes) -> None:
        self.path = path
        self._request = request
        self._quiet = os.pipe2(os.O_CLOEXEC)
        """Nothing ever comes of it: what stands in for a connection that there is not."""
        self._fd = os.dup(self._quiet[0])
        self._said: int | None = None
        self.connected = False

    def fileno(self) -> int:
        """See above."""
        return self._fd

    def connect(self) -> None:
        """Ask. Raises what ``asking`` does where nobody serves, or somebody who is not to be asked."""
        self._drop()
        said, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            connection = asking.sent(self.path, self._request, [theirs, theirs])
        except BaseException:
            os.close(said)
            raise
        finally:
            os.close(theirs)
        os.dup2(connection.fileno(), self._fd, inheritable=False)
        connection.close()
        self._said, self.connected = said, True

    def read(self) -> bytes:
        """What has come; nothing where nothing has, and at the end, when it is not connected any more."""
        if not self.connected:
            return b""
        with socket.socket(fileno=os.dup(self._fd)) as connection:
            try:
                data = connection.recv(_PIECE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return b""
            except OSError:
                data = b""
        if not data:
            self._drop()
        return data

    def refused(self, code: int) -> SstraceError:
        """Why there was an answer instead, with this exit code: what the server has said of it."""
        text = b""
        if self._said is not None:
            with suppress(OSError):
                text = os.read(self._said, _MOST_SAID)
        self._drop()
        line = text.decode(errors="replace").strip().partition("\n")[0].removeprefix("sstrace: ")
        kind = PrivilegeError if code == PrivilegeError.exit_code else SstraceError
        return kind(line or f"{self.path} is served by an sstrace that tells nobody of what happens")

    def _drop(self) -> None:
        os.dup2(self._quiet[0], self._fd, inheritable=False)
        if self._said is not None:
            os.close(self._said)
        self._said, self.connected = None, False

    def close(self) -> None:
        """Follow no more."""
        self._drop()
        for fd in (self._fd, *self._quiet):
            os.close(fd)
