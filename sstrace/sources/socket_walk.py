"""The TCP sockets of every network namespace at once, read from the kernel's own hash tables by a BPF program
(bpf/sockets.bpf.c): 1 µs a socket, and what the tables' empty chains cost only once, however many namespaces there are.
"""

import mmap
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from sstrace.errors import FeatureError
from sstrace.sources.bpf import offsets
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.load import Loaded, map_values
from sstrace.sources.bpf.programs import Source

__all__ = ["FOUND_BYTES", "WALK", "SocketWalk"]

_NAMES = (
    "skc_net", "skc_family", "skc_state", "skc_num", "skc_dport", "skc_bound_dev_if", "skc_cookie", "skc_rcv_saddr",
    "skc_daddr", "net_inum", "sk_socket", "socket_ino", "tw_substate",
)  # fmt: skip
_MAYBE = ("skc_v6_rcv_saddr", "skc_v6_daddr", "net_cookie", "sk_uid", "sk_ino", "sk_cgroup", "cgroup_kn", "kernfs_id")

WALK = Source(
    file="sockets.bpf.c",
    programs=("find", "copy", "walk"),
    maps=("places", "blocks", "heads", "cursors", "sockets"),
    mapped=("places", "blocks", "heads", "cursors", "sockets"),
    offsets={
        **{name: offsets.NEEDED[name] for name in _NAMES},
        "skc_portpair": (("sock_common", "skc_portpair"),),
        "skc_nulls_node": (("sock_common", "skc_nulls_node"),),
        **offsets.CALLER,
        **offsets.HASHINFO,  # where the kernel has it elsewhere, sock_diag is asked
        "ehash": (("inet_hashinfo", "ehash"),),
        "ehash_mask": (("inet_hashinfo", "ehash_mask"),),
        "lhash2": (("inet_hashinfo", "lhash2"),),
        "lhash2_mask": (("inet_hashinfo", "lhash2_mask"),),
        "listen_head": (("inet_listen_hashbucket", "nulls_head"),),
        "sk_ack_backlog": (("sock", "sk_ack_backlog"),),
        "sk_max_ack_backlog": (("sock", "sk_max_ack_backlog"),),
        **{name: (("tcp_sock", name),) for name in ("rcv_nxt", "copied_seq", "write_seq", "snd_una")},
    },
    optional={
        **{name: offsets.OPTIONAL[name] for name in _MAYBE},
        "listening_hash": (("inet_hashinfo", "listening_hash"),),
    },
    bits={"skc_ipv6only": offsets.BITS["skc_ipv6only"]},
)
"""The programs and their offsets."""

FOUND_BYTES = 96
"""struct found of the C file."""

_STEPS = 128
_HEADS = 1024
_BLOCK_BYTES = 1 << 16
_TABLE = struct.Struct("=QIIQ")
_PLACES = struct.Struct("=" + _TABLE.format.strip("=") * 2 + "Q")
_BLOCK = struct.Struct("=QQ")
_HEAD = struct.Struct("=QQ")
_CURSOR = struct.Struct("=QIIIIIBBBx")
_RUNS = 64
"""Of the program, between two breaths."""
_AGAIN_MOST = 1000
"""Chains read again, before somebody else is to be asked."""
_LOW = 0 if sys.byteorder == "little" else 7
_LEADS = bytes(byte & 1 ^ 1 for byte in range(256))
"""Of the low byte of a head: whether it leads to a socket, and is not the end of an empty chain."""


class SocketWalk:
    """The loaded walk. Raises PrivilegeError or FeatureError where the kernel will not have it; then sock_diag is the
    way.
    """

    spent_ns = 0
    """All that it takes, this thread does."""

    def __init__(self, cache: Path | None) -> None:
        self._loaded, maps = ready(WALK, cache, _mapped)
        self._places, self._block, self._heads, self._cursor, self._found = self._maps = maps
        self._loaded.run("find")
        tables = _PLACES.unpack_from(self._places)
        self._tables = tables[:4], tables[4:8]
        self.hashinfo: int = tables[8]
        """Of whose tables these are: see ``netns_walk.Walked``."""

    def records(self, breathe: Callable[[], object] = lambda: None, *, queues: bool = False) -> bytes:
        """Every socket there is, ``FOUND_BYTES`` each (wire.walked), with its ``queues`` where they are wanted: what is
        connected, then what listens, both as sock_diag has them in order. ``breathe`` is called every few milliseconds.
        Raises FeatureError where chains are too long for this, or change faster than they are read.
        """
        return b"".join(self._records(breathe, queues=queues))

    def _records(self, breathe: Callable[[], object], *, queues: bool) -> Iterator[bytes]:
        for base, count, stride, nulls in self._tables:
            leading: list[tuple[int, int]] = []
            for begin in range(0, count, _BLOCK_BYTES // stride):
                size = min(count - begin, _BLOCK_BYTES // stride)
                at = base + begin * stride
                leads = self._copied(at, (size - 1) * stride + 8)[_LOW::stride].translate(_LEADS)
                slot = leads.find(1)
                while slot >= 0:
                    leading.append((at + slot * stride, nulls + begin + slot))
                    slot = leads.find(1, slot + 1)
                breathe()
            for begin in range(0, len(leading), _HEADS):
                yield from self._follow(leading[begin : begin + _HEADS], breathe, queues=queues)

    def _copied(self, address: int, size: int) -> bytes:
        _BLOCK.pack_into(self._block, 0, address, size)
        self._loaded.run("copy")
        if _BLOCK.unpack_from(self._block)[1] != size:
            raise FeatureError("the kernel's hash tables of sockets are not where its BTF says")
        return self._block[_BLOCK.size : _BLOCK.size + size]

    def _follow(self, heads: list[tuple[int, int]], breathe: Callable[[], object], *, queues: bool) -> Iterator[bytes]:
        self._heads[: len(heads) * _HEAD.size] = b"".join(_HEAD.pack(*head) for head in heads)
        _CURSOR.pack_into(self._cursor, 0, 0, 0, len(heads), 0, 0, 0, 0, 0, queues)
        runs = 0
        while True:
            self._loaded.run("walk")
            _, _, _, count, _, again, done, lost, _ = _CURSOR.unpack_from(self._cursor)
            if lost or again > _AGAIN_MOST:
                raise FeatureError("the kernel's hash tables of sockets change faster than they can be walked")
            if count:
                yield self._found[: count * FOUND_BYTES]
            if done:
                return
            runs += 1
            if runs % _RUNS == 0:
                breathe()

    def close(self) -> None:
        """Unload."""
        for values in self._maps:
            values.close()
        self._loaded.close()


def _mapped(loaded: Loaded) -> tuple[mmap.mmap, ...]:
    sizes = (_PLACES.size, _BLOCK.size + _BLOCK_BYTES, _HEADS * _HEAD.size, _CURSOR.size, _STEPS * FOUND_BYTES)
    return tuple(map_values(loaded.maps[name], size) for name, size in zip(WALK.maps, sizes, strict=True))
