"""What sstrace promises on every kernel: a short list, which scripts/vm/matrix runs in guests from Linux 5.10 on.

Real connections on loopback in a network namespace of the test's own, and what the trace told of them. The names of the
tests say which column of the matrix they belong to: snapshot, trace, minisockets, owners, verify, netns.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import parity
import parity_cases
import pytest
from conftest import ROOT, Netns, Program
from worlds import Worlds

from sstrace.errors import FeatureError
from sstrace.live.dumps import TABLE_STATES
from sstrace.live.kernel import Kernel
from sstrace.live.tracer import Tracer
from sstrace.model import InetSocket, State
from sstrace.sources import proc
from sstrace.sources.bpf.compile import bundle
from sstrace.sources.bpf.programs import TRACE, Source
from sstrace.sources.netns import netns_of
from sstrace.sources.netns_walk import WALK as NETNS_WALK
from sstrace.sources.owners import WALK, OwnerWalk
from sstrace.sources.socket_walk import WALK as SOCKET_WALK
from sstrace.sources.socket_walk import SocketWalk
from sstrace.table.index import kind_of
from sstrace.wire import walked

pytestmark = [pytest.mark.root, pytest.mark.bpf]

V4, V6 = socket.AF_INET, socket.AF_INET6
HOST: dict[int, str] = {V4: "127.0.0.1", V6: "::1"}
BOTH = pytest.mark.parametrize("family", [V4, V6], ids=["inet", "inet6"])
SECONDS = 60
"""The longest wait for a fact; an emulated machine compiles the programs in ten of them."""

Line = dict[str, Any]


class Trace:
    """A running ``sstrace --json`` in a namespace: its ``state`` lines, as they come."""

    def __init__(self, sstrace: Program, space: Netns, directory: Path, *words: str) -> None:
        ready = directory / "ready"
        self._lines = directory / "lines"
        self._errors = directory / "errors"
        with self._lines.open("wb") as out, self._errors.open("wb") as errors:
            self._process = sstrace.start(
                "--json", "--ready-file", str(ready), *words, netns=space, stdout=out, stderr=errors
            )
        self.until(ready.exists, "the trace to begin")

    def until(self, met: Callable[[], bool], what: str) -> None:
        """Wait until ``met``; fails when sstrace ends before, or after SECONDS."""
        end = time.monotonic() + SECONDS
        while not met():
            assert self._process.poll() is None, f"sstrace ended: {self._errors.read_text()}"
            assert time.monotonic() < end, f"waited in vain for {what}; told so far:\n{self._lines.read_text()}"
            time.sleep(0.02)

    def states(self) -> list[Line]:
        """Every transition told so far."""
        whole = self._lines.read_text().rpartition("\n")[0].splitlines()
        return [line for line in map(json.loads, whole) if line["type"] == "state"]

    def steps(self, near: int, far: int) -> list[Line]:
        """The changes of state of one end of a connection, by its local and peer port. Whether a timewait socket takes
        over in FIN-WAIT-2 hangs on when the peer acknowledges.
        """
        found = [line for line in self.states() if (line["sport"], line["dport"]) == (near, far)]
        return [line for line in found if line["from"] != line["to"]]

    def ends(self, near: int, far: int) -> list[Line]:
        """The lines with which the connections between two ports ended."""
        found = [line for line in self.states() if (line["sport"], line["dport"]) == (near, far)]
        return [line for line in found if line.get("ended")]

    def wait(self, near: int, far: int, *path: str) -> list[Line]:
        """The transitions of one end, as soon as they are exactly these states; fails when they are others."""

        def told() -> bool:
            lines = self.steps(near, far)
            seen = [line["to"] for line in lines]
            assert seen == list(path)[: len(seen)], f"{near} → {far} went {' → '.join(seen)}"
            return len(seen) == len(path)

        self.until(told, " → ".join(path))
        lines = self.steps(near, far)
        for before, line in itertools.pairwise(lines):
            born = before["to"] == "UNCONN"  # another connection, of the same ports
            assert line["from"] == ("LISTEN" if born else before["to"])
        return lines

    def close(self) -> None:
        """Ctrl-C; sstrace must end well and have lost nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(SECONDS)
        finally:
            self._process.kill()
        assert self._process.returncode == 0, self._errors.read_text()
        assert " 0 lost" in self._errors.read_text()


