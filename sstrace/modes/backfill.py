"""``--replay FILE --sink clickhouse:URL``: recordings, and directories of them, into an engine afterwards.

A file is known by its first line and a line by its number, so what is brought again, all or some of it, is there once.
"""

from collections.abc import Mapping
from functools import partial

from sstrace import __version__
from sstrace.fleet import schema
from sstrace.fleet.brought import bring
from sstrace.fleet.rows import Rows, run_of
from sstrace.output.fleet import KIND, check
from sstrace.plain import counted
from sstrace.query.command import Command
from sstrace.recording.fleet import Fleet
from sstrace.sources.clickhouse import Engine, address_of
from sstrace.sources.standard import say

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Bring them; the exit code. Raises what reading and inserting raise: what is there by then stays."""
    option = f"--sink {KIND}"
    fleet = Fleet(command.own.recordings, command.own.hosts)
    parts = [part for one in fleet.series for part in one.parts]
    for named in command.own.engines:
        engine = Engine(address_of(named.partition(":")[2], f"{option}:"), env, __version__, option=option)
        check(engine)
        insert = partial(engine.insert, "lines", schema.GIVEN, settings=schema.WRITE)
        lines = 0
        for one in fleet.series:
            for part in one.parts:
                lines += bring(fleet, part, Rows(part.head.host or one.host, run_of(part.head)), insert)
        engine.close()
        say(f"{counted(lines, 'line')} of {counted(len(parts), 'file')} are in {engine.address.text}")
    return 0
