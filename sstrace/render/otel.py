"""Changes of the live table → NDJSON by the names of OpenTelemetry's semantic conventions: one flat object a line.

Keys without a dot are fields of a log record; keys with a dot are its attributes, and ``service.name``, ``host.*`` and
``os.*`` among them are its resource's. So a collector that parses a line as JSON into attributes has the right names at
once. The ends of a connection are ``network.local.*`` and ``network.peer.*``; states are those of
``network.connection.state`` (RFC 9293's names, in snake case). What the conventions have no name for stands under
``sstrace.``, by the names of the native schema.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from sstrace.causes import outcome
from sstrace.coordinates import name_text
from sstrace.fields import NOTHING, REPORTED, Reported, report
from sstrace.lines import EventLine, IncidentLine, MetaLine, NetnsLine, OwnerLine, SeenLine, StateLine
from sstrace.model import AF_UNIX, STATE_TEXT, Owner, State
from sstrace.protocols import APPEARING, APPEARING_NETIDS, FAMILY_NUMBERS
from sstrace.render.events import EventWriter, errno_name
from sstrace.render.transports import VERSIONS, IpVersion, Transport, transport, transport_of
from sstrace.render.views import TransitionView, Where

__all__ = ["SCHEMA", "STATES", "OtelLine", "OtelWriter"]

SCHEMA = "sstrace-otel/1"
"""Name and version of this schema, as in the first line; what render.events says of versions holds here."""

StateName = Literal[
    "closed",
    "close_wait",
    "closing",
    "established",
    "fin_wait_1",
    "fin_wait_2",
    "last_ack",
    "listen",
    "syn_received",
    "syn_sent",
    "time_wait",
]
_NAMES: dict[str, StateName] = {
    "ESTAB": "established",
    "SYN-SENT": "syn_sent",
    "SYN-RECV": "syn_received",
    "FIN-WAIT-1": "fin_wait_1",
    "FIN-WAIT-2": "fin_wait_2",
    "TIME-WAIT": "time_wait",
    "UNCONN": "closed",
    "CLOSE-WAIT": "close_wait",
    "LAST-ACK": "last_ack",
    "LISTEN": "listen",
    "CLOSING": "closing",
}
STATES: tuple[StateName, ...] = tuple(_NAMES.get(text, "closed") for text in STATE_TEXT)
"""``network.connection.state`` by the kernel's number."""


def _state(state: int, *, appearing: bool, before: bool = False) -> StateName | None:
    """Of a socket; ``before``: it is in another one since. The convention has no word for a datagram socket without a
    peer.
    """
    if appearing and state == State.CLOSE:
        return None
    return None if before and not state else STATES[state]


_DOTTED = {
    "service": "service.name",
    "host": "host.name",
    "boot_id": "sstrace.boot_id",
    "os_type": "os.type",
    "kernel": "os.version",
    "transport": "network.transport",
    "family": "network.type",
    "local_address": "network.local.address",
    "local_port": "network.local.port",
    "peer_address": "network.peer.address",
    "peer_port": "network.peer.port",
    "state": "network.connection.state",
    "interface": "network.interface.name",
    "pid": "process.pid",
    "comm": "process.executable.name",
    "cgroup": "process.linux.cgroup",
    "uid": "user.id",
    "container_id": "container.id",
    "container_runtime": "container.runtime.name",
    "pod_uid": "k8s.pod.uid",
    "pod": "k8s.pod.name",
    "pod_namespace": "k8s.namespace.name",
    "error": "error.type",
    "previous": "sstrace.state.previous",
}
_KEPT = (
    "mono_ns", "seq", "id", "held_us", "ended", "lifetime_us", "role", "netns", "ino", "sk", "owners", "owner_source",
    "unit", "cause", "outcome", "approximate", "source", "v6only", "ifindex", "schema", "version",
    "clock", "part", "cpu", "count", "after_ns", "before_ns", "added", "removed", "changed", "rows", "unwritten",
    "first_seq", "reason", "handshake_us", "several", "places", "event", "netns_cookie", "netns_name", "peer_netns",
    "peer_owners", "peer_host", "exact", "segment", "by", "direction", "bytes", "window", "queue", "backlog",
)  # fmt: skip


