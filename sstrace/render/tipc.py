"""Rows of the tipc table → cells. The address is the node, the port the socket's reference on it."""

from sstrace.model import AF_TIPC, SOCK_DGRAM, SOCK_RDM, SOCK_SEQPACKET, SOCK_STREAM, TipcSocket
from sstrace.protocols import NETID_OF_TYPE, UNNAMED
from sstrace.render.common import Context, queue, signed

__all__ = ["TipcCells"]

_TYPE = {SOCK_STREAM: "STREAM", SOCK_DGRAM: "DGRAM", SOCK_RDM: "RDM", SOCK_SEQPACKET: "SEQPACKET"}


class TipcCells:
    """Cell maker for tipc rows. Here, and only here, the details stand before the users, in their column."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: TipcSocket) -> tuple[str, ...]:
        """The ten cells of a row."""
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
        return (
            NETID_OF_TYPE.get((AF_TIPC, socket.type), UNNAMED),
            context.states[socket.state],
            queue(socket.recv_q),
            queue(socket.send_q),
            f"{socket.node}:",
            str(socket.ref),
            f"{socket.peer_node}:" if connected else "-",
            str(socket.peer_ref) if connected else "",
            users,
            rest,
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
