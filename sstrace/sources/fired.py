"""How often a tracepoint fired, counted by the kernel itself (perf_event_open(2), a counter without samples), whether
or not any program was run for it.
"""

import ctypes
import os
import platform
import struct
import sys
from collections.abc import Sequence

from sstrace.errors import FeatureError
from sstrace.sources.bpf.syscall import IOC_ENABLE
from sstrace.sources.perf import perf_event_open

__all__ = ["Fired"]

_TYPE_TRACEPOINT = 2
_FLAG_DISABLED = 1
# _IOW differs on powerpc: arch/powerpc/include/uapi/asm/ioctl.h.
_IOC_SET_FILTER = 0x40082406 if platform.machine() != "ppc64le" else 0x80082406

_libc = ctypes.CDLL(None, use_errno=True)


class Fired:
    """Counters of one tracepoint, one on each of ``cpus``. Raises FeatureError or PrivilegeError."""

    def __init__(self, event_id: int, cpus: Sequence[int], which: str | None = None) -> None:
        """``event_id``: from tracefs. ``which``: a filter that says what to count (Documentation/trace/events.rst)."""
        self._fds: dict[int, int] = {}
        """By the CPU."""
        self._before = 0
        """What was counted by those that are no more."""
        self._which = which
        # struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags.
        attr = struct.pack("=IIQQQQQ", _TYPE_TRACEPOINT, 112, event_id, 0, 0, 0, _FLAG_DISABLED)
        self._attr = attr.ljust(112, b"\0")
        try:
            for cpu in cpus:
                self._open(cpu)
        except BaseException:
            self.close()
            raise

    def _open(self, cpu: int) -> None:
        fd = self._fds[cpu] = perf_event_open(self._attr, cpu)
        if self._which is not None:
            text = ctypes.create_string_buffer(self._which.encode())
            _control(fd, _IOC_SET_FILTER, ctypes.addressof(text))
        _control(fd, IOC_ENABLE, 0)

    def renew(self, cpu: int) -> None:
        """A CPU came up since the start, or was away, and its counter went with it (sources.perf). Raises OSError,
        FeatureError or PrivilegeError.
        """
        fd = self._fds.pop(cpu, None)
        if fd is not None:
            try:
                self._before += _read(fd)
            finally:
                os.close(fd)
        self._open(cpu)

    def read(self) -> int:
        """So often up to now. Raises OSError."""
        return self._before + sum(map(_read, self._fds.values()))

    def close(self) -> None:
        """Count no more; harmless when done twice."""
        while self._fds:
            os.close(self._fds.popitem()[1])


def _control(fd: int, request: int, argument: int) -> None:
    if _libc.ioctl(fd, ctypes.c_ulong(request), ctypes.c_ulong(argument)) < 0:
        raise FeatureError(f"the kernel would not count a tracepoint: {os.strerror(ctypes.get_errno())}")


def _read(fd: int) -> int:
    return int.from_bytes(os.read(fd, 8), sys.byteorder)
