"""Sockets outside of the internet's families, in the coordinates that a row of the live table has, and back.

A row has two ends, each a name and a number. What these are is each family's own::

    family    src               sport             dst               dport
    unix      its name          its inode         its peer's name   its peer's inode
    packet                      Ethernet protocol
    netlink   netlink protocol  port id           group             port id of its peer
    vsock     context id        port              its peer's        its peer's
    xdp                         queue

The device that one is bound to is the row's. Names are bytes: a unix socket's own, which begins with NUL where it is
abstract, else decimal digits; b"" is none. Numbers are unsigned. What no look at the kernel shows of one socket by
itself, the name of a unix socket's peer, is None, and is learnt from its peer's row.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol

from sstrace.model import (
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    AF_VSOCK,
    AF_XDP,
    NetlinkSocket,
    PacketSocket,
    Socket,
    UnixSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.plain import spelled
from sstrace.protocols import NETID_OF_TYPE, NUMBER_OF_NETID, TABLE_OF_NUMBER

__all__ = ["Connected", "Found", "Lying", "found", "name_of", "name_text", "socket_at", "spelling"]

_TYPE: Final = 0xFFFF
"""Of ``protocols.Protocol.number``: SOCK_*."""
_ANY: Final = 0xFFFFFFFF


class Found(NamedTuple):
    """A socket as a look shows it."""

    family: int
    protocol: int
    """See ``protocols.Protocol.number``."""
    state: int
    src: bytes
    sport: int
    dst: bytes | None
    dport: int
    ifindex: int
    ino: int
    uid: int | None
    """None where the kernel does not tell."""
    cookie: int


class Connected(Protocol):
    """The addresses and ports of a row."""

    @property
    def src(self) -> bytes: ...
    @property
    def sport(self) -> int: ...
    @property
    def dst(self) -> bytes: ...
    @property
    def dport(self) -> int: ...


class Lying(Connected, Protocol):
    """What is read of a row."""

    @property
    def family(self) -> int: ...
    @property
    def protocol(self) -> int: ...
    @property
    def state(self) -> int: ...
    @property
    def ifindex(self) -> int: ...
    @property
    def ino(self) -> int: ...
    @property
    def uid(self) -> int | None: ...
    @property
    def cookie(self) -> int | None: ...


def found(socket: Socket) -> Found | None:
    """The coordinates of a socket; None where it is of no protocol that has a name (a vsock seqpacket socket)."""
    netid = NETID_OF_TYPE.get((socket.family, getattr(socket, "type", None)))
    if netid is None:
        return None
    src, sport, dst, dport = _ENDS[socket.family](socket)
    return Found(
        socket.family, NUMBER_OF_NETID[netid], socket.state, src, sport, dst, dport, getattr(socket, "ifindex", 0),
        socket.ino, getattr(socket, "uid", None), socket.cookie,
    )  # fmt: skip


def _of_unix(socket: UnixSocket) -> tuple[bytes, int, bytes | None, int]:
    return socket.name, socket.ino, None, socket.peer_ino


def _of_packet(socket: PacketSocket) -> tuple[bytes, int, bytes, int]:
    return b"", socket.protocol, b"", 0


def _of_netlink(socket: NetlinkSocket) -> tuple[bytes, int, bytes, int]:
    peer = (b"%d" % socket.dst_group, socket.dst_portid & _ANY) if socket.connected else (b"", 0)
    return b"%d" % socket.protocol, socket.portid & _ANY, *peer


def _of_vsock(socket: VsockSocket) -> tuple[bytes, int, bytes, int]:
    return b"%d" % socket.src_cid, socket.sport, b"%d" % socket.dst_cid, socket.dport


def _of_xdp(socket: XdpSocket) -> tuple[bytes, int, bytes, int]:
    return b"", socket.queue_id, b"", 0


_ENDS: Mapping[int, Callable[[Any], tuple[bytes, int, bytes | None, int]]] = {
    AF_UNIX: _of_unix,
    AF_PACKET: _of_packet,
    AF_NETLINK: _of_netlink,
    AF_VSOCK: _of_vsock,
    AF_XDP: _of_xdp,
}


def socket_at(row: Lying, *, partial: bool = False) -> Socket:
    """A row as a socket of its family, which filters and cell makers take. What a row does not hold (queues, memory, a
    netlink socket's groups) is 0 or None; ``partial`` has renderers say so.
    """
    shared = {
        "table": TABLE_OF_NUMBER[row.protocol],
        "family": row.family,
        "state": row.state,
        "ino": row.ino,
        "cookie": row.cookie or 0,
        "partial": partial,
    }
    return _SOCKETS[row.family](row, shared)


def _unix(row: Lying, shared: dict[str, Any]) -> UnixSocket:
    return UnixSocket(**shared, type=row.protocol & _TYPE, name=row.src, peer_ino=row.dport, uid=row.uid)


def _packet(row: Lying, shared: dict[str, Any]) -> PacketSocket:
    return PacketSocket(**shared, type=row.protocol & _TYPE, protocol=row.sport, ifindex=row.ifindex, uid=row.uid or 0)


def _netlink(row: Lying, shared: dict[str, Any]) -> NetlinkSocket:
    return NetlinkSocket(
        **shared, protocol=int(row.src or 0), portid=_signed(row.sport), dst_portid=_signed(row.dport),
        dst_group=int(row.dst or 0), connected=bool(row.dst),
    )  # fmt: skip


def _vsock(row: Lying, shared: dict[str, Any]) -> VsockSocket:
    return VsockSocket(
        **shared, type=row.protocol & _TYPE, src_cid=int(row.src or _ANY), sport=row.sport,
        dst_cid=int(row.dst or _ANY), dport=row.dport,
    )  # fmt: skip


def _xdp(row: Lying, shared: dict[str, Any]) -> XdpSocket:
    return XdpSocket(**shared, ifindex=row.ifindex, queue_id=row.sport, uid=row.uid or 0)


_SOCKETS: Mapping[int, Callable[[Lying, dict[str, Any]], Socket]] = {
    AF_UNIX: _unix,
    AF_PACKET: _packet,
    AF_NETLINK: _netlink,
    AF_VSOCK: _vsock,
    AF_XDP: _xdp,
}


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number


def spelling(name: bytes) -> bytes:
    """The name of an end as ss and lines have it: @ for each NUL of an abstract one."""
    return name.replace(b"\0", b"@")


def name_text(name: bytes) -> str:
    """The same as text."""
    return spelled(spelling(name))


def name_of(text: str) -> bytes:
    """The same backwards: a path that begins with @ looks like an abstract name, to ss as well."""
    name = text.encode(errors="surrogateescape")
    return b"\0" + name[1:] if name[:1] == b"@" else name
