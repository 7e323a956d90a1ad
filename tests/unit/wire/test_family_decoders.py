"""unix, packet, netlink, vsock, xdp and tipc answers built by hand from the UAPI layouts, uneven in every field."""

import struct
from collections.abc import Callable
from typing import Any

import pytest

from sstrace.errors import DecodeError
from sstrace.model import NetlinkSocket, PacketSocket, Table, TipcSocket, UnixSocket, VsockSocket, XdpSocket
from sstrace.wire import netlink_diag, packet_diag, tipc_diag, unix_diag, vsock_diag, xdp_diag
from sstrace.wire.netlink import Batch, attribute

Decode = Callable[[bytes], Batch[Any]]

COOKIE = struct.pack("=II", 0x51525354, 0x61626364)
COOKIE_VALUE = 0x6162636451525354
SKMEM = tuple(range(101, 110))
MEMINFO = struct.pack("=9I", *SKMEM)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def datagram(payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), 20, 2, 5, 6) + payload + b"\0" * (-len(payload) & 3)


def one(decode: Decode, payload: bytes) -> Any:
    (row,) = decode(datagram(payload)).rows
    return row


UNIX = bytes([1, 5, 10, 0]) + u32(0x71727374) + COOKIE


def test_unix_with_everything() -> None:
    payload = (
        UNIX
        + attribute(0, b"/run/a\nb\0")
        + attribute(1, struct.pack("=II", 0x11121314, 0x21222324))
        + attribute(2, u32(0x31323334))
        + attribute(3, struct.pack("=III", 7, 8, 9))
        + attribute(4, struct.pack("=II", 0x41, 0x42))
        + attribute(5, MEMINFO)
        + attribute(6, b"\x02")
        + attribute(7, u32(0x3039))
        + attribute(8, b"unknown")
    )
    assert one(unix_diag.decode, payload) == UnixSocket(
        table=Table.UNIX_SEQPACKET,
        family=1,
        state=10,
        recv_q=0x41,
        send_q=0x42,
        ino=0x71727374,
        cookie=COOKIE_VALUE,
        type=5,
        name=b"/run/a\nb",
        peer_ino=0x31323334,
        shutdown=2,
        vfs=(0x11121314, 0x21222324),
        pending=(7, 8, 9),
        skmem=SKMEM,
        uid=0x3039,
    )


@pytest.mark.parametrize(
    ("kind", "table"),
    [(1, Table.UNIX_STREAM), (2, Table.UNIX_DGRAM), (5, Table.UNIX_SEQPACKET), (9, Table.UNIX_DGRAM)],
)
def test_unix_tables(kind: int, table: Table) -> None:
    assert one(unix_diag.decode, bytes([1, kind, 7, 0]) + bytes(12)).table is table


def test_unix_names() -> None:
    def name(sent: bytes) -> bytes:
        found = one(unix_diag.decode, UNIX + attribute(0, sent)).name
        assert isinstance(found, bytes)
        return found

    assert name(b"\0abs\0tract\0") == b"\0abs\0tract\0"
    assert name(b"/path\0rubbish") == b"/path"
    assert name(b"x" * 108) == b"x" * 108
    assert name(b"") == b""
    bare = one(unix_diag.decode, UNIX)
    assert (bare.name, bare.pending, bare.vfs, bare.shutdown, bare.skmem, bare.uid) == (
        b"",
        None,
        None,
        None,
        None,
        None,
    )
    assert one(unix_diag.decode, UNIX + attribute(3, b"")).pending == ()


