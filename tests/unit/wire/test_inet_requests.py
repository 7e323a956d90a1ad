"""inet_diag requests: the bytes that ss 6.1 was seen to send (strace), and the exact and destroying ones."""

import struct
from typing import Any

import pytest

from sstrace.errors import DecodeError
from sstrace.model import ALL_STATES, Extras, InetSocket, Table
from sstrace.wire import inet_diag, netlink, netlink_diag, packet_diag, tipc_diag, unix_diag, vsock_diag, xdp_diag

ALL_61 = 0xFFF  # the states ss 6.1 knows


def header(length: int) -> bytes:
    return struct.pack("=IHHII", length, 20, 0x301, 123456, 0)


def test_tcp_dump_with_everything_ss_asks_for() -> None:
    ext = inet_diag.extensions(memory=True, info=True, tos=True)
    assert ext == 0b1111111
    built = inet_diag.dump_request(Table.TCP, 2, ALL_61, ext=ext)
    assert built == header(72) + bytes([2, 6, 0x7F, 0]) + struct.pack("=I", 0xFFF) + bytes(48)


def test_extensions_one_by_one() -> None:
    assert inet_diag.extensions() == 0
    assert inet_diag.extensions(memory=True) == 0b1000001
    assert inet_diag.extensions(info=True) == 0b0001110
    assert inet_diag.extensions(tos=True) == 0b0110000


def test_mptcp_names_its_protocol_in_an_attribute() -> None:
    built = inet_diag.dump_request(Table.MPTCP, 10, ALL_61)
    assert built[16:18] == bytes([10, 6])
    assert built[72:] == b"\x08\0\x03\0\x06\x01\0\0"
    assert len(built) == int.from_bytes(built[:4], "little") == 80


def test_bytecode_goes_into_an_attribute_of_its_own() -> None:
    built = inet_diag.dump_request(Table.UDP, 2, 1 << 1, bytecode=b"0123456789abcdef")
    assert built[17] == 17
    assert built[72:] == b"\x14\0\x01\0" + b"0123456789abcdef"
    assert struct.unpack_from("=I", built)[0] == 92


def test_storage_maps_nest_file_descriptors() -> None:
    assert inet_diag.dump_request(Table.TCP, 2, 2, storage_maps=[])[72:] == b"\x04\0\x02\0"
    built = inet_diag.dump_request(Table.TCP, 2, 2, storage_maps=[5])
    assert built[72:] == b"\x0c\0\x02\0" + b"\x08\0\x01\0\x05\0\0\0"


def test_legacy_request() -> None:
    built = inet_diag.legacy_request(Table.TCP, ALL_61, ext=3)
    assert struct.unpack("=IHHII", built[:16]) == (76, 18, 0x301, 123456, 0)
    assert built[16:] == bytes([2, 0, 0, 3]) + bytes(48) + struct.pack("=II", 0xFFF, 0)
    assert inet_diag.legacy_request(Table.DCCP, 1)[4] == 19


def socket(table: Table = Table.TCP, **more: Any) -> InetSocket:
    return InetSocket(
        table=table,
        family=2,
        state=1,
        src=b"\x7f\x01\x02\x03",
        sport=0x1234,
        dst=b"\x7f\x04\x05\x06",
        dport=0x5678,
        ifindex=9,
        **{"cookie": 0x1122334455667788, **more},
    )


def test_exact_request_names_one_socket() -> None:
    built = inet_diag.exact_request(socket(), ext=4)
    kind, flags = struct.unpack_from("=HH", built, 4)
    assert (kind, flags) == (20, 1)
    assert built[16:24] == bytes([2, 6, 4, 0]) + struct.pack("=I", 1 << 1)
    assert built[24:28] == b"\x12\x34\x56\x78"
    assert built[28:44] == b"\x7f\x01\x02\x03" + bytes(12)
    assert built[44:60] == b"\x7f\x04\x05\x06" + bytes(12)
    assert struct.unpack_from("=III", built, 60) == (9, 0x55667788, 0x11223344)
    assert len(built) == 72


def test_exact_request_without_cookie_means_any() -> None:
    assert inet_diag.exact_request(socket(cookie=0))[64:72] == b"\xff" * 8


def test_exact_request_for_mptcp_has_the_protocol() -> None:
    assert inet_diag.exact_request(socket(Table.MPTCP))[72:] == b"\x08\0\x03\0\x06\x01\0\0"


def test_destroy_request_wants_an_acknowledgement() -> None:
    built = inet_diag.destroy_request(socket())
    assert struct.unpack_from("=HH", built, 4) == (21, 5)
    assert built[24:72] == inet_diag.exact_request(socket())[24:72]


def test_raw_sockets_say_their_protocol_where_others_pad() -> None:
    raw = socket(Table.RAW)
    raw.sport = 58
    assert inet_diag.destroy_request(raw)[16:20] == bytes([2, 255, 0, 58])


