"""What the live table is told: of sockets by events and sweeps, of what was lost, and of names."""

import enum
from typing import Literal, NamedTuple

import msgspec

from sstrace.fields import Reported
from sstrace.model.sockets import Kind, Owner, Socket

__all__ = [
    "Call",
    "Called",
    "Changed",
    "Fact",
    "Gone",
    "Lived",
    "Lost",
    "Reason",
    "Renamed",
    "Seen",
    "Space",
    "SweepBegin",
    "SweepEnd",
]


class Space(NamedTuple):
    """Where keys are unique: what is in one space is never mistaken for what is in another."""

    net: int
    """The network namespace's cookie: see ``Netns``."""
    protocol: int
    """IPPROTO_*."""


class Seen(msgspec.Struct, frozen=True):
    """A sweep of this space met this socket."""

    space: Space
    socket: Socket


class Changed(msgspec.Struct, frozen=True, gc=False):
    """The kernel moved a socket from one state to another, or gave birth to a request or timewait socket (or set its
    timer anew).

    Source: struct sock_event, bpf/event.h.
    """

    at_ns: int
    cpu: int
    kind: Kind
    old: int
    """0 for a birth."""
    new: int
    sk: int
    """Kernel address: identity until the socket dies, reused at once after."""
    cookie: int | None
    ino: int | None
    net: int
    """Its network namespace: see ``Space``."""
    netns: int
    """Inode of the network namespace."""
    family: int
    protocol: int
    src: bytes
    sport: int
    """0 while the kernel has not chosen it."""
    dst: bytes
    dport: int
    """0 where there is no peer, or where the kernel had not copied it yet (a child's birth before Linux 6.2 or so)."""
    uid: int
    ifindex: int
    since_ns: int | None
    """SYN-SENT and its end, of a connect(2) that got no port: when it began."""
    owner: Owner | None
    """The process whose system call did this, by the name that ``ss -p`` gives it; None where the kernel did it on its
    own.
    """
    cgroup: int | None
    cause: str | None
    """Why it closed (at CLOSE): see wire.cause."""
    reported: Reported
    orphaned: bool = False
    """No process holds it (any more): it has not been accepted yet, its last descriptor is gone, or is just being
    closed, and ``ino`` is what the socket leaves."""
    v6only: bool | None = None
    """Told at LISTEN, of IPv6."""
    listener: int | None = None
    """Of a request socket: the inode of its listener."""
    forgotten: bool = False
    """Of an MPTCP socket: ss does not show it (any more)."""


class Gone(msgspec.Struct, frozen=True, gc=False):
    """A request or timewait socket died. A full socket dies by Changed to CLOSE."""

    at_ns: int
    cpu: int
    kind: Kind
    sk: int
    cookie: int | None
    net: int
    netns: int
    family: int
    protocol: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ifindex: int
    cause: str
    reported: Reported


class Lived(msgspec.Struct, frozen=True, gc=False):
    """A connection of which nothing has been told before: all of it, up to now. Source: bpf/lives.h."""

    at_ns: int
    before: tuple[Changed, ...]
    """What it has done, in order."""
    end: Changed | None
    """What it does now: its full socket closes, or a timewait socket takes over; None: it lives on, and will tell."""
    handshake_ns: int | None
    """From SYN to established; None where it is not yet."""


class Call(enum.IntEnum):
    """What the owner of a datagram socket did."""

    BIND = 1
    """bind(2): the socket has a port; or, if it is raw, an address."""
    CREATE = 2
    """socket(2), of a raw socket."""
    SEND = 3
    """The first datagram of an unconnected socket, which has a port since, if it had none."""
    CONNECT = 4
    """connect(2): it has a peer; or the call failed; or it had AF_UNSPEC, and dissolved the socket from its peer."""
    CLOSE = 5
    """close(2) of the last descriptor."""


class Called(msgspec.Struct, frozen=True, gc=False):
    """A datagram socket as it is after a call of its owner's; of ``Call.CLOSE``, as it was before.

    Source: struct sock_event of kind EVENT_DATAGRAM, bpf/event.h.
    """

    at_ns: int
    cpu: int
    call: Call
    state: int
    """0: it is closed."""
    sk: int
    """Kernel address."""
    cookie: int
    ino: int | None
    net: int
    """Its network namespace: see ``Space``."""
    netns: int
    family: int
    protocol: int
    src: bytes
    sport: int
    """0: it has none (any more), and ss does not show it."""
    dst: bytes
    dport: int
    uid: int
    ifindex: int
    owner: Owner | None
    """The process that called; None where the kernel did it on its own."""
    cgroup: int | None
    v6only: bool | None
    """None of IPv4."""
    reported: Reported


class SweepBegin(msgspec.Struct, frozen=True):
    """A sweep of a space starts: rows of it not Seen before its complete end are gone."""

    space: Space
    at_ns: int
    doubted: bool = False
    """Something happened before it that no event has told of: what the table says may be of sockets that died."""


class SweepEnd(msgspec.Struct, frozen=True):
    """A sweep ends; an incomplete one (error, interrupted dump) deletes nothing."""

    space: Space
    at_ns: int
    complete: bool


class Lost(msgspec.Struct, frozen=True):
    """``count`` events of a CPU never arrived, of whatever space; they were due between the two times."""

    cpu: int
    count: int
    after_ns: int
    before_ns: int


Reason = Literal["slow-reader", "disk-full"]
"""Why lines are missing that could have been written."""


class Renamed(msgspec.Struct, frozen=True, gc=False):
    """An interface came (``before`` is None), went (``name`` is None) or has another name, from ``at_ns`` on."""

    at_ns: int
    index: int
    before: str | None
    name: str | None


Fact = Seen | Changed | Gone | SweepBegin | SweepEnd | Lost
