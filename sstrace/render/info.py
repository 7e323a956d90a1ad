"""The block of ``-m`` and ``-i`` behind an inet row: skmem, then what the protocol tells of itself, item by item in
ss's order.

``tcp_info`` and its kin arrive decoded (kernel's names without their prefix, zero-extended where the kernel is
older); each item has its own condition, mostly "not zero", because ss prints only what says something. Source: ss(8)
and the printing of iproute2 6.1 to 7.1, tried item by item with synthetic answers; struct tcp_info of
include/uapi/linux/tcp.h (6.18).
"""

from typing import Any

from sstrace.model import AF_INET, Extras, InetSocket, State
from sstrace.render.common import SCTP_STATES, Context, general, memory, rate, signed

__all__ = ["block", "tcp_items"]

_MPTCP = 262
_SCTP = 132
_ALL_ONES = 0xFFFFFFFFFFFFFFFF

# TCPI_OPT_* bits, include/uapi/linux/tcp.h.
_TIMESTAMPS, _SACK, _WSCALE, _ECN, _ECN_SEEN, _SYN_DATA, _USEC_TS = 1, 2, 4, 8, 16, 32, 64


def block(socket: InetSocket, extras: Extras, protocol: int, context: Context) -> str:
    """The items of the block, each with its leading blank; what opens the block is the caller's."""
    if extras.skmem is not None:
        out = memory(extras.skmem)
    elif extras.meminfo is not None and protocol not in (_SCTP, _MPTCP):
        r, w, f, t = (*extras.meminfo, 0, 0, 0, 0)[:4]
        out = f" mem:(r{r},w{w},f{f},t{t})"
    else:
        out = ""
    if protocol == _SCTP:
        return out + _sctp(extras, context)
    if protocol == _MPTCP:
        return out + (_mptcp(extras.info, context) if extras.info is not None else "")
    if extras.info is not None:
        out += tcp_items(socket, extras, context.decoders.tcp_info(extras.info), context)
    if extras.md5 is not None:
        out += _md5(extras.md5, context)
    if extras.ulp is not None:
        out += _ulp(extras.ulp, context)
    return out