def test_the_other_families_ask_as_ss_does() -> None:
    states = struct.pack("=I", 0xFFF)
    assert netlink_diag.dump_request() == header(36) + b"\x10\xff\0\0" + bytes(4) + b"\x03\0\0\0" + bytes(8)
    assert packet_diag.dump_request() == header(36) + b"\x11\0\0\0" + bytes(4) + b"\x3d\0\0\0" + bytes(8)
    show = unix_diag.show(extended=True, memory=True)
    assert unix_diag.dump_request(ALL_61, show) == header(40) + b"\x01\0\0\0" + states + bytes(
        4
    ) + b"\x3f\0\0\0" + bytes(8)
    assert vsock_diag.dump_request(ALL_61) == header(40) + b"\x28\0\0\0" + states + bytes(16)
    assert tipc_diag.dump_request(ALL_61) == header(24) + b"\x1e\0\0\0" + states
    assert xdp_diag.dump_request() == header(36) + b"\x2c\0\0\0" + bytes(4) + b"\x1f\0\0\0" + bytes(8)
    assert unix_diag.show() == 0x15
    assert (
        unix_diag.exact_request(77, show)[16:40]
        == b"\x01\0\0\0\xff\xff\xff\xff" + b"\x4d\0\0\0\x3f\0\0\0" + b"\xff" * 8
    )
    assert struct.unpack_from("=HH", unix_diag.exact_request(77, show), 4) == (20, netlink.NLM_F_REQUEST)


def fixed(family: int = 2, state: int = 10) -> bytes:
    """An inet_diag_msg in which every field has a value of its own."""
    return (
        bytes([family, state, 1, 2])
        + b"\x12\x34\x56\x78"
        + bytes(range(0x10, 0x20))
        + bytes(range(0x30, 0x40))
        + struct.pack("=III", 0x41424344, 0x51525354, 0x61626364)
        + struct.pack("=IIIII", 0x71727374, 0x81828384, 0x91929394, 0xA1A2A3A4, 0xB1B2B3B4)
    )


def datagram(payload: bytes, kind: int = 20, flags: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 5, 6) + payload + b"\0" * (-len(payload) & 3)


def test_every_fixed_field_lands_in_its_place() -> None:
    (row,) = inet_diag.decode(datagram(fixed()), Table.TCP).rows
    assert row == InetSocket(
        table=Table.TCP,
        family=2,
        state=10,
        timer=1,
        retrans=2,
        sport=0x1234,
        dport=0x5678,
        src=bytes(range(0x10, 0x14)),
        dst=bytes(range(0x30, 0x34)),
        ifindex=0x41424344,
        cookie=0x6162636451525354,
        expires_ms=0x71727374,
        recv_q=0x81828384,
        send_q=0x91929394,
        uid=0xA1A2A3A4,
        ino=0xB1B2B3B4,
    )
    (six,) = inet_diag.decode(datagram(fixed(10)), Table.UDP).rows
    assert (six.table, six.src, six.dst) == (Table.UDP, bytes(range(0x10, 0x20)), bytes(range(0x30, 0x40)))
    assert (six.sport, six.cookie, six.ino) == (row.sport, row.cookie, row.ino)


ATTRIBUTES = {
    1: (struct.pack("=4I", 11, 12, 13, 14), {"meminfo": (11, 12, 13, 14)}),
    2: (b"tcp_info", {"info": b"tcp_info"}),
    3: (struct.pack("=4I", 1, 22, 23, 24), {"vegas": (1, 22, 23, 24)}),
    4: (b"cubic\0", {"congestion": "cubic"}),
    5: (b"\x68", {"tos": 0x68}),
    6: (b"\x24", {"tclass": 0x24}),
    7: (struct.pack("=9I", *range(31, 40)), {"skmem": tuple(range(31, 40))}),
    8: (b"\x02", {"shutdown": 2}),
    9: (struct.pack("=HHIII", 1, 2, 43, 44, 45), {"dctcp": (1, 2, 43, 44, 45)}),
    10: (b"\x3a", {"protocol": 58}),
    11: (b"\x01", {"v6only": True}),
    12: (struct.pack("=H2x4s120x", 2, b"\1\2\3\4"), {"locals": ((2, b"\1\2\3\4"),)}),
    13: (struct.pack("=H6x16s104x", 10, bytes(range(16))), {"peers": ((10, bytes(range(16))),)}),
    15: (struct.pack("=I", 0x2A0B), {"mark": 0x2A0B}),
    16: (struct.pack("=5I", 0x51525354, 7, 52, 53, 54), {"bbr": (0x751525354, 52, 53, 54)}),
    17: (struct.pack("=I", 0x10002), {"class_id": 0x10002}),
    18: (
        struct.pack("=BBH16s80s", 2, 24, 3, b"\x0a\x01\x02\x00", b"key") * 2,
        {"md5": ((2, 24, b"\x0a\x01\x02\x00", b"key"),) * 2},
    ),
    19: (b"\x08\0\x01\0tls\0", {"ulp": b"\x08\0\x01\0tls\0"}),
    20: (b"\x04\0\x01\0", {"storage": b"\x04\0\x01\0"}),
    21: (struct.pack("=Q", 0x123456789A), {"cgroup_id": 0x123456789A}),
    22: (b"\x52\x04", {"sockopt": 0x0452}),
}


