"""``--watch --from DIR|clickhouse:URL``: the full screen over the recordings of several hosts, gone through
as one is.
"""

from collections.abc import Mapping

from sstrace.fleet.choice import asked
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet
from sstrace.recording.reader import LineNames
from sstrace.watch.fleet_film import FleetFilm
from sstrace.watch.player import play
from sstrace.watch.terminal import Terminal

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Watch; the exit code. Raises UsageError where there is no terminal, and what asking raises."""
    terminal = Terminal(env)

    def watch(fleet: Fleet) -> int:
        names = LineNames(env)
        play(command, env, names, FleetFilm(command, fleet, names), terminal)
        return 0

    return asked(command, env, watch)
