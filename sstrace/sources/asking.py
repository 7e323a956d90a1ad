"""The client's end of the socket of a serving sstrace (see ``service``): the question goes there, our streams are fed
from there.

A stream that is a pipe, a socket or the null device goes to the server as it is. Anything else (a terminal, a file)
the server would not write to, so it gets a pipe whose other end flows from here; to a terminal without what would
control it.

The server is root, or whom root has made the service's user, or ourselves; nobody else is asked (SO_PEERCRED of whoever
listens, unix(7)). It is not waited for without end.

Small, because every ``--from live`` pays for what it imports: ``_socket`` is what ``socket`` is made of.
"""

import os
import stat
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SO_PEERCRED, SO_RCVTIMEO, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from collections.abc import Sequence
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from select import POLLIN, poll

from sstrace.errors import DecodeError, FeatureError, LookupFailed, SstraceError, reason
from sstrace.sources.standard import write_all

__all__ = [
    "ANSWER_S",
    "BROKEN_PIPE",
    "DEFAULT_PATH",
    "answer",
    "answer_of",
    "ask",
    "feed",
    "is_answer",
    "may_take",
    "sent",
]

DEFAULT_PATH = "/run/sstrace/live.sock"

BROKEN_PIPE = 141
"""The code of an answer whose reader has gone: 128 + SIGPIPE, as a shell shows it."""

ANSWER_S = 120
"""A server gives an answer so long to be read, seconds; then it is broken off."""
_CONNECT_S = 10.0
_SILENCE_S = ANSWER_S + 10.0
"""Who has said nothing for so long will say nothing more, seconds."""
_MOST_LINE = 64
"""A line that ends an answer is shorter."""
_SERVICE_USER = "sstrace"
_PIECE = 1 << 20
_NULL = os.makedev(1, 3)
_HEAD, _TAIL = b'{"code":', b"}"
_CONTROLS = bytes(63 if byte == 127 or (byte < 32 and byte not in b"\t\n") else byte for byte in range(256))
"""bytes.translate: a question mark for what controls a terminal; ss prints tabs and newlines."""


def ask(path: str, request: bytes, fds: Sequence[int]) -> bytes:
    """Send a request with descriptors; the answer's line, without its end. Raises FeatureError when nobody serves
    there.
    """
    connection = sent(path, request, fds)
    line = b""
    try:
        while not line.endswith(b"\n") and len(line) <= _MOST_LINE:
            part = _received(connection, path)
            if not part:
                break
            line += part
    finally:
        connection.close()
    return line.rstrip(b"\n")


def answer(code: int) -> bytes:
    """The line that ends an answer."""
    return b"%s%d%s\n" % (_HEAD, code, _TAIL)


def is_answer(line: bytes) -> bool:
    """Whether a line is that, whole, and nothing of what somebody follows."""
    return line.startswith(_HEAD) and line.endswith(b"\n")


def answer_of(path: str, line: bytes) -> int:
    """The exit code that the answer's line tells. Raises SstraceError where it was broken off, DecodeError where it is
    none.
    """
    number = line[len(_HEAD) : -len(_TAIL)]
    if line == _HEAD + number + _TAIL and number.isdigit() and len(number) < 4:
        return int(number)
    if line:
        raise DecodeError(f"{path} answered what no sstrace answers: {line[:60]!r}")
    raise SstraceError(f"the sstrace that serves at {path} broke off its answer")


def feed(path: str, request: bytes, output: int = 1) -> int:
    """Have the request answered on our standard output, or another descriptor, and standard error; the exit code.
    Raises what ``ask`` and ``answer_of`` do, and BrokenPipeError when our reader has gone.
    """
    flows: dict[int, int] = {}  # read end → our stream
    given, ours = [], []
    for stream in (output, 2):
        if _may_be_given(stream):
            given.append(stream)
            continue
        source, sink = os.pipe()
        with suppress(OSError):  # more pipe, fewer turns
            fcntl(sink, F_SETPIPE_SZ, _PIECE)
        flows[source] = stream
        ours.append(sink)
        given.append(sink)
    connection = None
    try:
        connection = sent(path, request, given)
        for fd in ours:
            os.close(fd)
        ours.clear()
        line = _pump(connection, path, flows)
    finally:
        if connection is not None:
            connection.close()
        for fd in (*ours, *flows):
            os.close(fd)
    code = answer_of(path, line.rstrip(b"\n"))
    if code == BROKEN_PIPE:
        raise BrokenPipeError
    return code


def may_take(fd: int) -> bool:
    """Whether a server may write to a client's descriptor: a pipe, a socket, or the null device. Written to with the
    server's rights, anything else could do what its client may not.
    """
    status = os.fstat(fd)
    mode = status.st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or (stat.S_ISCHR(mode) and status.st_rdev == _NULL)


