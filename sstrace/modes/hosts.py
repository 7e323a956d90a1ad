"""``--snapshot --from DIR``: the tables of several hosts as they were at one moment, each from its own recording.

Hosts stand in the order of their names, and the rows of each as its own recording would give them. Text is ss's, with a
column in front where there is more than one host; lines of NDJSON say their host, and who has the other end of a
connection to another host whose recording is there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from operator import or_
from typing import NamedTuple, NoReturn

from sstrace.errors import SstraceError, UsageError
from sstrace.fleet.choice import asked
from sstrace.model import InetSocket, Label, Owner, Socket, Table
from sstrace.modes import between
from sstrace.modes.caveats import doubts, unheld
from sstrace.modes.past import dump
from sstrace.query import options
from sstrace.query.command import Command, When
from sstrace.query.match import Known, owners_among, predicate, thresholds
from sstrace.recording.clocks import told
from sstrace.recording.crossing import Crossing
from sstrace.recording.fleet import Chosen, Fleet, Moved, Series, several
from sstrace.recording.past import Past, PastPlace, PastRows
from sstrace.recording.reader import LineNames, RecordedNames
from sstrace.render.columns import HOST, NETNS
from sstrace.render.common import Context
from sstrace.render.ndjson import Lines
from sstrace.render.ss import Text
from sstrace.render.times import span_text
from sstrace.sources.standard import give, say, screen_width

__all__ = ["run"]

_TRIES = 5
"""A rotation goes on while its files are looked at."""

_Peer = Callable[[InetSocket], tuple[str, Sequence[Owner]] | None]


class _Scene(NamedTuple):
    """A table at the moment."""

    series: Series
    names: RecordedNames
    past: Past
    rows: PastRows
    place: PastPlace | None
    """In which network namespace; None: in none that is meant."""

    @property
    def key(self) -> tuple[str, int, int]:
        """Of the same namespace at another moment."""
        return self.series.host, self.series.head.netns, self.place.netns.inode if self.place is not None else 0

    @property
    def told(self) -> tuple[int, Label] | None:
        """Which namespace that is, where there are several."""
        return self.within if self.past.several else None

    @property
    def within(self) -> tuple[int, Label] | None:
        """Which namespace that is."""
        return (self.place.netns.inode, self.place.label) if self.place is not None else None


def run(command: Command, env: Mapping[str, str]) -> int:
    """Print the tables, or what changed in them; the exit code."""
    for _ in range(_TRIES):
        with suppress(Moved):
            return asked(command, env, lambda fleet: _Asked(command, env, fleet).run())
    raise SstraceError(f"{' and '.join(command.own.recordings)} changes faster than it can be read")


class _Asked:
    def __init__(self, command: Command, env: Mapping[str, str], fleet: Fleet) -> None:
        self._command = command
        self._env = env
        self._names = RecordedNames(env) if command.own.json else LineNames(env)
        """By these the filter is read."""
        self._fleet = fleet
        self._by_series: dict[int, RecordedNames] = {}

    def run(self) -> int:
        own, fleet = self._command.own, self._fleet
        if self._command.selection.diag_file is not None and len(fleet.hosts) > 1:
            raise UsageError(f"sstrace: -D dumps the table of one host: choose with --host, of {several(fleet.hosts)}")
        # What has the other ends is shown in NDJSON alone; only there the other hosts are looked at, too.
        series = fleet.everybody if own.json else fleet.series
        if own.between is not None:
            first, last = fleet.window(own.between, utc=own.utc)
            moments = (first + own.between[0].open_ns, own.between[0]), (last, own.between[1])
            sides = [(fleet.at(at, series), when, at) for at, when in moments]
            fleet.limit(one.part for chosen, _, _ in sides for one in chosen if not one.part.seekable)
            return self._between([self._tables(*side) for side in sides])
        at = fleet.moment(own.at, utc=own.utc) + own.at.open_ns if own.at is not None else None
        chosen = fleet.at(at, series)
        fleet.limit(one.part for one in chosen if not one.part.seekable)
        return self._snapshot(self._tables(chosen, own.at, at))

    # The tables.

    def _tables(self, chosen: Sequence[Chosen], when: When | None, at_ns: int | None) -> list[_Scene]:
        """``at_ns``: the moment; None: of each recording its end."""
        fleet = self._fleet
        if len(fleet.hosts) > 1:
            fleet.compare()
        fleet.tell([one for one in chosen if self._asks(one.series)], when, utc=self._command.own.utc)
        moments = [(one.part, at_ns if at_ns is not None else fleet.ended(one.part)) for one in chosen]
        fleet.expect(moments, self._command, self._names)
        scenes = []
        for one, (part, then_ns) in zip(chosen, moments, strict=True):
            names = self._by_series.setdefault(id(one.series), self._names.of_another_host())
            names.places.choose(self._command.own.netns)
            past = fleet.table(part, then_ns, names)
            for place in past.places:
                scenes.append(_Scene(one.series, names, past, PastRows(past, names, [place]), place))
            if not past.places:  # none of those that are meant
                scenes.append(_Scene(one.series, names, past, PastRows(past, names, ()), None))
        return scenes

    def _asks(self, series: Series) -> bool:
        return any(series is one for one in self._fleet.series)

    def _shown(self, scenes: Iterable[_Scene]) -> list[_Scene]:
        return [scene for scene in scenes if self._asks(scene.series)]

    def _say(self, scenes: Sequence[_Scene]) -> None:
        """What is to be known to read the tables right: of many hosts the same once. Raises LookupFailed where none has
        a network namespace that is meant.
        """
        if scenes:
            scenes[0].names.places.finish("then", {word for scene in scenes for word in scene.past.met})
        whose: defaultdict[str, list[str]] = defaultdict(list)
        for scene in scenes:
            for sentence in doubts(scene.past, scene.rows.bad):
                whose[sentence].append(scene.series.host)
        for sentence, hosts in whose.items():
            say(f"{several(list(dict.fromkeys(hosts)))}: {sentence}")
        skews = self._fleet.skews()
        if skews:
            say(told(skews, "each table is that of a moment"))
        for sentence in unheld(self._command, reduce(or_, (scene.past.tables for scene in scenes), 0)):
            say(sentence)

    # What is printed.

    def _snapshot(self, scenes: Sequence[_Scene]) -> int:
        shown = self._shown(scenes)
        self._say(shown)
        command = options.resolve(self._command, self._names)
        selection = command.selection
        self._names.finish(selection.filter)
        if selection.diag_file is not None:
            return dump(selection, [scene.rows for scene in shown])
        peers = _Peers(scenes) if command.own.json else None
        pieces: list[bytes] = []
        sink: Text | Lines | None = None
        for scene in shown:
            host, rows = scene.series.host, scene.rows
            rows.recall()
            context = Context(
                command.show,
                command.dialect,
                scene.names,
                _no_decoders,
                owners=rows.owners,
                held=_held(rows) if thresholds(selection.filter) else None,
                peer=peers.of(host) if peers is not None else None,
            )
            if command.own.json:
                sink = sink or Lines(context, pieces.append, scene.past.at_ns)
            else:
                sink = sink or self._text(context, pieces, shown)
            if isinstance(sink, Lines):
                sink.enter_host(host, context, scene.past.at_ns)
            else:
                sink.enter_host(host, context)
            if scene.told is not None:
                sink.enter(*scene.told)
            known = Known(held=rows.held_ns, role=rows.role, owners=owners_among(rows.owners), netns=rows.netns)
            matches = predicate(selection.filter, scene.names, known)
            for table, part in rows.selected(selection):
                sink.begin(table)
                sink.feed([row for row in part if matches is None or matches(row)])
        assert sink is not None
        sink.flush()
        give(b"".join(pieces))
        return 0

    def _text(self, context: Context, pieces: list[bytes], shown: Iterable[_Scene]) -> Text:
        width = screen_width(self._env, columns_env=self._command.dialect.columns_env)
        return Text(context, pieces.append, screen=width, front=self._front(scene.key for scene in shown if scene.told))

    def _front(self, places: Iterable[tuple[str, int, int]]) -> list[int]:
        """The columns that say where rows are: host, and network namespace where a host has several."""
        several = any(count > 1 for count in Counter(host for host, *_ in set(places)).values())
        return [HOST] * (len(self._fleet.hosts) > 1) + [NETNS] * several

    def _between(self, sides: Sequence[Sequence[_Scene]]) -> int:
        self._say([scene for side in sides for scene in self._shown(side)])
        peers = [_Peers(side) if self._command.own.json else None for side in sides]
        found = []
        before = {scene.key: scene for scene in self._shown(sides[0])}
        hosts = {host for host, _, _ in before}
        for scene in self._shown(sides[1]):
            host = scene.series.host
            first = before.get(scene.key)
            if host not in hosts:
                continue
            nothing = PastRows(Past(), scene.names, ())
            found.append(
                between.Scene(
                    scene.names,
                    first.rows if first is not None else nothing,
                    scene.rows,
                    scene.past.at_ns,
                    host,
                    scene.told,
                    alike=first is not None and first.series is scene.series,
                    peer=_either(host, peers),
                    within=scene.within,
                )
            )
        places = {scene.key for side in sides for scene in self._shown(side) if scene.told}
        return between.run(self._command, self._env, self._names, found, front=self._front(places))


class _Peers:
    """The other ends among the tables of one moment."""

    def __init__(self, scenes: Iterable[_Scene]) -> None:
        self._crossing: Crossing[Sequence[Owner]] = Crossing()
        for scene in scenes:
            for row in scene.rows.everything():
                if row.table is not Table.TCP:  # an address of a datagram socket is no end of a connection
                    continue
                owners = scene.rows.owners.get(row.ino, ()) if row.ino else ()
                self._crossing.add(scene.series.host, id(row), row, owners)

    def of(self, host: str) -> _Peer:
        """Who has the other ends of a host's rows."""
        return lambda row: self._crossing.other(host, row)


def _either(host: str, peers: Sequence[_Peers | None]) -> _Peer | None:
    """Of a row of one of two moments: as it is at the second, else as it was at the first."""
    sides = [side.of(host) for side in reversed(peers) if side is not None]
    if not sides:
        return None
    return lambda row: next((found for side in sides if (found := side(row)) is not None), None)


def _held(rows: PastRows) -> Callable[[Socket], str]:
    def text(row: Socket) -> str:
        held = rows.held_ns(row)
        bound = "≥" if rows.at_least(row) else ""
        return "" if held is None else f" held:{bound}{span_text(held)}".encode().decode("latin-1")

    return text


def _no_decoders() -> NoReturn:
    raise AssertionError("no row of a recording holds what would have to be decoded")
