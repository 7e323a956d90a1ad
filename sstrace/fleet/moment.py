"""The tables of many hosts at one moment: of each connection the newest line since the last checkpoint before it.

So a question reads minutes, not days. A checkpoint whose rows are not all there (its host is just sending them) is
passed over for the one before.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from sstrace.fleet.engines import Asked
from sstrace.fleet.literals import listed
from sstrace.fleet.schema import COLUMNS, LINE, line_of
from sstrace.fleet.sql import Run, Since, among, each, numbered, time
from sstrace.lines import CheckpointLine, DroppedLine, GapLine, MetaLine, ResyncLine, SeenLine, StateLine
from sstrace.protocols import APPEARING_NETIDS
from sstrace.recording.past import LOOK_NS, SLACK_NS, Past
from sstrace.recording.reader import Clock, RecordedNames, is_over
from sstrace.wire.recording import Fact

__all__ = ["Found", "Moment", "Moves", "moves", "since", "tables"]

_AT_ONCE: Final = 64
"""Runs of one question."""
_CHECKPOINTS: Final = 3
"""Of a run so many are looked at."""
_NEAR_NS: Final = 900_000_000_000
"""Runs whose checkpoints are no further from each other are asked together."""
_NAMED: Final = 2_000
"""Of so few rows each is named in a question."""
_STRAY_NS: Final = 10_000_000_000
"""Lines are nearly in the order of time; none stands further from its place."""

_OF_OTHERS: Final = """
type ts mono_ns seq netns netns_name netns_cookie event ephemeral container_id container_runtime pod pod_namespace comm
pid rows places unwritten cpu count after_ns before_ns first_seq reason added removed changed
"""
_OF_ROWS: Final = f"""{_OF_OTHERS}
id netid family from to state src sport dst dport ino sk uid ifindex ifname v6only cgroup owners owner_source held_us
role segment direction queue backlog
"""
"""What of a line a table has to be told: an engine takes longer to understand such a question than to answer it."""
_LINE: Final = line_of(column for column in COLUMNS if column.name in _OF_ROWS.split())
_PLAIN_LINE: Final = line_of(column for column in COLUMNS if column.name in _OF_OTHERS.split())

_decoder = msgspec.json.Decoder(Fact)


class Moment(NamedTuple):
    """What is asked: a run, and when."""

    run: Run
    at_ns: int
    """ns since 1970 UTC."""


class Found(NamedTuple):
    """What an engine has of a moment."""

    rows: Sequence[SeenLine | StateLine]
    """Of each connection that was there the newest line, in the order in which the connections came."""
    around: Sequence[Fact]
    """Lines that are about no connection, the checkpoint first, and of each interface the newest that names it; in
    order.
    """
    later: Sequence[SeenLine | StateLine]
    """Lines behind the moment that tell of ports which were not known then."""

    def past(self, head: MetaLine, at_ns: int, names: RecordedNames) -> Past:
        """The same as whoever folds the lines one by one has it then. ``head``: the run's first line."""
        past, clock = Past(), Clock()
        names.learn(head)
        clock.learn(head)
        past.whole = head.part is None
        for row in self.rows:
            names.hear(row)
            past.rows[row.id] = row
        for line in self.around:
            names.hear(line)
            if isinstance(line, CheckpointLine):
                clock.learn(line)
                past.whole, past.hole, past.missing = True, line.unwritten or 0, 0
            elif isinstance(line, GapLine):
                if min(line.mono_ns, line.after_ns) <= at_ns - (clock.offset_ns or 0):
                    past.lost += line.count
            elif isinstance(line, DroppedLine):
                past.missing += line.count
            elif isinstance(line, ResyncLine):
                past.lost = 0
        for later in self.later:
            past.hindsight(later)
        past.at_ns, past.mono_ns = at_ns, at_ns - (clock.offset_ns or 0)
        past.part(names)
        return past


