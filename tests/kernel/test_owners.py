"""The owner walk beside /proc: the same owners in the same order, whoever holds what."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from tracing import Trace, connect

from sstrace.live.owners import OwnerLooks
from sstrace.sources import proc
from sstrace.sources.owners import OwnerWalk

pytestmark = [pytest.mark.root, pytest.mark.bpf]


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnerWalk]:
    made = OwnerWalk(tmp_path_factory.mktemp("cache"))
    yield made
    made.close()


def test_the_walk_finds_what_proc_finds_in_the_same_order(walk: OwnerWalk) -> None:
    first, second = socket.socketpair()
    inode = os.fstat(first.fileno()).st_ino
    copies = [os.dup(first.fileno()) for _ in range(3)]
    child = os.fork()
    if child == 0:
        second.recv(1)
        os._exit(0)
    try:
        expected = proc.owners()[inode]
        assert walk.owners()[inode] == expected
        assert walk.owners({inode}) == {inode: expected}
        assert len(expected) == 8
        assert [owner.pid for owner in expected] == [max(child, os.getpid())] * 4 + [min(child, os.getpid())] * 4
    finally:
        first.send(b"x")
        os.waitpid(child, 0)
        for copy in copies:
            os.close(copy)
        first.close()
        second.close()


def test_a_descriptor_sent_away_is_found_where_it_is(walk: OwnerWalk) -> None:
    here, there = socket.socketpair()
    sent = socket.socket()
    inode = os.fstat(sent.fileno()).st_ino
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import socket, sys; s = socket.socket(fileno=int(sys.argv[1]));"
            "f = socket.recv_fds(s, 1, 1); s.send(b'x'); s.recv(1)",
            str(there.fileno()),
        ],
        pass_fds=[there.fileno()],
    )
    socket.send_fds(here, [b"x"], [sent.fileno()])
    assert here.recv(1) == b"x"
    sent.close()
    try:
        (owner,) = walk.owners({inode})[inode]
        assert owner.pid == child.pid
        assert proc.owners()[inode] == (owner,)
    finally:
        here.send(b"x")
        child.wait(timeout=30)
        here.close()
        there.close()
    assert inode not in walk.owners()


def test_a_closing_parenthesis_cuts_the_name_as_ss_does(walk: OwnerWalk) -> None:
    held, end = socket.socketpair()
    inode = os.fstat(held.fileno()).st_ino
    child = os.fork()
    if child == 0:
        Path("/proc/self/comm").write_text("par(en)x")
        end.send(b"x")
        end.recv(1)
        os._exit(0)
    try:
        assert held.recv(1) == b"x"
        names = {owner.comm for owner in walk.owners({inode})[inode] if owner.pid == child}
        assert names == {b"par(en"}
    finally:
        held.send(b"x")
        os.waitpid(child, 0)
        held.close()
        end.close()


def test_more_than_the_kernel_is_told_of_are_sorted_out_here(walk: OwnerWalk) -> None:
    held = [socket.socket() for _ in range(700)]
    inodes = {os.fstat(made.fileno()).st_ino for made in held}
    found = walk.owners(inodes)
    assert found.keys() == inodes
    assert len({id(owner.pid) for (owner,) in found.values()}) == 1  # rows keep them: one number, not 700
    for made in held:
        made.close()


def test_holders_fall_back_to_proc_where_the_walk_is_not_to_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sstrace.errors import FeatureError

    def refuse(_: object) -> None:
        raise FeatureError("not today")

    monkeypatch.setattr("sstrace.live.owners.OwnerWalk", refuse)
    looks = OwnerLooks({"HOME": str(tmp_path)})
    made = socket.socket()
    inode = os.fstat(made.fileno()).st_ino
    assert looks.look()[inode][0].pid == os.getpid()
    assert looks.source == "proc"
    made.close()


# ---------------------------------------------------------------------------------------- all the ways to hold a socket

CLONE_FILES, CLONE_NEWPID = 0x400, 0x20000000


def assert_alike(walk: OwnerWalk, inode: int) -> list[int]:
    """The walk says what /proc says; the owners' pids."""
    expected = proc.owners().get(inode, ())
    assert walk.owners().get(inode, ()) == expected
    assert walk.owners({inode}).get(inode, ()) == expected
    return [owner.pid for owner in expected]


