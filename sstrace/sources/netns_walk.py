"""Which network namespaces there are, read from the kernel's own list by a BPF program (bpf/netns.bpf.c): 2 µs a
namespace, and those are found that no process is in and no mount names.
"""

import mmap
import struct
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sstrace.errors import SstraceError
from sstrace.sources.bpf import offsets
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.load import Loaded, map_values
from sstrace.sources.bpf.programs import Source

__all__ = ["WALK", "NetnsWalk", "Walked"]

_CLEANED = "workqueue_execute_end"
"""Of the tracepoint that tells of namespaces that have been taken down."""

WALK = Source(
    file="netns.bpf.c",
    programs=("walk", "glance", _CLEANED),
    maps=("cursors", "namespaces", "told"),
    mapped=("cursors", "namespaces", "told"),
    offsets={
        **offsets.CALLER,
        "net_list": (("net", "list"),),
        "net_ops": (("net", "ns.ops"),),
        "net_inum": offsets.NEEDED["net_inum"],
    },
    optional={
        "net_cookie": offsets.OPTIONAL["net_cookie"],
        # Since 885fc8ac0a4d ("nstree: make iterator generic", v6.18); what it names can be opened by that.
        "net_id": (("net", "ns.ns_id"),),
        **offsets.HASHINFO,
    },
)
"""The program and its offsets."""

_STEPS = 128
_CURSOR = struct.Struct("=QQQIBBBxQ")
_COUNT = struct.Struct("=IBB")
_COUNT_AT = 24
_FOUND = struct.Struct("=QQQQQ")
_NEWS = struct.Struct("=QQQQQ")
_CLEANER = struct.Struct("=Q")
_CLEANER_AT = 24
_TRIES = 20
"""Walks begun again because the list changed under them: a run takes some 10 µs, between two of them as long, unless
this process has to wait for its CPU.
"""


class Walked(NamedTuple):
    """A network namespace as the list has it."""

    address: int
    """Of its struct net: its own until it is gone, another's after."""
    cookie: int
    """net_cookie; 0 where the kernel tells nobody (before Linux 5.14)."""
    id: int
    """ns_common's ns_id; 0 where the kernel has none (before Linux 6.18)."""
    inode: int
    hashinfo: int
    """Address of the hash tables that its TCP sockets are in: as a rule those of all (net.ipv4.tcp_child_ehash_entries,
    Linux 6.1); 0 where that is not known."""


class NetnsWalk:
    """The loaded walk. Raises PrivilegeError or FeatureError where the kernel will not have it; then /proc is the
    way.
    """

    def __init__(self, cache: Path | None) -> None:
        self._loaded, (self._cursor, self._found, self._told) = ready(WALK, cache, _mapped)
        self._watches = False

    def namespaces(self) -> list[Walked] | None:
        """Every namespace of the machine, the caller's own first; None where they come and go too fast just now."""
        for _ in range(_TRIES):
            found: list[Walked] = []
            self._cursor[: _CURSOR.size] = bytes(_CURSOR.size)
            while True:
                self._loaded.run("walk")
                count, done, lost = _COUNT.unpack_from(self._cursor, _COUNT_AT)
                if lost:
                    break
                if count:
                    found += map(Walked._make, _FOUND.iter_unpack(self._found[: count * _FOUND.size]))
                if done:
                    return found
        return None

    def watch(self, cleaner: int) -> None:
        """Hear from here on of namespaces that go; those that come are seen at a glance. ``cleaner``: the address of
        cleanup_net(). Where the kernel will not have it, there is no ``news``.
        """
        self._told[_CLEANER_AT : _CLEANER_AT + _CLEANER.size] = _CLEANER.pack(cleaner)
        with suppress(SstraceError):
            self._loaded.attach_to((_CLEANED,))
            self._watches = _CLEANED not in self._loaded.missing

    def news(self) -> tuple[int, ...] | None:
        """What is another as soon as a namespace has come or gone; None where that is not known."""
        if not self._watches:
            return None
        self._loaded.run("glance")
        found: tuple[int, ...] = _NEWS.unpack(self._told[: _NEWS.size])
        return found

    def close(self) -> None:
        """Unload."""
        self._cursor.close()
        self._found.close()
        self._told.close()
        self._loaded.close()


def _mapped(loaded: Loaded) -> tuple[mmap.mmap, ...]:
    sizes = {"cursors": _CURSOR.size, "namespaces": _STEPS * _FOUND.size, "told": _NEWS.size}
    return tuple(map_values(loaded.maps[name], size) for name, size in sizes.items())
