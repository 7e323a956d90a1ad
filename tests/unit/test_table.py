"""The live table: every step of a life by made-up facts, sweeps, losses, and the fold law over random histories."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from bpf_events import CLIENT, HERE, SERVER, SPACE, changed, gone, owner
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_model import MAPPED, Kernel, Life

import sstrace.table.fold as fold_module
from sstrace.lifecycle import STEPS, Report, Step
from sstrace.model import AF_INET, AF_INET6, Changed, Gone, InetSocket, Kind, Seen, State, SweepBegin, SweepEnd, Table
from sstrace.table import Resync, Row, SocketTable, Transition

S = State
A, B, C = 0xFFFF888000001000, 0xFFFF888000002000, 0xFFFF888000003000
Shown = tuple[int, int, int | None]


def table() -> SocketTable:
    return SocketTable(HERE)


def fold(into: SocketTable, *facts: Changed | Gone) -> list[Shown]:
    """(old, new, held) of each transition that users would see."""
    return [(seen.old, seen.new, seen.held_ns) for seen in filter(None, map(into.apply, facts))]


def found(state: int, cookie: int, **fields: Any) -> InetSocket:
    values = {"src": CLIENT, "sport": 40000, "dst": SERVER, "dport": 443, "ino": 0, **fields}
    return InetSocket(table=Table.TCP, family=AF_INET, state=int(state), cookie=cookie, **values)


def begin(into: SocketTable, at: int, *, doubted: bool = False) -> None:
    into.begin(SweepBegin(SPACE, at, doubted))


def end(into: SocketTable, at: int, *, complete: bool = True) -> Resync:
    return into.end(SweepEnd(SPACE, at, complete))


def sweep(into: SocketTable, at: int, *sockets: InetSocket, complete: bool = True, doubted: bool = False) -> Resync:
    begin(into, at, doubted=doubted)
    for socket in sockets:
        into.seen(Seen(SPACE, socket))
    return end(into, at + 1, complete=complete)


def only(of: SocketTable) -> Row:
    (row,) = of
    return row


def states(of: SocketTable) -> list[int]:
    return sorted(row.state for row in of)


def assert_empty(of: SocketTable) -> None:
    """Nothing is kept of what has died."""
    for name in ("rows", "by_sk", "by_cookie", "by_ino", "by_ends", "unsettled"):
        assert not getattr(of.home.index, name), name
    for name in ("_ends", "_cookies", "_inodes"):
        assert not getattr(of.home.tombstones, name), name
    assert of.in_states(_NOT_ESTABLISHED) == []


_NOT_ESTABLISHED = -1 & ~(1 << S.ESTABLISHED)


def assert_indexed(of: SocketTable) -> None:
    """The index by state holds what the rows say."""
    rare = [row for row in of if row.state != S.ESTABLISHED]
    found = of.in_states(_NOT_ESTABLISHED)
    assert found is not None
    assert sorted(row.id for row in found) == sorted(row.id for row in rare)
    for state in {row.state for row in rare}:
        assert {row.id for row in of.in_states(1 << state) or ()} == {row.id for row in rare if row.state == state}
    assert of.in_states(-1) is None
    assert of.timewaits() == sum(row.kind is Kind.TIMEWAIT for row in of)


CONNECT = (
    changed(1000, S.CLOSE, S.SYN_SENT, A, ino=9, owner=owner()),
    changed(1700, S.SYN_SENT, S.ESTABLISHED, A, ino=9),
)
TIMEWAIT = {"kind": Kind.TIMEWAIT}


# ------------------------------------------------------------------------------------------------------------ lives


def test_a_client_that_closes_first() -> None:
    live = table()
    assert fold(
        live,
        *CONNECT,
        changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A, ino=9),
        changed(5300, S.FIN_WAIT1, S.FIN_WAIT2, A),
        changed(6000, 0, S.TIME_WAIT, B, **TIMEWAIT),
        changed(6001, S.FIN_WAIT2, S.CLOSE, A, cause="fin-by-us"),
        gone(66000, Kind.TIMEWAIT, B),
    ) == [
        (S.CLOSE, S.SYN_SENT, None),
        (S.SYN_SENT, S.ESTABLISHED, 700),
        (S.ESTABLISHED, S.FIN_WAIT1, 3300),
        (S.FIN_WAIT1, S.FIN_WAIT2, 300),
        (S.FIN_WAIT2, S.TIME_WAIT, 700),
        (S.TIME_WAIT, S.CLOSE, 60000),
    ]
    assert_empty(live)


def test_it_is_one_row_all_the_way() -> None:
    live = table()
    ids = set()
    for fact in (
        *CONNECT,
        changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A),
        changed(6000, 0, S.TIME_WAIT, B, **TIMEWAIT),
        changed(6001, S.FIN_WAIT1, S.CLOSE, A),
    ):
        change = live.apply(fact)
        if change is not None:
            ids.add(change.row.id)
        assert len(live) == 1
    assert ids == {only(live).id}
    row = only(live)
    assert (row.kind, row.state, row.sk, row.ino) == (Kind.TIMEWAIT, S.TIME_WAIT, B, 0)
    assert row.owners == (owner(),)  # who held it is not forgotten


REQUEST = changed(1000, S.LISTEN, S.SYN_RECV, B, kind=Kind.REQUEST)


def test_a_server_s_connection() -> None:
    live = table()
    assert fold(
        live,
        REQUEST,
        changed(1300, S.LISTEN, S.SYN_RECV, A, uid=77, cgroup=5),
        gone(1301, Kind.REQUEST, B, cause="completed"),
        changed(1302, S.SYN_RECV, S.ESTABLISHED, A, uid=77),
        changed(2000, S.ESTABLISHED, S.CLOSE_WAIT, A, ino=70),
        changed(2500, S.CLOSE_WAIT, S.LAST_ACK, A, ino=70, owner=owner(88, None)),
        changed(2600, S.LAST_ACK, S.CLOSE, A, cause="fin-by-peer"),
    ) == [
        (S.LISTEN, S.SYN_RECV, None),
        (S.SYN_RECV, S.ESTABLISHED, 302),
        (S.ESTABLISHED, S.CLOSE_WAIT, 698),
        (S.CLOSE_WAIT, S.LAST_ACK, 500),
        (S.LAST_ACK, S.CLOSE, 100),
    ]
    assert_empty(live)


def test_the_child_takes_over_from_its_request() -> None:
    live = table()
    first = live.apply(REQUEST)
    assert first is not None
    fold(live, changed(1300, S.LISTEN, S.SYN_RECV, A, uid=77, cgroup=5))
    row = only(live)
    assert (row.id, row.kind, row.sk, row.uid, row.cgroup) == (first.row.id, Kind.SOCKET, A, 77, 5)


def test_a_syn_ack_sent_again_shows_nothing() -> None:
    live = table()
    assert fold(live, REQUEST, changed(2000, S.LISTEN, S.SYN_RECV, B, kind=Kind.REQUEST, retransmits=1)) == [
        (S.LISTEN, S.SYN_RECV, None)
    ]
    # The time of the half-open state goes on from the first.
    assert fold(live, gone(9000, Kind.REQUEST, B, cause="timeout-synack")) == [(S.SYN_RECV, S.CLOSE, 8000)]


@pytest.mark.parametrize("cookie", [None, 8])
def test_another_request_for_the_same_syn_has_a_cookie_of_its_own(cookie: int | None) -> None:
    """Or what the kernel shows of it would pass for a stranger, and no answer would have it."""
    live, ends = table(), {"src": SERVER, "sport": 443, "dst": CLIENT, "dport": 40000}
    request = {"kind": Kind.REQUEST, **ends}
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A, cookie=7, **request))
    fold(live, changed(2000, S.SYN_RECV, S.SYN_RECV, B, cookie=cookie, **request))
    assert live.home.index.known(found(S.SYN_RECV, 8, **ends)) is only(live)
    assert live.home.index.known(found(S.SYN_RECV, 9, **ends)) is (only(live) if cookie is None else None)
    sweep(live, 3000, found(S.SYN_RECV, 8, **ends))
    assert only(live).cookie == 8
    fold(live, gone(9000, Kind.REQUEST, B, cookie=8, cause="timeout-synack", **ends))
    assert_empty(live)
    assert_empty(live)


def test_a_child_without_a_request() -> None:
    # A SYN cookie, or TCP Fast Open.
    live = table()
    assert fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A), changed(1002, S.SYN_RECV, S.ESTABLISHED, A)) == [
        (S.LISTEN, S.SYN_RECV, None),
        (S.SYN_RECV, S.ESTABLISHED, 2),
    ]


NAMELESS = {"dport": 0, "dst": bytes(4)}


def test_a_child_takes_over_at_its_first_transition() -> None:
    # Neither its birth nor the end of its request is told: bpf/tcp.h, bpf/minisock.h.
    live = table()
    assert fold(live, REQUEST, changed(1302, S.SYN_RECV, S.ESTABLISHED, A, uid=77)) == [
        (S.LISTEN, S.SYN_RECV, None),
        (S.SYN_RECV, S.ESTABLISHED, 302),
    ]
    row = only(live)
    assert (row.kind, row.dport, row.dst, row.sk, row.uid) == (Kind.SOCKET, 443, SERVER, A, 77)
    fold(live, changed(1400, S.ESTABLISHED, S.CLOSE, A))
    assert_empty(live)


def test_a_child_without_a_peer_gets_it_from_its_next_transition() -> None:
    # Before Linux 6.2 or so the peer's address was copied after the event, and the lower tiers tell it as it is.
    live = table()
    assert fold(
        live,
        changed(1300, S.LISTEN, S.SYN_RECV, A, **NAMELESS),
        changed(1302, S.SYN_RECV, S.ESTABLISHED, A),
    ) == [(S.SYN_RECV, S.ESTABLISHED, 2)]
    assert only(live).dport == 443


def test_an_orphan_waits_in_a_timewait_socket() -> None:
    live = table()
    fold(live, *CONNECT)
    assert fold(
        live,
        changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A),
        changed(5300, S.FIN_WAIT1, S.FIN_WAIT2, A),
        changed(5301, 0, S.FIN_WAIT2, B, **TIMEWAIT),
        changed(5302, S.FIN_WAIT2, S.CLOSE, A),
    ) == [(S.ESTABLISHED, S.FIN_WAIT1, 3300), (S.FIN_WAIT1, S.FIN_WAIT2, 300), (S.FIN_WAIT2, S.FIN_WAIT2, 1)]
    row = only(live)
    # It has been in its state for as long as before.
    assert (row.kind, row.state, row.since_ns) == (Kind.TIMEWAIT, S.FIN_WAIT2, 5300)
    assert live.unsettled() == [row]


def orphan() -> SocketTable:
    live = table()
    fold(live, *CONNECT, changed(5300, S.FIN_WAIT1, S.FIN_WAIT2, A), changed(5301, 0, S.FIN_WAIT2, B, **TIMEWAIT))
    fold(live, changed(5302, S.FIN_WAIT2, S.CLOSE, A))
    return live


def test_an_orphan_that_is_seen_to_have_become_time_wait() -> None:
    live = orphan()
    row = only(live)
    assert live.probed(row, found(S.FIN_WAIT2, 1, timer=3), 7000) is None
    change = live.probed(row, found(S.TIME_WAIT, 1, timer=3), 8000)
    assert change is not None
    assert (change.old, change.new, change.at_ns, change.held_ns) == (S.FIN_WAIT2, S.TIME_WAIT, 8000, 2700)
    assert change.approximate
    assert not live.unsettled()
    # Once more changes nothing, and an event that says so too late shows nothing.
    assert live.probed(row, found(S.TIME_WAIT, 1, timer=3), 9000) is None
    assert fold(live, changed(9100, 0, S.TIME_WAIT, B, **TIMEWAIT)) == []
    assert fold(live, gone(68000, Kind.TIMEWAIT, B)) == [(S.TIME_WAIT, S.CLOSE, 60000)]
    assert_empty(live)


def test_an_orphan_whose_timer_is_set_anew() -> None:
    live = orphan()
    assert fold(live, changed(8000, 0, S.TIME_WAIT, B, **TIMEWAIT)) == [(S.FIN_WAIT2, S.TIME_WAIT, 2700)]
    assert not live.unsettled()


def test_a_look_that_is_older_than_an_event_is_not_believed() -> None:
    live = orphan()
    row = only(live)
    fold(live, changed(8000, 0, S.FIN_WAIT2, B, **TIMEWAIT))
    assert live.probed(row, found(S.TIME_WAIT, 1, timer=3), 7999) is None
    assert row.state == S.FIN_WAIT2


def test_a_look_that_finds_nothing_leaves_the_end_to_its_event() -> None:
    live = orphan()
    assert live.probed(only(live), None, 9000) is None
    assert live.unsettled()
    assert fold(live, gone(9001, Kind.TIMEWAIT, B, cause="reset-received")) == [(S.FIN_WAIT2, S.CLOSE, 3701)]


def test_a_look_at_a_row_that_has_gone_meanwhile_is_nothing() -> None:
    live = orphan()
    row = only(live)
    fold(live, gone(6000, Kind.TIMEWAIT, B))
    assert live.probed(row, found(S.TIME_WAIT, 1, timer=3), 9000) is None
    assert_empty(live)


def test_a_timewait_timer_set_anew_shows_nothing_and_starts_nothing_anew() -> None:
    live = table()
    fold(live, *CONNECT, changed(6000, 0, S.TIME_WAIT, B, **TIMEWAIT), changed(6001, S.FIN_WAIT2, S.CLOSE, A))
    assert fold(live, changed(7000, 0, S.TIME_WAIT, B, **TIMEWAIT), changed(8000, 0, S.TIME_WAIT, B, **TIMEWAIT)) == []
    assert fold(live, gone(66000, Kind.TIMEWAIT, B)) == [(S.TIME_WAIT, S.CLOSE, 60000)]


def test_a_timewait_socket_from_nowhere_is_a_row_without_a_transition() -> None:
    live = table()
    assert fold(live, changed(6000, 0, S.TIME_WAIT, B, **TIMEWAIT)) == []
    assert only(live).state == S.TIME_WAIT
    assert fold(live, gone(66000, Kind.TIMEWAIT, B)) == [(S.TIME_WAIT, S.CLOSE, 60000)]
    assert_empty(live)


def test_v4_mapped_addresses_are_the_same_connection() -> None:
    live = table()
    mapped = {"family": AF_INET6, "src": MAPPED + CLIENT, "dst": MAPPED + SERVER}
    request = fold(live, REQUEST)  # a request socket may name the family of the packet, its child that of the listener
    assert request == [(S.LISTEN, S.SYN_RECV, None)]
    assert (
        fold(live, changed(1300, S.LISTEN, S.SYN_RECV, A, **mapped), gone(1301, Kind.REQUEST, B, cause="completed"))
        == []
    )
    assert (only(live).family, only(live).src) == (AF_INET6, MAPPED + CLIENT)
    assert fold(live, changed(6000, 0, S.TIME_WAIT, C, **TIMEWAIT)) == [(S.SYN_RECV, S.TIME_WAIT, 5000)]


@pytest.mark.parametrize("touched", [True, False])
def test_a_sweep_finds_the_port_that_was_chosen_late(touched: bool) -> None:
    live = table()
    live.silent = {}
    began = 1000 if touched else 3000
    fold(live, changed(2000, S.CLOSE, S.SYN_SENT, A, ino=5, sport=0, src=bytes(4)))
    row = only(live)
    assert live.unsettled() == [row]
    repaired = sweep(live, began, found(S.SYN_SENT, 9, ino=5))
    assert [repaired.added, repaired.removed, repaired.changed] == [[], [], []]
    assert (only(live), row.sport, row.src, row.cookie) == (row, 40000, CLIENT, 9)
    assert live.unsettled() == []
    assert_indexed(live)
    assert fold(live, changed(4000, S.SYN_SENT, S.ESTABLISHED, A, ino=5, cookie=9)) == [
        (S.SYN_SENT, S.ESTABLISHED, 2000)
    ]
    assert only(live) is row


def test_a_port_that_was_chosen_late_is_known_from_any_later_event() -> None:
    live = table()
    fold(live, changed(2000, S.CLOSE, S.SYN_SENT, A, ino=5, sport=0, src=bytes(4)))
    row = only(live)
    # How it came about was lost; and how it handed over to its timewait socket will be.
    fold(live, changed(3000, S.ESTABLISHED, S.FIN_WAIT1, A, ino=5), changed(3100, S.FIN_WAIT1, S.FIN_WAIT2, A, ino=5))
    assert live.unsettled() == []
    repaired = sweep(live, 4000, found(S.TIME_WAIT, 9, timer=3))
    assert [(changed_row, old) for changed_row, old in repaired.changed] == [(row, S.FIN_WAIT2)]
    assert (row.state, row.kind) == (S.TIME_WAIT, Kind.TIMEWAIT)


MS = 1_000_000


@pytest.mark.parametrize("before", [500, 5 * MS])
def test_what_closed_and_connected_again_just_before_a_sweep_lives(before: int) -> None:
    live = table()
    fold(live, changed(MS, S.SYN_SENT, S.ESTABLISHED, A, ino=5, cookie=9))
    # The sweep begins before these events are folded in.
    began = 100 * MS
    begin(live, began)
    fold(
        live,
        changed(began - before, S.ESTABLISHED, S.CLOSE, A, ino=5, cookie=9),
        changed(began - before + 100, S.CLOSE, S.SYN_SENT, A, ino=5, cookie=9, sport=0),
        changed(began - before + 200, S.SYN_SENT, S.ESTABLISHED, A, ino=5, cookie=9),
    )
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 9, ino=5)))
    assert live.unseen(SPACE) == []
    assert end(live, began + 100).removed == []
    assert only(live).state == S.ESTABLISHED


def test_an_end_before_a_sweep_says_nothing_of_what_it_meets() -> None:
    # The next connection between the same addresses came while events were lost.
    live = table()
    fold(live, changed(MS, S.SYN_SENT, S.ESTABLISHED, A, cookie=8))
    begin(live, 100 * MS)
    fold(live, changed(2 * MS, S.ESTABLISHED, S.CLOSE, A, cookie=8))
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 9)))
    assert [row.cookie for row in end(live, 101 * MS).added] == [9]


def test_a_family_that_only_a_sweep_tells_is_news() -> None:
    live = table()
    live.silent = {}
    fold(live, changed(1000, 0, S.TIME_WAIT, C, **{**TIMEWAIT, "cookie": None}))
    live.silent.clear()
    mapped = found(S.TIME_WAIT, 9, src=MAPPED + CLIENT, dst=MAPPED + SERVER)
    mapped.family = AF_INET6
    repaired = sweep(live, 2000, mapped)
    assert [repaired.added, repaired.removed, repaired.changed] == [[], [], []]
    assert list(live.silent.values()) == [(only(live), 0)]
    assert only(live).family == AF_INET6


def test_a_listener_whose_port_comes_later() -> None:
    live = table()
    fold(live, changed(1000, S.CLOSE, S.LISTEN, A, ino=9, sport=0, dport=0, dst=bytes(4)))
    row = only(live)
    assert live.unsettled() == [row]
    assert live.probed(row, found(S.LISTEN, 5, ino=9, sport=33333, dport=0), 2000) is None
    assert row.sport == 33333
    assert not live.unsettled()
    fold(live, changed(3000, S.LISTEN, S.CLOSE, A, ino=9, sport=33333, dport=0, dst=bytes(4)))
    assert_empty(live)


def test_a_socket_that_is_used_again_after_a_disconnect_is_a_new_connection() -> None:
    live = table()
    fold(live, *CONNECT)
    first = only(live).id
    assert fold(
        live,
        changed(2000, S.ESTABLISHED, S.CLOSE, A, ino=9, cause="disconnected"),
        changed(3000, S.CLOSE, S.SYN_SENT, A, ino=9, dport=80),
    ) == [(S.ESTABLISHED, S.CLOSE, 300), (S.CLOSE, S.SYN_SENT, None)]
    assert (only(live).id != first, only(live).dport) == (True, 80)


def test_a_connect_that_failed_shows_how_long_it_took_though_its_beginning_was_lost() -> None:
    live = table()
    assert fold(live, changed(2000, S.SYN_SENT, S.CLOSE, A, since_ns=1700, cause="connect-failed")) == [
        (S.SYN_SENT, S.CLOSE, 300)
    ]
    assert_empty(live)


def test_a_connect_that_fails_leaves_its_addresses_to_who_has_them() -> None:
    live = table()
    fold(live, *CONNECT)
    (alive,) = live
    ends = alive.ends
    assert ends is not None
    failed = {"sport": alive.sport, "dport": alive.dport, "since_ns": 1700}
    assert fold(
        live,
        changed(1700, S.CLOSE, S.SYN_SENT, B, ino=77, **failed),
        changed(2000, S.SYN_SENT, S.CLOSE, B, ino=77, cause="connect-failed", **failed),
    ) == [(S.CLOSE, S.SYN_SENT, None), (S.SYN_SENT, S.CLOSE, 300)]
    assert (only(live), live.home.index.between([ends])) == (alive, [alive])


def test_a_syn_of_which_nobody_heard_the_connect_is_its_beginning() -> None:
    live = table()
    syn = changed(1000, S.SYN_SENT, S.SYN_SENT, A, ino=77)
    assert fold(live, syn) == [(S.CLOSE, S.SYN_SENT, None)]
    row = only(live)
    assert (row.born_ns, row.role) == (1000, "client")
    assert fold(live, syn) == []
    # Another socket, where the end of this one was not heard either.
    assert fold(live, changed(2000, S.SYN_SENT, S.SYN_SENT, A, ino=78)) == [(S.CLOSE, S.SYN_SENT, None)]


def test_unlisted_transitions_are_applied_and_counted() -> None:
    live = table()
    fold(live, *CONNECT)
    change = live.apply(changed(2000, S.ESTABLISHED, S.LAST_ACK, A))
    assert change is not None
    assert (change.listed, live.unlisted, only(live).state) == (False, 1, S.LAST_ACK)
    listed = live.apply(changed(3000, S.LAST_ACK, S.CLOSE, A))
    assert listed is not None
    assert (listed.listed, live.unlisted) == (True, 1)


def test_a_request_that_another_listener_takes_over_is_the_same_connection() -> None:
    live = table()
    request = {"kind": Kind.REQUEST}
    assert fold(
        live,
        changed(1000, S.LISTEN, S.SYN_RECV, A, **request),
        changed(2000, S.SYN_RECV, S.SYN_RECV, B, **request),  # a copy
        changed(3000, S.SYN_RECV, S.ESTABLISHED, C),
    ) == [(S.LISTEN, S.SYN_RECV, None), (S.SYN_RECV, S.ESTABLISHED, 2000)]
    assert (only(live).born_ns, only(live).sk) == (1000, C)


def test_a_request_socket_of_which_only_others_tell_is_counted() -> None:
    live = table()
    born = {"kind": Kind.REQUEST}
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A, **born), changed(2000, S.SYN_RECV, S.ESTABLISHED, C))
    assert live.unmet == 0
    assert fold(live, changed(3000, S.SYN_RECV, S.ESTABLISHED, B, sport=7)) == [(S.SYN_RECV, S.ESTABLISHED, None)]
    assert live.unmet == 1
    fold(live, changed(4000, S.LISTEN, S.SYN_RECV, A, sport=8, retransmits=1, **born))
    assert (live.unmet, len(live)) == (2, 3)
    fold(live, changed(5000, S.LISTEN, S.SYN_RECV, A, sport=8, retransmits=1, **born))
    assert (live.unmet, len(live)) == (2, 3), "it is known by now"


@pytest.mark.parametrize("cause", ["fin-by-us", "reset-sent"])
@pytest.mark.parametrize("shown", [S.TIME_WAIT, S.FIN_WAIT2])
def test_a_timewait_socket_that_did_not_tell_is_found_where_an_end_implies_it(cause: str, shown: State) -> None:
    live = table()
    asked = []

    def probe(row: Row) -> InetSocket:
        asked.append(row.state)
        return found(shown, 7, timer=3)

    live.probe = probe
    fold(live, *CONNECT)
    row = only(live)
    assert fold(
        live,
        changed(2000, S.ESTABLISHED, S.FIN_WAIT1, A),
        changed(3000, S.FIN_WAIT1, S.FIN_WAIT2, A),
        changed(4000, S.FIN_WAIT2, S.CLOSE, A, cause=cause),
    )[-1] == (S.FIN_WAIT2, shown, 1000)
    assert (asked, live.implied) == ([S.FIN_WAIT2], 1)
    assert (only(live), row.state, row.kind, row.sk) == (row, shown, Kind.TIMEWAIT, None)
    assert live.unsettled() == ([row] if shown is S.FIN_WAIT2 else [])
    # Its end finds it by its cookie.
    assert fold(live, gone(9000, Kind.TIMEWAIT, C, cookie=7, cause="expired"))[-1][:2] == (shown, S.CLOSE)
    assert_empty(live)


@pytest.mark.parametrize(
    "shown", [None, found(S.SYN_SENT, 9), found(S.TIME_WAIT, 9, timer=3)], ids=["nothing", "another", "another's"]
)
def test_an_end_is_an_end_where_the_kernel_has_no_timewait_socket_of_it(shown: InetSocket | None) -> None:
    live = table()
    live.probe = lambda _row: shown
    fold(live, *CONNECT)
    only(live).cookie = 7
    assert fold(
        live,
        changed(2000, S.ESTABLISHED, S.FIN_WAIT1, A, cookie=7),
        changed(3000, S.FIN_WAIT1, S.FIN_WAIT2, A, cookie=7),
        changed(4000, S.FIN_WAIT2, S.CLOSE, A, cookie=7, cause="reset-sent"),
    )[-1] == (S.FIN_WAIT2, S.CLOSE, 1000)
    assert_empty(live)


@pytest.mark.parametrize("port", [True, False], ids=["with its port", "whose port is told later"])
def test_a_younger_connection_refutes_a_timewait_socket_that_was_found_in_its_place(port: bool) -> None:
    """Who looked was late, and saw the one that the younger connection has left behind."""
    live = table()
    live.probe = lambda _row: found(S.TIME_WAIT, 7, timer=3)
    fold(
        live,
        *CONNECT,
        changed(2000, S.ESTABLISHED, S.FIN_WAIT1, A),
        changed(3000, S.FIN_WAIT1, S.FIN_WAIT2, A),
        changed(4000, S.FIN_WAIT2, S.CLOSE, A, cause="reset-sent"),
    )
    ghost = only(live)
    assert ghost.kind is Kind.TIMEWAIT
    fold(live, changed(5000, S.CLOSE, S.SYN_SENT, B, **({} if port else {"sport": 0})))
    fold(live, changed(6000, S.SYN_SENT, S.ESTABLISHED, B), changed(7000, S.ESTABLISHED, S.FIN_WAIT1, B))
    fold(live, changed(8000, 0, S.TIME_WAIT, C, kind=Kind.TIMEWAIT))
    assert only(live) is not ghost
    assert (only(live).kind, only(live).sk) == (Kind.TIMEWAIT, C)
    assert fold(live, gone(9000, Kind.TIMEWAIT, C, cause="expired"))[-1][:2] == (S.TIME_WAIT, S.CLOSE)
    assert_empty(live)


def test_a_look_that_met_the_next_connection_between_the_same_ends_does_not_split_a_row() -> None:
    live = table()
    fold(live, *CONNECT)
    row = only(live)
    row.ino = 10  # what a look found there before the end of this one was folded in
    assert fold(live, changed(5000, S.ESTABLISHED, S.CLOSE, A, ino=9, cookie=7, cause="linger")) == [
        (S.ESTABLISHED, S.CLOSE, 3300)
    ]
    assert row.ino == 9
    assert_empty(live)


# ----------------------------------------------------------------------------------------------------------- owners


def test_the_last_to_call_owns_it() -> None:
    live = table()
    fold(live, *CONNECT)
    assert (only(live).owners, only(live).owner_source) == ((owner(),), "connect")
    fold(live, changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A, owner=owner(fd=None)))
    assert only(live).owners == (owner(),)  # the descriptor is not forgotten


def test_an_accepted_socket_gets_its_owner_when_it_closes() -> None:
    live = table()
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A), changed(1001, S.SYN_RECV, S.ESTABLISHED, A))
    assert only(live).owners == ()
    change = live.apply(changed(2000, S.ESTABLISHED, S.CLOSE, A, owner=owner(88, None), cause="reset-sent"))
    assert change is not None
    assert (change.row.owners, change.row.owner_source) == ((owner(88, None),), "close")


def test_a_listener_s_owner() -> None:
    live = table()
    fold(live, changed(1000, S.CLOSE, S.LISTEN, A, ino=9, dport=0, owner=owner()))
    assert (only(live).owners, only(live).owner_source) == ((owner(),), "listen")


def test_who_closes_is_the_owner_where_the_known_do_not_name_it() -> None:
    """They are gone, or have sent it away: whoever makes a call holds it."""
    live = table()
    fold(live, *CONNECT, changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A, owner=owner(88, None, b"worker")))
    assert (only(live).owners, only(live).owner_source) == ((owner(88, None, b"worker"),), "close")


def test_of_several_owners_the_last_to_close_was_the_last() -> None:
    live = table()
    fold(live, *CONNECT)
    both = owner(), owner(88, 7)
    live.own(only(live), both, "walk", 2000)
    fold(live, changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A, ino=9, owner=owner(88, None)))  # shutdown(2)
    assert only(live).owners == both
    fold(live, changed(6000, S.FIN_WAIT1, S.LAST_ACK, A, ino=9, owner=owner(88, None), orphaned=True))
    assert (only(live).owners, only(live).owner_source) == ((owner(88, 7),), "walk")


def test_a_process_is_called_by_the_name_that_it_has_now() -> None:
    live = table()
    fold(live, *CONNECT, changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A, owner=owner(fd=None, comm=b"worker")))
    assert only(live).owners == (owner(comm=b"worker"),)


LISTENS = changed(100, S.CLOSE, S.LISTEN, B, ino=20, src=SERVER, sport=443, dst=bytes(4), dport=0, owner=owner(50, 3))
ASKED = {"kind": Kind.REQUEST, "src": SERVER, "sport": 443, "dst": CLIENT, "dport": 40000}


def test_until_it_is_accepted_a_connection_is_of_its_listener_s_owners() -> None:
    live = table()
    fold(live, LISTENS)
    live.own(only(live), (owner(51, 3), owner(50, 4), owner(50, 3)), "walk", 200)
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A, listener=20, **ASKED))
    row = next(row for row in live if row.dport)
    assert (row.owners, row.owner_source) == ((owner(51, None), owner(50, None)), "listener")
    ends = {name: ASKED[name] for name in ("src", "sport", "dst", "dport")}
    fold(live, changed(2000, S.SYN_RECV, S.ESTABLISHED, C, **ends))
    assert row.owner_source == "listener"
    fold(live, changed(3000, S.ESTABLISHED, S.FIN_WAIT1, C, ino=30, owner=owner(50, None), **ends))
    assert (row.owners, row.owner_source) == ((owner(50, None),), "close")


def test_the_listener_is_the_one_that_the_connection_came_to() -> None:
    """Of several at one address (SO_REUSEPORT); and the next one, where that one has closed (tcp_migrate_req)."""
    live = table()
    fold(live, LISTENS, changed(200, S.CLOSE, S.LISTEN, C, ino=21, src=SERVER, sport=443, dst=bytes(4), dport=0,
                                owner=owner(60, 3)))  # fmt: skip
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A, listener=21, **ASKED))
    row = next(row for row in live if row.dport)
    assert row.owners == (owner(60, None),)
    fold(live, changed(2000, S.SYN_RECV, S.SYN_RECV, A + 64, listener=20, **ASKED))
    assert row.owners == (owner(50, None),)


@pytest.mark.parametrize(
    ("address", "inherits"),
    [(SERVER, True), (bytes(4), True), (bytes(16), True), (CLIENT, False), (MAPPED + SERVER, True)],
)
def test_where_no_event_names_the_listener_its_address_does(address: bytes, inherits: bool) -> None:
    """SYN cookies and Fast Open have no request socket."""
    live = table()
    family = AF_INET if len(address) == 4 else AF_INET6
    fold(live, changed(100, S.CLOSE, S.LISTEN, B, ino=20, src=address, sport=443, dst=bytes(len(address)), dport=0,
                       family=family, owner=owner(50, 3)))  # fmt: skip
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A, src=SERVER, sport=443, dst=CLIENT, dport=40000))
    row = next(row for row in live if row.dport)
    assert row.owners == ((owner(50, None),) if inherits else ())


def test_a_look_that_finds_other_owners_is_news() -> None:
    live = table()
    live.silent = {}
    fold(live, *CONNECT)
    row = only(live)
    live.own(row, (owner(),), "walk", 2000)
    assert (row.owner_source, live.silent) == ("connect", {})  # the same that connect(2) told of
    live.own(row, (), "walk", 3000)
    assert (row.owners, row.owner_source, live.silent) == ((), "walk", {row.id: (row, 3000)})
    live.silent.clear()
    live.own(row, (), "walk", 4000)
    assert live.silent == {}


# ------------------------------------------------------------------------------------ addresses used again after a loss


OTHER = {"sport": 41000, "dport": 80}


def test_an_address_used_again_by_a_new_connection() -> None:
    live = table()
    fold(live, *CONNECT)
    first = only(live).id
    assert fold(live, changed(9000, S.CLOSE, S.SYN_SENT, A, **OTHER)) == [(S.CLOSE, S.SYN_SENT, None)]
    assert (only(live).id != first, only(live).sport) == (True, 41000)
    fold(live, changed(9500, S.SYN_SENT, S.CLOSE, A, **OTHER))
    assert_empty(live)


def test_an_address_used_again_by_a_connection_whose_birth_was_lost_too() -> None:
    live = table()
    fold(live, *CONNECT)
    first = only(live).id
    change = live.apply(changed(9000, S.ESTABLISHED, S.FIN_WAIT1, A, **OTHER))
    assert change is not None
    assert (change.held_ns, change.row.sport, change.row.id != first) == (None, 41000, True)
    assert len(live) == 1


def test_an_address_used_again_by_a_listener_s_child() -> None:
    live = table()
    fold(live, *CONNECT)
    first = only(live).id
    assert fold(live, changed(9000, S.LISTEN, S.SYN_RECV, A, **OTHER)) == [(S.LISTEN, S.SYN_RECV, None)]
    assert (only(live).id != first, only(live).sport) == (True, 41000)


def test_a_cookie_that_does_not_fit_shows_another_socket() -> None:
    live = table()
    fold(live, *CONNECT)
    sweep(live, 2000, found(S.ESTABLISHED, 5, ino=9))
    assert only(live).cookie == 5
    first = only(live).id
    change = live.apply(changed(9000, S.ESTABLISHED, S.CLOSE_WAIT, A, cookie=6))
    assert change is not None
    assert (change.held_ns, change.row.id != first, len(live)) == (None, True, 1)


def test_a_request_s_address_used_again() -> None:
    live = table()
    fold(live, REQUEST)
    first = only(live).id
    assert fold(live, changed(9000, S.LISTEN, S.SYN_RECV, B, kind=Kind.REQUEST, **OTHER)) == [
        (S.LISTEN, S.SYN_RECV, None)
    ]
    assert (only(live).id != first, only(live).sport) == (True, 41000)
    fold(live, gone(9100, Kind.REQUEST, B, **OTHER))
    assert_empty(live)


def test_a_timewait_socket_s_address_used_again() -> None:
    live = table()
    fold(live, changed(1000, 0, S.TIME_WAIT, B, **TIMEWAIT))
    fold(live, changed(1000, S.SYN_SENT, S.ESTABLISHED, A, **OTHER))
    assert fold(live, changed(9000, 0, S.TIME_WAIT, B, **TIMEWAIT, **OTHER)) == [(S.ESTABLISHED, S.TIME_WAIT, 8000)]
    assert (len(live), only(live).sport) == (1, 41000)


def test_an_end_that_fits_no_row_ends_none() -> None:
    live = table()
    fold(live, *CONNECT)
    assert fold(live, gone(5000, Kind.TIMEWAIT, C), gone(5001, Kind.REQUEST, C, cause="completed")) == []
    assert states(live) == [S.ESTABLISHED]


def test_an_address_of_another_sort_of_object_is_another_object() -> None:
    live = table()
    fold(live, REQUEST, changed(5000, S.ESTABLISHED, S.FIN_WAIT1, B, **OTHER))
    assert (len(live), only(live).kind) == (1, Kind.SOCKET)


def test_the_time_in_a_state_is_not_told_when_the_state_between_was_lost() -> None:
    live = table()
    fold(live, *CONNECT)
    assert fold(live, changed(9000, S.FIN_WAIT1, S.FIN_WAIT2, A)) == [(S.FIN_WAIT1, S.FIN_WAIT2, None)]
    assert fold(live, changed(9500, S.FIN_WAIT1, S.CLOSE, A)) == [(S.FIN_WAIT1, S.CLOSE, None)]


def test_a_child_whose_birth_was_lost_keeps_its_request_s_row() -> None:
    live = table()
    fold(live, REQUEST)
    first = only(live).id
    assert fold(live, gone(1301, Kind.REQUEST, B, cause="completed")) == []
    assert fold(live, changed(1302, S.SYN_RECV, S.ESTABLISHED, A)) == [(S.SYN_RECV, S.ESTABLISHED, 302)]
    assert (len(live), only(live).id, only(live).sk) == (1, first, A)


def test_a_child_keeps_its_request_s_row_when_both_reports_between_were_lost() -> None:
    live = table()
    fold(live, REQUEST)
    first = only(live).id
    assert fold(live, changed(1302, S.SYN_RECV, S.ESTABLISHED, A)) == [(S.SYN_RECV, S.ESTABLISHED, 302)]
    assert (len(live), only(live).id, only(live).sk) == (1, first, A)


# --------------------------------------------------------------------------------------------------------- duplicates


LIFE = (
    *CONNECT,
    changed(5000, S.ESTABLISHED, S.FIN_WAIT1, A, ino=9),
    changed(5300, S.FIN_WAIT1, S.FIN_WAIT2, A),
    changed(5301, 0, S.FIN_WAIT2, B, **TIMEWAIT),
    changed(5302, S.FIN_WAIT2, S.CLOSE, A),
    changed(5400, 0, S.TIME_WAIT, B, **TIMEWAIT),
)


@pytest.mark.parametrize("repeated", range(1, len(LIFE) + 1))
def test_seeing_twice_changes_nothing(repeated: int) -> None:
    live = table()
    fold(live, *LIFE[:repeated])
    row = only(live)
    shown = found(row.state, 7, ino=row.ino, timer=3 if row.kind is Kind.TIMEWAIT else 0)
    first = sweep(live, 9000, shown)
    assert (first.added, first.removed, first.changed) == ([], [], [])
    before = (row.id, row.kind, row.state, row.since_ns, row.exact, row.sk)
    second = sweep(live, 9100, shown)
    assert (second.added, second.removed, second.changed) == ([], [], [])
    assert (row.id, row.kind, row.state, row.since_ns, row.exact, row.sk) == before
    assert list(live) == [row]


@pytest.mark.parametrize("fact", [REQUEST, changed(1000, 0, S.TIME_WAIT, B, **TIMEWAIT)])
def test_a_timer_s_report_twice_shows_nothing(fact: Changed) -> None:
    live = table()
    fold(live, fact)
    row = only(live)
    assert fold(live, fact) == []
    assert (list(live), row.since_ns, row.exact) == ([row], 1000, True)


def test_an_end_twice_shows_nothing() -> None:
    live = table()
    fold(live, REQUEST)
    assert len(fold(live, gone(2000, Kind.REQUEST, B), gone(2000, Kind.REQUEST, B))) == 1
    assert_empty(live)


# ---------------------------------------------------------------------------------------------------------------- steps


def held_by(kind: Kind | None) -> SocketTable:
    live = table()
    if kind is Kind.REQUEST:
        fold(live, REQUEST)
    elif kind is Kind.SOCKET:
        fold(live, *CONNECT)
    elif kind is Kind.TIMEWAIT:
        fold(live, *CONNECT, changed(1800, 0, S.FIN_WAIT2, B, **TIMEWAIT))
    return live


def report_of(report: Report, kind: Kind | None, step: Step) -> Changed | Gone:
    """What the kernel would report, of an object that fits the row and the step."""
    full = A if kind in (Kind.SOCKET, Kind.TIMEWAIT) and report is not Report.CHILD else C
    request, timewait = B if kind is Kind.REQUEST else C, B if kind is Kind.TIMEWAIT else C
    completed = step in (Step.NOTHING, Step.SUCCEED)
    reported: dict[Report, Changed | Gone] = {
        Report.OPENS: changed(9000, S.CLOSE, S.SYN_SENT, full, cookie=5),
        Report.CHILD: changed(9000, S.LISTEN, S.SYN_RECV, full),
        Report.MOVES: changed(9000, S.ESTABLISHED, S.CLOSE_WAIT, full),
        Report.REPEATS: changed(9000, S.ESTABLISHED, S.ESTABLISHED, full),
        Report.CLOSES: changed(9000, S.FIN_WAIT2 if step is Step.NOTHING and kind else S.ESTABLISHED, S.CLOSE, full),
        Report.REQUEST_TIMER: changed(9000, S.LISTEN, S.SYN_RECV, request, kind=Kind.REQUEST),
        Report.REQUEST_GONE: gone(9000, Kind.REQUEST, request, cause="completed" if completed else "timeout-synack"),
        Report.TIMEWAIT_TIMER: changed(9000, 0, S.TIME_WAIT, timewait, kind=Kind.TIMEWAIT),
        Report.TIMEWAIT_GONE: gone(9000, Kind.TIMEWAIT, timewait),
    }
    return reported[report]


def seen_from_outside(live: SocketTable, fact: Changed | Gone) -> tuple[str, ...]:
    """What the table makes of a fact: whether rows came, went or stayed, and what is told."""
    before = {row.id: row.kind for row in live}
    change = live.apply(fact)
    after = {row.id: row.kind for row in live}
    words = ["came"] * bool(after.keys() - before.keys()) + ["went"] * bool(before.keys() - after.keys())
    words += ["passed"] * any(before[row] is not after[row] for row in before.keys() & after.keys())
    words += ["told"] * (change is not None) + ["ended"] * (change is not None and change.ended)
    return tuple(words)


DONE: dict[Step, set[tuple[str, ...]]] = {
    Step.NOTHING: {()},
    Step.BIRTH: {("came", "told"), ("came",)},
    Step.MOVE: {("told",), (), ("passed", "told"), ("passed",)},
    Step.REPEAT: {()},
    Step.TAKE_OVER: {("passed",)},
    Step.SUCCEED: {("passed",)},
    Step.HAND_OVER: {("passed", "told", "ended")},
    Step.HAND_OVER_MISSED: {("passed", "told", "ended")},
    Step.END: {("went", "told", "ended")},
    Step.END_OF_STRANGER: {("told", "ended")},
    Step.DEATH: {("went", "told")},
    Step.DEATH_OF_SUCCESSOR: {("went", "told")},
    Step.VANISH: {("went",)},
    Step.PASS: {()},
}
"""How each step looks. A birth in the place of a timewait socket removes that one."""

WAYS = [
    (report, kind, rule.step)
    for (report, kind), rules in STEPS.items()
    for rule in rules
    # Opened, a socket's row is another's; what a sweep shows, a probe finds or a second request does has its own tests.
    if (report, kind) != (Report.OPENS, Kind.SOCKET)
    and rule.step not in (Step.HAND_OVER_MISSED, Step.VANISH, Step.DEATH_OF_SUCCESSOR)
    and (report, kind, rule.step) != (Report.REQUEST_GONE, Kind.SOCKET, Step.END)
    and not (report is Report.CLOSES and kind is None and rule.step is Step.NOTHING)
]


@pytest.mark.parametrize(("report", "kind", "step"), WAYS)
def test_the_table_does_what_lifecycle_says(report: Report, kind: Kind | None, step: Step) -> None:
    live = held_by(kind)
    assert seen_from_outside(live, report_of(report, kind, step)) in DONE[step] | (
        {("came", "went", "told"), ("came", "went")} if step is Step.BIRTH and kind else set()
    )


def test_the_fold_takes_the_step_that_stands_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is decided elsewhere."""
    taken: list[Step] = []
    noting = {step: lambda *_, step=step: taken.append(step) for step in Step}
    plans = {
        report: tuple(
            fold_module.first([(noting[rule.step], rule.when) for rule in STEPS[report, holder]])
            for holder in (*Kind, None)
        )
        for report in Report
    }
    changed = [[plans[fold_module.report_of(old, new)] for new in range(16)] for old in range(16)]
    started = {Kind.REQUEST: plans[Report.REQUEST_TIMER], Kind.TIMEWAIT: plans[Report.TIMEWAIT_TIMER]}
    gone = {Kind.REQUEST: plans[Report.REQUEST_GONE], Kind.TIMEWAIT: plans[Report.TIMEWAIT_GONE]}
    for report, kind, step in WAYS:
        live = held_by(kind)
        with monkeypatch.context() as patch:
            patch.setattr(fold_module, "_CHANGED", changed)
            patch.setattr(fold_module, "_STARTED", started)
            patch.setattr(fold_module, "_GONE", gone)
            live.apply(report_of(report, kind, step))
        assert taken == [step]
        taken.clear()


