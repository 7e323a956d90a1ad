"""The tables that are not inet: netlink, packet, unix, vsock, tipc, xdp; each from the kernel, else from its file of
/proc where it has one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from sstrace.errors import DecodeError, KernelError
from sstrace.model import (
    AF_VSOCK,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    PacketSocket,
    Table,
    UnixSocket,
    XdpSocket,
)
from sstrace.snapshot.asking import Decode, Refused, dump
from sstrace.snapshot.invocation import Invocation

__all__ = ["netlink", "packet", "tipc", "unix", "vsock", "xdp"]


def unix(to: Invocation) -> None:
    """Unix sockets of the three types."""
    from sstrace.wire import unix_diag

    selection, show = to.selection, to.show
    to.sink.begin(Table.UNIX_STREAM)
    if not to.files.replaced("net/unix"):
        request = unix_diag.dump_request(
            selection.states, unix_diag.show(extended=show.extended, memory=show.memory, uid=to.command.own.json)
        )
        try:
            for rows in dump(request, unix_diag.decode):
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


def packet(to: Invocation) -> None:
    """Packet sockets of both types."""
    from sstrace.wire import packet_diag

    to.sink.begin(Table.PACKET_RAW)
    if not to.files.replaced("net/packet"):
        try:
            for rows in dump(packet_diag.dump_request(), packet_diag.decode):
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


def netlink(to: Invocation) -> None:
    """Netlink sockets."""
    from sstrace.wire import netlink_diag

    to.sink.begin(Table.NETLINK)
    if not to.files.replaced("net/netlink"):
        try:
            for rows in dump(netlink_diag.dump_request(), netlink_diag.decode):
                to.feed(rows)
            return
        except Refused:
            pass
    from sstrace.wire import proc_net

    to.feed(_of_proc(to, "net/netlink", proc_net.decode_netlink, -1))


def vsock(to: Invocation) -> None:
    """Vsock sockets."""
    from sstrace.wire import vsock_diag

    to.sink.begin(Table.VSOCK_STREAM)
    for rows in _of_kernel(to, vsock_diag.dump_request(to.selection.states), vsock_diag.decode):
        to.feed(rows)


def tipc(to: Invocation) -> None:
    """TIPC sockets."""
    from sstrace.wire import tipc_diag

    to.sink.begin(Table.TIPC)
    for rows in _of_kernel(to, tipc_diag.dump_request(to.selection.states), tipc_diag.decode):
        to.feed(rows)


def xdp(to: Invocation) -> None:
    """AF_XDP sockets."""
    from sstrace.wire import xdp_diag

    to.sink.begin(Table.XDP)
    for rows in _of_kernel(to, xdp_diag.dump_request(), xdp_diag.decode):
        _feed_bound(to, rows)


def _feed_bound(to: Invocation, rows: Sequence[PacketSocket | XdpSocket]) -> None:
    """Rows that may have an interface: for one that has, ss reads them all, and ends where it may not. Raises
    LookupFailed.
    """
    rows = to.matching(rows)
    if any(row.ifindex for row in rows):
        to.names.read_interfaces()
    if rows:
        to.sink.feed(rows)


def _of_kernel(to: Invocation, request: bytes, decode: Decode) -> Iterator[list[Any]]:
    """The rows of a table that /proc does not have."""
    tables = to.selection.tables
    try:
        for rows in dump(request, decode):
            # A vsock seqpacket socket is of neither vsock table, and left out of none.
            yield [x for x in rows if tables >> x.table & 1 or (x.family == AF_VSOCK and x.type > SOCK_DGRAM)]
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
