"""Many network namespaces at once, cheaply: one process of a test's own makes them, puts sockets into each, and leaves
it, so that nothing but the sockets keeps it alive.
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

__all__ = ["World", "Worlds"]

_SIOCSIFFLAGS = 0x8914
_CLONE_NEWNET = 0x40000000


class World:
    """One of them."""

    def __init__(self, told: dict[str, Any], holder: int) -> None:
        self.inode: int = told["inode"]
        self.cookie: int = told["cookie"]
        self.path = f"/proc/{holder}/fd/{told['fd']}"
        """Where the holder has it open; gone with ``let_go``."""
        self.prefix = ("nsenter", f"--net={self.path}", "--")
        """The words to put before a command so that it runs inside."""


class Worlds:
    """``count`` namespaces, each with a listener and two connections of TCP, a UDP socket, and unix sockets. ``held``:
    the holder keeps each open besides, so that others can enter. ``name``: the holder's comm.
    """

    def __init__(self, count: int, *, held: bool = True, name: str = "holder") -> None:
        words = [sys.executable, __file__, str(count), str(int(held)), name]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the holder did not make its namespaces"
        self.pid = self._process.pid
        self.all: Sequence[World] = [World(one, self.pid) for one in json.loads(line)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the holder: all of them are gone soon."""
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


def _make(number: int) -> list[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", 1))  # IFF_UP
    listener = socket.create_server(("127.0.0.1", 1000 + number % 60_000))
    made = [listener]
    for _ in range(2):
        made += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    made[1].send(b"unread")
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 53))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(f"\0world-{number}")
    return [*made, udp, unix, *socket.socketpair()]


def _hold(count: int, name: str, *, held: bool) -> None:
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    told, kept = [], []
    for number in range(count):
        if libc.unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "unshare")
        sockets = _make(number)
        kept += sockets
        space = os.open("/proc/self/ns/net", os.O_RDONLY)
        inode = os.fstat(space).st_ino
        try:
            cookie = int.from_bytes(sockets[0].getsockopt(socket.SOL_SOCKET, 71, 8), sys.byteorder)
        except OSError:  # before Linux 5.14 nobody is told: the inode is what it is known by
            cookie = inode
        told.append({"inode": inode, "cookie": cookie, "fd": space})
        if not held:
            os.close(space)
    libc.setns(home, _CLONE_NEWNET)
    print(json.dumps(told), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    _hold(int(sys.argv[1]), sys.argv[3], held=sys.argv[2] == "1")