# --------------------------------------------------------------------------------------------------------------- sweeps


def test_a_sweep_fills_an_empty_table() -> None:
    live = table()
    repair = sweep(
        live,
        1000,
        found(S.LISTEN, 1, ino=5, sport=443, dport=0, src=SERVER, dst=bytes(4)),
        found(S.ESTABLISHED, 2, ino=6),
        found(S.TIME_WAIT, 3, sport=2, timer=3),
        found(S.FIN_WAIT2, 4, sport=3, timer=3),
        found(S.FIN_WAIT2, 5, sport=4, ino=8),
        found(S.SYN_RECV, 6, sport=5),
    )
    kinds = {row.cookie: row.kind for row in repair.added}
    assert kinds == {
        1: Kind.SOCKET, 2: Kind.SOCKET, 3: Kind.TIMEWAIT, 4: Kind.TIMEWAIT, 5: Kind.SOCKET, 6: Kind.REQUEST,
    }  # fmt: skip
    assert (len(live), repair.removed, repair.changed) == (6, [], [])
    assert [row.cookie for row in live.unsettled()] == [4]


def test_the_time_in_a_state_that_a_sweep_met_is_not_known() -> None:
    live = table()
    sweep(live, 1000, found(S.ESTABLISHED, 2, ino=6))
    assert fold(live, changed(2000, S.ESTABLISHED, S.FIN_WAIT1, A, cookie=2, ino=6)) == [
        (S.ESTABLISHED, S.FIN_WAIT1, None)
    ]
    assert fold(live, changed(3000, S.FIN_WAIT1, S.FIN_WAIT2, A, cookie=2)) == [(S.FIN_WAIT1, S.FIN_WAIT2, 1000)]


