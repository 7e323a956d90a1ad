"""tcp_info and its kin: field order by a counting pattern, growth by length, the nests of upper-layer protocols."""

import struct

import pytest

from sstrace.errors import DecodeError
from sstrace.wire import tcp_info
from sstrace.wire.netlink import attribute


def test_tcp_info_by_offset() -> None:
    """Offsets are those that the kernel's BTF gives (6.18); every byte its own index."""
    info = tcp_info.decode_tcp_info(bytes(n & 0xFF for n in range(280)))

    def at(offset: int, size: int) -> int:
        return int.from_bytes(bytes(n & 0xFF for n in range(offset, offset + size)), "little")

    assert (info.state, info.ca_state, info.retransmits, info.probes, info.backoff, info.options) == (0, 1, 2, 3, 4, 5)
    assert (info.snd_wscale, info.rcv_wscale) == (6, 0)
    assert (info.delivery_rate_app_limited, info.fastopen_client_fail) == (1, 3)
    for offset, size, name in [
        (8, 4, "rto"),
        (36, 4, "retrans"),
        (44, 4, "last_data_sent"),
        (48, 4, "last_ack_sent"),
        (60, 4, "pmtu"),
        (68, 4, "rtt"),
        (88, 4, "reordering"),
        (100, 4, "total_retrans"),
        (104, 8, "pacing_rate"),
        (120, 8, "bytes_acked"),
        (128, 8, "bytes_received"),
        (148, 4, "min_rtt"),
        (152, 4, "data_segs_in"),
        (160, 8, "delivery_rate"),
        (184, 8, "sndbuf_limited"),
        (196, 4, "delivered_ce"),
        (200, 8, "bytes_sent"),
        (220, 4, "reord_seen"),
        (228, 4, "snd_wnd"),
        (236, 4, "rehash"),
        (240, 2, "total_rto"),
        (244, 4, "total_rto_time"),
        (272, 4, "received_ce_bytes"),
        (278, 2, "accecn_opt_seen"),
    ]:
        assert getattr(info, name) == at(offset, size), name


def test_scales_are_nibbles() -> None:
    info = tcp_info.decode_tcp_info(bytes(6) + b"\x87\x02")
    assert (info.snd_wscale, info.rcv_wscale, info.delivery_rate_app_limited, info.fastopen_client_fail) == (7, 8, 0, 1)


@pytest.mark.parametrize("size", [0, 1, 7, 104, 232, 279, 280, 400])
def test_any_length_is_taken_and_the_rest_is_zero(size: int) -> None:
    info = tcp_info.decode_tcp_info(b"\xff" * size)
    assert info.state == (255 if size else 0)
    assert info.total_retrans == (0xFFFFFFFF if size >= 104 else 0)
    assert info.rcv_wnd == (0xFFFFFFFF if size >= 236 else 0)
    assert info.accecn_opt_seen == (0xFFFF if size >= 280 else 0xFF if size == 279 else 0)


def test_mptcp_info_by_offset() -> None:
    info = tcp_info.decode_mptcp_info(bytes(range(96)))
    assert (info.subflows, info.add_addr_accepted_max, info.flags, info.token) == (0, 5, 0x0B0A0908, 0x0F0E0D0C)
    assert (info.write_seq, info.rcv_nxt) == (0x1716151413121110, 0x2726252423222120)
    assert (info.local_addr_used, info.local_addr_max, info.csum_enabled, info.retransmits) == (40, 41, 42, 0x2F2E2D2C)
    assert (info.bytes_retrans, info.bytes_acked) == (0x3736353433323130, 0x4F4E4D4C4B4A4948)
    assert (info.subflows_total, info.endp_laminar_max, info.last_data_sent) == (80, 81, 0x57565554)
    assert info.last_ack_recv == 0x5F5E5D5C
    assert tcp_info.decode_mptcp_info(b"").last_ack_recv == 0
    assert tcp_info.decode_mptcp_info(b"\x09" * 43).csum_enabled == 9


def test_sctp_info_by_offset() -> None:
    """Offsets as a C compiler gives them for include/uapi/linux/sctp.h."""
    data = bytearray(368)
    for offset, form, value in [
        (0, "I", 11),
        (4, "I", 3),
        (12, "H", 13),
        (18, "H", 14),
        (20, "I", 15),
        (36, "I", 16),
        (48, "I", 17),
        (52, "B", 18),
        (53, "B", 19),
        (344, "I", 20),
        (352, "I", 21),
        (356, "B", 22),
        (359, "B", 23),
        (360, "I", 24),
    ]:
        struct.pack_into("=" + form, data, offset, value)
    info = tcp_info.decode_sctp_info(bytes(data))
    assert (info.tag, info.state, info.unackdata, info.outstrms, info.fragmentation_point) == (11, 3, 13, 14, 15)
    assert (info.max_burst, info.peer_tag, info.peer_capable, info.peer_sack) == (16, 17, 18, 19)
    assert (info.s_autoclose, info.s_pd_point, info.s_nodelay, info.s_frag_interleave, info.s_type) == (
        20,
        21,
        22,
        23,
        24,
    )
    assert tcp_info.decode_sctp_info(b"\1").tag == 1


def test_tls() -> None:
    nest = b"".join(attribute(n, struct.pack("=H", v)) for n, v in [(1, 0x0304), (2, 52), (3, 2), (4, 3)])
    blob = attribute(1, b"tls\0") + attribute(2, nest + attribute(5, b"") + attribute(9, b"?"))
    assert tcp_info.decode_ulp(blob) == tcp_info.Ulp(
        name="tls", tls=tcp_info.Tls(version=0x0304, cipher=52, txconf=2, rxconf=3, zc_ro_tx=True, rx_no_pad=False)
    )


def test_subflow() -> None:
    sizes = {1: 4, 2: 4, 3: 4, 4: 8, 5: 4, 6: 4, 7: 2, 8: 4, 9: 1, 10: 1}
    nest = b"".join(attribute(n, (n * 16 + 1).to_bytes(size, "little")) for n, size in sizes.items())
    ulp = tcp_info.decode_ulp(attribute(1, b"mptcp\0") + attribute(3, nest))
    assert ulp.mptcp == tcp_info.Subflow(
        token_rem=17,
        token_loc=33,
        relwrite_seq=49,
        map_seq=65,
        map_sfseq=81,
        ssn_offset=97,
        map_datalen=113,
        flags=129,
        id_rem=145,
        id_loc=161,
    )
    assert ulp.tls is None


def test_ulp_bare_and_broken() -> None:
    assert tcp_info.decode_ulp(b"") == tcp_info.Ulp()
    assert tcp_info.decode_ulp(attribute(1, b"espintcp")).name == "espintcp"
    for broken in (b"\1", attribute(2, b"abc"), attribute(3, attribute(4, b"short"))):
        with pytest.raises(DecodeError):
            tcp_info.decode_ulp(broken)
