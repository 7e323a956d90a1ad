"""What every mode that follows what happens has in common: signals, what it cannot see, the ready file, the service
manager, --duration, --metrics and --record beside it, and the order in which all that ends.

A mode makes its tracer, and fills in what is its own::

    with Following(command, env, tracer, Stopped()) as following:
        following.measure()
        tracer.start()
        following.record()
        following.ready()
        for seconds in following.turns():
            take(following.poll(seconds))
            if following.wanted:
                take(following.settle())
        take(following.settle())
"""

import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from sstrace.changes import Change, Told
from sstrace.errors import SstraceError
from sstrace.lines import MetaLine
from sstrace.live.signals import Stopped, touch, touch_later
from sstrace.live.tracer import Tracer
from sstrace.query.command import Command
from sstrace.query.spoken import unheard, unlooked
from sstrace.render.times import span_text
from sstrace.sources.clock import WallClock
from sstrace.sources.notify import Notify
from sstrace.sources.standard import remark, say

if TYPE_CHECKING:  # only who asks for them pays for them
    from sstrace.output.fleet import FleetFile
    from sstrace.output.metrics import Metrics
    from sstrace.output.recorder import Recorder

__all__ = ["Following"]

_QUIET_S = 0.3
"""Where nothing happens, what is due now and then is looked at this often: between two looks at the rings."""


