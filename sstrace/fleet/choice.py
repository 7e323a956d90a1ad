"""Who is asked for the lines of several hosts: the files that a command line names, or an engine."""

from collections.abc import Mapping

from sstrace.errors import UsageError
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet, named

__all__ = ["PREFIX", "fleet_of"]

PREFIX = "clickhouse:"
"""What stands before an engine's address, in --from and --replay."""


def fleet_of(command: Command, env: Mapping[str, str]) -> Fleet:
    """The hosts that a command line asks, in the files or the engine that it names. Raises what asking raises."""
    paths = named(command)
    if not any(path.startswith(PREFIX) for path in paths):
        return Fleet(paths, command.own.hosts)
    if len(paths) > 1:
        raise UsageError(f"sstrace: {' and '.join(paths)}: an engine is asked alone: name nothing else")
    from sstrace.fleet.asked import EngineFleet
    from sstrace.fleet.engines import Remote

    return EngineFleet(Remote(paths[0].removeprefix(PREFIX), env, f"--from {PREFIX}"), command.own.hosts)
