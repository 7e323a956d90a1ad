"""Rows of a snapshot → NDJSON: one flat object a socket, for every table and option. The types: ``socket_lines``.

Enters: sockets, as ``render.ss`` takes them. Leaves: bytes, a line a socket. Numbers stay numbers, in the kernel's
units (each key's description says which); a key whose value is not known, or was not asked for by ss's own options
(``-o -e -m -p -i --tos --cgroup --inet-sockopt -b``), is absent, never null. Text that is no UTF-8 is escaped with
backslashes.
"""

import socket as _socket
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_TIPC,
    AF_VSOCK,
    STATE_TEXT,
    Extras,
    InetSocket,
    NetlinkSocket,
    Owner,
    PacketSocket,
    Socket,
    Table,
    TipcSocket,
    UnixSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.protocols import NETID_OF_TYPE, OF_TABLE, UNNAMED
from sstrace.render.common import Context
from sstrace.render.inet import SOCKOPT
from sstrace.render.packet import link_protocol
from sstrace.render.protocol import netid, timer_name
from sstrace.render.socket_lines import (
    Congestion,
    DestroyedLine,
    InetLine,
    Line,
    Md5Key,
    MemInfo,
    NetlinkLine,
    OwnerItem,
    PacketLine,
    SkMem,
    Storage,
    SummaryLine,
    TcpInfoItem,
    Timer,
    TipcLine,
    UlpItem,
    UnixLine,
    VsockLine,
    XdpLine,
)
from sstrace.render.summary import Counters
from sstrace.render.unix import major_minor

__all__ = ["Lines", "summary_line"]


def summary_line(count: Counters, established: int) -> bytes:
    """The counters of -s as one line."""
    line = SummaryLine(
        sockets=count.used,
        tcp=count.tcp_alloc + count.tcp_tw,
        established=established,
        closed=count.tcp_alloc - (count.tcp_inuse + count.tcp6_inuse - count.tcp_tw),
        orphaned=count.tcp_orphan,
        timewait=count.tcp_tw,
        raw_inuse=count.raw_inuse,
        raw6_inuse=count.raw6_inuse,
        udp_inuse=count.udp_inuse,
        udp6_inuse=count.udp6_inuse,
        tcp_inuse=count.tcp_inuse,
        tcp6_inuse=count.tcp6_inuse,
        frag_inuse=count.frag_inuse,
        frag6_inuse=count.frag6_inuse,
    )
    return msgspec.json.encode(line) + b"\n"


# The end of each field of the structs below in the kernel's layout (include/uapi/linux/tcp.h and mptcp.h, 6.18): what
# an older kernel did not send is absent, not 0.
def _ends(layout: str) -> dict[str, int]:
    ends: dict[str, int] = {}
    at = 0
    for word in layout.split():
        name, _, size = word.partition(":")
        at += abs(int(size))
        if name:
            ends[name] = at
    return ends


_TCP_NAMES = _ends(
    "state:1 ca_state:1 retransmits:1 probes:1 backoff:1 options:1 snd_wscale:1 rcv_wscale:0 "
    "delivery_rate_app_limited:1 fastopen_client_fail:0 rto:4 ato:4 snd_mss:4 rcv_mss:4 unacked:4 sacked:4 lost:4 "
    "retrans:4 fackets:4 last_data_sent:4 last_ack_sent:4 last_data_recv:4 last_ack_recv:4 pmtu:4 rcv_ssthresh:4 "
    "rtt:4 rttvar:4 snd_ssthresh:4 snd_cwnd:4 advmss:4 reordering:4 rcv_rtt:4 rcv_space:4 total_retrans:4 "
    "pacing_rate:8 max_pacing_rate:8 bytes_acked:8 bytes_received:8 segs_out:4 segs_in:4 notsent_bytes:4 "
    "min_rtt:4 data_segs_in:4 data_segs_out:4 delivery_rate:8 busy_time:8 rwnd_limited:8 sndbuf_limited:8 "
    "delivered:4 delivered_ce:4 bytes_sent:8 bytes_retrans:8 dsack_dups:4 reord_seen:4 rcv_ooopack:4 snd_wnd:4 "
    "rcv_wnd:4 rehash:4 total_rto:2 total_rto_recoveries:2 total_rto_time:4"
)
assert tuple(_TCP_NAMES) == TcpInfoItem.__struct_fields__
_TCP_ENDS = tuple(_TCP_NAMES.values())
_MPTCP_ENDS = _ends(
    "subflows:1 add_addr_signal:1 add_addr_accepted:1 subflows_max:1 add_addr_signal_max:1 "
    "add_addr_accepted_max:1 :2 flags:4 token:4 write_seq:8 snd_una:8 rcv_nxt:8 local_addr_used:1 "
    "local_addr_max:1 csum_enabled:1 :1 retransmits:4 bytes_retrans:8 bytes_sent:8 bytes_received:8 bytes_acked:8 "
    "subflows_total:1 endp_laminar_max:1 :2 last_data_sent:4 last_data_recv:4 last_ack_recv:4"
)
_OPTIONS = ("ts", "sack", "wscale", "ecn", "ecnseen", "fastopen", "usec_ts")
_CONGESTED = ("link", "conn")
_SKMEM = SkMem.__struct_fields__

