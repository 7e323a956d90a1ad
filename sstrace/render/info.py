"""The block of ``-m`` and ``-i`` behind an inet row: skmem, then what the protocol tells of itself, item by item in
ss's order.

``tcp_info`` and its kin arrive decoded (kernel's names without their prefix, zero-extended where the kernel is
older); each item has its own condition, mostly "not zero", because ss prints only what says something. Source: ss(8)
and the printing of iproute2 6.1 to 7.3, tried item by item with synthetic answers; struct tcp_info of
include/uapi/linux/tcp.h (6.18).
"""

from collections.abc import Sequence
from typing import Any

from sstrace.dialect import Dialect
from sstrace.model import AF_INET, Extras, InetSocket, State
from sstrace.protocols import IPPROTO_MPTCP, IPPROTO_SCTP
from sstrace.render.common import SCTP_STATES, Context, general, memory, millis, signed

__all__ = ["block", "limited", "memory_item", "option_words", "own_words", "tcp_items", "ulp_items"]

_LISTEN = int(State.LISTEN)
_ALL_ONES = 0xFFFFFFFFFFFFFFFF

# TCPI_OPT_* bits, include/uapi/linux/tcp.h.
_TIMESTAMPS, _SACK, _WSCALE, _ECN, _ECN_SEEN, _SYN_DATA, _USEC_TS = 1, 2, 4, 8, 16, 32, 64


def block(socket: InetSocket, extras: Extras, protocol: int, context: Context) -> str:
    """The items of the block, each with its leading blank; what opens the block is the caller's."""
    out = memory_item(extras)
    if protocol == IPPROTO_SCTP:
        return out + _sctp(extras, context)
    if protocol == IPPROTO_MPTCP:
        return out + (_mptcp(extras.info, context) if extras.info is not None else "")
    if extras.info is not None:
        out += tcp_items(socket, extras, context.decoders.tcp_fields(extras.info), context)
    if extras.md5 is not None:
        out += _md5(extras.md5, context)
    return out + ulp_items(extras, context)


def memory_item(extras: Extras) -> str:
    """What -m brings, its leading blank included."""
    if extras.skmem is not None:
        return memory(extras.skmem)
    if extras.meminfo is not None:
        r, w, f, t = (*extras.meminfo, 0, 0, 0, 0)[:4]
        return f" mem:(r{r},w{w},f{f},t{t})"
    return ""


def tcp_items(socket: InetSocket, extras: Extras, fields: Sequence[int], context: Context) -> str:
    """tcp_info and the congestion control's own words; ``fields`` as ``wire.tcp_info.unpack_tcp_info`` gives them.

    Written for speed: every field is a local, and what most sockets have is one piece of text.
    """
    (
        _state, _ca_state, _retransmits, _probes, backoff, options, scales, flags,
        rto, ato, snd_mss, rcv_mss, unacked, sacked, lost, retrans, fackets,
        last_data_sent, _last_ack_sent, last_data_recv, last_ack_recv,
        pmtu, rcv_ssthresh, rtt, rttvar, snd_ssthresh, snd_cwnd, advmss, reordering, rcv_rtt, rcv_space, total_retrans,
        pacing_rate, max_pacing_rate, bytes_acked, bytes_received, segs_out, segs_in, notsent_bytes, min_rtt,
        data_segs_in, data_segs_out, delivery_rate, busy, rwnd_limited, sndbuf_limited, delivered, delivered_ce,
        bytes_sent, bytes_retrans, dsack_dups, reord_seen, rcv_ooopack, snd_wnd, rcv_wnd, rehash, *_,
    ) = fields  # fmt: skip
    show, dialect = context.show, context.dialect
    bits = context.rate
    out = ""
    if show.timers:
        out += option_words(options, dialect)
    if extras.congestion:
        out += f" {extras.congestion}"
    if options & _WSCALE:
        out += f" wscale:{scales & 15},{scales >> 4}"
    if rto and rto != 3_000_000:
        out += f" rto:{millis(rto)}"
    if backoff:
        out += f" backoff:{backoff}"
    if rtt:
        out += f" rtt:{millis(rtt)}/{millis(rttvar)}"
    if ato:
        out += f" ato:{millis(ato)}"
    if snd_mss:
        out += f" mss:{signed(snd_mss)}"
    if pmtu:
        out += f" pmtu:{pmtu}"
    if rcv_mss:
        out += f" rcvmss:{signed(rcv_mss)}"
    if advmss:
        out += f" advmss:{signed(advmss)}"
    if snd_cwnd:
        out += f" cwnd:{snd_cwnd}"
    if 0 < snd_ssthresh < 0xFFFF:
        out += f" ssthresh:{snd_ssthresh}"
    if bytes_sent:
        out += f" bytes_sent:{bytes_sent}"
    if bytes_retrans:
        out += f" bytes_retrans:{bytes_retrans}"
    if bytes_acked:
        out += f" bytes_acked:{bytes_acked}"
    if bytes_received:
        out += f" bytes_received:{bytes_received}"
    if segs_out:
        out += f" segs_out:{segs_out}"
    if segs_in:
        out += f" segs_in:{segs_in}"
    if data_segs_out:
        out += f" data_segs_out:{data_segs_out}"
    if data_segs_in:
        out += f" data_segs_in:{data_segs_in}"
    if extras.dctcp is not None or extras.bbr is not None:
        out += own_words(extras, context)
    if extras.vegas is not None:
        enabled, _, vegas_rtt, _ = extras.vegas
        if enabled and vegas_rtt not in (0, 0x7FFFFFFF):
            rtt = vegas_rtt
    if rtt and snd_mss and snd_cwnd:
        # In this order: the last of the 17 digits that -n may show hangs on it.
        out += f" send {bits(float(snd_cwnd) * float(snd_mss) * 8000000.0 / rtt)}bps"
    if last_data_sent:
        out += f" lastsnd:{last_data_sent}"
    if last_data_recv:
        out += f" lastrcv:{last_data_recv}"
    if last_ack_recv:
        out += f" lastack:{last_ack_recv}"
    if pacing_rate and pacing_rate != _ALL_ONES:
        out += f" pacing_rate {bits(pacing_rate * 8.0)}bps"
        if max_pacing_rate and max_pacing_rate != _ALL_ONES:
            out += f"/{bits(max_pacing_rate * 8.0)}bps"
    if delivery_rate:
        out += f" delivery_rate {bits(delivery_rate * 8.0)}bps"
    if delivered:
        out += f" delivered:{delivered}"
    if delivered_ce:
        out += f" delivered_ce:{delivered_ce}"
    if flags & 1:
        out += " app_limited"
    if busy:
        out += limited(busy, rwnd_limited, sndbuf_limited)
    if unacked:
        out += f" unacked:{unacked}"
    if retrans or total_retrans:
        out += f" retrans:{retrans}/{total_retrans}"
    if lost:
        out += f" lost:{lost}"
    # A listener's field holds its backlog.
    if sacked and socket.state != _LISTEN:
        out += f" sacked:{sacked}"
    if dsack_dups:
        out += f" dsack_dups:{dsack_dups}"
    if fackets:
        out += f" fackets:{fackets}"
    if reordering != 3:
        out += f" reordering:{signed(reordering)}"
    if reord_seen:
        out += f" reord_seen:{signed(reord_seen)}"
    if rcv_rtt:
        out += f" rcv_rtt:{millis(rcv_rtt)}"
    if rcv_space:
        out += f" rcv_space:{signed(rcv_space)}"
    if rcv_ssthresh:
        out += f" rcv_ssthresh:{rcv_ssthresh}"
    if notsent_bytes:
        out += f" notsent:{notsent_bytes}"
    if min_rtt and min_rtt != 0xFFFFFFFF:
        out += f" minrtt:{millis(min_rtt)}"
    if rcv_ooopack:
        out += f" rcv_ooopack:{rcv_ooopack}"
    if snd_wnd:
        out += f" snd_wnd:{snd_wnd}"
    if dialect.tcp_rcv_wnd:
        if rcv_wnd:
            out += f" rcv_wnd:{rcv_wnd}"
        if rehash:
            out += f" rehash:{rehash}"
    return out


