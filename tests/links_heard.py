"""rtnetlink's link messages, made up."""

import struct

from sstrace.wire.netlink import attribute, request

NEWLINK, DELLINK, NEWADDR, MTU, IFNAME = 16, 17, 20, 4, 3
AF_BRIDGE = 7


def message(index: int, name: bytes | None, kind: int = NEWLINK, family: int = 0) -> bytes:
    """A message of the link group."""
    told = attribute(MTU, struct.pack("=I", 1500)) + (attribute(IFNAME, name + b"\0") if name is not None else b"")
    return request(kind, 0, struct.pack("=BxHiII", family, 1, index, 0x1003, 0xFFFFFFFF) + told)
