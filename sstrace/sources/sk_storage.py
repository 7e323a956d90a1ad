"""BPF socket storage, for --bpf-maps and --bpf-map-id: descriptors of its maps, and the text of a value in one.

The text is libbpf's own (btf_dump__dump_type_data), the function that ss prints with, from the BTF that the map was
made with; so it equals ss's for as long as both find a libbpf of the same age. Loaded only when asked for.
"""

import ctypes
import errno
import os
import struct
from typing import Any

from sstrace.errors import LookupFailed
from sstrace.sources.btf import open_libbpf

__all__ = ["StorageMaps"]

# struct bpf_map_info, include/uapi/linux/bpf.h: btf_id and btf_value_type_id.
_INFO = struct.Struct("=64xI4xI12x")
_NOT_PERMITTED = ": missing root permissions, CAP_BPF, or CAP_SYS_ADMIN"

_PRINT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


class _Options(ctypes.Structure):
    """struct btf_dump_type_data_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("indent_str", ctypes.c_char_p),
        ("indent_level", ctypes.c_int),
        ("compact", ctypes.c_bool),
        ("skip_names", ctypes.c_bool),
        ("emit_zeroes", ctypes.c_bool),
    )


class StorageMaps:
    """The sk-storage maps of this machine, by id. Raises FeatureError where libbpf is missing."""

    def __init__(self) -> None:
        self._bpf = open_libbpf(use_errno=True)
        self._c = ctypes.CDLL(None)
        self._bpf.btf__load_from_kernel_by_id.restype = ctypes.c_void_p
        self._bpf.btf_dump__new.restype = ctypes.c_void_p
        self._bpf.btf_dump__new.argtypes = (ctypes.c_void_p, _PRINT, ctypes.c_void_p, ctypes.c_void_p)
        self._bpf.btf_dump__dump_type_data.argtypes = (
            ctypes.c_void_p,
            ctypes.c_uint32,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_void_p,
        )
        self._c.vsnprintf.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_void_p)
        self._said: list[bytes] = []
        self._print = _PRINT(self._take)  # libbpf keeps the pointer, so this object must live as long
        self._dumps: dict[int, tuple[Any, int] | None] = {}

    def descriptors(self, ids: tuple[int, ...]) -> list[int]:
        """A descriptor for each map, one where an id repeats; LookupFailed, in ss's words, when there is none or it
        may not be had.
        """
        return [self._descriptor(number) for number in dict.fromkeys(ids)]

    def _descriptor(self, number: int) -> int:
        fd = int(self._bpf.bpf_map_get_fd_by_id(number))
        if fd < 0:
            why = ctypes.get_errno()
            hint = _NOT_PERMITTED if why == errno.EPERM else ""
            raise LookupFailed(f"ss: cannot get fd for BPF map ID {number}{hint}")
        return fd

    def text(self, number: int, value: bytes, *, oneline: bool) -> str | None:
        """A value of map ``number`` as C would write it down, one character a byte; None when the map says too little.

        Lines are indented by two tabs; with ``oneline`` there are none.
        """
        if number not in self._dumps:
            self._dumps[number] = self._dump(number)
        dump = self._dumps[number]
        if dump is None:
            return None
        options = _Options(sz=ctypes.sizeof(_Options), indent_level=2, compact=oneline, emit_zeroes=True)
        self._said.clear()
        self._bpf.btf_dump__dump_type_data(dump[0], dump[1], value, len(value), ctypes.byref(options))
        return b"".join(self._said).decode("latin-1")

    def _dump(self, number: int) -> tuple[Any, int] | None:
        """Give the printer of libbpf for the values of a map, and the number of their type."""
        try:
            fd = self._descriptor(number)
        except LookupFailed:
            return None
        info = ctypes.create_string_buffer(_INFO.size)
        size = ctypes.c_uint32(_INFO.size)
        refused = self._bpf.bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size))
        os.close(fd)
        if refused:
            return None
        btf_id, value_type = _INFO.unpack(info.raw)
        btf = self._bpf.btf__load_from_kernel_by_id(btf_id) if btf_id else None
        printer = self._bpf.btf_dump__new(btf, self._print, None, None) if btf else None
        return (printer, value_type) if printer else None

    def _take(self, _: Any, template: bytes, arguments: Any) -> None:
        """Printf of one piece: pieces are names and numbers, never longer than this buffer."""
        buffer = ctypes.create_string_buffer(4096)
        self._c.vsnprintf(buffer, len(buffer), template, arguments)
        self._said.append(buffer.value)
