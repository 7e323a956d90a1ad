"""inet_diag: the requests for tcp, udp, raw, mptcp, dccp and sctp sockets, and their answers → ``InetSocket``.

Layouts: include/uapi/linux/inet_diag.h (struct inet_diag_req_v2, the INET_DIAG_* attributes); an answer's fixed part:
``inet_layout``. Ports and addresses of a request are big-endian, everything else the host's order.

This is the hot path of a snapshot: one ``unpack_from`` and one object a row, and the attributes of a row are looked
up by their bytes, because a hundred thousand idle sockets carry a handful of different attribute blobs among them.
"""

import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from sstrace.errors import DecodeError
from sstrace.model import AF_INET, AF_INET6, Extras, InetSocket, Table
from sstrace.protocols import DIAG_PROTOCOL, TABLE_OF_NUMBER
from sstrace.wire import inet_layout, netlink
from sstrace.wire.inet_layout import LITTLE, swap_words
from sstrace.wire.netlink import Batch, Data, attribute, attributes, need, u32s, walk

__all__ = [
    "decode",
    "decode_event",
    "decode_extras",
    "decode_storage",
    "destroy_request",
    "dump_request",
    "exact_request",
    "extensions",
    "legacy_request",
    "side",
]

# Answer types: TCPDIAG_GETSOCK and DCCPDIAG_GETSOCK answer the legacy requests, SOCK_DIAG_BY_FAMILY the others.
_LEGACY = {Table.TCP: 18, Table.DCCP: 19}
_KINDS = frozenset((18, 19, netlink.SOCK_DIAG_BY_FAMILY))

_REQ_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_REQ_STORAGES = 2  # INET_DIAG_REQ_SK_BPF_STORAGES
_REQ_PROTOCOL = 3  # INET_DIAG_REQ_PROTOCOL

# INET_DIAG_* attribute numbers.
_MEMINFO, _INFO, _VEGAS, _CONG, _TOS, _TCLASS, _SKMEMINFO, _SHUTDOWN = 1, 2, 3, 4, 5, 6, 7, 8
_DCTCP, _PROTOCOL, _SKV6ONLY, _LOCALS, _PEERS = 9, 10, 11, 12, 13
_MARK, _BBR, _CLASS_ID, _MD5, _ULP_INFO, _STORAGES, _CGROUP_ID, _SOCKOPT = 15, 16, 17, 18, 19, 20, 21, 22

_REQ_V2 = struct.Struct("=BBBBI")  # sdiag_family, sdiag_protocol, idiag_ext, pad, idiag_states; then a sockid
_PORTS = struct.Struct(">HH")  # the head of struct inet_diag_sockid
_SOCKID_TAIL = struct.Struct("=16s16sIII")  # src, dst, if, cookie[2]
_NO_SOCKID = b"\0" * (_PORTS.size + _SOCKID_TAIL.size)

# Every member but the header's sequence and port, and the ports, which are read apart.
_READ = [name for name in inet_layout.MEMBERS if name not in ("nlmsg_seq", "nlmsg_pid", "sport", "dport")]
_MESSAGE_V4 = struct.Struct("=" + inet_layout.codes(AF_INET, *_READ))
_MESSAGE_V6 = struct.Struct("=" + inet_layout.codes(AF_INET6, *_READ))
_FIXED = inet_layout.SIZE
_FAMILY, _SPORT = inet_layout.OFFSET["family"], inet_layout.OFFSET["sport"]

# A blob with tcp_info in it hardly ever comes twice, and a big one is not worth hashing.
_MEMO_BLOB = 120
_MEMO_ROOM = 8192
_memo: dict[bytes, Extras] = {}


def extensions(*, memory: bool = False, info: bool = False, tos: bool = False) -> int:
    """The ``ext`` bits of a request, bit n-1 for attribute n, for what ss asks with ``-m``, ``-i`` and ``--tos``.

    Vegas also brings dctcp and bbr; TCLASS also CLASS_ID; the other attributes come unasked.
    """
    bits = 0
    if memory:
        bits |= 1 << (_MEMINFO - 1) | 1 << (_SKMEMINFO - 1)
    if info:
        bits |= 1 << (_INFO - 1) | 1 << (_VEGAS - 1) | 1 << (_CONG - 1)
    if tos:
        bits |= 1 << (_TOS - 1) | 1 << (_TCLASS - 1)
    return bits


