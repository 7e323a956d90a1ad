"""unix_diag: the request for unix sockets, and its answers → ``UnixSocket``.

Layouts: include/uapi/linux/unix_diag.h (struct unix_diag_req, unix_diag_msg, the UNIX_DIAG_* attributes, which begin
at 0).
"""

import struct
import sys

from sstrace.model import AF_UNIX, SOCK_SEQPACKET, SOCK_STREAM, Table, UnixSocket
from sstrace.wire import netlink
from sstrace.wire.netlink import Batch, Data, attributes, need, u32s

__all__ = ["decode", "dump_request", "exact_request", "look_request", "row_of", "show"]

_REQ = struct.Struct("=BBHIIIII")  # family, protocol, pad, states, ino, show, cookie[2]
_MSG = struct.Struct("=BBBxIII")  # family, type, state, pad, ino, cookie[2]
_PAIR = struct.Struct("=II")

# UDIAG_SHOW_* bits.
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER, _SHOW_ICONS, _SHOW_RQLEN, _SHOW_MEMINFO, _SHOW_UID = 1, 2, 4, 8, 16, 32, 64

_IDENTITY = _SHOW_NAME | _SHOW_PEER | _SHOW_UID

# UNIX_DIAG_* attribute numbers.
_NAME, _VFS, _PEER, _ICONS, _RQLEN, _MEMINFO, _SHUTDOWN, _UID = range(8)


def show(*, extended: bool = False, memory: bool = False, uid: bool = False) -> int:
    """The ``show`` bits for what ss asks: name, peer and queues always, more with ``-e`` and ``-m``; ``uid`` (5.3) it
    never asks.
    """
    bits = _SHOW_NAME | _SHOW_PEER | _SHOW_RQLEN
    if memory:
        bits |= _SHOW_MEMINFO
    if extended:
        bits |= _SHOW_VFS | _SHOW_ICONS
    if uid:
        bits |= _SHOW_UID
    return bits


def dump_request(states: int, show: int = 0, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for every unix socket whose state bit is in ``states``."""
    payload = _REQ.pack(AF_UNIX, 0, 0, states & 0xFFFFFFFF, 0, show, 0, 0)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def look_request() -> bytes:
    """The request for every unix socket, and of each for nothing that changes while it stays as it is: what says the
    same as before need not be decoded again.
    """
    return dump_request(0xFFFFFFFF, _IDENTITY)


def exact_request(ino: int, show: int, *, cookie: int = 0, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for the one socket with this inode; a cookie of 0 is sent as "any"."""
    cookie = cookie or 0xFFFFFFFFFFFFFFFF
    payload = _REQ.pack(AF_UNIX, 0, 0, 0xFFFFFFFF, ino, show, cookie & 0xFFFFFFFF, cookie >> 32)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.NLM_F_REQUEST, payload, sequence)


def decode(datagram: Data) -> Batch[UnixSocket]:
    """The rows of one datagram. Raises DecodeError."""
    return netlink.batch(datagram, row_of)


def row_of(payload: bytes) -> UnixSocket:
    """One message's payload as a row. Raises DecodeError."""
    need(payload, _MSG.size, "unix_diag", "message")
    family, kind, state, ino, cookie_low, cookie_high = _MSG.unpack_from(payload)
    row = UnixSocket(
        table=_table(kind), family=family, state=state, ino=ino, cookie=cookie_high << 32 | cookie_low, type=kind
    )
    for number, value in attributes(payload[_MSG.size :]).items():
        if number == _NAME:
            # A pathname is sent with its final NUL (and whatever the owner put behind it); an abstract name is all
            # its bytes.
            row.name = value if value[:1] == b"\0" else value.split(b"\0", 1)[0]
        elif number == _RQLEN:
            row.recv_q, row.send_q = _PAIR.unpack_from(need(value, 8, "unix_diag", "RQLEN"))
        elif number == _PEER:
            row.peer_ino = int.from_bytes(need(value, 4, "unix_diag", "PEER")[:4], sys.byteorder)
        elif number == _SHUTDOWN:
            row.shutdown = need(value, 1, "unix_diag", "SHUTDOWN")[0]
        elif number == _VFS:
            row.vfs = _PAIR.unpack_from(need(value, 8, "unix_diag", "VFS"))
        elif number == _ICONS:
            row.pending = u32s(value)
        elif number == _MEMINFO:
            row.skmem = u32s(need(value, 28, "unix_diag", "MEMINFO"))
        elif number == _UID:
            row.uid = int.from_bytes(need(value, 4, "unix_diag", "UID")[:4], sys.byteorder)
    return row


def _table(kind: int) -> Table:
    if kind == SOCK_STREAM:
        return Table.UNIX_STREAM
    return Table.UNIX_SEQPACKET if kind == SOCK_SEQPACKET else Table.UNIX_DGRAM
