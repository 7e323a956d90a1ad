"""What a client sends unread to a serving sstrace, and what it reads itself."""

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sstrace.errors import DecodeError, FeatureError, LookupFailed, SstraceError
from sstrace.server import forward
from sstrace.sources import asking

ENV = {"PATH": os.environ.get("PATH", "")}


@pytest.mark.parametrize(
    "line",
    [
        "sstrace -tan",
        "sstrace --snapshot -tan",
        "sstrace --from live -tan",  # a trace
        "sstrace --watch --from live",
        "sstrace --snapshot --from netlink -tan",
        "sstrace --snapshot --from recording -tan",
        "sstrace --snapshot --from live:",
        "sstrace --snapshot --from",
        "sstrace --snapshot --from live --from live",
        "sstrace --snapshot -tan -- --from live",
        "sstrace --snapshot --from live -s",
        "sstrace --snapshot --from live -tas",
        "sstrace --snapshot --from live -h",
        "sstrace --snapshot --from live -V",
        "sstrace --snapshot --from live -F file",
        "sstrace --snapshot --from live -N elsewhere",
        "sstrace --snapshot --from live -D file",
        "sstrace --snapshot --from live -tE",
        "sstrace --snapshot --from live -K",
        "sstrace --snapshot --from live -Z",
        "sstrace --snapshot --from live -f inet",
        "sstrace --snapshot --from live -A tcp",
        "sstrace --snapshot --from live --tcp",
        "sstrace --snapshot --from live --ss-version 6.1",
        "sstrace --snapshot --from live --output file",
        "sstrace --snapshot --from live -",
        'sstrace --snapshot --from live -t src "x"',
        "sstrace --snapshot --from live -t src \\",
        "sstrace --snapshot --from live -t src \xe4",
        "sstrace --snapshot --from live -t src \x1b",
        "ss -tan",
    ],
)
def test_what_is_not_plain_is_left_to_be_read(line: str) -> None:
    assert forward.snapshot(line.split(" "), ENV) is None


@pytest.mark.parametrize("name", ["POSIXLY_CORRECT", "COLUMNS"])
def test_surroundings_that_change_the_reading_are_left_too(name: str) -> None:
    assert forward.snapshot(["sstrace", "--snapshot", "--from", "live:/nowhere"], {**ENV, name: "1"}) is None


class _Server:
    """Takes one question and gives one answer."""

    def __init__(self, path: Path, answer: bytes, out: bytes = b"", err: bytes = b"") -> None:
        self.path = path
        self.question = b""
        self.given: list[int] = []
        self._answer, self._out, self._err = answer, out, err
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            self.question, fds, _, _ = socket.recv_fds(connection, 65536, 4)
            for fd, text in zip(fds, (self._out, self._err), strict=True):
                for start in range(0, len(text), 30_000):
                    os.write(fd, text[start : start + 30_000])
                os.close(fd)
            connection.sendall(self._answer)

    def close(self) -> None:
        self._thread.join(30)
        self._listener.close()


