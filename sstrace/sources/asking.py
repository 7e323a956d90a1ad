"""The client's end of the socket of a serving sstrace (see ``service``): the question goes there, our streams are fed
from there.

A stream that is a pipe, a socket or the null device goes to the server as it is. Anything else (a terminal, a file)
the server would not write to, so it gets a pipe whose other end flows from here.

Small, because every ``--from live`` pays for what it imports: ``_socket`` is what ``socket`` is made of.
"""

import os
import stat
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
from collections.abc import Sequence
from contextlib import suppress
from fcntl import F_SETPIPE_SZ, fcntl
from select import POLLIN, POLLOUT, poll

from sstrace.errors import DecodeError, FeatureError, LookupFailed, SstraceError, reason

__all__ = ["BROKEN_PIPE", "DEFAULT_PATH", "answer", "answer_of", "ask", "feed", "may_take"]

DEFAULT_PATH = "/run/sstrace/live.sock"

BROKEN_PIPE = 141
"""The code of an answer whose reader has gone: 128 + SIGPIPE, as a shell shows it."""

_PIECE = 1 << 20
_NULL = os.makedev(1, 3)
_HEAD, _TAIL = b'{"code":', b"}"


def ask(path: str, request: bytes, fds: Sequence[int]) -> bytes:
    """Send a request with descriptors; the answer's line, without its end. Raises FeatureError when nobody serves
    there.
    """
    connection = _sent(path, request, fds)
    line = b""
    try:
        while not line.endswith(b"\n"):
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


def feed(path: str, request: bytes) -> int:
    """Have the request answered on our standard output and standard error; the exit code. Raises what ``ask`` and
    ``answer_of`` do, and BrokenPipeError when our reader has gone.
    """
    flows: dict[int, int] = {}  # read end → our stream
    given, ours = [], []
    for stream in (1, 2):
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
        connection = _sent(path, request, given)
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


def _sent(path: str, request: bytes, fds: Sequence[int]) -> socket:
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            raise FeatureError(f"no sstrace serves at {path}: start one with sstrace --serve") from None
        if isinstance(error, PermissionError):
            raise LookupFailed(f"{path} is not open to you: it is root's, or its --group's") from None
        raise SstraceError(f"{path}: {reason(error)}") from None
    rights = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    try:
        sent = connection.sendmsg([request], [(SOL_SOCKET, SCM_RIGHTS, rights)])
        if sent < len(request):
            connection.sendall(request[sent:])
    except OSError as error:
        connection.close()
        raise SstraceError(f"{path}: {reason(error)}") from None
    return connection


def _received(connection: socket, path: str) -> bytes:
    try:
        return connection.recv(4096)
    except OSError as error:
        raise SstraceError(f"{path}: {reason(error)}") from None


def _pump(connection: socket, path: str, flows: dict[int, int]) -> bytes:
    """Let everything flow until the line has come and every pipe has ended; the line."""
    line = b""
    waiting = poll()
    for fd in (connection.fileno(), *flows):
        waiting.register(fd, POLLIN)
    asked = True
    while asked or flows:
        for fd, _ in waiting.poll():
            if fd in flows:
                data = os.read(fd, _PIECE)
                if data:
                    _write(flows[fd], data)
                else:
                    waiting.unregister(fd)
                    del flows[fd]
                    os.close(fd)
                continue
            part = _received(connection, path)
            line += part
            if not part or part.endswith(b"\n"):
                waiting.unregister(fd)
                asked = False
    return line


def _write(stream: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stream, view) :]
        except BlockingIOError:
            ready = poll()
            ready.register(stream, POLLOUT)
            ready.poll()