@pytest.mark.parametrize("cookie", [2, None])
def test_events_find_the_rows_of_a_sweep(cookie: int | None) -> None:
    # By the cookie; by the addresses where the event has none.
    live = table()
    sweep(live, 1000, found(S.ESTABLISHED, 2, ino=6))
    row = only(live)
    fold(live, changed(2000, S.ESTABLISHED, S.FIN_WAIT1, A, cookie=cookie))
    assert (list(live), row.state, row.sk) == ([row], S.FIN_WAIT1, A)


def test_events_find_the_listeners_of_a_sweep() -> None:
    live = table()
    sweep(live, 1000, found(S.LISTEN, 2, ino=6, sport=443, dport=0))
    assert fold(live, changed(2000, S.LISTEN, S.CLOSE, A, ino=6, dport=0)) == [(S.LISTEN, S.CLOSE, None)]
    assert_empty(live)


@pytest.mark.parametrize("cookie", [2, None])
def test_a_socket_of_a_sweep_is_handed_over(cookie: int | None) -> None:
    """From a half-closed socket of the baseline straight to TIME-WAIT: no event has named the full socket before."""
    live = table()
    sweep(live, 1000, found(S.FIN_WAIT2, 2, ino=6))
    assert fold(
        live,
        changed(2000, 0, S.TIME_WAIT, B, cookie=cookie, **TIMEWAIT),
        changed(2001, S.FIN_WAIT2, S.CLOSE, A, cookie=cookie, cause="fin-by-us"),
    ) == [(S.FIN_WAIT2, S.TIME_WAIT, None)]
    assert fold(live, gone(62000, Kind.TIMEWAIT, B, cookie=cookie)) == [(S.TIME_WAIT, S.CLOSE, 60000)]
    assert_empty(live)


