"""A recording as ``Hub`` takes it: the table, the places and the events of one moment, and any moment can be asked for.

Each is read anew from the nearest checkpoint before it (recording.past), so that a moment is the same whichever way one
came to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from sstrace.lines import GoneLine, MetaLine, SeenLine, StateLine
from sstrace.live.places import Places
from sstrace.recording.past import Until, table_at
from sstrace.recording.reader import Clock, LineNames, Reader, Span, head_of, span
from sstrace.render.views import Where
from sstrace.sources.reel import reel
from sstrace.sources.replay import Recording
from sstrace.table import Row, Transition
from sstrace.watch.told import Rows, birth, row_told, transition

__all__ = ["Film", "Heard", "Line", "Moments", "lines_of"]


class _Places(Places):
    """Those of the recording: nobody in them can be asked any more."""

    def __init__(self, names: LineNames) -> None:
        super().__init__()
        self._recorded = names.places

    @property
    def where(self) -> Where | None:  # type: ignore[override]  # as recorded, which says as much of them to writers
        """See Places."""
        return self._recorded if self._recorded.several else None


class Line(NamedTuple):
    """A line of one connection."""

    at_ns: int
    """Since 1970 UTC."""
    run: int
    """Which of the recordings that stand in the file, or after one another: each begins its numbers anew."""
    line: SeenLine | StateLine | GoneLine


class Heard:
    """The transitions on the way to a moment."""

    def __init__(self) -> None:
        self.lines: list[StateLine] = []
        self.born: dict[int, int] = {}
        """By id, of rows that were not there before: when, CLOCK_MONOTONIC."""

    def hear(self, line: StateLine, known: bool) -> None:
        """See Past."""
        self.lines.append(line)
        if not known:
            self.born[line.id] = line.mono_ns


class Moments:
    """Something that was recorded, and where in its time one is."""

    polls = False

    def __init__(self, names: LineNames, host: str, ends: Span) -> None:
        """``host``: what a screen is headed with."""
        self.names = names
        self.host = host
        self.first_ns, self.last_ns = ends.first_ns, ends.last_ns
        self.at_ns = self.mono_ns = 0
        self.lost = self.events = 0
        self.table = Rows()
        self.places: Places = _Places(names)
        self.changes: list[Transition] = []
        """What happened in the time before the moment that ``look`` was asked for."""
        self._born: set[int] = set()
        """Of which rows the first that was ever told is among them."""
        self._lives: dict[int, list[Line]] = {}

    @property
    def tracer(self) -> Self:
        """What a hub finds table, places and events at."""
        return self

    def own(self, rows: Iterable[Row] | None = None) -> None:
        """See Tracer: who held what is in the lines."""

    def look(self, at_ns: int, back_ns: int, *, aloud: bool = False) -> None:
        """Go to a moment, ns since 1970 UTC, or the end that is nearer. ``back_ns``: how far before it ``changes``
        begin; ``aloud``: what could not be used is said.
        """
        raise NotImplementedError

    def _be(self, rows: Iterable[Row | None], heard: Heard, back_ns: int) -> None:
        """Have these be the rows, and take of what was heard what is no older."""
        since_ns = self.mono_ns - back_ns
        self.table.rows = {row.id: row for row in rows if row is not None}
        self.changes = list(self._changed(line for line in heard.lines if line.mono_ns > since_ns))
        self.events = len(self.changes)
        self._born = {number for number, mono_ns in heard.born.items() if mono_ns > since_ns}

    def before(self) -> Iterator[tuple[Row, int]]:
        """The rows that there were before ``changes``, and the state that each was in."""
        first: dict[int, Transition] = {}
        for change in self.changes:
            first.setdefault(change.row.id, change)
        for row in self.table:
            if row.id not in first:
                yield row, row.state
        for change in first.values():
            if change.row.id not in self._born:
                yield change.row, change.old

    def _row(self, line: SeenLine | StateLine) -> Row | None:
        return row_told(line, self.names)

    def _changed(self, lines: Iterable[StateLine]) -> Iterator[Transition]:
        """Lines as what they tell: of one connection all are of one row, as it was in the end."""
        lines = sorted(lines, key=lambda line: line.mono_ns)
        last = {line.id: line for line in lines}
        rows = {number: self.table.rows.get(number) or self._row(line) for number, line in last.items()}
        return (transition(line, row) for line in lines if (row := rows[line.id]) is not None)

    # One connection.

    def life(self, number: int) -> tuple[Row | None, list[Transition], int | None]:
        """Of one connection up to the moment: its row, as it was then or last, and what happened to it; and when, ns
        since 1970 UTC, the recording first tells of it.
        """
        told = self._lives.get(number)
        if told is None:
            told = self._lives[number] = list(self._told(number))
        so_far = [one for one in told if one.at_ns <= self.at_ns]
        lines = [one.line for one in so_far if one.run == so_far[-1].run]
        changes: list[Transition] = []
        row = None
        for line in lines:
            if not isinstance(line, GoneLine):
                row = self._row(line) or row
            if isinstance(line, StateLine) and row is not None:
                changes.append(transition(line, row))
        row = self.table.rows.get(number) or row
        if row is not None and changes and isinstance(lines[0], StateLine):
            row.born_ns = birth(changes[0])
        return row, changes, told[0].at_ns if told else None

    def _told(self, number: int) -> Iterator[Line]:
        raise NotImplementedError


class Film(Moments):
    """A recording. Closed by leaving it."""

    def __init__(self, sources: Sequence[Recording], names: LineNames) -> None:
        """``sources``, in the order of time, are this one's from here on. Raises DecodeError."""
        self._source = reel(sources)
        head = head_of(self._source)
        super().__init__(names, head.host if head is not None else "", span(self._source))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def look(self, at_ns: int, back_ns: int, *, aloud: bool = False) -> None:
        """See Moments."""
        at_ns = max(self.first_ns, min(at_ns, self.last_ns))
        heard = Heard()
        past, reader = table_at(self._source, Until(at_ns), self.names, heard.hear, back_ns)
        reader.finish(aloud=aloud)
        self.at_ns, self.mono_ns, self.lost = past.at_ns, past.mono_ns, past.lost
        self._be((self._row(line) for place in past.places for line in place.lines), heard, back_ns)

    def _told(self, number: int) -> Iterator[Line]:
        return lines_of(Reader(self._source, self.host or None), number)


def lines_of(reader: Reader, number: int) -> Iterator[Line]:
    """Of what a reader is about to read, the lines of one connection."""
    reader.only(b'"id":%d,' % number, b'"type":"meta"')
    clock, run = Clock(), 0
    for item in reader.runs():
        if isinstance(item, MetaLine):
            clock = Clock()
            clock.learn(item)
            run += item.part in (None, 1)
            continue
        for line in item.lines:
            if clock.offset_ns is None:
                clock.learn(line)
            if isinstance(line, SeenLine | StateLine | GoneLine) and line.id == number:
                yield Line(line.mono_ns + (clock.offset_ns or 0), run, line)
