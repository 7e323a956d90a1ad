"""The table of a recording as it was at some moment.

A moment is found by bisection, then the nearest checkpoint (or first line) before it by reading backwards; from there
lines are folded: the last line of a connection tells its row, until it closes. In compressed files and pipes
everything before the moment is read.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

from sstrace.errors import LookupFailed, UsageError
from sstrace.lines import (
    CheckpointLine,
    DroppedLine,
    GapLine,
    GoneLine,
    MetaLine,
    NetnsLine,
    ResyncLine,
    SeenLine,
    StateLine,
)
from sstrace.model import AF_INET, AF_INET6, AF_UNSPEC, InetSocket, Label, Netns, Owner, Role, Socket, State, Table
from sstrace.protocols import RECORDED, SHOWN, TABLE_OF_NETID
from sstrace.query.command import Selection, When
from sstrace.query.match import Predicate
from sstrace.recording.reader import (
    Clock,
    Reader,
    RecordedNames,
    absolute,
    is_over,
    row_of,
    span,
    target,
)
from sstrace.render.times import moment
from sstrace.rows import shown_as
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say
from sstrace.wire import recording

__all__ = ["LOOK_NS", "SLACK_NS", "Heard", "Past", "PastPlace", "PastRows", "Until", "look_back", "table_at"]

SLACK_NS = 6_000_000_000
"""Lines are nearly in the order of time; none stands further behind its place."""

_LATE_NS = 250_000_000
"""Nor behind its place by more than this, unless it was found by looking."""
LOOK_NS = 10_000_000_000
"""So far behind a moment a port is looked for that was not known then."""
_LOOKS = 100_000
"""By then a socket without a port has got one in the recording, or has ended."""
_ABOVE = 1 << 17

_LISTEN = int(State.LISTEN)
_STARTS = (b'{"type":"checkpoint"', b'{"type":"meta"')


Heard = Callable[[StateLine, bool], None]
"""Is told of transitions, and whether the row of each was known before."""


class PastPlace(NamedTuple):
    """A network namespace at one moment."""

    netns: Netns
    label: Label
    interfaces: Mapping[int, str]
    """What they were called."""
    ephemeral: tuple[int, int]
    lines: Sequence[SeenLine | StateLine]
    """Of each of its rows the last that told of it."""


class Past:
    """The rows of a recording at one moment: by id, each the last line that told of it."""

    def __init__(self, heard: Heard | None = None) -> None:
        """``heard`` is told of each transition on the way to the moment."""
        self._heard = heard
        self.rows: dict[int, SeenLine | StateLine] = {}
        self.places: list[PastPlace] = []
        """The network namespaces that are meant, in the order in which they are shown: by what they are called, then by
        inode. One at least: the recorder's own, or whichever its rows are of.
        """
        self.several = False
        """Whether the recording is of several."""
        self.interfaces: Mapping[int, str] = {}
        """What they were called in the recorder's own."""
        self.ephemeral: tuple[int, int] | None = None
        """The range of that."""
        self.met: set[str] = set()
        """Words of --netns to which one of them answers."""
        self.at_ns = 0
        """The moment, ns since 1970 UTC."""
        self.mono_ns = 0
        """The moment, CLOCK_MONOTONIC of the machine that was recorded."""
        self.tables = 0
        """Mask of the tables that were recorded; 0: nobody knows."""
        self.whole = False
        """Whether there was a baseline."""
        self.lost = 0
        """Events that had been lost then, and not been made good yet."""
        self.missing = 0
        """Lines that were not written, of the time since the last baseline."""
        self.hole = 0
        """Lines that could not be written, just after which the moment may lie."""

    def fold(self, reader: Reader, offset: int, names: RecordedNames, until: "Until") -> None:
        """Read from ``offset`` up to the moment."""
        clock = Clock()
        fresh: dict[int, SeenLine | StateLine] | None = None
        due = checked = 0
        limit = -1
        for item in reader.runs(offset):
            if isinstance(item, MetaLine):
                names.learn(item)
                clock = Clock()
                at = recording.realtime(item.ts)
                if until.seq is None and at is not None and at > until.at_ns:
                    return
                clock.learn(item)
                limit = until.limit(clock)
                self.rows, fresh, due = {}, None, 0
                self.whole, self.lost = item.part is None, 0
                self._reach(item.mono_ns, clock)
                continue
            lines = item.lines
            if clock.offset_ns is None and clock.learn(lines[0]):
                limit = until.limit(clock)
            if not due and until.seq is None and lines[0].mono_ns > limit + _LATE_NS and not self._nameless():
                reader.only(b'"approximate":true', b'"type":"gap"')
            if not due and until.beyond(lines[0], limit, self._nameless()):
                return
            reached_ns = 0
            for line in lines:
                if line.mono_ns > limit or (until.seq is not None and line.seq > until.seq):
                    if isinstance(line, SeenLine | StateLine):
                        self.hindsight(line)
                    elif isinstance(line, GapLine) and until.seq is None and line.after_ns <= limit:
                        self.lost += line.count  # noticed later, lost perhaps before
                    continue
                reached_ns = line.mono_ns
                names.hear(line)
                kind = type(line)
                if due and (line.seq != checked or (kind is not SeenLine and kind is not NetnsLine)):
                    self.rows.update(fresh or {})  # a checkpoint that is not whole
                    fresh, due = None, 0
                if due and fresh is not None:
                    if isinstance(line, SeenLine):
                        fresh[line.id] = line
                    due -= 1
                    if not due:
                        self.rows, fresh, self.whole, self.missing = fresh, None, True, 0
                elif kind is StateLine:
                    assert isinstance(line, StateLine)
                    if self._heard is not None:
                        self._heard(line, line.id in self.rows)
                    if is_over(line):
                        self.rows.pop(line.id, None)
                    else:
                        self.rows[line.id] = line
                elif isinstance(line, SeenLine):
                    self.rows[line.id] = line
                elif isinstance(line, GoneLine):
                    self.rows.pop(line.id, None)
                elif isinstance(line, CheckpointLine):
                    if clock.learn(line):
                        limit = until.limit(clock)
                    fresh, due, checked = {}, line.rows + (line.places or 0), line.seq
                    self.hole = line.unwritten or 0
                    if not due:
                        self.rows, fresh, self.whole = {}, None, True
                elif isinstance(line, GapLine):
                    self.lost += line.count
                elif isinstance(line, DroppedLine):
                    self.missing += line.count
                elif isinstance(line, ResyncLine):
                    self.lost = 0
            if reached_ns:
                self._reach(reached_ns, clock)
        if due:
            self.rows.update(fresh or {})

    def part(self, names: RecordedNames) -> None:
        """Tell the rows apart by network namespace, as of the moment."""
        places = names.places
        self.tables = names.tables
        self.interfaces, self.ephemeral = names.interfaces(), names.ephemeral()
        rows: dict[int, list[SeenLine | StateLine]] = {netns.inode: [] for netns, _ in places.all()}
        for line in self.rows.values():
            rows.setdefault(line.netns, []).append(line)
        self.several = places.several or len(rows) > 1
        self.met = {word for inode in rows for word in places.answers(inode)}
        found = [
            PastPlace(
                Netns(net, inode), places.named(inode), names.of(net).interfaces(), names.of(net).ephemeral(), lines
            )
            for inode, lines in (rows or {places.home: []}).items()
            if places.takes(inode)
            for net in (places.net(inode),)
        ]
        self.places = sorted(found, key=lambda place: (place.label.text(place.netns.inode), place.netns.inode))

    def _nameless(self) -> bool:
        """Whether a port is not known that a later line may tell."""
        return any(line.sport == 0 for line in self.rows.values())

    def hindsight(self, line: SeenLine | StateLine) -> None:
        """A port that was chosen in listen(2) or connect(2), and that the recorder learnt only later."""
        row = self.rows.get(line.id)
        if row is None or row.sport:
            return
        if row.state in ("LISTEN", "SYN-SENT") and row.state == (
            line.state if isinstance(line, SeenLine) else line.old
        ):
            row.sport = line.sport
            if row.v6only is None:
                row.v6only = line.v6only

    def _reach(self, mono_ns: int, clock: Clock) -> None:
        if clock.offset_ns is not None:
            self.mono_ns = max(self.mono_ns, mono_ns)
            self.at_ns = max(self.at_ns, mono_ns + clock.offset_ns)


