"""name_to_handle_at(2): the kernel's own name for a file. Apart from ``names`` because it needs ctypes."""

import ctypes
import errno
import os

__all__ = ["handle_of"]

_AT_FDCWD = -100


class _FileHandle(ctypes.Structure):
    # struct file_handle, include/linux/fs.h, with room for the largest kernel handle that can be an id.
    _fields_ = (("handle_bytes", ctypes.c_uint), ("handle_type", ctypes.c_int), ("f_handle", ctypes.c_ubyte * 8))


def handle_of(path: str) -> bytes | int:
    """The handle of a file, at most 8 bytes; or the positive errno of the refusal (EOVERFLOW for a longer handle)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = _FileHandle(handle_bytes=8)
    mount_id = ctypes.c_int()
    try:
        name = os.fsencode(path)
        result = libc.name_to_handle_at(_AT_FDCWD, name, ctypes.byref(handle), ctypes.byref(mount_id), 0)
    except (ValueError, AttributeError):
        return errno.EINVAL
    if result < 0:
        return ctypes.get_errno()
    return bytes(handle.f_handle[: handle.handle_bytes])
