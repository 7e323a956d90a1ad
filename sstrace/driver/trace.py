"""``sstrace``: one line per event until Ctrl-C, the time is over, or so many lines are out."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Mapping

from sstrace.driver.printer import Printer
from sstrace.driver.record import Recorder, clock_offset, describe
from sstrace.driver.stop import Stopped, touch
from sstrace.driver.telling import Telling, Told
from sstrace.driver.tracer import Change, Tracer
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.sources.names import SystemNames

__all__ = ["run"]

_TICK_S = 0.05
"""The rings are looked at this often when they do not fill: what a person takes for at once."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Trace; the exit code. A summary goes to stderr at the end."""
    stopped = Stopped()
    names = SystemNames(env)
    command = options.resolve(command, names)
    tracer = Tracer(env, poll_ns=command.own.poll_ns)
    for limit in tracer.limits:
        print(f"sstrace: {limit}", file=sys.stderr)
    recorder: Recorder | None = None
    try:
        tracer.start()
        now, offset = time.monotonic_ns(), clock_offset()
        meta = describe(tracer.netns, names, now, offset)
        trace = Printer(command, names, offset, tracer.refresh_owners)
        if command.own.record is not None:
            recorder = Recorder(
                command.own.record, tracer, names, rotate=command.own.rotate_bytes, keep=command.own.keep
            )
            recorder.begin(meta, offset)
        if command.own.ready_file is not None:
            touch(command.own.ready_file)
        trace.begin(meta, tracer.table, now)
        tell = _telling(command, tracer, recorder, now)
        end = time.monotonic_ns() + command.own.duration_ns if command.own.duration_ns is not None else None
        reader = select.poll()
        reader.register(1, 0)  # only what is always reported: POLLERR once a pipe has no reader
        while not stopped.now and not trace.full and not reader.poll(0):
            left = _TICK_S
            if end is not None:
                left = min(left, (end - time.monotonic_ns()) / 1e9)
                if left <= 0:
                    break
            trace.take(tell(tracer.poll(left)))
            trace.flush()
        if not trace.full:
            trace.take(tell(tracer.settle()))
            trace.flush()
    except BrokenPipeError:
        # The reader has gone (head, less): a quiet end. stdout must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    finally:
        tracer.close()
        if recorder is not None:
            recorder.close()
    _summary(tracer, recorder)
    return 0


def _telling(
    command: Command, tracer: Tracer, recorder: Recorder | None, now_ns: int
) -> Callable[[Iterable[Change]], Iterable[Change | Told]]:
    """What changes go through on their way to the printer."""
    if recorder is not None:
        return recorder.through
    if not command.own.json:
        return iter
    telling = Telling(tracer.table)
    telling.begin(now_ns)
    return telling.through


def _summary(tracer: Tracer, recorder: Recorder | None) -> None:
    text = f"sstrace: {tracer.events} events, {tracer.lost} lost, {tracer.late} late"
    if tracer.sweeps > 1:
        text += f", {tracer.sweeps - 1} resyncs"
    if recorder is not None:
        text += f"; {recorder.summary()}"
    try:
        print(text, file=sys.stderr)
    except OSError:
        return
