"""The tables that are not inet: each family's from the kernel, by its module in ``wire``, else from its file of /proc
where it has one.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any

import msgspec

from sstrace.errors import DecodeError, KernelError
from sstrace.model import (
    AF_VSOCK,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    State,
    Table,
    UnixSocket,
)
from sstrace.protocols import OF_TABLE, Family
from sstrace.query.expression import asks_user
from sstrace.snapshot.asking import Refused, dump
from sstrace.snapshot.invocation import Invocation
from sstrace.sources.diag import Diag

__all__ = ["show"]


def show(to: Invocation, family: Family, tables: Sequence[Table]) -> None:
    """The sockets of a family, whose tables these are."""
    closed = all(OF_TABLE[table].states == 1 << State.CLOSE for table in tables)
    if closed and not to.selection.states >> State.CLOSE & 1:
        return
    to.sink.begin(tables[0])
    _OTHERWISE.get(family.name, _from_kernel)(to, family)


def _unix(to: Invocation, _family: Family) -> None:
    from sstrace.wire import unix_diag

    selection, show = to.selection, to.show
    if not to.files.replaced("net/unix"):
        uid = to.command.own.json or asks_user(selection.filter)
        request = unix_diag.dump_request(
            selection.states, unix_diag.show(extended=show.extended, memory=show.memory, uid=uid)
        )
        try:
            # Everybody is shown the same of them; and who asks by way of another process has more of them.
            for rows in map(to.known, dump(Diag, request, unix_diag.decode)):
                to.feed([row for row in rows if selection.tables >> row.table & 1])
            return
        except Refused:
            pass
    from sstrace.wire import proc_net

    match = to.match

    def keep(row: UnixSocket) -> bool:
        if not selection.states >> row.state & 1:
            return False
        # A bogus row, of a name with a newline in it, has no type; ss leaves out only those that it knows.
        if row.type in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET) and not selection.tables >> row.table & 1:
            return False
        # Of this file ss shows the filter no numbers: to it, every port is 0.
        return match is None or match(msgspec.structs.replace(row, ino=0, peer_ino=0))

    try:
        rows = proc_net.decode_unix(to.files.read("net/unix"), keep)
    except (KernelError, DecodeError):
        return
    if rows:
        to.sink.feed(rows)


def _packet(to: Invocation, _family: Family) -> None:
    from sstrace.wire import packet_diag

    if not to.files.replaced("net/packet"):
        try:
            for rows in map(to.known, dump(to.diag, packet_diag.dump_request(), packet_diag.decode)):
                bare = next((at for at, row in enumerate(rows) if row.skmem is None), None)
                _feed_bound(to, rows[:bare])
                if bare is not None:
                    raise Refused  # a kernel that does not tell the memory: ss then reads /proc
            return
        except Refused:
            pass
    from sstrace.wire import proc_net

    tables = to.selection.tables if to.dialect.packet_type_in_proc else -1
    _feed_bound(to, _of_proc(to, "net/packet", proc_net.decode_packet, tables))


def _netlink(to: Invocation, _family: Family) -> None:
    from sstrace.wire import netlink_diag

    if not to.files.replaced("net/netlink"):
        try:
            for rows in map(to.known, dump(to.diag, netlink_diag.dump_request(), netlink_diag.decode)):
                to.feed(rows)
            return
        except Refused:
            pass
    from sstrace.wire import proc_net

    to.feed(_of_proc(to, "net/netlink", proc_net.decode_netlink, -1))


def _feed_bound(to: Invocation, rows: Sequence[Any]) -> None:
    """Rows that may have an interface: for one that has, ss reads them all, and ends where it may not. Raises
    LookupFailed.
    """
    rows = to.matching(rows)
    if any(getattr(row, "ifindex", 0) for row in rows):
        to.names.read_interfaces()
    if rows:
        to.sink.feed(rows)


def _from_kernel(to: Invocation, family: Family) -> None:
    """A family that /proc does not have."""
    diag = import_module(f"sstrace.wire.{family.name}_diag")
    tables = to.selection.tables
    try:
        for rows in map(to.known, dump(to.diag, diag.dump_request(to.selection.states), diag.decode)):
            # A vsock seqpacket socket is of neither vsock table, and left out of none.
            _feed_bound(
                to, [x for x in rows if tables >> x.table & 1 or (x.family == AF_VSOCK and x.type > SOCK_DGRAM)]
            )
    except Refused:
        return


def _of_proc(to: Invocation, name: str, decode: Callable[[bytes], Iterator[Any]], tables: int) -> list[Any]:
    """The rows of a file of /proc whose table bit is in ``tables``, up to a line that is none."""
    rows: list[Any] = []
    try:
        for row in decode(to.files.read(name)):
            if tables >> row.table & 1:
                rows.append(row)
    except (KernelError, DecodeError):
        pass
    return rows


_OTHERWISE: dict[str, Callable[[Invocation, Family], None]] = {"unix": _unix, "packet": _packet, "netlink": _netlink}
"""Families that have a file of /proc as well."""
