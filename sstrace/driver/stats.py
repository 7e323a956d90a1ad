"""``--stats``: a digest of a recording, or of what happens from now to Ctrl-C."""

import os
import time
from collections.abc import Callable, Mapping

from sstrace.driver.recorded import Clock, Reader, RecordedNames, complain, row_of, span, target
from sstrace.driver.replay import files, learn_names
from sstrace.driver.rows import socket_of
from sstrace.driver.stop import Stopped, touch
from sstrace.errors import DecodeError, SstraceError, UsageError
from sstrace.model import AF_INET, STATE_TEXT, Lost, Socket
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.query.match import predicate
from sstrace.render.events import address, timestamp
from sstrace.render.stats import Digest, ndjson, text
from sstrace.sources.names import SystemNames
from sstrace.sources.replay import Recording
from sstrace.table import Transition
from sstrace.wire.recording import Gap, Meta, Run, State

__all__ = ["run"]

_MOST = 10
_TICK_S = 0.05


def run(command: Command, env: Mapping[str, str]) -> int:
    """Digest; the exit code. --count says how many lines a grouping may have."""
    source = command.own.source
    if command.own.replay or (source is not None and source.kind == "file"):
        digest, offset = _of_files(command, env)
    else:
        digest, offset = _of_now(command, env)
    began = timestamp((digest.first_ns or 0) + offset) if digest.transitions else "-"
    ended = timestamp(digest.last_ns + offset) if digest.transitions else "-"
    most = command.own.count or _MOST
    if command.own.json:
        data = ndjson(digest, began, ended, most)
    else:
        data = text(digest, began, ended, most).encode(errors="backslashreplace")
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
    return 0


def _of_now(command: Command, env: Mapping[str, str]) -> tuple[Digest, int]:
    from sstrace.driver.tracer import Tracer

    if command.own.source is not None and command.own.source.path is not None:
        raise UsageError("sstrace: a serving sstrace keeps no history: --stats without --from counts from now on")
    stopped = Stopped()
    names = SystemNames(env)
    command = options.resolve(command, names)
    selection = command.selection
    matches = predicate(selection.filter, names) if selection.filter is not None else None
    digest = Digest()
    offset = time.time_ns() - time.monotonic_ns()
    tracer = Tracer(env, poll_ns=command.own.poll_ns)
    try:
        for limit in tracer.limits:
            complain(limit)
        tracer.start()
        if command.own.ready_file is not None:
            touch(command.own.ready_file)
        end = time.monotonic_ns() + command.own.duration_ns if command.own.duration_ns is not None else None
        while not stopped.now and (end is None or time.monotonic_ns() < end):
            for change in tracer.poll(_TICK_S):
                _live(digest, change, selection.families, matches)
        for change in tracer.settle():
            _live(digest, change, selection.families, matches)
    finally:
        tracer.close()
    return digest, offset


def _live(digest: Digest, change: object, families: int, matches: Callable[[Socket], bool] | None) -> None:
    if type(change) is Lost:
        digest.lost += change.count
    if type(change) is not Transition:
        return
    row = change.row
    if row.protocol != 6 or not families >> row.family & 1 or (matches is not None and not matches(socket_of(row))):
        return
    digest.add(
        change.at_ns,
        row.id,
        old=STATE_TEXT[change.old],
        new=STATE_TEXT[change.new],
        held_ns=change.held_ns,
        peer=address(row.family, row.dst),
        ports=(row.sport, row.dport),
        owner=row.owners[0].comm.decode(errors="replace") if row.owners else "",
        cause=change.cause,
        retransmits=change.retransmits,
    )


def _of_files(command: Command, env: Mapping[str, str]) -> tuple[Digest, int]:
    own = command.own
    names = RecordedNames(env)
    sources = files(command)
    learn_names(sources, names)
    command = options.resolve(command, names)
    digest = Digest()
    offset = 0
    failure: SstraceError | None = None
    usable = False
    for source in sources:
        with source:
            reader = Reader(source)
            counted = _file(command, source, reader, names, digest)
            offset = counted if counted is not None else offset
            try:
                reader.finish()
                usable = True
            except DecodeError as error:
                failure = error
    if failure is not None:
        if not usable:
            raise failure
        complain(str(failure))
    if own.at is not None:
        complain("--at is for --snapshot; --between A B tells --stats what time to digest")
    return digest, offset


def _file(command: Command, source: Recording, reader: Reader, names: RecordedNames, digest: Digest) -> int | None:
    selection, between = command.selection, command.own.between
    matches = predicate(selection.filter, names) if selection.filter is not None else None
    inet, inet6 = bool(selection.families >> AF_INET & 1), bool(selection.families >> 10 & 1)
    window: tuple[int, int] | None = None
    if between is not None:
        if not source.regular:
            raise UsageError(f"sstrace: --between needs both ends of the recording, and {source.name} is a pipe")
        ends = span(source)
        one, two = (target(when, ends) for when in between)
        window = min(one, two), max(one, two)
    clock = Clock()
    part = 0  # connections of another run have their own numbers
    for item in reader:
        if isinstance(item, Meta):
            names.learn(item)
            clock = Clock()
            clock.learn(item)
            if item.part is None:
                part = digest.transitions + 1
            continue
        if clock.offset_ns is None:
            clock.learn(item.lines[0])
        _digest(
            item,
            digest,
            offset=clock.offset_ns or 0,
            window=window,
            families=(inet, inet6),
            matches=matches,
            names=names,
            base=part << 40,
        )
    return clock.offset_ns


def _digest(
    run: Run,
    digest: Digest,
    *,
    offset: int,
    window: tuple[int, int] | None,
    families: tuple[bool, bool],
    matches: Callable[[Socket], bool] | None,
    names: RecordedNames,
    base: int,
) -> None:
    inet, inet6 = families
    for line in run.lines:
        if window is not None and not window[0] <= line.mono_ns + offset <= window[1]:
            continue
        if type(line) is State:
            if line.netid != "tcp" or not (inet if line.family == "inet" else inet6):
                continue
            if matches is not None:
                try:
                    if not matches(socket_of(row_of(line, names))):
                        continue
                except OSError:
                    continue
            held = line.held_us
            digest.add(
                line.mono_ns,
                base + line.id,
                old=line.old,
                new=line.state,
                held_ns=round(held * 1000) if held is not None else None,
                peer=line.dst,
                ports=(line.sport, line.dport),
                owner=line.owners[0].comm if line.owners else "",
                cause=line.cause,
                retransmits=line.retransmits,
            )
        elif type(line) is Gap:
            digest.lost += line.count
