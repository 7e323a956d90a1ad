"""Whatever the bytes are, wire answers with values or DecodeError, and ends."""

import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.errors import DecodeError
from sstrace.model import InetSocket, Socket, Table, UnixSocket
from sstrace.wire import (
    inet_diag,
    netlink,
    netlink_diag,
    packet_diag,
    proc_net,
    rpcbind,
    tcp_info,
    tipc_diag,
    tracefs,
    unix_diag,
    vsock_diag,
    xdp_diag,
)

DATAGRAMS: dict[str, Callable[[bytes], netlink.Batch[Any]]] = {
    "inet": lambda data: inet_diag.decode(data, Table.TCP),
    "inet, no extras": lambda data: inet_diag.decode(data, Table.TCP, extras=False),
    "inet event": inet_diag.decode_event,
    "unix": unix_diag.decode,
    "packet": packet_diag.decode,
    "netlink": netlink_diag.decode,
    "vsock": vsock_diag.decode,
    "xdp": xdp_diag.decode,
    "tipc": tipc_diag.decode,
}
BLOBS: dict[str, Callable[[bytes], object]] = {
    "ulp": tcp_info.decode_ulp,
    "storage": inet_diag.decode_storage,
    "extras": inet_diag.decode_extras,
    "tcp_info": tcp_info.decode_tcp_info,
    "mptcp_info": tcp_info.decode_mptcp_info,
    "sctp_info": tcp_info.decode_sctp_info,
    "rpcbind": rpcbind.decode,
    "rpcbind mark": rpcbind.size_of_fragment,
    "proc tcp": lambda text: list(proc_net.decode_inet(text, Table.TCP, 2)),
    "proc udp6": lambda text: list(proc_net.decode_inet(text, Table.UDP, 10)),
    "proc unix": lambda text: proc_net.decode_unix(text, lambda _: True),
    "proc packet": lambda text: list(proc_net.decode_packet(text)),
    "proc netlink": lambda text: list(proc_net.decode_netlink(text)),
    "sockstat": proc_net.decode_sockstat,
    "snmp": proc_net.tcp_established,
    "tracepoint format": lambda text: tracefs.decode_format(text.decode("latin-1")),
}
DATA = Path(__file__).parents[2] / "data"
RECORDED = [path.read_bytes() for path in (*sorted(DATA.glob("*.diag")), *sorted((DATA / "tables").glob("*.diag")))]

attribute = st.builds(netlink.attribute, st.integers(0, 24), st.binary(max_size=140))
attributes = st.lists(attribute, max_size=6).map(b"".join)


@st.composite
def message(draw: st.DrawFn) -> bytes:
    """Something like a netlink message: mostly right, sometimes lying."""
    payload = draw(st.binary(min_size=0, max_size=90)) + draw(st.one_of(attributes, st.binary(max_size=40)))
    kind = draw(st.sampled_from([1, 2, 3, 18, 20, 20, 20, 20, 21]))
    length = draw(st.one_of(st.just(16 + len(payload)), st.integers(0, 200)))
    return struct.pack("=IHHII", length, kind, draw(st.integers(0, 0x3F)), 1, 2) + payload


datagrams = st.one_of(
    st.binary(max_size=200),
    st.lists(message(), max_size=4).map(b"".join),
    st.builds(
        lambda data, at, byte: data[: at % len(data)] + bytes([byte]) + data[at % len(data) + 1 :],
        st.sampled_from(RECORDED),
        st.integers(0, 1 << 16),
        st.integers(0, 255),
    ),
    st.builds(lambda data, at: data[: at % len(data)], st.sampled_from(RECORDED), st.integers(0, 1 << 16)),
)


@pytest.mark.parametrize("name", DATAGRAMS)
@given(data=datagrams)
def test_any_datagram_gives_rows_or_decode_error(name: str, data: bytes) -> None:
    with suppress(DecodeError):
        batch = DATAGRAMS[name](data)
        assert all(isinstance(row, Socket) for row in batch.rows)
        assert len(batch.rows) <= len(data) // 16
        assert batch.done or not batch.error


@given(data=datagrams)
def test_the_whole_part_of_any_recording_decodes_or_has_a_bad_row(data: bytes) -> None:
    whole = netlink.whole(data)
    assert 0 <= whole <= len(data)
    offset = 0
    while offset < whole:
        _, _, _, end = netlink.message(data[:whole], offset)  # must not raise
        offset = (end + 3) & ~3


