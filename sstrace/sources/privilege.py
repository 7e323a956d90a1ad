"""Giving up root: what a process that serves others keeps of it, and a child that serves somebody else does not.

Linux capabilities, capabilities(7): by capset(2) and prctl(2), of the calling thread, so before any other thread
starts. What is gone is gone: the bounding set is empty, no program that is executed gains anything (no_new_privs), and
without CAP_SETUID there is no way back to uid 0.

A server keeps none; of the files it reaches those that it needs (sources.landlock), of the system calls those that it
makes (sources.seccomp). What takes capabilities it asks of a process that keeps them (server.broker), and those are
worth more than what they are kept for: CAP_DAC_READ_SEARCH opens every file, CAP_SYS_PTRACE every process's memory. Of
that process only its system calls are limited: whoever Landlock restricts is shown no other process's descriptors
(security/landlock/ptrace.c), which is what the capabilities are kept for.
"""

import ctypes
import grp
import os
import pwd
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from sstrace.errors import PrivilegeError, SstraceError, reason
from sstrace.sources import landlock, seccomp

__all__ = [
    "BROKER",
    "BROKER_OF_SPACES",
    "CAP_SYS_PTRACE",
    "ProcessView",
    "acting_as",
    "effective",
    "holds",
    "may_trace",
    "service_user",
    "shed",
    "unused_user",
    "without_capabilities",
]

_NUMBERS = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
CAP_SYS_PTRACE = _NUMBERS["CAP_SYS_PTRACE"]
BROKER = ("CAP_NET_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")
"""What a server's broker keeps: what netlink shows to administrators alone; to run the owner walk, which is loaded by
then; to see whose /proc/PID/fd may be read. Before Linux 5.8 CAP_SYS_ADMIN stands for CAP_BPF.
"""

BROKER_OF_SPACES = (*BROKER, "CAP_SYS_ADMIN")
"""The same of a server of several network namespaces: to enter them."""

_VERSION_3 = 0x20080522
_HEADER = struct.Struct("=Ii")
_SETS = struct.Struct("=IIIIII")
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_GET_SECCOMP = 21
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SERVICE_USER = "sstrace"
_DYNAMIC = range(61184, 65520)
"""The uids that systemd gives to services which have none of their own: systemd.exec(5), DynamicUser."""


def service_user() -> tuple[int, int]:
    """Uid and gid of the user ``sstrace`` where there is one, else a pair that nobody else has: no name, no process.
    Never nobody's, whom other services share: who is the same user may signal, and look into, its likes. Raises
    PrivilegeError where there is none.
    """
    with suppress(KeyError):
        user = pwd.getpwnam(_SERVICE_USER)
        return user.pw_uid, user.pw_gid
    return unused_user()


def unused_user(but: int | None = None) -> tuple[int, int]:
    """Uid and gid that nobody has; ``but``: another than this. Raises PrivilegeError where there is none."""
    taken = {uid for entry in os.scandir("/proc") if entry.name.isdigit() for uid in _uids(entry.path)} | {but}
    # Not from the first one on: of several that look at once, each begins elsewhere.
    for uid in (_DYNAMIC[(os.getpid() + at) % len(_DYNAMIC)] for at in range(len(_DYNAMIC))):
        if uid not in taken and not _is_named(uid) and not os.path.lexists(f"/run/systemd/dynamic-uid/{uid}"):
            return uid, uid
    raise PrivilegeError("there is no uid to become that nobody uses: add a user sstrace, or add --keep-privileges")


def _uids(process: str) -> set[int]:
    try:
        status = Path(process, "status").read_text(errors="replace")
    except OSError:
        return set()
    return {int(uid) for line in status.splitlines() if line.startswith(("Uid:", "Gid:")) for uid in line.split()[1:]}


def _is_named(number: int) -> bool:
    for known in (pwd.getpwuid, grp.getgrgid):
        with suppress(KeyError):
            known(number)
            return True
    return False


@contextmanager
def acting_as(user: tuple[int, int] | None) -> Iterator[None]:
    """Have the rights of this user (uid, gid) on files for a while, and no capabilities; None: those that we have."""
    if user is None:
        yield
        return
    groups, gid, uid = os.getgroups(), os.getegid(), os.geteuid()
    try:
        os.setgroups([])
        os.setegid(user[1])
        os.seteuid(user[0])
        yield
    finally:
        os.seteuid(uid)
        os.setegid(gid)
        os.setgroups(groups)


class Reach(NamedTuple):
    """Files and directories that a process may still open: to read, and to make, write and remove."""

    read: Sequence[str]
    write: Sequence[str]