def test_the_words_arrive_and_the_answer_flows(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sstrace.sources.installed.ss_release", lambda _: "6.1.0")
    path = tmp_path / "socket"
    large = "".join(f"line {number}\n" for number in range(100_000))
    server = _Server(path, asking.answer(7), large.encode(), b"a complaint\n")
    words = ["/usr/bin/ss", "-tan", f"--from=live:{path}", "state", "close-wait", "( sport = :22 )"]
    assert forward.snapshot(words, ENV) == 7
    server.close()
    assert json.loads(server.question) == {"argv": words[1:], "ss": "6.1.0"}
    seen = capfd.readouterr()
    assert (seen.out, seen.err) == (large, "a complaint\n")


def test_a_pipe_is_handed_over_as_it_is(tmp_path: Path) -> None:
    """Nothing is copied where the server may write itself."""
    path = tmp_path / "socket"
    server = _Server(path, asking.answer(0), b"from afar\n")
    read, write = os.pipe()
    kept = os.dup(1)
    os.dup2(write, 1)
    try:
        assert asking.feed(str(path), b"question\n") == 0
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(write)
    server.close()
    assert os.read(read, 100) == b"from afar\n"
    os.close(read)


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = _Server(path, asking.answer(asking.BROKEN_PIPE))
    with pytest.raises(BrokenPipeError):
        asking.feed(str(path), b"question\n")
    server.close()


@pytest.mark.parametrize("answer", [b"hello\n", b'{"code":}\n', b'{"code":-1}\n', b'{"code":12345}\n', b"{}\n"])
def test_an_answer_that_is_none(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "socket"
    server = _Server(path, answer)
    with pytest.raises(DecodeError, match="answered what no sstrace answers"):
        asking.feed(str(path), b"question\n")
    server.close()


def test_an_answer_that_breaks_off(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = _Server(path, b"", b"part of it")
    with pytest.raises(SstraceError, match="broke off"):
        asking.feed(str(path), b"question\n")
    server.close()


def test_nobody_serves(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match="--serve"):
        asking.feed(str(tmp_path / "none"), b"question\n")


@pytest.fixture
def theirs(common_path: Path) -> Iterator[str]:
    """The path of a socket that user 4321 listens at, in a directory of theirs."""
    path = common_path / "socket"
    os.chown(common_path, 4321, 4321)
    with socket.socket(socket.AF_UNIX) as listener:
        os.seteuid(4321)
        try:
            listener.bind(str(path))
            listener.listen()
        finally:
            os.seteuid(0)
        yield str(path)


def ask_and_feed(path: str) -> list[Callable[[], object]]:
    return [lambda: asking.feed(path, b"question\n"), lambda: asking.ask(path, b"question\n", [1])]


@pytest.mark.root
def test_who_serves_is_looked_at(theirs: str) -> None:
    """Somebody has put a socket where root will ask."""
    for ask in ask_and_feed(theirs):
        with pytest.raises(LookupFailed, match="is served by user 4321, who is neither root nor sstrace"):
            ask()


@pytest.mark.root
def test_who_root_made_the_service_is_asked(theirs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd does, where the user has no name: the directory is theirs."""
    monkeypatch.setattr(asking, "DEFAULT_PATH", theirs)
    monkeypatch.setattr(asking, "_SILENCE_S", 0.2)
    with pytest.raises(SstraceError, match="does not answer"):
        asking.feed(theirs, b"question\n")


def test_it_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "_SILENCE_S", 0.2)
    monkeypatch.setattr(asking, "_CONNECT_S", 0.2)
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen(1)
        for ask in ask_and_feed(path) * 2:  # the last ones are not even accepted
            with pytest.raises(SstraceError, match="does not answer"):
                ask()


def test_a_line_without_end(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = _Server(path, b"x" * 100_000)
    with pytest.raises(DecodeError):
        asking.feed(str(path), b"question\n")
    server.close()


def test_a_terminal_is_not_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    server = _Server(path, asking.answer(0), "\x1b]0;a\x07\r\b\x7f\x9b2J \t≥ µ é\n".encode())
    near, far = os.openpty()
    kept = os.dup(1)
    os.dup2(far, 1)
    try:
        assert asking.feed(str(path), b"question\n") == 0
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert os.read(near, 1000).decode().expandtabs(1).split() == ["?]0;a?????2J", "≥", "µ", "é"]
    os.close(near)
    os.close(far)
    server.close()


@pytest.mark.parametrize("piece", [1, 2, 3, 100])
def test_controls_are_found_however_the_bytes_come(piece: int) -> None:
    shown = asking._Shown()
    data = "a\x9bb\x1b\u00a0\x80é≥Â\x85\n".encode() + b"\xc2\xc2\x9b\n"
    text = b"".join(shown.text(data[at : at + piece]) for at in range(0, len(data), piece))
    assert text == "a?b?\u00a0?é≥Â?\n".encode() + b"\xc2?\n"
