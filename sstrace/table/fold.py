"""Events into rows: each report is brought to its row, looked up in lifecycle.STEPS, and done.

After the hooks are attached, events are the whole truth of every socket that they mention. What an event means stands
in lifecycle; what is here is how each step is taken.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sstrace.causes import FIN_BY_US
from sstrace.lifecycle import LISTED, STEPS, Guard, Report, Rule, Step
from sstrace.model import Changed, Gone, InetSocket, Kind, State
from sstrace.protocols import IPPROTO_TCP
from sstrace.table.index import Index, cookie_key, differ, kind_of
from sstrace.table.owning import inherited, own
from sstrace.table.rows import Ends, Row, Transition
from sstrace.table.tombstones import Tombstones

__all__ = ["Fold", "Probe", "Take", "first"]

_ANY6 = bytes(16)
_SOCKET, _REQUEST, _TIMEWAIT = Kind.SOCKET, Kind.REQUEST, Kind.TIMEWAIT
_CLOSE, _LISTEN, _SYN_RECV = int(State.CLOSE), int(State.LISTEN), int(State.SYN_RECV)
_FIN_WAIT1, _FIN_WAIT2, _CLOSING = int(State.FIN_WAIT1), int(State.FIN_WAIT2), int(State.CLOSING)
_TIME_WAIT, _SYN_SENT = int(State.TIME_WAIT), int(State.SYN_SENT)
_ELSEWHERE = frozenset((_CLOSE, _SYN_SENT))
"""States in which a socket may not have the addresses yet that it will have."""
_ORDERLY = frozenset((FIN_BY_US, "reset-sent"))
"""Ends that may leave a timewait socket behind, whose stacks do not tell whether the birth of one was missed."""

Probe = Callable[[Row], InetSocket | None]


class Fold:
    """Takes the steps of one space."""

    def __init__(self, index: Index, tombstones: Tombstones) -> None:
        self._index = index
        self._by_sk, self._news = index.by_sk, index.news
        self._tombstones = tombstones
        self.probe: Probe | None = None
        """Where somebody can look: what the kernel has between the ends of this row now. Asked where a full socket
        gives up as one does that leaves a timewait socket behind, and none has told of itself."""
        self._found: InetSocket | None = None
        self._implied_rows: dict[Ends, Row] = {}
        """Rows of timewait sockets that were found so, by their ends: each until events tell of a younger connection
        there. Who looked was late, and may have seen what that one has left behind."""

    def apply(self, fact: Changed | Gone) -> Transition | None:
        """Fold one event in. The transition that users see, None when there is none."""
        if type(fact) is not Changed:
            row = self._index.of_gone(fact)  # type: ignore[arg-type]
            plans = _GONE[fact.kind]
        elif fact.kind is _SOCKET:
            old, new = fact.old, fact.new
            row = self._by_sk.get(fact.sk)
            # As a rule it is the row, as it was left; only what looks odd is looked at more closely.
            if (
                row is None
                or row.state != old
                or old in (new, _LISTEN)
                or row.kind is not _SOCKET
                or row.cookie != fact.cookie
                or row.dport != fact.dport
                or row.dst != fact.dst
            ):
                row = self._index.of_socket(fact, row)
            plans = _CHANGED[old][new]
        else:
            row = self._index.of_timer(fact)
            plans = _STARTED[fact.kind]
        return plans[row.kind if row is not None else _NOBODY](self, fact, row)

    # What the rules ask (lifecycle.Sight).

    def is_taken(self, row: Row, fact: Changed | Gone) -> bool:
        """Whether another row is between the addresses of a report."""
        return self._index.by_ends.get(self._index.ends_of(fact), row) is not row

    def inherits(self, row: Row, fact: Changed) -> bool:
        """Whether a full socket that closes has handed over to the timewait socket that holds this row."""
        return (
            fact.old in (_FIN_WAIT1, _FIN_WAIT2, _CLOSING)
            and (row.cookie is None or fact.cookie is None or row.cookie == fact.cookie)
            and not differ(row, fact)
        )

    def has_handed_over(self, row: Row, fact: Changed) -> bool:
        """Whether the kernel has a timewait socket in the place of this full socket, of which nobody heard."""
        if self.probe is None or fact.old not in (_FIN_WAIT2, _CLOSING) or fact.cause not in _ORDERLY:
            return False
        found = self._found = self.probe(row)
        return found is not None and kind_of(found) is _TIMEWAIT and row.cookie in (None, found.cookie)

    # Steps of a socket that goes on.

    def _nothing(self, _fact: Changed | Gone, _row: Row | None) -> None:
        return None

    def _birth(self, fact: Changed, _row: Row | None) -> Transition | None:
        row = self._bear(fact)
        old, new = fact.old, fact.new
        if fact.kind is _TIMEWAIT:
            self._news.note(row)
            return None  # a timewait socket from nowhere: no transition is known
        if fact.kind is _REQUEST:
            self._news.unmet += bool(fact.reported.retransmits)
            return self._transition(fact, row, _LISTEN, new, None)
        if old == _LISTEN:
            row.cgroup = fact.cgroup
            if not fact.dport:
                self._news.note(row)
                return None  # its next transition names its peer
            return self._transition(fact, row, old, new, None)
        self._news.unmet += old == _SYN_RECV
        self._learn(row, fact)
        if old == new == _SYN_SENT:
            old = _CLOSE  # the SYN goes out, and nobody heard of the connect(2) before it
        if old == new:
            self._news.note(row)
            return None
        return self._transition(fact, row, old, new, None)

    def _inherit(self, row: Row, fact: Changed) -> None:
        """Until accept(2) a connection is of those who hold its listener."""
        owners = self._index.holders_of_listener(fact)
        if owners:
            row.owners, row.owner_source = inherited(owners), "listener"

    def _bear(self, fact: Changed) -> Row:
        """A new row, with its keys."""
        index, kind, state = self._index, fact.kind, fact.new
        row = index.row_of(fact, state)
        if kind is _REQUEST or fact.old == _LISTEN:
            row.born_ns, row.role = fact.at_ns, "server"
            self._inherit(row, fact)
        elif kind is _SOCKET and state == _SYN_SENT:
            row.born_ns, row.role = fact.at_ns, "client"
        elif fact.old == _SYN_SENT:
            row.role = "client"
        elif fact.old == _CLOSE:
            row.born_ns = fact.at_ns
        index.add(row)
        index.by_sk[fact.sk] = row
        if state == _LISTEN:
            if row.ino:
                index.by_ino[row.ino] = row
        elif fact.dport and not fact.since_ns:  # a connect(2) that has failed never had its addresses
            ends = row.ends = index.ends_of(fact)
            if kind is not _TIMEWAIT and state != _SYN_SENT:
                before = index.by_ends.get(ends)
                # A timewait socket makes way for a new connection, and that is reported first (but for connect(2),
                # whose event is dated back): so its end was lost. Others may be between the same addresses for a
                # moment, when two processors answer one segment.
                if before is not None and before.kind is _TIMEWAIT:
                    index.remove_missed(before)
            if self._implied_rows:
                self._refute(ends)
            index.by_ends[ends] = row
        if fact.cookie is not None:
            index.by_cookie[cookie_key(fact.cookie, kind, row.ends)] = row
        if kind is _TIMEWAIT:
            self._tombstones.add_cookie(fact)  # its full socket has died
        if self._tombstones.sweeping:
            self._tombstones.forgive(fact)  # its socket may have been closed, and used again
        return row

    def _move(self, fact: Changed, row: Row) -> Transition | None:
        index, old, new, at_ns = self._index, fact.old, fact.new, fact.at_ns
        if row.sk != fact.sk:
            # A request's row: its child, which kept silent so far, takes over. Or a sweep's: its address is known now.
            index.hold(row, _SOCKET, fact.sk)
        ends = row.ends
        held = at_ns - row.since_ns if row.exact and row.state == old else None
        if ends is None or row.sport == 0 or row.state in _ELSEWHERE or row.ifindex != fact.ifindex:
            index.readdress(row, fact)
            if self._implied_rows and ends is not row.ends:
                self._refute(row.ends)
        if fact.ino is not None:
            row.ino = fact.ino
        row.uid = fact.uid
        row.touched_ns = at_ns
        if row.state != new:
            if index.by_state is None:
                row.state = new
            else:
                index.restate(row, new)
            row.since_ns = at_ns
            row.exact = True
        if fact.cookie is not None and row.cookie is None:
            row.cookie = fact.cookie
            index.by_cookie[fact.cookie] = row
        self._learn(row, fact)
        if old == new:
            if not row.told or ends is not row.ends:
                index.news.note(row)
            return None
        return self._transition(fact, row, old, new, held)

    def _learn(self, row: Row, fact: Changed) -> None:
        """What a full socket tells of itself besides."""
        index, new = self._index, fact.new
        if fact.orphaned:
            row.ino = 0
        if fact.owner is not None:
            own(row, fact.owner, new, fact.orphaned)
        if fact.cgroup is not None:
            row.cgroup = fact.cgroup
        if new == _LISTEN:
            if fact.v6only is not None:
                row.v6only = fact.v6only
            if fact.ino is not None:
                index.by_ino[row.ino] = row
            if row.sport == 0 or (row.v6only is None and row.src == _ANY6):
                index.unsettled[row.id] = row
        elif new == _SYN_SENT and row.protocol == IPPROTO_TCP and row.sport == 0:
            index.settle(row, settled=False)
        elif index.unsettled:
            index.settle(row, settled=True)

    def _repeat(self, fact: Changed, row: Row) -> None:
        if row.sk not in (None, fact.sk) and row.cookie != fact.cookie:
            self._index.recognise(row, fact.cookie)  # another object's, whose cookie is its own
        if row.sk != fact.sk:
            self._index.hold(row, fact.kind, fact.sk)
        if fact.kind is _REQUEST:
            self._inherit(row, fact)  # another listener may have taken it
        row.touched_ns = fact.at_ns

    def _take_over(self, fact: Changed, row: Row) -> None:
        self._index.take_over(row, fact)
        row.uid = fact.uid
        row.cgroup = fact.cgroup

    # Steps at the end of a connection.

    def _turn(self, fact: Changed, row: Row) -> Transition | None:
        """A timewait socket's timer is set anew."""
        if row.sk != fact.sk:
            self._index.hold(row, fact.kind, fact.sk)
        old, new = row.state, fact.new
        held = self._pass_on(fact, row)
        return self._transition(fact, row, old, new, held) if old != new else None

    def _hand_over(self, fact: Changed, row: Row) -> Transition:
        old = row.state
        self._index.take_over(row, fact)
        # There is a timewait socket only of who has sent its FIN, and had it acknowledged.
        return self._end(fact, row, old, self._pass_on(fact, row), FIN_BY_US)

    def _pass_on(self, fact: Changed, row: Row) -> int | None:
        """A timewait socket holds the row, in the state of this report; the time in the old one."""
        new = fact.new
        held = fact.at_ns - row.since_ns if row.exact else None
        row.touched_ns = fact.at_ns
        if self._tombstones.sweeping:
            self._tombstones.add_cookie(fact)  # its full socket has died
            self._tombstones.forgive(fact)  # of an earlier life there may have been another timewait socket
        if new == _FIN_WAIT2 or self._index.unsettled:
            self._index.settle(row, settled=new != _FIN_WAIT2)
        if row.state != new:
            self._index.restate(row, new)
            row.since_ns, row.exact = fact.at_ns, True
        return held

    def _hand_over_missed(self, fact: Changed, row: Row) -> Transition:
        index, found = self._index, self._found
        assert found is not None
        held = fact.at_ns - row.since_ns if row.exact and row.state == fact.old else None
        index.news.implied += 1
        index.leave(row)
        row.kind, row.sk, row.cookie, row.ino, row.touched_ns = _TIMEWAIT, None, found.cookie, 0, fact.at_ns
        index.enter(row)
        index.settle(row, settled=found.state != _FIN_WAIT2)
        if row.state != found.state:
            index.restate(row, found.state)
            row.since_ns, row.exact = fact.at_ns, True
        rows = self._implied_rows
        for ends in [ends for ends, one in rows.items() if index.rows.get(one.id) is not one]:
            del rows[ends]
        rows[index.ends_of(row)] = row
        return self._end(fact, row, fact.old, held, FIN_BY_US)

    def _refute(self, ends: Ends | None) -> None:
        """A younger connection is between these ends."""
        row = self._implied_rows.pop(ends, None) if ends is not None else None
        if row is not None and row.sk is None and self._index.rows.get(row.id) is row:
            self._index.remove_missed(row)

    def _end_of_row(self, fact: Changed, row: Row) -> Transition:
        held = fact.at_ns - row.since_ns if row.exact and row.state == fact.old else None
        if fact.since_ns:
            # connect(2) got no port, perhaps because another connection is between these addresses:
            # that one is not dead.
            self._tombstones.add_cookie(fact)
        elif self._tombstones.sweeping:
            self._leave_tombstone(fact, row)
        self._index.remove(row)
        return self._closed(fact, row, held)

    def _end_of_stranger(self, fact: Changed, _row: Row | None) -> Transition:
        row = self._index.row_of(fact, fact.old)
        if fact.since_ns:
            self._tombstones.add_cookie(fact)
        elif self._tombstones.sweeping:
            self._leave_tombstone(fact, row)
        return self._closed(fact, row, fact.at_ns - fact.since_ns if fact.since_ns else None)

    def _closed(self, fact: Changed, row: Row, held: int | None) -> Transition:
        if fact.owner is not None:
            own(row, fact.owner, _CLOSE, True)
        if fact.ino is not None:
            row.ino = fact.ino
        row.sport = row.sport or fact.sport
        if row.state == _LISTEN:
            self._index.leave_listener(row)
        row.state = _CLOSE
        return self._end(fact, row, fact.old, held, fact.cause)

    def _leave_tombstone(self, fact: Changed | Gone, row: Row) -> None:
        """Its end was reported: the sweep that goes on may have seen it before."""
        tombstones = self._tombstones
        if tombstones.may_be_shown(fact.at_ns):
            # The sweep may have given it a cookie that the row does not know yet, but its last event does.
            tombstones.add(fact.cookie or row.cookie, row)
            if row.sport != fact.sport or row.src != fact.src:  # not learnt until it ended
                tombstones.add(fact.cookie, fact)

    # Steps of a request or timewait socket that dies.

    def _pass(self, fact: Gone, _row: Row | None) -> None:
        if self._tombstones.may_be_shown(fact.at_ns):
            self._tombstones.add(fact.cookie, fact)

    def _vanish(self, _fact: Gone, row: Row) -> None:
        self._index.remove_missed(row)

    def _succeed(self, _fact: Gone, row: Row) -> None:
        index = self._index
        index.leave(row)
        row.kind, row.sk = _SOCKET, None
        index.enter(row)

    def _die_after_all(self, fact: Gone, row: Row) -> Transition:
        index = self._index
        index.restate(row, _TIME_WAIT)
        index.leave(row)
        row.kind, row.exact = _TIMEWAIT, False
        return self._die(fact, row)

    def _die(self, fact: Gone, row: Row) -> Transition:
        held = fact.at_ns - row.since_ns if row.exact else None
        if self._tombstones.sweeping:
            self._leave_tombstone(fact, row)
        self._index.remove(row)
        old, row.state = row.state, _CLOSE
        if fact.kind is _REQUEST:
            return self._end(fact, row, old, held, fact.cause)
        return self._transition(fact, row, old, _CLOSE, held, fact.cause)

    # What is told.

    def _end(self, fact: Changed | Gone, row: Row, old: int, held: int | None, cause: str | None) -> Transition:
        """The full socket gives up, or the request socket that never became one: a connection ends, or a listening. The
        row is in its new state already.
        """
        born_ns = row.born_ns
        return self._transition(
            fact, row, old, row.state, held, cause,
            old not in (_CLOSE, _LISTEN), fact.at_ns - born_ns if born_ns is not None else None,
        )  # fmt: skip

    def _transition(  # noqa: PLR0917 - every event comes by here, and names take time
        self, fact: Changed | Gone, row: Row, old: int, new: int, held: int | None, cause: str | None = None,
        ended: bool = False, lifetime_ns: int | None = None,
    ) -> Transition:  # fmt: skip
        at_ns, news = fact.at_ns, self._news
        row.told = True  # this and the next are News.tell, which every event would have to call
        if at_ns > news.last_ns:  # noqa: PLR1730 - half of max()'s price
            news.last_ns = at_ns
        if news.silent:
            news.silent.pop(row.id, None)
        listed = LISTED[old][new] or self._lists(row)
        return Transition(at_ns, row, old, new, held, cause, fact.reported, listed, False, None, ended, lifetime_ns)

    def _lists(self, row: Row) -> bool:
        """What LISTED does not: MPTCP's own sockets have ways of theirs."""
        listed = row.protocol != IPPROTO_TCP
        if not listed:
            self._news.unlisted += 1
        return listed


