"""The nouns: what a socket is, what can be learnt of one, and who can be asked for names. No I/O, no formatting.

Conventions that hold for every field here:

* addresses are raw network-order bytes (4 for IPv4, 16 for IPv6); ports and every other number are host-order ints;
* absence is ``None``, decided once by the decoder; 0 is a value;
* times are nanoseconds of CLOCK_MONOTONIC (the clock of ``bpf_ktime_get_ns``) in fields ending ``_ns``;
* text that the kernel does not promise to be UTF-8 (unix names, comm, cgroup paths) stays ``bytes``.
"""

import _socket  # what socket is made of; socket itself takes a millisecond to import
import enum
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

import msgspec

from sstrace.fields import Reported

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    "AF_PACKET",
    "AF_TIPC",
    "AF_UNIX",
    "AF_UNSPEC",
    "AF_VSOCK",
    "AF_XDP",
    "ALL_STATES",
    "Changed",
    "Extras",
    "Fact",
    "Gone",
    "InetSocket",
    "Kind",
    "Lost",
    "Names",
    "NetlinkSocket",
    "Netns",
    "Owner",
    "Owners",
    "PacketSocket",
    "ProcTcp",
    "Renamed",
    "Seen",
    "Show",
    "Socket",
    "State",
    "StateName",
    "Space",
    "SweepBegin",
    "SweepEnd",
    "Table",
    "TipcSocket",
    "UnixSocket",
    "VsockSocket",
    "XdpSocket",
    "STATE_TEXT",
]

# Address families: the kernel's numbers, include/linux/socket.h. Written out so that the pure rooms run anywhere.
AF_UNSPEC = 0
AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10
AF_NETLINK = 16
AF_PACKET = 17
AF_TIPC = 30
AF_VSOCK = 40
AF_XDP = 44

SOCK_STREAM: int = _socket.SOCK_STREAM
SOCK_DGRAM: int = _socket.SOCK_DGRAM
SOCK_RAW: int = _socket.SOCK_RAW
SOCK_RDM: int = _socket.SOCK_RDM
SOCK_SEQPACKET: int = _socket.SOCK_SEQPACKET


class State(enum.IntEnum):
    """TCP states by the kernel's numbers, include/net/tcp_states.h. Every family borrows them, as sock_diag does."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECV = 3
    FIN_WAIT1 = 4
    FIN_WAIT2 = 5
    TIME_WAIT = 6
    CLOSE = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11
    NEW_SYN_RECV = 12
    BOUND_INACTIVE = 13


ALL_STATES = (1 << 14) - 1
"""The mask of every state bit, bit n for state n; bit 0 is ss's UNKNOWN."""

StateName = Literal[
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "UNDEF",
]

STATE_TEXT: tuple[StateName, ...] = (
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "UNDEF",
    "UNDEF",
)
"""ss's State column by state number; ss prints UNCONN where the kernel says CLOSE."""


class Table(enum.IntEnum):
    """ss's socket tables (its ``-A`` names), each a bit in a selection's table mask."""

    TCP = 0
    MPTCP = 1
    DCCP = 2
    UDP = 3
    RAW = 4
    UNIX_DGRAM = 5
    UNIX_STREAM = 6
    UNIX_SEQPACKET = 7
    PACKET_DGRAM = 8
    PACKET_RAW = 9
    NETLINK = 10
    SCTP = 11
    VSOCK_STREAM = 12
    VSOCK_DGRAM = 13
    TIPC = 14
    XDP = 15


