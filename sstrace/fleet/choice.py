"""Who is asked for the lines of several hosts: the files that a command line names, or an engine."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from sstrace.errors import UsageError
from sstrace.query.command import ENGINE, Command
from sstrace.recording.fleet import Fleet, TooLarge

__all__ = ["asked", "fleet_of"]

_T = TypeVar("_T")


def asked(command: Command, env: Mapping[str, str], ask: Callable[[Fleet], _T]) -> _T:
    """The answer of the hosts that a command line asks. Where files are too large to be read for a question they are
    put into an engine in this process, which keeps them for the next one, where there is one (sstrace[fleet]). Raises
    what asking raises.
    """
    fleet = fleet_of(command, env)
    try:
        return ask(fleet)
    except TooLarge as error:
        from sstrace.sources.chdb import installed

        if not installed():
            raise TooLarge(f"{error}; or have an engine keep it: pip install 'sstrace[fleet]'") from None
    from sstrace.fleet.loaded import loaded

    with loaded(fleet, env) as kept:
        return ask(kept)


def fleet_of(command: Command, env: Mapping[str, str]) -> Fleet:
    """The hosts that a command line asks, in the files or the engine that it names. Raises what asking raises."""
    paths = command.own.recordings
    if not any(path.startswith(ENGINE) for path in paths):
        return Fleet(paths, command.own.hosts)
    if len(paths) > 1:
        raise UsageError(f"sstrace: {' and '.join(paths)}: an engine is asked alone: name nothing else")
    from sstrace.fleet.asked import EngineFleet
    from sstrace.fleet.engines import Remote

    return EngineFleet(Remote(paths[0].removeprefix(ENGINE), env, f"--from {ENGINE}"), command.own.hosts)