Take = Callable[[Any, Any, Any], Transition | None]
"""Takes a step: of a fold, a fact, and the row that holds it or None."""

_TAKE: dict[Step, Take] = {
    Step.NOTHING: Fold._nothing,
    Step.BIRTH: Fold._birth,
    Step.MOVE: Fold._move,
    Step.REPEAT: Fold._repeat,
    Step.TAKE_OVER: Fold._take_over,
    Step.HAND_OVER: Fold._hand_over,
    Step.HAND_OVER_MISSED: Fold._hand_over_missed,
    Step.END: Fold._end_of_row,
    Step.END_OF_STRANGER: Fold._end_of_stranger,
}
_TAKE_GONE: dict[Step, Take] = {
    Step.NOTHING: Fold._nothing,
    Step.SUCCEED: Fold._succeed,
    Step.VANISH: Fold._vanish,
    Step.END: Fold._die,
    Step.DEATH: Fold._die,
    Step.DEATH_OF_SUCCESSOR: Fold._die_after_all,
    Step.PASS: Fold._pass,
}
_TAKES = {
    Report.TIMEWAIT_TIMER: _TAKE | {Step.MOVE: Fold._turn},
    Report.REQUEST_GONE: _TAKE_GONE,
    Report.TIMEWAIT_GONE: _TAKE_GONE,
}
"""Those of reports that are not a full socket's."""