@pytest.mark.parametrize(
    ("state", "kind", "timer"),
    [(S.SYN_RECV, Kind.REQUEST, 2), (S.TIME_WAIT, Kind.TIMEWAIT, 3), (S.FIN_WAIT2, Kind.TIMEWAIT, 3)],
)
def test_request_and_timewait_sockets_of_a_sweep_end(state: State, kind: Kind, timer: int) -> None:
    live = table()
    sweep(live, 1000, found(state, 2, timer=timer))
    assert fold(live, gone(2000, kind, B, cookie=2)) == [(state, S.CLOSE, None)]
    assert_empty(live)


def test_a_request_of_a_sweep_completes() -> None:
    live = table()
    sweep(live, 1000, found(S.SYN_RECV, 2))
    assert fold(
        live,
        changed(2000, S.LISTEN, S.SYN_RECV, A, cookie=2),
        gone(2001, Kind.REQUEST, B, cookie=2, cause="completed"),
        changed(2002, S.SYN_RECV, S.ESTABLISHED, A, cookie=2),
    ) == [(S.SYN_RECV, S.ESTABLISHED, None)]
    assert len(live) == 1


def test_a_complete_sweep_removes_what_it_has_not_seen() -> None:
    live = table()
    fold(live, *CONNECT)
    row = only(live)
    begin(live, 5000)
    assert live.unseen(SPACE) == [row]
    assert end(live, 5001).removed == [row]
    assert_empty(live)


