"""``--stats``: a digest of a recording, or of what happens from now to Ctrl-C."""

import time
from collections.abc import Mapping

from sstrace.lines import GapLine, MetaLine, StateLine
from sstrace.live.signals import Stopped
from sstrace.modes.replay import learn_names, readers, tell_unasked
from sstrace.output.counting import counting, print_digest
from sstrace.output.page import Page, new_digest
from sstrace.output.row_filter import RowFilter
from sstrace.protocols import DATAGRAM_NETIDS, SWEPT_NETIDS
from sstrace.query import options
from sstrace.query.command import Act, Command, followed_tables, selected_families, selected_netids
from sstrace.recording.files import files
from sstrace.recording.reader import STATE_NUMBER, Clock, Reader, RecordedNames, row_of, window
from sstrace.render.digest import Digest
from sstrace.sources.names import SystemNames
from sstrace.wire.recording import Run

__all__ = ["Counted", "run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Digest; the exit code. --count says how many lines a grouping may have."""
    with Page(command) as page:
        if command.act is not Act.STATS_PAST:
            return _of_now(command, env, page)
        digest = _of_files(command, env)
        span = (digest.first_ns, digest.last_ns) if digest.transitions else (None, None)
        print_digest(command, digest, *span, page=page)
    return 0


def _of_now(command: Command, env: Mapping[str, str], page: Page) -> int:
    from sstrace.live.tracer import Tracer
    from sstrace.modes.following import Following

    names = SystemNames(env)
    offset = time.time_ns() - time.monotonic_ns()
    stopped = Stopped()
    tables = followed_tables(command.selection)
    tracer = Tracer(env, names, poll_ns=command.own.poll_ns, netns=command.own.netns, tables=tables)
    with Following(command, env, tracer, stopped) as following:
        tracer.start()
        following.record(summary=True)
        counted = counting(command, tracer, names)
        following.ready(f"counting what happens to {len(tracer.table)} sockets")
        for seconds in following.turns():
            counted.take(following.poll(seconds))
        counted.take(following.settle())
        digest = counted.digest(command.selection.families)
    span = (digest.first_ns, digest.last_ns) if digest.first_ns is not None else (counted.began_ns, time.monotonic_ns())
    print_digest(command, digest, span[0] + offset, span[1] + offset, offset, page=page)
    return following.code()


def _of_files(command: Command, env: Mapping[str, str]) -> Digest:
    names = RecordedNames(env)
    names.places.choose(command.own.netns)
    sources = files(command)
    learn_names(sources, names)
    command = options.resolve(options.of_recordings(command, names.tables), names)
    digest = new_digest(command)
    counted = Counted(command, names, digest)
    between, alone = command.own.between, len(sources) == 1
    for source, reader in readers(sources):
        counted.take(reader, window(source, between, utc=command.own.utc, alone=alone) if between else None)
    names.finish(command.selection.filter)
    tell_unasked(command, names.tables)
    return digest


class Counted:
    """Counts what recordings tell, file by file, those of a rotation in their order; times are ns since 1970 UTC."""

    def __init__(self, command: Command, names: RecordedNames, digest: Digest) -> None:
        """``command`` must have been resolved."""
        selection = command.selection
        self._names = names
        self._digest = digest
        self._matches = RowFilter(selection.filter, names, names.places) if selection.filter is not None else None
        self._families = selected_families(selection)
        self._netids = selected_netids(selection)
        self._base = 0
        """Connections of another run have their own numbers."""

    def take(self, reader: Reader, within: tuple[int, int] | None) -> None:
        """All that happens in a file, or in a window, ns since 1970 UTC."""
        clock = Clock()
        for item in reader:
            if isinstance(item, MetaLine):
                self._names.learn(item)
                clock = Clock()
                clock.learn(item)
                if item.part is None:
                    self._base = self._digest.transitions + 1 << 40
                continue
            if clock.offset_ns is None:
                clock.learn(item.lines[0])
            self._run(item, clock.offset_ns or 0, within)

    def _run(self, run: Run, offset: int, within: tuple[int, int] | None) -> None:
        digest, matches, names, families, base = self._digest, self._matches, self._names, self._families, self._base
        apart, netids = names.places.chosen, self._netids
        for line in run.lines:
            if matches is not None or apart:
                names.hear(line)
            at_ns = line.mono_ns + offset
            if within is not None and not within[0] <= at_ns <= within[1]:
                continue
            if isinstance(line, StateLine):
                if line.netid not in netids or line.family not in families:
                    continue
                if apart and not names.places.takes(line.netns):
                    continue
                held, lifetime = _ns(line.held_us), _ns(line.lifetime_us)
                if matches is not None:
                    try:
                        if not matches.row(row_of(line, names), held, lifetime, line.cause, line):
                            continue
                    except OSError:
                        continue
                if line.netid in SWEPT_NETIDS:
                    digest.looked(
                        at_ns, base + line.id, STATE_NUMBER[line.state], ended=line.ended, lifetime_ns=lifetime,
                        role=line.role, peer=line.dst, owner=line.owners[0].comm if line.owners else "",
                    )  # fmt: skip
                    continue
                if line.netid in DATAGRAM_NETIDS:
                    digest.datagram(
                        at_ns, base + line.id, ended=line.ended, lifetime_ns=lifetime,
                        role=line.role, peer=line.dst, ports=(line.sport, line.dport),
                        owner=line.owners[0].comm if line.owners else "", reported=line,
                    )  # fmt: skip
                    continue
                if line.state != "ESTAB" and not line.ended and not line.retransmits:
                    digest.pass_over(at_ns)
                    continue
                digest.add(
                    at_ns,
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
                    reported=line,
                )
            elif type(line) is GapLine:
                digest.lost += line.count


def _ns(microseconds: float | None) -> int | None:
    return round(microseconds * 1000) if microseconds is not None else None