def tcp_items(socket: InetSocket, extras: Extras, tcp: Any, context: Context) -> str:
    """tcp_info and the congestion control's own words."""
    show, dialect = context.show, context.dialect
    numeric = show.numeric
    out: list[str] = []
    add = out.append
    options = tcp.options
    if show.timers:
        if options & _TIMESTAMPS:
            add(" ts")
        if options & _USEC_TS and dialect.usec_ts:
            add(" usec_ts")
        if options & _SACK:
            add(" sack")
        if options & _ECN:
            add(" ecn")
        if options & _ECN_SEEN:
            add(" ecnseen")
        if options & _SYN_DATA:
            add(" fastopen")
    if extras.congestion:
        add(f" {extras.congestion}")
    if options & _WSCALE:
        add(f" wscale:{tcp.snd_wscale},{tcp.rcv_wscale}")
    # Times are microseconds in the kernel and milliseconds here, as C's doubles.
    if tcp.rto and tcp.rto != 3_000_000:
        add(f" rto:{general(tcp.rto / 1000)}")
    if tcp.backoff:
        add(f" backoff:{tcp.backoff}")
    if tcp.rtt:
        add(f" rtt:{general(tcp.rtt / 1000)}/{general(tcp.rttvar / 1000)}")
    if tcp.ato:
        add(f" ato:{general(tcp.ato / 1000)}")
    if tcp.snd_mss:
        add(f" mss:{signed(tcp.snd_mss)}")
    if tcp.pmtu:
        add(f" pmtu:{tcp.pmtu}")
    if tcp.rcv_mss:
        add(f" rcvmss:{signed(tcp.rcv_mss)}")
    if tcp.advmss:
        add(f" advmss:{signed(tcp.advmss)}")
    if tcp.snd_cwnd:
        add(f" cwnd:{tcp.snd_cwnd}")
    if 0 < tcp.snd_ssthresh < 0xFFFF:
        add(f" ssthresh:{tcp.snd_ssthresh}")
    if tcp.bytes_sent:
        add(f" bytes_sent:{tcp.bytes_sent}")
    if tcp.bytes_retrans:
        add(f" bytes_retrans:{tcp.bytes_retrans}")
    if tcp.bytes_acked:
        add(f" bytes_acked:{tcp.bytes_acked}")
    if tcp.bytes_received:
        add(f" bytes_received:{tcp.bytes_received}")
    if tcp.segs_out:
        add(f" segs_out:{tcp.segs_out}")
    if tcp.segs_in:
        add(f" segs_in:{tcp.segs_in}")
    if tcp.data_segs_out:
        add(f" data_segs_out:{tcp.data_segs_out}")
    if tcp.data_segs_in:
        add(f" data_segs_in:{tcp.data_segs_in}")
    if extras.dctcp is not None:
        enabled, ce_state, alpha, ab_ecn, ab_tot = extras.dctcp
        if enabled:
            add(f" dctcp:(ce_state:{ce_state},alpha:{alpha},ab_ecn:{ab_ecn},ab_tot:{ab_tot})")
        else:
            add(" dctcp:fallback_mode")
    if extras.bbr is not None:
        bandwidth, min_rtt, pacing_gain, cwnd_gain = extras.bbr
        add(f" bbr:(bw:{rate(bandwidth * 8.0, numeric=numeric)}bps,mrtt:{general(min_rtt / 1000)}")
        if pacing_gain:
            add(f",pacing_gain:{general(pacing_gain / 256)}")
        if cwnd_gain:
            add(f",cwnd_gain:{general(cwnd_gain / 256)}")
        add(")")
    rtt = tcp.rtt
    if extras.vegas is not None:
        enabled, _, vegas_rtt, _ = extras.vegas
        if enabled and vegas_rtt not in (0, 0x7FFFFFFF):
            rtt = vegas_rtt
    if rtt and tcp.snd_mss and tcp.snd_cwnd:
        # In this order: the last of the 17 digits that -n may show hangs on it.
        add(f" send {rate(float(tcp.snd_cwnd) * float(tcp.snd_mss) * 8000000.0 / rtt, numeric=numeric)}bps")
    if tcp.last_data_sent:
        add(f" lastsnd:{tcp.last_data_sent}")
    if tcp.last_data_recv:
        add(f" lastrcv:{tcp.last_data_recv}")
    if tcp.last_ack_recv:
        add(f" lastack:{tcp.last_ack_recv}")
    if tcp.pacing_rate and tcp.pacing_rate != _ALL_ONES:
        add(f" pacing_rate {rate(tcp.pacing_rate * 8.0, numeric=numeric)}bps")
        if tcp.max_pacing_rate and tcp.max_pacing_rate != _ALL_ONES:
            add(f"/{rate(tcp.max_pacing_rate * 8.0, numeric=numeric)}bps")
    if tcp.delivery_rate:
        add(f" delivery_rate {rate(tcp.delivery_rate * 8.0, numeric=numeric)}bps")
    if tcp.delivered:
        add(f" delivered:{tcp.delivered}")
    if tcp.delivered_ce:
        add(f" delivered_ce:{tcp.delivered_ce}")
    if tcp.delivery_rate_app_limited:
        add(" app_limited")
    busy = tcp.busy_time
    if busy:
        add(f" busy:{busy // 1000}ms")
        if tcp.rwnd_limited:
            add(f" rwnd_limited:{tcp.rwnd_limited // 1000}ms({100.0 * tcp.rwnd_limited / busy:.1f}%)")
        if tcp.sndbuf_limited:
            add(f" sndbuf_limited:{tcp.sndbuf_limited // 1000}ms({100.0 * tcp.sndbuf_limited / busy:.1f}%)")
    if tcp.unacked:
        add(f" unacked:{tcp.unacked}")
    if tcp.retrans or tcp.total_retrans:
        add(f" retrans:{tcp.retrans}/{tcp.total_retrans}")
    if tcp.lost:
        add(f" lost:{tcp.lost}")
    # A listener's field holds its backlog.
    if tcp.sacked and socket.state != State.LISTEN:
        add(f" sacked:{tcp.sacked}")
    if tcp.dsack_dups:
        add(f" dsack_dups:{tcp.dsack_dups}")
    if tcp.fackets:
        add(f" fackets:{tcp.fackets}")
    if tcp.reordering != 3:
        add(f" reordering:{signed(tcp.reordering)}")
    if tcp.reord_seen:
        add(f" reord_seen:{signed(tcp.reord_seen)}")
    if tcp.rcv_rtt:
        add(f" rcv_rtt:{general(tcp.rcv_rtt / 1000)}")
    if tcp.rcv_space:
        add(f" rcv_space:{signed(tcp.rcv_space)}")
    if tcp.rcv_ssthresh:
        add(f" rcv_ssthresh:{tcp.rcv_ssthresh}")
    if tcp.notsent_bytes:
        add(f" notsent:{tcp.notsent_bytes}")
    if tcp.min_rtt and tcp.min_rtt != 0xFFFFFFFF:
        add(f" minrtt:{general(tcp.min_rtt / 1000)}")
    if tcp.rcv_ooopack:
        add(f" rcv_ooopack:{tcp.rcv_ooopack}")
    if tcp.snd_wnd:
        add(f" snd_wnd:{tcp.snd_wnd}")
    if dialect.tcp_rcv_wnd:
        if tcp.rcv_wnd:
            add(f" rcv_wnd:{tcp.rcv_wnd}")
        if tcp.rehash:
            add(f" rehash:{tcp.rehash}")
    return "".join(out)


