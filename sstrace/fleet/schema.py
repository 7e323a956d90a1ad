"""The engine's tables, made of the types of the lines (sstrace.lines): a column for every member of every line, by the
line's own key, so that a row gives the line again.

The engine is ClickHouse, from 24.8 on, or chDB, the same in process. Names of tables are relative to the database of
whoever asks. What differs between a line and its row:

* A text that is absent is empty; ``ino``, ``sk``, ``ifindex``, ``err`` and ``peer_netns``, which are never 0, are 0
  where they are absent; other numbers that may be absent are NULL.
* ``src`` and ``dst`` are IPv6, of an inet socket mapped (RFC 4291, 2.5.5.2): ``family`` tells; the ports behind them
  are ports: sockets of other families have no rows.
* ``mono_ns`` is told when a row comes in; kept is how far it is from ``ts``, which in a run is nearly always the same
  and takes no room.
* A ``meta`` line, and it alone, has members without a column: they are a JSON object in ``rest``.

A row is known by ``host``, ``run`` (sstrace.fleet.rows), ``seq``, and ``nth``: 0 for the line that has a ``seq`` first,
counted up for those that repeat it (checkpoints with their rows, marks). A row that came twice is one, once parts have
been merged; who counts before that says FINAL.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from msgspec import inspect

from sstrace.fleet.literals import listed, quoted
from sstrace.fleet.sums import SETTINGS, projections
from sstrace.lines import EventLine, MetaLine, OwnerLine

__all__ = [
    "COLUMNS",
    "GIVEN",
    "LINE",
    "READ",
    "TABLES",
    "VERSION",
    "WRITE",
    "Column",
    "address_text",
    "ddl",
    "line_of",
]

VERSION: Final = 1
"""Grows with each change of the tables that is more than a column which came."""

KEPT_DAYS: Final = 30

_NEVER_ZERO: Final = frozenset(("ino", "sk", "ifindex", "err", "peer_netns"))
_OWNERS: Final = "Array(Tuple(comm LowCardinality(String), pid UInt32, fd Nullable(UInt32), tid Nullable(UInt32)))"
_ISO: Final = "replaceOne(toString(ts), ' ', 'T')"
"""SQL: the time of a row as lines have it, but for the ``Z``."""
_MAYBE: Final = frozenset(("v6only", "exact"))
"""Which may be false, true, or not known."""
_ADDRESSES: Final = frozenset(("src", "dst"))
_PORTS: Final = frozenset(("sport", "dport"))
_DELTA: Final = frozenset(("seq", "nth", "id"))


class Column(NamedTuple):
    """One column of ``lines``."""

    name: str
    type: str
    codec: str
    there: str
    """SQL: whether the line has the member; empty for what is no member."""
    text: str
    """SQL: the member's value as JSON."""

    @property
    def definition(self) -> str:
        """As it stands in DDL."""
        return f"`{self.name}` {self.type}" + (f" CODEC({self.codec})" if self.codec else "")


class Table(NamedTuple):
    """One table."""

    name: str
    columns: tuple[Column, ...]
    engine: str
    """``Replacing…`` or ``AggregatingMergeTree``."""
    behind: str
    """What stands behind its engine."""


class _Member(NamedTuple):
    type: inspect.Type
    optional: bool
    """May be absent."""


def _line_types() -> Iterator[tuple[str, dict[str, _Member]]]:
    """Every type of line with columns of its own: its tag, and its members by key."""
    for line in (one for one in EventLine.__args__ if one is not MetaLine):
        info = inspect.type_info(line)
        assert isinstance(info, inspect.StructType)
        members = {}
        for field in info.fields:
            kind, optional = field.type, not field.required
            if isinstance(kind, inspect.UnionType):
                kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
            members[field.encode_name] = _Member(kind, optional)
        yield str(info.tag), members


