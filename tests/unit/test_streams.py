"""Standard streams that are closed, full or the wrong way round: ss's silence in a snapshot, one sentence elsewhere."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tapes import Tape

ROOT = Path(__file__).resolve().parents[2]
BROKEN = (">&-", ">/dev/full", "1</dev/null")
MODES = ("--help", "-V", "--doctor", "--doctor --json", "--snapshot --json -tan", "--replay {}", "--stats --from {}")


def run(words: str, redirection: str) -> subprocess.CompletedProcess[str]:
    command = shlex.join([sys.executable, "-m", "sstrace"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", f"{command} {words} {redirection}"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env=environment,
        check=False,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "some.ndjson"
    Tape(path, 1).run(3).close()
    return path


@pytest.mark.parametrize("redirection", BROKEN)
@pytest.mark.parametrize("words", ["-tan", "-h", "-V", "-s", "-xa"])
def test_a_snapshot_does_not_look_whether_it_was_written(words: str, redirection: str) -> None:
    done = run(f"--snapshot --ss-version 7.3 {words}", redirection)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("redirection", BROKEN)
@pytest.mark.parametrize("words", MODES)
def test_elsewhere_it_is_told(words: str, redirection: str, recording: Path) -> None:
    done = run(words.format(recording), redirection)
    assert done.stderr.startswith("sstrace: cannot write")
    assert done.stderr.count("\n") == 1
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2</dev/null", "<&-", "0>/dev/null"])
@pytest.mark.parametrize("words", ["--snapshot -tan", "--snapshot -h", "--help", "--replay {}"])
def test_a_standard_error_that_takes_nothing_changes_nothing(words: str, redirection: str, recording: Path) -> None:
    done = run(words.format(recording), redirection)
    assert done.returncode == 0
    assert done.stdout
    assert "bug in sstrace" not in done.stderr
