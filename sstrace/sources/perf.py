"""Perf buffers read directly: one ring a CPU, mapped and copied out in whole runs. Yields bytes; wire.event decodes
them.

The ring (struct perf_event_mmap_page, include/uapi/linux/perf_event.h): the kernel moves ``data_head``, we move
``data_tail``; both only grow, and index the data pages modulo their size, a power of two. bcc's own reader calls
Python once for each record; one copy of all that has come costs a sixth of that.
"""

import ctypes
import mmap
import os
import platform
import select
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from sstrace.errors import FeatureError, PrivilegeError, SstraceError, reason
from sstrace.sources.bpf.load import Loaded
from sstrace.sources.bpf.syscall import IOC_ENABLE, perf_event_open_number, possible_cpus
from sstrace.sources.haste import Haste
from sstrace.sources.openfiles import make_room

__all__ = ["COUNTS", "DOUBLE", "PerfBuffers", "Run", "Runs", "online", "perf_event_open"]

_TYPE_SOFTWARE = 1
_COUNT_SW_BPF_OUTPUT = 10
_SAMPLE_RAW = 1 << 10
_FLAG_WATERMARK = 1 << 14
_FLAG_FD_CLOEXEC = 8
_DATA_HEAD = 1024 // 8
_DATA_TAIL = 1032 // 8

COUNTS = ("dropped", "states", "expiries")
"""struct sock_counts, bpf/event.h: u64 each."""

_COUNT_NS = 250_000_000
_CERTAIN_COUNTS = 2
"""Of losses, since a ring was opened, from which on another loss came after that."""
_FDS_A_CPU = 4
_FDS_ELSE = 512

_TOTAL_BYTES = 32 << 20
"""Memory of all rings together, so that a machine of many CPUs does not pay more for each than two do."""
_MOST_BYTES = 8 << 20
"""One ring: 30,000 events, a quarter of a second of the busiest loopback churn that one CPU makes."""
DOUBLE = 2
"""How many times that for datagram sockets, of which one CPU makes and ends 90,000 a second."""
_FILLING = 8
"""A ring that is filled to that part of it wakes its reader, who is late where it finds one so."""
_RUN_BYTES = 2 << 20
"""Taken from one ring at a time, so that what Python makes of it stays small (10,000 events, 12 MB of tuples)."""


class Run(msgspec.Struct, frozen=True):
    """Records of one CPU, in order, without a break: ``data`` starts and ends at a record's border."""

    cpu: int
    data: bytes
    complete: bool
    """Whether this was all that the ring held when its head was read."""


class Runs(msgspec.Struct, frozen=True):
    """One look at every ring. Whatever happened before ``until_ns`` is in here, on each CPU whose run is complete."""

    until_ns: int
    runs: list[Run]
    unread: tuple[int, ...]
    """For each CPU: events that its ring had no room for, since the start."""


