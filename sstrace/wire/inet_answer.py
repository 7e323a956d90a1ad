"""Rows → the bytes that the kernel would have answered: a dump as ``ss -D`` writes it and ``TCPDIAG_FILE`` reads it.

Layout: struct inet_diag_msg, include/uapi/linux/inet_diag.h, host byte order but for ports and addresses.
"""

import struct
from collections.abc import Iterable

from sstrace.model import AF_INET6, InetSocket
from sstrace.wire import netlink

__all__ = ["dump"]

_NLM_F_MULTI = 2
_SKV6ONLY = 11  # INET_DIAG_SKV6ONLY

_FIXED = struct.Struct("=BBBB")
_PORTS = struct.Struct(">HH")
_REST = struct.Struct("=16s16sIIIIIIII")  # src, dst, if, cookie[2], expires, rqueue, wqueue, uid, inode
_HEADER = struct.Struct("=IHHII")


def dump(rows: Iterable[InetSocket]) -> bytes:
    """One answer to a dump request: every row, then DONE. What is not known is 0, or left out."""
    out = bytearray()
    for row in rows:
        timer = (0, 0, 0) if row.partial else (row.timer, row.retrans, row.expires_ms)
        body = (
            _FIXED.pack(row.family, row.state, timer[0], timer[1])
            + _PORTS.pack(row.sport, row.dport)
            + _REST.pack(
                row.src,
                row.dst,
                row.ifindex,
                row.cookie & 0xFFFFFFFF,
                row.cookie >> 32,
                timer[2],
                0 if row.partial else row.recv_q,
                0 if row.partial else row.send_q,
                row.uid,
                row.ino & 0xFFFFFFFF,
            )
        )
        extras = row.extras
        if extras is not None and row.family == AF_INET6 and extras.v6only is not None:
            body += netlink.attribute(_SKV6ONLY, bytes((extras.v6only,)))
        size = netlink.HEADER_SIZE + len(body)
        out += _HEADER.pack(size, netlink.SOCK_DIAG_BY_FAMILY, _NLM_F_MULTI, netlink.SEQUENCE, 0) + body
    out += _HEADER.pack(netlink.HEADER_SIZE + 4, netlink.NLMSG_DONE, _NLM_F_MULTI, netlink.SEQUENCE, 0) + bytes(4)
    return bytes(out)
