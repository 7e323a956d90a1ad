"""Questions for all the sockets of a family outside of the internet's, which the kernel answers by a dump."""

from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from typing import Any, Final

from sstrace.errors import SstraceError
from sstrace.model import ALL_STATES, NetlinkSocket, Socket
from sstrace.protocols import PROTOCOLS, UNIX, Family
from sstrace.sources.diag import Netlink
from sstrace.table import Row
from sstrace.wire import netlink, unix_diag

__all__ = ["Asked"]

_EVERYTHING: Final = unix_diag.show(extended=True, memory=True, uid=True)
_ANY: Final = 0xFFFFFFFF


class Asked:
    """How the kernel is asked for the sockets of a family."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.name = family.name
        self.port = 0
        """That of the netlink socket that the latest answer came to."""
        self.numbers = {each.number for each in PROTOCOLS if each.family is family}
        self._wire: Any = import_module(f"sstrace.wire.{family.name}_diag")

    def is_listed(self, diag: Callable[[], Netlink]) -> bool:
        """Whether the kernel lists them: each family's are a module of its own. ``diag`` opens a socket."""
        try:
            with diag() as opened:
                return bool([*self.payloads(opened)] or True)
        except SstraceError:
            return False

    def rows(self, diag: Netlink, *, volatile: bool = False) -> Iterator[Socket]:
        """The sockets, but for that with which is asked. ``volatile``: with what changes without anything being told
        of it. Raises SstraceError where these are not all.
        """
        for payload in self.payloads(diag, volatile=volatile):
            row = self.row_of(payload)
            if not isinstance(row, NetlinkSocket) or not self.is_own(row.portid):
                yield row

    def row_of(self, payload: bytes) -> Socket:
        """A message decoded."""
        return self._wire.row_of(payload)  # type: ignore[no-any-return]

    def payloads(self, diag: Netlink, *, volatile: bool = False) -> Iterator[bytes]:
        """The messages of a dump; ``volatile``: see ``rows``. Raises SstraceError where it is not whole."""
        if self.family is UNIX:
            diag.send(unix_diag.dump_request(ALL_STATES, _EVERYTHING) if volatile else unix_diag.look_request())
        else:
            diag.send(self._wire.dump_request(ALL_STATES))
        messages: list[bytes] = []
        for datagram in diag:
            self.port = netlink.asker(datagram)
            answer: netlink.Batch[None] = netlink.batch(datagram, messages.append)
            if answer.error or answer.interrupted:
                raise SstraceError(f"{self.name}: not a whole dump")
            yield from messages
            messages.clear()
            if answer.done:
                return

    def gone(self, diag: Netlink, rows: Collection[Row]) -> set[int]:
        """The ids of those among these unix sockets that the kernel no longer has."""
        requests = [unix_diag.exact_request(row.ino, 0, cookie=row.cookie or 0) for row in rows]
        answers = zip(rows, diag.answers(requests), strict=True)
        return {row.id for row, datagram in answers if not unix_diag.decode(datagram).rows}

    def is_own(self, port: int) -> bool:
        """Whether the one with this port is the netlink socket with which is asked, by whichever process."""
        return self.name == "netlink" and port & _ANY == self.port
