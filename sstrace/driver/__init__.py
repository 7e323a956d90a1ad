"""The loops. The only package that knows every room; ``run`` is where a parsed command line goes."""

from collections.abc import Mapping

from sstrace.errors import UsageError
from sstrace.query.command import Command, Mode

__all__ = ["run"]


def run(command: Command, env: Mapping[str, str]) -> int:
    """Do what the command line says; the exit code. Each mode is imported only when it is the one: start-up is a
    feature.
    """
    if command.mode is Mode.SNAPSHOT:
        from sstrace.driver import snapshot

        return snapshot.run(command, env)
    if command.mode is Mode.TRACE:
        from sstrace.driver import trace

        return trace.run(command, env)
    if command.mode is Mode.VERIFY:
        from sstrace.driver import verify

        return verify.run(command, env)
    raise UsageError(f"--{command.mode.value} is not there yet")
