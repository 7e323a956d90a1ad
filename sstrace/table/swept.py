"""Sockets that tell nothing into rows: what a look at the kernel means for them (lifecycle.unix, lifecycle.swept).

Each is one kernel object all its life, and the kernel gives it a cookie at the first look. So the cookie alone finds a
row; the peer of a unix socket is found by its inode.
"""

from collections.abc import Iterator

from sstrace.coordinates import Found
from sstrace.fields import NOTHING
from sstrace.lifecycle import swept, unix
from sstrace.lifecycle.swept import UNSEEN, Look
from sstrace.lifecycle.words import Step
from sstrace.model import AF_UNIX, SOCK_DGRAM, Kind, Role, State
from sstrace.protocols import NETID_OF_TYPE, NUMBER_OF_NETID
from sstrace.table.fold import Probe, Take, plans
from sstrace.table.index import Index
from sstrace.table.rows import Row, Transition

__all__ = ["SweptFold"]

_ESTABLISHED = int(State.ESTABLISHED)
_DATAGRAMS = NUMBER_OF_NETID[NETID_OF_TYPE[AF_UNIX, SOCK_DGRAM]]


class SweptFold:
    """Takes the steps of one space, look by look."""

    probe: Probe | None = None

    def __init__(self, index: Index) -> None:
        self._index = index
        self._is_unix = index.space.protocol >> 16 == AF_UNIX
        self._plans = _UNIX if self._is_unix else _OTHERS
        self._by_ino: dict[int, Row] = {}
        self._number = 0
        self._at_ns = 0
        self._silent = False
        self._called = False
        """Whether a system call tells, and not a look."""

    def begin(self, number: int, at_ns: int, *, silent: bool) -> None:
        """A look starts. ``silent``: it is the first, and what it shows is not new."""
        self._number, self._at_ns, self._silent = number, at_ns, silent

    def shown(self, fact: Found) -> tuple[Row, Transition | None]:
        """It shows this socket: its row, and the transition that users see, None when there is none."""
        row = self._index.by_cookie.get(fact.cookie)
        if row is None and self._is_unix:
            row = self._recognised(fact)
        told = self._plans[Look.SHOWN, row.kind if row is not None else None](self, fact, row)
        row = self._index.by_cookie[fact.cookie]
        row.seen = self._number
        return row, told

    def _recognised(self, fact: Found) -> Row | None:
        """The row of a socket that a call has told of, before a look gave it its cookie."""
        row = self._by_ino.get(fact.ino)
        if row is None or row.cookie is not None:
            return None
        self._index.recognise(row, fact.cookie)
        return row

    def called(self, fact: Found, at_ns: int) -> Iterator[tuple[Row, Transition]]:
        """A system call of its owner's has come to an end, and this is the socket since; with what follows of that for
        the other end. What a look has found later is left as it is.
        """
        yield from self._called_of(fact._replace(dst=None) if fact.ino in self._by_ino else fact, at_ns)
        row, peer = self._by_ino.get(fact.ino), self._by_ino.get(fact.dport)
        if row is not None and fact.dst:
            row.dst = fact.dst
        if peer is not None and peer.protocol != _DATAGRAMS and peer.dport != fact.ino:
            yield from self._called_of(
                Found(
                    peer.family, peer.protocol, peer.state, peer.src, peer.sport, None, fact.ino, peer.ifindex,
                    peer.ino, peer.uid, peer.cookie or 0,
                ),
                at_ns,
            )  # fmt: skip

    def _called_of(self, fact: Found, at_ns: int) -> Iterator[tuple[Row, Transition]]:
        row = self._by_ino.get(fact.ino)
        if row is not None and at_ns <= row.touched_ns:
            return
        self._at_ns, self._silent, self._called = at_ns, False, True
        told = self._plans[Look.CALLED, row.kind if row is not None else None](self, fact, row)
        self._called = False
        row = self._by_ino[fact.ino]
        row.touched_ns, row.seen = at_ns, self._number
        if told is not None:
            yield row, told

    def closed(self, fact: Found, at_ns: int) -> Transition | None:
        """The last descriptor of a socket has been closed."""
        row = self._by_ino.get(fact.ino)
        self._at_ns, self._called = at_ns, True
        told = self._plans[Look.CLOSED, row.kind if row is not None else None](self, fact, row)
        self._called = False
        return told

    def missing(self) -> list[Row]:
        """The rows that it has not shown."""
        number = self._number
        return [row for row in self._index.rows.values() if row.seen != number]

    def gone(self, row: Row) -> Transition | None:
        """The kernel does not show it any more."""
        return self._plans[Look.MISSING, row.kind](self, None, row)

    def meet(self, row: Row) -> None:
        """Before a row is told of: see who is at the other end of a unix socket, what it is called, who holds it, and
        which end has called.
        """
        self._index.news.tell(row, self._at_ns)
        if not self._is_unix:
            return
        peer = self._by_ino.get(row.dport) if row.dport else None
        if peer is None:
            return
        row.dst, row.peer_owners = peer.src, peer.owners
        if row.role is None and row.protocol != _DATAGRAMS:
            row.role = _role(row.src, peer.src)

    # Steps.

    def _birth(self, fact: Found, _row: Row | None) -> Transition | None:
        index = self._index
        row = Row(
            next(index.ids), Kind.SOCKET, fact.state, fact.family, fact.protocol, index.space.net, index.netns,
            fact.src, fact.sport, fact.dst or b"", fact.dport, fact.ino, fact.uid, fact.ifindex, fact.cookie or None,
            None, self._at_ns, not self._silent, 0,
        )  # fmt: skip
        index.add(row)
        index.enter(row)
        self._by_ino[row.ino] = row
        if self._silent:
            return None
        row.born_ns = self._at_ns
        return self._told(row, UNSEEN, None)

    def _repeat(self, _fact: Found, _row: Row) -> None:
        return None

    def _move(self, fact: Found, row: Row) -> Transition:
        index, old = self._index, row.state
        held = self._at_ns - row.since_ns if row.exact else None
        index.leave(row)
        row.src, row.sport, row.dport, row.ifindex = fact.src, fact.sport, fact.dport, fact.ifindex
        if fact.dst is not None:
            row.dst = fact.dst
        if fact.ino != row.ino and self._by_ino.get(row.ino) is row:
            del self._by_ino[row.ino]
        row.ino, row.uid = fact.ino, fact.uid if fact.uid is not None else row.uid
        self._by_ino[row.ino] = row
        index.enter(row)
        if old != fact.state:
            index.restate(row, fact.state)
            row.since_ns, row.exact = self._at_ns, True
        return self._told(row, old, held)

    def _pass(self, _fact: Found, _row: None) -> None:
        return None

    def _end(self, _fact: Found | None, row: Row) -> Transition:
        held = self._at_ns - row.since_ns if row.exact else None
        self._index.remove(row)
        if self._by_ino.get(row.ino) is row:
            del self._by_ino[row.ino]
        old, row.state = row.state, UNSEEN
        return self._told(row, old, held)

    def _told(self, row: Row, old: int, held: int | None) -> Transition:
        at_ns, ended = self._at_ns, row.state == UNSEEN
        self._index.news.tell(row, at_ns)
        return Transition(
            at_ns, row, old, row.state, held, None, NOTHING, True, not self._called,
            None if self._called else "sweep", ended,
            at_ns - row.born_ns if ended and row.born_ns is not None else None,
        )  # fmt: skip


def _role(mine: bytes, theirs: bytes) -> Role | None:
    """accept(2) gives a connection its listener's name; who has called has none, as a rule."""
    if bool(mine) is bool(theirs):
        return None
    return "server" if mine else "client"


_TAKE: dict[Step, Take] = {
    Step.BIRTH: SweptFold._birth,
    Step.REPEAT: SweptFold._repeat,
    Step.MOVE: SweptFold._move,
    Step.END: SweptFold._end,
    Step.PASS: SweptFold._pass,
}
_UNIX, _OTHERS = plans(unix.STEPS, _TAKE), plans(swept.STEPS, _TAKE)
