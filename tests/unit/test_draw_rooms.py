"""docs/architecture.md says what the imports say: scripts/draw-rooms has been run."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from test_import_law import BASE, LAW

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "draw-rooms"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("draw_rooms", str(SCRIPT))
    spec = spec_from_loader("draw_rooms", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_document_is_drawn_from_the_code() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


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


def test_a_missing_mark_is_said(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="drawing"):
        script.drawn("nothing here")