class Until:
    """Where the fold ends: at a time (ns since 1970 UTC), or behind a line (its seq)."""

    def __init__(self, at_ns: int, seq: int | None = None) -> None:
        self.at_ns = at_ns
        self.seq = seq

    def limit(self, clock: Clock) -> int:
        """The same time by the recorded machine's CLOCK_MONOTONIC."""
        if self.seq is not None:
            return 1 << 63
        return self.at_ns - clock.offset_ns if clock.offset_ns is not None else -1

    def beyond(self, line: recording.Fact, limit: int, nameless: bool) -> bool:
        """Whether nothing of interest can follow."""
        if self.seq is not None:
            return line.seq > self.seq + (_LOOKS if nameless else 0)
        return line.mono_ns > limit + (LOOK_NS if nameless else SLACK_NS)


class PastRows:
    """The tables of a moment (snapshot.sources.TableSource): of a network namespace, or of several as if they were
    one.
    """

    tables = RECORDED
    """See TableSource."""

    def __init__(self, past: Past, names: RecordedNames, places: Sequence[PastPlace]) -> None:
        self._names = names
        self._interfaces = places[0].interfaces if len(places) == 1 else past.interfaces
        self._ephemeral = places[0].ephemeral if len(places) == 1 else past.ephemeral
        self._places = {place.netns.inode: (place.netns.inode, place.label) for place in places}
        self._inodes: dict[int, int] = {}
        self._mono_ns = past.mono_ns
        self._rows: dict[Table, list[InetSocket]] = {}
        self._outside: dict[Table, list[Socket]] = {}
        """Those outside of the internet's families."""
        self._numbers: dict[int, int] = {}
        self._since: dict[int, int] = {}
        self._bounds: set[int] = set()
        self._roles: dict[int, Role] = {}
        self.bad = 0
        self.owners: dict[int, Sequence[Owner]] = {}
        for line in (line for place in places for line in place.lines):
            table = TABLE_OF_NETID.get(line.netid)
            if table is None or not RECORDED >> table & 1:
                continue
            try:
                row = row_of(line, names)
            except OSError:
                self.bad += 1
                continue
            found = shown_as(row, partial=True)
            if isinstance(found, InetSocket):
                self._rows.setdefault(table, []).append(found)
            else:
                self._outside.setdefault(table, []).append(found)
            self._numbers[id(found)] = line.id
            self._inodes[id(found)] = line.netns
            self._since[id(found)] = row.since_ns
            if row.role is not None:
                self._roles[id(found)] = row.role
            if not row.exact:
                self._bounds.add(id(found))
            if line.ino and line.owners:
                self.owners[line.ino] = names.owners(line.owners)

    def everything(self) -> Iterator[InetSocket]:
        """All rows of the internet's tables."""
        return chain.from_iterable(self._rows.values())

    def selected(self, selection: Selection) -> Iterator[tuple[Table, Sequence[Socket]]]:
        """The selected rows of every selected table, in ss's order."""
        for table in (table for tables in SHOWN for table in tables if selection.tables >> table & 1):
            for rows in self.rows(table, selection):
                yield table, rows
            yield table, self.outside(table, selection)

    def outside(self, table: Table, selection: Selection) -> Sequence[Socket]:
        """The selected rows of a table outside of the internet's families."""
        return [row for row in self._outside.get(table, ()) if selection.states >> row.state & 1]

    def known(self, shown: Sequence[Socket]) -> Sequence[Socket]:
        """See TableSource: the kernel is not asked."""
        return shown

    def rows(self, table: Table, selection: Selection, **_: object) -> Iterator[Sequence[InetSocket]]:
        """The selected rows of a table: IPv4 before IPv6, listeners before the rest, as the kernel dumps them; else the
        oldest connection first.
        """
        for family in (AF_INET, AF_INET6):
            if selection.families >> family & 1 and selection.preferred in (AF_UNSPEC, family, *_OTHERS):
                rows = [
                    row
                    for row in self._rows.get(table, ())
                    if row.family == family and selection.states >> row.state & 1
                ]
                yield [row for row in rows if row.state == _LISTEN]
                yield [row for row in rows if row.state != _LISTEN]

    def recall(self) -> None:
        """Have the names be those of this moment."""
        self._names.recall(self._interfaces, self._ephemeral)

    def ifname(self, row: Socket) -> str | None:
        """What the device that a row is bound to was called."""
        return self._interfaces.get(getattr(row, "ifindex", 0))

    def numbered(self, selection: Selection, matches: Predicate | None) -> Iterator[tuple[int, Socket]]:
        """The selected rows that match, in the same order, with the recording's numbers of them; by the names of this
        moment.
        """
        self.recall()
        for _, rows in self.selected(selection):
            for row in rows:
                if matches is None or matches(row):
                    yield self._numbers[id(row)], row

    def held_ns(self, row: Socket) -> int | None:
        """How long the row had been in its state; for one that is older than the recording, how long that is known."""
        since = self._since.get(id(row))
        return self._mono_ns - since if since is not None else None

    def role(self, row: Socket) -> Role | None:
        """Which end the row was; None when that was not seen."""
        return self._roles.get(id(row))

    def netns(self, row: Socket) -> tuple[int, Label]:
        """The network namespace that the row is in."""
        return self._places[self._inodes[id(row)]]

    def at_least(self, row: Socket) -> bool:
        """Whether the row was in its state already when the recording began."""
        return id(row) in self._bounds


