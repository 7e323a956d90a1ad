"""``--explain WHICH --from DIR``: the same stories as of files, of the recordings of several hosts."""

from collections.abc import Mapping

from sstrace.errors import DecodeError
from sstrace.fleet.choice import asked
from sstrace.modes.explain import Stories, Story, tell
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet, Moved
from sstrace.recording.reader import Reader, RecordedNames
from sstrace.sources.standard import say

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Tell; the exit code. Raises DecodeError where no file can be used, LookupFailed where none has such a
    connection.
    """
    return tell(command, asked(command, env, lambda fleet: _stories(command, env, fleet)))


def _stories(command: Command, env: Mapping[str, str], fleet: Fleet) -> list[Story]:
    """In the order in which they begin, each by its host's clock."""
    own = command.own
    assert own.explain is not None
    within = fleet.window(own.between, utc=own.utc) if own.between is not None else None
    chosen = fleet.within(within, fleet.series)
    parts = [part for one in chosen for part in one.parts]
    fleet.limit(parts)
    fleet.follow(parts, within, command, RecordedNames(env))
    many = len(fleet.hosts) > 1
    stories: list[Story] = []
    for one in chosen:
        found = Stories(own.explain, one.host if many else None, within)
        for part in one.parts:
            try:
                with fleet.opened(part) as source:
                    source.wait()
                    reader = Reader(source)
                    found.take(reader)
                    reader.finish()
            except (DecodeError, Moved) as error:
                say(str(error))
        stories += found.end()
    return sorted(stories, key=lambda story: story.began_ns)
