"""Where event lines go: stdout, --output FILE, --sink NAME. Between the table and each of them stands a bounded queue,
so that whoever reads slowly, or has stopped, costs the tracer memory up to a limit and nothing else.

When a queue is full, --on-full decides:

* ``block`` (the default, as everybody expects of a pipe): wait for the reader. Events then wait in the kernel's
  buffers; what does not fit there is lost, counted, told in a ``gap`` line, and the table is repaired. Nothing is
  missing without a word.
* ``drop``: go on. Lines are not made until the reader has caught up by half; then a ``dropped`` line says how many
  are missing. The table and the metrics stay whole.

The queue holds 32 MiB, or what SSTRACE_QUEUE says (``500k``, ``1G``).

A file on a full disk is another matter: waiting would end nothing, so lines are dropped, whatever --on-full says,
until writing works again.
"""

import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from typing import Protocol

from sstrace import __version__
from sstrace.changes import Change, Happened, NetnsNews, Told
from sstrace.errors import SstraceError, UsageError
from sstrace.lines import MetaLine
from sstrace.live.signals import Stopped
from sstrace.model import Names, Reason
from sstrace.output.texts import cgroup_text, ifname_text, work_text
from sstrace.plain import counted, visible
from sstrace.query.command import Command, Own, selects_several
from sstrace.query.quantity import parse_size
from sstrace.render.ends import Ends
from sstrace.render.events import EventWriter
from sstrace.render.times import TimeMode
from sstrace.render.trace import TraceText
from sstrace.render.views import NO_LIVES, Lives, Where
from sstrace.render.writers import JournalWriter, SyslogWriter, TextWriter, Writer
from sstrace.sources.standard import say, screen_size
from sstrace.sources.stream import Stream, count_lines, open_output
from sstrace.table import Row, Transition

__all__ = ["SINKS", "Sink", "Transport", "colors", "sinks"]

SINKS = ("stdout", "journald", "syslog[:PATH]", "otlp[:URL]", "clickhouse:URL")
"""What --sink takes; the last one is a recorder's (output.fleet)."""

_QUEUE = 32 << 20
"""Bytes that a queue may hold: ten seconds of 7,000 events a second."""
_CHUNK = 1 << 18
_GRACE_S = 2.0
"""At the end, for a reader who takes nothing any more."""


