"""The programs that hear what the owners of datagram sockets do (bpf/datagrams.bpf.c): at the root of the cgroup v2
hierarchy, and on two system calls. Only where somebody asks for UDP: their price is on every system call of the
machine.

The root is opened without being mounted, so that it is the same whether, and where, somebody has mounted it. In a
cgroup namespace it is that namespace's own: sockets of others are not heard.
"""

import os
from collections.abc import Mapping

from sstrace.errors import FeatureError, reason
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.programs import CALLS, DATAGRAMS, LENGTHS
from sstrace.sources.cache import cache_directory
from sstrace.sources.mounts import detached
from sstrace.sources.tracefs import event_format
from sstrace.wire.tracefs import decode_format

__all__ = ["Calls"]


class Calls:
    """Attached programs. Raises PrivilegeError or FeatureError where this kernel, or somebody else at the root, does
    not let them be.
    """

    def __init__(self, env: Mapping[str, str], shared: Mapping[str, int]) -> None:
        """``shared``: the event path's maps, into whose rings these write, and by whose settings they go."""
        self._loaded, _ = ready(DATAGRAMS, cache_directory(env), lambda loaded: loaded, shared=shared)
        try:
            try:
                root = detached("cgroup2")
            except OSError as error:
                raise FeatureError(f"the cgroup v2 hierarchy cannot be opened ({reason(error)})") from None
            try:
                self._loaded.attach_to(LENGTHS)
                for hook in DATAGRAMS.cgroup:
                    # Nothing is counted where not everything would be.
                    if hook != "create" or not self._loaded.missing:
                        self._loaded.attach_cgroup(hook, root)
            finally:
                os.close(root)
            for call in CALLS:
                self._loaded.attach_tracepoint(call, decode_format(event_format(f"syscalls/{call}"))[0])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Detach; harmless when done twice."""
        self._loaded.close()