def dump_request(
    table: Table,
    family: int,
    states: int,
    *,
    ext: int = 0,
    bytecode: bytes = b"",
    storage_maps: Sequence[int] | None = None,
    sequence: int = netlink.SEQUENCE,
) -> bytes:
    """The request for every socket of a table and family whose state bit is in ``states``.

    ``bytecode``: an inet_diag filter program, run by the kernel. ``storage_maps``: file descriptors of the sk-storage
    maps whose values are wanted (an empty sequence: of all of them); needs kernel 5.6.
    """
    protocol = DIAG_PROTOCOL[table]
    payload = _REQ_V2.pack(family, protocol & 0xFF, ext, 0, states & 0xFFFFFFFF) + _NO_SOCKID
    if bytecode:
        payload += attribute(_REQ_BYTECODE, bytecode)
    if protocol > 0xFF:
        payload += attribute(_REQ_PROTOCOL, struct.pack("=I", protocol))
    if storage_maps is not None:
        nest = b"".join(attribute(1, struct.pack("=I", fd)) for fd in storage_maps)
        payload += attribute(_REQ_STORAGES, nest)
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.DUMP, payload, sequence)


def legacy_request(table: Table, states: int, *, family: int = AF_INET, ext: int = 0, bytecode: bytes = b"") -> bytes:
    """The request of kernels before 3.3 (TCPDIAG_GETSOCK, DCCPDIAG_GETSOCK), for tcp and dccp only; it answers with
    both families.
    """
    payload = struct.pack("=BBBB", family, 0, 0, ext) + _NO_SOCKID + struct.pack("=II", states & 0xFFFFFFFF, 0)
    if bytecode:
        payload += attribute(_REQ_BYTECODE, bytecode)
    return netlink.request(_LEGACY[table], netlink.DUMP, payload)


def exact_request(socket: InetSocket, *, ext: int = 0, sequence: int = netlink.SEQUENCE) -> bytes:
    """The request for this one socket, by tuple and cookie. One message answers: the row, or an error (ENOENT when it
    is gone).

    A cookie of 0 is sent as "any" (INET_DIAG_NOCOOKIE).
    """
    payload = _address(socket, ext, 1 << socket.state) + _sockid(socket)
    protocol = DIAG_PROTOCOL[socket.table]
    if protocol > 0xFF:
        payload += attribute(_REQ_PROTOCOL, struct.pack("=I", protocol))
    return netlink.request(netlink.SOCK_DIAG_BY_FAMILY, netlink.NLM_F_REQUEST, payload, sequence)


def destroy_request(socket: InetSocket, *, sequence: int = netlink.SEQUENCE) -> bytes:
    """SOCK_DESTROY for this one socket, acknowledged: ERROR 0, or the errno (EOPNOTSUPP, ENOENT, EPERM).

    An MPTCP socket is named by the low 8 bits of its protocol, as ss does it: that is TCP, where the kernel does not
    find it.
    """
    payload = _address(socket, 0, 0) + _sockid(socket)
    flags = netlink.NLM_F_REQUEST | netlink.NLM_F_ACK
    return netlink.request(netlink.SOCK_DESTROY, flags, payload, sequence)


def _address(socket: InetSocket, ext: int, states: int) -> bytes:
    # struct inet_diag_req_raw puts the protocol of a raw socket (its "port") into what is padding elsewhere.
    raw = socket.sport & 0xFF if socket.table is Table.RAW else 0
    return _REQ_V2.pack(socket.family, DIAG_PROTOCOL[socket.table] & 0xFF, ext, raw, states)


def _sockid(socket: InetSocket) -> bytes:
    cookie = socket.cookie or 0xFFFFFFFFFFFFFFFF
    return _PORTS.pack(socket.sport, socket.dport) + _SOCKID_TAIL.pack(
        socket.src, socket.dst, socket.ifindex, cookie & 0xFFFFFFFF, cookie >> 32
    )