def test_an_incomplete_sweep_removes_nothing() -> None:
    live = table()
    fold(live, *CONNECT)
    assert sweep(live, 5000, complete=False).removed == []
    assert states(live) == [S.ESTABLISHED]


def test_what_a_second_look_shows_is_not_removed() -> None:
    live = table()
    fold(live, *CONNECT)
    begin(live, 5000)
    assert live.unseen(SPACE)
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 3, ino=9)))
    assert not live.unseen(SPACE)
    assert end(live, 5001).removed == []


def test_a_sweep_of_what_stands_moves_nothing() -> None:
    live = table()
    listener = found(S.LISTEN, 8, ino=5, sport=443, dst=bytes(4), dport=0)
    shown = [found(S.ESTABLISHED, 7, ino=4), found(S.TIME_WAIT, 9, sport=40001, timer=3), listener]
    sweep(live, 100, *shown)
    live.journal = {}
    assert sweep(live, 200, *shown) == Resync(201, [], [], [])
    assert live.journal == {}
    shown[0].ino, shown[2].ino = 14, 15  # accepted by now; another listener
    sweep(live, 300, *shown)
    assert sorted(row.ino for row in live.journal.values()) == [14, 15]
    assert {ino: row.ino for ino, row in live.home.index.by_ino.items()} == {15: 15}


