"""Rows → the bytes that the kernel would have answered: a dump as ``ss -D`` writes it and ``TCPDIAG_FILE`` reads it.

Layout: ``inet_layout``.
"""

import struct
from _socket import htons
from collections.abc import Iterable

from sstrace.model import AF_INET6, InetSocket
from sstrace.wire import inet_layout, netlink

__all__ = ["dump"]

_NLM_F_MULTI = 2
_SKV6ONLY = 11  # INET_DIAG_SKV6ONLY

_MESSAGE = struct.Struct("=" + inet_layout.codes(AF_INET6, *inet_layout.MEMBERS))  # an IPv4 address is padded
_HEADER = struct.Struct("=IHHII")


def dump(rows: Iterable[InetSocket]) -> bytes:
    """One answer to a dump request: every row, then DONE. What is not known is 0, or left out."""
    out = bytearray()
    for row in rows:
        timer, retrans, expires_ms = (0, 0, 0) if row.partial else (row.timer, row.retrans, row.expires_ms)
        recv_q, send_q = (0, 0) if row.partial else (row.recv_q, row.send_q)
        extras, more = row.extras, b""
        if extras is not None and row.family == AF_INET6 and extras.v6only is not None:
            more = netlink.attribute(_SKV6ONLY, bytes((extras.v6only,)))
        out += _MESSAGE.pack(
            inet_layout.SIZE + len(more), netlink.SOCK_DIAG_BY_FAMILY, _NLM_F_MULTI, netlink.SEQUENCE, 0,
            row.family, row.state, timer, retrans, htons(row.sport), htons(row.dport), row.src, row.dst, row.ifindex,
            row.cookie if inet_layout.LITTLE else inet_layout.swap_words(row.cookie),
            expires_ms, recv_q, send_q, row.uid, row.ino & 0xFFFFFFFF,
        )  # fmt: skip
        out += more
    out += _HEADER.pack(netlink.HEADER_SIZE + 4, netlink.NLMSG_DONE, _NLM_F_MULTI, netlink.SEQUENCE, 0) + bytes(4)
    return bytes(out)