def decode(datagram: Data, table: Table, *, extras: bool = True) -> Batch[InetSocket]:
    """The rows of one datagram of an answer about ``table``.

    Without ``extras`` attributes are skipped, except for IPv6 rows (whether a wildcard prints as ``*`` hangs on
    SKV6ONLY). Rows whose attributes are byte for byte equal may share one Extras. Raises DecodeError.
    """
    rows: list[InetSocket] = []
    answer = Batch(rows)
    add = rows.append
    unpack_v4, unpack_v6, ports = _MESSAGE_V4.unpack_from, _MESSAGE_V6.unpack_from, _PORTS.unpack_from
    known = _memo.get
    offset, size = 0, len(datagram)
    # The body below is written out flat, without helper calls: it runs once for every socket of the machine.
    while offset < size:
        kind = length = 0
        if size - offset >= _FIXED:
            unpack = unpack_v4 if datagram[offset + _FAMILY] == AF_INET else unpack_v6
            (
                length, kind, flags, family, state, timer, retrans,
                src, dst, ifindex, cookie, expires, rqueue, wqueue, uid, inode,
            ) = unpack(datagram, offset)  # fmt: skip
        if kind not in _KINDS or not _FIXED <= length <= size - offset:
            kind, flags, start, end = netlink.message(datagram, offset)
            if flags & netlink.NLM_F_DUMP_INTR:
                answer.interrupted = True
            if kind in _KINDS:
                raise DecodeError(
                    f"inet_diag: the message at offset {offset} is {end - start} bytes long, 72 are the least"
                )
            if netlink.is_last(answer, kind, datagram, start, end):
                break
            offset = (end + 3) & ~3
            continue
        if flags & 0x10:  # NLM_F_DUMP_INTR
            answer.interrupted = True
        sport, dport = ports(datagram, offset + _SPORT)
        more = None
        if (extras or family == AF_INET6) and length > _FIXED:
            blob = bytes(datagram[offset + _FIXED : offset + length])
            more = known(blob) or _remember(blob)
        if not LITTLE:
            cookie = swap_words(cookie)
        add(
            InetSocket(
                table, family, state, rqueue, wqueue, inode, cookie, src, sport, dst, dport,
                uid, ifindex, timer, retrans, expires, more,
            )
        )  # fmt: skip
        offset += (length + 3) & ~3
    return answer


def decode_event(datagram: Data) -> Batch[InetSocket]:
    """The rows of one datagram of the destroy multicast groups: each row's table is what its PROTOCOL attribute says
    (tcp if none).
    """
    answer = decode(datagram, Table.TCP)
    for row in answer.rows:
        if row.extras is not None and row.extras.protocol is not None:
            row.table = TABLE_OF_NUMBER.get(row.extras.protocol, Table.TCP)
    return answer


def _remember(blob: bytes) -> Extras:
    """Decode a blob that is not in the memo, and put it there unless it is one that hardly comes again."""
    if len(blob) > _MEMO_BLOB:
        return _around_info(blob)
    extras = decode_extras(blob)
    if len(_memo) >= _MEMO_ROOM:
        _memo.clear()
    _memo[blob] = extras
    return extras


def _around_info(blob: bytes) -> Extras:
    """A long blob has tcp_info in it, different in every socket; what stands before and behind it is mostly the same.

    Where tcp_info stood in the blob before, it is looked for first: its header there, and attributes that end exactly
    there, prove it. So the two sides are found in a memo of their own, and only tcp_info is new.
    """
    header, at, stop, end = _info_place[0]
    if blob[at : at + 4] == header and len(blob) >= end:
        try:
            before, behind = side(blob[:at]), side(blob[end:])
        except DecodeError:
            return decode_extras(blob)
        # Where an attribute is there twice the first one stands.
        return Extras(**{**behind, "info": blob[at + 4 : stop], **before})
    extras = decode_extras(blob)
    if extras.info is not None:
        whole = attribute(_INFO, extras.info)
        at = blob.find(whole)
        stop = at + 4 + len(extras.info)
        _info_place[0] = (whole[:4], at, stop, at + len(whole)) if at >= 0 else _NO_PLACE
    return extras


# Header bytes of the last tcp_info, where it began and stopped, and where the next attribute begins.
_NO_PLACE = (b"none", 0, 0, 0)  # no attribute begins like that: 28526 bytes of type 25966
_info_place = [_NO_PLACE]
_sides: dict[bytes, dict[str, Any]] = {}


def side(blob: bytes) -> dict[str, Any]:
    """Some attributes of an answer as fields of ``Extras``; a dict that others share. Raises DecodeError."""
    fields = _sides.get(blob)
    if fields is None:
        fields = _fields(blob)
        if len(_sides) >= _MEMO_ROOM:
            _sides.clear()
        if len(blob) <= _MEMO_BLOB:
            _sides[blob] = fields
    return fields


def decode_extras(blob: bytes) -> Extras:
    """The attributes of one answer; unknown ones are ignored, one too short for its type raises DecodeError."""
    return Extras(**_fields(blob))