def test_what_is_born_during_a_sweep_stays() -> None:
    live = table()
    begin(live, 500)
    fold(live, *CONNECT)
    assert not live.unseen(SPACE)
    repair = end(live, 6000)
    assert (repair.removed, repair.added, states(live)) == ([], [], [S.ESTABLISHED])


def test_events_during_a_sweep_win() -> None:
    live = table()
    fold(live, *CONNECT)
    begin(live, 2000)
    fold(live, changed(2500, S.ESTABLISHED, S.FIN_WAIT1, A))
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 5, ino=9)))  # read before 2500
    repair = end(live, 3000)
    assert (repair.changed, states(live), only(live).cookie) == ([], [S.FIN_WAIT1], 5)


def test_what_a_sweep_corrects_and_an_event_ends_is_not_told_of_again() -> None:
    # A reader who takes up the rows of a repair would keep it for ever.
    live = table()
    sweep(live, 100, found(S.ESTABLISHED, 7))
    begin(live, 200)
    live.seen(Seen(SPACE, found(S.CLOSE_WAIT, 7)))
    end_of_it = changed(250, S.CLOSE_WAIT, S.CLOSE, A, cookie=7, cause="killed")
    assert fold(live, end_of_it) == [(S.CLOSE_WAIT, S.CLOSE, None)]
    repair = end(live, 300)
    assert (repair.added, repair.removed, repair.changed) == ([], [], [])
    assert_empty(live)


def test_a_sweep_corrects_a_state() -> None:
    live = table()
    fold(live, *CONNECT)
    row = only(live)
    repair = sweep(live, 5000, found(S.CLOSE_WAIT, 5, ino=9))
    assert (repair.changed, row.state, row.exact) == ([(row, S.ESTABLISHED)], S.CLOSE_WAIT, False)
    assert fold(live, changed(6000, S.CLOSE_WAIT, S.LAST_ACK, A)) == [(S.CLOSE_WAIT, S.LAST_ACK, None)]


@pytest.mark.parametrize("cookie", [5, None])
def test_deaths_during_a_sweep_stay_dead(cookie: int | None) -> None:
    live = table()
    fold(live, *CONNECT)
    begin(live, 2000)
    fold(live, changed(2500, S.ESTABLISHED, S.CLOSE, A, cookie=cookie))
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 5, ino=9)))
    assert end(live, 3000).added == []
    assert_empty(live)


@pytest.mark.parametrize(("kind", "state", "timer"), [(Kind.REQUEST, S.SYN_RECV, 2), (Kind.TIMEWAIT, S.TIME_WAIT, 3)])
@pytest.mark.parametrize("cookie", [5, None])
def test_deaths_of_what_no_event_has_named_before_stay_dead(
    kind: Kind, state: State, timer: int, cookie: int | None
) -> None:
    """The gap-free start: what the first dump saw may have died before it is folded in."""
    live = table()
    begin(live, 2000)
    fold(live, gone(2500, kind, B, cookie=cookie, cause="killed"))
    live.seen(Seen(SPACE, found(state, 5, timer=timer)))
    assert end(live, 3000).added == []
    assert_empty(live)


