"""seccomp(2): which system calls a server may make once everything is loaded; every other is refused.

A list of what is allowed, made from what the server and its children call (tests/kernel/test_privileges.py records
them), the same calls as other libraries and newer Pythons spell them, and nothing that makes rights out of rights: no
programs executed, traced, loaded; no namespaces, mounts, keys; no io_uring, whose requests a filter does not see. What
is newer than the list is "not implemented", so that the C library falls back; the rest is "not permitted".

Of some calls the arguments decide: files are opened to read, or made anew (whoever has CAP_NET_ADMIN may else write
/proc/sys/net); sockets are sock_diag's, TCP, UDP and unix ones; ioctl(2) and setsockopt(2), which can change addresses
and the firewall, do neither; clone(2) makes no namespaces.

Pure, but for ``restrict``: ``program`` is the filter, in struct sock_filter's bytes.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Collection, Mapping
from typing import NamedTuple

__all__ = ["BROKER", "BROKER_OF_SPACES", "NUMBERS", "REMOVER", "SERVER", "Calls", "program", "restrict"]

NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436), "fstat": (5, 80),
    "newfstatat": (262, 79), "statx": (332, 291), "stat": (4, None), "lstat": (6, None), "access": (21, None),
    "faccessat": (269, 48), "faccessat2": (439, 439), "readlink": (89, None), "readlinkat": (267, 78),
    "getdents64": (217, 61), "fcntl": (72, 25), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24),
    "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "select": (23, None),
    "pselect6": (270, 72), "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_wait": (232, None),
    "epoll_pwait": (281, 22), "eventfd2": (290, 19), "flock": (73, 32), "ftruncate": (77, 46), "fsync": (74, 82),
    "fdatasync": (75, 83), "utimensat": (280, 88), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "umask": (95, 166), "getcwd": (79, 17), "statfs": (137, 43),
    "name_to_handle_at": (303, 264),
    "fstatfs": (138, 44), "memfd_create": (319, 279), "splice": (275, 76), "sendfile": (40, 71), "connect": (42, 203),
    "bind": (49, 200), "listen": (50, 201), "accept": (43, 202), "accept4": (288, 242), "shutdown": (48, 210),
    "socketpair": (53, 199), "getsockname": (51, 204), "getpeername": (52, 205), "getsockopt": (55, 209),
    "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211), "recvmsg": (47, 212), "sendmmsg": (307, 269),
    "recvmmsg": (299, 243), "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226),
    "mremap": (25, 216), "madvise": (28, 233), "membarrier": (324, 283), "futex": (202, 98),
    "set_robust_list": (273, 99), "set_tid_address": (218, 96), "rseq": (334, 293), "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123), "arch_prctl": (158, None), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigsuspend": (130, 133), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "kill": (62, 129), "tgkill": (234, 131), "alarm": (37, None),
    "setitimer": (38, 103), "nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153),
    "getrusage": (98, 165), "getpid": (39, 172), "getppid": (110, 173), "gettid": (186, 178), "getpgrp": (111, None),
    "getpgid": (121, 155), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158), "capget": (125, 90),
    "capset": (126, 91), "uname": (63, 160), "sysinfo": (99, 179), "getrlimit": (97, 163), "getrandom": (318, 278),
    "fork": (57, None), "wait4": (61, 260), "waitid": (247, 95), "exit": (60, 93), "exit_group": (231, 94),
    "openat": (257, 56), "open": (2, None), "bpf": (321, 280), "socket": (41, 198), "setsockopt": (54, 208),
    "ioctl": (16, 29), "prctl": (157, 167), "clone": (56, 220), "getxattr": (191, 8),
    "setns": (308, 268), "open_by_handle_at": (304, 265), "getpriority": (140, 141), "setpriority": (141, 140),
}  # fmt: skip
"""On x86-64 and arm64: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h."""

_Step = tuple[int, int, int, int]
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW: _Step = (_RETURN, 0, 0, 0x7FFF0000)
_FORBID: _Step = (_RETURN, 0, 0, 0x00050000 | errno.EPERM)
_UNKNOWN: _Step = (_RETURN, 0, 0, 0x00050000 | errno.ENOSYS)
_STEP = struct.Struct("=HBBI")
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32 = 0x40000000
_CLONE3 = 435
"""Everything from here on came with Linux 5.3 or later."""


def _load(argument: int) -> _Step:
    """The lower half of an argument: all of these are 32 bits to the kernel."""
    return _LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument


def _choose(argument: int, cases: Mapping[int, list[_Step]]) -> list[_Step]:
    """By the value of an argument; what is no case is forbidden."""
    steps = [_load(argument)]
    for value, then in cases.items():
        steps += [(_EQUAL, 0, len(then), value), *then]
    return [*steps, _FORBID]


def _one_of(argument: int, *values: int) -> list[_Step]:
    return _choose(argument, {value: [_ALLOW] for value in values})


def _opened(argument: int) -> list[_Step]:
    """Open(2)'s flags: to read, or with O_CREAT and O_EXCL."""
    return [
        _load(argument),
        (_ANY_BIT, 0, 1, os.O_EXCL),
        (_ANY_BIT, 1, 0, os.O_CREAT),
        (_ANY_BIT, 1, 0, os.O_ACCMODE | os.O_TRUNC),
        _ALLOW,
        _FORBID,
    ]


