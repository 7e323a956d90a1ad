"""The inet tables as they are asked of the kernel; and -D, which writes down what it answers."""

import os
from collections.abc import Callable, Iterator, Sequence

from sstrace.errors import reason
from sstrace.model import AF_INET, AF_INET6, InetSocket, Table
from sstrace.query.command import Command
from sstrace.snapshot.asking import Refused, Unsent, ask, open_diag
from sstrace.snapshot.streams import complain, warn
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.standard import write_all
from sstrace.wire import inet_diag
from sstrace.wire.netlink import Batch

__all__ = ["InetDump", "write_dump"]

_OLDER = (Table.TCP, Table.DCCP)
"""What ss asks for once more, by a request of the old kind (TCPDIAG_GETSOCK), where the new one is refused."""


class InetDump:
    """Requests for inet tables. ``bytecode``: the filter, for the kernel; ``storage_fds``: the sk-storage maps whose
    values are wanted, none for every map; ``carried``: whether the filter asks what connections have carried; ``diag``
    opens a socket.
    """

    def __init__(
        self,
        command: Command,
        *,
        bytecode: bytes = b"",
        storage_fds: Sequence[int] = (),
        carried: bool = False,
        diag: Callable[[], Netlink] = Diag,
    ) -> None:
        self._diag = diag
        self._selection = command.selection
        self._bytecode = bytecode
        self._storage_maps = storage_fds if command.show.bpf_maps else None
        self._silent = command.dialect.netlink_errors_silent
        show = command.show
        self.ext = inet_diag.extensions(memory=show.memory, info=show.info or carried, tos=show.tos)
        """What is asked for of each row: see ``wire.inet_diag.extensions``."""
        self._killer: Netlink | None = None

    def killer(self) -> Netlink:
        """The socket for -K. Raises Refused."""
        if self._killer is None:
            self._killer = open_diag(Diag)
        return self._killer

    def ask(
        self,
        table: Table,
        decode: Callable[[memoryview], Batch[InetSocket]],
        take: Callable[[Sequence[InetSocket]], None],
    ) -> None:
        """The kernel's table; a request of the old kind where the new one is refused. Raises Refused."""
        silent = self._is_silent(table)
        with open_diag(self._diag) as diag:
            if self._selection.kill:
                self.killer()
            try:
                for request in self._requests(table):
                    for rows in ask(diag, request, decode, silent=silent):
                        take(rows)
            except Unsent:
                raise
            except Refused:
                if table not in _OLDER:
                    raise
                request = inet_diag.legacy_request(table, self._selection.states, ext=self.ext, bytecode=self._bytecode)
                for rows in ask(diag, request, decode, silent=silent):
                    take(rows)

    def complain(self, table: Table, number: int) -> None:
        """What ``ask`` tells where the kernel refuses every request for a table with this errno, for who asks it in
        another way.
        """
        if not self._is_silent(table):
            for _ in range(2 if table in _OLDER else 1):
                complain(number)

    def _is_silent(self, table: Table) -> bool:
        # ss never warned that a kernel lacks mptcp; since 7.0 it does not for the others either.
        return self._silent or table is Table.MPTCP

    def _requests(self, table: Table) -> Iterator[bytes]:
        """The requests of a table, one for each family that is asked of the kernel."""
        preferred = self._selection.preferred
        for family in (AF_INET, AF_INET6):
            if preferred not in (AF_INET, AF_INET6) or preferred == family:
                yield inet_diag.dump_request(
                    table,
                    family,
                    self._selection.states,
                    ext=self.ext,
                    bytecode=self._bytecode,
                    storage_maps=self._storage_maps,
                )


def write_dump(command: Command, dump: InetDump, path: str) -> int:
    """-D: the kernel's datagrams as they came; the exit code."""
    from sstrace.sources.files import open_for_writing

    standard = path[:1] == "-"
    try:
        descriptor = 1 if standard else open_for_writing(path, empty=True)
    except OSError as error:
        if command.dialect.dump_file_error:
            warn(f"fopen dump file: {reason(error)}")
            return 255
        # An ss that does not say so asks the kernel all the same, and says where that fails.
        standard, descriptor = False, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def decode(datagram: memoryview) -> Batch[InetSocket]:
        write_all(descriptor, datagram)
        return inet_diag.decode(datagram, Table.TCP, extras=False)

    try:
        dump.ask(Table.TCP, decode, lambda rows: None)
    except Refused:
        pass
    finally:
        if not standard:
            os.close(descriptor)
    return 0
