"""Filters that ask who holds a socket, which end it is and why it ended: in a trace, in a snapshot, of a live table."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from conftest import Netns, Program, unmet
from tracing import Trace, closed, connect, keep, listener, wait

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOLDER = """
import socket, sys
from pathlib import Path
Path("/proc/self/comm").write_text("hold(er")
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
print(s.getsockname()[1], flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def server(netns: Netns) -> socket.socket:
    """A listener in the namespace."""
    made: socket.socket = netns.call(listener)
    return made


class Holder:
    """A process of its own name with one connection, until ``go``."""

    def __init__(self, netns: Netns, port: int) -> None:
        self._process = subprocess.Popen(
            [*netns.prefix, sys.executable, "-c", HOLDER, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.sport = int(self._process.stdout.readline())
        self.pid = self._process.pid

    def go(self) -> None:
        """Close, and end."""
        self._process.communicate(b"\n", 30)


def test_a_trace_by_who_by_role_and_by_cause(
    sstrace: Program, netns: Netns, tmp_path: Path, server: socket.socket
) -> None:
    ways = (("comm", "hold*"), ("role", "client"), ("cause", "fin-by-us"), ("pid", "1"))
    with ExitStack() as stack:
        traces = []
        for words in ways:
            directory = tmp_path / words[0]
            directory.mkdir()
            traces.append(stack.enter_context(Trace(sstrace, netns, directory, "--no-baseline", *words)))
        mine = netns.call(connect, server.getsockname())
        mine.shutdown(socket.SHUT_WR)
        holder = Holder(netns, server.getsockname()[1])
        holder.go()
        for one in traces[:3]:
            end = one.wait_for(sport=holder.sport, ended=True)
            assert (end["cause"], end["role"], end["owners"][0]["pid"]) == ("fin-by-us", "client", holder.pid)
    comm, role, cause, nobody = (one.states for one in traces)
    assert {(line["sport"], line["owners"][0]["pid"]) for line in comm} == {(holder.sport, holder.pid)}
    assert {line["sport"] for line in role} == {holder.sport, mine.getsockname()[1]}
    assert {line["cause"] for line in cause} == {"fin-by-us"}
    assert nobody == []


def test_a_table_by_who_is_ss_s_lines_with_that_holder(
    sstrace: Program, ss: Program, netns: Netns, tmp_path: Path, server: socket.socket
) -> None:
    def ask(*words: str) -> list[bytes]:
        run = sstrace("--snapshot", "--from", *words, netns=netns)
        assert (run.returncode, run.stderr) == (0, b"")
        return run.stdout.splitlines()

    holder = Holder(netns, server.getsockname()[1])
    ready, path = tmp_path / "ready", tmp_path / "live"
    serving = sstrace.start(f"--serve={path}", "--ready-file", str(ready), netns=netns)
    try:
        wait("the server", ready.exists)
        keep(netns.call(connect, server.getsockname()))
        mine = [line for line in ss("-Htanp", netns=netns).stdout.splitlines() if b"pid=%d," % holder.pid in line]
        assert len(mine) == 1
        for source in ("netlink", f"live:{path}"):
            for words in (
                ["comm", "hold(er"],
                ["pid", str(holder.pid)],
                ["pid", "=", str(holder.pid), "port", "=", str(holder.sport)],
            ):
                lines = ask(source, "-Htanp", *words)
                assert [line.split() for line in lines] == [line.split() for line in mine], (source, words)
                assert len(ask(source, "-Htan", *words)) == 1
            assert len(ask(source, "-Htan", "port", "=", str(server.getsockname()[1]))) == 5
            assert ask(source, "-Htan", "user", "nobody") == []
        for role in ("client", "server"):
            assert len(ask(f"live:{path}", "-Htan", "role", role)) == 1
    finally:
        serving.terminate()
        serving.communicate(timeout=30)
        holder.go()


def test_who_cannot_see_all_holders_is_told(netns: Netns, server: socket.socket) -> None:
    words = [
        *netns.prefix,
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-m",
        "sstrace",
    ]
    for test, said in (
        (["comm", "python*"], b"sstrace: what other users' processes hold cannot be seen: run it with sudo\n"),
        (["port", str(server.getsockname()[1])], b""),
    ):
        found = subprocess.run([*words, "--snapshot", "-Htan", *test], capture_output=True, check=False)
        assert (found.returncode, found.stderr, bool(found.stdout)) == (0, said, not said)


def test_unix_sockets_by_their_user(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with netns.call(socket.socket, socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "one"))
        found = [sstrace("--snapshot", "-Hxa", "user", who, netns=netns).stdout for who in ("root", "nobody")]
    assert [str(tmp_path / "one").encode() in lines for lines in found] == [True, False]


def test_by_what_a_connection_carried(sstrace: Program, netns: Netns, tmp_path: Path, server: socket.socket) -> None:
    """In a trace, and again of its recording, as lines and as a digest."""
    path = tmp_path / "day.ndjson"
    ways = (("received", ">", "5k"), ("sent", "=", "5000"), ("received = 0 and rtt < 10s and retransmits = 0",))
    with ExitStack() as stack:
        traces = []
        for number, words in enumerate(ways):
            directory = tmp_path / str(number)
            directory.mkdir()
            record = ("--record", str(path)) if not number else ()
            traces.append(stack.enter_context(Trace(sstrace, netns, directory, "--no-baseline", *record, *words)))
        for size in (5000, 6000):
            client = netns.call(connect, server.getsockname())
            end = server.accept()[0]
            client.sendall(b"x" * size)
            left = size
            while left:
                left -= len(end.recv(left))
            client.close()
            end.close()
        ends = [one.wait_for(ended=True) for one in traces]
    assert ends[0]["bytes_received"] == 6000
    assert ends[1]["bytes_sent"] == 5000
    received, sent, none = (one.states for one in traces)
    assert [line["bytes_received"] for line in received] == [6000]
    assert [line["bytes_sent"] for line in sent] == [5000]
    assert {line["bytes_received"] for line in none} == {0}
    again = sstrace("--replay", str(path), "--json", "--no-baseline", "sent > 5k")
    assert [json.loads(line)["bytes_sent"] for line in again.stdout.splitlines()[1:]] == [6000]
    digest = sstrace("--stats", "--from", str(path), "--json", "sent > 5k")
    assert json.loads(digest.stdout.splitlines()[0])["closed"] == 1


def test_a_table_by_what_connections_carry_so_far(
    sstrace: Program, ss: Program, netns: Netns, tmp_path: Path, server: socket.socket
) -> None:
    """The kernel is asked for it, and the lines are ss's; the same of a served table, and other tables have none."""
    ready, path = tmp_path / "ready", tmp_path / "live"
    serving = sstrace.start(f"--serve={path}", "--ready-file", str(ready), netns=netns)
    ends = []
    try:
        wait("the server", ready.exists)
        for size in (4000, 40_000):
            client = keep(netns.call(connect, server.getsockname()))
            end = keep(server.accept()[0])
            client.sendall(b"x" * size)
            left = size
            while left:
                left -= len(end.recv(left))
            ends.append((client, end))
        ends[1][0].shutdown(socket.SHUT_WR)
        assert ends[1][1].recv(1) == b""
        first, second = (client.getsockname()[1] for client, _ in ends)
        port = server.getsockname()[1]
        for words, shown in (
            (["sent", ">", "10k"], {(second, port)}),
            (["sent", "=", "4000"], {(first, port)}),
            (["received", "=", "40k"], {(port, second)}),
            (["received", ">", "0"], {(port, first), (port, second)}),
            (["rtt", ">", "1us", "retransmits", "=", "0", "sport", "=", f":{first}"], {(first, port)}),
            (["rtt", ">", "1h"], set()),
            (["retransmits", ">", "0"], set()),
        ):
            for source, more in (("netlink", ""), (f"live:{path}", "iO")):
                found = sstrace("--snapshot", "--from", source, f"-Htan{more}", *words, netns=netns)
                assert (found.returncode, found.stderr) == (0, b"")
                lines = {tuple(line.split()[:5]) for line in found.stdout.decode().splitlines()}
                assert {tuple(int(end.rpartition(":")[2]) for end in line[3:]) for line in lines} == shown, words
                assert lines <= {tuple(line.split()) for line in ss("-Htan", netns=netns).stdout.decode().splitlines()}
        assert sstrace("--snapshot", "-Huxan", "sent > 0", netns=netns).stdout == b""
    finally:
        serving.terminate()
        serving.communicate(timeout=30)


def test_by_what_runs_in_a_cgroup(sstrace: Program, netns: Netns, tmp_path: Path, server: socket.socket) -> None:
    """A process that entered a unit's cgroup, and one of a container's, in a trace and in a snapshot."""
    top = next(
        (Path(line.split()[1]) for line in Path("/proc/mounts").read_text().splitlines() if " cgroup2 " in line), None
    )
    if top is None:
        unmet("kernel lacks cgroups of version 2 here")
    identity = "0123456789abcdef" * 4
    groups = [top / f"web-{os.getpid()}.service", top / f"docker-{identity}.scope"]
    holders = []
    try:
        with Trace(sstrace, netns, tmp_path, "--no-baseline", "unit", f"web-{os.getpid()}") as running:
            for group in groups:
                group.mkdir()
                enter = f'echo $$ >"{group}/cgroup.procs" && exec "$@"'
                made = subprocess.Popen(
                    [*netns.prefix, "sh", "-c", enter, "-", sys.executable, "-c", HOLDER, str(server.getsockname()[1])],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
                holders.append(made)
            assert holders[0].stdout is not None
            assert holders[1].stdout is not None
            ports = [int(made.stdout.readline() or 0) for made in holders if made.stdout is not None]
            if not all(ports):
                unmet("kernel lacks cgroups that can be entered here")
            running.wait_for(sport=ports[0], to="ESTAB")
        assert {line["sport"] for line in running.states} == {ports[0]}
        for words, port in (
            (("unit", groups[0].name), ports[0]),
            (("container", identity[:12]), ports[1]),
            (("container", f"{identity[:4]}*"), ports[1]),
        ):
            lines = sstrace("--snapshot", "-Htan", *words, netns=netns).stdout.decode().splitlines()
            assert [line.split()[3].rpartition(":")[2] for line in lines] == [str(port)]
    finally:
        for made in holders:
            made.communicate(b"\n", 30)
        for group in groups:
            while group.exists():
                with suppress(OSError):
                    group.rmdir()
