"""Which network namespace this is, and entering another: for good, as ``ip netns exec`` and ``ss -N`` do, or for a
while.

``-N``: the namespace itself is one call. For a snapshot, ss goes on to what the files of the system should look like in
there: a mount namespace of its own, a /sys that shows the namespace's devices, and the files of /etc/netns/NAME over
those of /etc. (Its new /sys has no cgroup mount any more, so cgroup paths cannot be found after -N: that is so in ss
as well.) A tracer must not do that: its tracing files are below /sys.
"""

import _socket as socket  # all that is needed of it
import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sstrace.errors import KernelError, LookupFailed, PrivilegeError, SstraceError
from sstrace.model import Namespace, Netns
from sstrace.sources.standard import tell

__all__ = [
    "current_netns",
    "enter_netns",
    "gives_cookies",
    "inside",
    "is_here",
    "lowest_processes",
    "netns_of",
    "open_netns",
    "owner_of",
]

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
_NS_GET_USERNS: Final = 0xB701
_NS_GET_PARENT: Final = 0xB702
_NS_GET_OWNER_UID: Final = 0xB704
"""include/uapi/linux/nsfs.h (Linux 4.11)"""
_HERE: Final = "/proc/thread-self/ns/net"

# include/uapi/linux/fcntl.h, include/linux/exportfs.h, include/uapi/linux/nsfs.h (Linux 6.18)
_FD_NSFS_ROOT: Final = -10003
_FILEID_NSFS: Final = 0xF1
_HANDLE: Final = struct.Struct("=IiQII")
"""struct file_handle with a struct nsfs_file_handle in it: bytes of that, kind; ns_id, ns_type, ns_inum."""

_libc = ctypes.CDLL(None, use_errno=True)


def enter_netns(name: str, *, mounts: bool) -> None:
    """Move this thread, and the threads it starts, into a network namespace; there is no way back.

    ``mounts``: the files as well, see above. Raises LookupFailed with the sentence of ss.
    """
    fd = _open_named(name)
    try:
        if _libc.setns(fd, _CLONE_NEWNET):
            raise LookupFailed(f'setting the network namespace "{name}" failed: {os.strerror(ctypes.get_errno())}')
    finally:
        os.close(fd)
    if mounts:
        _mounts(name)


def is_here(name: str) -> bool:
    """Whether that of a name (``ip netns``) is the one that this thread is in. Raises LookupFailed with the sentence of
    ss where there is none of that name.
    """
    fd = _open_named(name)
    try:
        return os.fstat(fd).st_ino == netns_of("thread-self")
    finally:
        os.close(fd)


def _open_named(name: str) -> int:
    try:
        return os.open(os.path.join(_RUN, name), os.O_RDONLY | os.O_CLOEXEC)  # noqa: PTH118 - bytes may hide in the name
    except (OSError, ValueError) as error:
        raise LookupFailed(f'Cannot open network namespace "{name}": {_why(error)}') from None


def _why(error: OSError | ValueError) -> str:
    # ValueError: a NUL in the name, which C cannot see beyond; nothing of that name can exist.
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else "No such file or directory"


def _mounts(name: str) -> None:
    def check(result: int, what: str) -> None:
        if result:
            raise LookupFailed(f"{what} failed: {os.strerror(ctypes.get_errno())}")

    check(_libc.unshare(_CLONE_NEWNS), "unshare")
    check(_libc.mount(b"", b"/", b"none", _MS_SLAVE | _MS_REC, None), '"mount --make-rslave /"')
    flags = 0
    if _libc.umount2(b"/sys", _MNT_DETACH):
        # What cannot be unmounted is covered, and the kernel lets a read-only /sys be covered only by a read-only one.
        try:
            flags = os.statvfs("/sys").f_flag & _MS_RDONLY
        except OSError:
            flags = 0
    check(_libc.mount(os.fsencode(name), b"/sys", b"sysfs", flags, None), "mount of /sys")
    directory = os.path.join(_ETC, name)  # noqa: PTH118
    try:
        entries = os.listdir(directory)  # noqa: PTH208
    except OSError:
        return
    for entry in entries:
        source, target = os.fsencode(os.path.join(directory, entry)), os.fsencode(f"/etc/{entry}")  # noqa: PTH118
        if _libc.mount(source, target, b"none", _MS_BIND, None):
            message = f"Bind {os.fsdecode(source)} -> {os.fsdecode(target)} failed: {os.strerror(ctypes.get_errno())}\n"
            tell(os.fsencode(message))


def current_netns() -> Netns:
    """The network namespace of this thread. There are cookies to ask for since e8b9eab99232 ("net: retrieve netns
    cookie via getsocketopt", v5.14).
    """
    inode = netns_of("thread-self")
    return Netns(_cookie() or inode, inode)


