"""The life of a TCP connection, as one transition table.

Theory. ss shows a *connection*; the kernel keeps it in up to three objects, one after the other: a request socket
while it is half open (SYN-RECV), a full socket, and a timewait socket when it ends (TIME-WAIT, or FIN-WAIT-2 once no
process holds it). Each reports on its own: the full socket by its state changes, the other two by their timers. A
connection's row passes from one object to the next, and what users see is one life:

    request born  →  full socket takes over  →  timewait socket takes over  →  gone

The connection ends when its full socket gives up (its request socket, where it never had one): as the row does, or,
where a timewait socket takes over, that much before it. What follows is the timewait socket's own end.

Two tables say all there is. ``STEPS`` tells what a report of one object means for the row, by the object that holds
the row now; every report of TCP passes through it (sstrace.table.fold). ``TRANSITIONS`` are the state changes that
users can see. The diagrams in the documentation are drawn from both.

Of two rules the first whose guard holds is the one; the last has none. Which row a report is about is not for these
tables: sstrace.table.index finds it.

The kernel is right even where the table is not: an unlisted transition is applied and counted, because it has happened.
"""

from sstrace.lifecycle.words import Held, Report, Rule, Sight, Step
from sstrace.model import Changed, Gone, Kind, State

__all__ = ["LISTED", "STEPS", "TRANSITIONS", "may_end"]

_HANDS_OVER = frozenset((State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING))
"""States out of which a timewait socket takes over."""


# Guards.


def never_opened(_row: Held | None, fact: Changed | Gone, _sight: Sight) -> bool:
    """It was in CLOSE before: it is closed more than once (tcp_abort), or connect(2) never began."""
    return isinstance(fact, Changed) and fact.old == State.CLOSE


def inherits(row: Held | None, fact: Changed | Gone, sight: Sight) -> bool:
    """The full socket that closes has handed over to the timewait socket that holds the row: tcp_time_wait makes that
    one first.
    """
    return row is not None and isinstance(fact, Changed) and sight.inherits(row, fact)


def has_handed_over(row: Held | None, fact: Changed | Gone, sight: Sight) -> bool:
    """The full socket closes as one does that leaves a timewait socket behind, and the kernel has one."""
    return row is not None and isinstance(fact, Changed) and sight.has_handed_over(row, fact)


def is_completed(_row: Held | None, fact: Changed | Gone, _sight: Sight) -> bool:
    """The request socket ended because its handshake completed."""
    return fact.cause == "completed"


def is_completed_twice(row: Held | None, fact: Changed | Gone, sight: Sight) -> bool:
    """The same, of one of two requests for one SYN; the child holds the row of the other."""
    return row is not None and is_completed(row, fact, sight) and sight.is_taken(row, fact)


def is_half_open(row: Held | None, fact: Changed | Gone, sight: Sight) -> bool:
    """The row, found by its cookie, is still half open: the same connection, which a sweep took for a full socket."""
    return row is not None and row.state == State.SYN_RECV and not is_completed(row, fact, sight)


def may_have_handed_over(row: Held | None, fact: Changed | Gone, _sight: Sight) -> bool:
    """The row is of the socket whose cookie the timewait socket has, in a state that one takes over from. In another
    state it may be the same socket, connected again in the place of its timewait socket.
    """
    return row is not None and row.cookie == fact.cookie and row.state in _HANDS_OVER


_OPENING = Rule(Step.BIRTH, "nobody has met the socket")
_NEVER_OPENED = Rule(Step.NOTHING, "it was closed before", never_opened)
_UNMET = Rule(Step.PASS, "it was born and died between two looks")

