"""packet_diag: the request for packet sockets, and its answers → ``PacketSocket``.

Layouts: include/uapi/linux/packet_diag.h (struct packet_diag_req, packet_diag_msg, the PACKET_DIAG_* attributes,
which begin at 0).
"""

import struct
import sys

from sstrace.model import AF_PACKET, ALL_STATES, SOCK_RAW, PacketSocket, State, Table
from sstrace.wire import netlink
from sstrace.wire.netlink import Batch, Data, attributes, need, u32s

__all__ = ["SHOW", "decode", "dump_request", "look_request", "row_of"]

_REQ = struct.Struct("=BBHIIII")  # family, protocol, pad, ino, show, cookie[2]
_MSG = struct.Struct("=BBHIII")  # family, type, num, ino, cookie[2]
_INFO_STRUCT = struct.Struct("=IIIIII")
_RING = struct.Struct("=IIIIIII")
_INSTRUCTION = struct.Struct("=HBBI")  # struct sock_filter

# PACKET_DIAG_* attribute numbers.
_INFO, _MCLIST, _RX_RING, _TX_RING, _FANOUT, _UID, _MEMINFO, _FILTER = range(8)

_SHOW_INFO = 0x01
SHOW = _SHOW_INFO | 0x04 | 0x08 | 0x10 | 0x20
"""PACKET_SHOW_INFO, _RING_CFG, _FANOUT, _MEMINFO, _FILTER: ss asks for all of these, always."""


def dump_request(_states: int = ALL_STATES, show: int = SHOW, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for every packet socket; protocol must be 0. The kernel has no mask of states here."""
    payload = _REQ.pack(AF_PACKET, 0, 0, 0, show, 0, 0)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def look_request() -> bytes:
    """The request for every packet socket, without what changes while it stays as it is."""
    return dump_request(show=_SHOW_INFO)


def decode(datagram: Data) -> Batch[PacketSocket]:
    """The rows of one datagram. Recv-Q is the allocated receive memory, State is CLOSE, as in ss. Raises DecodeError.

    A row without the MEMINFO attribute has ``skmem`` None; ss then turns to /proc.
    """
    return netlink.batch(datagram, row_of)


def row_of(payload: bytes) -> PacketSocket:
    """One message's payload as a row. Raises DecodeError."""
    need(payload, _MSG.size, "packet_diag", "message")
    family, kind, protocol, ino, cookie_low, cookie_high = _MSG.unpack_from(payload)
    row = PacketSocket(
        table=Table.PACKET_RAW if kind == SOCK_RAW else Table.PACKET_DGRAM,
        family=family,
        state=State.CLOSE.value,
        ino=ino,
        cookie=cookie_high << 32 | cookie_low,
        type=kind,
        protocol=protocol,
    )
    for number, value in attributes(payload[_MSG.size :]).items():
        if number == _INFO:
            row.info = _INFO_STRUCT.unpack_from(need(value, 24, "packet_diag", "INFO"))
            row.ifindex = row.info[0]
        elif number == _MEMINFO:
            row.skmem = u32s(need(value, 28, "packet_diag", "MEMINFO"))
            row.recv_q = row.skmem[0]
        elif number == _UID:
            row.uid = int.from_bytes(need(value, 4, "packet_diag", "UID")[:4], sys.byteorder)
        elif number == _RX_RING:
            row.rx_ring = _RING.unpack_from(need(value, 28, "packet_diag", "RX_RING"))
        elif number == _TX_RING:
            row.tx_ring = _RING.unpack_from(need(value, 28, "packet_diag", "TX_RING"))
        elif number == _FANOUT:
            row.fanout = int.from_bytes(need(value, 4, "packet_diag", "FANOUT")[:4], sys.byteorder)
        elif number == _FILTER:
            row.bpf = tuple(_INSTRUCTION.iter_unpack(value[: len(value) & ~7]))
    return row
