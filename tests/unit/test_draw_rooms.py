"""What scripts/draw-rooms draws is what the imports and the law say."""

from types import ModuleType

import pytest
from conftest import program
from test_import_law import BASE, LAW


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return program("draw-rooms")


def test_every_room_is_drawn_and_described(script: ModuleType) -> None:
    rooms = set(LAW) - {"__init__", "__main__"}
    assert set(script.arrows()) == rooms - BASE | {"nouns"}
    assert set(script.NOUNS) == BASE
    lines = script.described().splitlines()[2:]
    assert {line.split("`")[1].rstrip("/") for line in lines} == rooms
    assert not [line for line in lines if line.endswith("|  |")]


def test_arrows_are_those_of_the_law(script: ModuleType) -> None:
    for room, uses in script.arrows().items():
        for used in uses - {"nouns"}:
            assert used in {allowed.split(".")[0] for allowed in LAW[room]}


def test_an_arrow_that_others_imply_is_left_out(script: ModuleType) -> None:
    graph = {"a": {"b", "c"}, "b": {"c"}, "c": set()}
    assert script.needed(graph) == {"a": ["b"], "b": ["c"], "c": []}


def test_a_circle_is_refused(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="a leads to itself"):
        script.needed({"a": {"b"}, "b": {"a"}})
