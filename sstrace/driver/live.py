"""The rows of a live table, as a question to it is answered.

State, addresses, lifetimes and holders come from the live table. Queues, timers, memory and tcp_info change without
events, so they are read at the moment of the question, for the selected rows only: listeners by one dump of listeners
(the kernel keeps them apart), up to ``_EXACT_MOST`` other rows one by one, more by one dump.

Order: IPv4 before IPv6, listeners before the rest, as the kernel dumps them. What was asked one by one has no kernel
order; it stands by local port, local address, peer address, peer port.
"""

import time
from collections.abc import Iterable, Iterator, Sequence

from sstrace.driver.rows import socket_of
from sstrace.model import AF_INET, AF_INET6, InetSocket, Socket, State, Table
from sstrace.query.command import Selection
from sstrace.sources.diag import Diag
from sstrace.table import IPPROTO_TCP, Row, SocketTable
from sstrace.wire import inet_diag

__all__ = ["LiveRows"]

_EXACT_MOST = 256
"""One exact request costs 20 µs; a dump of a full hash table a millisecond and 3 µs a socket."""

_LISTEN = int(State.LISTEN)

Key = tuple[int, bytes, int, bytes, int]


class LiveRows:
    """The tcp table as a live table has it now (driver.snapshot.TcpSource)."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self._known: dict[Key, Row] = {}
        self._listeners: dict[int, Row] = {}
        self._now_ns = time.monotonic_ns()

    def rows(self, selection: Selection, *, ext: int, attributes: bool) -> Iterator[Sequence[InetSocket]]:
        """The selected rows with what changes without events read now."""
        states, families = selection.states, selection.families
        for family in (AF_INET, AF_INET6):
            if not families >> family & 1 or selection.preferred not in (family, *_NOT_INET):
                continue
            listeners: list[Row] = []
            others: list[Row] = []
            for row in self._candidates(states):
                if states >> row.state & 1 and row.family == family and row.protocol == IPPROTO_TCP:
                    (listeners if row.state == _LISTEN else others).append(row)
            with Diag() as diag:
                if listeners:
                    self._listeners = {row.ino: row for row in listeners}
                    yield from self._dumped(diag, family, 1 << _LISTEN, ext, attributes)
                if len(others) > _EXACT_MOST:
                    self._known = {_key(row): row for row in others}
                    yield from self._dumped(diag, family, states & ~(1 << _LISTEN), ext, attributes)
                elif others:
                    self._known = {_key(row): row for row in others}
                    yield self._exact(diag, others, ext)

    def inodes(self, selection: Selection) -> set[int] | None:
        """Inodes of the rows that a selection will show, before its filter; None when events cannot tell them all: a
        connection gets its inode at accept(2), which is no event of the socket.
        """
        chosen = [
            row
            for row in self._candidates(selection.states)
            if selection.states >> row.state & 1 and row.protocol == IPPROTO_TCP
        ]
        if any(row.state != _LISTEN for row in chosen):
            return None
        return {row.ino for row in chosen}

    def _candidates(self, states: int) -> Iterable[Row]:
        # A child that looks at every row of a large table copies every page of it.
        rows = self._rows
        found = rows.in_states(states) if isinstance(rows, SocketTable) else None
        return found if found is not None else rows

    def held_ns(self, row: Socket) -> int | None:
        """How long the row has been in its state; for one that is older than the trace, for how long that is known."""
        known = self._of(row)
        return self._now_ns - known.since_ns if known is not None else None

    def at_least(self, row: Socket) -> bool:
        """Whether the row was in its state already when the server met it."""
        known = self._of(row)
        return known is not None and not known.exact

    def _of(self, row: Socket) -> Row | None:
        assert isinstance(row, InetSocket)
        return self._listeners.get(row.ino) if row.state == _LISTEN else self._known.get(_key(row))

    def _dumped(self, diag: Diag, family: int, states: int, ext: int, attributes: bool) -> Iterator[list[InetSocket]]:
        diag.send(inet_diag.dump_request(Table.TCP, family, states, ext=ext))
        known, listeners = self._known, self._listeners
        for datagram in diag:
            batch = inet_diag.decode(datagram, Table.TCP, extras=attributes)
            if states == 1 << _LISTEN:
                rows = [row for row in batch.rows if row.ino in listeners]
            else:
                rows = [row for row in batch.rows if _key(row) in known]
            if rows:
                yield rows
            if batch.done:
                return

    def _exact(self, diag: Diag, rows: list[Row], ext: int) -> list[InetSocket]:
        found: list[InetSocket] = []
        for row in sorted(rows, key=_order):
            diag.send(inet_diag.exact_request(socket_of(row), ext=ext))
            batch = inet_diag.decode(diag.receive(), Table.TCP)
            # An error: it has gone since. Another state: so has this one.
            found += [socket for socket in batch.rows if socket.state == row.state]
        return found


_NOT_INET = tuple(family for family in range(64) if family not in (AF_INET, AF_INET6))


def _key(row: Row | InetSocket) -> Key:
    return row.state, row.src, row.sport, row.dst, row.dport


def _order(row: Row) -> tuple[int, bytes, bytes, int]:
    return row.sport, row.src, row.dst, row.dport
