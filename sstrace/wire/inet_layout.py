"""struct nlmsghdr and struct inet_diag_msg as one message has them: the layout that every decoder of inet_diag reads.

Each wants other members of it, for speed: ``codes`` makes the format that reads those and skips the rest. Layout:
include/uapi/linux/netlink.h, include/uapi/linux/inet_diag.h; the names are theirs without ``idiag_``. Everything is in
the host's byte order but for the ports, which stand in the network's and are read in the host's: ``ntohs`` gives the
number.
"""

import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sstrace.model import AF_INET, AF_INET6, State
from sstrace.wire.netlink import NLM_F_DUMP_INTR, SOCK_DIAG_BY_FAMILY

__all__ = ["FAMILIES", "LITTLE", "MEMBERS", "OFFSET", "SIZE", "codes", "is_plain", "swap_words"]

MEMBERS: Final = {
    "nlmsg_len": "I",
    "nlmsg_type": "H",
    "nlmsg_flags": "H",
    "nlmsg_seq": "I",
    "nlmsg_pid": "I",
    "family": "B",
    "state": "B",
    "timer": "B",
    "retrans": "B",
    "sport": "H",
    "dport": "H",
    "src": "16s",
    "dst": "16s",
    "if": "I",
    "cookie": "Q",  # __u32[2], the low word first: see ``swap_words``
    "expires": "I",
    "rqueue": "I",
    "wqueue": "I",
    "uid": "I",
    "inode": "I",
}
"""Member → struct code, in order."""

FAMILIES: Final = (AF_INET, AF_INET6)
LITTLE: Final = sys.byteorder == "little"


def _size(code: str) -> int:
    return struct.calcsize(f"={code}")


SIZE: Final = _size("".join(MEMBERS.values()))
"""Bytes of header and fixed part; the attributes follow."""

OFFSET: Final = {name: _size("".join(list(MEMBERS.values())[:number])) for number, name in enumerate(MEMBERS)}
"""Member → its place in the message."""


def codes(family: int, *wanted: str) -> str:
    """Struct codes, without a byte order, of a message of ``SIZE`` bytes: members that are not wanted are padding. An
    IPv4 address is the first four bytes of its member.
    """
    made = []
    for name, code in MEMBERS.items():
        if name not in wanted:
            made.append(f"{_size(code)}x")
        elif code == "16s" and family == AF_INET:
            made.append("4s12x")
        else:
            made.append(code)
    return "".join(made)


def swap_words(cookie: int) -> int:
    """A cookie that was read or will be written as one number, where the host's byte order is big."""
    return cookie >> 32 | (cookie & 0xFFFFFFFF) << 32


_LAST_STATE: Final = max(State)
_ANY6: Final = bytes(16)


def is_plain(columns: Mapping[str, Sequence[Any]], family: int) -> bool:
    """Whether these members of some messages (of one kind a column) are of nothing but rows of ``family`` that print
    without further thought. Not plain: another message, an interrupted dump, a state that has no name, a row bound to
    an interface, an IPv6 wildcard (how it prints hangs on an attribute).
    """
    types, families = columns["nlmsg_type"], columns["family"]
    count = len(types)
    return not (
        types.count(SOCK_DIAG_BY_FAMILY) != count
        or families.count(family) != count
        or any(columns["if"])
        or max(columns["state"]) > _LAST_STATE
        or any(flags & NLM_F_DUMP_INTR for flags in set(columns["nlmsg_flags"]))
        or (family == AF_INET6 and (_ANY6 in columns["src"] or _ANY6 in columns["dst"]))
    )