def since(engine: Asked, moments: Sequence[Moment]) -> dict[Moment, Since]:
    """The last checkpoint before each, or the beginning of the run; none where the engine has nothing of it."""
    found: dict[Moment, Since] = {}
    for some in _parts(moments):
        runs = [one.run for one in some]
        answer = engine.ask(
            f"SELECT DISTINCT {numbered(runs)} AS n, toUnixTimestamp64Nano(ts), seq, nth, rows + places "
            f"FROM checkpoints WHERE {among(runs)} AND {_until(some)} "
            f"ORDER BY n, seq DESC, nth DESC LIMIT {_CHECKPOINTS} BY n FORMAT TSV"
        )
        starts: defaultdict[int, list[tuple[Since, int]]] = defaultdict(list)
        for line in answer.splitlines():
            index, at_ns, seq, nth, rows = map(int, line.split(b"\t"))
            starts[index].append((Since(at_ns, seq, nth), rows))
        whole = _whole(engine, some, starts)
        for index, known in starts.items():
            there = (start for start, rows in known if not rows or whole.get((index, start.seq, start.nth)) == rows)
            found[some[index]] = next(there, known[-1][0])
    return found


def _whole(
    engine: Asked, moments: Sequence[Moment], starts: Mapping[int, Sequence[tuple[Since, int]]]
) -> dict[tuple[int, int, int], int]:
    """How many of their rows checkpoints have, by place among the moments, seq and nth."""
    places = [
        f"({index}, {start.seq}, {time(start.at_ns)})"
        for index, known in starts.items()
        for start, rows in known
        if rows
    ]
    if not places:
        return {}
    runs = [one.run for one in moments]
    times = sorted({start.at_ns for known in starts.values() for start, rows in known if rows})
    answer = engine.ask(
        f"SELECT {numbered(runs)} AS n, seq, min(nth), uniqExact(nth) FROM lines WHERE {among(runs)} "
        f"AND ts IN ({', '.join(map(time, times))}) AND type IN ('seen', 'netns') AND nth > 0 "
        f"AND (n, seq, ts) IN ({', '.join(places)}) GROUP BY n, seq FORMAT TSV"
    )
    return {
        (index, seq, first - 1): count
        for index, seq, first, count in (map(int, line.split(b"\t")) for line in answer.splitlines())
    }


def tables(engine: Asked, moments: Sequence[Moment], condition: str) -> dict[Moment, Found]:
    """The rows at each moment that meet a condition (SQL), and what is around them. ``moments``: one of each run."""
    starts = since(engine, moments)
    found: dict[Moment, Found] = {}
    # Those whose checkpoints are near each other are asked together: each question reads from the first one on.
    known = sorted((one for one in moments if one in starts), key=lambda one: starts[one].at_ns)
    for some in _near(known, starts):
        asked = _Question(engine, some, starts)
        rows, around = asked.lines(condition)
        later = asked.later(rows)
        for index, one in enumerate(some):
            found[one] = Found(rows.get(index, ()), around.get(index, ()), later.get(index, ()))
    return found


Moves = Mapping[Moment, Sequence[tuple[StateLine, bool]]]
"""Before each moment the transitions, in order, and whether the row of each was known before."""


def moves(engine: Asked, moments: Sequence[Moment], back_ns: int) -> Moves:
    """Those in so much of the time before each. ``moments``: one of each run."""
    begins = since(engine, [Moment(one.run, one.at_ns - back_ns) for one in moments])
    starts = {
        one: begins.get(Moment(one.run, one.at_ns - back_ns), Since(one.at_ns - back_ns, 0, 0)) for one in moments
    }
    found: dict[Moment, list[tuple[StateLine, bool]]] = {}
    for some in _near(sorted(moments, key=lambda one: starts[one].at_ns), starts):
        for index, line, known in _Question(engine, some, starts).moves(back_ns):
            found.setdefault(some[index], []).append((line, known))
    return found


def _near(moments: Sequence[Moment], starts: Mapping[Moment, Since]) -> Iterator[Sequence[Moment]]:
    begin = 0
    for end in range(1, len(moments) + 1):
        if end == len(moments) or starts[moments[end]].at_ns - starts[moments[begin]].at_ns > _NEAR_NS:
            yield from _parts(moments[begin:end])
            begin = end


def _until(moments: Sequence[Moment]) -> str:
    """Whether a row is not later than its moment."""
    latest = max(one.at_ns for one in moments)
    return f"ts <= {time(latest)}" + (
        f" AND toUnixTimestamp64Nano(ts) <= {each([one.run for one in moments], [one.at_ns for one in moments])}"
        if any(one.at_ns != latest for one in moments)
        else ""
    )