class Transport(Protocol):
    """What carries bytes: sources.stream, sources.datagrams, sources.otlp."""

    queued: int
    sent: int
    stuck: str | None

    def gone(self) -> bool:
        """Whether nobody reads any more."""
        ...

    def put(self, data: bytes | bytearray) -> None:
        """Send or queue."""
        ...

    def pump(self) -> None:
        """Send of the queue what can be sent now."""
        ...

    def wait(self, seconds: float) -> None:
        """Until more can be sent, at most so long."""
        ...

    def drain(self, seconds: float) -> int:
        """Send the queue, for at most so long; how many lines are left."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class Sink:
    """One way out: a format, a transport, and what happens when the queue between them is full."""

    def __init__(
        self,
        name: str,
        writer: Writer,
        transport: Transport,
        stopped: Stopped,
        *,
        drop: bool,
        most: int = _QUEUE,
        separate: bool = False,
        screen: bool = False,
        path: str | None = None,
    ) -> None:
        """``most``: bytes that may wait. ``separate``: the transport takes lines one by one. ``screen``: lines of JSON
        go to a terminal. ``path``: the file to open anew on SIGHUP.
        """
        self.name = name
        self.writer = writer
        self.transport = transport
        self._stopped = stopped
        self._drop = drop
        self._most = most
        self._separate = separate
        self._patient = isinstance(transport, Stream)
        self._screen = screen
        self._path = path
        self._out = bytearray()
        self.broken = False
        """Nobody reads any more: lines are not made from here on."""
        self._closed = False
        """Lines are not made now: the queue is full, or nobody reads any more."""
        self._skipped = 0
        self._skipped_ns = 0
        self._reason: Reason = "slow-reader"
        self._was_stuck: str | None = None
        self.idle: Callable[[], None] | None = None
        """Called while waiting for the reader."""
        self.lines = 0
        """Handed to the transport."""
        self.dropped = 0
        """Not made, or not taken in the end."""
        self.failed = False
        """Whether the last lines could not be written: a full disk, a daemon that is away. Not of a reader who went, or
        who was slow when this was told to stop."""

    @property
    def queued(self) -> int:
        """Bytes that wait."""
        return self.transport.queued + len(self._out)

    # Lines.

    def meta(self, line: MetaLine) -> None:
        """The first line."""
        self.writer.meta(line, self._out)
        self._after()

    def titles(self, at_ns: int) -> None:
        """Of text: the first line, as of a moment, where there is no meta line."""
        if isinstance(self.writer, TextWriter):
            self.writer.begin(at_ns, self._out)

    @property
    def verbatim(self) -> bool:
        """Whether lines of the native schema may be handed on as they are."""
        return type(self.writer) is EventWriter and not self._separate

    @property
    def runs(self) -> bool:
        """Whether ``run`` can be called."""
        return isinstance(self.writer, EventWriter) and self.writer.runs and not self._separate

    def state(self, change: Transition) -> bool:
        """A transition; whether it was taken."""
        if self._closed and not self._opens(change.at_ns):
            return False
        self.writer.state(change, self._out)
        if self._separate or len(self._out) > _CHUNK:
            self._after()
        return True

    def life(self, change: Transition, handshake_ns: int | None) -> bool:
        """The end of a connection, as a line about all of its life; whether it was taken."""
        if self._closed and not self._opens(change.at_ns):
            return False
        self.writer.life(change, handshake_ns, self._out)
        self._after()
        return True

    def run(
        self, changes: Iterator[Change | Told], protocols: frozenset[int], lives: Lives = NO_LIVES
    ) -> Change | Told | None:
        """Take transitions of these protocols for as long as they need nothing but their line; the first change that
        needs more, None at their end (render.events.EventWriter.run).
        """
        assert isinstance(self.writer, EventWriter)
        while not self._closed:
            change = self.writer.run(changes, protocols, self._out, _CHUNK, lives)
            if change is not None or len(self._out) <= _CHUNK:
                return change
            self.flush()
        return next(changes, None)

    def seen(self, row: Row, at_ns: int) -> None:
        """A row."""
        if not self._closed or self._opens(at_ns):
            self.writer.seen(row, at_ns, self._out)
            self._after()

    def incident(self, happened: Happened) -> bool:
        """What hurt a connection; whether it was taken."""
        if self._closed and not self._opens(happened.at_ns):
            return False
        self.writer.incident(happened, self._out)
        self._after()
        return True

    def gone(self, row_id: int, state: int, at_ns: int) -> None:
        """The end of a row whose end was lost."""
        if not self._closed or self._opens(at_ns):
            self.writer.gone(row_id, state, at_ns, self._out)
            self._after()

    def netns(self, news: NetnsNews) -> None:
        """The news of a network namespace."""
        if not self._closed or self._opens(news.at_ns):
            self.writer.netns(news, self._out)
            self._after()

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int) -> None:
        """A loss."""
        if not self._closed or self._opens(before_ns):
            self.writer.gap(cpu, count, after_ns, before_ns, self._out)
            self._after()

    def resync(self, at_ns: int, counts: tuple[int, int, int]) -> None:
        """A repair."""
        if not self._closed or self._opens(at_ns):
            self.writer.resync(at_ns, counts, self._out)
            self._after()

    def missing(self, at_ns: int, count: int, reason: Reason) -> None:
        """Of a recording: lines that it lacks."""
        self.writer.dropped(at_ns, count, reason, self._out)
        self._after()

    def checkpoint(self, places: Collection[NetnsNews], rows: Collection[Row], at_ns: int, unwritten: int) -> None:
        """Of a recording: lines that could not be written, and the table behind them."""
        self.writer.checkpoint(places, rows, at_ns, unwritten, self._out)
        self._after()

    def whole(self, lines: bytes) -> None:
        """Lines that are written already."""
        if self.broken:
            return
        self._out += lines
        if len(self._out) > _CHUNK:
            self.flush()

    # The queue.

    def _opens(self, at_ns: int) -> bool:
        """Count a line that is not made; False, unless the queue has room again."""
        if self.broken:
            return False
        if self.transport.queued * 2 <= self._most and self.transport.stuck is None:
            self._open()
            return True
        self._skipped += 1
        self._skipped_ns = at_ns
        self.writer.skip()
        return False

    def _open(self) -> None:
        self._closed = False
        if self._skipped:
            self.dropped += self._skipped
            self.writer.dropped(self._skipped_ns, self._skipped, self._reason, self._out)
            self._skipped = 0
            if self._separate:
                self._hand_over()

    def _after(self) -> None:
        """A line has been made."""
        if self._separate:
            self._hand_over()
            if self.transport.queued > self._most:
                self.flush()
        elif len(self._out) > _CHUNK:
            self.flush()

    def _hand_over(self) -> None:
        if self._out and not self.broken:
            self.lines += 1 if self._separate else count_lines(self._out)
            try:
                self.transport.put(visible(self._out) if self._screen else self._out)
            except BrokenPipeError:
                self._break()
        self._out.clear()

    def _break(self) -> None:
        self.broken = self._closed = True
        self._skipped = 0
        self.transport.close()

    def flush(self) -> None:
        """Hand over what there is, and see how the queue stands."""
        self._hand_over()
        if self.broken:
            return
        transport = self.transport
        try:
            if transport.queued or transport.stuck is not None:
                transport.pump()
                if transport.queued > self._most:
                    self._limit()
        except BrokenPipeError:
            self._break()
            return
        if self._closed and transport.queued * 2 <= self._most and transport.stuck is None:
            self._open()
        if transport.stuck != self._was_stuck:
            self._tell()

    def _limit(self) -> None:
        """The queue is full."""
        transport = self.transport
        sent, since = transport.sent, time.monotonic()
        while not self._drop and transport.stuck is None and transport.queued > self._most:
            transport.wait(0.05)
            if self.idle is not None:
                self.idle()
            transport.pump()
            # Told to stop: a reader who still reads gets what there is, one who does not is waited for no longer.
            if transport.sent != sent:
                sent, since = transport.sent, time.monotonic()
            elif self._stopped.now and time.monotonic() - since > _GRACE_S:
                break
        if transport.queued > self._most:
            self._closed = True
            self._reason = "slow-reader" if transport.stuck is None else "disk-full"

    def _tell(self) -> None:
        stuck, was = self.transport.stuck, self._was_stuck
        self._was_stuck = stuck
        if stuck is not None and was is None:
            say(f"cannot write to {self.name}: {stuck}: tracing goes on, lines are kept while there is room for them")
        elif stuck is None:
            say(
                f"writing to {self.name} works again"
                + (f": {counted(self.dropped, 'line', 'is/are')} missing" if self.dropped else "")
            )

    def reopen(self, line: MetaLine) -> None:
        """SIGHUP: go on in a new file of the same name; in NDJSON this is its first line."""
        if self._path is None or self.broken or not isinstance(self.transport, Stream):
            return
        self.flush()
        try:
            fd = open_output(self._path)
        except SstraceError as error:
            say(f"{error}: lines go on into the file that was open")
            return
        self.transport.replace(fd)
        if isinstance(self.writer, EventWriter):
            self.writer.meta(line, self._out)

    def end(self) -> None:
        """The last lines. A reader who is slow (a pager) is waited for, unless we were told to stop; a daemon, or
        anybody after that, has two seconds from the last sign of life. What is left then is counted.
        """
        transport = self.transport
        if self.broken:
            return
        with suppress(BrokenPipeError):
            if self._skipped:
                self._open()
            self._hand_over()
            sent, since = transport.sent, time.monotonic()
            while left := transport.drain(0.05):
                if transport.sent != sent or (self._patient and not self._stopped.now and transport.stuck is None):
                    sent, since = transport.sent, time.monotonic()
                elif time.monotonic() - since > _GRACE_S:
                    self.dropped += left
                    self.failed = not self._patient
                    break
        self.dropped += self._skipped
        self._skipped = 0
        self.failed |= transport.stuck is not None
        transport.close()

    @property
    def missed(self) -> int:
        """Lines that their reader has missed so far."""
        return self.dropped + self._skipped + int(getattr(self.transport, "lost", 0))

    def summary(self) -> str | None:
        """What went wrong; None for nothing."""
        return f"{counted(self.missed, 'line')} did not reach {self.name}" if self.missed else None

    def statistics(self) -> str:
        """For SIGUSR1."""
        text = f"{self.name}: {counted(self.lines, 'line')}, {self.transport.sent} bytes, {self.queued} bytes queued"
        return text + (f", {counted(self.missed, 'line')} dropped" if self.missed else "")


def sinks(command: Command, names: Names, offset_ns: int, stopped: Stopped, where: Where | None = None) -> list[Sink]:
    """Every way out that a command line names; stdout where it names none. ``where``: see EventWriter. Raises
    SstraceError.
    """
    own, show = command.own, command.show
    ends = Ends(show, command.dialect, names)
    drop = own.on_full == "drop"
    most = parse_size(os.environ.get("SSTRACE_QUEUE", "")) or _QUEUE
    made: list[Sink] = []
    netids = selects_several(command.selection)

    def text(mode: TimeMode, *, screen: bool = False) -> TraceText:
        if own.columns:
            from sstrace.render.chosen import ChosenText

            return ChosenText(own.columns, offset_ns, ends, mode, where=where, work=work_text(names))
        if own.life:
            from sstrace.render.life import LifeText

            return LifeText(offset_ns, ends, mode, where, netids=netids)
        if screen:
            from sstrace.render.fitted import FittedText

            return FittedText(offset_ns, ends, mode, where, work_text(names), netids=netids)
        return TraceText(offset_ns, ends, mode, where, netids=netids)

    def writer(*, screen: bool = False) -> Writer:
        if not own.json:
            mode = own.time or ("clock" if screen else "iso")  # what is kept must say the day
            lines = text(mode, screen=screen)
            size = screen_size if screen else None
            return TextWriter(lines, header=show.header, colors=colors(own, screen=screen), screen=size)
        return _writer(own, names, offset_ns, where)

    if own.output is not None:
        stream = Stream(open_output(own.output), owned=True)
        made.append(Sink(own.output, writer(), stream, stopped, drop=drop, most=most, path=own.output))
    for named in own.sink or (() if made or own.engines else ("stdout",)):
        kind, _, address = named.partition(":")
        if kind == "stdout" and not address:
            tty = os.isatty(1)
            screen = own.json and tty
            made.append(Sink("stdout", writer(screen=tty), Stream(1), stopped, drop=drop, most=most, screen=screen))
        elif kind == "journald" and not address:
            from sstrace.sources.datagrams import JOURNAL, Datagrams

            journal = Datagrams(JOURNAL, "journal", memory_files=True)
            lines = JournalWriter(offset_ns, cgroup_text(names), ifname_text(names), where)
            made.append(Sink("journald", lines, journal, stopped, drop=drop, most=most, separate=True))
        elif kind == "syslog":
            from sstrace.sources.datagrams import SYSLOG, Datagrams

            daemon = Datagrams(address or SYSLOG, "syslog daemon")
            mode = own.time or "iso"
            inner = writer() if own.json else TextWriter(text(mode), header=False)
            messages = SyslogWriter(inner, os.uname().nodename, os.getpid())
            made.append(Sink("syslog", messages, daemon, stopped, drop=drop, most=most, separate=True))
        elif kind == "otlp":
            from sstrace.render.otel import OtelWriter
            from sstrace.sources.otlp import Otlp

            records = OtelWriter(offset_ns, cgroup_text(names), ifname_text(names), where)
            made.append(Sink("otlp", records, Otlp(address or None, __version__), stopped, drop=drop, most=most))
        else:
            raise UsageError(f"sstrace: --sink {named}: it is one of {', '.join(SINKS)}")
    return made


def colors(own: Own, *, screen: bool) -> bool:
    """--color; ``auto``: on a terminal that can, unless NO_COLOR is set (https://no-color.org)."""
    if own.color != "auto":
        return own.color == "always"
    return screen and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") not in ("", "dumb")


def _writer(own: Own, names: Names, offset_ns: int, where: Where | None) -> EventWriter:
    cgroup, ifname = cgroup_text(names), ifname_text(names)
    if own.schema == "ecs":
        from sstrace.render.ecs import EcsWriter

        return EcsWriter(offset_ns, cgroup, ifname, where)
    if own.schema == "otel":
        from sstrace.render.otel import OtelWriter

        return OtelWriter(offset_ns, cgroup, ifname, where)
    return EventWriter(offset_ns, cgroup, ifname, where)
