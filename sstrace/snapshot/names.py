"""Names as ss asks for them, where it shows in what a refusal leads to: interfaces by rtnetlink, and the question
whether the kernel can select by cgroup.

ss knows interfaces in two ways. For a filter and for packet sockets it reads them all at first use, and gives up on
everything when it may not. For the ``%name`` of an inet socket it asks for the one, and where that is refused says so,
at every row, and asks the C library instead.
"""

import errno
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.model import AF_INET, Table
from sstrace.sources.diag import Diag, Route
from sstrace.sources.names import SystemNames
from sstrace.wire import inet_diag
from sstrace.wire.netlink import Batch

if TYPE_CHECKING:
    from sstrace.wire import rtnetlink

__all__ = ["SsNames"]


class SsNames(SystemNames):
    """The names of this machine, for a snapshot of it; ``warn`` takes ss's lines for standard error, ``complain`` the
    errno in which an answer of the kernel ended. ``anywhere``: of no network namespace yet, see ``enter``; until then
    a device of any name may be somewhere.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        warn: Callable[[str], None],
        complain: Callable[[int], None],
        *,
        anywhere: bool = False,
    ) -> None:
        super().__init__(environ)
        self._anywhere = anywhere
        self._warn = warn
        self._complain = complain
        self._indexes: dict[str, int] | None = None
        self._links: dict[int, str] = {}

    def enter(self) -> None:
        """From here on they are those of another network namespace, which this thread is in."""
        super().enter()
        self._anywhere = False
        self._indexes = None
        self._links.clear()

    def read_interfaces(self) -> None:
        """Know them all from now on. Raises LookupFailed, with ss's words."""
        if self._indexes is not None:
            return
        from sstrace.wire import rtnetlink

        self._indexes, ending = {}, ""
        try:
            with Route() as route:
                route.send(rtnetlink.dump_request())
                ending = "\nDump terminated"
                for datagram in route:
                    batch = rtnetlink.decode(datagram)
                    self._learn(batch)
                    if batch.done:
                        return
        except SstraceError as error:
            raise LookupFailed(f"{error}{ending}") from None

    def ifindex(self, name: str) -> int | None:
        """Index of a network interface by its name or alternative name. Raises LookupFailed."""
        if self._anywhere:
            return -1
        self.read_interfaces()
        assert self._indexes is not None
        index = self._indexes.get(name)
        if index is not None:
            self.met.add(name)
        return index

    def ifname(self, index: int) -> str:
        """Name of a network interface; ``if<index>`` when there is none."""
        if index not in self._links:
            from sstrace.wire import rtnetlink

            try:
                with Route() as route:
                    route.send(rtnetlink.one_request(index))
                    self._learn(rtnetlink.decode(route.receive()))
            except SstraceError as error:
                self._warn(str(error))
        return self._links.get(index) or super().ifname(index)

    def _learn(self, batch: "Batch[rtnetlink.Link]") -> None:
        for link in batch.rows:
            names = [os.fsdecode(name) for name in link.names]
            self._links[link.index] = names[0]
            if self._indexes is not None:
                self._indexes.update(dict.fromkeys(names, link.index))

    def cgroup_id(self, path: str) -> int:
        """Id of a cgroup, where the kernel can select by it. Raises LookupFailed, else UsageError as ss does."""
        found = super().cgroup_id(path)
        if not self._selects_cgroups():
            raise UsageError("It looks like such filter is not supported! Too old kernel?")
        return found

    def _selects_cgroups(self) -> bool:
        """Before Linux 5.9 it cannot (b1f3e43dbfac "inet_diag: support for cgroup v2 information and filtering"), and
        answers EINVAL to a request for no state at all. Where no answer can be read, ss supposes that it can.
        """
        from sstrace.query.bytecode import compile_bytecode
        from sstrace.query.expression import Cgroup

        request = inet_diag.dump_request(Table.TCP, AF_INET, 0, bytecode=compile_bytecode(Cgroup(0)) or b"")
        try:
            diag = Diag()
        except SstraceError as error:
            self._warn(str(error))
            return False
        with diag:
            try:
                diag.send(request)
            except SstraceError:
                return False
            try:
                for datagram in diag:
                    batch = inet_diag.decode(datagram, Table.TCP)
                    if batch.done:
                        if batch.error and not batch.refused:
                            self._complain(batch.error)
                        return batch.error != errno.EINVAL
            except SstraceError as error:
                self._warn(str(error))
        return True
