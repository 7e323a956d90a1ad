"""What scripts/draw-states draws is what the tables say."""

from types import ModuleType

import pytest
from conftest import program

from sstrace.causes import CAUSES
from sstrace.lifecycle import TRANSITIONS, udp


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return program("draw-states")


def test_every_transition_is_an_arrow(script: ModuleType) -> None:
    assert script.states().count(" --> ") == sum(map(len, TRANSITIONS.values()))
    assert script.udp_states().count(" --> ") == sum(map(len, udp.TRANSITIONS.values()))


def test_every_call_of_a_datagram_socket_has_its_lines(script: ModuleType) -> None:
    assert len(script.udp_steps().splitlines()) == 2 + sum(map(len, udp.STEPS.values()))


def test_every_cause_has_a_line(script: ModuleType) -> None:
    assert [line.split("`")[1] for line in script.causes().splitlines()[2:]] == list(CAUSES)