def _mptcp(blob: bytes, context: Context) -> str:
    """The items of struct mptcp_info, include/uapi/linux/mptcp.h."""
    mptcp, dialect = context.decoders.mptcp_info(blob), context.dialect
    out: list[str] = []

    def add(name: str, value: int) -> None:
        if value:
            out.append(f" {name}:{value if dialect.mptcp_counters else signed(value)}")

    add("subflows", mptcp.subflows)
    add("add_addr_signal", mptcp.add_addr_signal)
    add("add_addr_accepted", mptcp.add_addr_accepted)
    add("subflows_max", mptcp.subflows_max)
    add("add_addr_signal_max", mptcp.add_addr_signal_max)
    add("add_addr_accepted_max", mptcp.add_addr_accepted_max)
    # MPTCP_INFO_FLAG_FALLBACK and _REMOTE_KEY_RECEIVED.
    if mptcp.flags & 1:
        out.append(" fallback")
    if mptcp.flags & 2:
        out.append(" remote_key")
    if mptcp.token:
        out.append(f" token:{mptcp.token:x}")
    for name in ("write_seq", "snd_una", "rcv_nxt"):
        value = getattr(mptcp, name)
        if value:
            out.append(f" {name}:{value}" if dialect.mptcp_counters else f" {name}:{value:x}")
    if dialect.mptcp_counters:
        add("local_addr_used", mptcp.local_addr_used)
        add("local_addr_max", mptcp.local_addr_max)
        add("csum_enabled", mptcp.csum_enabled)
        add("retransmits", mptcp.retransmits)
        add("bytes_retrans", mptcp.bytes_retrans)
        add("bytes_sent", mptcp.bytes_sent)
        add("bytes_received", mptcp.bytes_received)
        add("bytes_acked", mptcp.bytes_acked)
    if dialect.mptcp_subflows_total:
        add("subflows_total", mptcp.subflows_total)
    if dialect.mptcp_laminar:
        add("endp_laminar_max", mptcp.endp_laminar_max)
    if dialect.mptcp_last_times:
        add("last_data_sent", mptcp.last_data_sent)
        add("last_data_recv", mptcp.last_data_recv)
        add("last_ack_recv", mptcp.last_ack_recv)
    return "".join(out)


def _sctp(extras: Extras, context: Context) -> str:
    """The addresses of an SCTP association, and its items of struct sctp_info."""
    out = ""
    for word, addresses in (("locals", extras.locals), ("peers", extras.peers)):
        if addresses is not None:
            out += f" {word}:{','.join(_bare(family, address, context) for family, address in addresses)}"
    if extras.info is None:
        return out
    sctp = context.decoders.sctp_info(extras.info)
    for name, value, pattern in (
        ("tag", sctp.tag, "x"),
        ("state", sctp.state, "state"),
        ("rwnd", sctp.rwnd, ""),
        ("unackdata", sctp.unackdata, ""),
        ("penddata", sctp.penddata, ""),
        ("instrms", sctp.instrms, ""),
        ("outstrms", sctp.outstrms, ""),
        ("inqueue", sctp.inqueue, ""),
        ("outqueue", sctp.outqueue, ""),
        ("overerr", sctp.overall_error, ""),
        ("maxburst", sctp.max_burst, ""),
        ("maxseg", sctp.maxseg, ""),
        ("prwnd", sctp.peer_rwnd, ""),
        ("ptag", sctp.peer_tag, "x"),
        ("pcapable", sctp.peer_capable, ""),
        ("psack", sctp.peer_sack, ""),
        ("autoclose", sctp.s_autoclose, ""),
        ("adapind", sctp.s_adaptation_ind, ""),
        ("pdpoint", sctp.s_pd_point, ""),
        ("nodelay", sctp.s_nodelay, ""),
        ("nofrag", sctp.s_disable_fragments, ""),
        ("v4mapped", sctp.s_v4mapped, ""),
        ("fraginl", sctp.s_frag_interleave, ""),
    ):
        if not value:
            continue
        if pattern == "state":
            out += f" {name}:{SCTP_STATES[value] if value < len(SCTP_STATES) else value}"
        else:
            out += f" {name}:{value:{pattern}}"
    return out


