"""A zoo of sockets: one process tree that holds sockets of every family in every state it can reach, and keeps still.

Run it inside a fresh network namespace, as root::

    python tests/zoo.py --directory DIR --ready FILE

It builds the exhibits, writes FILE (JSON: see ``Zoo.report``) and then reads commands from stdin, one a line, and
answers ``ok``: ``refresh`` makes the exhibits anew that the kernel takes away after a minute (TIME-WAIT, an orphan's
FIN-WAIT-2). End of stdin ends it; it and its children also die with whoever started it.

What stays in motion once it is ready, so that two looks may differ:

* retransmission, probe, keepalive and time-wait timers (``-o``: the time left; ``-i``: rto, backoff, retrans, cwnd, …,
  bytes_retrans, segs_out of the sockets that talk to the puppet), ever more rarely, at most every two minutes;
* the ages lastsnd, lastrcv, lastack, and busy, rwnd_limited, sndbuf_limited of sockets with data under way;
* TIME-WAIT rows vanish one minute after ``refresh``.

States that need a peer who misbehaves (SYN-RECV, FIN-WAIT-1, CLOSING, LAST-ACK, …) have the puppet as peer: a packet
socket on the far end of a veth pair which answers with hand-made segments, or not at all.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["ABSENT_ERRORS", "PUPPET4", "PUPPET6", "V0_4", "V0_6", "V0_LINK", "Puppet", "Zoo", "main"]

V0_4, V0_6, V0_LINK = "10.99.0.1", "fd99::1", "fe80::99"
"""Addresses of v0, the near end of the veth pair."""
V0_MAC = "02:00:00:00:00:01"
PUPPET4, PUPPET6 = "10.99.0.77", "fd99::77"
"""The puppet's: hosts that exist only as a permanent neighbour entry on v0."""
SECOND4 = "10.99.2.1"
"""Another address of v0, from which MPTCP makes its second subflow."""

ABSENT_ERRORS = {
    errno.EPROTONOSUPPORT,
    errno.EAFNOSUPPORT,
    errno.ESOCKTNOSUPPORT,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.ENOENT,
}
"""The kernel's answers when it was built without something: that exhibit is reported absent. Any other is our own."""

IPPROTO_MPTCP = 262
TCP_CONGESTION, TCP_MD5SIG, TCP_FASTOPEN, TCP_ULP, TCP_LINGER2, TCP_SYNCNT = 13, 14, 23, 31, 8, 7
SOL_PACKET, SOL_NETLINK = 263, 270
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6, ETH_P_ARP = 0x0003, 0x0800, 0x86DD, 0x0806
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Let the kernel end this process when its parent ends (PR_SET_PDEATHSIG)."""
    _libc.prctl(1, signum)


def rename(comm: bytes) -> None:
    """Set the name of the calling thread (PR_SET_NAME): at most 15 bytes, any but NUL."""
    _libc.prctl(15, ctypes.c_char_p(comm))


def until(fact: Callable[[], object], what: str, seconds: float = 10) -> None:
    """Wait for a fact that the kernel brings about by itself within microseconds, but tells nobody of."""
    end = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > end:
            raise TimeoutError(what)
        select.select([], [], [], 0.001)


def until_state(sock: socket.socket, state: int, what: str) -> None:
    """Wait until a TCP socket is in a state, by the kernel's number."""
    until(lambda: tcp_state(sock) == state, what)


def receive(sock: socket.socket, size: int) -> None:
    """Read exactly this many bytes."""
    while size:
        size -= len(sock.recv(size))


