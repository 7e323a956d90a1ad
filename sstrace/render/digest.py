"""A digest of many transitions: what they come to, by peer, port and owner.

Enters: transitions as plain values, one ``add`` each. Nothing is kept of a connection that has ended, and durations go
into buckets at most 3 % wide, so any number of transitions can be digested.
"""

from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from typing import Final

import msgspec

from sstrace.causes import has_failed
from sstrace.fields import NOTHING, Reported
from sstrace.model import AF_INET, AF_INET6, State
from sstrace.plain import spelled
from sstrace.render.events import address
from sstrace.render.spread import Spread

__all__ = ["Digest", "Key", "Tally", "called", "key_text"]

_MOST_KEYS = 200_000
"""Of a grouping."""


class Tally(msgspec.Struct, gc=False):
    """Of one peer, port or owner."""

    opened: int = 0
    failed: int = 0
    closed: int = 0
    retransmits: int = 0
    sent: int = 0
    """Payload."""
    received: int = 0
    weight: int = 0
    """Connections begun: those that were opened, and those that ended without."""

    def take(self, other: "Tally") -> None:
        """Count what another has, too."""
        self.opened += other.opened
        self.failed += other.failed
        self.closed += other.closed
        self.retransmits += other.retransmits
        self.sent += other.sent
        self.received += other.received
        self.weight += other.weight


_ESTABLISHED = int(State.ESTABLISHED)
_OPENING: Final = (int(State.SYN_SENT), int(State.SYN_RECV))
_WAYS: Final = {"client": "out", "server": "in"}
"""By role, as the lines have it."""


