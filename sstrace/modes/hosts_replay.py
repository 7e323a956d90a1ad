"""``--replay DIR``: the recordings of several hosts again, told together in the order of time.

Each host's lines are told as a replay of its own recording tells them, and stay in its order; among hosts a line stands
where its host's clock puts it. Where the lines are for programs, or a column asks for it, they say who has the other
end of a connection to another host: the recordings of hosts that are not asked for are read for that, too.
"""

import heapq
import time
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial, reduce
from operator import or_

from sstrace.errors import DecodeError, SstraceError
from sstrace.fleet.choice import asked
from sstrace.lines import CheckpointLine, MetaLine, SeenLine, StateLine
from sstrace.live.signals import Stopped, touch
from sstrace.modes.replay import Replay, finish
from sstrace.output.handshakes import Handshakes
from sstrace.output.printer import Printer
from sstrace.protocols import IPPROTO_TCP
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.recording.clocks import Clocks, told
from sstrace.recording.crossing import Crossing
from sstrace.recording.fleet import Fleet, Moved, Series
from sstrace.recording.hosts import Hosts
from sstrace.recording.reader import STATE_NUMBER, Clock, Reader, RecordedNames, tables_of
from sstrace.render.views import FarPeer, PeerView, RowView
from sstrace.sources.openfiles import make_room
from sstrace.sources.standard import say
from sstrace.table import Row
from sstrace.wire.recording import Run

__all__ = ["run"]

_NAP_S = 0.05
_FDS_ELSE = 100
_LATE_NS = 1_000_000_000
"""No line stands so much later than its time."""
_SHAKING = ("SYN-SENT", "SYN-RECV", "ESTAB")
_LINGER_NS = 60_000_000_000
"""An end that has gone is remembered for so long: the other one's lines may come later, and its clock be behind."""

_Item = tuple[int, int, MetaLine | Run]
"""When, ns since 1970 UTC; of which stream; what."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Replay; the exit code. Raises DecodeError when nothing can be used."""
    return asked(command, env, lambda fleet: _run(command, env, fleet))


def _run(command: Command, env: Mapping[str, str], fleet: Fleet) -> int:
    own = command.own
    names = RecordedNames(env)
    names.places.choose(own.netns)
    stopped = Stopped()
    window = fleet.window(own.between, utc=own.utc) if own.between is not None else None
    shown = fleet.within(window, fleet.series)
    series = fleet.within(window, fleet.everybody) if own.joins else shown
    parts = [part for one in series for part in one.parts]
    fleet.limit(parts)
    asked = {one.host for one in shown}
    streams = [_Stream(fleet, one, names, index, shown=one.host in asked) for index, one in enumerate(series)]
    held = reduce(or_, (tables_of(one.head) for one in shown), 0)
    command = options.resolve(options.of_recordings(command, held), names)
    fleet.follow(parts, window, command, names)
    hosts = _Hosts(streams, names, many=len(fleet.hosts) > 1)
    printer = Printer(command, names, 0, stopped=stopped, where=hosts)
    for stream in streams:
        stream.join(command, printer, stopped, hosts, window)
    if own.ready_file is not None:
        touch(own.ready_file)
    make_room(len(streams) + _FDS_ELSE)
    telling = _Telling(printer, hosts, stopped, own.speed or 0.0, joins=own.joins)
    left = telling.tell(streams, window[1] + _LATE_NS if window is not None else None)
    finish(printer, stopped)
    for stream in streams:
        stream.finish()
    skews = telling.clocks.skews()
    if skews:
        say(told(skews, "lines stand"))
    if not left:
        names.finish(command.selection.filter)
    return SstraceError.exit_code if printer.failed else 0


class _Stream:
    """One recording of one host."""

    def __init__(self, fleet: Fleet, series: Series, names: RecordedNames, index: int, *, shown: bool) -> None:
        self._fleet = fleet
        self.series = series
        self.index = index
        self.shown = shown
        self.names = names.of_another_host()
        self.names.learn(series.head)
        self.handshakes: Handshakes | None = None
        self.replay: Replay
        self.clock = Clock()
        self.joined: dict[int, Row] = {}
        """What the others can find of it, by id."""
        self.failures: list[str] = []
        self.stale = False
        """Whether its table is another one since the latest line."""

    def join(
        self, command: Command, printer: Printer, stopped: Stopped, hosts: "_Hosts", window: tuple[int, int] | None
    ) -> None:
        """From here on it is told by ``printer``."""
        self.handshakes = Handshakes() if command.own.life else None
        net = partial(hosts.number, self)
        self.replay = Replay(command, self.names, printer, stopped, alone=False, net=net)
        self.replay.window = window

    def items(self, block: int) -> Iterator[_Item]:
        """Its lines, one by one, first lines in between; so many bytes are read at once."""
        clock = self.clock
        for part in self.series.parts:
            try:
                source = self._fleet.opened(part)
            except Moved as moved:
                self.failures.append(str(moved))
                continue
            with source:
                source.block = block
                reader = Reader(source)
                for item in reader.runs():
                    if isinstance(item, MetaLine):
                        clock.offset_ns = None
                        clock.learn(item)
                        yield item.mono_ns + (clock.offset_ns or 0), self.index, item
                        continue
                    for line in item.lines:
                        if clock.offset_ns is None or isinstance(line, CheckpointLine):
                            clock.learn(line)
                        yield line.mono_ns + (clock.offset_ns or 0), self.index, Run([line])
                try:
                    reader.finish(aloud=self.shown)
                except DecodeError as error:
                    self.failures.append(str(error))

    def finish(self) -> None:
        """Say what of it could not be used."""
        for sentence in self.failures:
            say(sentence)


