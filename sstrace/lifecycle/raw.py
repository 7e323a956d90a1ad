"""The life of a raw socket, as one transition table.

Theory. A raw socket is shown from its birth, for its port is its protocol (net/ipv4/af_inet.c: inet_create), to its
end, or to the first connect(2) with AF_UNSPEC, which takes it out of the table for ever (net/ipv4/udp.c:
__udp_disconnect). Between the two it is UNCONN, or ESTAB while it has a peer; bind(2) gives it an address, and no
other state. ``STEPS`` and ``TRANSITIONS`` are as in lifecycle.udp, whose words and guards these are.
"""

from typing import Final

from sstrace.lifecycle.udp import UNSEEN, has_no_port, is_as_it_was
from sstrace.lifecycle.words import Rule, Step
from sstrace.model import Call, Kind, State

__all__ = ["STEPS", "TRANSITIONS"]

_KNOWN = Rule(Step.REPEAT, "it failed, or changed nothing", is_as_it_was)

STEPS: Final[dict[tuple[Call, Kind | None], tuple[Rule, ...]]] = {
    (Call.CREATE, None): (Rule(Step.BIRTH, "its port is its protocol"),),
    (Call.CREATE, Kind.SOCKET): (Rule(Step.REPEAT, "a sweep has met it since"),),
    (Call.BIND, None): (Rule(Step.BIRTH, "what it did before was not heard"),),
    (Call.BIND, Kind.SOCKET): (_KNOWN, Rule(Step.MOVE, "it has an address")),
    (Call.CONNECT, None): (
        Rule(Step.NOTHING, "AF_UNSPEC, once more", has_no_port),
        Rule(Step.BIRTH, "what it did before was not heard"),
    ),
    (Call.CONNECT, Kind.SOCKET): (
        Rule(Step.END, "AF_UNSPEC takes it out of the kernel's table", has_no_port),
        _KNOWN,
        Rule(Step.MOVE, "it has a peer, or another peer"),
    ),
    (Call.CLOSE, None): (Rule(Step.END_OF_STRANGER, "nobody has met it"),),
    (Call.CLOSE, Kind.SOCKET): (Rule(Step.END, "the last descriptor is closed, by whatever ended its owner"),),
}
"""(the call, the sort of object that holds the row; None: there is no row) → rules. There are no others."""

_S = State
TRANSITIONS: Final[dict[int, dict[int, str]]] = {
    UNSEEN: {
        _S.CLOSE: "socket()",
    },
    _S.CLOSE: {
        _S.CLOSE: "bind()",
        _S.ESTABLISHED: "connect()",
        UNSEEN: "close(), or connect() with AF_UNSPEC",
    },
    _S.ESTABLISHED: {
        _S.ESTABLISHED: "connect() to another peer",
        UNSEEN: "close(), or connect() with AF_UNSPEC",
    },
}
"""Old state → new state → what brings it about."""
