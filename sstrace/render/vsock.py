"""Rows of the vsock tables → cells and lines. Addresses are context ids; nothing is resolved."""

from sstrace.model import AF_VSOCK, VsockSocket
from sstrace.protocols import NETID_OF_TYPE, UNNAMED
from sstrace.render.columns import Row
from sstrace.render.common import Context, queue
from sstrace.render.line_parts import Cookie, Inode, LineMaker, OwnerItem, Time, state_text
from sstrace.render.places import Place

__all__ = ["VsockCells", "VsockLine", "VsockLines"]

_ANY = 0xFFFFFFFF


def _number(value: int) -> str:
    return "*" if value == _ANY else str(value)


class VsockCells:
    """Cell maker for vsock rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: VsockSocket) -> Row:
        """The cells of a row."""
        show = self._context.show
        return Row(
            netid=NETID_OF_TYPE.get((AF_VSOCK, socket.type), UNNAMED),
            state=self._context.states[socket.state],
            recv_q=queue(None if socket.partial else socket.recv_q),
            send_q=queue(None if socket.partial else socket.send_q),
            local_address=_number(socket.src_cid) + ":",
            local_port=_number(socket.sport),
            peer_address=_number(socket.dst_cid) + ":",
            peer_port=_number(socket.dport),
            process=self._context.users(socket.ino) if show.processes or show.threads or show.contexts else "",
        )


class VsockLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A vsock socket; 4294967295 is any context id or port."""

    ts: Time
    netid: str
    family: str
    state: str
    src_cid: int
    sport: int
    dst_cid: int
    dport: int
    ino: Inode | None = None
    sk: Cookie | None = None
    owners: list[OwnerItem] | None = None


class VsockLines(LineMaker):
    """Line maker for vsock rows."""

    types = (VsockLine,)

    def line(self, row: VsockSocket) -> VsockLine:
        """The line of a row."""
        return VsockLine(
            ts=self._ts,
            netid=NETID_OF_TYPE.get((AF_VSOCK, row.type), UNNAMED),
            family="vsock",
            state=state_text(row.state),
            src_cid=row.src_cid,
            sport=row.sport,
            dst_cid=row.dst_cid,
            dport=row.dport,
            ino=row.ino or None,
            sk=row.cookie or None,
            owners=self._owners(row.ino),
        )
