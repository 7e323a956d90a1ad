"""How far long work has come: for a terminal alone, and gone before anything else is said."""

import os
import pty
import subprocess
import sys

import pytest

CODE = """
from sstrace.sources import progress, standard
progress._FIRST_NS = progress._PACE_NS = -1
{before}
told = progress.Progress("reading day.ndjson", 200)
told(50)
told(100)
standard.say("something is wrong")
told(200)
told.end()
"""


def said(before: str = "") -> str:
    """What a terminal on standard error gets."""
    near, far = pty.openpty()
    subprocess.run([sys.executable, "-c", CODE.format(before=before)], stderr=far, check=True)
    os.close(far)
    text = b""
    with os.fdopen(near, "rb", buffering=0) as terminal:
        while True:
            try:
                part = terminal.read(4096)
            except OSError:  # the other end is closed, and empty
                break
            if not part:
                break
            text += part
    return text.decode()


def test_a_terminal_is_told_and_left_clean() -> None:
    parts = said().split("\r\x1b[K")
    assert parts[0].startswith("reading day.ndjson: 25%, ")
    assert parts[1].startswith("reading day.ndjson: 50%, ")
    assert parts[2].splitlines() == ["sstrace: something is wrong", "reading day.ndjson: 100%, 0 s left"]
    assert parts[3:] == [""]


def test_who_wants_quiet_is_told_what_is_wrong() -> None:
    assert said("standard.quieten()").splitlines() == ["sstrace: something is wrong"]


def test_what_is_short_needs_no_word() -> None:
    assert said("progress._FIRST_NS = 10**15").splitlines() == ["sstrace: something is wrong"]


@pytest.mark.parametrize("where", [subprocess.PIPE, subprocess.DEVNULL])
def test_nobody_waits_at_a_pipe(where: int) -> None:
    done = subprocess.run([sys.executable, "-c", CODE.format(before="")], stderr=where, check=True)
    assert done.stderr in (None, b"sstrace: something is wrong\n")
