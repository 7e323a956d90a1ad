"""Which network namespace this is, and entering a named one, as ``ip netns exec`` and ``ss -N`` do.

The namespace itself is one call. For a snapshot, ss goes on to what the files of the system should look like in
there: a mount namespace of its own, a /sys that shows the namespace's devices, and the files of /etc/netns/NAME over
those of /etc. (Its new /sys has no cgroup mount any more, so cgroup paths cannot be found after -N: that is so in ss
as well.) A tracer must not do that: its tracing files are below /sys.
"""

import ctypes
import os
import socket
import sys
from pathlib import Path
from typing import Final

from sstrace.errors import LookupFailed
from sstrace.model import Netns
from sstrace.sources.standard import tell

__all__ = ["current_netns", "enter_netns"]

_RUN: Final = "/var/run/netns"
_ETC: Final = "/etc/netns"

# include/uapi/linux/sched.h, include/uapi/linux/mount.h, include/linux/fs.h
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWNET: Final = 0x40000000
_MS_RDONLY: Final = 1
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_SLAVE: Final = 1 << 19
_MNT_DETACH: Final = 2
_SO_NETNS_COOKIE: Final = 71
"""include/uapi/asm-generic/socket.h; parisc and sparc, where it is another number, are not served."""


def enter_netns(name: str, *, mounts: bool) -> None:
    """Move this thread, and the threads it starts, into a network namespace; there is no way back.

    ``mounts``: the files as well, see above. Raises LookupFailed with the sentence of ss.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open(os.path.join(_RUN, name), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH118 - bytes may hide in the name
    except (OSError, ValueError) as error:
        raise LookupFailed(f'Cannot open network namespace "{name}": {_why(error)}') from None
    try:
        if libc.setns(fd, _CLONE_NEWNET):
            raise LookupFailed(f'setting the network namespace "{name}" failed: {os.strerror(ctypes.get_errno())}')
    finally:
        os.close(fd)
    if mounts:
        _mounts(libc, name)


def _why(error: OSError | ValueError) -> str:
    # ValueError: a NUL in the name, which C cannot see beyond; nothing of that name can exist.
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "No such file or directory"


def _mounts(libc: ctypes.CDLL, name: str) -> None:
    def check(result: int, what: str) -> None:
        if result:
            raise LookupFailed(f"{what} failed: {os.strerror(ctypes.get_errno())}")

    check(libc.unshare(_CLONE_NEWNS), "unshare")
    check(libc.mount(b"", b"/", b"none", _MS_SLAVE | _MS_REC, None), '"mount --make-rslave /"')
    flags = 0
    if libc.umount2(b"/sys", _MNT_DETACH):
        # What cannot be unmounted is covered, and the kernel lets a read-only /sys be covered only by a read-only one.
        try:
            flags = os.statvfs("/sys").f_flag & _MS_RDONLY
        except OSError:
            flags = 0
    check(libc.mount(os.fsencode(name), b"/sys", b"sysfs", flags, None), "mount of /sys")
    directory = os.path.join(_ETC, name)  # noqa: PTH118
    try:
        entries = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return
    for entry in entries:
        source, target = os.fsencode(os.path.join(directory, entry)), os.fsencode(f"/etc/{entry}")  # noqa: PTH118
        if libc.mount(source, target, b"none", _MS_BIND, None):
            message = f"Bind {os.fsdecode(source)} -> {os.fsdecode(target)} failed: {os.strerror(ctypes.get_errno())}\n"
            tell(os.fsencode(message))


def current_netns() -> Netns:
    """The network namespace of this process. There are cookies to ask for since e8b9eab99232 ("net: retrieve netns
    cookie via getsocketopt", v5.14).
    """
    inode = Path("/proc/self/ns/net").stat().st_ino
    try:
        with socket.socket(socket.AF_UNIX) as any_socket:
            cookie = any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)
    except OSError:
        return Netns(inode, inode)
    return Netns(int.from_bytes(cookie, sys.byteorder), inode)