if TYPE_CHECKING:
    _Reported = Reported
else:
    _Reported = msgspec.defstruct(
        "Reported",
        [(field.name, field.type, None) for field in msgspec.structs.fields(Reported)],
        rename=lambda name: f"sstrace.{name}",
        kw_only=True,
        omit_defaults=True,
        gc=False,
    )


class OtelLine(
    _Reported,
    kw_only=False,
    omit_defaults=True,
    gc=False,
    rename={**_DOTTED, **{name: f"sstrace.{name}" for name in _KEPT}},
):
    """One log record."""

    timestamp: str
    """When: RFC 3339, UTC, nanoseconds."""
    event_name: str
    """``sstrace.`` and the line's type: state, life, seen, gone, gap, resync, meta, netns, checkpoint, dropped, and
    those of incidents."""
    severity_text: Literal["INFO", "WARN"]
    """WARN: a connection that failed, or lines and events that are missing."""
    mono_ns: int
    seq: int
    host: str
    """What ``uname -n`` said."""
    service: Literal["sstrace"]
    os_type: Literal["linux"]
    id: int | None = None
    transport: Transport | None = None
    family: IpVersion | None = None
    previous: StateName | None = None
    state: StateName | None = None
    local_address: str | None = None
    local_port: int | None = None
    peer_address: str | None = None
    peer_port: int | None = None
    netns: int | None = None
    held_us: float | None = None
    ino: int | None = None
    sk: int | None = None
    uid: str | None = None
    ifindex: int | None = None
    interface: str | None = None
    cgroup: str | None = None
    container_id: str | None = None
    container_runtime: str | None = None
    pod_uid: str | None = None
    unit: str | None = None
    pid: int | None = None
    """Of the first owner."""
    comm: str | None = None
    owners: tuple[OwnerLine, ...] = ()
    """All owners, where there is more than one."""
    owner_source: str | None = None
    role: str | None = None
    ended: bool = False
    lifetime_us: float | None = None
    cause: str | None = None
    outcome: Literal["success", "failure"] | None = None
    error: str | None = None
    """Name of the errno that the socket's owner is told, or will be."""
    approximate: bool = False
    source: str | None = None
    v6only: bool | None = None
    schema: str | None = None
    version: str | None = None
    clock: str | None = None
    kernel: str | None = None
    boot_id: str | None = None
    part: int | None = None
    cpu: int | None = None
    count: int | None = None
    after_ns: int | None = None
    before_ns: int | None = None
    added: int | None = None
    removed: int | None = None
    changed: int | None = None
    rows: int | None = None
    unwritten: int | None = None
    first_seq: int | None = None
    reason: str | None = None
    handshake_us: float | None = None
    """Of a life: microseconds from SYN to established."""
    several: bool = False
    places: int | None = None
    event: Literal["here", "new", "named", "gone"] | None = None
    """Of a network namespace: here: it was there when the trace began; named: it is called otherwise from here on."""
    netns_cookie: int | None = None
    netns_name: str | None = None
    """With --netns: name of the network namespace below /run/netns (ip-netns(8))."""
    pod: str | None = None
    """With --netns: Kubernetes pod whose network namespace it is; its uid, where the name is not known."""
    pod_namespace: str | None = None
    peer_netns: int | None = None
    """With --netns: inode of the network namespace in which the other end is, where that is another one of this host's.
    """
    peer_owners: tuple[OwnerLine, ...] = ()
    """Who holds that end."""
    peer_host: str | None = None
    """Of a directory of recordings: the host on which it is, where that is another one."""
    segment: str | None = None
    """Of a retransmission."""
    by: str | None = None
    direction: str | None = None
    """Of a reset."""
    bytes: int | None = None
    """Of a retransmission or a drop."""
    window: int | None = None
    queue: int | None = None
    """Of an overflow."""
    backlog: int | None = None
    exact: bool | None = None
    """Sockets of this sort tell nothing, and are looked for again and again."""


