"""The ends of a datagram's connections: what the slow decoder says, or nothing."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.model import AF_INET, AF_INET6, Table
from sstrace.wire import inet_diag, inet_ends
from sstrace.wire.netlink import NLM_F_DUMP_INTR, SOCK_DIAG_BY_FAMILY

MAPPED = bytes(10) + b"\xff\xff"


def row(
    family: int = AF_INET,
    state: int = 1,
    ends: tuple[int, int, bytes, bytes] = (80, 40000, b"\x7f\0\0\1", b"\x0a\0\0\2"),
    *,
    ifindex: int = 0,
    more: int = 0,
    kind: int = SOCK_DIAG_BY_FAMILY,
    flags: int = 2,
) -> bytes:
    sport, dport, src, dst = ends
    body = struct.pack("=BBBB", family, state, 0, 0) + struct.pack(">HH", sport, dport)
    body += src.ljust(16, b"\0") + dst.ljust(16, b"\0") + struct.pack("=IQ", ifindex, 77) + bytes(20)
    if more:  # one attribute of a type that nobody knows
        body += struct.pack("=HH", more, 99).ljust(more, b"\0")
    message = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    return message.ljust(len(message) + 3 & ~3, b"\0")


def slowly(datagram: bytes) -> tuple[list[inet_ends.End], bytes]:
    rows = inet_diag.decode(datagram, Table.TCP).rows

    def plain(address: bytes) -> bytes:
        return address[12:] if address.startswith(MAPPED) else address

    return [(x.sport, x.dport, plain(x.src), plain(x.dst), 0) for x in rows], bytes(x.state for x in rows)


ADDRESSES = {
    AF_INET: st.binary(min_size=4, max_size=4),
    AF_INET6: st.binary(min_size=16, max_size=16) | st.binary(min_size=4, max_size=4).map(lambda v4: MAPPED + v4),
}
PORTS = st.integers(0, 65535)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    family = draw(st.sampled_from((AF_INET, AF_INET6)))
    address = ADDRESSES[family]
    lengths = st.sampled_from((0, 8, 24) if draw(st.booleans()) else (8,))
    one = st.builds(
        lambda state, ends, more: row(family, state, ends, more=more),
        st.integers(1, 13),
        st.tuples(PORTS, PORTS, address, address),
        lengths,
    )
    return b"".join(draw(st.lists(one, min_size=1, max_size=20)))


@given(datagrams())
def test_it_says_what_the_slow_way_says(datagram: bytes) -> None:
    assert inet_ends.decode(memoryview(datagram)) == slowly(datagram)


@pytest.mark.parametrize("others", [0, 1, 5])
@pytest.mark.parametrize(
    "odd",
    [
        row(ifindex=2),
        row(ifindex=1 << 24),
        row(flags=2 | NLM_F_DUMP_INTR),
        row(kind=3),
        row(family=AF_INET6),
        row(family=10, more=8),
        row()[:-4],
        b"\0" * 88,
    ],
    ids=["device", "high device", "interrupted", "done", "family", "family and length", "cut", "nothing"],
)
def test_anything_else_is_left_to_the_slow_way(odd: bytes, others: int) -> None:
    for datagram in (row(more=8) + row() * others + odd, odd + row() * others + row(more=8)):
        assert inet_ends.decode(memoryview(datagram)) is None


@given(st.binary(max_size=300))
def test_any_bytes_give_ends_or_nothing(garbage: bytes) -> None:
    for datagram in (garbage, row() + garbage, row(AF_INET6, ends=(1, 2, bytes(16), bytes(16))) * 2 + garbage):
        inet_ends.decode(memoryview(datagram))