def shed(
    user: tuple[int, int] | None,
    keep: Iterable[str] = (),
    calls: seccomp.Calls = seccomp.SERVER,
    reach: Reach | None = None,
) -> None:
    """Become ``user`` (uid, gid; None: stay who we are), keep these capabilities as far as we have them, and nothing
    else; of the system calls ``calls``, of the files ``reach`` (None: as before). Raises SstraceError.
    """
    last = _last_capability()
    names = ["CAP_SYS_ADMIN" if name == "CAP_BPF" and last < _NUMBERS[name] else name for name in keep]
    bits = sum(1 << _NUMBERS[name] for name in names) & _permitted()
    try:
        already = _prctl(_PR_GET_SECCOMP, 0)
        for number in range(last + 1):
            # Without CAP_SETPCAP the set stays; no_new_privs then does what matters.
            _prctl(_PR_CAPBSET_DROP, number, refusable=True)
        if user is not None:
            uid, gid = user
            _prctl(_PR_SET_KEEPCAPS, 1)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            _prctl(_PR_SET_KEEPCAPS, 0)
        _capset(bits, bits)
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, refusable=True)
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        if reach is not None:
            landlock.restrict(*reach)
        if not already:
            seccomp.restrict(calls)
    except OSError as error:
        raise SstraceError(f"cannot give up privileges: {reason(error)}") from None


@contextmanager
def without_capabilities() -> Iterator[None]:
    """Have none for a while, of this thread."""
    held = _sets()
    _capset(0, held[1])
    try:
        yield
    finally:
        _capset(*held)


def effective() -> int:
    """The effective capabilities of this thread, a bit each."""
    return _sets()[0]


def holds(names: Iterable[str]) -> bool:
    """Whether this thread has any of these capabilities."""
    return any(effective() >> _NUMBERS[name] & 1 for name in names)


def may_trace() -> bool:
    """Whether this thread has what tracing takes, by itself: CAP_BPF and CAP_PERFMON (Linux 5.8), or CAP_SYS_ADMIN."""
    held = effective()
    return all(held >> _NUMBERS[name] & 1 for name in ("CAP_BPF", "CAP_PERFMON")) or bool(
        held >> _NUMBERS["CAP_SYS_ADMIN"] & 1
    )


class ProcessView:
    """Whose descriptors a user may read: the kernel's rule for /proc/PID/fd (ptrace(2), PTRACE_MODE_READ_FSCREDS),
    applied for somebody else who has no capabilities.
    """

    def __init__(self, uid: int, gid: int) -> None:
        self._uid = uid
        self._gid = gid
        self._known: dict[int, bool] = {}

    def sees(self, pid: int) -> bool:
        """Whether they may read this process's descriptors."""
        seen = self._known.get(pid)
        if seen is None:
            seen = self._known[pid] = self._look(pid)
        return seen

    def _look(self, pid: int) -> bool:
        try:
            # What stands in /proc/PID, but for that directory itself, is root's when the process is not dumpable: it
            # has changed its user, say.
            if Path(f"/proc/{pid}/fd").stat().st_uid != self._uid:
                return False
            status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        except OSError:
            return False
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        try:
            uids, gids = (set(map(int, fields[name].split()[:3])) for name in ("Uid", "Gid"))
            return uids == {self._uid} and gids == {self._gid} and int(fields["CapPrm"], 16) == 0
        except (KeyError, ValueError):
            return False


_libc = ctypes.CDLL(None, use_errno=True)


def _last_capability() -> int:
    try:
        return int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    except (OSError, ValueError):
        return 40


def _sets() -> tuple[int, int]:
    """Effective, permitted."""
    data = ctypes.create_string_buffer(_SETS.size)
    if _libc.capget(_HEADER.pack(_VERSION_3, 0), data):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    low_effective, low_permitted, _, high_effective, high_permitted, _ = _SETS.unpack(data.raw)
    return low_effective | high_effective << 32, low_permitted | high_permitted << 32


def _permitted() -> int:
    return _sets()[1]


def _capset(effective: int, permitted: int) -> None:
    low, high = ((effective >> shift & 0xFFFFFFFF, permitted >> shift & 0xFFFFFFFF, 0) for shift in (0, 32))
    if _libc.capset(_HEADER.pack(_VERSION_3, 0), _SETS.pack(*low, *high)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _prctl(option: int, argument: int, *, refusable: bool = False) -> int:
    unused = ctypes.c_ulong(0)
    result: int = _libc.prctl(option, ctypes.c_ulong(argument), unused, unused, unused)
    if result < 0 and not refusable:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
