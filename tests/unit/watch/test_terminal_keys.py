"""Bytes of a terminal → keys, however they are cut; what the environment says of colours; no terminal, no watcher."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.errors import UsageError
from sstrace.watch.terminal import Terminal, colors_of, decode_keys

CASES = [
    (b"q", ["q"]),
    (b"a\x1b[Ab", ["a", "up", "b"]),
    (b"\x1bOB\x1b[C\x1b[D", ["down", "right", "left"]),
    (b"\x1b[5~\x1b[6~", ["pageup", "pagedown"]),
    (b"\x1b[1~\x1b[4~\x1b[H\x1bOF\x1b[7~\x1b[8~", ["home", "end", "home", "end", "home", "end"]),
    (b"\r\n\t\x7f\x08", ["enter", "enter", "tab", "backspace", "backspace"]),
    (b"\x15\x17\x01\x0c", ["ctrl-u", "ctrl-w", "ctrl-a", "ctrl-l"]),
    ("é≥".encode(), ["é", "≥"]),
    (b"\x1b[200~\x1b[1;5Cx", ["x"]),  # sequences that mean nothing here
    (b"\x1bq", ["escape", "q"]),
    (b"\xff\xfeq\x00", []),
]


@pytest.mark.parametrize(("data", "keys"), CASES[:-1])
def test_keys(data: bytes, keys: list[str]) -> None:
    assert decode_keys(data, final=False) == (keys, b"")


@pytest.mark.parametrize(("data", "keys"), CASES[:-2])
@pytest.mark.parametrize("at", range(1, 6))
def test_keys_cut_anywhere(data: bytes, keys: list[str], at: int) -> None:
    first, rest = decode_keys(data[:at], final=False)
    second, left = decode_keys(rest + data[at:], final=False)
    assert first + second == keys
    assert left == b""


def test_escape_alone() -> None:
    assert decode_keys(b"\x1b", final=False) == ([], b"\x1b")
    assert decode_keys(b"\x1b", final=True) == (["escape"], b"")
    assert decode_keys(b"\x1b[", final=True) == ([], b"")


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes(data: bytes, final: bool) -> None:
    keys, rest = decode_keys(data, final=final)
    assert data.endswith(rest)
    assert not (final and rest)
    assert all((len(key) == 1 and key.isprintable()) or key.islower() for key in keys)


@pytest.mark.parametrize(
    ("choice", "env", "answer"),
    [
        ("auto", {"TERM": "xterm"}, ("standard", False)),
        ("auto", {"TERM": "screen-256color"}, ("256", False)),
        ("auto", {"TERM": "xterm-256color", "COLORTERM": "truecolor"}, ("truecolor", False)),
        ("auto", {"TERM": "xterm", "NO_COLOR": "1"}, ("standard", True)),
        ("auto", {"TERM": "xterm", "NO_COLOR": ""}, ("standard", False)),
        ("always", {"TERM": "xterm", "NO_COLOR": "1"}, ("standard", False)),
        ("never", {"TERM": "xterm-256color"}, ("256", True)),
    ],
)
def test_colors(choice: str, env: dict[str, str], answer: tuple[str, bool]) -> None:
    assert colors_of(choice, env) == answer  # type: ignore[arg-type]


def test_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.isatty", lambda fd: fd == 0)
    with pytest.raises(UsageError, match="needs a terminal on standard input and output"):
        Terminal({"TERM": "xterm"})
    monkeypatch.setattr("os.isatty", lambda _fd: True)
    with pytest.raises(UsageError, match="move its cursor"):
        Terminal({"TERM": "dumb"})


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"\x1b[<0;10;5M", ["click-4"]),
        (b"\x1b[<0;10;5m", []),
        (b"\x1b[<64;1;1M\x1b[<65;1;1M", ["wheelup", "wheeldown"]),
        (b"\x1b[<2;1;1M", []),
        (b"\x1b[<0;10M", []),
        (b"\x1b[<;;M", []),
        (b"\x1b[<0;0;0M", ["click-0"]),
    ],
)
def test_the_mouse(data: bytes, keys: list[str]) -> None:
    assert decode_keys(data, final=False) == (keys, b"")
    assert decode_keys(data[:-1], final=False) == ([], data[data.rfind(b"\x1b") : -1]) or len(keys) == 2
