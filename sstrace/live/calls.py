"""The programs that hear what the owners of datagram sockets do (bpf/datagrams.bpf.c): at the root of the cgroup v2
hierarchy, and on two system calls. Only where somebody asks for these: their price is on every system call of the
machine.

The root is opened without being mounted, so that it is the same whether, and where, somebody has mounted it. In a
cgroup namespace it is that namespace's own: sockets of others are not heard (``hears_all``).
"""

import os
from collections.abc import Collection, Mapping

from sstrace.errors import FeatureError, reason
from sstrace.model import Table
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.programs import BINDS, CALLS, DATAGRAMS, LENGTHS, OF_RAW
from sstrace.sources.cache import cache_directory
from sstrace.sources.mounts import detached
from sstrace.sources.tracefs import event_format
from sstrace.wire.event import SIZE
from sstrace.wire.tracefs import decode_format
from sstrace.without import without

__all__ = ["Calls"]

_ROOT = 1
"""Inode of the root of every hierarchy: the first that its kernfs gives out (kernfs_create_root, fs/kernfs/dir.c)."""


class Calls:
    """Attached programs. Raises PrivilegeError or FeatureError where this kernel, or somebody else at the root, does
    not let them be.
    """

    def __init__(self, env: Mapping[str, str], shared: Mapping[str, int], tables: Collection[Table]) -> None:
        """``shared``: the event path's maps, into whose rings these write, and by whose settings they go. ``tables``:
        whose sockets are to be heard of.
        """
        self._heard = (*CALLS, *(BINDS if Table.RAW in tables else ()))
        self._loaded, _ = ready(DATAGRAMS, cache_directory(env), lambda loaded: loaded, shared=shared)
        try:
            try:
                root = detached("cgroup2")
            except OSError as error:
                raise FeatureError(f"the cgroup v2 hierarchy cannot be opened ({reason(error)})") from None
            self.hears_all = os.fstat(root).st_ino == _ROOT
            """Whether it is the hierarchy's own root: else the sockets of other cgroups are not heard."""
            try:
                for which, table in enumerate((Table.UDP, Table.RAW)):
                    self._loaded.update("following", which, bytes((table in tables,)))
                if "lengths" in without(env):
                    self._loaded.missing |= dict.fromkeys(LENGTHS, "left out")
                else:
                    self._loaded.attach_to(LENGTHS)
                # Nothing is counted where not everything would be; but a raw socket's birth is heard in any case.
                births = not self._loaded.missing or Table.RAW in tables
                for hook in DATAGRAMS.cgroup if Table.UDP in tables else OF_RAW:
                    if hook != "create" or births:
                        self._loaded.attach_cgroup(hook, root)
            finally:
                os.close(root)
            for call in self._heard:
                self._loaded.attach_tracepoint(call, decode_format(event_format(f"syscalls/{call}"))[0])
        except BaseException:
            self.close()
            raise

    @property
    def counts(self) -> bool:
        """Whether what each socket sends and receives is counted."""
        return not self._loaded.missing

    def missed(self) -> int:
        """How often a call was not heard. A tracepoint's program is not run while the CPU that it is on is within
        bpf(2) on a map, whose caller another task has interrupted there (bpf_prog_active, kernel/trace/bpf_trace.c):
        where kernels are preempted, say by Linux 7.2's choice of its own.
        """
        return sum(self._loaded.misses(call) for call in self._heard)

    def births(self) -> list[bytes]:
        """Take what waits for whoever looks: each a struct sock_event."""
        return self._loaded.take_all("waiting", 8, SIZE)

    def close(self) -> None:
        """Detach; harmless when done twice."""
        self._loaded.close()
