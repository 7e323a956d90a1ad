"""The lines of the native schema: what a trace writes, and what a recording is read as.

One flat object a line, ``type`` first. Keys are stable; a key whose value is not known is absent, never null and never
0. The texts below the fields are the documentation's (scripts/schemas). Bounds hold for what is read: whoever writes
has its numbers from the kernel.
"""

from typing import Annotated, Literal

import msgspec

from sstrace.fields import Count, Reported
from sstrace.model import FamilyName, Reason, Role, StateName

__all__ = [
    "SCHEMA",
    "AnyIncidentLine",
    "CheckpointLine",
    "DropLine",
    "ErrorLine",
    "DroppedLine",
    "EventLine",
    "Family",
    "GapLine",
    "GoneLine",
    "IncidentLine",
    "LifeLine",
    "MarkLine",
    "MetaLine",
    "Name",
    "NetnsLine",
    "OverflowLine",
    "OwnerLine",
    "ResetLine",
    "ResyncLine",
    "RetransmitLine",
    "SeenLine",
    "StateLine",
    "Word",
]

SCHEMA = "sstrace/1"
"""Name and version of the native schema. The number grows when a key changes its meaning or goes; new keys may come
at any time.
"""

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Small = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Cookie = Annotated[int, msgspec.Meta(ge=0)]
"""64 bits: those made in an interrupt count down from the top (gen_cookie_next, include/linux/cookie.h)."""
Micros = Annotated[float, msgspec.Meta(ge=0, lt=1e16)]
Family = FamilyName
Word = Annotated[str, msgspec.Meta(max_length=64)]
Name = Annotated[str, msgspec.Meta(max_length=256)]
Place = Annotated[str, msgspec.Meta(max_length=4096)]
Address = Annotated[str, msgspec.Meta(max_length=432)]
"""Of an IPv6 address 45; of the name of a unix socket 108 bytes, of which each may be an escape."""
End = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
"""A port; of other families what ss shows in its place: sstrace.coordinates."""


class OwnerLine(msgspec.Struct, omit_defaults=True, frozen=True, gc=False):
    """An owner: a process's name (bytes that are no UTF-8 as ``\\xff``), its pid, and its descriptor where that is
    known.
    """

    comm: Name
    pid: Small
    fd: Small | None = None
    tid: Small | None = None


class MetaLine(msgspec.Struct, tag="meta", tag_field="type", omit_defaults=True, kw_only=True):
    """The first line: what follows, from where, and how the clocks stand to each other."""

    schema: Name
    version: Name
    ts: Word
    """RFC 3339, UTC, nanoseconds."""
    mono_ns: Count
    """CLOCK_MONOTONIC at ``ts``."""
    host: Name
    """What ``uname -n`` says."""
    kernel: Name
    boot_id: Name
    netns: Count
    """Inode of the network namespace."""
    clock: Word = "monotonic"
    part: Count | None = None
    """Of a recording that goes on from the file before (--rotate): the file's number, from 1."""
    ephemeral: tuple[Port, Port] | None = None
    """First and last port of the local ephemeral range, whose ports ss never calls by a service's name."""
    interfaces: dict[Name, Small] | None = None
    """Index of each network interface."""
    netids: tuple[Word, ...] = ()
    """Whose sockets are followed; absent where those are TCP's alone."""
    several: bool = False
    """With --netns: the lines may be of several network namespaces, or of another than ``netns``."""


class SeenLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A socket of the baseline or of a checkpoint, one that a resync found, or one of which something has become known
    without a transition (a listener's port, say, or who has accepted it).
    """

    ts: Word
    mono_ns: Count
    seq: Count
    id: Count
    netid: Word
    family: Family
    state: StateName
    src: Address
    sport: End
    dst: Address
    dport: End
    netns: Count
    ino: Count | None = None
    sk: Cookie | None = None
    uid: Small | None = None
    ifindex: Small | None = None
    v6only: bool | None = None
    cgroup: Place | None = None
    owners: tuple[OwnerLine, ...] = ()
    owner_source: Word | None = None
    ifname: Name | None = None
    held_us: Micros | None = None
    """Microseconds in the state so far; absent when its beginning was not seen."""
    role: Role | None = None
    """client: this end connected; server: it accepted; absent where that was not seen."""
    container_id: Name | None = None
    container_runtime: Word | None = None
    unit: Name | None = None
    pod_uid: Name | None = None
    netns_name: Name | None = None
    pod: Name | None = None
    pod_namespace: Name | None = None
    peer_netns: Count | None = None
    peer_owners: tuple[OwnerLine, ...] = ()
    host: Name | None = None
    peer_host: Name | None = None
    exact: bool | None = None
    """See ``state``."""


class StateLine(
    Reported, tag="state", tag_field="type", omit_defaults=True, kw_only=False, gc=False,
    rename={"old": "from", "state": "to"},
):  # fmt: skip
    """A transition, and the row as it was right after."""

    ts: Word
    """When: RFC 3339, UTC, nanoseconds."""
    mono_ns: Count
    """When: CLOCK_MONOTONIC, nanoseconds."""
    seq: Count
    """Position in this stream; a gap between two numbers is another line type's."""
    id: Count
    """Joins the lines of one connection."""
    netid: Word
    family: Family
    old: StateName
    """UNKNOWN, of a datagram socket: ss did not show it before, because it had no port."""
    state: StateName
    """UNKNOWN, of a datagram socket: ss shows it no more. It is closed, or has given its port back."""
    src: Address
    """Of a unix socket its name, empty where it has none; @ stands for each NUL of an abstract one."""
    sport: End
    """What ss shows as the port: of a unix socket its inode, of a netlink socket its port id; of a packet socket the
    Ethernet protocol.
    """
    dst: Address
    dport: End
    netns: Count
    """Inode of the network namespace."""
    held_us: Micros | None = None
    """Microseconds in the old state; absent when its beginning was not seen."""
    ino: Count | None = None
    """Inode of the socket; absent for what no process holds."""
    sk: Cookie | None = None
    """Socket cookie, ss's ``sk:`` (which prints it in hexadecimal); absent until somebody has asked the kernel for
    it.
    """
    uid: Small | None = None
    ifindex: Small | None = None
    cgroup: Place | None = None
    owners: tuple[OwnerLine, ...] = ()
    owner_source: Word | None = None
    """How the owners are known: connect, listen, bind, send, close (a system call was seen), walk or proc (read from
    the process table; without ``owners``: nobody holds it), listener (nobody is known to have accepted it yet: these,
    whose ``fd`` is absent, hold its listener).
    """
    cause: Word | None = None
    """Why the connection ended, or what closed here: a listener, or a timewait socket that had stayed behind."""
    approximate: bool = False
    """The change was found by looking: it happened at ``ts`` or a little before."""
    v6only: bool | None = None
    """IPV6_V6ONLY of an inet6 socket; absent until the kernel was asked."""
    ifname: Name | None = None
    """Name of the interface ``ifindex``."""
    source: Word | None = None
    """``poll``: no event stands behind it, only the difference between two sweeps, because events cannot be had here;
    ``sweep``: the same, of a socket of a sort that makes none.
    """
    role: Role | None = None
    """client: this end connected; server: it accepted; absent where that was not seen, and for listeners."""
    ended: bool = False
    """The connection ends here: on one line in the life of each, and on none of a listener. That line has its cause and
    its lifetime; what follows, where a timewait socket stays behind, is the end of that one.
    """
    lifetime_us: Micros | None = None
    """Where the connection ended, or the listening: microseconds since it began; absent when that was not seen."""
    container_id: Name | None = None
    """Id of the container, by its cgroup's path."""
    container_runtime: Word | None = None
    """docker, containerd, podman, cri-o, lxc, systemd-nspawn; absent where the path does not tell."""
    unit: Name | None = None
    """systemd unit, by its cgroup's path."""
    pod_uid: Name | None = None
    """UID of the Kubernetes pod, by its cgroup's path."""
    netns_name: Name | None = None
    """With --netns: name of the network namespace below /run/netns (ip-netns(8))."""
    pod: Name | None = None
    """With --netns: Kubernetes pod whose network namespace it is; its uid, where the name is not known."""
    pod_namespace: Name | None = None
    """With --netns: Kubernetes namespace of that pod."""
    peer_netns: Count | None = None
    """With --netns: inode of the network namespace in which the other end is, where that is another one of this host's.
    """
    peer_owners: tuple[OwnerLine, ...] = ()
    """Who holds that end; of a unix socket in any case."""
    errno: Word | None = None
    """Name of ``err``: ECONNREFUSED, …"""
    host: Name | None = None
    """Of the recordings of several hosts: which one the line is of, whose numbers ``id`` and ``mono_ns`` are."""
    peer_host: Name | None = None
    """Of the recordings of several hosts: on which other one the other end is; ``peer_owners`` hold that."""
    exact: bool | None = None
    """Sockets of this sort tell nothing, and are looked for again and again. What came and went between two
    looks is not in this stream.
    """


class LifeLine(StateLine, tag="life", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """With --life: the whole life of a connection, at its end. What the line of that transition says, and this."""

    handshake_us: Micros | None = None
    """Microseconds from SYN to established: at the client to the SYN-ACK, at the server to the ACK; absent when that
    was not seen, and where it never came to that.
    """


class IncidentLine(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """With --events: something that hurt a connection, and changed no state."""

    ts: Word
    mono_ns: Count
    seq: Count
    id: Count
    netid: Word
    family: Family
    state: StateName
    """The state that it is in."""
    src: Address
    sport: Port
    dst: Address
    dport: Port
    netns: Count
    ino: Count | None = None
    sk: Cookie | None = None
    uid: Small | None = None
    ifindex: Small | None = None
    v6only: bool | None = None
    cgroup: Place | None = None
    owners: tuple[OwnerLine, ...] = ()
    owner_source: Word | None = None
    ifname: Name | None = None
    held_us: Micros | None = None
    """Microseconds in the state so far."""
    role: Role | None = None
    container_id: Name | None = None
    container_runtime: Word | None = None
    unit: Name | None = None
    pod_uid: Name | None = None
    netns_name: Name | None = None
    pod: Name | None = None
    pod_namespace: Name | None = None
    peer_netns: Count | None = None
    peer_owners: tuple[OwnerLine, ...] = ()
    host: Name | None = None
    peer_host: Name | None = None


class RetransmitLine(IncidentLine, tag="retransmit", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A segment was sent again."""

    segment: Literal["data", "syn", "syn-ack", "fin"]
    by: Literal["timer", "fast", "probe"] | None = None
    """timer: no answer came in time; fast: later segments were acknowledged; probe: the last segment, to learn what
    came (tail loss probe). Absent of a SYN-ACK, which only its timer sends again.
    """
    bytes: Count | None = None
    """Payload."""
    retransmits: Count | None = None
    """How often it had been sent again without an answer, this time included where a timer does it."""


class ResetLine(IncidentLine, tag="reset", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A RST was sent, or came."""

    direction: Literal["sent", "received"]
    reason: Word | None = None
    """Why it was sent: enum sk_rst_reason, without what its names have in common; absent where the kernel does not say.
    """


class DropLine(IncidentLine, tag="drop", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A segment or a datagram came, and was dropped."""

    reason: Word
    """enum skb_drop_reason, without what its names have in common: SOCKET_RCVBUFF, TCP_ZEROWINDOW, TCP_CSUM, …"""
    bytes: Count | None = None
    """What was left of it in the buffer then: payload, as a rule."""
    window: Count | None = None
    """Bytes that the peer might still send then. 0: this end reads too slowly, and has closed its window."""


class ErrorLine(IncidentLine, tag="error", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A datagram socket's next call will fail: what it sent, ICMP says, did not arrive."""

    reason: Word
    """The errno's name: ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, …"""


class OverflowLine(IncidentLine, tag="overflow", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A listener had no room, and dropped SYNs, or the ACKs that end a handshake. It is looked at each second."""

    count: Count
    """So many since the look before."""
    queue: Count
    """Connections that waited for accept(2) at ``ts`` …"""
    backlog: Count
    """… of so many that may."""


AnyIncidentLine = RetransmitLine | ResetLine | DropLine | ErrorLine | OverflowLine


class NetnsLine(msgspec.Struct, tag="netns", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """With --netns: a network namespace that is followed, and what it is called."""

    ts: Word
    mono_ns: Count
    seq: Count
    event: Literal["here", "new", "named", "gone"]
    """here: it was there when the trace began; named: it is called otherwise from here on."""
    netns: Count
    """Its inode, which another one may have as soon as it is gone."""
    netns_cookie: Cookie
    """What the kernel knows it by: never used again. The inode, before Linux 5.14."""
    ephemeral: tuple[Port, Port] | None = None
    """First and last port of the local ephemeral range in it, where that is known."""
    netns_name: Name | None = None
    container_id: Name | None = None
    """Id of the container that the process with the lowest pid in it runs in."""
    container_runtime: Word | None = None
    pod: Name | None = None
    pod_namespace: Name | None = None
    comm: Name | None = None
    """Name of the process with the lowest pid in it."""
    pid: Small | None = None
    host: Name | None = None


class GoneLine(msgspec.Struct, tag="gone", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """A row that ended without a transition: its end was lost."""

    ts: Word
    mono_ns: Count
    seq: Count
    id: Count
    state: StateName
    host: Name | None = None


class GapLine(msgspec.Struct, tag="gap", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """Events of one CPU that never arrived, and between which times they were due. A resync follows."""

    ts: Word
    mono_ns: Count
    seq: Count
    cpu: Count
    count: Count
    after_ns: Count
    before_ns: Count
    host: Name | None = None


class ResyncLine(msgspec.Struct, tag="resync", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """The table was compared with the kernel, after a gap or in an audit, and this is what was wrong. The rows follow:
    ``seen`` for added and changed ones, ``gone`` for removed. An audit that finds nothing says nothing.
    """

    ts: Word
    mono_ns: Count
    seq: Count
    added: Count
    removed: Count
    changed: Count
    host: Name | None = None


class CheckpointLine(msgspec.Struct, tag="checkpoint", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """Only in recordings: the whole table follows, as ``rows`` lines ``seen``, for readers who start here; before them
    stand ``places`` lines ``netns``. It changes nothing. This line and those repeat the ``seq`` of the line before.
    """

    ts: Word
    mono_ns: Count
    seq: Count
    rows: Count
    places: Count | None = None
    """With --netns: network namespaces that are followed."""
    unwritten: Count | None = None
    """Lines that could not be written just before this one, on a full disk."""
    host: Name | None = None


class DroppedLine(msgspec.Struct, tag="dropped", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """Lines that are missing here, because whoever reads was slower than the events (--on-full drop), or the disk was
    full. The table stays whole; a reader who keeps one of its own should start anew.
    """

    ts: Word
    mono_ns: Count
    seq: Count
    count: Count
    first_seq: Count
    """``seq`` of the first line missing; the last is the one before this line's."""
    reason: Reason
    """slow-reader, disk-full."""
    host: Name | None = None


class MarkLine(msgspec.Struct, tag="mark", tag_field="type", omit_defaults=True, kw_only=True, gc=False):
    """Only in recordings: nothing more has happened until now. It repeats the ``seq`` of the line before."""

    ts: Word
    mono_ns: Count
    seq: Count
    host: Name | None = None


EventLine = (
    MetaLine
    | SeenLine
    | StateLine
    | LifeLine
    | AnyIncidentLine
    | NetnsLine
    | GoneLine
    | GapLine
    | ResyncLine
    | CheckpointLine
    | MarkLine
    | DroppedLine
)
