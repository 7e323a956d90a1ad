"""The programs that hear what the owners of unix sockets do (bpf/unix.bpf.c): on the tracepoints of a few system calls.
Only where somebody asks for unix sockets, beside looks at them: their price is on every system call of the machine.
"""

import select
from collections.abc import Mapping
from operator import itemgetter

from sstrace.errors import FeatureError
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.config import config
from sstrace.sources.bpf.programs import UNIX
from sstrace.sources.cache import cache_directory
from sstrace.sources.perf import PerfBuffers
from sstrace.sources.tracefs import event_format
from sstrace.wire.tracefs import decode_format
from sstrace.wire.unix_call import UnixEvent, decode
from sstrace.without import without

__all__ = ["UnixCalls"]


class UnixCalls:
    """Attached programs. Raises PrivilegeError or FeatureError where this kernel does not let them be, or has not all
    of these tracepoints.
    """

    def __init__(self, env: Mapping[str, str], only: int) -> None:
        """``only``: inode of the network namespace to hear of; 0: all."""
        if "calls" in without(env):
            raise FeatureError("told to do without the tracepoints of unix sockets' calls")
        self._loaded, self._perf = ready(UNIX, cache_directory(env), PerfBuffers)
        self.calls = self.lost = 0
        """How many were heard of; and how many more there were, of which looks find what came of them."""
        self._waiting: list[UnixEvent] = []
        """Those that are too young to be in order."""
        try:
            self._loaded.update("configs", 0, config(lambda _: None, only).pack())
            for call in UNIX.programs:
                self._loaded.attach_tracepoint(call, decode_format(event_format(f"syscalls/{call}"))[0])
        except BaseException:
            self.close()
            raise

    @property
    def holds(self) -> bool:
        """Whether something has come."""
        return self._perf.holds

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there is much to read."""
        self._perf.register(poll)

    def read(self) -> list[UnixEvent]:
        """What has happened up to now and was not read yet, in order."""
        runs = self._perf.read()
        self.lost = sum(runs.unread)
        until_ns = runs.until_ns
        for run in runs.runs:
            heard = list(decode(run.data))
            self._waiting += heard
            if heard and not run.complete:
                until_ns = min(until_ns, heard[-1].at_ns)
        self._waiting.sort(key=itemgetter(0))
        ripe = [event for event in self._waiting if event.at_ns <= until_ns]
        del self._waiting[: len(ripe)]
        self.calls += len(ripe)
        return ripe

    def close(self) -> None:
        """Detach; harmless when done twice."""
        self._perf.close()
        self._loaded.close()
