"""Rows of the netlink table → cells. The address is the netlink protocol, the port the port id, usually a process.

ss never leaves the Process column on these rows: their extras stand there, and vanish with it where it is hidden (6.8
and later without -p).
"""

from sstrace.model import NetlinkSocket
from sstrace.protocols import OF_TABLE
from sstrace.render.common import Context, cell, memory, queue, signed, text

__all__ = ["NetlinkCells"]


class NetlinkCells:
    """Cell maker for netlink rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: NetlinkSocket) -> tuple[str, ...]:
        """The ten cells of a row."""
        context, show = self._context, self._context.show
        protocol = None if show.numeric else context.names.netlink_protocol(socket.protocol)
        rest = ""
        if show.contexts:
            rest += f" proc_ctx={cell(context.names.process_context(socket.portid) or 'unavailable')}"
        if show.extended:
            rest += f" sk={socket.sk:x} cb={socket.cb:x} groups=0x{socket.groups:08x}"
        if show.memory and socket.skmem is not None:
            rest += "\t" + memory(socket.skmem)
        return (
            OF_TABLE[socket.table].netid,
            "UNCONN",
            queue(socket.recv_q),
            queue(socket.send_q),
            f"{cell(protocol) if protocol else socket.protocol}:",
            self._port(socket.portid),
            f"{signed(socket.dst_group)}:" if socket.connected else "*",
            str(signed(socket.dst_portid)) if socket.connected else "",
            rest,
            "",
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