@pytest.fixture
def trace(sstrace: Program, netns: Netns, tmp_path: Path) -> Iterator[Trace]:
    running = Trace(sstrace, netns, tmp_path)
    yield running
    running.close()


def listener(space: Netns, family: int, *options: tuple[int, int, int]) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket(family)
        for option in options:
            sock.setsockopt(*option)
        sock.bind((HOST[family], 0))
        sock.listen(5)
        return sock

    return space.call(make)


def connect(space: Netns, to: socket.socket) -> socket.socket:
    return space.call(socket.create_connection, to.getsockname()[:2])


def port(sock: socket.socket) -> int:
    number: int = sock.getsockname()[1]
    return number


# ------------------------------------------------------------------------------------------------------------ snapshot


@pytest.fixture(scope="module")
def keeper(module_netns: Netns) -> Iterator[parity.ZooKeeper]:
    made = parity.ZooKeeper(module_netns.prefix)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bench(module_netns: Netns, keeper: parity.ZooKeeper, ss: Program) -> Iterator[parity.Bench]:
    made = parity.Bench(module_netns.prefix, ss.head[-1])
    yield made
    made.close()


@pytest.mark.ss
@pytest.mark.parametrize("words", parity_cases.command_lines()[::12], ids=" ".join)
def test_snapshot_is_what_ss_prints(bench: parity.Bench, keeper: parity.ZooKeeper, words: tuple[str, ...]) -> None:
    """A twelfth of test_parity: an emulated machine needs a second for each."""
    keeper.keep_fresh()
    outcome = bench.compare(words)
    assert outcome.same, f"{words}\n{outcome.why}"


# ---------------------------------------------------------------------------------------------------------------- trace


