"""netlink_diag: the request for netlink sockets, and its answers → ``NetlinkSocket``.

Layouts: include/uapi/linux/netlink_diag.h (struct netlink_diag_req, netlink_diag_msg, the NETLINK_DIAG_* attributes,
from 0).
"""

import struct
import sys

from sstrace.model import AF_NETLINK, ALL_STATES, NetlinkSocket, State, Table
from sstrace.wire import netlink
from sstrace.wire.netlink import Batch, Data, attributes, need, u32s

__all__ = ["decode", "dump_request", "row_of"]

_REQ = struct.Struct("=BBHIIII")  # family, protocol, pad, ino, show, cookie[2]
_MSG = struct.Struct("=BBBBiIIIII")  # family, type, protocol, state, portid, dst_portid, dst_group, ino, cookie[2]

_ALL_PROTOCOLS = 0xFF  # NDIAG_PROTO_ALL
_SHOW = 0x1 | 0x2  # NDIAG_SHOW_MEMINFO, NDIAG_SHOW_GROUPS
_CONNECTED = 1  # NETLINK_CONNECTED, net/netlink/af_netlink.c

_MEMINFO, _GROUPS = 0, 1  # NETLINK_DIAG_*


def dump_request(_states: int = ALL_STATES, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for every netlink socket of every protocol, with its memory and groups. The kernel has no mask of
    states here.
    """
    payload = _REQ.pack(AF_NETLINK, _ALL_PROTOCOLS, 0, 0, _SHOW, 0, 0)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def decode(datagram: Data) -> Batch[NetlinkSocket]:
    """The rows of one datagram. The queues are the allocated memory, State is CLOSE, as in ss. Raises DecodeError."""
    return netlink.batch(datagram, row_of)


def row_of(payload: bytes) -> NetlinkSocket:
    """One message's payload as a row. Raises DecodeError."""
    need(payload, _MSG.size, "netlink_diag", "message")
    fields = _MSG.unpack_from(payload)
    family, _, protocol, state, portid, dst_portid, dst_group, ino, cookie_low, cookie_high = fields
    row = NetlinkSocket(
        table=Table.NETLINK,
        family=family,
        state=State.CLOSE.value,
        ino=ino,
        cookie=cookie_high << 32 | cookie_low,
        protocol=protocol,
        portid=portid,
        dst_portid=dst_portid,
        dst_group=dst_group,
        connected=state == _CONNECTED,
    )
    found = attributes(payload[_MSG.size :])
    if _MEMINFO in found:
        row.skmem = u32s(need(found[_MEMINFO], 28, "netlink_diag", "MEMINFO"))
        row.recv_q, row.send_q = row.skmem[0], row.skmem[2]
    if len(found.get(_GROUPS, b"")) >= 4:
        # A bitmap of unsigned longs, absent or empty where the protocol has no groups; ss shows its first 32 bits.
        row.groups = int.from_bytes(found[_GROUPS][:4], sys.byteorder)
    return row
