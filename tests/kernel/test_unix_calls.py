"""Unix sockets by what their owners call: short lives, told to the microsecond, beside the looks that find the rest.
The long run is scripts/verify-unix --rounds 100.
"""

import array
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Netns
from tracing import Line, Start, Trace, closed, keep, trace, wait

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

STREAM, DATAGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET


def test_the_table_is_never_wrong() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "verify-unix", "--rounds", "3", "--operations", "1500", "--seed", "7"],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[1-9]\d* calls heard, 0 lost", done.stdout)
    assert re.search(r"^totals: rows [1-9]\d\d+ missed 0 ghosts 0 wrong 0$", done.stdout, re.MULTILINE)


def made(kind: int = STREAM) -> socket.socket:
    return keep(socket.socket(socket.AF_UNIX, kind))


def inode(of: socket.socket) -> int:
    return os.fstat(of.fileno()).st_ino


def heard(lines: list[Line]) -> list[tuple[str, str]]:
    """The states gone through; nothing of these lines is a look's."""
    for line in lines:
        assert not line.keys() & {"approximate", "source", "exact"}, line
    return [(line["from"], line["to"]) for line in lines]


def of(running: Trace, number: int) -> list[Line]:
    return [line for line in running.states if line["sport"] == number]


@pytest.mark.parametrize("kind", [STREAM, SEQPACKET], ids=["stream", "seqpacket"])
@pytest.mark.parametrize("name", ["path", "@abstract"])
def test_a_life_between_two_looks_is_told_with_both_ends(
    trace: Start, netns: Netns, tmp_path: Path, kind: int, name: str
) -> None:
    first = str(tmp_path / name) if name == "path" else f"\0{name[1:]}"

    def live(where: str) -> tuple[int, int, int]:
        listener, client = made(kind), made(kind)
        listener.bind(where)
        listener.listen()
        client.connect(where)
        server = keep(listener.accept()[0])
        numbers = inode(listener), inode(client), inode(server)
        for one in (client, server, listener):
            one.close()
        return numbers

    with trace("-x") as running:
        for attempt in range(20):
            where = f"{first}-{attempt}"
            listener, client, server = netns.call(live, where)
            running.wait_for(sport=listener, new="UNKNOWN")
            told = {number: of(running, number) for number in (listener, client, server)}
            if not any("source" in line for lines in told.values() for line in lines):
                break  # else a look has fallen into it
        assert running.stop() == 0
    shown = where.replace("\0", "@")
    assert re.search(r"[1-9]\d* calls heard, 0 lost", running.stderr)
    assert heard(told[listener]) == [("UNKNOWN", "UNCONN"), ("UNCONN", "LISTEN"), ("LISTEN", "UNKNOWN")]
    assert heard(told[client]) == [("UNKNOWN", "ESTAB"), ("ESTAB", "ESTAB"), ("ESTAB", "UNKNOWN")]
    assert heard(told[server]) == [("UNKNOWN", "ESTAB"), ("ESTAB", "UNKNOWN")]
    called, answered, gone = told[client]
    accepted = told[server][0]
    assert (called["dst"], called["dport"]) == (shown, 0)  # whom it calls is known before it is accepted
    assert (answered["dport"], answered["role"], accepted["dport"], accepted["role"]) == (
        server, "client", client, "server",
    )  # fmt: skip
    assert {owner["pid"] for line in (called, accepted) for owner in line["owners"]} == {os.getpid()}
    assert (called["owner_source"], accepted["owner_source"]) == ("connect", "accept")
    assert gone["lifetime_us"] > 0


def test_who_is_killed_is_found_by_the_next_look(trace: Start, netns: Netns) -> None:
    listener = netns.call(made)
    listener.bind("\0killed")
    listener.listen()
    program = (
        "import os, signal, socket; s = socket.socket(1); s.connect('\\0killed'); os.kill(os.getpid(), signal.SIGKILL)"
    )

    def run() -> int:
        process = subprocess.Popen([sys.executable, "-c", program])
        process.wait()
        return process.pid

    with trace("-x") as running:
        pid = netns.call(run)
        born = running.wait_for(new="ESTAB", dst="@killed")
        gone = running.wait_for(sport=born["sport"], new="UNKNOWN")
        assert running.stop() == 0
    assert heard([born]) == [("UNKNOWN", "ESTAB")]
    assert [owner["pid"] for owner in born["owners"]] == [pid]
    assert (gone["exact"], gone["approximate"], gone["source"]) == (False, True, "sweep")


def test_what_is_held_elsewhere_too_has_not_ended(trace: Start, netns: Netns) -> None:
    """A duplicate, a message, dup2(): the last descriptor's end is told, once."""

    def live() -> list[int]:
        numbers = []
        for way in ("dup", "flight", "over"):
            one = made(DATAGRAM)
            one.bind(f"\0{way}")
            numbers.append(inode(one))
            if way == "dup":
                other = keep(one.dup())
                one.close()
                other.close()
            elif way == "flight":
                here, there = (keep(end) for end in socket.socketpair(socket.AF_UNIX, DATAGRAM))
                here.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))])
                for end in (one, here, there):
                    end.close()
            else:
                os.dup2(2, one.fileno())
                one.detach()
        return numbers

    with trace("-x") as running:
        numbers = netns.call(live)
        for number in numbers:
            running.wait_for(sport=number, new="UNKNOWN")
        assert running.stop() == 0
    ends = [[line for line in of(running, number) if line.get("ended")] for number in numbers]
    assert [len(end) for end in ends] == [1, 1, 1]
    assert [end[0].get("source") for end in ends] == [None, "sweep", "sweep"]


@pytest.fixture
def bus(netns: Netns, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """A message bus: where, and its process."""
    if shutil.which("dbus-daemon") is None or shutil.which("dbus-send") is None:
        pytest.skip("dbus-daemon: not installed")
    where = tmp_path / "bus"
    words = ["dbus-daemon", "--session", "--nofork", "--nopidfile", f"--address=unix:path={where}"]
    process = subprocess.Popen([*netns.prefix, *words], stderr=subprocess.DEVNULL)
    try:
        wait("the bus is there", where.exists)
        yield str(where), process.pid
    finally:
        process.terminate()
        process.wait(10)


def test_who_has_called_a_message_bus_is_seen_live(trace: Start, netns: Netns, bus: tuple[str, int]) -> None:
    """dbus-send lives for some milliseconds."""
    where, server = bus
    ask = ["dbus-send", f"--bus=unix:path={where}", "--print-reply", "--dest=org.freedesktop.DBus"]
    ask += ["/org/freedesktop/DBus", "org.freedesktop.DBus.ListNames"]
    with trace("-x") as running:
        asking = subprocess.Popen([*netns.prefix, *ask], stdout=subprocess.PIPE)
        names, _ = asking.communicate(timeout=20)
        assert b"org.freedesktop.DBus" in names
        accepted = running.wait_for(new="ESTAB", src=where)
        running.wait_for(sport=accepted["sport"], new="UNKNOWN")
        assert running.stop() == 0
    assert heard([accepted]) == [("UNKNOWN", "ESTAB")]
    assert {(owner["comm"], owner["pid"]) for owner in accepted["owners"]} == {("dbus-daemon", server)}
    assert {(owner["comm"], owner["pid"]) for owner in accepted["peer_owners"]} == {("dbus-send", asking.pid)}
    # On a busy machine a look may find what it calls with before connect(2) has returned.
    *_, called = of(running, accepted["dport"])
    assert (called["dst"], called["owners"][0]["comm"], called["role"]) == (where, "dbus-send", "client")
