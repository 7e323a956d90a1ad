"""The structs that a protocol tells of itself: tcp_info, mptcp_info, sctp_info, and the nest of upper-layer protocols
(TLS, MPTCP).

They grow at their end from kernel to kernel, so each is decoded by the length that came: what an older kernel did not
send is 0, what a newer one adds is not looked at. Field names are the kernel's without their ``tcpi_``, ``mptcpi_``
and ``sctpi_``.

Layouts: include/uapi/linux/tcp.h, mptcp.h and sctp.h (Linux 6.18); checked against a kernel's BTF by the tests.
"""

import struct
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from sstrace.wire.netlink import attributes, need

__all__ = [
    "InfoColumns",
    "MptcpInfo",
    "SctpInfo",
    "Subflow",
    "TcpInfo",
    "Tls",
    "Ulp",
    "decode_mptcp_info",
    "decode_sctp_info",
    "decode_tcp_info",
    "decode_ulp",
    "info_columns",
    "unpack_tcp_info",
]

_LITTLE = sys.byteorder == "little"


class TcpInfo(msgspec.Struct, gc=False):
    """struct tcp_info. Times are microseconds except the three ``last_…`` (milliseconds); rates are bytes a second."""

    state: int
    ca_state: int
    retransmits: int
    probes: int
    backoff: int
    options: int
    """TCPI_OPT_*: 1 timestamps, 2 SACK, 4 window scaling, 8 ECN, 16 ECN seen, 32 data in SYN, 64 microsecond
    timestamps.
    """
    snd_wscale: int
    rcv_wscale: int
    delivery_rate_app_limited: int
    fastopen_client_fail: int
    rto: int
    ato: int
    snd_mss: int
    rcv_mss: int
    unacked: int
    """Of a listener: connections that wait for accept."""
    sacked: int
    """Of a listener: its backlog."""
    lost: int
    retrans: int
    fackets: int
    last_data_sent: int
    last_ack_sent: int
    last_data_recv: int
    last_ack_recv: int
    pmtu: int
    rcv_ssthresh: int
    rtt: int
    rttvar: int
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    reordering: int
    rcv_rtt: int
    rcv_space: int
    total_retrans: int
    pacing_rate: int
    max_pacing_rate: int
    bytes_acked: int
    bytes_received: int
    segs_out: int
    segs_in: int
    notsent_bytes: int
    min_rtt: int
    data_segs_in: int
    data_segs_out: int
    delivery_rate: int
    busy_time: int
    rwnd_limited: int
    sndbuf_limited: int
    delivered: int
    delivered_ce: int
    bytes_sent: int
    bytes_retrans: int
    dsack_dups: int
    reord_seen: int
    rcv_ooopack: int
    snd_wnd: int
    rcv_wnd: int
    rehash: int
    total_rto: int
    total_rto_recoveries: int
    total_rto_time: int
    received_ce: int
    delivered_e1_bytes: int
    delivered_e0_bytes: int
    delivered_ce_bytes: int
    received_e1_bytes: int
    received_e0_bytes: int
    received_ce_bytes: int
    accecn_fail_mode: int
    accecn_opt_seen: int


# Six u8, two bytes of bit-fields, then naturally aligned without a hole: 280 bytes in Linux 6.18.
_TCP_INFO = struct.Struct("=6BBB24I4Q6I4Q2I2Q6I2HI7I2H")


def decode_tcp_info(blob: bytes) -> TcpInfo:
    """Any length is taken: see the module's docstring."""
    if len(blob) < _TCP_INFO.size:
        blob = blob.ljust(_TCP_INFO.size, b"\0")
    a, b, c, d, e, f, scales, flags, *rest = _TCP_INFO.unpack_from(blob)
    if _LITTLE:
        return TcpInfo(a, b, c, d, e, f, scales & 15, scales >> 4, flags & 1, flags >> 1 & 3, *rest)
    # Bit-fields fill from the other end.
    return TcpInfo(a, b, c, d, e, f, scales >> 4, scales & 15, flags >> 7, flags >> 5 & 3, *rest)


def unpack_tcp_info(blob: bytes) -> tuple[int, ...]:
    """The fields of ``TcpInfo`` as a bare tuple, for who prints thousands. The bit-fields come as the two bytes that
    they are: window scales, sender's in the low half, then the flags, delivery_rate_app_limited in bit 0.
    """
    if len(blob) < _TCP_INFO.size:
        blob = blob.ljust(_TCP_INFO.size, b"\0")
    fields = _TCP_INFO.unpack_from(blob)
    if _LITTLE:
        return fields
    scales, flags = fields[6], fields[7]
    return (*fields[:6], (scales & 15) << 4 | scales >> 4, flags >> 7 | (flags >> 5 & 3) << 1, *fields[8:])


