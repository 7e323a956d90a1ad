"""scripts/documents.py: what scripts make from the code stands in the documents, and is held against them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

import documents  # noqa: E402

PARTS = {"one": lambda: "1", "two": lambda: "2\n2"}


@pytest.mark.parametrize("script", ["draw-rooms", "draw-states", "manual", "schemas", "twins"])
def test_nothing_is_out_of_date(script: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_parts_are_made_anew_and_the_rest_is_kept() -> None:
    text = "".join(f"before {name}\n<!-- {name} -->\nstale\n<!-- end -->\n" for name in PARTS) + "after\n"
    made = documents.drawn(text, PARTS)
    assert made == ("before one\n<!-- one -->\n1\n<!-- end -->\nbefore two\n<!-- two -->\n2\n2\n<!-- end -->\nafter\n")
    assert documents.drawn(made, PARTS) == made


@pytest.mark.parametrize("text", ["nothing here", "<!-- one -->\nwithout an end"])
def test_a_missing_mark_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="<!-- one --> … <!-- end -->"):
        documents.drawn(text, PARTS)


def test_a_check_says_what_is_out_of_date_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    wanted = {tmp_path / "docs" / "a.md": "a", tmp_path / "b.md": "b"}
    (tmp_path / "b.md").write_text("b")
    monkeypatch.setattr(sys, "argv", ["scripts/make-them", "--check"])
    assert documents.write(wanted) == 1
    assert capsys.readouterr().err == "docs/a.md is out of date: run scripts/make-them\n"
    assert not (tmp_path / "docs").exists()
    monkeypatch.setattr(sys, "argv", ["scripts/make-them"])
    assert documents.write(wanted) == 0
    assert (tmp_path / "docs" / "a.md").read_text() == "a"
