"""What replay, past and stats share: opening a recording, its clocks, its names, and its lines as rows."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from sstrace.coordinates import name_of
from sstrace.errors import DecodeError, LookupFailed, UsageError
from sstrace.lines import IncidentLine, MetaLine, NetnsLine, OwnerLine, SeenLine, StateLine
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Finer, Kind, Owner, Table
from sstrace.plain import plain
from sstrace.protocols import APPEARING_NETIDS, FAMILY_NUMBERS, NUMBER_OF_NETID, SWEPT, TABLE_OF_NETID
from sstrace.query.command import When
from sstrace.recording.places import RecordedPlaces
from sstrace.sources.names import SystemNames
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say
from sstrace.table import Row
from sstrace.wire import recording
from sstrace.wire.recording import LineReader, Run

if TYPE_CHECKING:  # only a command line with a filter pays for it
    from sstrace.query.expression import Expr

__all__ = [
    "Clock",
    "STEP_NS",
    "LineNames",
    "RecordedNames",
    "Reader",
    "Source",
    "Span",
    "absolute",
    "head_of",
    "is_over",
    "owners_of",
    "reversed_moments",
    "row_of",
    "span",
    "tables_of",
    "target",
    "window",
]

_NS = 1_000_000_000
STEP_NS = 1000
"""By less the clocks of a line do not stand otherwise to each other: files that came through tools with less precise
numbers must not jitter.
"""
_HEAD = 1 << 18
"""What is read of a file to find its first line."""

STATE_NUMBER = {name: number for number, name in reversed(list(enumerate(STATE_TEXT)))}
"""ss's word → kernel's number; of two with one word, the lower."""


def is_over(line: StateLine) -> bool:
    """Whether nothing is left with this line of the row that it tells of."""
    return line.state == "UNKNOWN" or (line.state == "UNCONN" and line.netid not in APPEARING_NETIDS)


def tables_of(meta: MetaLine) -> int:
    """Mask of the tables whose sockets a recording has, by its first line."""
    return sum(1 << TABLE_OF_NETID[netid] for netid in meta.netids if netid in TABLE_OF_NETID) or 1 << Table.TCP


class RecordedNames(SystemNames):
    """Names as the recording has them: interfaces, cgroups and the ephemeral range of the machine that was recorded.
    Services and hosts are looked up here and now: no recording holds them.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self._ephemeral: tuple[int, int] | None = None
        self.elsewhere = self._elsewhere
        self.places = RecordedPlaces(self.of)
        """Of which network namespaces they are."""
        self.tables = 0
        """Mask of the tables of which the first lines so far say that they are recorded."""
        self._open = True
        self._root = self
        """Those of the recorder's own; of which the others are copies."""
        self._borne: set[str] = set()
        """Every name of an interface so far."""
        self._cgroup_ids: dict[str, int] = {}
        self._cgroup_paths: list[str] = []

    def of_another_host(self) -> Self:
        """The same for another host: its own interfaces and ephemeral range, while numbers of cgroups are shared, so
        that a filter is read once.
        """
        other = copy(self)
        other._ifnames, other._ifindexes, other._ephemeral, other._of = {}, {}, None, {}
        other.tables = 0
        other._root, other.elsewhere = other, other._elsewhere
        other.places = self.places.of_another(other.of)
        return other

    @property
    def open(self) -> bool:
        """Whether there are lines that have not been heard yet."""
        return self._root._open

    def close(self) -> None:
        """There is no line more."""
        self._open = False

    def of(self, net: int) -> "RecordedNames":
        """The names as they are in another of the recording's network namespaces, by its cookie."""
        return super().of(net)  # type: ignore[return-value]  # see _elsewhere

    def _elsewhere(self, net: int) -> "RecordedNames | None":
        if net == self.places.net(self.places.home):
            return None
        other = self.within(nullcontext)
        assert isinstance(other, RecordedNames)
        other._ephemeral = self._ephemeral
        return other

    def enter(self) -> None:
        """Which names are those of a namespace, ``recall`` tells."""

    def learn(self, meta: MetaLine) -> None:
        """Take what a first line says."""
        self.places.learn(meta)
        self._of.clear()
        self.tables |= tables_of(meta)
        if meta.interfaces:
            self._borne.update(meta.interfaces)
            self.recall({index: name for name, index in meta.interfaces.items()})
        if meta.ephemeral is not None:
            self._ephemeral = meta.ephemeral

    def hear(self, line: recording.Fact) -> None:
        """Take what a line says: its names are those of its time."""
        self.places.hear(line)
        if isinstance(line, NetnsLine) and line.event != "gone":
            names = self.of(line.netns_cookie)
            names._ephemeral = line.ephemeral or names._ephemeral
        if isinstance(line, SeenLine | StateLine | IncidentLine) and line.ifindex and line.ifname is not None:
            self._borne.add(line.ifname)
            self.of(self.places.net(line.netns)).name_interface(line.ifindex, line.ifname)

    def recall(self, interfaces: Mapping[int, str], ephemeral: tuple[int, int] | None = None) -> None:
        """From here on interfaces are called as they were at another moment, and the ephemeral range is that of then,
        in whichever network namespace is meant.
        """
        self._ephemeral = ephemeral or self._ephemeral
        self._ifnames.clear()
        self._ifindexes.clear()
        for index, name in interfaces.items():
            self.name_interface(index, name)

    def intern_cgroup(self, path: str) -> int:
        """A number for a path: ids themselves are not recorded."""
        found = self._cgroup_ids.get(path)
        if found is None:
            self._cgroup_paths.append(path)
            found = self._cgroup_ids[path] = len(self._cgroup_paths)
        return found

    def _ask_ifname(self, index: int) -> str | None:
        return None

    def ifindex(self, name: str) -> int | None:
        """Index of an interface; where a line may still name one so, -1."""
        return self._ifindexes.get(name, -1 if self.open else None)

    def finish(self, expression: "Expr | None") -> None:
        """Everything has been heard. Raises LookupFailed where a filter asks for an interface, or --netns for a network
        namespace, that never was there.
        """
        self.places.finish()
        if expression is None:
            return
        from sstrace.query.expression import awaited

        for name in awaited(expression):
            if name not in self._borne:
                raise LookupFailed(f'sstrace: no interface was called "{name}" while this was recorded')

    def interfaces(self) -> dict[int, str]:
        """Index → name, as of the line that was heard last."""
        return dict(self._ifnames)

    def ephemeral(self) -> tuple[int, int]:
        """The ephemeral range."""
        return self._ephemeral if self._ephemeral is not None else super().ephemeral()

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        """Path of an interned cgroup."""
        if 0 < cgroup_id <= len(self._cgroup_paths):
            return self._cgroup_paths[cgroup_id - 1].encode(errors="surrogateescape")
        return None

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        """Not this machine's to say: it is gone."""
        return None

    def owners(self, owned: tuple[OwnerLine, ...]) -> tuple[Owner, ...]:
        """The owners that a line names."""
        return owners_of(owned)

    def cgroup_id(self, path: str) -> int:
        """The number of a path: as recorded, from the mount on, or with the usual place of the mount before it."""
        for mount in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup"):
            if path == mount or path.startswith(mount + "/"):
                path = path.removeprefix(mount)
                break
        return self.intern_cgroup("/" + path.strip("/"))


