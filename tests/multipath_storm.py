"""MPTCP sockets at random, for tests: each line of stdin is a number of operations, each line of stdout says that they
are done. When stdin ends, so does everything.

    python tests/multipath_storm.py SEED
"""

import contextlib
import ctypes
import os
import random
import signal
import socket
import struct
import sys
from collections.abc import Callable

IPPROTO_MPTCP = 262
MOST = 12
_libc = ctypes.CDLL(None, use_errno=True)


class Storm:
    """Who holds the sockets."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.listeners: list[socket.socket] = []
        self.held: list[socket.socket] = []
        self.operations: list[Callable[[], object]] = [
            self.listen, self.connect, self.connect, self.connect, self.accept, self.accept, self.talk, self.talk,
            self.shut, self.close, self.close, self.close_unread, self.close_listener, self.refused, self.waits,
            self.dissolve, self.again, self.plain_client, self.plain_server, self.duplicate, self.crash, self.hand_over,
        ]  # fmt: skip

    def run(self, count: int) -> None:
        """So many operations."""
        for _ in range(count):
            with contextlib.suppress(OSError, IndexError, ValueError):
                self.chance.choice(self.operations)()
            while len(self.held) > MOST:
                self.close()
            while len(self.listeners) > MOST // 4:
                self.close_listener()

    def made(self, family: int, protocol: int = IPPROTO_MPTCP) -> socket.socket:
        made = socket.socket(family, socket.SOCK_STREAM, protocol)
        made.settimeout(0.02)
        return made

    def family(self) -> int:
        return self.chance.choice((socket.AF_INET, socket.AF_INET6))

    def some(self) -> socket.socket:
        return self.chance.choice(self.held)

    def listen(self) -> None:
        family = self.family()
        made = self.made(family)
        if self.chance.random() < 0.8:
            made.bind((self.chance.choice(("127.0.0.1", "") if family == socket.AF_INET else ("::1", "::")), 0))
        made.listen(4)
        self.listeners.append(made)

    def called(self) -> tuple[int, tuple[str, int]]:
        """Where somebody listens."""
        listener = self.chance.choice(self.listeners)
        return listener.family, (
            "::1" if listener.family == socket.AF_INET6 else "127.0.0.1",
            listener.getsockname()[1],
        )

    def connect(self) -> None:
        family, there = self.called()
        made = self.made(family)
        self.held.append(made)
        made.connect(there)

    def accept(self) -> None:
        listener = self.chance.choice(self.listeners)
        listener.settimeout(0)
        self.held.append(listener.accept()[0])

    def talk(self) -> None:
        some = self.some()
        some.setblocking(False)
        some.send(b"x" * self.chance.randrange(1, 2000))
        self.some().recv(65536, socket.MSG_DONTWAIT)

    def shut(self) -> None:
        self.some().shutdown(self.chance.choice((socket.SHUT_WR, socket.SHUT_RDWR)))

    def close(self) -> None:
        self.held.pop(self.chance.randrange(len(self.held))).close()

    def close_unread(self) -> None:
        """The peer has sent what nobody will read."""
        self.some().send(b"x" * 100, socket.MSG_DONTWAIT)
        self.close()

    def close_listener(self) -> None:
        """Those who wait in its queue end with it."""
        self.listeners.pop(self.chance.randrange(len(self.listeners))).close()

    def refused(self) -> None:
        made = self.made(self.family())
        self.held.append(made)
        made.setblocking(self.chance.random() < 0.5)
        made.connect(("::1" if made.family == socket.AF_INET6 else "127.0.0.1", 1))

    def waits(self) -> None:
        """To where nobody answers."""
        made = self.made(socket.AF_INET)
        self.held.append(made)
        made.setblocking(False)
        made.connect(("10.77.9.9", 80))

    def dissolve(self) -> None:
        """connect(2) with AF_UNSPEC."""
        _libc.connect(self.some().fileno(), bytes(16), 16)

    def again(self) -> None:
        some, (family, there) = self.some(), self.called()
        if some.family == family:
            some.connect(there)

    def plain_client(self) -> None:
        family, there = self.called()
        made = self.made(family, 0)
        self.held.append(made)
        made.connect(there)

    def plain_server(self) -> None:
        family = self.family()
        listens = self.made(family, 0)
        listens.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        listens.listen()
        made = self.made(family)
        self.held.append(made)
        made.connect(listens.getsockname()[:2])
        self.held.append(listens.accept()[0])
        listens.close()

    def duplicate(self) -> None:
        self.held.append(self.some().dup())

    def crash(self) -> None:
        """A process that leaves everything to the kernel."""
        child = os.fork()
        if child == 0:
            with contextlib.suppress(OSError, IndexError, ValueError):
                for _ in range(3):
                    self.connect()
                self.held[-1].send(b"x")
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)

    def hand_over(self) -> None:
        """SCM_RIGHTS, and back."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with here, there:
            some = self.held.pop()
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", some.fileno()))
            here.sendmsg([b"x"], [rights])
            some.close()
            if self.chance.random() < 0.7:
                _, (descriptor,), _, _ = socket.recv_fds(there, 1, 1)
                self.held.append(socket.socket(fileno=descriptor))


if __name__ == "__main__":
    storm = Storm(sys.argv[1])
    for line in sys.stdin:
        storm.run(int(line))
        print("done", flush=True)