_FAMILIES = {AF_INET: "inet", AF_INET6: "inet6"}
_PACKET_INFO = ("index", "version", "reserve", "copy_thresh", "tstamp", "flags")
_RING = ("block_size", "block_nr", "frame_size", "frame_nr", "retire_tmo", "sizeof_priv", "features")
_UMEM = ("size", "id", "num_pages", "chunk_size", "headroom", "ifindex", "queue_id", "flags", "refs")
_XDP_STATS = ("rx_dropped", "rx_invalid", "rx_full", "fill_ring_empty", "tx_invalid", "tx_ring_empty")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _name(name: str) -> str:
    return name if name.isascii() else _text(name.encode("utf-8", "surrogateescape"))


def _state(number: int) -> str:
    return STATE_TEXT[number] if number < len(STATE_TEXT) else "UNDEF"


def _skmem(words: Sequence[int] | None) -> SkMem | None:
    return None if words is None else SkMem(**dict(zip(_SKMEM, (*words, *([0] * (7 - len(words)))), strict=False)))


def _shut(bits: int | None) -> list[str] | None:
    return None if not bits else [word for bit, word in ((1, "recv"), (2, "send")) if bits & bit]


def _object(names: Sequence[str], values: Sequence[int] | None) -> dict[str, int] | None:
    return None if values is None else dict(zip(names, values, strict=False))


def _numbers(item: Any) -> dict[str, int] | None:
    """The fields of a decoded struct that were said."""
    if item is None:
        return None
    return {name: int(value) for name, value in msgspec.structs.asdict(item).items() if value is not None}