class Following:
    """A tracer and what sees every change on its way to the mode. Leaving it detaches and closes everything."""

    def __init__(self, command: Command, env: Mapping[str, str], tracer: Tracer, stopped: Stopped) -> None:
        own = command.own
        self.tracer = tracer
        self.stopped = stopped
        self.metrics: Metrics | None = None
        self.recorders: list[Recorder] = []
        """--record, and what --sink names that takes the whole stream ..."""
        self.fleet: list[Recorder] = []
        """... the latter alone."""
        self._command = command
        self._env = env
        self._engines: list[FleetFile] = []
        self._tell: Callable[[Iterable[Change]], Iterator[Change | Told]] = iter
        self._tells_recorded = False
        self._duration_ns = own.duration_ns
        self._touch: Callable[[], None] = partial(touch, own.ready_file) if own.ready_file is not None else lambda: None
        self._notify = Notify(env)
        self._clock = WallClock()
        self.moved: Callable[[int], None] | None = None
        """Of a mode that says when: takes CLOCK_REALTIME minus CLOCK_MONOTONIC, ns, when somebody has set the clock."""

    def __enter__(self) -> Self:
        """Everything is open already; say what cannot be seen."""
        unknown = unlooked(self._command) if self.tracer.polls else ""
        for limit in filter(None, (*self.tracer.limits, unknown, unheard(self._command.selection))):
            say(limit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Detach first: nothing more comes; then end what saw it."""
        self.tracer.close()
        if self.metrics is not None:
            self.metrics.close()
        for recorder in self.recorders:
            recorder.close()
            if self._tells_recorded:
                remark(recorder.summary())
        for engine in self._engines:  # nothing has been recorded
            engine.close()

    # To begin.

    def measure(self) -> None:
        """--metrics, from here on. Raises FeatureError and SstraceError."""
        own, tracer = self._command.own, self.tracer
        if own.metrics is not None:
            if self._command.selection.filter is not None:
                remark("--metrics counts everything: the filter selects what is shown")
            from sstrace.live.living import Living
            from sstrace.output.carried import DATAGRAMS, Carried, Described
            from sstrace.output.datagrams import Datagrams
            from sstrace.output.looked import Looked
            from sstrace.output.metrics import Metrics
            from sstrace.output.texts import cgroup_text

            described = Described(cgroup_text(tracer.names), tracer.places.where)
            carried = Carried(own.metrics_by, described)
            datagrams = Datagrams(tracer, Carried(("protocol", *own.metrics_by), described, DATAGRAMS))
            looked, living = Looked(tracer), Living(tracer)
            self.metrics = Metrics(*own.metrics, tracer, carried, datagrams=datagrams, looked=looked, living=living)

    def reach(self) -> None:
        """--sink clickhouse: see, before anything begins, whether engines have their tables. Raises SstraceError."""
        for named in self._command.own.engines:
            from sstrace.output.fleet import FleetFile

            self._engines.append(FleetFile(named, self._env, say, spool=self._command.own.spool))

    def record(
        self,
        say: Callable[[str], None] = say,
        *,
        summary: bool = False,
        began: tuple[MetaLine, int] | None = None,
        user: tuple[int, int] | None = None,
    ) -> None:
        """--record, and the same into engines, from here on, with the table as it is now. ``say`` takes sentences about
        the file; ``summary``: at the end one tells what was recorded, for a mode that has no other summary; ``began``:
        output.recorder.begin, for one that writes the same elsewhere; ``user``: whom this process is about to become.
        Raises SstraceError and PrivilegeError.
        """
        if self._command.own.record is None and not self._engines:
            return
        from sstrace.output.recorder import Recorder, begin, recording_of

        began = began or begin(self.tracer)
        self._tells_recorded = summary
        if self._command.own.record is not None:
            self.recorders.append(recording_of(self._command, self.tracer, began, say, user))
        while self._engines:
            engine = self._engines.pop(0)
            recorder = Recorder(engine.name, self.tracer, say=say, into=engine, second=bool(self.recorders))
            self.recorders.append(recorder)
            self.fleet.append(recorder)
            recorder.begin(*began)
        self._tell = self._recorded

    def _recorded(self, changes: Iterable[Change | Told]) -> Iterator[Change | Told]:
        for recorder in self.recorders:
            changes = recorder.through(changes)
        return iter(changes)

    def announce(self, at_ns: int) -> None:
        """Have what no transition tells stand among the changes, as a recording has it anyway; the table as it is now
        has been told.
        """
        if not self.recorders:
            from sstrace.live.announce import Announcer

            announcer = Announcer(self.tracer.table)
            announcer.begin(at_ns)
            self._tell = announcer.through

    def keep_rights(self) -> None:
        """Be able to make the ready file with the rights of now, whatever this process gives up before ``ready``."""
        if self._command.own.ready_file is not None:
            self._touch = touch_later(self._command.own.ready_file)

    def ready(self, status: str) -> None:
        """Tell who waits that every hook is attached and the table is in. ``status`` is for the service manager."""
        self._touch()
        self._notify.ready(status)

    # To go on.

    def turns(self, tick_s: float = _QUIET_S) -> Iterator[float]:
        """Again and again how many seconds may be waited for something, until a signal or --duration ends it; events
        cut that short (``poll``, ``sleep``).
        """
        end = time.monotonic_ns() + self._duration_ns if self._duration_ns is not None else None
        try:
            while not self.stopped.now:
                left = tick_s if end is None else min(tick_s, (end - time.monotonic_ns()) / 1e9)
                if left <= 0:
                    break
                yield left
                self.tick()
                self._notify.alive()
        finally:
            self._notify.stopping()

    def tick(self) -> None:
        """Between two batches, or while somebody slow is waited for: write and answer what is due."""
        step_ns = self._clock.moved()
        if step_ns is not None:
            self._move(step_ns)
        for recorder in self.recorders:
            recorder.tick()
        if self.metrics is not None:
            self.metrics.tick()

    def _move(self, step_ns: int) -> None:
        for recorder in self.recorders:
            recorder.move(self._clock.offset_ns)
        if self.moved is not None:
            self.moved(self._clock.offset_ns)
            way = "forward" if step_ns > 0 else "back"
            say(f"the clock was set {way} by {span_text(abs(step_ns))}: times are by the new one from here on")

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for the metrics, which are to count all that has happened: ``settle``."""
        return self.metrics is not None and self.metrics.wanted

    def poll(self, seconds: float) -> Iterator[Change | Told]:
        """What changed, counted and recorded; see ``Tracer.poll``."""
        return self.through(self.tracer.poll(seconds, self._hurries))

    def sleep(self, waiting: select.poll, seconds: float) -> list[tuple[int, int]]:
        """For a mode that waits for more than events: see ``Tracer.sleep``."""
        return self.tracer.sleep(waiting, seconds, self._hurries)

    def _hurries(self) -> bool:
        return self.stopped.now or self.wanted

    def settle(self) -> Iterator[Change | Told]:
        """The same of everything that happened before this call."""
        return self.through(self.tracer.settle())

    def heal(self) -> Iterator[Change | Told]:
        """What an event should have told that was lost, or not heard, as far as a short look finds it."""
        return self.through(self.tracer.heal())

    def through(self, changes: Iterable[Change]) -> Iterator[Change | Told]:
        """The same changes, counted and recorded, and what is told besides."""
        return self._tell(changes if self.metrics is None else self.metrics.through(changes))

    @property
    def recorded(self) -> str:
        """What was recorded, to end a summary with; empty where nothing is."""
        return "".join(f"; {recorder.summary()}" for recorder in self.recorders)

    def code(self, *, failed: bool = False) -> int:
        """The exit code, once this has been left: whether the last lines of the recording, or of what else ``failed``,
        could be written.
        """
        failed = failed or any(recorder.failed for recorder in self.recorders)
        return SstraceError.exit_code if failed else 0
