"""``--snapshot --from FILE --between A B``: what is different between two moments of a recording.

The rows are those that ``--at A`` and ``--at B`` would print, without those that both would print alike: ``-`` stands
before a row of A, ``+`` before one of B, and a row that is in another state by then stands there twice, one below the
other. What came and went in between is in neither table: ``--replay FILE --between A B`` tells it.

Of several hosts each has its own difference, one below the other.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, NoReturn

from sstrace.coordinates import found
from sstrace.model import InetSocket, Label, Owner, Role, Socket
from sstrace.protocols import SHOWN
from sstrace.query import options
from sstrace.query.command import Command, Selection
from sstrace.query.match import Known, Predicate, owners_among, predicate, thresholds
from sstrace.recording.past import PastRows
from sstrace.recording.reader import RecordedNames
from sstrace.render.common import Context
from sstrace.render.ndjson import Lines
from sstrace.render.ss import Text
from sstrace.render.times import span_text
from sstrace.sources.standard import give, screen_width

__all__ = ["Change", "Scene", "changes", "run"]

Change = tuple[str, Socket]
"""``-`` and a row as it was, or ``+`` and a row as it is."""

_REMOVED, _ADDED = "-", "+"

_PLACE = {table: place for place, tables in enumerate(SHOWN) for table in tables}
"""Where ss has a table among the others."""


class Scene(NamedTuple):
    """Two moments of one recording."""

    names: RecordedNames
    before: PastRows
    after: PastRows
    at_ns: int
    """The second moment, ns since 1970 UTC."""
    host: str | None = None
    """Whose it is, where that is to be said."""
    place: tuple[int, Label] | None = None
    """Of which network namespace it is, where that is to be said: inode, and what it is called."""
    alike: bool = True
    """Whether both are of one run, in which numbers mean the same connections."""
    peer: Callable[[InetSocket], tuple[str, Sequence[Owner]] | None] | None = None
    """Who has the other end of a row of either."""
    within: tuple[int, Label] | None = None
    """Of which network namespace it is, though that is not said."""


def changes(
    before: PastRows, after: PastRows, selection: Selection, matches: Predicate | None, *, alike: bool = True
) -> list[Change]:
    """The difference of what is selected of two moments, in the order of ``PastRows.rows``. ``alike``: see Scene."""
    old = _known(before.numbered(selection, matches), alike=alike)
    new = _known(after.numbered(selection, matches), alike=alike)
    found: list[Change] = []
    for number, row in old.items():
        now = new.get(number)
        if now is None or _differ(row, now) or before.ifname(row) != after.ifname(now):
            found.append((_REMOVED, row))
            if now is not None:
                found.append((_ADDED, now))
    found += [(_ADDED, row) for number, row in new.items() if number not in old]
    found.sort(key=lambda change: (_PLACE[change[1].table], change[1].family))
    return found


def _known(rows: Iterable[tuple[int, Socket]], *, alike: bool) -> dict[object, Socket]:
    """By number, or where these are of two runs, by the ends: several listeners may share theirs."""
    if alike:
        return dict(rows)
    found: dict[object, Socket] = {}
    for _, row in rows:
        ends = row.table, *_ends(row)
        count = 0
        while (ends, count) in found:
            count += 1
        found[ends, count] = row
    return found


def _differ(row: Socket, now: Socket) -> bool:
    return (row.state, _ends(row)) != (now.state, _ends(now))


def _ends(row: Socket) -> tuple[object, ...]:
    at = row if isinstance(row, InetSocket) else found(row)
    return (at.src, at.sport, at.dst, at.dport, at.ifindex) if at is not None else ()


def run(
    command: Command,
    env: Mapping[str, str],
    known: RecordedNames,
    scenes: Sequence[Scene],
    *,
    front: Sequence[int] = (),
) -> int:
    """Print the differences; the exit code. ``known``: by whose names the filter is read. ``front``: columns
    before all others, of HOST and NETNS, say where rows are.
    """
    command = options.resolve(command, known)
    known.finish(command.selection.filter)
    turns = [_Turn(command, scene) for scene in scenes]
    if command.own.json:
        give(b"".join(line for turn in turns for line in turn.json()))
    else:
        width = screen_width(env, columns_env=command.dialect.columns_env)
        _text(command, turns, width - 2 if width is not None else None, front=front)
    return 0


class _Turn:
    """The difference of one recording, ready to be written."""

    def __init__(self, command: Command, scene: Scene) -> None:
        self.scene = scene
        selection = command.selection
        before, after = scene.before, scene.after

        def held_ns(row: Socket) -> int | None:
            held = after.held_ns(row)
            return before.held_ns(row) if held is None else held

        def held_text(row: Socket) -> str:
            held = held_ns(row)
            bound = "≥" if before.at_least(row) or after.at_least(row) else ""
            return "" if held is None else f" held:{bound}{span_text(held)}".encode().decode("latin-1")

        def role(row: Socket) -> Role | None:
            return after.role(row) or before.role(row)

        owners = {**before.owners, **after.owners}
        place = scene.place or scene.within
        where = (lambda _: place) if place is not None else None
        asked = Known(held=held_ns, owners=owners_among(owners), role=role, netns=where)
        matches = predicate(selection.filter, scene.names, asked)
        self._found = changes(before, after, selection, matches, alike=scene.alike)
        self.context = Context(
            command.show,
            command.dialect,
            scene.names,
            _no_decoders,
            owners=owners,
            held=held_text if thresholds(selection.filter) else None,
            peer=scene.peer,
        )

    def each(self) -> Iterator[Change]:
        """One after the other, by the names of its moment."""
        for change in self._found:
            (self.scene.after if change[0] == _ADDED else self.scene.before).recall()
            yield change

    def json(self) -> Iterator[bytes]:
        """Their lines."""
        pieces: list[bytes] = []
        sink = Lines(self.context, pieces.append, self.scene.at_ns)
        if self.scene.host is not None:
            sink.enter_host(self.scene.host, self.context, self.scene.at_ns)
        if self.scene.place is not None:
            sink.enter(*self.scene.place)
        for mark, row in self.each():
            sink.feed([row])
            line = b"".join(pieces).removesuffix(b"}\n")
            pieces.clear()
            yield line + (b',"change":"added"}\n' if mark == _ADDED else b',"change":"removed"}\n')


def _no_decoders() -> NoReturn:
    raise AssertionError("no row of a recording holds what would have to be decoded")


def _text(command: Command, turns: Sequence[_Turn], width: int | None, *, front: Sequence[int]) -> None:
    pieces: list[bytes] = []
    sink = Text(turns[0].context, pieces.append, screen=width, front=front)
    shown = [" "] if command.show.header else []
    for turn in turns:
        if turn.scene.host is not None:
            sink.enter_host(turn.scene.host, turn.context)
        if turn.scene.place is not None:
            sink.enter(*turn.scene.place, turn.context)
        begun = None
        for mark, row in turn.each():
            if row.table is not begun:
                begun = row.table
                sink.begin(begun)
            sink.feed([row])
            shown.append(mark)
    sink.flush()
    marks = iter(shown)
    # -i and the like go on in a line of their own, which begins with a tab.
    give(
        b"".join(
            (" " if line.startswith(b"\t") else next(marks, " ")).encode() + b" " + line
            for line in io.BytesIO(b"".join(pieces))
        )
    )