def tcp_state(sock: socket.socket) -> int:
    """tcpi_state of a TCP socket."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


# ------------------------------------------------------------------------------------------------------------- puppet


class Puppet:
    """A TCP peer made of nothing but frames: it sends the segments it is told to and never any other."""

    ISS = 1_000_000

    def __init__(self) -> None:
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.bind(("v1", 0))
        self.sock.settimeout(10)
        self.near = bytes.fromhex(V0_MAC.replace(":", ""))

    def segment(
        self, family: int, ports: tuple[int, int], flags: int, seq: int, ack: int = 0, *, payload: bytes = b""
    ) -> None:
        """Send one TCP segment from the puppet's address to v0's; ``ports`` are the puppet's and the other's."""
        options = struct.pack("!BBHBBBBBB", 2, 4, 1400, 1, 3, 3, 5, 4, 2) + b"\x01\x01\x00" if flags & SYN else b""
        options += b"\x00" * (-len(options) % 4)
        header = struct.pack(
            "!HHIIBBHHH",
            *ports,
            seq & 0xFFFFFFFF,
            ack & 0xFFFFFFFF,
            (5 + len(options) // 4) << 4,
            flags,
            29200,
            0,
            0,
        )
        tcp = bytearray(header + options + payload)
        src, dst = (
            socket.inet_pton(family, a) for a in ((PUPPET4, V0_4) if family == socket.AF_INET else (PUPPET6, V0_6))
        )
        if family == socket.AF_INET:
            pseudo = src + dst + struct.pack("!BBH", 0, 6, len(tcp))
            ip = bytearray(struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 7, 0x4000, 64, 6, 0) + src + dst)
            ip[10:12] = self._checksum(ip)
            kind = ETH_P_IP
        else:
            pseudo = src + dst + struct.pack("!IHBB", len(tcp), 0, 0, 6)
            ip = bytearray(struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + src + dst)
            kind = ETH_P_IPV6
        tcp[16:18] = self._checksum(pseudo + tcp)
        self.sock.send(self.near + b"\x02\x00\x00\x00\x00\x77" + struct.pack("!H", kind) + ip + tcp)

    def hear(self, port: int, flags: int) -> tuple[int, int]:
        """Wait for a segment to ``port`` with at least these flags: (its source port, its sequence number)."""
        while True:
            frame = self.sock.recv(4096)
            offset = {ETH_P_IP: 34, ETH_P_IPV6: 54}.get(int.from_bytes(frame[12:14], "big"), 0)
            protocol = frame[23] if offset == 34 else frame[20] if offset == 54 else 0
            if protocol != 6:
                continue
            sport, dport, seq, _ack, _off, seen = struct.unpack_from("!HHIIBB", frame, offset)
            if dport == port and seen & flags == flags:
                return sport, seq

    def accept(self, family: int, port: int) -> tuple[socket.socket, int, int]:
        """Connect a fresh local socket to the puppet's ``port``: (socket, its port, its next sequence number)."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            sock.connect((PUPPET4 if family == socket.AF_INET else PUPPET6, port))
        local, seq = self.hear(port, SYN)
        self.segment(family, (port, local), SYN | ACK, self.ISS, seq + 1)
        self.hear(port, ACK)
        until(lambda: tcp_state(sock) == 1, "handshake with the puppet")
        sock.setblocking(True)
        return sock, local, seq + 1

    def close(self) -> None:
        self.sock.close()

    @staticmethod
    def _checksum(data: bytes | bytearray) -> bytes:
        data = bytes(data) + b"\x00" * (len(data) % 2)
        total = sum(struct.unpack(f"!{len(data) // 2}H", data))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return struct.pack("!H", ~total & 0xFFFF)


# ------------------------------------------------------------------------------------------------------------- exhibits

Exhibit = Callable[["Zoo"], object]
EXHIBITS: list[Exhibit] = []


def exhibit(function: Exhibit) -> Exhibit:
    """Enter a method's worth of sockets in the programme; they are built in the order of this file."""
    EXHIBITS.append(function)
    return function


class Zoo:
    """Holds every socket and child that the exhibits make."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kept: list[Any] = []
        self.children: list[int] = []
        self.absent: dict[str, str] = {}
        self.ports: dict[str, int] = {}
        self.inodes: dict[str, int] = {}
        self.marks: dict[str, str] = {}
        self.cgroup: Path | None = None
        self.puppet: Puppet | None = None
        self.quit = threading.Event()

    # -------------------------------------------------------------------------------------------------- building blocks

    def keep(self, *things: Any) -> Any:
        """Hold on to sockets; returns the first."""
        self.kept.extend(things)
        return things[0]

    def listen(
        self, family: int, address: tuple[Any, ...], backlog: int = 5, *options: tuple[int, int, Any], protocol: int = 0
    ) -> socket.socket:
        """A listening TCP socket; ``options`` are setsockopt triples set before bind."""
        sock = socket.socket(family, socket.SOCK_STREAM, protocol)
        for option in ((socket.SOL_SOCKET, socket.SO_REUSEADDR, 1), *options):
            sock.setsockopt(*option)
        sock.bind(address)
        sock.listen(backlog)
        self.keep(sock)
        return sock

    def pair(
        self, family: int, host: str, *options: tuple[int, int, Any], server: socket.socket | None = None, port: int = 0
    ) -> tuple[socket.socket, socket.socket]:
        """Connect a TCP pair on this machine (client, server side), both kept; its listener goes unless given."""
        listener = server or self.listen(family, (host, port))
        client = socket.socket(family, socket.SOCK_STREAM)
        for option in options:
            client.setsockopt(*option)
        client.connect((host, *listener.getsockname()[1:]))
        accepted, _ = listener.accept()
        if server is None:
            self.kept.remove(listener)
            listener.close()
        self.keep(client, accepted)
        return client, accepted

    def child(self, comm: bytes, hold: Iterable[socket.socket] = (), work: Callable[[], Any] | None = None) -> int:
        """A child process named ``comm`` that holds only ``hold`` and what ``work`` returns, and waits for the end."""
        ready_r, ready_w = os.pipe()
        pid = os.fork()
        if pid:
            self.children.append(pid)
            os.close(ready_w)
            with os.fdopen(ready_r, "rb") as pipe:
                if pipe.read(1) != b"+":
                    raise RuntimeError(f"child {comm!r} did not get ready")
            return pid
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            die_with_parent()
            spare = {0, 1, 2, ready_w, *(s.fileno() for s in hold)}
            for fd in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
                if fd not in spare:
                    with contextlib.suppress(OSError):
                        os.close(fd)
            kept = work() if work else None
            rename(comm)
            os.write(ready_w, b"+")
            os.close(ready_w)
            while kept is not self:
                signal.pause()
        finally:
            os._exit(1)

    # ------------------------------------------------------------------------------------------------------ life cycle

    def build(self) -> None:
        """Lay out the ground and build every exhibit; what this kernel lacks is noted in ``absent``."""
        ground()
        self.puppet = Puppet()
        for make in EXHIBITS:
            try:
                make(self)
            except OSError as error:
                if error.errno not in ABSENT_ERRORS:
                    raise
                self.absent[make.__name__] = str(error)
        self.refresh()

    def refresh(self) -> None:
        """The exhibits that last a minute: TIME-WAIT in both families, mapped and bound, and an orphan's FIN-WAIT-2."""
        assert self.puppet is not None
        for family, host in (
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET, V0_4),
            (socket.AF_INET6, "::1"),
            (socket.AF_INET6, "::ffff:127.0.0.1"),
        ):
            client, server = self.pair(family, host)
            self.kept.remove(client)
            self.kept.remove(server)
            client.close()
            until_state(server, 8, "FIN of the pair")
            server.close()
        sock, local, seq = self.puppet.accept(socket.AF_INET, 7009)
        sock.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, 55)
        sock.close()
        self.puppet.hear(7009, FIN)
        self.puppet.segment(socket.AF_INET, (7009, local), ACK, Puppet.ISS + 1, seq + 1)

    def report(self) -> dict[str, Any]:
        """What FILE says: pids, ports and inodes by name, exhibits that this kernel cannot have, the cgroup's path."""
        return {
            "pid": os.getpid(),
            "children": self.children,
            "ports": self.ports,
            "inodes": self.inodes,
            "absent": self.absent,
            "marks": self.marks,
            "cgroup": str(self.cgroup) if self.cgroup else None,
        }

    def close(self) -> None:
        """End the children and take the cgroup away."""
        for pid in self.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        if self.cgroup:
            with contextlib.suppress(OSError):
                self.cgroup.rmdir()


