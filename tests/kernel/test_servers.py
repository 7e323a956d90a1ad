"""A server that counts its own bytes counts those that ``--life`` tells."""

import random
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Netns, Program
from tracing import Trace, wait

pytestmark = [
    pytest.mark.root,
    pytest.mark.bpf,
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed"),
]

PORT = 6379
ASK = b"INFO stats\r\n"


@pytest.fixture
def redis(netns: Netns, tmp_path: Path) -> Iterator[None]:
    words = ["redis-server", "--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen([*netns.prefix, *words], stdout=subprocess.DEVNULL)

    def answers() -> bool:
        try:
            netns.call(socket.create_connection, ("127.0.0.1", PORT)).close()
        except ConnectionRefusedError:
            return False
        return True

    try:
        wait("redis listens", answers)
        yield
    finally:
        process.terminate()
        process.wait(30)


def read(of: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := of.recv(size - len(got))):
        got += more
    return got


def talk(chance: random.Random) -> None:
    """A client: some values, there and back."""
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as client:
        for _ in range(chance.randrange(1, 9)):
            value = chance.randbytes(chance.choice((0, 1, 77, 5_000, 100_000)))
            client.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%b\r\n" % (len(value), value))
            assert read(client, 5) == b"+OK\r\n"
            client.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n")
            answer = b"$%d\r\n%b\r\n" % (len(value), value)
            assert read(client, len(answer)) == answer


def counters() -> tuple[int, int, int]:
    """Bytes that redis has sent and received by the time of this question, which is among what it received; and those
    of its answer, which is not among what it sent.
    """
    with socket.create_connection(("127.0.0.1", PORT), timeout=20) as client:
        client.sendall(ASK)
        told = b""
        while not told.endswith(b"\r\n\r\n"):
            told += client.recv(65536)
    lines = (line.partition(":") for line in told.decode().splitlines())
    found = {name: int(value) for name, _, value in lines if value.isdecimal()}
    return found["total_net_output_bytes"], found["total_net_input_bytes"], len(told)


@pytest.mark.usefixtures("redis")
def test_redis_has_counted_the_same(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    chance = random.Random(3)
    before = netns.call(counters)
    with Trace(sstrace, netns, tmp_path, "--life", f"sport = :{PORT}") as running:
        for _ in range(40):
            netns.call(talk, chance)
        wait("every end", lambda: sum(line["type"] == "life" for line in running.lines) == 40)
    after = netns.call(counters)
    lives = [line for line in running.lines if line["type"] == "life"]
    assert sum(line["bytes_sent"] for line in lives) == after[0] - before[0] - before[2]
    assert sum(line["bytes_received"] for line in lives) == after[1] - before[1] - len(ASK)
