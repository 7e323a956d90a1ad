"""``sstrace``: one line per event until Ctrl-C, the time is over, or so many lines are out.

Signals: SIGINT and SIGTERM end it after a whole line, with status 0; SIGHUP begins --output anew, or ends it where
there is none; SIGUSR1 says on stderr how it is going.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from sstrace.changes import Change, Told
from sstrace.live.announce import Announcer
from sstrace.live.signals import Asked, touch
from sstrace.live.tracer import Tracer
from sstrace.output.printer import Printer
from sstrace.output.recorder import Recorder, clock_offset, describe
from sstrace.output.sink import colors
from sstrace.query import options, spoken
from sstrace.query.command import Command
from sstrace.sources.names import SystemNames
from sstrace.sources.notify import Notify

if TYPE_CHECKING:  # only who asks for metrics pays for them
    from sstrace.output.metrics import Metrics

__all__ = ["run"]

_SILENCE_NS = 2_000_000_000
_TICK_S = 0.05
"""The rings are looked at this often when they do not fill: what a person takes for at once."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Trace; the exit code. A summary goes to stderr at the end."""
    stopped = Asked(files=command.own.output is not None)
    names = SystemNames(env)
    command = options.resolve(command, names)
    tracer = Tracer(env, names, poll_ns=command.own.poll_ns, fall_back=True)
    for limit in tracer.limits:
        print(f"sstrace: {limit}", file=sys.stderr)
    recorder: Recorder | None = None
    trace: Printer | None = None
    metrics: Metrics | None = None
    try:
        trace = Printer(command, names, clock_offset(), stopped)
        if command.own.metrics is not None:
            from sstrace.output import metrics as measuring

            metrics = measuring.Metrics(*command.own.metrics, tracer)
            sinks = trace.sinks
            metrics.sinks = lambda: sinks
        attend = _Attendance(stopped, tracer, trace, metrics)
        for sink in trace.sinks:
            sink.idle = attend
        tracer.start()
        now, offset = time.monotonic_ns(), clock_offset()
        trace.move(offset)
        meta = describe(tracer.netns.inode, names, now, offset)
        if command.own.record is not None:
            recorder = Recorder(
                command.own.record,
                tracer,
                rotate=command.own.rotate_bytes,
                rotate_ns=command.own.rotate_ns,
                keep=command.own.keep,
            )
            recorder.begin(meta, offset)
            attend.recorder = recorder
        trace.begin(meta, tracer.rows(), now)
        if command.own.ready_file is not None:
            touch(command.own.ready_file)
        notify = Notify(env)
        notify.ready(f"tracing {len(tracer.table)} sockets")
        silence = _Silence(command, trace, now)
        tell = _through(trace, tracer, recorder, metrics, now)
        end = time.monotonic_ns() + command.own.duration_ns if command.own.duration_ns is not None else None
        while not stopped.now and not trace.full and not trace.unread:
            left = _TICK_S
            if end is not None:
                left = min(left, (end - time.monotonic_ns()) / 1e9)
                if left <= 0:
                    break
            trace.take(tell(tracer.poll(left)))
            if metrics is not None and metrics.wanted:
                trace.take(tell(tracer.settle()))
            trace.flush()
            attend()
            silence()
            notify.alive()
        notify.stopping()
        if not trace.full:
            trace.take(tell(tracer.settle()))
            trace.flush()
        trace.close()
    except BrokenPipeError:
        # The reader has gone (head, less): a quiet end. stdout must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        tracer.close()
        if metrics is not None:
            metrics.close()
        if recorder is not None:
            recorder.close()
    _summary(tracer, recorder, trace)
    return 0


class _Silence:
    """On a terminal where nothing has been shown for two seconds, one grey line: titles alone look like a fault."""

    def __init__(self, command: Command, trace: Printer, now_ns: int) -> None:
        self._command = command
        self._trace = trace
        seen = command.own.output is None and not command.own.sink and not command.own.json
        self._due_ns = now_ns + _SILENCE_NS if seen and os.isatty(1) and os.isatty(2) else None

    def __call__(self) -> None:
        if self._due_ns is None or time.monotonic_ns() < self._due_ns:
            return
        self._due_ns = None
        if self._trace.silent:
            grey, plain = ("\x1b[2m", "\x1b[0m") if colors(self._command.own, screen=True) else ("", "")
            what, table = spoken.followed(self._command), spoken.table_beside(self._command)
            os.write(2, f"{grey}sstrace: following {what}; what there is now: {table}{plain}\n".encode("latin-1"))


class _Attendance:
    """Does between two batches what signals, and scrapers of metrics, have asked for."""

    def __init__(self, asked: Asked, tracer: Tracer, trace: Printer, metrics: "Metrics | None") -> None:
        self._asked = asked
        self._tracer = tracer
        self._trace = trace
        self._metrics = metrics
        self.recorder: Recorder | None = None

    def __call__(self) -> None:
        asked = self._asked
        if self.recorder is not None:
            self.recorder.tick()
        if self._metrics is not None:
            self._metrics.tick()
        if asked.reopen:
            asked.reopen = False
            now = time.monotonic_ns()
            self._trace.reopen(describe(self._tracer.netns.inode, self._tracer.names, now, clock_offset()))
        if asked.statistics:
            asked.statistics = False
            tracer = self._tracer
            _say(
                f"{tracer.account()}, {tracer.sweeps} sweeps, {len(tracer.table)} sockets; "
                + "; ".join(sink.statistics() for sink in self._trace.sinks)
            )


def _through(
    trace: Printer, tracer: Tracer, recorder: Recorder | None, metrics: "Metrics | None", now_ns: int
) -> Callable[[Iterable[Change]], Iterable[Change | Told]]:
    """What changes go through on their way to the printer."""
    through: Callable[[Iterable[Change]], Iterable[Change | Told]] = iter
    if recorder is not None:
        through = recorder.through
    elif trace.json:
        announcer = Announcer(tracer.table)
        announcer.begin(now_ns)
        through = announcer.through
    if metrics is None:
        return through
    counted = metrics.through
    return lambda changes: through(counted(changes))


def _summary(tracer: Tracer, recorder: Recorder | None, trace: Printer | None) -> None:
    text = tracer.account()
    if tracer.resyncs:
        text += f", {tracer.resyncs} resyncs"
    if tracer.repaired:
        text += f", {tracer.repaired} rows repaired that no event told of"
    if recorder is not None:
        text += f"; {recorder.summary()}"
    _say("; ".join([text, *(trace.summary() if trace is not None else ())]))


def _say(sentence: str) -> None:
    with suppress(OSError):
        os.write(2, f"sstrace: {sentence}\n".encode(errors="surrogateescape"))
