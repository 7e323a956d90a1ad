"""vsock_diag: the request for vsock sockets, and its answers → ``VsockSocket``.

Layouts: include/uapi/linux/vm_sockets_diag.h (struct vsock_diag_req, vsock_diag_msg; no attributes).
"""

import struct

from sstrace.model import AF_VSOCK, SOCK_STREAM, Table, VsockSocket
from sstrace.wire import netlink
from sstrace.wire.netlink import Batch, Data, need

__all__ = ["decode", "dump_request", "row_of"]

_REQ = struct.Struct("=BBHIIIII")  # family, protocol, pad, states, ino, show, cookie[2]
_MSG = struct.Struct("=BBBBIIIIIII")  # family, type, state, shutdown, src cid, port, dst cid, port, ino, cookie[2]


def dump_request(states: int, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for every vsock socket whose state bit is in ``states``."""
    payload = _REQ.pack(AF_VSOCK, 0, 0, states & 0xFFFFFFFF, 0, 0, 0, 0)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def decode(datagram: Data) -> Batch[VsockSocket]:
    """The rows of one datagram. Raises DecodeError."""
    return netlink.batch(datagram, row_of)


def row_of(payload: bytes) -> VsockSocket:
    """One message's payload as a row. Raises DecodeError."""
    need(payload, _MSG.size, "vsock_diag", "message")
    fields = _MSG.unpack_from(payload)
    family, kind, state, shutdown, src_cid, sport, dst_cid, dport, ino, cookie_low, cookie_high = fields
    return VsockSocket(
        table=Table.VSOCK_STREAM if kind == SOCK_STREAM else Table.VSOCK_DGRAM,
        family=family,
        state=state,
        ino=ino,
        cookie=cookie_high << 32 | cookie_low,
        type=kind,
        src_cid=src_cid,
        sport=sport,
        dst_cid=dst_cid,
        dport=dport,
        shutdown=shutdown,
    )
