"""``--replay SOURCE --parquet FILE``: recorded lines as a file of Parquet, by the engine that is named, or by
chDB, into which files are put for it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress

from sstrace.errors import SstraceError, reason
from sstrace.fleet.asked import EngineFleet
from sstrace.fleet.choice import fleet_of
from sstrace.fleet.loaded import loaded
from sstrace.query.command import Command
from sstrace.sources import files
from sstrace.sources.standard import write_all

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Write it; the exit code. Raises what asking raises, and SstraceError where nothing can be written."""
    fleet = fleet_of(command, env)
    if isinstance(fleet, EngineFleet):
        _write(command, fleet)
        return 0
    with loaded(fleet, env) as kept:
        _write(command, kept)
    return 0


def _write(command: Command, fleet: EngineFleet) -> None:
    own, path = command.own, command.own.parquet
    assert path is not None
    within = fleet.window(own.between, utc=own.utc) if own.between is not None else None
    blocks = fleet.parquet([part for one in fleet.series for part in one.parts], within)
    first = next(blocks, b"")  # nothing is made where nothing comes
    try:
        fd = files.open_for_writing(path, empty=True)
        with os.fdopen(fd, "wb", buffering=0):
            try:
                write_all(fd, first)
                for block in blocks:
                    write_all(fd, block)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(fd, 0)
                raise
    except (OSError, ValueError) as error:
        raise SstraceError(f"cannot write {path}: {reason(error)}") from None
