"""The owner walk beside /proc: the same holders in the same order, whoever holds what."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sstrace.driver.holders import Holders
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
        assert [holder.pid for holder in expected] == [max(child, os.getpid())] * 4 + [min(child, os.getpid())] * 4
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
        (holder,) = walk.owners({inode})[inode]
        assert holder.pid == child.pid
        assert proc.owners()[inode] == [holder]
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
        names = {holder.comm for holder in walk.owners({inode})[inode] if holder.pid == child}
        assert names == {b"par(en"}
    finally:
        held.send(b"x")
        os.waitpid(child, 0)
        held.close()
        end.close()


def test_more_than_the_kernel_is_told_of_are_sorted_out_here(walk: OwnerWalk) -> None:
    held = [socket.socket() for _ in range(700)]
    inodes = {os.fstat(made.fileno()).st_ino for made in held}
    assert walk.owners(inodes).keys() == inodes
    for made in held:
        made.close()


def test_holders_fall_back_to_proc_where_the_walk_is_not_to_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sstrace.errors import FeatureError

    def refuse(_: object) -> None:
        raise FeatureError("not today")

    monkeypatch.setattr("sstrace.driver.holders.OwnerWalk", refuse)
    holders = Holders({"HOME": str(tmp_path)})
    made = socket.socket()
    inode = os.fstat(made.fileno()).st_ino
    assert holders.look()[inode][0].pid == os.getpid()
    assert holders.source == "proc"
    made.close()