def _columns() -> Iterator[Column]:
    """Every column of ``lines``, in the order in which members stand in most lines."""
    yield Column("host", "LowCardinality(String)", "ZSTD(1)", "", "")
    yield Column("run", "LowCardinality(String)", "ZSTD(1)", "", "")
    yield Column("nth", "UInt32", "Delta(4), ZSTD(1)", "", "")
    yield Column("type", "LowCardinality(String)", "ZSTD(1)", "1", _quoted("type"))
    yield Column(
        "ts",
        "DateTime64(9, 'UTC')",
        "Delta(8), ZSTD(1)",
        "1",
        f"concat('\"', {_ISO}, 'Z\"')",
    )
    yield Column("mono_ns", "UInt64 EPHEMERAL", "", "1", "toString(toUnixTimestamp64Nano(ts) - offset_ns)")
    types = dict(_line_types())
    # Of all others those of transitions first, which nearly all lines are.
    order = {name: None for tag in ("state", *types) for name in types[tag] if name not in ("ts", "mono_ns", "host")}
    for name in order:
        yield _column(name, {tag: members[name] for tag, members in types.items() if name in members})
    yield Column("rest", "String", "ZSTD(1)", "", "")
    offset = "Int64 DEFAULT toUnixTimestamp64Nano(ts) - toInt64(mono_ns)"
    yield Column("offset_ns", offset, "Delta(8), ZSTD(1)", "", "")


def _column(name: str, members: dict[str, _Member]) -> Column:
    """A member's, of the types of lines that have it."""
    kind, always = next(iter(members.values())).type, not any(one.optional for one in members.values())
    codec = "Delta(8), ZSTD(1)" if name in _DELTA else "ZSTD(1)"
    own = f"`{name}`"
    if isinstance(kind, inspect.VarTupleType):
        assert kind.item_type == inspect.type_info(OwnerLine)
        return Column(name, _OWNERS, codec, f"notEmpty({own})", f"toJSONString({own})")
    if isinstance(kind, inspect.TupleType):
        return Column(name, "Array(UInt16)", codec, f"notEmpty({own})", f"toJSONString({own})")
    if name in _ADDRESSES:
        return Column(name, "IPv6", codec, "family != ''", f"concat('\"', {address_text(own)}, '\"')")
    if isinstance(kind, inspect.BoolType):
        if name in _MAYBE:
            return Column(name, "Nullable(Bool)", codec, f"isNotNull({own})", f"toString({own})")
        return Column(name, "Bool", codec, own, "'true'")
    if isinstance(kind, inspect.FloatType):
        text = f"toString({own})"
        whole = f"if(position({text}, '.') = 0, concat({text}, '.0'), {text})"
        return Column(name, "Nullable(Decimal64(3))", codec, f"isNotNull({own})", whole)
    if isinstance(kind, inspect.IntType):
        number = "UInt16" if name in _PORTS else _integer(kind)
        if always:
            return Column(name, number, codec, f"type IN ({listed(members)})", f"toString({own})")
        if name in _NEVER_ZERO:
            return Column(name, number, codec, f"{own} != 0", f"toString({own})")
        return Column(name, f"Nullable({number})", codec, f"isNotNull({own})", f"toString({own})")
    return Column(name, "LowCardinality(String)", codec, f"{own} != ''", _quoted(name))


def address_text(column: str) -> str:
    """SQL: an address as lines have it."""
    return f"replaceOne(toString({column}), if(family = 'inet', '::ffff:', '\\n'), '')"


def _quoted(name: str) -> str:
    return f"toJSONString(toString(`{name}`))"


def _integer(kind: inspect.IntType) -> str:
    if kind.ge is None:
        return "Int32"
    return {0xFFFF: "UInt16", 0xFFFFFFFF: "UInt32"}.get(kind.le or 0, "UInt64")


COLUMNS: Final = tuple(_columns())
"""Of the table ``lines``."""


def line_of(columns: Iterable[Column], end: str = "'}'") -> str:
    """SQL: the line that a row is, as JSON, of these members. ``end``: what stands behind the last one."""
    members = []
    for column in columns:
        if column.there:
            member = f"""',"{column.name}":', {column.text}"""
            members.append(member if column.there == "1" else f"if({column.there}, concat({member}), '')")
    # All have a comma in front.
    return f"concat('{{', substring(concat({', '.join([*members, end])}), 2))"


LINE: Final = line_of(COLUMNS, "if(rest = '', '}', concat(',', substring(rest, 2)))")
"""SQL, of a row of ``lines``: the line as it was written, by members and values (absent ones left out, in the order of
transitions', whatever the type of line). Valid with the settings READ.
"""

READ: Final = {
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_escape_forward_slashes": 0,
    "output_format_json_skip_null_value_in_named_tuples": 1,
}
"""Settings of questions with LINE in them."""

WRITE: Final = {
    "date_time_input_format": "best_effort", "input_format_skip_unknown_fields": 0, "optimize_on_insert": 0,
}  # fmt: skip
"""Settings of INSERT. Rows that are there twice are looked for by merges alone: doing it for each insert besides takes
most of what an insert takes.
"""

GIVEN: Final = tuple(column.name for column in COLUMNS if column.name != "offset_ns")
"""The columns of INSERT, whose rows are JSON objects (JSONEachRow): sstrace.fleet.rows makes them."""


def _plain(*definitions: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind, "", "", "") for name, _, kind in (one.partition(" ") for one in definitions))


_OF_RUN: Final = ("host LowCardinality(String)", "run LowCardinality(String)")
_TIME: Final = "DateTime64(9, 'UTC')"
_TTL: Final = f"TTL toDateTime({{}}) + INTERVAL {KEPT_DAYS} DAY SETTINGS ttl_only_drop_parts = 1"

TABLES: Final = (
    Table(
        "lines", COLUMNS, "ReplacingMergeTree",
        "PARTITION BY toDate(ts) ORDER BY (host, run, toStartOfMinute(ts), id, seq, nth) " + _TTL.format("ts"),
    ),
    Table(
        "checkpoints",
        _plain(*_OF_RUN, f"ts {_TIME}", "seq UInt64", "nth UInt32", "rows UInt64", "places UInt64", "unwritten UInt64"),
        "ReplacingMergeTree",
        "PARTITION BY toDate(ts) ORDER BY (host, run, ts, seq, nth) " + _TTL.format("ts"),
    ),
    Table(
        "runs",
        _plain(
            *_OF_RUN, f"began SimpleAggregateFunction(min, {_TIME})", f"until SimpleAggregateFunction(max, {_TIME})",
            "last_seq SimpleAggregateFunction(max, UInt64)", "meta SimpleAggregateFunction(max, String)",
        ),
        "AggregatingMergeTree",
        "ORDER BY (host, run) " + _TTL.format("until"),
    ),
    Table(
        "schema_versions",
        _plain("version UInt32", "sstrace LowCardinality(String)", "applied DateTime DEFAULT now()"),
        "ReplacingMergeTree",
        "ORDER BY version",
    ),
)  # fmt: skip

_META: Final = (
    f"""if(rest = '', '', concat('{{"type":"meta","ts":"', {_ISO}, 'Z","mono_ns":', """
    "toString(toUnixTimestamp64Nano(ts) - offset_ns), ',', substring(rest, 2)))"
)
"""SQL: a meta line whole, and of every other line nothing."""

_VIEWS: Final = {
    "checkpoints_of_lines": (
        "checkpoints",
        "SELECT host, run, ts, seq, nth, rows, ifNull(places, 0) AS places, ifNull(unwritten, 0) AS unwritten "
        "FROM lines WHERE type IN ('checkpoint', 'meta')",
    ),
    "runs_of_lines": (
        "runs",
        f"SELECT host, run, min(ts) AS began, max(ts) AS until, max(seq) AS last_seq, max({_META}) AS meta "
        "FROM lines GROUP BY host, run",
    ),
}


def ddl(sstrace: str, *, replicated: bool = False) -> list[str]:
    """Statements that make the tables, and bring older ones to this version; run again they change nothing.
    ``sstrace``: which version of it asks; ``replicated``: each table is one of ReplicatedMergeTree's.
    """
    before = "Replicated" if replicated else ""
    made = []
    for table in TABLES:
        columns = ",\n".join(f"    {column.definition}" for column in table.columns)
        made.append(
            f"CREATE TABLE IF NOT EXISTS {table.name}\n(\n{columns}\n)\nENGINE = {before}{table.engine}\n{table.behind}"
        )
        added = ",\n".join(f"    ADD COLUMN IF NOT EXISTS {column.definition}" for column in table.columns)
        made.append(f"ALTER TABLE {table.name}\n{added}")
    settings = ", ".join(f"{name} = {quoted(value)}" for name, value in SETTINGS.items())
    made.append(f"ALTER TABLE lines MODIFY SETTING {settings}")
    for name, select in projections().items():
        made.append(f"ALTER TABLE lines ADD PROJECTION IF NOT EXISTS {name}\n(\n{select}\n)")
    for view, (target, select) in _VIEWS.items():
        made.append(f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view} TO {target} AS\n{select}")
    version = f"SELECT {VERSION} AS version, {quoted(sstrace)} AS sstrace"
    made.append(
        f"INSERT INTO schema_versions (version, sstrace)\n{version}\n"
        f"WHERE {VERSION} NOT IN (SELECT version FROM schema_versions)"
    )
    return made