class _Question:
    """What is asked of some runs, each of which has a moment and a checkpoint before it."""

    def __init__(self, engine: Asked, moments: Sequence[Moment], starts: Mapping[Moment, Since]) -> None:
        self._engine = engine
        self._moments = moments
        runs = [one.run for one in moments]
        self._number = numbered(runs)
        first = min(starts[one].at_ns for one in moments)
        seq, nth = (each(runs, [starts[one][member] for one in moments]) for member in (1, 2))
        self._until = _until(moments)
        self._since = f"{among(runs)} AND ts >= {time(first - _STRAY_NS)}"
        self._range = (
            f"({self._since} AND {self._until} AND toInt64(seq) >= {seq} AND "
            f"(toInt64(seq) > {seq} OR toInt64(nth) {{}} {nth}))"
        )
        """With ``>``: the lines behind the checkpoint, its own rows too, up to the moment; ``>=``: and itself."""

    def lines(self, condition: str) -> tuple[dict[int, list[SeenLine | StateLine]], dict[int, list[Fact]]]:
        """Rows, and what is around, by place among the moments (see Found)."""
        ranges, plain = self._range.format(">"), self._range.format(">=")
        number, place = self._number, f"({self._number}, seq, nth)"
        shown = f"type IN ('seen', 'state', 'life') AND {_ALIVE} AND ({condition})"
        # Of a row that is shown the newest line meets the condition: what has no such line need not be put in order.
        meant = f"AND ({number}, id) IN (SELECT {number}, id FROM lines WHERE {ranges} AND {shown})"
        of_rows = (
            f"FROM lines WHERE {ranges} AND type IN ('seen', 'state', 'life', 'gone') "
            f"{meant if condition != '1' else ''} GROUP BY n, id HAVING argMax({shown}, (seq, nth))"
        )
        came = self._came(of_rows)
        newest = f"SELECT n, newest.1, newest.2 FROM (SELECT {number} AS n, max((seq, nth)) AS newest {of_rows})"
        if len(came) <= _NAMED:
            newest = ", ".join(f"({index}, {seq}, {nth})" for index, seq, nth in came) or "(-1, 0, 0)"
        naming = (
            f"SELECT n, newest.1, newest.2 FROM (SELECT {number} AS n, max((seq, nth)) AS newest FROM lines "
            f"WHERE {ranges} AND ifindex != 0 AND ifname != '' GROUP BY n, netns, ifindex, ifname)"
        )
        row = f"{shown} AND {place} IN ({newest})"
        # Of most lines few columns are read.
        within = f"{self._since} AND ts <= {time(max(one.at_ns for one in self._moments) + SLACK_NS)}"
        found = self._numbered(
            _PLAIN_LINE, f"{within} AND type IN ({_PLAIN})", f"({plain} AND type IN ({_PLAIN})) OR ({self._late()})"
        )
        found += self._numbered(
            _LINE,
            f"{within} AND (ifindex != 0 OR {place} IN ({newest}))",
            f"{plain} AND (({row}) OR (ifindex != 0 AND {place} IN ({naming})))",
        )
        rows: dict[int, list[SeenLine | StateLine]] = {}
        around: dict[int, list[Fact]] = {}
        order: dict[int, tuple[int, int]] = {}
        for key, line in sorted(found):
            index, decoded = key[0], _decoder.decode(line)
            first = came.get(key)
            if first is not None and isinstance(decoded, SeenLine | StateLine) and not _is_over(decoded):
                order[id(decoded)] = first
                rows.setdefault(index, []).append(decoded)
            if first is None or getattr(decoded, "ifindex", None):
                around.setdefault(index, []).append(decoded)
        for mine in rows.values():
            mine.sort(key=lambda row: order[id(row)])
        return rows, around

    def _numbered(self, line: str, few: str, condition: str) -> list[tuple[tuple[int, ...], bytes]]:
        """Lines by run, seq and nth. ``few``: a condition on few columns that goes before the whole one."""
        answer = self._engine.ask(
            f"SELECT {self._number} AS n, seq, nth, {line} FROM lines PREWHERE {few} WHERE {condition} "
            f"ORDER BY n, seq, nth LIMIT 1 BY n, seq, nth FORMAT TSVRaw"
        )
        split = (text.split(b"\t", 3) for text in answer.split(b"\n")[:-1])
        return [(tuple(map(int, numbers)), line) for *numbers, line in split]

    def _came(self, of_rows: str) -> dict[tuple[int, ...], tuple[int, int]]:
        """Of the newest line of each connection, by run, seq and nth: where the first one stands."""
        answer = self._engine.ask(
            f"SELECT n, newest.1, newest.2, first.1, first.2 FROM "
            f"(SELECT {self._number} AS n, max((seq, nth)) AS newest, min((seq, nth)) AS first {of_rows}) FORMAT TSV"
        )
        found: dict[tuple[int, ...], tuple[int, int]] = {}
        for text in answer.split(b"\n")[:-1]:
            *newest, seq, nth = map(int, text.split(b"\t"))
            found[tuple(newest)] = seq, nth
        return found

    def moves(self, back_ns: int) -> Iterator[tuple[int, StateLine, bool]]:
        """See above; by place among the moments."""
        begin = {one.at_ns - back_ns for one in self._moments}
        begins = each([one.run for one in self._moments], [one.at_ns - back_ns for one in self._moments])
        ranges = self._range.format(">")
        answer = self._engine.ask(
            f"SELECT {self._number} AS n, (n, id) NOT IN (SELECT {self._number} AS n, id FROM lines WHERE {ranges} "
            f"AND type IN ('seen', 'state', 'life', 'gone') GROUP BY n, id "
            f"HAVING toUnixTimestamp64Nano(argMin(ts, (seq, nth))) > min({begins})) AS known, {LINE} FROM lines "
            f"WHERE {ranges} AND type = 'state' AND ts > {time(min(begin))} AND toUnixTimestamp64Nano(ts) > {begins} "
            f"ORDER BY n, seq, nth LIMIT 1 BY n, seq, nth FORMAT TSVRaw"
        )
        for text in answer.split(b"\n")[:-1]:
            index, known, line = text.split(b"\t", 2)
            decoded = _decoder.decode(line)
            assert isinstance(decoded, StateLine)
            yield int(index), decoded, known == b"1"

    def _late(self) -> str:
        """Losses that were noticed only behind the moments."""
        latest = max(one.at_ns for one in self._moments)
        return f"type = 'gap' AND {self._since} AND NOT ({self._until}) AND ts <= {time(latest + SLACK_NS)}"

    def later(self, rows: Mapping[int, Sequence[SeenLine | StateLine]]) -> dict[int, list[SeenLine | StateLine]]:
        """See Found."""
        tests = []
        for index, mine in rows.items():
            blank = [str(row.id) for row in mine if not row.sport and row.state in ("LISTEN", "SYN-SENT")]
            if blank:
                one = self._moments[index]
                tests.append(
                    f"({among([one.run])} AND ts > {time(one.at_ns)} AND ts <= {time(one.at_ns + LOOK_NS)} "
                    f"AND id IN ({', '.join(blank)}))"
                )
        if not tests:
            return {}
        answer = self._engine.ask(
            f"SELECT {self._number} AS n, {_LINE} FROM lines WHERE ({' OR '.join(tests)}) "
            f"AND type IN ('seen', 'state') AND sport != 0 ORDER BY n, seq, nth LIMIT 1 BY n, seq, nth FORMAT TSVRaw"
        )
        found: dict[int, list[SeenLine | StateLine]] = {}
        for text in answer.split(b"\n")[:-1]:
            place, _, line = text.partition(b"\t")
            decoded = _decoder.decode(line)
            assert isinstance(decoded, SeenLine | StateLine)
            found.setdefault(int(place), []).append(decoded)
        return found


def _is_over(line: SeenLine | StateLine) -> bool:
    return isinstance(line, StateLine) and is_over(line)


_ALIVE: Final = f"to != 'UNKNOWN' AND (to != 'UNCONN' OR netid IN ({listed(sorted(APPEARING_NETIDS))}))"
"""See recording.reader.is_over."""
_PLAIN: Final = "'checkpoint', 'netns', 'gap', 'resync', 'dropped'"
"""Lines that are about no connection, but for first ones and marks."""


def _parts(moments: Sequence[Moment]) -> Iterator[Sequence[Moment]]:
    for at in range(0, len(moments), _AT_ONCE):
        yield moments[at : at + _AT_ONCE]