def ground() -> None:
    """Devices, addresses, neighbours, and the knobs that let half-made connections stay."""
    batch = f"""
        link set lo up
        link add v0 address {V0_MAC} type veth peer name v1
        link set v0 addrgenmode none
        link set v1 addrgenmode none
        link set v1 arp off
        link set v0 up
        link set v1 up
        addr add {V0_4}/24 dev v0
        addr add {SECOND4}/24 dev v0
        addr add {V0_6}/64 dev v0 nodad
        addr add {V0_LINK}/64 dev v0 nodad
        route add 192.168.4.0/24 dev v0
        neigh add {PUPPET4} lladdr 02:00:00:00:00:77 dev v0 nud permanent
        neigh add {PUPPET6} lladdr 02:00:00:00:00:77 dev v0 nud permanent
    """
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True, timeout=30)
    for knob, value in {
        "ipv4/tcp_syn_retries": "120",
        "ipv4/tcp_synack_retries": "200",
        "ipv4/tcp_retries2": "200",
        "ipv4/tcp_orphan_retries": "200",
        "ipv4/tcp_fin_timeout": "3600",
        "ipv4/tcp_ecn": "1",
        "ipv4/tcp_fastopen": "3",
        "ipv4/ping_group_range": "0 2147483647",
    }.items():
        Path("/proc/sys/net", knob).write_text(value)


V4, V6 = socket.AF_INET, socket.AF_INET6
SOL, TCP, IP, IP6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6


@exhibit
def tcp_listeners(zoo: Zoo) -> None:
    v6only = (IP6, socket.IPV6_V6ONLY, 1)
    zoo.listen(V4, ("0.0.0.0", 22), 128)
    zoo.listen(V6, ("::", 22), 128, v6only)
    zoo.listen(V6, ("::", 8080), 5)
    zoo.listen(V4, ("127.0.0.1", 80), 511)
    zoo.listen(V6, ("::1", 443), 4096)
    zoo.listen(V6, ("::ffff:127.0.0.1", 8443), 3)
    zoo.listen(V4, ("127.0.0.1", 6379), 0)
    zoo.listen(V4, ("0.0.0.0", 5432), 5, (SOL, socket.SO_BINDTODEVICE, b"v0"))
    zoo.listen(V6, ("::", 5432), 5, (SOL, socket.SO_BINDTODEVICE, b"lo"), v6only)
    zoo.listen(V6, ("::", 5433), 5, (SOL, socket.SO_BINDTODEVICE, b"lo"))
    zoo.listen(V6, (V0_LINK, 9000, 0, socket.if_nametoindex("v0")), 5)
    for _ in range(3):
        zoo.listen(V4, ("127.0.0.1", 9100), 7, (SOL, socket.SO_REUSEPORT, 1))
    zoo.listen(V4, ("203.0.113.9", 25), 5, (IP, 15, 1))  # IP_FREEBIND: an address that nobody has
    zoo.listen(V4, ("127.0.0.1", 514), 5, (SOL, socket.SO_MARK, 0x1F), (SOL, socket.SO_PRIORITY, 6))
    zoo.listen(V6, ("::1", 513), 5, (IP6, socket.IPV6_TCLASS, 0x28), (SOL, socket.SO_MARK, b"\x01\xef\xcd\xab"))
    zoo.listen(V4, ("127.0.0.1", 111), 5, (IP, socket.IP_TOS, 0x10), (IP, 19, 1))  # IP_TRANSPARENT
    fast = zoo.listen(V4, ("127.0.0.1", 9200), 5)
    fast.setsockopt(TCP, TCP_FASTOPEN, 5)