class InfoColumns(msgspec.Struct):
    """tcp_info of many rows by column, in the order of ``unpack_tcp_info``."""

    constants: tuple[int | None, ...]
    """Each field's value where all rows have the same; None where they (may) differ: then it has a column."""
    columns: Sequence[Sequence[int]]
    """The columns of the other fields, in order."""


def info_columns(blobs: Sequence[bytes]) -> InfoColumns:
    """Structs of one length, at least one. A hundred thousand sockets differ in a dozen fields; only these are made
    into numbers.

    Which fields differ is learnt from call to call, and not forgotten: whoever keeps something for each set of
    ``constants`` keeps a few dozen of them at most.
    """
    size = len(blobs[0])
    shape = _shapes.get(size)
    if shape is None:
        shape = _shapes[size] = _Shape(size, blobs[0])
    return shape.columns(blobs)


_CODES = "BBBBBBBBIIIIIIIIIIIIIIIIIIIIIIIIQQQQIIIIIIQQQQIIQQIIIIIIHHIIIIIIIIHH"
"""``_TCP_INFO`` field by field."""


class _Shape:
    """What has been learnt of the structs of one length: ``constants``, and a struct that unpacks the other fields as
    numbers and the runs of constant ones between them as bytes, to be compared with what they were.
    """

    def __init__(self, size: int, first: bytes) -> None:
        self._padded = size < _TCP_INFO.size
        """A field may be cut in the middle, so zeros follow."""
        self._tail = max(0, size - _TCP_INFO.size)
        self._whole = struct.Struct(f"{_TCP_INFO.format}{self._tail}x")
        fields = unpack_tcp_info(first)
        self._learn(fields, frozenset())

    def _learn(self, constants: Sequence[int | None], differ: frozenset[int]) -> None:
        self._differ = differ
        self._constants = tuple(None if index in differ else value for index, value in enumerate(constants))
        codes = ["="]
        self._runs: list[tuple[int, bytes]] = []
        """Constant runs: place among what the struct unpacks, and their bytes."""
        self._places: list[int] = []
        """Places of the numbers."""
        place = 0
        run = b""
        for index, code in enumerate(_CODES):
            value = self._constants[index]
            if value is not None:
                run += struct.pack(f"={code}", value)
                continue
            if run:
                codes.append(f"{len(run)}s")
                self._runs.append((place, run))
                place, run = place + 1, b""
            codes.append(code)
            self._places.append(place)
            place += 1
        if run:
            codes.append(f"{len(run)}s")
            self._runs.append((place, run))
        self._struct = struct.Struct("".join(codes) + f"{self._tail}x")

    def columns(self, blobs: Sequence[bytes]) -> InfoColumns:
        count = len(blobs)
        data = b"".join([blob.ljust(_TCP_INFO.size, b"\0") for blob in blobs] if self._padded else blobs)
        if _LITTLE:
            fields = list(zip(*self._struct.iter_unpack(data), strict=True))
            if all(fields[place].count(run) == count for place, run in self._runs):
                return InfoColumns(self._constants, [fields[place] for place in self._places])
            fields = list(zip(*self._whole.iter_unpack(data), strict=True))
        else:
            fields = list(zip(*map(unpack_tcp_info, blobs), strict=True))
        known = self._constants
        news = {index for index, value in enumerate(known) if value is not None and fields[index].count(value) != count}
        self._learn(known, self._differ | news)
        return InfoColumns(self._constants, [fields[index] for index in sorted(self._differ)])


_shapes: dict[int, _Shape] = {}


class MptcpInfo(msgspec.Struct, gc=False):
    """struct mptcp_info; the times are milliseconds since."""

    subflows: int
    add_addr_signal: int
    add_addr_accepted: int
    subflows_max: int
    add_addr_signal_max: int
    add_addr_accepted_max: int
    flags: int
    """1: fell back to TCP, 2: the remote key is known."""
    token: int
    write_seq: int
    snd_una: int
    rcv_nxt: int
    local_addr_used: int
    local_addr_max: int
    csum_enabled: int
    retransmits: int
    bytes_retrans: int
    bytes_sent: int
    bytes_received: int
    bytes_acked: int
    subflows_total: int
    endp_laminar_max: int
    last_data_sent: int
    last_data_recv: int
    last_ack_recv: int


_MPTCP_INFO = struct.Struct("=6B2x2I3Q3BxI4Q2B2x3I")


