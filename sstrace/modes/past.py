"""``--snapshot --from FILE``: the table of a recording as it was at some moment, through the ordinary snapshot path."""

import os
from collections.abc import Mapping

from sstrace.errors import SstraceError, UsageError, reason
from sstrace.modes import snapshot
from sstrace.modes.caveats import caveats
from sstrace.query.command import Command, Selection, When
from sstrace.recording.fleet import fleet_of
from sstrace.recording.past import Past, PastRows, look_back
from sstrace.recording.reader import LineNames, RecordedNames, reversed_moments
from sstrace.snapshot.sources import Origin
from sstrace.sources import files
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say, screen_width, write_all
from sstrace.wire import inet_answer

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Print, or with -D dump, the table of a recording; the exit code."""
    own, selection = command.own, command.selection
    assert own.source is not None
    assert own.source.path is not None
    fleet = fleet_of(command)
    if fleet is not None:
        from sstrace.modes import hosts

        return hosts.run(command, env, fleet)
    if own.between is not None:
        return _between(command, env, own.source.path, own.between)
    names = RecordedNames(env) if own.json else LineNames(env)
    with Recording(own.source.path) as source:
        source.wait()
        past, reader = look_back(source, own.at, names, utc=own.utc)
        reader.finish()
    names.open = False
    rows = PastRows(past, names)
    for sentence in caveats(command, past, rows):
        say(sentence)
    if selection.diag_file is not None:
        return _dump(selection, rows)
    origin = Origin(
        tcp=rows,
        owners=rows.owners,
        width=screen_width(env, columns_env=command.dialect.columns_env),
        names=names,
        at_ns=past.at_ns,
        only_tcp=True,
    )
    return snapshot.run(command, env, origin)


def _between(command: Command, env: Mapping[str, str], path: str, moments: tuple[When, When]) -> int:
    from sstrace.modes import between

    names = RecordedNames(env) if command.own.json else LineNames(env)
    found: list[tuple[Past, PastRows]] = []
    with Recording(path) as source:
        if not source.regular:
            raise UsageError(f"sstrace: --between looks twice into the recording, and {source.name} is a pipe")
        source.wait()
        for when in moments:
            past, reader = look_back(source, when, names, utc=command.own.utc)
            reader.finish(told=not found)
            found.append((past, PastRows(past, names)))
    if found[0][0].at_ns > found[1][0].at_ns:
        raise reversed_moments(moments)
    for sentence in dict.fromkeys(sentence for one in found for sentence in caveats(command, *one)):
        say(sentence)
    (_, before), (last, after) = found
    return between.run(command, env, names, [between.Scene(names, before, after, last.at_ns)])


def _dump(selection: Selection, rows: PastRows) -> int:
    """-D: in the format that TCPDIAG_FILE is read in."""
    path = selection.diag_file or ""
    everything = [row for part in rows.rows(selection, ext=0, attributes=False) for row in part]
    data = inet_answer.dump(everything)
    try:
        fd = 1 if path[:1] == "-" else files.open_for_writing(os.fsdecode(path.encode("latin-1")), empty=True)
        try:
            write_all(fd, data)
        finally:
            if fd != 1:
                os.close(fd)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise SstraceError(f"cannot write {path}: {reason(error)}") from None
    return 0
