"""The live table against ss under churn: scripts/verify-churn, short. The long run is scripts/verify-churn --rounds
200.
"""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


@pytest.fixture(scope="module")
def report() -> str:
    done = subprocess.run(
        [
            sys.executable, ROOT / "scripts" / "verify-churn", "--rounds", "3", "--operations", "1000", "--seed", "7",
            "--states", "3",
        ],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def totals(report: str) -> dict[str, int]:
    line = next(line for line in report.splitlines() if line.startswith("totals: "))
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", line)}


def test_the_table_is_never_wrong(report: str) -> None:
    found = totals(report)
    assert [found[name] for name in ("missed", "ghosts", "wrong", "lost")] == [0, 0, 0, 0], report


def test_there_was_something_to_be_wrong_about(report: str) -> None:
    assert totals(report)["stable"] > 200
    assert '"reset_time_wait":' in report
    assert '"connect_fast_open":' in report


def test_every_transition_is_one_that_is_documented(report: str) -> None:
    assert totals(report)["unlisted"] == 0, report


def test_every_end_has_a_cause(report: str) -> None:
    causes = next(line for line in report.splitlines() if line.startswith("causes: "))
    assert '"fin-by-us":' in causes
    assert '"unknown":' not in causes, report
