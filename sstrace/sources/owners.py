"""Who holds which socket, read from the kernel's own tables by a BPF program (bpf/owners.bpf.c) instead of /proc/*/fd.

/proc costs three system calls a descriptor; the walk costs 0.3 µs. It sees more than /proc shows: so a process counts
only if this one may read its descriptors there, one readlink a process, and the answer is what ``ss -p`` would say.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Callable, Collection, Iterator
from itertools import count
from operator import itemgetter
from pathlib import Path

from sstrace.errors import FeatureError
from sstrace.model import Owner
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.load import Loaded, map_values
from sstrace.sources.bpf.programs import Source

__all__ = ["WALK", "WANTED_MOST", "OwnerWalk", "owners_of"]

WALK = Source(
    file="owners.bpf.c",
    programs=("walk",),
    maps=("cursors", "owners", "wanted"),
    mapped=("cursors", "owners"),
    offsets={
        "task_tasks": (("task_struct", "tasks"),),
        "task_files": (("task_struct", "files"),),
        "task_comm": (("task_struct", "comm"),),
        "task_group_leader": (("task_struct", "group_leader"),),
        "task_thread_pid": (("task_struct", "thread_pid"),),
        "pid_level": (("pid", "level"),),
        "pid_numbers": (("pid", "numbers"),),
        "files_fdt": (("files_struct", "fdt"),),
        "fdt_fd": (("fdtable", "fd"),),
        "fdt_max_fds": (("fdtable", "max_fds"),),
        "fdt_open_fds": (("fdtable", "open_fds"),),
        "file_inode": (("file", "f_inode"),),
        "inode_mode": (("inode", "i_mode"),),
        "inode_ino": (("inode", "i_ino"),),
    },
)
"""The program and its offsets."""

_STEPS = 128
_RUN = 8192
_RUNS = 64
"""Owners, and runs of the program, between two breaths."""
_OWNER = struct.Struct("=QII16s")
_CURSOR = struct.Struct("=QQQIIQIIIBBBx16sQQ")
_COUNT = struct.Struct("=IBB")
_COUNT_AT = 48
_CHOOSY_AT = 54
_INO = struct.Struct("=Q")
WANTED_MOST = 512
"""Up to so many inodes the kernel is told which ones to look for (1 µs each); above, all are fetched and sorted out
here.
"""
_TRIES = 5
"""Walks begun again because a task left in the middle; on a host that forks so fast, /proc has the same trouble and a
longer wait.
"""


def _mapped(loaded: Loaded) -> tuple[mmap.mmap, mmap.mmap]:
    return map_values(loaded.maps["cursors"], _CURSOR.size), map_values(loaded.maps["owners"], _STEPS * _OWNER.size)


class OwnerWalk:
    """The loaded walk. Raises PrivilegeError or FeatureError where the kernel will not have it; then /proc is the
    way.
    """

    def __init__(self, cache: Path | None) -> None:
        self._loaded, (self._cursor, self._owners) = ready(WALK, cache, _mapped)
        try:
            self._lock = os.memfd_create("sstrace-walk")
        except BaseException:
            self._loaded.close()
            raise

    def close(self) -> None:
        """Unload."""
        self._cursor.close()
        self._owners.close()
        os.close(self._lock)
        self._loaded.close()

    def owners(
        self, wanted: Collection[int] | None = None, breathe: Callable[[], object] = lambda: None
    ) -> dict[int, tuple[Owner, ...]]:
        """Inode → owners, in ss's order: highest pid first, then highest descriptor. ``wanted``: only these inodes.
        ``breathe`` is called every few milliseconds, and may fork: a child's own walk waits for the end of this one.
        """
        return owners_of(self.records(wanted, breathe), wanted, breathe)

    def records(
        self,
        wanted: Collection[int] | None = None,
        breathe: Callable[[], object] = lambda: None,
        sees: Callable[[int], bool] = lambda _pid: True,
    ) -> bytes:
        """The same as the program wrote it, for ``owners_of``: of processes that this one may look into, and that
        ``sees`` lets pass. Perhaps more than ``wanted``.
        """
        known: dict[int, bool] = {}

        def shown(pid: int, fd: int) -> bool:
            seen = known.get(pid)
            if seen is None:
                seen = known[pid] = sees(pid) and _readable(pid, fd)
            return seen

        with self._alone():
            few = wanted is not None and len(wanted) <= WANTED_MOST
            found = self._choosy_walk(wanted) if few and wanted is not None else self._walk(breathe)
        return b"".join(_shown(records, shown) for records in found)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        # A process that was forked since shares the maps, and its walk would move this one's cursor. A record lock is
        # the process's own, not the file's: it is not inherited, and ends with the process at the latest.
        fcntl.lockf(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def _choosy_walk(self, wanted: Collection[int]) -> list[bytes]:
        for ino in wanted:
            self._loaded.put("wanted", _INO.pack(ino), b"\1")
        try:
            return self._walk(lambda: None, choosy=True)
        finally:
            for ino in wanted:
                self._loaded.delete("wanted", _INO.pack(ino))

    def _walk(self, breathe: Callable[[], object], *, choosy: bool = False) -> list[bytes]:
        """The records of every socket descriptor of every process in sight, some at a time."""
        for _ in range(_TRIES):
            found: list[bytes] = []
            self._cursor[: _CURSOR.size] = bytes(_CURSOR.size)
            self._cursor[_CHOOSY_AT] = choosy
            for number in count(1):
                self._loaded.run("walk")
                if number % _RUNS == 0:
                    breathe()
                held, done, lost = _COUNT.unpack_from(self._cursor, _COUNT_AT)
                if held:
                    found.append(self._owners[: held * _OWNER.size])
                if done:
                    return found
                if lost:
                    break
        raise FeatureError("processes come and go faster than their descriptors can be walked")


_by_pid_and_fd = itemgetter(1, 2)


def owners_of(
    records: bytes, wanted: Collection[int] | None = None, breathe: Callable[[], object] = lambda: None
) -> dict[int, tuple[Owner, ...]]:
    """Inode → owners, in ss's order, of what ``OwnerWalk.records`` found; ``wanted``: only these inodes. ``breathe`` is
    called every few milliseconds.

    Rows keep these tuples: so they are made once, and equal numbers and names in them are one object each. None of
    these is what the walk has read: that goes, and would keep its place for one number in a thousand.
    """
    found: dict[int, tuple[Owner, ...]] = {}
    several: dict[int, list[Owner]] = {}
    comms: dict[bytes, bytes] = {}
    numbers: dict[int, int] = {}
    owners: list[tuple[int, int, int, bytes]] = list(_OWNER.iter_unpack(records))
    if wanted is not None:
        owners = [owner for owner in owners if owner[0] in wanted]
    owners.sort(key=_by_pid_and_fd, reverse=True)
    for number, (ino, pid, fd, comm) in enumerate(owners, 1):
        if number % _RUN == 0:
            breathe()
        name = comms.get(comm)
        if name is None:
            # As /proc/PID/stat is read by ss: up to the first closing parenthesis.
            name = comms[comm] = comm.split(b"\0", 1)[0].split(b")", 1)[0]
        owner = Owner(
            name,
            numbers.get(pid) or numbers.setdefault(pid, pid | 0),
            numbers.get(fd) or numbers.setdefault(fd, fd | 0),
        )
        if ino not in found:
            found[ino] = (owner,)
        else:
            several.setdefault(ino, [*found[ino]]).append(owner)
    found.update((ino, tuple(held)) for ino, held in several.items())
    return found


def _shown(records: bytes, shown: Callable[[int, int], bool]) -> bytes:
    """The records of the processes that are shown."""
    _, first, fd, _ = _OWNER.unpack_from(records)
    if first == _OWNER.unpack_from(records, len(records) - _OWNER.size)[1]:  # one process after the other is walked
        return records if shown(first, fd) else b""
    return b"".join(_OWNER.pack(*owner) for owner in _OWNER.iter_unpack(records) if shown(owner[1], owner[2]))


def _readable(pid: int, fd: int) -> bool:
    # EACCES: not for this reader, so not for ss either. ENOENT: the descriptor was closed since, the process may be
    # read.
    try:
        os.readlink(f"/proc/{pid}/fd/{fd}")  # noqa: PTH115 (pathlib is not loaded for this)
    except FileNotFoundError:
        return os.access(f"/proc/{pid}/fd", os.R_OK)
    except OSError:
        return False
    return True
