"""Every family and protocol whose sockets ss shows, a line each: its numbers, its names, its options, its tables, its
place among the others, and how its changes are heard.

Numbers are the kernel's (include/uapi/linux/in.h, include/linux/net.h), names are ss's (its Netid column). A protocol
without a line has no name: ss prints ``???``.

What else belongs to a family is found by its name: its module in ``wire``, with ``_diag`` behind the name, has the
request and the decoder of the answers, its module in ``render`` makes the cells and the lines.
"""

from collections.abc import Mapping
from itertools import groupby
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
    FamilyName,
    Kind,
    State,
    Table,
)

__all__ = [
    "APPEARING",
    "APPEARING_NETIDS",
    "DATAGRAMS",
    "DATAGRAM_NETIDS",
    "DIAG_PROTOCOL",
    "FAMILIES",
    "FAMILY_NUMBERS",
    "FAMILY_WORDS",
    "FOLLOWED",
    "INET",
    "IPPROTO_DCCP",
    "IPPROTO_MPTCP",
    "IPPROTO_SCTP",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "NETID_OF_NUMBER",
    "NETID_OF_TYPE",
    "NETLINK",
    "NUMBER_OF_NETID",
    "OF_TABLE",
    "PROTOCOLS",
    "RAW",
    "RECORDED",
    "SHOWN",
    "SWEPT",
    "SWEPT_NETIDS",
    "SWEPT_TABLES",
    "TABLE_OF_NETID",
    "TABLE_OF_NUMBER",
    "TIPC",
    "UNIX",
    "UNNAMED",
    "VSOCK",
    "Family",
    "Protocol",
]

RAW: Final = 0
"""Of a raw socket, which says of what protocol it is by its port."""
IPPROTO_TCP: Final = 6
IPPROTO_UDP: Final = 17
IPPROTO_DCCP: Final = 33
IPPROTO_ICMPV6: Final = 58
IPPROTO_SCTP: Final = 132
IPPROTO_RAW: Final = 255
IPPROTO_MPTCP: Final = 262


class Family(msgspec.Struct, frozen=True):
    """Address families whose sockets are of the same tables."""

    name: str
    words: Mapping[str, int]
    """As -f has them, and the AF_ number of each."""
    keys: Mapping[str, int]
    """The options that stand for one of them, as ``query.catalog`` has them."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """AF_."""
        return tuple(self.words.values())


INET: Final = Family("inet", {"inet": AF_INET, "inet6": AF_INET6}, {"4": AF_INET, "6": AF_INET6})
UNIX: Final = Family("unix", {"unix": AF_UNIX}, {"x": AF_UNIX})
PACKET: Final = Family("packet", {"link": AF_PACKET}, {"0": AF_PACKET})
NETLINK: Final = Family("netlink", {"netlink": AF_NETLINK}, {})
VSOCK: Final = Family("vsock", {"vsock": AF_VSOCK}, {"vsock": AF_VSOCK})
TIPC: Final = Family("tipc", {"tipc": AF_TIPC}, {"tipc": AF_TIPC})
XDP: Final = Family("xdp", {"xdp": AF_XDP}, {"xdp": AF_XDP})

FAMILIES: Final = (INET, UNIX, PACKET, NETLINK, VSOCK, TIPC, XDP)

FAMILY_WORDS: Final[Mapping[int, FamilyName]] = {
    AF_INET: "inet",
    AF_INET6: "inet6",
    AF_UNIX: "unix",
    AF_PACKET: "packet",
    AF_NETLINK: "netlink",
    AF_VSOCK: "vsock",
    AF_TIPC: "tipc",
    AF_XDP: "xdp",
}
"""AF_ → what lines call it."""

FAMILY_NUMBERS: Final[Mapping[FamilyName, int]] = {word: number for number, word in FAMILY_WORDS.items()}
"""The same backwards."""


class Protocol(msgspec.Struct, frozen=True):
    """What there is to know of one."""

    netid: str
    table: Table
    family: Family
    type: int | None = None
    """SOCK_*, where there are protocols of other types in the family."""
    number: int = 0
    """IP protocol, in the internet's families; in the others ours, beyond all of these: see ``_ours``."""
    key: str = ""
    """The option that stands for it, as ``query.catalog`` has it."""
    states: int | None = None
    """The states, bit n for ``State`` n, that ss shows of its table where none is named; None: the connected ones."""
    asked: int | None = None
    """``sdiag_protocol`` of the inet_diag request that gives its sockets, where that is not ``number``: raw_diag gives
    those of every protocol under IPPROTO_RAW.
    """
    reported: tuple[Kind, ...] = ()
    """The kernel objects whose every change the BPF programs report; none: a sweep alone shows its sockets."""
    exact: bool = False
    """Its reports keep the live table true: no sweep is needed but after a loss."""
    swept: bool = False
    """It reports nothing: the live table has its sockets from looks at the kernel alone, again and again."""


