"""rpcbind's map of registered programs: the call that asks for it, and its answer → (program, protocol, port).

The one network protocol here that is not netlink: ONC RPC version 2 (RFC 5531) over a stream with record marking, XDR
(RFC 4506), program 100000 version 4 procedure DUMP (RFC 1833). All numbers are big-endian.
"""

import struct

from sstrace.errors import DecodeError

__all__ = ["CALL", "decode", "size_of_fragment"]

_LAST_FRAGMENT = 0x80000000

# xid, CALL, RPC version 2, program, version 4, procedure DUMP, and twice AUTH_NONE with an empty body.
_BODY = struct.pack(">10I", 0x53535452, 0, 2, 100000, 4, 4, 0, 0, 0, 0)
CALL = struct.pack(">I", _LAST_FRAGMENT | len(_BODY)) + _BODY
"""The whole call, record mark included."""

# The protocols ss knows ports of; the IPv6 ones count as the same.
_PROTOCOLS = {b"tcp": "tcp", b"tcp6": "tcp", b"udp": "udp", b"udp6": "udp", b"sctp": "sctp", b"sctp6": "sctp"}

# A universal address of a wildcard bind: the address, then the port's two bytes in decimal. ss looks at no others.
_WILDCARDS = (b"::.", b"0.0.0.0.")


def size_of_fragment(mark: bytes) -> tuple[int, bool]:
    """A record mark of four bytes → (size of the fragment that follows, whether it is the last)."""
    if len(mark) != 4:
        raise DecodeError(f"rpcbind: a record mark of {len(mark)} bytes, 4 are needed")
    value = int.from_bytes(mark, "big")
    return value & ~_LAST_FRAGMENT, bool(value & _LAST_FRAGMENT)


def decode(record: bytes) -> list[tuple[int, str, int]]:
    """The answer without its record marks → (program number, protocol, port) for each wildcard registration, in order.

    Raises DecodeError when it is cut short or a refusal.
    """
    reader = _Reader(record)
    reader.u32()  # xid: there was only one call
    if reader.u32() != 1 or reader.u32() != 0:
        raise DecodeError("rpcbind: the call was refused")
    reader.u32()
    reader.opaque()
    if reader.u32() != 0:
        raise DecodeError("rpcbind: the call was not understood")
    found = []
    while reader.u32():
        program, _ = reader.u32(), reader.u32()
        netid, address, _ = reader.opaque(), reader.opaque(), reader.opaque()
        protocol, port = _PROTOCOLS.get(netid), _port(address)
        if protocol is not None and port is not None:
            found.append((program, protocol, port))
    return found


def _port(address: bytes) -> int | None:
    for wildcard in _WILDCARDS:
        if address.startswith(wildcard):
            high, _, low = address[len(wildcard) :].partition(b".")
            if high.isdigit() and low.isdigit() and len(high) <= 3 and len(low) <= 3:
                return (int(high) << 8 | int(low)) & 0xFFFF
    return None


class _Reader:
    """XDR items one after another."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    def _take(self, size: int) -> bytes:
        end = self._offset + size
        if end > len(self._data):
            raise DecodeError(f"rpcbind: the answer ends at byte {len(self._data)}, {end} are needed")
        taken = self._data[self._offset : end]
        self._offset = end
        return taken

    def u32(self) -> int:
        return int.from_bytes(self._take(4), "big")

    def opaque(self) -> bytes:
        size = self.u32()
        return self._take((size + 3) & ~3)[:size]
