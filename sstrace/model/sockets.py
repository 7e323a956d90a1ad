"""What a socket is: the families and ss's tables, by number; a type of row for each family; and who holds it."""

import _socket  # what socket is made of; socket itself takes a millisecond to import
import enum
from collections.abc import Mapping, Sequence

import msgspec

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
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_RDM",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "Extras",
    "InetSocket",
    "Kind",
    "NetlinkSocket",
    "Owner",
    "Owners",
    "PacketSocket",
    "ProcTcp",
    "Socket",
    "Table",
    "TipcSocket",
    "UnixSocket",
    "VsockSocket",
    "XdpSocket",
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


class Kind(enum.IntEnum):
    """Which kernel object holds a connection, or an event is about."""

    SOCKET = 0
    REQUEST = 1
    """struct request_sock: a half-open connection of a listener (SYN-RECV)."""
    TIMEWAIT = 2
    """struct inet_timewait_sock: TIME-WAIT, or FIN-WAIT-2 whose owner is gone."""


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
    partial: bool = False
    """See ``InetSocket.partial``."""


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
    partial: bool = False
    """See ``InetSocket.partial``."""


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
    partial: bool = False
    """See ``InetSocket.partial``."""


class VsockSocket(Socket, kw_only=True):
    """Source: struct vsock_diag_msg."""

    type: int
    src_cid: int
    sport: int
    dst_cid: int
    dport: int
    shutdown: int = 0
    partial: bool = False
    """See ``InetSocket.partial``."""


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
    partial: bool = False
    """See ``InetSocket.partial``."""


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


class Finer(msgspec.Struct, frozen=True, gc=False):
    """What is known of an owner besides, where threads or contexts were asked for."""

    tid: int | None = None
    proc_ctx: str | None = None
    sock_ctx: str | None = None


class Owner(msgspec.Struct, frozen=True, gc=False):
    """One owner of a socket: a file descriptor of a process (of a thread of it, where threads were asked for). A table
    has one for each row: it is small.
    """

    comm: bytes
    pid: int
    fd: int | None
    """None only where an event names the process but not the descriptor."""
    finer: Finer | None = None

    @property
    def tid(self) -> int | None:
        """Its number, where it is a thread."""
        return self.finer.tid if self.finer is not None else None


Owners = Mapping[int, Sequence[Owner]]
"""Socket inode → its owners, in the order in which ss prints them."""
