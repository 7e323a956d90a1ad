"""Every protocol whose sockets ss shows, a line each: its numbers, its names, its table, and how its changes are heard.

Numbers are the kernel's (include/uapi/linux/in.h, include/linux/net.h), names are ss's (its Netid column). A protocol
without a line has no name: ss prints ``???``.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_TIPC,
    AF_UNIX,
    AF_VSOCK,
    AF_XDP,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_RDM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    Kind,
    Table,
)

__all__ = [
    "DIAG_PROTOCOL",
    "FOLLOWED",
    "IPPROTO_DCCP",
    "IPPROTO_MPTCP",
    "IPPROTO_SCTP",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "NETID_OF_NUMBER",
    "NETID_OF_TYPE",
    "NUMBER_OF_NETID",
    "OF_TABLE",
    "PROTOCOLS",
    "TABLE_OF_NUMBER",
    "UNNAMED",
    "Protocol",
]

IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_DCCP: Final = 33
IPPROTO_ICMPV6: Final = 58
IPPROTO_SCTP: Final = 132
IPPROTO_RAW: Final = 255
IPPROTO_MPTCP: Final = 262


class Protocol(msgspec.Struct, frozen=True):
    """What there is to know of one."""

    netid: str
    table: Table
    families: tuple[int, ...]
    type: int | None = None
    """SOCK_*, where there are protocols of other types in the family."""
    number: int = 0
    """IP protocol, in the internet's families."""
    asked: int | None = None
    """``sdiag_protocol`` of the inet_diag request that gives its sockets, where that is not ``number``: raw_diag gives
    those of every protocol under IPPROTO_RAW.
    """
    reported: tuple[Kind, ...] = ()
    """The kernel objects whose every change the BPF programs report; none: a sweep alone shows its sockets."""
    exact: bool = False
    """Its reports keep the live table true: no sweep is needed but after a loss."""


_INET = (AF_INET, AF_INET6)
_EVERY_KIND = tuple(Kind)

PROTOCOLS: Final = (
    Protocol("tcp", Table.TCP, _INET, SOCK_STREAM, IPPROTO_TCP, reported=_EVERY_KIND, exact=True),
    Protocol("mptcp", Table.MPTCP, _INET, SOCK_STREAM, IPPROTO_MPTCP, reported=(Kind.SOCKET,)),
    Protocol("dccp", Table.DCCP, _INET, None, IPPROTO_DCCP),
    Protocol("udp", Table.UDP, _INET, SOCK_DGRAM, IPPROTO_UDP),
    Protocol("raw", Table.RAW, _INET, SOCK_RAW, 0, asked=IPPROTO_RAW),
    Protocol("icmp6", Table.RAW, _INET, None, IPPROTO_ICMPV6, asked=IPPROTO_RAW),
    Protocol("sctp", Table.SCTP, _INET, None, IPPROTO_SCTP),
    Protocol("u_dgr", Table.UNIX_DGRAM, (AF_UNIX,), SOCK_DGRAM),
    Protocol("u_str", Table.UNIX_STREAM, (AF_UNIX,), SOCK_STREAM),
    Protocol("u_seq", Table.UNIX_SEQPACKET, (AF_UNIX,), SOCK_SEQPACKET),
    Protocol("p_dgr", Table.PACKET_DGRAM, (AF_PACKET,), SOCK_DGRAM),
    Protocol("p_raw", Table.PACKET_RAW, (AF_PACKET,), SOCK_RAW),
    Protocol("nl", Table.NETLINK, (AF_NETLINK,)),
    Protocol("v_str", Table.VSOCK_STREAM, (AF_VSOCK,), SOCK_STREAM),
    Protocol("v_dgr", Table.VSOCK_DGRAM, (AF_VSOCK,), SOCK_DGRAM),
    Protocol("ti_st", Table.TIPC, (AF_TIPC,), SOCK_STREAM),
    Protocol("ti_dg", Table.TIPC, (AF_TIPC,), SOCK_DGRAM),
    Protocol("ti_rd", Table.TIPC, (AF_TIPC,), SOCK_RDM),
    Protocol("ti_sq", Table.TIPC, (AF_TIPC,), SOCK_SEQPACKET),
    Protocol("xdp", Table.XDP, (AF_XDP,)),
)

UNNAMED: Final = "???"
"""The netid of what has no line."""

OF_TABLE: Final[Mapping[Table, Protocol]] = {each.table: each for each in reversed(PROTOCOLS)}
"""Table → its protocol; of several, the first."""

_INTERNET = tuple(each for each in PROTOCOLS if each.families == _INET)

NETID_OF_NUMBER: Final[Mapping[int, str]] = {each.number: each.netid for each in _INTERNET}
"""IP protocol → netid."""

NUMBER_OF_NETID: Final[Mapping[str, int]] = {each.netid: each.number for each in _INTERNET}
"""Netid → IP protocol."""

DIAG_PROTOCOL: Final[Mapping[Table, int]] = {
    each.table: each.number if each.asked is None else each.asked for each in _INTERNET
}
"""Internet table → ``sdiag_protocol`` of the request that gives its sockets."""

TABLE_OF_NUMBER: Final[Mapping[int, Table]] = {number: table for table, number in DIAG_PROTOCOL.items()} | {
    each.number: each.table for each in _INTERNET
}
"""IP protocol → table."""

NETID_OF_TYPE: Final[Mapping[tuple[int, int | None], str]] = {
    (each.families[0], each.type): each.netid for each in PROTOCOLS if each not in _INTERNET
}
"""Family and SOCK_* → netid, outside of the internet's families."""

FOLLOWED: Final = sum(1 << each.table for each in PROTOCOLS if each.exact)
"""Mask of the tables that can be followed live, bit n for ``Table`` n."""
