"""The walk over the kernel's hash tables of sockets shows what sock_diag shows, and a baseline that is made of it is
what ss shows in each namespace.
"""

import os
import socket
from collections import Counter
from collections.abc import Iterable, Iterator

import parity
import pytest
from conftest import Netns
from test_netns_live import held, shown
from worlds import Worlds

from sstrace.live.dumps import TABLE_STATES
from sstrace.live.kernel import Kernel, UnreachableError
from sstrace.live.tracer import Tracer
from sstrace.model import AF_INET6, STATE_TEXT, InetSocket, Kind, State
from sstrace.server.broker import Broker
from sstrace.server.spaces import AskedWays
from sstrace.sources.diag import Netlink
from sstrace.sources.privilege import unused_user
from sstrace.sources.socket_walk import FOUND_BYTES, SocketWalk
from sstrace.table import Resync
from sstrace.table.index import kind_of
from sstrace.wire import walked

pytestmark = [pytest.mark.root, pytest.mark.bpf]

WORLDS = 260
"""So many that loading the walk costs less than asking in each."""


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketWalk]:
    found = SocketWalk(tmp_path_factory.mktemp("cache"))
    yield found
    found.close()


def by_walk(walk: SocketWalk, inode: int) -> list[InetSocket]:
    apart = walked.apart(walk.records(queues=True))
    return [
        one for netns, records in apart.items() if netns.inode == inode for one in walked.decode(records, TABLE_STATES)
    ]


def by_sock_diag(space: Netns) -> list[InetSocket]:
    return space.call(lambda: Kernel(lambda: None).dump(TABLE_STATES)[0])


def told(one: InetSocket) -> tuple[object, ...]:
    """What a table takes of a socket, but for its cookie; and its queues."""
    extras = one.extras
    kind = kind_of(one)
    v6only = extras.v6only if extras is not None and one.state == State.LISTEN else None
    cgroup = extras.cgroup_id if extras is not None and kind is Kind.SOCKET else None
    return (
        one.family, STATE_TEXT[one.state], kind.name, one.src.hex(), one.sport, one.dst.hex(), one.dport,
        one.ifindex, one.ino, one.uid, v6only, cgroup, one.recv_q, one.send_q,
    )  # fmt: skip


def all_told(sockets: Iterable[InetSocket]) -> Counter[tuple[object, ...]]:
    return Counter(map(told, sockets))


def test_it_shows_what_sock_diag_shows(walk: SocketWalk) -> None:
    """Of sockets in every state: two looks by sock_diag that are alike, and one by the walk between them."""
    space = Netns()
    zoo = parity.ZooKeeper(space.prefix)
    try:
        zoo.keep_fresh()
        before: list[InetSocket] = []
        while True:
            found, after = by_walk(walk, space.inode), by_sock_diag(space)
            if before and all_told(before) == all_told(after):
                break
            before = after
        assert sorted(map(told, found)) == sorted(map(told, after))
        states = {one.state for one in found}
        assert states >= {State.LISTEN, State.ESTABLISHED, State.SYN_RECV, State.TIME_WAIT, State.FIN_WAIT2}
        assert {kind_of(one) for one in found} == set(Kind)
        assert any(one.ifindex for one in found)
        assert any(one.recv_q for one in found if one.state == State.ESTABLISHED)
        assert any(one.send_q for one in found if one.state == State.LISTEN)
        assert {one.extras.v6only for one in found if one.extras and one.state == State.LISTEN} == {None, False, True}
        # Where somebody has asked for a cookie, it is that.
        cookies = {told(one): one.cookie for one in after}
        assert all(one.cookie in (0, cookies[told(one)]) for one in found if cookies[told(one)])
        assert sum(one.cookie != 0 for one in found) > len(found) / 2
    finally:
        zoo.close()
        space.close()


def test_it_shows_what_happens_between_two_walks(walk: SocketWalk) -> None:
    space = Netns()
    try:
        assert by_walk(walk, space.inode) == []
        listener = space.call(lambda: socket.create_server(("::1", 0), family=socket.AF_INET6))
        port = listener.getsockname()[1]
        (found,) = by_walk(walk, space.inode)
        assert (found.family, found.state, found.sport) == (AF_INET6, State.LISTEN, port)
        assert found.ino == os.fstat(listener.fileno()).st_ino
        client = space.call(lambda: socket.create_connection(listener.getsockname()[:2]))
        assert Counter(one.state for one in by_walk(walk, space.inode)) == {State.LISTEN: 1, State.ESTABLISHED: 2}
        listener.close()
        client.close()
        assert by_walk(walk, space.inode) == [], "nobody had accepted: a reset leaves nothing"
    finally:
        space.close()


def test_what_is_bound_and_listens_at_many_addresses_is_one_each(walk: SocketWalk) -> None:
    """More than one run of the program takes, in chains of several."""
    space = Netns()
    held = []
    try:
        for number in range(300):
            held.append(space.call(lambda at=number: socket.create_server((f"127.0.1.{at % 250 + 1}", 1000 + at))))
        found = by_walk(walk, space.inode)
        assert len(found) == 300 == len({one.ino for one in found})
        assert len(walk.records()) % FOUND_BYTES == 0
    finally:
        for one in held:
            one.close()
        space.close()


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with Worlds(WORLDS) as found:
        yield found


@pytest.mark.ss
@pytest.mark.parametrize("way", ["walked", "asked", "walked by a broker"])
def test_a_baseline_of_many_is_what_ss_shows_in_each(worlds: Worlds, way: str) -> None:
    """Whichever way it is made; and so is the next sweep's table."""
    words = [str(one.inode) for one in worlds.all]
    env = {**os.environ, "SSTRACE_WITHOUT": "sockets" if way == "asked" else ""}
    broker = Broker(env, unused_user(), spaces=True) if way == "walked by a broker" else None
    tracer = Tracer(env, netns=words, ways=AskedWays(broker) if broker is not None else None)
    try:
        tracer.start()
        assert (tracer.dumps.walks > 0) is (way != "asked")
        for world in worlds.all:
            rows = tracer.table.within(world.cookie)
            assert Counter(row.state for row in rows) == {State.LISTEN: 1, State.ESTABLISHED: 4}
            assert {(row.net, row.netns) for row in rows} == {(world.cookie, world.inode)}
        for world in worlds.all[:: WORLDS // 4]:
            assert held(tracer.table.within(world.cookie)) == shown(world)
        (again,) = tracer.sweep()
        assert isinstance(again, Resync)
        assert not [*again.added, *again.removed, *again.changed]
    finally:
        tracer.close()
        if broker is not None:
            broker.close()


def test_the_table_of_one_that_cannot_be_entered_is_walked(worlds: Worlds) -> None:
    """Before Linux 6.18 that is so of what only a socket or a descriptor keeps alive."""
    some = worlds.all[:3]
    tracer = Tracer(os.environ, netns=[str(one.inode) for one in some])
    try:
        for place in tracer.places:
            place.kernel.diag = _refuse
        tracer.start()
        assert tracer.dumps.walks == 1
        for world in some:
            states = Counter(row.state for row in tracer.table.within(world.cookie))
            assert states == {State.LISTEN: 1, State.ESTABLISHED: 4}
    finally:
        tracer.close()


def _refuse() -> Netlink:
    raise UnreachableError("this cannot be entered")