@pytest.mark.parametrize("cookie", [5, None])
@pytest.mark.parametrize("old", [S.ESTABLISHED, S.LAST_ACK, S.SYN_SENT, S.FIN_WAIT1])
def test_deaths_of_full_sockets_that_no_event_has_named_before_stay_dead(cookie: int | None, old: State) -> None:
    live = table()
    begin(live, 2000)
    assert fold(live, changed(2500, old, S.CLOSE, A, cookie=cookie)) == [(old, S.CLOSE, None)]
    live.seen(Seen(SPACE, found(old, 5, ino=9)))
    assert end(live, 3000).added == []
    assert_empty(live)


def test_the_death_of_a_listener_that_no_event_has_named_before() -> None:
    live = table()
    begin(live, 2000)
    fold(live, changed(2500, S.LISTEN, S.CLOSE, A, ino=6, dport=0))
    live.seen(Seen(SPACE, found(S.LISTEN, 5, ino=6, sport=40000, dport=0)))
    assert end(live, 3000).added == []
    assert_empty(live)


def test_an_inode_is_no_cookie() -> None:
    """A listener with inode 6 dies during the sweep that meets a socket with cookie 6."""
    live = table()
    fold(live, changed(1000, S.CLOSE, S.LISTEN, A, ino=6, sport=443, dport=0, dst=bytes(4)))
    begin(live, 2000)
    fold(live, changed(2500, S.LISTEN, S.CLOSE, A, ino=6, sport=443, dport=0, dst=bytes(4)))
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 6, ino=7)))
    assert len(end(live, 3000).added) == 1
    assert states(live) == [S.ESTABLISHED]


def test_addresses_used_again_during_a_sweep() -> None:
    live = table()
    fold(live, *CONNECT)
    begin(live, 2000)
    fold(live, changed(2500, S.ESTABLISHED, S.CLOSE, A), changed(2600, S.CLOSE, S.SYN_SENT, A, ino=10))
    live.seen(Seen(SPACE, found(S.ESTABLISHED, 5, ino=9)))  # the old one
    end(live, 3000)
    assert states(live) == [S.SYN_SENT]


def test_what_died_before_a_sweep_may_come_again_in_it() -> None:
    live = table()
    fold(live, *CONNECT, changed(1900, S.ESTABLISHED, S.CLOSE, A))
    assert len(sweep(live, 2000, found(S.ESTABLISHED, 6, ino=10)).added) == 1


def test_a_socket_that_connected_again_is_not_ended_by_its_timewait_socket() -> None:
    # The timewait socket, whose birth was lost, has the cookie of the socket, and makes way for its next connection.
    live = table()
    fold(live, changed(1000, S.CLOSE, S.SYN_SENT, A, cookie=9), changed(2000, S.SYN_SENT, S.ESTABLISHED, A, cookie=9))
    assert fold(live, gone(2001, Kind.TIMEWAIT, C, cookie=9, cause="reused")) == []
    assert only(live).state == S.ESTABLISHED


def test_a_lost_handover_is_healed() -> None:
    live = table()
    fold(live, *CONNECT)
    row = only(live)
    repair = sweep(live, 5000, found(S.TIME_WAIT, 5, timer=3))
    assert (repair.changed, row.kind, row.state, row.ino) == ([(row, S.ESTABLISHED)], Kind.TIMEWAIT, S.TIME_WAIT, 0)
    assert fold(live, gone(9000, Kind.TIMEWAIT, B, cookie=5)) == [(S.TIME_WAIT, S.CLOSE, None)]
    assert_empty(live)


def test_a_lost_handover_within_fin_wait_2_is_healed() -> None:
    live = table()
    fold(live, *CONNECT, changed(1800, S.FIN_WAIT1, S.FIN_WAIT2, A))
    healed = sweep(live, 5000, found(S.FIN_WAIT2, 5, timer=3))
    assert healed.changed == [(only(live), S.FIN_WAIT2)]
    assert healed.ended == {only(live).id}
    assert live.unsettled() == [only(live)]
    assert fold(live, gone(9000, Kind.TIMEWAIT, B, cookie=5)) == [(S.FIN_WAIT2, S.CLOSE, 7200)]
    assert_empty(live)


def test_an_address_that_outlived_a_connect_belongs_to_who_is_there_now() -> None:
    live = table()
    fold(live, changed(1000, S.CLOSE, S.SYN_SENT, A, ino=9, owner=owner()))
    other = {"sport": 443, "dport": 50000, "src": SERVER, "dst": CLIENT}
    fold(live, changed(5000, S.SYN_RECV, S.ESTABLISHED, A, **other))
    row = only(live)
    assert (row.sport, row.dport, row.owners, row.role) == (443, 50000, (), None)


@pytest.mark.parametrize("first", [True, False])
def test_a_timewait_socket_and_the_socket_whose_cookie_it_has(first: bool) -> None:
    # inet_twsk_alloc copies the cookie; the owner listens with the socket again.
    live = table()
    fold(
        live,
        changed(1000, S.CLOSE, S.SYN_SENT, A, ino=9, cookie=5),
        changed(1001, S.SYN_SENT, S.ESTABLISHED, A, ino=9, cookie=5),
        changed(1002, S.ESTABLISHED, S.FIN_WAIT1, A, ino=9, cookie=5),
        changed(1003, S.FIN_WAIT1, S.FIN_WAIT2, A, ino=9, cookie=5),
        changed(1004, 0, S.TIME_WAIT, B, cookie=5, **TIMEWAIT),
        changed(1005, S.CLOSE, S.LISTEN, A, ino=9, cookie=5, sport=80, dport=0, dst=bytes(4)),
    )
    shown = [found(S.TIME_WAIT, 5, timer=3), found(S.LISTEN, 5, ino=9, sport=80, dport=0, dst=bytes(4))]
    for at in (2000, 3000):
        repair = sweep(live, at, *(shown if first else reversed(shown)))
        assert (repair.added, repair.removed, repair.changed) == ([], [], [])
    assert states(live) == [S.TIME_WAIT, S.LISTEN]
    begin(live, 4000)
    assert fold(live, gone(61004, Kind.TIMEWAIT, B, cookie=5)) == [(S.TIME_WAIT, S.CLOSE, 60000)]
    for socket in shown:
        live.seen(Seen(SPACE, socket))
    repair = end(live, 62000)
    assert (repair.added, repair.removed, repair.changed, states(live)) == ([], [], [], [S.LISTEN])


ELSEWHERE = 41000
"""Port of a connection that has nothing to do with the others."""


@pytest.mark.parametrize(
    ("before", "kind", "state", "timer", "fact"),
    [
        (
            (*CONNECT, changed(5000, S.ESTABLISHED, S.CLOSE_WAIT, A, ino=9)),
            Kind.SOCKET,
            S.CLOSE_WAIT,
            0,
            changed(9000, S.CLOSE, S.SYN_SENT, A, ino=10, sport=ELSEWHERE),
        ),
        (
            (changed(6000, 0, S.TIME_WAIT, A, **TIMEWAIT),),
            Kind.TIMEWAIT,
            S.TIME_WAIT,
            3,
            gone(9000, Kind.TIMEWAIT, A, sport=ELSEWHERE),
        ),
        (
            (changed(6000, 0, S.TIME_WAIT, A, cookie=7, **TIMEWAIT),),
            Kind.TIMEWAIT,
            S.TIME_WAIT,
            3,
            gone(9000, Kind.TIMEWAIT, A, sport=ELSEWHERE),
        ),
    ],
    ids=["socket", "timewait", "timewait-of-the-same-socket"],
)
def test_after_a_loss_a_younger_socket_between_the_same_ends_is_not_where_the_older_was(
    before: tuple[Changed, ...], kind: Kind, state: S, timer: int, fact: Changed | Gone
) -> None:
    live = table()
    fold(live, *before)
    sweep(live, 8000, found(state, cookie=7, timer=timer, expires_ms=50000), doubted=True)
    fold(live, fact)  # of whoever has the memory by now
    row = next(row for row in live if row.sport != ELSEWHERE)
    assert (row.kind, row.state, row.cookie, row.sk) == (kind, state, 7, None)


def test_a_sweep_leaves_what_is_vague_to_a_look() -> None:
    live = orphan()
    row = only(live)
    repair = sweep(live, 9000, found(S.TIME_WAIT, 5, timer=3))
    assert (repair.changed, states(live), live.unsettled(), row.cookie) == ([], [S.FIN_WAIT2], [row], 5)
    told = live.probed(row, found(S.TIME_WAIT, 5, timer=3), 10_000)
    assert told is not None
    assert (told.old, told.new, states(live), live.unsettled()) == (S.FIN_WAIT2, S.TIME_WAIT, [S.TIME_WAIT], [])


def test_a_lost_completion_is_healed() -> None:
    live = table()
    fold(live, REQUEST)
    row = only(live)
    sweep(live, 5000, found(S.ESTABLISHED, 5, ino=9))
    assert (list(live), row.kind, row.state) == ([row], Kind.SOCKET, S.ESTABLISHED)
    assert fold(live, changed(9000, S.ESTABLISHED, S.CLOSE, A, cookie=5)) == [(S.ESTABLISHED, S.CLOSE, None)]
    assert_empty(live)


