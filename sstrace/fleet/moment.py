"""The tables of many hosts at one moment: of each connection the newest line since the last checkpoint before it.

So a question reads minutes, not days. A checkpoint whose rows are not all there (its host is just sending them) is
passed over for the one before.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from sstrace.fleet.engines import Asked
from sstrace.fleet.sql import Run, Since, among, line_of, numbered, quoted, time
from sstrace.lines import CheckpointLine, DroppedLine, GapLine, MetaLine, ResyncLine, SeenLine, StateLine
from sstrace.protocols import DATAGRAM_NETIDS
from sstrace.recording.past import LOOK_NS, SLACK_NS, Past
from sstrace.recording.reader import Clock, RecordedNames
from sstrace.wire.recording import Fact

__all__ = ["Found", "Moment", "since", "tables"]

_AT_ONCE: Final = 64
"""Runs of one question."""
_CHECKPOINTS: Final = 3
"""Of a run so many are looked at."""
_STRAY_NS: Final = 10_000_000_000
"""Lines are nearly in the order of time; none stands further from its place."""

_MEMBERS: Final = """
type ts mono_ns seq id netid family from to state src sport dst dport netns ino sk uid ifindex ifname v6only cgroup
owners owner_source held_us role netns_name netns_cookie event container_id container_runtime pod pod_namespace comm pid
rows places unwritten cpu count after_ns before_ns first_seq reason added removed changed segment direction queue
backlog
"""
"""What of a line a table has to be told: an engine takes longer to understand such a question than to answer it."""
_LINE: Final = line_of(_MEMBERS.split())

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
        tests = " OR ".join(f"({among([one.run])} AND ts <= {time(one.at_ns)})" for one in some)
        number = numbered([one.run for one in some])
        answer = engine.ask(
            f"SELECT DISTINCT {number} AS n, toUnixTimestamp64Nano(ts), seq, nth, rows + places FROM checkpoints "
            f"WHERE {tests} "
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
    tests = [
        f"({among([moments[index].run])} AND ts = {time(start.at_ns)} AND seq = {start.seq} AND nth > {start.nth} "
        f"AND nth <= {start.nth + rows})"
        for index, known in starts.items()
        for start, rows in known
        if rows
    ]
    if not tests:
        return {}
    answer = engine.ask(
        f"SELECT {numbered([one.run for one in moments])} AS n, seq, min(nth), uniqExact(nth) FROM lines "
        f"WHERE {' OR '.join(tests)} GROUP BY n, seq FORMAT TSV"
    )
    return {
        (index, seq, first - 1): count
        for index, seq, first, count in (map(int, line.split(b"\t")) for line in answer.splitlines())
    }


def tables(engine: Asked, moments: Sequence[Moment], condition: str) -> dict[Moment, Found]:
    """The rows at each moment that meet a condition (SQL), and what is around them. ``moments``: one of each run."""
    starts = since(engine, moments)
    found: dict[Moment, Found] = {}
    for some in _parts([one for one in moments if one in starts]):
        number = numbered([one.run for one in some])
        rows, around = _lines(engine, number, some, starts, condition)
        later = _later(engine, number, some, rows)
        for index, one in enumerate(some):
            found[one] = Found(rows.get(index, ()), around.get(index, ()), later.get(index, ()))
    return found


def _range(moment: Moment, start: Since, *, checkpoint: bool = False) -> str:
    """The lines behind a checkpoint, its own rows too, up to a moment; ``checkpoint``: and itself."""
    return (
        f"({among([moment.run])} AND ts >= {time(start.at_ns - _STRAY_NS)} AND ts <= {time(moment.at_ns)} "
        f"AND (seq, nth) {'>=' if checkpoint else '>'} ({start.seq}, {start.nth}))"
    )


def _lines(
    engine: Asked, number: str, moments: Sequence[Moment], starts: Mapping[Moment, Since], condition: str
) -> tuple[dict[int, list[SeenLine | StateLine]], dict[int, list[Fact]]]:
    """Rows, and what is around, by place among the moments (see Found)."""
    ranges = " OR ".join(_range(one, starts[one]) for one in moments)
    plain = " OR ".join(_range(one, starts[one], checkpoint=True) for one in moments)
    late = " OR ".join(
        f"({among([one.run])} AND ts > {time(one.at_ns)} AND ts <= {time(one.at_ns + SLACK_NS)})" for one in moments
    )
    of_rows = f"FROM lines WHERE ({ranges}) AND type IN ('seen', 'state', 'life', 'gone') GROUP BY host, run, id"
    newest = f"SELECT host, run, max((seq, nth)) {of_rows}"
    naming = (
        f"SELECT host, run, max((seq, nth)) FROM lines WHERE ({ranges}) AND ifindex != 0 AND ifname != '' "
        f"GROUP BY host, run, netns, ifindex, ifname"
    )
    kinds = f"type IN ('seen', 'state', 'life') AND {_ALIVE} AND ({condition})"
    place = "(host, run, (seq, nth))"
    answer = engine.ask(
        f"SELECT {number} AS n, seq, nth, {place} IN ({newest}) AND {kinds} AS is_row, {_LINE} FROM lines "
        f"WHERE (({ranges}) AND {place} IN ({newest}) AND {kinds}) "
        f"OR (({ranges}) AND ifindex != 0 AND {place} IN ({naming})) "
        f"OR (({plain}) AND type IN ({_PLAIN})) OR (({late}) AND type = 'gap') "
        f"ORDER BY n, seq, nth LIMIT 1 BY n, seq, nth FORMAT TSVRaw"
    )
    came = _came(engine, number, of_rows)
    rows: dict[int, list[SeenLine | StateLine]] = {}
    around: dict[int, list[Fact]] = {}
    order: dict[int, tuple[int, int]] = {}
    for text in answer.split(b"\n")[:-1]:
        run, seq, nth, is_row, line = text.split(b"\t", 4)
        index = int(run)
        decoded = _decoder.decode(line)
        if is_row == b"1":
            assert isinstance(decoded, SeenLine | StateLine)
            order[id(decoded)] = came.get((index, int(seq), int(nth)), (int(seq), int(nth)))
            rows.setdefault(index, []).append(decoded)
        if is_row != b"1" or getattr(decoded, "ifindex", None):
            around.setdefault(index, []).append(decoded)
    for mine in rows.values():
        mine.sort(key=lambda row: order[id(row)])
    return rows, around


def _came(engine: Asked, number: str, of_rows: str) -> dict[tuple[int, int, int], tuple[int, int]]:
    """Of the newest line of each connection, by run, seq and nth: where the first one stands."""
    answer = engine.ask(
        f"SELECT {number}, newest.1, newest.2, first.1, first.2 FROM "
        f"(SELECT host, run, max((seq, nth)) AS newest, min((seq, nth)) AS first {of_rows}) "
        f"WHERE newest != first FORMAT TSV"
    )
    found = {}
    for text in answer.split(b"\n")[:-1]:
        index, seq, nth, first_seq, first_nth = map(int, text.split(b"\t"))
        found[index, seq, nth] = first_seq, first_nth
    return found


_ALIVE: Final = (
    "to != 'UNKNOWN' AND (to != 'UNCONN' OR netid IN (" + ", ".join(map(quoted, sorted(DATAGRAM_NETIDS))) + "))"
)
"""See recording.reader.is_over."""
_PLAIN: Final = "'checkpoint', 'netns', 'gap', 'resync', 'dropped'"
"""Lines that are about no connection, but for first ones and marks."""


def _later(
    engine: Asked, number: str, moments: Sequence[Moment], rows: Mapping[int, Sequence[SeenLine | StateLine]]
) -> dict[int, list[SeenLine | StateLine]]:
    tests = []
    for index, mine in rows.items():
        blank = [str(row.id) for row in mine if not row.sport and row.state in ("LISTEN", "SYN-SENT")]
        if blank:
            one = moments[index]
            tests.append(
                f"({among([one.run])} AND ts > {time(one.at_ns)} AND ts <= {time(one.at_ns + LOOK_NS)} "
                f"AND id IN ({', '.join(blank)}))"
            )
    if not tests:
        return {}
    answer = engine.ask(
        f"SELECT {number} AS n, {_LINE} FROM lines WHERE ({' OR '.join(tests)}) AND type IN ('seen', 'state') "
        f"AND sport != 0 ORDER BY n, seq, nth LIMIT 1 BY n, seq, nth FORMAT TSVRaw"
    )
    found: dict[int, list[SeenLine | StateLine]] = {}
    for text in answer.split(b"\n")[:-1]:
        place, _, line = text.partition(b"\t")
        decoded = _decoder.decode(line)
        assert isinstance(decoded, SeenLine | StateLine)
        found.setdefault(int(place), []).append(decoded)
    return found


def _parts(moments: Sequence[Moment]) -> Iterator[Sequence[Moment]]:
    for at in range(0, len(moments), _AT_ONCE):
        yield moments[at : at + _AT_ONCE]
