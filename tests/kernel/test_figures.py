"""What each connection carried, as its end tells it: exact, of both sides, whichever way it ends."""

import json
import random
import signal
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from tracing import Line, Trace, closed, connect, deafen, keep, listener, mend, ports, wait

from sstrace.sources.bpf import offsets
from sstrace.sources.bpf.compile import bundle
from sstrace.sources.bpf.load import load
from sstrace.sources.bpf.programs import TRACE
from sstrace.sources.btf import Btf

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

LINGER_0 = struct.pack("ii", 1, 0)
HOST = "127.0.0.1"
SIZES = (0, 1, 77, 5_000, 100_000)


def read(of: socket.socket, size: int) -> None:
    """That many bytes, or up to the end."""
    while size and (got := of.recv(min(size, 65536))):
        size -= len(got)


def by_client(client: socket.socket, server: socket.socket) -> None:
    client.close()
    server.recv(1)
    server.close()


def by_server(client: socket.socket, server: socket.socket) -> None:
    by_client(server, client)


def half_closed(client: socket.socket, server: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    server.recv(1)
    server.shutdown(socket.SHUT_WR)
    client.recv(1)
    client.close()
    server.close()


def at_once(client: socket.socket, server: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    server.close()
    client.close()


def reset_by_linger(client: socket.socket, server: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    client.close()
    with suppress(ConnectionResetError):
        server.recv(1)
    server.close()


WAYS: dict[str, Callable[[socket.socket, socket.socket], None]] = {
    way.__name__: way for way in (by_client, by_server, half_closed, at_once, reset_by_linger)
}


def transfer(
    server: socket.socket, sizes: tuple[int, int], end: Callable[[socket.socket, socket.socket], None]
) -> tuple[int, int]:
    """Send these many bytes each way, over a new connection, and end it; its ports."""
    client = connect(server.getsockname()[:2])
    accepted, _ = server.accept()
    found = ports(client)
    for one, other, size in ((client, accepted, sizes[0]), (accepted, client, sizes[1])):
        reader = threading.Thread(target=read, args=(other, size))
        reader.start()
        one.sendall(bytes(size))
        reader.join()
    end(client, accepted)
    return found


def ended(running: Trace) -> dict[tuple[int, int], Line]:
    """The ends so far, by local and peer port."""
    return {(line["sport"], line["dport"]): line for line in running.states if line.get("ended")}


@pytest.mark.parametrize("host", [HOST, "::1"])
def test_every_byte_is_counted_once(sstrace: Program, netns: Netns, tmp_path: Path, host: str) -> None:
    drawn = random.Random(7)
    wanted: dict[tuple[int, int], tuple[int, int]] = {}
    with Trace(sstrace, netns, tmp_path, "--no-baseline", "ended") as running:
        server = netns.call(listener, host)
        for way in WAYS.values():
            for _ in range(12):
                sent, received = drawn.choice(SIZES), drawn.choice(SIZES)
                client, peer = netns.call(transfer, server, (sent, received), way)
                wanted[client, peer], wanted[peer, client] = (sent, received), (received, sent)
        wait("every end", lambda: ended(running).keys() >= wanted.keys())
    found = ended(running)
    told = {key: (found[key].get("bytes_sent"), found[key].get("bytes_received")) for key in wanted}
    wrong = [found[key] for key in wanted if told[key] != wanted[key]]
    assert not wrong, str(wrong)
    assert told == wanted
    for key in wanted:
        assert found[key]["segs_out"] > 0
        assert found[key]["segs_in"] > 0
        assert found[key]["bytes_retrans"] >= found[key]["retrans"] >= 0
    assert {line["cause"] for line in found.values()} >= {"fin-by-us", "fin-by-peer", "linger", "reset-received"}


def test_what_was_sent_again_is_as_ss_told_it(sstrace: Program, ss: Program, netns: Netns, tmp_path: Path) -> None:
    def figures(of: socket.socket) -> dict[str, Any]:
        text = ss("-Htin", "sport", "=", f":{ports(of)[0]}", netns=netns).stdout.decode()
        return dict(word.split(":", 1) for word in text.split() if ":" in word)

    with Trace(sstrace, netns, tmp_path, "--no-baseline", "ended") as running:
        server = netns.call(listener)
        client = keep(netns.call(connect, server.getsockname()))
        accepted = keep(server.accept()[0])
        netns.call(deafen, accepted)
        client.sendall(bytes(1000))
        wait("a retransmission", lambda: int(figures(client).get("retrans", "0/0").partition("/")[2]) > 1)
        netns.call(mend, accepted)
        read(accepted, 1000)
        wait("everything acknowledged", lambda: "unacked" not in figures(client))
        before = figures(client)
        key = ports(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
        client.close()
        wait("its end", lambda: key in ended(running))
    end = ended(running)[key]
    assert end["bytes_sent"] == 1000
    assert end["bytes_retrans"] == int(before["bytes_retrans"])
    assert end["retrans"] == int(before["retrans"].partition("/")[2])
    assert end["rtt_us"] == pytest.approx(float(before["rtt"].partition("/")[0]) * 1000, abs=1)
    assert end["minrtt_us"] == pytest.approx(float(before["minrtt"]) * 1000, abs=1)
    assert (end["segs_out"], end["segs_in"]) == (int(before["segs_out"]), int(before["segs_in"]))


def test_what_never_was_carries_nothing(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--no-baseline") as running:
        server = netns.call(listener)
        port = server.getsockname()[1]
        server.close()
        with pytest.raises(ConnectionRefusedError):
            netns.call(connect, (HOST, port))
        refused = running.wait_for(dport=port, cause="refused")
        assert (refused["bytes_sent"], refused["bytes_received"], refused["segs_out"]) == (0, 0, 1)
        closed_listener = running.wait_for(sport=port, old="LISTEN")
        assert closed_listener["cause"] == "closed"
    assert not [line for line in running.states if line["to"] not in ("UNCONN", "TIME-WAIT") and "segs_out" in line]


def test_a_line_for_each_life(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--life", "-n", "role", "client", json_lines=False) as running:
        server = netns.call(listener)
        sport, dport = netns.call(transfer, server, (5_000, 77), by_client)
        found = wait("its line", lambda: [text for text in running.text if f":{sport} " in text])
    (text,) = found
    fields = text.split()
    assert fields[3:8] == [f"{HOST}:{sport}", "→", f"{HOST}:{dport}", "5.0k", "77"]
    assert fields[-1] == "fin-by-us"
    assert running.text[0].split()[-7:] == ["Peer", "Address:Port", "Sent", "Recv", "RTT", "Again", "Cause"]


def test_lives_are_the_same_live_and_out_of_a_recording(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    tape = tmp_path / "tape.ndjson"
    with Trace(sstrace, netns, tmp_path, "--life", "--record", str(tape)) as running:
        server = netns.call(listener)
        found = netns.call(transfer, server, (5_000, 77), by_client)
        port = server.getsockname()[1]
        server.close()
        with pytest.raises(ConnectionRefusedError):
            netns.call(connect, (HOST, port))
        lived = wait("their ends", lambda: lines if len(lines := lives_of(running.lines)) == 3 else None)
    assert {line["type"] for line in running.lines} == {"meta", "life"}
    wanted = {found: (5_000, 77, "client"), found[::-1]: (77, 5_000, "server")}
    for key, (sent, received, role) in wanted.items():
        line = lived[key]
        assert (line["bytes_sent"], line["bytes_received"], line["role"]) == (sent, received, role)
        assert 0 < line["handshake_us"] < line["lifetime_us"]
    (refused,) = (line for line in lived.values() if line["cause"] == "refused")
    assert "handshake_us" not in refused

    def replayed(*words: str) -> list[Line]:
        out = sstrace("--replay", *words, netns=netns).stdout.decode().splitlines()
        return [line for line in map(json.loads, out) if line["type"] != "meta"]

    again = replayed(str(tape), "--life", "--json")
    assert [_nameless(line) for line in again] == [_nameless(line) for line in lived.values()]
    kept = tmp_path / "life.ndjson"
    kept.write_text("".join(json.dumps(line) + "\n" for line in running.lines))
    assert [_nameless(line) for line in replayed(str(kept), "--life", "--json")] == [_nameless(line) for line in again]
    digest = sstrace("--stats", "--from", str(kept), "--json", netns=netns).stdout
    assert json.loads(digest.splitlines()[0])["failed"] == 1


def lives_of(lines: list[Line]) -> dict[tuple[int, int], Line]:
    return {(line["sport"], line["dport"]): line for line in lines if line["type"] == "life"}


def _nameless(line: Line) -> Line:
    return {key: value for key, value in line.items() if key not in ("seq", "sk", "ino")}


def test_a_namespace_has_one_key_where_nobody_is_told_its_cookie() -> None:
    """Linux 5.10 keeps cookies, of some namespaces, and SO_NETNS_COOKIE is of Linux 5.14."""
    with Btf() as btf:
        found = [
            offsets.macros(TRACE.offsets, TRACE.optional, TRACE.bits, btf, cookies=cookies) for cookies in (False, True)
        ]
    assert "OFF_net_cookie" not in found[0]
    assert found[0].keys() | {"OFF_net_cookie"} == found[1].keys() | {"OFF_net_cookie"}


def test_a_kernel_without_these_members_is_traced_without_figures() -> None:
    with Btf() as btf:
        macros = offsets.macros(TRACE.offsets, TRACE.optional, TRACE.bits, btf)
        found = offsets.figure_macros({**TRACE.figures, "new": ("tcp_sock", "no_such_member", 8)}, btf)
    assert found["WINDOWS"] == 0
    load(bundle(TRACE, None, macros | found)).close()


def test_a_window_begins_where_a_word_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Linux 7.2 a member of four bytes stands first in one: the verifier refuses words that are no multiple of eight
    bytes away from the beginning of the stack.
    """
    places = {"few": 1852, "many": 1864}
    with Btf() as btf:
        monkeypatch.setattr(btf, "offset", lambda _struct, member: places[member])
        found = offsets.figure_macros({"few": ("tcp_sock", "few", 4), "many": ("tcp_sock", "many", 8)}, btf)
    assert found["AT_many"] % 8 == 0
    assert {name: found["WINDOW_0"] + found[f"AT_{name}"] for name in places} == places


def test_a_connection_whose_end_was_lost_ends_all_the_same(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Nobody knows what it carried; but it is told, once, live and of the recording."""
    tape = tmp_path / "tape"

    def opened() -> list[tuple[socket.socket, socket.socket]]:
        server = listener(HOST)
        return [(connect(server.getsockname()[:2]), server.accept()[0]) for _ in range(60)]

    pairs = netns.call(opened)
    ends = [ports(client) for client, _ in pairs]
    wanted = sorted([*ends, *((there, here) for here, there in ends)])

    def told(lines: list[Line]) -> list[tuple[int, int]]:
        return sorted((line["sport"], line["dport"]) for line in lines if line["type"] == "life")

    record = ("--life", "--record", str(tape))
    with Trace(sstrace, netns, tmp_path, *record, env={"SSTRACE_PAGES": "1"}) as running:
        running.process.send_signal(signal.SIGSTOP)
        for way, some in ((by_client, pairs[:30]), (reset_by_linger, pairs[30:])):
            for client, server in some:
                way(client, server)
        running.process.send_signal(signal.SIGCONT)
        wait("every end", lambda: set(told(running.lines)) >= set(wanted))
    lives = [line for line in running.lines if line["type"] == "life"]
    assert told(lives) == wanted
    lost = [line for line in lives if line.get("approximate")]
    assert lost
    assert all("bytes_sent" not in line for line in lost)
    assert all("bytes_sent" in line for line in lives if line not in lost)
    again = sstrace("--life", "--json", "--replay", str(tape), netns=netns).stdout.decode()
    assert told([json.loads(line) for line in again.splitlines()]) == wanted


def test_a_digest_has_what_connections_carry_that_go_on(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    # Nobody saw who called before the beginning: such a connection is of its lower port.
    server = netns.call(listener, HOST, 1024)
    client = netns.call(connect, server.getsockname()[:2])
    accepted = keep(server.accept()[0])
    with Trace(sstrace, netns, tmp_path, "--stats") as running:
        netns.call(transfer, server, (77, 0), by_client)
        client.sendall(bytes(5_000))
        assert len(accepted.recv(5_000, socket.MSG_WAITALL)) == 5_000
    total = running.lines[0]
    assert (total["bytes_sent"], total["bytes_received"]) == (5_077, 5_077)
    (port,) = (
        line for line in running.lines if line.get("by") == "port" and line["key"] == str(server.getsockname()[1])
    )
    assert (port["opened"], port["closed"], port["bytes_sent"]) == (2, 2, 5_077)
