"""Datagram sockets into rows: what their owners' calls mean for them (lifecycle.udp, lifecycle.raw), and what sweeps
show of them.

Each is one kernel object all its life, and has a cookie before anybody hears of it: the programs ask for it, and so
does a sweep. So the cookie alone finds a row. The ends do not: several sockets may have the same (SO_REUSEPORT).
"""

from sstrace.lifecycle import raw, udp
from sstrace.lifecycle.udp import UNSEEN
from sstrace.lifecycle.words import Step
from sstrace.model import Call, Called, InetSocket, Kind, Owner, State
from sstrace.protocols import RAW
from sstrace.table.fold import Probe, Take, plans
from sstrace.table.index import Index
from sstrace.table.owning import own
from sstrace.table.rows import Row, Transition
from sstrace.table.sweep import WholeSweep
from sstrace.table.tombstones import Tombstones

__all__ = ["DatagramFold", "DatagramSweep", "Departed"]

_CLOSE, _ESTABLISHED = int(State.CLOSE), int(State.ESTABLISHED)


class Departed(Tombstones):
    """Tombstones of sockets that their cookies alone tell apart."""

    def __init__(self, index: Index) -> None:
        super().__init__(index)
        self._sockets: set[int] = set()

    def _clear(self) -> None:
        super()._clear()
        self._sockets.clear()

    def depart(self, fact: Called) -> None:
        """It is shown no more; a sweep that goes on may have met it before."""
        if self.may_be_shown(fact.at_ns):
            self._sockets.add(fact.cookie)

    def come_back(self, cookie: int) -> None:
        """It is shown again."""
        self._sockets.discard(cookie)

    def holds(self, cookie: int) -> bool:
        """Whether it is shown no more."""
        return cookie in self._sockets


class DatagramFold:
    """Takes the steps of one space."""

    probe: Probe | None = None

    def __init__(self, index: Index, departed: Departed) -> None:
        self._index = index
        self._departed = departed
        self._plans = _RAW if index.space.protocol == RAW else _UDP

    def apply(self, fact: Called) -> Transition | None:
        """Fold one event in. The transition that users see, None when there is none."""
        row = self._index.by_cookie.get(fact.cookie)
        return self._plans[fact.call, row.kind if row is not None else None](self, fact, row)

    def _nothing(self, _fact: Called, _row: Row | None) -> None:
        return None

    def _birth(self, fact: Called, _row: Row | None) -> Transition:
        index, row = self._index, self._row_of(fact, fact.state)
        row.born_ns = fact.at_ns
        if fact.state == _ESTABLISHED or fact.call is Call.SEND:
            row.role = "client"
        index.add(row)
        index.enter(row)
        self._departed.come_back(fact.cookie)
        return self._told(fact, row, UNSEEN, None)

    def _row_of(self, fact: Called, state: int) -> Row:
        index = self._index
        row = Row(
            next(index.ids), Kind.SOCKET, state, fact.family, fact.protocol, index.space.net, index.netns, fact.src,
            fact.sport, fact.dst, fact.dport, fact.ino or 0, fact.uid, fact.ifindex, fact.cookie, fact.sk,
            fact.at_ns, True, fact.at_ns, cgroup=fact.cgroup, v6only=fact.v6only,
        )  # fmt: skip
        _own(row, fact)
        return row

    def _repeat(self, fact: Called, row: Row) -> None:
        self._learn(fact, row)

    def _move(self, fact: Called, row: Row) -> Transition | None:
        index, old = self._index, row.state
        held = fact.at_ns - row.since_ns if row.exact else None
        index.leave(row)
        row.src, row.sport, row.dst, row.dport = fact.src, fact.sport, fact.dst, fact.dport
        row.ifindex = fact.ifindex
        index.enter(row)
        self._learn(fact, row)
        if fact.state == _ESTABLISHED:
            row.role = "client"
        elif old == fact.state and fact.call is not Call.BIND:
            index.news.note(row)
            return None
        if old != fact.state:
            index.restate(row, fact.state)
            row.since_ns, row.exact = fact.at_ns, True
        return self._told(fact, row, old, held)

    def _learn(self, fact: Called, row: Row) -> None:
        if row.sk != fact.sk:
            self._index.hold(row, Kind.SOCKET, fact.sk)
        row.touched_ns = fact.at_ns
        row.ino = fact.ino or row.ino
        row.cgroup, row.v6only = fact.cgroup, fact.v6only
        _own(row, fact)

    def _end(self, fact: Called, row: Row) -> Transition:
        held = fact.at_ns - row.since_ns if row.exact else None
        self._departed.depart(fact)
        self._index.remove(row)
        _own(row, fact)
        old, row.state = row.state, UNSEEN
        return self._told(fact, row, old, held)

    def _end_of_stranger(self, fact: Called, _row: Row | None) -> Transition:
        self._departed.depart(fact)
        return self._told(fact, self._row_of(fact, UNSEEN), _ESTABLISHED if any(fact.dst) else _CLOSE, None)

    def _told(self, fact: Called, row: Row, old: int, held: int | None) -> Transition:
        ended = row.state == UNSEEN
        self._index.news.tell(row, fact.at_ns)
        return Transition(
            fact.at_ns, row, old, row.state, held, None, fact.reported, True, ended=ended,
            lifetime_ns=fact.at_ns - row.born_ns if ended and row.born_ns is not None else None,
        )  # fmt: skip


_TAKE: dict[Step, Take] = {
    Step.NOTHING: DatagramFold._nothing,
    Step.BIRTH: DatagramFold._birth,
    Step.MOVE: DatagramFold._move,
    Step.REPEAT: DatagramFold._repeat,
    Step.END: DatagramFold._end,
    Step.END_OF_STRANGER: DatagramFold._end_of_stranger,
}

_RAW, _UDP = plans(raw.STEPS, _TAKE), plans(udp.STEPS, _TAKE)


def _own(row: Row, fact: Called) -> None:
    """Who calls holds the socket; others that are known to do so as well stay, until it is closed."""
    caller = fact.owner
    if caller is None:
        return
    if any(_is_known(one, caller) for one in row.owners):
        own(row, caller, UNSEEN, fact.call is Call.CLOSE)
    else:
        row.owners, row.owner_source = (caller,), fact.call.name.lower()


def _is_known(one: Owner, caller: Owner) -> bool:
    return one.pid == caller.pid and (one.fd is not None or caller.fd is None)


class DatagramSweep(WholeSweep):
    """Compares the rows of one space with what the kernel shows."""

    def __init__(self, index: Index, departed: Departed) -> None:
        super().__init__(index, departed)
        self._departed = departed

    def _known(self, found: InetSocket) -> Row | None:
        return self._index.by_cookie.get(found.cookie)

    def _is_dead(self, found: InetSocket) -> bool:
        return self._departed.holds(found.cookie)