def _fields(blob: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for kind, payload in attributes(blob).items():
        decoder = _ATTRIBUTES.get(kind)
        if decoder is not None:
            name, least, convert = decoder
            fields[name] = convert(need(payload, least, "inet_diag", name))
    return fields


def _u8(payload: bytes) -> int:
    return payload[0]


def _u32(payload: bytes) -> int:
    value: int = _U32.unpack_from(payload)[0]
    return value


def _u64(payload: bytes) -> int:
    value: int = _U64.unpack_from(payload)[0]
    return value


def _bbr(payload: bytes) -> tuple[int, int, int, int]:
    low, high, min_rtt, pacing_gain, cwnd_gain = _BBR_INFO.unpack_from(payload)
    return high << 32 | low, min_rtt, pacing_gain, cwnd_gain


def _md5sig(payload: bytes) -> tuple[tuple[int, int, bytes, bytes], ...]:
    keys = []
    for offset in range(0, len(payload) - _MD5SIG.size + 1, _MD5SIG.size):
        family, prefix, length, address, key = _MD5SIG.unpack_from(payload, offset)
        keys.append((family, prefix, address[:4] if family == AF_INET else address, key[:length]))
    return tuple(keys)


def _storage_addresses(payload: bytes) -> tuple[tuple[int, bytes], ...]:
    # An array of struct sockaddr_storage, 128 bytes each: family, port, then sin_addr at 4 or sin6_addr at 8.
    found = []
    for offset in range(0, len(payload) - 127, 128):
        family = int.from_bytes(payload[offset : offset + 2], sys.byteorder)
        start, size = (offset + 4, 4) if family == AF_INET else (offset + 8, 16)
        found.append((family, payload[start : start + size]))
    return tuple(found)


_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
_BBR_INFO = struct.Struct("=IIIII")  # struct tcp_bbr_info
_VEGAS_INFO = struct.Struct("=IIII")  # struct tcpvegas_info
_DCTCP_INFO = struct.Struct("=HHIII")  # struct tcp_dctcp_info
_MD5SIG = struct.Struct("=BBH16s80s")  # struct tcp_diag_md5sig: family, prefixlen, keylen, addr, key

# Attribute number → (Extras field, least payload size, conversion).
_ATTRIBUTES: dict[int, tuple[str, int, Callable[[bytes], Any]]] = {
    _MEMINFO: ("meminfo", 16, u32s),
    _INFO: ("info", 0, bytes),
    _VEGAS: ("vegas", 16, _VEGAS_INFO.unpack_from),
    _CONG: ("congestion", 0, lambda payload: payload.split(b"\0", 1)[0].decode("latin-1")),
    _TOS: ("tos", 1, _u8),
    _TCLASS: ("tclass", 1, _u8),
    _SKMEMINFO: ("skmem", 28, u32s),
    _SHUTDOWN: ("shutdown", 1, _u8),
    _DCTCP: ("dctcp", 16, _DCTCP_INFO.unpack_from),
    _PROTOCOL: ("protocol", 1, _u8),
    _SKV6ONLY: ("v6only", 1, lambda payload: payload[0] != 0),
    _LOCALS: ("locals", 0, _storage_addresses),
    _PEERS: ("peers", 0, _storage_addresses),
    _MARK: ("mark", 4, _u32),
    _BBR: ("bbr", 20, _bbr),
    _CLASS_ID: ("class_id", 4, _u32),
    _MD5: ("md5", 0, _md5sig),
    _ULP_INFO: ("ulp", 0, bytes),
    _STORAGES: ("storage", 0, bytes),
    _CGROUP_ID: ("cgroup_id", 8, _u64),
    _SOCKOPT: ("sockopt", 2, lambda payload: int.from_bytes(payload[:2], "little")),
}


def decode_storage(blob: bytes) -> list[tuple[int, bytes]]:
    """``Extras.storage`` → (map id, value) for each sk-storage map the socket has a value in."""
    found = []
    for kind, nest in walk(blob):
        inner = attributes(nest) if kind == 1 else {}  # SK_DIAG_BPF_STORAGE
        if 2 in inner and 3 in inner:  # SK_DIAG_BPF_STORAGE_MAP_ID, _MAP_VALUE
            found.append((_u32(need(inner[2], 4, "inet_diag", "BPF storage map id")), inner[3]))
    return found