class Digest:
    """Counts. Memory is bounded by the connections that are there, and ``most_keys`` of each grouping: when there are
    more, against a scan over all addresses, the lighter half is dropped.

    Peers may be text or raw addresses, owners text or bytes, each alike in one digest.
    """

    def __init__(self, most_keys: int = _MOST_KEYS) -> None:
        self.transitions = 0
        self.lost = 0
        self.opened = {"out": 0, "in": 0}
        self.failed = {"out": 0, "in": 0, "": 0}
        """The last: of those that failed nobody saw who called."""
        self.closed = 0
        self.retransmits = 0
        self.sent = 0
        """Payload, each byte once: of the connections that have ended, and of the others so far (``carry``)."""
        self.received = 0
        self.handshake = {"out": Spread(), "in": Spread()}
        self.lifetime = Spread()
        self.rtt = Spread()
        """The smoothed round-trip time with which each ended."""
        self.groups: dict[str, dict[Key, Tally]] = {"peer": {}, "port": {}, "owner": {}}
        self.dropped: set[str] = set()
        """Groupings that keys were dropped of."""
        self.causes: Counter[str] = Counter()
        self.first_ns: int | None = None
        self.last_ns = 0
        self._most_keys = most_keys
        self._there: dict[int, bool] = {}
        """Connections that are open → whether their owner's tally has counted them."""

    def pass_over(self, at_ns: int) -> None:
        """A transition with which nothing opens and nothing ends, without retransmits: it is counted."""
        self.transitions += 1
        if self.first_ns is None or at_ns < self.first_ns:
            self.first_ns = at_ns
        if at_ns > self.last_ns:  # noqa: PLR1730 - half of max()'s price
            self.last_ns = at_ns

    def add(
        self,
        at_ns: int,
        connection: int,
        old: int,
        new: int,
        *,
        ended: bool,
        lifetime_ns: int | None,
        held_ns: int | None,
        role: str | None,
        peer: "str | bytes",
        ports: tuple[int, int],
        owner: "str | bytes",
        cause: str | None,
        retransmits: int,
        reported: Reported = NOTHING,
    ) -> None:
        """One transition between two states (numbers). ``ended``, ``lifetime_ns``: of the connection; ``held_ns``: time
        in the old state; ``ports``: local, remote; ``owner``: a process's name, empty when unknown; ``cause``: empty
        where none is to be counted; ``reported``: what the connection has carried, where it ended.
        """
        self.transitions += 1
        if self.first_ns is None or at_ns < self.first_ns:
            self.first_ns = at_ns
        if at_ns > self.last_ns:  # noqa: PLR1730 - half of max()'s price
            self.last_ns = at_ns
        there = self._there
        way = _WAYS.get(role or "", "")
        opened, failed, late = new == _ESTABLISHED, False, False
        sent = received = 0
        if opened:
            way = way or "in"
            there[connection] = bool(owner)
            self.opened[way] += 1
            if held_ns is not None and old in _OPENING:
                self.handshake[way].add(held_ns)
        elif ended:
            failed = has_failed(cause)
            if failed:
                self.failed[way] += 1
            else:
                self.closed += 1
            if cause != "":
                self.causes[cause or "unknown"] += 1
            if lifetime_ns is not None:
                self.lifetime.add(lifetime_ns)
            sent, received = reported.bytes_sent or 0, reported.bytes_received or 0
            self.sent += sent
            self.received += received
            if reported.rtt_us:
                self.rtt.add(reported.rtt_us * 1000)
            late = there.pop(connection, None) is False  # its owner was not known when the connection was opened
        elif not retransmits:
            return
        port = _PORTS[way](ports)
        self.retransmits += retransmits
        groups = self.groups
        tallies = (
            groups["peer"].get(peer) or self._tally("peer", peer),
            groups["port"].get(port) or self._tally("port", port),
            (groups["owner"].get(owner) or self._tally("owner", owner)) if owner else None,
        )
        for tally in tallies:
            if tally is None:
                continue
            tally.opened += opened
            tally.failed += failed
            tally.closed += ended and not failed
            tally.weight += opened or (ended and old in _OPENING)
            tally.retransmits += retransmits
            tally.sent += sent
            tally.received += received
        if late and tallies[2] is not None:
            tallies[2].opened += 1
            tallies[2].weight += 1

    def carry(
        self, *, role: str | None, peer: "str | bytes", ports: tuple[int, int], owner: "str | bytes", reported: Reported
    ) -> None:
        """What a connection has carried so far that has not ended: last of all, for its end would count it again."""
        sent, received = reported.bytes_sent or 0, reported.bytes_received or 0
        if not sent and not received:
            return
        self.sent += sent
        self.received += received
        for by, key in (("peer", peer), ("port", called(role, ports)), ("owner", owner)):
            tally = self.groups[by].get(key) or self._tally(by, key)
            if tally is not None:
                tally.sent += sent
                tally.received += received

    def datagram(
        self,
        at_ns: int,
        number: int,
        *,
        ended: bool,
        lifetime_ns: int | None,
        role: str | None,
        peer: "str | bytes",
        ports: tuple[int, int],
        owner: "str | bytes",
        reported: Reported = NOTHING,
    ) -> None:
        """One transition of a datagram socket, as ``add`` has them: it is opened, out, when it calls for the first
        time. One that waits to be called is as a listener is: nothing is opened or closed with it, but what it has
        carried counts. Without a peer it is nobody's.
        """
        peer = peer if ports[1] else peer[:0]
        if role == "client" and (ended or number not in self._there):
            self.add(
                at_ns, number, 0, 0 if ended else _ESTABLISHED, ended=ended, lifetime_ns=lifetime_ns, held_ns=None,
                role=role, peer=peer, ports=ports, owner=owner, cause="", retransmits=0, reported=reported,
            )  # fmt: skip
            return
        self.pass_over(at_ns)
        if ended:
            self.carry(role="server", peer=peer, ports=ports, owner=owner, reported=reported)

    def looked(
        self,
        at_ns: int,
        number: int,
        new: int,
        *,
        ended: bool,
        lifetime_ns: int | None,
        role: str | None,
        peer: str,
        owner: "str | bytes",
    ) -> None:
        """One transition of a socket that is followed by looks alone. A connection is opened when it is first seen
        which end has called; what has no such end (a pair, a datagram socket) is opened and closed for nobody.
        ``peer``: its name; there are no ports.
        """
        there = number in self._there
        if (ended and there) or (not ended and not there and role is not None and new == _ESTABLISHED):
            self.add(
                at_ns, number, 0, 0 if ended else _ESTABLISHED, ended=ended, lifetime_ns=lifetime_ns, held_ns=None,
                role=role, peer=peer, ports=(0, 0), owner=owner, cause="", retransmits=0,
            )  # fmt: skip
        else:
            self.pass_over(at_ns)

    def _tally(self, by: str, key: "Key") -> Tally | None:
        if not key:
            return None
        tallies = self.groups[by]
        if len(tallies) >= self._most_keys:
            self.dropped.add(by)
            kept = sorted(tallies.items(), key=_heaviest)[: self._most_keys // 2]
            self.groups[by] = tallies = dict(kept)
        tally = tallies[key] = Tally()
        return tally

    def keep(self, alive: Callable[[int], bool]) -> None:
        """Forget the connections whose end was lost: all but those that are ``alive``."""
        self._there = {number: owned for number, owned in self._there.items() if alive(number)}

    def hide_owners(self) -> None:
        """Leave away whose sockets they were."""
        self.groups["owner"].clear()

    def merge(self, other: "Digest") -> None:
        """Count all of another digest's, too."""
        self.transitions += other.transitions
        self.lost += other.lost
        self.closed += other.closed
        self.retransmits += other.retransmits
        self.sent += other.sent
        self.received += other.received
        for way, count in other.failed.items():
            self.failed[way] += count
        for way in ("out", "in"):
            self.opened[way] += other.opened[way]
            self.handshake[way].merge(other.handshake[way])
        self.lifetime.merge(other.lifetime)
        self.rtt.merge(other.rtt)
        self.causes.update(other.causes)
        self.dropped |= other.dropped
        for by, tallies in other.groups.items():
            mine = self.groups[by]
            for key, tally in tallies.items():
                mine.setdefault(key, Tally()).take(tally)
        if other.first_ns is not None:
            self.first_ns = other.first_ns if self.first_ns is None else min(self.first_ns, other.first_ns)
        self.last_ns = max(self.last_ns, other.last_ns)

    def top(self, by: str, most: int) -> list[tuple[str, Tally]]:
        """The keys of a grouping with most connections begun, then most closed."""
        tallies = self.groups[by]
        return [(key_text(by, key), tallies[key]) for key in self.top_keys(by, most)]

    def top_keys(self, by: str, most: int) -> "list[Key]":
        """The same as they are kept."""
        return [key for key, _ in sorted(self.groups[by].items(), key=_heaviest)[:most]]

    def ends(self, most: int) -> list[tuple[str, int]]:
        """The most frequent causes of an end."""
        return sorted(self.causes.items(), key=lambda item: (-item[1], item[0]))[:most]


_PORTS: Final[dict[str, Callable[[tuple[int, int]], int]]] = {"out": itemgetter(1), "in": itemgetter(0), "": min}
"""A connection is of the port that was called: of local and remote, the lower one where nobody saw who called."""


def called(role: str | None, ports: tuple[int, int]) -> int:
    """That port."""
    return _PORTS[_WAYS.get(role or "", "")](ports)


Key = str | bytes | int


def _heaviest(item: tuple[Key, Tally]) -> tuple[int, int, bytes | int]:
    key, tally = item
    # Names stand among packed addresses.
    return -tally.weight, -tally.closed, key.encode(errors="surrogateescape") if isinstance(key, str) else key


def key_text(by: str, key: Key) -> str:
    """A key of a grouping as every output has it."""
    if not isinstance(key, bytes):
        return str(key)
    if by == "owner":
        return spelled(key)
    return address(AF_INET if len(key) == 4 else AF_INET6, key)