_SOCKETS = {
    1: [_ALLOW],
    2: _one_of(2, 0, 6, 17),
    10: _one_of(2, 0, 6, 17),
    16: _one_of(2, 4),
}
"""By family: unix; IPv4 and IPv6, TCP and UDP alone; netlink, sock_diag alone."""
_OPTIONS = {
    0: _one_of(2, 11),
    1: _one_of(2, 2, 7, 8, 9, 15, 20, 21),
    6: _one_of(2, 1),
    41: _one_of(2, 25, 26),
    270: _one_of(2, 10, 11, 12),
}
"""By level. IP_RECVERR; SO_REUSEADDR, SNDBUF, RCVBUF, KEEPALIVE, REUSEPORT, RCVTIMEO, SNDTIMEO; TCP_NODELAY;
IPV6_RECVERR, V6ONLY; NETLINK_CAP_ACK, EXT_ACK, GET_STRICT_CHK.
"""
_NAMESPACES = 0x7E020000
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: include/uapi/linux/sched.h."""


class Calls(NamedTuple):
    """What a process may call."""

    allowed: Collection[str]
    """Whatever the arguments are."""
    chosen: Mapping[str, list[_Step]]
    """As the arguments are: steps that end with a verdict."""


_CHOSEN: Mapping[str, list[_Step]] = {
    "openat": _opened(2),
    "open": _opened(1),
    # Maps: look up, delete, next key; take all (BPF_MAP_LOOKUP_AND_DELETE_BATCH). What the kernel has not run
    # (BPF_OBJ_GET_INFO_BY_FD). include/uapi/linux/bpf.h.
    "bpf": _one_of(0, 1, 3, 4, 15, 25),
    "socket": _choose(0, _SOCKETS),
    "setsockopt": _choose(1, _OPTIONS),
    # TCGETS, TCGETS2, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX, SIOCGIFNAME, SIOCGIFINDEX.
    "ioctl": _one_of(1, 0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x8910, 0x8933),
    # PR_SET_KEEPCAPS, SET_NAME, GET_SECCOMP, CAPBSET_READ, CAPBSET_DROP, SET_NO_NEW_PRIVS, CAP_AMBIENT, SET_VMA.
    "prctl": _one_of(0, 8, 15, 21, 23, 24, 38, 47, 0x53564D41),
    "clone": [_load(0), (_ANY_BIT, 0, 1, _NAMESPACES), _FORBID, _ALLOW],
    # Of the calling thread (PRIO_PROCESS, 0): include/uapi/linux/resource.h.
    **{name: _choose(0, {0: _one_of(1, 0)}) for name in ("getpriority", "setpriority")},
}
SERVER = Calls(NUMBERS.keys() - _CHOSEN.keys() - {"getxattr", "setns", "open_by_handle_at"}, _CHOSEN)
"""Who answers clients."""
BROKER = Calls(
    (
        "read", "write", "lseek", "close", "fstat", "newfstatat", "stat", "lstat", "access", "faccessat", "faccessat2",
        "readlink", "readlinkat", "getdents64", "fcntl", "flock", "memfd_create", "bind", "getsockname", "getsockopt",
        "sendto", "sendmsg", "recvfrom", "recvmsg", "brk", "mmap", "munmap", "mprotect", "mremap", "madvise", "futex",
        "set_robust_list", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "restart_syscall", "clock_gettime",
        "getpid", "gettid", "geteuid", "getrandom", "fork", "exit", "exit_group", "getxattr",
    ),
    {
        "openat": [_load(2), (_ANY_BIT, 0, 1, os.O_ACCMODE | os.O_CREAT | os.O_TRUNC), _FORBID, _ALLOW],
        "open": [_load(1), (_ANY_BIT, 0, 1, os.O_ACCMODE | os.O_CREAT | os.O_TRUNC), _FORBID, _ALLOW],
        # Maps: look up, update, delete; run a loaded program.
        "bpf": _one_of(0, 1, 2, 3, 10),
        "socket": _choose(0, {1: [_ALLOW], 16: _one_of(2, 4)}),
        "setsockopt": _choose(1, {1: _one_of(2, 7, 8)}),
        "ioctl": _one_of(1, 0x5401, 0x802C542A, 0x5450, 0x5451),
        "clone": [_load(0), (_ANY_BIT, 0, 1, _NAMESPACES), _FORBID, _ALLOW],
    },
)  # fmt: skip
"""Who keeps capabilities, and answers the server."""
BROKER_OF_SPACES = Calls(
    (*BROKER.allowed, "open_by_handle_at"),
    {
        **BROKER.chosen,
        "setns": _one_of(1, 0x40000000),
        # rtnetlink, too.
        "socket": _choose(0, {1: [_ALLOW], 16: _one_of(2, 0, 4)}),
        # TCGETS, TCGETS2, FIONCLEX, FIOCLEX, NS_GET_USERNS, NS_GET_PARENT, NS_GET_OWNER_UID.
        "ioctl": _one_of(1, 0x5401, 0x802C542A, 0x5450, 0x5451, 0xB701, 0xB702, 0xB704),
    },
)
"""The same, who enters network namespaces, and nothing else, for it."""
REMOVER = Calls(
    (
        "read", "write", "lseek", "close", "dup", "fcntl", "fstat", "newfstatat", "stat", "lstat", "readlinkat",
        "unlink", "unlinkat", "brk", "mmap", "munmap", "mremap", "madvise", "futex", "rt_sigaction", "rt_sigprocmask",
        "rt_sigreturn", "restart_syscall", "geteuid", "getrandom", "exit", "exit_group",
    ),
    {name: BROKER.chosen[name] for name in ("openat", "open")},
)  # fmt: skip
"""Who takes the server's socket file away."""

