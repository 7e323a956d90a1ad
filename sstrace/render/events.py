"""Changes of the live table → NDJSON, one flat object a line (design: the native schema). The line types are the
schema.

Enters: rows, transitions, losses and repairs as plain values. Leaves: bytes. Keys are stable; a key whose value is not
known is absent, never null and never 0. ``id`` joins the lines of one connection; it is unique within one run.
"""

import errno as _errno
import socket as _socket
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import msgspec

from sstrace.model import AF_INET, STATE_TEXT, Owner
from sstrace.native import twins
from sstrace.protocols import NETID_OF_NUMBER, UNNAMED
from sstrace.render.workload import Workload, workload

__all__ = [
    "NO_LOOK",
    "SCHEMA",
    "CheckpointLine",
    "DroppedLine",
    "EventLine",
    "EventWriter",
    "GapLine",
    "GoneLine",
    "MarkLine",
    "Looked",
    "MetaLine",
    "OwnerLine",
    "Place",
    "ResyncLine",
    "RowView",
    "SeenLine",
    "StateLine",
    "TransitionView",
    "address",
    "errno_name",
    "timestamp",
]

_Change = TypeVar("_Change")

Looked = tuple[int, int, dict[int, list[Owner]]]
"""When it was last looked who holds which inode, when that is due again (CLOCK_MONOTONIC, ns), and what was found.
Nothing is to be learnt of the owners of what happened before the one and is not found, nor of what happened between
the two."""
NO_LOOK: Looked = (-1, (1 << 63) - 1, {})
"""Nobody looks."""

SCHEMA = "sstrace/1"
"""Name and version of the native schema. The number grows when a key changes its meaning or goes; new keys may come
at any time.
"""


class OwnerLine(msgspec.Struct, omit_defaults=True, frozen=True):
    """A holder: a process's name (bytes that are no UTF-8 are replaced), its pid, and its descriptor where that is
    known.
    """

    comm: str
    pid: int
    fd: int | None = None
    tid: int | None = None


class MetaLine(msgspec.Struct, tag="meta", tag_field="type", omit_defaults=True, kw_only=True):
    """The first line: what follows, from where, and how the clocks stand to each other."""

    schema: str
    version: str
    ts: str
    """RFC 3339, UTC, nanoseconds."""
    mono_ns: int
    """CLOCK_MONOTONIC at ``ts``."""
    host: str
    kernel: str
    boot_id: str
    netns: int
    clock: str = "monotonic"
    part: int | None = None
    """Of a recording that goes on from the file before (--rotate): the file's number, from 1."""
    ephemeral: list[int] | None = None
    """First and last port of the local ephemeral range, whose ports ss never calls by a service's name."""
    interfaces: dict[str, int] | None = None
    """Index of each network interface."""


class SeenLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A socket of the baseline or of a checkpoint, one that a resync found, or one of which something has become known
    without a transition (a listener's port, say).
    """

    ts: str
    mono_ns: int
    seq: int
    id: int
    netid: str
    family: str
    state: str
    src: str
    sport: int
    dst: str
    dport: int
    netns: int
    ino: int | None = None
    sk: int | None = None
    uid: int | None = None
    ifindex: int | None = None
    v6only: bool | None = None
    cgroup: str | None = None
    owners: list[OwnerLine] | None = None
    owner_source: str | None = None
    ifname: str | None = None
    held_us: float | None = None
    """Microseconds in the state so far; absent when its beginning was not seen."""
    role: str | None = None
    """client: this end connected; server: it accepted; absent where that was not seen."""
    container_id: str | None = None
    container_runtime: str | None = None
    unit: str | None = None
    pod_uid: str | None = None


class StateLine(
    msgspec.Struct,
    tag="state",
    tag_field="type",
    omit_defaults=True,
    kw_only=False,
    gc=False,
    rename={"old": "from", "new": "to"},
):
    """A transition."""

    ts: str
    """When: RFC 3339, UTC, nanoseconds."""
    mono_ns: int
    """When: CLOCK_MONOTONIC, nanoseconds."""
    seq: int
    """Position in this stream; a gap between two numbers is another line type's."""
    id: int
    """Joins the lines of one connection."""
    netid: str
    family: str
    """inet or inet6."""
    old: str
    new: str
    src: str
    sport: int
    dst: str
    dport: int
    netns: int
    """Inode of the network namespace."""
    held_us: float | None = None
    """Microseconds in the old state; absent when its beginning was not seen."""
    ino: int | None = None
    """Inode of the socket; absent for what no process holds."""
    sk: int | None = None
    """Socket cookie, ss's ``sk:`` (which prints it in hexadecimal); absent until somebody has asked the kernel for
    it.
    """
    uid: int | None = None
    ifindex: int | None = None
    cgroup: str | None = None
    owners: list[OwnerLine] | None = None
    owner_source: str | None = None
    """How the owners are known: connect, listen, close (a system call was seen), walk or proc (read from the process
    table).
    """
    cause: str | None = None
    """Why the connection ended, or what closed here: a listener, or a timewait socket that had stayed behind."""
    err: int | None = None
    """errno that the socket's owner is told, or will be."""
    errno: str | None = None
    """Its name: ECONNREFUSED, …"""
    retransmits: int | None = None
    approximate: bool = False
    """The change was found by looking: it happened at ``ts`` or a little before."""
    v6only: bool | None = None
    """IPV6_V6ONLY of an inet6 socket; absent until the kernel was asked."""
    ifname: str | None = None
    """Name of the interface ``ifindex``."""
    source: str | None = None
    """``poll``: no event stands behind it, only the difference between two sweeps."""
    role: str | None = None
    """client: this end connected; server: it accepted; absent where that was not seen, and for listeners."""
    ended: bool = False
    """The connection ends here: on one line in the life of each, and on none of a listener. That line has its cause and
    its lifetime; what follows, where a timewait socket stays behind, is the end of that one.
    """
    lifetime_us: float | None = None
    """Where the connection ended, or the listening: microseconds since it began; absent when that was not seen."""
    container_id: str | None = None
    """Id of the container, by its cgroup's path."""
    container_runtime: str | None = None
    """docker, containerd, podman, cri-o, lxc, systemd-nspawn; absent where the path does not tell."""
    unit: str | None = None
    """systemd unit, by its cgroup's path."""
    pod_uid: str | None = None
    """UID of the Kubernetes pod, by its cgroup's path."""


class GoneLine(msgspec.Struct, tag="gone", tag_field="type", omit_defaults=True, kw_only=True):
    """A row that ended without a transition: its end was lost."""

    ts: str
    mono_ns: int
    seq: int
    id: int
    state: str


class GapLine(msgspec.Struct, tag="gap", tag_field="type", omit_defaults=True, kw_only=True):
    """Events of one CPU that never arrived, and between which times they were due. A resync follows."""

    ts: str
    mono_ns: int
    seq: int
    cpu: int
    count: int
    after_ns: int
    before_ns: int


class ResyncLine(msgspec.Struct, tag="resync", tag_field="type", omit_defaults=True, kw_only=True):
    """The table was compared with the kernel, after a gap or in an audit, and this is what was wrong. The rows follow:
    ``seen`` for added and changed ones, ``gone`` for removed. An audit that finds nothing says nothing.
    """

    ts: str
    mono_ns: int
    seq: int
    added: int
    removed: int
    changed: int


class CheckpointLine(msgspec.Struct, tag="checkpoint", tag_field="type", omit_defaults=True, kw_only=True):
    """Only in recordings: the whole table follows, as ``rows`` lines ``seen``, for readers who start here. It changes
    nothing. This line and its rows repeat the ``seq`` of the line before.
    """

    ts: str
    mono_ns: int
    seq: int
    rows: int
    unwritten: int | None = None
    """Lines that could not be written just before this one, on a full disk."""


class DroppedLine(msgspec.Struct, tag="dropped", tag_field="type", omit_defaults=True, kw_only=True):
    """Lines that are missing here, because whoever reads was slower than the events (--on-full drop), or the disk was
    full. The table stays whole; a reader who keeps one of its own should start anew.
    """

    ts: str
    mono_ns: int
    seq: int
    count: int
    first_seq: int
    """``seq`` of the first line missing; the last is the one before this line's."""
    reason: str
    """slow-reader, disk-full."""


class MarkLine(msgspec.Struct, tag="mark", tag_field="type", omit_defaults=True, kw_only=True):
    """Only in recordings: nothing more has happened until now. It repeats the ``seq`` of the line before."""

    ts: str
    mono_ns: int
    seq: int


EventLine = MetaLine | SeenLine | StateLine | GoneLine | GapLine | ResyncLine | CheckpointLine | MarkLine | DroppedLine


class Place(msgspec.Struct, frozen=True):
    """A cgroup: its path, and what runs in it."""

    path: str | None = None
    work: Workload = workload("")


_NOWHERE = Place()
_NO_WORK = _NOWHERE.work


class RowView(Protocol):
    """What the writers read of a row of the live table."""

    id: int
    state: int
    family: int
    protocol: int
    netns: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ino: int
    uid: int | None
    ifindex: int
    cookie: int | None
    owners: tuple[Owner, ...]
    owner_source: str | None
    cgroup: int | None
    v6only: bool | None
    since_ns: int
    exact: bool
    role: str | None


class TransitionView(Protocol):
    """What the writers read of a transition. ``row`` must still be as the transition left it."""

    @property
    def at_ns(self) -> int: ...
    @property
    def row(self) -> RowView: ...
    @property
    def old(self) -> int: ...
    @property
    def new(self) -> int: ...
    @property
    def held_ns(self) -> int | None: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def err(self) -> int | None: ...
    @property
    def retransmits(self) -> int: ...
    @property
    def approximate(self) -> bool: ...
    @property
    def source(self) -> str | None: ...
    @property
    def ended(self) -> bool: ...
    @property
    def lifetime_ns(self) -> int | None: ...


def errno_name(err: int) -> str:
    """ECONNREFUSED, …; the number, of what has no name here."""
    return _errno.errorcode.get(err, str(err))


def address(family: int, raw: bytes) -> str:
    """Text of an address, without brackets."""
    return _socket.inet_ntop(_socket.AF_INET if family == AF_INET else _socket.AF_INET6, raw)


def timestamp(realtime_ns: int) -> str:
    """RFC 3339 of a time since 1970 UTC, with nanoseconds."""
    seconds, nanoseconds = divmod(realtime_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class EventWriter:
    """Encodes lines into a buffer. ``offset_ns``: CLOCK_REALTIME minus CLOCK_MONOTONIC. ``cgroup``: id → path, None
    if unknown. ``ifname``: index → name.
    """

    def __init__(
        self, offset_ns: int, cgroup: Callable[[int], str | None], ifname: Callable[[int], str] | None = None
    ) -> None:
        self._offset_ns = offset_ns
        self._cgroup = cgroup
        self._ifname = ifname
        self._encoder = msgspec.json.Encoder()
        self._begin_second(0)
        self._addresses: dict[bytes, str] = {}
        self._owners: dict[tuple[Owner, ...], list[OwnerLine]] = {}
        self._places: dict[int, Place] = {}
        self._owner_texts: dict[tuple[Owner, ...], bytes] = {}
        self._place_texts: dict[int, tuple[bytes, bytes]] = {}
        self.seq = 0
        self._twin: Any = None
        if twins is not None and type(self) is EventWriter:
            self._twin = twins.Liner(
                STATE_TEXT, _errno.errorcode, self._addresses, self._owner_texts, self._place_texts
            )

    @property
    def offset_ns(self) -> int:
        """CLOCK_REALTIME minus CLOCK_MONOTONIC; may be set when the clocks have moved against each other."""
        return self._offset_ns

    @offset_ns.setter
    def offset_ns(self, offset_ns: int) -> None:
        self._offset_ns = offset_ns
        self._begin_second(0)

    def _begin_second(self, at_ns: int) -> None:
        """The texts of timestamps of one second differ in their nanoseconds alone."""
        seconds = (at_ns + self._offset_ns) // 1_000_000_000
        self._second_ns = seconds * 1_000_000_000 - self._offset_ns
        self._prefix = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}."

    def _ts(self, at_ns: int) -> str:
        nanoseconds = at_ns - self._second_ns
        if not 0 <= nanoseconds < 1_000_000_000:
            self._begin_second(at_ns)
            nanoseconds = at_ns - self._second_ns
        return f"{self._prefix}{nanoseconds:09d}Z"

    def _address(self, family: int, raw: bytes) -> str:
        text = self._addresses.get(raw)
        if text is None:
            if len(self._addresses) > 100_000:  # against a scan over all of IPv6
                self._addresses.clear()
            text = self._addresses[raw] = address(family, raw)
        return text

    def _owner_lines(self, owners: tuple[Owner, ...]) -> list[OwnerLine] | None:
        if not owners:
            return None
        lines = self._owners.get(owners)
        if lines is None:
            if len(self._owners) > 100_000:  # against a host that forks without end
                self._owners.clear()
                self._owner_texts.clear()
            lines = [OwnerLine(owner.comm.decode(errors="replace"), owner.pid, owner.fd, owner.tid) for owner in owners]
            self._owners[owners] = lines
            self._owner_texts[owners] = self._encoder.encode(lines)
        return lines

    def _place(self, cgroup: int) -> Place:
        place = self._places.get(cgroup)
        if place is None:
            path = self._cgroup(cgroup)
            if path is None:
                return _NOWHERE  # not remembered: it may be found the next time
            if len(self._places) > 10_000:  # against a host that makes cgroups without end
                self._places.clear()
                self._place_texts.clear()
            place = self._places[cgroup] = Place(path, workload(path))
            self._place_texts[cgroup] = self._members(cgroup=path), self._members(**msgspec.structs.asdict(place.work))
        return place

    def _members(self, **members: str | None) -> bytes:
        """Members of an object, as they stand behind another one."""
        known = {key: value for key, value in members.items() if value is not None}
        return b"," + self._encoder.encode(known)[1:-1] if known else b""

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """Append the first line."""
        self._put(line, out)

    def state(self, change: TransitionView, out: bytearray) -> None:
        """Append a transition."""
        if self._twin is not None and self._twin.line(change, self._prefix, self._second_ns, self.seq + 1, out):
            self.seq += 1
            return
        self._encoder.encode_into(self.state_line(change), out, -1)
        out += b"\n"

    @property
    def runs(self) -> bool:
        """Whether ``run`` can be called."""
        return self._twin is not None

    def run(self, changes: Iterator[_Change], looked: Looked, out: bytearray, most: int) -> _Change | None:
        """Append transitions for as long as they need nothing but their line, and ``out`` is not longer than ``most``;
        the first change that needs more, None where there is none. More is needed where it is no transition, where it
        is MPTCP's, and where somebody has to see to its owners.
        """
        change: _Change | None
        self.seq, change = self._twin.run(changes, self._prefix, self._second_ns, self.seq, out, most, *looked)
        return change

    def state_line(self, change: TransitionView) -> StateLine:
        """The next line: a transition."""
        # The busiest lines of all: every value is read once, and what few sockets have is filled in afterwards.
        row = change.row
        at_ns, held, family, new = change.at_ns, change.held_ns, row.family, change.new
        cgroup, owners, src, dst, ifindex = row.cgroup, row.owners, row.src, row.dst, row.ifindex
        addresses = self._addresses
        place = _NOWHERE if cgroup is None else self._places.get(cgroup) or self._place(cgroup)
        self.seq = seq = self.seq + 1
        nanoseconds = at_ns - self._second_ns
        line = StateLine(
            f"{self._prefix}{nanoseconds:09d}Z" if 0 <= nanoseconds < 1_000_000_000 else self._ts(at_ns),
            at_ns,
            seq,
            row.id,
            NETID_OF_NUMBER.get(row.protocol, UNNAMED),
            "inet" if family == AF_INET else "inet6",
            STATE_TEXT[change.old],
            STATE_TEXT[new],
            addresses.get(src) or self._address(family, src),
            row.sport,
            addresses.get(dst) or self._address(family, dst),
            row.dport,
            row.netns,
            held / 1000 if held is not None else None,
            row.ino or None,
            row.cookie,
            row.uid,
            ifindex or None,
            place.path,
            (self._owners.get(owners) or self._owner_lines(owners)) if owners else None,
            row.owner_source,
            change.cause,
            change.err,
            errno_name(change.err) if change.err is not None else None,
            change.retransmits or None,
            change.approximate,
            row.v6only,
            self._ifname(ifindex) if ifindex and self._ifname is not None else None,
            change.source,
            row.role,
            change.ended,
        )
        if change.lifetime_ns is not None:
            line.lifetime_us = change.lifetime_ns / 1000
        if place.work is not _NO_WORK:
            work = place.work
            line.container_id, line.container_runtime = work.container_id, work.container_runtime
            line.unit, line.pod_uid = work.unit, work.pod_uid
        return line

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """Append a row of the baseline."""
        self.seq += 1
        self._put(self._seen(row, at_ns), out)

    def _seen(self, row: RowView, at_ns: int) -> SeenLine:
        place = _NOWHERE if row.cgroup is None else self._place(row.cgroup)
        return SeenLine(
            ts=self._ts(at_ns),
            mono_ns=at_ns,
            seq=self.seq,
            id=row.id,
            netid=NETID_OF_NUMBER.get(row.protocol, UNNAMED),
            family="inet" if row.family == AF_INET else "inet6",
            state=STATE_TEXT[row.state],
            src=self._address(row.family, row.src),
            sport=row.sport,
            dst=self._address(row.family, row.dst),
            dport=row.dport,
            netns=row.netns,
            ino=row.ino or None,
            sk=row.cookie,
            uid=row.uid,
            ifindex=row.ifindex or None,
            v6only=row.v6only,
            cgroup=place.path,
            owners=self._owner_lines(row.owners),
            owner_source=row.owner_source,
            ifname=self._ifname(row.ifindex) if row.ifindex and self._ifname is not None else None,
            held_us=(at_ns - row.since_ns) / 1000 if row.exact else None,
            role=row.role,
            container_id=place.work.container_id,
            container_runtime=place.work.container_runtime,
            unit=place.work.unit,
            pod_uid=place.work.pod_uid,
        )

    def checkpoint(self, rows: Collection[RowView], at_ns: int, unwritten: int, out: bytearray) -> None:
        """Append the whole table for readers who start here."""
        line = CheckpointLine(
            ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, rows=len(rows), unwritten=unwritten or None
        )
        self._put(line, out)
        for row in rows:
            self._put(self._seen(row, at_ns), out)

    def mark(self, at_ns: int, out: bytearray) -> None:
        """Append that nothing more has happened."""
        self._put(MarkLine(ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq), out)

    def gone(self, row_id: int, state: int, at_ns: int, out: bytearray) -> None:
        """Append the end of a row whose end was lost."""
        self.seq += 1
        line = GoneLine(ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, id=row_id, state=STATE_TEXT[state])
        self._put(line, out)

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int, out: bytearray) -> None:
        """Append a loss."""
        self.seq += 1
        self._put(
            GapLine(
                ts=self._ts(before_ns),
                mono_ns=before_ns,
                seq=self.seq,
                cpu=cpu,
                count=count,
                after_ns=after_ns,
                before_ns=before_ns,
            ),
            out,
        )

    def resync(self, at_ns: int, counts: tuple[int, int, int], out: bytearray) -> None:
        """Append a repair: rows added, removed, changed. They follow, as ``gone`` and ``seen``."""
        self.seq += 1
        added, removed, changed = counts
        self._put(
            ResyncLine(ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, added=added, removed=removed, changed=changed),
            out,
        )

    def dropped(self, at_ns: int, count: int, reason: str, out: bytearray) -> None:
        """Append that ``count`` lines are missing; their numbers have been passed over (``skip``)."""
        self.seq += 1
        line = DroppedLine(
            ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, count=count, first_seq=self.seq - count, reason=reason
        )
        self._put(line, out)

    def skip(self, count: int = 1) -> None:
        """Pass over the numbers of lines that will not be written."""
        self.seq += count

    def _put(self, line: EventLine, out: bytearray) -> None:
        self._encoder.encode_into(line, out, -1)
        out += b"\n"