def report_of(old: int, new: int) -> Report:
    """What a full socket reports that changes, or is where it was."""
    if new == _CLOSE:
        return Report.CLOSES
    if old == new:
        return Report.REPEATS
    if old == _CLOSE:
        return Report.OPENS
    return Report.CHILD if old == _LISTEN and new == _SYN_RECV else Report.MOVES


_NOBODY = len(Kind)


def first(rules: Sequence[tuple[Take, Guard | None]]) -> Take:
    """What does the step of the first rule whose guard holds; the last has none."""
    take, when = rules[0]
    if when is None:
        return take
    others = first(rules[1:])

    def choose(fold: Any, fact: Any, row: Any) -> Transition | None:
        return take(fold, fact, row) if when(row, fact, fold) else others(fold, fact, row)

    return choose


def plans(
    steps: Mapping[tuple[Any, Kind | None], Sequence[Rule]], takes: Mapping[Step, Take]
) -> dict[tuple[Any, Kind | None], Take]:
    """What is to be done with each report, by the sort of object that holds the row."""
    return {report: first([(takes[rule.step], rule.when) for rule in rules]) for report, rules in steps.items()}


def _plans(report: Report) -> tuple[Take, ...]:
    takes = _TAKES.get(report, _TAKE)
    return tuple(first([(takes[rule.step], rule.when) for rule in STEPS[report, holder]]) for holder in (*Kind, None))


_OF_REPORT = {report: _plans(report) for report in Report}
_CHANGED = tuple(tuple(_OF_REPORT[report_of(old, new)] for new in range(16)) for old in range(16))
"""lifecycle.STEPS by number, for an event is brought to its rules a hundred thousand times a second: of a full socket,
by old state, new state and who holds the row (_NOBODY: there is none), what does the step.
"""
_STARTED = {_REQUEST: _OF_REPORT[Report.REQUEST_TIMER], _TIMEWAIT: _OF_REPORT[Report.TIMEWAIT_TIMER]}
_GONE = {_REQUEST: _OF_REPORT[Report.REQUEST_GONE], _TIMEWAIT: _OF_REPORT[Report.TIMEWAIT_GONE]}
