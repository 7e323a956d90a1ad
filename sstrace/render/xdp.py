"""Rows of the xdp table → cells and lines. The address is the interface, the port its queue; there is no peer."""

from sstrace.model import XdpSocket
from sstrace.protocols import OF_TABLE
from sstrace.render.columns import Row
from sstrace.render.common import Context, memory, queue, signed
from sstrace.render.line_parts import (
    Cookie,
    Inode,
    LineMaker,
    OwnerItem,
    RecvQ,
    SendQ,
    SkMem,
    Time,
    named,
    skmem,
    state_text,
)
from sstrace.render.places import Place

__all__ = ["XdpCells", "XdpLine", "XdpLines"]

_ZERO_COPY = 1
"""XDP_DU_F_ZEROCOPY, include/uapi/linux/xdp_diag.h."""


class XdpCells:
    """Cell maker for xdp rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: XdpSocket) -> Row:
        """The cells of a row."""
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
        return Row(
            netid=OF_TABLE[socket.table].netid,
            state="UNCONN",
            recv_q=queue(None if socket.partial else socket.recv_q),
            send_q=queue(None if socket.partial else socket.send_q),
            local_address=f"{context.interface(socket.ifindex)}:" if socket.ifindex else "*",
            local_port=f"q{number}" if socket.ifindex else "",
            peer_address="*",
            process=users,
            extra=rest,
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


class XdpLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """An AF_XDP socket."""

    ts: Time
    netid: str
    family: str
    state: str
    recv_q: RecvQ | None = None
    send_q: SendQ | None = None
    uid: int
    queue_id: int
    ifindex: int | None = None
    ifname: str | None = None
    ino: Inode | None = None
    sk: Cookie | None = None
    owners: list[OwnerItem] | None = None
    rx_entries: int | None = None
    tx_entries: int | None = None
    fill_entries: int | None = None
    completion_entries: int | None = None
    umem: dict[str, int] | None = None
    stats: dict[str, int] | None = None
    skmem: SkMem | None = None


_UMEM = ("size", "id", "num_pages", "chunk_size", "headroom", "ifindex", "queue_id", "flags", "refs")
_XDP_STATS = ("rx_dropped", "rx_invalid", "rx_full", "fill_ring_empty", "tx_invalid", "tx_ring_empty")


class XdpLines(LineMaker):
    """Line maker for xdp rows."""

    types = (XdpLine,)

    def line(self, row: XdpSocket) -> XdpLine:
        """The line of a row."""
        show = self._context.show
        line = XdpLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="xdp",
            state=state_text(row.state),
            recv_q=None if row.partial else row.recv_q,
            send_q=None if row.partial else row.send_q,
            uid=row.uid,
            queue_id=row.queue_id,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
        line.ifindex, line.ifname = self._interface(row.ifindex)
        if show.extended:
            line.rx_entries, line.tx_entries = row.rx_entries, row.tx_entries
            line.fill_entries, line.completion_entries = row.fill_entries, row.completion_entries
            line.umem, line.stats = named(_UMEM, row.umem), named(_XDP_STATS, row.stats)
        if show.memory:
            line.skmem = skmem(row.skmem)
        return line
