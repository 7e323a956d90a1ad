"""scripts/hostile, small: every subject, with few attempts. The long run is scripts/hostile all."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

COUNTS = {
    "syscalls": 7,
    "kill": 5,
    "recordings": 50,
    "commandlines": 50,
    "serve": 20,
    "floods": 300,
    "tracers": 20,
}
"""Subject → attempts. Not names and escapes, which other tests try in full."""


@pytest.mark.seconds(600)
@pytest.mark.parametrize("subject", COUNTS)
def test_everything_is_survived(subject: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "hostile", subject, "--count", str(COUNTS[subject]), "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    total = re.search(rf"^{subject} +all, \d+ s +(\d+) +(\d+) +0$", done.stdout, re.MULTILINE)
    assert total is not None, done.stdout
    assert int(total[1]) == int(total[2]) > 0
