"""The life of an MPTCP socket, as one transition table.

Theory. An MPTCP connection is a socket of its own, and the TCP sockets below it, its subflows, which come and go and
have lives as lifecycle.tcp says. Its own socket is one kernel object from its birth to its end, has the states of TCP,
and reports each, its last included, by the tracepoint that TCP's do. It has no timewait socket, and no request socket:
where it is called, it comes into being with the first subflow's child, established (net/mptcp/protocol.c:
mptcp_sk_clone_init).

ss shows it from connect(2) or listen(2), or from that birth, for as long as it has a token (net/mptcp/token.c): until
its owner has closed it and its last state is CLOSE, whichever comes later. So one that is over, and that somebody still
holds, is UNCONN. connect(2) with AF_UNSPEC takes the token, and so do shutdown(2) of what connects, a connect(2) that
fails at once, and an MP_FASTCLOSE that comes.

``STEPS`` tells what a report means for the row; every report passes through it (sstrace.table.multipath).
``TRANSITIONS`` are the changes that users can see. The diagrams in the documentation are drawn from both.

Of two rules the first whose guard holds is the one; the last has none.
"""

from typing import Any, Final

from sstrace.lifecycle.udp import UNSEEN
from sstrace.lifecycle.words import Report, Rule, Step
from sstrace.model import Changed, Kind, State

__all__ = ["STEPS", "TRANSITIONS", "may_end"]

_S = State
_DISCONNECTED = frozenset(("disconnected", "abandoned"))
"""Causes of an end that takes the token with it, a moment after it is told: connect(2) with AF_UNSPEC, and shutdown(2)
of what connects.
"""


# Guards.


def is_held(row: Any, fact: Changed, _sight: object) -> bool:
    """A process still holds the socket, or a listener's queue does, and ss shows it."""
    if row.state == _S.LISTEN or fact.forgotten or fact.cause in _DISCONNECTED:
        return False
    waits = fact.ino is None and fact.owner is None and fact.old in (_S.ESTABLISHED, _S.CLOSE_WAIT)
    return waits or not fact.orphaned


def is_over(row: Any, fact: Changed, sight: object) -> bool:
    """That is known, and somebody holds it."""
    return row.state == _S.CLOSE and is_held(row, fact, sight)


def has_ended(_row: object, fact: Changed, _sight: object) -> bool:
    """It was over before."""
    return fact.old == _S.CLOSE


def is_forgotten(_row: object, fact: Changed, _sight: object) -> bool:
    """It has no token (any more)."""
    return fact.forgotten


def is_where_it_was(row: Any, fact: Changed, _sight: object) -> bool:
    """The row says of the socket what the report does."""
    ends = row.src, row.sport, row.dst, row.dport
    return row.state == fact.new and ends == (fact.src, fact.sport, fact.dst, fact.dport)


_UNHEARD = Rule(Step.BIRTH, "what it did before was not heard")

STEPS: Final[dict[tuple[Report, Kind | None], tuple[Rule, ...]]] = {
    (Report.OPENS, None): (Rule(Step.BIRTH, "connect() or listen()"),),
    (Report.OPENS, Kind.SOCKET): (Rule(Step.MOVE, "its owner uses it again"),),
    (Report.CHILD, None): (Rule(Step.BIRTH, "the handshake of its first subflow is done"),),
    (Report.MOVES, None): (Rule(Step.NOTHING, "ss does not show it", is_forgotten), _UNHEARD),
    (Report.MOVES, Kind.SOCKET): (
        Rule(Step.END, "it does without MPTCP from here on (net/mptcp/protocol.c: mptcp_early_fallback)", is_forgotten),
        Rule(Step.MOVE, "call by call, and FIN by FIN of the connection"),
    ),
    (Report.REPEATS, None): (_UNHEARD,),
    (Report.REPEATS, Kind.SOCKET): (
        Rule(Step.REPEAT, "it is where it was", is_where_it_was),
        Rule(Step.MOVE, "it has its addresses since"),
    ),
    (Report.CLOSES, None): (
        Rule(Step.NOTHING, "closed once more", has_ended),
        Rule(Step.END_OF_STRANGER, "nobody has met it"),
    ),
    (Report.CLOSES, Kind.SOCKET): (
        Rule(Step.REPEAT, "it was over before, and is not closed", is_over),
        Rule(Step.MOVE, "it is over, and not closed", is_held),
        Rule(Step.END, "it is over, and nobody holds it"),
    ),
}
"""(what is reported, the sort of object that holds the row; None: there is no row) → rules. There are no others."""

_CLOSED: Final = "it is over, and close()d"
_OVER: Final = "it is over, and not close()d"

TRANSITIONS: Final[dict[int, dict[int, str]]] = {
    UNSEEN: {
        _S.LISTEN: "listen()",
        _S.SYN_SENT: "connect()",
        _S.ESTABLISHED: "a connection came",
    },
    _S.CLOSE: {
        _S.SYN_SENT: "connect() once more",
        UNSEEN: "close(), or connect() with AF_UNSPEC",
    },
    _S.LISTEN: {UNSEEN: "close()"},
    _S.SYN_SENT: {
        _S.ESTABLISHED: "the first subflow stands",
        _S.CLOSE: "refused, timed out",
        UNSEEN: "given up, or connect() has failed",
    },
    _S.ESTABLISHED: {
        _S.FIN_WAIT1: "close() or shutdown(): DATA_FIN sent",
        _S.CLOSE_WAIT: "DATA_FIN came",
        _S.CLOSE: "reset, killed",
        UNSEEN: "close() with data unread, connect() with AF_UNSPEC",
    },
    _S.FIN_WAIT1: {
        _S.FIN_WAIT2: "our DATA_FIN was acknowledged",
        _S.CLOSING: "DATA_FIN came first",
        _S.CLOSE: _OVER,
        UNSEEN: _CLOSED,
    },
    _S.FIN_WAIT2: {
        _S.CLOSE: "DATA_FIN came, and it is not close()d",
        UNSEEN: "DATA_FIN came, or nobody waits for it any more",
    },
    _S.CLOSING: {
        _S.CLOSE: _OVER,
        UNSEEN: _CLOSED,
    },
    _S.CLOSE_WAIT: {
        _S.LAST_ACK: "close() or shutdown(): DATA_FIN sent",
        _S.CLOSE: _OVER,
        UNSEEN: _CLOSED,
    },
    _S.LAST_ACK: {
        _S.CLOSE: "our DATA_FIN was acknowledged, and it is not close()d",
        UNSEEN: "our DATA_FIN was acknowledged",
    },
}
"""Old state → new state → what brings it about."""


def may_end(old: int) -> bool:
    """Whether a connection ends where ss shows the socket no more that was in this state."""
    return old != _S.LISTEN
