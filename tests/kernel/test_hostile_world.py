"""scripts/hostile, small: every subject, with few attempts. The long run is scripts/hostile all."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Program

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

COUNTS = {
    "syscalls": 7,
    "kill": 5,
    "recordings": 50,
    "commandlines": 50,
    "serve": 20,
    "floods": 300,
    "tracers": 20,
    "memory": 8,
    "clocks": 2,
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


def test_what_there_is_no_memory_for_is_not_called_missing(sstrace: Program, tmp_path: Path) -> None:
    """The kernel's BTF takes megabytes to read."""
    for megabytes in range(36, 60, 4):
        limited = Program("prlimit", f"--as={megabytes << 20}", *sstrace.head)
        done = limited("--json", "--duration", "10ms", env={"TMPDIR": str(tmp_path)})
        assert done.returncode in (0, 4, 70)
        assert b"offers no BTF" not in done.stderr