_OTHERS = tuple(family for family in range(1, 64) if family not in (AF_INET, AF_INET6))


def look_back(source: Recording, when: When | None, names: RecordedNames, *, utc: bool = False) -> tuple[Past, Reader]:
    """The table at a moment (None: at the end); ``utc``: see ``target``. Raises LookupFailed for one before the
    recording, DecodeError when nothing can be used.
    """
    until = Until(1 << 62)
    if source.regular:
        ends = span(source)
        if when is None:
            until = Until(ends.last_ns)
        elif when.kind == "seq":
            until = Until(0, when.ns)
            last = recording.line_seq(source.last_line(recording.line_seq) or b"")
            if last is not None and when.ns > last:
                say(f"{source.name} ends with line #{last}, before {when.text}: this is the table then")
        else:
            at = target(when, ends, utc=utc)
            until = Until(at + when.open_ns)
            if until.at_ns < ends.first_ns:
                raise LookupFailed(
                    f"sstrace: {source.name} begins at {moment(ends.first_ns, utc=utc)}, after {when.text}: "
                    f"it knows nothing of that moment"
                )
            if at > ends.last_ns:
                ended = moment(ends.last_ns, utc=utc)
                say(f"{source.name} ends at {ended}, before {when.text}: this is the table then")
    elif when is not None and when.kind == "seq":
        until = Until(0, when.ns)
    elif when is not None:
        began = absolute(when, utc=utc)
        if began is None:
            raise UsageError(f'sstrace: "{when.text}" counts from an end of the recording, and {source.name} is a pipe')
        until = Until(began + when.open_ns)
    return table_at(source, until, names)


