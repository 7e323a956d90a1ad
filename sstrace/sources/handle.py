"""name_to_handle_at(2) and open_by_handle_at(2): the kernel's own name for a file. Apart from ``names`` because it
needs ctypes.
"""

import ctypes
import errno
import os
import sys

__all__ = ["handle_of", "open_trouble"]

_AT_FDCWD = -100
_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h: the handle of a cgroup is its 64-bit id


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


def open_trouble(mount: int, cgroup_id: int) -> int:
    """Try to open a cgroup by its id; ``mount`` is a descriptor of the cgroup2 mount: 0 when that works, else the
    positive errno.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = _FileHandle(handle_bytes=8, handle_type=_FILEID_KERNFS)
    handle.f_handle[:] = (cgroup_id & 0xFFFFFFFFFFFFFFFF).to_bytes(8, sys.byteorder)
    try:
        opened = libc.open_by_handle_at(mount, ctypes.byref(handle), 0)
    except AttributeError:
        return errno.ENOSYS
    if opened < 0:
        return ctypes.get_errno()
    os.close(opened)
    return 0