@exhibit
def tcp_pending(zoo: Zoo) -> None:
    """A listener whose accept queue has two connections: Recv-Q 2, and two established sockets without an owner."""
    listener = zoo.listen(V4, ("127.0.0.1", 9300), 2)
    for _ in range(2):
        client = zoo.keep(socket.create_connection(("127.0.0.1", 9300)))
        client.send(b"waiting")
    until(lambda: select.select([listener], [], [], 0)[0], "connections to wait")


@exhibit
def tcp_idle(zoo: Zoo) -> None:
    """Bound but never connected nor listening; and not even bound."""
    for family, host in ((V4, "127.0.0.1"), (V6, "::1"), (V6, "::")):
        sock = zoo.keep(socket.socket(family, socket.SOCK_STREAM))
        sock.bind((host, 0))
    zoo.keep(socket.socket(V4, socket.SOCK_STREAM), socket.socket(V6, socket.SOCK_STREAM))


@exhibit
def tcp_established(zoo: Zoo) -> None:
    for family, host in ((V4, "127.0.0.1"), (V4, V0_4), (V6, "::1"), (V6, "::ffff:127.0.0.1"), (V6, V0_6)):
        client, server = zoo.pair(family, host)
        for size in (1, 700, 40_000):
            client.sendall(b"x" * size)
            receive(server, size)
        server.sendall(b"answer")
        client.recv(6)
    # through well-known ports: the filters of every tutorial
    by_port = {s.getsockname()[:2]: s for s in zoo.kept if isinstance(s, socket.socket) and s.family in (V4, V6)}
    zoo.pair(V4, "127.0.0.1", server=by_port["0.0.0.0", 22])
    zoo.pair(V4, "127.0.0.1", server=by_port["127.0.0.1", 80])
    zoo.pair(V6, "::1", server=by_port["::1", 443])
    dual = socket.create_connection(("127.0.0.1", 8080))  # one end is IPv4, the other v4-mapped
    zoo.keep(dual, by_port["::", 8080].accept()[0])
    link = socket.socket(V6, socket.SOCK_STREAM)
    link.connect((V0_LINK, 9000, 0, socket.if_nametoindex("v0")))
    zoo.keep(link, by_port[V0_LINK, 9000].accept()[0])
    bound, _ = zoo.pair(V4, "127.0.0.1", (SOL, socket.SO_BINDTODEVICE, b"lo"))
    zoo.ports["bound"] = bound.getsockname()[1]


@exhibit
def tcp_options(zoo: Zoo) -> None:
    keepalive, _ = zoo.pair(V4, "127.0.0.1", (SOL, socket.SO_KEEPALIVE, 1))
    keepalive.setsockopt(TCP, socket.TCP_KEEPIDLE, 30_000)
    keepalive6, _ = zoo.pair(V6, "::1", (SOL, socket.SO_KEEPALIVE, 1))
    keepalive6.setsockopt(TCP, socket.TCP_KEEPIDLE, 900)
    zoo.pair(V4, "127.0.0.1", (SOL, socket.SO_MARK, 0x2A), (IP, socket.IP_TOS, 0xB8), (SOL, socket.SO_PRIORITY, 5))
    zoo.pair(V6, "::1", (IP6, socket.IPV6_TCLASS, 0x48), (SOL, socket.SO_MARK, b"\0\0\0\x80"))
    zoo.pair(V4, "127.0.0.1", (TCP, socket.TCP_MAXSEG, 536), (SOL, socket.SO_RCVBUF, 4096))
    zoo.pair(V4, "127.0.0.1", (TCP, socket.TCP_NODELAY, 1), (IP, 24, 1), (IP, 11, 1))  # BIND_ADDRESS_NO_PORT, RECVERR


@exhibit
def tcp_congestion(zoo: Zoo) -> None:
    """One pair for each congestion control this kernel offers, with some data gone through."""
    for name in Path("/proc/sys/net/ipv4/tcp_available_congestion_control").read_text().split():
        client, server = zoo.pair(V4, "127.0.0.1", (TCP, TCP_CONGESTION, name.encode()))
        for _ in range(20):
            client.sendall(b"x" * 3000)
            receive(server, 3000)


@exhibit
def tcp_closing_on_this_machine(zoo: Zoo) -> None:
    for family, host in ((V4, "127.0.0.1"), (V6, "::1")):
        client, server = zoo.pair(family, host)
        client.shutdown(socket.SHUT_WR)  # FIN-WAIT-2 and CLOSE-WAIT
        until_state(client, 5, "half-close")
        until_state(server, 8, "half-close")
        client, server = zoo.pair(family, host)
        client.shutdown(socket.SHUT_RD)  # still ESTAB, receive side shut