def test_packet_with_everything() -> None:
    payload = (
        struct.pack("=BBHI", 17, 3, 0x88CC, 0x71727374)
        + COOKIE
        + attribute(0, struct.pack("=6I", 4, 2, 13, 14, 15, 0x1B))
        + attribute(1, b"multicast list")
        + attribute(2, struct.pack("=7I", *range(21, 28)))
        + attribute(3, struct.pack("=7I", *range(31, 38)))
        + attribute(4, u32(0x20003))
        + attribute(5, u32(0x3039))
        + attribute(6, MEMINFO)
        + attribute(7, struct.pack("=HBBIHBBI", 0x28, 1, 2, 12, 0x6, 0, 0, 0xFFFF))
    )
    assert one(packet_diag.decode, payload) == PacketSocket(
        table=Table.PACKET_RAW,
        family=17,
        state=7,
        recv_q=101,
        ino=0x71727374,
        cookie=COOKIE_VALUE,
        type=3,
        protocol=0x88CC,
        ifindex=4,
        uid=0x3039,
        info=(4, 2, 13, 14, 15, 0x1B),
        rx_ring=tuple(range(21, 28)),
        tx_ring=tuple(range(31, 38)),
        fanout=0x20003,
        skmem=SKMEM,
        bpf=((0x28, 1, 2, 12), (0x6, 0, 0, 0xFFFF)),
    )


def test_packet_bare_and_with_an_empty_filter() -> None:
    bare = one(packet_diag.decode, struct.pack("=BBHI", 17, 2, 0x0800, 1) + COOKIE)
    assert (bare.table, bare.skmem, bare.info, bare.bpf, bare.recv_q) == (Table.PACKET_DGRAM, None, None, None, 0)
    assert one(packet_diag.decode, struct.pack("=BBHI", 17, 2, 0, 1) + COOKIE + attribute(7, b"")).bpf == ()


def test_netlink_with_everything() -> None:
    payload = (
        struct.pack("=BBBBiIII", 16, 3, 21, 1, -95812341, 0x31323334, 0x16, 0x71727374)
        + COOKIE
        + attribute(0, MEMINFO)
        + attribute(1, struct.pack("=II", 0x80000041, 0xFFFF))
        + attribute(4, u32(3))
    )
    assert one(netlink_diag.decode, payload) == NetlinkSocket(
        table=Table.NETLINK,
        family=16,
        state=7,
        recv_q=101,
        send_q=103,
        ino=0x71727374,
        cookie=COOKIE_VALUE,
        protocol=21,
        portid=-95812341,
        dst_portid=0x31323334,
        dst_group=0x16,
        connected=True,
        groups=0x80000041,
        skmem=SKMEM,
    )


def test_netlink_bare() -> None:
    bare = one(netlink_diag.decode, struct.pack("=BBBBiIII", 16, 3, 0, 0, 0, 0, 0, 1) + COOKIE + attribute(1, b""))
    assert (bare.connected, bare.groups, bare.skmem, bare.recv_q) == (False, 0, None, 0)


def test_vsock() -> None:
    payload = bytes([40, 1, 10, 3]) + struct.pack("=5I", 2, 0x1112, 0xFFFFFFFF, 0x2122, 0x71727374) + COOKIE
    assert one(vsock_diag.decode, payload) == VsockSocket(
        table=Table.VSOCK_STREAM,
        family=40,
        state=10,
        ino=0x71727374,
        cookie=COOKIE_VALUE,
        type=1,
        src_cid=2,
        sport=0x1112,
        dst_cid=0xFFFFFFFF,
        dport=0x2122,
        shutdown=3,
    )
    assert one(vsock_diag.decode, bytes([40, 2, 7, 0]) + bytes(28)).table is Table.VSOCK_DGRAM


def test_xdp_with_everything() -> None:
    payload = (
        struct.pack("=BBHI", 44, 3, 0, 0x71727374)
        + COOKIE
        + attribute(1, struct.pack("=II", 4, 6))
        + attribute(2, u32(0x3039))
        + attribute(3, u32(2048))
        + attribute(4, u32(1024))
        + attribute(5, struct.pack("=Q8I", 1 << 33, *range(41, 49)))
        + attribute(6, u32(512))
        + attribute(7, u32(256))
        + attribute(8, MEMINFO)
        + attribute(9, struct.pack("=6Q", *(1 << 40 | n for n in range(6))))
    )
    assert one(xdp_diag.decode, payload) == XdpSocket(
        table=Table.XDP,
        family=44,
        state=7,
        recv_q=101,
        ino=0x71727374,
        cookie=COOKIE_VALUE,
        ifindex=4,
        queue_id=6,
        uid=0x3039,
        rx_entries=2048,
        tx_entries=1024,
        umem=(1 << 33, *range(41, 49)),
        fill_entries=512,
        completion_entries=256,
        skmem=SKMEM,
        stats=tuple(1 << 40 | n for n in range(6)),
    )