@pytest.mark.parametrize("number", ATTRIBUTES)
def test_each_attribute_fills_its_field_and_no_other(number: int) -> None:
    payload, expected = ATTRIBUTES[number]
    blob = netlink.attribute(number, payload)
    (row,) = inet_diag.decode(datagram(fixed() + blob), Table.TCP).rows
    assert row.extras == Extras(**expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(("number", "least"), [(1, 16), (3, 16), (5, 1), (7, 28), (8, 1), (9, 16), (11, 1), (15, 4),
                                               (16, 20), (17, 4), (21, 8), (22, 2)])  # fmt: skip
def test_an_attribute_too_short_for_its_type_is_an_error(number: int, least: int) -> None:
    blob = netlink.attribute(number, bytes(least - 1))
    with pytest.raises(DecodeError, match=f"{least - 1} bytes long, {least} are the least"):
        inet_diag.decode(datagram(fixed() + blob), Table.TCP)


def test_unknown_attributes_are_passed_over() -> None:
    blob = netlink.attribute(23, b"new") + netlink.attribute(8, b"\1")
    (row,) = inet_diag.decode(datagram(fixed() + blob), Table.TCP).rows
    assert row.extras == Extras(shutdown=1)


def test_without_extras_only_ipv6_rows_have_any() -> None:
    blob = netlink.attribute(11, b"\1")
    data = datagram(fixed(2) + blob) + datagram(fixed(10) + blob)
    four, six = inet_diag.decode(data, Table.TCP, extras=False).rows
    assert four.extras is None
    assert six.extras == Extras(v6only=True)


def test_identical_attributes_share_one_object() -> None:
    data = datagram(fixed() + netlink.attribute(15, b"\1\2\3\4"))
    one, other = inet_diag.decode(data * 2, Table.TCP).rows
    assert one.extras is other.extras


def test_a_row_shorter_than_the_fixed_part_is_an_error() -> None:
    for size in (0, 1, 71):
        with pytest.raises(DecodeError, match="72 are the least"):
            inet_diag.decode(datagram(fixed()[:size]), Table.TCP)
        with pytest.raises(DecodeError, match="72 are the least"):
            inet_diag.decode(datagram(fixed()[:size]) + datagram(fixed()), Table.TCP)


def test_short_messages_between_rows_are_understood() -> None:
    data = datagram(b"", kind=1) + datagram(fixed()) + datagram(b"", kind=1, flags=0x10) + datagram(fixed(10), kind=18)
    batch = inet_diag.decode(data + datagram(struct.pack("=i", -13), kind=3) + datagram(fixed()), Table.TCP)
    assert [row.family for row in batch.rows] == [2, 10]
    assert (batch.done, batch.error, batch.interrupted) == (True, 13, True)


def test_an_interrupted_row_is_told() -> None:
    assert inet_diag.decode(datagram(fixed(), flags=0x12), Table.TCP).interrupted


def test_unknown_message_type_is_an_error() -> None:
    for payload in (b"", fixed()):
        with pytest.raises(DecodeError, match="type 21"):
            inet_diag.decode(datagram(payload, kind=21), Table.TCP)


def test_destroy_events_get_their_table_from_the_protocol() -> None:
    def event(protocol: int) -> bytes:
        return datagram(fixed() + netlink.attribute(10, bytes([protocol])))

    batch = inet_diag.decode_event(event(17) + event(6) + event(132) + datagram(fixed()))
    assert [row.table for row in batch.rows] == [Table.UDP, Table.TCP, Table.SCTP, Table.TCP]


def test_storage_nests() -> None:
    def nest(map_id: int, value: bytes) -> bytes:
        inner = netlink.attribute(2, struct.pack("=I", map_id)) + netlink.attribute(3, value)
        return netlink.attribute(1, inner)

    blob = nest(5, b"abc") + nest(6, b"defgh") + netlink.attribute(2, b"stray") + netlink.attribute(1, b"")
    assert inet_diag.decode_storage(blob) == [(5, b"abc"), (6, b"defgh")]
    with pytest.raises(DecodeError, match="map id"):
        inet_diag.decode_storage(netlink.attribute(1, netlink.attribute(2, b"ab") + netlink.attribute(3, b"")))


def test_all_states_fit_the_request() -> None:
    assert inet_diag.dump_request(Table.TCP, 2, ALL_STATES)[20:24] == struct.pack("=I", 0x3FFF)
