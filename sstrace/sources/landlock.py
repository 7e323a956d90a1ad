"""landlock(7): which files a process may still reach, whatever its user could.

From Linux 5.13 on, where it is built in and switched on. Numbers are those of include/uapi/linux/landlock.h, the same
on every machine. What a kernel does not restrict yet stays as it is: each version of the interface restricts more.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["SYSTEM", "restrict", "version"]

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 5, 1 << 8, 1 << 14
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE
"""What can be said of a file; the rest is of directories."""
_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}
"""From this version on, so many rights on files: those of 5.13, REFER (5.19), TRUNCATE (6.2), IOCTL_DEV (6.10)."""
_SCOPE_SIGNAL = 1 << 1
_SCOPES_SINCE = 6
"""Linux 6.12: no signal leaves."""

SYSTEM = (
    "/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64", "/run", "/var/lib/sss", "/nix/store",
    sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[2]),
)  # fmt: skip
"""What is read of a running system: the kernel's files, names of all kinds, Python and sstrace."""

_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Of the interface; 0 where there is none."""
    found: int = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    return max(found, 0)


def restrict(read: Iterable[str], write: Iterable[str]) -> None:
    """From now on, this thread and all that it starts reach nothing but what lies below these paths: to read, or to
    make, write and remove files. What is open stays open. A kernel without Landlock restricts nothing. Takes
    no_new_privs. Raises OSError.
    """
    offered = version()
    if not offered:
        return
    rights = (1 << max(bits for since, bits in _RIGHTS.items() if since <= offered)) - 1
    scopes = _SCOPE_SIGNAL if offered >= _SCOPES_SINCE else 0
    # struct landlock_ruleset_attr: handled_access_fs, handled_access_net, scoped. A kernel takes more than it knows
    # where that is 0.
    ruleset = _call(_CREATE_RULESET, struct.pack("=QQQ", rights, 0, scopes), ctypes.c_size_t(24), 0)
    try:
        for paths, wanted in ((read, _READ), (write, _WRITE)):
            for path in paths:
                with suppress(FileNotFoundError, PermissionError, NotADirectoryError):
                    _allow(ruleset, path, wanted & rights)
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= _OF_FILES
        # struct landlock_path_beneath_attr, packed: allowed_access, parent_fd.
        _call(_ADD_RULE, ctypes.c_int(ruleset), _RULE_PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
    finally:
        os.close(beneath)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
