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
        self._fds: list[int] = []
        # struct perf_event_attr: type, size, config, sample_period, sample_type, read_format, flags.
        attr = struct.pack("=IIQQQQQ", _TYPE_TRACEPOINT, 112, event_id, 0, 0, 0, _FLAG_DISABLED).ljust(112, b"\0")
        try:
            for cpu in cpus:
                self._fds.append(perf_event_open(attr, cpu))
                if which is not None:
                    text = ctypes.create_string_buffer(which.encode())
                    self._control(_IOC_SET_FILTER, ctypes.addressof(text))
                self._control(IOC_ENABLE, 0)
        except BaseException:
            self.close()
            raise

    def _control(self, request: int, argument: int) -> None:
        if _libc.ioctl(self._fds[-1], ctypes.c_ulong(request), ctypes.c_ulong(argument)) < 0:
            raise FeatureError(f"the kernel would not count a tracepoint: {os.strerror(ctypes.get_errno())}")

    def read(self) -> int:
        """So often up to now. Raises OSError."""
        return sum(int.from_bytes(os.read(fd, 8), sys.byteorder) for fd in self._fds)

    def close(self) -> None:
        """Count no more; harmless when done twice."""
        while self._fds:
            os.close(self._fds.pop())
