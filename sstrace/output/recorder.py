"""``--record``: every change of the live table into a file, beside whatever else the mode does; with
``--sink clickhouse`` the same into an engine.

The file is the stream of ``--json``, unfiltered, with the baseline in it, and with checkpoints: now and then the whole
table, so that a reader can start near any moment. Rows that came, went or got their addresses without a transition
are told too (live.announce), so what is folded from the file is the table, row by row.

When the file cannot be written, tracing goes on: the lines are counted, and as soon as writing works again a
checkpoint makes the recording whole from there on.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from sstrace import __version__
from sstrace.changes import Change, Told
from sstrace.errors import PrivilegeError, SstraceError, reason
from sstrace.lines import SCHEMA, MetaLine
from sstrace.live.announce import Announcer
from sstrace.live.tracer import Tracer
from sstrace.model import Table
from sstrace.output.telling import tell
from sstrace.output.texts import cgroup_text, ifname_text
from sstrace.plain import counted, spelled
from sstrace.protocols import OF_TABLE
from sstrace.query.command import Command
from sstrace.render.events import EventWriter, timestamp
from sstrace.sources import files, privilege
from sstrace.sources.clock import clock_offset
from sstrace.sources.names import SystemNames
from sstrace.sources.record import RecordFile, numbered, older_parts
from sstrace.sources.standard import say
from sstrace.sources.stream import count_lines
from sstrace.table import Resync, Transition

__all__ = ["Kept", "Recorder", "begin", "recording_of"]

_FLUSH_NS = 500_000_000
_FLUSH_BYTES = 1 << 18
_RETRY_NS = 1_000_000_000

_CHECKPOINT_EVENTS = 50_000
"""A reader decodes and folds so many in 30 ms. With a large table the distance grows, to four times its rows."""
_CHECKPOINT_NS = 60_000_000_000
"""Of a slow stream: after so long, if at least as many lines were written as a checkpoint has."""

_MARK_NS = 10_000_000_000
"""Of a silent stream: after so long a line says that nothing has happened."""

_SETTLED_NS = 5_000_000


def describe(
    netns: int, names: SystemNames, now_ns: int, offset_ns: int, tables: Sequence[Table], *, several: bool = False
) -> MetaLine:
    """The first line of a stream that begins now on this machine. ``tables``: what is followed; ``several``: see
    MetaLine.
    """
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot_id = ""
    return MetaLine(
        schema=SCHEMA,
        version=__version__,
        ts=timestamp(now_ns + offset_ns),
        mono_ns=now_ns,
        host=spelled(platform.node()),
        kernel=platform.release(),
        boot_id=boot_id,
        netns=netns,
        ephemeral=names.ephemeral(),
        interfaces=_interfaces(names),
        netids=tuple(OF_TABLE[table].netid for table in tables) if tuple(tables) != (Table.TCP,) else (),
        several=several,
    )


def _interfaces(names: SystemNames) -> dict[str, int]:
    return {spelled(name): index for index, name in names.interfaces().items()}


class Kept(Protocol):
    """What a recorder writes into: sources.record.RecordFile, output.fleet.FleetFile."""

    size: int
    """Bytes in it."""

    @property
    def queued(self) -> int:
        """Bytes that wait for whoever takes them."""
        ...

    @property
    def lost(self) -> int:
        """Lines that were written, and that nobody will ever take."""
        ...

    @property
    def ready(self) -> bool:
        """After a failure: whether trying again may help."""
        ...

    def write(self, data: bytes | bytearray) -> None:
        """Append whole lines; an OSError leaves it as it was."""
        ...

    def close(self) -> None:
        """End it."""
        ...

    def summary(self) -> str:
        """What there is to say of it in the end, behind how many lines were written; empty for nothing."""
        ...


class Recorder:
    """Writes what ``through`` is given. Close it to have the last lines on disk."""

    def __init__(
        self,
        path: str,
        tracer: Tracer,
        *,
        rotate: int | None = None,
        rotate_ns: int | None = None,
        keep: int | None = None,
        say: Callable[[str], None] = say,
        into: Kept | None = None,
        second: bool = False,
    ) -> None:
        """Make the file. ``rotate``, ``rotate_ns``: bytes, and time, after which the next file begins; ``keep``: how
        many files there may be; ``say`` takes sentences about trouble, standard error unless given; ``into``: what is
        written instead of a file, and called ``path``; ``second``: the changes have been through another recorder,
        which tells what is untold. Raises SstraceError.
        """
        self._say = say
        self._path = path
        self._tracer = tracer
        self._table = tracer.table
        self._rotate = rotate
        self._rotate_ns = rotate_ns
        self._began_ns = time.monotonic_ns()
        self._keep = keep
        if (rotate is not None or rotate_ns is not None) and (reason := self._shift()) is not None:
            raise SstraceError(f"cannot rename {path}: {reason}: record to another file, or move this one away")
        self._file: Kept = RecordFile(path) if into is None else into
        self._names = names = tracer.names
        self._writer = EventWriter(0, cgroup_text(names), ifname_text(names), tracer.places.where)
        self._meta: MetaLine | None = None
        self._out = bytearray()
        self._announcer = None if second else Announcer(tracer.table)
        self._baseline = 0
        self._since = 0
        self._checkpoint_ns = 0
        self._flushed_ns = 0
        self._marked_ns = 0
        self._broken: str | None = None
        self._retry_ns = 0
        self._hole = 0
        self.lines = 0
        """Written so far."""
        self.unwritten = 0
        """Lines that could not be written."""

    def begin(self, meta: MetaLine, offset_ns: int) -> None:
        """The first lines: the table as it is now."""
        self._meta = meta
        self._writer.offset_ns = offset_ns
        self._checkpoint_ns = self._flushed_ns = self._marked_ns = meta.mono_ns
        if self._announcer is not None:
            self._announcer.begin(meta.mono_ns)
        self._writer.meta(meta, self._out)
        for news in self._tracer.places.here(meta.mono_ns):
            self._writer.netns(news, self._out)
        for row in self._table:
            self._writer.seen(row, meta.mono_ns, self._out)
        self._flush()
        self._baseline = self._file.size

    def through(self, changes: Iterable[Change | Told]) -> Iterator[Change | Told]:
        """The same changes, and what they leave untold, each recorded before it is handed on."""
        writer, out = self._writer, self._out
        for change in changes if self._announcer is None else self._announcer.through(changes):
            if type(change) is Transition:
                self._since += 1
            if self._broken is not None:
                self._skip(change)
            elif type(change) is Transition:
                writer.state(change, out)
                if len(out) > _FLUSH_BYTES:
                    self._flush()
            else:
                tell(change, writer, out)
            yield change
        self._tend()

    def tick(self) -> None:
        """While nothing comes through, because somebody else is waited for: write what is due."""
        now = time.monotonic_ns()
        if self._broken is None and self._out and now - self._flushed_ns >= _FLUSH_NS:
            self._flush()
            self._flushed_ns = now

    def close(self) -> None:
        """Write what is left and end the file."""
        if self._announcer is not None:
            self._announcer.close()
        if self._broken is not None:
            self._try_again(time.monotonic_ns())
        else:
            self._mark()
            self._flush()
        self._file.close()

    @property
    def name(self) -> str:
        """What is written."""
        return self._path

    @property
    def queued(self) -> int:
        """Bytes that wait."""
        return self._file.queued

    @property
    def missed(self) -> int:
        """Lines that are not there, and will not be."""
        return self.unwritten + self._file.lost

    def statistics(self) -> str:
        """For SIGUSR1."""
        text = f"{self._path}: {counted(self.lines, 'line')}, {self._file.size} bytes, {self.queued} bytes queued"
        return text + (f", {counted(self.missed, 'line')} dropped" if self.missed else "")

    @property
    def failed(self) -> bool:
        """Whether the latest lines could not be written: of a hole that nothing in the file tells."""
        return self._broken is not None

    def summary(self) -> str:
        """What was written, for the last line on standard error."""
        text = f"{counted(self.lines, 'line')} recorded to {self._path}"
        if self.unwritten:
            text += f", {self.unwritten} could not be written"
        return text + self._file.summary()

    # Lines.

    def _skip(self, change: Change | Told) -> None:
        """Count the lines that there is no use in making: the file cannot be written now."""
        lines = 1
        if type(change) is Resync:
            lines += len(change.added) + len(change.removed) + len(change.changed)
        self._writer.seq += lines
        self.unwritten += lines
        self._hole += lines

    # The file.

    def _tend(self) -> None:
        """Flush, checkpoint, rotate, or try again, when it is time."""
        now = time.monotonic_ns()
        if self._broken is not None:
            if now >= self._retry_ns and self._file.ready:
                self._try_again(now)
            return
        rows = len(self._table)
        if self._since >= max(_CHECKPOINT_EVENTS, 4 * rows) or (
            now - self._checkpoint_ns >= _CHECKPOINT_NS and self._since >= rows and self._since
        ):
            self._checkpoint()
        if self._out:
            self._marked_ns = now
        elif now - self._marked_ns >= _MARK_NS:
            self._mark()
        if now - self._flushed_ns >= _FLUSH_NS or len(self._out) > _FLUSH_BYTES:
            self._flush()
            self._flushed_ns = now
        # Where the table alone is as large as a file may be, each file still holds as much of history as of it: else
        # --keep would soon leave nothing but tables.
        if (self._rotate is not None and self._file.size >= max(self._rotate, 2 * self._baseline)) or (
            self._rotate_ns is not None and now - self._began_ns >= self._rotate_ns
        ):
            self._next_file()

    def move(self, offset_ns: int) -> None:
        """The clocks stand otherwise to each other from here on: readers take both from a checkpoint."""
        self._writer.offset_ns = offset_ns
        self._checkpoint()

    def _mark(self) -> None:
        self._marked_ns = time.monotonic_ns()
        # What happened just now may not have been folded in yet.
        self._writer.mark(max(self._marked_ns - _SETTLED_NS, self._table.last_ns), self._out)

    def _checkpoint(self) -> None:
        at_ns = self._table.last_ns
        places = self._tracer.places.here(at_ns)
        self._writer.checkpoint(places, list(self._table), at_ns, self._hole, self._out)
        self._since = 0
        self._checkpoint_ns = time.monotonic_ns()

    def _flush(self) -> None:
        if not self._out:
            return
        lines = count_lines(self._out)
        try:
            self._file.write(self._out)
        except OSError as error:
            self.unwritten += lines
            self._hole += lines
            if self._broken is None:
                sentence = f"cannot write {self._path}: {reason(error)}"
                self._say(f"{sentence}: tracing goes on, the recording has a hole here")
            self._broken = reason(error)
            self._retry_ns = time.monotonic_ns() + _RETRY_NS
        else:
            self.lines += lines
            self._broken = None
        self._out.clear()

    def _try_again(self, now_ns: int) -> None:
        reason, hole, unwritten = self._broken, self._hole, self.unwritten
        if not self._file.size:
            self._write_meta()
        self._checkpoint()
        self._flush()
        if self._broken is None:
            self._say(f"{self._path} is written again: {counted(hole, 'line', 'is/are')} missing")
            self._hole = 0
            self._flushed_ns = now_ns
        else:
            # The attempt's own lines were never due.
            self._broken, self._hole, self.unwritten = reason, hole, unwritten

    def _write_meta(self) -> None:
        if self._meta is not None:
            now = self._table.last_ns
            ts = timestamp(now + self._writer.offset_ns)
            interfaces = _interfaces(self._names)
            meta = msgspec.structs.replace(self._meta, ts=ts, mono_ns=now, interfaces=interfaces)
            self._writer.meta(meta, self._out)

    # Rotation.

    def _next_file(self) -> None:
        self._flush()
        if self._broken is not None:
            return
        if (reason := self._shift()) is not None:
            self._say(f"cannot rename {self._path}: {reason}: the recording goes on in the same file")
            self._rotate = self._rotate_ns = None
            return
        try:
            following = RecordFile(self._path)
        except SstraceError as error:
            self._say(f"{error}: the recording goes on in the file that was renamed")
            self._rotate = self._rotate_ns = None
            return
        self._file.close()
        self._file = following
        self._began_ns = time.monotonic_ns()
        if self._meta is not None:
            self._meta = msgspec.structs.replace(self._meta, part=(self._meta.part or 0) + 1)
        hole, unwritten = self._hole, self.unwritten
        self._write_meta()
        self._checkpoint()
        self._flush()
        if self._broken is not None:
            self._hole, self.unwritten = hole, unwritten  # the table's lines were never due
        self._baseline = self._file.size

    def _shift(self) -> str | None:
        """Give the file that bears the name a number, and drop what is too old; why that cannot be, or None."""
        parts = older_parts(self._path)
        number = parts[-1][0] + 1 if parts else 1
        path = Path(self._path)
        try:
            if path.is_file() and path.stat().st_size:
                files.rename(self._path, Path(numbered(self._path, number)).name)
                parts.append((number, numbered(self._path, number)))
        except OSError as error:
            return reason(error)
        if self._keep is not None:
            for _, old in parts[: max(len(parts) + 1 - self._keep, 0)]:
                with suppress(OSError):
                    files.remove(old)
        return None


def begin(tracer: Tracer) -> tuple[MetaLine, int]:
    """What a stream begins with, now, and CLOCK_REALTIME minus CLOCK_MONOTONIC."""
    now, offset = time.monotonic_ns(), clock_offset()
    where = tracer.places.where
    several = where is not None and where.many
    return describe(tracer.netns.inode, tracer.names, now, offset, tracer.tables, several=several), offset


def recording_of(
    command: Command,
    tracer: Tracer,
    began: tuple[MetaLine, int],
    say: Callable[[str], None],
    user: tuple[int, int] | None = None,
) -> Recorder:
    """What --record wants, with the table as it is now in it; ``began``: see ``begin``. Have it see every change
    (``through``), and close it. ``user`` (uid, gid): whom this process is about to become, so the files are that user's
    from the start, made with no other's rights. Raises SstraceError, and PrivilegeError where that user may not.
    """
    own = command.own
    assert own.record is not None
    rotates = own.rotate_bytes is not None or own.rotate_ns is not None
    with privilege.acting_as(user):
        _refuse_what_is_not_theirs(own.record, user, rotates=rotates)
        recorder = Recorder(
            own.record, tracer, rotate=own.rotate_bytes, rotate_ns=own.rotate_ns, keep=own.keep, say=say
        )
    recorder.begin(*began)
    return recorder


def _refuse_what_is_not_theirs(path: str, user: tuple[int, int] | None, *, rotates: bool) -> None:
    """Where a server gives up root for a user who cannot write here: say so, and what to do."""
    folder = Path(path).parent
    place, needed = (folder, os.W_OK | os.X_OK) if rotates or not os.path.lexists(path) else (path, os.W_OK)
    if user is not None and not os.access(place, needed, effective_ids=True):
        raise PrivilegeError(
            f"cannot record to {path}: the server becomes uid {user[0]} before it writes, who may not make files in "
            f"{folder}: add a user sstrace with a directory for it (useradd -r sstrace; install -d -o sstrace DIR), or "
            "add --keep-privileges"
        )
