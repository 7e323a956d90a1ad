"""``--watch --from live``: the full screen over the table that a serving sstrace keeps, which tells it of every change
(server.followers). The pages and their keys are those of a table of this process's own (``app``).

Rows, states, owners and causes are the server's. What changes without events (queues, timers, tcp_info) is asked of the
kernel here, in the network namespace that this process is in, and as root in those of the other rows.

When the server goes away, what it told last stays on the screen, which says so, and it is asked again each second. One
that comes then has a table of its own, so everything is told anew.
"""

import select
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from sstrace.changes import Change
from sstrace.errors import FeatureError, SstraceError
from sstrace.lines import CheckpointLine, GapLine, GoneLine, MetaLine, NetnsLine, SeenLine, StateLine
from sstrace.live.kernel import Kernel, UnreachableError
from sstrace.live.places import Place, Places
from sstrace.live.signals import Stopped, touch
from sstrace.live.ways import Ways
from sstrace.model import Namespace, Table
from sstrace.namespaces.finder import Finder
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
from sstrace.sources.diag import Netlink
from sstrace.sources.netns import current_netns
from sstrace.sources.privilege import holds
from sstrace.sources.tail import Tail
from sstrace.table import Row
from sstrace.watch.app import Watch, glyphs_of, interval_of
from sstrace.watch.hub import Hub
from sstrace.watch.terminal import Terminal
from sstrace.watch.told import Rows, birth, row_told, transition
from sstrace.wire.recording import Fact, LineReader

__all__ = ["Served", "run"]

_RETRY_NS: Final = 1_000_000_000
_DUTY: Final = 50
"""A look for network namespaces that took t is not repeated before 50 t have passed."""
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
    with Served(path, names, own.netns, stopped, own.duration_ns, env=env) as served:
        served.begin(command.selection.tables & FOLLOWED)
        names.places.finish("there", names.places.words_met())
        command = options.resolve(command, names)
        hub = _ServedHub(command, names, served, glyphs_of(terminal), interval_of(command))
        watch = _ServedWatch(command, env, served, hub, terminal)
        watch.say(served.places.blank(served.table))
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
    """Those of a server, asked here, where they are of this machine: the one that this process is in, and those that it
    may enter.
    """

    def __init__(self, names: LineNames, env: Mapping[str, str]) -> None:
        super().__init__()
        self._told = names.places
        self.shows_several = False
        self._env = env
        self._own = current_netns()
        self._near = False
        """Whether the server is on this machine."""
        self._finder: Finder | None = None
        self._next_ns = 0
        self._ways = Ways()

    def arrive(self, meta: MetaLine) -> None:
        """A server has told where it is."""
        self._near = meta.boot_id == _boot_id() or (not meta.boot_id and meta.netns == self._own.inode)
        self._places.clear()

    @property
    def where(self) -> Where | None:  # type: ignore[override]  # as told, which says as much of them to writers
        """See Places."""
        return self._told if self.shows_several else None

    def apart(self, rows: Iterable[Row]) -> list[tuple[Place, list[Row]]]:
        """See Places."""
        if not self._near:
            return []
        rows = list(rows)
        unknown = {row.net: row.netns for row in rows if row.net not in self._places}
        for net, inode in unknown.items():
            if inode == self._own.inode:
                self._places[net] = Place(self._own, Kernel(lambda: None))
            elif _may_enter() and time.monotonic_ns() >= self._next_ns:
                self._find()
        return super().apart(rows)

    def _find(self) -> None:
        """See which there are by now, and how they are entered."""
        spent = time.thread_time_ns()
        self._finder = self._finder or Finder(self._env)
        for net, namespace in self._finder.learn().items():
            if namespace.net != self._own:
                kernel = Kernel(lambda: None, partial(self._diag, namespace), sparse=True)
                self._places[net] = Place(namespace.net, kernel)
        self._next_ns = time.monotonic_ns() + max(_RETRY_NS, _DUTY * (time.thread_time_ns() - spent))

    def _diag(self, namespace: Namespace) -> Netlink:
        try:
            return self._ways.diag(namespace)
        except SstraceError as error:
            raise UnreachableError(str(error)) from None

    def blank(self, rows: Iterable[Row]) -> str:
        """Why nobody says here what changes of some of these rows without events; empty where somebody does."""
        if not self._near:
            return "what changes without events (queues, timers, tcp_info) is told on the server's machine alone"
        if not _may_enter() and any(row.netns != self._own.inode for row in rows):
            return "queues, timers and tcp_info of other network namespaces take root: they are -"
        return ""

    def close(self) -> None:
        """See Places."""
        if self._finder is not None:
            self._finder.close()


class Served:
    """A server's table as it is told. Closed by leaving it. Of what a hub and the loop ask a tracer, and who follows
    one, it has table, places, events and turns.
    """

    polls = False
    wanted = False

    def __init__(
        self,
        path: str,
        names: LineNames,
        netns: Collection[str],
        stopped: Stopped,
        duration_ns: int | None = None,
        *,
        env: Mapping[str, str] = MappingProxyType({}),
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
        self.places = _Places(names, env)
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
        self.places.close()

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


def _may_enter() -> bool:
    """Whether this process may enter other network namespaces (setns(2))."""
    return holds(("CAP_SYS_ADMIN",))
