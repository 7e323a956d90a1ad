"""Recordings: NDJSON lines → values, in the order in which they were written.

Enters: blocks of bytes as they were read, cut anywhere. Leaves: ``Run``s of lines. A recording may be damaged or come
through a pipeline that mixes its lines: what cannot be used is left out and counted (``LineReader.faults``), never
raised. Lines that are out of order (by ``seq``) are put in order as far as a block reaches, about a thousand lines.

The lines are those of ``render.events``; keys that are not needed are not decoded, unknown ones are no mistake. This is
the hot path of a replay: a block is decoded by one call, half a microsecond a line. A line that this call does not take
is looked at again by itself: other tools write null for what is absent, numbers as floats or as text, a date and a name
before the line, or the whole line as a string in an object of their own.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, get_args

import msgspec

from sstrace.fields import Count
from sstrace.lines import (
    SCHEMA,
    AnyIncidentLine,
    CheckpointLine,
    DroppedLine,
    GapLine,
    GoneLine,
    LifeLine,
    MarkLine,
    MetaLine,
    Name,
    NetnsLine,
    ResyncLine,
    SeenLine,
    StateLine,
    Word,
)
from sstrace.wire.faults import Faults

__all__ = [
    "Fact",
    "Line",
    "LineReader",
    "RecordedMeta",
    "Run",
    "line_seq",
    "line_time",
    "meta",
    "realtime",
]

_WINDOW = 1000
"""Lines that are held back, to put those that come later before them."""
_LONGEST = 1 << 20
"""No line is longer: a row with a thousand owners has 60 KB."""


class RecordedMeta(MetaLine, tag="meta", tag_field="type", kw_only=True):
    """As it is read: only the schema's name can be relied on."""

    version: Name = ""
    ts: Word = ""
    mono_ns: Count = 0
    host: Name = ""
    kernel: Name = ""
    boot_id: Name = ""
    netns: Count = 0


