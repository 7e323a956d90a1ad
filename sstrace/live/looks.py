"""Looks at single rows: of some, events cannot tell all, and only the kernel knows by netlink what became of them."""

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from sstrace.live.exact import Between, between
from sstrace.live.kernel import EXACT_MOST, Kernel
from sstrace.live.places import Places
from sstrace.model import InetSocket, Kind, State
from sstrace.table import Row

__all__ = ["Look", "Looks"]

_FIRST_NS = 50_000_000
_LAST_NS = 5_000_000_000
_DUTY = 20
"""A look that took t is not repeated before 20 t have passed: 5 % of a CPU at most."""
_PROBE_SPAN_NS = 1_000_000_000
"""Probes of single sockets may take that share of a CPU over so long a time, all at once."""


class Look(msgspec.Struct):
    """What the kernel said of some rows, between two times."""

    rows: list[Row]
    """Those that a full socket holds."""
    half_closed: dict[Between, Row]
    """Those that a timewait socket holds."""
    found: list[InetSocket]
    turned: list[InetSocket]
    """Timewait sockets that are in TIME-WAIT now."""
    asked_ns: int
    answered_ns: int

    def whole(self) -> Iterator[tuple[Row, InetSocket | None]]:
        """Rows of full sockets as they are by now, and what the kernel had of them."""
        listeners = {socket.ino: socket for socket in self.found if socket.state == State.LISTEN}
        connecting = {(socket.ino, socket.dport): socket for socket in self.found if socket.state == State.SYN_SENT}
        for row in self.rows:
            if row.state == State.LISTEN:
                yield row, listeners.get(row.ino)
            else:
                yield row, connecting.get((row.ino, row.dport))

    def timewaits(self) -> Iterator[tuple[Row, InetSocket]]:
        """Rows of timewait sockets that have turned, and what the kernel had of them."""
        for socket in self.turned:
            row = self.half_closed.get(between(socket))
            if row is not None:
                yield row, socket


class Looks:
    """When to look, and at what: soon, then ever less often."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._next_ns = 0
        self._next_probe_ns = 0
        self._plans: dict[int, tuple[int, int]] = {}
        """By row: when to look at it, and the pause after that."""

    def is_due(self, unsettled: Iterable[Row]) -> bool:
        """Whether it is time to look at one of the rows in doubt."""
        now = time.monotonic_ns()
        return now >= self._next_ns and any(
            row.id not in self._plans or self._plans[row.id][0] <= now for row in unsettled
        )

    def due(self, unsettled: Sequence[Row], *, everything: bool) -> list[Row]:
        """Those of the rows in doubt that it is time to look at."""
        if not unsettled:
            self._plans.clear()
            return []
        now = time.monotonic_ns()
        if not everything and now < self._next_ns:
            return []
        due = []
        plans: dict[int, tuple[int, int]] = {}
        for row in unsettled:
            when, pause = self._plans.get(row.id, (now + _FIRST_NS if row.kind is Kind.TIMEWAIT else now, _FIRST_NS))
            if everything or when <= now:
                due.append(row)
                pause = min(pause * 2, _LAST_NS)
                when = now + pause
            plans[row.id] = when, pause
        self._plans = plans
        return due

    def ask(self, due: Iterable[Row]) -> list[Look]:
        """Look at rows now, each where it is."""
        began, spent = time.monotonic_ns(), time.thread_time_ns()
        looks = [self._ask(place.kernel, rows) for place, rows in self._places.apart(due)]
        # By CPU time: a machine that is busy elsewhere must not make looks rare.
        self._next_ns = began + _DUTY * (time.thread_time_ns() - spent)
        return looks

    @staticmethod
    def _ask(kernel: Kernel, rows: Sequence[Row]) -> Look:
        waiting = {between(row): row for row in rows if row.kind is Kind.TIMEWAIT}
        others = [row for row in rows if row.kind is not Kind.TIMEWAIT]
        asked = time.monotonic_ns()
        states = 0
        for row in others:
            states |= 1 << row.state
        found = kernel.dump(states)[0] if states else []
        turned: list[InetSocket] = []
        if len(waiting) > EXACT_MOST:
            # Most are FIN-WAIT-2 still; TIME-WAITs may be a hundred times as many.
            for socket in kernel.dump(1 << State.FIN_WAIT2)[0]:
                waiting.pop(between(socket), None)
        if len(waiting) > EXACT_MOST:
            turned = kernel.dump(1 << State.TIME_WAIT, lambda socket: between(socket) in waiting)[0]
        elif waiting:
            turned += chain.from_iterable(kernel.exact(waiting.values()))
        answered = time.monotonic_ns()
        return Look(others, waiting, found, turned, asked, answered)

    def probe(self, row: Row) -> InetSocket | None:
        """What the kernel has between the ends of a row; None, too, when this is asked too often."""
        now, place = time.monotonic_ns(), self._places.get(row.net)
        if place is None or now < self._next_probe_ns:
            return None
        spent = time.thread_time_ns()
        found = next((socket for socket in place.kernel.exact((row,))[0] if between(socket) == between(row)), None)
        spent = time.thread_time_ns() - spent
        self._next_probe_ns = max(self._next_probe_ns, now - _PROBE_SPAN_NS) + _DUTY * spent
        return found
