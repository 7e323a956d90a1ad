"""The order in which a watcher's rows stand: what they can be sorted by, and a collection that keeps them sorted."""

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Mapping
from struct import Struct

from sstrace.table import Row
from sstrace.watch.carried import Figures

__all__ = ["RANK", "SORTS", "Order", "by_figures", "by_place"]

RANK = bytes.maketrans(bytes([10, 2, 3, 1, 8, 9, 4, 5, 11, 6, 7]), bytes(range(11)))
"""State number → place in the order of states: a connection's life, listeners first."""

# Keys are bytes: they compare fast, and ties end at the row's id.


def _local(row: Row) -> bytes:
    return b"%c%b%b" % (len(row.src), row.src, row.sport.to_bytes(4, "big"))


def _peer(row: Row) -> bytes:
    return b"%c%b%b" % (len(row.dst), row.dst, row.dport.to_bytes(4, "big"))


_ipv4 = Struct("!B4sIB4sI").pack
"""Both ends at once, and twice as fast: somebody waits while every row gets its key."""
_RANKS = [bytes((state,)).translate(RANK) for state in range(16)]


def _by_local(row: Row, _state: int, _at_ns: int) -> bytes:
    src, dst = row.src, row.dst
    if len(src) == len(dst) == 4:
        return _ipv4(4, src, row.sport, 4, dst, row.dport)
    return _local(row) + _peer(row)


def _by_peer(row: Row, _state: int, _at_ns: int) -> bytes:
    src, dst = row.src, row.dst
    if len(src) == len(dst) == 4:
        return _ipv4(4, dst, row.dport, 4, src, row.sport)
    return _peer(row) + _local(row)


def _by_state(row: Row, state: int, at_ns: int) -> bytes:
    return _RANKS[state] + _by_local(row, state, at_ns)


def _by_held(_row: Row, _state: int, at_ns: int) -> bytes:
    # The latest first: what just happened is on the screen.
    return (0xFFFF_FFFF_FFFF_FFFF - at_ns).to_bytes(8, "big")


def _by_owner(row: Row, _state: int, _at_ns: int) -> bytes:
    if not row.owners:
        return b"\xff" + _local(row)
    owner = row.owners[0]
    return owner.comm + b"\0" + owner.pid.to_bytes(4, "big") + _local(row)


SORTS: Mapping[str, Callable[[Row, int, int], bytes]] = {
    "held": _by_held,
    "state": _by_state,
    "local": _by_local,
    "peer": _by_peer,
    "owner": _by_owner,
}
"""What rows can be sorted by → the key of (row, its state, when it came into it). The first is the default."""


def by_place(called: Callable[[Row], bytes]) -> Callable[[Row, int, int], bytes]:
    """One more way, where there are several network namespaces, or hosts: by what they are ``called``."""

    def key(row: Row, _state: int, _at_ns: int) -> bytes:
        return called(row) + b"\0" + row.net.to_bytes(8, "big") + _by_local(row, _state, _at_ns)

    return key


def by_figures(figures: Callable[[Row], Figures | None]) -> Mapping[str, Callable[[Row, int, int], bytes]]:
    """More ways: by what connections carry, the most first, and behind them those of which it is not known."""

    def by(value: Callable[[Figures], float | None]) -> Callable[[Row, int, int], bytes]:
        def key(row: Row, _state: int, _at_ns: int) -> bytes:
            known = figures(row)
            amount = value(known) if known is not None else None
            if amount is None:
                return b"\xff" * 8 + _local(row)
            return (0xFFFF_FFFF_FFFF_FFFE - int(amount)).to_bytes(8, "big") + _local(row)

        return key

    return {
        "sent": by(lambda known: known.reported.bytes_sent),
        "received": by(lambda known: known.reported.bytes_received),
        "sent/s": by(lambda known: known.sent_rate),
        "received/s": by(lambda known: known.received_rate),
        "rtt": by(lambda known: known.reported.rtt_us or None),
    }


class Order:
    """A sorted collection of (key, id) that answers "from the n-th on, so many" without looking at the rest.

    A list of short sorted lists: an insertion moves at most ``_LOAD`` pointers, and to find the n-th adds up lengths.
    """

    _LOAD = 512

    def __init__(self) -> None:
        self._parts: list[list[tuple[bytes, int]]] = [[]]
        self._last: list[tuple[bytes, int]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def reset(self, items: Iterable[tuple[bytes, int]]) -> None:
        """Hold just these."""
        flat = sorted(items)
        self._size = len(flat)
        self._parts = [flat[at : at + self._LOAD] for at in range(0, len(flat), self._LOAD)] or [[]]
        self._last = [part[-1] for part in self._parts if part]

    def copy(self) -> "Order":
        """Another one with the same."""
        other = Order()
        other._parts, other._last, other._size = [list(part) for part in self._parts], list(self._last), self._size
        return other

    def merge(self, gone: Collection[tuple[bytes, int]], come: Iterable[tuple[bytes, int]]) -> None:
        """Many at once: one pass over all, and a merge of two runs."""
        flat = [item for part in self._parts for item in part if item not in gone]
        flat += sorted(come)
        self.reset(flat)

    def add(self, item: tuple[bytes, int]) -> None:
        """One more, which it must not hold yet."""
        self._size += 1
        if not self._last:
            self._parts, self._last = [[item]], [item]
            return
        at = min(bisect_left(self._last, item), len(self._last) - 1)
        part = self._parts[at]
        insort(part, item)
        if len(part) > 2 * self._LOAD:
            self._parts[at : at + 1] = [part[: self._LOAD], part[self._LOAD :]]
            self._last[at : at + 1] = [part[self._LOAD - 1], part[-1]]
        else:
            self._last[at] = part[-1]

    def remove(self, item: tuple[bytes, int]) -> None:
        """One less, which it must hold."""
        at = bisect_left(self._last, item)
        part = self._parts[at]
        where = bisect_left(part, item)
        assert part[where] == item
        del part[where]
        self._size -= 1
        if part:
            self._last[at] = part[-1]
        else:
            del self._parts[at], self._last[at]
            if not self._parts:
                self._parts = [[]]

    def place(self, item: tuple[bytes, int]) -> int:
        """How many stand before it."""
        at = bisect_left(self._last, item)
        before = sum(map(len, self._parts[:at]))
        return before + (bisect_left(self._parts[at], item) if at < len(self._parts) else 0)

    def ids(self, start: int, count: int, *, backwards: bool = False) -> list[int]:
        """The ids from place ``start`` on, at most ``count``; ``backwards`` counts places from the end."""
        if backwards:
            stop = self._size - start
            return [item[1] for item in reversed(self._slice(max(0, stop - count), stop))]
        return [item[1] for item in self._slice(start, start + count)]

    def _slice(self, start: int, stop: int) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        at = 0
        for part in self._parts:
            if at >= stop:
                break
            if at + len(part) > start:
                found += part[max(0, start - at) : stop - at]
            at += len(part)
        return found