def test_xdp_bare() -> None:
    bare = one(xdp_diag.decode, struct.pack("=BBHI", 44, 3, 0, 1) + COOKIE)
    assert (bare.rx_entries, bare.umem, bare.stats, bare.skmem, bare.ifindex) == (None, None, None, None, 0)


def tipc(*more: bytes, stat: bytes = b"") -> bytes:
    nest = (
        attribute(1, u32(0x1001001))
        + attribute(2, u32(0xDEAD))
        + attribute(5, attribute(0, u32(31)) + attribute(1, u32(32)) + attribute(4, u32(35)) + stat)
        + attribute(6, u32(5))
        + attribute(7, u32(0x71727374))
        + attribute(8, u32(0x3039))
        + attribute(9, u32(10))
        + attribute(10, COOKIE)
        + b"".join(more)
    )
    return attribute(2, nest)


TIPC = TipcSocket(
    table=Table.TIPC,
    family=30,
    state=10,
    recv_q=31,
    send_q=32,
    ino=0x71727374,
    cookie=COOKIE_VALUE,
    type=5,
    node=0x1001001,
    ref=0xDEAD,
    uid=0x3039,
    tipc_state=10,
    drops=35,
)


def test_tipc_listener() -> None:
    assert one(tipc_diag.decode, tipc()) == TIPC


def test_tipc_connected_published_and_congested() -> None:
    connection = attribute(1, b"") + b"".join(attribute(n, u32(n * 11)) for n in range(2, 6))
    row = one(tipc_diag.decode, tipc(attribute(3, connection), attribute(4, b""), stat=attribute(3, b"")))
    assert (row.peer_node, row.peer_ref, row.via, row.published, row.congestion) == (22, 33, (44, 55), True, 2)
    row = one(tipc_diag.decode, tipc(attribute(3, attribute(2, u32(9))), stat=attribute(2, b"")))
    assert (row.peer_node, row.peer_ref, row.via, row.published, row.congestion) == (9, 0, None, False, 1)


def test_tipc_message_without_a_socket_is_no_row() -> None:
    assert tipc_diag.decode(datagram(attribute(1, b"bearer"))).rows == []


FIXED: list[tuple[Decode, int]] = [
    (unix_diag.decode, 16),
    (packet_diag.decode, 16),
    (netlink_diag.decode, 28),
    (vsock_diag.decode, 32),
    (xdp_diag.decode, 16),
]


@pytest.mark.parametrize(("decode", "size"), FIXED)
def test_short_messages_are_errors(decode: Decode, size: int) -> None:
    for short in (0, 1, size - 1):
        with pytest.raises(DecodeError, match=f"message is {short} bytes long, {size} are the least"):
            decode(datagram(bytes(short)))
    assert len(decode(datagram(bytes(size))).rows) == 1


@pytest.mark.parametrize(
    ("decode", "size", "numbers"),
    [
        (unix_diag.decode, 16, {1: 8, 2: 4, 4: 8, 5: 28, 6: 1, 7: 4}),
        (packet_diag.decode, 16, {0: 24, 2: 28, 3: 28, 4: 4, 5: 4, 6: 28}),
        (netlink_diag.decode, 28, {0: 28}),
        (xdp_diag.decode, 16, {1: 8, 2: 4, 3: 4, 4: 4, 5: 40, 6: 4, 7: 4, 8: 28, 9: 48}),
    ],
)
def test_short_attributes_are_errors(decode: Decode, size: int, numbers: dict[int, int]) -> None:
    for number, least in numbers.items():
        with pytest.raises(DecodeError, match=f"{least} are the least"):
            decode(datagram(bytes(size) + attribute(number, bytes(least - 1))))
