"""Where a parsed command line goes: to the mode that it asks for."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sstrace.errors import UsageError
from sstrace.protocols import FOLLOWED

if TYPE_CHECKING:  # imports are start-up time
    from sstrace.query.command import Command

__all__ = ["run"]


def run(command: "Command", env: Mapping[str, str]) -> int:
    """Do what the command line says; the exit code. Each mode is imported only when it is the one: start-up is a
    feature.
    """
    from sstrace.query.command import Mode

    if command.own.output is not None and (command.mode is not Mode.TRACE or command.own.stats):
        # A trace writes its file itself, to rotate it and to survive a full disk.
        _redirect(command.own.output)
    if command.own.sink and (command.mode is not Mode.TRACE or command.own.stats):
        raise UsageError("sstrace: --sink takes the events of a trace; tables go to standard output, or --output FILE")
    if command.own.record is not None and command.mode in (Mode.SNAPSHOT, Mode.DOCTOR):
        raise UsageError(f"sstrace: --record writes what happens, and --{command.mode.value} does not wait for it")
    _refuse_idle(command)
    _refuse_time(command)
    source = command.own.source
    if source is not None and source.kind != "netlink":
        if command.mode in (Mode.VERIFY, Mode.SERVE, Mode.DOCTOR):
            raise UsageError(f"sstrace: --from says where a table comes from; --{command.mode.value} looks for itself")
        if source.kind == "live" and command.mode is Mode.TRACE and not command.own.stats:
            raise UsageError("sstrace: --from live gives tables: use it with --snapshot, --watch or --stats")
    if command.own.stats and command.mode not in (Mode.TRACE, Mode.SERVE):
        raise UsageError(f"sstrace: --stats and --{command.mode.value} are two things: choose one")
    if command.mode in (Mode.TRACE, Mode.VERIFY) and not command.selection.tables & FOLLOWED:
        raise UsageError(
            "sstrace: only TCP tells what happens to it: add -t, or look at other tables with --snapshot or --watch"
        )
    if command.mode is Mode.SNAPSHOT:
        counts_alone = command.selection.summary and not command.selection.listing
        if source is not None and source.kind == "live" and not counts_alone:  # -s reads counters, not sockets
            from sstrace.live.width import screen_width
            from sstrace.server import ask

            return ask.snapshot(command, screen_width(env, columns_env=command.dialect.columns_env))
        if source is not None and source.kind == "file":
            from sstrace.modes import past

            return past.run(command, env)
        from sstrace.modes import snapshot

        return snapshot.run(command, env)
    if command.mode is Mode.TRACE and command.own.stats:
        from sstrace.modes import stats

        return stats.run(command, env)
    if command.mode is Mode.TRACE and _is_recorded(command):
        from sstrace.modes import replay

        return replay.run(command, env)
    if command.mode is Mode.TRACE:
        from sstrace.modes import trace

        return trace.run(command, env)
    if command.mode is Mode.VERIFY:
        from sstrace.modes import verify

        return verify.run(command, env)
    if command.mode is Mode.SERVE:
        from sstrace.server import serve

        return serve.run(command, env)
    if command.mode is Mode.DOCTOR:
        from sstrace.modes import doctor

        return doctor.run(command, env)
    if command.mode is Mode.WATCH:
        from sstrace.watch import app as watch

        return watch.run(command, env)
    raise UsageError(f"--{command.mode.value} is not there yet")


def _refuse_idle(command: "Command") -> None:
    """Nobody should wait for an option to do what it never does. Raises UsageError."""
    from sstrace.query.command import Mode

    own, mode, source = command.own, command.mode, command.own.source
    what = f"--{mode.value}"
    at_once = mode in (Mode.SNAPSHOT, Mode.DOCTOR)
    goes_on = not at_once
    if mode is Mode.TRACE:
        asks = own.stats and source is not None and source.kind == "live"
        what = "--stats" if own.stats else "--replay" if _is_recorded(command) else "a trace"
        goes_on = not asks and not _is_recorded(command)
    for option, value, useful in (
        ("duration", own.duration_ns, goes_on),
        ("ready-file", own.ready_file, not at_once),
        ("count", own.count, mode in (Mode.TRACE, Mode.WATCH)),
        ("no-baseline", own.no_baseline or None, mode is Mode.TRACE and not own.stats),
        ("interval", own.interval_ns, mode in (Mode.WATCH, Mode.VERIFY)),
    ):
        if value is not None and not useful:
            raise UsageError(f"sstrace: --{option} means nothing to {what}: leave it away")


def _refuse_time(command: "Command") -> None:
    """--time is of text that tells moments. Raises UsageError."""
    from sstrace.query.command import Mode

    own, mode = command.own, command.mode
    if own.time is None or (own.json and own.utc):
        return
    if own.json:
        raise UsageError(f"sstrace: --json has its times in UTC: --time {own.time} is of text")
    if mode is Mode.VERIFY or (mode is Mode.TRACE and not own.stats):
        return
    if own.stats or mode is Mode.WATCH or own.at is not None or own.between is not None:
        if not own.utc:
            raise UsageError(f"sstrace: --time {own.time} is of lines of events: here write utc, or nothing")
        return
    raise UsageError(f"sstrace: --time means nothing to --{mode.value}: leave it away")


def _redirect(path: str) -> None:
    import os

    from sstrace.sources.stream import open_output

    fd = open_output(path)
    os.set_blocking(fd, True)
    os.dup2(fd, 1)


def _is_recorded(command: "Command") -> bool:
    source = command.own.source
    return bool(command.own.replay) or (source is not None and source.kind == "file")
