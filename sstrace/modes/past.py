"""``--snapshot --from FILE``: the table of a recording as it was at some moment, through the ordinary snapshot path."""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sstrace.errors import LookupFailed, SstraceError, UsageError, reason
from sstrace.model import Netns, Owner, Table
from sstrace.modes import snapshot
from sstrace.modes.caveats import caveats
from sstrace.query.command import Command, Selection, When
from sstrace.recording.past import Past, PastPlace, PastRows, look_back
from sstrace.recording.reader import LineNames, RecordedNames, reversed_moments
from sstrace.render.columns import NETNS
from sstrace.snapshot.sources import Origin, Place
from sstrace.sources import files
from sstrace.sources.replay import Recording
from sstrace.sources.standard import say, screen_width, write_all
from sstrace.wire import inet_answer

if TYPE_CHECKING:  # only a command line with a filter pays for it
    from sstrace.query.expression import Expr

__all__ = ["PastTables", "dump", "run"]

_THEN = "at that moment"


class PastTables:
    """The tables of a moment, one set for each network namespace that is meant (snapshot.sources.PlacesSource)."""

    def __init__(self, past: Past, names: RecordedNames) -> None:
        self.past = past
        self._names = names
        self.of = {place.netns: (place, PastRows(past, names, [place])) for place in past.places}

    @property
    def all(self) -> Iterator[PastRows]:
        """Each."""
        return (rows for _, rows in self.of.values())

    @property
    def bad(self) -> int:
        """Rows that cannot be shown."""
        return sum(rows.bad for rows in self.all)

    @property
    def owners(self) -> dict[int, Sequence[Owner]]:
        """Who held which socket."""
        return {ino: owners for rows in self.all for ino, owners in rows.owners.items()}

    @property
    def several(self) -> bool:
        """See PlacesSource."""
        return len(self.of) > 1

    def prepare(self, command: Command) -> None:
        """See PlacesSource."""

    def each(self) -> Iterator[Place]:
        """See PlacesSource."""
        for place, rows in self.of.values():
            rows.recall()
            yield Place(inode=place.netns.inode, label=place.label, source=rows)

    def within(self, netns: Netns, place: PastPlace) -> PastRows:
        """The table of one namespace; of one that was not there then, an empty one, as ``place`` is elsewhen."""
        _, rows = self.of.get(netns, (None, None))
        return rows if rows is not None else PastRows(self.past, self._names, [place._replace(lines=())])

    def tell(self) -> None:
        """See PlacesSource: everything was seen."""

    def check(self, expression: "Expr | None", met: Collection[str]) -> None:
        """See PlacesSource."""
        from sstrace.query.expression import awaited

        borne = {name for place, _ in self.of.values() for name in place.interfaces.values()}
        for name in awaited(expression):
            if name not in borne:
                raise LookupFailed(f'sstrace: no interface was called "{name}" {_THEN}')


def run(command: Command, env: Mapping[str, str]) -> int:
    """Print, or with -D dump, the table of a recording; the exit code."""
    own, selection = command.own, command.selection
    assert own.source is not None
    assert own.source.path is not None
    names = RecordedNames(env) if own.json else LineNames(env)
    names.places.choose(own.netns)
    if own.between is not None:
        return _between(command, env, own.source.path, own.between, names)
    with Recording(own.source.path) as source:
        source.wait()
        past, reader = look_back(source, own.at, names, utc=own.utc)
        reader.finish()
    names.places.finish(_THEN, past.met)
    tables = PastTables(past, names)
    for sentence in caveats(command, past, tables.bad):
        say(sentence)
    if selection.diag_file is not None:
        return dump(selection, tables.all)
    alone = None if past.several or own.netns else next(tables.all)
    if alone is not None:
        alone.recall()
        names.close()
    origin = Origin(
        source=alone,
        within=(past.places[0].netns.inode, past.places[0].label) if alone is not None else None,
        places=tables if alone is None else None,
        owners=tables.owners,
        width=screen_width(env, columns_env=command.dialect.columns_env),
        names=names,
        at_ns=past.at_ns,
        closed=True,
    )
    return snapshot.run(command, env, origin)


def _between(
    command: Command, env: Mapping[str, str], path: str, moments: tuple[When, When], names: RecordedNames
) -> int:
    from sstrace.modes import between

    found: list[PastTables] = []
    with Recording(path) as source:
        if not source.regular:
            raise UsageError(f"sstrace: --between looks twice into the recording, and {source.name} is a pipe")
        source.wait()
        for when in moments:
            past, reader = look_back(source, when, names, utc=command.own.utc)
            reader.finish(aloud=not found)
            found.append(PastTables(past, names))
    before, after = found
    if before.past.at_ns > after.past.at_ns:
        raise reversed_moments(moments)
    names.places.finish("at these moments", before.past.met | after.past.met)
    for sentence in dict.fromkeys(sentence for one in found for sentence in caveats(command, one.past, one.bad)):
        say(sentence)
    places = {netns: place for one in found for netns, (place, _) in one.of.items()}
    several = len(places) > 1 or before.past.several or after.past.several or bool(command.own.netns)
    scenes = [
        between.Scene(
            names,
            before.within(netns, place),
            after.within(netns, place),
            after.past.at_ns,
            place=(netns.inode, place.label) if several else None,
            within=(netns.inode, place.label),
        )
        for netns, place in sorted(places.items(), key=lambda item: (item[1].label.text(item[0].inode), item[0].inode))
    ]
    return between.run(command, env, names, scenes, front=(NETNS,) if len(places) > 1 else ())


def dump(selection: Selection, tables: Iterable[PastRows]) -> int:
    """-D: in the format that TCPDIAG_FILE is read in; the exit code."""
    path = selection.diag_file or ""
    everything = [row for rows in tables for part in rows.rows(Table.TCP, selection) for row in part]
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
