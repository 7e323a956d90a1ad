"""--snapshot --netns: what ss says in each network namespace, one after the other, behind a column that names it."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import Netns, Program
from worlds import World, Worlds

from sstrace.dialect import dialect
from sstrace.query.command import Command
from sstrace.query.options import parse, resolve
from sstrace.snapshot.places import Places
from sstrace.sources.names import SystemNames

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

COUNT = 70
"""So many that TCP is read out of the hash tables that they share; and few, of which each is asked."""
FEW = 5
TESTS = Path(__file__).resolve().parents[1]


class Done(NamedTuple):
    out: str
    err: str
    code: int


def snapshot(sstrace: Program, *words: str, env: Mapping[str, str] | None = None, netns: Netns | None = None) -> Done:
    done = sstrace("--snapshot", *words, env=env, netns=netns)
    return Done(done.stdout.decode("latin-1"), done.stderr.decode(), done.returncode)


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with Worlds(8) as made:
        yield made


def named(some: Sequence[World]) -> str:
    return "--netns=" + ",".join(str(one.inode) for one in some)


JOINED = """
import json, subprocess, sys
from worlds import Worlds

options, count, ours, theirs = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4])
run = lambda *words: subprocess.run(words, capture_output=True, check=True)
with Worlds(count) as worlds:
    some = sorted(worlds.all, key=lambda world: str(world.inode))
    each = [(str(one.inode), run(*one.prefix, *theirs, options)) for one in some]
    joined = run(*ours, "--snapshot", "--netns", ",".join(inode for inode, _ in reversed(each)), options)
    every = run(*ours, "--snapshot", "--netns", "all", options)
title, *lines = joined.stdout.decode("latin-1").splitlines()
# Of netlink sockets each shows the ones with which it asks itself.
asks = lambda line: any(word.startswith(("tcpdiag:", "rtnl:")) and "kernel" not in word for word in line)
said = b"".join(done.stderr for _, done in each).decode()
told = [[inode, *line.split()] for inode, done in each for line in done.stdout.decode("latin-1").splitlines()[1:]]
mine = {inode for inode, _ in each}
among = [words for words in map(str.split, every.stdout.decode("latin-1").splitlines()) if words and words[0] in mine]
found = [[line for line in which if not asks(line)] for which in (told, map(str.split, lines), among)]
print(json.dumps([title.split()[0], *found, said, joined.stderr.decode()]))
"""


@pytest.mark.seconds(600)
@pytest.mark.parametrize(
    ("options", "count", "lines"),
    [("-tanp", COUNT, 5), ("-tanp", FEW, 5), ("-tuxanpe", FEW, 9), ("-uan", COUNT, 1), ("-a", COUNT, 9)],
)
def test_the_answers_of_ss_joined(sstrace: Program, ss: Program, options: str, count: int, lines: int) -> None:
    """In a pid namespace, where -p has few processes to look through, and both give that namespace's numbers."""
    words = ("unshare", "--pid", "--fork", "--mount-proc", "--", sys.executable, "-c", JOINED, options, str(count))
    heads = json.dumps(sstrace.head), json.dumps(ss.head)
    done = subprocess.run([*words, *heads], cwd=TESTS, capture_output=True, check=False)
    assert not done.stderr.decode()
    title, theirs, ours, among, said, told = json.loads(done.stdout)
    assert title == "Netns"
    assert ours == theirs
    assert told == said
    assert among == theirs
    assert len(ours) == lines * count if options != "-a" else len(ours) > lines * count
    assert ("users:" in str(ours)) is ("p" in options)


@pytest.mark.parametrize(
    ("words", "walks"),
    [
        ("-tan", True),
        ("-tulp", True),
        ("-tan sport = :443 and not dev lo", True),
        ("-tan cgroup /", False),
        ("-tane", False),
        ("-tano", False),
        ("-uan", False),
        ("--json -tan", False),
    ],
)
def test_many_are_looked_into_at_once_where_that_tells_all(words: str, *, walks: bool) -> None:
    """(Newer ss have sockets in -a that are bound and idle, which are in no table of the walk's.)"""
    names = SystemNames(os.environ)
    command = parse(["sstrace", "--snapshot", "--netns", "all", *words.split()], release=dialect((6, 1)))
    assert isinstance(command, Command)
    with Worlds(COUNT) as many:
        places = Places(("all",), os.environ)
        places.prepare(resolve(command, names))
        walked = {place.inode for place in places.each() if place.source is not None}
        mine = {one.inode for one in many.all}
    assert walked & mine == (mine if walks else set())


