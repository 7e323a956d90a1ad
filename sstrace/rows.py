"""A row of the live table as a ``Socket``, which filters, cell makers and requests take; and what one teaches a
row.
"""

from functools import lru_cache

from sstrace.coordinates import socket_at
from sstrace.model import Extras, InetSocket, Socket, Table
from sstrace.protocols import SWEPT, TABLE_OF_NUMBER
from sstrace.table import Row

__all__ = ["learn", "shown_as", "socket_of"]


def socket_of(
    row: Row, *, table: Table = Table.TCP, state: int | None = None, cookie: int | None = None, partial: bool = False
) -> InetSocket:
    """Queues and timers are not known of a row, and so are 0 here; ``partial`` has renderers say so. ``state``:
    another than the row's own, of a moment ago; ``cookie`` likewise.
    """
    return InetSocket(
        table=table,
        family=row.family,
        state=row.state if state is None else state,
        ino=row.ino,
        cookie=(row.cookie if cookie is None else cookie) or 0,
        src=row.src,
        sport=row.sport,
        dst=row.dst,
        dport=row.dport,
        uid=row.uid or 0,
        ifindex=row.ifindex,
        extras=_extras(row.cgroup, row.v6only, row.sport if table is Table.RAW else None),
        partial=partial,
    )


@lru_cache(4096)
def _extras(cgroup: int | None, v6only: bool | None, protocol: int | None) -> Extras:
    return Extras(cgroup_id=cgroup, v6only=v6only, protocol=protocol)


def shown_as(row: Row, *, partial: bool = False) -> Socket:
    """The same of a row of whatever family."""
    if row.protocol in SWEPT:
        return socket_at(row, partial=partial)
    return socket_of(row, table=TABLE_OF_NUMBER.get(row.protocol, Table.TCP), partial=partial)


def learn(row: Row, found: InetSocket) -> None:
    """Take what accept(2) has given a connection since its last event: an inode, and the user whose process it was
    (sock_graft, include/net/sock.h).
    """
    if found.ino:
        row.ino, row.uid = found.ino, found.uid
