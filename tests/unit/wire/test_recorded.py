"""Answers of a real kernel (6.18), recorded by scripts/record-diag, decoded to what that script had set up."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.model import InetSocket, State, Table
from sstrace.wire import inet_diag, netlink, netlink_diag, packet_diag, tcp_info, unix_diag
from sstrace.wire.netlink import Batch

DATA = Path(__file__).parents[2] / "data"


def inet(table: Table) -> Callable[[bytes], Batch[InetSocket]]:
    return lambda data: inet_diag.decode(data, table)


DECODERS: dict[str, Callable[[bytes], Batch[Any]]] = {
    "tcp4": inet(Table.TCP),
    "tcp4-plain": inet(Table.TCP),
    "tcp6": inet(Table.TCP),
    "tcp6-plain": inet(Table.TCP),
    "udp4": inet(Table.UDP),
    "udp6": inet(Table.UDP),
    "mptcp": inet(Table.MPTCP),
    "mptcp-subflows": inet(Table.TCP),
    "unix": unix_diag.decode,
    "packet": packet_diag.decode,
    "netlink": netlink_diag.decode,
}


def read(name: str) -> bytes:
    return (DATA / f"{name}.diag").read_bytes()


def rows(name: str) -> list[Any]:
    batch = DECODERS[name](read(name))
    assert (batch.done, batch.error, batch.interrupted) == (True, 0, False)
    return batch.rows


def find(recording: str, /, **wanted: object) -> Any:
    (row,) = [row for row in rows(recording) if all(getattr(row, field) == value for field, value in wanted.items())]
    return row


def test_tcp_listener_with_connections_waiting() -> None:
    row = find("tcp4", sport=0x1234, state=State.LISTEN)
    assert (row.src, row.dst, row.dport, row.recv_q, row.send_q) == (b"\x7f\1\2\3", bytes(4), 0, 2, 7)
    info = tcp_info.decode_tcp_info(row.extras.info)
    assert (info.state, info.unacked, info.sacked) == (State.LISTEN, 2, 7)


def test_tcp_client_with_every_option() -> None:
    row = find("tcp4", sport=0x5678)
    assert (row.state, row.dst, row.dport, row.uid, row.ifindex) == (
        State.ESTABLISHED,
        b"\x7f\1\2\3",
        0x1234,
        0x3039,
        0,
    )
    extras = row.extras
    assert (extras.mark, extras.tos, extras.class_id, extras.congestion) == (0x2A0B, 0x68, 5, "bbr")
    assert (extras.shutdown, extras.v6only, extras.tclass, extras.protocol) == (0, None, None, None)
    assert extras.bbr is not None
    assert extras.vegas is None
    info = tcp_info.decode_tcp_info(extras.info)
    assert (info.bytes_sent, info.bytes_acked, info.bytes_received, info.state) == (13, 14, 0, 1)


def test_tcp_server_with_unread_bytes() -> None:
    row = find("tcp4", sport=0x1234, dport=0x5678)
    assert (row.recv_q, row.send_q, row.extras.congestion, row.extras.bbr) == (13, 0, "reno", None)
    assert len(row.extras.skmem) == 9
    assert row.extras.skmem[0] == row.extras.meminfo[0] > 13
    assert tcp_info.decode_tcp_info(row.extras.info).bytes_received == 13


def test_tcp_half_closed_pair() -> None:
    closed, open_half = find("tcp4", sport=0x678A), find("tcp4", dport=0x678A)
    assert (closed.state, closed.extras.shutdown) == (State.FIN_WAIT2, 2)
    assert (open_half.state, open_half.extras.shutdown) == (State.CLOSE_WAIT, 1)


def test_tcp_time_wait_has_a_timer_and_no_owner() -> None:
    row = find("tcp4", state=State.TIME_WAIT)
    assert (row.sport, row.dport, row.timer, row.ino) == (0x6789, 0x2345, 3, 0)
    assert 50_000 < row.expires_ms <= 60_000
    assert row.extras.info is None


def test_tcp_bound_to_a_device_and_keyed() -> None:
    assert find("tcp4", sport=0x4321).ifindex == 1
    assert find("tcp4", sport=0x4322).extras.md5 == ((2, 20, b"\x0a\x14\0\0", b"k, \\\x01\xff"),)


def test_tcp6_rows() -> None:
    only, both = find("tcp6", sport=0x1357), find("tcp6", sport=0x1358, state=State.LISTEN)
    assert (only.extras.v6only, only.extras.tclass, only.send_q) == (True, 0x24, 11)
    assert (both.extras.v6only, both.recv_q) == (False, 1)
    mapped = find("tcp6", dport=0x2468)
    assert mapped.dst == bytes(10) + b"\xff\xff\x7f\0\0\x0d"
    named = find("tcp6", sport=0x48C0)
    assert named.src == named.dst == bytes.fromhex("20010db8000000000000000012345678")


def test_tcp6_without_extras_still_knows_v6only() -> None:
    batch = inet_diag.decode(read("tcp6-plain"), Table.TCP, extras=False)
    assert {row.sport: row.extras.v6only for row in batch.rows if row.state == State.LISTEN and row.extras} == {
        0x369C: True,
        0x1357: True,
        0x1358: False,
    }
    assert all(row.extras is None for row in inet_diag.decode(read("tcp4-plain"), Table.TCP, extras=False).rows)


def test_plain_and_full_answers_agree() -> None:
    def facts(name: str) -> list[tuple[object, ...]]:
        return [(r.sport, r.dport, r.src, r.dst, r.state, r.ino, r.cookie, r.uid) for r in rows(name)]

    assert facts("tcp4") == facts("tcp4-plain")
    assert facts("tcp6") == facts("tcp6-plain")


def test_udp_rows() -> None:
    receiver, sender, six = find("udp4", sport=0x1122), find("udp4", sport=0x1123), find("udp6", sport=0x1124)
    assert (receiver.table, receiver.state, receiver.recv_q > 0) == (Table.UDP, State.CLOSE, True)
    assert (sender.state, sender.dport) == (State.ESTABLISHED, 0x1122)
    assert six.extras.v6only is True


def test_mptcp_rows_and_their_subflows() -> None:
    assert [row.table for row in rows("mptcp")] == [Table.MPTCP] * 3
    client, server = find("mptcp", sport=0x0C0D), find("mptcp", sport=0x0A0B, state=State.ESTABLISHED)
    tokens = [tcp_info.decode_mptcp_info(row.extras.info).token for row in (client, server)]
    subflows = [find("mptcp-subflows", cookie=row.cookie) for row in rows("mptcp-subflows") if row.extras.ulp]
    ulps = [tcp_info.decode_ulp(row.extras.ulp) for row in subflows]
    assert {ulp.name for ulp in ulps} == {"mptcp"}
    assert sorted(ulp.mptcp.token_loc or 0 for ulp in ulps if ulp.mptcp) == sorted(tokens)
    assert {row.ino for row in subflows} == {row.ino for row in rows("mptcp")}


def test_unix_rows() -> None:
    listener = find("unix", state=State.LISTEN)
    assert listener.name.endswith(b"/line\nbreak")
    assert (listener.table, listener.recv_q, listener.send_q, len(listener.pending)) == (Table.UNIX_STREAM, 2, 5, 2)
    assert listener.vfs is not None
    assert find("unix", name=b"\0abs\0tract").table is Table.UNIX_DGRAM
    one, other = [row for row in rows("unix") if row.table is Table.UNIX_SEQPACKET]
    assert (one.peer_ino, other.peer_ino) == (other.ino, one.ino)
    assert {one.shutdown, other.shutdown} == {1, 2}
    assert {row.uid for row in rows("unix")} == {0}


def test_packet_rows() -> None:
    ring = find("packet", protocol=3)
    assert (ring.table, ring.ifindex, ring.fanout) == (Table.PACKET_RAW, 1, 0x21001)
    assert ring.rx_ring == (16384, 3, 2048, 24, 77, 8, 1)
    assert ring.info == (1, 2, 0, 0, 0, 3)
    assert [row.tx_ring for row in rows("packet") if row.tx_ring] == [(8192, 2, 1024, 16, 0, 0, 0)]
    filtered = find("packet", protocol=0x0800)
    assert (filtered.table, filtered.bpf) == (Table.PACKET_DGRAM, ((0x28, 0, 1, 12), (0x6, 0, 0, 0xFFFF)))


def test_netlink_rows() -> None:
    # A socket in groups stands in two of the kernel's lists and is sent twice.
    grouped = [row for row in rows("netlink") if row.portid == 0x12345]
    assert [(row.protocol, row.groups, row.connected) for row in grouped] == [(0, 0x41, False)] * 2
    joined = find("netlink", portid=0x23456)
    assert (joined.protocol, joined.connected, joined.dst_portid, joined.dst_group) == (16, True, 0x12345, 5)


def test_a_refusal_comes_in_the_done_message() -> None:
    batch = inet_diag.decode(read("refused"), Table.DCCP)
    assert (batch.rows, batch.done, batch.error) == ([], True, 2)


def borders(data: bytes) -> list[int]:
    """Where a datagram may be cut: after each message."""
    found, offset = [], 0
    while offset < len(data):
        _, _, _, end = netlink.message(data, offset)
        offset = (end + 3) & ~3
        found.append(offset)
    return found


@pytest.mark.parametrize("name", sorted(DECODERS))
@given(random=st.randoms(use_true_random=False))
def test_the_same_rows_however_the_datagrams_are_cut(name: str, random: Any) -> None:
    data = read(name)
    cuts = [0, *sorted(random.sample(borders(data)[:-1], random.randint(0, len(borders(data)) - 1))), len(data)]
    pieces = [DECODERS[name](data[a:b]) for a, b in pairwise(cuts)]
    assert [row for piece in pieces for row in piece.rows] == rows(name)
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_buffers_of_every_kind_and_the_buffer_may_be_reused(name: str) -> None:
    buffer = bytearray(read(name))
    decoded = DECODERS[name](memoryview(buffer))  # type: ignore[arg-type]
    buffer[:] = bytes(len(buffer))
    assert decoded.rows == rows(name) == DECODERS[name](bytearray(read(name))).rows  # type: ignore[arg-type]
