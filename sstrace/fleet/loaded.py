"""A directory of recordings in an engine in this process, which keeps it in the cache for the next question.

A file that has not been put there, or is another one by now, is put there anew, whole; what has gone from the directory
goes there, too. Whose each file is, and in which order they stand, is what the files say (recording.fleet): the engine
holds their lines, each file's as a run of its own.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec

from sstrace import __version__
from sstrace.errors import SstraceError
from sstrace.fleet.asked import EngineFleet
from sstrace.fleet.brought import bring, of_internet
from sstrace.fleet.literals import listed, quoted
from sstrace.fleet.rows import Rows
from sstrace.fleet.schema import GIVEN, VERSION, WRITE, ddl
from sstrace.fleet.sql import Run
from sstrace.recording.fleet import Fleet, Part
from sstrace.sources.cache import cache_directory
from sstrace.sources.chdb import Local
from sstrace.sources.folder import absolute, version_of
from sstrace.sources.standard import say

__all__ = ["loaded"]

_COLUMNS: Final = ", ".join(f"`{name}`" for name in GIVEN)
_TABLES: Final = ("lines", "checkpoints", "runs")
_KEPT: Final = (
    "CREATE TABLE IF NOT EXISTS files (path String, host String, size UInt64, changed UInt64, until Int64) "
    "ENGINE = ReplacingMergeTree ORDER BY path"
)


@contextmanager
def loaded(fleet: Fleet, env: Mapping[str, str]) -> Iterator[EngineFleet]:
    """The same hosts, asked of an engine that has what their files hold. Raises SstraceError."""
    folder = cache_directory(env)
    if folder is None:
        raise SstraceError("there is no place for an engine to keep lines in: set HOME, or XDG_CACHE_HOME")
    named = "\0".join(sorted(absolute(path) for path in fleet.paths))
    place = folder / f"fleet-{VERSION}-{hashlib.sha256(named.encode(errors='surrogateescape')).hexdigest()[:16]}"
    engine = Local(str(place), fleet.name)
    try:
        yield _Loaded(fleet, engine, _bring(fleet, engine, str(place)))
    finally:
        engine.close()


class _Loaded(EngineFleet):
    """Asks the engine of what the files have said of themselves."""

    def __init__(self, fleet: Fleet, engine: Local, ends: Mapping[str, int]) -> None:
        self.name, self.paths = fleet.name, fleet.paths
        self.everybody, self.series = fleet.everybody, fleet.series
        for one in self.everybody:
            one.parts = [msgspec.structs.replace(part, head=of_internet(part.head)) for part in one.parts]
        self._ask(engine, {part.path: _run_of(part) for one in fleet.everybody for part in one.parts}, dict(ends))


def _run_of(part: Part) -> Run:
    return Run(part.head.host, absolute(part.path))


def _bring(fleet: Fleet, engine: Local, place: str) -> dict[str, int]:
    """Have the engine hold what the files hold now; when each ends, ns since 1970 UTC."""
    for statement in (*ddl(__version__), _KEPT):
        engine.ask(statement)
    for name, value in WRITE.items():
        engine.ask(f"SET {name} = {quoted(value) if isinstance(value, str) else value}")
    known = {
        path: (int(size), int(changed), int(until))
        for path, size, changed, until in (
            msgspec.json.decode(line, type=tuple[str, str, str, str])
            for line in engine.ask(
                "SELECT path, toString(size), toString(changed), toString(until) FROM files FINAL "
                "FORMAT JSONCompactEachRow"
            ).split(b"\n")[:-1]
        )
    }
    ends: dict[str, int] = {}
    due: list[tuple[Part, str, tuple[int, int]]] = []
    for part in (part for one in fleet.everybody for part in one.parts):
        path = _run_of(part).run
        now = version_of(part.path)
        kept = known.pop(path, None)
        if kept is not None and kept[:2] == now:
            ends[part.path] = kept[2]
        else:
            due.append((part, path, now))
    gone = [*known, *(path for _, path, _ in due)]
    if gone:
        for table in (*_TABLES, "files"):
            engine.ask(f"DELETE FROM {table} WHERE {'path' if table == 'files' else 'run'} IN ({listed(gone)})")
    if due:
        say(f"{len(due)} files of {fleet.name} are put into an engine in {place}, where the next question finds them")
    for part, path, (size, changed) in due:
        ends[part.path] = fleet.ended(part)
        run = _run_of(part)
        bring(fleet, part, Rows(run.host, run.run), lambda body: engine.insert("lines", _COLUMNS, body.decode()))
        engine.ask(
            f"INSERT INTO files (path, host, size, changed, until) VALUES "
            f"({quoted(path)}, {quoted(part.head.host)}, {size}, {changed}, {ends[part.path]})"
        )
    return ends
