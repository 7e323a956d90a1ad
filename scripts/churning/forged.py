"""Segments that no socket sent, and sockets that are closed from outside."""

import array
import contextlib
import ctypes
import socket
import struct

NETLINK_SOCK_DIAG, SOCK_DESTROY = 4, 21  # include/uapi/linux/netlink.h, sock_diag.h


def _checksum(data: bytes) -> int:
    words = array.array("H", data if len(data) % 2 == 0 else data + b"\0")
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return socket.htons(~total & 0xFFFF)


def segment(source: tuple[str, int], target: tuple[str, int], sequence: int, acknowledged: int, flags: int) -> bytes:
    """An IP packet with a bare TCP header in it; flags: 2 SYN, 4 RST, 16 ACK, 1 FIN."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    src, dst = socket.inet_pton(family, source[0]), socket.inet_pton(family, target[0])
    head = struct.pack(">HHIIBBHHH", source[1], target[1], sequence, acknowledged, 5 << 4, flags, 4096, 0, 0)
    pseudo = src + dst + struct.pack(">HH" if family == socket.AF_INET else ">II", 6, len(head))
    if family == socket.AF_INET6:
        pseudo = src + dst + struct.pack(">II", len(head), 6)
    head = head[:16] + struct.pack(">H", _checksum(pseudo + head)) + head[18:]
    if family == socket.AF_INET:
        return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(head), 0, 0, 64, 6, 0) + src + dst + head
    return struct.pack(">IHBB", 6 << 28, len(head), 6, 64) + src + dst + head


class Raw:
    """Sends forged segments."""

    def __init__(self) -> None:
        self._v4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._v6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def send(
        self, source: tuple[str, int], target: tuple[str, int], sequence: int, acknowledged: int, flags: int
    ) -> None:
        packet = segment(source, target, sequence, acknowledged, flags)
        with contextlib.suppress(OSError):
            (self._v6 if ":" in target[0] else self._v4).sendto(packet, (target[0], 0))


class Destroyer:
    """SOCK_DESTROY, what ``ss -K`` sends, by tuple."""

    def __init__(self) -> None:
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)

    def kill(self, source: tuple[str, int], target: tuple[str, int]) -> None:
        family = socket.AF_INET6 if ":" in source[0] else socket.AF_INET
        tuple_ = struct.pack(
            ">HH16s16s", source[1], target[1], socket.inet_pton(family, source[0]), socket.inet_pton(family, target[0])
        )
        body = struct.pack("=BBBBI", family, 6, 0, 0, 0xFFF) + tuple_ + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
        self._netlink.send(struct.pack("=IHHII", 16 + len(body), SOCK_DESTROY, 1 | 4, 1, 0) + body)
        self._netlink.recv(4096)


DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
DROP_PROGRAM = struct.pack("@HP", 1, ctypes.addressof(DROP_ALL))
"""struct sock_fprog of one instruction, ``return 0``: the socket receives nothing, as behind a cut line."""
