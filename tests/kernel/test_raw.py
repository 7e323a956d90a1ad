"""Raw sockets in the trace, in recordings and in what a server answers, beside the real ss."""

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Netns, Program
from tracing import Line, Start, Trace, closed, disconnect, keep, recordable, trace, wait

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

ICMP, ANY = 1, 253
"""The second: for experiments (RFC 3692), which nobody answers."""


def made(protocol: int = ANY, family: int = socket.AF_INET) -> socket.socket:
    return keep(socket.socket(family, socket.SOCK_RAW, protocol))


def end(of: Trace) -> list[Line]:
    """Stop a trace and give its lines; nothing may be lost, or late."""
    assert of.stop() == 0
    assert ", 0 lost, 0 late" in of.stderr
    assert all(line["netid"] == "raw" for line in of.states)
    return of.states


def open_and_close() -> None:
    made().close()


def bind_and_connect() -> None:
    one = made()
    one.bind(("127.0.0.1", 0))
    one.bind(("127.0.0.1", 0))
    one.connect(("127.0.0.2", 0))
    one.connect(("127.0.0.3", 0))
    one.send(b"four")
    one.close()


def dissolve() -> None:
    one = made(family=socket.AF_INET6)
    one.connect(("::1", 0))
    disconnect(one)
    one.close()


WAYS: list[tuple[Callable[[], None], list[str]]] = [
    (open_and_close, ["UNCONN 0.0.0.0", "UNKNOWN 0.0.0.0"]),
    (bind_and_connect, ["UNCONN 0.0.0.0", "UNCONN 0.0.0.0", "ESTAB 127.0.0.2", "ESTAB 127.0.0.3", "UNKNOWN 127.0.0.3"]),
    (dissolve, ["UNCONN ::", "ESTAB ::1", "UNKNOWN ::1"]),
]


@pytest.mark.parametrize(("way", "states"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_a_socket_is_told_of_from_its_birth_to_its_end(
    trace: Start, netns: Netns, way: Callable[[], None], states: list[str]
) -> None:
    with trace("-w") as running:
        netns.call(way)
        running.wait_for(new="UNKNOWN")
    lines = end(running)
    assert [f"{line['to']} {line['dst']}" for line in lines] == states
    assert {(line["sport"], line["dport"]) for line in lines} == {(ANY, 0)}
    assert len({line["id"] for line in lines}) == 1
    assert {owner["pid"] for line in lines for owner in line["owners"]} == {os.getpid()}
    assert [line.get("ended", False) for line in lines] == [False] * (len(lines) - 1) + [True]
    if way is bind_and_connect:
        assert [line["src"] for line in lines] == ["0.0.0.0", *["127.0.0.1"] * 4]


def test_a_server_and_a_recording_show_what_ss_does(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Also where the kernel lists raw sockets in /proc alone, of which ss tells less then."""
    path, ready, tape = tmp_path / "live", tmp_path / "ready", tmp_path / "tape"
    kept = ("--record", str(tape), "--ready-file", str(ready), "--keep-privileges")
    serving = sstrace.start(f"--serve={path}", "-tuw", *kept, netns=netns)

    def stands() -> bool:
        return ready.exists() or serving.poll() is not None

    wait("the server is ready", stands, 90)
    for protocol, family in ((ICMP, socket.AF_INET), (ANY, socket.AF_INET), (ANY, socket.AF_INET6)):
        netns.call(made, protocol, family)
    netns.call(made).connect(("127.0.0.2", 0))
    for words in (("-wan",), ("-wanpe",), ("-w",), ("-an", "-A", "raw,udp")):
        theirs = netns.run("ss", *words)
        mine = sstrace("--snapshot", "--from", f"live:{path}", *words, netns=netns)
        assert (mine.returncode, mine.stdout) == (theirs.returncode, theirs.stdout), words
    text = netns.run("ss", "-Hwan").stdout.decode()
    serving.terminate()
    _, said = serving.communicate(timeout=30)
    assert serving.returncode == 0, said
    done = sstrace("--snapshot", "-Hwan", "--from", str(tape), netns=netns)
    assert recordable(done.stdout.decode()) == recordable(text)


def test_a_trace_of_all_says_what_it_cannot_tell(sstrace: Program, netns: Netns) -> None:
    done: subprocess.CompletedProcess[bytes] = sstrace("-A", "all", "--duration", "100ms", netns=netns)
    assert done.returncode == 0
    assert b"dccp, sctp sockets do not tell what happens to them: look at these with --snapshot\n" in done.stderr
