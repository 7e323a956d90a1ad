"""``--watch --from live``: the full screen over the table that a serving sstrace keeps, which tells it of every change
(server.followers). The pages and their keys are those of a table of this process's own (``app``).

Rows, states, owners and causes are the server's. What changes without events (queues, timers, tcp_info) is asked of the
kernel here, of the rows of the network namespace that this process is in, too; of others nobody says it.

When the server goes away, what it told last stays on the screen, which says so, and it is asked again each second. One
that comes then has a table of its own, so everything is told anew.
"""

import select
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from sstrace.changes import Change
from sstrace.errors import FeatureError, SstraceError
from sstrace.lines import CheckpointLine, GapLine, GoneLine, MetaLine, NetnsLine, SeenLine, StateLine
from sstrace.live.kernel import Kernel
from sstrace.live.places import Place, Places
from sstrace.live.signals import Stopped, touch
from sstrace.model import Table
from sstrace.plain import printable
from sstrace.protocols import FOLLOWED
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.query.spoken import letters, named
from sstrace.recording.reader import LineNames, is_over, tables_of
from sstrace.render import watch as render
from sstrace.render.times import span_text
from sstrace.render.views import Where
from sstrace.sources import asking
from sstrace.sources.netns import current_netns
from sstrace.sources.tail import Tail
from sstrace.table import Row
from sstrace.watch.app import Watch, glyphs_of, interval_of
from sstrace.watch.hub import Hub
from sstrace.watch.terminal import Terminal
from sstrace.watch.told import Rows, birth, row_told, transition
from sstrace.wire.recording import Fact, LineReader

__all__ = ["Served", "run"]

_RETRY_NS: Final = 1_000_000_000
_SILENT_NS: Final = 5_000_000_000
"""A server has something to say each second."""
_PATIENCE_S: Final = 60.0
"""How long the beginning is waited for."""
_APART: Final = 1 << 40
"""Between the ids of one server's rows and the next one's."""
_TURN: Final = 1 << 22
"""Bytes that are taken at once: keys must be answered in between."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Watch; the exit code. Raises UsageError where there is no terminal, FeatureError where nobody serves."""
    terminal = Terminal(env)
    source, own = command.own.source, command.own
    path = source.path if source is not None and source.path is not None else asking.DEFAULT_PATH
    stopped = Stopped()
    names = LineNames(env)
    with Served(path, names, own.netns, stopped, own.duration_ns) as served:
        served.begin(command.selection.tables & FOLLOWED)
        names.places.finish("there", names.places.words_met())
        command = options.resolve(command, names)
        hub = _ServedHub(command, names, served, glyphs_of(terminal), interval_of(command))
        watch = _ServedWatch(command, env, served, hub, terminal)
        try:
            terminal.enter()
            watch.draw()
            if own.ready_file is not None:
                touch(own.ready_file)
            watch.loop(served)
        finally:
            terminal.close()
    return 0


class _Places(Places):
    """Those of a server: of them this process's own can be asked here, where it is one."""

    def __init__(self, names: LineNames) -> None:
        super().__init__()
        self._told = names.places
        self.shows_several = False
        self._here: Place | None = None

    def arrive(self, meta: MetaLine) -> None:
        """A server has told where it is."""
        own = current_netns()
        same = own.inode == meta.netns and meta.boot_id in ("", _boot_id())
        self._here = Place(own, Kernel(lambda: None)) if same else None

    @property
    def where(self) -> Where | None:  # type: ignore[override]  # as told, which says as much of them to writers
        """See Places."""
        return self._told if self.shows_several else None

    def apart(self, rows: Iterable[Row]) -> list[tuple[Place, list[Row]]]:
        """See Places."""
        here = self._here
        found = [row for row in rows if here is not None and row.netns == here.netns.inode]
        return [(here, found)] if here is not None and found else []


