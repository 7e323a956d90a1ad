"""Sockets that are looked for, traced and recorded: unix sockets beside the real ss, packet and netlink ones."""

import array
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Netns, Program
from tracing import Line, Start, Trace, closed, keep, trace, wait

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.ss]

STREAM, DATAGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET


@pytest.fixture(autouse=True)
def _by_looks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the tracepoints of system calls cannot be had; with them: test_unix_calls."""
    monkeypatch.setenv("SSTRACE_WITHOUT", "calls")


def made(kind: int = STREAM) -> socket.socket:
    return keep(socket.socket(socket.AF_UNIX, kind))


def inode(of: socket.socket) -> int:
    return os.fstat(of.fileno()).st_ino


def end(of: Trace) -> list[Line]:
    """Stop a trace and give its lines, none of which claims to know more than a look does."""
    assert of.stop() == 0
    for line in of.states:
        assert (line["source"], line["approximate"], line["exact"]) == ("sweep", True, False)
        assert line.get("ended", False) is (line["to"] == "UNKNOWN")
    return of.states


def holders(line: Line, key: str = "owners") -> set[tuple[int, int]]:
    return {(owner["pid"], owner["fd"]) for owner in line.get(key, ())}


@pytest.mark.parametrize("kind", [STREAM, SEQPACKET], ids=["stream", "seqpacket"])
@pytest.mark.parametrize("name", ["path", "@abstract"])
def test_a_connection_is_told_of_with_both_ends_and_who_holds_them(
    trace: Start, netns: Netns, tmp_path: Path, kind: int, name: str
) -> None:
    where = str(tmp_path / name) if name == "path" else f"\0{name[1:]}"
    shown = where.replace("\0", "@")
    with trace("-x") as running:
        listener = netns.call(made, kind)
        listener.bind(where)
        listener.listen()
        heard = running.wait_for(new="LISTEN")
        client = netns.call(made, kind)
        client.connect(where)
        called = running.wait_for(new="ESTAB", src="")
        assert (called["sport"], called["dport"]) == (inode(client), 0)  # nobody has accepted it yet
        server = keep(listener.accept()[0])
        accepted = running.wait_for(new="ESTAB", src=shown)
        answered = running.wait_for(old="ESTAB", new="ESTAB", src="")
        client.close()
        gone = running.wait_for(new="UNKNOWN", src="")
        left = running.wait_for(old="ESTAB", new="ESTAB", src=shown)
        ours, theirs = holders(left), inode(server)
        for one in (server, listener):
            one.close()
        running.wait_for(new="UNKNOWN", sport=theirs)
    lines = end(running)
    assert {line["netid"] for line in lines} == {"u_str" if kind == STREAM else "u_seq"}
    assert (heard["src"], holders(heard)) == (shown, {(os.getpid(), listener_fd(heard))})
    assert (accepted["role"], accepted["dport"]) == ("server", called["sport"])
    assert holders(accepted, "peer_owners") == holders(called) != set()
    assert (answered["role"], answered["dst"], answered["dport"]) == ("client", shown, accepted["sport"])
    assert answered["id"] == called["id"] == gone["id"]
    assert gone["lifetime_us"] >= answered["held_us"] > 0
    assert (left["dport"], left["dst"], ours) == (0, "", holders(accepted))


def listener_fd(line: Line) -> int:
    (owner,) = line["owners"]
    return int(owner["fd"])


def test_datagram_sockets_and_pairs_are_told_of(trace: Start, netns: Netns) -> None:
    with trace("-x") as running:
        target, caller = netns.call(made, DATAGRAM), netns.call(made, DATAGRAM)
        running.wait_for(sport=inode(caller), new="UNCONN")
        target.bind("\0target")
        running.wait_for(old="UNCONN", new="UNCONN", src="@target")
        caller.connect("\0target")
        met = running.wait_for(sport=inode(caller), dport=inode(target))
        one, two = netns.call(socket.socketpair)
        paired = running.wait_for(sport=inode(one), new="ESTAB")
        expected = inode(two)
        for each in (one, two):
            each.close()
        running.wait_for(sport=paired["sport"], new="UNKNOWN")
    end(running)
    assert (met["netid"], met["dst"], holders(met, "peer_owners") != set()) == ("u_dgr", "@target", True)
    assert paired["dport"] == expected
    assert "role" not in paired  # neither has called


def test_what_is_passed_changes_hands_and_what_is_in_flight_has_none(trace: Start, netns: Netns) -> None:
    def passed(line: Line | None) -> bool:
        return line is not None and "owners" not in line

    def latest(of: Trace, sport: int) -> Line | None:
        return next((line for line in reversed(of.lines) if line.get("sport") == sport), None)

    with trace("-x") as running:
        one, two = (keep(each) for each in netns.call(socket.socketpair))
        parcel = netns.call(made)
        number = inode(parcel)
        running.wait_for(sport=number, new="UNCONN")
        one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [parcel.fileno()]))])
        parcel.close()
        wait("nobody holds it", lambda: passed(latest(running, number)))
        _, found, _, _ = two.recvmsg(1, socket.CMSG_SPACE(4))
        (fd,) = array.array("i", found[0][2])
        wait("it is held again", lambda: not passed(latest(running, number)))
        os.close(fd)
        running.wait_for(sport=number, new="UNKNOWN")
    lines = [line for line in end(running) if line["sport"] == number]
    assert [line["to"] for line in lines] == ["UNCONN", "UNKNOWN"]


CHURN = """
import os, socket, sys
kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
kept = []
for turn in range(int(sys.argv[1])):
    kind = kinds[turn % 3]
    name = f"\\0{os.getpid()}-{turn}" if turn % 2 else f"{sys.argv[2]}/{os.getpid()}-{turn}"
    server, client = socket.socket(socket.AF_UNIX, kind), socket.socket(socket.AF_UNIX, kind)
    server.bind(name)
    if kind != socket.SOCK_DGRAM:
        server.listen()
    client.connect(name)
    made = [server, client, *socket.socketpair(socket.AF_UNIX, kind)]
    if kind != socket.SOCK_DGRAM and turn % 4:
        made.append(server.accept()[0])
    if turn % 5 == 0:
        parcel = made.pop()
        socket.send_fds(made[2], [b"x"], [parcel.fileno()])
        parcel.close()
    kept.append(made)
    if len(kept) > 20:
        for each in kept.pop(0):
            each.close()
