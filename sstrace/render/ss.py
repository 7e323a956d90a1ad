"""ss's own lines: sockets of every table in, bytes of one output table out.

``Text`` ties the cell makers of the tables to one ``Layout``. The caller feeds sockets in ss's order of tables, each
table opened by ``begin``, and calls ``flush`` at the end (and after each event of -E).
"""

from collections.abc import Callable, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sstrace.model import InetSocket, Socket, Table
from sstrace.plain import plain
from sstrace.protocols import DIAG_PROTOCOL, INET, OF_TABLE
from sstrace.render.columns import EXTRA, HOST, NETID, NETNS, PROCESS, RECV_Q, SEND_Q, STATE
from sstrace.render.common import Context, cell
from sstrace.render.layout import Column, Layout, Same
from sstrace.render.makers import outside

if TYPE_CHECKING:
    from sstrace.model import Label

__all__ = ["Text"]

_PLAIN = frozenset(DIAG_PROTOCOL) - {Table.RAW, Table.SCTP}
"""Tables whose Netid and State say nothing that hangs on attributes or on the row before."""


class Text:
    """One table of text, as ss prints it, through ``write``; ``screen`` is the screen's width or ``None``. ``front``:
    columns before all others, of HOST and NETNS, say where a row is.
    """

    def __init__(
        self, context: Context, write: Callable[[bytes], object], *, screen: int | None, front: Sequence[int] = ()
    ) -> None:
        show, dialect = context.show, context.dialect
        hidden = [
            index
            for index, visible in (
                (NETID, show.netid),
                (STATE, show.state),
                (RECV_Q, show.queues),
                (SEND_Q, show.queues),
            )
            if not visible
        ]
        if dialect.process_column_only_with_p and not show.processes:
            hidden.append(PROCESS)
        self._context = context
        self.layout = Layout(
            write,
            hidden=hidden,
            screen=screen,
            header=show.header,
            extra=dialect.process_column_only_with_p,
            trim=dialect.trim_last_column,
            front=front,
        )
        self._front = dict.fromkeys(front, "-")
        self._keys_aside = show.info and not dialect.md5_in_row
        self._pick = itemgetter(*self.layout.columns)
        self._end = EXTRA
        self._makers: dict[str, Any] = {}
        self._cells: Callable[[Any], tuple[str, ...]] = lambda _: ()
        self._inet: Any = None
        self._table = Table.TCP

    def enter(self, inode: int, label: "Label", context: Context | None = None) -> None:
        """The rows that follow are of this network namespace; ss would begin anew. ``context``: theirs, where it is
        another.
        """
        self._stand(NETNS, label.text(inode))
        self._makers.clear()
        self._context = context or self._context
        self._context.enter()

    def enter_host(self, host: str, context: Context) -> None:
        """The rows that follow are of this host, with its own names and owners."""
        self._stand(NETNS, "-")
        self._stand(HOST, host)
        self._makers.clear()
        self._context = context

    def _stand(self, column: int, place: str) -> None:
        if column in self._front:
            self._front[column] = cell(plain(place))
            self.layout.enter(self._front.values())

    def begin(self, table: Table) -> None:
        """The rows that follow are of this table (those of another family than inet's count as one)."""
        context = self._context
        self._inet = None
        self._table = table
        family = OF_TABLE[table].family
        if family is INET:
            from sstrace.render.inet import InetCells

            maker = self._makers.setdefault("inet", None) or InetCells(context)
            self._makers["inet"] = self._inet = maker
            maker.begin(table)
        else:
            maker = outside(family.name, context)
        self._cells = maker.cells
        self._end = PROCESS if context.one_column or table is Table.NETLINK else EXTRA

    def feed(self, sockets: Sequence[Socket]) -> None:
        """Rows of the table that was begun, in the order in which they are to stand."""
        cells, pick = self._cells, self._pick
        if self._keys_aside and any(_has_keys(socket) for socket in sockets):
            # Making the cells of such a row writes; what ss has printed by then must be out.
            for socket in sockets:
                self.layout.begin_row()
                self.layout.feed([pick(cells(socket))], self._end)
            return
        self.layout.feed([pick(cells(socket)) for socket in sockets], self._end)

    def raw(self) -> bool:
        """Whether the rows of the begun table may come as ``feed_raw`` takes them."""
        return self._inet is not None and self._table in _PLAIN and self._inet.raw()

    def feed_raw(self, fields: Sequence[Sequence[Any]]) -> None:
        """Plain inet rows by column, as ``InetCells.columns`` takes them: three times as fast as ``feed``."""
        layout = self.layout
        layout.feed_columns(self._inet.columns(self._table, fields, layout.columns), len(fields[0]), self._end)

    def feed_datagram(self, datagram: bytes | memoryview, families: int) -> bool:
        """What may come by ``feed_raw``, as netlink sends it; only these families are shown. False: it cannot be taken
        so.
        """
        layout = self.layout
        found = self._inet.read(self._table, datagram, layout.columns)
        if found is None:
            return False
        family, cells, count = found
        if families >> family & 1:
            layout.feed_columns(cells, count, self._end)
        return True

    def grouped(self) -> bool:
        """Whether the rows of the begun table may come as ``feed_groups`` takes them."""
        return self._inet is not None and self._table is Table.TCP and self._inet.grouped()

    def feed_groups(self, groups: Sequence[Any], order: Sequence[int] | None) -> bool:
        """Rows with details by column: see ``wire.inet_groups.decode``. Whether they were taken; if not, they must come
        one by one.
        """
        layout = self.layout
        if not groups:
            return True
        parts = [self._inet.group(self._table, group, layout.columns) for group in groups]
        if None in parts:
            return False
        cells = parts[0]
        counts = [len(group.states) for group in groups]
        if order is not None:
            arrange = itemgetter(*order)
            cells = [_joined(pieces, counts, arrange) for pieces in zip(*parts, strict=True)]
        layout.feed_columns(cells, sum(counts), self._end)
        return True

    def flush(self) -> None:
        """Write what is held back."""
        self.layout.flush()


def _joined(
    pieces: Sequence[Column], counts: Sequence[int], arrange: Callable[[Sequence[str]], Sequence[str]]
) -> Column:
    """One column of the pieces that several groups of rows have of it, in the order of the rows."""
    first = pieces[0]
    if isinstance(first, Same) and all(isinstance(piece, Same) and piece.text == first.text for piece in pieces):
        return first
    whole = [
        (piece.text,) * count if isinstance(piece, Same) else piece for piece, count in zip(pieces, counts, strict=True)
    ]
    return arrange([*chain.from_iterable(whole)])


def _has_keys(socket: Socket) -> bool:
    return isinstance(socket, InetSocket) and socket.extras is not None and socket.extras.md5 is not None
