"""The states of a socket, by the kernel's numbers and in ss's words; the roles of a connection's ends."""

import enum
from typing import Literal

__all__ = [
    "ALL_STATES",
    "STATE_TEXT",
    "FamilyName",
    "Role",
    "State",
    "StateName",
]


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

FamilyName = Literal["inet", "inet6", "unix", "packet", "netlink", "vsock", "tipc", "xdp"]
"""What lines call an address family."""

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