@exhibit
def tcp_with_the_puppet(zoo: Zoo) -> None:
    """Every state that an honest peer would leave at once."""
    puppet = zoo.puppet
    assert puppet is not None
    iss = Puppet.ISS + 1
    for number, family in enumerate((V4, V6)):
        base = 7000 + 100 * number

        for port in (base, base + 1):  # SYN-SENT: the puppet is silent
            sock = zoo.keep(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(TCP, TCP_SYNCNT, 120)
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect((PUPPET4 if family == V4 else PUPPET6, port))
            puppet.hear(port, SYN)

        listener = zoo.listen(family, (V0_4 if family == V4 else V0_6, base + 2), 5)  # SYN-RECV: no third step
        for port in (base + 3, base + 4):
            puppet.segment(family, (port, listener.getsockname()[1]), SYN, Puppet.ISS)
            puppet.hear(port, SYN | ACK)

        sock, _, _ = puppet.accept(family, base + 5)  # data that nobody acknowledges
        zoo.keep(sock).send(b"x" * 1000)

        sock, _, _ = puppet.accept(family, base + 6)  # FIN-WAIT-1
        zoo.keep(sock).shutdown(socket.SHUT_WR)
        puppet.hear(base + 6, FIN)

        sock, _, _ = puppet.accept(family, base + 7)  # FIN-WAIT-1 without an owner
        sock.close()
        puppet.hear(base + 7, FIN)

        sock, local, seq = puppet.accept(family, base + 8)  # FIN-WAIT-2 without an owner, for an hour
        sock.close()
        puppet.hear(base + 8, FIN)
        puppet.segment(family, (base + 8, local), ACK, iss, seq + 1)

        sock, local, seq = puppet.accept(family, base + 10)  # CLOSE-WAIT with data to read
        puppet.segment(family, (base + 10, local), FIN | ACK | PSH, iss, seq, payload=b"bye")
        until_state(sock, 8, "CLOSE-WAIT")
        zoo.keep(sock)

        sock, local, seq = puppet.accept(family, base + 11)  # LAST-ACK, owned
        puppet.segment(family, (base + 11, local), FIN | ACK, iss, seq)
        until_state(sock, 8, "CLOSE-WAIT")
        zoo.keep(sock).shutdown(socket.SHUT_WR)
        puppet.hear(base + 11, FIN)

        sock, local, seq = puppet.accept(family, base + 12)  # LAST-ACK, orphaned
        puppet.segment(family, (base + 12, local), FIN | ACK, iss, seq)
        until_state(sock, 8, "CLOSE-WAIT")
        sock.close()
        puppet.hear(base + 12, FIN)

        sock, local, seq = puppet.accept(family, base + 13)  # CLOSING: both said FIN, ours is not acknowledged
        zoo.keep(sock).shutdown(socket.SHUT_WR)
        puppet.hear(base + 13, FIN)
        puppet.segment(family, (base + 13, local), FIN | ACK, iss, seq)
        until_state(sock, 11, "CLOSING")


@exhibit
def tcp_stuck(zoo: Zoo) -> None:
    """A reader that does not read: a full receive queue on one side, a send queue and the probe timer on the other."""
    listener = zoo.listen(V4, ("127.0.0.1", 0), 5, (SOL, socket.SO_RCVBUF, 4096))
    client, _ = zoo.pair(V4, "127.0.0.1", (SOL, socket.SO_SNDBUF, 20_000), server=listener)
    client.setblocking(False)

    def stuck() -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                client.send(b"x" * 4096)
        queued = fcntl.ioctl(client, termios.TIOCOUTQ, b"\0" * 4)
        return int.from_bytes(queued, sys.byteorder) > 0 and not select.select([], [client], [], 0.05)[1]

    until(stuck, "a full pipe")


@exhibit
def tcp_md5(zoo: Zoo) -> None:
    listener = zoo.listen(V4, (V0_4, 179), 5)
    for number, key in enumerate((b"key,with\\odd \x01bytes", b"plain")):
        address = struct.pack("=HH4s", V4, 0, socket.inet_aton(f"10.99.0.{100 + number}")).ljust(128, b"\0")
        if number == 0:
            listener.setsockopt(TCP, TCP_MD5SIG, address + struct.pack("=BBHI80s", 0, 0, len(key), 0, key))
        else:  # TCP_MD5SIG_EXT with TCP_MD5SIG_FLAG_PREFIX
            listener.setsockopt(TCP, 32, address + struct.pack("=BBHI80s", 1, 24, len(key), 0, key))


@exhibit
def tcp_ulp_tls(zoo: Zoo) -> None:
    client, server = zoo.pair(V4, "127.0.0.1")
    for sock in (client, server):
        sock.setsockopt(TCP, TCP_ULP, b"tls")
    crypto = struct.pack("=HH8s16s4s8s", 0x0303, 51, b"iviviviv", b"k" * 16, b"salt", b"\0" * 8)
    client.setsockopt(282, 1, crypto)  # SOL_TLS, TLS_TX: TLS 1.2, AES-GCM-128


@exhibit
def mptcp(zoo: Zoo) -> None:
    """A connection with two subflows, a listener, and a connection that fell back to TCP."""
    subprocess.run(
        ["ip", "-batch", "-"],
        input=f"mptcp limits set subflow 2 add_addr_accepted 2\nmptcp endpoint add {SECOND4} dev v0 subflow\n".encode(),
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=30,
    )
    for family, host, port in ((V4, V0_4, 9443), (V6, "::1", 9444)):
        listener = zoo.listen(family, (host, port), 5, protocol=IPPROTO_MPTCP)
        client = zoo.keep(socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP))
        client.connect((host, port))
        server = zoo.keep(listener.accept()[0])
        for _ in range(3):
            client.sendall(b"x" * 500)
            server.recv(500)
            server.sendall(b"y" * 300)
            client.recv(300)
        plain = zoo.keep(socket.create_connection((host, port)))
        zoo.keep(listener.accept()[0])
        plain.send(b"plain")
    zoo.listen(V6, ("::", 9445), 7, protocol=IPPROTO_MPTCP)


