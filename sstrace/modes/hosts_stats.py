"""``--stats --from DIR``: one digest of the recordings of several hosts, which counts by host, too."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import or_

from sstrace.errors import DecodeError
from sstrace.fleet.choice import asked
from sstrace.modes.stats import Counted
from sstrace.output.counting import print_digest
from sstrace.output.page import Page, new_digest
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.recording.clocks import told
from sstrace.recording.fleet import Fleet, Moved, Series
from sstrace.recording.reader import Reader, RecordedNames, tables_of
from sstrace.render.digest import Digest, Tally
from sstrace.sources.standard import say

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Digest; the exit code."""
    with Page(command) as page:
        return asked(command, env, lambda fleet: _run(command, env, page, fleet))


def _run(command: Command, env: Mapping[str, str], page: Page, fleet: Fleet) -> int:
    own = command.own
    names = RecordedNames(env)
    names.places.choose(own.netns)
    within = fleet.window(own.between, utc=own.utc) if own.between is not None else None
    series = fleet.within(within, fleet.series)
    parts = [part for one in series for part in one.parts]
    fleet.limit(parts)
    held = reduce(or_, (tables_of(one.head) for one in series), 0)
    command = options.resolve(options.of_recordings(command, held), names)
    counted = fleet.count(parts, within, command, names)
    if counted is not None:
        whole, tallies = counted
        hosts: dict[str, Tally] = {}
        for one in series:
            for part in one.parts:
                hosts.setdefault(one.host, Tally()).take(tallies.get(part.path, Tally()))
    else:
        fleet.follow(parts, within, command, names)
        whole, hosts = _read(fleet, series, within, command, names)
    names.finish(command.selection.filter)
    if len(fleet.hosts) > 1:
        _compare(fleet, within[1] if within is not None else fleet.span().last_ns, names)
        whole.groups = {"host": {host: tally for host, tally in hosts.items() if tally != Tally()}, **whole.groups}
    spans = (whole.first_ns, whole.last_ns) if whole.transitions else (None, None)
    print_digest(command, whole, *spans, page=page)
    return 0


def _compare(fleet: Fleet, at_ns: int, names: RecordedNames) -> None:
    """Say how clocks stood to each other at the end."""
    fleet.compare()
    with suppress(DecodeError, Moved):  # that was said where it was read
        fleet.shake([(one.part, at_ns) for one in fleet.at(at_ns, fleet.series) if one.part.seekable], names)
    skews = fleet.skews()
    if skews:
        say(told(skews, "lines are counted"))


def _read(
    fleet: Fleet,
    series: Sequence[Series],
    within: tuple[int, int] | None,
    command: Command,
    names: RecordedNames,
) -> tuple[Digest, dict[str, Tally]]:
    """The digest of all, and the tallies of hosts, line by line."""
    whole = new_digest(command)
    hosts: dict[str, Tally] = {}
    for one in series:
        digest = new_digest(command)
        counted = Counted(command, names.of_another_host(), digest)
        for part in one.parts:
            try:
                with fleet.opened(part) as source:
                    source.wait()
                    reader = Reader(source)
                    counted.take(reader, within)
                    reader.finish()
            except (DecodeError, Moved) as error:
                say(str(error))
        whole.merge(digest)
        _add(digest, hosts.setdefault(one.host, Tally()))
    return whole, hosts


def _add(digest: Digest, tally: Tally) -> None:
    """The connections of a digest to what a host has."""
    tally.opened += sum(digest.opened.values())
    tally.failed += sum(digest.failed.values())
    tally.closed += digest.closed
    tally.retransmits += digest.retransmits
    tally.sent += digest.sent
    tally.received += digest.received
    tally.weight += sum(port.weight for port in digest.groups["port"].values())