class Extras(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an inet_diag answer carries beyond its fixed part; ``None`` where the kernel did not send it.

    One instance may be shared by many sockets whose answers were identical. Attribute numbers:
    include/uapi/linux/inet_diag.h.
    """

    protocol: int | None = None
    v6only: bool | None = None
    shutdown: int | None = None
    """Bit 0: receive side shut, bit 1: send side shut (RCV_SHUTDOWN, SEND_SHUTDOWN)."""
    mark: int | None = None
    cgroup_id: int | None = None
    tos: int | None = None
    tclass: int | None = None
    class_id: int | None = None
    sockopt: int | None = None
    """struct inet_diag_sockopt as a little-endian 16-bit integer of its flag bits in declaration order."""
    meminfo: tuple[int, ...] | None = None
    """rmem, wmem, fmem, tmem: bytes."""
    skmem: tuple[int, ...] | None = None
    """rmem_alloc, rcvbuf, wmem_alloc, sndbuf, fwd_alloc, wmem_queued, optmem, backlog, drops: as many as were sent."""
    info: bytes | None = None
    """The protocol's own info struct as sent: tcp_info, mptcp_info or sctp_info; decoded by wire on demand."""
    congestion: str | None = None
    vegas: tuple[int, int, int, int] | None = None
    """enabled, rttcnt, rtt (us), minrtt (us)."""
    dctcp: tuple[int, int, int, int, int] | None = None
    """enabled, ce_state, alpha, ab_ecn, ab_tot."""
    bbr: tuple[int, int, int, int] | None = None
    """bw (bytes/s), min_rtt (us), pacing_gain, cwnd_gain (both x256)."""
    md5: tuple[tuple[int, int, bytes, bytes], ...] | None = None
    """family, prefix length, address, key: one for each key."""
    ulp: bytes | None = None
    """The nested ULP attribute as sent; decoded by wire on demand."""
    locals: tuple[tuple[int, bytes], ...] | None = None
    """SCTP: family and address of each local address."""
    peers: tuple[tuple[int, bytes], ...] | None = None
    storage: bytes | None = None
    """The nested BPF sk-storage attribute as sent."""


class Socket(msgspec.Struct, gc=False):
    """What every row of every table has. Rows never hold one another, so the garbage collector need not visit them."""

    table: Table
    family: int
    state: int
    recv_q: int = 0
    send_q: int = 0
    ino: int = 0
    """Inode of the socket in sockfs; 0 for what no process holds (request, time-wait, orphaned)."""
    cookie: int = 0


class ProcTcp(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a /proc/net/tcp line says beyond the common fields, in the file's own units."""

    rto: int
    """Retransmission timeout in ticks; 0 on the short lines of request and time-wait sockets."""
    ato: int
    """Delayed-ack timeout in ticks."""
    qack: int
    """Quick acks left, times two, plus 1 when the socket is in interactive (ping-pong) mode."""
    cwnd: int
    """Congestion window in segments; 2 on short lines."""
    ssthresh: int
    """Slow-start threshold in segments; -1 when it is still infinite."""
    opt: str = ""
    """Whatever follows on the line."""


class InetSocket(Socket):
    """tcp, udp, raw, mptcp, dccp, sctp. Source: struct inet_diag_msg, or a /proc/net line.

    Its fields may be given by position, in this order, which the decoder of a hundred thousand rows does (twice as fast
    as by name); everybody else names them. The defaults are only for that order's sake: every row has addresses.
    """

    src: bytes = b""
    sport: int = 0
    dst: bytes = b""
    dport: int = 0
    uid: int = 0
    ifindex: int = 0
    timer: int = 0
    """0 none, 1 retransmit, 2 keepalive or SYN-ACK, 3 time-wait, 4 zero-window probe, 5 delayed ack or other."""
    retrans: int = 0
    expires_ms: int = 0
    extras: Extras | None = None
    proc: ProcTcp | None = None
    """Set on rows that came through /proc; it says something of tcp rows only."""
    partial: bool = False
    """A row of a recording: its queues and its timer are not known, nor is an inode or a cookie of 0."""


class UnixSocket(Socket, kw_only=True):
    """Source: struct unix_diag_msg with attributes, or a /proc/net/unix line."""

    type: int
    name: bytes = b""
    """b"" when unbound; starts with NUL when abstract."""
    peer_ino: int = 0
    peer_name: bytes | None = None
    """Only from /proc in its ancient format."""
    shutdown: int | None = None
    vfs: tuple[int, int] | None = None
    """Inode and device number (kernel encoding) of the filesystem node."""
    pending: tuple[int, ...] | None = None
    """Inodes of connections that wait for accept; ``None`` when not asked for."""
    skmem: tuple[int, ...] | None = None
    uid: int | None = None


class PacketSocket(Socket, kw_only=True):
    """Source: struct packet_diag_msg with attributes."""

    type: int
    protocol: int
    """Ethernet protocol, host order."""
    ifindex: int = 0
    uid: int = 0
    info: tuple[int, int, int, int, int, int] | None = None
    """index, version, reserve, copy_thresh, tstamp, flags (struct packet_diag_info)."""
    rx_ring: tuple[int, ...] | None = None
    """block_size, block_nr, frame_size, frame_nr, retire_tmo, sizeof_priv, features."""
    tx_ring: tuple[int, ...] | None = None
    fanout: int | None = None
    skmem: tuple[int, ...] | None = None
    bpf: tuple[tuple[int, int, int, int], ...] | None = None
    """Classic BPF: code, jt, jf, k."""


class NetlinkSocket(Socket, kw_only=True):
    """Source: struct netlink_diag_msg with attributes, or a /proc/net/netlink line."""

    protocol: int
    portid: int
    """Signed 32-bit, as ss prints it; 0 is the kernel."""
    dst_portid: int = 0
    dst_group: int = 0
    connected: bool = False
    """connect() was called: the peer is dst_group and dst_portid."""
    groups: int = 0
    """The first 32 multicast groups as a mask."""
    sk: int = 0
    cb: int = 0
    skmem: tuple[int, ...] | None = None


class VsockSocket(Socket, kw_only=True):
    """Source: struct vsock_diag_msg."""

    type: int
    src_cid: int
    sport: int
    dst_cid: int
    dport: int
    shutdown: int = 0


class XdpSocket(Socket, kw_only=True):
    """Source: struct xdp_diag_msg with attributes (include/uapi/linux/xdp_diag.h)."""

    ifindex: int = 0
    queue_id: int = 0
    uid: int = 0
    rx_entries: int | None = None
    tx_entries: int | None = None
    fill_entries: int | None = None
    completion_entries: int | None = None
    umem: tuple[int, ...] | None = None
    """size, id, num_pages, chunk_size, headroom, ifindex, queue_id, flags, refs."""
    stats: tuple[int, ...] | None = None
    """rx_dropped, rx_invalid, rx_full, fill_ring_empty, tx_invalid, tx_ring_empty."""
    skmem: tuple[int, ...] | None = None


class TipcSocket(Socket, kw_only=True):
    """Source: TIPC_NL_SOCK_GET style attributes of tipc_diag."""

    type: int
    node: int
    ref: int
    peer_node: int | None = None
    peer_ref: int | None = None
    uid: int = 0
    tipc_state: int = 0
    stats: tuple[int, ...] | None = None
    published: bool = False
    via: tuple[int, int] | None = None
    congestion: int = 0
    """Bit 0: link congested, bit 1: connection congested."""
    drops: int = 0


class Owner(msgspec.Struct, frozen=True, gc=False):
    """One holder of a socket: a file descriptor of a process (of a thread of it, where threads were asked for)."""

    comm: bytes
    pid: int
    fd: int | None
    """None only where an event names the process but not the descriptor."""
    tid: int | None = None
    proc_ctx: str | None = None
    sock_ctx: str | None = None


Owners = Mapping[int, Sequence[Owner]]
"""Socket inode → its holders, in the order in which ss prints them."""


class Names(Protocol):
    """Everything that turns a number into a name or back by asking the system; renderers and filters are given one."""

    def ifname(self, index: int) -> str:
        """Name of a network interface; ``if<index>`` when there is none."""
        ...

    def ifindex(self, name: str) -> int | None:
        """Index of a network interface by its name, or another name that the kernel knows it by; -1 where none bears
        the name so far (of a recording that is still to be read).
        """
        ...

    def service(self, port: int, protocol: str | None) -> str | None:
        """Service of a port (getservbyport); ``protocol`` None matches any."""
        ...

    def service_port(self, name: str, protocol: str | None) -> int | None:
        """Port of a service (getservbyname)."""
        ...

    def last_service_port(self) -> int | None:
        """Port of the services database's last entry: ss takes it where it means to take udp's, see the filter."""
        ...

    def ephemeral(self) -> tuple[int, int]:
        """First and last port of the local ephemeral range, inclusive."""
        ...

    def rpc(self, port: int, protocol: str) -> str | None:
        """``rpc.NAME`` by the rpcbind map; ``None`` unless resolving was asked for."""
        ...

    def host(self, family: int, address: bytes) -> str | None:
        """Host name of an address (reverse lookup); ``None`` when there is none."""
        ...

    def addresses(self, name: str, family: int) -> Sequence[tuple[int, bytes]]:
        """Addresses of a host name, (family, address), in the resolver's order; empty when there are none."""
        ...

    def ip_protocol(self, number: int) -> str | None:
        """Name from /etc/protocols."""
        ...

    def netlink_protocol(self, number: int) -> str | None:
        """Name of a netlink protocol."""
        ...

    def netlink_protocol_number(self, name: str) -> int | None:
        """Number of a netlink protocol."""
        ...

    def process(self, pid: int) -> bytes | None:
        """The comm of a process, up to its first ``)``; ``None`` when it cannot be read."""
        ...

    def process_context(self, pid: int) -> str | None:
        """SELinux context of a process."""
        ...

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        """Path of a cgroup below the cgroup2 mount (``/`` for its root); ``None`` when it cannot be found."""
        ...

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        """Why a path was not found, in ss's words; None: the cgroup is gone."""
        ...

    def cgroup_id(self, path: str) -> int:
        """Id of a cgroup; raises LookupFailed."""
        ...


class Show(msgspec.Struct, frozen=True, kw_only=True):
    """What an ss command line wants to see of each row, as the renderers need it; nothing of which rows."""

    version: tuple[int, int] = (6, 1)
    """The ss to be identical to: see dialect."""
    header: bool = True
    netid: bool = True
    """Netid column visible."""
    state: bool = True
    """State column visible."""
    queues: bool = True
    oneline: bool = False
    numeric: bool = False
    resolve: bool = False
    timers: bool = False
    """-o, and what implies it."""
    extended: bool = False
    memory: bool = False
    processes: bool = False
    threads: bool = False
    contexts: int = 0
    """1 for -Z, 2 for -z."""
    info: bool = False
    tipcinfo: bool = False
    tos: bool = False
    cgroup: bool = False
    bpf: bool = False
    bpf_maps: bool = False
    inet_sockopt: bool = False


class Kind(enum.IntEnum):
    """Which kernel object an event is about."""

    SOCKET = 0
    REQUEST = 1
    """struct request_sock: a half-open connection of a listener (SYN-RECV)."""
    TIMEWAIT = 2
    """struct inet_timewait_sock: TIME-WAIT, or FIN-WAIT-2 whose owner is gone."""


class Netns(NamedTuple):
    """A network namespace."""

    cookie: int
    """What it is known by: never used again. The inode, where the kernel gives no cookies."""
    inode: int
    """What it is shown as: used again as soon as the namespace is gone."""


class Space(NamedTuple):
    """Where keys are unique: what is in one space is never mistaken for what is in another."""

    net: int
    """The network namespace's cookie: see ``Netns``."""
    protocol: int
    """IPPROTO_*."""


class Seen(msgspec.Struct, frozen=True):
    """A sweep of this space met this socket."""

    space: Space
    socket: Socket


class Changed(msgspec.Struct, frozen=True, gc=False):
    """The kernel moved a socket from one state to another, or gave birth to a request or timewait socket (or set its
    timer anew).

    Source: struct sock_event, bpf/event.h.
    """

    at_ns: int
    cpu: int
    kind: Kind
    old: int
    """0 for a birth."""
    new: int
    sk: int
    """Kernel address: identity until the socket dies, reused at once after."""
    cookie: int | None
    ino: int | None
    net: int
    """Its network namespace: see ``Space``."""
    netns: int
    """Inode of the network namespace."""
    family: int
    protocol: int
    src: bytes
    sport: int
    """0 while the kernel has not chosen it."""
    dst: bytes
    dport: int
    """0 where there is no peer, or where the kernel had not copied it yet (a child's birth before Linux 6.2 or so)."""
    uid: int
    ifindex: int
    since_ns: int | None
    """SYN-SENT and its end, of a connect(2) that failed before it sent anything: when it began."""
    owner: Owner | None
    """The process whose system call did this, by the name that ``ss -p`` gives it; None where the kernel did it on its
    own.
    """
    cgroup: int | None
    cause: str | None
    """Why it closed (at CLOSE): see wire.cause."""
    reported: Reported
    orphaned: bool = False
    """No process holds it (any more): it has not been accepted yet, its last descriptor is gone, or is just being
    closed, and ``ino`` is what the socket leaves."""
    v6only: bool | None = None
    """Told at LISTEN, of IPv6."""
    listener: int | None = None
    """Of a request socket: the inode of its listener."""


class Gone(msgspec.Struct, frozen=True, gc=False):
    """A request or timewait socket died. A full socket dies by Changed to CLOSE."""

    at_ns: int
    cpu: int
    kind: Kind
    sk: int
    cookie: int | None
    net: int
    netns: int
    family: int
    protocol: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ifindex: int
    cause: str
    reported: Reported


class SweepBegin(msgspec.Struct, frozen=True):
    """A sweep of a space starts: rows of it not Seen before its complete end are gone."""

    space: Space
    at_ns: int


class SweepEnd(msgspec.Struct, frozen=True):
    """A sweep ends; an incomplete one (error, interrupted dump) deletes nothing."""

    space: Space
    at_ns: int
    complete: bool


class Lost(msgspec.Struct, frozen=True):
    """``count`` events of a CPU never arrived, of whatever space; they were due between the two times."""

    cpu: int
    count: int
    after_ns: int
    before_ns: int


class Renamed(msgspec.Struct, frozen=True, gc=False):
    """An interface came (``before`` is None), went (``name`` is None) or has another name, from ``at_ns`` on."""

    at_ns: int
    index: int
    before: str | None
    name: str | None


Fact = Seen | Changed | Gone | SweepBegin | SweepEnd | Lost
