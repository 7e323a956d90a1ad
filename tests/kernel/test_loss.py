"""Events lost on purpose: scripts/verify-loss, short. The long run is scripts/verify-loss --stop 3 --seconds 60."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


@pytest.fixture(scope="module")
def report() -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "verify-loss", "--stop", "0.5", "--seconds", "3", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def counts(report: str, line: str) -> dict[str, int]:
    text = next(text for text in report.splitlines() if text.startswith(line))
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", text)}


def test_the_loss_is_told_and_one_sweep_heals_it(report: str) -> None:
    healed = counts(report, "healed: ")
    assert healed["lost"] > 0, report
    assert healed["resync"] == 1, report
    assert healed["added"] > 0, report


@pytest.mark.parametrize("what", ["served at once: ", "folded: ", "served: "])
def test_what_is_shown_afterwards_is_what_ss_shows(report: str, what: str) -> None:
    assert counts(report, what)["rows"] > 0, report


def test_nothing_drifts(report: str) -> None:
    assert counts(report, "totals: ")["bad"] == 0, report
