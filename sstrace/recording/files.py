"""The recordings that a command line names."""

from sstrace.query.command import Command
from sstrace.sources.replay import Recording
from sstrace.wire import recording

__all__ = ["files"]


def files(command: Command) -> list[Recording]:
    """Opened, in the order of time. Raises DecodeError."""
    sources = [Recording(path) for path in command.own.recordings]
    if len(sources) > 1 and all(source.regular for source in sources):
        began = {id(source): recording.line_time(source.first_line()) for source in sources}
        sources.sort(key=lambda source: began[id(source)] or 0)
    return sources
