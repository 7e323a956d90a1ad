"""The two tables of the life of a connection: closed, consistent, and what RFC 9293 says."""

import itertools

import pytest

from sstrace.lifecycle import LISTED, STEPS, TRANSITIONS, Report, Step
from sstrace.model import Kind, State

S = State
REPORTERS = {
    Report.REQUEST_TIMER: Kind.REQUEST,
    Report.REQUEST_GONE: Kind.REQUEST,
    Report.TIMEWAIT_TIMER: Kind.TIMEWAIT,
    Report.TIMEWAIT_GONE: Kind.TIMEWAIT,
}
"""Which object each report is of; a full socket's where it is not listed."""


def test_every_state_that_can_be_entered_can_be_left() -> None:
    entered = {new for to in TRANSITIONS.values() for new in to}
    assert entered == set(TRANSITIONS)
    assert all(to for to in TRANSITIONS.values())


def test_states_that_no_tcp_socket_reports_are_not_there() -> None:
    assert not {S.NEW_SYN_RECV, S.BOUND_INACTIVE} & set(TRANSITIONS)


def test_only_what_a_timewait_socket_takes_over_goes_to_itself() -> None:
    assert [old for old, to in TRANSITIONS.items() if old in to] == [S.FIN_WAIT2]


def test_every_state_ends_in_close() -> None:
    for state in TRANSITIONS:
        if state is not S.CLOSE:
            assert S.CLOSE in TRANSITIONS[state], f"{State(state).name} cannot be killed"


def reachable(start: int) -> set[int]:
    found: set[int] = set()
    new = {start}
    while new:
        found |= new
        new = {to for state in new for to in TRANSITIONS[state]} - found
    return found


def test_every_state_is_reached_from_close() -> None:
    assert reachable(S.CLOSE) == set(TRANSITIONS)


@pytest.mark.parametrize(
    "path",
    [
        # RFC 9293, figure 5 and section 3.6: the ways through a connection that both sides close in good order.
        (S.CLOSE, S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT1, S.FIN_WAIT2, S.TIME_WAIT, S.CLOSE),
        (S.CLOSE, S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT1, S.CLOSING, S.TIME_WAIT, S.CLOSE),
        (S.CLOSE, S.SYN_SENT, S.ESTABLISHED, S.FIN_WAIT1, S.TIME_WAIT, S.CLOSE),
        (S.LISTEN, S.SYN_RECV, S.ESTABLISHED, S.CLOSE_WAIT, S.LAST_ACK, S.CLOSE),
        (S.CLOSE, S.SYN_SENT, S.SYN_RECV, S.ESTABLISHED),
        (S.SYN_RECV, S.FIN_WAIT1),
        (S.CLOSE, S.LISTEN, S.CLOSE),
    ],
)
def test_the_ways_of_the_standard_are_listed(path: tuple[State, ...]) -> None:
    assert all(LISTED[old][new] for old, new in itertools.pairwise(path))


@pytest.mark.parametrize(
    ("old", "new"),
    [(S.ESTABLISHED, S.SYN_SENT), (S.TIME_WAIT, S.ESTABLISHED), (S.CLOSE, S.ESTABLISHED), (S.LAST_ACK, S.TIME_WAIT),
     (S.CLOSE_WAIT, S.FIN_WAIT1), (S.LISTEN, S.ESTABLISHED), (0, S.TIME_WAIT)],
)  # fmt: skip
def test_impossible_ways_are_not(old: int, new: int) -> None:
    assert not LISTED[old][new]


def test_what_is_listed_is_the_table() -> None:
    for old in range(16):
        for new in range(16):
            assert LISTED[old][new] == (old in TRANSITIONS and new in TRANSITIONS[State(old)])


def test_every_transition_says_what_brings_it_about() -> None:
    assert all(text for to in TRANSITIONS.values() for text in to.values())


def test_every_report_means_something_whoever_holds_the_row() -> None:
    """Whatever comes, after a loss or at the start: of each pair the last rule holds always, and it alone."""
    assert set(STEPS) == set(itertools.product(Report, (None, *Kind)))
    for rules in STEPS.values():
        assert [rule.when is None for rule in rules] == [False] * (len(rules) - 1) + [True]


def test_only_the_object_that_holds_the_row_ends_it() -> None:
    for (report, kind), rules in STEPS.items():
        for rule in rules:
            if rule.step in (Step.END, Step.DEATH) and rule.when is None:
                assert kind is REPORTERS.get(report, Kind.SOCKET) or (report, kind) == (Report.CLOSES, Kind.REQUEST)


def test_a_connection_ends_once() -> None:
    """Either with its row, or where a timewait socket takes over, after which the row alone can end."""
    for (_, kind), rules in STEPS.items():
        for rule in rules:
            if rule.step in (Step.END, Step.HAND_OVER, Step.HAND_OVER_MISSED):
                assert kind in (Kind.REQUEST, Kind.SOCKET)
            if rule.step is Step.DEATH:
                assert kind is Kind.TIMEWAIT


def test_rows_pass_on_only_forward() -> None:
    # Request, full socket, timewait socket: no way back.
    order = [Kind.REQUEST, Kind.SOCKET, Kind.TIMEWAIT]
    for (report, kind), rules in STEPS.items():
        for rule in rules:
            if rule.step in (Step.TAKE_OVER, Step.HAND_OVER):
                assert kind is not None
                assert order.index(REPORTERS.get(report, Kind.SOCKET)) == order.index(kind) + 1


def test_every_step_is_used() -> None:
    assert {rule.step for rules in STEPS.values() for rule in rules} == set(Step)