def test_another_connection_between_the_same_addresses_is_another_row() -> None:
    live = table()
    fold(live, *CONNECT)
    sweep(live, 2000, found(S.ESTABLISHED, 5, ino=9))
    first = only(live)
    repair = sweep(live, 5000, found(S.ESTABLISHED, 6, ino=10))
    second = only(live)
    assert (repair.removed, repair.added, repair.changed) == ([first], [second], [])
    fold(live, changed(9000, S.ESTABLISHED, S.CLOSE, C, cookie=6))
    assert_empty(live)


def test_a_half_open_child_is_no_request_socket() -> None:
    # TCP Fast Open: a full socket in SYN-RECV, which no process has accepted.
    live = table()
    fold(live, changed(1000, S.LISTEN, S.SYN_RECV, A))
    sweep(live, 2000, found(S.SYN_RECV, 5))
    assert fold(live, changed(3000, S.SYN_RECV, S.ESTABLISHED, A, cookie=5)) == [(S.SYN_RECV, S.ESTABLISHED, 2000)]
    assert len(live) == 1


# -------------------------------------------------------------------------------------------------- any history at all


def lives(of: SocketTable) -> list[Life]:
    return sorted((row.state, int(row.kind), row.src, row.sport, row.dst, row.dport) for row in of)


def blurred(of: list[Life]) -> list[Life]:
    return sorted((one[0], 0 if one[0] == S.SYN_RECV else one[1], *one[2:]) for one in of)


class Follower:
    """A table that follows a Kernel the way the tracer does."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.table = table()
        self.changes: list[Transition] = []

    def fold(self) -> None:
        facts, self.kernel.facts = self.kernel.facts, []
        assert facts == sorted(facts, key=lambda fact: fact.at_ns)
        self.changes += filter(None, map(self.table.apply, facts))

    def sweep(self, steps: int, miss: float, *, doubted: bool = False) -> Resync:
        """As live.tracer does: dump, fold, see; look a second time for what was not seen."""
        begin(self.table, self.kernel.now, doubted=doubted)
        self.see(self.kernel.dump(steps=steps, miss=miss))
        if self.table.unseen(SPACE):
            self.see(self.kernel.dump(steps=steps))
        self.kernel.now += 1
        return end(self.table, self.kernel.now)

    def see(self, dump: Iterable[InetSocket]) -> None:
        sockets = list(dump)
        self.fold()
        for socket in sockets:
            self.table.seen(Seen(SPACE, socket))

    def look(self) -> None:
        self.kernel.now += 1
        for row in self.table.unsettled():
            thing = self.kernel.find(row.sport, row.dport)
            self.table.probed(row, self.kernel.shown(thing) if thing else None, self.kernel.now)

    def check(self) -> None:
        """Whether the table is true. To whoever missed its birth, a full socket in SYN-RECV looks like a request."""
        self.look()
        assert_indexed(self.table)
        assert blurred(lives(self.table)) == blurred(self.kernel.alive())


SEEDS = st.integers(0, 2**32 - 1)
STEPS_BETWEEN = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(SEEDS, STEPS_BETWEEN)
def test_events_alone_keep_the_table_true(seed: int, steps: list[int]) -> None:
    follower = Follower(Kernel(seed))
    for count in steps:
        for _ in range(count):
            follower.kernel.step()
        follower.fold()
        follower.check()
    follower.kernel.end_all()
    follower.fold()
    assert_empty(follower.table)
    assert follower.table.unlisted == 0


@settings(max_examples=150, deadline=None)
@given(SEEDS, STEPS_BETWEEN, st.integers(0, 3), st.sampled_from((0.0, 0.3)))
def test_sweeps_in_between_change_nothing(seed: int, steps: list[int], during: int, miss: float) -> None:
    """The fold law: a table that is swept anywhere, slowly and twice, equals one that saw every event."""
    follower = Follower(Kernel(seed))
    for number, count in enumerate(steps):
        for _ in range(count):
            follower.kernel.step()
        if number % 2:
            follower.fold()
        repair = follower.sweep(during, miss)
        assert (repair.added, repair.removed) == ([], [])
        # All that no event tells: an orphan's FIN has come.
        assert all((row.kind, old) == (Kind.TIMEWAIT, S.FIN_WAIT2) for row, old in repair.changed)
        follower.check()
    follower.kernel.end_all()
    follower.fold()
    assert_empty(follower.table)


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.integers(0, 60), st.integers(0, 3), STEPS_BETWEEN)
def test_a_trace_that_begins_anywhere_is_true_after_its_baseline(
    seed: int, before: int, during: int, steps: list[int]
) -> None:
    kernel = Kernel(seed)
    for _ in range(before):
        kernel.step()
    kernel.facts.clear()
    follower = Follower(kernel)
    repair = follower.sweep(during, 0.0)
    assert (repair.removed, repair.changed) == ([], [])
    for count in steps:
        follower.check()
        for _ in range(count):
            kernel.step()
        follower.fold()
    kernel.end_all()
    follower.fold()
    assert_empty(follower.table)


@settings(max_examples=150, deadline=None)
@given(SEEDS, STEPS_BETWEEN, st.integers(0, 3), st.sampled_from((0.02, 0.2, 0.7)))
def test_a_sweep_heals_every_loss(seed: int, steps: list[int], during: int, loss: float) -> None:
    """While other things happen, where no two connections have the same addresses."""
    kernel = Kernel(seed, ports=10_000)
    follower = Follower(kernel)
    for count in steps:
        kernel.loss = loss
        for _ in range(count):
            kernel.step()
        follower.fold()
        kernel.loss = 0.0
        follower.sweep(during, 0.0, doubted=True)
        follower.check()
    kernel.end_all()
    follower.fold()
    assert_empty(follower.table)


@settings(max_examples=150, deadline=None)
@given(SEEDS, STEPS_BETWEEN, st.integers(0, 3), st.sampled_from((0.02, 0.2, 0.7)))
def test_a_quiet_sweep_heals_even_what_looks_alike(seed: int, steps: list[int], during: int, loss: float) -> None:
    """Four ports, and kernel addresses that are used again at once: what was lost may be another's twin. And it stays
    healed.
    """
    kernel = Kernel(seed)
    follower = Follower(kernel)
    for count in steps:
        kernel.loss = loss
        for _ in range(count):
            kernel.step()
        follower.fold()
        kernel.loss = 0.0
        follower.sweep(during, 0.0, doubted=True)
        follower.sweep(0, 0.0, doubted=True)
        follower.check()
        for _ in range(count):
            kernel.step()
        follower.fold()
        follower.check()
    kernel.end_all()
    follower.fold()
    assert_empty(follower.table)


@settings(max_examples=100, deadline=None)
@given(SEEDS, STEPS_BETWEEN)
def test_what_users_see_of_each_connection_is_a_chain(seed: int, steps: list[int]) -> None:
    """Each transition begins where the one before ended, and times in states add up."""
    follower = Follower(Kernel(seed))
    for count in steps:
        for _ in range(count):
            follower.kernel.step()
        follower.fold()
    last: dict[int, tuple[int, int]] = {}
    for change in follower.changes:
        if change.row.id in last:
            state, at = last[change.row.id]
            assert change.old == state
            assert change.held_ns == change.at_ns - at
        else:
            assert change.held_ns is None
        if change.old != change.new:
            last[change.row.id] = change.new, change.at_ns


@settings(max_examples=100, deadline=None)
@given(SEEDS, STEPS_BETWEEN)
def test_each_connection_ends_once_with_its_lifetime(seed: int, steps: list[int]) -> None:
    follower = Follower(Kernel(seed))
    for count in steps:
        for _ in range(count):
            follower.kernel.step()
        follower.fold()
    follower.kernel.end_all()
    follower.fold()
    born: dict[int, int] = {}
    ends: Counter[int] = Counter()
    for change in follower.changes:
        number = change.row.id
        first = born.setdefault(number, change.at_ns)
        listener = S.LISTEN in (change.old, change.new) and change.new != S.SYN_RECV
        ends[number] += change.ended or listener
        if change.ended:
            assert change.lifetime_ns == change.at_ns - first
            assert (change.cause == "fin-by-us") is (change.new in (S.FIN_WAIT2, S.TIME_WAIT))
        else:
            assert (change.lifetime_ns is not None) is ((change.old, change.new) == (S.LISTEN, S.CLOSE))
    listened = {change.row.id for change in follower.changes if change.new == S.LISTEN}
    assert all(count == (2 if number in listened else 1) for number, count in ends.items())


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.sampled_from((0.05, 0.5)))
def test_no_history_with_losses_makes_it_stumble_or_grow(seed: int, loss: float) -> None:
    kernel = Kernel(seed, loss=loss)
    follower = Follower(kernel)
    for _ in range(300):
        kernel.step()
    follower.fold()
    assert_indexed(follower.table)
    # Every row that is not alive costs memory until the next sweep: no more than what was lost.
    assert len(follower.table) <= len(kernel.things) + kernel.lost
    begin(follower.table, kernel.now + 1)
    end(follower.table, kernel.now + 2)
    assert len(follower.table) == 0
    assert not follower.table.home.index.by_sk
    assert not follower.table.home.index.by_ends
