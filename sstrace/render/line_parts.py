"""What the NDJSON lines of all families have in common: their common parts, as types, and how those are made of a row.

Numbers stay numbers, in the kernel's units (each key's description says which); a key whose value is not known, or was
not asked for by ss's own options (``-o -e -m -p -i --tos --cgroup --inet-sockopt -b``), is absent, never null. Text
that is no UTF-8 is escaped with backslashes.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from sstrace.model import STATE_TEXT, Owner
from sstrace.plain import spelled
from sstrace.render.common import Context

__all__ = [
    "Address",
    "Bytes",
    "Cookie",
    "Inode",
    "LineMaker",
    "Micros",
    "Millis",
    "OwnerItem",
    "Rate",
    "RecvQ",
    "SendQ",
    "SkMem",
    "Time",
    "named",
    "owner_items",
    "shut",
    "skmem",
    "state_text",
]

Bytes = Annotated[int, Meta(description="bytes")]
Micros = Annotated[int, Meta(description="microseconds")]
Millis = Annotated[int, Meta(description="milliseconds")]
Rate = Annotated[int, Meta(description="bytes a second")]
Time = Annotated[str, Meta(description="when the snapshot began: RFC 3339, UTC, nanoseconds")]
Address = Annotated[str, Meta(description="numeric, without brackets")]
Inode = Annotated[int, Meta(description="inode of the socket; absent where no process can hold it")]
Cookie = Annotated[int, Meta(description="socket cookie, which ss prints in hexadecimal as sk:")]
RecvQ = Annotated[int, Meta(description="bytes not yet read; of a listener: connections that wait for accept")]
SendQ = Annotated[int, Meta(description="bytes not yet acknowledged; of a listener: its backlog")]


class OwnerItem(msgspec.Struct, omit_defaults=True, frozen=True):
    """An owner of the socket: a process's name, pid and descriptor, with -T the thread, with -Z and -z contexts."""

    comm: str
    pid: int
    fd: int | None = None
    tid: int | None = None
    proc_ctx: str | None = None
    sock_ctx: str | None = None


class SkMem(msgspec.Struct, omit_defaults=True):
    """SK_MEMINFO (-m), the kernel's names."""

    rmem_alloc: Bytes
    rcvbuf: Bytes
    wmem_alloc: Bytes
    sndbuf: Bytes
    fwd_alloc: Bytes
    wmem_queued: Bytes
    optmem: Bytes
    backlog: Bytes | None = None
    drops: Annotated[int, Meta(description="packets")] | None = None


_SKMEM = SkMem.__struct_fields__


def state_text(number: int) -> str:
    """The state in ss's words."""
    return STATE_TEXT[number] if number < len(STATE_TEXT) else "UNDEF"


def skmem(words: Sequence[int] | None) -> SkMem | None:
    """SK_MEMINFO's words, of which older kernels have fewer."""
    return None if words is None else SkMem(**dict(zip(_SKMEM, (*words, *([0] * (7 - len(words)))), strict=False)))


def shut(bits: int | None) -> list[str] | None:
    """The directions that are shut."""
    return None if not bits else [word for bit, word in ((1, "recv"), (2, "send")) if bits & bit]


def named(names: Sequence[str], values: Sequence[int] | None) -> dict[str, int] | None:
    """Numbers that came in this order."""
    return None if values is None else dict(zip(names, values, strict=False))


def owner_items(owners: Sequence[Owner]) -> list[OwnerItem]:
    """Owners as lines have them."""
    astuple = msgspec.structs.astuple
    return [
        OwnerItem(spelled(one.comm), one.pid, one.fd, *(astuple(one.finer) if one.finer is not None else ()))
        for one in owners
    ]


class LineMaker:
    """Makes the lines of a family: ``line`` of a row. ``ts``: when the snapshot began."""

    types: ClassVar[tuple[type[msgspec.Struct], ...]]
    """Of which ``line`` gives one."""

    def __init__(self, context: Context, ts: str) -> None:
        self._context = context
        self._ts = ts

    def line(self, row: Any) -> msgspec.Struct:
        """The line of a row."""
        raise NotImplementedError

    def _owners(self, inode: int) -> list[OwnerItem] | None:
        owners: Sequence[Owner] | None = self._context.owners.get(inode) if inode else None
        return owner_items(owners) if owners else None

    def _interface(self, ifindex: int) -> tuple[int | None, str | None]:
        """Index and name of the interface that a socket is bound to."""
        return (ifindex, spelled(self._context.names.ifname(ifindex))) if ifindex else (None, None)