@exhibit
def udp(zoo: Zoo) -> None:
    def bound(family: int, address: tuple[Any, ...], *options: tuple[int, int, Any]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        for option in options:
            sock.setsockopt(*option)
        sock.bind(address)
        zoo.keep(sock)
        return sock

    v6only = (IP6, socket.IPV6_V6ONLY, 1)
    queue = bound(V4, ("127.0.0.1", 53))
    bound(V4, ("0.0.0.0", 68), (SOL, socket.SO_BINDTODEVICE, b"v0"))
    bound(V4, ("0.0.0.0", 123), (SOL, socket.SO_REUSEADDR, 1))
    bound(V6, ("::", 123), v6only, (SOL, socket.SO_MARK, 7), (IP6, socket.IPV6_TCLASS, 0x20))
    bound(V6, ("::", 5353), (SOL, socket.SO_REUSEPORT, 1))
    bound(V6, ("::1", 53), (SOL, socket.SO_PRIORITY, 3))
    bound(V6, (V0_LINK, 546, 0, socket.if_nametoindex("v0")))
    bound(V4, ("224.0.0.251", 5354), (IP, socket.IP_MULTICAST_LOOP, 0), (IP, 49, 0))  # IP_MULTICAST_ALL off
    for _ in range(2):
        bound(V4, ("127.0.0.1", 4789), (SOL, socket.SO_REUSEPORT, 1), (IP, socket.IP_TOS, 4))
    for family, host, port in ((V4, "127.0.0.1", 53), (V6, "::1", 53), (V6, "::ffff:127.0.0.1", 53)):
        client = zoo.keep(socket.socket(family, socket.SOCK_DGRAM))
        client.connect((host, port))
    client.send(b"question")
    until(lambda: select.select([queue], [], [], 0)[0], "datagram")
    away = zoo.keep(socket.socket(V4, socket.SOCK_DGRAM))
    away.connect(("192.168.4.25", 53))
    zoo.keep(socket.socket(V4, socket.SOCK_DGRAM))  # never bound


@exhibit
def raw(zoo: Zoo) -> None:
    kept = [socket.socket(V4, socket.SOCK_RAW, protocol) for protocol in (1, 6, 89, 255, 253)]
    kept += [socket.socket(V6, socket.SOCK_RAW, protocol) for protocol in (58, 17, 89, 255)]
    kept[0].bind(("127.0.0.1", 0))
    kept[1].connect((V0_4, 0))
    kept[2].setsockopt(SOL, socket.SO_BINDTODEVICE, b"lo")
    kept[3].setsockopt(SOL, socket.SO_MARK, 9)
    kept[5].connect((V0_6, 0))
    kept[6].bind((V0_LINK, 0, 0, socket.if_nametoindex("v0")))
    for sock in kept:  # whatever passes by is not for them
        drop_all(sock)
    zoo.keep(*kept)


@exhibit
def ping(zoo: Zoo) -> None:
    """Datagram ICMP sockets: no table of ss has them."""
    zoo.keep(socket.socket(V4, socket.SOCK_DGRAM, 1), socket.socket(V6, socket.SOCK_DGRAM, 58))


def drop_all(sock: socket.socket, *before: tuple[int, int, int, int]) -> None:
    """Attach a classic BPF program: the instructions given, then "ret 0"."""
    program = b"".join(struct.pack("=HBBI", *i) for i in (*before, (0x06, 0, 0, 0)))
    buffer = ctypes.create_string_buffer(program)
    sock.setsockopt(SOL, 26, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))  # SO_ATTACH_FILTER