_Facts = SeenLine | StateLine | LifeLine | NetnsLine | GoneLine | GapLine | DroppedLine | ResyncLine | CheckpointLine
Fact = _Facts | AnyIncidentLine | MarkLine
Line = MetaLine | Fact

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for what is no line; the last for brackets without end."""

_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(RecordedMeta | Fact)
_any = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Run(msgspec.Struct, frozen=True, gc=False):
    """Lines in order, at least one."""

    lines: list[Fact]
    raw: bytes | None = None
    """The same lines as they stand in the file, where they stand there just so. Never of a checkpoint."""


_SEQ = attrgetter("seq")
_BEHIND = {CheckpointLine: 1, NetnsLine: 2, SeenLine: 3}


def _order(line: Fact) -> tuple[int, int]:
    # A checkpoint, its namespaces and its rows repeat the number of the line before them.
    return line.seq, _BEHIND.get(type(line), 0) if not isinstance(line, NetnsLine) or line.event == "here" else 0


class LineReader:
    """Decodes one recording, block by block."""

    def __init__(self, host: str | None = None, window: int = _WINDOW, *, marks: bool = False) -> None:
        """``host``: whose it is, where it is not read from its beginning. ``window``: so many of the newest lines are
        held back, for some that belong before them. ``marks``: hand them on; who copies lines wants them.
        """
        self.faults = Faults()
        self._rest = b""
        self._skipping = False
        self._foreign = False
        self._host = host
        """Whose the recording is, by its first line."""
        self._mixed = False
        """Whether its lines say the same: then those that say another are another recording's."""
        self._held: list[Run] = []
        self._waiting = 0
        self._emitted = -1
        self._rows_due = 0
        self._window = window
        self._marks = marks
        self._needles: tuple[bytes, ...] = ()

    def only(self, *needles: bytes) -> None:
        """From here on lines that hold one of these bytes are enough, and now and then another to tell the time by:
        much faster than all of them.
        """
        self._needles = needles
        self._window = 0

    def feed(self, block: bytes) -> Iterator[MetaLine | Run]:
        """The lines that are certain now."""
        if self._skipping:
            _, newline, block = block.partition(b"\n")
            if not newline:
                return
            self._skipping = False
        end = block.rfind(b"\n") + 1
        if not end:
            self._rest += block
            if len(self._rest) > _LONGEST:
                self._rest, self._skipping = b"", True
                self.faults.bad += 1
            return
        whole = self._rest + block[:end] if self._rest else block[:end]
        self._rest = block[end:]
        yield from self._whole(whole)

    def end(self) -> Iterator[MetaLine | Run]:
        """The last lines."""
        rest, self._rest = self._rest, b""
        if rest.strip():
            bad, unknown = self.faults.bad, self.faults.unknown
            yield from self._whole(rest)
            if self.faults.bad > bad:
                self.faults.bad, self.faults.unknown, self.faults.cut = bad, unknown, True
        yield from self._release()

    def _whole(self, data: bytes) -> Iterator[MetaLine | Run]:
        if self._needles:
            data = _thinned(data, self._needles)
        try:
            lines: list[Line] = _decoder.decode_lines(data)
        except _UNREADABLE:
            yield from self._special(*self._one_by_one(data))
            return
        if not lines:
            return
        if len(lines) != data.count(b"\n") + (data[-1:] != b"\n"):  # blank ones; or a value across two, which is none
            yield from self._special(*self._one_by_one(data))
            return
        if self._rows_due or not _SPECIAL.isdisjoint(map(type, lines)):
            texts = [text for text in data.split(b"\n") if text and not text.isspace()]
            yield from self._special(lines, texts)
        else:
            yield from self._ordered(lines, data if _verbatim(data) else None)  # type: ignore[arg-type]  # all facts

    def _one_by_one(self, data: bytes) -> tuple[list[Line], list[bytes]]:
        """The good lines of a block, decoded and as they are."""
        lines: list[Line] = []
        texts: list[bytes] = []
        for text in data.split(b"\n"):
            if not text.strip():
                continue
            try:
                lines.append(_decoder.decode(text))
                texts.append(text)
            except _UNREADABLE:
                rewritten = _rewritten(text)
                if rewritten is not None:
                    lines.append(rewritten)
                    texts.append(b"")  # as it stands it is no line of ours
                elif _is_unknown(text):
                    self.faults.unknown += 1
                else:
                    self.faults.bad += 1
        return lines, texts

    def _special(self, found: list[Line], texts: list[bytes]) -> Iterator[MetaLine | Run]:
        """Lines with first lines, marks or checkpoints among them, or around bad ones."""
        lines: list[Line] = found if self._marks else [line for line in found if not isinstance(line, MarkLine)]
        if len(lines) < len(found):
            texts = [text for line, text in zip(found, texts, strict=True) if not isinstance(line, MarkLine)]
        facts = [line for line in lines if not isinstance(line, MetaLine)]
        if len(facts) < len(lines) or _are_in_order(facts):
            yield from self._pieces(lines, texts)
            return
        facts.sort(key=_order)
        for line in facts:
            if isinstance(line, CheckpointLine):
                self._rows_due = line.rows + (line.places or 0)
            else:
                self._rows_due = max(self._rows_due - 1, 0) if isinstance(line, SeenLine | NetnsLine) else 0
        yield from self._ordered(facts, None)

    def _pieces(self, lines: list[Line], texts: list[bytes]) -> Iterator[MetaLine | Run]:
        """Runs of ordinary lines, with their texts; in between, checkpoints and first lines."""
        facts: list[Fact] = []
        begin = 0
        inside = False
        for index, line in enumerate(lines):
            if isinstance(line, CheckpointLine):
                self._rows_due = line.rows + (line.places or 0)
                special = True
            elif self._rows_due and isinstance(line, SeenLine | NetnsLine):
                self._rows_due -= 1
                special = True
            else:
                self._rows_due = 0
                special = False
            if facts and (special != inside or isinstance(line, MetaLine)):
                yield from self._ordered(facts, None if inside else _joined(texts[begin:index]))
                facts = []
            if not facts:
                inside, begin = special, index
            if isinstance(line, MetaLine):
                yield from self._meta(line)
            else:
                facts.append(line)
        if facts:
            yield from self._ordered(facts, None if inside else _joined(texts[begin:]))

    def _meta(self, line: MetaLine) -> Iterator[MetaLine | Run]:
        if self._host is None:
            self._host = line.host
        elif self._mixed and line.host != self._host:
            self.faults.others += 1
            return
        yield from self._release()
        self._emitted = -1
        self._foreign = line.schema != SCHEMA
        if self._foreign:
            self.faults.foreign += 1
            self.faults.schema = line.schema
        else:
            self.faults.used += 1
            yield line

    def _ordered(self, lines: list[Fact], raw: bytes | None) -> Iterator[MetaLine | Run]:
        """Hold the newest lines back: the next ones may belong before them."""
        if lines[0].host is not None:
            kept = self._own(lines)
            if len(kept) < len(lines):
                lines, raw = kept, None
                if not lines:
                    return
        if self._foreign:
            self.faults.foreign += len(lines)
            return
        seqs = list(map(_SEQ, lines))
        if seqs != sorted(seqs):
            lines.sort(key=_order)
            raw = None
        held = self._held
        if held and lines[0].seq < held[-1].lines[-1].seq:
            mixed = [line for run in held for line in run.lines]
            mixed += lines
            mixed.sort(key=_order)
            ready = max(len(mixed) - self._window, 0)
            held[:] = [Run(mixed[:ready]), Run(mixed[ready:])] if ready else [Run(mixed)]
            self._waiting = len(mixed)
        else:
            held.append(Run(lines, raw))
            self._waiting += len(lines)
        while held and self._waiting - len(held[0].lines) >= self._window:
            yield from self._emit(held.pop(0))

    def _own(self, lines: list[Fact]) -> list[Fact]:
        """Of lines that say their host as the first line does, those of that one: each host numbers its own."""
        self._mixed = self._mixed or any(line.host == self._host for line in lines)
        if not self._mixed:
            return lines
        kept = [line for line in lines if line.host == self._host]
        self.faults.others += len(lines) - len(kept)
        return kept

    def _release(self) -> Iterator[MetaLine | Run]:
        held, self._held = self._held, []
        for run in held:
            yield from self._emit(run)

    def _emit(self, run: Run) -> Iterator[MetaLine | Run]:
        self._waiting -= len(run.lines)
        if run.lines[0].seq < self._emitted:
            lines = [line for line in run.lines if line.seq >= self._emitted]
            self.faults.late += len(run.lines) - len(lines)
            if not lines:
                return
            run = Run(lines)
        self._emitted = run.lines[-1].seq
        self.faults.used += len(run.lines)
        yield run