class Lines:
    """Writes lines through ``write``; a sink of rows like ``render.ss.Text``. ``now_ns``: CLOCK_REALTIME, the lines'
    ``ts``.

    ``destroyed``: the rows are news of -E.
    """

    def __init__(
        self, context: Context, write: Callable[[bytes], object], now_ns: int, *, destroyed: bool = False
    ) -> None:
        self._context = context
        self._write = write
        seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
        self._ts = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
        self._encoder = msgspec.json.Encoder()
        self._inet_type: type[InetLine] = DestroyedLine if destroyed else InetLine
        self._addresses: dict[bytes, str] = {}
        self._options: dict[int, list[str]] = {}

    def begin(self, table: Table) -> None:
        """Lines tell their table themselves."""

    def feed(self, sockets: Sequence[Socket]) -> None:
        """Write a line for each row, in this order."""
        lines: list[Line] = []
        for row in sockets:
            if isinstance(row, InetSocket):
                lines.append(self._inet(row))
            elif isinstance(row, UnixSocket):
                lines.append(self._unix(row))
            elif isinstance(row, PacketSocket):
                lines.append(self._packet(row))
            elif isinstance(row, NetlinkSocket):
                lines.append(self._netlink(row))
            elif isinstance(row, VsockSocket):
                lines.append(self._vsock(row))
            elif isinstance(row, TipcSocket):
                lines.append(self._tipc(row))
            elif isinstance(row, XdpSocket):
                lines.append(self._xdp(row))
        self._write(self._encoder.encode_lines(lines))

    def flush(self) -> None:
        """Nothing is held back."""

    def _owners(self, inode: int) -> list[OwnerItem] | None:
        owners: Sequence[Owner] | None = self._context.owners.get(inode) if inode else None
        if not owners:
            return None
        return [
            OwnerItem(_text(owner.comm), owner.pid, owner.fd, owner.tid, owner.proc_ctx, owner.sock_ctx)
            for owner in owners
        ]

    def _address(self, address: bytes) -> str:
        text = self._addresses.get(address)
        if text is None:
            family = _socket.AF_INET if len(address) == 4 else _socket.AF_INET6
            text = self._addresses[address] = _socket.inet_ntop(family, address)
        return text

    def _inet(self, row: InetSocket) -> InetLine:
        context, show = self._context, self._context.show
        line = self._inet_type(
            ts=self._ts,
            netid=netid(row, context.dialect),
            family=_FAMILIES.get(row.family, str(row.family)),
            state=_state(row.state),
            src=self._address(row.src),
            sport=row.sport,
            dst=self._address(row.dst),
            dport=row.dport,
            recv_q=None if row.partial else row.recv_q,
            send_q=None if row.partial else row.send_q,
            uid=row.uid,
            ino=row.ino or None,
            sk=row.cookie or None,
        )
        if row.ifindex:
            line.ifindex, line.ifname = row.ifindex, _name(context.names.ifname(row.ifindex))
        if show.resolve:
            line.src_host = self._host(row.family, row.src)
            line.dst_host = self._host(row.family, row.dst)
        if context.owners:
            line.owners = self._owners(row.ino)
        if show.timers and row.timer:
            line.timer = Timer(timer_name(row, context.dialect), row.expires_ms, row.retrans)
        extras = row.extras
        if extras is not None:
            line.v6only = extras.v6only
            if show.extended:
                line.mark = extras.mark or None
                line.shutdown = _shut(extras.shutdown)
            if (show.extended or show.cgroup) and extras.cgroup_id:
                path = context.names.cgroup_path(extras.cgroup_id)
                line.cgroup = None if path is None else _text(path)
            if show.tos:
                line.tos, line.tclass, line.class_id = extras.tos, extras.tclass, extras.class_id
            if show.inet_sockopt and extras.sockopt is not None:
                line.sockopt = [word for bit, word in enumerate(SOCKOPT) if extras.sockopt >> bit & 1]
            if show.memory:
                line.skmem = _skmem(extras.skmem)
                if extras.meminfo is not None and extras.skmem is None:
                    line.meminfo = MemInfo(*(*extras.meminfo, 0, 0, 0, 0)[:4])
            if show.info:
                self._info(line, extras)
            if show.bpf_maps and extras.storage is not None:
                line.storage = [
                    Storage(number, context.storage_text(number, value))
                    for number, value in context.decoders.storage(extras.storage)
                ]
        return line

    def _host(self, family: int, address: bytes) -> str | None:
        name = self._context.names.host(family, address) if any(address) else None
        return None if name is None else _name(name)

    def _info(self, line: InetLine, extras: Extras) -> None:
        """What -i shows."""
        decoders = self._context.decoders
        if extras.info is not None:
            if line.netid == "mptcp":
                mptcp = decoders.mptcp_info(extras.info)
                size = len(extras.info)
                line.mptcp_info = {name: getattr(mptcp, name) for name, end in _MPTCP_ENDS.items() if end <= size}
            elif line.netid == "sctp":
                line.sctp_info = _numbers(decoders.sctp_info(extras.info))
            else:
                line.tcp_info = self._tcp(extras.info)
        if extras.locals is not None:
            line.locals = [self._address(address) for _, address in extras.locals]
        if extras.peers is not None:
            line.peers = [self._address(address) for _, address in extras.peers]
        if extras.congestion or extras.vegas or extras.dctcp or extras.bbr:
            line.congestion = Congestion(
                name=extras.congestion or None,
                vegas=_object(("enabled", "rttcnt", "rtt", "minrtt"), extras.vegas),
                dctcp=_object(("enabled", "ce_state", "alpha", "ab_ecn", "ab_tot"), extras.dctcp),
                bbr=_object(("bw", "min_rtt", "pacing_gain", "cwnd_gain"), extras.bbr),
            )
        if extras.md5 is not None:
            line.md5 = [Md5Key(self._address(address), prefix, _text(key)) for _, prefix, address, key in extras.md5]
        if extras.ulp is not None:
            ulp = decoders.ulp(extras.ulp)
            line.ulp = UlpItem(ulp.name, _numbers(ulp.tls), _numbers(ulp.mptcp))

    def _tcp(self, blob: bytes) -> TcpInfoItem:
        """What the kernel sent whole of struct tcp_info; by position, for there are often very many."""
        fields = self._context.decoders.tcp_fields(blob)
        options, scales, flags = fields[5:8]
        words = self._options.get(options)
        if words is None:
            words = self._options[options] = [word for bit, word in enumerate(_OPTIONS) if options >> bit & 1]
        values: tuple[Any, ...] = (*fields[:5], words, scales & 15, scales >> 4, flags & 1, flags >> 1 & 3, *fields[8:])
        return TcpInfoItem(*values[: bisect_right(_TCP_ENDS, len(blob))])

    def _unix(self, row: UnixSocket) -> UnixLine:
        show = self._context.show
        line = UnixLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="unix",
            state=_state(row.state),
            src=_text(row.name.replace(b"\0", b"@")) if row.name else None,
            recv_q=row.recv_q,
            send_q=row.send_q,
            ino=row.ino or None,
            sk=row.cookie or None,
            peer_ino=row.peer_ino or None,
            uid=row.uid,
            owners=self._owners(row.ino),
        )
        if show.memory:
            line.skmem = _skmem(row.skmem)
        if show.extended:
            line.shutdown = _shut(row.shutdown)
            if row.vfs is not None:
                line.vfs_ino, line.vfs_dev = row.vfs[0], "{}:{}".format(*major_minor(row.vfs[1]))
            if row.pending is not None:
                line.pending = list(row.pending)
        return line

    def _packet(self, row: PacketSocket) -> PacketLine:
        show = self._context.show
        line = PacketLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="packet",
            state=_state(row.state),
            protocol=row.protocol,
            protocol_name=link_protocol(row.protocol, cfm=True),
            recv_q=row.recv_q,
            send_q=row.send_q,
            uid=row.uid,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
        if row.ifindex:
            line.ifindex, line.ifname = row.ifindex, _name(self._context.names.ifname(row.ifindex))
        if show.memory:
            line.skmem = _skmem(row.skmem)
        if show.extended:
            line.info = _object(_PACKET_INFO, row.info)
            line.rx_ring, line.tx_ring = _object(_RING, row.rx_ring), _object(_RING, row.tx_ring)
            line.fanout = row.fanout
        if show.bpf and row.bpf is not None:
            line.bpf = [list(instruction) for instruction in row.bpf]
        return line

    def _netlink(self, row: NetlinkSocket) -> NetlinkLine:
        show, names = self._context.show, self._context.names
        protocol = names.netlink_protocol(row.protocol)
        comm = names.process(row.portid) if row.portid > 0 else None
        line = NetlinkLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="netlink",
            state=_state(row.state),
            protocol=row.protocol,
            protocol_name=None if protocol is None else _name(protocol),
            portid=row.portid,
            recv_q=row.recv_q,
            send_q=row.send_q,
            comm=None if comm is None else _text(comm),
            ino=row.ino or None,
            sk=row.cookie or None,
        )
        if row.connected:
            line.dst_portid, line.dst_group = row.dst_portid, row.dst_group
        if show.extended:
            line.groups = row.groups
        if show.memory:
            line.skmem = _skmem(row.skmem)
        return line

    def _vsock(self, row: VsockSocket) -> VsockLine:
        return VsockLine(
            ts=self._ts,
            netid=NETID_OF_TYPE.get((AF_VSOCK, row.type), UNNAMED),
            family="vsock",
            state=_state(row.state),
            src_cid=row.src_cid,
            sport=row.sport,
            dst_cid=row.dst_cid,
            dport=row.dport,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )

    def _tipc(self, row: TipcSocket) -> TipcLine:
        line = TipcLine(
            ts=self._ts,
            netid=NETID_OF_TYPE.get((AF_TIPC, row.type), UNNAMED),
            family="tipc",
            state=_state(row.state),
            node=row.node,
            ref=row.ref,
            peer_node=row.peer_node,
            peer_ref=row.peer_ref,
            recv_q=row.recv_q,
            send_q=row.send_q,
            uid=row.uid,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
        if self._context.show.tipcinfo:
            line.drops, line.published = row.drops, row.published
            line.congested = [word for bit, word in enumerate(_CONGESTED) if row.congestion >> bit & 1]
        return line

    def _xdp(self, row: XdpSocket) -> XdpLine:
        show = self._context.show
        line = XdpLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="xdp",
            state=_state(row.state),
            recv_q=row.recv_q,
            send_q=row.send_q,
            uid=row.uid,
            queue_id=row.queue_id,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
        if row.ifindex:
            line.ifindex, line.ifname = row.ifindex, _name(self._context.names.ifname(row.ifindex))
        if show.extended:
            line.rx_entries, line.tx_entries = row.rx_entries, row.tx_entries
            line.fill_entries, line.completion_entries = row.fill_entries, row.completion_entries
            line.umem, line.stats = _object(_UMEM, row.umem), _object(_XDP_STATS, row.stats)
        if show.memory:
            line.skmem = _skmem(row.skmem)
        return line