def test_every_namespace_is_among_all(sstrace: Program, worlds: Worlds) -> None:
    lines = snapshot(sstrace, "--netns", "all", "-tlnH").out.splitlines()
    shown = [line.split()[0] for line in lines]
    assert {str(one.inode) for one in worlds.all} <= set(shown)
    assert shown == sorted(shown), "by name"


def test_one_is_ss_to_the_byte(sstrace: Program, ss: Program, worlds: Worlds) -> None:
    one = worlds.all[7]
    for options in (["-tan"], ["-tuxaneO"], ["-tn", "sport", "=", ":1007"], ["-ln", "autobound"]):
        theirs = subprocess.run([*one.prefix, *ss.head, *options], capture_output=True, check=True)
        ours = snapshot(sstrace, "--netns", one.path, *options)
        assert (ours.out, ours.err) == (theirs.stdout.decode("latin-1"), theirs.stderr.decode())


def test_lines_of_json_say_where(sstrace: Program, netns: Netns) -> None:
    name = netns.publish()
    listener = netns.call(socket.create_server, ("127.0.0.1", 80))
    sleeper = subprocess.Popen([*netns.prefix, "sleep", "60"])
    try:
        while Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        done = snapshot(sstrace, "--netns", f"{name},{os.getpid()}", "-tln", "--json")
        mine = [line for line in map(json.loads, done.out.splitlines()) if line["netns"] == netns.inode]
        assert [(line["netns_name"], line["sport"]) for line in mine] == [(name, 80)]
        assert not {"container_id", "container_runtime", "pod", "pod_namespace"} & mine[0].keys()
        bare = snapshot(sstrace, "-tln", "--json", netns=netns)
        assert "netns" not in json.loads(bare.out), "nobody asked"
    finally:
        sleeper.kill()
        sleeper.wait()
        listener.close()


def test_the_filter_knows_namespaces(sstrace: Program, worlds: Worlds) -> None:
    three = worlds.all[:3]

    def inodes(*words: str) -> set[int]:
        lines = snapshot(sstrace, named(three), "-tlnH", *words).out.splitlines()
        return {int(line.split()[0]) for line in lines}

    one, two = str(three[0].inode), str(three[1].inode)
    assert inodes("netns", one) == {three[0].inode}
    assert inodes(f"netns {one} or netns {two}") == {three[0].inode, three[1].inode}
    assert inodes("netns", "!=", one) == {three[1].inode, three[2].inode}
    assert inodes(f"netns {one[:5]}*") == {world.inode for world in three}
    assert inodes(f"netns {two} and sport = :1001") == {three[1].inode}


def test_a_device_is_that_of_each_namespace(sstrace: Program, netns: Netns, worlds: Worlds) -> None:
    """Their indexes differ, and most have none of the name."""
    netns.run("ip", "link", "add", "veth7", "index", "77", "type", "veth", "peer", "name", "veth8")
    netns.run("ip", "addr", "add", "10.9.9.9/24", "dev", "veth7")
    netns.run("ip", "link", "set", "veth7", "up")

    def bound() -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"veth7")
        listener.bind(("10.9.9.9", 80))
        listener.listen()
        return listener

    listener = netns.call(bound)
    words = [f"--netns={netns.path},{worlds.all[0].inode}", "-tlnH"]
    found = snapshot(sstrace, *words, "dev", "veth7")
    assert [line.split()[0:5:4] for line in found.out.splitlines()] == [[str(netns.inode), "10.9.9.9%veth7:80"]]
    nowhere = snapshot(sstrace, *words, "dev", "vth7")
    assert nowhere.err == "sstrace: there is no device vth7 in any of 2 network namespaces\n"
    assert nowhere.code == 1
    listener.close()


