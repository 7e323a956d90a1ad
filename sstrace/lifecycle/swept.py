"""The life of a socket that tells nothing, as one transition table.

Theory. Of packet, netlink, vsock and XDP sockets no hook tells that every kernel has. They are looked for, again and
again, and a look has two things to report of a socket: that the kernel shows it, and how it is; or that a whole look
has passed, and the kernel shows it no more. So a line is about what two looks differ in, is dated by the later one,
and says so; what came and went between the two nobody has seen.

``STEPS`` and ``TRANSITIONS`` are as in lifecycle.udp; every report passes through the former (sstrace.table.swept).
"""

import enum
from typing import Final

from sstrace.coordinates import Found
from sstrace.lifecycle.udp import UNSEEN, Bound
from sstrace.lifecycle.words import Rule, Step
from sstrace.model import Kind, State

__all__ = ["STEPS", "TRANSITIONS", "UNSEEN", "Look", "is_as_it_was"]


class Look(enum.IntEnum):
    """What there is to report, by a look as a rule."""

    SHOWN = 0
    """The kernel shows the socket."""
    MISSING = 1
    """It did, and a whole look later it does not."""
    CALLED = 2
    """No look: a system call of its owner's has come to an end (of unix sockets: bpf/unix.bpf.c)."""
    CLOSED = 3
    """Likewise, close(2) of the last descriptor."""


# Guards.


def is_as_it_was(row: Bound | None, fact: Found, _sight: object) -> bool:
    """The row says of the socket what the look does."""
    return (
        row is not None
        and (row.state, row.src, row.sport) == (fact.state, fact.src, fact.sport)
        and (row.dport, row.ifindex) == (fact.dport, fact.ifindex)
        and fact.dst in (None, row.dst)
    )


STEPS: Final[dict[tuple[Look, Kind | None], tuple[Rule, ...]]] = {
    (Look.SHOWN, None): (Rule(Step.BIRTH, "it has come since the look before"),),
    (Look.SHOWN, Kind.SOCKET): (
        Rule(Step.REPEAT, "nothing of it has changed", is_as_it_was),
        Rule(Step.MOVE, "its owner has bound or connected it"),
    ),
    (Look.MISSING, Kind.SOCKET): (Rule(Step.END, "the last descriptor has been closed"),),
}
"""(what a look shows, the sort of object that holds the row; None: there is no row) → rules. There are no others."""

_S = State
_CLOSED: Final = "close() of the last descriptor"
TRANSITIONS: Final[dict[int, dict[int, str]]] = {
    UNSEEN: {
        _S.CLOSE: "socket()",
        _S.LISTEN: "socket() and listen()",
        _S.ESTABLISHED: "connect(), or a connection has come",
    },
    _S.CLOSE: {
        _S.CLOSE: "bind(), or connect() of one that has no states",
        _S.LISTEN: "listen()",
        _S.ESTABLISHED: "connect()",
        UNSEEN: _CLOSED,
    },
    _S.LISTEN: {
        UNSEEN: _CLOSED,
    },
    _S.ESTABLISHED: {
        _S.CLOSE: "the other end is closed",
        UNSEEN: _CLOSED,
    },
}
"""Old state → new state → what brings it about."""
