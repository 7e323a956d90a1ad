"""The inet tables, from the kernel, from another source of some of them, from a recorded dump or from /proc."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sstrace.errors import DecodeError, KernelError, SstraceError, reason
from sstrace.model import AF_INET, AF_INET6, InetSocket, Table
from sstrace.render.ss import Text
from sstrace.snapshot.asking import Refused
from sstrace.snapshot.inet_dump import InetDump
from sstrace.snapshot.invocation import Invocation
from sstrace.snapshot.streams import LACKING, warn
from sstrace.sources.standard import tell
from sstrace.wire import inet_columns, inet_diag
from sstrace.wire.netlink import Batch

if TYPE_CHECKING:
    from sstrace.snapshot.sources import TableSource

__all__ = ["InetTables"]

_FEW = 4096
"""Bytes of some thirty sockets, for which the compiled twin takes longer to be loaded than it saves."""


class InetTables:
    """One table after the other. ``bytecode`` is the filter of ``dump``; ``source``: whom to ask instead of the
    kernel; ``carried``: see ``InetDump``.
    """

    def __init__(
        self,
        invocation: Invocation,
        dump: InetDump,
        env: Mapping[str, str],
        *,
        bytecode: bytes,
        source: "TableSource | None",
        carried: bool = False,
    ) -> None:
        self._invocation = invocation
        self._selection = invocation.selection
        self._dump = dump
        self._file = env.get("TCPDIAG_FILE")
        self._bytecode = bytecode
        self._source = source
        self._carried = carried

    def show(self, table: Table) -> None:
        """All of a table that is selected."""
        self._invocation.sink.begin(table)
        if table is Table.TCP and self._file is not None:
            self._from_file(self._file)
        elif self._source is not None and self._source.tables >> table & 1:
            self._from_source(self._source, table)
        else:
            self._from_kernel(table)

    def _from_source(self, source: "TableSource", table: Table) -> None:
        with suppress(Refused):  # -K, by somebody who may not
            for rows in source.rows(
                table,
                self._selection,
                ext=self._dump.ext,
                attributes=self._wants_attributes(table),
                bytecode=self._bytecode,
                take=self._columns(),
                complain=partial(self._dump.complain, table),
            ):
                self._take(rows)

    def _from_kernel(self, table: Table) -> None:
        name = f"net/{table.name.lower()}"
        if not self._invocation.files.replaced(name):
            attributes = self._wants_attributes(table)
            columns = self._columns()

            def decode(datagram: memoryview) -> Batch[InetSocket]:
                if columns is not None and columns(datagram):
                    return Batch([])
                return inet_diag.decode(datagram, table, extras=attributes)

            try:
                self._dump.ask(table, decode, self._take)
                return
            except Refused:
                pass
        if table in (Table.TCP, Table.UDP, Table.RAW):
            self._from_proc(table, name)

    def _wants_attributes(self, table: Table) -> bool:
        """Whether anything but addresses and queues will be looked at."""
        show = self._invocation.show
        return bool(
            table in (Table.RAW, Table.SCTP)
            or self._invocation.match
            or self._invocation.command.own.json
            or show.extended
            or show.memory
            or show.info
            or show.tos
            or show.cgroup
            or show.inet_sockopt
            or show.bpf_maps
        )

    def _columns(self) -> Callable[[memoryview], bool] | None:
        """What prints what is selected of a datagram of the begun table without an object a row, and says whether it
        has; None where nothing can.
        """
        text, match, families = self._invocation.sink, self._invocation.match, self._selection.families
        if not isinstance(text, Text) or self._selection.kill:
            return None
        if text.raw() and match is None:

            def plain(datagram: memoryview) -> bool:
                if len(datagram) > _FEW and text.feed_datagram(datagram, families):
                    return True
                fields = inet_columns.decode(datagram)
                if fields is None:
                    return False
                if families >> inet_columns.family_of(datagram) & 1:
                    text.feed_raw(fields)
                return True

            return plain
        if text.grouped() and not self._carried:  # there tcp_info is not a row's
            from sstrace.wire import inet_groups

            def grouped(datagram: memoryview) -> bool:
                found = inet_groups.decode(datagram)
                if found is None:
                    return False
                if not families >> found[0][0].family & 1:
                    return True
                if match is not None:
                    found = inet_groups.select(*found, match)
                return text.feed_groups(*found)

            return grouped
        return None

    def _take(self, rows: Sequence[InetSocket]) -> None:
        """Rows of the kernel's: those of the selected families are shown, or closed and shown."""
        families = self._selection.families
        if not (families >> AF_INET & 1 and families >> AF_INET6 & 1):
            rows = [row for row in rows if families >> row.family & 1]
        if not self._selection.kill:
            self._invocation.feed(rows)
            return
        match = self._invocation.match
        for row in rows:
            if (match is None or match(row)) and self._kill(row):
                self._invocation.sink.feed([row])

    def _kill(self, row: InetSocket) -> bool:
        """Ask the kernel to close a socket; whether it did. Raises Refused when it may not be asked."""
        number = self._destroy(row)
        if not number:
            return True
        if number in LACKING:
            return False  # its protocol cannot, or it is gone already
        warn(f"SOCK_DESTROY answers: {os.strerror(number)}")
        raise Refused

    def _destroy(self, row: InetSocket) -> int:
        """Why a socket is not closed, an errno; 0: it is."""
        diag = self._dump.killer()
        try:
            diag.send(inet_diag.destroy_request(row))
        except SstraceError as error:
            warn(f"Cannot talk to rtnetlink: {os.strerror(error.errno)}")
            return error.errno
        try:
            return inet_diag.decode(diag.receive(), row.table).error
        except SstraceError as error:
            warn(str(error))
            return error.errno

    def _from_proc(self, table: Table, name: str) -> None:
        from sstrace.wire import proc_net

        selection = self._selection
        for family, path in ((AF_INET, name), (AF_INET6, name + "6")):
            if not selection.families >> family & 1:
                continue
            rows: list[InetSocket] = []
            whole = True
            try:
                text = self._invocation.files.read(path)
                whole = text[-1:] in (b"\n", b"")
                for row in proc_net.decode_inet(text, table, family):
                    if selection.states >> row.state & 1:
                        rows.append(row)
            except KernelError:
                return  # ss gives up on the table, and says nothing
            except DecodeError:
                whole = True  # a line that it cannot read ends the file for ss, not the table
            self._invocation.feed(rows)
            if not whole:
                return  # but a last line without an end ends both

    def _from_file(self, path: str) -> None:
        """TCPDIAG_FILE: the tcp table from a recorded dump, up to its first DONE; no mask applies, only the filter
        does.
        """
        from sstrace.wire.netlink import whole

        doing = "fopen($TCPDIAG_FILE)"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            doing = "Reading header from $TCPDIAG_FILE"
            with open(descriptor, "rb") as file:
                data = file.read()
        except OSError as error:
            warn(f"{doing}: {reason(error)}")
            return
        batch = inet_diag.decode(data[: whole(data)], Table.TCP)
        self._invocation.feed(batch.rows)
        if batch.refused:
            warn(f"TCPDIAG answered: {os.strerror(batch.error)}")
        elif not batch.done:
            tell(b"Unexpected EOF reading $TCPDIAG_FILE")
