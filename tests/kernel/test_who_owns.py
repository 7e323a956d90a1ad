"""Who holds a socket, as a trace tells it: what ``ss -p`` would say at that moment, and of an end who held it last."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from conftest import Netns, Program, unmet
from tracing import Line, Trace, closed, connect, keep, listener, ports, reset, trace, wait

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

PRELUDE = """
import ctypes, os, signal, socket, struct, sys, threading, time
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
LINGER_0 = struct.pack("ii", 1, 0)
def name(text): Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(text)
def say(*words): print(*words, flush=True)
def hear(): return sys.stdin.readline()
name("app")
"""


class Actor:
    """A process that plays a script in a namespace, and waits at ``hear()`` until it is told to go on."""

    def __init__(self, netns: Netns, script: str, *words: object, **options: Any) -> None:
        self._process = subprocess.Popen(
            [*netns.prefix, sys.executable, "-c", PRELUDE + script, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            **options,
        )
        self.pid = self._process.pid

    def __enter__(self) -> "Actor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def says(self) -> list[str]:
        """The words of the next line that it says."""
        assert self._process.stdout is not None
        line: bytes = self._process.stdout.readline()
        return line.decode().split()

    def go(self) -> None:
        """Let it go on."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait(30)


def owners(line: Line) -> list[tuple[str, int]]:
    """Name and pid of each owner in a line."""
    return [(owner["comm"], owner["pid"]) for owner in line.get("owners", ())]


def of_client(running: Trace, sport: int) -> list[Line]:
    """The transitions of the socket that has this local port."""
    return [line for line in running.states if line["sport"] == sport]


# ------------------------------------------------------------------------------------------------------------ the name


def test_a_thread_s_own_name_is_not_the_process_s(trace: Callable[..., Trace], netns: Netns) -> None:
    with trace() as running:
        server = netns.call(listener)
        script = """
def other():
    name("thread-7")
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    say(s.getsockname()[1])
    hear()
    s.shutdown(socket.SHUT_WR)
    s.close()
t = threading.Thread(target=other); t.start(); t.join()
"""
        with Actor(netns, script, server.getsockname()[1]) as app:
            sport = int(app.says()[0])
            app.go()
            app.wait()
            running.wait_for(sport=sport, new="FIN-WAIT-1")
            for line in of_client(running, sport):
                assert owners(line) == [("app", app.pid)], line


IO_URING = """
import mmap
SETUP, ENTER = 425, 426
params = bytearray(120)
buffer = (ctypes.c_char * 120).from_buffer(params)
ring = libc.syscall(SETUP, 8, buffer)
if ring < 0:
    say("none"); sys.exit()
entries, _, flags = struct.unpack_from("=III", params)[0], 0, 0
sq = struct.unpack_from("=10I", params, 40)
queue = mmap.mmap(ring, sq[6] + entries * 4, flags=mmap.MAP_SHARED | 0x8000, offset=0)
sqes = mmap.mmap(ring, entries * 64, flags=mmap.MAP_SHARED | 0x8000, offset=0x10000000)
s = socket.socket()
to = ctypes.create_string_buffer(struct.pack("=H", socket.AF_INET) + struct.pack("!H", int(sys.argv[1]))
                                 + socket.inet_aton("127.0.0.1") + bytes(8), 16)
IORING_OP_CONNECT, IOSQE_ASYNC = 16, 1 << 4
sqes[:64] = struct.pack("=BBHiQQIIQ", IORING_OP_CONNECT, IOSQE_ASYNC, 0, s.fileno(), 16, ctypes.addressof(to), 0, 0,
                        1).ljust(64, b"\\0")
queue[sq[6]:sq[6] + 4] = struct.pack("=I", 0)
queue[sq[1]:sq[1] + 4] = struct.pack("=I", 1)
assert libc.syscall(ENTER, ring, 1, 1, 1, None, 0) == 1
say(s.getsockname()[1])
hear()
"""


def test_io_uring_s_workers_bear_the_name_of_their_process(trace: Callable[..., Trace], netns: Netns) -> None:
    with trace() as running:
        server = netns.call(listener)
        with Actor(netns, IO_URING, server.getsockname()[1]) as app:
            (said,) = app.says()
            if said == "none":
                unmet("kernel lacks io_uring, or forbids it")
            line = running.wait_for(sport=int(said), new="SYN-SENT")
            assert owners(line) == [("app", app.pid)], line


# ---------------------------------------------------------------------------------------------- nobody who is gone

