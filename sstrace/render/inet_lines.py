"""Rows of the inet tables → NDJSON: what each attribute of an answer is called there, and which option shows it."""

import socket as _socket
from bisect import bisect_right
from typing import Any

import msgspec

from sstrace.model import AF_INET, AF_INET6, Extras, InetSocket
from sstrace.plain import spelled
from sstrace.render.common import Context
from sstrace.render.inet import SOCKOPT
from sstrace.render.line_parts import (
    Address,
    Bytes,
    Cookie,
    Inode,
    LineMaker,
    Micros,
    Millis,
    OwnerItem,
    Rate,
    RecvQ,
    SendQ,
    SkMem,
    Time,
    named,
    owner_items,
    shut,
    skmem,
    state_text,
)
from sstrace.render.places import Place
from sstrace.render.protocol import netid, timer_name

__all__ = ["DestroyedLine", "InetLine", "InetLines"]


class Timer(msgspec.Struct, omit_defaults=True):
    """The running timer (-o)."""

    name: str
    expires_ms: Millis
    retrans: int
    """Retransmissions, or probes, so far."""


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


class InetLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
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
    peer_host: str | None = None
    """Of a directory of recordings: on which other host the other end is, where its recording has it."""
    peer_owners: list[OwnerItem] | None = None
    """Who holds that end."""
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

_FAMILIES = {AF_INET: "inet", AF_INET6: "inet6"}


def _numbers(item: Any) -> dict[str, int] | None:
    """The fields of a decoded struct that were said."""
    if item is None:
        return None
    return {name: int(value) for name, value in msgspec.structs.asdict(item).items() if value is not None}


class InetLines(LineMaker):
    """``destroyed``: the rows are news of -E."""

    types = (InetLine, DestroyedLine)

    def __init__(self, context: Context, ts: str, *, destroyed: bool = False) -> None:
        super().__init__(context, ts)
        self._type: type[InetLine] = DestroyedLine if destroyed else InetLine
        self._addresses: dict[bytes, str] = {}
        self._options: dict[int, list[str]] = {}

    def _address(self, address: bytes) -> str:
        text = self._addresses.get(address)
        if text is None:
            family = _socket.AF_INET if len(address) == 4 else _socket.AF_INET6
            text = self._addresses[address] = _socket.inet_ntop(family, address)
        return text

    def line(self, row: InetSocket) -> InetLine:
        """The line of a row."""
        context, show = self._context, self._context.show
        line = self._type(
            ts=self._ts,
            netid=netid(row, context.dialect),
            family=_FAMILIES.get(row.family, str(row.family)),
            state=state_text(row.state),
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
            line.ifindex, line.ifname = self._interface(row.ifindex)
        if show.resolve:
            line.src_host = self._host(row.family, row.src)
            line.dst_host = self._host(row.family, row.dst)
        if context.owners:
            line.owners = self._owners(row.ino)
        if context.peer is not None and (peer := context.peer(row)) is not None:
            line.peer_host, owners = peer
            line.peer_owners = owner_items(owners) or None
        if show.timers and row.timer:
            line.timer = Timer(timer_name(row, context.dialect), row.expires_ms, row.retrans)
        extras = row.extras
        if extras is not None:
            line.v6only = extras.v6only
            if show.extended:
                line.mark = extras.mark or None
                line.shutdown = shut(extras.shutdown)
            if (show.extended or show.cgroup) and extras.cgroup_id:
                path = context.names.cgroup_path(extras.cgroup_id)
                line.cgroup = None if path is None else spelled(path)
            if show.tos:
                line.tos, line.tclass, line.class_id = extras.tos, extras.tclass, extras.class_id
            if show.inet_sockopt and extras.sockopt is not None:
                line.sockopt = [word for bit, word in enumerate(SOCKOPT) if extras.sockopt >> bit & 1]
            if show.memory:
                line.skmem = skmem(extras.skmem)
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
        return None if name is None else spelled(name)

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
                vegas=named(("enabled", "rttcnt", "rtt", "minrtt"), extras.vegas),
                dctcp=named(("enabled", "ce_state", "alpha", "ab_ecn", "ab_tot"), extras.dctcp),
                bbr=named(("bw", "min_rtt", "pacing_gain", "cwnd_gain"), extras.bbr),
            )
        if extras.md5 is not None:
            line.md5 = [Md5Key(self._address(address), prefix, spelled(key)) for _, prefix, address, key in extras.md5]
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
