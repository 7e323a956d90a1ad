"""Rows of the tipc table → cells and lines. The address is the node, the port the socket's reference on it."""

from sstrace.model import AF_TIPC, SOCK_DGRAM, SOCK_RDM, SOCK_SEQPACKET, SOCK_STREAM, TipcSocket
from sstrace.protocols import NETID_OF_TYPE, UNNAMED
from sstrace.render.columns import Row
from sstrace.render.common import Context, queue, signed
from sstrace.render.line_parts import Cookie, Inode, LineMaker, OwnerItem, RecvQ, SendQ, Time, state_text
from sstrace.render.places import Place

__all__ = ["TipcCells", "TipcLine", "TipcLines"]

_TYPE = {SOCK_STREAM: "STREAM", SOCK_DGRAM: "DGRAM", SOCK_RDM: "RDM", SOCK_SEQPACKET: "SEQPACKET"}


class TipcCells:
    """Cell maker for tipc rows. Here, and only here, the details stand before the users, in their column."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: TipcSocket) -> Row:
        """The cells of a row."""
        context, show = self._context, self._context.show
        users = ""
        if show.extended:
            users += f" uid:{socket.uid}" if socket.uid else ""
            users += f" ino:{socket.ino} sk:{socket.cookie:x}"
        if show.processes or show.threads or show.contexts:
            users += context.users(socket.ino)
        rest = self._internals(socket) if show.tipcinfo else ""
        if context.one_column:
            users, rest = users + rest, ""
        connected = socket.peer_node is not None
        return Row(
            netid=NETID_OF_TYPE.get((AF_TIPC, socket.type), UNNAMED),
            state=context.states[socket.state],
            recv_q=queue(socket.recv_q),
            send_q=queue(socket.send_q),
            local_address=f"{socket.node}:",
            local_port=str(socket.ref),
            peer_address=f"{socket.peer_node}:" if connected else "-",
            peer_port=str(socket.peer_ref) if connected else "",
            process=users,
            extra=rest,
        )

    def _internals(self, socket: TipcSocket) -> str:
        out = "" if self._context.show.oneline else "\n"
        out += f" type:{_TYPE.get(socket.type, '')}"
        congested = "link" if socket.congestion & 1 else "conn" if socket.congestion & 2 else "none"
        out += f" cong:{congested}  drop:{signed(socket.drops)} "
        if socket.published:
            out += " publ"
        if socket.via is not None:
            out += f" via {{{socket.via[0]},{socket.via[1]}}} "
        return out


class TipcLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A TIPC socket."""

    ts: Time
    netid: str
    family: str
    state: str
    node: int
    ref: int
    peer_node: int | None = None
    peer_ref: int | None = None
    recv_q: RecvQ
    send_q: SendQ
    uid: int
    ino: Inode | None = None
    sk: Cookie | None = None
    owners: list[OwnerItem] | None = None
    drops: int | None = None
    """With --tipcinfo, as are the next two."""
    congested: list[str] | None = None
    published: bool | None = None


_CONGESTED = ("link", "conn")


class TipcLines(LineMaker):
    """Line maker for tipc rows."""

    types = (TipcLine,)

    def line(self, row: TipcSocket) -> TipcLine:
        """The line of a row."""
        line = TipcLine(
            ts=self._ts,
            netid=NETID_OF_TYPE.get((AF_TIPC, row.type), UNNAMED),
            family="tipc",
            state=state_text(row.state),
            node=row.node,
            ref=row.ref,
            peer_node=row.peer_node,
            peer_ref=row.peer_ref,
            recv_q=row.recv_q,
            send_q=row.send_q,
            uid=row.uid,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
        if self._context.show.tipcinfo:
            line.drops, line.published = row.drops, row.published
            line.congested = [word for bit, word in enumerate(_CONGESTED) if row.congestion >> bit & 1]
        return line