def _bare(family: int, address: bytes, context: Context) -> str:
    return context.addresses.plain(family, address[:4] if family == AF_INET else address)


def _md5(keys: tuple[tuple[int, int, bytes, bytes], ...], context: Context) -> str:
    """The TCP-MD5 keys. Before 6.8 the key itself went to standard output at once, ahead of the table it belongs to."""
    items = []
    for family, prefix, address, key in keys:
        escaped = "".join(chr(byte) if 0x20 < byte < 0x7F and byte not in b"\\," else f"\\{byte:03o}" for byte in key)
        item = f"{_bare(family, address, context)}/{prefix}="
        if context.dialect.md5_in_row:
            item += escaped
        else:
            context.aside(escaped.encode("latin-1"))
        items.append(item)
    return f" md5keys:{','.join(items)}"


# TLS_CIPHER_* and TLS_CONF_*, include/uapi/linux/tls.h, in ss's words; other ciphers have none.
_TLS_VERSIONS = {0x0303: "1.2", 0x0304: "1.3"}
_TLS_CIPHERS = {51: "aes-gcm-128", 52: "aes-gcm-256"}
_TLS_CONF = {1: "none", 2: "sw", 3: "hw", 4: "hw-record"}
# MPTCP_SUBFLOW_FLAG_*, include/uapi/linux/mptcp.h, lowest bit first, as letters.
_SUBFLOW_FLAGS = "MmJjBbecv"


def _ulp(blob: bytes, context: Context) -> str:
    """The upper-layer protocol: its name, then what TLS or an MPTCP subflow tells."""
    ulp = context.decoders.ulp(blob)
    out = f" tcp-ulp-{ulp.name}" if ulp.name is not None else ""
    if ulp.tls is not None:
        out += _tls(ulp.tls, context)
    if ulp.mptcp is not None:
        out += _subflow(ulp.mptcp, context)
    return out


def _tls(tls: Any, context: Context) -> str:
    out = ""
    if tls.version is not None:
        out += f" version: {_TLS_VERSIONS.get(tls.version, f'unknown({tls.version})')}"
    if tls.cipher in _TLS_CIPHERS:
        out += f" cipher: {_TLS_CIPHERS[tls.cipher]}"
    if tls.rxconf is not None:
        out += f" rxconf: {_TLS_CONF.get(tls.rxconf, f'unknown({tls.rxconf})')}"
    if tls.txconf is not None:
        out += f" txconf: {_TLS_CONF.get(tls.txconf, f'unknown({tls.txconf})')}"
    if tls.zc_ro_tx:
        out += " zc_ro_tx"
    if tls.rx_no_pad and context.dialect.tls_no_pad_rx:
        out += " no_pad_rx"
    return out


def _subflow(flow: Any, context: Context) -> str:
    out = ""
    if flow.flags:
        out += f" flags:{''.join(letter for bit, letter in enumerate(_SUBFLOW_FLAGS) if flow.flags >> bit & 1)}"
    if None not in (flow.token_rem, flow.id_rem, flow.token_loc, flow.id_loc):
        out += f" token:{flow.token_rem:04x}(id:{flow.id_rem})/{flow.token_loc:04x}(id:{flow.id_loc})"
    base = "" if context.dialect.mptcp_subflow_decimal else "x"
    for name, value in (
        ("seq", flow.map_seq),
        ("sfseq", flow.map_sfseq),
        ("ssnoff", flow.ssn_offset),
        ("maplen", flow.map_datalen),
    ):
        if value is not None:
            out += f" {name}:{value:{base}}"
    return out
