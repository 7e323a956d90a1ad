"""Recordings of several hosts in a directory: whose each file is, and which of them tell of a moment.

Every file says in its first line of which host, boot and network namespace it is, and begins with the whole table; so
one file a host tells of a moment, whatever lies beside it. The files of a rotation are one series.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import msgspec

from sstrace.errors import DecodeError, LookupFailed, UsageError
from sstrace.lines import MetaLine, StateLine
from sstrace.query.command import Command, When
from sstrace.query.glob import compile_glob
from sstrace.query.nearest import nearest
from sstrace.recording.clocks import SHAKEN_NS, Shaken, Skew, compared, shaken_of
from sstrace.recording.past import Heard, Past, Until, table_at
from sstrace.recording.reader import RecordedNames, Source, Span, absolute, head_of, reversed_moments, span, target
from sstrace.render.digest import Digest, Tally
from sstrace.render.times import moment
from sstrace.sources.folder import files_below, is_folder
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say
from sstrace.wire.recording import line_time, realtime

__all__ = ["Chosen", "Fleet", "Moved", "Part", "Series", "TooLarge", "several"]

_NAMED = 3
"""Of many hosts or files so many are named in a sentence."""
_ENDINGS: Final = (".ndjson", ".jsonl", ".json", ".log")
_PACKED: Final = (".gz", ".zst")
_SILENT_NS = 15_000_000_000
"""A recorder in which nothing happens says so every ten seconds: only what ended longer before a moment ended early."""
_MOST = 4 << 30
_LOOK = 1 << 15
"""Bytes of a file that are read at first, to see whose it is."""
_SHRINK = 10
"""To so small a part compression makes lines like these."""


class Part(msgspec.Struct, frozen=True):
    """One file."""

    path: str
    head: MetaLine
    began_ns: int
    """ns since 1970 UTC, by its host's clock."""
    size: int
    """Bytes of its lines, estimated where it is compressed."""
    seekable: bool


class Series(msgspec.Struct):
    """The files of one recording, in order: ids of connections are unique in it."""

    host: str
    parts: list[Part]

    @property
    def head(self) -> MetaLine:
        """What its first file says."""
        return self.parts[0].head

    def at(self, at_ns: int) -> Part | None:
        """The file that was being written then, or the last before."""
        return next((part for part in reversed(self.parts) if part.began_ns <= at_ns), None)


class TooLarge(UsageError):  # noqa: N818 - what it is, in a word
    """More would have to be read than anybody waits for."""


class Moved(Exception):  # noqa: N818 - no error, where one can look again
    """A file is another one than it was a moment ago: its recorder has begun the next."""


class Chosen(NamedTuple):
    """A file that tells of a moment."""

    series: Series
    part: Part
    ended_ns: int | None
    """When it ended, where that was before the moment."""