Severity = Literal["INFO", "WARN"]
Ended = Literal["success", "failure"] | None
_Process = tuple[int | None, str | None, tuple[OwnerLine, ...]]

_Ends = tuple[str | None, int | None, str | None, int | None]
"""Address and port of either end."""

_NOBODY: _Process = (None, None, ())


class OtelWriter(EventWriter):
    """Encodes records into a buffer; to be used as the writer of the native schema is. ``meta`` must come first: it
    names the host.
    """

    def __init__(
        self,
        offset_ns: int,
        cgroup: Callable[[int], str | None],
        ifname: Callable[[int], str] | None = None,
        where: Where | None = None,
    ) -> None:
        super().__init__(offset_ns, cgroup, ifname, where)
        self._host = ""
        self._ends: dict[tuple[int, int, str | None, bool], tuple[Severity, Ended]] = {}
        self._processes: dict[tuple[Owner, ...], _Process] = {}

    def enter_host(self, host: str, head: MetaLine, offset_ns: int) -> None:
        """As in EventWriter."""
        self.offset_ns = offset_ns
        self._host = host

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """Append the first line; its host stands in every line that follows."""
        self._host = line.host
        super().meta(msgspec.structs.replace(line, schema=SCHEMA), out)

    def state(self, change: TransitionView, out: bytearray) -> None:
        """Append a transition."""
        self._encoder.encode_into(self.record(change), out, -1)
        out += b"\n"

    def record(self, change: TransitionView) -> OtelLine:
        """The next line: a transition."""
        row = change.row
        at_ns, old, new, cause, family = change.at_ns, change.old, change.new, change.cause, row.family
        held, lifetime, cgroup = change.held_ns, change.lifetime_ns, row.cgroup
        place = None if cgroup is None else self._places.get(cgroup) or self._place(cgroup)
        severity, ended = self._ends.get((old, new, cause, change.ended)) or self._end(change)
        pid, comm, owners = (self._processes.get(row.owners) or self._process(row.owners)) if row.owners else _NOBODY
        addresses = self._addresses
        appearing = row.protocol in APPEARING
        ends: _Ends
        if family in VERSIONS:
            peer = (addresses.get(row.dst) or self._address(family, row.dst)) if row.dport else None
            ends = addresses.get(row.src) or self._address(family, row.src), row.sport, peer, row.dport or None
        else:
            ends = _outside(family, name_text(row.src), row.sport, name_text(row.dst), row.dport)
        self.seq += 1
        line = OtelLine(
            self._ts(at_ns),
            "sstrace.state",
            severity,
            at_ns,
            self.seq,
            self._host,
            "sstrace",
            "linux",
            row.id,
            transport(row.protocol),
            VERSIONS.get(family),
            _state(old, appearing=appearing, before=True),
            _state(new, appearing=appearing),
            *ends,
            row.netns,
            held / 1000 if held is not None else None,
            row.ino or None,
            row.cookie,
            str(row.uid) if row.uid is not None else None,
        )
        if family not in VERSIONS:
            line.exact = False if change.approximate else None
            line.peer_owners = self._owner_lines(row.peer_owners)
        if row.ifindex:
            line.ifindex = row.ifindex
            line.interface = self._ifname_of(row)
        if place is not None:
            work = place.work
            line.cgroup = place.path
            line.container_id, line.container_runtime = work.container_id, work.container_runtime
            line.pod_uid, line.unit = work.pod_uid, work.unit
        if pid is not None:
            line.pid, line.comm, line.owners = pid, comm, owners
        line.owner_source = row.owner_source
        line.role = row.role
        line.v6only = row.v6only
        line.cause, line.outcome, line.ended = cause, ended, change.ended
        if lifetime is not None:
            line.lifetime_us = lifetime / 1000
        if change.reported is not NOTHING:
            report(line, change.reported)
            if line.err is not None:
                line.error = errno_name(line.err)
        if change.approximate:
            line.approximate, line.source = True, change.source
        if self._where is not None:
            self._tell_where(self._where, line, row, self._where.peer(row))
        return line

    def _end(self, change: TransitionView) -> tuple[Severity, Ended]:
        old, new, cause, ended = change.old, change.new, change.cause, change.ended
        word = outcome(old, new, cause, ended=ended)
        end = self._ends[old, new, cause, ended] = ("WARN" if word == "failure" else "INFO"), word
        return end

    def _process(self, owners: tuple[Owner, ...]) -> _Process:
        if len(self._processes) > 100_000:  # against a host that forks without end
            self._processes.clear()
        lines = self._owner_lines(owners)
        self._processes[owners] = found = lines[0].pid, lines[0].comm, lines if len(lines) > 1 else ()
        return found

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """Append the end of a connection, as a record about all of its life."""
        record = self.record(change)
        record.event_name = "sstrace.life"
        record.handshake_us = handshake_ns / 1000 if handshake_ns is not None else None
        self._encoder.encode_into(record, out, -1)
        out += b"\n"

    # Lines that are few: made from the native ones.

    def _put(self, line: EventLine, out: bytearray) -> None:
        self._encoder.encode_into(self.of(line), out, -1)
        out += b"\n"

    def of(self, line: EventLine) -> OtelLine:
        """The record of a line of the native schema."""
        name = str(line.__struct_config__.tag)
        kept = {
            field: getattr(line, field)
            for field in line.__struct_fields__
            if field in _SAME and getattr(line, field) is not None
        }
        record = OtelLine(
            line.ts,
            f"sstrace.{name}",
            "WARN" if name in ("gap", "dropped") or isinstance(line, IncidentLine) else "INFO",
            line.mono_ns,
            0 if isinstance(line, MetaLine) else line.seq,
            self._host,
            "sstrace",
            "linux",
        )
        for field, value in kept.items():
            setattr(record, field, value)
        if isinstance(line, SeenLine | StateLine | IncidentLine):
            self._fill(record, line)
        elif isinstance(line, NetnsLine):
            record.pid, record.comm = line.pid, line.comm
        return record

    def _fill(self, record: OtelLine, line: SeenLine | StateLine | IncidentLine) -> None:
        record.transport = transport_of(line.netid)
        family = FAMILY_NUMBERS[line.family]
        record.family = VERSIONS.get(family)
        ends: _Ends
        if family in VERSIONS:
            ends = line.src, line.sport, line.dst if line.dport else None, line.dport or None
        else:
            ends = _outside(family, line.src, line.sport, line.dst, line.dport)
        record.local_address, record.local_port, record.peer_address, record.peer_port = ends
        record.uid = str(line.uid) if line.uid is not None else None
        record.interface = line.ifname
        if isinstance(line, SeenLine | IncidentLine):
            record.state = _state(STATE_TEXT.index(line.state), appearing=line.netid in APPEARING_NETIDS)
        if line.owners:
            record.pid, record.comm = line.owners[0].pid, line.owners[0].comm
            record.owners = line.owners if len(line.owners) > 1 else ()


def _outside(family: int, src: str, sport: int, dst: str, dport: int) -> _Ends:
    """The ends of a socket outside of the internet's families; a unix socket's number is its inode, and no port."""
    ports = family != AF_UNIX
    return src or None, sport if ports else None, dst or None, dport or None if ports else None


_SAME = frozenset(
    (*(name for name in _KEPT if name not in ("mono_ns", "seq", "outcome")), *REPORTED, "cgroup", "container_id",
     "container_runtime", "pod_uid", "pod", "pod_namespace", "kernel", "boot_id")
)  # fmt: skip
