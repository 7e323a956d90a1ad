"""Questions for single TCP sockets, by their addresses, device and cookie: 20 µs each."""

from collections.abc import Callable, Iterator, Sequence

from sstrace.model import ALL_STATES, InetSocket, State, Table
from sstrace.rows import socket_of
from sstrace.sources.diag import Netlink
from sstrace.table import Row
from sstrace.wire import inet_diag

__all__ = ["Between", "between", "dumped", "exact"]

Between = tuple[int, int, bytes, bytes, int]
"""Local and peer port, local and peer address, bound device."""

_CONNECTED = ALL_STATES & ~(1 << State.LISTEN)


def between(of: Row | InetSocket) -> Between:
    """Where a socket is, as the kernel shows it."""
    return of.sport, of.dport, of.src, of.dst, of.ifindex


def exact(diag: Netlink, rows: Sequence[Row], ext: int = 0) -> list[list[InetSocket]]:
    """The kernel's row of each socket, if it still has it; where the table does not know its cookie, that may be
    another's between the same addresses. ``ext``: see ``inet_diag.exact_request``.

    A socket on a device is hidden by one that is on none, for that fits every device, and the kernel looks no further
    (inet_bound_dev_eq, include/net/inet_sock.h): a dump shows both.
    """
    found = list(_answers(diag, [socket_of(row) for row in rows], ext))
    missing = [
        at for at, row in enumerate(rows) if row.ifindex and row.dport and between(row) not in map(between, found[at])
    ]
    if missing:
        anybody = (socket_of(rows[at], cookie=0) for at in missing)
        others = zip(missing, _answers(diag, list(anybody), ext), strict=True)
        hidden = {between(rows[at]): at for at, answer in others if answer and not answer[0].ifindex}
        for family in {rows[at].family for at in hidden.values()}:
            for socket in dumped(diag, family, _CONNECTED, ext):
                at = hidden.get(between(socket))
                if at is not None and rows[at].cookie in (None, socket.cookie):
                    found[at] = [socket]
    return found


def _answers(diag: Netlink, sockets: Sequence[InetSocket], ext: int) -> Iterator[list[InetSocket]]:
    requests = [inet_diag.exact_request(socket, ext=ext) for socket in sockets]
    return (inet_diag.decode(datagram, Table.TCP).rows for datagram in diag.answers(requests))


def dumped(
    diag: Netlink,
    family: int,
    states: int,
    ext: int = 0,
    table: Table = Table.TCP,
    *,
    breathe: Callable[[], object] = lambda: None,
) -> Iterator[InetSocket]:
    """Every socket of a table, a family and of these states that the kernel shows. ``ext``: see ``exact``; ``breathe``
    is called after each datagram.
    """
    diag.send(inet_diag.dump_request(table, family, states, ext=ext))
    for datagram in diag:
        batch = inet_diag.decode(datagram, table)
        yield from batch.rows
        if batch.done:
            return
        breathe()