print("done", flush=True)
sys.stdin.read()
"""
"""Of every sort, some unaccepted, some in flight; the last twenty stay."""


def users(row: str) -> frozenset[str]:
    return frozenset(re.findall(r'\("[^"]*",pid=\d+,fd=\d+\)', row))


def rows(table: bytes) -> list[tuple[list[str], frozenset[str]]]:
    """Netid, state, both ends and who holds it, of each row of ``-Hxap``."""
    found = []
    for row in table.decode().splitlines():
        cells = row.split()
        found.append(([*cells[:2], *cells[4:8]], users(row)))
    return sorted(found, key=lambda each: each[0])


@pytest.mark.parametrize("way", ["frozen", "killed"])
def test_the_table_is_what_ss_shows_after_a_storm(
    sstrace: Program, trace: Start, netns: Netns, tmp_path: Path, way: str
) -> None:
    tape = tmp_path / "tape"
    command = [sys.executable, "-c", CHURN, "120", str(tmp_path)]

    def begin() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    with trace("-x", "--record", str(tape)) as running:
        storms = [netns.call(begin) for _ in range(2)]
        try:
            for storm in storms:
                assert storm.stdout is not None
                assert storm.stdout.readline() == b"done\n"
            if way == "killed":
                storms[0].send_signal(signal.SIGKILL)
                storms[0].wait(10)
            before = rows(netns.run("ss", "-Hxap").stdout)
            assert running.stop() == 0
            after = rows(netns.run("ss", "-Hxap").stdout)
        finally:
            for storm in storms:
                storm.communicate(timeout=10)
    mine = sstrace("--snapshot", "-Hxap", "--from", str(tape))
    assert mine.returncode == 0
    found = rows(mine.stdout)
    # The kernel takes those in flight that nobody can receive any more when it comes to it (net/unix/garbage.c).
    assert [row for row in before if row in after and row not in found] == []
    assert [row for row in found if row not in before and row not in after] == []
    assert len(found) > 50


SERVER = """
import http.server, socketserver, sys

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self):
        request, _ = super().get_request()
        return request, ("client", 0)

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b'{"Version": "1"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = Server(sys.argv[1], Handler)
print("serving", flush=True)
server.serve_forever()
"""
"""What answers as docker.sock does, HTTP over a unix socket."""


class Client(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = made()
        self.sock.connect(self.path)


def test_who_talks_to_a_real_server_is_seen_live(trace: Start, netns: Netns, tmp_path: Path) -> None:
    path = str(tmp_path / "docker.sock")

    def begin() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", SERVER, path], stdout=subprocess.PIPE)

    with trace("-x", "--columns", "to,local,peer,process,peer-process,role", json_lines=False) as running:
        server = netns.call(begin)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"serving\n"

            def ask() -> Client:
                client = Client(path)
                client.request("GET", "/version")
                assert client.getresponse().read() == b'{"Version": "1"}'
                return client

            client = netns.call(ask)
            here, there = rf"\S+/{os.getpid()}", rf"\S+/{server.pid}"
            told = re.compile(rf"ESTAB +{re.escape(path)} \d+ +\* {inode(client.sock)} +{there}/\d+ +{here} +server")
            wait("who has called is told", lambda: any(told.match(line) for line in running.text))
            client.close()
        finally:
            server.kill()
            server.communicate(timeout=10)


def netlink() -> socket.socket:
    one = keep(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
    one.bind((0, 0))
    return one


def packet() -> socket.socket:
    one = keep(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
    one.bind(("lo", 0x0806))
    return one


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (netlink, {"netid": "nl", "family": "netlink", "src": "0", "dst": ""}),
        (packet, {"netid": "p_dgr", "family": "packet", "ifname": "lo", "sport": 0x0806}),
    ],
    ids=["netlink", "packet"],
)
def test_other_families_are_looked_for_too(
    trace: Start, netns: Netns, make: Callable[[], socket.socket], told: dict[str, object]
) -> None:
    with trace("-A", "netlink,packet") as running:
        one = netns.call(make)
        born = running.wait_for(new="UNCONN", ino=inode(one))
        one.close()
        running.wait_for(new="UNKNOWN", id=born["id"])
    assert {line["id"] for line in end(running)} == {born["id"]}  # and not the sockets with which it asks
    assert told.items() <= born.items()
    assert {owner["pid"] for owner in born["owners"]} == {os.getpid()}
