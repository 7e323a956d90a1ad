"""Recordings of several network namespaces: what each was like, from each file of a rotation alone."""

import json
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Netns, Program
from tracing import Trace, wait
from worlds import World, Worlds

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


def shown(output: bytes) -> list[tuple[str, ...]]:
    """State, local and peer end of each row of ``-tanH``."""
    return sorted((line[0], line[3], line[4]) for line in map(str.split, output.decode().splitlines()))


def in_files(folder: Path) -> list[Path]:
    """The files of a rotation, in order."""
    return [*sorted(folder.glob("all.0*.ndjson")), folder / "all.ndjson"]


def churn(count: int, port: int = 8080) -> list[socket.socket]:
    """Connections that come and go, and one that stays."""
    listener = socket.create_server(("127.0.0.1", port))
    for _ in range(count):
        one = socket.create_connection(listener.getsockname())
        other = listener.accept()[0]
        one.close()
        other.close()
    return [listener, socket.create_connection(listener.getsockname()), listener.accept()[0]]


def test_each_file_of_a_rotation_stands_alone(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Worlds(5) as worlds:
        name = netns.publish()
        words = ",".join([name, *(str(one.inode) for one in worlds.all)])
        path = tmp_path / "all.ndjson"
        record = ("--record", str(path), "--rotate", "500ms", "--netns", words)
        with Trace(sstrace, netns, tmp_path, *record, json_lines=False):
            kept = netns.call(churn, 50)
            wait("the recording has gone on to other files", lambda: len(in_files(tmp_path)) > 2)
            kept += netns.call(churn, 50, 8081)
            theirs = {one.inode: run(one) for one in worlds.all}
            theirs[netns.inode] = shown(netns.run("ss", "-tanH").stdout)
        files = in_files(tmp_path)
        told = sstrace("--snapshot", "--from", str(path), "-tan", "--json").stdout.splitlines()
        assert Counter(json.loads(line)["netns"] for line in told) == {
            inode: len(rows) for inode, rows in theirs.items()
        }
        found = sstrace("--snapshot", "--from", str(path), "-tanH", "--netns", name)
        assert shown(found.stdout) == theirs[netns.inode]
        for file in files:
            for one in worlds.all:  # nothing happens in them, so they are as they were in each file
                words = str(one.inode)
                found = sstrace("--snapshot", "--from", str(file), "--netns", words, "-tanH")
                assert not found.stderr
                assert shown(found.stdout) == theirs[one.inode]
        replayed = [word for file in files for word in ("--replay", str(file))]
        lines = [json.loads(line) for line in sstrace(*replayed, "--json").stdout.splitlines()]
        assert [line["seq"] for line in lines[1:]] == list(range(1, len(lines))), "nothing is told twice"
        # One that a command of ours has just been in may have been called by its name for a while.
        assert {line["event"] for line in lines if line["type"] == "netns"} <= {"here", "named"}
        for end in kept:
            end.close()


def run(world: World) -> list[tuple[str, ...]]:
    return shown(subprocess.run([*world.prefix, "ss", "-tanH"], capture_output=True, check=True, timeout=60).stdout)


def test_each_has_its_own_range_of_ephemeral_ports(
    sstrace: Program, ss: Program, netns: Netns, module_netns: Netns, tmp_path: Path
) -> None:
    """By which a port has the name of a service in one, and none in the other."""
    spaces = {netns.publish(): netns, module_netns.publish(): module_netns}
    for space, ports in zip(spaces.values(), ("3300 3400", "6000 9000"), strict=True):
        space.run("sh", "-c", f"echo {ports} >/proc/sys/net/ipv4/ip_local_port_range")
    listeners = [
        space.call(socket.create_server, ("127.0.0.1", port)) for space in spaces.values() for port in (3306, 8080)
    ]
    path = tmp_path / "both.ndjson"
    with Trace(sstrace, netns, tmp_path, "--record", str(path), "--netns", ",".join(spaces), json_lines=False):
        pass
    asked = ("--snapshot", "--from", str(path))
    for name in spaces:
        theirs, ours = ss("-N", name, "-Htl"), sstrace(*asked, "--netns", name, "-Htl")
        assert shown(ours.stdout) == shown(theirs.stdout)
        autobound = sstrace(*asked, "--netns", name, "-Htln", "autobound")
        assert len(autobound.stdout.splitlines()) == 1
    both = [line.split()[4].rpartition(b":")[2] for line in sstrace(*asked, "-Htl").stdout.splitlines()]
    assert sorted(both) == [b"3306", b"8080", b"http-alt", b"mysql"]
    told = map(json.loads, sstrace("--replay", str(path), "--json").stdout.splitlines())
    ranges = {line["netns"]: line.get("ephemeral") for line in told if line["type"] == "netns"}
    assert ranges == {netns.inode: [3300, 3400], module_netns.inode: [6000, 9000]}
    for one in listeners:
        one.close()


def test_one_that_came_and_went_is_there_in_between(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    path = tmp_path / "all.ndjson"
    with Trace(sstrace, netns, tmp_path, "--record", str(path), "--netns", "all", "--no-baseline") as trace:

        def news(what: str, world: World) -> Callable[[], bool]:
            return lambda: any(
                line["type"] == "netns" and (line["event"], line["netns_cookie"]) == (what, world.cookie)
                for line in trace.lines
            )

        with Worlds(1) as worlds:
            (world,) = worlds.all
            wait("it is followed", news("new", world))
            time_ns = time.time_ns()
            theirs = run(world)
        wait("it is gone", news("gone", world))
    at = f"@{time_ns // 10**9}.{time_ns % 10**9:09d}"
    for words in ([], ["--netns", str(world.inode)]):
        told = sstrace("--snapshot", "--from", str(path), "--at", at, "-tanH", *words, "netns", str(world.inode))
        found = [line.split()[-5:] for line in told.stdout.decode().splitlines()]
        assert sorted((line[0], line[3], line[4]) for line in found) == theirs
    # By the end its inode may be another's.
    gone = sstrace("--snapshot", "--from", str(path), "-tanH", "netns", str(world.inode))
    left = [line.split()[-5:] for line in gone.stdout.decode().splitlines()]
    assert not {(line[0], line[3], line[4]) for line in left if line[0] == "ESTAB"} & set(theirs)
