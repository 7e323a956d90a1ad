"""Whoever speaks HTTP, or does not: nobody is waited for without end, and nobody is in another's way."""

import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from tracing import wait

from sstrace.sources import http


def app(_environ: dict[str, Any], start: Callable[..., object]) -> Iterable[bytes]:
    start("200 OK", [("Content-Length", "2")])
    return [b"ok"]


@pytest.fixture
def server() -> Iterator[http.Server]:
    made = http.serve(app, "127.0.0.1", 0)
    yield made
    made.shutdown()
    made.server_close()


def client(server: http.Server, said: bytes = b"") -> socket.socket:
    made = socket.create_connection(("127.0.0.1", server.socket.getsockname()[1]), timeout=30)
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
    wait("nothing is left of either", lambda: not server._since)
    assert capsys.readouterr().err == ""


def test_a_crowd_that_says_nothing_makes_way_for_who_asks(server: http.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_MOST", 2)
    crowd = [client(server) for _ in range(3)]
    assert crowd[0].recv(10) == b""
    assert get(server) == b"ok"
    for one in crowd:
        one.close()
