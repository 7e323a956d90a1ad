"""What the kernel says by netlink of TCP sockets: all, one, or those of some rows."""

import time
from collections.abc import Callable, Iterator, Sequence

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
    """Asks in this process's namespace. ``breathe`` is called every 20 ms while a dump goes on."""

    def __init__(self, breathe: Callable[[], object]) -> None:
        self._breathe = breathe

    def answer(self, diag: Diag, states: int) -> Iterator[bytes]:
        """The datagrams of a dump as they come; a third of the memory that its rows would take."""
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

    def dump(
        self, diag: Diag, states: int, wanted: Callable[[InetSocket], bool] | None = None
    ) -> tuple[list[InetSocket], bool]:
        """Every (``wanted``) TCP socket of these states that the kernel shows, and whether it showed all without
        interruption.
        """
        found: list[InetSocket] = []
        complete = True
        for datagram in self.answer(diag, states):
            batch = inet_diag.decode(datagram, Table.TCP)
            found += batch.rows if wanted is None else filter(wanted, batch.rows)
            complete = complete and not batch.interrupted and batch.error == 0
        return found, complete

    def exact(self, diag: Diag, row: Row) -> list[InetSocket]:
        """The kernel's row of one socket, if it still has it."""
        diag.send(inet_diag.exact_request(socket_of(row)))
        return inet_diag.decode(diag.receive(), Table.TCP).rows

    def shown(self, rows: Sequence[Row]) -> list[InetSocket]:
        """The sockets of these rows, and perhaps others."""
        found: list[InetSocket] = []
        others = [row for row in rows if row.state != State.LISTEN]
        with Diag() as diag:
            if any(row.state == State.LISTEN for row in rows):  # an exact question finds any of several at one address
                found += self.dump(diag, 1 << State.LISTEN)[0]
            if len(others) > EXACT_MOST:
                found += self.dump(diag, sum({1 << row.state for row in others}))[0]
            else:
                for row in others:
                    found += self.exact(diag, row)
        return found
