"""The trace of real sockets in a namespace of their own: every life as documented, once, in order, with its cause."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Netns, Program, unmet
from tmux import Tmux
from tracing import (
    CLIENT_OPEN,
    SERVER_OPEN,
    STRANGER,
    Line,
    Start,
    Trace,
    closed,
    connect,
    connected,
    disconnect,
    keep,
    leave,
    listener,
    lives,
    path,
    ports,
    reach,
    reset,
    route_stranger,
    send_syn,
    sysctl,
    traces,
    wait,
)

from sstrace.model import State

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

CLOSED_BY_US = ["FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT:fin-by-us"]
ORPHANED = ["FIN-WAIT-1", "FIN-WAIT-2", "FIN-WAIT-2:fin-by-us"]
"""By close(2), of the last descriptor: what is left to do, a timewait socket does."""
CLOSED_BY_PEER = ["CLOSE-WAIT", "LAST-ACK", "UNCONN:fin-by-peer"]


@pytest.fixture(params=["compiled", "python"])
def trace(
    sstrace: Program, netns: Netns, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Start]:
    """Start a trace in the namespace, with the compiled twins or without; whatever still runs at the end is stopped."""
    if request.param == "python":
        monkeypatch.setenv("SSTRACE_WITHOUT", "native")
    with traces(sstrace, netns, tmp_path) as start:
        yield start


def in_turn(of: Trace, ends: tuple[int, int]) -> list[list[Line]]:
    """The lives that one pair of ports had one after the other."""
    by_id: dict[int, list[Line]] = {}
    for line in of.states:
        if (line["sport"], line["dport"]) == ends:
            by_id.setdefault(line["id"], []).append(line)
    return list(by_id.values())


def told(of: Trace) -> dict[tuple[int, int], list[Line]]:
    """Stop a trace and give the lives it told of; nothing may be lost, late, or seen by a second sweep."""
    assert of.stop() == 0
    assert ", 0 lost, 0 late" in of.stderr
    assert {line["type"] for line in of.lines} <= {"meta", "seen", "state"}
    return lives(of.states)


def assert_owned(lines: list[Line], fd: int, source: str) -> None:
    """Every line names this process and descriptor."""
    comm = Path("/proc/thread-self/comm").read_text().strip()
    for line in lines:
        (owner,) = line["owners"]
        assert (owner["pid"], owner["fd"], line["owner_source"]) == (os.getpid(), fd, source), line
    assert comm


# -------------------------------------------------------------------------------------------------- orderly closes


@pytest.mark.parametrize(("host", "to"), [("127.0.0.1", None), ("::1", None), ("::", "127.0.0.1")])
def test_the_client_closes_first(trace: Start, netns: Netns, host: str, to: str | None) -> None:
    def live() -> tuple[tuple[int, int], int, int]:
        listens, client, server = connected(host, to)
        names = ports(client), client.fileno(), listens.fileno()
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        server.close()
        reach(client, State.CLOSE)
        client.close()
        listens.close()
        return names

    with trace() as running:
        (sport, dport), client_fd, listener_fd = netns.call(live)
        running.wait_for(sport=dport, dport=sport, new="UNCONN")
        found = told(running)
    assert found.keys() == {(sport, dport), (dport, sport), (dport, 0)}
    assert path(found[sport, dport]) == [*CLIENT_OPEN, *CLOSED_BY_US]
    assert path(found[dport, sport]) == [*SERVER_OPEN, *CLOSED_BY_PEER]
    assert path(found[dport, 0]) == ["UNCONN", "LISTEN", "UNCONN:closed"]
    assert_owned(found[sport, dport], client_fd, "connect")
    assert_owned(found[dport, 0], listener_fd, "listen")
    assert all(line["netns"] == netns.inode for line in found[sport, dport])
    assert {line["role"] for line in found[sport, dport]} == {"client"}
    assert {line["role"] for line in found[dport, sport]} == {"server"}


def test_addresses_and_families(trace: Start, netns: Netns) -> None:
    def live(host: str, to: str | None) -> tuple[int, int]:
        _, client, server = connected(host, to)
        names = ports(client)
        reset(client)
        reach(server, State.CLOSE)
        return names

    with trace() as running:
        v4 = netns.call(live, "127.0.0.1", None)
        v6 = netns.call(live, "::1", None)
        mapped = netns.call(live, "::", "127.0.0.1")
        running.wait_for(sport=mapped[1], dport=mapped[0], new="UNCONN")
        found = told(running)

    def ends(names: tuple[int, int]) -> set[tuple[str, str, str]]:
        return {(line["family"], line["src"], line["dst"]) for line in found[names]}

    assert ends(v4) == {("inet", "127.0.0.1", "127.0.0.1")}
    assert ends(v6) == ends(v6[::-1]) == {("inet6", "::1", "::1")}
    assert ends(mapped) == {("inet", "127.0.0.1", "127.0.0.1")}
    # The accepted socket is the listener's kind; what was half open may still be called by the packet's family.
    assert {line["family"] for line in found[mapped[::-1]][1:]} == {"inet6"}
    assert {line["src"] for line in found[mapped[::-1]][1:]} == {"::ffff:127.0.0.1"}


def test_the_server_closes_first(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        server.shutdown(socket.SHUT_WR)
        reach(client, State.CLOSE_WAIT)
        client.close()
        reach(server, State.CLOSE)
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[dport, sport]) == [*SERVER_OPEN, *CLOSED_BY_US]
    assert path(found[sport, dport]) == [*CLIENT_OPEN, *CLOSED_BY_PEER]
    assert_owned(found[sport, dport][:3], found[sport, dport][0]["owners"][0]["fd"], "connect")


def test_an_orphan_in_fin_wait_2_becomes_time_wait(trace: Start, netns: Netns) -> None:
    def live() -> tuple[socket.socket, tuple[int, int]]:
        _, client, server = connected()
        names = ports(client)
        client.close()
        reach(server, State.CLOSE_WAIT)
        return server, names

    with trace() as running:
        server, (sport, dport) = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="FIN-WAIT-2")
        server.close()
        end = running.wait_for(sport=sport, dport=dport, new="TIME-WAIT")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, *ORPHANED, "TIME-WAIT"]
    assert "ino" not in end
    assert end["owners"][0]["pid"] == os.getpid()


def test_an_orphan_in_fin_wait_2_behind_its_twin(trace: Start, netns: Netns) -> None:
    """One more connection between its addresses, but bound to no device: whoever asks for one is shown the other."""

    def bound(to: tuple[str, int], device: bytes) -> socket.socket:
        made = keep(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        made.bind(("127.0.0.1", 5555))
        made.connect(to)
        return made

    def live() -> tuple[socket.socket, socket.socket, tuple[int, int]]:
        listens = listener()
        first = bound(listens.getsockname(), b"lo")
        names = ports(first)
        server = keep(listens.accept()[0])
        first.close()
        return listens, server, names

    def live_on(listens: socket.socket, server: socket.socket) -> None:
        server.close()
        bound(listens.getsockname(), b"")

    with trace() as running:
        listens, server, (sport, dport) = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="FIN-WAIT-2")
        netns.call(live_on, listens, server)
        running.wait_for(sport=sport, dport=dport, new="TIME-WAIT")
        assert running.stop() == 0
    first, second = in_turn(running, (sport, dport))
    assert path(first) == [*CLIENT_OPEN, *ORPHANED, "TIME-WAIT"]
    assert path(second) == CLIENT_OPEN


def test_an_orphan_in_fin_wait_2_that_is_written_to(trace: Start, netns: Netns) -> None:
    def live() -> tuple[socket.socket, tuple[int, int]]:
        _, client, server = connected()
        names = ports(client)
        client.close()
        reach(server, State.CLOSE_WAIT)
        return server, names

    with trace() as running:
        server, (sport, dport) = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="FIN-WAIT-2")
        server.send(b"too late")
        reach(server, State.CLOSE)
        server.close()
        running.wait_for(sport=dport, dport=sport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, *ORPHANED, "UNCONN:reset-sent"]
    assert path(found[dport, sport]) == [*SERVER_OPEN, "CLOSE-WAIT", "UNCONN:reset-received"]


# ---------------------------------------------------------------------------------------------------------- resets


def test_linger_of_nought(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        reset(client)
        reach(server, State.CLOSE)
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        running.wait_for(sport=dport, dport=sport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:linger"]
    assert path(found[dport, sport]) == [*SERVER_OPEN, "UNCONN:reset-received"]
    assert found[dport, sport][-1]["err"] == 104
    assert "err" not in found[sport, dport][-1]
    assert all("lifetime_us" in life[-1] for life in (found[sport, dport], found[dport, sport]))


def test_close_with_unread_data(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        server.send(b"unread")
        client.recv(1, socket.MSG_PEEK)
        client.close()
        reach(server, State.CLOSE)
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        running.wait_for(sport=dport, dport=sport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:reset-sent"]
    assert path(found[dport, sport]) == [*SERVER_OPEN, "UNCONN:reset-received"]


def test_refused(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        with listener() as gone:
            port = gone.getsockname()[1]
        with socket.socket() as client:
            client.bind(("127.0.0.1", 0))
            assert client.connect_ex(("127.0.0.1", port)) == 111
            return client.getsockname()[1], port

    with trace() as running:
        sport, dport = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == ["UNCONN", "SYN-SENT", "UNCONN:refused"]
    assert found[sport, dport][-1]["err"] == 111
    assert (dport, sport) not in found


def test_a_connection_nobody_accepted(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        listens = listener()
        client = connect(listens.getsockname())
        names = ports(client)
        listens.close()
        reach(client, State.CLOSE)
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:reset-received"]
    assert path(found[dport, sport]) == [*SERVER_OPEN, "UNCONN:listener-closed"]


def test_a_disconnect_and_another_connect_of_the_same_socket(trace: Start, netns: Netns) -> None:
    def live() -> tuple[tuple[int, int], tuple[int, int]]:
        listens, client, server = connected()
        first = ports(client)
        disconnect(client)
        reach(server, State.CLOSE)
        client.connect(listens.getsockname())
        second = ports(client)
        reset(client)
        return first, second

    with trace() as running:
        first, second = netns.call(live)
        running.wait_for(sport=second[1], dport=second[0], new="UNCONN")
        found = told(running)
    assert first != second
    assert path(found[first]) == [*CLIENT_OPEN, "UNCONN:disconnected"]
    assert path(found[second]) == [*CLIENT_OPEN, "UNCONN:linger"]
    assert found[first][0]["id"] != found[second][0]["id"]


@pytest.mark.ss
def test_killed(trace: Start, netns: Netns, ss: Program) -> None:
    def live() -> tuple[socket.socket, socket.socket]:
        _, client, server = connected()
        return client, server

    with trace() as running:
        client, server = netns.call(live)
        sport, dport = ports(client)
        ss("-K", "dport", "=", f":{dport}", netns=netns)
        reach(server, State.CLOSE)
        running.wait_for(sport=dport, dport=sport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:killed"]
    assert path(found[dport, sport]) == [*SERVER_OPEN, "UNCONN:reset-received"]
    assert found[sport, dport][-1]["err"] == 103


@pytest.mark.ss
def test_killed_in_time_wait(trace: Start, netns: Netns, ss: Program) -> None:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        server.close()
        reach(client, State.CLOSE)
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        ss("-K", "state", "time-wait", netns=netns)
        running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, *CLOSED_BY_US, "UNCONN:killed"]


def test_time_wait_is_used_again(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        listens = listener()
        for _ in range(2):
            client = keep(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("127.0.0.1", 5555))
            client.connect(listens.getsockname())
            server = keep(listens.accept()[0])
            names = ports(client)
            client.shutdown(socket.SHUT_WR)
            reach(server, State.CLOSE_WAIT)
            server.close()
            reach(client, State.CLOSE)
            client.close()
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        wait("both are in TIME-WAIT", lambda: [line["to"] for line in running.states].count("TIME-WAIT") == 2)
        assert running.stop() == 0
    first, second = in_turn(running, (sport, dport))
    assert path(first) == [*CLIENT_OPEN, *CLOSED_BY_US, "UNCONN:reused"]
    assert path(second) == [*CLIENT_OPEN, *CLOSED_BY_US]


# ------------------------------------------------------------------------------------------------ half open, no answer


def test_half_open_when_the_listener_closes(trace: Start, netns: Netns) -> None:
    route_stranger(netns)
    listens = netns.call(listener)
    port = listens.getsockname()[1]
    with trace() as running:
        netns.call(send_syn, 1006, port)
        running.wait_for(sport=port, dport=1006, new="SYN-RECV")
        listens.close()
        running.wait_for(sport=port, dport=1006, new="UNCONN")
        found = told(running)
    assert path(found[port, 1006]) == ["LISTEN", "SYN-RECV", "UNCONN:listener-closed"]
    assert found[port, 1006][0]["dst"] == STRANGER
    assert path(found[port, 0]) == ["LISTEN", "UNCONN:closed"]


def test_half_open_that_nobody_acknowledges(trace: Start, netns: Netns) -> None:
    route_stranger(netns)
    sysctl(netns, "tcp_synack_retries", 1)
    listens = netns.call(listener)
    port = listens.getsockname()[1]
    with trace() as running:
        netns.call(send_syn, 1007, port)
        end = running.wait_for(sport=port, dport=1007, new="UNCONN")
        found = told(running)
    assert path(found[port, 1007]) == ["LISTEN", "SYN-RECV", "UNCONN:timeout-synack"]
    assert end["retransmits"] == 1
    listens.close()


def test_a_syn_that_nobody_answers(trace: Start, netns: Netns) -> None:
    route_stranger(netns)
    sysctl(netns, "tcp_syn_retries", 1)
    sysctl(netns, "tcp_syn_linear_timeouts", 0)

    def live() -> tuple[int, int]:
        with socket.socket() as client:
            client.bind(("127.0.0.1", 0))
            assert client.connect_ex((STRANGER, 9)) == 110
            return client.getsockname()[1], 9

    with trace() as running:
        sport, dport = netns.call(live)
        end = running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == ["UNCONN", "SYN-SENT", "UNCONN:timeout-connect"]
    assert (end["err"], end["retransmits"]) == (110, 1)
    assert end["held_us"] > 1_000_000


def test_a_connect_that_is_given_up(trace: Start, netns: Netns) -> None:
    route_stranger(netns)

    def live() -> int:
        client = keep(socket.socket())
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        client.connect_ex((STRANGER, 9))
        port: int = client.getsockname()[1]
        client.close()
        return port

    with trace() as running:
        sport = netns.call(live)
        running.wait_for(sport=sport, dport=9, new="UNCONN")
        found = told(running)
    assert path(found[sport, 9]) == ["UNCONN", "SYN-SENT", "UNCONN:abandoned"]


def test_data_that_nobody_acknowledges(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        names = ports(client)
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True, timeout=30)
        client.send(b"into the void")
        reach(client, State.CLOSE)
        client.close()
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        end = running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:timeout-retransmit"]
    assert end["err"] == 110
    assert path(found[dport, sport]) == SERVER_OPEN


def test_keepalive_that_nobody_answers(trace: Start, netns: Netns) -> None:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            client.setsockopt(socket.IPPROTO_TCP, option, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        names = ports(client)
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True, timeout=30)
        reach(client, State.CLOSE)
        return names

    with trace() as running:
        sport, dport = netns.call(live)
        running.wait_for(sport=sport, dport=dport, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:timeout-keepalive"]


@pytest.mark.parametrize("kind", ["blackhole", "unreachable", "prohibit", None])
def test_without_a_route_no_connection_begins(trace: Start, netns: Netns, kind: str | None) -> None:
    """connect(2) fails before the socket leaves CLOSE: the kernel reports nothing, so nothing is told."""
    if kind is not None:
        netns.run("ip", "route", "add", kind, "10.7.7.7")

    def live() -> int:
        with socket.socket() as client:
            client.bind(("127.0.0.1", 0))
            assert client.connect_ex(("10.7.7.7", 9)) != 0
        _, client, _ = connected()
        port: int = client.getsockname()[1]
        return port

    with trace() as running:
        port = netns.call(live)
        running.wait_for(sport=port, new="ESTAB")
        found = told(running)
    assert not [names for names in found if 9 in names]


def test_unreachable(trace: Start, netns: Netns) -> None:
    """A router on the way says so."""
    router = Netns()
    try:
        netns.run("ip", "link", "add", "to-router", "type", "veth", "peer", "name", "to-host", "netns", router.path)
        netns.run("ip", "address", "add", "10.1.1.1/24", "dev", "to-router")
        netns.run("ip", "link", "set", "to-router", "up")
        netns.run("ip", "route", "add", "default", "via", "10.1.1.2")
        router.run("ip", "address", "add", "10.1.1.2/24", "dev", "to-host")
        router.run("ip", "link", "set", "to-host", "up")
        router.run("ip", "route", "add", "unreachable", "10.8.8.8")
        sysctl(router, "ip_forward", 1)

        def live() -> int:
            with socket.socket() as client:
                client.bind(("10.1.1.1", 0))
                assert client.connect_ex(("10.8.8.8", 9)) == 113
                port: int = client.getsockname()[1]
                return port

        with trace() as running:
            sport = netns.call(live)
            running.wait_for(sport=sport, dport=9, new="UNCONN")
            found = told(running)
    finally:
        router.close()
    assert path(found[sport, 9]) == ["UNCONN", "SYN-SENT", "UNCONN:unreachable"]
    assert found[sport, 9][-1]["err"] == 113


# -------------------------------------------------------------------------------------------------------- baseline


def test_the_baseline_is_told_first_and_lived_on_from(trace: Start, netns: Netns) -> None:
    listens, client, server = netns.call(connected)
    sport, dport = ports(client)
    with trace() as running:
        wait("the baseline is told", lambda: [line["type"] for line in running.lines].count("seen") == 3)
        seen = {(line["sport"], line["dport"]): line for line in running.lines if line["type"] == "seen"}
        assert {names: line["state"] for names, line in seen.items()} == {
            (sport, dport): "ESTAB",
            (dport, sport): "ESTAB",
            (dport, 0): "LISTEN",
        }
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        server.close()
        running.wait_for(sport=dport, dport=sport, new="UNCONN")
        reach(client, State.CLOSE)
        listens.close()
        running.wait_for(sport=dport, dport=0, new="UNCONN")
        found = told(running)
    assert path(found[sport, dport]) == ["ESTAB", *CLOSED_BY_US]
    assert path(found[dport, sport]) == ["ESTAB", *CLOSED_BY_PEER]
    for names, lines in found.items():
        assert {line["id"] for line in lines} == {seen[names]["id"]}
        assert "held_us" not in lines[0]
        (owner,) = seen[names]["owners"]
        assert owner["pid"] == os.getpid()


# ---------------------------------------------------------------------------------------------------------- numbers


def churn(count: int, closes: Callable[[socket.socket], None]) -> list[tuple[int, int]]:
    listens = listener(backlog=4096)
    names = []
    for _ in range(count):
        client = connect(listens.getsockname())
        server = keep(listens.accept()[0])
        names.append(ports(client))
        closes(client)
        leave(server, State.ESTABLISHED)  # or both close at once
        server.close()
    listens.close()
    return names


def test_23_connections_are_23(trace: Start, netns: Netns) -> None:
    with trace() as running:
        names = netns.call(churn, 23, socket.socket.close)
        running.wait_for(new="UNCONN", dport=0)
        wait("every client is in TIME-WAIT", lambda: [line["to"] for line in running.states].count("TIME-WAIT") == 23)
        told(running)
    counts = Counter((line["from"], line["to"]) for line in running.states)
    # Where a server closes so late that the kernel acknowledged by itself (tcp_delack_timer), its client's is one line
    # more: a timewait socket took over in FIN-WAIT-2.
    del counts["FIN-WAIT-2", "FIN-WAIT-2"]
    assert len(set(names)) == 23
    assert counts == {
        ("UNCONN", "LISTEN"): 1,
        ("LISTEN", "UNCONN"): 1,
        **dict.fromkeys(
            [
                ("UNCONN", "SYN-SENT"),
                ("SYN-SENT", "ESTAB"),
                ("LISTEN", "SYN-RECV"),
                ("SYN-RECV", "ESTAB"),
                ("ESTAB", "FIN-WAIT-1"),
                ("FIN-WAIT-1", "FIN-WAIT-2"),
                ("FIN-WAIT-2", "TIME-WAIT"),
                ("ESTAB", "CLOSE-WAIT"),
                ("CLOSE-WAIT", "LAST-ACK"),
                ("LAST-ACK", "UNCONN"),
            ],
            23,
        ),
    }


def test_2000_connections_lose_nothing(trace: Start, netns: Netns) -> None:
    with trace() as running:
        names = netns.call(churn, 2000, reset)
        running.wait_for(new="UNCONN", dport=0)
        found = told(running)
    assert len(set(names)) == 2000
    for sport, dport in names:
        assert path(found[sport, dport]) == [*CLIENT_OPEN, "UNCONN:linger"]
        assert path(found[dport, sport]) == [*SERVER_OPEN, "UNCONN:reset-received"]
    assert len(found) == 4001


# -------------------------------------------------------------------------------------------------------- selection


def test_from_and_to(trace: Start, netns: Netns) -> None:
    with trace("from", "syn-sent", "to", "established") as running:
        names = netns.call(churn, 3, reset)
        wait("three lines", lambda: len(running.states) == 3)
        assert running.stop() == 0
    assert [(line["from"], line["to"], line["sport"]) for line in running.states] == [
        ("SYN-SENT", "ESTAB", sport) for sport, _ in names
    ]


def test_a_state_selects_what_enters_and_leaves_it(trace: Start, netns: Netns) -> None:
    with trace("state", "syn-recv") as running:
        netns.call(churn, 2, reset)
        wait("four lines", lambda: len(running.states) == 4)
        assert running.stop() == 0
    assert [(line["from"], line["to"]) for line in running.states] == [
        ("LISTEN", "SYN-RECV"),
        ("SYN-RECV", "ESTAB"),
    ] * 2


@pytest.mark.parametrize(
    ("words", "states"),
    [
        ("from syn-sent to closed", []),
        ("to close-wait", ["ESTAB", "ESTAB"]),
        ("state listening", ["LISTEN"]),
        ("exclude established", ["LISTEN"]),
        ("dport = :7003", ["ESTAB"]),
        ("from established sport = :7003", ["ESTAB"]),
        ("-6", []),
        ("--no-baseline", []),
        ("--no-baseline state established", []),
    ],
)
def test_the_baseline_is_selected_like_everything_else(
    trace: Start, netns: Netns, sstrace: Program, tmp_path: Path, *, words: str, states: list[str]
) -> None:
    """And a recording beside it holds all of it, from which a replay gives the same."""
    recording = tmp_path / "everything.ndjson"

    def live() -> socket.socket:
        listens = listener(port=7003)
        connect(listens.getsockname())
        return keep(listens.accept()[0])

    server = netns.call(live)
    with trace("--record", str(recording), *words.split()) as running:
        reset(server)
        wait("it is recorded", lambda: b'"cause"' in recording.read_bytes())
        assert running.stop() == 0
    assert [line["state"] for line in running.lines if line["type"] == "seen"] == states
    kept = [json.loads(line) for line in recording.read_bytes().splitlines()]
    assert sorted(line["state"] for line in kept if line["type"] == "seen") == ["ESTAB", "ESTAB", "LISTEN"]
    replayed = sstrace("--replay", str(recording), "--json", *words.split())
    again = [json.loads(line) for line in replayed.stdout.splitlines()]
    assert [line for line in again if line["type"] != "meta"] == [
        line for line in running.lines if line["type"] != "meta"
    ]


def test_a_filter(trace: Start, netns: Netns) -> None:
    with trace("dport", "=", ":7001", "and", "src", "127.0.0.1") as running:

        def live() -> None:
            for port in (7001, 7002):
                listens = listener(port=port)
                client = connect(listens.getsockname())
                reset(client)
                listens.close()

        netns.call(live)
        running.wait_for(dport=7001, new="UNCONN")
        assert running.stop() == 0
    assert [(line["dport"], line["to"]) for line in running.states] == [
        (7001, "SYN-SENT"),
        (7001, "ESTAB"),
        (7001, "UNCONN"),
    ]


@pytest.mark.parametrize(("option", "family"), [("-4", "inet"), ("-6", "inet6")])
def test_families(trace: Start, netns: Netns, option: str, family: str) -> None:
    def live() -> None:
        for host in ("127.0.0.1", "::1"):
            _, client, server = connected(host)
            reset(client)
            reach(server, State.CLOSE)

    with trace() as every, trace(option) as running:
        netns.call(live)
        wait("all has been told", lambda: [line["to"] for line in every.states].count("UNCONN") == 4)
        assert (running.stop(), every.stop()) == (0, 0)
    assert {line["family"] for line in every.states} == {"inet", "inet6"}
    chosen = [line for line in every.states if line["family"] == family]
    assert [(line["from"], line["to"], line["sport"]) for line in running.states] == [
        (line["from"], line["to"], line["sport"]) for line in chosen
    ]


# ------------------------------------------------------------------------------------------------------- how it ends


def test_count(trace: Start, netns: Netns) -> None:
    with trace("--count", "5") as running:
        netns.call(churn, 3, reset)
        assert running.process.wait(30) == 0
    assert len(running.states) == 5


def test_duration(trace: Start) -> None:
    running = trace("--duration", "0.2s")
    assert running.process.wait(30) == 0
    assert running.ready.exists()
    assert "0 events, 0 lost, 0 late" in running.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(trace: Start, netns: Netns, number: int) -> None:
    with trace() as running:
        netns.call(churn, 1, reset)
        assert running.stop(number) == 0
    # What had happened before the signal has been told.
    assert [line["to"] for line in running.states].count("UNCONN") == 3
    assert running.stderr.startswith("sstrace: ")
    assert running.stderr.count("\n") == 1


@contextlib.contextmanager
def piped(sstrace: Program, netns: Netns, ready: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A trace that writes into a pipe of ours, which nobody reads yet."""
    with sstrace.start("--ready-file", str(ready), *arguments, netns=netns) as process:
        try:
            wait("it is ready", ready.exists)
            yield process
        finally:
            process.kill()


