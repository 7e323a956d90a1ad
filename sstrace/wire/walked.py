"""What the walk over the kernel's hash tables finds (bpf/sockets.bpf.c, struct found) → ``InetSocket``, as sock_diag
shows the same socket. Native byte order.
"""

import struct
from collections.abc import Iterator, Sequence

from sstrace.errors import DecodeError
from sstrace.model import AF_INET, Extras, InetSocket, Netns, State, Table

__all__ = ["apart", "decode"]

_FOUND = struct.Struct("=QQQQIIIHHHBBB3xII16s16s")
_WHERE = struct.Struct(f"=24xQI{_FOUND.size - 36}x")
_V6ONLY = 1
_SYN_RECV, _LISTEN = int(State.SYN_RECV), int(State.LISTEN)
_REQUEST, _TIMEWAIT = 1, 2
_TIMERS = (0, 1, 3)
"""Of a full socket it was not read; of a request and of a timewait socket: as inet_diag has it."""


def apart(records: bytes) -> dict[Netns, list[bytes]]:
    """Records by the namespace that they are in; its cookie is 0 where the kernel gives none. Raises DecodeError."""
    size = _FOUND.size
    if len(records) % size:
        raise DecodeError(f"sockets of {size} bytes each cannot take {len(records)}")
    found: dict[tuple[int, ...], list[bytes]] = {}
    for at, where in zip(range(0, len(records), size), _WHERE.iter_unpack(records), strict=True):
        found.setdefault(where, []).append(records[at : at + size])
    return {Netns(*where): mine for where, mine in found.items()}


def decode(records: Sequence[bytes], states: int) -> Iterator[InetSocket]:
    """The sockets in these states, bit n for state n. A cookie of 0: nobody has asked for it yet; queues of 0: nobody
    asked the walk for them.
    """
    known: dict[tuple[int, bool | None], Extras] = {}
    for record in records:
        (
            cookie, ino, cgroup, _, _, uid, ifindex, family, sport, dport, state, sort, flags, rqueue, wqueue, src, dst,
        ) = _FOUND.unpack(record)  # fmt: skip
        if sort == _REQUEST:
            state = _SYN_RECV
        if not states >> state & 1:
            continue
        if family == AF_INET:
            src, dst = src[:4], dst[:4]
        v6only = flags & _V6ONLY != 0 if state == _LISTEN and family != AF_INET else None
        extras = known.get((cgroup, v6only))
        if extras is None:
            extras = known[cgroup, v6only] = Extras(cgroup_id=cgroup or None, v6only=v6only)
        yield InetSocket(
            Table.TCP, family, state, rqueue, wqueue, ino, cookie, src, sport, dst, dport, uid, ifindex, _TIMERS[sort],
            extras=extras,
        )  # fmt: skip
