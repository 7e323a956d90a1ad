"""The rows of the screen → the texts of their lines: what the table says, and what the kernel says of them now."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from sstrace.coordinates import socket_at, spelling
from sstrace.decoders import decoders
from sstrace.errors import KernelError
from sstrace.live.places import Places
from sstrace.live.source import look_at
from sstrace.model import STATE_TEXT, InetSocket, Owners, Socket, Table, UnixSocket
from sstrace.plain import plain, printable
from sstrace.protocols import INET, NETID_OF_NUMBER, OF_TABLE, SWEPT, TABLE_OF_NUMBER, UNNAMED
from sstrace.query.command import Command, selects_several
from sstrace.render import watch as render
from sstrace.render.common import Context, users
from sstrace.render.inet import InetCells
from sstrace.render.makers import outside
from sstrace.render.times import span_text
from sstrace.render.views import Where
from sstrace.rows import learn, socket_of
from sstrace.sources.names import SystemNames
from sstrace.table import Row
from sstrace.watch.view import Entry
from sstrace.wire import inet_diag

__all__ = ["RowLines", "learn_inodes"]

_MOST = 1000
"""Network namespaces whose cell makers are remembered."""


class RowLines:
    """Makes lines as a command line wants them, and as it is changed meanwhile. ``where``: of which network namespace
    (or host) they are, where there may be several.
    """

    def __init__(self, command: Command, names: SystemNames, glyphs: render.Glyphs, where: Where | None = None) -> None:
        self._dialect = command.dialect
        self._names = names
        self._glyphs = glyphs
        self._where = where
        self.netids = selects_several(command.selection)
        """Whether lines say of which protocol they are."""
        self.many = where is not None and where.many
        """Whether there may be several network namespaces, or hosts, and lines say of which they are."""
        self.place = where.title if where is not None else "Netns"
        """Title of the column that says so."""
        # Every option counts of one line: the block of -i and -m stands behind the rest, not below.
        self.show = msgspec.structs.replace(
            command.show,
            oneline=True,
            processes=command.show.processes or command.show.threads or bool(command.show.contexts),
            threads=False,
            contexts=0,
        )
        self._retext()

    def toggle_processes(self) -> None:
        """Show who holds the sockets, or no longer."""
        self.show = msgspec.structs.replace(self.show, processes=not self.show.processes)
        self._retext()

    def toggle_numeric(self) -> None:
        """Show numbers for names, or names again."""
        self.show = msgspec.structs.replace(self.show, numeric=not self.show.numeric)
        self._retext()

    def _retext(self) -> None:
        """Make the cell makers anew: what they show has changed."""
        self._makers: dict[tuple[int, Table], tuple[SystemNames, Context, Any]] = {}
        """By network namespace and table: its names, and what makes cells by them."""
        self._owners: Owners = {}

    def _cells(self, row: Row, table: Table) -> Any:
        names = self._names.of(row.net)
        known = self._makers.get((row.net, table))
        if known is None or known[0] is not names:
            if len(self._makers) > _MOST:
                self._makers.clear()
            context = Context(self.show, self._dialect, names, decoders)
            known = self._makers[row.net, table] = names, context, _maker(context, table)
        known[1].owners = self._owners
        return known[2]

    def called(self, row: Row) -> bytes:
        """What its network namespace is called."""
        return self._place(row).encode()

    def _place(self, row: Row) -> str:
        return plain(self._where.label(row.net).text(row.netns)) if self._where is not None else ""

    def ask(
        self, places: Places, rows: Iterable[Row], *, figures: bool = False, heed: Callable[[], object] = lambda: None
    ) -> dict[int, Socket]:
        """What the kernel says now of these rows, by their ids; those that it no longer has in this state are left
        out. ``figures``: with tcp_info, whether or not the lines show it. ``heed``: see Hub.
        """
        show = self.show
        ext = inet_diag.extensions(memory=show.memory, info=show.info or figures, tos=show.tos)
        try:
            return look_at(places, rows, ext, heed)
        except KernelError:
            return {}  # out of memory, for a moment: the columns say that they do not know

    def make(self, entries: Sequence[Entry], sockets: Mapping[int, Socket], now_ns: int) -> list[render.Line]:
        """The lines of these entries; ``sockets``: what ``ask`` has said of them."""
        rows = [entry.row for entry in entries if entry.mark != "-"]
        self._owners = {row.ino: row.owners for row in rows if row.ino and row.owners}
        return [self._line(entry, sockets, now_ns) for entry in entries]

    def _line(self, entry: Entry, sockets: Mapping[int, Socket], now_ns: int) -> render.Line:
        row, closed = entry.row, entry.mark == "-"
        found = None if closed else sockets.get(row.id)
        table = TABLE_OF_NUMBER[row.protocol]
        known = found
        if known is None:
            known = socket_at(row) if row.protocol in SWEPT else socket_of(row, table=table, state=entry.state)
        if isinstance(known, UnixSocket):
            known.peer_name = spelling(row.dst)  # which the kernel does not show
        cells = self._cells(row, table).cells(known)
        if closed:
            held = "" if entry.held_ns is None else span_text(entry.held_ns)
            rest = ""
        else:
            held = ("" if row.exact else self._glyphs.at_least) + span_text(now_ns - row.since_ns)
            # The newlines and tabs of the last are its own; those of the processes somebody has chosen.
            last = cells[9].replace("\n", " ").replace("\t", " ").strip()
            rest = printable(f"{cells[8].strip()} {last}".strip())
        if row.owners and self.show.processes and (closed or not row.ino):
            # ss has no word for these: who held it last, and (~) whose listener it came to and waits at.
            who = users(row.owners, self.show, escaped=self._dialect.comm_escaped).strip()
            rest = printable(f"{'~' * (row.owner_source == 'listener')}{who} {rest}".rstrip())
        return render.Line(
            mark=entry.mark,
            state=STATE_TEXT[entry.state],
            held=held,
            recv_q=cells[2].rstrip() if found is not None else "-",
            send_q=cells[3].rstrip() if found is not None else "-",
            local=printable(cells[4]),
            local_port=printable(cells[5]),
            peer=printable(cells[6]),
            peer_port=printable(cells[7]),
            rest=rest,
            cause=(entry.cause or "") if closed else "",
            netns=self._place(row) if self.many else "",
            netid=NETID_OF_NUMBER.get(row.protocol, UNNAMED) if self.netids else "",
        )


def _maker(context: Context, table: Table) -> Any:
    """What makes the cells of a table."""
    family = OF_TABLE[table].family
    if family is not INET:
        return outside(family.name, context)
    cells = InetCells(context)
    cells.begin(table)
    return cells


def learn_inodes(rows: Iterable[Row], sockets: Mapping[int, Socket]) -> None:
    """A connection's last event may come before accept(2) gives it an inode and a user; whoever asks the kernel learns
    them.
    """
    for row in rows:
        if not row.ino:
            found = sockets.get(row.id)
            if isinstance(found, InetSocket):
                learn(row, found)
