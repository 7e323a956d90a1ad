"""From changes to lines on stdout: what a trace and a replay share, so that both print the same."""

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from sstrace.driver.telling import Told
from sstrace.model import Extras, InetSocket, Lost, Names, Table
from sstrace.query.command import Command, Selection, selects_transition
from sstrace.query.match import predicate
from sstrace.render.events import EventWriter, MetaLine
from sstrace.render.trace import HEADER, TraceText
from sstrace.table import Resync, Row, Transition

if TYPE_CHECKING:  # a replay needs no BPF
    from sstrace.driver.tracer import Change

__all__ = ["Printer", "cgroup_text", "socket_of"]


class Printer:
    """Selects and writes. ``command`` must have been resolved; ``offset_ns``: CLOCK_REALTIME minus CLOCK_MONOTONIC;
    ``refresh`` is called for each row about to be shown, to bring its owners up to date.
    """

    def __init__(
        self,
        command: Command,
        names: Names,
        offset_ns: int,
        refresh: Callable[[Row, int], None] | None = None,
    ) -> None:
        self._selection: Selection = command.selection
        self._refresh = refresh
        self.json = command.own.json
        self._most = command.own.count
        self._shown = 0
        self._out = bytearray()
        self._text: list[str] = []
        self._header = command.show.header
        self.writer = EventWriter(offset_ns, cgroup_text(names), names.ifname)
        self._lines = TraceText(offset_ns)
        self._held_ns: int | None = None
        expression = command.selection.filter
        self._matches = predicate(expression, names, lambda _: self._held_ns) if expression is not None else None

    @property
    def full(self) -> bool:
        """Whether --count lines are out."""
        return self._most is not None and self._shown >= self._most

    def move(self, offset_ns: int) -> None:
        """The clocks stand otherwise to each other from here on."""
        self.writer.offset_ns = offset_ns
        self._lines.offset_ns = offset_ns

    def begin(self, meta: MetaLine | None, rows: Iterable[Row] = (), at_ns: int = 0) -> None:
        """The first lines: what this is, and in NDJSON the baseline."""
        if self.json:
            if meta is not None:
                self.writer.meta(meta, self._out)
            for row in rows:
                self.seen(row, at_ns)
        elif self._header:
            self._text.append(HEADER)
            self._header = False
        self.flush()

    def take(self, changes: "Iterable[Change | Told]") -> None:
        """Turn changes into lines, up to --count of them; all are taken, so that the table stays whole."""
        for change in changes:
            if type(change) is Transition:
                self.state(change)
            elif type(change) is Told:
                (self.seen if change.alive else self.gone)(change.row, change.at_ns)
            elif type(change) is Lost:
                self.gap(change.cpu, change.count, change.after_ns, change.before_ns)
            elif type(change) is Resync:
                self.resync(change.at_ns, (len(change.added), len(change.removed), len(change.changed)))
                for row in change.removed:
                    self.gone(row, change.at_ns)
                for row in (*change.added, *(row for row, _ in change.changed)):
                    self.seen(row, change.at_ns)

    def state(self, change: Transition) -> None:
        """A transition, if it is selected."""
        if self.full or not self._selects(change):
            return
        self._shown += 1
        if self._refresh is not None:
            self._refresh(change.row, change.at_ns)
        if self.json:
            self.writer.state(change, self._out)
        else:
            self._text.append(self._lines.state(change))
        if len(self._out) > 1 << 20 or len(self._text) > 8192:
            self.flush()

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int) -> None:
        """A loss."""
        if self.json:
            self.writer.gap(cpu, count, after_ns, before_ns, self._out)
        else:
            self._text.append(self._lines.gap(cpu, count, after_ns, before_ns))

    def dropped(self, at_ns: int, count: int, reason: str) -> None:
        """Of a recording: lines that were not written."""
        if self.json:
            self.writer.dropped(at_ns, count, reason, self._out)
        else:
            self._text.append(self._lines.hole(at_ns, count))

    def resync(self, at_ns: int, counts: tuple[int, int, int]) -> None:
        """A repair: added, removed, changed; its rows follow, ``gone`` and ``seen``."""
        if self.json:
            self.writer.resync(at_ns, counts, self._out)
        else:
            self._text.append(self._lines.resync(at_ns, counts))

    def seen(self, row: Row, at_ns: int) -> None:
        """A row of the baseline or of a repair, if it is selected: a line of NDJSON."""
        if self.json and self._selects_row(row):
            self.writer.seen(row, at_ns, self._out)

    def gone(self, row: Row, at_ns: int) -> None:
        """A row whose end was lost, if it is selected: a line of NDJSON."""
        if self.json and self._selects_row(row):
            self.writer.gone(row.id, row.state, at_ns, self._out)

    def ended(self, row_id: int, state: int, at_ns: int) -> None:
        """The same where nothing is selected away, so that the row need not be known."""
        if self.json:
            self.writer.gone(row_id, state, at_ns, self._out)

    def hole(self, rows: Iterable[Row], at_ns: int, unwritten: int) -> None:
        """Of a recording: lines that could not be written, and the table behind them."""
        if self.json:
            self.writer.checkpoint([row for row in rows if self._selects_row(row)], at_ns, unwritten, self._out)
        else:
            self._text.append(self._lines.hole(at_ns, unwritten))

    def whole(self, lines: bytes) -> None:
        """Lines that are written already."""
        self._out += lines
        if len(self._out) > 1 << 20:
            self.flush()

    def _selects(self, change: Transition) -> bool:
        row, selection = change.row, self._selection
        self._held_ns = change.held_ns
        return (
            bool(selection.families >> row.family & 1)
            and row.protocol == 6
            and selects_transition(selection, change.old, change.new)
            and (self._matches is None or self._matches(socket_of(row)))
        )

    def _selects_row(self, row: Row) -> bool:
        selection = self._selection
        self._held_ns = None
        return (
            bool(selection.families >> row.family & 1)
            and row.protocol == 6
            and (self._matches is None or self._matches(socket_of(row)))
        )

    def flush(self) -> None:
        """Write whole lines. Raises BrokenPipeError when nobody reads any more."""
        if self._text:
            self._out += ("\n".join(self._text) + "\n").encode(errors="backslashreplace")
            self._text.clear()
        view = memoryview(self._out)
        done = 0
        while done < len(view):
            done += os.write(1, view[done:])
        view.release()
        self._out.clear()


def socket_of(row: Row) -> InetSocket:
    """A row as filters want it."""
    return InetSocket(
        table=Table.TCP,
        family=row.family,
        state=row.state,
        ino=row.ino,
        cookie=row.cookie or 0,
        src=row.src,
        sport=row.sport,
        dst=row.dst,
        dport=row.dport,
        uid=row.uid,
        ifindex=row.ifindex,
        extras=_extras(row.cgroup, row.v6only),
    )


@lru_cache(4096)
def _extras(cgroup: int | None, v6only: bool | None) -> Extras | None:
    return None if cgroup is None and v6only is None else Extras(cgroup_id=cgroup, v6only=v6only)


def cgroup_text(names: Names) -> Callable[[int], str | None]:
    """Cgroup id → path, None if unknown."""

    def path(cgroup_id: int) -> str | None:
        found = names.cgroup_path(cgroup_id)
        return None if found is None else found.decode(errors="replace")

    return path