def assert_it_ends(process: subprocess.Popen[bytes]) -> None:
    assert process.wait(30) == 0
    assert process.stderr is not None
    assert b"bug in sstrace" not in process.stderr.read()


def test_a_reader_that_leaves_ends_it_at_once(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Even when no further event comes."""
    with piped(sstrace, netns, tmp_path / "ready", "--json") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"type":"meta"')
        process.stdout.close()
        assert_it_ends(process)


def test_a_reader_that_leaves_in_the_middle(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    stop = threading.Event()

    def traffic() -> None:
        while not stop.is_set():
            netns.call(churn, 20, reset)

    worker = threading.Thread(target=traffic)
    with piped(sstrace, netns, tmp_path / "ready") as process:
        worker.start()
        try:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            assert_it_ends(process)
        finally:
            stop.set()
            worker.join()


def test_text(trace: Start, netns: Netns) -> None:
    with trace(json_lines=False) as running:
        ((sport, dport),) = netns.call(churn, 1, reset)
        wait("all has been told", lambda: sum("UNCONN " in line for line in running.text) >= 3)
        assert running.stop() == 0
    header, *lines = running.text
    assert header.split() == ["Time", "From", "To", "Held", "Local", "Address:Port", "Peer", "Address:Port", "Process"]
    client = [line.split() for line in lines if f" 127.0.0.1:{sport} " in line[: header.index("Peer")]]
    assert [(words[1], words[3]) for words in client] == [
        ("UNCONN", "SYN-SENT"),
        ("SYN-SENT", "ESTAB"),
        ("ESTAB", "UNCONN"),
    ]
    assert client[-1][-1] == "[linger]"
    assert {words[6] for words in client} == {f"127.0.0.1:{dport}"}
    assert all(str(os.getpid()) in words[7] for words in client)


def test_without_a_header(trace: Start, netns: Netns) -> None:
    with trace("-H", "--count", "1", json_lines=False) as running:
        netns.call(churn, 1, reset)
        assert running.process.wait(30) == 0
    assert len(running.text) == 1
    assert "UNCONN -> LISTEN" in running.text[0]


# --------------------------------------------------------------------------------------------------------- refusals


NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/nonexistent")
REFUSE_BPF = (sys.executable, str(ROOT / "tests/refusal.py"), "bpf=EPERM", "--")
UNSEEN = "until then the kernel is asked every second: what comes and goes between two looks is not seen, nor why "


@pytest.mark.parametrize("who", [NOBODY, REFUSE_BPF], ids=["nobody", "no bpf(2)"])
def test_without_the_privilege_to_trace_it_looks_each_second(
    sstrace: Program, netns: Netns, who: tuple[str, ...]
) -> None:
    tracer = Program(*who, *sstrace.head).start("--json", "--count", "1", "--no-baseline", netns=netns)
    assert tracer.stdout is not None
    meta = json.loads(tracer.stdout.readline())
    server = netns.call(listener)
    out, errors = tracer.communicate(timeout=60)
    (line,) = map(json.loads, out.splitlines())
    assert (meta["type"], line["source"], line["to"]) == ("meta", "poll", "LISTEN")
    assert line["sport"] == server.getsockname()[1]
    assert tracer.returncode == 0
    sentence, summary = errors.decode().splitlines()
    assert sentence.startswith("sstrace: tracing needs root" if who is NOBODY else "sstrace: ")
    assert UNSEEN in sentence
    assert re.fullmatch(r"sstrace: \d+ looks?", summary)


LESS = ("setpriv", "--bounding-set=-sys_resource", "--inh-caps=-sys_resource", "prlimit", "--memlock=65536:65536")
"""Root that may not lock more memory."""


@pytest.mark.parametrize(
    ("rule", "code", "said"),
    [
        ("bpf:0=EPERM", 3, "the kernel refused to create a BPF map: before Linux 5.11 that takes memory"),
        ("bpf:0=ENOMEM", 4, "the kernel has no memory for "),
        ("bpf:5=ENOMEM", 4, "the kernel has no memory for the program for "),
    ],
    ids=["locked", "map", "program"],
)
def test_what_there_is_no_memory_for_in_the_kernel(
    sstrace: Program, netns: Netns, rule: str, code: int, said: str
) -> None:
    assert sstrace("--verify", "--duration", "1ms", netns=netns).returncode in (0, 6)  # it is in the cache
    refusing = Program(*LESS, sys.executable, str(ROOT / "tests/refusal.py"), rule, "--", *sstrace.head)
    outcome = refusing("--verify", "--duration", "1s", netns=netns)
    assert (outcome.returncode, outcome.stdout) == (code, b"")
    (sentence,) = outcome.stderr.decode().splitlines()
    assert sentence.startswith(f"sstrace: {said}")


@pytest.mark.parametrize("mode", ["--stats", "--verify"])
def test_what_must_not_miss_anything_says_how_it_does_without_root(sstrace: Program, netns: Netns, mode: str) -> None:
    """And what it says is true."""
    unprivileged = Program(*NOBODY, *sstrace.head)
    outcome = unprivileged(mode, "--duration", "1s", netns=netns)
    assert (outcome.returncode, outcome.stdout) == (3, b"")
    sentence = outcome.stderr.decode()
    assert sentence.count("\n") == 1
    advice = re.search(r"root.*\((--poll \w+) does without, and sees less\)$", sentence.strip())
    assert advice
    assert unprivileged(mode, "--duration", "1s", *advice[1].split(), netns=netns).returncode == 0


def test_where_not_even_looking_is_allowed(sstrace: Program, netns: Netns) -> None:
    outcome = Program(*REFUSE_BPF[:-1], "socket:16::4=EACCES", "--", *sstrace.head)("--duration", "1s", netns=netns)
    assert (outcome.returncode, outcome.stdout) == (3, b"")
    said = outcome.stderr.decode().splitlines()
    assert said[-1] == (
        "sstrace: Cannot open netlink socket: Permission denied (a sandbox or security policy forbids netlink)"
    )


@pytest.fixture
def without_bcc(sstrace: Program, tmp_path: Path) -> Program:
    """A machine where ``import bcc`` fails and nothing has been compiled before."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc" / "__init__.py").write_text("raise ImportError('no bcc here')\n")
    Path("/var/cache/sstrace").mkdir(mode=0o700, parents=True, exist_ok=True)
    script = f'mount -t tmpfs none /var/cache/sstrace && PYTHONPATH={tmp_path} exec "$@"'
    return Program("unshare", "--mount", "sh", "-c", script, "sh", *sstrace.head)


