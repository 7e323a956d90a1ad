"""xdp_diag: the request for AF_XDP sockets, and its answers → ``XdpSocket``.

Layouts: include/uapi/linux/xdp_diag.h (struct xdp_diag_req, xdp_diag_msg, the XDP_DIAG_* attributes, which begin at 1).
"""

import struct
import sys

from sstrace.model import AF_XDP, ALL_STATES, State, Table, XdpSocket
from sstrace.wire import netlink
from sstrace.wire.netlink import Batch, Data, attributes, need, u32s

__all__ = ["SHOW", "decode", "dump_request", "row_of"]

_REQ = struct.Struct("=BBHIIII")  # family, protocol, pad, ino, show, cookie[2]
_MSG = struct.Struct("=BBHIII")  # family, type, pad, ino, cookie[2]
_PAIR = struct.Struct("=II")
_UMEM_STRUCT = struct.Struct("=QIIIIIIII")
_STATS_STRUCT = struct.Struct("=QQQQQQ")

# XDP_DIAG_* attribute numbers.
_INFO, _UID, _RX_RING, _TX_RING, _UMEM, _FILL_RING, _COMPLETION_RING, _MEMINFO, _STATS = range(1, 10)

SHOW = 0x01 | 0x02 | 0x04 | 0x08 | 0x10
"""XDP_SHOW_INFO, _RING_CFG, _UMEM, _MEMINFO, _STATS: ss asks for all of these, always."""


def dump_request(_states: int = ALL_STATES, show: int = SHOW, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for every AF_XDP socket; protocol must be 0. The kernel has no mask of states here."""
    payload = _REQ.pack(AF_XDP, 0, 0, 0, show, 0, 0)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def decode(datagram: Data) -> Batch[XdpSocket]:
    """The rows of one datagram. Recv-Q is the allocated receive memory, State CLOSE, as in ss. Raises DecodeError."""
    return netlink.batch(datagram, row_of)


def row_of(payload: bytes) -> XdpSocket:
    """One message's payload as a row. Raises DecodeError."""
    need(payload, _MSG.size, "xdp_diag", "message")
    family, _, _, ino, cookie_low, cookie_high = _MSG.unpack_from(payload)
    row = XdpSocket(
        table=Table.XDP, family=family, state=State.CLOSE.value, ino=ino, cookie=cookie_high << 32 | cookie_low
    )
    for number, value in attributes(payload[_MSG.size :]).items():
        if number == _INFO:
            row.ifindex, row.queue_id = _PAIR.unpack_from(need(value, 8, "xdp_diag", "INFO"))
        elif number == _UID:
            row.uid = _u32(value, "UID")
        elif number == _RX_RING:
            row.rx_entries = _u32(value, "RX_RING")
        elif number == _TX_RING:
            row.tx_entries = _u32(value, "TX_RING")
        elif number == _UMEM:
            row.umem = _UMEM_STRUCT.unpack_from(need(value, _UMEM_STRUCT.size, "xdp_diag", "UMEM"))
        elif number == _FILL_RING:
            row.fill_entries = _u32(value, "UMEM_FILL_RING")
        elif number == _COMPLETION_RING:
            row.completion_entries = _u32(value, "UMEM_COMPLETION_RING")
        elif number == _MEMINFO:
            row.skmem = u32s(need(value, 28, "xdp_diag", "MEMINFO"))
            row.recv_q = row.skmem[0]
        elif number == _STATS:
            row.stats = _STATS_STRUCT.unpack_from(need(value, _STATS_STRUCT.size, "xdp_diag", "STATS"))
    return row


def _u32(value: bytes, name: str) -> int:
    return int.from_bytes(need(value, 4, "xdp_diag", name)[:4], sys.byteorder)
