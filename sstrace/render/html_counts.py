"""A digest that also keeps what its page draws: when connections were opened and ended, and who talked to whom.

Memory stays bounded: the columns of a timeline grow wider as time goes on, and of pairs the lighter half is dropped as
of every grouping.
"""

from collections import Counter

from sstrace.causes import has_failed
from sstrace.fields import NOTHING, Reported
from sstrace.model import State
from sstrace.render.digest import Digest, Key, Tally

__all__ = ["CLOSED", "OPENED", "Pictured", "Timeline"]

OPENED, CLOSED = "opened", "closed"
"""What a timeline counts, beside the causes of failures."""

_MOST_COLUMNS = 160
_SHIFT = 20
"""Columns begin a millisecond wide: 2^20 ns."""
_MOST_PAIRS = 200_000

_ESTABLISHED = int(State.ESTABLISHED)
_OPENING = (int(State.SYN_SENT), int(State.SYN_RECV))


class Timeline:
    """How often what happened, in columns of 2^``shift`` ns, of which there are at most 160: where more would be
    needed, two become one.
    """

    def __init__(self) -> None:
        self.shift = _SHIFT
        self.columns: dict[int, Counter[str]] = {}
        """Time divided by the width of a column → what → how often. Times are those of the digest."""
        self.first = self.last = 0

    def add(self, at_ns: int, what: str, count: int = 1) -> None:
        """Count something: OPENED, CLOSED, or the cause of a failure."""
        column = at_ns >> self.shift
        counts = self.columns.get(column)
        if counts is None:
            counts = self._column(column)
            while self.last - self.first >= _MOST_COLUMNS:
                self.widen(self.shift + 1)
                counts = self.columns[at_ns >> self.shift]
        counts[what] += count

    def _column(self, column: int) -> Counter[str]:
        self.first = min(self.first, column) if self.columns else column
        self.last = max(self.last, column) if self.columns else column
        return self.columns.setdefault(column, Counter())

    def widen(self, shift: int) -> None:
        """Have columns at least so wide."""
        by = shift - self.shift
        if by <= 0:
            return
        narrow, self.columns, self.shift = self.columns, {}, shift
        for column, counts in narrow.items():
            self._column(column >> by).update(counts)

    def merge(self, other: "Timeline") -> None:
        """Count all of another's, too."""
        self.widen(other.shift)
        for column, counts in other.columns.items():
            for what, count in counts.items():
                self.add(column << other.shift, what, count)

    def total(self) -> Counter[str]:
        """What happened how often, all together."""
        total: Counter[str] = Counter()
        for counts in self.columns.values():
            total.update(counts)
        return total


class Pictured(Digest):
    """A digest, its timeline and its pairs."""

    def __init__(self, most_pairs: int = _MOST_PAIRS, most_keys: int | None = None) -> None:
        """``most_keys``: see Digest."""
        if most_keys is None:
            super().__init__()
        else:
            super().__init__(most_keys)
        self.timeline = Timeline()
        self.pairs: dict[tuple[Key, Key], Tally] = {}
        """Owner (empty where none was known) and peer → what became of their connections. All pairs of an owner come
        to its tally, and so do all of a peer, as long as none was dropped.
        """
        self.pairs_dropped = False
        self._most_pairs = most_pairs

    def carry(
        self, *, role: str | None, peer: str | bytes, ports: tuple[int, int], owner: str | bytes, reported: Reported
    ) -> None:
        """As in Digest."""
        super().carry(role=role, peer=peer, ports=ports, owner=owner, reported=reported)
        if peer and (reported.bytes_sent or reported.bytes_received):
            tally = self._pair(owner, peer)
            tally.sent += reported.bytes_sent or 0
            tally.received += reported.bytes_received or 0

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
        peer: str | bytes,
        ports: tuple[int, int],
        owner: str | bytes,
        cause: str | None,
        retransmits: int,
        reported: Reported = NOTHING,
    ) -> None:
        """As in Digest."""
        opened = new == _ESTABLISHED
        ended = ended and not opened
        late = ended and bool(owner) and self._there.get(connection) is False
        super().add(
            at_ns, connection, old, new, ended=ended, lifetime_ns=lifetime_ns, held_ns=held_ns, role=role, peer=peer,
            ports=ports, owner=owner, cause=cause, retransmits=retransmits, reported=reported,
        )  # fmt: skip
        failed = ended and has_failed(cause)
        if opened or ended:
            self.timeline.add(at_ns, OPENED if opened else cause if failed and cause else CLOSED)
        elif not retransmits:
            return
        if not peer:
            return
        tally = self._pair(owner, peer)
        tally.opened += opened
        tally.failed += failed
        tally.closed += ended and not failed
        tally.weight += opened or (ended and old in _OPENING)
        tally.retransmits += retransmits
        if ended:
            tally.sent += reported.bytes_sent or 0
            tally.received += reported.bytes_received or 0
        if late:  # what nobody was known to have opened is moved to who closes it
            tally.opened += 1
            tally.weight += 1
            nobody = self.pairs.get((type(owner)(), peer))
            if nobody is not None:
                nobody.opened -= 1
                nobody.weight -= 1

    def _pair(self, owner: Key, peer: Key) -> Tally:
        tally = self.pairs.get((owner, peer))
        if tally is None:
            if len(self.pairs) >= self._most_pairs:
                self.pairs_dropped = True
                kept = sorted(self.pairs.items(), key=lambda item: (-item[1].weight, -item[1].closed))
                self.pairs = dict(kept[: self._most_pairs // 2])
            tally = self.pairs[owner, peer] = Tally()
        return tally

    def hide_owners(self) -> None:
        """As in Digest: pairs are of nobody then."""
        super().hide_owners()
        pairs, self.pairs = self.pairs, {}
        for (owner, peer), tally in pairs.items():
            self._pair(type(owner)(), peer).take(tally)

    def merge(self, other: Digest) -> None:
        """As in Digest; of one that is pictured, timeline and pairs, too."""
        super().merge(other)
        if not isinstance(other, Pictured):
            return
        self.timeline.merge(other.timeline)
        self.pairs_dropped |= other.pairs_dropped
        for (owner, peer), tally in other.pairs.items():
            self._pair(owner, peer).take(tally)
