"""The life of a connection, as one transition table.

Theory. ss shows a *connection*; the kernel keeps it in up to three objects, one after the other: a request socket
while it is half open (SYN-RECV), a full socket, and a timewait socket when it ends (TIME-WAIT, or FIN-WAIT-2 once no
process holds it). Each reports on its own: the full socket by its state changes, the other two by their timers. A
connection's row passes from one object to the next, and what users see is one life:

    request born  →  full socket takes over  →  timewait socket takes over  →  gone

The connection ends when its full socket gives up (its request socket, where it never had one): as the row does, or,
where a timewait socket takes over, that much before it. What follows is the timewait socket's own end.

Two tables say all there is. ``STEPS`` tells what an event of one object means for the row, by the object that holds
the row now. ``TRANSITIONS`` are the state changes that users can see; the diagram in the documentation is drawn from
it.

The kernel is right even where the table is not: an unlisted transition is applied and counted, because it has happened.
"""

import enum

from sstrace.model import Kind, State

__all__ = ["LISTED", "STEPS", "TRANSITIONS", "Report", "Step", "is_listed"]


class Report(enum.IntEnum):
    """What the kernel reports of one object."""

    OPENS = 0
    """A full socket leaves CLOSE: connect(2) or listen(2)."""
    CHILD = 1
    """A full socket comes out of a listener: LISTEN→SYN-RECV, on the child's own address. Where a request socket has
    told of the connection, the child keeps silent until its next transition."""
    MOVES = 2
    """A full socket goes from one open state to another."""
    CLOSES = 3
    """A full socket goes to CLOSE."""
    REQUEST_TIMER = 4
    """A request socket's timer starts."""
    REQUEST_GONE = 5
    TIMEWAIT_TIMER = 6
    """A timewait socket's timer starts."""
    TIMEWAIT_GONE = 7


class Step(enum.Enum):
    """What it means for the row."""

    BIRTH = "a new row begins"
    MOVE = "the row changes its state"
    TAKE_OVER = "another object holds the row from now on; the state changes only if it differs"
    HAND_OVER = "the connection ends; a timewait socket holds the row from now on"
    REPEAT = "the same state again: a segment was sent once more, or a timer set anew"
    END = "the connection ends, and its row"
    DEATH = "the row ends; its connection had ended before"
    NOTHING = "the end of an object that no longer holds the row"


STEPS: dict[tuple[Report, Kind | None], Step] = {
    (Report.OPENS, None): Step.BIRTH,
    (Report.OPENS, Kind.SOCKET): Step.MOVE,  # a sweep has met it while it was bound and idle
    (Report.CHILD, None): Step.BIRTH,  # a SYN cookie, Fast Open, or a request from before the trace
    (Report.CHILD, Kind.REQUEST): Step.TAKE_OVER,
    (Report.MOVES, None): Step.BIRTH,  # a socket that no sweep has met
    (Report.MOVES, Kind.SOCKET): Step.MOVE,
    (Report.MOVES, Kind.REQUEST): Step.TAKE_OVER,  # the handshake completed: the child's first transition
    (Report.CLOSES, None): Step.END,
    (Report.CLOSES, Kind.SOCKET): Step.END,
    (Report.CLOSES, Kind.TIMEWAIT): Step.NOTHING,  # tcp_time_wait: the timewait socket came first
    (Report.REQUEST_TIMER, None): Step.BIRTH,
    (Report.REQUEST_TIMER, Kind.REQUEST): Step.REPEAT,
    (Report.REQUEST_GONE, None): Step.NOTHING,
    (Report.REQUEST_GONE, Kind.REQUEST): Step.END,
    (Report.REQUEST_GONE, Kind.SOCKET): Step.NOTHING,  # the handshake completed: its child holds the row
    (Report.TIMEWAIT_TIMER, None): Step.BIRTH,
    (Report.TIMEWAIT_TIMER, Kind.SOCKET): Step.HAND_OVER,
    (Report.TIMEWAIT_TIMER, Kind.TIMEWAIT): Step.MOVE,  # set anew; FIN-WAIT-2 may have become TIME-WAIT
    (Report.TIMEWAIT_GONE, None): Step.NOTHING,
    (Report.TIMEWAIT_GONE, Kind.TIMEWAIT): Step.DEATH,
}
"""(what is reported, the sort of object that holds the row; None: there is no row) → step."""

_S = State
TRANSITIONS: dict[int, dict[State, str]] = {
    _S.CLOSE: {
        _S.LISTEN: "listen()",
        _S.SYN_SENT: "connect(): SYN sent",
    },
    _S.LISTEN: {
        _S.SYN_RECV: "a SYN came: SYN-ACK sent",
        _S.CLOSE: "close()",
    },
    _S.SYN_SENT: {
        _S.ESTABLISHED: "SYN-ACK came",
        _S.SYN_RECV: "a SYN came: both sides open at once",
        _S.CLOSE: "refused, timed out, given up",
    },
    _S.SYN_RECV: {
        _S.ESTABLISHED: "ACK came",
        _S.FIN_WAIT1: "close() before the ACK came",
        _S.CLOSE_WAIT: "FIN came with the ACK",
        _S.CLOSE: "reset, timed out, listener closed",
    },
    _S.ESTABLISHED: {
        _S.FIN_WAIT1: "close() or shutdown(): FIN sent",
        _S.CLOSE_WAIT: "FIN came",
        _S.CLOSE: "reset, timed out, killed",
    },
    _S.FIN_WAIT1: {
        _S.FIN_WAIT2: "our FIN was acknowledged",
        _S.CLOSING: "FIN came first",
        _S.TIME_WAIT: "FIN came with the acknowledgement of ours",
        _S.CLOSE: "reset, timed out, killed",
    },
    _S.FIN_WAIT2: {
        _S.FIN_WAIT2: "nobody holds it any more: a timewait socket takes over",
        _S.TIME_WAIT: "FIN came",
        _S.CLOSE: "reset, timed out, killed",
    },
    _S.CLOSE_WAIT: {
        _S.LAST_ACK: "close(): FIN sent",
        _S.CLOSE: "reset, timed out, killed",
    },
    _S.LAST_ACK: {_S.CLOSE: "our FIN was acknowledged"},
    _S.CLOSING: {
        _S.TIME_WAIT: "our FIN was acknowledged",
        _S.CLOSE: "reset, timed out, killed",
    },
    _S.TIME_WAIT: {_S.CLOSE: "its time ran out, or its addresses are used again"},
}
"""Old state → new state → what brings it about. RFC 9293 figure 5, with Linux's ways out of every state to CLOSE."""

LISTED = bytes(new in TRANSITIONS.get(old, ()) for old in range(16) for new in range(16))
"""The same to look up in a stride: 1 at old state * 16 + new state."""


def is_listed(old: int, new: int) -> bool:
    """Whether users may expect to see this transition."""
    return new in TRANSITIONS.get(old, ())
