"""--sink clickhouse over the real engine: what a recorder writes is there, whole and once, whatever happens between."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import tapes
from conftest import unmet
from engine_front import Front
from tapes import OFFSET_NS, Tape
from tracing import wait

from sstrace.errors import FeatureError, SstraceError, UsageError
from sstrace.fleet import schema
from sstrace.lines import EventLine
from sstrace.output import fleet
from sstrace.output.fleet import FleetFile, check, spool_folder
from sstrace.query.command import When
from sstrace.recording import past
from sstrace.recording.reader import RecordedNames, row_of
from sstrace.sources import clickhouse, spool
from sstrace.sources.clickhouse import Away, Engine, address_of
from sstrace.sources.record import RecordFile
from sstrace.sources.replay import Recording

often = tapes.often
decode = msgspec.json.Decoder(EventLine).decode


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("engine"), users={"default": "", "bob": "secret"}) as front:
        yield front


@pytest.fixture
def engine(front: Front, request: pytest.FixtureRequest) -> Front:
    """An engine with empty tables."""
    front.use(request.node.name)
    for statement in schema.ddl("1"):
        front.ask(statement)
    return front


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "_GATHERED_S", 0.02)
    monkeypatch.setattr(fleet, "_LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(fleet, "_FIRST_WAIT_S", 0.05)


class Both:
    """The same lines into an engine and into a file."""

    def __init__(self, sink: FleetFile, path: Path) -> None:
        self.sink = sink
        self._file = RecordFile(str(path))

    @property
    def size(self) -> int:
        return self.sink.size

    @property
    def ready(self) -> bool:
        return self.sink.ready

    @property
    def queued(self) -> int:
        return self.sink.queued

    @property
    def lost(self) -> int:
        return self.sink.lost

    def write(self, data: bytes | bytearray) -> None:
        self.sink.write(data)
        self._file.write(data)

    def close(self) -> None:
        self.sink.close()
        self._file.close()

    def summary(self) -> str:
        return self.sink.summary()


def sink_of(engine: Front, folder: Path, say: Callable[[str], None] = print, spool: str = "") -> FleetFile:
    return FleetFile(f"clickhouse:{engine.address}", {}, say, spool=spool or str(folder / "spool"))


def kept(engine: Front) -> bytes:
    """All lines of all runs in the engine, as in a recording."""
    sql = f"SELECT {schema.LINE} FROM lines FINAL ORDER BY host, run, seq, nth FORMAT TSVRaw"
    return engine.ask(sql, **schema.READ).encode()


def in_order(lines: bytes) -> list[EventLine]:
    return [decode(line) for line in lines.splitlines()]


def rows_at(path: Path, when: When) -> dict[int, tapes.RowKey]:
    names = RecordedNames({})
    with Recording(str(path)) as source:
        found, reader = past.look_back(source, when, names)
        reader.finish()
    return {number: tapes.key(row_of(line, names)) for number, line in found.rows.items()}


@pytest.mark.usefixtures("often")
def test_nothing_is_lost_and_nothing_twice_though_the_engine_dies(engine: Front, tmp_path: Path) -> None:
    """Killed in the middle of inserts, again and again."""
    said: list[str] = []
    both = Both(sink_of(engine, tmp_path, said.append), tmp_path / "file.ndjson")
    tape = Tape(tmp_path / "x", 5, sweeps=True, loss=0.02, into=both)
    for _ in range(2):
        tape.run(60)
        tape.recorder._flush()
        wait("some lines are there", lambda: engine.ask("SELECT count() > 0 FROM lines").strip() == "1")
        tape.run(20)
        engine.kill()
        tape.run(60)
        tape.recorder._flush()
        wait("the sink has seen it", lambda: both.sink.stuck is not None)
        engine.start()
        wait("it goes on", lambda: both.sink.stuck is None)
    tape.run(30).close()
    file = tmp_path / "file.ndjson"
    assert both.summary() == ""
    assert in_order(kept(engine)) == in_order(file.read_bytes())
    assert [text.partition(": ")[2] for text in said] == [
        f"Connection refused: tracing goes on, lines wait in {both.sink._spool.folder}", "",
    ] * 2  # fmt: skip
    assert [path.name for path in (tmp_path / "spool").rglob("*")] == [Path(both.sink._spool.folder).name]
    # What the engine gives back is a recording, of which every moment can be asked.
    (tmp_path / "again.ndjson").write_bytes(kept(engine))
    for at_ns, _, rows in tape.moments[::40]:
        assert rows_at(tmp_path / "again.ndjson", When("utc", at_ns + OFFSET_NS, "")) == rows


def test_an_engine_that_hangs_is_left_and_tried_again(
    engine: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has taken the connection, and says nothing."""
    monkeypatch.setattr(clickhouse, "_ANSWER_S", 1)
    said: list[str] = []
    both = Both(sink_of(engine, tmp_path, said.append), tmp_path / "file.ndjson")
    tape = Tape(tmp_path / "x", 10, into=both).run(20)
    engine.stop()
    tape.run(20)
    tape.recorder._flush()
    wait("the sink has seen it", lambda: both.sink.stuck is not None)
    engine.stop(on=False)
    wait("it goes on", lambda: both.sink.stuck is None)
    tape.run(20).close()
    assert "timed out: tracing goes on, lines wait in" in said[0]
    assert in_order(kept(engine)) == in_order((tmp_path / "file.ndjson").read_bytes())


def test_an_answer_that_was_lost_makes_nothing_twice(engine: Front, tmp_path: Path) -> None:
    """The engine took the rows, and the sink never heard of it."""
    sink = sink_of(engine, tmp_path)
    insert = sink._engine.insert
    failed: list[int] = []

    def lossy(*arguments: object) -> None:
        insert(*arguments)  # type: ignore[arg-type]
        if len(failed) < 2:
            failed.append(1)
            raise Away("no answer")

    sink._engine.insert = lossy  # type: ignore[method-assign,assignment]
    both = Both(sink, tmp_path / "file.ndjson")
    Tape(tmp_path / "x", 6, into=both).run(40).close()
    assert failed == [1, 1]
    assert in_order(kept(engine)) == in_order((tmp_path / "file.ndjson").read_bytes())


@pytest.mark.usefixtures("often")
def test_what_waits_goes_with_the_next_one(engine: Front, tmp_path: Path) -> None:
    """An engine that is away from the beginning to the end; then one that is there; the order of runs is kept."""
    engine.kill()
    said: list[str] = []
    first = Both(sink_of(engine, tmp_path, said.append), tmp_path / "first.ndjson")
    Tape(tmp_path / "x", 7, into=first).run(40).close()
    assert "lines wait in" in said[0]
    assert "until it answers" in said[0]
    assert first.summary().endswith("for the next time")
    engine.start()
    sink = sink_of(engine, tmp_path, said.append)
    assert said[-1].endswith(f"from before go to {engine.address} first")
    sink.close()
    assert in_order(kept(engine)) == in_order((tmp_path / "first.ndjson").read_bytes())
    assert [path.name for path in (tmp_path / "spool").rglob("*")] == [Path(sink._spool.folder).name]


@pytest.mark.usefixtures("often")
def test_a_full_spool_makes_a_hole_that_is_told(engine: Front, tmp_path: Path) -> None:
    engine.kill()
    said: list[str] = []
    sink = sink_of(engine, tmp_path, said.append, spool=f"{tmp_path}/spool,300k")
    tape = Tape(tmp_path / "x", 8, into=sink, say=said.append)
    while not tape.recorder.failed:
        before = len(tape.moments)
        tape.run(10)
        tape.recorder._flush()
    assert "is full: tracing goes on, the recording has a hole here" in said[-1]
    tape.run(20)
    after = len(tape.moments)
    engine.start()
    wait("all of it has been taken", lambda: not sink._spool.size)
    tape.recorder._retry_ns = 0
    tape.run(5).close()
    assert said[-1].endswith(f"{tape.recorder.unwritten} lines are missing")
    assert not tape.recorder.failed
    unwritten = engine.ask("SELECT sum(unwritten) FROM checkpoints FINAL").strip()
    assert int(unwritten) == tape.recorder.unwritten > 0
    (tmp_path / "again.ndjson").write_bytes(kept(engine))
    for at_ns, _, rows in (*tape.moments[:before:20], *tape.moments[after + 1 :]):
        assert rows_at(tmp_path / "again.ndjson", When("utc", at_ns + OFFSET_NS, "")) == rows


def test_what_the_engine_cannot_read_is_set_aside(engine: Front, tmp_path: Path) -> None:
    """A damaged file of a dead process stops nothing, and what is whole beside it is taken."""
    folder = Path(spool_folder(str(tmp_path / "spool"), address_of(engine.address, ""), {})[0])
    (folder / "1-1").mkdir(parents=True)
    good = b'{"host":"a","run":"r","type":"mark","ts":"2026-11-20T15:57:06.353869961Z","mono_ns":7,"seq":%d,"nth":1}\n'
    (folder / "1-1" / "00000001").write_bytes(good % 1 + b"{]\n")
    (folder / "1-1" / "00000002").write_bytes(good % 2 + good[:30])
    said: list[str] = []
    sink = sink_of(engine, tmp_path, said.append)
    sink.close()
    assert engine.ask("SELECT seq FROM lines").split() == ["2"]
    assert "2 lines are left out, and kept as" in said[-1]
    assert sink.summary() == ", 2 refused"
    assert [path.name for path in (folder / "1-1").iterdir() if path.suffix] == ["00000001.refused"]


@pytest.mark.usefixtures("often")
def test_what_waits_for_long_takes_little_room(engine: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compressed, by whoever cannot send it, and taken along like all else."""
    monkeypatch.setattr(spool, "_PIECE", 100_000)
    engine.kill()
    both = Both(sink_of(engine, tmp_path), tmp_path / "file.ndjson")
    tape = Tape(tmp_path / "x", 9, into=both)
    for _ in range(10):
        tape.run(20)
        tape.recorder._flush()

    def packed() -> bool:
        endings = Counter(path.suffix for path in (tmp_path / "spool").rglob("0*"))
        return endings[".zst"] >= 5 and endings.total() - endings[".zst"] <= 1  # the one that is being written

    wait("it is packed", packed)
    tape.close()
    assert both.sink.queued < (tmp_path / "file.ndjson").stat().st_size / 3
    left = next((tmp_path / "spool").rglob("*.zst"))
    (left.parent / "00000000.zst").write_bytes(left.read_bytes()[:50])  # a damaged one has nothing to give
    engine.start()
    sink = sink_of(engine, tmp_path)
    wait("all of it is there", lambda: not sink.queued)
    sink.close()
    assert in_order(kept(engine)) == in_order((tmp_path / "file.ndjson").read_bytes())
    assert list((tmp_path / "spool").rglob("0*")) == []


def test_two_at_once_share_a_directory(engine: Front, tmp_path: Path) -> None:
    sinks = [sink_of(engine, tmp_path) for _ in range(2)]
    tapes_ = [Tape(tmp_path / "x", seed, into=sink) for seed, sink in enumerate(sinks)]
    for tape in tapes_:
        tape.run(5).close()
    assert int(engine.ask("SELECT uniqExact(seq, nth) FROM lines")) > 10


# -------------------------------------------------------------------------------------------------------- sentences


def refusal(address: str, tmp_path: Path, **env: str) -> SstraceError:
    with pytest.raises(SstraceError) as caught:
        FleetFile(f"clickhouse:{address}", env, print, spool=str(tmp_path / "spool"))
    return caught.value


def test_what_is_wrong_is_said_with_what_mends_it(front: Front, tmp_path: Path) -> None:
    front.use("empty")
    lacking = refusal(front.address, tmp_path)
    assert isinstance(lacking, FeatureError)
    assert str(lacking) == (
        f"{front.address} lacks tables, or columns, that this sstrace writes (lines, checkpoints, runs): "
        "sstrace --fleet-schema | clickhouse-client --host 127.0.0.1 --database empty"
    )
    assert str(refusal(f"{front.url}/nope", tmp_path)) == (
        f"{front.url}/nope has no database nope: clickhouse-client --host 127.0.0.1 --query 'CREATE DATABASE nope'"
    )
    bob = front.address.replace("://", "://bob@")
    assert "does not let user bob in" in str(refusal(bob, tmp_path))
    assert "does not let user bob in" in str(refusal(bob, tmp_path, CLICKHOUSE_PASSWORD="no"))
    assert str(refusal(bob, tmp_path, CLICKHOUSE_PASSWORD_FILE="/nowhere/it/is")).startswith(
        "cannot read CLICKHOUSE_PASSWORD_FILE /nowhere/it/is: No such file"
    )
    (tmp_path / "password").write_text("secret\n")
    for statement in schema.ddl("1"):
        front.ask(statement)
    for env in ({"CLICKHOUSE_PASSWORD": "secret"}, {"CLICKHOUSE_PASSWORD_FILE": f"{tmp_path}/password"}):
        FleetFile(f"clickhouse:{bob}", env, print, spool=str(tmp_path / "spool")).close()
    front.ask("ALTER TABLE lines DROP COLUMN lost")
    assert "writes (lines.lost)" in str(refusal(front.address, tmp_path))


def test_without_the_client_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    error = refusal("http://127.0.0.1:9", tmp_path)
    assert isinstance(error, FeatureError)
    assert str(error) == (
        "--sink clickhouse needs ClickHouse's client (clickhouse_connect is missing): pip install 'sstrace[clickhouse]'"
    )
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://a:b@c", "everybody can read a password on a command line"),
        ("ftp://c", "an address looks like http://USER@HOST:8123/DATABASE"),
        ("", "an address looks like"),
        ("http://c:99999", "an address looks like"),
        ("http://c/a/b", "an address looks like"),
        ("http://c/a?x=1", "an address looks like"),
    ],
)
def test_addresses_that_are_none(address: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        address_of(address, "--sink clickhouse:")


def test_addresses() -> None:
    address = address_of("https://bob@[::1]/x", "")
    assert (address.user, address.port, address.database) == ("bob", 8443, "x")
    assert address.text == "https://[::1]:8443/x"
    assert address_of("http://ch1", "").text == "http://ch1:8123/sstrace"


def test_where_lines_wait() -> None:
    address = address_of("http://ch1", "")
    name = "ch1-8123-sstrace"
    assert spool_folder("/a/", address, {}) == (f"/a/{name}", 1 << 30)
    assert spool_folder("/a,2M", address, {}) == (f"/a/{name}", 2 << 20)
    assert spool_folder("2M", address, {"STATE_DIRECTORY": "/s:/t"}) == (f"/s/spool/{name}", 2 << 20)
    root = os.geteuid() == 0
    home = "/var/lib/sstrace" if root else "/h/sstrace"
    assert spool_folder(None, address, {"XDG_STATE_HOME": "/h"})[0] == f"{home}/spool/{name}"
    with pytest.raises(UsageError, match="write DIR, SIZE"):
        spool_folder("/a,/b", address, {})


def test_tls_is_checked(tmp_path: Path) -> None:
    """A certificate that nobody vouches for is refused; with its authority named it is taken."""
    if shutil.which("openssl") is None:
        unmet("openssl")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=engine", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    with Front(tmp_path / "engine", certificate=(certificate, key)) as engine:
        address = address_of(engine.url, "")
        with pytest.raises(SstraceError, match="certificate verify failed"):
            check(Engine(address, {}, "1", option="x"))
        with pytest.raises(FeatureError, match="lacks tables"):
            check(Engine(address, {"SSL_CERT_FILE": str(certificate)}, "1", option="x"))
