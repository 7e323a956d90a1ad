"""The tables in the real engine: a row is the line again, an older schema grows, and what came twice is one."""

import socket
from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import pytest
from engine_front import Front
from msgspec import inspect

from sstrace.fleet import schema
from sstrace.fleet.rows import Rows, run_of
from sstrace.lines import CheckpointLine, EventLine, MarkLine, MetaLine, OwnerLine
from sstrace.sources.clickhouse import Engine, address_of

META = MetaLine(
    schema="sstrace/1", version="1", ts="2026-11-20T15:57:06.353869961Z", mono_ns=77, host='h"ü', kernel="6",
    boot_id="b", netns=5, ephemeral=(1, 2), interfaces={"lo": 1},
)  # fmt: skip
TEXTS = ("a", "/sys/fs/x.y", 'ü"\\\n\t\x01', "\\xff", "日本", "'; DROP TABLE lines; --")
ADDRESSES = (
    bytes(16), bytes(15) + b"\1", bytes(10) + b"\xff\xff\1\2\3\4", bytes(12) + b"\1\2\3\4", b"\xfe\x80" + bytes(14),
    b"\x20\1\x0d\xb8" + bytes(4) + b"\0\1" + bytes(6), bytes(range(16)),
)  # fmt: skip


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("engine")) as front:
        yield front


