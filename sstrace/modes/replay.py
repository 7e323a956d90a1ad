"""``--replay FILE``: a recording again, in the words of a live trace.

Lines go through the printer of the live trace, as transitions of rows. Where nothing is selected away and NDJSON is
wanted, lines that stand in the file just as they would be written are copied, after they were decoded: several times
as fast.

Of a rotation's files each begins with the whole table; behind the file before, that is old news and not printed.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from sstrace.changes import Happened, NetnsNews
from sstrace.errors import DecodeError, SstraceError
from sstrace.lines import (
    CheckpointLine,
    DroppedLine,
    GapLine,
    GoneLine,
    IncidentLine,
    LifeLine,
    MetaLine,
    NetnsLine,
    ResyncLine,
    SeenLine,
    StateLine,
)
from sstrace.live.signals import Stopped, touch
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, State
from sstrace.output.printer import Printer
from sstrace.protocols import RECORDED
from sstrace.query import options, spoken
from sstrace.query.command import Command
from sstrace.query.netns import ALL
from sstrace.recording.files import files
from sstrace.recording.places import news_of
from sstrace.recording.reader import (
    STATE_NUMBER,
    Clock,
    Reader,
    RecordedNames,
    is_over,
    owners_of,
    row_of,
    window,
)
from sstrace.render.incidents import told_by
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say
from sstrace.table import Row, Transition
from sstrace.wire import recording
from sstrace.wire.recording import Run

__all__ = ["Replay", "finish", "learn_names", "readers", "run", "tell_unasked"]

_NAP_S = 0.05


def readers(sources: Iterable[Recording]) -> Iterator[tuple[Recording, Reader]]:
    """A reader of each, for who reads it whole before the next. What could not be used is told; raises DecodeError at
    the end where nothing in any could be.
    """
    usable = False
    failure: DecodeError | None = None
    for source in sources:
        with source:
            source.wait()
            reader = Reader(source)
            yield source, reader
            try:
                reader.finish()
                usable = True
            except DecodeError as error:
                if failure is not None:
                    say(str(failure))
                failure = error
    if failure is not None:
        if not usable:
            raise failure
        say(str(failure))


def learn_names(sources: Iterable[Recording], names: RecordedNames) -> None:
    """What the first lines say of names, before a filter asks for them."""
    for source in sources:
        if source.regular:
            head = recording.meta(source.first_line())
            if head is not None:
                names.learn(head)


def run(command: Command, env: Mapping[str, str]) -> int:
    """Replay; the exit code. Raises DecodeError when nothing in any file can be used."""
    own = command.own
    stopped = Stopped()
    names = RecordedNames(env)
    names.places.choose(own.netns)
    sources = files(command)
    learn_names(sources, names)
    if ALL in own.netns and not all(source.regular for source in sources):
        names.places.several = True  # the header is written before standard input has told
    command = options.resolve(options.of_recordings(command, names.tables), names)
    replay = Replay(command, names, Printer(command, names, 0, stopped, names.places), stopped, alone=len(sources) == 1)
    if own.ready_file is not None:
        touch(own.ready_file)
    usable = False
    failure: SstraceError | None = None
    for source in sources:
        with source:
            if stopped.now or replay.printer.full:
                continue
            if not (own.speed or (os.isatty(1) and own.output is None and not own.sink)):
                source.wait()
            reader = Reader(source)
            replay.file(source, reader)
            replay.printer.flush()
            try:
                # A reader that was left early has not seen what is damaged further on.
                reader.finish(aloud=not replay.left)
                usable = True
            except DecodeError as error:
                if failure is not None:
                    say(str(failure))
                failure = error
    finish(replay.printer, stopped)
    if failure is not None:
        if not usable:
            raise failure
        say(str(failure))
    if not replay.left:
        names.finish(command.selection.filter)
    tell_unasked(command, names.tables)
    return SstraceError.exit_code if replay.printer.failed else 0


def tell_unasked(command: Command, tables: int) -> None:
    """Say where a recording, of which nobody could know before it was read, holds more than was told. ``tables``: mask
    of what it holds.
    """
    more = tables & RECORDED & ~command.selection.tables
    if more and not command.selection.asked:
        say(f"{spoken.named(more)} was recorded, too: {' '.join(spoken.naming(tables & RECORDED))} tells all")


def finish(printer: Printer, stopped: Stopped) -> None:
    """Wait for whoever reads: nothing else happens here that could not wait."""
    printer.flush()
    for sink in printer.sinks:
        transport = sink.transport
        while transport.queued and transport.stuck is None and not stopped.now:
            transport.wait(_NAP_S)
            transport.pump()
    printer.close()
    for sentence in printer.summary():
        say(sentence)


class Replay:
    """Tells the files of one host, one after the other. ``net``: of one of several hosts whose lines go through the
    same printer, what is unique among all their network namespaces, by the cookie; lines are numbered anew then.
    """

    def __init__(
        self,
        command: Command,
        names: RecordedNames,
        printer: Printer,
        stopped: Stopped,
        *,
        alone: bool,
        net: Callable[[int], int] | None = None,
    ) -> None:
        own, selection = command.own, command.selection
        self._names = names
        self._between = own.between
        self._alone = alone
        self._utc = own.utc
        self._json = own.json
        self._speed = own.speed or 0.0
        self._stopped = stopped
        self._places = names.places
        self._net = net
        self.printer = printer
        self._alike = (
            selection.filter is None
            and selection.touch == selection.from_states == selection.to_states == ALL_STATES
            and not selection.avoid
            and not selection.ended
            and bool(selection.families >> AF_INET & 1 and selection.families >> AF_INET6 & 1)
            and own.between is None
            and not own.no_baseline
            and (not own.netns or ALL in own.netns)
            and net is None
            and not own.events
        )
        self._tables = selection.tables
        self._everything = self._alike
        """Whether all that is recorded is told."""
        self._may_copy = printer.verbatim and own.count is None and not self._speed
        self._clock = Clock()
        self.rows: dict[int, Row] = {}
        """What is known to be there now, by id."""
        self._last: MetaLine | None = None
        self._news = True
        """Whether the next checkpoint tells what nobody has been told yet."""
        self._due = self._checked = 0
        self._hole: list[Row] | None = None
        """Rows of a checkpoint before which lines could not be written …"""
        self._hole_places: list[NetnsNews] = []
        """… and the network namespaces that stand in it."""
        self._unwritten = 0
        self._baseline = not own.no_baseline
        self._first_ns = -1
        """The time that the lines of the baseline bear."""
        self.window: tuple[int, int] | None = None
        """Only what happens in it is told: ns since 1970 UTC."""
        self._began: tuple[int, int] | None = None
        self.left = False
        """Whether the last file was left before its end."""

    def file(self, source: Recording, reader: Reader) -> None:
        """One recording."""
        self.left = False
        if self._between is not None:
            self.window = window(source, self._between, utc=self._utc, alone=self._alone)
        for item in reader.runs():
            self.take(item)
            if self._stopped.now or self.printer.full or self.left:
                self.left = True
                return

    def take(self, item: MetaLine | Run) -> None:
        """The next lines."""
        if isinstance(item, MetaLine):
            self._meta(item)
        else:
            self._run(item)

    def fold(self, item: MetaLine | Run) -> None:
        """The next lines, of which nothing is told."""
        if isinstance(item, MetaLine):
            self._names.learn(item)
            if item.part is None:
                self.rows.clear()
            return
        for line in item.lines:
            self._fold(line)

    def _meta(self, meta: MetaLine) -> None:
        self._names.learn(meta)
        self._everything = self._alike and not self._names.tables & ~self._tables
        last, self._last = self._last, meta
        goes_on = (
            last is not None
            and meta.part is not None
            and meta.part == (last.part or 0) + 1
            and (meta.boot_id, meta.netns) == (last.boot_id, last.netns)
        )
        self._due = 0
        self._clock = Clock()
        self._tick(meta)
        if goes_on:
            return
        self.rows.clear()
        if self.printer.handshakes is not None:
            self.printer.handshakes.clear()
        self._first_ns = meta.mono_ns
        self._news = meta.part is not None
        if self.printer.json:
            if self._net is None:
                self.printer.writer.seq = 0
            fields = {name: getattr(meta, name) for name in meta.__struct_fields__}
            if meta.ephemeral is not None:
                fields["ephemeral"] = list(meta.ephemeral)
            self.printer.begin(MetaLine(**fields))

    def _tick(self, line: recording.Line) -> None:
        if self._clock.learn(line) and self._clock.offset_ns is not None:
            self.printer.move(self._clock.offset_ns)
            if not self._json:
                self.printer.begin(None, at_ns=line.mono_ns)

    def _run(self, run: Run) -> None:
        if self._clock.offset_ns is None:
            self._tick(run.lines[0])
        if self._may_copy and self._everything and run.raw is not None and not self._due:
            raw = run.raw
            self.printer.whole(raw if raw.endswith(b"\n") else raw + b"\n")
            self._news = False
            return
        for line in run.lines:
            if self.window is not None and not self._inside(line):
                if self.left:
                    return
                self._fold(line)
                continue
            if self._speed:
                self._wait(line)
                if self._stopped.now:
                    return
            if isinstance(line, StateLine):
                self._due = 0
                self._state(line)
                if self.printer.full:
                    return
            else:
                self._other(line)

    def _inside(self, line: recording.Fact) -> bool:
        assert self.window is not None
        at = line.mono_ns + (self._clock.offset_ns or 0)
        if at > self.window[1] + 1_000_000_000:
            self.left = True
        return self.window[0] <= at <= self.window[1]

    def _fold(self, line: recording.Fact) -> None:
        """A line that is not shown: who knows its row knows what a later line is about."""
        if isinstance(line, NetnsLine | CheckpointLine):
            self._names.hear(line)
        elif isinstance(line, StateLine):
            if self.printer.handshakes is not None:
                old, new = STATE_NUMBER[line.old], STATE_NUMBER[line.state]
                self.printer.handshakes.hear(line.id, old, new, _ns(line.held_us))
            row = self._row(line)
            if row is not None and not is_over(line):
                self.rows[line.id] = row
            else:
                self.rows.pop(line.id, None)
        elif isinstance(line, SeenLine):
            row = self._row(line)
            if row is not None:
                self.rows[line.id] = row
        elif isinstance(line, GoneLine):
            self.rows.pop(line.id, None)

    def _row(self, line: SeenLine | StateLine | IncidentLine) -> Row | None:
        """None: its addresses are none, or its namespace is not meant."""
        self._names.hear(line)  # type: ignore[arg-type]  # of incidents, those that are lines
        if not self._places.takes(line.netns):
            return None
        try:
            row = row_of(line, self._names)
        except OSError:
            return None
        if self._places.several:
            self._places.tell_peer(line.id, line.peer_netns, owners_of(line.peer_owners))
        if self._net is not None:
            row.net = self._net(row.net)
        return row

    def _number(self, line: recording.Fact) -> None:
        """Lines keep their numbers, unless some are left out."""
        if self._everything:
            self.printer.writer.seq = line.seq - 1

    def _state(self, line: StateLine) -> None:
        row = self._row(line)
        if row is None:
            return
        if is_over(line):
            self.rows.pop(line.id, None)
        else:
            self.rows[line.id] = row
        self._number(line)
        took = _ns(line.handshake_us) if isinstance(line, LifeLine) else None
        if took is not None and self.printer.handshakes is not None:
            self.printer.handshakes.learn(row.id, took)
        self.printer.state(
            Transition(
                line.mono_ns,
                row,
                STATE_NUMBER[line.old],
                STATE_NUMBER[line.state],
                _ns(line.held_us),
                line.cause,
                line,
                True,
                line.approximate,
                line.source,
                line.ended,
                _ns(line.lifetime_us),
            )
        )
        if is_over(line):
            self._places.tell_peer(line.id, None, ())

    def _other(self, line: recording.Fact) -> None:
        printer = self.printer
        if isinstance(line, CheckpointLine):
            self._tick(line)
            self._names.hear(line)
            self._due, self._checked = line.rows + (line.places or 0), line.seq
            self._hole = [] if line.unwritten else None
            self._hole_places = []
            self._unwritten = line.unwritten or 0
        elif isinstance(line, SeenLine):
            if line.seq != self._checked:
                self._due = 0
            row = self._row(line)
            if row is not None:
                before = self.rows.get(line.id)
                if before is not None and row.state == State.TIME_WAIT != before.state:
                    printer.handed_over(row, before.state, line.mono_ns)
                self.rows[line.id] = row
                if self._due and self._hole is not None:
                    self._hole.append(row)
                elif (self._baseline or not self._begins(line)) and (not self._due or self._news):
                    self._number(line)
                    printer.seen(row, line.mono_ns)
            self._count(line)
        elif isinstance(line, NetnsLine):
            self._netns(line)
            self._count(line)
        elif isinstance(line, GoneLine):
            row = self.rows.pop(line.id, None)
            self._number(line)
            if self._everything and printer.handshakes is None:
                printer.ended(line.id, STATE_NUMBER[line.state], line.mono_ns)
            elif row is not None:
                printer.gone(row, line.mono_ns)
        elif isinstance(line, IncidentLine):
            row = self._row(line)
            if row is not None:
                self._number(line)
                printer.incident(Happened(line.mono_ns, row, *told_by(line)))
        elif isinstance(line, GapLine):
            self._number(line)
            printer.gap(line.cpu, line.count, line.after_ns, line.before_ns)
        elif isinstance(line, DroppedLine):
            printer.dropped(line.mono_ns, line.count, line.reason)
        elif isinstance(line, ResyncLine):
            self._number(line)
            printer.resync(line.mono_ns, (line.added, line.removed, line.changed))

    def _netns(self, line: NetnsLine) -> None:
        if line.seq != self._checked:
            self._due = 0
        meant = self._places.takes(line.netns)
        self._names.hear(line)
        if not (meant if line.event == "gone" else self._places.takes(line.netns)):
            return
        news = news_of(line)
        if self._due and self._hole is not None:
            self._hole_places.append(news)
        elif not self._due or self._news:
            self._number(line)
            self.printer.netns(news)

    def _count(self, line: SeenLine | NetnsLine) -> None:
        """A line of a checkpoint less is due."""
        if self._due:
            self._due -= 1
            if not self._due:
                self._end_checkpoint(line)

    def _begins(self, line: SeenLine) -> bool:
        """Whether a line is of the baseline: of the first line's time, or of the checkpoint that stands for it in a
        file that goes on from another.
        """
        return self._due > 0 or line.mono_ns == self._first_ns

    def _end_checkpoint(self, line: SeenLine | NetnsLine) -> None:
        self._news = False
        if self._hole is not None:
            if self._everything:
                self.printer.writer.seq = line.seq
            self.printer.hole(self._hole_places, self._hole, line.mono_ns, self._unwritten)
            self.rows = {row.id: row for row in self._hole}
            self._hole = None

    def _wait(self, line: recording.Fact) -> None:
        """Until it is this line's turn."""
        now = time.monotonic_ns()
        if self._began is None or line.mono_ns < self._began[1]:
            self._began = now, line.mono_ns
        due = self._began[0] + round((line.mono_ns - self._began[1]) / self._speed)
        if due <= now:
            return
        self.printer.flush()
        while not self._stopped.now and (left := due - time.monotonic_ns()) > 0:
            time.sleep(min(left / 1e9, _NAP_S))


def _ns(microseconds: float | None) -> int | None:
    return round(microseconds * 1000) if microseconds is not None else None