class PerfBuffers:
    """The rings of the ``events`` map. ``pages`` overrides the size of each (a power of two; for tests of loss);
    ``times``: as large as usual (another).
    """

    def __init__(self, loaded: Loaded, pages: int | None = None, times: int = 1) -> None:
        self._loaded = loaded
        self._cpus = possible_cpus()
        self._rings: list[_Ring] = []
        self._polls: list[select.poll] = []
        self._unread = (0,) * self._cpus
        self._count_at = 0
        self._haste = Haste()
        self.renewed: set[int] = set()
        """CPUs that have another ring than at the start; whoever has something else open on each of them empties it."""
        cpus = online()
        # A ring and a few counters a CPU: more than a process may have as a rule (1,024), where there are hundreds.
        make_room(_FDS_A_CPU * len(cpus) + _FDS_ELSE)
        if pages is None:
            pages = _MOST_BYTES * times // mmap.PAGESIZE
            while pages > 16 and pages * mmap.PAGESIZE * len(cpus) > _TOTAL_BYTES * times:
                pages //= 2
        self._pages = pages
        try:
            for cpu in cpus:
                self._open(cpu)
        except BaseException:
            self.close()
            raise

    def _open(self, cpu: int) -> None:
        ring = _Ring(cpu, self._pages)
        self._rings.append(ring)
        self._loaded.update("events", cpu, struct.pack("=i", ring.fd))
        for poll in self._polls:
            poll.register(ring.fd, select.POLLIN)

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when a ring is an eighth full."""
        self._polls.append(poll)
        for ring in self._rings:
            poll.register(ring.fd, select.POLLIN)

    @property
    def holds(self) -> bool:
        """Whether there is something to read."""
        return any(ring.head() != ring.tail for ring in self._rings)

    def read(self, *, counting: bool = False) -> Runs:
        """What the rings hold: the time first, then every head, then the data, so that what is older is complete.
        ``counting``: what they had no room for is to be known up to now, too, not only up to a quarter second ago.
        """
        until = time.monotonic_ns()
        heads = [ring.head() for ring in self._rings]
        if any(head - ring.tail > ring.size // _FILLING for ring, head in zip(self._rings, heads, strict=True)):
            self._haste.hurry(until)
        else:
            self._haste.ease(until)
        runs = [ring.take(head) for ring, head in zip(self._rings, heads, strict=True) if head != ring.tail]
        # A ring that has stayed empty has had room for everything; but a CPU that came up since has none.
        if runs or counting or until >= self._count_at:
            before, self._unread = self._unread, self._counts()[0]
            self._count_at = until + _COUNT_NS
            if self._unread != before:
                self._renew([cpu for cpu in range(self._cpus) if self._unread[cpu] != before[cpu]])
            for ring in self._rings:
                ring.counted, ring.counts = ring.tail, ring.counts + 1
        return Runs(until_ns=until, runs=runs, unread=self._unread)

    def _renew(self, cpus: Sequence[int]) -> None:
        """Some events of these CPUs had nowhere to go: give each a ring that has none, or a dead one. It came up since
        the start, or was away, and what was open on it went with it (perf_event_exit_cpu_context, in the kernel's
        kernel/events/core.c). Where none can be had, its events go on to count as unread.
        """
        rings = {ring.cpu: ring for ring in self._rings}
        for cpu in cpus:
            ring = rings.get(cpu)
            if ring is not None:
                # It takes what comes, and was full; or these events may have come before it was opened.
                if ring.counts < _CERTAIN_COUNTS or not ring.counted == ring.tail == ring.head():
                    continue
                for poll in self._polls:
                    poll.unregister(ring.fd)
                self._rings.remove(ring)
                ring.close()
            with suppress(SstraceError):
                self._open(cpu)
                self.renewed.add(cpu)

    def heard(self, cpus: Sequence[int]) -> tuple[int, int]:
        """How often a program ran on these CPUs: for sock:inet_sock_set_state, and for a minisocket's timer that
        expired (struct sock_counts).
        """
        _, states, expiries = self._counts()
        return sum(states[cpu] for cpu in cpus), sum(expiries[cpu] for cpu in cpus)

    def _counts(self) -> list[tuple[int, ...]]:
        """Of each of COUNTS, what each CPU counted."""
        counts = self._loaded.lookup_per_cpu("counts", self._cpus * len(COUNTS))
        return [counts[at :: len(COUNTS)] for at in range(len(COUNTS))]

    def beside(self) -> Callable[[], bool]:
        """For a forked child, which has no part in the rings: what tells whether any of them holds a record that its
        parent had not taken when it forked. Raises OSError where they cannot be mapped once more.
        """
        # The kernel leaves the map of a perf buffer out of a child's memory (VM_DONTCOPY), but not its descriptor.
        maps = [mmap.mmap(ring.fd, ring.size + mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ) for ring in self._rings]
        rings = [(memoryview(map).cast("Q"), ring.tail) for map, ring in zip(maps, self._rings, strict=True)]
        return lambda: any(control[_DATA_HEAD] != tail for control, tail in rings)

    def close(self) -> None:
        """Unmap; harmless when done twice."""
        self._haste.leave()
        for ring in self._rings:
            ring.close()
        self._rings.clear()


class _Ring:
    def __init__(self, cpu: int, pages: int) -> None:
        self.cpu = cpu
        self.size = pages * mmap.PAGESIZE
        # struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags,
        # wakeup_watermark, …
        attr = struct.pack(
            "=IIQQQQQII",
            _TYPE_SOFTWARE,
            112,
            _COUNT_SW_BPF_OUTPUT,
            1,
            _SAMPLE_RAW,
            0,
            _FLAG_WATERMARK,
            self.size // _FILLING,
            0,
        ).ljust(112, b"\0")
        self.fd = perf_event_open(attr, cpu)
        try:
            self._map = mmap.mmap(self.fd, self.size + mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            os.close(self.fd)
            raise FeatureError(
                f"no memory for the perf buffer of CPU {cpu} ({self.size >> 10} KiB): {reason(error)}"
            ) from None
        self._view = memoryview(self._map)
        self._control = self._view[: mmap.PAGESIZE].cast("Q")
        self._data = self._view[mmap.PAGESIZE :]
        self._fence = threading.Lock()
        self._fence.acquire()
        self._ordered = platform.machine() == "x86_64"
        self.tail = self.counted = self._control[_DATA_TAIL]
        """Up to where it has been taken; and where that was when losses were last counted."""
        self.counts = 0
        """How often they have been."""
        if _libc.ioctl(self.fd, IOC_ENABLE, 0) < 0:
            raise FeatureError(f"the perf buffer of CPU {cpu} cannot be enabled: {os.strerror(ctypes.get_errno())}")

    def head(self) -> int:
        head: int = self._control[_DATA_HEAD]
        if not self._ordered:
            # The kernel's protocol wants a read barrier between data_head and the data (kernel/events/ring_buffer.c).
            # x86 never moves loads before loads; elsewhere releasing and taking a lock is a full barrier.
            self._fence.release()
            self._fence.acquire()
        return head

    def take(self, head: int) -> Run:
        """Copy out what lies between tail and ``head``, at most _RUN_BYTES, cut at a record's border."""
        tail = self.tail
        end = head
        if end - tail > _RUN_BYTES:
            end = self._border(tail, tail + _RUN_BYTES)
        start, stop = tail % self.size, end % self.size
        if start < stop:
            data = bytes(self._data[start:stop])
        else:
            data = bytes(self._data[start:]) + bytes(self._data[:stop])
        if not self._ordered:
            self._fence.release()
            self._fence.acquire()
        self._control[_DATA_TAIL] = self.tail = end
        return Run(cpu=self.cpu, data=data, complete=end == head)

    def _border(self, at: int, most: int) -> int:
        # Records are 8-byte aligned and their header (u32 type, u16 misc, u16 size) never wraps.
        while True:
            (size,) = struct.unpack_from("=H", self._data, (at + 6) % self.size)
            if size == 0 or at + size > most:
                return at
            at += size

    def close(self) -> None:
        self._control.release()
        self._data.release()
        self._view.release()
        self._map.close()
        os.close(self.fd)


_libc = ctypes.CDLL(None, use_errno=True)


def perf_event_open(attr: bytes, cpu: int) -> int:
    """The descriptor of a new event of all tasks on a CPU. Raises PrivilegeError or FeatureError."""
    fd = _libc.syscall(ctypes.c_long(perf_event_open_number()), attr, -1, cpu, -1, ctypes.c_ulong(_FLAG_FD_CLOEXEC))
    if fd >= 0:
        return int(fd)
    error = ctypes.get_errno()
    if error in (1, 13):
        raise PrivilegeError(
            "the kernel refused a perf event: tracing needs root, or CAP_PERFMON (CAP_SYS_ADMIN before 5.8)"
        )
    raise FeatureError(f"perf_event_open on CPU {cpu}: {os.strerror(error)}")


def online() -> list[int]:
    """CPUs that run now. The first events of one that is plugged in later count as unread; then it gets a ring."""
    cpus: list[int] = []
    for part in Path("/sys/devices/system/cpu/online").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus
