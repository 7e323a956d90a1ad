"""Hosts whose lines an engine holds: the same questions as to a directory of recordings (recording.fleet).

SQL chooses lines: of which runs, of which time, and only those that the filter may let pass. What reads recordings then
folds and prints them, so that the text is the one that a recording gives.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from sstrace.errors import DecodeError
from sstrace.fleet.conditions import counted_condition, line_condition, row_condition
from sstrace.fleet.counted import count
from sstrace.fleet.engines import Asked, check
from sstrace.fleet.moment import Found, Moment, Moves, moves, tables
from sstrace.fleet.schema import COLUMNS, address_text
from sstrace.fleet.shaken import shaken
from sstrace.fleet.spans import Connection, Lines, Slices
from sstrace.fleet.sql import Run, among, time
from sstrace.lines import MetaLine
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet, Part, Series
from sstrace.recording.past import Heard, Past
from sstrace.recording.reader import RecordedNames
from sstrace.render.digest import Digest, Tally
from sstrace.render.events import timestamp
from sstrace.wire import recording

__all__ = ["EngineFleet"]

_ENDS_NS = 65_000_000_000
"""A replay remembers for a minute who had the other ends (modes.hosts_replay)."""

_rows = msgspec.json.Decoder(tuple[str, str, str, str, str, str])


_EXPORTED = [
    f"if(family = '', NULL, {address_text(column.name)}) AS `{column.name}`"
    if column.type == "IPv6"
    else f"`{column.name}`"
    for column in COLUMNS
    if "EPHEMERAL" not in column.type
]
"""What a row has of a line; addresses as lines have them."""
_IN_TIME = "ts, host, run, seq, nth"
_VERSION = "(SELECT max(version) FROM schema_versions)"


class EngineFleet(Fleet):
    """The hosts whose lines an engine holds. Raises DecodeError where it holds none, LookupFailed for a host that is
    not there, and what asking raises.
    """

    def __init__(self, engine: Asked, words: Sequence[str] = ()) -> None:
        self.name, self.paths = engine.name, [engine.name]
        self._ask(engine, {}, {})
        parts = list(self._streams())
        if not parts:
            check(engine, int(engine.ask(f"SELECT {_VERSION} FORMAT TSV")))
            raise DecodeError(f"{self.name} holds no lines of sstrace")
        self._take(parts, words)

    def _ask(self, engine: Asked, runs: dict[str, Run], ends: dict[str, int]) -> None:
        """``runs``, ``ends``: by path which run each part is there, and when it ends."""
        self._engine = engine
        self._of = runs
        self._ends = ends
        self._tables: dict[Moment, Found] = {}
        self._moves: Moves = {}
        self._shaken = None
        self._slices: Slices | None = None

    def _streams(self) -> Iterator[Part]:
        """Every run of which there is something left."""
        answer = self._engine.ask(
            f"SELECT host, run, toString(began), toString(until), meta, toString({_VERSION}) FROM "
            "(SELECT host, run, toUnixTimestamp64Nano(argMin(ts, (seq, nth))) AS began FROM checkpoints "
            "GROUP BY host, run) AS starts INNER JOIN "
            "(SELECT host, run, toUnixTimestamp64Nano(max(until)) AS until, max(meta) AS meta FROM runs "
            "GROUP BY host, run) AS ends USING (host, run) FORMAT JSONCompactEachRow"
        )
        for row in answer.split(b"\n")[:-1]:
            host, run, began, until, meta, version = _rows.decode(row)
            check(self._engine, int(version))
            head = _head(host, run, int(began), meta)
            if head is not None:
                path = f"{host}/{run}"
                self._of[path] = Run(host, run)
                self._ends[path] = max(int(began), int(until))
                yield Part(path, head, int(began), 0, True)

    def expect(
        self, parts: Sequence[tuple[Part, int]], command: Command, names: RecordedNames, *, back_ns: int = 0
    ) -> None:
        """See Fleet."""
        condition = "1"
        if command.filter_file is None:  # it can be read but once
            condition = row_condition(options.resolve(command, names), names)
        moments = dict.fromkeys(Moment(self._of[part.path], at_ns) for part, at_ns in parts)
        self._tables = tables(self._engine, list(moments), condition)
        self._moves = moves(self._engine, list(moments), back_ns) if back_ns else {}
        if self._shaken is not None:
            self.shake(parts, names)

    def shake(self, parts: Sequence[tuple[Part, int]], names: RecordedNames) -> None:
        """See Fleet."""
        hosts = {part.path: one.host for one in self.everybody for part in one.parts}
        whose = {Moment(self._of[part.path], at_ns): hosts[part.path] for part, at_ns in parts}
        self._shaken = [*(self._shaken or ()), *shaken(self._engine, whose)]

    def table(self, part: Part, at_ns: int, names: RecordedNames, heard: Heard | None = None, back_ns: int = 0) -> Past:
        """See Fleet."""
        moment = Moment(self._of[part.path], at_ns)
        past = self._tables.get(moment, Found((), (), ())).past(part.head, at_ns, names)
        if heard is not None:
            for line, known in self._moves.get(moment, ()):
                heard(line, known)
        return past

    def connection(self, part: Part, number: int) -> Lines:
        """See Fleet."""
        return Lines(self.name, part.head, self._of[part.path], Connection(self._engine, number))

    def line_time(self, series: Series, seq: int) -> int | None:
        """See Fleet."""
        runs = among([self._of[part.path] for part in series.parts])
        answer = self._engine.ask(
            f"SELECT toUnixTimestamp64Nano(ts) FROM lines WHERE {runs} AND seq = {seq} ORDER BY nth LIMIT 1 FORMAT TSV"
        )
        return int(answer) if answer else None

    def follow(
        self, parts: Sequence[Part], window: tuple[int, int] | None, command: Command, names: RecordedNames
    ) -> None:
        """See Fleet."""
        runs = list(dict.fromkeys(self._of[part.path] for part in parts))
        self._slices = Slices(
            self._engine,
            runs,
            window,
            line_condition(command, names),
            life=command.own.life,
            before_ns=_ENDS_NS if command.own.joins else 0,
        )

    def count(
        self, parts: Sequence[Part], window: tuple[int, int] | None, command: Command, names: RecordedNames
    ) -> tuple[Digest, dict[str, Tally]] | None:
        """See Fleet."""
        condition = counted_condition(command, names)
        if condition is None:
            return None
        digest = Digest()
        tallies = count(self._engine, [self._of[part.path] for part in parts], window, condition, digest)
        return digest, {parts[number].path: tally for number, tally in sorted(tallies.items())}

    def opened(self, part: Part) -> Lines:
        """See Fleet."""
        assert self._slices is not None
        return Lines(self.name, part.head, self._of[part.path], self._slices)

    def parquet(self, parts: Iterable[Part], window: tuple[int, int] | None) -> Iterator[bytes]:
        """Their lines in a window, ns since 1970 UTC, as a file of Parquet, in the order of time."""
        columns = ", ".join(_EXPORTED)
        within = f" AND ts >= {time(window[0])} AND ts <= {time(window[1])}" if window is not None else ""
        runs = among(list(dict.fromkeys(self._of[part.path] for part in parts)))
        return self._engine.blocks(
            f"SELECT {columns} FROM (SELECT * FROM lines FINAL WHERE {runs}{within}) ORDER BY {_IN_TIME} FORMAT Parquet"
        )

    def limit(self, parts: Iterable[Part]) -> None:
        """See Fleet: an engine says itself what is too much for it."""


def _head(host: str, run: str, began_ns: int, rest: str) -> MetaLine | None:
    """The first line of a run, of its members without a column; None where it is none of ours."""
    mono = run.rpartition("/")[2]
    times = {"type": "meta", "ts": timestamp(began_ns), "mono_ns": int(mono) if mono.isdecimal() else 0}
    try:
        members = {**times, **msgspec.json.decode(rest, type=dict[str, object]), "host": host}
        return recording.meta(msgspec.json.encode(members))
    except (msgspec.MsgspecError, UnicodeError):
        return None