def _may_be_given(fd: int) -> bool:
    """Whether the server will write to it, and can: it does not wait for a pipe that does not block."""
    try:
        return may_take(fd) and (os.get_blocking(fd) or stat.S_ISCHR(os.fstat(fd).st_mode))
    except OSError:
        return False  # closed: what flows there is lost, as it is for ss


def sent(path: str, request: bytes, fds: Sequence[int]) -> socket:
    """The connection over which a request has gone, with descriptors. Raises FeatureError where nobody serves there,
    LookupFailed where this user may not ask, or had better not, and SstraceError.
    """
    connection = socket(AF_UNIX, SOCK_STREAM)
    # Not settimeout(): a socket that does not block is turned away at once where others wait to be accepted.
    connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, _timeval(_CONNECT_S))
    connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, _timeval(_SILENCE_S))
    try:
        connection.connect(path)
        _trust(connection, path)
    except SstraceError:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        if isinstance(error, BlockingIOError):
            raise _silent(path) from None
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise FeatureError(f"no sstrace serves at {path}: start one with sstrace --serve") from None
        if isinstance(error, PermissionError):
            raise LookupFailed(f"sstrace: {path} is not open to you: it is root's, or its --group's") from None
        raise SstraceError(f"{path}: {reason(error)}") from None
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    try:
        done = connection.sendmsg([request], [(SOL_SOCKET, SCM_RIGHTS, rights)])
        if done < len(request):
            connection.sendall(request[done:])
    except OSError as error:
        connection.close()
        raise SstraceError(f"{path}: {reason(error)}") from None
    return connection


def _trust(connection: socket, path: str) -> None:
    """Refuse a server that anybody could have put there. Raises LookupFailed."""
    uid = int.from_bytes(connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)[4:8], sys.byteorder)  # struct ucred
    if uid in (0, os.geteuid()):
        return
    with suppress(OSError):
        # Below /run, which is root's: a directory there is whose root wants it to be.
        if path == DEFAULT_PATH and os.stat(path.rpartition("/")[0]).st_uid == uid:  # noqa: PTH116
            return
    with suppress(KeyError):
        from pwd import getpwnam

        if getpwnam(_SERVICE_USER).pw_uid == uid:
            return
    raise LookupFailed(
        f"sstrace: {path} is served by user {uid}, who is neither root nor {_SERVICE_USER}: it is not asked"
    )


def _timeval(seconds: float) -> bytes:
    """A struct timeval as 64-bit machines have it."""
    whole = int(seconds)
    return b"".join(part.to_bytes(8, sys.byteorder) for part in (whole, int((seconds - whole) * 1_000_000)))


def _silent(path: str) -> SstraceError:
    return SstraceError(f"the sstrace that serves at {path} does not answer")


def _received(connection: socket, path: str) -> bytes:
    try:
        return connection.recv(4096)
    except BlockingIOError:
        raise _silent(path) from None
    except OSError as error:
        raise SstraceError(f"{path}: {reason(error)}") from None


def _pump(connection: socket, path: str, flows: dict[int, int]) -> bytes:
    """Let everything flow until the line has come and every pipe has ended; the line."""
    line = b""
    waiting = poll()
    for fd in (connection.fileno(), *flows):
        waiting.register(fd, POLLIN)
    asked = True
    shown = {stream: _Shown() if os.isatty(stream) else None for stream in flows.values()}
    while asked or flows:
        ready = waiting.poll(_SILENCE_S * 1000)
        if not ready:
            raise _silent(path)
        for fd, _ in ready:
            if fd in flows:
                data = os.read(fd, _PIECE)
                if data:
                    screen = shown[flows[fd]]
                    write_all(flows[fd], screen.text(data) if screen is not None else data, patient=True)
                else:
                    waiting.unregister(fd)
                    del flows[fd]
                    os.close(fd)
                continue
            part = _received(connection, path)
            line += part
            if not part or part.endswith(b"\n") or len(line) > _MOST_LINE:
                waiting.unregister(fd)
                asked = False
    return line


class _Shown:
    """A stream of bytes as it goes to a terminal: what ss prints stays, controls become question marks."""

    def __init__(self) -> None:
        self._half = b""
        """The first byte of what may be a C1 control in UTF-8 (C2 80 to C2 9F)."""

    def text(self, data: bytes) -> bytes:
        """The next piece."""
        data = self._half + data.translate(_CONTROLS)
        self._half = data[-1:] if data[-1:] == b"\xc2" else b""
        first, *parts = data[: len(data) - len(self._half)].split(b"\xc2")
        return first + b"".join(b"?" + part[1:] if b"\x80" <= part[:1] < b"\xa0" else b"\xc2" + part for part in parts)
