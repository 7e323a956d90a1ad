"""Rows of the xdp table → cells. The address is the interface, the port its queue; there is no peer."""

from sstrace.model import XdpSocket
from sstrace.protocols import OF_TABLE
from sstrace.render.common import Context, memory, queue, signed

__all__ = ["XdpCells"]

_ZERO_COPY = 1
"""XDP_DU_F_ZEROCOPY, include/uapi/linux/xdp_diag.h."""


class XdpCells:
    """Cell maker for xdp rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: XdpSocket) -> tuple[str, ...]:
        """The ten cells of a row."""
        context, show = self._context, self._context.show
        users = context.users(socket.ino) if show.processes or show.threads or show.contexts else ""
        rest = ""
        if show.extended:
            rest += self._details(socket)
        if show.memory and socket.skmem is not None:
            rest += memory(socket.skmem)
        if context.one_column:
            users, rest = users + rest, ""
        number = socket.queue_id if context.dialect.unsigned_ports else signed(socket.queue_id)
        return (
            OF_TABLE[socket.table].netid,
            "UNCONN",
            queue(socket.recv_q),
            queue(socket.send_q),
            f"{context.interface(socket.ifindex)}:" if socket.ifindex else "*",
            f"q{number}" if socket.ifindex else "",
            "*",
            "",
            users,
            rest,
        )

    def _details(self, socket: XdpSocket) -> str:
        gap = " " if self._context.show.oneline else "\n\t"
        out = f" uid:{socket.uid}" if socket.uid else ""
        out += f" ino:{socket.ino} sk:{socket.cookie:x}"
        if socket.rx_entries is not None:
            out += f"{gap}rx(entries:{socket.rx_entries})"
        if socket.tx_entries is not None:
            out += f"{gap}tx(entries:{socket.tx_entries})"
        if socket.umem is not None:
            size, number, pages, chunk, headroom, ifindex, queue_id, flags, refs = socket.umem
            # The stray t is ss's.
            out += f"{' t' if self._context.show.oneline else gap}umem(id:{number},size:{size},num_pages:{pages}"
            out += f",chunk_size:{chunk},headroom:{headroom},ifindex:{ifindex},qid:{queue_id}"
            out += f",zc:{int(bool(flags & _ZERO_COPY))},refs:{refs})"
            if socket.fill_entries is not None:
                out += f"{gap}fr(entries:{socket.fill_entries})"
            if socket.completion_entries is not None:
                out += f"{gap}cr(entries:{socket.completion_entries})"
        if socket.stats is not None:
            rx_dropped, rx_invalid, rx_full, fill_empty, tx_invalid, tx_empty = socket.stats
            out += f"{gap}stats(rx dropped:{rx_dropped},rx invalid:{rx_invalid},rx queue full:{rx_full}"
            out += f",rx fill ring empty:{fill_empty},tx invalid:{tx_invalid},tx ring empty:{tx_empty})"
        return out