STEPS: dict[tuple[Report, Kind | None], tuple[Rule, ...]] = {
    (Report.OPENS, None): (_OPENING,),
    (Report.OPENS, Kind.SOCKET): (Rule(Step.MOVE, "a sweep has met it while it was bound and idle"),),
    (Report.OPENS, Kind.REQUEST): (_OPENING,),
    (Report.OPENS, Kind.TIMEWAIT): (Rule(Step.BIRTH, "it is used again after a connection that left one behind"),),
    (Report.CHILD, None): (Rule(Step.BIRTH, "a SYN cookie, Fast Open, or a request from before the trace"),),
    (Report.CHILD, Kind.REQUEST): (Rule(Step.TAKE_OVER, "the handshake completes"),),
    (Report.CHILD, Kind.SOCKET): (Rule(Step.BIRTH, "the end of the other connection was lost"),),
    (Report.CHILD, Kind.TIMEWAIT): (Rule(Step.BIRTH, "a new connection in the place of the old one"),),
    (Report.MOVES, None): (Rule(Step.BIRTH, "no sweep has met the socket"),),
    (Report.MOVES, Kind.SOCKET): (Rule(Step.MOVE, "a segment or a call"),),
    (Report.MOVES, Kind.REQUEST): (Rule(Step.MOVE, "the handshake completed: the child's first transition"),),
    (Report.MOVES, Kind.TIMEWAIT): (Rule(Step.BIRTH, "no sweep has met the socket that came after it"),),
    (Report.REPEATS, None): (Rule(Step.BIRTH, "no sweep has met the socket"),),
    (Report.REPEATS, Kind.SOCKET): (Rule(Step.MOVE, "its port was chosen, or it is closed once more"),),
    (Report.REPEATS, Kind.REQUEST): (Rule(Step.MOVE, "the handshake completed, and nobody heard"),),
    (Report.REPEATS, Kind.TIMEWAIT): (Rule(Step.BIRTH, "no sweep has met the socket that came after it"),),
    (Report.CLOSES, None): (_NEVER_OPENED, Rule(Step.END_OF_STRANGER, "nobody has met it")),
    (Report.CLOSES, Kind.SOCKET): (
        Rule(Step.HAND_OVER_MISSED, "tcp_time_wait, of which no program was told", has_handed_over),
        Rule(Step.END, "reset, refused, timed out, killed, or closed last"),
    ),
    (Report.CLOSES, Kind.REQUEST): (Rule(Step.END, "the child ended with its first report"),),
    (Report.CLOSES, Kind.TIMEWAIT): (
        _NEVER_OPENED,
        Rule(Step.NOTHING, "tcp_time_wait: the timewait socket came first", inherits),
        Rule(Step.END_OF_STRANGER, "nobody has met the socket that came after it"),
    ),
    (Report.REQUEST_TIMER, None): (Rule(Step.BIRTH, "a SYN came"),),
    (Report.REQUEST_TIMER, Kind.REQUEST): (Rule(Step.REPEAT, "the SYN-ACK is sent again"),),
    (Report.REQUEST_TIMER, Kind.SOCKET): (Rule(Step.NOTHING, "another processor completed it meanwhile"),),
    (Report.REQUEST_TIMER, Kind.TIMEWAIT): (Rule(Step.BIRTH, "a SYN came for a new connection"),),
    (Report.REQUEST_GONE, None): (Rule(Step.NOTHING, "its child told of itself", is_completed), _UNMET),
    (Report.REQUEST_GONE, Kind.REQUEST): (
        Rule(Step.VANISH, "one of two for the same SYN", is_completed_twice),
        Rule(Step.SUCCEED, "its child's birth was lost", is_completed),
        Rule(Step.END, "dropped, reset, or never answered"),
    ),
    (Report.REQUEST_GONE, Kind.SOCKET): (
        Rule(Step.END, "a sweep took it for a full socket", is_half_open),
        Rule(Step.NOTHING, "its child holds the row", is_completed),
        _UNMET,
    ),
    (Report.REQUEST_GONE, Kind.TIMEWAIT): (Rule(Step.NOTHING, "its child told of itself", is_completed), _UNMET),
    (Report.TIMEWAIT_TIMER, None): (Rule(Step.BIRTH, "nobody has met its full socket"),),
    (Report.TIMEWAIT_TIMER, Kind.SOCKET): (Rule(Step.HAND_OVER, "tcp_time_wait"),),
    (Report.TIMEWAIT_TIMER, Kind.REQUEST): (Rule(Step.BIRTH, "nobody has met its full socket"),),
    (Report.TIMEWAIT_TIMER, Kind.TIMEWAIT): (Rule(Step.MOVE, "set anew; FIN-WAIT-2 may have become TIME-WAIT"),),
    (Report.TIMEWAIT_GONE, None): (_UNMET,),
    (Report.TIMEWAIT_GONE, Kind.SOCKET): (
        Rule(Step.DEATH_OF_SUCCESSOR, "the handing over was lost", may_have_handed_over),
        _UNMET,
    ),
    (Report.TIMEWAIT_GONE, Kind.REQUEST): (_UNMET,),
    (Report.TIMEWAIT_GONE, Kind.TIMEWAIT): (Rule(Step.DEATH, "its time ran out, or its addresses are used again"),),
}
"""(what is reported, the sort of object that holds the row; None: there is no row) → rules. There are no others."""

_S = State
TRANSITIONS: dict[int, dict[int, str]] = {
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

LISTED = tuple(tuple(new in TRANSITIONS.get(old, ()) for new in range(16)) for old in range(16))
"""The same to look up in a stride, by old and new state: whether users may expect to see this transition."""


def may_end(old: int, new: int) -> bool:
    """Whether a connection may end with this transition: the socket that holds it gives up, or hands over to a timewait
    socket.
    """
    if old in (_S.CLOSE, _S.LISTEN, _S.TIME_WAIT):
        return False
    return new in (_S.CLOSE, _S.TIME_WAIT) or old == new == _S.FIN_WAIT2
