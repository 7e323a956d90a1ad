"""The life of a unix socket, as one transition table.

Theory. A unix socket is one kernel object from its birth to its end, and ss shows it for as long as a file is there to
hold it: one that waits in a listener's queue for accept(2) has none, and is not shown (net/unix/diag.c: sk_diag_dump).
It is UNCONN, LISTEN, or ESTAB. A stream or seqpacket socket stays ESTAB when its peer is closed: it has no peer then,
and neither has it one while the connection that it has made waits for accept(2). A datagram socket is connected by its
owner alone (net/unix/af_unix.c: unix_dgram_connect).

No hook tells all of that: it is looked for, as lifecycle.swept says. Where the tracepoints of system calls can be had,
bind(2), listen(2), connect(2), accept(2) and close(2) are told of besides, as they happen. ``STEPS`` and
``TRANSITIONS`` are as there, and every report passes through the former (sstrace.table.swept).
"""

from typing import Final

from sstrace.coordinates import Found
from sstrace.lifecycle.swept import UNSEEN, Look, is_as_it_was
from sstrace.lifecycle.udp import Bound
from sstrace.lifecycle.words import Rule, Step
from sstrace.model import Kind, State

__all__ = ["STEPS", "TRANSITIONS"]


# Guards.


def has_lost_its_peer(row: Bound | None, fact: Found, _sight: object) -> bool:
    """It had a peer, and has none."""
    return row is not None and row.state == fact.state and row.dport != 0 and fact.dport == 0


def has_found_its_peer(row: Bound | None, fact: Found, _sight: object) -> bool:
    """It is connected as before, and now there is somebody at the other end."""
    return row is not None and row.state == fact.state and row.dport == 0 and fact.dport != 0


STEPS: Final[dict[tuple[Look, Kind | None], tuple[Rule, ...]]] = {
    (Look.SHOWN, None): (Rule(Step.BIRTH, "it has come since the look before"),),
    (Look.SHOWN, Kind.SOCKET): (
        Rule(Step.REPEAT, "nothing of it has changed", is_as_it_was),
        Rule(Step.MOVE, "the other end is closed, or passed to nobody", has_lost_its_peer),
        Rule(Step.MOVE, "what it has called has been accepted", has_found_its_peer),
        Rule(Step.MOVE, "bind(), listen() or connect()"),
    ),
    (Look.MISSING, Kind.SOCKET): (Rule(Step.END, "nobody holds it any more, in no process and in no message"),),
    (Look.CALLED, None): (Rule(Step.BIRTH, "the first that is heard of it"),),
    (Look.CALLED, Kind.SOCKET): (
        Rule(Step.REPEAT, "a look has found it so", is_as_it_was),
        Rule(Step.MOVE, "bind(), listen() or connect(); or what it has called has been accepted"),
    ),
    (Look.CLOSED, None): (Rule(Step.PASS, "nobody has met it"),),
    (Look.CLOSED, Kind.SOCKET): (Rule(Step.END, "close() of the last descriptor"),),
}
"""(what a look shows, the sort of object that holds the row; None: there is no row) → rules. There are no others."""

_S = State
_CLOSED: Final = "close() of the last descriptor"
TRANSITIONS: Final[dict[int, dict[int, str]]] = {
    UNSEEN: {
        _S.CLOSE: "socket()",
        _S.LISTEN: "listen()",
        _S.ESTABLISHED: "connect(), accept() or socketpair()",
    },
    _S.CLOSE: {
        _S.CLOSE: "bind(), or connect() of a datagram socket",
        _S.LISTEN: "listen()",
        _S.ESTABLISHED: "connect()",
        UNSEEN: _CLOSED,
    },
    _S.LISTEN: {
        UNSEEN: _CLOSED,
    },
    _S.ESTABLISHED: {
        _S.ESTABLISHED: "it has been accepted, or the other end is closed",
        _S.CLOSE: "connect() of a datagram socket with AF_UNSPEC",
        UNSEEN: _CLOSED,
    },
}
"""Old state → new state → what brings it about."""
