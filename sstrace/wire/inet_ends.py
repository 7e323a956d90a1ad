"""inet_diag by its ends: which connections a datagram shows and in which states, without an object a row.

For whoever only wants to know whether a table holds the same (live.source). Layout: ``inet_layout``.
"""

import struct
import sys

from sstrace.model import AF_INET6
from sstrace.wire import inet_layout
from sstrace.wire.netlink import NLM_F_DUMP_INTR, SOCK_DIAG_BY_FAMILY, Data

__all__ = ["End", "decode"]

End = tuple[int, int, bytes, bytes, int]
"""Local port, peer port, local address, peer address, bound device: 0; a v4-mapped IPv6 address as the IPv4 one inside.
"""

_FIXED = inet_layout.SIZE
_FAMILY, _STATE, _INTERFACE = (inet_layout.OFFSET[name] for name in ("family", "state", "if"))
# Ports and addresses are read in the network's byte order at once; of the device only whether it is 0.
_ENDS = {
    family: ">" + inet_layout.codes(family, "sport", "dport", "src", "dst", "if") for family in inet_layout.FAMILIES
}
_UNPACK = {family: struct.Struct(ends).unpack_from for family, ends in _ENDS.items()}
_STRIDES: dict[tuple[int, int], struct.Struct] = {}
_MAPPED = bytes(10) + b"\xff\xff"


def decode(datagram: Data) -> tuple[list[End], bytes] | None:
    """The ends of a datagram's rows and, a byte each, their states; ``None`` where it holds anything else than rows of
    one family that are bound to no interface, or a dump that was interrupted.
    """
    size = len(datagram)
    if size < _FIXED or datagram[_FAMILY] not in _ENDS:
        return None
    family = datagram[_FAMILY]
    head = bytes(datagram[:8])  # length, type, flags: those of the first are those of all, most times
    length = int.from_bytes(head[:4], sys.byteorder)
    ends: list[End]
    if length >= _FIXED and length & 3 == 0 and size % length == 0 and _repeats(datagram, head, length):
        stride = _STRIDES.get((family, length))
        if stride is None:
            stride = _STRIDES[family, length] = struct.Struct(f"{_ENDS[family]}{length - _FIXED}x")
        heads = {head}
        ends = list(stride.iter_unpack(datagram))
        states, families = bytes(datagram[_STATE::length]), bytes(datagram[_FAMILY::length])
        bound = any(any(datagram[_INTERFACE + byte :: length]) for byte in range(4))
    else:
        unpack = _UNPACK[family]
        heads, ends, offset, bound = set(), [], 0, False
        marks = bytearray()
        while offset < size:
            length = int.from_bytes(datagram[offset : offset + 4], sys.byteorder)
            if not _FIXED <= length <= size - offset:
                return None
            heads.add(bytes(datagram[offset : offset + 8]))
            ends.append(unpack(datagram, offset))
            marks += datagram[offset + _FAMILY : offset + _STATE + 1]
            bound = bound or any(datagram[offset + _INTERFACE : offset + _INTERFACE + 4])
            offset += (length + 3) & ~3
        families, states = bytes(marks[::2]), bytes(marks[1::2])
    if bound or families.count(family) != len(ends) or not all(map(_is_row, heads)):
        return None
    if family == AF_INET6 and _MAPPED in bytes(datagram):
        ends = [(sport, dport, _plain(src), _plain(dst), 0) for sport, dport, src, dst, _ in ends]
    return ends, states


def _repeats(datagram: Data, head: bytes, stride: int) -> bool:
    """Whether every message begins with the same bytes as the first."""
    count = len(datagram) // stride
    return all(bytes(datagram[byte::stride]).count(head[byte]) == count for byte in range(len(head)))


def _is_row(head: bytes) -> bool:
    kind, flags = int.from_bytes(head[4:6], sys.byteorder), int.from_bytes(head[6:8], sys.byteorder)
    return kind == SOCK_DIAG_BY_FAMILY and not flags & NLM_F_DUMP_INTR


def _plain(address: bytes) -> bytes:
    return address[12:] if address.startswith(_MAPPED) else address