class LineNames(RecordedNames):
    """Names that keep a row in its line and move no cursor, for rows in text. ss prints what it finds; what was found
    on this machine is the kernel's, what stands in a file may be anybody's.
    """

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        """Path of an interned cgroup."""
        path = super().cgroup_path(cgroup_id)
        return None if path is None else plain(os.fsdecode(path)).encode()

    def ifname(self, index: int) -> str:
        """Name of an interface."""
        return plain(super().ifname(index))

    def owners(self, owned: tuple[OwnerLine, ...]) -> tuple[Owner, ...]:
        """The owners that a line names."""
        return owners_of(tuple(msgspec.structs.replace(one, comm=plain(one.comm)) for one in owned))


class Clock:
    """CLOCK_REALTIME minus CLOCK_MONOTONIC, as the lines tell it."""

    def __init__(self) -> None:
        self.offset_ns: int | None = None

    def learn(self, line: recording.Line) -> bool:
        """Take both times of a line; whether the offset is another one now."""
        at = recording.realtime(line.ts)
        if at is None:
            return False
        offset = at - line.mono_ns
        if self.offset_ns is not None and abs(offset - self.offset_ns) < STEP_NS:
            return False
        self.offset_ns = offset
        return True


class Source(Protocol):
    """What lines are read from: a file (sources.replay), or whoever has the same lines."""

    name: str
    block: int
    error: str | None

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def blocks(self, offset: int = 0) -> Iterator[bytes]:
        """See Recording."""
        ...

    def wait(self) -> None:
        """See Recording."""
        ...


