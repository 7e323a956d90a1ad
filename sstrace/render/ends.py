"""Both ends of a TCP or UDP socket, in one piece each as in ss: ``10.0.0.1%eth0:ssh``, ``[fe80::1]%v0:90``, ``*:*``."""

from typing import Any, Final, NoReturn, Protocol

from sstrace.coordinates import Connected, Lying, socket_at, spelling
from sstrace.dialect import Dialect
from sstrace.model import AF_UNIX, Names, Show
from sstrace.plain import printable
from sstrace.protocols import FAMILY_WORDS
from sstrace.render.common import Context, text
from sstrace.render.makers import outside

__all__ = ["ARROWS", "Ends", "HasEnds"]

ARROWS: Final = {"client": "→", "server": "←", None: "-"}
"""Between the local end and the peer's, by role: who called whom; ``-`` where nobody saw."""

_MOST = 100_000
"""Ends that are remembered: against a scan over all ports and addresses."""


class HasEnds(Connected, Protocol):
    """What is read of a row."""

    @property
    def ifindex(self) -> int: ...
    @property
    def v6only(self) -> bool | None: ...


class Ends:
    """Gives the texts of rows. ``show`` says whether ports have their services' names; an interface has the name that
    it bears when it is asked for. ``netid``: the protocol whose services these are.
    """

    def __init__(self, show: Show, release: Dialect, names: Names, netid: str = "tcp") -> None:
        self._asked = show, release, names
        self._netid = netid
        self._others: dict[int, tuple[Names, Ends]] = {}
        self._spoken: dict[str, Ends] = {}
        self._context = Context(show, release, names, _no_decoders)
        self._context.protocol = netid
        self._known: dict[tuple[bytes, int], str] = {}
        self._makers: dict[int, Any] = {}
        """By family, outside of the internet's."""

    def within(self, net: int) -> "Ends":
        """The same in another network namespace, by its cookie."""
        show, release, names = self._asked
        there = names.of(net)
        if there is names:
            return self
        known = self._others.get(net)
        if known is None or known[0] is not there:
            known = self._others[net] = there, Ends(show, release, there, self._netid)
        return known[1]

    def speaking(self, netid: str) -> "Ends":
        """The same of another protocol."""
        if netid == self._netid:
            return self
        known = self._spoken.get(netid)
        if known is None:
            known = self._spoken[netid] = Ends(*self._asked, netid)
        return known

    def of(self, row: HasEnds) -> tuple[str, str]:
        """The local end and the peer's: one line, nothing in it that could move a terminal's cursor."""
        if row.ifindex or row.v6only:
            ports = self._context.ports()
            local, peer = self._context.ends(row.src, row.dst, row.ifindex, v6only=row.v6only)
            return printable(local + ports[row.sport]), printable(peer + ports[row.dport])
        known = self._known
        local_end, peer_end = (row.src, row.sport), (row.dst, row.dport)
        return known.get(local_end) or self._learn(*local_end), known.get(peer_end) or self._learn(*peer_end)

    def outside(self, row: Lying) -> tuple[str, str]:
        """The same of a socket outside of the internet's families: as ss has it, and the name of a unix socket's peer
        besides.
        """
        maker = self._makers.get(row.family)
        if maker is None:
            maker = self._makers[row.family] = outside(FAMILY_WORDS[row.family], self._context)
        cells = maker.cells(socket_at(row))
        local, peer = cells.local_address + cells.local_port, cells.peer_address + cells.peer_port
        if row.family == AF_UNIX and row.dst:
            peer = f"{text(spelling(row.dst))} {cells.peer_port}"
        return printable(local), printable(peer)

    def _learn(self, address: bytes, port: int) -> str:
        if len(self._known) >= _MOST:
            self._known.clear()
        end = printable(self._context.addresses[address] + self._context.ports()[port])
        self._known[address, port] = end
        return end


def _no_decoders() -> NoReturn:
    raise AssertionError("no row of the live table holds what would have to be decoded")