class Fleet:
    """The hosts whose recordings lie in a directory, or in the files that were named. ``words``: see --host; none:
    all. Raises DecodeError where nothing can be used, LookupFailed for a host that is not there.
    """

    def __init__(self, paths: Sequence[str], words: Sequence[str] = ()) -> None:
        self.paths = list(paths)
        self.name = " and ".join(paths[:_NAMED]) + (" and more" if len(paths) > _NAMED else "")
        self._left: list[tuple[str, str]] = []
        parts = list(self._parts(paths))
        if not parts:
            why = f" ({_listed(self._left)})" if self._left else ""
            raise DecodeError(f"{self.name} holds nothing that can be used: no recording of sstrace{why}")
        if self._left:
            say(f"left out: {_listed(self._left)}")
        self._ends: dict[str, int] = {}
        self._told: set[str] = set()
        """Files of which it was said what could not be used."""
        self._shaken: list[Shaken] | None = None
        self._take(parts, words)

    def _take(self, parts: Iterable[Part], words: Sequence[str]) -> None:
        ordered = sorted(parts, key=lambda part: (part.began_ns, part.path))
        self.everybody = self._told_apart(_series(ordered))
        """Of all hosts, by name, then in the order of their beginning."""
        self.series = self._selected(words)
        """Of those that were asked for."""

    @property
    def hosts(self) -> list[str]:
        """Those that were asked for, in the order in which they are shown."""
        return list(dict.fromkeys(series.host for series in self.series))

    def _parts(self, paths: Sequence[str]) -> Iterator[Part]:
        for path in paths:
            names = [path]
            if is_folder(path):
                names, refused = files_below(path)
                self._left += refused
            for name in names:
                try:
                    part = _part(name)
                except DecodeError as error:
                    if name == path:
                        raise
                    self._left.append((name, str(error).rpartition(": ")[2]))
                    continue
                if part is not None:
                    yield part
                elif _looks_recorded(name) or name == path:
                    self._left.append((name, "no recording of sstrace"))

    def _told_apart(self, series: list[Series]) -> list[Series]:
        """By host, then in the order of their beginning; machines that bear the same name at the same time have the
        beginning of their boot's id behind it.
        """
        by_host: defaultdict[str, list[Series]] = defaultdict(list)
        for one in series:
            by_host[one.host].append(one)
        for host, mine in by_host.items():
            spans: dict[str, tuple[int, int]] = {}
            for one in mine if len({one.head.boot_id for one in mine}) > 1 else ():
                first, latest = one.parts[0].began_ns, one.parts[-1]
                # To know when a compressed one ended all of it would have to be read.
                last = self.ended(latest) if latest.seekable else latest.began_ns
                before = spans.get(one.head.boot_id, (first, last))
                spans[one.head.boot_id] = min(first, before[0]), max(last, before[1])
            ordered = sorted(spans.values())
            if any(later[0] + _SILENT_NS < earlier[1] for earlier, later in pairwise(ordered)):
                for one in mine:
                    one.host = f"{host}@{one.head.boot_id[:8]}"
                names = sorted({one.host for one in mine})
                say(f"{len(names)} machines are called {host} at the same time: here they are {_names(names)}")
        return sorted(series, key=lambda one: (one.host, one.parts[0].began_ns))

    def _selected(self, words: Sequence[str]) -> list[Series]:
        if not words:
            return self.everybody
        known = sorted({series.host for series in self.everybody})
        chosen: set[str] = set()
        for word in words:
            test = compile_glob(word)
            found = {name for name in known if any(test(_cell(one)) for one in (name, name.partition("@")[0]))}
            if not found:
                near = nearest(word, known)
                hint = f"did you mean {near}?" if near is not None else f"there {_are(known)}"
                raise LookupFailed(f'sstrace: {self.name} has no recording of a host "{word}": {hint}')
            chosen |= found
        return [series for series in self.everybody if series.host in chosen]

    def moment(self, when: When, *, utc: bool) -> int:
        """A moment as typed → ns since 1970 UTC, the same one for all hosts: what counts from the beginning counts from
        that of the first recording, what counts from the end from that of the last. Raises UsageError.
        """
        if when.kind == "seq":
            return self._told_at(when)
        at = absolute(when, utc=utc)
        return at if at is not None else target(when, self.span(), utc=utc)

    def _told_at(self, when: When) -> int:
        """When a line was told, by its number."""
        if len(self.series) > 1:
            raise UsageError(
                f"sstrace: #SEQ numbers the lines of one recording, and {self.name} has {len(self.series)}: "
                "choose a host that has one (--host), or say a time"
            )
        at_ns = self.line_time(self.series[0], when.ns)
        if at_ns is None:
            raise LookupFailed(f"sstrace: {self.name} has no line {when.text}")
        return at_ns

    def line_time(self, series: Series, seq: int) -> int | None:
        """When the line of this number was told, ns since 1970 UTC; None where there is none. Raises Moved."""
        mark = re.compile(rb'"seq":%d[,}]' % seq)
        for part in series.parts:
            with _opened(part) as source:
                rest = b""
                for block in source.blocks():
                    text = rest + block
                    found = mark.search(text)
                    end = text.find(b"\n", found.end()) if found is not None else -1
                    if found is not None and end >= 0:
                        return line_time(text[text.rfind(b"\n", 0, found.start()) + 1 : end])
                    rest = text[text.rfind(b"\n") + 1 :]
        return None

    def window(self, between: tuple[When, When], *, utc: bool) -> tuple[int, int]:
        """The two moments of --between, ns since 1970 UTC. Raises UsageError."""
        first, last = (self.moment(when, utc=utc) for when in between)
        if first > last:
            raise reversed_moments(between)
        return first, last + between[1].open_ns

    def span(self) -> Span:
        """From the beginning of the first recording to the end of the last."""
        began = min(series.parts[0].began_ns for series in self.series)
        latest = {(series.host, series.head.netns): series for series in self.series}  # the others end before
        return Span(began, max(self.ended(series.parts[-1]) for series in latest.values()))

    def expect(
        self, parts: Sequence[tuple[Part, int]], command: Command, names: RecordedNames, *, back_ns: int = 0
    ) -> None:
        """The tables of these files at these moments (ns since 1970 UTC) are about to be asked for, as far as a command
        line shows them, and the transitions in so much of the time before. ``names``: by which its filter is read.
        """

    def table(self, part: Part, at_ns: int, names: RecordedNames, heard: Heard | None = None, back_ns: int = 0) -> Past:
        """The table that a file tells of at a moment; ``names`` are those of then. ``heard`` is told (Past) of the
        transitions in so much of the time before, and maybe of earlier ones. Raises Moved, DecodeError.
        """
        if self._shaken is not None:
            heard, back_ns = self._shaking(part, at_ns, names, self._shaken, heard), max(back_ns, SHAKEN_NS)
        with _opened(part) as source:
            source.wait()
            past, reader = table_at(source, Until(at_ns), names, heard, back_ns)
            reader.finish(aloud=part.path not in self._told)
        self._told.add(part.path)
        return past

    def compare(self) -> None:
        """From here on clocks of hosts are compared where tables are asked for."""
        self._shaken = []

    def shake(self, parts: Sequence[tuple[Part, int]], names: RecordedNames) -> None:
        """Compare them by what these files tell of these moments, whose tables are not asked for. Raises Moved."""
        for part, at_ns in parts:
            self.table(part, at_ns, names.of_another_host())

    def skews(self) -> Sequence[Skew]:
        """Of which hosts they differ, as far as they have been compared."""
        return compared(self._shaken or ())

    def _shaking(self, part: Part, at_ns: int, names: RecordedNames, into: list[Shaken], heard: Heard | None) -> Heard:
        host = next(one.host for one in self.everybody if part in one.parts)

        def hear(line: StateLine, known: bool) -> None:
            if heard is not None:
                heard(line, known)
            one = shaken_of(host, line, names)
            if one is not None and at_ns - SHAKEN_NS < one.at_ns <= at_ns:
                into.append(one)

        return hear

    def follow(
        self, parts: Sequence[Part], window: tuple[int, int] | None, command: Command, names: RecordedNames
    ) -> None:
        """These files are about to be read, together, for what a command line, which has been resolved, tells of a
        window.
        """

    def count(
        self, parts: Sequence[Part], window: tuple[int, int] | None, command: Command, names: RecordedNames
    ) -> tuple[Digest, dict[str, Tally]] | None:
        """The digest of these files for a command line, which has been resolved, and by path the tally of each, where
        they can be had without reading; else None.
        """
        return None

    def opened(self, part: Part) -> Source:
        """A file, open for reading. Raises Moved."""
        return _opened(part)

    def connection(self, part: Part, number: int) -> Source:
        """The lines of one connection, by its id, and maybe others. Raises Moved."""
        return _opened(part)

    def ended(self, part: Part) -> int:
        """When a file ends."""
        if part.path not in self._ends:
            with Recording(part.path) as source:
                self._ends[part.path] = max(span(source).last_ns, part.began_ns)
        return self._ends[part.path]

    def at(self, at_ns: int | None, series: Iterable[Series]) -> list[Chosen]:
        """The files that tell of a moment; None: of each host's end. A host has one for each of its network namespaces
        that were recorded then; where none was, the one that ended last before. A host whose recordings begin later
        has none.
        """
        by_host: defaultdict[str, list[Series]] = defaultdict(list)
        for one in series:
            by_host[one.host].append(one)
        found: list[Chosen] = []
        for mine in by_host.values():
            goal = at_ns if at_ns is not None else max(self.ended(one.parts[-1]) for one in mine)
            found += self._of_host(goal, mine)
        return found

    def _of_host(self, at_ns: int, series: list[Series]) -> list[Chosen]:
        covering: dict[int, Chosen] = {}
        over: list[Chosen] = []
        for one in reversed(series):  # the one that began last first
            part = one.at(at_ns)
            if part is None or one.head.netns in covering:
                continue
            ended = self.ended(part) if part is one.parts[-1] else None
            if ended is None or ended + _SILENT_NS >= at_ns:
                covering[one.head.netns] = Chosen(one, part, None)
            else:
                over.append(Chosen(one, part, ended))
        if covering:
            return sorted(covering.values(), key=lambda chosen: (chosen.part.began_ns, chosen.series.head.netns))
        return sorted(over, key=lambda chosen: chosen.ended_ns or 0)[-1:]

    @staticmethod
    def within(window: tuple[int, int] | None, series: list[Series]) -> list[Series]:
        """The same without the files that tell of nothing in a window (ns since 1970 UTC)."""
        if window is None:
            return series
        found = []
        for one in series:
            first = one.at(window[0]) or one.parts[0]
            kept = [part for part in one.parts if first.began_ns <= part.began_ns <= window[1]]
            if kept:
                found.append(Series(one.host, kept))
        return found

    def limit(self, parts: Iterable[Part]) -> None:
        """Refuse what would take too long. ``parts``: the files that are read from their beginning. Raises
        TooLarge.
        """
        size = sum(part.size for part in parts)
        if size > _MOST:
            raise TooLarge(
                f"sstrace: {self.name} is too large for this question: {size / (1 << 30):.0f} GiB of lines would have "
                f"to be read, and {_MOST >> 30} GiB is the most: ask for fewer hosts (--host), or less time (--between)"
            )

    def tell(self, chosen: Sequence[Chosen], when: When | None, *, utc: bool) -> None:
        """Say of which hosts asked for nothing is known at a moment, and of which only something earlier. Raises
        LookupFailed where nothing is known of any.
        """
        if when is None:
            self._tell_ends(chosen, utc=utc)
            return
        known = {one.series.host for one in chosen}
        unknown = [host for host in self.hosts if host not in known]
        if unknown:
            began = min(series.parts[0].began_ns for series in self.series if series.host in unknown)
            begin = f"{_names(unknown)} {'begins' if len(unknown) == 1 else 'begin'} at {moment(began, utc=utc)}"
            first = f"{begin}{' and later' if len(unknown) > 1 else ''}, after {when.text}"
            if not known:
                raise LookupFailed(f"sstrace: {self.name}: {first}: nothing is known of that moment")
            say(f"{first}: {'it is' if len(unknown) == 1 else 'they are'} left out")
        over = sorted((one.ended_ns, one.series.host) for one in chosen if one.ended_ns is not None)
        if over:
            ended = moment(over[0][0], utc=utc)
            names = _names(list(dict.fromkeys(host for _, host in over)))
            if len(over) == 1:
                say(f"{names} ends at {ended}, before {when.text}: this is its table then")
            else:
                say(f"{names} end at {ended} and later, before {when.text}: these are their tables then")

    def _tell_ends(self, chosen: Sequence[Chosen], *, utc: bool) -> None:
        """Without a moment each table is that of its host's end."""
        ends = sorted((self.ended(one.part), one.series.host) for one in chosen)
        if ends[-1][0] - ends[0][0] > _SILENT_NS:
            first, last = (f"{host} at {moment(at, utc=utc)}" for at, host in (ends[0], ends[-1]))
            say(f"not all end together, {first}, {last}: each table is that of its own end; --at TIME is one moment")