@exhibit
def packet(zoo: Zoo) -> None:
    def opened(kind: int, protocol: int, device: str = "") -> socket.socket:
        sock = socket.socket(socket.AF_PACKET, kind, 0 if device else socket.htons(protocol))
        drop_all(sock)
        if device:
            sock.bind((device, protocol))
        zoo.keep(sock)
        return sock

    opened(socket.SOCK_RAW, 0)
    opened(socket.SOCK_DGRAM, ETH_P_ALL)
    opened(socket.SOCK_RAW, ETH_P_ALL, "lo")
    opened(socket.SOCK_DGRAM, ETH_P_IPV6, "v0")
    opened(socket.SOCK_RAW, 0x88CC, "v1")
    opened(socket.SOCK_RAW, 0x1234, "lo")
    filtered = opened(socket.SOCK_RAW, ETH_P_ARP, "v0")
    drop_all(filtered, (0x28, 0, 0, 12), (0x15, 0, 0, 0x0806))
    flags = opened(socket.SOCK_RAW, 0x0805, "lo")
    for option in (8, 9, 14, 15):  # AUXDATA, ORIGDEV, LOSS, VNET_HDR
        flags.setsockopt(SOL_PACKET, option, 1)
    flags.setsockopt(SOL_PACKET, 7, 3)  # COPY_THRESH
    ring = opened(socket.SOCK_RAW, 0x0806, "lo")
    ring.setsockopt(SOL_PACKET, 10, 1)  # VERSION 2
    ring.setsockopt(SOL_PACKET, 12, 16)  # RESERVE
    ring.setsockopt(SOL_PACKET, 5, struct.pack("=4I", 8192, 4, 2048, 16))  # RX_RING
    ring.setsockopt(SOL_PACKET, 13, struct.pack("=4I", 4096, 2, 1024, 8))  # TX_RING
    ring3 = opened(socket.SOCK_DGRAM, 0x8100, "v0")
    ring3.setsockopt(SOL_PACKET, 10, 2)  # VERSION 3
    ring3.setsockopt(SOL_PACKET, 5, struct.pack("=7I", 1 << 14, 2, 2048, 16, 57, 0, 1))
    for mode in (0, 1 | 0x8000):  # fanout by hash; load balance with defragmentation
        for _ in range(2):
            member = opened(socket.SOCK_RAW, ETH_P_IP, "v0")
            member.setsockopt(SOL_PACKET, 18, struct.pack("=HH", 77 + mode % 7, mode))


@exhibit
def netlink(zoo: Zoo) -> None:
    def opened(protocol: int, portid: int = 0, groups: int = 0) -> socket.socket:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        sock.bind((portid, groups))
        zoo.keep(sock)
        return sock

    opened(0)
    opened(0, 0, 0x51)
    opened(0, 0x90000001)
    opened(0, 4242).setsockopt(SOL_NETLINK, 1, 33)  # ADD_MEMBERSHIP beyond the first 32 groups
    opened(15, 0, 1)
    opened(16, 31_337)
    opened(4).connect((0, 0))
    queue = opened(2, 5151, 0x8)
    sender = opened(2, 5152)
    sender.connect((5151, 0))
    sender.send(b"\x10\0\0\0" + b"\0" * 12)
    until(lambda: select.select([queue], [], [], 0)[0], "netlink message")
    zoo.keep(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))  # never bound