class _Hosts(Hosts["_Stream"]):
    """The same, and who has the other ends."""

    def __init__(self, streams: list[_Stream], names: RecordedNames, *, many: bool) -> None:
        super().__init__(names, many=many)
        self._streams = streams
        self._crossing: Crossing[Row] = Crossing()
        self._gone: deque[tuple[int, int, Row]] = deque()

    def peer(self, row: RowView) -> PeerView | None:
        """As in Where."""
        near = super().peer(row)
        if near is not None:
            return near
        found = self._crossing.other(self.whose(row.net).series.host, row) if _crosses(row) else None
        if found is None:
            return None
        host, there = found
        return FarPeer(host, there.netns, there.owners)

    def follow(self, stream: _Stream, number: int, now_ns: int) -> None:
        """A line has been told of a row."""
        self._let_go(stream, number, now_ns)
        row = stream.replay.rows.get(number)
        if row is not None and _crosses(row):
            stream.joined[number] = row
            self._crossing.add(stream.series.host, id(row), row, row)
        while self._gone and self._gone[0][0] < now_ns - _LINGER_NS:
            _, index, row = self._gone.popleft()
            self._crossing.drop(self._streams[index].series.host, id(row), row)

    def renew(self, stream: _Stream, now_ns: int) -> None:
        """The table of a host is another one."""
        for number in stream.joined.keys() - stream.replay.rows.keys():
            self._let_go(stream, number, now_ns)

    def _let_go(self, stream: _Stream, number: int, now_ns: int) -> None:
        before = stream.joined.pop(number, None)
        after = stream.replay.rows.get(number)
        if before is None or before is after:
            return
        if after is not None and (before.src, before.sport, before.dst, before.dport) == (
            after.src, after.sport, after.dst, after.dport,
        ):  # fmt: skip
            self._crossing.drop(stream.series.host, id(before), before)
        else:
            self._gone.append((now_ns, stream.index, before))


def _crosses(row: RowView) -> bool:
    """Whether its ends are those of a connection: what a datagram socket is connected to need not know of it."""
    return row.protocol == IPPROTO_TCP


class _Telling:
    def __init__(self, printer: Printer, hosts: _Hosts, stopped: Stopped, speed: float, *, joins: bool) -> None:
        self._printer = printer
        self._hosts = hosts
        self._stopped = stopped
        self._speed = speed
        self._joins = joins
        self.clocks = Clocks()
        """As the connections tell them."""
        self._began: tuple[int, int] | None = None

    def tell(self, streams: list[_Stream], until_ns: int | None) -> bool:
        """All of it, or up to a time; whether it was left before its end."""
        printer, stopped = self._printer, self._stopped
        block = max(1 << 15, min(1 << 20, (1 << 26) // max(1, len(streams))))
        current: _Stream | None = None
        for at_ns, index, item in heapq.merge(*(stream.items(block) for stream in streams), key=_when):
            if stopped.now or printer.full or (until_ns is not None and at_ns > until_ns):
                return True
            stream = streams[index]
            if stream is not current:
                current = stream
                head = stream.series.head
                printer.enter_host(stream.series.host, head, stream.clock.offset_ns or 0, stream.handshakes)
            self._wait(at_ns)
            if isinstance(item, MetaLine):
                self._hosts.begin(stream)
            if stream.shown:
                stream.replay.take(item)
            else:
                stream.replay.fold(item)
            self._compare(stream, item, at_ns)
            if self._joins:
                self._join(stream, item, at_ns)
        return False

    def _compare(self, stream: _Stream, item: MetaLine | Run, at_ns: int) -> None:
        line = item.lines[0] if isinstance(item, Run) else None
        if isinstance(line, StateLine) and not line.approximate and line.state in _SHAKING:
            row = stream.replay.rows.get(line.id)
            if row is not None:
                self.clocks.hear(stream.series.host, row, STATE_NUMBER[line.old], row.state, at_ns)

    def _join(self, stream: _Stream, item: MetaLine | Run, at_ns: int) -> None:
        if isinstance(item, MetaLine):
            self._hosts.renew(stream, at_ns)
            return
        line = item.lines[0]
        number = getattr(line, "id", None)
        if stream.stale and not isinstance(line, SeenLine):
            self._hosts.renew(stream, at_ns)
            stream.stale = False
        if isinstance(line, CheckpointLine):
            stream.stale = line.unwritten is not None
        elif number is not None:
            self._hosts.follow(stream, number, at_ns)

    def _wait(self, at_ns: int) -> None:
        """Until it is this line's turn."""
        if not self._speed:
            return
        now = time.monotonic_ns()
        if self._began is None:
            self._began = now, at_ns
        due = self._began[0] + round((at_ns - self._began[1]) / self._speed)
        if due <= now:
            return
        self._printer.flush()
        while not self._stopped.now and (left := due - time.monotonic_ns()) > 0:
            time.sleep(min(left / 1e9, _NAP_S))


def _when(item: _Item) -> tuple[int, int]:
    return item[0], item[1]
