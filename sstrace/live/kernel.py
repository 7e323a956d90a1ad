"""What the kernel says by netlink of sockets: all of a table, one, or those of some rows."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

from sstrace.errors import SstraceError
from sstrace.live.asked import Asked
from sstrace.live.exact import exact
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, InetSocket, Socket, State, Table
from sstrace.protocols import IPPROTO_TCP, OF_TABLE, TABLE_OF_NUMBER, Family
from sstrace.sources.diag import Diag, Netlink
from sstrace.table import Row
from sstrace.wire import inet_diag, netlink

__all__ = ["DRAIN_NS", "EXACT_MOST", "Kernel", "UnreachableError"]

DRAIN_NS = 20_000_000
"""While netlink is read and compared, the rings are emptied this often."""
EXACT_MOST = 200
"""Up to so many rows are asked for one by one, 20 µs each; above, one dump costs less."""


class UnreachableError(SstraceError):
    """A network namespace cannot be entered: it is gone, or closed to this process."""


class Kernel:
    """Asks in the network namespace in which ``diag`` opens a socket; ``breathe`` is called every 20 ms while a dump
    goes on. Where ``diag``, or what it opens, raises UnreachableError, an answer is empty, and not complete.
    """

    def __init__(
        self, breathe: Callable[[], object], diag: Callable[[], Netlink] = Diag, *, sparse: bool = False
    ) -> None:
        """``sparse``: few of the machine's sockets are there, so that what a dump takes is the kernel's walk over all
        of its hash table: one for both families, then, where others have one for each.
        """
        self._breathe = breathe
        self.diag = diag
        self._sparse = sparse
        self.reachable = True
        """Whether the last question was asked at all."""
        self._lists: dict[Table, bool] = {Table.TCP: True, Table.UDP: True}

    def everything(self, states: int, table: Table = Table.TCP) -> list[bytes]:
        """The datagrams of a dump: a third of the memory that its rows would take."""
        with self._reaching(), self.diag() as diag:
            return list(self._answer(diag, states, table))
        return []

    def lists(self, table: Table) -> bool:
        """Whether the kernel shows the sockets of a table at all: those of raw_diag are a module of their own
        (CONFIG_INET_RAW_DIAG), as are those of each family outside of the internet's.
        """
        if table not in self._lists and OF_TABLE[table].swept:
            with self._reaching():
                self._lists[table] = Asked(OF_TABLE[table].family).is_listed(self.diag)
        elif table not in self._lists:
            with self._reaching(), self.diag() as diag:
                self._lists[table] = not any(
                    inet_diag.decode(datagram, table).error for datagram in self._answer(diag, 0, table)
                )
        return self._lists.get(table, False)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        self.reachable = True
        try:
            yield
        except UnreachableError:
            self.reachable = False

    def listeners(self) -> list[InetSocket]:
        """Every listener, with its memory, among which stands what it has dropped."""
        with self._reaching(), self.diag() as diag:
            answer = self._answer(diag, 1 << State.LISTEN, Table.TCP, inet_diag.extensions(memory=True))
            return [socket for datagram in answer for socket in inet_diag.decode(datagram, Table.TCP).rows]
        return []

    def carried(self, states: int) -> Iterator[InetSocket]:
        """Every TCP socket of these states, with its tcp_info."""
        with self._reaching(), self.diag() as diag:
            for datagram in self._answer(diag, states, Table.TCP, inet_diag.extensions(info=True)):
                yield from inet_diag.decode(datagram, Table.TCP).rows

    def _answer(self, diag: Netlink, states: int, table: Table, ext: int = 0) -> Iterator[bytes]:
        """The datagrams of a dump as they come."""
        drained = time.monotonic_ns()
        both = self._sparse and table is Table.TCP
        if both:  # answered with both families (inet_diag_rcv_msg_compat, net/ipv4/inet_diag.c)
            requests = [inet_diag.legacy_request(table, states, ext=ext)]
        else:
            requests = [inet_diag.dump_request(table, family, states, ext=ext) for family in (AF_INET, AF_INET6)]
        for request in requests:
            diag.send(request)
            for datagram in diag:
                if both and netlink.message(datagram, 0)[0] == netlink.NLMSG_ERROR:  # not known there
                    self._sparse = False
                    yield from self._answer(diag, states, table, ext)
                    return
                yield bytes(datagram)
                if netlink.ends(datagram):
                    break
                if time.monotonic_ns() - drained > DRAIN_NS:
                    self._breathe()
                    drained = time.monotonic_ns()

    def dump(
        self, states: int, wanted: Callable[[InetSocket], bool] | None = None, table: Table = Table.TCP
    ) -> tuple[list[InetSocket], bool]:
        """Every (``wanted``) socket of a table and of these states that the kernel shows, and whether it showed all
        without interruption.
        """
        found: list[InetSocket] = []
        interrupted = False
        with self._reaching(), self.diag() as diag:
            for datagram in self._answer(diag, states, table):
                batch = inet_diag.decode(datagram, table)
                found += batch.rows if wanted is None else filter(wanted, batch.rows)
                interrupted = interrupted or batch.interrupted or batch.error != 0
        return found, self.reachable and not interrupted

    def others(self, family: Family, *, volatile: bool = False) -> tuple[list[Socket], bool]:
        """Every socket of a family outside of the internet's, and whether these are all. ``volatile``: see
        ``Asked.rows``.
        """
        with self._reaching(), suppress(SstraceError), self.diag() as diag:
            return list(Asked(family).rows(diag, volatile=volatile)), True
        return [], False

    def exact(self, rows: Collection[Row]) -> list[list[InetSocket]]:
        """See ``live.exact``: of TCP sockets."""
        with self._reaching(), self.diag() as diag:
            return exact(diag, tuple(rows))
        return [[] for _ in rows]

    def shown(self, rows: Sequence[Row]) -> list[InetSocket]:
        """The sockets of these rows, which are of one protocol, and perhaps others."""
        found: list[InetSocket] = []
        if rows and rows[0].protocol != IPPROTO_TCP:  # of those, several may be between the same addresses
            return self.dump(ALL_STATES, table=TABLE_OF_NUMBER[rows[0].protocol])[0]
        others = [row for row in rows if row.state != State.LISTEN]
        if len(others) < len(rows):  # an exact question finds any of several listeners at one address
            found += self.dump(1 << State.LISTEN)[0]
        if len(others) > EXACT_MOST:
            found += self.dump(sum({1 << row.state for row in others}))[0]
        elif others:
            found += chain.from_iterable(self.exact(others))
        return found
