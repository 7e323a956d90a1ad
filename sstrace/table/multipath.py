"""MPTCP's own sockets into rows: what their reports mean for them (lifecycle.mptcp), and what sweeps show of them.

Each is one kernel object all its life. Its cookie does not find it: those that a listener has accepted have the
listener's (mptcp_sk_clone_init copies it). So a report finds its row by the kernel address, a sweep by the inode, and
what no process has accepted yet, or holds any more, by its ends.
"""

from collections.abc import Mapping

from sstrace.lifecycle import mptcp
from sstrace.lifecycle.udp import UNSEEN
from sstrace.lifecycle.words import Report, Step
from sstrace.model import Changed, InetSocket, State
from sstrace.table.fold import Probe, Take, plans, report_of
from sstrace.table.index import Index
from sstrace.table.owning import inherited, own
from sstrace.table.rows import Row, Transition
from sstrace.table.sweep import WholeSweep
from sstrace.table.tombstones import Tombstones

__all__ = ["MultipathFold", "MultipathIndex", "MultipathSweep"]

_CLOSE, _LISTEN, _SYN_SENT = int(State.CLOSE), int(State.LISTEN), int(State.SYN_SENT)


class MultipathIndex(Index):
    """The rows of one space, and their keys."""

    __slots__ = ()

    def enter(self, row: Row) -> None:
        """Find it by its keys."""
        self.news.write(row)
        if row.sk is not None:
            self.by_sk[row.sk] = row
        if row.ino:
            self.by_ino[row.ino] = row
        if row.dport:
            row.ends = self.ends_of(row)
            self.by_ends[row.ends] = row

    def leave(self, row: Row) -> None:
        """Forget its keys."""
        if row.sk is not None and self.by_sk.get(row.sk) is row:
            del self.by_sk[row.sk]
        if self.by_ino.get(row.ino) is row:
            del self.by_ino[row.ino]
        if row.ends is not None and self.by_ends.get(row.ends) is row:
            del self.by_ends[row.ends]
        row.ends = None

    def known(self, found: InetSocket) -> Row | None:
        """The row of a socket that the kernel has just shown; None when it is news."""
        row = self.by_ino.get(found.ino) if found.ino else None
        if row is not None or found.state == _LISTEN:
            return row
        row = self.by_ends.get(self.ends_of(found))
        return row if row is not None and not (row.ino and found.ino) else None

    def of_report(self, fact: Changed) -> Row | None:
        """The row that a report is about. One in its way, whose end was lost, is removed."""
        row = self.by_sk.get(fact.sk)
        born = _is_child(fact)
        if row is not None and (
            born
            or (fact.old in (_CLOSE, _LISTEN) and row.state != fact.old)
            or (row.ino and fact.ino is not None and row.ino != fact.ino)
        ):
            self.remove_missed(row)
            row = None
        if born:
            return None
        if row is None and fact.ino is not None:
            row = self.by_ino.get(fact.ino)
        if row is None and fact.dport:
            row = self.by_ends.get(self.ends_of(fact))
        return row if row is None or row.sk in (None, fact.sk) else None


def _is_child(fact: Changed) -> bool:
    """Whether it comes out of a listener, whose state it was made with."""
    return fact.old == _LISTEN and fact.new not in (_CLOSE, _LISTEN)


