"""State words and default states."""

import pytest

from sstrace.dialect import dialect
from sstrace.errors import UsageError
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


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("ESTAB,syn-sent", "ESTABLISHED SYN_SENT"),
        ("listen", "LISTEN"),
        ("unconn", "CLOSE"),
        ("CLOSE_WAIT", "CLOSE_WAIT"),
        ("TCP_FIN_WAIT2", "FIN_WAIT2"),
        ("fin-wait2,Fin-Wait-1", "FIN_WAIT1 FIN_WAIT2"),
        ("establish", "ESTABLISHED"),
        ("close", "CLOSE"),
        ("closin", "CLOSING"),
        ("tim", "TIME_WAIT"),
    ],
)
def test_outside_ss_states_are_read_as_anybody_writes_them(words: str, named: str) -> None:
    assert states.read_states(words, OLD) == sum(1 << State[name] for name in named.split())


@pytest.mark.parametrize("words", ["estab,", "nowhere", "fin-wait", "syn", "clos", "e", "", "tcp"])
def test_what_could_be_several_states_or_none_is_answered_by_the_list(words: str) -> None:
    with pytest.raises(UsageError, match=r"is no state: write one of established, syn-sent, .*, closing, all, "):
        states.read_states(words, OLD)


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


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("etablished", "established"),
        ("sync-sent", "syn-sent"),
        ("listning", "listening"),
        ("\xe9stablished", "established"),
    ],
)
def test_a_state_that_is_misspelt_is_guessed(word: str, meant: str) -> None:
    with pytest.raises(UsageError, match=rf'^sstrace: "{word}" is no state: did you mean {meant}\?$'):
        states.read_states(word, OLD)
