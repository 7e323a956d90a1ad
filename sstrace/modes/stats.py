"""``--stats``: a digest of a recording, of what happens from now to Ctrl-C, or of what a serving sstrace has seen."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from sstrace.errors import DecodeError, SstraceError, UsageError
from sstrace.lines import GapLine, MetaLine, StateLine
from sstrace.live.rows import socket_of
from sstrace.live.signals import Stopped, touch
from sstrace.model import AF_INET, AF_INET6, Lost, Socket
from sstrace.model import State as TcpState
from sstrace.modes.replay import files, learn_names
from sstrace.protocols import IPPROTO_TCP
from sstrace.query import options
from sstrace.query.command import Act, Command
from sstrace.query.match import predicate
from sstrace.recording.reader import STATE_NUMBER, Clock, Reader, RecordedNames, complain, row_of, span, target
from sstrace.render.events import timestamp
from sstrace.render.stats import Digest, ndjson, text
from sstrace.render.times import moment
from sstrace.sources.names import SystemNames
from sstrace.sources.replay import Recording
from sstrace.table import Resync, Transition
from sstrace.wire.recording import Run

if TYPE_CHECKING:  # a recording needs no BPF
    from sstrace.live.tracer import Tracer
    from sstrace.output.recorder import Recorder

__all__ = ["Counting", "counting", "run"]

_MOST = 10
_TICK_S = 0.05
_ESTABLISHED = int(TcpState.ESTABLISHED)


def run(command: Command, env: Mapping[str, str]) -> int:
    """Digest; the exit code. --count says how many lines a grouping may have."""
    if command.act is Act.STATS_LIVE:
        from sstrace.server import ask

        return ask.snapshot(command, None)
    if command.act is Act.STATS_PAST:
        digest, offset = _of_files(command, env)
    else:
        digest, offset = _of_now(command, env)
    spans = ((digest.first_ns or 0) + offset, digest.last_ns + offset) if digest.transitions else (None, None)
    _print(command, digest, *spans)
    return 0


def _print(command: Command, digest: Digest, began_ns: int | None, ended_ns: int | None) -> None:
    """``began_ns``, ``ended_ns``: since 1970 UTC."""
    own = command.own
    most = own.count or _MOST
    say = timestamp if own.json else partial(moment, utc=own.utc)
    began, ended = ("-" if at is None else say(at) for at in (began_ns, ended_ns))
    if own.json:
        data = ndjson(digest, began, ended, most)
    else:
        data = text(digest, began, ended, most).encode(errors="backslashreplace")
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


class Counting:
    """Digests what a tracer folds in, a family for itself. ``matches``: connections that are not let pass are left
    out. ``most_keys``: see ``Digest``.
    """

    def __init__(
        self, tracer: "Tracer", matches: Callable[[Socket], bool] | None = None, most_keys: int | None = None
    ) -> None:
        self._table = tracer.table
        self._matches = matches
        make = partial(Digest, most_keys) if most_keys is not None else Digest
        self._digests = {AF_INET: make(), AF_INET6: make()}
        self._lost = 0
        self._began_ns = time.monotonic_ns()

    def take(self, changes: Iterable[object]) -> None:
        """Count changes."""
        digests, matches = self._digests, self._matches
        for change in changes:
            if type(change) is Transition:
                row, retransmits = change.row, change.reported.retransmits or 0
                digest = digests.get(row.family)
                if digest is None or row.protocol != IPPROTO_TCP or (matches and not matches(socket_of(row))):
                    continue
                if change.new != _ESTABLISHED and not change.ended and not retransmits:  # half of all
                    digest.pass_over(change.at_ns)
                    continue
                owners = row.owners
                digest.add(
                    change.at_ns,
                    row.id,
                    change.old,
                    change.new,
                    ended=change.ended,
                    lifetime_ns=change.lifetime_ns,
                    held_ns=change.held_ns,
                    role=row.role,
                    peer=row.dst,
                    ports=(row.sport, row.dport),
                    owner=owners[0].comm if owners else b"",
                    cause=change.cause,
                    retransmits=retransmits,
                )
            elif type(change) is Lost:
                self._lost += change.count
            elif type(change) is Resync:
                alive = self._table.__contains__
                for digest in digests.values():
                    digest.keep(alive)

    def digest(self, families: int) -> Digest:
        """All of these families (bit n for family n) so far."""
        found = Digest()
        for family, digest in self._digests.items():
            if families >> family & 1:
                found.merge(digest)
        found.lost = self._lost
        return found

    def tell(self, command: Command, *, owners: bool) -> int:
        """Answer ``--stats --from live``: print what was counted since the beginning, whose sockets they were only to
        those who may know; the exit code.
        """
        offset = time.time_ns() - time.monotonic_ns()
        digest = self.digest(command.selection.families)
        if not owners:
            digest.groups["owner"].clear()
        _print(command, digest, self._began_ns + offset, time.time_ns())
        return 0


def counting(command: Command, tracer: "Tracer", names: SystemNames, most_keys: int | None = None) -> Counting:
    """What counts the connections that a command line selects. Raises UsageError and LookupFailed for its filter."""
    expression = options.resolve(command, names).selection.filter
    return Counting(tracer, predicate(expression, names) if expression is not None else None, most_keys)


def _of_now(command: Command, env: Mapping[str, str]) -> tuple[Digest, int]:
    from sstrace.live.tracer import Tracer
    from sstrace.output.recorder import recording_of

    stopped = Stopped()
    names = SystemNames(env)
    offset = time.time_ns() - time.monotonic_ns()
    tracer = Tracer(env, poll_ns=command.own.poll_ns)
    recorder: Recorder | None = None
    try:
        for limit in tracer.limits:
            complain(limit)
        tracer.start()
        recorder = recording_of(command, tracer, names)
        counted = counting(command, tracer, names)
        through = recorder.through if recorder is not None else iter
        if command.own.ready_file is not None:
            touch(command.own.ready_file)
        end = time.monotonic_ns() + command.own.duration_ns if command.own.duration_ns is not None else None
        while not stopped.now and (end is None or time.monotonic_ns() < end):
            counted.take(through(tracer.poll(_TICK_S)))
        counted.take(through(tracer.settle()))
    finally:
        tracer.close()
        if recorder is not None:
            recorder.close()
            complain(recorder.summary())
    return counted.digest(command.selection.families), offset


def _of_files(command: Command, env: Mapping[str, str]) -> tuple[Digest, int]:
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
        one, two = (target(when, ends, utc=command.own.utc) for when in between)
        window = min(one, two), max(one, two)
    clock = Clock()
    part = 0  # connections of another run have their own numbers
    for item in reader:
        if isinstance(item, MetaLine):
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
        if type(line) is StateLine:
            if line.netid != "tcp" or not (inet if line.family == "inet" else inet6):
                continue
            if matches is not None:
                try:
                    if not matches(socket_of(row_of(line, names))):
                        continue
                except OSError:
                    continue
            if line.state != "ESTAB" and not line.ended and not line.retransmits:
                digest.pass_over(line.mono_ns)
                continue
            held, lifetime = line.held_us, line.lifetime_us
            digest.add(
                line.mono_ns,
                base + line.id,
                STATE_NUMBER[line.old],
                STATE_NUMBER[line.state],
                ended=line.ended,
                lifetime_ns=round(lifetime * 1000) if lifetime is not None else None,
                role=line.role,
                held_ns=round(held * 1000) if held is not None else None,
                peer=line.dst,
                ports=(line.sport, line.dport),
                owner=line.owners[0].comm if line.owners else "",
                cause=line.cause,
                retransmits=line.retransmits or 0,
            )
        elif type(line) is GapLine:
            digest.lost += line.count
