"""The rows of a live table, as a question to it is answered.

Which sockets there are, their states, addresses, lifetimes and owners come from the live table. Queues, timers,
memory and tcp_info change without events, so they are read at the moment of the question, for the selected rows only:
listeners by one dump of listeners (the kernel keeps them apart), up to ``_EXACT_MOST`` other rows one by one, more by
one dump, which the kernel filters where it can. What a dump shows and the table does not know has come since the
question: it is left out, as is what has gone since. As long as no event has come since, though, the kernel shows just
what the table holds, and nothing need be looked up.

A table that is known to be wrong, until a sweep has healed it, answers nothing but how long its rows have been as they
are, and for whom: then the rows and their states are the kernel's.

Order: IPv4 before IPv6, listeners before the rest, as the kernel dumps them. What was asked one by one has no kernel
order; it stands by local port, local address, peer address, peer port.
"""

import functools
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from operator import attrgetter

from sstrace import coordinates
from sstrace.errors import KernelError
from sstrace.live.exact import dumped, exact
from sstrace.live.kernel import UnreachableError
from sstrace.live.places import Place, Places
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, InetSocket, Role, Socket, Space, State, Table
from sstrace.protocols import DATAGRAMS, IPPROTO_TCP, OF_TABLE, SWEPT, TABLE_OF_NUMBER
from sstrace.query.command import Selection
from sstrace.sources.diag import Netlink
from sstrace.table import Row, SocketTable
from sstrace.wire import inet_diag, inet_ends

__all__ = ["LiveRows", "look_at"]

_EXACT_MOST = 256
"""One exact request costs 20 µs; a dump of a full hash table a millisecond and 3 µs a socket."""

_LISTEN, _ESTABLISHED = int(State.LISTEN), int(State.ESTABLISHED)
_OTHERS = ~(1 << _LISTEN)

_STATE = attrgetter("state")