def _ours(family: Family, kind: int = 0) -> int:
    """Family and SOCK_* as one number."""
    return family.numbers[0] << 16 | kind


def _swept(netid: str, table: Table, family: Family, kind: int | None = None, states: int | None = None) -> Protocol:
    """One outside of the internet's families."""
    return Protocol(netid, table, family, kind, _ours(family, kind or 0), states=states, swept=True)


_EVERY_KIND = tuple(Kind)
_CLOSE: Final = 1 << State.CLOSE
_ESTABLISHED: Final = 1 << State.ESTABLISHED
_CONNECTIONS: Final = _ESTABLISHED | _CLOSE | 1 << State.LISTEN

PROTOCOLS: Final = (
    _swept("nl", Table.NETLINK, NETLINK, states=_CLOSE),
    _swept("p_dgr", Table.PACKET_DGRAM, PACKET, SOCK_DGRAM, _CLOSE),
    _swept("p_raw", Table.PACKET_RAW, PACKET, SOCK_RAW, _CLOSE),
    _swept("u_dgr", Table.UNIX_DGRAM, UNIX, SOCK_DGRAM, _CLOSE),
    _swept("u_str", Table.UNIX_STREAM, UNIX, SOCK_STREAM),
    _swept("u_seq", Table.UNIX_SEQPACKET, UNIX, SOCK_SEQPACKET),
    Protocol(
        "raw", Table.RAW, INET, SOCK_RAW, RAW, "w", _ESTABLISHED, IPPROTO_RAW, reported=(Kind.SOCKET,), exact=True
    ),
    Protocol("icmp6", Table.RAW, INET, None, IPPROTO_ICMPV6, "w", _ESTABLISHED, asked=IPPROTO_RAW),
    Protocol("udp", Table.UDP, INET, SOCK_DGRAM, IPPROTO_UDP, "u", _ESTABLISHED, reported=(Kind.SOCKET,), exact=True),
    Protocol("tcp", Table.TCP, INET, SOCK_STREAM, IPPROTO_TCP, "t", reported=_EVERY_KIND, exact=True),
    Protocol("dccp", Table.DCCP, INET, None, IPPROTO_DCCP, "d"),
    Protocol("sctp", Table.SCTP, INET, None, IPPROTO_SCTP, "S"),
    _swept("v_str", Table.VSOCK_STREAM, VSOCK, SOCK_STREAM),
    _swept("v_dgr", Table.VSOCK_DGRAM, VSOCK, SOCK_DGRAM),
    Protocol("ti_st", Table.TIPC, TIPC, SOCK_STREAM, states=_CONNECTIONS),
    Protocol("ti_dg", Table.TIPC, TIPC, SOCK_DGRAM, states=_CONNECTIONS),
    Protocol("ti_rd", Table.TIPC, TIPC, SOCK_RDM, states=_CONNECTIONS),
    Protocol("ti_sq", Table.TIPC, TIPC, SOCK_SEQPACKET, states=_CONNECTIONS),
    _swept("xdp", Table.XDP, XDP, states=_CLOSE),
    Protocol("mptcp", Table.MPTCP, INET, SOCK_STREAM, IPPROTO_MPTCP, "M", reported=(Kind.SOCKET,), exact=True),
)
"""In ss's order, which shows one table after the other."""

