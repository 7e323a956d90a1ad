"""``--snapshot --from FILE``: the table of a recording as it was at some moment, through the ordinary snapshot path."""

import os
from collections.abc import Iterator, Mapping

from sstrace.errors import SstraceError, UsageError, reason
from sstrace.live.width import screen_width
from sstrace.modes import snapshot
from sstrace.protocols import FOLLOWED
from sstrace.query.command import Command, Selection, When
from sstrace.recording.past import Past, PastRows, look_back
from sstrace.recording.reader import LineNames, RecordedNames, reversed_moments
from sstrace.snapshot.sources import Origin
from sstrace.sources import files
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say, write_all
from sstrace.wire import inet_answer

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Print, or with -D dump, the table of a recording; the exit code."""
    own, selection = command.own, command.selection
    assert own.source is not None
    assert own.source.path is not None
    if own.between is not None:
        return _between(command, env, own.source.path, own.between)
    names = RecordedNames(env) if own.json else LineNames(env)
    with Recording(own.source.path) as source:
        past, reader = look_back(source, own.at, names, utc=own.utc)
        reader.finish()
    names.open = False
    rows = PastRows(past, names)
    for sentence in _caveats(command, past, rows):
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
        for when in moments:
            past, reader = look_back(source, when, names, utc=command.own.utc)
            reader.finish(told=not found)
            found.append((past, PastRows(past, names)))
    if found[0][0].at_ns > found[1][0].at_ns:
        raise reversed_moments(moments)
    for sentence in dict.fromkeys(sentence for one in found for sentence in _caveats(command, *one)):
        say(sentence)
    (_, before), (last, after) = found
    return between.run(command, env, names, (before, after), last.at_ns)


def _caveats(command: Command, past: Past, rows: PastRows) -> Iterator[str]:
    """What a reader must know to read the table right, on standard error."""
    show, selection = command.show, command.selection
    if not past.whole:
        yield "the recording has no baseline before that moment: sockets that did not change since are missing"
    if past.lost:
        yield f"{past.lost} events had been lost just before that moment: the table may be wrong"
    if past.missing:
        yield f"{past.missing} lines before that moment were not written: the table may be wrong"
    if rows.bad:
        yield f"{rows.bad} rows have addresses that are none, and are left out"
    if not selection.tables & FOLLOWED:
        yield "a recording holds TCP only"
    asked = [option for option, wanted in _NOT_HELD if getattr(show, wanted)]
    if asked and not command.own.json:
        yield f"a recording does not hold what {', '.join(asked)} would show"


_NOT_HELD = (
    ("-m", "memory"),
    ("-i", "info"),
    ("-T", "threads"),
    ("--tos", "tos"),
    ("--inet-sockopt", "inet_sockopt"),
    ("--bpf-maps", "bpf_maps"),
)
"""Options of ss for whose columns a recording has nothing."""


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
