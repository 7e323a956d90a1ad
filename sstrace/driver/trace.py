"""``sstrace``: one line per event until Ctrl-C, the time is over, or so many lines are out."""

import os
import platform
import select
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from sstrace import __version__
from sstrace.driver.stop import Stopped, touch
from sstrace.driver.tracer import Change, Tracer
from sstrace.model import InetSocket, Lost, Table
from sstrace.query import options
from sstrace.query.command import Command, Selection, selects_transition
from sstrace.query.match import predicate
from sstrace.render.events import SCHEMA, EventWriter, MetaLine, timestamp
from sstrace.render.trace import HEADER, TraceText
from sstrace.sources.names import SystemNames
from sstrace.table import Resync, Row, Transition

__all__ = ["run"]

_TICK_S = 0.05
"""The rings are looked at this often when they do not fill: what a person takes for at once."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Trace; the exit code. A summary goes to stderr at the end."""
    stopped = Stopped()
    names = SystemNames(env)
    command = options.resolve(command, names)
    tracer = Tracer(env)
    try:
        tracer.start()
        trace = _Trace(command, names, tracer)
        if command.own.ready_file is not None:
            touch(command.own.ready_file)
        trace.begin()
        end = time.monotonic_ns() + command.own.duration_ns if command.own.duration_ns is not None else None
        reader = select.poll()
        reader.register(1, 0)  # only what is always reported: POLLERR once a pipe has no reader
        while not stopped.now and not trace.full and not reader.poll(0):
            left = _TICK_S
            if end is not None:
                left = min(left, (end - time.monotonic_ns()) / 1e9)
                if left <= 0:
                    break
            trace.take(tracer.poll(left))
            trace.flush()
        if not trace.full:
            trace.take(tracer.settle())
            trace.flush()
    except BrokenPipeError:
        # The reader has gone (head, less): a quiet end. stdout must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        tracer.close()
    _summary(tracer)
    return 0


class _Trace:
    """From changes to lines on stdout."""

    def __init__(self, command: Command, names: SystemNames, tracer: Tracer) -> None:
        self._selection: Selection = command.selection
        self._tracer = tracer
        self._json = command.own.json
        self._most = command.own.count
        self._shown = 0
        self._out = bytearray()
        self._text: list[str] = []
        self._header = command.show.header
        offset = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._writer = EventWriter(offset, _cgroup_text(names))
        self._lines = TraceText(offset)
        self._matches = predicate(command.selection.filter, names) if command.selection.filter is not None else None
        self._offset = offset

    @property
    def full(self) -> bool:
        """Whether --count lines are out."""
        return self._most is not None and self._shown >= self._most

    def begin(self) -> None:
        """The first lines: what this is, and in NDJSON the baseline."""
        if self._json:
            now = time.monotonic_ns()
            self._writer.meta(_meta(self._tracer, now, self._offset), self._out)
            for row in self._tracer.table:
                if self._selects_row(row):
                    self._writer.seen(row, now, self._out)
        elif self._header:
            self._text.append(HEADER)
        self.flush()

    def take(self, changes: Iterable[Change]) -> None:
        """Turn changes into lines, up to --count of them; all are taken, so that the table stays whole."""
        for change in changes:
            if type(change) is Transition:
                if self.full or not self._selects(change):
                    continue
                self._shown += 1
                self._tracer.refresh_owners(change.row, change.at_ns)
                if self._json:
                    self._writer.state(change, self._out)
                else:
                    self._text.append(self._lines.state(change))
            elif type(change) is Lost:
                if self._json:
                    self._writer.gap(change.cpu, change.count, change.after_ns, change.before_ns, self._out)
                else:
                    self._text.append(self._lines.gap(change.cpu, change.count, change.after_ns, change.before_ns))
            elif type(change) is Resync:
                self._resync(change)
            if len(self._out) > 1 << 20 or len(self._text) > 8192:
                self.flush()

    def _resync(self, repair: Resync) -> None:
        counts = len(repair.added), len(repair.removed), len(repair.changed)
        if self._json:
            seen = [row for row in (*repair.added, *(row for row, _ in repair.changed)) if self._selects_row(row)]
            gone = [row for row in repair.removed if self._selects_row(row)]
            self._writer.resync(repair.at_ns, seen, gone, counts, self._out)
        else:
            self._text.append(self._lines.resync(repair.at_ns, counts))

    def _selects(self, change: Transition) -> bool:
        row, selection = change.row, self._selection
        return (
            bool(selection.families >> row.family & 1)
            and row.protocol == 6
            and selects_transition(selection, change.old, change.new)
            and (self._matches is None or self._matches(_socket_of(row)))
        )

    def _selects_row(self, row: Row) -> bool:
        selection = self._selection
        return (
            bool(selection.families >> row.family & 1)
            and row.protocol == 6
            and (self._matches is None or self._matches(_socket_of(row)))
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


def _socket_of(row: Row) -> InetSocket:
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
    )


def _cgroup_text(names: SystemNames) -> Callable[[int], str | None]:
    def path(cgroup_id: int) -> str | None:
        found = names.cgroup_path(cgroup_id)
        return None if found is None else found.decode(errors="replace")

    return path


def _meta(tracer: Tracer, now_ns: int, offset_ns: int) -> MetaLine:
    return MetaLine(
        schema=SCHEMA,
        version=__version__,
        ts=timestamp(now_ns + offset_ns),
        mono_ns=now_ns,
        host=platform.node(),
        kernel=platform.release(),
        boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        netns=tracer.netns,
    )


def _summary(tracer: Tracer) -> None:
    text = f"sstrace: {tracer.events} events, {tracer.lost} lost, {tracer.late} late"
    if tracer.sweeps > 1:
        text += f", {tracer.sweeps - 1} resyncs"
    try:
        print(text, file=sys.stderr)
    except OSError:
        return
