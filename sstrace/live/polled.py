"""Transitions that no event tells of: where sweeps stand in for events, what two of them show differently."""

from collections.abc import Iterator

from sstrace.causes import FIN_BY_US
from sstrace.fields import NOTHING
from sstrace.lifecycle.udp import UNSEEN
from sstrace.model import Kind, State
from sstrace.protocols import APPEARING
from sstrace.table import Resync, Row, Transition

__all__ = ["polled", "unseen"]

_CLOSE = int(State.CLOSE)


def polled(resync: Resync, *, hears: bool) -> Iterator[Transition]:
    """What a sweep found, as transitions seen late. ``hears``: events tell of full sockets."""
    for row in resync.removed:
        old, row.state = row.state, _nothing(row)
        ended = row.kind is not Kind.TIMEWAIT and old not in (_CLOSE, State.LISTEN)
        yield _transition(resync.at_ns, row, old, ended=ended or row.state == UNSEEN)
    for row in resync.added:
        # Without any event, nothing has told of the connection that a timewait socket stands for.
        yield _transition(resync.at_ns, row, _nothing(row), ended=row.kind is Kind.TIMEWAIT and not hears)
    for row, old in resync.changed:
        yield _transition(resync.at_ns, row, old, ended=row.id in resync.ended)


def unseen(without: str, *, sees_all: bool) -> str:
    """What a trace without events lacks: ``without`` what, and whether it sees what other users' processes hold."""
    held = "" if sees_all else ", nor what other users' processes hold"
    return f"{without}: what comes and goes between two looks is not seen, nor why anything closed{held}"


def _nothing(row: Row) -> int:
    """The state before the first, and after the last."""
    return UNSEEN if row.protocol in APPEARING else _CLOSE


def _transition(at_ns: int, row: Row, old: int, *, ended: bool) -> Transition:
    lifetime = at_ns - row.born_ns if ended and row.born_ns is not None else None
    cause = FIN_BY_US if ended and row.kind is Kind.TIMEWAIT else None
    return Transition(at_ns, row, old, row.state, None, cause, NOTHING, True, True, "poll", ended, lifetime)
