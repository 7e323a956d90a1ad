"""What connections have carried that have not ended yet: tcp_info, which the kernel tells of all of them in one dump.

That takes some 10 µs a connection, so it is not done for each event, but now and then, when somebody asks.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sstrace.fields import Reported
from sstrace.model import Kind, State
from sstrace.table import Row
from sstrace.wire.carried import reported_of

if TYPE_CHECKING:
    from sstrace.live.tracer import Tracer

__all__ = ["Living"]

_DUTY = 50
"""A look that took t of CPU time is not repeated before 50 t have passed: 2 % of a CPU at most."""
_CONNECTED = (
    State.ESTABLISHED, State.SYN_SENT, State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSE_WAIT, State.LAST_ACK,
    State.CLOSING,
)  # fmt: skip
"""Those of full sockets that are a connection's."""
_STATES = sum(1 << state for state in _CONNECTED)


class Living:
    """Of the connections in a tracer's table."""

    def __init__(self, tracer: "Tracer") -> None:
        self._tracer = tracer
        self._due_ns = 0
        self._looking = False

    def look_now_and_then(self) -> Iterator[tuple[Row, Reported]]:
        """The same as ``look``, when it is time; else nothing. Not within itself: events are folded in meanwhile."""
        if self._looking or time.monotonic_ns() < self._due_ns:
            return
        began = time.thread_time_ns()
        self._looking = True
        try:
            yield from self.look()
        finally:
            self._looking = False
            self._due_ns = time.monotonic_ns() + _DUTY * (time.thread_time_ns() - began)

    def look(self) -> Iterator[tuple[Row, Reported]]:
        """What each has carried up to now, in the words of its end."""
        table = self._tracer.table
        if not len(table):
            return
        for place in self._tracer.places:
            known = table.shard(place.space).index.known
            for socket in place.kernel.carried(_STATES):
                row = known(socket)
                reported = reported_of(socket)
                if row is None or reported is None or row.kind is not Kind.SOCKET:  # it has ended since
                    continue
                # With another inode it is a younger connection between these ends, of which the table is yet to hear.
                if row.ino in (0, socket.ino):
                    yield row, reported
