"""``--watch``: the live table, full screen, until ``q``, Ctrl-C or the end of the terminal.

One loop: wait for keys, signals and events; fold events in as they come; once an interval, and after each key, draw. A
picture touches only the rows that it shows: their order is kept (watch.view), and what changes without events
(queues, timers, memory, tcp_info) is read from the kernel for these rows alone.
"""

import gc
import platform
import select
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from sstrace.changes import Change, Told
from sstrace.decoders import decoders
from sstrace.errors import KernelError, SstraceError, UsageError
from sstrace.live.signals import Stopped, touch
from sstrace.live.source import look_at
from sstrace.live.tracer import Tracer
from sstrace.model import ALL_STATES, STATE_TEXT, InetSocket, Renamed, State, Table
from sstrace.query import options
from sstrace.query.command import Command, Early
from sstrace.query.match import predicate
from sstrace.render import watch as render
from sstrace.render.common import Context, users
from sstrace.render.inet import InetCells
from sstrace.render.times import span_text, time_of_day
from sstrace.rows import socket_of
from sstrace.sources.names import SystemNames
from sstrace.table import Resync, Row, Transition
from sstrace.watch.terminal import Terminal, colors_of
from sstrace.watch.view import SORTS, Entry, Verdict, Watched
from sstrace.wire import inet_diag

if TYPE_CHECKING:  # only who records pays for it
    from sstrace.output.metrics import Metrics
    from sstrace.output.recorder import Recorder

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
    for limit in tracer.limits:
        print(f"sstrace: {limit}", file=sys.stderr)
    watch: _Watch | None = None
    try:
        tracer.start()
        watch = _Watch(command, env, names, tracer, terminal)
        # Rows live long and form no cycles: to look at them again and again would only stall the loop.
        gc.collect()
        gc.freeze()
        try:
            terminal.enter()
            watch.draw()
            if command.own.ready_file is not None:
                touch(command.own.ready_file)
            watch.loop(stopped)
        finally:
            terminal.close()
    finally:
        tracer.close()
        if watch is not None and watch.metrics is not None:
            watch.metrics.close()
        if watch is not None and watch.recorder is not None:
            watch.recorder.close()
            print(f"sstrace: {watch.recorder.summary()}", file=sys.stderr)
    return 0


SocketKey = tuple[bytes, int, bytes, int, int]


def _key(row: Row | InetSocket) -> SocketKey:
    return row.src, row.sport, row.dst, row.dport, row.ino if row.state == _LISTEN else 0


class _Frozen(msgspec.Struct):
    """The table as it was, with what the kernel said of its rows' queues at that moment."""

    view: Watched
    at_ns: int
    clock: str
    sockets: dict[SocketKey, InetSocket]
    rates: render.Rates


