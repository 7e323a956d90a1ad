"""tipc_diag: the request for TIPC sockets, and its answers → ``TipcSocket``.

Layouts: include/uapi/linux/tipc_sockets_diag.h (struct tipc_sock_diag_req), include/uapi/linux/tipc_netlink.h (the
TIPC_NLA_* nests). An answer has no fixed part: it is one TIPC_NLA_SOCK nest.
"""

import struct
import sys

from sstrace.model import AF_TIPC, Table, TipcSocket
from sstrace.wire import netlink
from sstrace.wire.netlink import Batch, Data, attributes, need

__all__ = ["decode", "dump_request"]

_REQ = struct.Struct("=BBHI")  # family, protocol, pad, states

_NLA_SOCK = 2  # TIPC_NLA_SOCK
# TIPC_NLA_SOCK_*
_ADDR, _REF, _CON, _HAS_PUBL, _STAT, _TYPE, _INO, _UID, _TIPC_STATE, _COOKIE = range(1, 11)
# TIPC_NLA_CON_*
_CON_FLAG, _CON_NODE, _CON_SOCK, _CON_TYPE, _CON_INST = range(1, 6)
# TIPC_NLA_SOCK_STAT_*, which alone of these begin at 0
_STAT_RCVQ, _STAT_SENDQ, _STAT_LINK_CONG, _STAT_CONN_CONG, _STAT_DROP = range(5)


def dump_request(states: int, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for every TIPC socket whose state bit is in ``states``."""
    payload = _REQ.pack(AF_TIPC, 0, 0, states & 0xFFFFFFFF)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def decode(datagram: Data) -> Batch[TipcSocket]:
    """The rows of one datagram; a message without a TIPC_NLA_SOCK nest is none. Raises DecodeError."""
    return netlink.batch(datagram, _row)


def _row(payload: bytes) -> TipcSocket | None:
    nest = attributes(payload).get(_NLA_SOCK)
    if nest is None:
        return None
    found = attributes(nest)
    stat = attributes(found.get(_STAT, b""))
    state = _u32(found, _TIPC_STATE)
    row = TipcSocket(
        table=Table.TIPC,
        family=AF_TIPC,
        state=state,
        recv_q=_u32(stat, _STAT_RCVQ),
        send_q=_u32(stat, _STAT_SENDQ),
        ino=_u32(found, _INO),
        type=_u32(found, _TYPE),
        node=_u32(found, _ADDR),
        ref=_u32(found, _REF),
        uid=_u32(found, _UID),
        tipc_state=state,
        published=_HAS_PUBL in found,
        congestion=(_STAT_LINK_CONG in stat) | (_STAT_CONN_CONG in stat) << 1,
        drops=_u32(stat, _STAT_DROP),
    )
    if _COOKIE in found:
        row.cookie = int.from_bytes(need(found[_COOKIE], 8, "tipc_diag", "COOKIE")[:8], sys.byteorder)
    if _CON in found:
        connection = attributes(found[_CON])
        row.peer_node = _u32(connection, _CON_NODE)
        row.peer_ref = _u32(connection, _CON_SOCK)
        if _CON_FLAG in connection:
            row.via = (_u32(connection, _CON_TYPE), _u32(connection, _CON_INST))
    return row


def _u32(found: dict[int, bytes], number: int) -> int:
    value = found.get(number)
    if value is None:
        return 0
    return int.from_bytes(need(value, 4, "tipc_diag", f"attribute {number}")[:4], sys.byteorder)
