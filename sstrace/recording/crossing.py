"""Both ends of a connection between two hosts: which row of one is the other end of a row of another.

The ends of one are those of the other, the other way round. Nothing is made up: where two hosts claim the same end
(private addresses are used again and again) neither has one, an end on the host itself crosses nothing, and where
addresses are translated on the way the ends differ, and neither is found.
"""

from typing import Generic, TypeVar

from sstrace.coordinates import Connected
from sstrace.table.index import plain

__all__ = ["Crossing", "Key", "key_of"]

_T = TypeVar("_T")

_LOCAL6 = bytes(15) + b"\1"

Key = tuple[int, int, bytes, bytes]
"""Local port, peer port, local address, peer address; v4-mapped addresses as IPv4."""


class Crossing(Generic[_T]):
    """The ends of connections by their addresses, v4-mapped ones as IPv4; with each end its host, and what is wanted of
    it.
    """

    def __init__(self) -> None:
        self._there: dict[Key, dict[tuple[str, int], _T]] = {}

    def add(self, host: str, number: int, row: Connected, what: _T) -> None:
        """An end is there. ``number``: unique on its host."""
        key = key_of(row)
        if key is not None:
            self._there.setdefault(key, {})[host, number] = what

    def drop(self, host: str, number: int, row: Connected) -> None:
        """An end is not there any more."""
        key = key_of(row)
        if key is not None and (ends := self._there.get(key)) is not None:
            ends.pop((host, number), None)
            if not ends:
                del self._there[key]

    def other(self, host: str, row: Connected) -> tuple[str, _T] | None:
        """The other end of a row of ``host``: whose it is, and what is known of it; None where that is no other host's,
        or not known.
        """
        key = key_of(row)
        if key is None:
            return None
        sport, dport, src, dst = key
        ends = self._there.get((dport, sport, dst, src))
        if ends is None or len({where for where, _ in ends}) != 1:
            return None
        if any(where != host for where, _ in self._there.get(key, ())):
            return None
        (where, _), what = next(reversed(ends.items()))  # of several the one that came last
        return (where, what) if where != host else None


def key_of(row: Connected) -> Key | None:
    """The ends of a row; None of what has no other end, or has it on its own host whichever that is: listeners,
    loopback.
    """
    if not (row.dport and row.sport) or _is_loopback(row.dst):
        return None
    return row.sport, row.dport, plain(row.src), plain(row.dst)


def _is_loopback(address: bytes) -> bool:
    # 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/8
    return address == _LOCAL6 or (plain(address).startswith(b"\x7f") and len(plain(address)) == 4)