class LiveRows:
    """The tables of a network namespace as a live table has them now (snapshot.sources.TableSource)."""

    def __init__(
        self,
        table: SocketTable,
        place: Place,
        news: Callable[[], bool] = lambda: True,
        diag: Callable[[], Netlink] | None = None,
        *,
        doubted: bool = False,
        tables: Collection[Table] = (Table.TCP,),
    ) -> None:
        """``news``: whether anything may have happened that ``table`` lacks; ``doubted``: see above. ``diag`` opens a
        sock_diag socket; None: as everybody does who looks there. ``tables``: those that are followed.
        """
        self.tables = sum(1 << each for each in tables)
        self._shards = {each: table.shard(Space(place.netns.cookie, OF_TABLE[each].number)) for each in tables}
        self._shard = table.shard(place.space)
        """TCP's."""
        self._diag = diag if diag is not None else place.kernel.diag
        self._news = news
        self._doubted = doubted
        self._now_ns = time.monotonic_ns()

    def rows(
        self,
        table: Table,
        selection: Selection,
        *,
        ext: int,
        attributes: bool,
        bytecode: bytes = b"",
        take: Callable[[memoryview], bool] | None = None,
        complain: Callable[[int], None] = lambda _: None,
    ) -> Iterator[Sequence[InetSocket]]:
        """The selected rows with what changes without events read now."""
        states, families = selection.states, selection.families

        def dump(
            diag: Netlink, family: int, part: int, take: Callable[[memoryview], bool] | None = None
        ) -> Iterator[Sequence[InetSocket]]:
            asked = functools.partial(inet_diag.dump_request, table, family, part, ext=ext)

            def answered(request: bytes) -> Generator[list[InetSocket], None, int]:
                diag.send(request)
                return (yield from self._answered(table, diag, states, attributes=attributes, take=take))

            nonlocal bytecode
            error = yield from answered(asked(bytecode=bytecode))
            if error and bytecode:  # a filter that the kernel does not take: whoever prints the rows applies it again
                complain(error)
                bytecode = b""
                error = yield from answered(asked())
            if error:
                complain(error)

        for family in (AF_INET, AF_INET6):
            if not families >> family & 1 or selection.preferred not in (family, *_NOT_INET):
                continue
            # A filter is shown to the kernel even where there are no rows: it may complain of it.
            with self._diag() as diag:
                if table is not Table.TCP:  # of those, several may be between the same addresses, and none listens
                    if self._doubted or bytecode or len(self._shards[table]):
                        yield from dump(diag, family, states, take)
                    continue
                if states >> _LISTEN & 1 and (self._doubted or any(self._shard.in_states(1 << _LISTEN))):
                    yield from dump(diag, family, 1 << _LISTEN)
                few = self._few(states & _OTHERS) if not bytecode and not self._doubted else None
                if few is not None:
                    yield _exact(diag, [row for row in few if row.family == family], ext)
                elif bytecode or self._any(states & _OTHERS):
                    yield from dump(diag, family, states & _OTHERS, take)

    def outside(self, _table: Table, _selection: Selection) -> Sequence[Socket]:
        """See TableSource: of these the kernel is asked."""
        return ()

    def known(self, shown: Sequence[Socket]) -> Sequence[Socket]:
        """See TableSource: those that have come since, and those that have gone, are left out."""
        if self._doubted:
            return shown
        rows = []
        for socket in shown:
            if socket.table in self._shards and coordinates.found(socket) is not None:
                row = self._of(socket)
                if row is None:
                    continue
                socket.state = row.state
            rows.append(socket)
        return rows

    def count(self, states: int) -> tuple[int, int]:
        """How many listeners, and how many other rows at most, are in these states."""
        listeners = sum(1 for _ in self._shard.in_states(states & 1 << _LISTEN))
        others = self._others(states)
        return listeners, sum(1 for _ in others) if others is not None else len(self._shard)

    def inodes(self, selection: Selection) -> set[int] | None:
        """Inodes of the rows that a selection will show, before its filter; None when events cannot tell them all: a
        connection gets its inode at accept(2), which is no event of the socket.
        """
        if self._any(selection.states & _OTHERS):
            return None
        return {row.ino for row in self._shard.in_states(1 << _LISTEN)}

    def held_ns(self, row: Socket) -> int | None:
        """How long the row has been in its state; for one that is older than the trace, for how long that is known."""
        known = self._of(row)
        return self._now_ns - known.since_ns if known is not None else None

    def role(self, row: Socket) -> Role | None:
        """Which end the row is; None when that was not seen."""
        known = self._of(row)
        return known.role if known is not None else None

    def lived_ns(self, row: Socket) -> int | None:
        """How long ago it began; None when that was not seen."""
        known = self._of(row)
        return self._now_ns - known.born_ns if known is not None and known.born_ns is not None else None

    def at_least(self, row: Socket) -> bool:
        """Whether the row was in its state already when the server met it."""
        known = self._of(row)
        return known is not None and not known.exact

    def _others(self, states: int) -> Iterator[Row] | None:
        """The rows in these states but listeners; None where that is to be found out only by looking at all."""
        return self._shard.in_states(states & _OTHERS) if not states >> _ESTABLISHED & 1 else None

    def _few(self, states: int) -> list[Row] | None:
        # The rows in these states, where they are few enough to ask for each.
        found: Iterable[Row] | None = self._others(states)
        if found is None:
            if len(self._shard) > _EXACT_MOST:
                return None
            found = self._shard.index.rows.values()
        few = [row for row in found if states >> row.state & 1]
        return few if len(few) <= _EXACT_MOST else None

    def _any(self, states: int) -> bool:
        if self._doubted:
            return bool(states)
        found = self._others(states)
        return any(True for _ in found) if found is not None else len(self._shard) > 0

    def _of(self, row: Socket) -> Row | None:
        shard = self._shards.get(row.table)
        if shard is None:
            return None
        known = shard.index.known(row) if isinstance(row, InetSocket) else shard.index.by_cookie.get(row.cookie)
        return known if known is None or not self._doubted or known.state == row.state else None

    def _answered(
        self,
        table: Table,
        diag: Netlink,
        states: int,
        *,
        attributes: bool,
        take: Callable[[memoryview], bool] | None,
    ) -> Generator[list[InetSocket], None, int]:
        for datagram in diag.ahead():
            if (
                take is not None
                and (self._is_certain() or (table is Table.TCP and self._agrees(datagram)))
                and take(datagram)
            ):
                continue
            batch = inet_diag.decode(datagram, table, extras=attributes)
            rows = batch.rows if self._doubted else list(self._as_the_table_has_them(batch.rows, states))
            if rows:
                yield rows
            if batch.done:
                return batch.error
        return 0

    def _is_certain(self) -> bool:
        """Whether just what the kernel shows is the answer."""
        return self._doubted or not self._news()

    def _as_the_table_has_them(self, shown: Iterable[InetSocket], states: int) -> Iterator[InetSocket]:
        for row in shown:
            known = self._of(row)
            if known is not None and states >> known.state & 1:
                row.state = known.state
                yield row

    def _agrees(self, datagram: memoryview) -> bool:
        """Whether the table holds every row of a datagram, and in the same state."""
        shown = inet_ends.decode(datagram)
        if shown is None:
            return False
        ends, states = shown
        rows = self._shard.index.between(ends)
        try:
            return bytes(map(_STATE, rows)) == states
        except AttributeError:  # None: one of them is not there
            return False