def test_without_bcc_no_trace(without_bcc: Program) -> None:
    outcome = without_bcc("--duration", "1s")
    assert outcome.returncode == 4
    assert outcome.stdout == b""
    sentence = outcome.stderr.decode()
    assert sentence.startswith("sstrace: bcc ")
    assert sentence.count("\n") == 1
    assert "/bcc/__init__.py is there, but is no whole bcc: " in sentence


@pytest.mark.ss
def test_without_bcc_snapshots_go_on(without_bcc: Program, netns: Netns, ss: Program) -> None:
    sockets = netns.call(connected)
    assert without_bcc("--snapshot", "-tan", netns=netns).stdout == ss("-tan", netns=netns).stdout
    assert sockets


def test_a_ready_file_that_cannot_be_made(sstrace: Program, netns: Netns) -> None:
    outcome = sstrace("--ready-file", "/nonexistent/ready", "--duration", "1s", netns=netns)
    assert outcome.returncode != 0
    assert b"bug in sstrace" not in outcome.stderr
    assert b"/nonexistent/ready" in outcome.stderr


def test_where_nothing_happens_a_terminal_is_told_what_is_followed(netns: Netns, tmp_path: Path) -> None:
    """One grey line, whose command is a command; no line where something happened, or where nobody looks."""
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    pane = Tmux(tmp_path, [*netns.prefix, sys.executable, "-m", "sstrace", "-tlpn"], columns=160)
    said = "sstrace: following every transition of TCP that enters or leaves listening; the table: "
    try:
        lines = pane.until_text(said)
        # Of neighbours in one colour tmux has it of the first: another may say what other namespaces have.
        grey = next(line for line in pane.screen(attributes=True) if "sstrace: " in line)
        assert grey.startswith("\x1b[2m")
        shown = next(line for line in lines if line.startswith(said)).removeprefix(said).split()
        assert shown == ["sstrace", "--snapshot", "-tlnp"]
        # What happens from then on stands below.
        with netns.call(listener):
            pane.until_text("LISTEN")
        pane.type("C-c")
        assert pane.ended() == 0
    finally:
        pane.close()
    assert subprocess.run([sys.executable, "-m", *shown], check=False, capture_output=True).returncode == 0