class _Watch:
    def __init__(
        self, command: Command, env: Mapping[str, str], names: SystemNames, tracer: Tracer, terminal: Terminal
    ) -> None:
        self._command = command
        self._names = names
        self._tracer = tracer
        self._terminal = terminal
        self._utc = command.own.utc
        self._interval_ns = command.own.interval_ns or _INTERVAL_NS
        self._pictures = 0
        # Every option counts of one line: the block of -i and -m stands behind the rest, not below.
        self._show = msgspec.structs.replace(
            command.show,
            oneline=True,
            processes=command.show.processes or command.show.threads or bool(command.show.contexts),
            threads=False,
            contexts=0,
        )
        self._retext()
        colors, plain = colors_of(command.own.color, env)
        self._painter = render.Painter(colors, plain=plain)
        self._glyphs = render.UNICODE if terminal.unicode else render.ASCII
        self._host = render.printable(platform.node())
        self._filter_text = _filter_text(command)
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
        self.recorder: Recorder | None = None
        """Of --record: it sees every change before the picture does."""
        self._through: Callable[[Iterable[Change]], Iterable[Change | Told]] = iter
        if command.own.record is not None:
            from sstrace.output.recorder import recording_of

            self.recorder = recording_of(command, tracer, self._say)
        if self.recorder is not None:
            self._through = self.recorder.through
        self.metrics: Metrics | None = None
        if command.own.metrics is not None:
            from sstrace.output import metrics

            self.metrics = metrics.Metrics(*command.own.metrics, tracer)

    def _say(self, sentence: str) -> None:
        self._message = sentence

    def _verdict(self, families: int, command: Command) -> Verdict:
        return Verdict(
            families, command.selection.filter, lambda expression, held: predicate(expression, self._names, held)
        )

    def _retext(self) -> None:
        """Make the cell makers anew: what they show has changed."""
        self._context = Context(self._show, self._command.dialect, self._names, decoders)
        self._cells = InetCells(self._context)
        self._cells.begin(Table.TCP)

    # ------------------------------------------------------------------------------------------------------- the loop

    def loop(self, stopped: Stopped) -> None:
        """Until somebody ends it."""
        own, terminal, tracer = self._command.own, self._terminal, self._tracer
        poll = select.poll()
        terminal.register(poll)
        tracer.register(poll)
        now = time.monotonic_ns()
        end = now + own.duration_ns if own.duration_ns is not None else None
        due = now + self._interval_ns
        while not (stopped.now or self._quit or terminal.hung_up or terminal.gone):
            now = time.monotonic_ns()
            if end is not None and now >= end:
                return
            wait = min(_TICK_S, max(0, due - now) / 1e9)
            ready = self._wait(poll, min(wait, _ESCAPE_S) if terminal.half else wait)
            terminal.flush()
            self._take(tracer.poll(0))
            if self.metrics is not None and self.metrics.wanted:
                self._take(tracer.settle())
                self.metrics.tick()
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

    def _take(self, changes: Iterable[Change]) -> None:
        counted = changes if self.metrics is None else self.metrics.through(changes)
        for change in self._through(counted):
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
        if visible and self._show.processes and now_ns >= self._owners_due_ns:
            self._tracer.own(visible)
            now = time.monotonic_ns()
            self._owners_due_ns = now + _OWNERS_DUTY * (now - now_ns)

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
        lines = self._lines(entries, now)
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
        show = self._show
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

    def _lines(self, entries: Sequence[Entry], now_ns: int) -> list[render.Line]:
        frozen = self._frozen
        rows = [entry.row for entry in entries if entry.mark != "-"]
        if frozen is not None:
            now_ns, sockets = frozen.at_ns, frozen.sockets
        else:
            sockets = self._ask(rows)
            _learn_inodes(rows, sockets)
            self._own(rows, now_ns)
        self._context.owners = {row.ino: row.owners for row in rows if row.ino and row.owners}
        return [self._line(entry, sockets, now_ns) for entry in entries]

    def _line(self, entry: Entry, sockets: Mapping[SocketKey, InetSocket], now_ns: int) -> render.Line:
        row, closed = entry.row, entry.mark == "-"
        found = None if closed else sockets.get(_key(row))
        cells = self._cells.cells(found if found is not None else socket_of(row, state=entry.state))
        if closed:
            held = "" if entry.held_ns is None else span_text(entry.held_ns)
            rest = ""
        else:
            held = ("" if row.exact else self._glyphs.at_least) + span_text(now_ns - row.since_ns)
            rest = render.printable((cells[8] + cells[9]).replace("\n", " ").replace("\t", " ").strip())
        if row.owners and self._show.processes and (closed or not row.ino):
            # ss has no word for these: who held it last, and (~) whose listener it came to and waits at.
            who = users(row.owners, self._show, escaped=self._command.dialect.comm_escaped).strip()
            rest = render.printable(f"{'~' * (row.owner_source == 'listener')}{who} {rest}".rstrip())
        return render.Line(
            mark=entry.mark,
            state=STATE_TEXT[entry.state],
            held=held,
            recv_q=cells[2].rstrip() if found is not None else "-",
            send_q=cells[3].rstrip() if found is not None else "-",
            local=render.printable(cells[4]),
            local_port=render.printable(cells[5]),
            peer=render.printable(cells[6]),
            peer_port=render.printable(cells[7]),
            rest=rest,
            cause=(entry.cause or "") if closed else "",
        )

    def _ask(self, rows: Iterable[Row]) -> dict[SocketKey, InetSocket]:
        """What the kernel says now of these rows; those that it no longer has in this state are left out."""
        show = self._show
        ext = inet_diag.extensions(memory=show.memory, info=show.info, tos=show.tos)
        try:
            return {_key(socket): socket for socket in look_at(list(rows), ext)}
        except KernelError:
            return {}  # out of memory, for a moment: the columns say that they do not know

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
            self._show = msgspec.structs.replace(self._show, processes=not self._show.processes)
            self._retext()
        elif key == "n":
            self._show = msgspec.structs.replace(self._show, numeric=not self._show.numeric)
            self._widths = None
            self._retext()
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
        sockets = self._ask(entry.row for entry in view.rows(0, len(view)) if entry.mark != "-")
        self._frozen = _Frozen(view, now, time_of_day(time.time_ns(), utc=self._utc), sockets, self._rates)

    def _edit(self, prompt: render.Prompt, key: str) -> None:
        """A key at the prompt."""
        text, cursor = prompt.text, prompt.cursor
        self._message = ""
        if key == "escape":
            self._prompt = None
            return
        if key == "enter":
            self._prompt = None
            self._filter(text)
            return
        if key in ("left", "ctrl-b"):
            cursor = max(0, cursor - 1)
        elif key in ("right", "ctrl-f"):
            cursor = min(len(text), cursor + 1)
        elif key in ("home", "ctrl-a"):
            cursor = 0
        elif key in ("end", "ctrl-e"):
            cursor = len(text)
        elif key == "backspace":
            if cursor:
                text, cursor = text[: cursor - 1] + text[cursor:], cursor - 1
        elif key in ("delete", "ctrl-d"):
            text = text[:cursor] + text[cursor + 1 :]
        elif key == "ctrl-u":
            text, cursor = text[cursor:], 0
        elif key == "ctrl-k":
            text = text[:cursor]
        elif key == "ctrl-w":
            left = text[:cursor].rstrip(" ")
            left = left[: left.rfind(" ") + 1]
            text, cursor = left + text[cursor:], len(left)
        elif len(key) == 1:
            text, cursor = text[:cursor] + key + text[cursor:], cursor + 1
        self._prompt = render.Prompt(prompt.label, text, cursor)

    def _filter(self, text: str) -> None:
        """Look through another filter: the words as they would follow the options on a command line."""
        try:
            command = _with_filter(self._command, text, self._names)
        except (SstraceError, ValueError) as error:
            said = str(error).partition("\n")[0].removeprefix("ss: ").removeprefix("sstrace: ")
            self._message = render.printable(said.encode(errors="replace").decode("latin-1"))
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


