"""Several network namespaces followed at once: what is in each, both ends of what leads from one to another, and how
they come and go.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from conftest import Netns
from worlds import World, Worlds

from sstrace.changes import Change, NetnsNews
from sstrace.live.probes import attached
from sstrace.live.tracer import Tracer
from sstrace.live.ways import Ways
from sstrace.model import STATE_TEXT, Namespace, State
from sstrace.namespaces.finder import Finder
from sstrace.render.events import EventWriter
from sstrace.sources.names import SystemNames
from sstrace.table import Row

pytestmark = pytest.mark.bpf

CONNECTIONS = 1000


class Following:
    """A tracer, and what it has told."""

    def __init__(self, *words: str, ways: Ways | None = None) -> None:
        self.tracer = Tracer(os.environ, SystemNames(os.environ), netns=words, ways=ways)
        self.told: list[Change] = []

    def take(self) -> None:
        self.told += self.tracer.settle()

    def until(self, fact: Callable[[], bool]) -> None:
        """Wait for a fact; the test's own time limit is the end of it."""
        while not fact():
            self.told += self.tracer.poll(0.02)

    def news(self, what: str) -> set[int]:
        return {one.netns.cookie for one in self.told if isinstance(one, NetnsNews) and one.what == what}

    def rows(self, net: int) -> list[Row]:
        return [row for row in self.tracer.table if row.net == net]


@contextmanager
def following(*words: str, ways: Ways | None = None) -> Iterator[Following]:
    found = Following(*words, ways=ways)
    try:
        if words != ("all",):  # the tables of the whole machine may be long
            found.tracer.start()
        yield found
    finally:
        found.tracer.close()


def inodes(worlds: Worlds) -> tuple[str, ...]:
    return tuple(str(one.inode) for one in worlds.all)


def shown(world: World) -> Counter[tuple[str, ...]]:
    """State, local and peer end of each TCP socket, by ss that runs inside."""
    found = subprocess.run([*world.prefix, "ss", "-Htan"], capture_output=True, check=True, timeout=60)
    return Counter((line[0], line[3], line[4]) for line in map(str.split, found.stdout.decode().splitlines()))


def held(rows: list[Row]) -> Counter[tuple[str, ...]]:
    def end(address: bytes, port: int) -> str:
        return f"{socket.inet_ntoa(address)}:{port or '*'}"

    return Counter((STATE_TEXT[row.state], end(row.src, row.sport), end(row.dst, row.dport)) for row in rows)


def test_each_has_what_ss_shows_in_it() -> None:
    """The baseline of several that are alike in their addresses and ports; and of no others."""
    with Worlds(6) as worlds, following(*inodes(worlds)[:5]) as follows:
        follows.take()
        for world in worlds.all[:5]:
            rows = follows.rows(world.cookie)
            assert held(rows) == shown(world)
            assert {row.netns for row in rows} == {world.inode}
            follows.tracer.own(rows)
            assert {owner.pid for row in rows for owner in row.owners} == {worlds.pid}
        assert not follows.rows(worlds.all[5].cookie)
        assert {row.net for row in follows.tracer.table} == {one.cookie for one in worlds.all[:5]}


def test_one_that_dies_is_gone_while_it_is_followed() -> None:
    """Nothing of ours keeps it alive: neither what has asked in it nor what may."""
    with Worlds(3) as worlds, following(*inodes(worlds)) as follows:
        mine = {one.cookie for one in worlds.all}
        follows.tracer.own()
        follows.take()
        assert {place.netns.cookie for place in follows.tracer.places} == mine
        worlds.close()
        follows.until(lambda: follows.news("gone") == mine)
        assert not list(follows.tracer.table)
        assert not len(follows.tracer.places)


