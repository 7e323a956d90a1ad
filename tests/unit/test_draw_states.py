"""docs/lifecycle.md says what the code says: scripts/draw-states has been run."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from sstrace.causes import CAUSES
from sstrace.lifecycle import TRANSITIONS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "draw-states"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("draw_states", str(SCRIPT))
    spec = spec_from_loader("draw_states", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_the_document_is_drawn_from_the_code() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_transition_is_an_arrow(script: ModuleType) -> None:
    assert script.states().count(" --> ") == sum(map(len, TRANSITIONS.values()))


def test_every_cause_has_a_line(script: ModuleType) -> None:
    assert [line.split("`")[1] for line in script.causes().splitlines()[2:]] == list(CAUSES)


def test_stale_text_is_drawn_anew_and_the_rest_is_kept(script: ModuleType) -> None:
    text = "".join(f"before {name}\n<!-- {name} -->\nstale\n<!-- end -->\n" for name in script.PARTS) + "after\n"
    new = script.drawn(text)
    assert "stale" not in new
    assert new.startswith("before states\n")
    assert new.endswith("after\n")
    assert script.drawn(new) == new


def test_a_missing_mark_is_said(script: ModuleType) -> None:
    with pytest.raises(ValueError, match="states"):
        script.drawn("nothing here")
