"""What an answer takes from the live table and what from the kernel, where the two do not agree."""

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from bpf_events import HERE, SPACE
from conftest import Netns

from sstrace.live.exact import dumped
from sstrace.live.kernel import Kernel
from sstrace.live.places import Place, Places
from sstrace.live.source import LiveRows, look_at
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, InetSocket, Seen, State, SweepBegin, SweepEnd, Table
from sstrace.query.command import Selection
from sstrace.sources.diag import Diag
from sstrace.table import Row, SocketTable
from sstrace.wire import inet_diag

pytestmark = [pytest.mark.root]

HOME = Place(HERE, Kernel(lambda: None))
PAIRS = 400
"""More than are asked for one by one."""
TCP_REPAIR = 19
EVERY = Selection(tables=1 << Table.TCP, families=1 << AF_INET | 1 << AF_INET6, states=ALL_STATES)


class World:
    """Connections in a namespace, and a table that has them from a sweep."""

    def __init__(self, netns: Netns) -> None:
        self._netns = netns
        self.listener, self.opened = netns.call(self._open)
        self.table = SocketTable(HERE)
        self.table.begin(SweepBegin(SPACE, 1))
        for found in netns.call(_dump):
            self.table.seen(Seen(SPACE, found))
        self.table.end(SweepEnd(SPACE, 2, complete=True))

    @staticmethod
    def _open() -> tuple[socket.socket, list[socket.socket]]:
        listener = socket.socket(socket.AF_INET6)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.listen(128)
        opened = []
        for number in range(PAIRS):
            address = "::1" if number % 2 else "127.0.0.1"
            client = socket.create_connection((address, listener.getsockname()[1]))
            opened += [client, listener.accept()[0]]
        return listener, opened

    def row(self, of: socket.socket) -> Row:
        """The row of a connected socket."""
        end = of.getsockname()[1], of.getpeername()[1], of.getpeername()[0].removeprefix("::ffff:")
        (found,) = [row for row in self.table if end_of(row) == end]
        return found

    def rows(self, selection: Selection = EVERY, **how: Any) -> list[InetSocket]:
        """What an answer shows."""
        live = LiveRows(self.table, HOME, how.pop("news", lambda: True))

        def ask() -> list[InetSocket]:
            return [row for rows in live.rows(Table.TCP, selection, ext=0, attributes=False, **how) for row in rows]

        return self._netns.call(ask)

    def look_at(self, rows: list[Row]) -> list[InetSocket]:
        found = self._netns.call(look_at, Places(HOME), rows, 0).values()
        return [socket for socket in found if isinstance(socket, InetSocket)]

    def close(self) -> None:
        for opened in (self.listener, *self.opened):
            opened.close()


def _dump() -> list[InetSocket]:
    with Diag() as diag:
        return [found for family in (AF_INET, AF_INET6) for found in dumped(diag, family, ALL_STATES)]


@pytest.fixture
def world(netns: Netns) -> Iterator[World]:
    made = World(netns)
    yield made
    made.close()


End = tuple[int, int, str]


def end_of(row: Row | InetSocket) -> End:
    """Ports alone do not tell: IPv4 and IPv6 may have the same."""
    peer = str(ipaddress.ip_address(row.dst)).removeprefix("::ffff:")
    return row.sport, row.dport, "127.0.0.1" if peer in ("127.0.0.1", "7f00:1") else peer


def ends(rows: list[InetSocket]) -> set[End]:
    return {end_of(row) for row in rows}


def taker(taken: list[InetSocket]) -> Callable[[memoryview], bool]:
    def take(datagram: memoryview) -> bool:
        batch = inet_diag.decode(datagram, Table.TCP)
        taken.extend(batch.rows)
        return bool(batch.rows)

    return take


def test_datagrams_that_agree_are_taken_whole(world: World) -> None:
    """Mapped IPv4 addresses of the dual listener's children among them."""
    taken: list[InetSocket] = []
    (listener,) = world.rows(take=taker(taken))
    assert listener.state == State.LISTEN
    assert len(taken) == 2 * PAIRS


def test_what_the_table_does_not_know_is_left_out(world: World) -> None:
    news = world.row(world.opened[0])
    world.table.home.index.remove(news)
    taken: list[InetSocket] = []
    rows = world.rows(take=taker(taken))
    assert len(rows) > 1, "a datagram that does not agree is looked at row by row"
    assert len(rows) + len(taken) == 2 * PAIRS
    assert end_of(news) not in ends(rows) | ends(taken)


def test_the_state_is_that_of_the_table(world: World) -> None:
    changed = world.row(world.opened[0])
    world.table.home.index.restate(changed, int(State.CLOSE_WAIT))
    taken: list[InetSocket] = []
    (shown,) = [
        row for row in world.rows(take=taker(taken)) if (row.sport, row.dport) == (changed.sport, changed.dport)
    ]
    assert shown.state == State.CLOSE_WAIT
    assert end_of(changed) not in ends(taken)
    established = msgspec.structs.replace(EVERY, states=1 << State.ESTABLISHED)
    assert end_of(changed) not in ends(world.rows(established))
    # Its kernel row is in another state: whoever asks for it alone is told that it has moved on.
    assert world.rows(msgspec.structs.replace(EVERY, states=1 << State.CLOSE_WAIT)) == []


def test_without_news_nothing_is_looked_up(world: World) -> None:
    """The kernel then shows what the table has: here, where that is not so, it shows what the kernel has."""
    world.table.home.index.remove(world.row(world.opened[0]))
    taken: list[InetSocket] = []
    world.rows(take=taker(taken), news=lambda: False)
    assert len(taken) == 2 * PAIRS


