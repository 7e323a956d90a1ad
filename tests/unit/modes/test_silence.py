"""When a trace on a terminal says what it follows: once, in the grey, and only where nothing else is to be seen."""

import os
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sstrace.modes.trace import _Silence
from sstrace.query.command import Command
from sstrace.query.options import parse

SECOND = 1_000_000_000
SAID = b"sstrace: following every transition of TCP; the table: sstrace --snapshot -ta"


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd in (1, 2))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def said(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[[], bytes]:
    """What has gone to standard error; there is nothing on standard output."""

    def read() -> bytes:
        out, err = capfdbinary.readouterr()
        assert out == b""
        return err

    return read


def run(monkeypatch: pytest.MonkeyPatch, *words: str, silent: bool = True) -> None:
    command = parse(["sstrace", *words])
    assert isinstance(command, Command)
    trace: Any = SimpleNamespace(silent=silent)
    silence = _Silence(command, trace, 5 * SECOND)
    for now in (5, 6, 7, 8, 9):
        monkeypatch.setattr(time, "monotonic_ns", lambda now=now: now * SECOND)
        silence()


def test_once(monkeypatch: pytest.MonkeyPatch, said: Callable[[], bytes]) -> None:
    run(monkeypatch)
    assert said() == b"\x1b[2m" + SAID + b"\x1b[0m\n"


@pytest.mark.parametrize("words", [["--color", "never"], []])
def test_without_colours_it_is_plain(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], bytes], words: list[str]
) -> None:
    if not words:
        monkeypatch.setenv("NO_COLOR", "1")
    run(monkeypatch, *words)
    assert said() == SAID + b"\n"


def test_not_where_something_was_shown(monkeypatch: pytest.MonkeyPatch, said: Callable[[], bytes]) -> None:
    run(monkeypatch, silent=False)
    assert said() == b""


@pytest.mark.parametrize("words", [["--json"], ["--output", "/dev/null"], ["--sink", "journald"]])
def test_not_where_lines_go_elsewhere(
    monkeypatch: pytest.MonkeyPatch, said: Callable[[], bytes], words: list[str]
) -> None:
    run(monkeypatch, *words)
    assert said() == b""


@pytest.mark.parametrize("tty", [1, 2])
def test_not_where_nobody_looks(monkeypatch: pytest.MonkeyPatch, said: Callable[[], bytes], tty: int) -> None:
    monkeypatch.setattr(os, "isatty", lambda fd: fd == tty)
    run(monkeypatch)
    assert said() == b""
