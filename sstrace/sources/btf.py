"""Offsets of kernel struct members, from the kernel's own BTF through libbpf.

Enters: a path to a BTF blob (``/sys/kernel/btf/vmlinux``). Leaves: ints. libbpf comes with every libbcc; it is opened
with ctypes here and nowhere else. Layout of BTF types: include/uapi/linux/btf.h (Linux 4.18), stable since.
"""

import ctypes
import errno
import sys

from sstrace.errors import FeatureError

__all__ = ["VMLINUX", "Btf", "open_libbpf"]

VMLINUX = "/sys/kernel/btf/vmlinux"

_KIND_STRUCT = 4
_KIND_UNION = 5
_KIND_TYPEDEF = 8
_KIND_CONST = 10
_KIND_VOLATILE = 9
_TRANSPARENT = (_KIND_TYPEDEF, _KIND_CONST, _KIND_VOLATILE)


class _Member(ctypes.Structure):
    """struct btf_member."""

    _fields_ = (("name_off", ctypes.c_uint32), ("type", ctypes.c_uint32), ("offset", ctypes.c_uint32))


class _Type(ctypes.Structure):
    """struct btf_type; its members follow it in memory."""

    _fields_ = (("name_off", ctypes.c_uint32), ("info", ctypes.c_uint32), ("size_or_type", ctypes.c_uint32))


def open_libbpf(*, use_errno: bool = False) -> ctypes.CDLL:
    """The libbpf that bcc brings; ``use_errno`` for who asks for errno after a call. Raises FeatureError."""
    # Debian 12+ has libbpf.so.1, Ubuntu 22.04 and Debian 11 libbpf.so.0; the BTF calls used here are in both.
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            return ctypes.CDLL(name, use_errno=use_errno)
        except OSError:
            continue
    raise FeatureError("libbpf is not installed: it comes with bcc (Debian: apt install python3-bpfcc)")


class Btf:
    """A parsed BTF blob; a context manager, since libbpf holds some megabytes for it."""

    def __init__(self, path: str = VMLINUX) -> None:
        lib = open_libbpf(use_errno=True)
        lib.btf__parse.restype = ctypes.c_void_p
        lib.btf__parse.argtypes = (ctypes.c_char_p, ctypes.c_void_p)
        lib.btf__free.argtypes = (ctypes.c_void_p,)
        lib.btf__type_by_id.restype = ctypes.POINTER(_Type)
        lib.btf__type_by_id.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        lib.btf__find_by_name_kind.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32)
        lib.btf__name_by_offset.restype = ctypes.c_char_p
        lib.btf__name_by_offset.argtypes = (ctypes.c_void_p, ctypes.c_uint32)
        self._lib = lib
        self._btf = lib.btf__parse(path.encode(), None)
        # libbpf 0.x answers an encoded errno (an address in the last page) where libbpf 1.x answers NULL.
        if not self._btf or self._btf > 2**64 - 4096:
            number = ctypes.get_errno() if not self._btf else 2**64 - self._btf
            self._btf = None
            if number == errno.ENOMEM:
                raise MemoryError(f"for {path}")
            raise FeatureError(
                f"the kernel offers no BTF at {path} (CONFIG_DEBUG_INFO_BTF): struct offsets are unknown"
            )

    def __enter__(self) -> "Btf":
        return self

    def __exit__(self, *_: object) -> None:
        if self._btf:
            self._lib.btf__free(self._btf)
            self._btf = None

    def offset(self, struct: str, path: str) -> int | None:
        """Byte offset of a member in a struct, ``None`` when the kernel has no such struct or member.

        ``path`` may go through embedded structs: ``offset("net", "ns.inum")``. Anonymous structs and unions are
        looked into.
        """
        bits = self._bits(struct, path)
        return None if bits is None else bits // 8

    def bit(self, struct: str, path: str) -> tuple[int, int] | None:
        """Byte offset and mask of a bit-field of one bit, as a byte read from memory shows it; ``None`` as above."""
        bits = self._bits(struct, path)
        if bits is None:
            return None
        # Bit 0 of a byte is its lowest on a little-endian machine, its highest on a big-endian one.
        return bits // 8, 1 << (bits % 8 if sys.byteorder == "little" else 7 - bits % 8)

    def _bits(self, struct: str, path: str) -> int | None:
        type_id = self._lib.btf__find_by_name_kind(self._btf, struct.encode(), _KIND_STRUCT)
        total = 0
        for name in path.split("."):
            if type_id is None or type_id <= 0:
                return None
            found = self._member(type_id, name.encode())
            if found is None:
                return None
            bits, type_id = found
            total += bits
        return total

    def _member(self, type_id: int, name: bytes) -> tuple[int, int] | None:
        """(bit offset, type id) of a member, however deep in anonymous members it is."""
        pointer = self._lib.btf__type_by_id(self._btf, type_id)
        while pointer and (pointer.contents.info >> 24 & 0x1F) in _TRANSPARENT:
            pointer = self._lib.btf__type_by_id(self._btf, pointer.contents.size_or_type)
        if not pointer or (pointer.contents.info >> 24 & 0x1F) not in (_KIND_STRUCT, _KIND_UNION):
            return None
        info = pointer.contents.info
        count, has_bitfields = info & 0xFFFF, info >> 31
        members = (_Member * count).from_address(ctypes.addressof(pointer.contents) + ctypes.sizeof(_Type))
        for member in members:
            bits = member.offset & 0xFFFFFF if has_bitfields else member.offset
            text = self._lib.btf__name_by_offset(self._btf, member.name_off)
            if text == name:
                return bits, member.type
            if not text:
                inner = self._member(member.type, name)
                if inner is not None:
                    return bits + inner[0], inner[1]
        return None
