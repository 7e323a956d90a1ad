"""Interfaces out of rtnetlink's bytes."""

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from links_heard import AF_BRIDGE, DELLINK, NEWADDR, message

from sstrace.errors import DecodeError
from sstrace.wire import rtnetlink
from sstrace.wire.netlink import attribute
from sstrace.wire.rtnetlink import Link


def link(index: int, *attributes: bytes) -> bytes:
    payload = struct.pack("=BxHiII", 0, 772, index, 0x49, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(payload), 16, 2, 1, 1) + payload


ALT = attribute(53, b"uplink\0") + attribute(53, b"a-much-longer-name-of-it\0")


def test_names_and_alternative_names() -> None:
    datagram = link(1, attribute(3, b"lo\0"), attribute(4, b"\0\0\1\0")) + link(
        7, attribute(52 | 0x8000, ALT), attribute(3, b"eth0\0")
    )
    batch = rtnetlink.decode(datagram)
    assert batch.rows == [Link(1, (b"lo",)), Link(7, (b"eth0", b"uplink", b"a-much-longer-name-of-it"))]
    assert not batch.done


def test_news_in_their_order() -> None:
    datagram = (
        message(3, b"v0")
        + message(3, b"wan")
        + message(3, b"wan", DELLINK)
        + message(9, b"v0")
        + message(10, b"\xff\x1b")
    )
    assert rtnetlink.news(datagram) == [
        Link(3, (b"v0",)),
        Link(3, (b"wan",)),
        Link(3, ()),
        Link(9, (b"v0",)),
        Link(10, (b"\xff\x1b",)),
    ]


def test_news_of_something_else() -> None:
    # A bridge loses a port: the interface itself lives on.
    assert rtnetlink.news(message(3, b"v0", DELLINK, AF_BRIDGE)) == []
    assert rtnetlink.news(message(3, b"v0", NEWADDR)) == []
    assert rtnetlink.news(message(3, None)) == []
    assert rtnetlink.news(b"") == []


@given(st.binary(max_size=200))
def test_any_news(data: bytes) -> None:
    with suppress(DecodeError):
        rtnetlink.news(data)


def test_the_end_of_a_dump_and_a_refusal() -> None:
    assert rtnetlink.decode(struct.pack("=IHHIIi", 20, 3, 2, 1, 1, 0)).done
    refused = rtnetlink.decode(struct.pack("=IHHIIi", 36, 2, 0, 1, 1, -19) + bytes(16))
    assert (refused.done, refused.error, refused.refused) == (True, 19, True)


@pytest.mark.parametrize("cut", [1, 15, 20])
def test_what_is_no_message_is_a_decode_error(cut: int) -> None:
    with pytest.raises(DecodeError):
        rtnetlink.decode(link(1, attribute(3, b"lo\0"))[:cut])


def test_requests() -> None:
    assert rtnetlink.dump_request()[4:8] == struct.pack("=HH", 18, 0x301)
    assert rtnetlink.one_request(7)[4:8] == struct.pack("=HH", 18, 1)
    assert struct.unpack_from("=i", rtnetlink.one_request(7), 20) == (7,)