class Served:
    """A server's table as it is told. Closed by leaving it. Of what a hub and the loop ask a tracer, and who follows
    one, it has table, places, events and turns.
    """

    polls = False
    wanted = False

    def __init__(
        self, path: str, names: LineNames, netns: Collection[str], stopped: Stopped, duration_ns: int | None = None
    ) -> None:
        """``netns``: the words of --netns; none: the server's own network namespace."""
        request = {"argv": ["--watch"], "follow": True}
        self._tail = Tail(path, msgspec.json.encode(request) + b"\n")
        self._names = names
        self._stopped = stopped
        self._duration_ns = duration_ns
        self._all = bool(netns)
        names.places.choose(tuple(netns))
        self.path = path
        self.host = ""
        self.table = Rows()
        self.places = _Places(names)
        self.tables = 0
        """Those that the server follows, a mask."""
        self.events = self.lost = 0
        self.renewed = False
        """Whether all rows are others since somebody last looked: set to False by whoever did."""
        self.trouble = ""
        """Why nothing is told, in a few words; empty while something is."""
        self._reader = LineReader(window=0)
        self._due = 1
        """Lines of the beginning that are still to come."""
        self._base = -_APART
        self._head, self._begun = b"", False
        self._heard_ns = self._retry_ns = 0

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self._tail.close()

    @property
    def tracer(self) -> "Served":
        """What a hub finds table, places and events at."""
        return self

    def own(self, rows: Iterable[Row] | None = None) -> None:
        """See Tracer: who holds what is in the lines."""

    def begin(self, tables: int = 1 << Table.TCP) -> None:
        """Ask, and take the table as it is. Raises what asking raises, and SstraceError where that is refused, or where
        none of these tables, a mask, is followed there.
        """
        self._connect()
        waiting = select.poll()
        waiting.register(self._tail, select.POLLIN)
        end = time.monotonic() + _PATIENCE_S
        while self._due and not self._stopped.now:
            waiting.poll(100)
            for _ in self._take():
                pass
            if not self._tail.connected or time.monotonic() > end:
                raise SstraceError(f"the sstrace that serves at {self.path} broke off before it had told its table")
        if not self.tables & tables:
            whose, option = named(tables), letters(tables)
            raise FeatureError(
                f"the sstrace that serves at {self.path} does not follow {whose}: --serve -{option} does"
            )
        self.renewed = False

    def _connect(self) -> None:
        self._tail.connect()
        self._reader, self._due = LineReader(window=0), 1
        self._head, self._begun = b"", False
        self._heard_ns = time.monotonic_ns()

    # As the loop asks who follows a tracer.

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there is something to take."""
        poll.register(self._tail, select.POLLIN)

    def turns(self, tick_s: float) -> Iterator[float]:
        """See Following."""
        end = time.monotonic_ns() + self._duration_ns if self._duration_ns is not None else None
        while not self._stopped.now:
            left = tick_s if end is None else min(tick_s, (end - time.monotonic_ns()) / 1e9)
            if left <= 0:
                return
            yield left

    def settle(self) -> Iterator[Change]:
        """See Following: nobody else asks."""
        return iter(())

    def poll(self, _seconds: float) -> Iterator[Change]:
        """What has changed; and where nobody tells it, ask again, when it is time."""
        now = time.monotonic_ns()
        try:
            if not self._tail.connected and now >= self._retry_ns:
                self._retry_ns = now + _RETRY_NS
                self._connect()
            yield from self._take()
        except SstraceError as error:
            self._lose(str(error).removeprefix("sstrace: ").partition(": ")[0])
            return
        if not self._tail.connected:
            if not self.trouble:
                self._lose(f"the sstrace that served at {self.path} has gone")
        elif self._due:
            return
        else:
            silent_ns = now - self._heard_ns
            silent = silent_ns > _SILENT_NS
            self.trouble = f"the server has said nothing for {span_text(silent_ns)}" if silent else ""

    def _lose(self, trouble: str) -> None:
        self.trouble = f"{trouble}: it is asked again each second"
        self._retry_ns = time.monotonic_ns() + _RETRY_NS

    # Lines.

    def _take(self) -> Iterator[Change]:
        taken = 0
        while taken < _TURN and (data := self._tail.read()):
            taken += len(data)
            self._heard_ns = time.monotonic_ns()
            if not self._begun:
                self._head += data[:64]
                if asking.is_answer(self._head):
                    raise self._tail.refused(asking.answer_of(self.path, self._head.rstrip(b"\n")))
                self._begun = len(self._head) >= 64
            for item in self._reader.feed(data):
                if isinstance(item, MetaLine):
                    self._arrive(item)
                    continue
                for line in item.lines:
                    self._names.hear(line)
                    yield from self._told(line)

    def _arrive(self, meta: MetaLine) -> None:
        """A server begins to tell."""
        self._names.learn(meta)
        self.tables = tables_of(meta)
        self.host = meta.host
        self.places.arrive(meta)
        self.places.shows_several = self._all and meta.several
        self._base += _APART

    def _told(self, line: Fact) -> Iterator[Change]:
        if isinstance(line, CheckpointLine):
            self.table.rows = {}
            self.table.journal.clear()
            self._due = line.rows + (line.places or 0)
            self.renewed = True
            return
        if self._due and isinstance(line, SeenLine | NetnsLine):
            self._due -= 1
        if isinstance(line, StateLine):
            row = self._row(line)
            if row is None:
                return
            self.events += 1
            change = transition(line, row)
            if is_over(line):
                self.table.rows.pop(row.id, None)
            yield change
        elif isinstance(line, SeenLine):
            row = self._row(line)
            if row is not None:
                self.table.journal[row.id] = row
        elif isinstance(line, GoneLine):
            row = self.table.rows.pop(line.id + self._base, None)
            if row is not None:
                self.table.journal[row.id] = row
        elif isinstance(line, GapLine):
            self.lost += line.count

    def _row(self, line: SeenLine | StateLine) -> Row | None:
        """The row of a line, as it is now; None where nobody asks for it."""
        places = self._names.places
        if not (places.takes(line.netns) if self._all else line.netns == places.home):
            return None
        told = row_told(line, self._names)
        if told is None:
            return None
        told.id += self._base
        row = self.table.rows.get(told.id)
        if row is None:
            self.table.rows[told.id] = told
            if isinstance(line, StateLine):
                told.born_ns = birth(transition(line, told))
            return told
        told.born_ns = row.born_ns
        for name in Row.__struct_fields__:
            setattr(row, name, getattr(told, name))
        return row


class _ServedHub(Hub):
    """A server's table as somebody watches it."""

    def __init__(
        self, command: Command, names: LineNames, served: Served, glyphs: render.Glyphs, interval_ns: int
    ) -> None:
        self._served = served
        # Table, places and events are all that a hub asks a tracer for.
        super().__init__(command, names, served, glyphs, interval_ns)  # type: ignore[arg-type]

    def fold(self, now_ns: int) -> None:
        """See Hub."""
        if self._served.renewed:
            self._served.renewed = False
            self._journal.clear()
            self.view.reset(self._served.table, now_ns)
        super().fold(now_ns)


class _ServedWatch(Watch):
    """The screen, which says whose table it is."""

    def __init__(
        self, command: Command, env: Mapping[str, str], served: Served, hub: _ServedHub, terminal: Terminal
    ) -> None:
        super().__init__(command, env, served, hub, terminal)
        self._served = served

    def _look(self) -> render.Look:
        look, served = super()._look(), self._served
        host = printable(f"{served.host}, served at {served.path}")
        if not served.trouble:
            return msgspec.structs.replace(look, host=host)
        return msgspec.structs.replace(look, host=host, status="NOT TOLD", message=look.message or served.trouble)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
