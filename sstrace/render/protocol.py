"""What ss calls a protocol and its timers."""

from sstrace.dialect import Dialect
from sstrace.model import InetSocket
from sstrace.protocols import (
    DIAG_PROTOCOL,
    IPPROTO_DCCP,
    IPPROTO_SCTP,
    NETID_OF_NUMBER,
    OF_TABLE,
    UNNAMED,
)
from sstrace.render.common import duration, signed

__all__ = ["netid", "protocol_of", "tcp_timer", "timer", "timer_item", "timer_name"]

_TIMERS = ("off", "on", "keepalive", "timewait", "persist", "unknown")


def netid(socket: InetSocket, dialect: Dialect) -> str:
    """Text of the Netid column: the protocol the kernel names, else that of the table; ``???`` when it has no
    name.
    """
    protocol = protocol_of(socket)
    return NETID_OF_NUMBER.get(protocol, UNNAMED) if protocol != IPPROTO_DCCP or dialect.dccp else UNNAMED


def protocol_of(socket: InetSocket) -> int:
    """The IP protocol that the kernel names, else what was asked for."""
    extras = socket.extras
    if extras is not None and extras.protocol is not None:
        return extras.protocol
    if socket.proc is None:
        return DIAG_PROTOCOL[socket.table]  # of raw sockets IPPROTO_RAW, which has no name
    return OF_TABLE[socket.table].number


def timer_name(socket: InetSocket, dialect: Dialect) -> str:
    """What ss calls the timer that runs."""
    if protocol_of(socket) == IPPROTO_SCTP:
        return "T3_RTX"
    return tcp_timer(socket.timer, dialect)


def tcp_timer(number: int, dialect: Dialect) -> str:
    """What ss calls a timer, unless it is SCTP's."""
    return "delack" if number == 5 and dialect.timer_delack else _TIMERS[min(number, 5)]


def timer(socket: InetSocket, dialect: Dialect) -> str:
    """The ``timer:(…)`` item, or nothing when no timer runs."""
    if socket.partial:
        return " timer:-"
    if not socket.timer:
        return ""
    return timer_item(timer_name(socket, dialect), socket.expires_ms, socket.retrans, dialect)


def timer_item(name: str, expires_ms: int, retrans: int, dialect: Dialect) -> str:
    """The item of a timer that runs."""
    return f" timer:({name},{duration(expires_ms, sec_bug=dialect.timer_sec_bug)},{signed(retrans)})"
