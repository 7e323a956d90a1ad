"""Perf records of bpf/unix.bpf.c → what the owners of unix sockets have done."""

import enum
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from sstrace.coordinates import Found
from sstrace.errors import DecodeError
from sstrace.model import AF_UNIX, Owner
from sstrace.protocols import NETID_OF_TYPE, NUMBER_OF_NETID

__all__ = ["SIZE", "UnixCall", "UnixEvent", "decode"]

_EVENT: Final = struct.Struct("=QQQQIIIIIIHBB4x16s108s108s")
"""struct unix_event."""
SIZE: Final = _EVENT.size
_HEADER: Final = struct.Struct("=IHH")
_RAW_SIZE: Final = struct.Struct("=I")
_RECORD_SAMPLE: Final = 9
_LEAD: Final = _HEADER.size + _RAW_SIZE.size


class UnixCall(enum.IntEnum):
    """enum unix_call."""

    BIND = 1
    LISTEN = 2
    CONNECT = 3
    ACCEPT = 4
    CLOSE = 5


class UnixEvent(NamedTuple):
    """A call that has come to an end with success, of CLOSE that begins."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    call: UnixCall
    netns: int
    """Inode of the network namespace."""
    found: Found
    """The socket as it is since; of CLOSE as it was. Its cookie is 0 where nobody has asked for it."""
    owner: Owner | None
    """Who called; None where that process is not visible."""


def decode(data: bytes) -> Iterator[UnixEvent]:
    """Of one CPU's run. Raises DecodeError where the bytes are not whole records of ours, and of perf's own."""
    at = 0
    while at < len(data):
        if at + _HEADER.size > len(data):
            raise DecodeError(f"perf record at byte {at}: {len(data) - at} bytes are left")
        kind, _, size = _HEADER.unpack_from(data, at)
        if size < _HEADER.size or at + size > len(data):
            raise DecodeError(f"perf record at byte {at} says {size} bytes, {len(data) - at} are left")
        if kind == _RECORD_SAMPLE:
            if size < _LEAD + SIZE:
                raise DecodeError(f"BPF event of {size} bytes: bpf/ and sstrace/ are from different builds")
            yield _event(data, at + _LEAD)
        at += size


def _event(data: bytes, at: int) -> UnixEvent:
    (
        at_ns, cookie, ino, peer_ino, netns, uid, tgid, fd, name_size, peer_size, kind, state, call, comm, name, peer,
    ) = _EVENT.unpack_from(data, at)  # fmt: skip
    netid = NETID_OF_TYPE.get((AF_UNIX, kind))
    if netid is None:
        raise DecodeError(f"a unix socket of type {kind}: bpf/ and sstrace/ are from different builds")
    src, dst = _name(name, name_size), _name(peer, peer_size)
    found = Found(AF_UNIX, NUMBER_OF_NETID[netid], state, src, ino, dst, peer_ino, 0, ino, uid, cookie)
    owner = Owner(comm.split(b"\0", 1)[0], tgid, fd) if tgid else None
    return UnixEvent(at_ns, UnixCall(call), netns, found, owner)


def _name(raw: bytes, size: int) -> bytes:
    """As wire.unix_diag has it."""
    return raw[:size] if raw[:1] == b"\0" else raw[:size].split(b"\0", 1)[0]
