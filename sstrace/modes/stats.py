"""``--stats``: a digest of a recording, or of what happens from now to Ctrl-C."""

import time
from collections.abc import Mapping

from sstrace.errors import DecodeError, SstraceError
from sstrace.lines import GapLine, MetaLine, StateLine
from sstrace.live.signals import Stopped
from sstrace.model import AF_INET
from sstrace.modes.replay import files, learn_names
from sstrace.output.counting import counting, print_digest
from sstrace.output.row_filter import RowFilter
from sstrace.query import options
from sstrace.query.command import Act, Command
from sstrace.recording.reader import STATE_NUMBER, Clock, Reader, RecordedNames, row_of, window
from sstrace.render.stats import Digest
from sstrace.sources.names import SystemNames
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say
from sstrace.wire.recording import Run

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Digest; the exit code. --count says how many lines a grouping may have."""
    code = 0
    if command.act is Act.STATS_PAST:
        digest, offset = _of_files(command, env)
    else:
        digest, offset, code = _of_now(command, env)
    spans = ((digest.first_ns or 0) + offset, digest.last_ns + offset) if digest.transitions else (None, None)
    print_digest(command, digest, *spans)
    return code


def _of_now(command: Command, env: Mapping[str, str]) -> tuple[Digest, int, int]:
    from sstrace.live.tracer import Tracer
    from sstrace.modes.following import Following

    names = SystemNames(env)
    offset = time.time_ns() - time.monotonic_ns()
    stopped = Stopped()
    tracer = Tracer(env, names, poll_ns=command.own.poll_ns, netns=command.own.netns)
    with Following(command, env, tracer, stopped) as following:
        tracer.start()
        following.record(summary=True)
        counted = counting(command, tracer, names)
        following.ready(f"counting what happens to {len(tracer.table)} sockets")
        for seconds in following.turns():
            counted.take(following.poll(seconds))
        counted.take(following.settle())
    return counted.digest(command.selection.families), offset, following.code()


def _of_files(command: Command, env: Mapping[str, str]) -> tuple[Digest, int]:
    names = RecordedNames(env)
    names.places.choose(command.own.netns)
    sources = files(command)
    learn_names(sources, names)
    command = options.resolve(command, names)
    digest = Digest()
    offset = 0
    failure: SstraceError | None = None
    usable = False
    for source in sources:
        with source:
            source.wait()
            reader = Reader(source)
            counted = _file(command, source, reader, names, digest, alone=len(sources) == 1)
            offset = counted if counted is not None else offset
            try:
                reader.finish()
                usable = True
            except DecodeError as error:
                failure = error
    if failure is not None:
        if not usable:
            raise failure
        say(str(failure))
    names.finish(command.selection.filter)
    return digest, offset


def _file(
    command: Command, source: Recording, reader: Reader, names: RecordedNames, digest: Digest, *, alone: bool
) -> int | None:
    selection, between = command.selection, command.own.between
    matches = RowFilter(selection.filter, names, names.places) if selection.filter is not None else None
    inet, inet6 = bool(selection.families >> AF_INET & 1), bool(selection.families >> 10 & 1)
    within = window(source, between, utc=command.own.utc, alone=alone) if between is not None else None
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
            within=within,
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
    within: tuple[int, int] | None,
    families: tuple[bool, bool],
    matches: RowFilter | None,
    names: RecordedNames,
    base: int,
) -> None:
    inet, inet6 = families
    places = names.places
    apart = places.chosen
    for line in run.lines:
        if matches is not None or apart:
            names.hear(line)
        if within is not None and not within[0] <= line.mono_ns + offset <= within[1]:
            continue
        if isinstance(line, StateLine):
            if line.netid != "tcp" or not (inet if line.family == "inet" else inet6):
                continue
            if apart and not places.takes(line.netns):
                continue
            held, lifetime = _ns(line.held_us), _ns(line.lifetime_us)
            if matches is not None:
                try:
                    if not matches.row(row_of(line, names), held, lifetime, line.cause):
                        continue
                except OSError:
                    continue
            if line.state != "ESTAB" and not line.ended and not line.retransmits:
                digest.pass_over(line.mono_ns)
                continue
            digest.add(
                line.mono_ns,
                base + line.id,
                STATE_NUMBER[line.old],
                STATE_NUMBER[line.state],
                ended=line.ended,
                lifetime_ns=lifetime,
                role=line.role,
                held_ns=held,
                peer=line.dst,
                ports=(line.sport, line.dport),
                owner=line.owners[0].comm if line.owners else "",
                cause=line.cause,
                retransmits=line.retransmits or 0,
                told=line,
            )
        elif type(line) is GapLine:
            digest.lost += line.count


def _ns(microseconds: float | None) -> int | None:
    return round(microseconds * 1000) if microseconds is not None else None
