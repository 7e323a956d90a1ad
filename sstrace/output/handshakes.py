"""How long the handshakes of connections took that have not ended yet: what a line about a whole life says besides."""

from sstrace.model import State

__all__ = ["Handshakes"]

_OPENING = (State.SYN_SENT, State.SYN_RECV)
_OPEN = (State.ESTABLISHED, State.CLOSE_WAIT)
"""The second, where the peer's FIN came with its ACK."""


class Handshakes:
    """By the ids of rows. Memory: an entry for each connection that has come about since, and lives."""

    def __init__(self) -> None:
        self._took: dict[int, int] = {}

    def hear(self, row_id: int, old: int, new: int, held_ns: int | None) -> None:
        """A transition: ``held_ns`` in the old state."""
        if held_ns is not None and old in _OPENING and new in _OPEN:
            self._took[row_id] = held_ns

    def learn(self, row_id: int, took_ns: int) -> None:
        """Of a recording that says it."""
        self._took[row_id] = took_ns

    def take(self, row_id: int) -> int | None:
        """Nanoseconds from SYN to established; None where that was not seen. The connection has ended."""
        return self._took.pop(row_id, None)

    def clear(self) -> None:
        """Other rows have these numbers from here on."""
        self._took.clear()
