"""Interfaces by rtnetlink: RTM_GETLINK requests, index and names in what comes back, and the news of the link group.

Source of the layouts: include/uapi/linux/rtnetlink.h, if_link.h (struct ifinfomsg, IFLA_*). Host order.
"""

import struct

import msgspec

from sstrace.wire.netlink import (
    DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    Batch,
    Data,
    attribute,
    is_last,
    message,
    need,
    request,
    walk,
)

__all__ = ["Link", "decode", "dump_request", "news", "one_request"]

_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_GETLINK = 18
_IFLA_IFNAME = 3
_IFLA_EXT_MASK = 29
_IFLA_PROP_LIST = 52
_IFLA_ALT_IFNAME = 53
_SKIP_STATS = struct.pack("=I", 1 << 3)  # RTEXT_FILTER_SKIP_STATS
_IFINFOMSG = struct.Struct("=BxHIII")


class Link(msgspec.Struct, frozen=True):
    """An interface."""

    index: int
    names: tuple[bytes, ...]
    """Its name, then its alternative names (Linux 5.5). In news, empty: it is gone, or in another network namespace."""


def dump_request() -> bytes:
    """Every interface."""
    return _request(DUMP, 0)


def one_request(index: int) -> bytes:
    """The interface with this index; the answer is one message, and no DONE comes behind it."""
    return _request(NLM_F_REQUEST, index)


def _request(flags: int, index: int) -> bytes:
    payload = _IFINFOMSG.pack(0, 0, index & 0xFFFFFFFF, 0, 0) + attribute(_IFLA_EXT_MASK, _SKIP_STATS)
    return request(_RTM_GETLINK, flags, payload)


def decode(datagram: Data) -> Batch[Link]:
    """The interfaces of one datagram. Raises DecodeError."""
    answer: Batch[Link] = Batch([])
    offset = 0
    while offset < len(datagram):
        kind, flags, start, end = message(datagram, offset)
        answer.interrupted |= bool(flags & NLM_F_DUMP_INTR)
        if kind == _RTM_NEWLINK:
            answer.rows.append(_link(bytes(datagram[start:end])))
        elif is_last(answer, kind, datagram, start, end):
            break
        offset = (end + 3) & ~3
    return answer


def news(datagram: Data) -> list[Link]:
    """What a datagram of the link group says, in its order; empty where that is about something else. Raises
    DecodeError.
    """
    found: list[Link] = []
    offset = 0
    while offset < len(datagram):
        kind, _, start, end = message(datagram, offset)
        offset = (end + 3) & ~3
        if kind not in (_RTM_NEWLINK, _RTM_DELLINK):
            continue
        link = _link(bytes(datagram[start:end]))
        if datagram[start]:
            continue  # a bridge's port (AF_BRIDGE) that comes or goes: the interface stays what it is
        if kind == _RTM_DELLINK:
            found.append(Link(link.index, ()))
        elif link.names:
            found.append(link)
    return found


def _link(payload: bytes) -> Link:
    _, _, index, _, _ = _IFINFOMSG.unpack(
        need(payload, _IFINFOMSG.size, "rtnetlink", "an interface")[: _IFINFOMSG.size]
    )
    names: list[bytes] = []
    for kind, value in walk(payload[_IFINFOMSG.size :]):
        if kind == _IFLA_IFNAME:
            names.insert(0, value.rstrip(b"\0"))
        elif kind == _IFLA_PROP_LIST:
            names += [name.rstrip(b"\0") for inner, name in walk(value) if inner == _IFLA_ALT_IFNAME]
    return Link(index, tuple(names))
