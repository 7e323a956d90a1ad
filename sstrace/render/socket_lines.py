"""The types of the lines that tell of sockets, as --snapshot --json writes them: their schema is made from these."""

from typing import Annotated

import msgspec
from msgspec import Meta

__all__ = [
    "Congestion",
    "DestroyedLine",
    "InetLine",
    "Line",
    "Md5Key",
    "MemInfo",
    "NetlinkLine",
    "OwnerItem",
    "PacketLine",
    "SkMem",
    "Storage",
    "SummaryLine",
    "TcpInfoItem",
    "Timer",
    "TipcLine",
    "UlpItem",
    "UnixLine",
    "VsockLine",
    "XdpLine",
]

Bytes = Annotated[int, Meta(description="bytes")]
Micros = Annotated[int, Meta(description="microseconds")]
Millis = Annotated[int, Meta(description="milliseconds")]
Rate = Annotated[int, Meta(description="bytes a second")]
Time = Annotated[str, Meta(description="when the snapshot began: RFC 3339, UTC, nanoseconds")]
Address = Annotated[str, Meta(description="numeric, without brackets")]
Inode = Annotated[int, Meta(description="inode of the socket; absent where no process can hold it")]
Cookie = Annotated[int, Meta(description="socket cookie, which ss prints in hexadecimal as sk:")]
RecvQ = Annotated[int, Meta(description="bytes not yet read; of a listener: connections that wait for accept")]
SendQ = Annotated[int, Meta(description="bytes not yet acknowledged; of a listener: its backlog")]


class OwnerItem(msgspec.Struct, omit_defaults=True, frozen=True):
    """An owner of the socket: a process's name, pid and descriptor, with -T the thread, with -Z and -z contexts."""

    comm: str
    pid: int
    fd: int | None = None
    tid: int | None = None
    proc_ctx: str | None = None
    sock_ctx: str | None = None


class Timer(msgspec.Struct, omit_defaults=True):
    """The running timer (-o)."""

    name: str
    expires_ms: Millis
    retrans: int
    """Retransmissions, or probes, so far."""


class SkMem(msgspec.Struct, omit_defaults=True):
    """SK_MEMINFO (-m), the kernel's names."""

    rmem_alloc: Bytes
    rcvbuf: Bytes
    wmem_alloc: Bytes
    sndbuf: Bytes
    fwd_alloc: Bytes
    wmem_queued: Bytes
    optmem: Bytes
    backlog: Bytes | None = None
    drops: Annotated[int, Meta(description="packets")] | None = None


class MemInfo(msgspec.Struct):
    """INET_DIAG_MEMINFO, what kernels before SK_MEMINFO told (-m)."""

    rmem: Bytes
    wmem: Bytes
    fmem: Bytes
    tmem: Bytes


class TcpInfoItem(msgspec.Struct, omit_defaults=True):
    """struct tcp_info (-i) as far as the kernel filled it, its names without ``tcpi_``."""

    state: int | None = None
    ca_state: int | None = None
    retransmits: int | None = None
    probes: int | None = None
    backoff: int | None = None
    options: list[str] | None = None
    """TCPI_OPT_* in ss's words: ts, sack, wscale, ecn, ecnseen, fastopen, usec_ts."""
    snd_wscale: int | None = None
    rcv_wscale: int | None = None
    delivery_rate_app_limited: int | None = None
    fastopen_client_fail: int | None = None
    rto: Micros | None = None
    ato: Micros | None = None
    snd_mss: Bytes | None = None
    rcv_mss: Bytes | None = None
    unacked: int | None = None
    sacked: int | None = None
    lost: int | None = None
    retrans: int | None = None
    fackets: int | None = None
    last_data_sent: Millis | None = None
    last_ack_sent: Millis | None = None
    last_data_recv: Millis | None = None
    last_ack_recv: Millis | None = None
    pmtu: Bytes | None = None
    rcv_ssthresh: Bytes | None = None
    rtt: Micros | None = None
    rttvar: Micros | None = None
    snd_ssthresh: int | None = None
    snd_cwnd: int | None = None
    advmss: Bytes | None = None
    reordering: int | None = None
    rcv_rtt: Micros | None = None
    rcv_space: Bytes | None = None
    total_retrans: int | None = None
    pacing_rate: Rate | None = None
    max_pacing_rate: Rate | None = None
    bytes_acked: Bytes | None = None
    bytes_received: Bytes | None = None
    segs_out: int | None = None
    segs_in: int | None = None
    notsent_bytes: Bytes | None = None
    min_rtt: Micros | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: Rate | None = None
    busy_time: Micros | None = None
    rwnd_limited: Micros | None = None
    sndbuf_limited: Micros | None = None
    delivered: int | None = None
    delivered_ce: int | None = None
    bytes_sent: Bytes | None = None
    bytes_retrans: Bytes | None = None
    dsack_dups: int | None = None
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: Bytes | None = None
    rcv_wnd: Bytes | None = None
    rehash: int | None = None
    total_rto: int | None = None
    total_rto_recoveries: int | None = None
    total_rto_time: Millis | None = None


