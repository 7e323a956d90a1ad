"""Netlink framing: datagrams → messages → attributes, and the building of requests.

Enters: what one ``recv`` on a netlink socket returned, or any run of whole messages (a recording). Leaves: ``Batch``,
the rows of one datagram with what it said about the end of the dump; or ``DecodeError`` when lengths lie. Every loop
here moves forward by at least a header, so no input can make it spin.

Byte order is the host's, as netlink's is. Source of the layouts: include/uapi/linux/netlink.h (struct nlmsghdr,
nlmsgerr, nlattr).
"""

import struct
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from sstrace.errors import DecodeError

__all__ = [
    "DUMP",
    "HEADER_SIZE",
    "NLMSG_DONE",
    "NLMSG_ERROR",
    "NLM_F_ACK",
    "NLM_F_DUMP_INTR",
    "NLM_F_REQUEST",
    "READING",
    "SEQUENCE",
    "SOCK_DESTROY",
    "SOCK_DIAG_BY_FAMILY",
    "Batch",
    "Data",
    "asker",
    "attribute",
    "attributes",
    "batch",
    "end_of_dump",
    "ends",
    "is_last",
    "message",
    "need",
    "request",
    "u32s",
    "walk",
    "whole",
]

Data = bytes | bytearray | memoryview
"""What decoders take. A memoryview is read in place and never kept, so the caller may reuse its buffer afterwards."""

Row = TypeVar("Row")

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
"""The kernel saw its table change under the dump: rows may be missing or double."""
DUMP = 0x301
"""NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH: ask for everything that fits."""

SOCK_DIAG_BY_FAMILY = 20
SOCK_DESTROY = 21

READING = frozenset((18, 19, SOCK_DIAG_BY_FAMILY))
"""Types of the requests that ask for sockets, and do nothing to them: TCPDIAG_GETSOCK and DCCPDIAG_GETSOCK, too."""

SEQUENCE = 123456
"""The sequence number of every dump request, ss's own, so that requests compare byte for byte."""

HEADER_SIZE = 16

_HEADER = struct.Struct("=IHHII")  # nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid
_ATTRIBUTE = struct.Struct("=HH")  # nla_len, nla_type
_I32 = struct.Struct("=i")

# The two top bits of nla_type are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER), not part of the number.
_TYPE_MASK = 0x3FFF


class Batch(msgspec.Struct, Generic[Row]):
    """The rows of one datagram, and whether it ended the answer."""

    rows: list[Row]
    done: bool = False
    """DONE or ERROR was met: nothing more will come for this request."""
    error: int = 0
    """Positive errno of the kernel's refusal; 0 when it ended well (or has not ended)."""
    refused: bool = False
    """``error`` came in an ERROR message (the request was refused), not in DONE (the dump ended badly)."""
    interrupted: bool = False
    """Some message carried NLM_F_DUMP_INTR: the sweep may have missed rows."""


def message(data: Data, offset: int) -> tuple[int, int, int, int]:
    """The message at ``offset``: (type, flags, payload start, payload end); DecodeError when its length is impossible.

    The next message is at the payload's end rounded up to four.
    """
    left = len(data) - offset
    if left < HEADER_SIZE:
        raise DecodeError(f"netlink: {left} stray bytes at offset {offset}, a message header alone takes {HEADER_SIZE}")
    length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
    if not HEADER_SIZE <= length <= left:
        raise DecodeError(f"netlink: the message at offset {offset} says it is {length} bytes long, {left} are left")
    return kind, flags, offset + HEADER_SIZE, offset + length


def asker(data: Data) -> int:
    """The port id of the socket that a datagram came to, an answer to its question: nlmsg_pid of the first message.
    Raises DecodeError.
    """
    if len(data) < HEADER_SIZE:
        raise DecodeError(f"netlink: a datagram of {len(data)} bytes has no room for a header")
    port: int = _HEADER.unpack_from(data)[4]
    return port


def ends(data: Data) -> bool:
    """Whether an answer ends in this datagram: whether some message of it is DONE or ERROR. Looks at headers alone."""
    offset = 0
    while offset < len(data):
        kind, _, _, end = message(data, offset)
        if kind in (NLMSG_DONE, NLMSG_ERROR):
            return True
        offset = (end + 3) & ~3
    return False