CLOSES = {
    "close": "s.close()",
    "shutdown": "s.shutdown(socket.SHUT_WR)",
    "linger": "s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0); s.close()",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("how", CLOSES)
def test_who_closes_is_the_owner_and_not_who_is_dead(how: str, trace: Callable[..., Trace], netns: Netns) -> None:
    """The parent connects, forks, and is gone; the child renames itself, and closes."""
    script = f"""
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
if os.fork():
    os._exit(0)
name("worker")
say(s.getsockname()[1], os.getpid())
hear()
{CLOSES[how]}
say("closed")
hear()
"""
    with trace() as running:
        server = netns.call(listener)
        with Actor(netns, script, server.getsockname()[1]) as parent:
            sport, worker = map(int, parent.says())
            parent.wait()
            opened = running.wait_for(sport=sport, new="ESTAB")
            assert owners(opened)[0][1] in (parent.pid, worker)
            parent.go()
            last = running.wait_for(sport=sport, old="ESTAB")
            assert owners(last) == [("worker", worker)], last
            accepted = keep(server.accept()[0])
            accepted.close()
            after = wait("the end", lambda: [line for line in of_client(running, sport) if line["from"] == "ESTAB"])
            for line in after:
                assert owners(line) == [("worker", worker)], line


def test_a_descriptor_in_flight_is_nobody_s(trace: Callable[..., Trace], netns: Netns) -> None:
    """Sent away with SCM_RIGHTS, closed by its sender, and not received yet: the peer closes meanwhile."""
    script = """
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
sport = s.getsockname()[1]
socket.send_fds(here, [b"x"], [s.fileno()])
s.close()
say(sport)
hear()
name("receiver")
_, (fd,), _, _ = socket.recv_fds(there, 1, 1)
os.close(fd)
hear()
"""
    with trace() as running:
        server = netns.call(listener)
        with Actor(netns, script, server.getsockname()[1]) as app:
            sport = int(app.says()[0])
            opened = running.wait_for(sport=sport, new="ESTAB")
            assert owners(opened) == [("app", app.pid)]
            told = {"type": "seen", "sport": sport}
            wait("a look found nobody", lambda: any(told.items() <= line.items() for line in running.lines))
            server.accept()[0].close()
            line = running.wait_for(sport=sport, new="CLOSE-WAIT")
            assert "owners" not in line, line
            assert line["owner_source"] in ("walk", "proc")
            app.go()
            line = running.wait_for(sport=sport, new="LAST-ACK")
            assert owners(line) == [("receiver", app.pid)], line


# ------------------------------------------------------------------------------------------------------- accepted ones

SERVER = """
s = socket.create_server(("127.0.0.1", 0), backlog=128)
say(s.getsockname()[1])
taken = []
while True:
    taken.append(s.accept()[0])
    say(taken[-1].fileno())
    if len(sys.argv) > 1:
        taken.pop().recv(1)
"""


def test_what_nobody_has_accepted_is_of_its_listener_s_owners(trace: Callable[..., Trace], netns: Netns) -> None:
    script = """
s = socket.create_server(("127.0.0.1", 0))
say(s.getsockname()[1], s.fileno())
hear()
"""
    with trace() as running, trace(json_lines=False) as text, Actor(netns, script) as app:
        port, _ = map(int, app.says())
        client = netns.call(connect, ("127.0.0.1", port))
        opened = running.wait_for(sport=port, dport=ports(client)[0], new="ESTAB")
        assert opened["owners"] == [{"comm": "app", "pid": app.pid}]
        assert opened["owner_source"] == "listener"
        said = "SYN-RECV -> ESTAB"
        shown = wait("its line", lambda: [line for line in text.text if said in line and f"127.0.0.1:{port} " in line])
        assert f" ~app/{app.pid}" in shown[0]
        client.close()
        ended = running.wait_for(sport=port, new="CLOSE-WAIT")
        assert (owners(ended), ended["owner_source"]) == ([("app", app.pid)], "listener")


@pytest.mark.parametrize("words", [(), ("sport", "=", ":{}")])
def test_every_line_of_an_accepted_connection_has_an_owner(
    words: tuple[str, ...], trace: Callable[..., Trace], netns: Netns
) -> None:
    """Held for a moment, closed or reset by the client: with a filter and without."""
    with Actor(netns, SERVER) as app:
        port = int(app.says()[0])
        with trace(*(word.format(port) for word in words)) as running:
            for number in range(40):
                client = netns.call(connect, ("127.0.0.1", port))
                app.says()
                opened = running.wait_for(sport=port, dport=ports(client)[0], new="ESTAB")
                (reset if number % 2 else socket.socket.close)(client)
                end = "UNCONN" if number % 2 else "CLOSE-WAIT"
                running.wait_for(sport=port, dport=opened["dport"], new=end)
            lines = [line for line in running.states if line["sport"] == port]
            assert len(lines) == 40 * 3
            for line in lines:
                assert owners(line) == [("app", app.pid)], line


def test_accept_is_found_without_another_event(trace: Callable[..., Trace], netns: Netns) -> None:
    """A line tells who has accepted, as soon as somebody has looked."""
    with trace() as running, Actor(netns, SERVER) as app:
        port = int(app.says()[0])
        client = netns.call(connect, ("127.0.0.1", port))
        fd = int(app.says()[0])
        ends = {"sport": port, "dport": ports(client)[0]}

        def told() -> Line | None:
            seen = [line for line in running.lines if line["type"] == "seen" and ends.items() <= line.items()]
            return next((line for line in seen if line.get("owner_source") != "listener"), None)

        line = wait("it is told who accepted", told)
        assert line["owners"] == [{"comm": "app", "pid": app.pid, "fd": fd}]


def test_who_closes_an_accepted_connection_is_named(trace: Callable[..., Trace], netns: Netns) -> None:
    """Of several who hold the listener, the one that closes had accepted."""
    script = """
s = socket.create_server(("127.0.0.1", 0))
say(s.getsockname()[1])
child = os.fork()
if not child:
    name("worker")
    s.accept()[0].close()
    say(os.getpid())
hear()
"""
    with Actor(netns, script) as app:
        port = int(app.says()[0])
        with trace() as running:
            client = netns.call(connect, ("127.0.0.1", port))
            worker = int(app.says()[0])
            opened = running.wait_for(sport=port, dport=ports(client)[0], new="ESTAB")
            assert sorted(owners(opened)) == sorted([("app", app.pid), ("worker", worker)])
            closing = running.wait_for(sport=port, new="FIN-WAIT-1")
            assert (owners(closing), closing["owner_source"]) == ([("worker", worker)], "close")
        os.kill(worker, signal.SIGKILL)


@pytest.mark.parametrize("protocol", ["mptcp"])
def test_subflows_are_of_who_holds_their_connection(
    protocol: str, trace: Callable[..., Trace], netns: Netns, sstrace: Program
) -> None:
    script = """
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
s.bind(("127.0.0.1", 0)); s.listen(8)
say(s.getsockname()[1])
taken = s.accept()[0]
say(taken.fileno())
hear()
taken.close()
hear()
"""
    try:
        client = netns.call(lambda: keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)))
    except OSError:
        unmet("kernel lacks MPTCP")
    with trace() as running, Actor(netns, script) as app:
        port = int(app.says()[0])
        client.connect(("127.0.0.1", port))
        fd = int(app.says()[0])
        sport = client.getsockname()[1]
        opened = running.wait_for(sport=port, dport=sport, new="ESTAB", netid="tcp")
        assert owners(opened) == [("app", app.pid)]
        mine = running.wait_for(sport=sport, dport=port, new="ESTAB", netid="tcp")
        assert [owner["pid"] for owner in mine["owners"]] == [os.getpid()]

        def told() -> bool:
            return any(
                line.get("owners") == [{"comm": "app", "pid": app.pid, "fd": fd}]
                for line in running.lines
                if line["type"] == "seen" and line["sport"] == port
            )

        wait("it is told who accepted", told)


