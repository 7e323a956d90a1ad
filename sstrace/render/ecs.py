"""Changes of the live table → NDJSON in the Elastic Common Schema 8: nested objects, one document a line.

``source`` and ``destination`` are the two ends as ECS means them: who called and who was called. Which end called is
known of connections whose beginning was seen, and ``network.direction`` says so; of all others, and of listeners,
``source`` is this machine. What ECS has no field for stands under ``sstrace``, by the names of the native schema.

Nearly all of a document repeats: whatever depends on the process, the cgroup, the user or the sort of transition alone
is encoded once and kept.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, cast

import msgspec

from sstrace.causes import outcome
from sstrace.coordinates import name_text
from sstrace.fields import NOTHING, Reported
from sstrace.incidents import SORTS
from sstrace.lines import EventLine, IncidentLine, LifeLine, MetaLine, NetnsLine, OwnerLine, SeenLine, StateLine
from sstrace.model import AF_UNIX, STATE_TEXT, Owner
from sstrace.protocols import APPEARING, APPEARING_NETIDS, FAMILY_NUMBERS
from sstrace.render.ecs_fields import (
    ECS_VERSION,
    Address,
    Container,
    Event,
    Host,
    Network,
    Orchestrator,
    Os,
    Outcome,
    Process,
    Resource,
    Service,
    User,
    Version,
)
from sstrace.render.events import EventWriter, tell
from sstrace.render.transports import (
    TRANSPORTS,
    VERSIONS,
    Type,
    entered,
    transport,
    transport_of,
    types_of,
)
from sstrace.render.views import RowView, TransitionView, Where

__all__ = ["ECS_VERSION", "SCHEMA", "EcsLine", "EcsWriter"]

SCHEMA = "sstrace-ecs/1"
"""Name and version of this schema, as in the first line; what render.events says of versions holds here."""


if TYPE_CHECKING:
    _LineType = str
else:
    _LineType = Literal[
        "state", "life", "seen", "gone", "gap", "resync", "meta", "netns", "checkpoint", "dropped",
        *(sort.word for sort in SORTS),
    ]  # fmt: skip


class Own(Reported, kw_only=False, omit_defaults=True, gc=False, rename={"old": "from", "new": "to"}):
    """``sstrace``: what ECS has no field for, by the names of the native schema."""

    type: _LineType
    mono_ns: int
    id: int | None = None
    old: str | None = None
    new: str | None = None
    held_us: float | None = None
    netns: int | None = None
    ino: int | None = None
    sk: int | None = None
    cgroup: str | None = None
    owner_source: str | None = None
    owners: tuple[OwnerLine, ...] = ()
    """All owners, where there is more than the one in ``process``."""
    approximate: bool = False
    ifindex: int | None = None
    ifname: str | None = None
    source: str | None = None
    v6only: bool | None = None
    ended: bool = False
    state: str | None = None
    schema: str | None = None
    version: str | None = None
    clock: str | None = None
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
    """With --netns: Kubernetes namespace of that pod."""
    peer_netns: int | None = None
    """With --netns: inode of the network namespace in which the other end is, where that is another one of this host's.
    """
    peer_owners: tuple[OwnerLine, ...] = ()
    """Who holds that end."""
    peer_host: str | None = None
    """Of a directory of recordings: the host on which it is, where that is another one."""
    errno: str | None = None
    """Name of ``err``: ECONNREFUSED, …"""
    handshake_us: float | None = None
    """Of a life: microseconds from SYN to established."""
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


class EcsLine(msgspec.Struct, omit_defaults=True, gc=False, rename={"ts": "@timestamp"}):
    """One document."""

    ts: Annotated[str, msgspec.Meta(description="When: RFC 3339, UTC, nanoseconds")]
    event: Event
    sstrace: Own
    host: Host
    """The machine: what ``uname -n`` said, kernel, boot."""
    ecs: Version
    source: Address | None = None
    destination: Address | None = None
    network: Network | None = None
    process: Process | None = None
    user: User | None = None
    container: Container | None = None
    orchestrator: Orchestrator | None = None
    systemd: Service | None = None


_NETWORK: list[Literal["network"]] = ["network"]
_UNKNOWN_HOST = Host("", Os(""), {})

Kept = tuple[Container | None, Orchestrator | None, Service | None, str | None]


class EcsWriter(EventWriter):
    """Encodes documents into a buffer; to be used as the writer of the native schema is. ``meta`` must come first: it
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
        self._host = _UNKNOWN_HOST
        self._version = cast("Version", self._raw(Version()))
        self._networks = {
            (transport, family, role): cast(
                "Network",
                self._raw(
                    Network(
                        transport,
                        VERSIONS.get(family),
                        "egress" if role == "client" else "ingress" if role == "server" else None,
                    )
                ),
            )
            for transport, family in TRANSPORTS
            for role in (None, "client", "server")
        }
        self._categories = cast("list[Literal['network']]", self._raw(_NETWORK))
        self._kinds: dict[tuple[int, int, str | None, bool], tuple[list[Type], Outcome]] = {}
        self._processes: dict[tuple[Owner, ...], tuple[Process, tuple[OwnerLine, ...]]] = {}
        self._users: dict[int, User] = {}
        self._works: dict[int, Kept] = {}

    def _raw(self, value: object) -> msgspec.Raw:
        """Something that repeats, encoded once. It stands for the value in the types below: the encoder copies it."""
        return msgspec.Raw(self._encoder.encode(value))

    def enter_host(self, host: str, head: MetaLine, offset_ns: int) -> None:
        """As in EventWriter."""
        self.offset_ns = offset_ns
        self._host = cast("Host", self._raw(Host(host, Os(head.kernel), {"id": head.boot_id})))

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """Append the first line; its host stands in every line that follows."""
        self._host = cast("Host", self._raw(Host(line.host, Os(line.kernel), {"id": line.boot_id})))
        super().meta(msgspec.structs.replace(line, schema=SCHEMA), out)

    def state(self, change: TransitionView, out: bytearray) -> None:
        """Append a transition."""
        row = change.row
        at_ns, old, new, cause, family = change.at_ns, change.old, change.new, change.cause, row.family
        held, role, ended, cgroup = change.held_ns, row.role, change.ended, row.cgroup
        kind = self._kinds.get((old, new, cause, ended)) or self._kind(old, new, cause, ended)
        process, owners = (self._processes.get(row.owners) or self._process(row.owners)) if row.owners else (None, ())
        container, pod, unit, path = (self._works.get(cgroup) or self._work(cgroup)) if cgroup is not None else _NO_WORK
        addresses = self._addresses
        if family in VERSIONS:
            here: Address | None = Address(addresses.get(row.src) or self._address(family, row.src), row.sport)
            there = Address(addresses.get(row.dst) or self._address(family, row.dst), row.dport) if row.dport else None
        else:
            here = _outside(family, name_text(row.src), row.sport)
            there = _outside(family, name_text(row.dst), row.dport)
        self.seq += 1
        own = Own(
            "state",
            at_ns,
            row.id,
            STATE_TEXT[old],
            STATE_TEXT[new],
            held / 1000 if held is not None else None,
            row.netns,
            row.ino or None,
            row.cookie,
            path,
            row.owner_source,
            owners,
            change.approximate,
            row.ifindex or None,
            self._ifname_of(row) if row.ifindex else None,
            change.source,
            row.v6only,
            ended,
        )
        if change.reported is not NOTHING:
            tell(own, change.reported)
        if family not in VERSIONS:
            own.exact = False if change.approximate else None
            own.peer_owners = self._owner_lines(row.peer_owners)
        if self._where is not None:
            self._tell_where(self._where, own, row, self._where.peer(row))
        self._encoder.encode_into(
            EcsLine(
                self._ts(at_ns),
                Event(
                    "event",
                    self._categories,
                    kind[0],
                    entered(new, appearing=row.protocol in APPEARING),
                    "sstrace",
                    "sstrace.state",
                    self.seq,
                    kind[1],
                    cause,
                    change.lifetime_ns,
                ),
                own,
                self._host,
                self._version,
                there if role == "server" else here,
                here if role == "server" else there,
                self._networks[transport(row.protocol), family, role],
                process,
                (self._users.get(row.uid) or self._user(row.uid)) if row.uid is not None else None,
                container,
                pod,
                unit,
            ),
            out,
            -1,
        )
        out += b"\n"

    def _kind(self, old: int, new: int, cause: str | None, ended: bool) -> tuple[list[Type], Outcome]:
        types = cast("list[Type]", self._raw(types_of(old, new, ended=ended)))
        self._kinds[old, new, cause, ended] = kind = types, outcome(old, new, cause, ended=ended)
        return kind

    def _process(self, owners: tuple[Owner, ...]) -> tuple[Process, tuple[OwnerLine, ...]]:
        if len(self._processes) > 100_000:  # against a host that forks without end
            self._processes.clear()
        lines = self._owner_lines(owners)
        found = (
            cast("Process", self._raw(Process(lines[0].pid, lines[0].comm))),
            cast("tuple[OwnerLine, ...]", self._raw(lines)) if len(lines) > 1 else (),
        )
        self._processes[owners] = found
        return found

    def _user(self, uid: int) -> User:
        if len(self._users) > 100_000:
            self._users.clear()
        self._users[uid] = user = cast("User", self._raw(User(str(uid))))
        return user

    def _work(self, cgroup: int) -> Kept:
        place = self._place(cgroup)
        if place.path is None:
            return _NO_WORK
        if len(self._works) > 10_000:
            self._works.clear()
        work = place.work
        container = Container(work.container_id, work.container_runtime) if work.container_id is not None else None
        pod = Orchestrator(Resource(work.pod_uid)) if work.pod_uid is not None else None
        unit = Service(work.unit) if work.unit is not None else None
        self._works[cgroup] = kept = (
            cast("Container", self._raw(container)) if container is not None else None,
            cast("Orchestrator", self._raw(pod)) if pod is not None else None,
            cast("Service", self._raw(unit)) if unit is not None else None,
            cast("str", self._raw(place.path)),
        )
        return kept

    # Lines that are few: made from the native ones.

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """Append the end of a connection, as a document about all of its life."""
        self._put(self.life_line(change, handshake_ns), out)

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """Append a row of the baseline."""
        self.seq += 1
        self._put(self._seen(row, at_ns), out)

    def _put(self, line: EventLine, out: bytearray) -> None:
        self._encoder.encode_into(self.document(line), out, -1)
        out += b"\n"

    def document(self, line: EventLine) -> EcsLine:
        """The document of a line of the native schema."""
        name = line.__struct_config__.tag
        kept = {
            field: getattr(line, field)
            for field in line.__struct_fields__
            if field in _OWN and getattr(line, field) is not None
        }
        own = Own(**{"type": name, **kept})
        document = EcsLine(
            ts=line.ts,
            event=Event(
                "event",
                _NETWORK,
                ["info"],
                str(name),
                "sstrace",
                f"sstrace.{name}",
                0 if isinstance(line, MetaLine) else line.seq,
            ),
            sstrace=own,
            host=self._host,
            ecs=Version(),
        )
        if isinstance(line, SeenLine | StateLine | IncidentLine):
            self._fill(document, line)
        elif isinstance(line, NetnsLine):
            if line.comm is not None and line.pid is not None:
                document.process = Process(line.pid, line.comm)
            if line.container_id is not None:
                document.container = Container(line.container_id, line.container_runtime)
        if isinstance(line, LifeLine):
            self._live(document, line)
        return document

    def _live(self, document: EcsLine, line: LifeLine) -> None:
        old, new = STATE_TEXT.index(line.old), STATE_TEXT.index(line.state)
        event, own = document.event, document.sstrace
        event.type, event.outcome = self._kinds.get((old, new, line.cause, True)) or self._kind(
            old, new, line.cause, ended=True
        )
        event.action = entered(new, appearing=line.netid in APPEARING_NETIDS)
        event.reason = line.cause
        event.duration = round(line.lifetime_us * 1000) if line.lifetime_us is not None else None
        own.new, own.state = line.state, None
        here, there = document.source, document.destination
        if line.role == "server":
            here, there = there, here
        if here is not None:
            here.bytes, here.packets = line.bytes_sent, line.segs_out
        if there is not None:
            there.bytes, there.packets = line.bytes_received, line.segs_in

    def _fill(self, document: EcsLine, line: SeenLine | StateLine | IncidentLine) -> None:
        family = FAMILY_NUMBERS[line.family]
        if family in VERSIONS:
            here: Address | None = Address(line.src, line.sport)
            there = Address(line.dst, line.dport) if line.dport else None
        else:
            here, there = _outside(family, line.src, line.sport), _outside(family, line.dst, line.dport)
        server = line.role == "server"
        document.source, document.destination = (there, here) if server else (here, there)
        document.network = self._networks[transport_of(line.netid), family, line.role]
        if isinstance(line, SeenLine):
            document.event.kind = "state"
            state = STATE_TEXT.index(line.state)
            document.event.action = entered(state, appearing=line.netid in APPEARING_NETIDS)
        if line.owners:
            document.process = Process(line.owners[0].pid, line.owners[0].comm)
            if len(line.owners) == 1:
                document.sstrace.owners = ()
        if line.uid is not None:
            document.user = User(str(line.uid))
        if line.container_id is not None:
            document.container = Container(line.container_id, line.container_runtime)
        if line.pod_uid is not None:
            document.orchestrator = Orchestrator(Resource(line.pod_uid))
        if line.unit is not None:
            document.systemd = Service(line.unit)


def _outside(family: int, called: str, number: int) -> Address | None:
    """An end outside of the internet's families; a unix socket's number is its inode, and no port."""
    port = number if family != AF_UNIX else None
    return Address(None, port, address=called or None) if called or port else None


_NO_WORK: Kept = (None, None, None, None)
_OWN = frozenset(Own.__struct_fields__) - {"type"}
