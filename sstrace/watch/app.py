"""``--watch``: the live table, full screen, until ``q``, Ctrl-C or the end of the terminal.

One loop: wait for keys, signals and events; fold events in as they come; once an interval, and after each key, draw. A
picture touches only the rows that it shows: their order is kept (watch.view), and what changes without events
(queues, timers, memory, tcp_info) is read from the kernel for these rows alone.
"""

import gc
import platform
import select
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from sstrace.changes import Change, Told
from sstrace.errors import SstraceError
from sstrace.live.signals import Stopped
from sstrace.live.tracer import Tracer
from sstrace.model import ALL_STATES, InetSocket, Renamed, State
from sstrace.modes.following import Following
from sstrace.namespaces.others import hint
from sstrace.output.row_filter import RowFilter
from sstrace.plain import printable
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.render import watch as render
from sstrace.render.times import time_of_day
from sstrace.sources.names import SystemNames
from sstrace.table import Resync, Row, Transition
from sstrace.watch.lines import RowLines, learn_inodes
from sstrace.watch.prompt import edited, filter_text, with_filter
from sstrace.watch.terminal import Terminal, colors_of
from sstrace.watch.view import SORTS, Entry, Verdict, Watched

__all__ = ["run"]

_INTERVAL_NS = 1_000_000_000
_TICK_S = 0.1
"""The rings are emptied at least so often; they wake the loop when they fill before."""
_ESCAPE_S = 0.03
"""After ESC: so long until it is the Escape key and not the beginning of an arrow."""
_FADE_NS = 2_000_000_000
"""A mark stays so long, but always for one regular picture."""
_RATE_NS = 1_000_000_000
"""Rates are taken over the last interval, but no less than this."""
_OWNERS_DUTY = 50
"""A look at the process table that took t is not repeated before 50 t have passed: 2 % of a CPU at most."""

_LISTEN = int(State.LISTEN)
_ORDER_WORDS = {
    "held": ("latest first", "longest first"),
    "state": ("listeners first", "closing first"),
    "local": ("lowest first", "highest first"),
    "peer": ("lowest first", "highest first"),
    "owner": ("A to Z", "Z to A"),
}


def run(command: Command, env: Mapping[str, str]) -> int:
    """Watch; the exit code. Raises UsageError where there is no terminal."""
    terminal = Terminal(env)
    stopped = Stopped()
    names = SystemNames(env)
    command = options.resolve(command, names)
    tracer = Tracer(env, names, poll_ns=command.own.poll_ns, fall_back=True)
    with Following(command, env, tracer, stopped) as following:
        tracer.start()
        watch = _Watch(command, env, names, following, terminal)
        following.record(watch.say, summary=True)
        following.measure()
        # Rows live long and form no cycles: to look at them again and again would only stall the loop.
        gc.collect()
        gc.freeze()
        try:
            terminal.enter()
            watch.draw()
            following.ready(f"watching {len(tracer.table)} sockets")
            if not len(tracer.table):
                watch.say(hint(command, env))
            watch.loop()
        finally:
            terminal.close()
    return following.code()


class _Frozen(msgspec.Struct):
    """The table as it was, with what the kernel said of its rows' queues at that moment."""

    view: Watched
    at_ns: int
    clock: str
    sockets: dict[int, InetSocket]
    rates: render.Rates