def run_python(script: str, *fds: int, **options: Any) -> "subprocess.Popen[bytes]":
    """A child that runs a script with these descriptors, and says a line when it is ready; it ends with its stdin."""
    child = subprocess.Popen(
        [sys.executable, "-c", script + "\nimport sys; print('ready', flush=True); sys.stdin.read()", *map(str, fds)],
        pass_fds=fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        **options,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    return child


def end(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.close()
    child.wait(timeout=30)
    child.stdout.close()


def test_exec_keeps_what_is_inheritable_alone(walk: OwnerWalk) -> None:
    kept, closed = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    with kept, closed:
        inodes = [os.fstat(one.fileno()).st_ino for one in (kept, closed)]
        child = run_python("", kept.fileno())
        try:
            assert sorted(assert_alike(walk, inodes[0])) == sorted((os.getpid(), child.pid))
            assert assert_alike(walk, inodes[1]) == [os.getpid()]
        finally:
            end(child)
        assert assert_alike(walk, inodes[0]) == [os.getpid()]


def test_one_of_many_holders_closes(walk: OwnerWalk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        inode = os.fstat(held.fileno()).st_ino
        children = [run_python("", held.fileno()) for _ in range(3)]
        try:
            assert len(assert_alike(walk, inode)) == 4
            end(children.pop(1))
            assert len(assert_alike(walk, inode)) == 3
            held.close()
            assert sorted(assert_alike(walk, inode)) == sorted(child.pid for child in children)
        finally:
            for child in children:
                end(child)
        assert assert_alike(walk, inode) == []


def test_sockets_are_passed_as_systemd_does(walk: OwnerWalk) -> None:
    """LISTEN_FDS: descriptor 3 of a process that has not opened it; whoever did has gone."""
    script = (
        "import os, socket; s = socket.create_server(('127.0.0.1', 0)); os.dup2(s.fileno(), 3);"
        "os.set_inheritable(3, True);"
        "os.environ.update(LISTEN_FDS='1');"
        "print(os.fstat(3).st_ino, flush=True);"
        "os.execv('/bin/cat', ['cat'])"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    inode = int(child.stdout.readline())
    child.stdin.write(b"x\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"x\n"  # it is cat by now
    try:
        assert assert_alike(walk, inode) == [child.pid]
        (owner,) = walk.owners({inode})[inode]
        assert (owner.comm, owner.fd) == (b"cat", 3)
    finally:
        end(child)


def test_a_thread_with_descriptors_of_its_own(walk: OwnerWalk) -> None:
    """unshare(CLONE_FILES) in a thread: /proc/PID/fd, and so ss, shows the first thread's."""
    script = (
        "import ctypes, os, socket, threading\n"
        "go = threading.Event(); done = threading.Event()\n"
        "def other():\n"
        f"    assert ctypes.CDLL(None).unshare({CLONE_FILES}) == 0\n"
        "    s = socket.create_server(('127.0.0.1', 0)); global own; own = os.fstat(s.fileno()).st_ino\n"
        "    done.set(); go.wait()\n"
        "common = socket.create_server(('127.0.0.1', 0))\n"
        "threading.Thread(target=other, daemon=True).start(); done.wait()\n"
        "print(os.fstat(common.fileno()).st_ino, own, flush=True)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", script + "\nimport sys; sys.stdin.read(); os._exit(0)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    common, own = map(int, child.stdout.readline().split())
    try:
        assert assert_alike(walk, common) == [child.pid]
        assert assert_alike(walk, own) == []
    finally:
        end(child)


def test_a_holder_in_another_pid_namespace(walk: OwnerWalk) -> None:
    """It is called by the number that it has where we are."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        inode = os.fstat(held.fileno()).st_ino
        script = (
            f"import ctypes, os\nassert ctypes.CDLL(None).unshare({CLONE_NEWPID}) == 0\n"
            "child = os.fork()\n"
            "if child:\n    os.waitpid(child, 0); os._exit(0)\n"
            "assert os.getpid() == 1"
        )
        child = run_python(script, held.fileno())
        try:
            pids = assert_alike(walk, inode)
            assert len(pids) == 3
            assert {os.getpid(), child.pid} < set(pids)
        finally:
            end(child)
        assert assert_alike(walk, inode) == [os.getpid()]


@pytest.mark.ss
def test_a_process_that_waits_in_accept_since_before_the_trace(
    sstrace: Program, ss: Program, netns: Netns, tmp_path: Path
) -> None:
    script = (
        "import socket, sys\n"
        "listens = socket.create_server(('127.0.0.1', 0)); print(listens.getsockname()[1], flush=True)\n"
        "while True:\n"
        "    taken, _ = listens.accept()\n"
        "    print(taken.fileno(), flush=True)\n"
        "    sys.stdin.readline()\n"
        "    taken.close()"
    )
    server = subprocess.Popen(
        [*netns.prefix, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = int(server.stdout.readline())
        with Trace(sstrace, netns, tmp_path) as running:
            for _ in range(2):
                client = netns.call(connect, ("127.0.0.1", port))
                fd = int(server.stdout.readline())
                names = port, client.getsockname()[1]
                shown = ss("-Htnp", f"sport = :{port}", netns=netns).stdout
                assert b"pid=%d,fd=%d))" % (server.pid, fd) in shown
                server.stdin.write(b"\n")
                server.stdin.flush()
                closing = running.wait_for(sport=port, dport=names[1], new="FIN-WAIT-1")
                (owner,) = closing["owners"]
                assert owner["pid"] == server.pid
                assert closing["owner_source"] in ("close", "walk")  # where there was time, somebody has looked before
                client.close()
                opening = running.wait_for(sport=names[1], dport=port, new="ESTAB")
                assert [owner["pid"] for owner in opening["owners"]] == [os.getpid()]
    finally:
        server.kill()
        server.wait()
        server.stdin.close()
        server.stdout.close()
