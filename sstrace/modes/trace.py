"""``sstrace``: one line per event until Ctrl-C, the time is over, or so many lines are out.

Signals: SIGINT and SIGTERM end it after a whole line, with status 0; SIGHUP begins --output anew, or ends it where
there is none; SIGUSR1 says on stderr how it is going.
"""

import os
import time
from collections.abc import Mapping

from sstrace.live.signals import Asked
from sstrace.live.tracer import Tracer
from sstrace.modes.following import Following
from sstrace.namespaces.others import hint
from sstrace.output.printer import Printer
from sstrace.output.recorder import begin
from sstrace.output.sink import colors
from sstrace.plain import counted, printable
from sstrace.query import options, spoken
from sstrace.query.command import Command, Own, followed_tables
from sstrace.sources.clock import clock_offset
from sstrace.sources.names import SystemNames
from sstrace.sources.standard import is_quiet, remark, say, tell

__all__ = ["run"]

_SILENCE_NS = 2_000_000_000


def run(command: Command, env: Mapping[str, str]) -> int:
    """Trace; the exit code. A summary goes to stderr at the end."""
    stopped = Asked(files=command.own.output is not None)
    names = SystemNames(env)
    command = options.resolve(command, names)
    tracer = Tracer(
        env,
        names,
        poll_ns=command.own.poll_ns,
        fall_back=True,
        netns=command.own.netns,
        incidents=[event for event in command.own.events if event != "state"],
        tables=followed_tables(command.selection),
        lives=_tells_lives_alone(command.own),
    )
    with Following(command, env, tracer, stopped) as following:
        trace = Printer(command, names, clock_offset(), stopped, tracer.places.where)
        try:
            _follow(command, env, following, trace, _Attendance(stopped, following, trace))
        except BrokenPipeError:
            # The reader has gone (head, less): a quiet end. stdout must not be flushed into the closed pipe at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _summary(following, trace)
    if trace.silent and not _on_terminal(command):
        sentence = hint(command, env)
        if sentence:
            remark(sentence)
    return following.code(failed=trace.failed)


def _tells_lives_alone(own: Own) -> bool:
    """Whether all that is told of connections is told as they end: nothing is counted or recorded besides."""
    return own.life and own.metrics is None and own.record is None and not own.engines


def _follow(
    command: Command, env: Mapping[str, str], following: Following, trace: Printer, attend: "_Attendance"
) -> None:
    tracer = following.tracer
    following.reach()
    following.measure()
    if following.metrics is not None:
        following.metrics.sinks = lambda: [*trace.sinks, *following.fleet]
    for sink in trace.sinks:
        sink.idle = attend
    tracer.start()
    meta, offset = begin(tracer)
    trace.move(offset)
    if command.own.time not in ("delta", "relative"):  # what has passed is no matter of the wall clock
        following.moved = trace.move
    following.record(began=(meta, offset))
    trace.begin(meta, tracer.rows(), meta.mono_ns, tracer.places.here(meta.mono_ns))
    if trace.json:
        following.announce(meta.mono_ns)
    following.ready(f"tracing {counted(len(tracer.table), 'socket')}")
    if _on_terminal(command):
        _whisper(command, hint(command, env))
    silence = _Silence(command, trace, meta.mono_ns)
    for seconds in following.turns():
        if trace.full or trace.unread:
            break
        trace.take(following.poll(seconds))
        if following.wanted:
            trace.take(following.settle())
        trace.flush()
        attend()
        silence()
    if not trace.full:
        trace.take(following.settle())
        trace.take(following.heal())
        trace.flush()
    trace.close()


def _on_terminal(command: Command) -> bool:
    """Whether there is somebody who sees text, and what is said beside it."""
    own = command.own
    return own.output is None and not own.sink and not own.engines and not own.json and os.isatty(1) and os.isatty(2)


def _whisper(command: Command, sentence: str) -> None:
    """Say something in grey."""
    if sentence and not is_quiet():
        tell(f"sstrace: {printable(sentence)}\n".encode(), grey=colors(command.own, screen=True))


class _Silence:
    """On a terminal where nothing has been shown for two seconds, one grey line: titles alone look like a fault."""

    def __init__(self, command: Command, trace: Printer, now_ns: int) -> None:
        self._command = command
        self._trace = trace
        self._due_ns = now_ns + _SILENCE_NS if _on_terminal(command) else None

    def __call__(self) -> None:
        if self._due_ns is None or time.monotonic_ns() < self._due_ns:
            return
        self._due_ns = None
        if self._trace.silent:
            what, table = spoken.told(self._command), spoken.table_beside(self._command)
            _whisper(self._command, f"following {what}; the table: {table}")


class _Attendance:
    """Does between two batches what signals, and scrapers of metrics, have asked for."""

    def __init__(self, asked: Asked, following: Following, trace: Printer) -> None:
        self._asked = asked
        self._following = following
        self._trace = trace

    def __call__(self) -> None:
        asked, tracer = self._asked, self._following.tracer
        self._following.tick()
        if asked.reopen:
            asked.reopen = False
            self._trace.reopen(begin(tracer)[0])
        if asked.statistics:
            asked.statistics = False
            ways = [sink.statistics() for sink in self._trace.sinks]
            ways += [recorder.statistics() for recorder in self._following.fleet]
            counts = f"{counted(tracer.sweeps, 'sweep')}, {counted(len(tracer.table), 'socket')}"
            say(f"{tracer.account()}, {counts}; {'; '.join(ways)}")


def _summary(following: Following, trace: Printer) -> None:
    tracer = following.tracer
    text = tracer.account()
    if tracer.resyncs:
        text += f", {counted(tracer.resyncs, 'resync')}"
    if tracer.repaired:
        text += f", {counted(tracer.repaired, 'row')} repaired that no event told of"
    remark("; ".join([text + following.recorded, *trace.summary()]))