class Reader:
    """Runs of one recording, and at the end one sentence of what could not be used."""

    def __init__(self, source: Source, host: str | None = None, *, marks: bool = False) -> None:
        """``host``, ``marks``: see LineReader."""
        self.source = source
        self._lines = LineReader(host, marks=marks)

    @property
    def used(self) -> int:
        """Lines that were of use so far."""
        return self._lines.faults.used

    def __iter__(self) -> Iterator[MetaLine | Run]:
        return self.runs()

    def only(self, *needles: bytes) -> None:
        """See ``LineReader.only``."""
        self._lines.only(*needles)

    def runs(self, offset: int = 0) -> Iterator[MetaLine | Run]:
        """The lines from a place on. May be left before its end."""
        for block in self.source.blocks(offset):
            yield from self._lines.feed(block)
        yield from self._lines.end()

    def finish(self, *, aloud: bool = True) -> None:
        """Say what was not used (``aloud``). Raises DecodeError when nothing was."""
        faults, name = self._lines.faults, self.source.name
        sentence = faults.sentence(name)
        if self.source.error is not None:
            rest = f"{name} ends early, {self.source.error}"
            sentence = rest if sentence is None else f"{sentence}; it ends early, {self.source.error}"
        if not faults.used:
            if faults.foreign:
                raise DecodeError(
                    f"{name} holds nothing that can be used: it is of schema {faults.schema[:40]!r}, "
                    f"which this version does not read"
                )
            raise DecodeError(
                f"{name} holds nothing that can be used: it is no recording of sstrace"
                + (f" ({self.source.error})" if self.source.error is not None else "")
            )
        if sentence is not None and aloud:
            say(sentence)


class Span:
    """When a recording begins and ends, ns since 1970 UTC."""

    def __init__(self, first_ns: int, last_ns: int) -> None:
        self.first_ns = first_ns
        self.last_ns = last_ns


def head_of(source: Recording) -> MetaLine | None:
    """The first line that says of which host a recording is, where there is one at its beginning."""
    rest, size = b"", 0
    for block in source.blocks():
        size += len(block)
        *lines, rest = (rest + block).split(b"\n")
        found = (recording.meta(line) for line in lines if b"meta" in line)
        head = next((one for one in found if one is not None), None)
        if head is not None or size >= _HEAD:
            return head
    return recording.meta(rest)


def span(source: Recording) -> Span:
    """Look at both ends of a recording. Raises DecodeError when no line says a time."""
    first: int | None = None
    rest = b""
    for block in source.blocks():
        *lines, rest = (rest + block).split(b"\n")
        first = next((at for line in lines if (at := recording.line_time(line)) is not None), None)
        if first is not None:
            break
        rest = rest[-(1 << 20) :]
    if first is None:
        first = recording.line_time(rest)
    last = source.last_line(recording.line_time)
    ended = recording.line_time(last) if last is not None else first
    if first is None:
        raise DecodeError(f"{source.name} holds nothing that can be used: it is no recording of sstrace")
    return Span(first, max(first, ended if ended is not None else first))


def target(when: When, span_: Span, *, utc: bool = False) -> int:
    """A moment as typed → ns since 1970 UTC. ``utc``: what says no zone is UTC's, not this machine's."""
    if when.kind == "start":
        return span_.first_ns + when.ns
    if when.kind == "end":
        return span_.last_ns - when.ns
    at = absolute(when, utc=utc)
    if at is not None:
        return at
    # The last time before the end at which clocks showed this.
    last = span_.last_ns // _NS
    with _calendar(when):
        midnight = datetime.fromtimestamp(last, UTC if utc else None).replace(hour=0, minute=0, second=0, microsecond=0)
        at = int(midnight.timestamp()) * _NS + when.ns
    day = 86400 * _NS
    return at - day if at > span_.last_ns and at - day >= span_.first_ns else at


