"""What the kernel says by netlink of TCP sockets: all, one, or those of some rows."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from sstrace.model import AF_INET, AF_INET6, InetSocket, State, Table
from sstrace.rows import socket_of
from sstrace.sources.diag import Diag
from sstrace.table import Row
from sstrace.wire import inet_diag, netlink

__all__ = ["DRAIN_NS", "EXACT_MOST", "Kernel"]

DRAIN_NS = 20_000_000
"""While netlink is read and compared, the rings are emptied this often."""
EXACT_MOST = 200
"""Up to so many rows are asked for one by one, 20 µs each; above, one dump costs less."""


class Kernel:
    """Asks in the network namespace in which ``diag`` opens a socket. ``breathe`` is called every 20 ms while a dump
    goes on.
    """

    def __init__(self, breathe: Callable[[], object], diag: Callable[[], Diag] = Diag) -> None:
        self._breathe = breathe
        self.diag = diag

    def everything(self, states: int) -> list[bytes]:
        """The datagrams of a dump: a third of the memory that its rows would take."""
        with self.diag() as diag:
            return list(self._answer(diag, states))

    def _answer(self, diag: Diag, states: int) -> Iterator[bytes]:
        """The datagrams of a dump as they come."""
        drained = time.monotonic_ns()
        for family in (AF_INET, AF_INET6):
            diag.send(inet_diag.dump_request(Table.TCP, family, states))
            for datagram in diag:
                yield bytes(datagram)
                if netlink.ends(datagram):
                    break
                if time.monotonic_ns() - drained > DRAIN_NS:
                    self._breathe()
                    drained = time.monotonic_ns()

    def dump(self, states: int, wanted: Callable[[InetSocket], bool] | None = None) -> tuple[list[InetSocket], bool]:
        """Every (``wanted``) TCP socket of these states that the kernel shows, and whether it showed all without
        interruption.
        """
        found: list[InetSocket] = []
        complete = True
        with self.diag() as diag:
            for datagram in self._answer(diag, states):
                batch = inet_diag.decode(datagram, Table.TCP)
                found += batch.rows if wanted is None else filter(wanted, batch.rows)
                complete = complete and not batch.interrupted and batch.error == 0
        return found, complete

    def exact(self, rows: Iterable[Row]) -> list[list[InetSocket]]:
        """The kernel's row of each socket, if it still has it."""
        found = []
        with self.diag() as diag:
            for row in rows:
                diag.send(inet_diag.exact_request(socket_of(row)))
                found.append(inet_diag.decode(diag.receive(), Table.TCP).rows)
        return found

    def shown(self, rows: Sequence[Row]) -> list[InetSocket]:
        """The sockets of these rows, and perhaps others."""
        found: list[InetSocket] = []
        others = [row for row in rows if row.state != State.LISTEN]
        if len(others) < len(rows):  # an exact question finds any of several listeners at one address
            found += self.dump(1 << State.LISTEN)[0]
        if len(others) > EXACT_MOST:
            found += self.dump(sum({1 << row.state for row in others}))[0]
        elif others:
            found += chain.from_iterable(self.exact(others))
        return found