def _opened(part: Part) -> Recording:
    source = Recording(part.path)
    block, source.block = source.block, _LOOK
    head = head_of(source)
    source.block = block
    if head is None or (head.boot_id, head.mono_ns, head.part) != (
        part.head.boot_id,
        part.head.mono_ns,
        part.head.part,
    ):
        source.close()
        raise Moved(f"{part.path} has been begun anew while the others were read")
    return source


def several(names: Sequence[str]) -> str:
    """Names in a sentence: the first few, and how many more."""
    return _names(names)


def _part(path: str) -> Part | None:
    """A file as part of a recording; None where it is none."""
    with Recording(path) as source:
        source.block = _LOOK
        if not source.regular:
            raise UsageError(f"sstrace: of which host {source.name} is cannot be told beforehand: it is a pipe")
        head = head_of(source)
        if head is None or (began := realtime(head.ts)) is None:
            return None
        size = source.size()
        return Part(path, head, began, size if source.seekable else size * _SHRINK, source.seekable)


def _looks_recorded(path: str) -> bool:
    for ending in _PACKED:
        path = path.removesuffix(ending)
    return path.endswith(_ENDINGS)


def _series(parts: Iterable[Part]) -> list[Series]:
    """Files in the order of their beginning → the recordings that they are of."""
    found: list[Series] = []
    last: dict[tuple[str, str, str, int], list[Series]] = defaultdict(list)
    for part in parts:
        head = part.head
        key = part.path.rpartition("/")[0], head.host, head.boot_id, head.netns
        before = (head.part or 0) - 1
        series = next((one for one in last[key] if (one.parts[-1].head.part or 0) == before), None)
        if series is None or head.part is None:
            series = Series(head.host or "-", [])
            found.append(series)
            last[key].append(series)
        series.parts.append(part)
    return found


def _cell(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("latin-1")


def _names(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    if len(names) <= _NAMED:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"


def _are(names: Sequence[str]) -> str:
    return f"{'is' if len(names) == 1 else 'are'} {_names(names)}"


def _listed(left: Sequence[tuple[str, str]]) -> str:
    more = f", and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
    return ", ".join(f"{path} ({why})" for path, why in left[:_NAMED]) + more