def test_no_line_of_a_trace_wraps_on_a_terminal_that_changes(netns: Netns, tmp_path: Path) -> None:
    """Real lines at 80 columns, then at 160 after SIGWINCH, with titles for each."""
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    ready = tmp_path / "ready"
    words = [*netns.prefix, sys.executable, "-m", "sstrace", "-n", "--ready-file", str(ready)]
    pane = Tmux(tmp_path, words, columns=80, lines=40)
    try:
        pane.until(lambda _lines: ready.exists())
        with netns.call(listener):
            lines = pane.until_text("LISTEN")
        pane.until_text("closed")
        title = next(line for line in lines if line.startswith("Time "))
        assert title.split()[-2:] == ["Peer,", "cause"]
        told = [line for line in pane.screen() if re.match(r"\d\d:\d\d:\d\d ", line)]
        screen = pane.screen()
        assert screen[screen.index(told[0]) + 1] == told[1]  # one that wrapped would go on here
        assert re.match(r"[\d:]{8}     UNCONN→LISTEN +- \S+/\d+ +127\.0\.0\.1:\d+$", told[0])
        assert re.match(r"[\d:]{8}     LISTEN→UNCONN +\S+ \S+/\d+ +127\.0\.0\.1:\d+ closed$", told[1])
        pane.resize(160, 40)
        with netns.call(listener):
            lines = pane.until_text("UNCONN -> LISTEN")
        assert any("Local Address:Port" in line for line in lines)
        pane.type("C-c")
        assert pane.ended() == 0
    finally:
        pane.close()


def test_quiet_leaves_what_is_wrong_alone(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    words = ("-q", "--record", str(tmp_path / "day.ndjson"), "--duration", "100ms")
    quiet = sstrace(*words, netns=netns)
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    assert b" events" in sstrace(*words[1:], netns=netns).stderr
    wrong = sstrace("-q", "--output", "/dev/full", "--duration", "100ms", netns=netns)
    assert wrong.returncode == 1
    assert b"sstrace: " in wrong.stderr
