"""What else knows the unix sockets of a live table than a trace: a server, a digest, --verify, metrics, screens."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import Netns, Program, unmet
from tmux import Tmux
from tracing import closed, keep, wait

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


def stands(ready: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether there is nothing to wait for any more."""
    return ready.exists() or process.poll() is not None


def made(kind: int = socket.SOCK_STREAM) -> socket.socket:
    return keep(socket.socket(socket.AF_UNIX, kind))


def inode(of: socket.socket) -> int:
    return os.fstat(of.fileno()).st_ino


def called(name: str, kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket, socket.socket]:
    """A listener, who has called it, and what was accepted."""
    listener, client = made(kind), made(kind)
    listener.bind(name)
    listener.listen()
    client.connect(name)
    return listener, client, keep(listener.accept()[0])


@pytest.fixture
def held(netns: Netns) -> list[socket.socket]:
    """Sockets of every sort, one of them in a listener's queue."""
    found = [*netns.call(called, "\0held"), *netns.call(called, "\0seq", socket.SOCK_SEQPACKET)]
    waits = netns.call(made)
    waits.connect("\0held")
    found += [waits, *(keep(one) for one in netns.call(socket.socketpair)), netns.call(made, socket.SOCK_DGRAM)]
    found[-1].bind("\0datagrams")
    return found


@pytest.fixture
def server(sstrace: Program, netns: Netns, tmp_path: Path) -> Iterator[str]:
    """Where one serves that follows everything."""
    path, ready = tmp_path / "live", tmp_path / "ready"
    process = sstrace.start(f"--serve={path}", "-A", "all", "--ready-file", str(ready), netns=netns)
    try:
        wait("the server is ready", partial(stands, ready, process), 90)
        yield f"live:{path}"
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    assert re.search(rb", 0 lost, 0 late, \d+ looks", said)


def lines(output: bytes, ours: set[str]) -> list[str]:
    """Those of a table that are about these inodes, sorted, their blanks as one: to ask a server takes sockets, too."""
    rows = [row.split() for row in output.decode().splitlines()]
    return sorted(" ".join(cells) for cells in rows if not ours.isdisjoint(cells))


def test_a_server_answers_as_ss_does(sstrace: Program, netns: Netns, server: str, held: list[socket.socket]) -> None:
    held[0].accept()[0].close()
    late = netns.call(called, "\0late")  # since the server's last look
    ended = inode(late[1])
    ours = {str(inode(one)) for one in (*held, *late)}
    for words in ("-Hxape", "-Hxlpn", "-Hx", "-Hxmam", "-H0ap", "-Hxa src = @held", "-Hxa state listening"):
        theirs = netns.run("ss", *words.split())
        mine = sstrace("--snapshot", "--from", server, *words.split(), netns=netns)
        assert (mine.returncode, mine.stderr, lines(mine.stdout, ours)) == (0, b"", lines(theirs.stdout, ours)), words
    late[1].close()
    asked = sstrace("--snapshot", "--from", server, "-Hxa", "held", "<", "1h", netns=netns)
    assert f" {inode(late[2])} " in asked.stdout.decode()
    assert f" {ended} " not in asked.stdout.decode()


