"""Timewait sockets, held against the kernel's own count of them: ``tw`` of /proc/net/sockstat, which is that of a
namespace (net/ipv4/proc.c, sockstat_seq_show).

They are born, and most of them die, by their timers alone. Where no program was run for that, no other event tells of
it for a minute; but the count does. It is read at one moment, and compared when everything that happened before that
moment, and nothing after it, has been folded into the table.
"""

from collections import deque
from collections.abc import Callable
from time import monotonic_ns, thread_time_ns

from sstrace.errors import DecodeError
from sstrace.sources.reread import Reread
from sstrace.wire.proc_net import decode_sockstat

__all__ = ["Timewaits"]

_FILE = "/proc/thread-self/net/sockstat"
_ROUND_NS = 50_000
"""From the tracepoint of a birth or death to the change of the count: a microsecond or two, of a CPU that is there."""
_DUTY = 200
"""A comparison that took t of CPU time is not repeated before 200 t have passed: it looks at every row."""
_ALIKE = 3
"""A host may take away a virtual CPU between the two, for milliseconds. So many comparisons in a row must agree."""


class Timewaits:
    """Finds that births or deaths were missed. Close it to let go."""

    def __init__(self) -> None:
        self._at = (0, 0)
        self._next_ns = 0
        self._count: int | None = None
        self._differences: deque[int] = deque(maxlen=_ALIKE)
        self._usual = 0
        """What the kernel counts and sock_diag does not show."""
        self._found = 0
        """The difference that a sweep is to explain."""
        self._file: Reread | None = None
        try:
            self._file = Reread(_FILE)
        except OSError:
            self._file = None

    def look(self) -> None:
        """Read the count, unless one waits to be compared, or it is too soon."""
        before = monotonic_ns()
        if self._file is None or self._count is not None or before < self._next_ns:
            return
        try:
            self._count = decode_sockstat(self._file.read()).tcp_tw
        except (OSError, DecodeError):
            self.close()
            return
        self._at = before, monotonic_ns()

    def due(self, until_ns: int) -> tuple[int, int] | None:
        """Once everything before ``until_ns`` is here to be folded in, the two times between which an event may, or may
        not, be counted already; at the later one the table is to be compared. None: not now.
        """
        if self._count is None or self._at[1] + _ROUND_NS > until_ns:
            return None
        return self._at[0] - _ROUND_NS, self._at[1] + _ROUND_NS

    def compare(self, rows: Callable[[], int], uncertain: int) -> bool:
        """Whether it is clear by now that something was missed that no sweep has healed yet. ``rows``: how many the
        table has, at the later time of ``due``; ``uncertain``: events between the two.
        """
        if self._count is None:
            return False
        began = thread_time_ns()
        difference = self._count - rows() - self._usual
        self._count = None
        self._next_ns = monotonic_ns() + _DUTY * (thread_time_ns() - began)
        if abs(difference) <= uncertain:
            difference = 0
        self._differences.append(difference)
        least = min(self._differences, key=abs)
        if len(self._differences) == _ALIKE and all(one * least > 0 for one in self._differences):
            self._found = least
        return self._found != 0

    def forget(self) -> None:
        """Events were lost: what differs is known to."""
        self._count = None
        self._differences.clear()

    def sweep_ends(self, *, repaired: bool) -> None:
        """A complete sweep has ended. Where it has not ``repaired`` rows of timewait sockets, what the kernel counts is
        not what it shows.
        """
        if not repaired:
            self._usual += self._found
        self._found = 0
        self.forget()

    def close(self) -> None:
        """Compare no more."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self._count = None
