"""--sink clickhouse beside --record, over real connections: both processes killed, and every line is there once."""

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from conftest import Netns, Program
from engine_front import Front
from tracing import Trace, wait

from sstrace.fleet import schema
from sstrace.lines import EventLine

pytestmark = [pytest.mark.root, pytest.mark.bpf]

CONNECTIONS = """
import socket
listener = socket.create_server(("127.0.0.1", 8080), backlog=64)
for _ in range(400):
    with socket.create_connection(("127.0.0.1", 8080)) as client, listener.accept()[0] as server:
        client.sendall(b"x")
"""
MISSED = "tracing goes on, lines wait in"
decode = msgspec.json.Decoder(EventLine).decode


class Asked:
    """An engine in a network namespace, where the trace is."""

    def __init__(self, netns: Netns, engine: Front) -> None:
        self.netns = netns
        self.engine = engine

    def ask(self, sql: str, **settings: object) -> str:
        return str(self.netns.call(lambda: self.engine.ask(sql, **settings)))

    def lines(self, run: str) -> dict[int, EventLine]:
        """Those with a number of their own, by it, and each once."""
        where = f"run = '{run}' AND nth = 0"
        text = self.ask(f"SELECT {schema.LINE} FROM lines FINAL WHERE {where} FORMAT TSVRaw", **schema.READ)
        found = [decode(line) for line in text.splitlines()]
        assert len(found) == int(self.ask(f"SELECT uniqExact(seq) FROM lines WHERE {where}"))
        return {getattr(line, "seq", 0): line for line in found}


def recorded(path: Path) -> dict[int, EventLine]:
    """The same of a file: what repeats a number comes later."""
    found: dict[int, EventLine] = {}
    for line in path.read_bytes().splitlines():
        one = decode(line)
        found.setdefault(getattr(one, "seq", 0), one)
    return found


def connect(netns: Netns) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*netns.prefix, sys.executable, "-c", CONNECTIONS])


def test_killed_in_the_middle_every_line_is_there_once(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """The engine under load; then the trace, while the engine is away; the next trace brings what is missing."""
    with Front(tmp_path / "engine", database=None, prefix=netns.prefix) as engine:
        asked = Asked(netns, engine)
        netns.call(lambda: engine.use("fleet"))
        for statement in schema.ddl("1"):
            asked.ask(statement)
        words = ("--sink", f"clickhouse:{engine.address}", "--spool", str(tmp_path / "spool"))
        trace = Trace(sstrace, netns, tmp_path, *words, "--record", str(tmp_path / "day.ndjson"), json_lines=False)
        with trace:
            for _ in range(2):
                load = connect(netns)
                before = int(asked.ask("SELECT count() FROM lines"))
                wait("lines come", lambda b=before: int(asked.ask("SELECT count() FROM lines")) > b)  # type: ignore[misc]
                missed = trace.stderr.count(MISSED)
                engine.kill()
                assert load.wait() == 0
                assert connect(netns).wait() == 0  # the other load may have been over
                wait("it is missed", lambda n=missed: trace.stderr.count(MISSED) > n)  # type: ignore[misc]
                engine.start()
                wait("it goes on", lambda n=missed: trace.stderr.count("takes lines again") > n, 60)  # type: ignore[misc]
            engine.kill()
            assert connect(netns).wait() == 0
            seen = len(recorded(tmp_path / "day.ndjson"))
            wait("they are recorded", lambda: len(recorded(tmp_path / "day.ndjson")) >= seen + 100)
            trace.stop(signal.SIGKILL)
        engine.start()
        done = sstrace(*words, "--duration", "1", netns=netns)
        assert done.returncode == 0, done.stderr
        assert b"from before go to" in done.stderr
        assert asked.ask("SELECT uniqExact(run) FROM lines").strip() == "2"
        first = asked.ask("SELECT run FROM runs GROUP BY run ORDER BY min(began) LIMIT 1").strip()
        here, there = recorded(tmp_path / "day.ndjson"), asked.lines(first)
        last = min(max(here), max(there))  # killed between the two
        assert last > 4000
        assert {seq: one for seq, one in here.items() if seq <= last} == {
            seq: one for seq, one in there.items() if seq <= last
        }
        assert sorted(there) == list(range(max(there) + 1))
        assert not list((tmp_path / "spool").rglob("0*"))
