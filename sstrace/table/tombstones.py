"""What has died while a sweep of its space goes on, which may have seen it before."""

from sstrace.model import Changed, Gone, Kind
from sstrace.table.index import Index
from sstrace.table.rows import Ends, Row

__all__ = ["Tombstones"]

_UNHASH_NS = 1_000_000
"""From the event of an end until the socket can be dumped no more: microseconds."""
_TIMEWAIT = Kind.TIMEWAIT


class Tombstones:
    """Empty, and of no effect, while no sweep goes on."""

    __slots__ = ("_cookies", "_ends", "_index", "_inodes", "began_ns", "sweeping")

    def __init__(self, index: Index) -> None:
        self._index = index
        self.began_ns = 0
        """When the last sweep began."""
        self.sweeping = False
        self._ends: set[Ends] = set()
        self._cookies: set[tuple[int, Ends, bool]] = set()
        """Cookie, ends, and whether it was a timewait socket."""
        self._inodes: set[int] = set()
        """Of listeners."""

    def begin(self, at_ns: int) -> None:
        """A sweep begins."""
        self._clear()
        self.sweeping, self.began_ns = True, at_ns

    def end(self) -> None:
        """It ends."""
        self.sweeping = False
        self._clear()

    def _clear(self) -> None:
        self._ends.clear()
        self._cookies.clear()
        self._inodes.clear()

    def is_empty(self) -> bool:
        """Whether nothing has died."""
        return not (self._ends or self._cookies or self._inodes)

    def may_be_shown(self, died_ns: int) -> bool:
        """Whether the sweep that goes on may have met what died then; what died before it, it has not."""
        return self.sweeping and died_ns >= self.began_ns - _UNHASH_NS

    def add(self, cookie: int | None, of: Changed | Gone | Row) -> None:
        """It died."""
        if cookie is not None:
            self._cookies.add((cookie, self._index.ends_of(of), of.kind is _TIMEWAIT))
        if of.dport:
            self._ends.add(self._index.ends_of(of))
        elif not isinstance(of, Gone) and of.ino:
            self._inodes.add(of.ino)

    def add_cookie(self, fact: Changed) -> None:
        """The full socket of this cookie died; what is between its addresses did not."""
        if fact.cookie is not None and self.may_be_shown(fact.at_ns):
            self._cookies.add((fact.cookie, self._index.ends_of(fact), False))

    def forgive(self, fact: Changed) -> None:
        """The object of this cookie lives, or lives again."""
        if fact.cookie is not None and self._cookies:
            self._cookies.discard((fact.cookie, self._index.ends_of(fact), fact.kind is _TIMEWAIT))

    def has_cookie(self, cookie: int, ends: Ends, kind: Kind) -> bool:
        """Whether this very object died."""
        return bool(self._cookies) and (cookie, ends, kind is _TIMEWAIT) in self._cookies

    def has(self, ends: Ends, ino: int, *, connected: bool) -> bool:
        """Whether a connection between these ends, or else the listener with this inode, died."""
        return ends in self._ends if connected else ino in self._inodes