def test_counters_are_summed(sstrace: Program, worlds: Worlds) -> None:
    three = worlds.all[:3]
    (line,) = map(json.loads, snapshot(sstrace, named(three), "-s", "--json").out.splitlines())
    assert line["established"] == 12
    assert line["tcp_inuse"] == 15
    assert line["udp_inuse"] == 3
    assert line["sockets"] == 3 * 9
    each = [json.loads(snapshot(sstrace, named([one]), "-s", "--json").out) for one in three]
    assert [one["tcp_inuse"] for one in each] == [5, 5, 5]
    assert line["orphaned"] <= max(one["orphaned"] for one in each) + 50, "the kernel counts these for all at once"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--netns", "nosuch"), "--netns nosuch: no network namespace is called so: write a name, a pid, an inode", 1),
        (("--netns", "4194303"), "--netns 4194303: there is no process 4194303", 1),
        (("--netns", "/nowhere"), "--netns /nowhere: No such file or directory", 1),
        (("--netns", "/proc/self/ns/uts"), "--netns /proc/self/ns/uts: that is no network namespace", 1),
        (("--netns", "all,"), '--netns "all,": write all, or names, pids, inodes and paths, joined by commas', 255),
        (("--netns", "all", "-E"), "-E is of one network namespace: enter it with -N", 255),
        (("--netns", "all", "-D", "-"), "-D is of one network namespace: enter it with -N", 255),
    ],
)
def test_mistakes_are_one_sentence(sstrace: Program, words: Sequence[str], said: str, code: int) -> None:
    done = snapshot(sstrace, "-t", *words)
    assert done.out == ""
    assert done.err.startswith(f"sstrace: {said}")
    assert done.err.count("\n") == 1
    assert done.code == code


def test_one_that_enters_does_not_look_into_many(sstrace: Program, netns: Netns) -> None:
    done = snapshot(sstrace, "-N", netns.publish(), "--netns", "all")
    assert done.err == "sstrace: -N enters one network namespace, --netns looks into any number: choose one\n"
    assert done.code == 255


def test_without_the_walk_it_says_what_it_cannot_see(sstrace: Program, netns: Netns) -> None:
    name = netns.publish()
    server = netns.call(socket.create_server, ("127.0.0.1", 80))
    done = snapshot(sstrace, "--netns", "all", "-tlnH", env={"SSTRACE_WITHOUT": "btf"})
    assert [line.split()[4] for line in done.out.splitlines() if line.split()[0] == name] == ["127.0.0.1:80"]
    seen = "sstrace: network namespaces that neither a process is in nor a mount names are not seen"
    assert done.err.startswith(seen)
    assert done.err.endswith(": done without BTF\n")
    server.close()


ROOTLESS = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", 7777))
client = socket.create_connection(("127.0.0.1", 7777))
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_without_root_its_own_containers_are_seen_through_proc(sstrace: Program) -> None:
    """A rootless container: a user namespace of its own, and a network namespace in it."""
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    if subprocess.run([*user, "unshare", "-Urn", "true"], capture_output=True, check=False).returncode:
        pytest.skip("kernel lacks user namespaces for everybody")
    words = [
        *user,
        "unshare",
        "-Urn",
        "--",
        "sh",
        "-c",
        'ip link set lo up; exec "$0" -c "$1"',
        sys.executable,
        ROOTLESS,
    ]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    try:
        pid = int(holder.stdout.readline())
        asked = [*user, *sstrace.head, "--snapshot", "--netns", str(pid), "-tanH"]
        done = subprocess.run(asked, capture_output=True, text=True, check=True, env={**os.environ, "HOME": "/nowhere"})
        assert sorted(line.split()[0] for line in done.stdout.splitlines()) == ["ESTAB", "ESTAB", "LISTEN"]
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        said = f"of network namespace {comm}/{pid} there is only what /proc tells: to enter takes root"
        assert done.stderr == f"sstrace: {said}\n"
    finally:
        holder.communicate("")


def test_who_looks_at_one_is_told_of_the_others(sstrace: Program, netns: Netns) -> None:
    """A trace that has nothing to show says where there would be something."""
    with Worlds(2, held=False):
        done = sstrace("--duration", "0.1", "-t", netns=netns)
        assert done.stdout.count(b"\n") == 1, "the titles"
        summary, hint = done.stderr.decode().splitlines()[-2:]
        assert summary.startswith("sstrace: 0 events")
        found = re.fullmatch(
            r"sstrace: (\d+)(?: and more)? other network namespaces have sockets: (.*) shows them", hint
        )
        assert found is not None, hint  # the machine may have as many beside as are counted
        assert int(found[1]) >= 2
        assert found[2] == "--netns all"
        assert b"@world-1" in sstrace("--snapshot", *found[2].split(), "-lxH").stdout
