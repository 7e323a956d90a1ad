"""What connections carry, out of the tcp_info of real ones: totals, rates, what is kept, and the order by it."""

import socket
from collections.abc import Iterator

import msgspec
import pytest
from test_watched import World

from sstrace.fields import Reported
from sstrace.model import Extras, InetSocket, State
from sstrace.rows import socket_of
from sstrace.table import Transition
from sstrace.watch.carried import Carried, texts
from sstrace.watch.order import by_figures

S = 1_000_000_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with client, server:
        yield client, server


def carry(sender: socket.socket, receiver: socket.socket, size: int) -> None:
    sender.sendall(b"x" * size)
    while size:
        size -= len(receiver.recv(size))


def told(world: World, end: socket.socket, state: State = State.ESTABLISHED) -> InetSocket:
    """The row of netlink, with tcp_info as the kernel makes it for getsockopt too."""
    found = socket_of(world.row(state))
    return msgspec.structs.replace(found, extras=Extras(info=end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)))


def test_totals_are_exact_and_rates_take_two_looks(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    world, carried = World(), Carried(S // 2)
    carry(client, server, 3000)
    carried.take({1: told(world, client), 2: told(world, server)}, 10 * S)
    first = carried.of(1, None)
    assert first is not None
    assert (first.reported.bytes_sent, first.reported.bytes_received, first.sent_rate) == (3000, 0, None)
    assert set(texts(first)) == {"sent", "received", "rtt"}, "no rate is known yet"
    carry(client, server, 5000)
    carried.take({1: told(world, client), 2: told(world, server)}, 12 * S)
    one, two = carried.of(1, None), carried.of(2, None)
    assert one is not None
    assert two is not None
    assert (one.reported.bytes_sent, one.sent_rate, one.received_rate) == (8000, 2500.0, 0.0)
    assert (two.reported.bytes_received, two.received_rate, two.sent_rate) == (8000, 2500.0, 0.0)
    carry(client, server, 1000)
    carried.take({1: told(world, client)}, 12 * S + S // 4)
    assert (one.reported.bytes_sent, one.sent_rate) == (9000, 2500.0), "a picture at a key: too soon for a rate"
    carried.take({1: told(world, client)}, 13 * S)
    assert one.sent_rate == 1000.0
    carried.keep({2})
    assert carried.of(1, None) is None
    assert carried.of(2, None) is two


def test_listeners_and_what_has_no_tcp_info_have_no_figures(pair: tuple[socket.socket, socket.socket]) -> None:
    world, carried = World(), Carried(S)
    listener = told(world, pair[0], State.LISTEN)
    carried.take({1: listener, 2: socket_of(world.row(State.TIME_WAIT))}, S)
    assert carried.of(1, None) is carried.of(2, None) is None
    assert texts(None) == {}


def test_a_fin_is_no_payload(pair: tuple[socket.socket, socket.socket]) -> None:
    client, server = pair
    world, carried = World(), Carried(S)
    carry(client, server, 40)
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    carried.take({1: told(world, server)}, S)
    found = carried.of(1, None)
    assert found is not None
    assert found.reported.bytes_received == 40


def test_the_end_has_the_last_word(pair: tuple[socket.socket, socket.socket]) -> None:
    world, carried = World(), Carried(S)
    carried.take({1: told(world, pair[0])}, S)
    row = world.row(State.TIME_WAIT)
    reported = Reported(bytes_sent=70, bytes_received=0, rtt_us=1500)
    end = Transition(S, row, State.FIN_WAIT2, State.TIME_WAIT, S, "fin-by-us", reported, True, ended=True)
    assert texts(carried.of(1, end)) == {"sent": "70", "received": "0", "rtt": "1.5ms"}
    unread = msgspec.structs.replace(end, reported=Reported())
    assert carried.of(1, unread) is carried.of(1, None)


def test_the_order_by_what_was_sent_is_most_first_and_the_unknown_last(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    world, carried = World(), Carried(S)
    carry(*pair, 300)
    rows = [world.row(State.ESTABLISHED) for _ in range(3)]
    carried.take({rows[1].id: told(world, pair[0]), rows[2].id: told(world, pair[1])}, S)
    sorts = by_figures(lambda row: carried.of(row.id, None))

    def order(name: str) -> list[int]:
        return [rows.index(row) for row in sorted(rows, key=lambda row: sorts[name](row, row.state, 0))]

    assert order("sent") == [1, 2, 0]
    assert order("received") == [2, 1, 0]
    assert order("rtt")[-1] == 0
    assert set(sorts) == {"sent", "received", "sent/s", "received/s", "rtt"}
