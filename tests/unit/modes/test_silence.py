"""When a trace on a terminal says what it follows: once, in the grey, and only where nothing else is to be seen."""

import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from sstrace.modes.trace import _Silence
from sstrace.query.command import Command
from sstrace.query.options import parse

SECOND = 1_000_000_000
SAID = b"sstrace: following every transition of TCP; what there is now: sstrace --snapshot -ta"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    lines: list[bytes] = []
    monkeypatch.setattr(
        os, "write", lambda fd, data: lines.append(data) if fd == 2 else pytest.fail("not standard error")
    )
    monkeypatch.setattr(os, "isatty", lambda fd: fd in (1, 2))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return lines


def run(monkeypatch: pytest.MonkeyPatch, *words: str, silent: bool = True) -> None:
    command = parse(["sstrace", *words])
    assert isinstance(command, Command)
    trace: Any = SimpleNamespace(silent=silent)
    silence = _Silence(command, trace, 5 * SECOND)
    for now in (5, 6, 7, 8, 9):
        monkeypatch.setattr(time, "monotonic_ns", lambda now=now: now * SECOND)
        silence()


def test_once(monkeypatch: pytest.MonkeyPatch, said: list[bytes]) -> None:
    run(monkeypatch)
    assert said == [b"\x1b[2m" + SAID + b"\x1b[0m\n"]


@pytest.mark.parametrize("words", [["--color", "never"], []])
def test_without_colours_it_is_plain(monkeypatch: pytest.MonkeyPatch, said: list[bytes], words: list[str]) -> None:
    if not words:
        monkeypatch.setenv("NO_COLOR", "1")
    run(monkeypatch, *words)
    assert said == [SAID + b"\n"]


def test_not_where_something_was_shown(monkeypatch: pytest.MonkeyPatch, said: list[bytes]) -> None:
    run(monkeypatch, silent=False)
    assert said == []


@pytest.mark.parametrize("words", [["--json"], ["--output", "/dev/null"], ["--sink", "journald"]])
def test_not_where_lines_go_elsewhere(monkeypatch: pytest.MonkeyPatch, said: list[bytes], words: list[str]) -> None:
    run(monkeypatch, *words)
    assert said == []


@pytest.mark.parametrize("tty", [1, 2])
def test_not_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, said: list[bytes], tty: int) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd == tty)
    run(monkeypatch)
    assert said == []
