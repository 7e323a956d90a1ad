"""What nobody foresaw: one sentence, exit code 70, and a report that a user can attach."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BROKEN = """
import sys
from sstrace import cli, dispatch
def broken(command, env):
    {what}
dispatch.run = broken
raise SystemExit(cli.main(sys.argv[1:]))
"""


def run(what: str, home: Path, *words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-c", BROKEN.format(what=what), *words],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(home)},
        timeout=60,
        check=False,
    )


RAISED = {
    "raise KeyError('x')": r"a bug in sstrace: KeyError at cli\.py:\d+: 'x'",
    "return broken(command, env)": r"a bug in sstrace: RecursionError at cli\.py:\d+: maximum recursion .*",
    "raise MemoryError": r"out of memory",
    "import nowhere_at_all": r"this installation is not whole, install it again: No module named 'nowhere_at_all'",
    "raise AssertionError": r"a bug in sstrace: AssertionError at cli\.py:\d+: ",
    r"raise ValueError('\x1b]0;title\x07 one\nsstrace: two \udcff')": r"a bug in sstrace: ValueError at .*: .*",
}


@pytest.mark.parametrize("what", RAISED)
@pytest.mark.parametrize("mode", ["--snapshot", "--verify", "-t"])
def test_one_sentence_and_a_report(tmp_path: Path, mode: str, what: str) -> None:
    done = run(what, tmp_path, mode, "-n")
    assert (done.returncode, done.stdout) == (70, "")
    said = re.fullmatch(rf"sstrace: {RAISED[what]}; (\S+) says more, for whom you report it to\n", done.stderr)
    assert said, done.stderr
    assert done.stderr[:-1].isprintable() or "udcff" in what
    (report,) = tmp_path.iterdir()
    assert said[1] == str(report)
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    text = report.read_text()
    assert re.match(r"sstrace \S+, Python \S+, Linux .*, uid \d+\ncommand line: ", text)
    assert f"'{mode}' '-n'" in text
    assert "Traceback (most recent call last):" in text


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    for mode in ("--snapshot", "-t"):
        done = run("raise KeyError('x')", tmp_path, mode, "--debug")
        assert done.returncode == 70
        assert "Traceback (most recent call last):" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("sstrace: a bug in sstrace: KeyError at ")
        assert list(tmp_path.iterdir()) == []


def test_where_no_report_can_be_written(tmp_path: Path) -> None:
    done = run("import tempfile; tempfile.mkstemp = None; raise KeyError('x')", tmp_path)
    assert done.returncode == 70
    assert re.fullmatch(r"sstrace: a bug in sstrace: KeyError at \S+: 'x'; --debug shows where\n", done.stderr)


def test_an_installation_without_msgspec(tmp_path: Path) -> None:
    (tmp_path / "msgspec.py").write_text("raise ImportError(\"No module named 'msgspec'\")\n")
    for words in (["--snapshot", "-tn"], ["--help"], ["--doctor"], ["--from", "live", "--snapshot"]):
        done = subprocess.run(
            [sys.executable, "-m", "sstrace", *words],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(tmp_path), "TMPDIR": str(tmp_path)},
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (70, ""), done.stderr
        assert done.stderr.count("\n") == 1
        assert "this installation is not whole, install it again: No module named 'msgspec'" in done.stderr