def end_of_dump(kind: int, data: Data, start: int, end: int) -> int:
    """The positive errno in a DONE (which may carry none: 0) or ERROR message; 0 means success (ERROR 0 is an
    acknowledgement).
    """
    if end - start < 4:
        if kind == NLMSG_DONE:
            return 0
        raise DecodeError(f"netlink: an error message of {end - start} bytes has no room for its error number")
    value: int = _I32.unpack_from(data, start)[0]
    return max(-value, 0)


def is_last(answer: Batch[Row], kind: int, data: Data, start: int, end: int) -> bool:
    """Take a message that is no row into ``answer``: True for DONE and ERROR, False for what may be skipped.

    Any other type raises DecodeError: a diag socket has no business with it.
    """
    if kind in (NLMSG_DONE, NLMSG_ERROR):
        answer.done = True
        answer.error = end_of_dump(kind, data, start, end)
        answer.refused = kind == NLMSG_ERROR and answer.error != 0
        return True
    if kind != NLMSG_NOOP:
        raise DecodeError(
            f"netlink: the message at offset {start - HEADER_SIZE} has type {kind}, which is no sock_diag answer"
        )
    return False


def batch(datagram: Data, decode: Callable[[bytes], Row | None]) -> Batch[Row]:
    """Decode one datagram: each sock_diag payload goes through ``decode``, which may answer None for "no row"."""
    answer: Batch[Row] = Batch([])
    offset, size = 0, len(datagram)
    while offset < size:
        kind, flags, start, end = message(datagram, offset)
        if flags & NLM_F_DUMP_INTR:
            answer.interrupted = True
        if kind == SOCK_DIAG_BY_FAMILY:
            row = decode(bytes(datagram[start:end]))
            if row is not None:
                answer.rows.append(row)
        elif is_last(answer, kind, datagram, start, end):
            break
        offset = (end + 3) & ~3
    return answer


def whole(data: Data) -> int:
    """How many bytes of ``data`` are whole messages, up to and including the first DONE or ERROR.

    For recordings that may be cut off: ``decode(data[:whole(data)])`` never meets a truncated tail.
    """
    offset, size = 0, len(data)
    while size - offset >= HEADER_SIZE:
        length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
        if not HEADER_SIZE <= length <= size - offset:
            break
        offset = min(offset + ((length + 3) & ~3), size)
        if kind in (NLMSG_DONE, NLMSG_ERROR):
            break
    return offset


def walk(data: bytes) -> list[tuple[int, bytes]]:
    """The attributes in ``data`` in order: (number, payload). Raises DecodeError when a length is impossible."""
    found: list[tuple[int, bytes]] = []
    offset, size = 0, len(data)
    unpack = _ATTRIBUTE.unpack_from
    while offset < size:
        if size - offset < 4:
            raise DecodeError(f"netlink: {size - offset} stray bytes after the last attribute")
        length, kind = unpack(data, offset)
        if not 4 <= length <= size - offset:
            raise DecodeError(
                f"netlink: attribute {kind & _TYPE_MASK} says it is {length} bytes long, {size - offset} are left"
            )
        found.append((kind & _TYPE_MASK, data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def attributes(data: bytes) -> dict[int, bytes]:
    r"""The attributes in ``data``: number → payload. Where a number repeats, the first one stands, as in ss.

    Example: ``b"\x05\0\x08\0\x03\0\0\0"`` → ``{8: b"\x03"}`` (little-endian host). Raises DecodeError as ``walk`` does.
    """
    return dict(reversed(walk(data)))


def need(payload: bytes, least: int, protocol: str, what: str) -> bytes:
    """``payload`` itself, or DecodeError when it is shorter than ``least`` bytes; the names are for the sentence."""
    if len(payload) < least:
        raise DecodeError(f"{protocol}: {what} is {len(payload)} bytes long, {least} are the least")
    return payload


def u32s(payload: bytes) -> tuple[int, ...]:
    """An attribute that is an array of __u32, as many as fit; host order."""
    count = len(payload) >> 2
    return struct.unpack_from(f"={count}I", payload)


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(payload), kind) + payload + b"\0" * (-len(payload) & 3)


def request(kind: int, flags: int, payload: bytes, sequence: int = SEQUENCE) -> bytes:
    """One request message, ready to send; port id 0 lets the kernel fill in the sender."""
    return _HEADER.pack(HEADER_SIZE + len(payload), kind, flags, sequence, 0) + payload