def option_words(options: int, dialect: Dialect) -> str:
    """What was agreed on at the handshake; -o brings it."""
    out = ""
    if options & _TIMESTAMPS:
        out += " ts"
    if options & _USEC_TS and dialect.usec_ts:
        out += " usec_ts"
    if options & _SACK:
        out += " sack"
    if options & _ECN:
        out += " ecn"
    if options & _ECN_SEEN:
        out += " ecnseen"
    if options & _SYN_DATA:
        out += " fastopen"
    return out


def own_words(extras: Extras, context: Context) -> str:
    """What dctcp and bbr tell of themselves."""
    out = ""
    if extras.dctcp is not None:
        enabled, ce_state, alpha, ab_ecn, ab_tot = extras.dctcp
        if enabled:
            out += f" dctcp:(ce_state:{ce_state},alpha:{alpha},ab_ecn:{ab_ecn},ab_tot:{ab_tot})"
        else:
            out += " dctcp:fallback_mode"
    if extras.bbr is not None:
        bandwidth, bbr_rtt, pacing_gain, cwnd_gain = extras.bbr
        out += f" bbr:(bw:{context.rate(bandwidth * 8.0)}bps,mrtt:{millis(bbr_rtt)}"
        if pacing_gain:
            out += f",pacing_gain:{general(pacing_gain / 256)}"
        if cwnd_gain:
            out += f",cwnd_gain:{general(cwnd_gain / 256)}"
        out += ")"
    return out


def limited(busy: int, rwnd_limited: int, sndbuf_limited: int) -> str:
    """Time spent sending, and what share of it a window or a buffer held up; microseconds."""
    if not busy:
        return ""
    out = f" busy:{busy // 1000}ms"
    if rwnd_limited:
        out += f" rwnd_limited:{rwnd_limited // 1000}ms({100.0 * rwnd_limited / busy:.1f}%)"
    if sndbuf_limited:
        out += f" sndbuf_limited:{sndbuf_limited // 1000}ms({100.0 * sndbuf_limited / busy:.1f}%)"
    return out


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
            out += f" {name}:{value if pattern else signed(value):{pattern}}"
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


def ulp_items(extras: Extras, context: Context) -> str:
    """The upper-layer protocol: its name, then what TLS or an MPTCP subflow tells; nothing where there is none."""
    if extras.ulp is None:
        return ""
    ulp = context.decoders.ulp(extras.ulp)
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
