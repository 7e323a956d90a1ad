"""Rows of the netlink table → cells and lines. The address is the netlink protocol, the port the port id, usually a
process.

ss never leaves the Process column on these rows: their extras stand there, and vanish with it where it is hidden (6.8
and later without -p).
"""

from sstrace.model import NetlinkSocket
from sstrace.plain import spelled
from sstrace.protocols import OF_TABLE
from sstrace.render.columns import Row
from sstrace.render.common import Context, cell, memory, queue, signed, text
from sstrace.render.line_parts import (
    Cookie,
    Inode,
    LineMaker,
    RecvQ,
    SendQ,
    SkMem,
    Time,
    skmem,
    state_text,
)
from sstrace.render.places import Place

__all__ = ["NetlinkCells", "NetlinkLine", "NetlinkLines"]


class NetlinkCells:
    """Cell maker for netlink rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: NetlinkSocket) -> Row:
        """The cells of a row."""
        context, show = self._context, self._context.show
        protocol = None if show.numeric else context.names.netlink_protocol(socket.protocol)
        rest = ""
        if show.contexts:
            rest += f" proc_ctx={cell(context.names.process_context(socket.portid) or 'unavailable')}"
        if show.extended:
            rest += f" sk={socket.sk:x} cb={socket.cb:x} groups=0x{socket.groups:08x}"
        if show.memory and socket.skmem is not None:
            rest += "\t" + memory(socket.skmem)
        return Row(
            netid=OF_TABLE[socket.table].netid,
            state="UNCONN",
            recv_q=queue(None if socket.partial else socket.recv_q),
            send_q=queue(None if socket.partial else socket.send_q),
            local_address=f"{cell(protocol) if protocol else socket.protocol}:",
            local_port=self._port(socket.portid),
            peer_address=f"{signed(socket.dst_group)}:" if socket.connected else "*",
            peer_port=str(signed(socket.dst_portid)) if socket.connected else "",
            process=rest,
        )

    def _port(self, portid: int) -> str:
        if portid == -1:
            return "*"
        if self._context.show.numeric:
            return str(portid)
        if portid == 0:
            return "kernel"
        comm = self._context.names.process(portid) if portid > 0 else None
        return str(portid) if comm is None else f"{text(comm)}/{portid}"


class NetlinkLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A netlink socket."""

    ts: Time
    netid: str
    family: str
    state: str
    protocol: int
    protocol_name: str | None = None
    portid: int
    """0 is the kernel."""
    recv_q: RecvQ | None = None
    send_q: SendQ | None = None
    comm: str | None = None
    """Name of the process whose pid the port id is, where there is one."""
    ino: Inode | None = None
    sk: Cookie | None = None
    dst_portid: int | None = None
    dst_group: int | None = None
    groups: int | None = None
    """The first 32 multicast groups as a mask (-e)."""
    skmem: SkMem | None = None


class NetlinkLines(LineMaker):
    """Line maker for netlink rows."""

    types = (NetlinkLine,)

    def line(self, row: NetlinkSocket) -> NetlinkLine:
        """The line of a row."""
        show, names = self._context.show, self._context.names
        protocol = names.netlink_protocol(row.protocol)
        comm = names.process(row.portid) if row.portid > 0 else None
        line = NetlinkLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="netlink",
            state=state_text(row.state),
            protocol=row.protocol,
            protocol_name=None if protocol is None else spelled(protocol),
            portid=row.portid,
            recv_q=None if row.partial else row.recv_q,
            send_q=None if row.partial else row.send_q,
            comm=None if comm is None else spelled(comm),
            ino=row.ino or None,
            sk=row.cookie or None,
        )
        if row.connected:
            line.dst_portid, line.dst_group = row.dst_portid, row.dst_group
        if show.extended:
            line.groups = row.groups
        if show.memory:
            line.skmem = skmem(row.skmem)
        return line
