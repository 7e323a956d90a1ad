"""What a line about a whole life needs to know of what was told before: how long the handshake took of a connection
that has not ended yet, and of which the end has been told while a timewait socket stays behind.
"""

from sstrace.model import State
from sstrace.render.views import Lives

__all__ = ["Handshakes"]

_OPENING = (State.SYN_SENT, State.SYN_RECV)
_OPEN = (State.ESTABLISHED, State.CLOSE_WAIT)
"""The second, where the peer's FIN came with its ACK."""


class Handshakes:
    """By the ids of rows. Memory: an entry for each connection that has come about since, and lives, or has left a
    timewait socket.
    """

    def __init__(self) -> None:
        self._took: dict[int, int] = {}
        self._over: set[int] = set()

    @property
    def known(self) -> Lives:
        """What ``hear`` and ``take`` work with, for the twin of lines, which does the same."""
        return self._took, self._over

    def hear(self, row_id: int, old: int, new: int, held_ns: int | None) -> None:
        """A transition: ``held_ns`` in the old state."""
        if held_ns is not None and old in _OPENING and new in _OPEN:
            self._took[row_id] = held_ns
        if new == State.CLOSE:
            self._over.discard(row_id)

    def learn(self, row_id: int, took_ns: int) -> None:
        """Of a recording that says it."""
        self._took[row_id] = took_ns

    def take(self, row_id: int, *, stays: bool = False) -> int | None:
        """Nanoseconds from SYN to established; None where that was not seen. The connection has ended; ``stays``: its
        row has not.
        """
        if stays:
            self._over.add(row_id)
        return self._took.pop(row_id, None)

    def is_over(self, row_id: int) -> bool:
        """Whether the end of this row's connection has been told; its row is no more."""
        over = row_id in self._over
        self._over.discard(row_id)
        return over

    def clear(self) -> None:
        """Other rows have these numbers from here on."""
        self._took.clear()
        self._over.clear()