def _are_in_order(facts: list[Fact]) -> bool:
    """Whether lines stand as they were written. What has the ``seq`` that a checkpoint repeats stands before it, even
    where it looks like one of its rows, as long as these stand behind it.
    """
    keys = list(map(_order, facts))
    if keys == sorted(keys):
        return True
    last = due = 0
    for line in facts:
        if line.seq < last or (due and (line.seq != last or not isinstance(line, SeenLine | NetnsLine))):
            return False
        due = line.rows + (line.places or 0) if isinstance(line, CheckpointLine) else max(due - 1, 0)
        last = line.seq
    return True


def _thinned(data: bytes, needles: tuple[bytes, ...]) -> bytes:
    """The lines that hold one of ``needles``, and the last."""
    kept = {}
    for needle in needles:
        at = data.find(needle)
        while at >= 0:
            begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at) + 1 or len(data)
            kept[begin] = data[begin:end]
            at = data.find(needle, end)
    last = data.rfind(b"\n", 0, len(data) - 1) + 1
    kept[last] = data[last:]
    return b"".join(kept[begin] for begin in sorted(kept))


_SPECIAL = {RecordedMeta, CheckpointLine, MarkLine}


def _verbatim(data: bytes) -> bool:
    """Whether lines look as we write them, so that they may be handed on as they are."""
    return data.startswith(b'{"type":"') and b"\r" not in data


def _joined(texts: list[bytes]) -> bytes | None:
    return b"\n".join(texts) + b"\n" if b"" not in texts and _verbatim(texts[0]) else None