texts = st.one_of(
    st.binary(max_size=300),
    st.text("0123456789abcdefABCDEF: \n\t-+x@/", max_size=300).map(lambda text: ("head\n" + text).encode()),
)


@pytest.mark.parametrize("name", BLOBS)
@given(data=st.one_of(texts, attributes, st.binary(max_size=400)))
def test_any_blob_gives_values_or_decode_error(name: str, data: bytes) -> None:
    with suppress(DecodeError):
        BLOBS[name](data)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=30)), max_size=8))
def test_attributes_survive_building_and_walking(pairs: list[tuple[int, bytes]]) -> None:
    assert netlink.walk(b"".join(netlink.attribute(*pair) for pair in pairs)) == pairs


u32 = st.integers(0, 0xFFFFFFFF)
port = st.integers(0, 65535)
address = st.binary(min_size=16, max_size=16)
sockets = st.builds(
    InetSocket, table=st.just(Table.TCP), family=st.just(10), state=st.integers(1, 12), src=address, sport=port,
    dst=address, dport=port, ifindex=u32, cookie=st.integers(1, (1 << 64) - 1), expires_ms=u32, recv_q=u32, send_q=u32,
    uid=u32, ino=u32, timer=st.integers(0, 255), retrans=st.integers(0, 255), extras=st.none(), proc=st.none(),
)  # fmt: skip


@given(sockets)
def test_an_exact_request_names_the_socket_that_an_answer_gives(socket: InetSocket) -> None:
    """The id in the request is the id in the answer, byte for byte."""
    identity = inet_diag.exact_request(socket)[24:72]
    numbers = struct.pack("=5I", socket.expires_ms, socket.recv_q, socket.send_q, socket.uid, socket.ino)
    answer = bytes([10, socket.state, socket.timer, socket.retrans]) + identity + numbers
    (decoded,) = inet_diag.decode(netlink.request(20, 2, answer), Table.TCP).rows
    assert decoded == socket


@given(st.lists(st.tuples(st.sampled_from([1, 2, 5]), st.integers(0, 0xFFFFFFFF)), max_size=30), st.integers(1, 9))
def test_unix_rows_of_proc_are_sorted_in_runs(rows: list[tuple[int, int]], run: int) -> None:
    lines = [b"%016x: 00000002 00000000 00000000 %04x 03 %5d /a" % (0, kind, ino) for kind, ino in rows]
    text = b"\n".join([b"Num RefCount", *lines, b""])
    found: list[UnixSocket] = proc_net.decode_unix(text, lambda _: True, batch=run)
    expected = [pair for at in range(0, len(rows), run) for pair in sorted(rows[at : at + run])]
    assert [(row.type, row.ino) for row in found] == expected


info = st.builds(lambda payload: netlink.attribute(2, payload), st.binary(min_size=100, max_size=280))
mostly_good = st.builds(
    lambda before, middle, behind, cut: (b"".join(before) + middle + b"".join(behind))[: cut or None],
    st.lists(
        st.sampled_from([netlink.attribute(8, b"\1"), netlink.attribute(15, b"mark"), netlink.attribute(7, bytes(36))])
    ),
    st.one_of(info, st.sampled_from([netlink.attribute(2, bytes(104)), netlink.attribute(2, b"x" * 101)])),
    st.lists(
        st.sampled_from([netlink.attribute(4, b"bbr\0"), netlink.attribute(2, bytes(104)), netlink.attribute(5, b"")])
    ),
    st.sampled_from([0, 0, 0, -1, -4, -8, 70]),
)


@given(st.lists(st.one_of(mostly_good, attributes), min_size=1, max_size=6))
def test_what_is_remembered_between_rows_never_changes_what_a_row_says(blobs: list[bytes]) -> None:
    for blob in blobs:
        answer = netlink.request(20, 2, bytes([10]) + bytes(71) + blob)
        try:
            expected = inet_diag.decode_extras(blob)
        except DecodeError:
            with pytest.raises(DecodeError):
                inet_diag.decode(answer, Table.TCP)
        else:
            (row,) = inet_diag.decode(answer, Table.TCP).rows
            assert row.extras == (expected if blob else None)
