"""Whose a TCP connection to us is, as far as that can be told: a user's of this host, or an address'."""

import socket
from contextlib import suppress
from ipaddress import IPv6Address, ip_address

from sstrace.errors import SstraceError
from sstrace.model import AF_INET, AF_INET6, InetSocket, State, Table
from sstrace.sources.diag import Diag
from sstrace.wire import inet_diag

__all__ = ["Callers"]

_PREFIX = 64
"""Of IPv6, whose users have more than one address: bits."""


class Callers:
    """Asks the kernel who has the other end, in the network namespace in which it is made. One thread uses it."""

    def __init__(self) -> None:
        self._diag: Diag | None = None
        with suppress(SstraceError):  # a sandbox refuses: then it is the address
            self._diag = Diag()

    def __call__(self, connection: socket.socket) -> str:
        """What all connections of one caller have in common."""
        try:
            here, there = connection.getsockname(), connection.getpeername()
        except OSError:  # it has hung up
            return ""
        peer = _address(there[0])
        uid = self._uid(peer, there[1], _address(here[0]), here[1])
        if uid is not None:
            return f"uid {uid}"
        return str(peer) if len(peer) == 4 else peer[: _PREFIX // 8].hex()

    def _uid(self, src: bytes, sport: int, dst: bytes, dport: int) -> int | None:
        """Who made this socket of ours, where it is one."""
        if self._diag is None:
            return None
        family = AF_INET if len(src) == 4 else AF_INET6
        wanted = InetSocket(Table.TCP, family, State.ESTABLISHED, src=src, sport=sport, dst=dst, dport=dport)
        with suppress(SstraceError):
            self._diag.send(inet_diag.exact_request(wanted))
            for found in inet_diag.decode(self._diag.receive(), Table.TCP).rows:
                return found.uid
        return None

    def close(self) -> None:
        """Ask no more."""
        if self._diag is not None:
            self._diag.close()


def _address(text: str) -> bytes:
    """As the kernel has it in the socket of the other end, which is one of IPv4 where ours is of both."""
    found = ip_address(text.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return (mapped or found).packed