def _learn_inodes(rows: Iterable[Row], sockets: Mapping[SocketKey, InetSocket]) -> None:
    """A connection's last event may come before accept(2) gives it an inode; whoever asks the kernel learns it."""
    for row in rows:
        if not row.ino:
            found = sockets.get(_key(row))
            if found is not None:
                row.ino = found.ino


def _filter_text(command: Command) -> str:
    """The words of a command's filter as one would type them; quoted only where it matters."""
    words = [word.encode("latin-1", "replace").decode("utf-8", "replace") for word in command.operands]
    text = " ".join(words)
    return shlex.join(words) if any(char in text for char in "'\"\\") else text


def _with_filter(command: Command, text: str, names: SystemNames) -> Command:
    """The command with another filter, whose ``state`` words, if there are any, replace the states asked for. Raises
    SstraceError, and ValueError for quotes that are not closed.
    """
    words = [word.encode(errors="replace").decode("latin-1") for word in shlex.split(text)]
    parsed = options.parse(["sstrace", "--watch", "-t", "--", *words], release=command.dialect)
    if isinstance(parsed, Early):
        raise UsageError(parsed.stderr or parsed.stdout)
    states = command.selection.states
    if words and words[0] in ("state", "exclude", "excl"):
        states = parsed.selection.states
    selection = msgspec.structs.replace(command.selection, states=states, filter=None)
    return options.resolve(
        msgspec.structs.replace(command, operands=parsed.operands, filter_file=None, selection=selection), names
    )


def _interval(nanoseconds: int) -> str:
    if nanoseconds % 1_000_000_000 == 0:
        return f"{nanoseconds // 1_000_000_000}s"
    return f"{nanoseconds // 1_000_000}ms" if nanoseconds >= 1_000_000 else f"{nanoseconds}ns"