def window(source: Recording, between: tuple[When, When], *, utc: bool, alone: bool) -> tuple[int, int]:
    """The two moments of --between in a recording, ns since 1970 UTC; of one recording of several (``alone`` is false)
    they may leave nothing. Raises UsageError for what cannot be.
    """
    if not source.regular:
        raise UsageError(f"sstrace: --between needs both ends of the recording, and {source.name} is a pipe")
    if any(when.kind == "seq" for when in between):
        raise UsageError("sstrace: --between takes times; #SEQ is for --at")
    ends = span(source)
    first, last = (target(when, ends, utc=utc) for when in between)
    if first > last and alone:
        raise reversed_moments(between)
    return first, last + between[1].open_ns


def reversed_moments(between: tuple[When, When]) -> UsageError:
    """The sentence about moments that stand the wrong way round."""
    first, last = (when.text for when in between)
    return UsageError(f"sstrace: {first} is after {last}: write --between {last} {first}")


def absolute(when: When, *, utc: bool) -> int | None:
    """The same for moments that are told without the recording; None for others."""
    if when.kind == "utc" or (utc and when.kind == "local"):
        return when.ns
    if when.kind != "local":
        return None
    with _calendar(when):
        # The digits were taken for UTC: read them as this machine's wall clock.
        naive = datetime.fromtimestamp(when.ns // _NS, UTC).replace(tzinfo=None)
        return int(naive.timestamp()) * _NS + when.ns % _NS


@contextmanager
def _calendar(when: When) -> Iterator[None]:
    try:
        yield
    except (OverflowError, OSError, ValueError):
        raise UsageError(f'sstrace: "{when.text}" is beyond what this machine\'s calendar holds') from None


_addresses: dict[str, bytes] = {}


def _address(family: int, text: str) -> bytes:
    """Raises OSError for text that is no address of the family."""
    raw = _addresses.get(text)
    if raw is None or len(raw) != (4 if family == AF_INET else 16):
        try:
            raw = socket.inet_pton(family, text)
        except ValueError:  # a NUL in it
            raise OSError(f"no address: {text!r}") from None
        if len(_addresses) > 200_000:
            _addresses.clear()
        _addresses[text] = raw
    return raw


_owners: dict[tuple[OwnerLine, ...], tuple[Owner, ...]] = {(): ()}


def _owner(one: OwnerLine) -> Owner:
    finer = Finer(one.tid) if one.tid is not None else None
    return Owner(one.comm.encode(errors="surrogateescape"), one.pid, one.fd, finer)


def owners_of(owned: tuple[OwnerLine, ...]) -> tuple[Owner, ...]:
    """The owners that a line names."""
    known = _owners.get(owned)
    if known is None:
        if len(_owners) > 100_000:
            _owners.clear()
            _owners[()] = ()
        known = tuple(map(_owner, owned))
        _owners[owned] = known
    return known


def _end(family: int, text: str, number: int) -> bytes:
    """The address, or outside of the internet's families the name, of an end. Raises OSError as ``_address`` does, and
    for what is no port there.
    """
    if family not in (AF_INET, AF_INET6):
        return name_of(text)
    if number > 0xFFFF:
        raise OSError(f"no port: {number}")
    return _address(family, text)


def row_of(line: SeenLine | StateLine | IncidentLine, names: RecordedNames) -> Row:
    """A line as a row of the table. Raises OSError when an address is none, or nothing has such a protocol."""
    family, protocol = FAMILY_NUMBERS[line.family], NUMBER_OF_NETID.get(line.netid, 0)
    if (family in (AF_INET, AF_INET6)) is (protocol in SWEPT):
        raise OSError(f"no socket: {line.family} and {line.netid}")
    since = line.mono_ns
    if isinstance(line, StateLine) and line.old != line.state:
        exact = True
    else:  # it has been in its state before: a row of a table, or one that a timewait socket has taken over
        exact = line.held_us is not None
        since -= round((line.held_us or 0) * 1000)
    row = Row(
        line.id, Kind.SOCKET, STATE_NUMBER[line.state], family, protocol,
        names.places.net(line.netns), line.netns, _end(family, line.src, line.sport), line.sport,
        _end(family, line.dst, line.dport), line.dport, line.ino or 0, line.uid,
        line.ifindex or 0, line.sk, None, since, exact, line.mono_ns,
        owners_of(line.owners) if line.owners else (), line.owner_source,
        names.intern_cgroup(line.cgroup) if line.cgroup is not None else None, line.v6only,
    )  # fmt: skip
    row.role = line.role
    if line.peer_owners:
        row.peer_owners = owners_of(line.peer_owners)
    return row
