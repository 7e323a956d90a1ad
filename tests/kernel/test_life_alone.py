"""``--life`` alone, for which connections are kept back in the kernel until they end (bpf/lives.h): told is what a
trace tells of each end, and once.
"""

import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from tracing import LINGER_0, Line, Trace, close_all, closed, connect, connected, listener, wait

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

Way = Callable[[str], object]
OWN = {
    "type", "ts", "mono_ns", "seq", "id", "sk", "held_us", "lifetime_us", "handshake_us", "rtt_us", "minrtt_us",
}  # fmt: skip
"""What is not the same of two tracers, or of lives alone. A socket has its cookie since somebody asked for it."""


def pair(host: str) -> tuple[socket.socket, socket.socket]:
    """A connection over which something has gone each way."""
    server, client, accepted = connected(host)
    client.sendall(b"x" * 100)
    assert accepted.recv(200) == b"x" * 100
    accepted.sendall(b"y" * 5000)
    assert len(client.recv(5000, socket.MSG_WAITALL)) == 5000
    server.close()
    return client, accepted


def by_client(host: str) -> None:
    client, accepted = pair(host)
    client.close()
    assert accepted.recv(1) == b""
    accepted.close()


def by_server(host: str) -> None:
    client, accepted = pair(host)
    accepted.close()
    assert client.recv(1) == b""
    client.close()


def half_closed(host: str) -> None:
    client, accepted = pair(host)
    client.shutdown(socket.SHUT_WR)
    assert accepted.recv(1) == b""
    accepted.sendall(b"more")
    accepted.close()
    assert client.recv(9, socket.MSG_WAITALL) == b"more"
    client.close()


def by_linger(host: str) -> None:
    client, _ = pair(host)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    client.close()


def by_servers_linger(host: str) -> None:
    _, accepted = pair(host)
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    accepted.close()


def unread(host: str) -> None:
    client, accepted = pair(host)
    accepted.sendall(b"nobody reads this")
    assert client.recv(1, socket.MSG_PEEK)
    client.close()


def never_accepted(host: str) -> None:
    server = listener(host)
    connect(server.getsockname()[:2])
    server.close()


def refused(host: str) -> None:
    server = listener(host)
    address = server.getsockname()[:2]
    server.close()
    with pytest.raises(ConnectionRefusedError):
        connect(address)


def by_another(host: str) -> None:
    """A child that has it, too, is who closes it in the end, and another one is killed with it."""
    client, accepted = pair(host)
    go, wake = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(wake)
        os.read(go, 1)
        os._exit(0)
    os.close(go)
    for one in (client, accepted):
        one.close()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(wake)


WAYS: list[Way] = [
    by_client, by_server, half_closed, by_linger, by_servers_linger, unread, never_accepted, refused, by_another,
]  # fmt: skip


def ends(running: Trace) -> dict[tuple[Any, ...], list[Line]]:
    """What has ended so far, by both ends, in order."""
    found: dict[tuple[Any, ...], list[Line]] = {}
    for line in running.lines:
        if line.get("ended"):
            found.setdefault((line["src"], line["sport"], line["dst"], line["dport"]), []).append(line)
    return found


def _are(running: Trace, count: int) -> bool:
    return sum(map(len, ends(running).values())) >= count


def test_it_tells_what_a_trace_tells(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    for name in ("trace", "life"):
        (tmp_path / name).mkdir()
    client, accepted = netns.call(pair, "127.0.0.1")  # older than both
    with (
        Trace(sstrace, netns, tmp_path / "trace", "ended") as trace,
        Trace(sstrace, netns, tmp_path / "life", "--life") as life,
    ):
        for host in ("127.0.0.1", "::1"):
            for way in WAYS:
                for _ in range(5):
                    netns.call(way, host)
        for one in (client, accepted):
            one.close()
        last = netns.call(pair, "127.0.0.1")
        for one in last:
            one.close()
        netns.call(close_all)
        count = 2 * (1 + 1 + 2 * 5 * 8) + 2 * 5  # of who is refused there is one end
        for running in (trace, life):
            wait("every end", partial(_are, running, count))
    of_trace, of_lives = ends(trace), ends(life)
    assert of_trace.keys() == of_lives.keys()
    for key, lines in of_trace.items():
        for told, lived in zip(lines, of_lives[key], strict=True):
            assert {name: value for name, value in told.items() if name not in OWN} == {
                name: value for name, value in lived.items() if name not in OWN
            }
            assert ("lifetime_us" in told) == ("lifetime_us" in lived)
            assert ("held_us" in told) == ("held_us" in lived)
    causes = Counter(line["cause"] for lines in of_lives.values() for line in lines)
    assert causes.keys() >= {
        "fin-by-us", "fin-by-peer", "linger", "reset-received", "reset-sent", "listener-closed", "refused",
    }  # fmt: skip
    for running in (trace, life):
        assert ", 0 lost, 0 late" in running.stderr
    heard = [int(re.findall(r"(\d+) events?,", running.stderr)[0]) for running in (trace, life)]
    assert heard[1] < heard[0] * 2 / 3, "it is not told of what its lines do not need"
