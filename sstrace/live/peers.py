"""Both ends of a connection between two network namespaces of this host: which row is the other end of another.

The ends of one are those of the other, the other way round; what is missing is the namespace. Which addresses are in
use in which is learnt from the rows themselves. (Where addresses are translated on the way, the ends differ, and
neither is found.)
"""

import time

from sstrace.model import Space
from sstrace.render.views import RowView
from sstrace.table import Row, SocketTable
from sstrace.table.index import plain

__all__ = ["Peers"]

_AGAIN_NS = 1_000_000_000
"""An address that was found nowhere is not looked for in all of them again before."""
_MOST = 100_000
"""Addresses that are remembered."""

_LOCAL6 = bytes(15) + b"\1"


class Peers:
    """Of one table."""

    def __init__(self, table: SocketTable) -> None:
        self._table = table
        self._nets: dict[bytes, int] = {}
        """Address → the namespace that used it last."""
        self._nowhere: dict[bytes, int] = {}
        """Address → when it is to be looked for again."""

    def of(self, row: RowView) -> Row | None:
        """The other end, where it is in another namespace; None where it is not, or is not known."""
        if not row.dport or _is_loopback(row.dst):
            return None
        src, dst = plain(row.src), plain(row.dst)
        self._nets[src] = row.net
        ends = row.dport, row.sport, dst, src, 0
        net = self._nets.get(dst)
        found = self._in(net, row, ends) if net is not None else None
        if found is None and time.monotonic_ns() >= self._nowhere.get(dst, 0):
            found = next(filter(None, (self._in(net, row, ends) for net in self._table.nets())), None)
            for known in (self._nets, self._nowhere):
                if len(known) > _MOST:
                    known.clear()
            if found is None:
                self._nowhere[dst] = time.monotonic_ns() + _AGAIN_NS
        if found is not None:
            self._nets[dst] = found.net
        return found

    def _in(self, net: int, row: RowView, ends: tuple[int, int, bytes, bytes, int]) -> Row | None:
        return self._table.find(Space(net, row.protocol), ends) if net != row.net else None


def _is_loopback(address: bytes) -> bool:
    # 127.0.0.0/8, ::1 and ::ffff:127.0.0.0/8 lead to the namespace that they are used in.
    return address == _LOCAL6 or (plain(address).startswith(b"\x7f") and len(plain(address)) == 4)
