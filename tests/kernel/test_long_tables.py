"""Tables that are long enough for every short cut, and motley enough for none to be taken blindly: equal to ss."""

import random
import resource
import socket
from collections.abc import Iterator

import parity
import pytest
from conftest import Netns, Program

pytestmark = [pytest.mark.root, pytest.mark.ss]

CONNECTIONS = 1500
TCP_CONGESTION = 13
SO_MARK = 36
LINES = (
    "-tan",
    "-tani",
    "-tai",
    "-4tanie",
    "-6taneim",
    "-tanOioem",
    "-tanmie --cgroup --tos --inet-sockopt",
    "-tani src 127.0.0.1 and sport gt :40000",
    "-tane src [::1] or fwmark = 7",
    "-Htnim state fin-wait-2",
)


@pytest.fixture(scope="module")
def bench(module_netns: Netns, ss: Program) -> Iterator[parity.Bench]:
    bench = parity.Bench(module_netns.prefix, ss.head[-1])  # first: it waits with select, for low descriptors only
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], min(3 * CONNECTIONS, before[1])), before[1]))
    held = module_netns.call(connect_all)
    yield bench
    bench.close()
    for one in held:
        one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def connect_all() -> list[socket.socket]:
    """Pairs of both families, of whatever congestion control there is; some marked, used, half closed."""
    rng = random.Random(4)
    listeners = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
    held = [*listeners]
    for number in range(CONNECTIONS):
        listener = listeners[number % 3 == 0]
        client = socket.socket(listener.family)
        if number % 5 == 0:
            client.setsockopt(socket.SOL_SOCKET, SO_MARK, 7)
        for name in (b"reno", b"cubic", b"bbr", b"dctcp")[: number % 5]:
            try:
                client.setsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, name)
            except OSError:  # not in this kernel
                continue
        client.connect(listener.getsockname()[:2])
        server = listener.accept()[0]
        for _ in range(number % 4):
            client.sendall(bytes(rng.randrange(1, 5000)))
            if rng.random() < 0.5:
                server.recv(65536)
        if number % 7 == 0:
            client.shutdown(socket.SHUT_WR)
        elif number % 11 == 0:
            server.shutdown(socket.SHUT_RD)
        held += [client, server]
    return held


@pytest.mark.parametrize("line", LINES)
def test_long_tables_are_those_of_ss(bench: parity.Bench, line: str) -> None:
    outcome = bench.compare(line.split())
    assert outcome.same, outcome.why
