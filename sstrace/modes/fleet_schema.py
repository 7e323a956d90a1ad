"""``--fleet-schema``: the tables that ``--sink clickhouse`` writes, as statements for ``clickhouse-client``.

Run again they change nothing; run on tables of an older sstrace they bring these to its version.
"""

from collections.abc import Mapping

from sstrace import __version__
from sstrace.fleet.schema import ddl
from sstrace.query.command import Command
from sstrace.sources.standard import give

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Print them; the exit code. ``env`` changes nothing."""
    give("".join(f"{statement};\n\n" for statement in ddl(__version__, replicated=command.own.replicated)).encode())
    return 0
