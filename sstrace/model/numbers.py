"""The kernel's numbers: families, types, states; and ss's tables."""

import _socket  # what socket is made of; socket itself takes a millisecond to import
import enum
from typing import Literal

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    "AF_PACKET",
    "AF_TIPC",
    "AF_UNIX",
    "AF_UNSPEC",
    "AF_VSOCK",
    "AF_XDP",
    "ALL_STATES",
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_RDM",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "STATE_TEXT",
    "Reason",
    "Role",
    "State",
    "StateName",
    "Table",
]

# Address families: the kernel's numbers, include/linux/socket.h. Written out so that the pure rooms run anywhere.
AF_UNSPEC = 0
AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10
AF_NETLINK = 16
AF_PACKET = 17
AF_TIPC = 30
AF_VSOCK = 40
AF_XDP = 44

SOCK_STREAM: int = _socket.SOCK_STREAM
SOCK_DGRAM: int = _socket.SOCK_DGRAM
SOCK_RAW: int = _socket.SOCK_RAW
SOCK_RDM: int = _socket.SOCK_RDM
SOCK_SEQPACKET: int = _socket.SOCK_SEQPACKET


class State(enum.IntEnum):
    """TCP states by the kernel's numbers, include/net/tcp_states.h. Every family borrows them, as sock_diag does."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12
    BOUND_INACTIVE = 13


ALL_STATES = (1 << 14) - 1
"""The mask of every state bit, bit n for state n; bit 0 is ss's UNKNOWN."""

Role = Literal["client", "server"]
"""Which end of a connection connected, and which accepted."""

Reason = Literal["slow-reader", "disk-full"]
"""Why lines are missing."""

StateName = Literal[
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "UNDEF",
]

STATE_TEXT: tuple[StateName, ...] = (
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "UNDEF",
    "UNDEF",
)
"""ss's State column by state number; ss prints UNCONN where the kernel says CLOSE."""


class Table(enum.IntEnum):
    """ss's socket tables (its ``-A`` names), each a bit in a selection's table mask."""

    TCP = 0
    MPTCP = 1
    DCCP = 2
    UDP = 3
    RAW = 4
    UNIX_DGRAM = 5
    UNIX_STREAM = 6
    UNIX_SEQPACKET = 7
    PACKET_DGRAM = 8
    PACKET_RAW = 9
    NETLINK = 10
    SCTP = 11
    VSOCK_STREAM = 12
    VSOCK_DGRAM = 13
    TIPC = 14
    XDP = 15