def look_at(
    places: Places, rows: Iterable[Row], ext: int, breathe: Callable[[], object] = lambda: None
) -> dict[int, Socket]:
    """What the kernel says now of these rows, by their ids; those that it no longer has in this state are left out, and
    those of a network namespace that has gone. ``breathe`` is called again and again while a dump goes on.
    """
    found: dict[int, Socket] = {}
    for place, all_of_place in places.apart(rows):
        mine = [row for row in all_of_place if row.protocol == IPPROTO_TCP]
        if len(mine) < len(all_of_place):
            others = [row for row in all_of_place if row.protocol not in (IPPROTO_TCP, *SWEPT)]
            found |= _look_at_others(place, others, ext, breathe)
            found |= _look_outside(place, [row for row in all_of_place if row.protocol in SWEPT])
        wanted = {_key(row): row.id for row in mine}
        with suppress(UnreachableError), place.kernel.diag() as diag:
            for family in (AF_INET, AF_INET6):
                alike = [row for row in mine if row.family == family]
                if len(alike) <= _EXACT_MOST:
                    shown: Iterable[InetSocket] = _exact(diag, alike, ext)
                else:
                    shown = dumped(diag, family, ALL_STATES, ext, breathe=breathe)
                found |= {row_id: socket for socket in shown if (row_id := wanted.get(_key(socket))) is not None}
                if any(row.state == _LISTEN and row.id not in found for row in alike):
                    # Of several listeners at one address (SO_REUSEPORT) an exact question finds any.
                    shown = dumped(diag, family, 1 << _LISTEN, ext, breathe=breathe)
                    found |= {row_id: socket for socket in shown if (row_id := wanted.get(_key(socket))) is not None}
    return found


def _look_at_others(
    place: Place, rows: Collection[Row], ext: int, breathe: Callable[[], object]
) -> dict[int, InetSocket]:
    """The same of sockets that no exact question finds: of those without states several may be between the same
    addresses, which their cookies tell apart; and of MPTCP's own several may have the same cookie.
    """
    apart = {row.protocol: _cookie if row.protocol in DATAGRAMS else _key for row in rows}
    wanted = {apart[row.protocol](row): row.id for row in rows}
    found: dict[int, InetSocket] = {}
    with suppress(UnreachableError, KernelError), place.kernel.diag() as diag:
        for protocol, family in {(row.protocol, row.family) for row in rows}:
            key = apart[protocol]
            shown = dumped(diag, family, ALL_STATES, ext, TABLE_OF_NUMBER[protocol], breathe=breathe)
            found |= {at: socket for socket in shown if (at := wanted.get(key(socket))) is not None}
    return found


def _look_outside(place: Place, rows: Collection[Row]) -> dict[int, Socket]:
    """The same of sockets outside of the internet's families."""
    wanted = {(row.protocol, row.cookie, row.state): row.id for row in rows}
    found: dict[int, Socket] = {}
    families = [OF_TABLE[TABLE_OF_NUMBER[protocol]].family for protocol in {row.protocol for row in rows}]
    for family in {each.name: each for each in families}.values():
        for socket in place.kernel.others(family, volatile=True)[0]:
            at = coordinates.found(socket)
            if at is not None and (row_id := wanted.get((at.protocol, at.cookie, at.state))) is not None:
                found[row_id] = socket
    return found


def _exact(diag: Netlink, rows: Iterable[Row], ext: int) -> list[InetSocket]:
    found: list[InetSocket] = []
    rows = sorted(rows, key=_order)
    for row, answer in zip(rows, exact(diag, rows, ext), strict=True):
        # Another state: it has gone from this one since.
        found += [socket for socket in answer if socket.state == row.state]
    return found


_NOT_INET = tuple(family for family in range(64) if family not in (AF_INET, AF_INET6))


def _order(row: Row) -> tuple[int, bytes, bytes, int]:
    return row.sport, row.src, row.dst, row.dport


def _cookie(row: Row | InetSocket) -> tuple[int | None, int]:
    return row.cookie, row.state


def _key(row: Row | InetSocket) -> tuple[int, bytes, int, bytes, int, int, int]:
    return row.state, row.src, row.sport, row.dst, row.dport, row.ifindex, row.ino if row.state == _LISTEN else 0
