"""One worker: every way of doing something to a socket."""

import contextlib
import ctypes
import os
import signal
import socket
import struct
import threading
import time
from typing import NoReturn

from churning.forged import DROP_PROGRAM
from churning.holder import ACCEPTORS, CHILDREN, CONNECTIONS, LISTENERS, Holder
from churning.surroundings import PORTS, V4, libc, quiet

# include/uapi/linux/tcp.h, in.h, asm-generic/socket.h: what the socket module of Python 3.11 does not name.
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_FASTOPEN_CONNECT = 19, 20, 21, 30
TCP_USER_TIMEOUT, TCP_SYNCNT, TCP_LINGER2 = 18, 7, 8
SEND_QUEUE, REPAIR_OFF = 2, -1
SO_ATTACH_FILTER, SO_DETACH_FILTER, MSG_FASTOPEN = 26, 27, 0x20000000
IP_BIND_ADDRESS_NO_PORT, IP_FREEBIND = 24, 15


class Worker(Holder):
    """One process. Every method without an underscore is an operation; its docstring says what it is after."""

    def step(self) -> None:
        """One operation."""
        name = self._choose.choices(_NAMES, _WEIGHTS)[0]
        with contextlib.suppress(OSError):
            getattr(self, name)()
        self.done[name] += 1
        if self._accepted:
            self._connections += self._accepted
            self._accepted.clear()
        while len(self._connections) > CONNECTIONS:
            self.close()
        while len(self._listeners) > LISTENERS:
            self.close_listener()

    def end(self) -> None:
        """Let go of everything that would outlive the process."""
        while self._acceptors:
            self.end_acceptor()
        while self._children:
            self.end_child()

    # Operations: opening.

    def listen(self) -> None:
        """A listener of some family, address, backlog; v6only, reuseport, Fast Open, deferred accept."""
        self._listeners.append(self._listener())

    def listen_unbound(self) -> None:
        """listen(2) without bind(2): the kernel chooses the port after the transition."""
        made = self._socket(self._family())
        made.listen(4)
        self._listeners.append(made)

    def listen_again(self) -> None:
        """shutdown(2) of a listener takes it down; listen(2) brings it back."""
        listener = self._pick(self._listeners)
        listener.shutdown(socket.SHUT_RDWR)
        if self._chance(0.8):
            listener.listen(2)

    def close_listener(self) -> None:
        """With whatever is queued in it."""
        self._pull(self._listeners).close()

    def connect(self) -> None:
        """The ordinary way, from a port of the kernel's choice or from a small range of ours."""
        family, address, port = self._target()
        made = self._socket(family)
        if self._chance(0.2):
            quiet(made.bind, (self._address(family), self._choose.randrange(31000, 31064)))
        elif self._chance(0.1) and family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            quiet(made.bind, (self._choose.choice(V4), 0))
        if self._chance(0.1):
            made.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 200)
        self._connect(made, address, port)

    def connect_fast_open(self) -> None:
        """SYN with data; where it is not accepted, an ordinary SYN."""
        family, address, port = self._target()
        made = self._socket(family)
        if self._chance(0.5):
            made.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            self._connect(made, address, port)
            quiet(made.send, b"hello")
            return
        try:
            made.sendto(b"hello", MSG_FASTOPEN, (address, port))
        except BlockingIOError:
            pass
        except OSError:
            made.close()
            raise
        self._connections.append(made)

    def connect_nowhere(self) -> None:
        """SYN-SENT that times out, is answered by ICMP, or never sends a SYN."""
        made = self._socket(socket.AF_INET)
        made.setsockopt(socket.IPPROTO_TCP, TCP_SYNCNT, 1)
        if self._chance(0.5):
            made.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 300)
        address = self._choose.choice(("192.0.2.9", "192.0.2.9", "203.0.113.9", "198.51.100.9", "10.78.0.9"))
        self._connect(made, address, 9)

    def connect_from_nowhere(self) -> None:
        """Bound to a foreign address (IP_FREEBIND): connects, and the answer finds nobody."""
        made = self._socket(socket.AF_INET)
        made.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        made.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 300)
        made.bind(("198.18.7.7", 0))
        _, _, port = self._target()
        self._connect(made, "10.77.0.1", port)

    def connect_to_itself(self) -> None:
        """Simultaneous open of a single socket: SYN-SENT, SYN-RECV, ESTAB."""
        family = self._family()
        made = self._socket(family)
        made.bind((self._address(family), 0))
        self._connect(made, *made.getsockname()[:2])

    def open_both(self) -> None:
        """Simultaneous open of two: the first SYN's RST is dropped, then the other side connects."""
        first, second = self._socket(socket.AF_INET), self._socket(socket.AF_INET)
        first.bind(("10.77.0.1", 0))
        second.bind(("10.77.0.2", 0))
        first.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_PROGRAM)
        self._connect(first, *second.getsockname())
        first.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
        self._connect(second, *first.getsockname())

    def accept(self) -> None:
        """Some of what waits."""
        listener = self._pick(self._listeners)
        for _ in range(self._choose.choice((1, 1, 3, 8))):
            taken, _ = listener.accept()
            taken.setblocking(False)
            self._connections.append(taken)

    # Operations: talking and closing.

    def send(self) -> None:
        """Some bytes, or more than the windows take."""
        made = self._pick(self._connections)
        made.send(bytes(self._choose.choice((1, 100, 5000, 1 << 20))))

    def receive(self) -> None:
        """Take what is there."""
        made = self._pick(self._connections)
        made.recv(1 << 16)

    def shut(self) -> None:
        """Half-close in either direction, or both."""
        made = self._pick(self._connections)
        made.shutdown(self._choose.choice((socket.SHUT_WR, socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR)))

    def close(self) -> None:
        """Orderly, or with unread data, whatever it is."""
        made = self._pull(self._connections)
        self._remember(made)
        made.close()

    def close_orderly(self) -> None:
        """Read first, so that no RST is due."""
        made = self._pull(self._connections)
        self._remember(made)
        with contextlib.suppress(OSError):
            while made.recv(1 << 16):
                pass
        made.close()

    def reset(self) -> None:
        """SO_LINGER of 0 seconds."""
        made = self._pull(self._connections)
        self._remember(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        made.close()

    def orphan(self) -> None:
        """FIN-WAIT-2 that nobody holds: for as long as TCP_LINGER2 says, in a timewait socket or not."""
        made = self._pull(self._connections)
        self._remember(made)
        made.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, self._choose.choice((-1, 1, 2, 60, 120)))
        made.close()

    def disconnect(self) -> None:
        """connect(2) to AF_UNSPEC, then perhaps the same socket again."""
        made = self._pull(self._connections)
        self._remember(made)
        address = ctypes.create_string_buffer(16)
        if libc.connect(made.fileno(), address, 16):
            made.close()
            return
        what = self._choose.random()
        if what < 0.3:
            _, target, port = self._target()
            if made.family == socket.AF_INET6 and ":" not in target:
                target = "::ffff:" + target
            if made.family == socket.AF_INET and ":" in target:
                target = "127.0.0.1"
            self._connect(made, target, port)
        elif what < 0.5 and quiet(made.listen, 3):
            self._listeners.append(made)
        elif what < 0.7:
            self._connections.append(made)
        else:
            made.close()

    def repair(self) -> None:
        """TCP_REPAIR: ESTAB without a segment, and an end without one."""
        made = self._socket(socket.AF_INET)
        made.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        made.bind(("10.77.0.1", 0))
        self._connect(made, "10.77.0.2", self._choose.choice(PORTS))
        if self._chance(0.5):
            made.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF)

    # Operations: the line and the peer misbehave.

    def cut(self) -> None:
        """From now on it hears nothing: retransmissions, then a timeout of some kind."""
        made = self._pick(self._connections + self._listeners)
        made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_PROGRAM)
        made.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, self._choose.choice((0, 200, 500)))

    def mend(self) -> None:
        """It hears again."""
        made = self._pick(self._connections + self._listeners)
        made.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    def keep_alive(self) -> None:
        """Probes after a second of silence, the first missing answer ends it."""
        made = self._pick(self._connections)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            made.setsockopt(socket.IPPROTO_TCP, option, 1)

    def flood(self) -> None:
        """SYNs of nobody: half-open until they time out, or a forged RST takes them away again."""
        listener = self._pick(self._listeners)
        address, port = listener.getsockname()[:2]
        if listener.family == socket.AF_INET6:
            address = {"::": "fd77::1"}.get(address, address)
            source = f"fd99::{self._choose.randrange(2, 0xFFFF):x}"
            if address.startswith("::ffff:"):
                address = address[7:]
        if ":" not in address:
            address = "10.77.0.1" if address == "0.0.0.0" or address.startswith("127.") else address
            source = self._choose.choice(("198.18.1.", "198.18.2.", "203.0.113.")) + str(self._choose.randrange(2, 254))
        for _ in range(self._choose.choice((1, 3, 20))):
            peer = source, self._choose.randrange(1024, 65535)
            self._raw.send(peer, (address, port), 1000, 0, 2)
            what = self._choose.random()
            if what < 0.2:
                self._raw.send(peer, (address, port), 1001, 0, 4)
            elif what < 0.3:
                self._raw.send(peer, (address, port), 1000, 0, 2)
            elif what < 0.4:
                self._destroyer.kill((address, port), peer)

    def kill(self) -> None:
        """SOCK_DESTROY on a socket of ours, or on what is left of an earlier one."""
        if self._past and self._chance(0.6):
            source, target = self._choose.choice(self._past)
            if self._chance(0.5):
                source, target = target, source
        elif self._listeners and self._chance(0.1):
            source = self._choose.choice(self._listeners).getsockname()[:2]
            target = ("::" if ":" in source[0] else "0.0.0.0"), 0
        else:
            made = self._pick(self._connections)
            source, target = made.getsockname()[:2], made.getpeername()[:2]
        self._destroyer.kill(source, target)

    def reset_time_wait(self) -> None:
        """A forged RST for a TIME-WAIT, in sequence."""
        listener = socket.create_server(("10.77.0.1", 0))
        listener.settimeout(2)
        client = socket.socket()
        client.settimeout(2)
        with listener, client:
            client.connect(listener.getsockname())
            server, _ = listener.accept()
            server.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            server.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, SEND_QUEUE)
            sequence = server.getsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ) & 0xFFFFFFFF
            server.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, REPAIR_OFF)
            ends = client.getpeername(), client.getsockname()
            client.close()
            server.close()
            self._raw.send(*ends, (sequence + 1) & 0xFFFFFFFF, 0, 4)

    def request_again(self) -> None:
        """A new connection over the tuple of an old one, which may be in TIME-WAIT."""
        if not self._past:
            return
        source, target = self._choose.choice(self._past)
        made = socket.socket(socket.AF_INET6 if ":" in source[0] else socket.AF_INET)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if not quiet(made.bind, source):
            made.close()
            return
        self._connect(made, *target)

    # Operations: who holds it.

    def duplicate(self) -> None:
        """A second descriptor."""
        self._connections.append(self._pick(self._connections).dup())

    def hand_over(self) -> None:
        """SCM_RIGHTS to another worker, which may take its time; with or without keeping it."""
        made = self._pick(self._connections)
        box = self._choose.choice(self._mail)[1]
        socket.send_fds(box, [b"x"], [made.fileno()])
        if self._chance(0.7):
            self._connections.remove(made)
            made.close()

    def take_over(self) -> None:
        """What others have sent."""
        _, fds, _, _ = socket.recv_fds(self._mail[self._number][0], 1, 4)
        for fd in fds:
            taken = socket.socket(fileno=fd)
            taken.setblocking(False)
            self._connections.append(taken)

    def fork(self) -> None:
        """A child that holds everything of ours, or a few after exec."""
        if len(self._children) >= CHILDREN:
            self.end_child()
        for made in self._connections[:2]:
            made.set_inheritable(True)
        ready, written = os.pipe()
        child = os.fork()
        if child == 0:
            _live_as_child(self._chance(0.3), written)
        os.close(written)
        with open(ready, "rb") as pipe:
            pipe.read()
        for made in self._connections[:2]:
            made.set_inheritable(False)
        self._children.append(child)

    def end_child(self) -> None:
        """Its copies go; where it had the last, the socket closes."""
        if not self._children:
            return
        child = self._children.pop(self._choose.randrange(len(self._children)))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def acceptor(self) -> None:
        """A thread that is blocked in accept(2)."""
        if len(self._acceptors) >= ACCEPTORS:
            self.end_acceptor()
        listener = self._listener()
        listener.setblocking(True)
        thread = threading.Thread(target=self._accept_on, args=(listener,), daemon=True)
        thread.start()
        self._acceptors.append((listener, thread))

    def end_acceptor(self) -> None:
        """shutdown(2) wakes it up."""
        if not self._acceptors:
            return
        listener, thread = self._acceptors.pop()
        quiet(listener.shutdown, socket.SHUT_RDWR)
        thread.join()
        listener.close()

    def _accept_on(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                taken, _ = listener.accept()
                taken.setblocking(False)
                self._accepted.append(taken)


def _live_as_child(execute: bool, written: int) -> NoReturn:
    try:
        # It must not outlive a worker that is killed (PR_SET_PDEATHSIG), nor wait for ever.
        libc.prctl(1, signal.SIGKILL, 0, 0, 0)
        if execute:
            os.execv("/bin/sleep", ["sleep", "600"])
        os.close(written)
        time.sleep(600)
    finally:
        os._exit(0)


OPERATIONS = {
    "listen": 8,
    "listen_unbound": 1,
    "listen_again": 2,
    "close_listener": 4,
    "connect": 40,
    "connect_fast_open": 8,
    "connect_nowhere": 3,
    "connect_from_nowhere": 1,
    "connect_to_itself": 3,
    "open_both": 2,
    "accept": 35,
    "send": 20,
    "receive": 15,
    "shut": 15,
    "close": 15,
    "close_orderly": 20,
    "reset": 4,
    "orphan": 6,
    "disconnect": 5,
    "repair": 2,
    "cut": 4,
    "mend": 4,
    "keep_alive": 3,
    "flood": 2,
    "kill": 6,
    "reset_time_wait": 1,
    "request_again": 6,
    "duplicate": 4,
    "hand_over": 4,
    "take_over": 6,
    "fork": 0.5,
    "end_child": 0.5,
    "acceptor": 0.7,
    "end_acceptor": 0.3,
}
"""Operation → how often, against the sum of all."""
_NAMES, _WEIGHTS = list(OPERATIONS), list(OPERATIONS.values())