@BOTH
def test_trace_tells_both_ends_of_a_connection_from_birth_to_death(trace: Trace, netns: Netns, family: int) -> None:
    with listener(netns, family) as waiting, connect(netns, waiting) as client:
        server = waiting.accept()[0]
        near, far = port(client), port(waiting)
        client.sendall(b"x")
        server.recv(1)
        client.close()
        assert server.recv(1) == b""
        server.close()
    ours = trace.wait(near, far, "SYN-SENT", "ESTAB", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT")
    theirs = trace.wait(far, near, "SYN-RECV", "ESTAB", "CLOSE-WAIT", "LAST-ACK", "UNCONN")
    assert theirs[0]["from"] == "LISTEN"
    assert [line["cause"] for line in trace.ends(near, far)] == ["fin-by-us"]
    assert [line["cause"] for line in trace.ends(far, near)] == ["fin-by-peer"]
    assert all("lifetime_us" in line for line in (*trace.ends(near, far), *trace.ends(far, near)))
    listens = trace.wait(far, 0, "LISTEN", "UNCONN")
    assert listens[-1]["cause"] == "closed"
    for line in (*ours, *theirs):
        assert (line["src"], line["dst"], line["netns"]) == (HOST[family], HOST[family], netns.inode)
    times = [line["mono_ns"] for line in trace.states()]
    assert times == sorted(times)


@BOTH
def test_trace_says_why_a_connect_fails(trace: Trace, netns: Netns, family: int) -> None:
    waiting = listener(netns, family)
    nobody = port(waiting)
    waiting.close()
    client = netns.call(socket.socket, family)
    assert client.connect_ex((HOST[family], nobody)) != 0
    trace.until(lambda: any(line["dport"] == nobody for line in trace.states()), "the attempt")
    near = next(line["sport"] for line in trace.states() if line["dport"] == nobody)
    last = trace.wait(near, nobody, "SYN-SENT", "UNCONN")[-1]
    assert (last["cause"], last["err"]) == ("refused", 111)
    client.close()


def test_trace_says_who_reset(trace: Trace, netns: Netns) -> None:
    with listener(netns, V4) as waiting, connect(netns, waiting) as client:
        server = waiting.accept()[0]
        near, far = port(client), port(waiting)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with pytest.raises(ConnectionResetError):
            server.recv(1)
        server.close()
    assert trace.wait(near, far, "SYN-SENT", "ESTAB", "UNCONN")[-1]["cause"] == "linger"
    assert trace.wait(far, near, "SYN-RECV", "ESTAB", "UNCONN")[-1]["cause"] == "reset-received"


# ---------------------------------------------------------------------------------------------------------- minisockets


@BOTH
def test_minisocket_of_a_half_open_connection_is_told_from_its_first_segment(
    trace: Trace, netns: Netns, family: int
) -> None:
    """A listener that defers accepting keeps a connection as a request socket until its first byte comes."""
    with (
        listener(netns, family, (socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 30)) as waiting,
        connect(netns, waiting) as client,
    ):
        near, far = port(client), port(waiting)
        half_open = trace.wait(far, near, "SYN-RECV")[0]
        assert half_open["from"] == "LISTEN"
        assert "ino" not in half_open
        client.sendall(b"x")
        server = waiting.accept()[0]
        assert trace.wait(far, near, "SYN-RECV", "ESTAB")[-1]["held_us"] > 0
        server.close()


@BOTH
def test_minisocket_that_waits_is_told_when_it_is_used_again(trace: Trace, netns: Netns, family: int) -> None:
    """A peer that comes back from the same port takes the place of the connection that waits in TIME-WAIT."""
    with listener(netns, family) as waiting:
        client = connect(netns, waiting)
        near, far = port(client), port(waiting)
        waiting.accept()[0].close()
        assert client.recv(1) == b""
        client.close()
        waits = ("SYN-RECV", "ESTAB", "FIN-WAIT-1", "FIN-WAIT-2", "TIME-WAIT")
        trace.wait(far, near, *waits)

        def again() -> socket.socket:
            sock = socket.socket(family)
            sock.bind((HOST[family], near))
            sock.connect((HOST[family], far))
            return sock

        client = netns.call(again)
        server = waiting.accept()[0]
        lines = trace.wait(far, near, *waits, "UNCONN", "SYN-RECV", "ESTAB")
        assert lines[5]["id"] != lines[6]["id"]
        client.close()
        server.close()


# --------------------------------------------------------------------------------------------------------------- owners


def test_owners_are_told_with_their_descriptor(trace: Trace, netns: Netns) -> None:
    with listener(netns, V4) as waiting, connect(netns, waiting) as client:
        server = waiting.accept()[0]
        near, far = port(client), port(waiting)
        first = trace.wait(near, far, "SYN-SENT", "ESTAB")[0]
        comm = Path("/proc/self/comm").read_text().strip()
        assert first["owners"] == [{"comm": comm, "pid": os.getpid(), "fd": client.fileno()}]
        server.close()


def test_owners_by_the_walk_are_those_of_proc(tmp_path: Path) -> None:
    """The walk must load and run, not merely be replaced by /proc where it does not."""
    held = [socket.socket() for _ in range(20)]
    copies = [sock.dup() for sock in held]
    walk = OwnerWalk(tmp_path)
    try:
        expected = proc.owners()
        found = walk.owners()
    finally:
        walk.close()
    for sock in held:
        inode = os.fstat(sock.fileno()).st_ino
        assert len(expected[inode]) == 2
        assert found[inode] == expected[inode]
    for sock in (*held, *copies):
        sock.close()


@pytest.mark.parametrize("source", [TRACE, WALK, NETNS_WALK, SOCKET_WALK], ids=lambda source: str(source.file))
def test_owners_and_trace_programs_have_no_loop_that_old_verifiers_refuse(source: Source) -> None:
    """Linux 6.1 and older accept a way back only by a jump: falling through into a loop's head is refused."""
    for name, code in bundle(source, None).programs.items():
        assert falls_back(code) == [], name


def falls_back(code: bytes) -> list[tuple[int, int]]:
    """Instructions that fall through into one whose successors are still being visited, as check_cfg would find."""
    instructions = list(struct.iter_unpack("=BBhi", code))

    def successors(at: int) -> Sequence[tuple[int, bool]]:
        opcode, _, offset, _ = instructions[at]
        kind, jump = opcode & 7, opcode & 0xF0
        if kind not in (5, 6) or jump == 0x80:  # not BPF_JMP or BPF_JMP32; BPF_CALL
            return ((at + 1, False),)
        if jump == 0x90:  # BPF_EXIT
            return ()
        if jump == 0x00:  # BPF_JA
            return ((at + 1 + offset, True),)
        return ((at + 1, True), (at + 1 + offset, True))

    found = []
    visiting, done = {0}, set[int]()
    path = [(0, iter(successors(0)))]
    while path:
        at, rest = path[-1]
        for to, jumps in rest:
            if to in visiting and not jumps:
                found.append((at, to))
            if to not in visiting and to not in done:
                visiting.add(to)
                path.append((to, iter(successors(to))))
                break
        else:
            visiting.remove(at)
            done.add(at)
            path.pop()
    return found


# --------------------------------------------------------------------------------------------------------------- verify


@pytest.mark.seconds(300)
def test_verify_finds_no_drift_while_and_after_everything_changes(
    sstrace: Program, netns: Netns, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    idle = netns.call(socket.socket)
    idle.bind((HOST[V4], 0))  # Linux 6.8 and newer dump these as well; no event tells of them
    verify = sstrace.start("--verify", "-a", "--ready-file", str(ready), netns=netns)
    try:
        end = time.monotonic() + SECONDS
        while not ready.exists():
            assert verify.poll() is None, verify.communicate()
            assert time.monotonic() < end
            time.sleep(0.05)
        churn = [sys.executable, str(ROOT / "scripts/churn"), "--here", "--seed", "matrix", "--operations", "1000"]
        done = subprocess.run(
            [*netns.prefix, *churn, "--processes", "3", "--seconds", "60"],
            capture_output=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        assert sum(json.loads(done.stdout).values()) > 0
        verify.send_signal(signal.SIGINT)  # it compares once more before it ends
        out, err = verify.communicate(timeout=SECONDS)
    finally:
        idle.close()
        with contextlib.suppress(ProcessLookupError):
            verify.kill()
    assert verify.returncode == 0, out.decode() + err.decode()
    assert b" 0 comparisons" not in err


# Network namespaces.


def test_netns_every_one_is_found_and_followed(netns: Netns) -> None:
    """Whatever keeps it alive; and each has one key, wherever it is met: in the kernel's list, by an event, at home."""
    with Worlds(3) as worlds:
        tracer = Tracer(os.environ, netns=("all",))
        try:
            assert tracer.places.blind == ""
            tracer.start()
            found = {place.netns.inode: place.netns.cookie for place in tracer.places}
            assert {one.inode for one in worlds.all} <= found.keys()
            for one in worlds.all:
                states = Counter(row.state for row in tracer.table.within(found[one.inode]))
                assert states == {State.LISTEN: 1, State.ESTABLISHED: 4}
            here = netns_of("self")
            for inode, call in ((here, _here), (netns.inode, netns.call)):
                ends = call(_connected)
                list(tracer.settle())
                keys = {row.net for row in tracer.table if row.netns == inode}
                known = {place.netns.cookie for place in tracer.places if place.netns.inode == inode}
                assert keys == known, "what events tell of is in the place that is listed"
                for end in ends:
                    end.close()
        finally:
            tracer.close()


def _here(function: Callable[[], list[socket.socket]]) -> list[socket.socket]:
    return function()


def _connected() -> list[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    return [socket.create_connection(listener.getsockname()), listener.accept()[0], listener]


@BOTH
def test_netns_the_walk_shows_what_sock_diag_shows(netns: Netns, tmp_path: Path, family: int) -> None:
    try:
        walk = SocketWalk(tmp_path)
    except FeatureError as error:
        pytest.skip(f"kernel lacks hash tables of sockets where others have them: {error}")
    host = HOST[family]
    listener = netns.call(lambda: socket.create_server((host, 0), family=family))
    address = listener.getsockname()[:2]
    ends = []
    for _ in range(20):
        ends += [netns.call(lambda: socket.create_connection(address)), listener.accept()[0]]
    for end in ends[:20]:
        end.close()
    try:
        shown = netns.call(lambda: Kernel(lambda: None).dump(TABLE_STATES)[0])
        found = [
            one
            for where, records in walked.apart(walk.records()).items()
            if where.inode == netns.inode
            for one in walked.decode(records, TABLE_STATES)
        ]
        assert sorted(map(_told, found)) == sorted(map(_told, shown))
        assert {State.LISTEN, State.ESTABLISHED, State.TIME_WAIT} <= {one.state for one in found}
    finally:
        walk.close()
        for end in (listener, *ends):
            end.close()


def _told(one: InetSocket) -> tuple[Any, ...]:
    return one.family, one.state, kind_of(one).name, one.src, one.sport, one.dst, one.dport, one.ino, one.uid