class Congestion(msgspec.Struct, omit_defaults=True):
    """The congestion control (-i): its name, and what some of them tell of themselves."""

    name: str | None = None
    vegas: dict[str, int] | None = None
    dctcp: dict[str, int] | None = None
    bbr: dict[str, int] | None = None


class Md5Key(msgspec.Struct):
    """A TCP-MD5 key (-i, shown to the privileged)."""

    address: Address
    prefix: int
    key: str


class UlpItem(msgspec.Struct, omit_defaults=True):
    """The upper-layer protocol (-i)."""

    name: str | None = None
    tls: dict[str, int] | None = None
    mptcp: dict[str, int] | None = None


class Storage(msgspec.Struct, omit_defaults=True):
    """A value of BPF socket storage (--bpf-maps, --bpf-map-id), as C would write it down."""

    map_id: int
    value: str | None = None


class InetLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A socket of the tables tcp, mptcp, udp, raw, dccp, sctp."""

    ts: Time
    netid: str
    """As in ss's first column."""
    family: str
    """inet or inet6."""
    state: str
    """In ss's words: ESTAB, SYN-SENT, …, UNCONN."""
    src: Address
    sport: int
    dst: Address
    dport: int
    recv_q: RecvQ | None = None
    send_q: SendQ | None = None
    uid: int
    ino: Inode | None = None
    sk: Cookie | None = None
    ifindex: int | None = None
    ifname: str | None = None
    src_host: str | None = None
    dst_host: str | None = None
    owners: list[OwnerItem] | None = None
    timer: Timer | None = None
    mark: int | None = None
    cgroup: str | None = None
    v6only: bool | None = None
    shutdown: list[str] | None = None
    """Directions that are shut: recv, send (-e)."""
    tos: int | None = None
    tclass: int | None = None
    class_id: int | None = None
    sockopt: list[str] | None = None
    skmem: SkMem | None = None
    meminfo: MemInfo | None = None
    tcp_info: TcpInfoItem | None = None
    mptcp_info: dict[str, int] | None = None
    sctp_info: dict[str, int] | None = None
    congestion: Congestion | None = None
    md5: list[Md5Key] | None = None
    ulp: UlpItem | None = None
    storage: list[Storage] | None = None
    locals: list[str] | None = None
    """SCTP: every local address."""
    peers: list[str] | None = None
    change: str | None = None
    """Of --between A B: removed, as it was at A; added, as it is at B. One that changed has both lines."""


class DestroyedLine(InetLine, tag="destroyed", tag_field="type", omit_defaults=True, kw_only=True):
    """A socket that was destroyed (-E), as it was then."""


class UnixLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A unix socket."""

    ts: Time
    netid: str
    family: str
    state: str
    src: str | None = None
    """Its name, absent when it has none; the NULs of an abstract name show as @."""
    recv_q: RecvQ
    send_q: SendQ
    ino: Inode | None = None
    sk: Cookie | None = None
    peer_ino: int | None = None
    uid: int | None = None
    owners: list[OwnerItem] | None = None
    shutdown: list[str] | None = None
    vfs_ino: int | None = None
    vfs_dev: str | None = None
    """major:minor of the filesystem."""
    pending: list[int] | None = None
    """Inodes of connections that wait for accept (-e)."""
    skmem: SkMem | None = None


class PacketLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A packet socket."""

    ts: Time
    netid: str
    family: str
    state: str
    protocol: int
    """Ethernet protocol; 3 is every protocol."""
    protocol_name: str | None = None
    recv_q: RecvQ
    send_q: SendQ
    uid: int
    ino: Inode | None = None
    sk: Cookie | None = None
    ifindex: int | None = None
    ifname: str | None = None
    owners: list[OwnerItem] | None = None
    info: dict[str, int] | None = None
    """version, reserve, copy_thresh, tstamp, flags (-e)."""
    rx_ring: dict[str, int] | None = None
    tx_ring: dict[str, int] | None = None
    fanout: int | None = None
    """Group id in the low 16 bits, type and flags above (-e)."""
    bpf: list[list[int]] | None = None
    """Classic BPF instructions (-b): code, jt, jf, k."""
    skmem: SkMem | None = None


class NetlinkLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A netlink socket."""

    ts: Time
    netid: str
    family: str
    state: str
    protocol: int
    protocol_name: str | None = None
    portid: int
    """0 is the kernel."""
    recv_q: RecvQ
    send_q: SendQ
    comm: str | None = None
    """Name of the process whose pid the port id is, where there is one."""
    ino: Inode | None = None
    sk: Cookie | None = None
    dst_portid: int | None = None
    dst_group: int | None = None
    groups: int | None = None
    """The first 32 multicast groups as a mask (-e)."""
    skmem: SkMem | None = None


class VsockLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A vsock socket; 4294967295 is any context id or port."""

    ts: Time
    netid: str
    family: str
    state: str
    src_cid: int
    sport: int
    dst_cid: int
    dport: int
    ino: Inode | None = None
    sk: Cookie | None = None
    owners: list[OwnerItem] | None = None


class TipcLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A TIPC socket."""

    ts: Time
    netid: str
    family: str
    state: str
    node: int
    ref: int
    peer_node: int | None = None
    peer_ref: int | None = None
    recv_q: RecvQ
    send_q: SendQ
    uid: int
    ino: Inode | None = None
    sk: Cookie | None = None
    owners: list[OwnerItem] | None = None
    drops: int | None = None
    """With --tipcinfo, as are the next two."""
    congested: list[str] | None = None
    published: bool | None = None


class XdpLine(msgspec.Struct, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """An AF_XDP socket."""

    ts: Time
    netid: str
    family: str
    state: str
    recv_q: RecvQ
    send_q: SendQ
    uid: int
    queue_id: int
    ifindex: int | None = None
    ifname: str | None = None
    ino: Inode | None = None
    sk: Cookie | None = None
    owners: list[OwnerItem] | None = None
    rx_entries: int | None = None
    tx_entries: int | None = None
    fill_entries: int | None = None
    completion_entries: int | None = None
    umem: dict[str, int] | None = None
    stats: dict[str, int] | None = None
    skmem: SkMem | None = None


class SummaryLine(msgspec.Struct, tag="summary", tag_field="type"):
    """The counters of -s. ``inuse`` numbers by protocol and family."""

    sockets: int
    tcp: int
    established: int
    closed: int
    orphaned: int
    timewait: int
    raw_inuse: int
    raw6_inuse: int
    udp_inuse: int
    udp6_inuse: int
    tcp_inuse: int
    tcp6_inuse: int
    frag_inuse: int
    frag6_inuse: int


Line = InetLine | DestroyedLine | UnixLine | PacketLine | NetlinkLine | VsockLine | TipcLine | XdpLine | SummaryLine