class MultipathFold:
    """Takes the steps of one space."""

    probe: Probe | None = None

    def __init__(self, index: MultipathIndex, tombstones: Tombstones) -> None:
        self._index = index
        self._tombstones = tombstones
        self._causes: dict[int, str | None] = {}
        """Why connections are over whose rows are still there, by row."""

    def apply(self, fact: Changed) -> Transition | None:
        """Fold one event in. The transition that users see, None when there is none."""
        report = Report.CHILD if _is_child(fact) else report_of(fact.old, fact.new)
        row = self._index.of_report(fact)
        return _PLANS[report, row.kind if row is not None else None](self, fact, row)

    def _nothing(self, _fact: Changed, _row: Row | None) -> None:
        return None

    def _birth(self, fact: Changed, _row: Row | None) -> Transition:
        index, row = self._index, self._index.row_of(fact, fact.new)
        row.ino = 0 if fact.orphaned else row.ino
        old: int = UNSEEN
        if fact.old == _LISTEN:
            row.born_ns, row.role = fact.at_ns, "server"
            row.cookie = None  # its listener's
            listener = index.listener_of(fact)
            if listener is not None and listener.owners:
                row.owners, row.owner_source = inherited(listener.owners), "listener"
        elif fact.old == _CLOSE:
            row.born_ns = fact.at_ns
            row.role = "client" if fact.new == _SYN_SENT else None
        elif fact.old != fact.new:
            old = fact.old
        self._learn(fact, row)
        index.add(row)
        index.enter(row)
        return self._told(fact, row, old, None)

    def _learn(self, fact: Changed, row: Row) -> None:
        if fact.owner is not None:
            own(row, fact.owner, fact.new, fact.orphaned)
        if fact.cgroup is not None:
            row.cgroup = fact.cgroup
        if fact.new == _LISTEN and fact.v6only is not None:
            row.v6only = fact.v6only

    def _repeat(self, fact: Changed, row: Row) -> None:
        row.touched_ns = fact.at_ns
        self._index.leave(row)
        row.sk, row.ino = fact.sk, 0 if fact.orphaned else fact.ino or row.ino
        self._index.enter(row)
        self._learn(fact, row)

    def _move(self, fact: Changed, row: Row) -> Transition | None:
        index, old = self._index, row.state
        held = fact.at_ns - row.since_ns if row.exact and old == fact.old else None
        index.leave(row)
        row.sk = fact.sk
        row.src, row.sport, row.dst, row.dport = fact.src, fact.sport, fact.dst, fact.dport
        row.ifindex, row.uid, row.touched_ns = fact.ifindex, fact.uid, fact.at_ns
        row.ino = 0 if fact.orphaned else fact.ino or row.ino
        index.enter(row)
        self._learn(fact, row)
        if old == fact.new:
            index.news.note(row)
            return None
        index.restate(row, fact.new)
        row.since_ns, row.exact = fact.at_ns, True
        if fact.new == _CLOSE:
            self._causes[row.id] = fact.cause
        elif fact.old == _CLOSE:
            row.born_ns, row.role = fact.at_ns, "client" if fact.new == _SYN_SENT else None
            self._causes.pop(row.id, None)
        return self._told(fact, row, old, held)

    def _end(self, fact: Changed, row: Row) -> Transition:
        held = fact.at_ns - row.since_ns if row.exact else None
        if self._tombstones.may_be_shown(fact.at_ns):
            self._tombstones.add(None, row)
        self._index.remove(row)
        if fact.owner is not None:
            own(row, fact.owner, _CLOSE, True)
        old, row.state = row.state, UNSEEN
        return self._told(fact, row, old, held)

    def _end_of_stranger(self, fact: Changed, _row: Row | None) -> Transition:
        row = self._index.row_of(fact, UNSEEN)
        if self._tombstones.may_be_shown(fact.at_ns):
            self._tombstones.add(None, row)
        return self._told(fact, row, fact.old, None)

    def _told(self, fact: Changed, row: Row, old: int, held: int | None) -> Transition:
        gone = row.state == UNSEEN
        ended = gone and mptcp.may_end(old)
        self._index.news.tell(row, fact.at_ns)
        cause = self._causes.pop(row.id, fact.cause) if gone else fact.cause
        return Transition(
            fact.at_ns, row, old, row.state, held, cause, fact.reported, True, ended=ended,
            lifetime_ns=fact.at_ns - row.born_ns if gone and row.born_ns is not None else None,
        )  # fmt: skip


_TAKE: Mapping[Step, Take] = {
    Step.NOTHING: MultipathFold._nothing,
    Step.BIRTH: MultipathFold._birth,
    Step.MOVE: MultipathFold._move,
    Step.REPEAT: MultipathFold._repeat,
    Step.END: MultipathFold._end,
    Step.END_OF_STRANGER: MultipathFold._end_of_stranger,
}
_PLANS = plans(mptcp.STEPS, _TAKE)


class MultipathSweep(WholeSweep):
    """Compares the rows of one space with what the kernel shows."""

    def _known(self, found: InetSocket) -> Row | None:
        return self._index.known(found)

    def _is_dead(self, found: InetSocket) -> bool:
        return self._tombstones.has(self._index.ends_of(found), found.ino, connected=found.dport != 0)