def decode_mptcp_info(blob: bytes) -> MptcpInfo:
    """Any length is taken: see the module's docstring."""
    if len(blob) < _MPTCP_INFO.size:
        blob = blob.ljust(_MPTCP_INFO.size, b"\0")
    return MptcpInfo(*_MPTCP_INFO.unpack_from(blob))


class SctpInfo(msgspec.Struct, gc=False):
    """struct sctp_info without its packet counters and its primary path."""

    tag: int
    state: int
    rwnd: int
    unackdata: int
    penddata: int
    instrms: int
    outstrms: int
    fragmentation_point: int
    inqueue: int
    outqueue: int
    overall_error: int
    max_burst: int
    maxseg: int
    peer_rwnd: int
    peer_tag: int
    peer_capable: int
    peer_sack: int
    s_autoclose: int
    s_adaptation_ind: int
    s_pd_point: int
    s_nodelay: int
    s_disable_fragments: int
    s_v4mapped: int
    s_frag_interleave: int
    s_type: int


# After peer_sack: two reserved bytes, 14 counters, the primary path's address and values (288 bytes in all).
_SCTP_INFO = struct.Struct("=3I4H8IBB2x112x128x48x3I4BI4x")


def decode_sctp_info(blob: bytes) -> SctpInfo:
    """Any length is taken: see the module's docstring."""
    if len(blob) < _SCTP_INFO.size:
        blob = blob.ljust(_SCTP_INFO.size, b"\0")
    return SctpInfo(*_SCTP_INFO.unpack_from(blob))


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """What a kernel TLS socket says, include/uapi/linux/tls.h (TLS_INFO_*); ``None`` where it said nothing."""

    version: int | None = None
    """0x0303 is TLS 1.2, 0x0304 TLS 1.3."""
    cipher: int | None = None
    """TLS_CIPHER_*: 51 aes-gcm-128, 52 aes-gcm-256, …"""
    txconf: int | None = None
    """TLS_CONF_*: 1 none, 2 software, 3 hardware, 4 hardware records."""
    rxconf: int | None = None
    zc_ro_tx: bool = False
    rx_no_pad: bool = False


class Subflow(msgspec.Struct, frozen=True, kw_only=True):
    """What a TCP socket that carries MPTCP says, include/uapi/linux/mptcp.h (MPTCP_SUBFLOW_ATTR_*); ``None``: not
    said.
    """

    token_rem: int | None = None
    token_loc: int | None = None
    relwrite_seq: int | None = None
    map_seq: int | None = None
    map_sfseq: int | None = None
    ssn_offset: int | None = None
    map_datalen: int | None = None
    flags: int | None = None
    """MPTCP_SUBFLOW_FLAG_*: 1 mcap_rem, 2 mcap_loc, 4 join_rem, 8 join_loc, 16 bkup_rem, 32 bkup_loc, 64 fully
    established, 128 connected, 256 mapvalid."""
    id_rem: int | None = None
    id_loc: int | None = None


class Ulp(msgspec.Struct, frozen=True, kw_only=True):
    """The INET_DIAG_ULP_INFO nest."""

    name: str | None = None
    tls: Tls | None = None
    mptcp: Subflow | None = None


# Attribute number → (field, size of the number); size 0 is a flag.
_TLS = {
    1: ("version", 2),
    2: ("cipher", 2),
    3: ("txconf", 2),
    4: ("rxconf", 2),
    5: ("zc_ro_tx", 0),
    6: ("rx_no_pad", 0),
}
_SUBFLOW = {
    1: ("token_rem", 4),
    2: ("token_loc", 4),
    3: ("relwrite_seq", 4),
    4: ("map_seq", 8),
    5: ("map_sfseq", 4),
    6: ("ssn_offset", 4),
    7: ("map_datalen", 2),
    8: ("flags", 4),
    9: ("id_rem", 1),
    10: ("id_loc", 1),
}


def decode_ulp(blob: bytes) -> Ulp:
    """``Extras.ulp`` decoded. Raises DecodeError."""
    found = attributes(blob)
    name = found.get(1)  # INET_ULP_INFO_NAME
    return Ulp(
        name=None if name is None else name.split(b"\0", 1)[0].decode("latin-1"),
        tls=Tls(**_numbers(found[2], _TLS)) if 2 in found else None,  # INET_ULP_INFO_TLS
        mptcp=Subflow(**_numbers(found[3], _SUBFLOW)) if 3 in found else None,  # INET_ULP_INFO_MPTCP
    )


def _numbers(nest: bytes, layout: dict[int, tuple[str, int]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for number, payload in attributes(nest).items():
        if number in layout:
            field, size = layout[number]
            need(payload, size, "ulp_info", field)
            values[field] = int.from_bytes(payload[:size], sys.byteorder) if size else True
    return values