UNNAMED: Final = "???"
"""The netid of what has no line."""

OF_TABLE: Final[Mapping[Table, Protocol]] = {each.table: each for each in reversed(PROTOCOLS)}
"""Table → its protocol; of several, the first."""

SHOWN: Final[tuple[tuple[Table, ...], ...]] = tuple(
    tuple(dict.fromkeys(each.table for each in group))
    for _, group in groupby(PROTOCOLS, lambda each: each.table if each.family is INET else each.family.name)
)
"""The tables that ss shows one after the other: each of the internet's, and those of another family as one."""

_INTERNET = tuple(each for each in PROTOCOLS if each.family is INET)
_NUMBERED = tuple(each for each in PROTOCOLS if each.family is INET or each.swept)

NETID_OF_NUMBER: Final[Mapping[int, str]] = {each.number: each.netid for each in _NUMBERED}
"""``Protocol.number`` → netid."""

NUMBER_OF_NETID: Final[Mapping[str, int]] = {each.netid: each.number for each in _NUMBERED}
"""Netid → ``Protocol.number``."""

DIAG_PROTOCOL: Final[Mapping[Table, int]] = {
    each.table: each.number if each.asked is None else each.asked for each in _INTERNET
}
"""Internet table → ``sdiag_protocol`` of the request that gives its sockets."""

TABLE_OF_NUMBER: Final[Mapping[int, Table]] = {number: table for table, number in DIAG_PROTOCOL.items()} | {
    each.number: each.table for each in _NUMBERED
}
"""``Protocol.number`` → table."""

NETID_OF_TYPE: Final[Mapping[tuple[int, int | None], str]] = {
    (each.family.numbers[0], each.type): each.netid for each in PROTOCOLS if each not in _INTERNET
}
"""Family and SOCK_* → netid, outside of the internet's families."""

FOLLOWED: Final = sum(1 << each.table for each in PROTOCOLS if each.exact or each.swept)
"""Mask of the tables that can be followed live, bit n for ``Table`` n."""

RECORDED: Final = FOLLOWED
"""Mask of the tables that a recording may hold."""

DATAGRAMS: Final = frozenset(each.number for each in PROTOCOLS if each.exact and each.type in (SOCK_DGRAM, SOCK_RAW))
"""IP protocols whose sockets are followed by their owners' calls: they make no transitions (lifecycle.udp)."""

DATAGRAM_NETIDS: Final = frozenset(NETID_OF_NUMBER[number] for number in DATAGRAMS)
"""Their netids."""

SWEPT: Final = frozenset(each.number for each in PROTOCOLS if each.swept)
"""``Protocol.number`` of those that are followed by looks alone."""

SWEPT_NETIDS: Final = frozenset(NETID_OF_NUMBER[number] for number in SWEPT)
"""Their netids."""

SWEPT_TABLES: Final = sum(1 << each.table for each in PROTOCOLS if each.swept)
"""Mask of their tables."""

APPEARING: Final = DATAGRAMS | SWEPT | {IPPROTO_MPTCP}
"""Those whose sockets begin with being shown, and end with being shown no more: UNCONN is no end of theirs."""

APPEARING_NETIDS: Final = frozenset(NETID_OF_NUMBER[number] for number in APPEARING)
"""Their netids."""

TABLE_OF_NETID: Final[Mapping[str, Table]] = {each.netid: each.table for each in _NUMBERED}
"""Netid → table."""
