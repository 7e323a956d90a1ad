"""Whoever speaks HTTP, or does not: nobody is waited for without end, and nobody is in another's way."""

import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from tracing import wait

from sstrace.sources import http

WHOSE: dict[int, str] = {}
"""A client's port → who that is."""


def app(_environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def server() -> Iterator[http.Server]:
    WHOSE.clear()
    made = http.serve(app, "127.0.0.1", 0, lambda connection: WHOSE.get(connection.getpeername()[1], ""))
    yield made
    made.shutdown()
    made.server_close()


def client(server: http.Server, said: bytes = b"", whose: str = "") -> socket.socket:
    made = socket.socket()
    made.settimeout(30)
    made.bind(("127.0.0.1", 0))
    WHOSE[made.getsockname()[1]] = whose
    made.connect(("127.0.0.1", server.socket.getsockname()[1]))
    made.sendall(said)
    return made


def get(server: http.Server) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.socket.getsockname()[1]}/", timeout=30) as answer:
        return bytes(answer.read())


@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_who_says_nothing_or_half_of_it_is_cut_off(
    server: http.Server, said: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http, "_MOST_S", 0.0)
    with client(server, said) as silent:
        assert silent.recv(10) == b""
    monkeypatch.undo()
    assert get(server) == b"ok"
    wait("nothing is left of either", lambda: not server._came)
    assert capsys.readouterr().err == ""


def test_a_crowd_that_says_nothing_makes_way_for_who_asks(server: http.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST", 2)
    crowd = [client(server) for _ in range(3)]
    assert crowd[0].recv(10) == b""
    assert get(server) == b"ok"
    for one in crowd:
        one.close()


def test_a_crowd_is_in_its_own_way(server: http.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who came first keeps its place, however many come of another's."""
    monkeypatch.setattr(http, "_MOST", 3)
    with client(server, b"GET / HTTP/1.1\r\n", "scraper") as scraper:
        crowd = [client(server, whose="crowd") for _ in range(6)]
        for one in crowd[:3]:
            assert one.recv(10) == b""
        scraper.sendall(b"\r\n")
        assert scraper.recv(100).startswith(b"HTTP/1.0 200 OK")
    for one in crowd:
        one.close()


def test_what_goes_wrong_is_a_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    def breaks(_connection: socket.socket) -> str:
        raise ValueError("\x1b")

    broken = http.serve(app, "127.0.0.1", 0, breaks)
    with client(broken) as one:
        assert one.recv(10) == b""
    broken.shutdown()
    broken.server_close()
    said = capfd.readouterr().err
    assert said.startswith("sstrace: a request of HTTP met a bug in sstrace: ValueError")
    assert said.endswith(": \\x1b\n")