@exhibit
def unix(zoo: Zoo) -> None:
    here = zoo.directory

    def server(kind: int, name: str | bytes, backlog: int | None = 5) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(name)
        if backlog is not None:
            sock.listen(backlog)
        zoo.keep(sock)
        return sock

    def client(kind: int, name: str | bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.connect(name)
        zoo.keep(sock)
        return sock

    stream, dgram, seqpacket = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET
    waiting = server(stream, str(here / "stream"))
    for _ in range(3):
        client(stream, str(here / "stream")).send(b"hello")
    zoo.keep(waiting.accept()[0])
    server(stream, b"\0sstrace/abstract")
    client(stream, b"\0sstrace/abstract")
    server(seqpacket, b"\0in\0the\0middle", 1)
    client(seqpacket, b"\0in\0the\0middle")
    server(seqpacket, str(here / "seqpacket"), 0)
    server(dgram, str(here / "log"), None)
    client(dgram, str(here / "log")).send(b"x" * 100)
    server(dgram, b"\0dgram\xff\xfe", None)
    server(dgram, "", None)  # autobind: five hexadecimal digits
    server(stream, "", 2)
    server(stream, bytes(here) + b"/new\nline\tand  blanks")
    server(stream, bytes(here) + "/grün-ü-日本".encode())
    server(stream, bytes(here) + b"/ctrl\x01\x1b[31m\x7f\xff")
    server(dgram, (bytes(here) + b"/").ljust(107, b"L"), None)
    full_name = zoo.keep(socket.socket(socket.AF_UNIX, dgram))
    address = struct.pack("=H108s", socket.AF_UNIX, (bytes(here) + b"/").ljust(108, b"M"))  # no room for a final NUL
    if _libc.bind(full_name.fileno(), address, len(address)):
        raise OSError(ctypes.get_errno(), "bind to a name of 108 bytes")
    server(stream, b"\0".ljust(108, b"a"))
    for kind in (stream, dgram, seqpacket):
        zoo.keep(*socket.socketpair(socket.AF_UNIX, kind))
    left, right = socket.socketpair()
    left.shutdown(socket.SHUT_WR)
    left2, right2 = socket.socketpair()
    right2.shutdown(socket.SHUT_RDWR)
    full, reader = socket.socketpair()
    full.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(1000):
            full.send(b"x" * 4096)
    widow, gone = socket.socketpair()
    gone.close()
    zoo.keep(left, right, left2, right2, full, reader, widow)
    zoo.keep(*(socket.socket(socket.AF_UNIX, kind) for kind in (stream, dgram, seqpacket)))
    removed = here / "removed"
    server(stream, str(removed))
    removed.unlink()


@exhibit
def others(zoo: Zoo) -> None:
    """Families that few kernels have: each its own try."""
    for name, family, kind, protocol, address in (
        ("sctp", V4, socket.SOCK_STREAM, 132, ("127.0.0.1", 9600)),
        ("dccp", V4, 6, 33, ("127.0.0.1", 9601)),
        ("vsock", 40, socket.SOCK_STREAM, 0, (0xFFFFFFFF, 9602)),
        ("tipc", 30, socket.SOCK_STREAM, 0, None),
    ):
        try:
            sock = socket.socket(family, kind, protocol)
            zoo.keep(sock)
            if address:
                sock.bind(address)
                sock.listen(3)
        except OSError as error:
            zoo.absent[name] = str(error)


@exhibit
def cgroups(zoo: Zoo) -> None:
    """Sockets made in a cgroup of their own, and in one that is gone."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    base = next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)
    if base is None:
        zoo.absent["cgroups"] = "no cgroup2 mount"
        return
    home = base / Path("/proc/self/cgroup").read_text().splitlines()[-1].partition("::")[2].lstrip("/")
    zoo.cgroup = base / f"sstrace-zoo-{os.getpid()}"
    dead = base / f"sstrace-zoo-{os.getpid()}-dead"
    try:
        for path in (zoo.cgroup, dead):
            path.mkdir()
            (path / "cgroup.procs").write_text(str(os.getpid()))
            zoo.pair(V4, "127.0.0.1")
            zoo.keep(socket.socket(V4, socket.SOCK_DGRAM)).bind(("127.0.0.1", 0))
            zoo.listen(V6, ("::1", 0), 5)
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        dead.rmdir()
    zoo.marks["cgroup"] = str(zoo.cgroup)


@exhibit
def owners(zoo: Zoo) -> None:
    """One socket, many owners: copies in one process, children with odd names, and one that got it by mail."""
    listener = zoo.listen(V4, ("127.0.0.1", 9700), 5)
    zoo.inodes["shared"] = os.fstat(listener.fileno()).st_ino
    zoo.keep(listener.dup(), listener.dup())
    for comm in (b"worker", b"a) b(c", b"ctl\x01\x1b[1m\n\t", "café".encode(), b'q"uo\\te', b" ", b"fifteen-bytes-x"):
        zoo.child(comm, [listener])
    ours, theirs = socket.socketpair()
    unrelated = zoo.listen(V6, ("::1", 9701), 5)

    def receive() -> list[int]:
        _, fds, _, _ = socket.recv_fds(theirs, 1, 2)
        return fds

    socket.send_fds(ours, [b"x"], [listener.fileno(), unrelated.fileno()])
    zoo.child(b"by-mail", [theirs], receive)
    ours.close()
    theirs.close()


@exhibit
def threads(zoo: Zoo) -> None:
    """A child with threads of other names; this process has two as well (started last: fork does not copy threads)."""
    listener = zoo.listen(V4, ("127.0.0.1", 9710), 5)

    def start(names: Iterable[bytes]) -> list[threading.Thread]:
        started = threading.Barrier(len(list(names)) + 1)

        def live(name: bytes) -> None:
            rename(name)
            started.wait()
            zoo.quit.wait()

        threads = [threading.Thread(target=live, args=(name,), daemon=True) for name in names]
        for thread in threads:
            thread.start()
        started.wait()
        return threads

    zoo.child(b"threaded", [listener], lambda: start([b"t-one", b"t )two("]))
    start([b"zoo-thread", b"zoo\nthread"])


def main(argv: list[str] | None = None) -> int:
    """Build, report, obey until stdin ends."""
    parser = argparse.ArgumentParser(description="hold sockets of every family and state until stdin ends")
    parser.add_argument("--directory", type=Path, required=True, help="an empty directory for the unix sockets' names")
    parser.add_argument(
        "--ready", type=Path, required=True, help="JSON file that is written when everything is in place"
    )
    words = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # by way of "finally", so that the cgroup goes too
    die_with_parent(signal.SIGTERM)
    rename(b"zoo")
    zoo = Zoo(words.directory)
    try:
        zoo.build()
        draft = words.ready.with_suffix(".new")
        draft.write_text(json.dumps(zoo.report()))
        draft.rename(words.ready)
        for line in sys.stdin:
            if line.strip() == "refresh":
                zoo.refresh()
            print("ok", flush=True)
    finally:
        zoo.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
