"""Netlink framing on bytes made by hand: the ladder from nothing to good, and what ends a dump."""

import struct

import pytest

from sstrace.errors import DecodeError
from sstrace.wire import netlink


def message(kind: int, payload: bytes, flags: int = 2, length: int | None = None) -> bytes:
    size = 16 + len(payload) if length is None else length
    return struct.pack("=IHHII", size, kind, flags, 7, 9) + payload + b"\0" * (-len(payload) & 3)


def rows(data: bytes) -> netlink.Batch[bytes]:
    return netlink.batch(data, lambda payload: payload)


def test_empty_datagram_has_no_rows_and_no_end() -> None:
    batch = rows(b"")
    assert (batch.rows, batch.done, batch.error, batch.interrupted) == ([], False, 0, False)


@pytest.mark.parametrize("size", [1, 4, 15])
def test_less_than_a_header_is_an_error(size: int) -> None:
    with pytest.raises(DecodeError, match=f"{size} stray bytes at offset 0"):
        rows(bytes(size))


@pytest.mark.parametrize("length", [0, 15, 21, 0xFFFFFFFF])
def test_a_lying_length_is_an_error(length: int) -> None:
    with pytest.raises(DecodeError, match=f"says it is {length} bytes long"):
        rows(message(20, b"abcd", length=length))


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(DecodeError, match="type 99"):
        rows(message(99, b"abcd"))


def test_good_messages_in_order_padding_skipped_noop_skipped() -> None:
    data = message(20, b"abcde") + message(1, b"") + message(20, b"fg")
    assert rows(data).rows == [b"abcde", b"fg"]


def test_the_last_message_may_lack_its_padding() -> None:
    data = message(20, b"abcd") + message(20, b"efghi")[:-3]
    assert rows(data).rows == [b"abcd", b"efghi"]


def test_done_ends_the_datagram_whatever_follows() -> None:
    batch = rows(message(20, b"abcd") + message(3, struct.pack("=i", 0)) + b"rubbish")
    assert (batch.rows, batch.done, batch.error) == ([b"abcd"], True, 0)


def test_done_without_payload_is_success() -> None:
    assert rows(message(3, b"")).done


def test_done_may_carry_an_errno() -> None:
    batch = rows(message(3, struct.pack("=i", -2)))
    assert (batch.done, batch.error, batch.refused) == (True, 2, False)


def test_error_carries_an_errno_and_acknowledgement_is_error_0() -> None:
    header = bytes(16)
    refused, accepted = rows(message(2, struct.pack("=i", -95) + header)), rows(message(2, bytes(20)))
    assert (refused.done, refused.error, refused.refused) == (True, 95, True)
    assert (accepted.done, accepted.error, accepted.refused) == (True, 0, False)


def test_error_without_a_number_is_an_error() -> None:
    with pytest.raises(DecodeError, match="no room for its error number"):
        rows(message(2, b"ab"))


@pytest.mark.parametrize("data", [message(20, b"abcd", flags=0x12), message(3, bytes(4), flags=0x12)])
def test_an_interrupted_dump_is_told(data: bytes) -> None:
    assert rows(message(20, b"wxyz") + data).interrupted
    assert not rows(message(20, b"wxyz")).interrupted


def test_whole_stops_at_a_cut_message_and_at_the_first_end() -> None:
    first, done = message(20, b"abcde"), message(3, bytes(4))
    assert netlink.whole(b"") == 0
    assert netlink.whole(first[:10]) == 0
    assert netlink.whole(first + first[:20]) == len(first)
    assert netlink.whole(first + done + first) == len(first + done)
    assert netlink.whole(first + message(20, b"abcd", length=3)) == len(first)
    assert netlink.whole(first[:-3]) == len(first) - 3


def test_attributes_mask_flags_and_the_first_of_a_number_stands() -> None:
    data = netlink.attribute(0x8003, b"abc") + netlink.attribute(3, b"later") + netlink.attribute(7, b"")
    assert netlink.attributes(data) == {3: b"abc", 7: b""}
    assert netlink.walk(data) == [(3, b"abc"), (3, b"later"), (7, b"")]


@pytest.mark.parametrize("data", [b"\x04", b"\x04\0\1", struct.pack("=HH", 3, 1), struct.pack("=HH", 9, 1) + b"abcd"])
def test_lying_attributes_are_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        netlink.attributes(data)


def test_request_is_the_header_and_the_payload() -> None:
    built = netlink.request(20, netlink.DUMP, b"12345678")
    assert struct.unpack("=IHHII", built[:16]) == (24, 20, 0x301, 123456, 0)
    assert built[16:] == b"12345678"