def table_at(
    source: Recording,
    until: "Until",
    names: RecordedNames,
    heard: Heard | None = None,
    back_ns: int = 0,
) -> tuple[Past, Reader]:
    """The table at a moment that is known. ``names`` are those of then; ``heard``: see Past, which hears of everything
    that happened within ``back_ns`` before the moment, and of what stands between that and the checkpoint before.
    """
    past = Past(heard)
    offset = 0
    head = recording.meta(source.first_line()) if source.regular else None
    if head is not None:
        names.learn(head)
    reader = Reader(source, head.host if head is not None else None)
    if source.seekable:
        offset = _start(source, Until(until.at_ns - back_ns, until.seq), head)
    past.fold(reader, offset, names, until)
    past.part(names)
    if until.seq is None and until.at_ns < 1 << 62:
        shift = until.at_ns - past.at_ns
        if shift > 0:
            past.mono_ns += shift
            past.at_ns = until.at_ns
    return past, reader


def _start(source: Recording, until: Until, head: MetaLine | None) -> int:
    """Offset of the last checkpoint, or first line of a stream, before the moment; of the host of the first line."""

    def time_of(line: bytes) -> int | None:
        return recording.line_time(line) if until.seq is None else recording.line_seq(line)

    goal = until.at_ns if until.seq is None else until.seq
    for offset in source.before(source.seek(goal, time_of), _STARTS):
        line = source.line_at(offset)
        at = time_of(line)
        if at is not None and at <= goal:
            begun = recording.meta(line)
            if begun is not None and head is not None and begun.host != head.host:
                continue
            # Lines that came out of order may stand a little above the checkpoint that they belong behind.
            return offset if begun is not None else source.line_start(max(offset - _ABOVE, 0))
    return 0
