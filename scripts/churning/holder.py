"""What one worker holds, and how it picks of it: sockets that listen, sockets that are connected, and their peers."""

import contextlib
import errno
import os
import random
import socket
import threading
from collections import Counter

from churning.forged import Destroyer, Raw
from churning.surroundings import PORTS, V4, V6, quiet

# include/uapi/linux/in.h, tcp.h: what the socket module of Python 3.11 does not name.
IPPROTO_MPTCP = 262
TCP_FASTOPEN, TCP_DEFER_ACCEPT = 23, 9

LISTENERS, CONNECTIONS, CHILDREN, ACCEPTORS = 8, 40, 2, 1
"""The most that one worker keeps."""


class Holder:
    """The sockets and processes of one worker."""

    def __init__(self, number: int, seed: str, mail: list[tuple[socket.socket, socket.socket]]) -> None:
        self._choose = random.Random(f"{seed} {number}")
        self._number = number
        self._mail = mail
        self._listeners: list[socket.socket] = []
        self._connections: list[socket.socket] = []
        self._children: list[int] = []
        self._acceptors: list[tuple[socket.socket, threading.Thread]] = []
        self._accepted: list[socket.socket] = []
        self._past: list[tuple[tuple[str, int], tuple[str, int]]] = []
        self._raw = Raw()
        self._destroyer = Destroyer()
        self.done: Counter[str] = Counter()

    def _chance(self, share: float) -> bool:
        return self._choose.random() < share

    def _pick(self, pool: list[socket.socket]) -> socket.socket:
        if not pool:
            raise OSError(errno.EAGAIN, "none")
        return self._choose.choice(pool)

    def _pull(self, pool: list[socket.socket]) -> socket.socket:
        if not pool:
            raise OSError(errno.EAGAIN, "none")
        return pool.pop(self._choose.randrange(len(pool)))

    def _socket(self, family: int) -> socket.socket:
        protocol = IPPROTO_MPTCP if self._chance(0.06) else 0
        uid = self._choose.choice((0, 0, 1001, 1002))
        if uid:
            os.seteuid(uid)
        try:
            made = socket.socket(family, socket.SOCK_STREAM, protocol)
        except OSError:
            made = socket.socket(family, socket.SOCK_STREAM)
        finally:
            if uid:
                os.seteuid(0)
        made.setblocking(False)
        if self._chance(0.5):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._chance(0.1):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        return made

    def _family(self) -> int:
        return self._choose.choice((socket.AF_INET, socket.AF_INET, socket.AF_INET6))

    def _address(self, family: int) -> str:
        if family == socket.AF_INET:
            return self._choose.choice(V4)
        if self._chance(0.3):
            return "::ffff:" + self._choose.choice(V4)
        return self._choose.choice(V6)

    def _listener(self) -> socket.socket:
        family = self._family()
        made = self._socket(family)
        if family == socket.AF_INET6 and self._chance(0.3):
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if self._chance(0.3):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if self._chance(0.15):
            quiet(made.setsockopt, socket.IPPROTO_TCP, TCP_FASTOPEN, 8)
        if self._chance(0.1):
            made.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 1)
        where = self._address(family) if self._chance(0.6) else ("" if family == socket.AF_INET else "::")
        try:
            made.bind((where, self._choose.choice(PORTS)))
            made.listen(self._choose.choice((0, 1, 3, 64)))
        except OSError:
            made.close()
            raise
        return made

    def _target(self) -> tuple[int, str, int]:
        """Somewhere to connect to: mostly a listener of ours, else any port, where others may listen or nobody."""
        if self._listeners and self._chance(0.6):
            listener = self._choose.choice(self._listeners)
            family, name = int(listener.family), listener.getsockname()
            address = name[0]
            if address in ("0.0.0.0", "::"):
                address = self._address(family)
            if address.startswith("::ffff:") and self._chance(0.7):
                family, address = socket.AF_INET, address[7:]
            return family, address, name[1]
        family = self._family()
        return family, self._address(family), self._choose.choice(PORTS)

    def _connect(self, made: socket.socket, address: str, port: int) -> None:
        made.setblocking(False)
        result = made.connect_ex((address, port))
        if result not in (0, errno.EINPROGRESS):
            if result in (errno.EADDRNOTAVAIL, errno.ECONNREFUSED) and self._chance(0.2):
                self._connections.append(made)  # it may be used again
                return
            made.close()
            return
        self._connections.append(made)

    def _remember(self, made: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._past.append((made.getsockname()[:2], made.getpeername()[:2]))
            del self._past[:-64]
