"""MPTCP's own sockets in the live table, the trace, recordings and what a server answers, beside the real ss."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, Netns, Program
from tracing import Line, Start, Trace, closed, disconnect, keep, recordable, trace, wait

from sstrace.lifecycle import mptcp
from sstrace.live.tracer import Tracer
from sstrace.model import AF_INET, STATE_TEXT, Table
from sstrace.protocols import IPPROTO_MPTCP
from sstrace.table import Row, Transition

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

NOBODY = ("127.0.0.1", 1)


def made(family: int = socket.AF_INET) -> socket.socket:
    return keep(socket.socket(family, socket.SOCK_STREAM, IPPROTO_MPTCP))


@pytest.fixture(autouse=True)
def has_mptcp(netns: Netns) -> None:
    try:
        netns.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close())
    except OSError:
        pytest.skip("kernel lacks MPTCP")
    if b"Cannot" in netns.run("ss", "-Ma").stderr:
        pytest.skip("kernel does not list MPTCP sockets (Linux 5.13)")


# ------------------------------------------------------------------------------------------------------------ the table

Shown = Counter[tuple[str, str, str, int]]
"""State, local and peer address as ss prints them, inode."""


def asked() -> Shown:
    text = subprocess.run(["ss", "-HManeO"], capture_output=True, check=True, text=True).stdout
    shown: Shown = Counter()
    for line in text.splitlines():
        state, _, _, local, peer, *_ = line.split(None, 5)
        found = re.search(r" ino:(\d+)", line)
        shown[state, local, peer, int(found[1]) if found else 0] += 1
    return shown


def tabled(tracer: Tracer) -> Shown:
    rows = [row for row in tracer.table if row.protocol == IPPROTO_MPTCP]
    return Counter(
        (STATE_TEXT[row.state], spelt(row, row.src, row.sport), spelt(row, row.dst, row.dport), row.ino) for row in rows
    )


def spelt(row: Row, address: bytes, port: int) -> str:
    host = socket.inet_ntop(row.family, address)
    if row.family != AF_INET:
        host = "*" if not any(address) and not row.v6only else f"[{host}]"
    return f"{host}:{port or '*'}"


@pytest.mark.parametrize("tables", [(Table.MPTCP,), (Table.TCP, Table.MPTCP)], ids=["alone", "beside-tcp"])
def test_the_table_is_what_ss_shows_round_after_round(netns: Netns, tables: tuple[Table, ...]) -> None:
    netns.run("ip", "route", "add", "10.77.9.0/24", "dev", "lo")
    passed = netns.call(storm, tables)
    documented = {(old, new) for old, to in mptcp.TRANSITIONS.items() for new in to}
    assert passed <= documented, {f"{STATE_TEXT[old]} {STATE_TEXT[new]}" for old, new in passed - documented}


def storm(tables: tuple[Table, ...]) -> set[tuple[int, int]]:
    words = [sys.executable, str(ROOT / "tests" / "multipath_storm.py"), "7"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tracer = Tracer(os.environ, audit=False, tables=tables)
        passed: set[tuple[int, int]] = set()

        def take(changes: Iterator[object]) -> None:
            for change in changes:
                if type(change) is Transition and change.row.protocol == IPPROTO_MPTCP:
                    passed.add((change.old, change.new))

        def is_so() -> bool:
            """What the kernel still has to do is done by a worker of its own."""
            take(tracer.settle())
            tracer.own()
            return tabled(tracer) == asked()

        try:
            assert not tracer.limits
            tracer.start()
            for number in range(12):
                process.stdin.write(b"40\n")
                process.stdin.flush()
                os.set_blocking(process.stdout.fileno(), False)
                while not process.stdout.readline():
                    take(tracer.poll(0.002))
                    assert process.poll() is None
                end = time.monotonic() + 5
                while not is_so():
                    assert time.monotonic() < end, (number, tabled(tracer) - asked(), asked() - tabled(tracer))
            assert (tracer.lost, tracer.late) == (0, 0)
        finally:
            tracer.close()
            process.kill()
    return passed


# ------------------------------------------------------------------------------------------------------------ the trace


def end(of: Trace) -> list[Line]:
    """Stop a trace and give its lines; nothing may be lost, or late."""
    assert of.stop() == 0
    assert ", 0 lost, 0 late" in of.stderr
    return of.states


def pair() -> tuple[socket.socket, socket.socket, socket.socket]:
    listens = made()
    listens.bind(("127.0.0.1", 0))
    listens.listen()
    calls = made()
    calls.connect(listens.getsockname())
    answers = keep(listens.accept()[0])
    calls.send(b"x")
    answers.recv(1)
    return listens, calls, answers


def close_both() -> None:
    listens, calls, answers = pair()
    calls.close()
    assert answers.recv(1) == b""
    answers.close()
    listens.close()


def shut_both() -> None:
    """Who is over, and not closed, is UNCONN."""
    listens, calls, answers = pair()
    calls.shutdown(socket.SHUT_WR)
    assert answers.recv(1) == b""
    answers.shutdown(socket.SHUT_WR)
    wait(
        "both are over",
        lambda: subprocess.run(["ss", "-HMan"], capture_output=True, check=True).stdout.count(b"UNCONN") == 2,
    )
    for one in (calls, answers, listens):
        one.close()


def leave_unread() -> None:
    """MP_FASTCLOSE."""
    listens, calls, answers = pair()
    answers.send(b"x")
    wait("it has come", lambda: calls.recv(1, socket.MSG_PEEK))
    calls.close()
    with pytest.raises(ConnectionResetError):
        answers.recv(1)
    answers.close()
    listens.close()


def dissolve() -> None:
    listens, calls, answers = pair()
    disconnect(calls)
    for one in (calls, answers, listens):
        one.close()


def be_refused() -> None:
    one = made()
    with suppress(ConnectionRefusedError):
        one.connect(NOBODY)
    one.close()


_OUT = ["UNKNOWN", "SYN-SENT", "ESTAB"]
WAYS: list[tuple[Callable[[], None], list[str], str]] = [
    (close_both, [*_OUT, "FIN-WAIT-1", "FIN-WAIT-2", "UNKNOWN"], "fin-by-us"),
    (shut_both, [*_OUT, "FIN-WAIT-1", "FIN-WAIT-2", "UNCONN", "UNKNOWN"], "fin-by-us"),
    (leave_unread, [*_OUT, "UNKNOWN"], "reset-sent"),
    (dissolve, [*_OUT, "UNKNOWN"], "disconnected"),
    (be_refused, ["UNKNOWN", "SYN-SENT", "UNCONN", "UNKNOWN"], "subflow"),
]


@pytest.mark.parametrize(("way", "states", "cause"), WAYS, ids=[way.__name__ for way, _, _ in WAYS])
def test_a_connection_is_told_of_from_connect_to_its_end(
    trace: Start, netns: Netns, way: Callable[[], None], states: list[str], cause: str
) -> None:
    with trace("-M") as running:
        netns.call(way)
        running.wait_for(role="client", new="UNKNOWN")
    lines = [line for line in end(running) if line.get("role") == "client"]
    assert {line["netid"] for line in lines} == {"mptcp"}
    assert [lines[0]["from"], *(line["to"] for line in lines)] == states
    assert (lines[-1]["cause"], lines[-1]["ended"]) == (cause, True)
    assert all(line["owners"][0]["pid"] == os.getpid() for line in lines)
    assert lines[0]["sport"]
    assert lines[0]["dport"] == lines[-1]["dport"]


def test_a_connection_and_its_subflows_have_the_same_inode(trace: Start, netns: Netns) -> None:
    def live() -> None:
        listens, calls, answers = pair()
        for one in (calls, answers, listens):
            one.close()

    with trace("-tM") as running:
        netns.call(live)
        running.wait_for(netid="mptcp", **{"from": "LISTEN"})
    lines = end(running)
    (connection,) = {line["ino"] for line in lines if line["netid"] == "mptcp" and line["to"] == "SYN-SENT"}
    (subflow,) = {line["ino"] for line in lines if line["netid"] == "tcp" and line["to"] == "SYN-SENT"}
    assert connection == subflow


def test_nobody_hears_of_mptcp_who_has_not_asked(trace: Start, netns: Netns) -> None:
    with trace("-t") as running:
        netns.call(close_both)
        running.wait_for(new="TIME-WAIT")
    assert {line["netid"] for line in end(running)} == {"tcp"}


# ---------------------------------------------------------------------------------------------------------- the others


def test_a_server_and_a_recording_answer_as_ss_does(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    tape, ready, path = tmp_path / "tape", tmp_path / "ready", tmp_path / "socket"
    words = [f"--serve={path}", "-tM", "--record", str(tape), "--keep-privileges", "--ready-file", str(ready)]
    serving = sstrace.start(*words, netns=netns, stderr=subprocess.PIPE)
    wait("it serves", ready.exists, 60)
    kept = netns.call(pair)
    for asks in ("-HMan", "-HMa4ne", "-HManm"):  # what has just been sent is still on its way out of queues
        ask = partial(sstrace, "--snapshot", asks, "--from", f"live:{path}", netns=netns)
        wait(f"it answers {asks} as ss", lambda: ask().stdout == netns.run("ss", asks).stdout)  # noqa: B023
    text = netns.run("ss", "-HMan").stdout.decode()
    serving.send_signal(signal.SIGTERM)
    _, said = serving.communicate(timeout=30)
    assert serving.returncode == 0, said
    done = sstrace("--snapshot", "-HMan", "--from", str(tape), netns=netns)
    assert recordable(done.stdout.decode()) == recordable(text)
    del kept


def test_the_table_is_verified_while_it_moves(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    words = ["--verify", "-tM", "--interval", "100ms", "--duration", "2s", "--ready-file", str(ready)]
    verifying = sstrace.start(*words, netns=netns, stderr=subprocess.PIPE)
    wait("it verifies", ready.exists, 60)
    while verifying.poll() is None:
        netns.call(close_both)
    _, said = verifying.communicate()
    assert verifying.returncode == 0, said
    assert b"0 missed, 0 ghost, 0 wrong" in said
