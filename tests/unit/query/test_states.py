"""State words and default states."""

import pytest

from sstrace.dialect import dialect
from sstrace.model import AF_INET, AF_INET6, AF_TIPC, AF_UNIX, State, Table
from sstrace.query import states

OLD, NEW = dialect((6, 1)), dialect((6, 8))


@pytest.mark.parametrize(
    ("word", "members"),
    [
        ("established", {State.ESTABLISHED}),
        ("ESTABLISHED", {State.ESTABLISHED}),
        ("Syn-Sent", {State.SYN_SENT}),
        ("syn-recv", {State.SYN_RECV}),
        ("syn-rcv", {State.SYN_RECV}),
        ("fin-wait-1", {State.FIN_WAIT1}),
        ("fin-wait-2", {State.FIN_WAIT2}),
        ("time-wait", {State.TIME_WAIT}),
        ("unconnected", {State.CLOSE}),
        ("close", {State.CLOSE}),
        ("closed", {State.CLOSE}),
        ("close-wait", {State.CLOSE_WAIT}),
        ("last-ack", {State.LAST_ACK}),
        ("listening", {State.LISTEN}),
        ("closing", {State.CLOSING}),
        ("unknown", {0}),
        ("bucket", {State.SYN_RECV, State.TIME_WAIT}),
        ("all", set(range(12))),
        ("connected", set(range(12)) - {State.LISTEN, State.CLOSE}),
        ("synchronized", set(range(12)) - {State.LISTEN, State.CLOSE, State.SYN_SENT}),
        ("big", set(range(12)) - {State.SYN_RECV, State.TIME_WAIT}),
    ],
)
def test_state_words(word: str, members: set[int]) -> None:
    assert states.scan_state(word, OLD) == sum(1 << member for member in members)


@pytest.mark.parametrize(
    "word", ["", "listen", "estab", "unconn", "new-syn-recv", "bound-inactive", "\u212aelvin", "closEd "]
)
def test_words_that_are_no_states(word: str) -> None:
    assert states.scan_state(word, OLD) is None


def test_new_bits_since_6_8() -> None:
    assert states.scan_state("bound-inactive", NEW) == 1 << State.BOUND_INACTIVE
    assert states.scan_state("new-syn-recv", NEW) is None
    assert states.all_states(NEW) == (1 << 14) - 1
    assert states.connected_states(NEW) >> State.BOUND_INACTIVE & 1


def test_transitions_also_know_what_ss_prints_and_lists() -> None:
    assert states.scan_transition("ESTAB,syn-sent", OLD) == 1 << 1 | 1 << 2
    assert states.scan_transition("listen", OLD) == 1 << State.LISTEN
    assert states.scan_transition("unconn", OLD) == 1 << State.CLOSE
    assert states.scan_transition("estab,", OLD) is None
    assert states.scan_transition("nowhere", OLD) is None


def test_default_states_of_tables() -> None:
    assert states.table_states(Table.UDP, OLD) == 1 << State.ESTABLISHED
    assert states.table_states(Table.NETLINK, OLD) == 1 << State.CLOSE
    assert states.table_states(Table.TCP, OLD) == states.family_states(AF_INET, OLD) == states.connected_states(OLD)
    assert states.table_states(Table.TIPC, OLD) == states.family_states(AF_TIPC, OLD)
    assert not states.connected_states(OLD) & states.LISTENING


def test_tables_and_families_agree() -> None:
    for family, tables in states.FAMILY_TABLES.items():
        for table in Table:
            assert bool(tables >> table & 1) == bool(states.TABLE_FAMILIES[table] >> family & 1)
    assert states.TABLE_FAMILIES[Table.TCP] == 1 << AF_INET | 1 << AF_INET6
    assert states.TABLE_FAMILIES[Table.UNIX_DGRAM] == 1 << AF_UNIX
    assert not states.ALL_TABLES >> Table.TIPC & 1
