"""Rows of the vsock tables → cells. Addresses are context ids; nothing is resolved."""

from sstrace.model import AF_VSOCK, VsockSocket
from sstrace.protocols import NETID_OF_TYPE, UNNAMED
from sstrace.render.common import Context, queue

__all__ = ["VsockCells"]

_ANY = 0xFFFFFFFF


def _number(value: int) -> str:
    return "*" if value == _ANY else str(value)


class VsockCells:
    """Cell maker for vsock rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: VsockSocket) -> tuple[str, ...]:
        """The ten cells of a row."""
        show = self._context.show
        return (
            NETID_OF_TYPE.get((AF_VSOCK, socket.type), UNNAMED),
            self._context.states[socket.state],
            queue(socket.recv_q),
            queue(socket.send_q),
            _number(socket.src_cid) + ":",
            _number(socket.sport),
            _number(socket.dst_cid) + ":",
            _number(socket.dport),
            self._context.users(socket.ino) if show.processes or show.threads or show.contexts else "",
            "",
        )