class _Watch:
    def __init__(
        self, command: Command, env: Mapping[str, str], names: SystemNames, following: Following, terminal: Terminal
    ) -> None:
        self._command = command
        self._names = names
        self._following = following
        self._tracer = tracer = following.tracer
        self._terminal = terminal
        self._utc = command.own.utc
        self._interval_ns = command.own.interval_ns or _INTERVAL_NS
        self._pictures = 0
        colors, plain = colors_of(command.own.color, env)
        self._painter = render.Painter(colors, plain=plain)
        self._glyphs = render.UNICODE if terminal.unicode else render.ASCII
        self._lines = RowLines(command, names, self._glyphs)
        self._host = printable(platform.node())
        self._filter_text = filter_text(command)
        self._states = command.selection.states
        selection = command.selection
        self._view = Watched(
            self._verdict(selection.families, command),
            selection.states,
            fade_ns=max(_FADE_NS, self._interval_ns * 3 // 2),
        )
        self._journal: dict[int, Row] = {}
        tracer.table.journal = self._journal
        self._view.reset(tracer.table, time.monotonic_ns())
        self._owners_due_ns = 0
        self._history: deque[tuple[int, int, int, int, int]] = deque()
        self._rates = render.Rates()
        self._frozen: _Frozen | None = None
        self._paused = False
        self._quit = False
        self._help = False
        self._message = ""
        self._prompt: render.Prompt | None = None
        self._top = 0
        self._pan = 0
        self._page = 1
        self._widths: render.Widths | None = None
        self._sample(time.monotonic_ns())

    def say(self, sentence: str) -> None:
        """Show a sentence until the next key."""
        self._message = sentence

    def _verdict(self, families: int, command: Command) -> Verdict:
        expression = command.selection.filter
        return Verdict(families, expression, RowFilter(expression, self._names).row)

    # ------------------------------------------------------------------------------------------------------- the loop

    def loop(self) -> None:
        """Until somebody ends it."""
        own, terminal, following = self._command.own, self._terminal, self._following
        poll = select.poll()
        terminal.register(poll)
        following.tracer.register(poll)
        due = time.monotonic_ns() + self._interval_ns
        for seconds in following.turns(_TICK_S):
            if self._quit or terminal.hung_up or terminal.gone:
                return
            wait = min(seconds, max(0, due - time.monotonic_ns()) / 1e9)
            ready = self._wait(poll, min(wait, _ESCAPE_S) if terminal.half else wait)
            terminal.flush()
            self._take(following.poll(0))
            if following.wanted:
                self._take(following.settle())
            drawn = self._system()
            for key in terminal.keys(ready=ready):
                self._key(key)
                drawn = True
            now = time.monotonic_ns()
            if now >= due:
                self._fold(now)
                self._sample(now)
                # Late pictures are not made up for.
                due = max(due + self._interval_ns, now)
                self._pictures += 1
                drawn = drawn or not self._paused
                if own.count is not None and self._pictures >= own.count:
                    self._quit = True
            if drawn and not self._quit:
                self.draw()

    def _wait(self, poll: select.poll, timeout_s: float) -> bool:
        """Sleep until something comes; whether it is keys."""
        descriptor, busy = self._terminal.waits()
        if busy:
            poll.register(descriptor, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(timeout_s * 1000)}
        if busy:
            poll.unregister(descriptor)
        return 0 in ready

    def _system(self) -> bool:
        """Do what signals ask for; whether the screen must be drawn."""
        terminal = self._terminal
        if terminal.suspend:
            terminal.pause_process()
            return True
        if terminal.resumed:
            terminal.resumed = False
            terminal.enter()  # whoever had the terminal meanwhile may have changed its modes
            return True
        if terminal.resized:
            terminal.resized = False
            self._widths = None
            return True
        return False

    def _take(self, changes: Iterable[Change | Told]) -> None:
        for change in changes:
            self._note(change)

    def _note(self, change: Change | Told) -> None:
        if type(change) is Transition:
            self._view.note(change)
        elif type(change) is Resync:
            self._view.rekey(row for row, _ in change.changed)
        elif type(change) is Renamed and change.before is not None:
            # The filter may think otherwise of them now.
            self._journal.update((row.id, row) for row in self._tracer.table if row.ifindex == change.index)

    def _fold(self, now_ns: int) -> None:
        self._view.fold(self._journal, self._tracer.table.__contains__, now_ns)

    def _own(self, visible: Sequence[Row], now_ns: int) -> None:
        """See who holds the rows on the screen, when a look is due: the tracer looks too, but for all rows, and so more
        seldom.
        """
        if visible and self._lines.show.processes and now_ns >= self._owners_due_ns:
            spent = time.thread_time_ns()
            self._tracer.own(visible)
            self._owners_due_ns = now_ns + _OWNERS_DUTY * (time.thread_time_ns() - spent)

    def _sample(self, now_ns: int) -> None:
        """Take the rates of the last interval."""
        tally = self._view.tally
        self._history.append((now_ns, tally.opened, tally.closed, tally.failed, self._tracer.events))
        while len(self._history) > 2 and now_ns - self._history[1][0] >= _RATE_NS:
            self._history.popleft()
        first, last = self._history[0], self._history[-1]
        seconds = (last[0] - first[0]) / 1e9
        if seconds > 0:
            opened, closed, failed, events = (
                (new - old) / seconds for old, new in zip(first[1:], last[1:], strict=True)
            )
            self._rates = render.Rates(opened, closed, failed, events)

    # -------------------------------------------------------------------------------------------------------- drawing

    def draw(self) -> None:
        """One picture, unless the terminal still has to take the last one."""
        if self._terminal.busy:
            return
        now = time.monotonic_ns()
        frozen = self._frozen
        if frozen is None:
            self._fold(now)
        view = frozen.view if frozen is not None else self._view
        width, height = self._terminal.size()
        self._page = max(1, height - render.fixed_rows(height))
        self._top = max(0, min(self._top, len(view) - self._page))
        entries = view.rows(self._top, self._page)
        lines = self._made(entries, now)
        self._widths = render.measure(lines, self._widths)
        picture = render.screen(self._look(view), lines, width, height)
        self._terminal.draw(self._painter.paint(picture, width, height))

    def _look(self, view: Watched) -> render.Look:
        frozen = self._frozen
        status = ""
        if frozen is not None:
            status = f"FROZEN {frozen.clock}, {self._view.changes - view.changes} changes since"
        elif self._paused:
            status = "PAUSED"
        assert self._widths is not None
        show = self._lines.show
        return render.Look(
            host=self._host,
            clock=time_of_day(time.time_ns(), utc=self._utc),
            interval=_interval(self._interval_ns),
            counts=view.counts(),
            states=view.states,
            rates=frozen.rates if frozen is not None else self._rates,
            lost=self._tracer.lost,
            polled=self._tracer.polls,
            total=len(view),
            top=self._top,
            sort=view.sort,
            order=_ORDER_WORDS[view.sort][view.backwards],
            filter=self._filter_text,
            status=status,
            pan=self._pan,
            queues=show.queues,
            process=any((show.processes, show.timers, show.extended, show.memory, show.info, show.tos, show.cgroup)),
            prompt=self._prompt,
            message=self._message,
            help=self._help,
            widths=self._widths,
            glyphs=self._glyphs,
        )

    def _made(self, entries: Sequence[Entry], now_ns: int) -> list[render.Line]:
        frozen = self._frozen
        if frozen is not None:
            return self._lines.make(entries, frozen.sockets, frozen.at_ns)
        rows = [entry.row for entry in entries if entry.mark != "-"]
        sockets = self._lines.ask(self._tracer.places, rows)
        learn_inodes(rows, sockets)
        self._own(rows, now_ns)
        return self._lines.make(entries, sockets, now_ns)

    # ----------------------------------------------------------------------------------------------------------- keys

    def _key(self, key: str) -> None:
        if self._prompt is not None:
            self._edit(self._prompt, key)
            return
        self._message = ""
        if self._help:
            self._help = False
            return
        view = self._frozen.view if self._frozen is not None else self._view
        if key in ("q", "Q"):
            self._quit = True
        elif key == " ":
            self._paused = not self._paused
        elif key in ("z", "Z"):
            self._freeze()
        elif key in ("h", "?"):
            self._help = True
        elif key in ("s", "S"):
            names = list(SORTS)
            self._sort(view, names[(names.index(view.sort) + (1 if key == "s" else -1)) % len(names)])
        elif key in ("1", "2", "3", "4", "5"):
            self._sort(view, list(SORTS)[int(key) - 1])
        elif key == "r":
            view.backwards = not view.backwards
        elif key == "/":
            if self._frozen is not None:
                self._message = "the table is frozen: press z to go on, then filter"
            else:
                self._prompt = render.Prompt("filter: ", self._filter_text, len(self._filter_text))
        elif key == "a":
            view.states = self._states if view.states != self._states else ALL_STATES
            view.resort()
        elif key == "p":
            self._lines.toggle_processes()
        elif key == "n":
            self._lines.toggle_numeric()
            self._widths = None
        elif key == "ctrl-l":
            self._terminal.enter()
        else:
            self._scroll(key, view)

    def _scroll(self, key: str, view: Watched) -> None:
        if key in ("up", "k"):
            self._top -= 1
        elif key in ("down", "j"):
            self._top += 1
        elif key in ("pageup", "ctrl-b"):
            self._top -= self._page
        elif key in ("pagedown", "ctrl-f"):
            self._top += self._page
        elif key in ("home", "g"):
            self._top = self._pan = 0
        elif key in ("end", "G"):
            self._top = len(view)
        elif key == "left":
            self._pan = max(0, self._pan - 8)
        elif key == "right":
            self._pan = min(4096, self._pan + 8)
        self._top = max(0, min(self._top, len(view)))

    def _sort(self, view: Watched, name: str) -> None:
        view.sort = name
        if name == "owner" and self._frozen is None:
            self._tracer.own()
        view.resort()
        self._widths = None
        self._top = 0

    def _freeze(self) -> None:
        if self._frozen is not None:
            live = self._frozen.view
            self._frozen = None
            # Sorting that was chosen meanwhile stays.
            self._view.sort, self._view.backwards, self._view.states = live.sort, live.backwards, live.states
            self._view.resort()
            return
        now = time.monotonic_ns()
        self._fold(now)
        view = self._view.frozen()
        alive = (entry.row for entry in view.rows(0, len(view)) if entry.mark != "-")
        sockets = self._lines.ask(self._tracer.places, alive)
        self._frozen = _Frozen(view, now, time_of_day(time.time_ns(), utc=self._utc), sockets, self._rates)

    def _edit(self, prompt: render.Prompt, key: str) -> None:
        """A key at the prompt."""
        self._message = ""
        if key == "escape":
            self._prompt = None
        elif key == "enter":
            self._prompt = None
            self._filter(prompt.text)
        else:
            self._prompt = edited(prompt, key)

    def _filter(self, text: str) -> None:
        """Look through another filter: the words as they would follow the options on a command line."""
        try:
            command = with_filter(self._command, text, self._names)
        except (SstraceError, ValueError) as error:
            said = str(error).partition("\n")[0].removeprefix("ss: ").removeprefix("sstrace: ")
            self._message = printable(said.encode(errors="replace").decode("latin-1"))
            return
        self._filter_text = text.strip()
        self._states = command.selection.states
        view = self._view
        view.verdict = self._verdict(command.selection.families, command)
        view.states = self._states
        view.reset(self._tracer.table, time.monotonic_ns())
        self._journal.clear()
        self._widths = None
        self._top = 0


def _interval(nanoseconds: int) -> str:
    if nanoseconds % 1_000_000_000 == 0:
        return f"{nanoseconds // 1_000_000_000}s"
    return f"{nanoseconds // 1_000_000}ms" if nanoseconds >= 1_000_000 else f"{nanoseconds}ns"