_LIVES = """
import ctypes, fcntl, socket, struct, sys
with open("/proc/self/comm", "w") as comm:
    comm.write(sys.argv[1])
assert not ctypes.CDLL(None).unshare(0x40000000)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))
listener = socket.create_server(("127.0.0.1", 80))
ends = []
for _ in range(int(sys.argv[2])):
    ends += [socket.create_connection(("127.0.0.1", 80)), listener.accept()[0]]
print(int.from_bytes(listener.getsockopt(1, 71, 8), sys.byteorder), flush=True)
sys.stdin.read()
"""
"""Is called as it is told, makes a namespace, and lives in it until nobody holds its stdin."""


@contextmanager
def living(comm: str, connections: int = 5) -> Iterator[int]:
    """The cookie of a namespace in which a process of this name lives."""
    command = [sys.executable, "-c", _LIVES, comm, str(connections)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as lives:
        assert lives.stdin is not None
        assert lives.stdout is not None
        yield int(lives.stdout.readline())
        lives.stdin.close()


def live_and_die(follows: Following, comm: str) -> None:
    with living(comm) as net:
        follows.until(lambda: net in follows.news("new"))
        follows.take()
        states = Counter(row.state for row in follows.rows(net))
        assert states == {State.LISTEN: 1, State.ESTABLISHED: 10}
    follows.until(lambda: net in follows.news("gone"))
    assert not follows.rows(net)


def test_whatever_bears_the_name_is_followed() -> None:
    """Born one after the other, of which each has the inode that another had before."""
    comm = f"lives-{os.getpid()}"
    with living(comm) as first, following(comm) as follows:
        for _ in range(3):
            live_and_die(follows, comm)
        assert [place.netns.cookie for place in follows.tracer.places] == [first]
        assert len(follows.rows(first)) == 11


def test_one_that_is_born_meanwhile_is_one_of_all() -> None:
    with following("all") as follows:
        live_and_die(follows, "born")


def test_one_that_is_born_before_the_hooks_are_there_is_in_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first look for namespaces is over by then."""
    with ExitStack() as ends:
        made: list[Worlds] = []

        def late(*words: Any, **more: Any) -> Any:
            made.append(ends.enter_context(Worlds(2)))
            return attached(*words, **more)

        monkeypatch.setattr("sstrace.live.tracer.attached", late)
        follows = ends.enter_context(following("all"))
        follows.tracer.start()
        for one in made[0].all:
            assert Counter(row.state for row in follows.rows(one.cookie)) == {State.LISTEN: 1, State.ESTABLISHED: 4}


class Blinking(Finder):
    """Sees nothing but ``only``, where that is told."""

    only: set[int] | None = None
    looks = 0

    def look(self) -> Mapping[int, Namespace]:
        """See Finder."""
        self.looks += 1
        return self._seen_of(super().look())

    def learn(self) -> Mapping[int, Namespace]:
        """See Finder."""
        return self._seen_of(super().learn())

    def _seen_of(self, found: Mapping[int, Namespace]) -> Mapping[int, Namespace]:
        return found if self.only is None else {net: one for net, one in found.items() if net in self.only}


class Blinks(Ways):
    """With such a finder."""

    def __init__(self) -> None:
        self.blinking = Blinking(os.environ)

    def finder(self, env: Mapping[str, str]) -> Finder:
        """See Ways."""
        return self.blinking


@pytest.mark.parametrize("forgotten", [False, True], ids=["at once", "for long"])
def test_one_that_is_not_listed_need_not_be_gone(forgotten: bool) -> None:
    """What was heard of it is kept for a while; where that is over, it is asked once it is listed."""
    ways = Blinks()
    finder = ways.blinking
    with following("all", ways=ways) as follows, ExitStack() as ends:
        finder.only = set(finder.look())
        net = ends.enter_context(living("blinks"))
        follows.until(lambda: len(follows.rows(net)) == 11)
        seen = finder.looks
        follows.until(lambda: not follows.rows(net) if forgotten else finder.looks > seen + 1)
        finder.only = None
        follows.until(lambda: net in follows.news("new"))
        assert len(follows.rows(net)) == 11


def test_what_was_lost_of_one_that_is_not_known_yet_is_asked_once_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep that heals a loss is of those that are known by then."""
    monkeypatch.setenv("SSTRACE_PAGES", "1")
    ways = Blinks()
    finder = ways.blinking
    with following("all", ways=ways) as follows, ExitStack() as ends:
        finder.only = set(finder.look())
        follows.tracer._doubts._audits = False
        net = ends.enter_context(living("lost", 200))
        follows.until(lambda: follows.tracer.resyncs > 0)
        assert len(follows.rows(net)) < 401, "nothing was lost there"
        finder.only = None
        follows.until(lambda: net in follows.news("new"))
        follows.take()
        assert Counter(row.state for row in follows.rows(net)) == {State.LISTEN: 1, State.ESTABLISHED: 400}


def test_a_loss_in_one_is_healed_there_alone(netns: Netns) -> None:
    """The programs count where they lose events: the others are not asked for what nobody doubts."""
    other = Netns()
    tracer = Tracer(os.environ, netns=(str(netns.inode), str(other.inode)), pages=1)
    asked: list[int] = []
    try:
        tracer.start()
        for place in tracer.places:
            place.kernel.everything = _counted(place.kernel.everything, place.netns.inode, asked)  # type: ignore[method-assign]
        kept = [*other.call(_connected, 1), *netns.call(_connected, 100)]
        while not tracer.resyncs:
            list(tracer.poll(0.02))
        list(tracer.settle())
        assert tracer.lost
        assert {*asked} == {netns.inode}
        for space, count in ((netns, 100), (other, 1)):
            states = Counter(row.state for row in tracer.table if row.netns == space.inode)
            assert states == {State.LISTEN: 1, State.ESTABLISHED: 2 * count}
        for end in kept:
            end.close()
    finally:
        tracer.close()
        other.close()


def test_who_rests_is_woken_by_an_event_and_by_a_doubt(netns: Netns) -> None:
    """Where nothing happens, nothing is done but to look whether that is so still."""
    tracer = Tracer(os.environ, netns=(str(netns.inode),))
    try:
        tracer.start()
        list(tracer.poll(0))
        assert tracer._rests()
        tracer._doubts.deaf = True
        assert not tracer._rests()
        while tracer._doubts.deaf:
            list(tracer.poll(0.02))
        assert tracer._rests()
        kept = netns.call(_connected, 1)
        while len(tracer.table) < 3:
            list(tracer.poll(0.02))
        kept.pop().close()  # half closed, as it may stay for long: of that the kernel is asked now and then
        while not tracer.table.unsettled():
            list(tracer.poll(0.02))
        tracer.arrivals.last_ns = 0  # long ago
        while not tracer._rests():
            list(tracer.poll(0.02))
        while not tracer._looks.is_due(tracer.table.unsettled()):
            time.sleep(0.01)
        assert not tracer._rests()
        for end in kept:
            end.close()
    finally:
        tracer.close()


def _counted(everything: Callable[..., list[bytes]], inode: int, asked: list[int]) -> Callable[..., list[bytes]]:
    def counted(*words: Any) -> list[bytes]:
        asked.append(inode)
        return everything(*words)

    return counted


def _connected(count: int) -> list[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    ends = [listener]
    for _ in range(count):
        ends += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    return ends


def test_a_device_that_is_called_otherwise_is_called_so(joined: tuple[Netns, Netns]) -> None:
    """Nobody tells of it in another namespace: its names are looked up anew with what namespaces are called."""
    here, there = joined
    with following(str(here.inode), str(there.inode)) as follows:
        places = follows.tracer.places.where
        assert places is not None
        net = int.from_bytes(there.call(_cookie), sys.byteorder)
        index = there.call(socket.if_nametoindex, "v1")
        assert places.ifname(net, index) == "v1"
        there.run("ip", "link", "set", "v1", "name", "uplink")
        places._learn_ns = 0
        follows.until(lambda: places.ifname(net, index) == "uplink")


@pytest.fixture
def joined(netns: Netns) -> Iterator[tuple[Netns, Netns]]:
    """Two that are joined by a cable."""
    other = Netns()
    try:
        subprocess.run(
            ["ip", "link", "add", "v0", "netns", f"/proc/{os.getpid()}/fd/{netns.fd}", "type", "veth",
             "peer", "name", "v1", "netns", f"/proc/{os.getpid()}/fd/{other.fd}"], check=True, timeout=60,
        )  # fmt: skip
        for space, device, address in ((netns, "v0", "192.0.2.1/30"), (other, "v1", "192.0.2.2/30")):
            space.run("ip", "addr", "add", address, "dev", device)
            space.run("ip", "link", "set", device, "up")
        yield netns, other
    finally:
        other.close()


_SERVES = """
import socket, sys
listener = socket.create_server(("192.0.2.2", 443), backlog=1024)
print("ready", flush=True)
ends = [listener.accept()[0] for _ in range(int(sys.argv[1]))]
print("whole", flush=True)
sys.stdin.read()
"""

_CALLS = """
import socket, sys
ends = [socket.create_connection(("192.0.2.2", 443), 30) for _ in range(int(sys.argv[1]))]
print("whole", flush=True)
sys.stdin.read()
"""


@contextmanager
def talking(space: Netns, program: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a namespace, which lives until nobody holds its stdin."""
    words = [*space.prefix, "prlimit", "--nofile=4096", sys.executable, "-c", program, str(CONNECTIONS)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


def test_each_end_names_the_other(joined: tuple[Netns, Netns]) -> None:
    """Of what leads from a process in one namespace to a process in another, on its lines."""
    here, there = joined
    with (
        following(str(here.inode), str(there.inode)) as follows,
        talking(there, _SERVES) as server,
    ):
        assert said(server) == b"ready\n"
        with talking(here, _CALLS) as client:
            assert said(client) == said(server) == b"whole\n"
            follows.take()
            follows.tracer.own()
            lines = written(follows)
    (listener,) = [line for line in lines if line["state"] == "LISTEN"]
    assert "peer_netns" not in listener
    pairs = {(line["sport"], line["dport"]): line for line in lines if line["state"] == "ESTAB"}
    assert len(pairs) == 2 * CONNECTIONS
    for (sport, dport), line in pairs.items():
        calls = line["src"] == "192.0.2.1"
        home, away = (here, there) if calls else (there, here)
        assert (line["netns"], line["peer_netns"]) == (home.inode, away.inode)
        (owner,) = line["owners"]
        (peer,) = line["peer_owners"]
        assert (owner["pid"], peer["pid"]) == ((client.pid, server.pid) if calls else (server.pid, client.pid))
        assert [peer] == pairs[dport, sport]["owners"], "the very descriptor"


def written(follows: Following) -> list[dict[str, Any]]:
    """The lines of the table."""
    writer = EventWriter(0, lambda _: None, where=follows.tracer.places.where)
    out = bytearray()
    for row in follows.tracer.table:
        writer.seen(row, time.monotonic_ns(), out)
    return [json.loads(line) for line in out.splitlines()]


def test_a_device_has_the_name_that_it_bears_in_its_namespace(joined: tuple[Netns, Netns]) -> None:
    """Interfaces are numbered anew in each."""
    here, there = joined
    with following(str(here.inode), str(there.inode)) as follows:
        places = follows.tracer.places.where
        assert places is not None
        for space, device in ((here, "v0"), (there, "v1")):
            net = int.from_bytes(space.call(_cookie), sys.byteorder)
            index = space.call(socket.if_nametoindex, device)
            assert places.ifname(net, index) == device
            assert follows.tracer.names.of(net).ifindex(device) == index


def _cookie() -> bytes:
    with socket.socket(socket.AF_UNIX) as any_socket:
        return any_socket.getsockopt(socket.SOL_SOCKET, 71, 8)