def gives_cookies() -> bool:
    """Whether namespaces are known by their cookies on this kernel; else by their inodes."""
    return bool(_cookie())


def _cookie() -> int:
    try:
        any_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError:
        return 0
    try:
        return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
    except OSError:
        return 0
    finally:
        any_socket.close()


def netns_of(process: int | str) -> int:
    """The inode of a process's (``self``'s, ``thread-self``'s) network namespace. Raises OSError: EACCES where it may
    not be known.
    """
    # The link's text costs less than what it leads to, of which the kernel would make a file.
    return int(os.readlink(f"/proc/{process}/ns/net")[5:-1])  # noqa: PTH115


def lowest_processes() -> tuple[dict[int, int], int]:
    """Inode of each network namespace that a process in sight is in → the lowest pid of such; and the number of
    processes that could not be asked.
    """
    found: dict[int, int] = {}
    refused = 0
    for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdecimal()):  # noqa: PTH208
        try:
            found.setdefault(netns_of(pid), pid)
        except PermissionError:
            refused += 1
        except (OSError, ValueError):
            continue  # it has gone; what is a zombie is in no namespace
    return found, refused


def open_netns(namespace: Namespace) -> int:
    """A descriptor of a namespace, which keeps it alive: to be closed as soon as it is entered.

    Raises LookupFailed when it is gone, PrivilegeError when this process may not, KernelError when there is no way to
    it: before Linux 6.18 there is none into one that neither a process in sight is in nor a mount names.
    """
    net = namespace.net
    refusal = errno.EOPNOTSUPP
    if namespace.ns_id is not None:
        handle = ctypes.create_string_buffer(_HANDLE.pack(16, _FILEID_NSFS, namespace.ns_id, _CLONE_NEWNET, net.inode))
        fd = int(_libc.open_by_handle_at(_FD_NSFS_ROOT, handle, os.O_RDONLY | os.O_CLOEXEC))
        if fd >= 0:
            return fd
        refusal = ctypes.get_errno()
    for path in namespace.paths:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            refusal = error.errno or refusal
            continue
        if os.fstat(fd).st_ino == net.inode:
            return fd
        os.close(fd)
        refusal = errno.ENOENT
    raise _refusal(net, refusal)


def _refusal(net: Netns, number: int) -> SstraceError:
    what = f"network namespace {net.inode}"
    if number in (errno.EPERM, errno.EACCES):
        refused = PrivilegeError(f"entering {what} takes root (CAP_SYS_ADMIN): run it with sudo")
        refused.errno = number
        return refused
    if number in (errno.ENOENT, errno.ESTALE):
        return LookupFailed(f"sstrace: {what} is gone")
    return KernelError(f"{what} cannot be entered: {os.strerror(number)}", number)


def owner_of(namespace: Namespace) -> int | None:
    """Uid of the user who may enter a namespace without being root, as its owner: who made the user namespace that it
    belongs to, or the one around that whose parent is this process's (user_namespaces(7)). None where there is no such
    user, or nobody may know. Raises what ``open_netns`` raises.
    """
    mine = os.stat("/proc/thread-self/ns/user").st_ino  # noqa: PTH116
    opened = [open_netns(namespace)]
    try:
        opened.append(_asked_of(opened[0], _NS_GET_USERNS))
        while os.fstat(opened[-1]).st_ino != mine:
            opened.append(_asked_of(opened[-1], _NS_GET_PARENT))
        if len(opened) == 2:
            return None
        uid = ctypes.c_uint(0)
        if _libc.ioctl(opened[-2], _NS_GET_OWNER_UID, ctypes.byref(uid)):
            return None
        return uid.value
    except OSError:
        return None
    finally:
        for fd in opened:
            os.close(fd)


def _asked_of(fd: int, what: int) -> int:
    found = int(_libc.ioctl(fd, what))
    if found < 0:
        raise OSError(ctypes.get_errno(), "ioctl")
    return found


@contextmanager
def inside(namespace: Namespace) -> Iterator[None]:
    """Have this thread be in a namespace for a while. Nothing else keeps the namespace alive meanwhile, and nothing
    after.

    Raises what ``open_netns`` raises; also when what the path led to turns out to be another namespace.
    """
    net = namespace.net
    if net.inode == netns_of("thread-self"):  # where it is no privilege is needed
        yield
        return
    fd = open_netns(namespace)
    try:
        home = os.open(_HERE, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _set(net, fd)
        except BaseException:
            os.close(home)
            raise
    finally:
        os.close(fd)
    try:
        if namespace.ns_id is None and net.cookie != net.inode and _cookie() != net.cookie:
            raise _refusal(net, errno.ENOENT)  # an inode is used again
        yield
    finally:
        _set(net, home)
        os.close(home)


def _set(net: Netns, fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise _refusal(net, ctypes.get_errno())
