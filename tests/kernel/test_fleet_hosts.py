"""Hosts that are traced at once into one engine, and asked there: what each host's own recording says, to the byte.

``SSTRACE_FLEET_HOSTS`` says how many hosts there are, ``SSTRACE_FLEET_MOMENTS`` at how many random moments they are
asked (scripts/verify-fleet: 20 and 50).
"""

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from engine_front import Front
from fleet_engine import make_tables
from parity_cases import command_lines
from routed_hosts import Host, recorded, routed
from tracing import wait

from sstrace.cli import main
from sstrace.output.fleet import FleetFile

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

HOSTS = int(os.environ.get("SSTRACE_FLEET_HOSTS", "3"))
MOMENTS = int(os.environ.get("SSTRACE_FLEET_MOMENTS", "3"))
QUESTIONS = 3
"""At each moment."""
_ELSEWHERE = ("-0", "-D", "-F", "-N", "-E", "-K", "--")
"""What asks for packet sockets (by a host's interfaces), for files, other namespaces, or what is to come."""

Captured = pytest.CaptureFixture[bytes]


@contextmanager
def reached(host: Host, port: int) -> Iterator[None]:
    """The engine, which listens on this side, at the same port of the host's loopback."""
    listener = host.space.call(socket.create_server, ("127.0.0.1", port))
    ends: list[socket.socket] = []

    def pass_on(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                here = listener.accept()[0]
                there = socket.create_connection(("127.0.0.1", port))
                ends.extend((here, there))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)
        for end in (listener, *ends):
            end.close()


def churn(hosts: list[Host], chance: random.Random) -> None:
    """Connections come and go."""
    for _ in range(2 * len(hosts)):
        host, other = chance.sample(hosts, 2)
        host.connect(other)
    for host in hosts:
        for end in chance.sample(host.ends, len(host.ends) // 4):
            host.ends.remove(end)
            end.close()


def arrive(engine: Front, spool: Path) -> None:
    """What a trace that ended has left behind, because the engine had others to serve, goes where the rest has gone."""
    said: list[str] = []
    way = FleetFile(f"clickhouse:{engine.url}", os.environ, said.append, spool=str(spool))
    wait(f"an empty {spool.name}", lambda: not way.queued, 120)
    way.close()
    assert not way.lost, said


def answer(capfdbinary: Captured, *words: str) -> tuple[int, bytes]:
    """Exit code and text."""
    code = main(list(words))
    return code, capfdbinary.readouterr().out


@pytest.mark.seconds(3600)
def test_an_engine_says_what_each_hosts_recording_says(tmp_path: Path, capfdbinary: Captured) -> None:
    chance = random.Random(20)
    # What the parity suite asks of ss, of TCP.
    asked = [
        line for line in command_lines() if not any(word[:2] in _ELSEWHERE or word.endswith(":lo") for word in line)
    ]
    folder = tmp_path / "recordings"
    folder.mkdir()
    with ExitStack() as stack:
        engine = stack.enter_context(Front(tmp_path / "engine"))
        make_tables(engine)
        hosts = stack.enter_context(routed(HOSTS))
        for host in hosts:
            stack.enter_context(reached(host, engine.port))
        sink = ("--sink", f"clickhouse:{engine.url}", "--sink", "stdout")
        with recorded(hosts, folder, lambda host: (*sink, "--spool", str(tmp_path / f"spool-{host.name}"))):
            began = time.time_ns()  # all have begun: a recorder's two streams do not begin in the same nanosecond
            for _ in range(max(MOMENTS, 4)):
                churn(hosts, chance)
                time.sleep(0.1)  # so that moments differ
            ended = time.time_ns()
        for host in hosts:
            arrive(engine, tmp_path / f"spool-{host.name}")
        source = f"clickhouse:{engine.url}"
        differences = compared = 0
        for _ in range(MOMENTS):
            at_ns = chance.randrange(began, ended)
            when = ("--at", f"@{at_ns // 10**9}.{at_ns % 10**9:09d}")
            for line in chance.sample(asked, QUESTIONS):
                words = ("--snapshot", "-t", *line, *when)
                name = chance.choice(hosts).name
                pairs = (
                    (("--from", str(folder / f"{name}.ndjson")), ("--from", source, "--host", name)),
                    (("--from", str(folder)), ("--from", source)),
                )
                for own, fleet in pairs:
                    one, other = answer(capfdbinary, *own, *words), answer(capfdbinary, *fleet, *words)
                    compared += 1
                    if one != other:
                        differences += 1
                        with capfdbinary.disabled():
                            print(f"differs: {' '.join((*fleet, *words))}\n{one}\n{other}")
        with capfdbinary.disabled():
            print(f"\n{HOSTS} hosts, {MOMENTS} moments, {compared} answers compared: {differences} differences")
        assert differences == 0