# --------------------------------------------------------------------------------------------------------- recordings


@pytest.mark.ss
def test_a_recording_holds_who_had_accepted(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """As ``ss -tanp`` said it then."""
    tape = tmp_path / "tape.ndjson"
    with Actor(netns, SERVER) as app:
        port = int(app.says()[0])
        running = Trace(sstrace, netns, tmp_path, "--record", str(tape), json_lines=False)
        with running:
            clients = [netns.call(connect, ("127.0.0.1", port)) for _ in range(20)]
            fds = [int(app.says()[0]) for _ in clients]

            def shown() -> bytes:
                if not tape.exists():
                    return b""
                words = ("--snapshot", "--from", str(tape), "-Htanp", "state", "established", "sport", "=", f":{port}")
                return sstrace(*words, netns=netns).stdout

            wait("everybody is there", lambda: all(b'("app",pid=%d,fd=%d)' % (app.pid, fd) in shown() for fd in fds))


# ------------------------------------------------------------------------------------------------ what cannot be seen


def test_without_the_right_to_look_a_sentence_says_so(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    less = Program("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all", *sstrace.head)
    sentence = "without CAP_SYS_PTRACE it cannot be seen what other users' processes hold"
    with Trace(less, netns, tmp_path) as running:
        server = netns.call(listener)
        client = netns.call(connect, ("127.0.0.1", server.getsockname()[1]))
        line = running.wait_for(sport=ports(client)[0], new="ESTAB")
        assert [owner["pid"] for owner in line["owners"]] == [os.getpid()]
    assert running.stderr.count(sentence) == 1
    assert less("--doctor", netns=netns).stdout.decode().count(sentence) == 1
    assert sentence not in sstrace("--doctor", netns=netns).stdout.decode()