_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2


def program(machine: str, calls: Calls) -> bytes | None:
    """The filter for a machine (``uname -m``); None for one whose numbers are not known."""
    if machine not in _ARCHITECTURES or struct.calcsize("P") != 8:
        return None
    column, architecture = _ARCHITECTURES[machine]
    steps: list[_Step] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, architecture),
        _FORBID,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 0, 1, _X32),
        _FORBID,
    ]
    verdicts = {**{name: [_ALLOW] for name in calls.allowed}, **calls.chosen}
    for name, numbers in NUMBERS.items():
        if name in verdicts and (number := numbers[column]) is not None:
            steps += [(_EQUAL, 0, len(verdicts[name]), number), *verdicts[name]]
    steps += [(_AT_LEAST, 0, 1, _CLONE3), _UNKNOWN, _FORBID]
    return b"".join(_STEP.pack(*step) for step in steps)


def restrict(calls: Calls) -> None:
    """Have this thread, and all that it starts, make these calls alone. Other machines, and kernels without seccomp, go
    without. Raises OSError.
    """
    steps = program(os.uname().machine, calls)
    if steps is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(steps, len(steps))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(steps) // _STEP.size, ctypes.addressof(code)))
    unused = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_SECCOMP_MODE_FILTER), header, unused, unused):
        if ctypes.get_errno() == errno.EINVAL:
            return
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
