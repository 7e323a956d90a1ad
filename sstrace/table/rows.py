"""The nouns of the live table: a row, and what is told of it."""

import msgspec

from sstrace.fields import Reported
from sstrace.model import Kind, Owner, Role

__all__ = ["Ends", "Resync", "Row", "Transition"]


Ends = tuple[int, int, bytes, bytes, int]
"""The key of a connection within its space: local port, peer port, local address, peer address, bound device (0: none);
v4-mapped addresses as IPv4. Sockets that are bound to different devices may be between the same addresses."""


class Row(msgspec.Struct, gc=False):
    """One connection or listener, whichever kernel object holds it now."""

    id: int
    """Ours: unique within the table's life."""
    kind: Kind
    state: int
    family: int
    protocol: int
    net: int
    """See ``Space``."""
    netns: int
    """Inode of the network namespace: for display."""
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ino: int
    uid: int | None
    """None for request and timewait sockets, of which the kernel does not know it."""
    ifindex: int
    cookie: int | None
    sk: int | None
    since_ns: int
    """When it came into its state; a lower bound of the duration follows where ``exact`` is false."""
    exact: bool
    touched_ns: int
    """Time of the last event; 0 when only sweeps know it."""
    owners: tuple[Owner, ...] = ()
    """Who held it when that was last learnt; nobody is told of its end."""
    owner_source: str | None = None
    """connect, listen, bind, send, close: the system call that an event saw. walk, proc: read from the process table,
    nobody included. listener: nobody has accepted it, as far as is known, and these hold its listener. None: not known.
    """
    cgroup: int | None = None
    v6only: bool | None = None
    seen: int = 0
    """Number of the last sweep that met it."""
    born_ns: int | None = None
    """When the connection, or the listening, began; None when that was not seen."""
    role: Role | None = None
    """client: this end sent the SYN; server: it came from the peer; None where that was not seen, and for listeners."""
    ends: Ends | None = None
    """The key under which its shard finds it; None for listeners, and of a connect(2) that failed without a SYN."""
    peer_owners: tuple[Owner, ...] = ()
    """Of a unix socket: who held the other end when that was last learnt."""
    told: bool = False
    """Whether those who follow the table have heard of it (live.announce's)."""


class Transition(msgspec.Struct, frozen=True, gc=False):
    """A change of a row's state. Read ``row`` at once: the next fact may change it."""

    at_ns: int
    row: Row
    old: int
    new: int
    held_ns: int | None
    """Time in the old state; None when its beginning is unknown."""
    cause: str | None
    reported: Reported
    """What the event says besides: by the compiled event path the event itself, which has the same attributes."""
    listed: bool
    """False: a transition that lifecycle does not list."""
    approximate: bool = False
    """True: found by looking, so it happened at ``at_ns`` or a little before."""
    source: str | None = None
    """``poll``: no event stands behind it, two sweeps differ, where there should be events; ``sweep``: the same, of a
    socket that is followed in no other way. None: an event, or a probe of this one row."""
    ended: bool = False
    """Whether the connection ends here: once in the life of a row, and never of a listener's."""
    lifetime_ns: int | None = None
    """Where the connection ends, or the listening: time since it began; None when that was not seen."""
    handshake_ns: int | None = None
    """Where a connection ends of which nothing has been told before (model.Lived): how long its handshake took."""


class Resync(msgspec.Struct, frozen=True):
    """What a sweep repaired."""

    at_ns: int
    added: list[Row]
    removed: list[Row]
    changed: list[tuple[Row, int]]
    """Rows whose state was wrong, with the wrong state; and those of ``ended`` in any case."""
    ended: frozenset[int] = frozenset()
    """Ids of the rows that a timewait socket holds now, and a full one did before: their connections have ended."""