def test_a_filter_that_the_kernel_refuses_is_told_and_left_to_the_printer(world: World) -> None:
    complaints: list[int] = []
    rows = world.rows(bytecode=b"\xff" * 8, complain=complaints.append)
    assert len(rows) == 2 * PAIRS + 1
    assert set(complaints) == {22}


def test_one_family(world: World) -> None:
    rows = world.rows(msgspec.structs.replace(EVERY, preferred=AF_INET))
    assert {row.family for row in rows} == {AF_INET}
    assert len(rows) == PAIRS // 2


def test_few_rows_are_asked_for_one_by_one_in_the_order_of_their_ports(world: World) -> None:
    for client in world.opened[:20:2]:
        world.table.home.index.restate(world.row(client), int(State.CLOSE_WAIT))
    live = LiveRows(world.table, HOME)
    assert live.count(1 << State.CLOSE_WAIT | 1 << State.LISTEN) == (1, 10)
    for client in world.opened[1:21:2]:
        client.shutdown(socket.SHUT_WR)
    rows = world.rows(msgspec.structs.replace(EVERY, states=1 << State.CLOSE_WAIT))
    assert len(rows) == 10
    for family in (AF_INET, AF_INET6):
        ports = [row.sport for row in rows if row.family == family]
        assert ports == sorted(ports)


def test_rows_that_somebody_names(world: World) -> None:
    few = [world.row(opened) for opened in world.opened[:10]]
    assert ends(world.look_at(few)) == {end_of(row) for row in few}
    many = [world.row(opened) for opened in world.opened]
    assert len(world.look_at(many)) == 2 * PAIRS
    gone = world.opened[0]
    gone.close()
    world.opened[1].close()
    assert len(world.look_at(few)) == 8


@pytest.mark.parametrize("known", [True, False], ids=["by its cookie", "whose cookie is not known"])
def test_a_connection_on_a_device_is_found_beside_one_that_is_on_none(netns: Netns, *, known: bool) -> None:
    """Both between the same addresses; asked for one, the kernel finds the other alone."""

    def connect(target: tuple[str, int], port: int, device: bytes) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        made.bind(("127.0.0.1", port))
        made.connect(target)
        return made

    def look() -> tuple[list[int], list[list[int]]]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            on_device = connect(listener.getsockname(), 0, b"lo")
            forgotten = listener.accept()[0]
            forgotten.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
            forgotten.close()  # without a segment: its peer does not know
            with on_device, connect(listener.getsockname(), on_device.getsockname()[1], b""):
                table = SocketTable(HERE)
                table.begin(SweepBegin(SPACE, 1))
                for found in _dump():
                    table.seen(Seen(SPACE, found))
                table.end(SweepEnd(SPACE, 2, complete=True))
                clients = [row for row in table if row.dport == listener.getsockname()[1]]
                for row in clients:
                    row.cookie = row.cookie if known else None
                answers = HOME.kernel.exact(clients)
                live = LiveRows(table, HOME)
                shown = [one for rows in live.rows(Table.TCP, EVERY, ext=0, attributes=False) for one in rows]
                return (
                    sorted(one.ifindex for one in shown if one.dport == listener.getsockname()[1]),
                    sorted([one.ifindex for one in answer] for answer in answers),
                )

    assert netns.call(look) == ([0, 1], [[0], [1]])


SWEEPING = """
import socket
import sys
from sstrace.live import kernel, sweeps
from sstrace.live import tracer as module
from sstrace.model import ALL_STATES, InetSocket, State
from sstrace.sources.diag import Diag

sweeps.DRAIN_NS = kernel.DRAIN_NS = -1  # after every datagram
listener = socket.create_server(("127.0.0.1", 0), backlog=512)
opened = []

def connect():
    client = socket.create_connection(listener.getsockname())
    opened.append((client, listener.accept()[0]))

for _ in range(500):
    connect()
tracer = module.Tracer({})
tracer.start()
calls = 0

def meanwhile():
    global calls
    if tracer.meanwhile is None:
        return
    tracer.meanwhile = None  # as a server does not answer while it answers
    calls += 1
    for end in opened.pop(calls % len(opened)):
        end.close()
    connect()
    for _ in tracer.settle():
        pass
    tracer.meanwhile = meanwhile

tracer.meanwhile = meanwhile
resyncs = []
for change in tracer.sweep():
    if isinstance(change, module.Resync):
        resyncs.append((len(change.added), len(change.removed), len(change.changed)))
tracer.meanwhile = None
for _ in tracer.settle():
    pass
assert calls > 4, calls
assert resyncs == [(0, 0, 0)], resyncs
key = lambda row: (row.state, row.sport, row.dport)
shown = sorted(map(key, next(iter(tracer.places)).kernel.dump(ALL_STATES)[0]))
table = sorted(map(key, tracer.table))
assert table == shown, (set(table) ^ set(shown))
rare = sorted(map(key, tracer.table.in_states(~(1 << State.ESTABLISHED))))
assert rare == [row for row in table if row[0] != State.ESTABLISHED]
tracer.close()
print("right", calls)
"""


@pytest.mark.bpf
def test_events_folded_in_the_middle_of_a_sweep_change_nothing(netns: Netns) -> None:
    """A server answers while it sweeps, and an answer folds in what has happened."""
    result = netns.run(sys.executable, "-c", SWEEPING, check=False)
    assert result.stdout.startswith(b"right"), result.stderr.decode()
