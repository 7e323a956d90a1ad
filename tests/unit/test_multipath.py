"""MPTCP's own sockets in the table: rows that share a cookie, rows that are over and held, and what sweeps show."""

from itertools import count

import pytest

from sstrace.fields import NOTHING
from sstrace.lifecycle import mptcp
from sstrace.lifecycle.udp import UNSEEN
from sstrace.lifecycle.words import Report
from sstrace.model import Changed, InetSocket, Kind, Netns, Space, State, SweepBegin, SweepEnd, Table
from sstrace.protocols import IPPROTO_MPTCP
from sstrace.table import SocketTable, Transition

S = State
SPACE = Space(1, IPPROTO_MPTCP)
HERE, THERE = b"\x7f\0\0\1", b"\x7f\0\0\2"
_clock = count(1000, 1000)


def fact(sk: int, old: int, new: int, sport: int, dport: int, **more: object) -> Changed:
    values: dict[str, object] = {
        "at_ns": next(_clock), "cpu": 0, "kind": Kind.SOCKET, "old": old, "new": new, "sk": sk, "cookie": None,
        "ino": None, "net": 1, "netns": 1, "family": 2, "protocol": IPPROTO_MPTCP, "src": HERE, "sport": sport,
        "dst": THERE if dport else bytes(4), "dport": dport, "uid": 0, "ifindex": 0, "since_ns": None, "owner": None,
        "cgroup": None, "cause": None, "reported": NOTHING,
    }  # fmt: skip
    return Changed(**(values | more))  # type: ignore[arg-type]


def shown(state: int, sport: int, dport: int, ino: int, cookie: int = 7) -> InetSocket:
    peer = THERE if dport else bytes(4)
    return InetSocket(
        table=Table.MPTCP, family=2, state=state, ino=ino, cookie=cookie, src=HERE, sport=sport, dst=peer, dport=dport
    )


@pytest.fixture
def table() -> SocketTable:
    return SocketTable(Netns(1, 1))


def told(change: Transition | None) -> tuple[int, int, bool]:
    assert change is not None
    return change.old, change.new, change.ended


def test_those_that_a_listener_accepts_are_rows_of_their_own_with_its_cookie(table: SocketTable) -> None:
    table.apply(fact(1, S.CLOSE, S.LISTEN, 80, 0, ino=10))
    for sk, port in ((2, 4000), (3, 4001)):
        assert told(table.apply(fact(sk, S.LISTEN, S.ESTABLISHED, 80, port, cookie=7))) == (
            UNSEEN,
            S.ESTABLISHED,
            False,
        )
    table.begin(SweepBegin(SPACE, next(_clock)))
    table.met(
        SPACE, [shown(S.ESTABLISHED, 80, 4000, 20), shown(S.ESTABLISHED, 80, 4001, 0), shown(S.LISTEN, 80, 0, 10)]
    )
    found = table.end(SweepEnd(SPACE, next(_clock), True))
    assert not found.added
    assert not found.removed
    assert not found.changed
    assert sorted((row.dport, row.ino) for row in table) == [(0, 10), (4000, 20), (4001, 0)]


def test_what_is_over_and_held_stays_until_it_is_closed(table: SocketTable) -> None:
    table.apply(fact(1, S.CLOSE, S.SYN_SENT, 4000, 80, ino=10))
    table.apply(fact(1, S.SYN_SENT, S.ESTABLISHED, 4000, 80, ino=10))
    over = table.apply(fact(1, S.ESTABLISHED, S.CLOSE, 4000, 80, ino=10, cause="reset-received"))
    assert told(over) == (S.ESTABLISHED, S.CLOSE, False)
    assert len(table) == 1
    assert table.apply(fact(1, S.CLOSE, S.CLOSE, 4000, 80, ino=10, cause="closed")) is None
    end = table.apply(fact(1, S.CLOSE, S.CLOSE, 4000, 80, ino=10, cause="closed", orphaned=True))
    assert told(end) == (S.CLOSE, UNSEEN, True)
    assert end is not None
    assert end.cause == "reset-received"
    assert len(table) == 0
    assert table.apply(fact(1, S.CLOSE, S.CLOSE, 4000, 80, cause="closed", orphaned=True)) is None


@pytest.mark.parametrize("more", [{"forgotten": True, "cause": "subflow"}, {"cause": "disconnected"}])
def test_what_has_no_token_any_more_is_shown_no_more(table: SocketTable, more: dict[str, object]) -> None:
    table.apply(fact(1, S.CLOSE, S.SYN_SENT, 4000, 80, ino=10))
    assert told(table.apply(fact(1, S.SYN_SENT, S.CLOSE, 4000, 80, ino=10, **more))) == (S.SYN_SENT, UNSEEN, True)


def test_what_waits_in_a_queue_is_shown_even_when_it_is_over(table: SocketTable) -> None:
    table.apply(fact(1, S.LISTEN, S.ESTABLISHED, 80, 4000, orphaned=True))
    over = table.apply(fact(1, S.ESTABLISHED, S.CLOSE, 80, 4000, orphaned=True, cause="reset-received"))
    assert told(over) == (S.ESTABLISHED, S.CLOSE, False)


def test_of_each_pair_the_last_rule_holds_always_and_it_alone() -> None:
    reports = {Report.OPENS, Report.CHILD, Report.MOVES, Report.REPEATS, Report.CLOSES}
    assert {(report, None) for report in reports} <= mptcp.STEPS.keys()
    for rules in mptcp.STEPS.values():
        assert [rule.when is None for rule in rules] == [False] * (len(rules) - 1) + [True]
