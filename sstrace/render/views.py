"""What the writers of lines read of the live table and its changes: the shapes of a row, a transition, the news of a
network namespace, and of what is known of namespaces. Nothing of the table is imported for them.

Addresses are packed, in network byte order; ports and numbers are in the host's. Times are CLOCK_MONOTONIC's, in
nanoseconds. None is what is not known.
"""

from typing import Literal, NamedTuple, Protocol

from sstrace.fields import Reported
from sstrace.model import Label, Netns, Owner, Role

__all__ = ["NO_LIVES", "FarPeer", "Lives", "NearPeer", "NetnsView", "PeerView", "RowView", "TransitionView", "Where"]

Lives = tuple[dict[int, int], set[int]] | tuple[()]
"""What lines about whole lives need besides, by rows' ids: how long handshakes took, ns, which is taken out; and which
connections have ended whose rows stay, which is put in.
"""
NO_LIVES: Lives = ()
"""Lines are of transitions."""


class RowView(Protocol):
    """What the writers read of a row of the live table."""

    id: int
    net: int
    state: int
    family: int
    protocol: int
    netns: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ino: int
    uid: int | None
    ifindex: int
    cookie: int | None
    owners: tuple[Owner, ...]
    owner_source: str | None
    cgroup: int | None
    v6only: bool | None
    since_ns: int
    exact: bool
    role: Role | None
    peer_owners: tuple[Owner, ...]


class PeerView(Protocol):
    """What they read of the other end of a connection, in another network namespace."""

    @property
    def netns(self) -> int: ...
    @property
    def owners(self) -> tuple[Owner, ...]: ...


class NearPeer(NamedTuple):
    """The same in the same one."""

    netns: int
    owners: tuple[Owner, ...]


class FarPeer(NamedTuple):
    """The same on another host."""

    host: str
    netns: int
    owners: tuple[Owner, ...]


class Where(Protocol):
    """With --netns: what is known of each network namespace that is followed, by its cookie. Of the recordings of
    several hosts: what is known of each of those, by a number.
    """

    title: str
    """Of the column that tells people where a line is."""

    @property
    def many(self) -> bool:
        """Whether there may be several, so that people have to be told of which a line is."""
        ...

    def label(self, net: int) -> Label:
        """What it is called."""
        ...

    def ifname(self, net: int, index: int) -> str:
        """What an interface is called in it."""
        ...

    def peer(self, row: RowView) -> PeerView | None:
        """The other end of a connection to another one of these; None where it is none, or is not known."""
        ...


class NetnsView(Protocol):
    """What the writers read of the news of a network namespace."""

    @property
    def at_ns(self) -> int: ...
    @property
    def netns(self) -> Netns: ...
    @property
    def label(self) -> Label: ...
    @property
    def what(self) -> Literal["here", "new", "named", "gone"]: ...
    @property
    def ephemeral(self) -> tuple[int, int] | None: ...


class TransitionView(Protocol):
    """What the writers read of a transition. ``row`` must still be as the transition left it."""

    @property
    def at_ns(self) -> int: ...
    @property
    def row(self) -> RowView: ...
    @property
    def old(self) -> int: ...
    @property
    def new(self) -> int: ...
    @property
    def held_ns(self) -> int | None: ...
    @property
    def cause(self) -> str | None: ...
    @property
    def reported(self) -> Reported: ...
    @property
    def approximate(self) -> bool: ...
    @property
    def source(self) -> str | None: ...
    @property
    def ended(self) -> bool: ...
    @property
    def lifetime_ns(self) -> int | None: ...