def test_a_digest_says_who_has_called_whom(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    ready, tape = tmp_path / "ready", tmp_path / "tape"
    words = ("--stats", "-x", "--json", "--record", str(tape), "--ready-file", str(ready))
    process = sstrace.start(*words, netns=netns)
    wait("it counts", partial(stands, ready, process), 90)
    for number in range(2):
        netns.call(called, f"\0digest-{number}")
    for one in netns.call(socket.socketpair):
        one.close()
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    again = sstrace("--stats", "--json", "--from", str(tape), "-x")
    for total, *others in (list(map(json.loads, text.splitlines())) for text in (out, again.stdout)):
        assert [total[key] for key in ("opened_out", "opened_in", "lost")] == [2, 2, 0], said
        peers = {one["key"]: one["opened"] for one in others if one["by"] == "peer"}
        assert peers == {"@digest-0": 1, "@digest-1": 1}
        assert sum(one["opened"] for one in others if one["by"] == "owner") == 4


CHURN = """
import socket, sys
while True:
    held = [socket.socketpair(socket.AF_UNIX, kind) for kind in (1, 2, 5) for _ in range(20)]
    for turn in range(20):
        listener, client = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        listener.bind(f"\\0churn-{turn}")
        listener.listen()
        client.connect(f"\\0churn-{turn}")
        held.append((listener, client, listener.accept()[0]))
"""


def test_verify_finds_no_drift_while_it_moves(sstrace: Program, netns: Netns, held: list[socket.socket]) -> None:
    def churn() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-c", CHURN])

    churning = netns.call(churn)
    try:
        done = sstrace("--verify", "-A", "all", "--duration", "2s", "--interval", "100ms", netns=netns)
    finally:
        churning.kill()
        churning.wait()
    assert done.returncode == 0, done.stderr + done.stdout
    assert re.search(rb"comparisons of [1-9]\d* rows in all: 0 missed, 0 ghost, 0 wrong; .*, \d+ looks,", done.stderr)
    assert b"what comes and goes between two looks is not seen" in done.stderr
    assert held


def test_metrics_count_what_looks_find(
    sstrace: Program, netns: Netns, held: list[socket.socket], tmp_path: Path
) -> None:
    pytest.importorskip("prometheus_client")
    ready = tmp_path / "ready"
    netns.run("ip", "link", "set", "lo", "up")
    words = ("-x", "--metrics=127.0.0.1:9435", "--ready-file", str(ready))
    process = sstrace.start(*words, netns=netns, stdout=subprocess.DEVNULL)

    def numbers() -> dict[str, float]:
        text = netns.call(lambda: urllib.request.urlopen("http://127.0.0.1:9435/metrics", timeout=10).read().decode())
        return {name: float(value) for name, value in re.findall(r"^(sstrace_look\S+) (\S+)$", text, re.MULTILINE)}

    try:
        wait("it counts", partial(stands, ready, process), 90)
        before = numbers()
        netns.call(called, "\0counted")
        gauge, opens = 'sstrace_looked_for_sockets{protocol="u_str",state="listen"}', "sstrace_looked_for_opens_total"
        wait("it is counted", lambda: numbers()[gauge] == before[gauge] + 1)
        assert numbers()[f'{opens}{{protocol="u_str"}}'] >= 3
        assert held
        assert numbers()["sstrace_looks_total"] > before["sstrace_looks_total"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


@pytest.mark.parametrize("way", ["itself", "served"])
def test_the_full_screen_shows_both_ends_and_who_holds_them(
    request: pytest.FixtureRequest, netns: Netns, tmp_path: Path, way: str
) -> None:
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    _, client, accepted = netns.call(called, "\0screen")
    words = ["-xp"] if way == "itself" else ["--from", request.getfixturevalue("server"), "-xp"]
    command = [*netns.prefix, sys.executable, "-m", "sstrace", "--watch", *words, "--interval", "200ms"]
    pane = Tmux(tmp_path, command, columns=320, lines=40)
    try:
        end = rf"@screen {inode(accepted)} +\* {inode(client)} +users:\(\(.*pid={os.getpid()}"
        pane.until_text("Local Address:Port")
        wait("the row is there", lambda: re.search(end, "\n".join(pane.screen())))
        other = rf"\* {inode(client)} +@screen {inode(accepted)} "
        client.close()
        wait("its end is marked", lambda: re.search(rf"- .*{other}", "\n".join(pane.screen())))
        pane.text("/screen")
        pane.type("Enter", "Enter")
        pane.until_text("Process")
        pane.text("q")
    finally:
        pane.close()
