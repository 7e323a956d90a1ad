"""Rows of the three unix tables → cells and lines. The "port" of a unix socket is its inode, and its peer's name is
never shown.
"""

from sstrace.model import UnixSocket
from sstrace.plain import spelled
from sstrace.protocols import OF_TABLE
from sstrace.render.columns import Row
from sstrace.render.common import Context, memory, queue, signed, text
from sstrace.render.line_parts import (
    Cookie,
    Inode,
    LineMaker,
    OwnerItem,
    RecvQ,
    SendQ,
    SkMem,
    Time,
    shut,
    skmem,
    state_text,
)
from sstrace.render.places import Place

__all__ = ["UnixCells", "UnixLine", "UnixLines", "major_minor"]


def major_minor(device: int) -> tuple[int, int]:
    """Device number → (major, minor) as ss reads it: with the C library's macros, which expect another encoding than
    the kernel's 12:20 that comes here. Devices without a major number, such as tmpfs, come out right either way.
    """
    return device >> 8 & 0xFFF, (device & 0xFF) | (device >> 12 & 0xFFF00)


class UnixCells:
    """Cell maker for unix rows."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def cells(self, socket: UnixSocket) -> Row:
        """The cells of a row."""
        context, show = self._context, self._context.show
        # The names of abstract sockets begin with NUL; all their NULs show as @.
        name = text(socket.name).replace("\0", "@") if socket.name else "*"
        peer = text(socket.peer_name) if socket.peer_name else "*"
        inode, peer_inode = socket.ino, socket.peer_ino
        if not context.dialect.unsigned_inode:
            inode, peer_inode = signed(inode), signed(peer_inode)
        users = context.users(socket.ino) if show.processes or show.threads or show.contexts else ""
        rest = ""
        if show.memory and socket.skmem is not None:
            rest += memory(socket.skmem)
        if show.extended:
            if socket.shutdown is not None:
                rest += f" {'-' if socket.shutdown & 1 else '<'}-{'-' if socket.shutdown & 2 else '>'}"
            if socket.vfs is not None:
                node, device = socket.vfs
                major, minor = major_minor(device)
                rest += f" ino:{node} dev:{major}/{minor}"
            if socket.pending is not None:
                rest += " peers:" + "".join([f" {pending}" for pending in socket.pending])
        if context.one_column:
            users, rest = users + rest, ""
        return Row(
            netid=OF_TABLE[socket.table].netid,
            state=context.states[socket.state],
            recv_q=queue(None if socket.partial else socket.recv_q),
            send_q=queue(None if socket.partial else socket.send_q),
            local_address=name + " ",
            local_port=str(inode),
            peer_address=peer + " ",
            peer_port=str(peer_inode),
            process=users,
            extra=rest,
        )


class UnixLine(Place, tag="seen", tag_field="type", omit_defaults=True, kw_only=True):
    """A unix socket."""

    ts: Time
    netid: str
    family: str
    state: str
    src: str | None = None
    """Its name, absent when it has none; the NULs of an abstract name show as @."""
    recv_q: RecvQ | None = None
    send_q: SendQ | None = None
    ino: Inode | None = None
    sk: Cookie | None = None
    peer_ino: int | None = None
    uid: int | None = None
    owners: list[OwnerItem] | None = None
    shutdown: list[str] | None = None
    vfs_ino: int | None = None
    vfs_dev: str | None = None
    """major:minor of the filesystem."""
    pending: list[int] | None = None
    """Inodes of connections that wait for accept (-e)."""
    skmem: SkMem | None = None


class UnixLines(LineMaker):
    """Line maker for unix rows."""

    types = (UnixLine,)

    def line(self, row: UnixSocket) -> UnixLine:
        """The line of a row."""
        show = self._context.show
        line = UnixLine(
            ts=self._ts,
            netid=OF_TABLE[row.table].netid,
            family="unix",
            state=state_text(row.state),
            src=spelled(row.name.replace(b"\0", b"@")) if row.name else None,
            recv_q=None if row.partial else row.recv_q,
            send_q=None if row.partial else row.send_q,
            ino=row.ino or None,
            sk=row.cookie or None,
            peer_ino=row.peer_ino or None,
            uid=row.uid,
            owners=self._owners(row.ino),
        )
        if show.memory:
            line.skmem = skmem(row.skmem)
        if show.extended:
            line.shutdown = shut(row.shutdown)
            if row.vfs is not None:
                line.vfs_ino, line.vfs_dev = row.vfs[0], "{}:{}".format(*major_minor(row.vfs[1]))
            if row.pending is not None:
                line.pending = list(row.pending)
        return line