_WRAPPINGS = ("message", "log", "MESSAGE", "msg")
_INFORMATION = ("version", "host", "kernel", "boot_id", "clock")
_TYPES = frozenset(one.__struct_config__.tag for one in (MetaLine, *get_args(Fact)))
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def _object(text: bytes) -> dict[str, Any]:
    """The object in a line, or in a string in it, whatever stands around. Raises msgspec's errors."""
    value = _object_decoder.decode(text[text.find(b"{") : text.rfind(b"}") + 1])
    if "type" not in value or "mono_ns" not in value:
        for key in _WRAPPINGS:
            inner = value.get(key)
            if isinstance(inner, str) and "{" in inner:
                return _object_decoder.decode(inner[inner.find("{") : inner.rfind("}") + 1])
    return value


def _rewritten(text: bytes) -> Line | None:
    """A line that went through a tool that writes JSON in its own way; None when it is none."""
    try:
        value = {key: one for key, one in _object(text).items() if one is not None}
        if value.get("type") == "meta":
            for key in _INFORMATION:
                if not isinstance(value.get(key, ""), str):
                    del value[key]
        elif not isinstance(value.get("host", ""), str):
            del value["host"]  # a shipper's own
        return msgspec.convert(value, RecordedMeta | Fact, strict=False)
    except _UNREADABLE:
        return None


def _is_unknown(text: bytes) -> bool:
    """Whether a line that could not be decoded is a line of another type than the known ones."""
    try:
        kind = msgspec.json.decode(_any.decode(text)["type"], type=str)
    except (*_UNREADABLE, KeyError):
        return False
    return kind not in _TYPES


_SECONDS: dict[str, int] = {}
_LATEST = (1 << 63) // 1_000_000_000
"""Seconds since 1970: in the year 2262 nanoseconds are no 64-bit number any more."""


def realtime(ts: str) -> int | None:
    """RFC 3339 → ns since 1970, up to 2262; None for anything else. ``…T13:55:00.123456789Z``, ``…T13:55:00+00:00``"""
    if ts[-1:] != "Z":
        return _zoned(ts)
    head, fraction = ts[:19], ts[20:-1]
    if fraction and not (fraction.isdecimal() and fraction.isascii() and len(fraction) <= 9):
        return None
    seconds = _SECONDS.get(head)
    if seconds is None:
        try:
            seconds = int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp())
        except (ValueError, OverflowError):
            return None
        if len(_SECONDS) > 1000:
            _SECONDS.clear()
        _SECONDS[head] = seconds
    return seconds * 1_000_000_000 + int(fraction.ljust(9, "0") or 0) if 0 <= seconds < _LATEST else None


def _zoned(ts: str) -> int | None:
    """The same with an offset, as other tools write it."""
    zone = ts[-6:]
    if len(ts) < 25 or zone[:1] not in ("+", "-") or zone[3:4] != ":":
        return None
    hours, minutes = zone[1:3], zone[4:]
    if not (hours + minutes).isdecimal() or not (hours + minutes).isascii():
        return None
    at = realtime(ts[:-6] + "Z")
    if at is None:
        return None
    at -= (-1 if zone[0] == "-" else 1) * (int(hours) * 60 + int(minutes)) * 60_000_000_000
    return at if at >= 0 else None


class _Timed(msgspec.Struct):
    ts: str


_timed = msgspec.json.Decoder(_Timed)


def line_time(text: bytes) -> int | None:
    """When a line of any type was written, ns since 1970 UTC; None when it does not say."""
    try:
        return realtime(_timed.decode(text).ts)
    except _UNREADABLE:
        line = _rewritten(text)
        return realtime(line.ts) if line is not None else None


class _Numbered(msgspec.Struct):
    seq: Count


_numbered = msgspec.json.Decoder(_Numbered)


def line_seq(text: bytes) -> int | None:
    """The number of a line; None when it has none."""
    try:
        return _numbered.decode(text).seq
    except _UNREADABLE:
        line = _rewritten(text)
        return line.seq if line is not None and not isinstance(line, MetaLine) else None


_meta = msgspec.json.Decoder(RecordedMeta)


def meta(text: bytes) -> MetaLine | None:
    """A first line; None when it is another line, or none of ours."""
    try:
        found: MetaLine = _meta.decode(text)
    except _UNREADABLE:
        rewritten = _rewritten(text)
        if not isinstance(rewritten, MetaLine):
            return None
        found = rewritten
    return found if found.schema == SCHEMA else None
