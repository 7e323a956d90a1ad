"""The unix socket between a serving sstrace and its clients, the server's end (the other is ``asking``). Bytes and file
descriptors; nothing is decoded here.

A client connects, sends one line (see server.serve) together with two pipes (SCM_RIGHTS), and reads one line back
when all is written: what the answer prints goes straight through the pipes, so a terminal, a file or ``head`` at
their other end costs the server nothing.
"""

import contextlib
import os
import socket
import stat
import struct

from sstrace.errors import PrivilegeError, SstraceError, reason
from sstrace.sources import files
from sstrace.sources.asking import DEFAULT_PATH

__all__ = [
    "DEFAULT_PATH",
    "MOST_REQUEST",
    "Peer",
    "folder",
    "listen",
    "mark",
    "peer",
    "pour",
    "receive",
    "remove",
]

MOST_REQUEST = 64 << 10
"""The longest request taken, against clients that send without end: ss's longest command lines are far shorter."""

_BACKLOG = 128
_SO_PEERCRED = struct.Struct("=iII")


class Peer:
    """Who is at the other end: SO_PEERCRED, unix(7)."""

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid


def listen(path: str, gid: int | None) -> socket.socket:
    """A listening socket that only root may connect to, or root and the members of group ``gid``.

    A socket file that nobody serves any more is replaced; one that is served, or a file of another sort, is not.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        _refuse_served(path)
        if path == DEFAULT_PATH:
            # Its clients trust whose directory it is (asking): ours it is before anything in it is looked at, and
            # root's it stays, whatever user root's server becomes. Of one that is killed nobody inherits the place.
            with contextlib.suppress(OSError):
                files.own_directory(folder(path), 0o755)
        if not files.is_firm(path):
            raise PrivilegeError(
                f"cannot serve at {path}: on the way there is a directory where others than root can put another in "
                "its place: name a place below /run, or start it as that user"
            )
        with files.alone(path):  # of two that find a stale one, the second finds the first one's
            _refuse_served(path)
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISSOCK(os.lstat(path).st_mode):
                    raise SstraceError(f"{path} is there already, and is no socket: name another place to serve at")
                os.unlink(path)  # noqa: PTH108
            server.bind(path)
            if gid is not None:
                os.chown(path, -1, gid, follow_symlinks=False)
                os.chmod(path, 0o660)  # noqa: PTH101
            server.listen(_BACKLOG)
    except BaseException as error:
        server.close()
        if isinstance(error, OSError | ValueError):
            raise SstraceError(f"cannot serve at {path}: {reason(error)}") from None
        raise
    finally:
        os.umask(mask)
    server.setblocking(False)
    return server


def folder(path: str) -> str:
    """The directory of a socket file."""
    return os.path.dirname(path) or "."  # noqa: PTH120


def mark(path: str) -> tuple[int, int]:
    """What tells the file that is there now from another of its name: device and inode."""
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def remove(path: str, which: tuple[int, int]) -> bool:
    """Take the socket file away, where it is still the one of this ``mark``, before its listener is closed: as long as
    that listens, no other server replaces it. False where we may not; one that stays is replaced by the next server.
    """
    try:
        if mark(path) == which:
            files.remove(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _refuse_served(path: str) -> None:
    if _answers(path):
        raise SstraceError(f"another sstrace serves at {path} already")


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno is None and not isinstance(error, TimeoutError):
                raise  # no path of a socket
            return True  # full, slow, or not ours to ask: in any case alive
    return True


def peer(connection: socket.socket) -> Peer:
    """Who connected."""
    pid, uid, gid = _SO_PEERCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _SO_PEERCRED.size))
    return Peer(pid, uid, gid)


def receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """What has come, without waiting: bytes (b"" at the end) and descriptors. Raises BlockingIOError when nothing
    has.
    """
    data, fds, _, _ = socket.recv_fds(connection, MOST_REQUEST + 1, 4, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
    return data, list(fds)


def pour(file: int, fd: int) -> bool:
    """Write a file out to a client's descriptor (see ``asking.may_take``) as far as that goes without waiting; whether
    it is all out. The file's position says how far it went. Raises BrokenPipeError when nobody reads any more.
    """
    size, done = os.fstat(file).st_size, 0
    piped = stat.S_ISFIFO(os.fstat(fd).st_mode)
    try:
        while done < size:
            if piped:
                # Unlike write(2), this does not wait whatever the client has made of its pipe.
                done += os.splice(file, fd, size - done, offset_src=done, flags=os.SPLICE_F_NONBLOCK)
            elif stat.S_ISCHR(os.fstat(fd).st_mode):
                done = size
            else:
                data = os.pread(file, size - done, done)
                with socket.socket(fileno=os.dup(fd)) as peer:
                    done += peer.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        pass
    os.lseek(file, done, os.SEEK_SET)
    return done == size
