"""What every sink of event lines is written by: one interface, for NDJSON, text, and the log daemons' formats.

``EventWriter`` and its children (NDJSON) have this interface already. A line goes into ``out`` whole; what a format has
no line for leaves ``out`` as it is.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from sstrace.causes import outcome
from sstrace.lines import DroppedLine, EventLine, GapLine, IncidentLine, MetaLine, OwnerLine, ResyncLine, StateLine
from sstrace.model import Reason
from sstrace.plain import counted, plain, were
from sstrace.render.events import EventWriter, timestamp
from sstrace.render.incidents import HappenedView, incident_words, told_by
from sstrace.render.trace import TraceText
from sstrace.render.views import NetnsView, RowView, TransitionView
from sstrace.render.width import cut

__all__ = ["JournalWriter", "SyslogWriter", "TextWriter", "Writer", "brief"]

_WARNING, _INFO = 4, 6
"""Severities of syslog(3)."""
_DAEMON = 3 << 3
"""Facility of syslog(3)."""


class Writer(Protocol):
    """Appends lines to a buffer."""

    seq: int
    offset_ns: int
    """CLOCK_REALTIME minus CLOCK_MONOTONIC; may be set when the clocks have moved against each other."""

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """The first line."""
        ...

    def enter_host(self, host: str, head: MetaLine, offset_ns: int) -> None:
        """Of several hosts: what follows is of this one, whose first line is ``head``."""
        ...

    def state(self, change: TransitionView, out: bytearray) -> None:
        """A transition."""
        ...

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """The transition with which a connection ends, as a line about all of its life."""
        ...

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """A row of the baseline or of a repair."""
        ...

    def gone(self, row_id: int, state: int, at_ns: int, out: bytearray) -> None:
        """The end of a row whose end was lost."""
        ...

    def incident(self, happened: HappenedView, out: bytearray) -> None:
        """What hurt a connection, and changed no state."""
        ...

    def netns(self, news: NetnsView, out: bytearray) -> None:
        """A network namespace came, went, or is called otherwise."""
        ...

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int, out: bytearray) -> None:
        """A loss."""
        ...

    def resync(self, at_ns: int, counts: tuple[int, int, int], out: bytearray) -> None:
        """A repair: rows added, removed, changed."""
        ...

    def dropped(self, at_ns: int, count: int, reason: Reason, out: bytearray) -> None:
        """Lines that are missing here."""
        ...

    def checkpoint(
        self, places: Collection[NetnsView], rows: Collection[RowView], at_ns: int, unwritten: int, out: bytearray
    ) -> None:
        """The table behind lines that could not be written."""
        ...

    def skip(self, count: int = 1) -> None:
        """Pass over the numbers of lines that will not be written."""
        ...


class TextWriter:
    """Lines for people, as ``lines`` makes them (render.trace, render.fitted, render.life). ``header``: column titles
    first, and again where clocks change to another zone. ``colors``: for a terminal, with what happened and the cause
    in colour. ``screen``: asks for the columns and lines of the terminal as they are now (None where it does not know):
    what follows is laid out for them, with the titles again on each screenful.
    """

    def __init__(
        self,
        lines: TraceText,
        *,
        header: bool,
        colors: bool = False,
        screen: Callable[[], tuple[int, int] | None] | None = None,
    ) -> None:
        self._lines = lines
        self._times = lines.times
        self._header = header
        self._zone: str | None = None
        """Said by the latest titles."""
        self._colors = colors
        self._screen = screen
        self._columns: int | None = None
        self._below = 0
        """Lines since the latest titles."""
        self.seq = 0

    @property
    def offset_ns(self) -> int:
        """As in Writer."""
        return self._times.offset_ns

    @offset_ns.setter
    def offset_ns(self, offset_ns: int) -> None:
        self._times.offset_ns = offset_ns

    def enter_host(self, host: str, head: MetaLine, offset_ns: int) -> None:
        """As in Writer."""
        self.offset_ns = offset_ns
        self._lines.enter_host(host)

    def begin(self, at_ns: int, out: bytearray) -> None:
        """Column titles as of a moment, once."""
        if self._screen is not None:
            self._fit(self._screen, at_ns, out)
        if self._header and self._zone is None:
            self._titles(at_ns, out)

    def _titles(self, at_ns: int, out: bytearray) -> None:
        out += self._lines.header(at_ns).encode() + b"\n"
        self._zone = self._times.zone
        self._below = 0

    def _fit(self, screen: Callable[[], tuple[int, int] | None], at_ns: int, out: bytearray) -> None:
        """Follow the terminal: its width, and the titles that scroll away at its upper edge."""
        columns, lines = screen() or (None, 0)
        again = columns != self._columns
        if again:
            self._columns = columns
            self._lines.fit(columns)
        if self._zone is not None and (again or self._below >= lines - 1 > 0):
            self._titles(at_ns, out)

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """Of text: the titles."""
        self.begin(line.mono_ns, out)

    def state(self, change: TransitionView, out: bytearray) -> None:
        """A transition."""
        if self._screen is not None:
            self._fit(self._screen, change.at_ns, out)
        lines = self._lines
        text = lines.state(change)
        self._put(change.at_ns, _colored(text, change, lines.marked, lines.caused) if self._colors else text, out)

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """The end of a connection: the lines are those of ``render.life`` then."""
        self.state(change, out)

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """No line."""

    def gone(self, row_id: int, state: int, at_ns: int, out: bytearray) -> None:
        """No line."""

    def incident(self, happened: HappenedView, out: bytearray) -> None:
        """What hurt a connection: indented, in its columns."""
        text = self._lines.incident(happened)
        self._put(happened.at_ns, f"{_YELLOW}{text}{_PLAIN}" if self._colors else text, out)

    def netns(self, news: NetnsView, out: bytearray) -> None:
        """A network namespace came, went, or is called otherwise."""
        if (text := self._lines.netns(news)) is not None:
            self._say(news.at_ns, text, out)

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int, out: bytearray) -> None:
        """A loss."""
        self._say(before_ns, self._lines.gap(cpu, count, after_ns, before_ns), out)

    def resync(self, at_ns: int, counts: tuple[int, int, int], out: bytearray) -> None:
        """A repair."""
        self._say(at_ns, self._lines.resync(at_ns, counts), out)

    def dropped(self, at_ns: int, count: int, reason: Reason, out: bytearray) -> None:
        """Lines that are missing here."""
        when = f"{self._lines.time(at_ns)} {self._lines.about}"
        text = f"{when}{counted(count, 'line', 'is/are')} missing here: {_REASONS.get(reason, reason)}"
        self._say(at_ns, text, out)

    def checkpoint(
        self, places: Collection[NetnsView], rows: Collection[RowView], at_ns: int, unwritten: int, out: bytearray
    ) -> None:
        """Of the hole alone."""
        self._say(at_ns, self._lines.hole(at_ns, unwritten), out)

    def skip(self, count: int = 1) -> None:
        """Text has no numbers."""

    def _say(self, at_ns: int, sentence: str, out: bytearray) -> None:
        self._put(at_ns, sentence if self._columns is None else cut(sentence, self._columns), out)

    def _put(self, at_ns: int, text: str, out: bytearray) -> None:
        if self._zone is not None and self._zone != self._times.zone:
            self._titles(at_ns, out)
        out += text.encode(errors="backslashreplace")
        out += b"\n"
        self._below += 1


_RED, _GREEN, _YELLOW, _DIM, _PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[2m", "\x1b[0m"
_ESTABLISHED, _CLOSE, _CLOSE_WAIT = 1, 7, 8


def _colored(text: str, change: TransitionView, to: slice, cause: slice) -> str:
    """What stands at ``to``: green for what came about, red for what failed, and then its ``cause`` too, yellow for a
    peer that has hung up, dim for an ordinary end.
    """
    if _is_failure(change):
        color = _RED
    elif change.ended:
        color = _DIM
    else:
        color = {_ESTABLISHED: _GREEN, _CLOSE: _DIM, _CLOSE_WAIT: _YELLOW}.get(change.new, "")
    if not color:
        return text
    if color == _RED and cause.start is not None and cause.start >= to.stop:
        text = f"{text[: cause.start]}{_RED}{text[cause]}{_PLAIN}{text[cause.stop :]}"
    return f"{text[: to.start]}{color}{text[to]}{_PLAIN}{text[to.stop :]}"


_REASONS = {"slow-reader": "the reader was slower than the events", "disk-full": "the disk was full"}


_Message = StateLine | GapLine | ResyncLine | DroppedLine | IncidentLine


def brief(line: _Message) -> str:
    """A line of the native schema in a few words, for logs that keep time and fields apart from the message: one line,
    whatever others have named.
    """
    if isinstance(line, GapLine):
        return f"{counted(line.count, 'event')} of CPU {line.cpu} {were(line.count)} lost"
    if isinstance(line, ResyncLine):
        return f"table compared with the kernel: {line.added} added, {line.removed} removed, {line.changed} corrected"
    if isinstance(line, DroppedLine):
        return f"{counted(line.count, 'line', 'is/are')} missing here: {_REASONS.get(line.reason, line.reason)}"
    source = f"{line.src}%{line.ifname}" if line.ifname is not None else line.src
    happened = f"{line.old} -> {line.state}" if isinstance(line, StateLine) else incident_words(*told_by(line))
    text = f"{_endpoint(line.family, source, line.sport)} {happened}"
    if line.dport:
        text += f" {_endpoint(line.family, line.dst, line.dport)}"
    if line.owners:
        mark = "~" * (line.owner_source == "listener")
        text += f" {','.join(mark + _owner(owner) for owner in line.owners)}"
    if isinstance(line, StateLine) and line.cause is not None:
        text += f" [{line.cause}{f' {line.errno}' if line.errno else ''}]"
    return plain(text)


def _endpoint(family: str, address: str, port: int) -> str:
    host, percent, device = address.partition("%")
    return f"{f'[{host}]' if family == 'inet6' else host}{percent}{device}:{port or '*'}"


def _owner(owner: OwnerLine) -> str:
    return f"{owner.comm}/{owner.pid}" + (f"/{owner.fd}" if owner.fd is not None else "")


def _severity(change: TransitionView) -> int:
    return _WARNING if _is_failure(change) else _INFO


def _is_failure(change: TransitionView) -> bool:
    return outcome(change.old, change.new, change.cause, ended=change.ended) == "failure"


class JournalWriter(EventWriter):
    """Messages for systemd's journal in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): MESSAGE, PRIORITY,
    and every key of the native schema as SSTRACE_KEY. Transitions, losses and repairs; no baseline.
    """

    def state(self, change: TransitionView, out: bytearray) -> None:
        """A transition."""
        self._message(self.state_line(change), _severity(change), out)

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """The end of a connection."""
        self._message(self.life_line(change, handshake_ns), _severity(change), out)

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """No message."""
        self.seq += 1

    def gone(self, row_id: int, state: int, at_ns: int, out: bytearray) -> None:
        """No message."""
        self.seq += 1

    def checkpoint(
        self, places: Collection[NetnsView], rows: Collection[RowView], at_ns: int, unwritten: int, out: bytearray
    ) -> None:
        """No message."""

    def _put(self, line: EventLine, out: bytearray) -> None:
        if isinstance(line, GapLine | ResyncLine | DroppedLine | IncidentLine):
            self._message(line, _INFO if isinstance(line, ResyncLine) else _WARNING, out)

    @staticmethod
    def _message(
        line: StateLine | GapLine | ResyncLine | DroppedLine | IncidentLine, severity: int, out: bytearray
    ) -> None:
        _field("MESSAGE", brief(line), out)
        out += f"PRIORITY={severity}\nSYSLOG_IDENTIFIER=sstrace\nSSTRACE_TYPE={line.__struct_config__.tag}\n".encode()
        for name, key in zip(line.__struct_fields__, line.__struct_encode_fields__, strict=True):
            value = getattr(line, name)
            if value is None or value is False:
                continue
            key = f"SSTRACE_{key.upper()}"  # noqa: PLW2901
            if isinstance(value, tuple):
                for owner in value:
                    _field(key.removesuffix("S"), _owner(owner), out)
            else:
                _field(key, "1" if value is True else str(value), out)


def _field(key: str, value: str, out: bytearray) -> None:
    data = value.encode()
    if b"\n" in data:
        out += key.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    else:
        out += key.encode() + b"=" + data + b"\n"


class SyslogWriter:
    """Messages of RFC 5424 around the lines of another writer, facility daemon: the line is the MSG, its type the
    MSGID. No structured data: who wants fields takes NDJSON as the MSG.
    """

    def __init__(self, inner: Writer, host: str, pid: int) -> None:
        self._inner = inner
        name = "".join(letter for letter in host if "!" <= letter <= "~")[:255] or "-"
        self._head = f" {name} sstrace {pid} "

    @property
    def seq(self) -> int:
        """As in Writer."""
        return self._inner.seq

    @seq.setter
    def seq(self, seq: int) -> None:
        self._inner.seq = seq

    @property
    def offset_ns(self) -> int:
        """As in Writer."""
        return self._inner.offset_ns

    @offset_ns.setter
    def offset_ns(self, offset_ns: int) -> None:
        self._inner.offset_ns = offset_ns

    def enter_host(self, host: str, head: MetaLine, offset_ns: int) -> None:
        """As in Writer: the message says it; its header names the machine that sends it."""
        self._inner.enter_host(host, head, offset_ns)

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """The first line."""
        if not isinstance(self._inner, TextWriter):
            self._wrap(_INFO, "meta", line.mono_ns, out, lambda body: self._inner.meta(line, body))

    def state(self, change: TransitionView, out: bytearray) -> None:
        """A transition."""
        self._wrap(_severity(change), "state", change.at_ns, out, lambda body: self._inner.state(change, body))

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """The end of a connection."""
        at_ns, inner = change.at_ns, self._inner
        self._wrap(_severity(change), "life", at_ns, out, lambda body: inner.life(change, handshake_ns, body))

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """A row."""
        self._wrap(_INFO, "seen", at_ns, out, lambda body: self._inner.seen(row, at_ns, body))

    def gone(self, row_id: int, state: int, at_ns: int, out: bytearray) -> None:
        """The end of a row."""
        self._wrap(_INFO, "gone", at_ns, out, lambda body: self._inner.gone(row_id, state, at_ns, body))

    def incident(self, happened: HappenedView, out: bytearray) -> None:
        """What hurt a connection."""
        inner = self._inner
        self._wrap(_WARNING, happened.what, happened.at_ns, out, lambda body: inner.incident(happened, body))

    def netns(self, news: NetnsView, out: bytearray) -> None:
        """A network namespace came, went, or is called otherwise."""
        self._wrap(_INFO, "netns", news.at_ns, out, lambda body: self._inner.netns(news, body))

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int, out: bytearray) -> None:
        """A loss."""
        self._wrap(_WARNING, "gap", before_ns, out, lambda body: self._inner.gap(cpu, count, after_ns, before_ns, body))

    def resync(self, at_ns: int, counts: tuple[int, int, int], out: bytearray) -> None:
        """A repair."""
        self._wrap(_INFO, "resync", at_ns, out, lambda body: self._inner.resync(at_ns, counts, body))

    def dropped(self, at_ns: int, count: int, reason: Reason, out: bytearray) -> None:
        """Lines that are missing here."""
        self._wrap(_WARNING, "dropped", at_ns, out, lambda body: self._inner.dropped(at_ns, count, reason, body))

    def checkpoint(
        self, places: Collection[NetnsView], rows: Collection[RowView], at_ns: int, unwritten: int, out: bytearray
    ) -> None:
        """No message: it is several lines, and of recordings alone."""

    def skip(self, count: int = 1) -> None:
        """As in Writer."""
        self._inner.skip(count)

    def _wrap(self, severity: int, name: str, at_ns: int, out: bytearray, write: Callable[[bytearray], None]) -> None:
        body = bytearray()
        write(body)
        if body:
            # RFC 5424 has microseconds at most.
            when = timestamp(at_ns + self._inner.offset_ns)[:-4] + "Z"
            out += f"<{_DAEMON | severity}>1 {when}{self._head}{name} - ".encode()
            out += body.rstrip(b"\n")
