"""What to do without, for tests and for trying what lesser kernels and installations give.

SSTRACE_WITHOUT names it, with commas between the words: btf, cgroup, kallsyms, timers (tiers of the event source:
live.probes), lengths (what datagram sockets send and receive: live.calls), calls (what the owners of unix sockets do:
live.unix_calls), sockets (the walk over the kernel's hash tables: live.dumps), native (the compiled twins:
sstrace.native).
"""

from collections.abc import Mapping

__all__ = ["without"]


def without(env: Mapping[str, str]) -> frozenset[str]:
    """The words of an environment."""
    return frozenset(env.get("SSTRACE_WITHOUT", "").split(","))
