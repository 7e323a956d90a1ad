"""Where a parsed command line goes: to the module that does what it asks for."""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Final

from sstrace.errors import DecodeError
from sstrace.query.command import ENGINE, Act, Command
from sstrace.sources.standard import quieten, say

__all__ = ["run"]

_ROTATES: Final = (Act.TRACE, Act.REPLAY)
"""Those that write --output themselves, to begin it anew and to survive a full disk."""

_OF_HOSTS: Final = {
    Act.PAST: "modes.hosts",
    Act.BETWEEN: "modes.hosts",
    Act.REPLAY: "modes.hosts_replay",
    Act.STATS_PAST: "modes.hosts_stats",
    Act.EXPLAIN_PAST: "modes.hosts_explain",
    Act.WATCH_PAST: "watch.hosts_player",
}
"""Where those go that are asked of a directory of recordings, or of hosts by name."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Do what the command line says; the exit code. Each module is imported only when it is the one: start-up is a
    feature.
    """
    if command.own.quiet:
        quieten()
    if command.own.output is not None and command.act not in _ROTATES:
        _redirect(command.own.output)
    try:
        return int(import_module(f"sstrace.{_module(command)}").run(command, env))
    finally:
        if command.own.self_usage:
            _say_usage()


def _module(command: Command) -> str:
    own, act = command.own, command.act
    paths = own.recordings
    if not paths:
        return act.module
    from sstrace.sources.folder import is_folder, is_there

    several = [path for path in paths if path.startswith(ENGINE) or is_folder(path)]
    for path in paths:
        if path not in several and path != "-" and not is_there(path):
            _suggest(path)
    if own.engines and act is Act.REPLAY:
        return "modes.backfill"
    if own.parquet is not None:
        return "modes.parquet"
    if act in _OF_HOSTS and (own.hosts or several or (len(paths) > 1 and _are_of_several(paths))):
        return _OF_HOSTS[act]
    return act.module


def _are_of_several(paths: Sequence[str]) -> bool:
    from sstrace.modes.whose import are_of_several

    return are_of_several(paths)


def _suggest(path: str) -> None:
    """Of a file that is not there: whether one of the other sources was meant. Raises DecodeError where one was."""
    from sstrace.query.nearest import nearest

    word, colon, rest = path.partition(":")
    meant = nearest(word + colon, ("netlink", "live", "live:", ENGINE))
    if meant is not None:
        raise DecodeError(f"cannot read {path}: No such file or directory: did you mean {meant}{rest}?")


def _redirect(path: str) -> None:
    from sstrace.sources.stream import open_output

    fd = open_output(path)
    os.set_blocking(fd, True)
    os.dup2(fd, 1)


def _say_usage() -> None:
    """Of this process and of those that it waited for: the compiler of BPF programs is one."""
    from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

    own, children = getrusage(RUSAGE_SELF), getrusage(RUSAGE_CHILDREN)
    seconds = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    say(f"it took {seconds:.2f} s of CPU and {own.ru_maxrss / 1024:.0f} MiB of memory")
