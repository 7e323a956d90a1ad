"""Where a parsed command line goes: to the module that does what it asks for."""

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from sstrace.query.command import Act, Command
from sstrace.sources.standard import say

__all__ = ["run"]

_MODULES: Final = {
    Act.TRACE: "modes.trace",
    Act.REPLAY: "modes.replay",
    Act.STATS: "modes.stats",
    Act.STATS_PAST: "modes.stats",
    Act.SNAPSHOT: "modes.snapshot",
    Act.PAST: "modes.past",
    Act.BETWEEN: "modes.past",
    Act.WATCH: "watch.app",
    Act.SERVE: "server.serve",
    Act.SERVE_STATS: "server.serve",
    Act.VERIFY: "modes.verify",
    Act.DOCTOR: "modes.doctor",
}


def run(command: Command, env: Mapping[str, str]) -> int:
    """Do what the command line says; the exit code. Each module is imported only when it is the one: start-up is a
    feature.
    """
    own, act = command.own, command.act
    if own.output is not None and act not in (Act.TRACE, Act.REPLAY):
        # A trace writes its file itself, to rotate it and to survive a full disk.
        _redirect(own.output)
    try:
        if act not in (Act.LIVE, Act.STATS_LIVE):
            return int(import_module(f"sstrace.{_MODULES[act]}").run(command, env))
        counts_alone = command.selection.summary and not command.selection.listing
        if act is Act.LIVE and counts_alone:  # -s reads counters, not sockets
            from sstrace.modes import snapshot

            return snapshot.run(command, env)
        from sstrace.live.width import screen_width
        from sstrace.server import ask

        width = screen_width(env, columns_env=command.dialect.columns_env) if act is Act.LIVE else None
        return ask.snapshot(command, width)
    finally:
        if own.self_usage:
            _say_usage()


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
