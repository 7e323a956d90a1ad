"""The life of a UDP socket, as one transition table.

Theory. A datagram socket is one kernel object from its birth to its end, and only its owner's system calls change it.
ss shows it from when it has a port until it has none any more: bind(2) gives it one, or the first send, or connect(2);
close(2) takes it, and so does connect(2) with AF_UNSPEC where the kernel had chosen it. Between the two it is UNCONN,
or ESTAB while it has a peer (net/ipv4/datagram.c: __ip4_datagram_connect; net/ipv4/udp.c: __udp_disconnect). What
comes from that peer, or whether there is one, is no matter of its state.

A report tells which call was made, and how the socket is since. ``STEPS`` tells what that means for the row; every
report passes through it (sstrace.table.datagrams). ``TRANSITIONS`` are the changes that users can see. The diagrams in
the documentation are drawn from both.

Of two rules the first whose guard holds is the one; the last has none.
"""

from typing import Final, Protocol

from sstrace.lifecycle.words import Rule, Step
from sstrace.model import Call, Called, Kind, State

__all__ = ["STEPS", "TRANSITIONS", "UNSEEN"]

UNSEEN: Final = 0
"""Where a state stands: ss does not show the socket. ss's own UNKNOWN, in which no socket is."""


class Bound(Protocol):
    """What rules may know of a row."""

    state: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ifindex: int


# Guards.


def has_no_port(_row: Bound | None, fact: Called, _sight: object) -> bool:
    """The socket has no port (any more): ss does not show it."""
    return fact.sport == 0


def is_as_it_was(row: Bound | None, fact: Called, _sight: object) -> bool:
    """The row says of the socket what the report does."""
    return (
        row is not None
        and (row.state, row.sport, row.dport, row.ifindex) == (fact.state, fact.sport, fact.dport, fact.ifindex)
        and (row.src, row.dst) == (fact.src, fact.dst)
    )


_KNOWN = Rule(Step.REPEAT, "a sweep has met it since, or it told before", is_as_it_was)
_UNHEARD = Rule(Step.MOVE, "what it did before was not heard")

STEPS: dict[tuple[Call, Kind | None], tuple[Rule, ...]] = {
    (Call.BIND, None): (Rule(Step.BIRTH, "it has a port"),),
    (Call.BIND, Kind.SOCKET): (_KNOWN, _UNHEARD),
    (Call.SEND, None): (Rule(Step.BIRTH, "the kernel has chosen a port for it"),),
    (Call.SEND, Kind.SOCKET): (_KNOWN, _UNHEARD),
    (Call.CONNECT, None): (
        Rule(Step.NOTHING, "it failed before there was a port; or AF_UNSPEC, and nothing to dissolve", has_no_port),
        Rule(Step.BIRTH, "the kernel has chosen a port for it; a peer it has only where the call succeeded"),
    ),
    (Call.CONNECT, Kind.SOCKET): (
        Rule(Step.END, "AF_UNSPEC, and the kernel had chosen its port", has_no_port),
        Rule(Step.REPEAT, "it failed, or named the same peer", is_as_it_was),
        Rule(Step.MOVE, "it has a peer, another peer, or with AF_UNSPEC none"),
    ),
    (Call.CLOSE, None): (Rule(Step.END_OF_STRANGER, "nobody has met it"),),
    (Call.CLOSE, Kind.SOCKET): (Rule(Step.END, "the last descriptor is closed, by whatever ended its owner"),),
}
"""(the call, the sort of object that holds the row; None: there is no row) → rules. There are no others."""

_S = State
TRANSITIONS: dict[int, dict[int, str]] = {
    UNSEEN: {
        _S.CLOSE: "bind(), or the first send",
        _S.ESTABLISHED: "connect()",
    },
    _S.CLOSE: {
        _S.ESTABLISHED: "connect()",
        UNSEEN: "close(), or AF_UNSPEC where the kernel had chosen the port",
    },
    _S.ESTABLISHED: {
        _S.ESTABLISHED: "connect() to another peer",
        _S.CLOSE: "connect() with AF_UNSPEC",
        UNSEEN: "close(), or AF_UNSPEC where the kernel had chosen the port",
    },
}
"""Old state → new state → what brings it about."""