@pytest.fixture
def talk(engine: Front, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """A connection to a database that is empty."""
    engine.use(request.node.name)
    talk = Engine(address_of(engine.address, "--sink "), {}, "1.2.3", option="the test")
    yield talk
    talk.close()


def make(talk: Engine) -> None:
    for statement in schema.ddl("1.2.3"):
        talk.run(statement)


def insert(talk: Engine, lines: list[EventLine], run: str = "b/77") -> None:
    body = Rows("web", run).take(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    talk.insert("lines", schema.GIVEN, body, schema.WRITE)


def lines_of(talk: Engine, run: str = "b/77") -> list[bytes]:
    sql = f"SELECT {schema.LINE} FROM lines FINAL WHERE run = '{run}' ORDER BY seq, nth FORMAT TSVRaw"
    return b"".join(talk.ask(sql, settings=schema.READ)).splitlines()


def value(name: str, kind: inspect.Type, family: str, random: Random) -> Any:
    """Any value that a member may have."""
    if isinstance(kind, inspect.UnionType):
        return None if random.random() < 0.5 else value(name, kind.types[0], family, random)
    if name == "family":
        return family
    if name == "ts":
        return f"2026-11-{random.randint(1, 30):02d}T15:57:06.{random.randrange(10**9):09d}Z"
    if name == "mono_ns":
        return random.randrange(1 << 60)
    if name in ("src", "dst"):
        raw = random.choice((*ADDRESSES, random.randbytes(16)))
        return (
            socket.inet_ntop(socket.AF_INET6, raw) if family == "inet6" else socket.inet_ntop(socket.AF_INET, raw[:4])
        )
    if name in ("rows", "places"):
        return 0 if name == "rows" else None
    if isinstance(kind, inspect.LiteralType):
        return random.choice(kind.values)
    if isinstance(kind, inspect.BoolType):
        return random.random() < 0.5
    if isinstance(kind, inspect.FloatType):
        return random.choice((0.0, 0.001, 5.0, 20311.4, 123456789.123, 1e14))
    if isinstance(kind, inspect.VarTupleType):
        return tuple(
            OwnerLine(random.choice(TEXTS), random.choice((0, 7, (1 << 32) - 1)), random.choice((None, 0, 3)), tid)
            for tid in random.choice(((), (None,), (None, 8, 9)))
        )
    if isinstance(kind, inspect.TupleType):
        return random.choice(((32768, 60999), (0, 65535)))
    if name in ("sport", "dport"):  # of the internet's families
        return random.choice((0, 0xFFFF, random.randint(1, 0xFFFE)))
    if isinstance(kind, inspect.IntType):
        least = -(1 << 31) if kind.ge is None else int(name in ("ino", "sk", "ifindex", "peer_netns"))
        most = (1 << 31) - 1 if kind.ge is None else kind.le or (1 << 64) - 1
        return random.choice((least, most, random.randint(least, most) or 1))
    assert isinstance(kind, inspect.StrType), kind
    return random.choice(TEXTS)


def some_line(kind: Any, seq: int, random: Random) -> EventLine:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    family = random.choice(("inet", "inet6"))
    values = {one.name: value(one.encode_name, one.type, family, random) for one in info.fields}
    line: EventLine = kind(**{**values, "seq": seq, "host": None})
    return line


def test_a_row_is_the_line_again(talk: Engine) -> None:
    """Every type of line, with any values and any members absent."""
    make(talk)
    random = Random(20)
    kinds = [kind for kind in EventLine.__args__ if kind is not MetaLine]
    lines: list[EventLine] = [META]
    for kind in kinds * 60:
        seq = len(lines) if kind not in (CheckpointLine, MarkLine) else len(lines) - 1
        lines.append(some_line(kind, seq, random))
        if kind in (CheckpointLine, MarkLine):  # the next number is one more than the last, not than the lines
            lines.append(some_line(kinds[0], len(lines), random))
    # A line that repeats a number repeats the one before it.
    numbered = 0
    for line in lines[1:]:
        if not isinstance(line, CheckpointLine | MarkLine):
            numbered += 1
        line.seq = numbered  # type: ignore[union-attr]
    insert(talk, lines)
    decode = msgspec.json.Decoder(EventLine).decode
    given = lines_of(talk)
    assert [decode(line) for line in given] == lines
    assert talk.lines("SELECT sum(ended), count() FROM lines")[0][1] == str(len(lines))


def test_transitions_come_back_byte_for_byte(talk: Engine) -> None:
    make(talk)
    random = Random(21)
    state = next(kind for kind in EventLine.__args__ if kind.__struct_config__.tag == "state")
    lines = [some_line(state, seq, random) for seq in range(1, 300)]
    insert(talk, lines)
    assert lines_of(talk) == [msgspec.json.encode(line) for line in lines]


def test_runs_and_checkpoints_keep_themselves(talk: Engine) -> None:
    make(talk)
    random = Random(22)
    seen = next(kind for kind in EventLine.__args__ if kind.__struct_config__.tag == "seen")
    ts = ("2026-11-20T15:57:07.000000001Z", "2026-11-20T15:57:08.000000002Z")
    rows = [some_line(seen, 1, random), some_line(seen, 1, random)]
    for row in rows:
        row.ts = ts[0]
    check = CheckpointLine(ts=ts[0], mono_ns=78, seq=1, rows=2, unwritten=3)
    first = some_line(seen, 1, random)
    first.ts = META.ts
    for _ in range(2):  # the same again
        insert(talk, [META, first, check, *rows, MarkLine(ts=ts[1], mono_ns=79, seq=1)])
    assert talk.lines("SELECT seq, nth, rows, places, unwritten FROM checkpoints FINAL ORDER BY ts, seq, nth") == [
        ["0", "0", "0", "0", "0"],
        ["1", "1", "2", "0", "3"],
    ]
    run = "SELECT host, run, min(began), max(until), max(last_seq), max(meta) FROM runs GROUP BY host, run"
    [[host, name, began, until, last, meta]] = talk.lines(run)
    assert (host, name, last) == ("web", run_of(META), "1")
    assert (began, until) == ("2026-11-20 15:57:06.353869961", "2026-11-20 15:57:08.000000002")
    assert msgspec.json.decode(meta, type=MetaLine) == META
    assert talk.lines("SELECT count(), uniqExact(seq, nth) FROM lines FINAL") == [["6", "6"]]


def test_made_again_nothing_changes_and_an_older_one_grows(talk: Engine) -> None:
    """Columns that an older sstrace did not know are added, and its rows stay."""
    old = schema.ddl("0.9")
    talk.run("\n".join(line for line in old[0].splitlines() if "`lost`" not in line and "`pod`" not in line))
    talk.run("INSERT INTO lines (host, run, seq, ts) VALUES ('a', 'b', 1, now64(9))")
    for _ in range(2):
        make(talk)
    columns = talk.lines("SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = 'lines'")
    assert {name for name, _ in columns} == {column.name for column in schema.COLUMNS}
    assert talk.lines("SELECT lost, pod FROM lines") == [["\\N", ""]]
    assert [row[:2] for row in talk.lines("SELECT version, sstrace FROM schema_versions")] == [["1", "1.2.3"]]
