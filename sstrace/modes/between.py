"""``--snapshot --from FILE --between A B``: what is different between two moments of a recording.

The rows are those that ``--at A`` and ``--at B`` would print, without those that both would print alike: ``-`` stands
before a row of A, ``+`` before one of B, and a row that is in another state by then stands there twice, one below the
other. What came and went in between is in neither table: ``--replay FILE --between A B`` tells it.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import NoReturn

from sstrace.live.width import screen_width
from sstrace.model import InetSocket, Role, Socket, Table
from sstrace.protocols import FOLLOWED
from sstrace.query import options
from sstrace.query.command import Command, Selection
from sstrace.query.match import Known, Predicate, owners_among, predicate, thresholds
from sstrace.recording.past import PastRows
from sstrace.recording.reader import RecordedNames
from sstrace.render.common import Context
from sstrace.render.ndjson import Lines
from sstrace.render.ss import Text
from sstrace.render.times import span_text
from sstrace.sources.standard import give

__all__ = ["Change", "changes", "run"]

Change = tuple[str, InetSocket]
"""``-`` and a row as it was, or ``+`` and a row as it is."""

_REMOVED, _ADDED = "-", "+"


def changes(before: PastRows, after: PastRows, selection: Selection, matches: Predicate | None) -> list[Change]:
    """The difference of what is selected of two moments, in the order of ``PastRows.rows``."""
    old = dict(before.numbered(selection, matches))
    new = dict(after.numbered(selection, matches))
    found: list[Change] = []
    for number, row in old.items():
        now = new.get(number)
        if now is None or _differ(row, now) or before.ifname(row) != after.ifname(now):
            found.append((_REMOVED, row))
            if now is not None:
                found.append((_ADDED, now))
    found += [(_ADDED, row) for number, row in new.items() if number not in old]
    found.sort(key=lambda change: change[1].family)
    return found


def _differ(row: InetSocket, now: InetSocket) -> bool:
    return (row.state, row.src, row.sport, row.dst, row.dport, row.ifindex) != (
        now.state, now.src, now.sport, now.dst, now.dport, now.ifindex,
    )  # fmt: skip


def run(
    command: Command, env: Mapping[str, str], known: RecordedNames, moments: tuple[PastRows, PastRows], at_ns: int
) -> int:
    """Print the difference; the exit code. ``at_ns``: the second moment, ns since 1970 UTC."""
    command = options.resolve(command, known)
    known.finish(command.selection.filter)
    selection, show = command.selection, command.show
    before, after = moments

    def held_ns(row: Socket) -> int | None:
        held = after.held_ns(row)
        return before.held_ns(row) if held is None else held

    def held_text(row: Socket) -> str:
        held = held_ns(row)
        bound = "≥" if before.at_least(row) or after.at_least(row) else ""
        return "" if held is None else f" held:{bound}{span_text(held)}".encode().decode("latin-1")

    owners = {**before.owners, **after.owners}

    def role(row: Socket) -> Role | None:
        return after.role(row) or before.role(row)

    asked = Known(held=held_ns, owners=owners_among(owners), role=role)
    matches = predicate(selection.filter, known, asked)
    found = changes(before, after, selection, matches) if selection.tables & FOLLOWED else []
    context = Context(
        show,
        command.dialect,
        known,
        _no_decoders,
        owners=owners,
        held=held_text if thresholds(selection.filter) else None,
    )
    if command.own.json:
        _write(_json(context, _recalled(found, moments), at_ns))
    else:
        width = screen_width(env, columns_env=command.dialect.columns_env)
        _write(_text(context, _recalled(found, moments), width - 2 if width is not None else None, header=show.header))
    return 0


def _recalled(found: Iterable[Change], moments: tuple[PastRows, PastRows]) -> Iterator[Change]:
    """The same, each by the names of its moment."""
    before, after = moments
    for change in found:
        (after if change[0] == _ADDED else before).recall()
        yield change


def _no_decoders() -> NoReturn:
    raise AssertionError("no row of a recording holds what would have to be decoded")


def _text(context: Context, found: Iterable[Change], width: int | None, *, header: bool) -> Iterator[bytes]:
    pieces: list[bytes] = []
    sink = Text(context, pieces.append, screen=width)
    sink.begin(Table.TCP)
    shown = [" "] if header else []
    for mark, row in found:
        sink.feed([row])
        shown.append(mark)
    sink.flush()
    marks = iter(shown)
    for line in io.BytesIO(b"".join(pieces)):
        # -i and the like go on in a line of their own, which begins with a tab.
        mark = " " if line.startswith(b"\t") else next(marks, " ")
        yield mark.encode() + b" " + line


def _json(context: Context, found: Iterable[Change], at_ns: int) -> Iterator[bytes]:
    pieces: list[bytes] = []
    sink = Lines(context, pieces.append, at_ns)
    for mark, row in found:
        sink.feed([row])
        line = b"".join(pieces).removesuffix(b"}\n")
        pieces.clear()
        yield line + (b',"change":"added"}\n' if mark == _ADDED else b',"change":"removed"}\n')


def _write(lines: Iterator[bytes]) -> None:
    give(b"".join(lines))
