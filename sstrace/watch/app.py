"""``--watch``: the live table, full screen, until ``q``, Ctrl-C or the end of the terminal.

One loop: wait for keys, signals and events; fold events in as they come; once an interval, and after each key, draw. A
picture touches only the rows that it shows: their order is kept (watch.view), and what changes without events
(queues, timers, memory, tcp_info) is read from the kernel for these rows alone, and for all, within a duty, where they
are sorted by it. What is looked at is in ``Hub``, what the keys do on each page in the page.

Keys go first. However much there is to be folded in, compared with the kernel or looked up, whoever does it looks at
the keyboard every few milliseconds (``heed``), and what takes longer than a picture is done behind it (``Hub.later``).
"""

import gc
import os
import platform
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from sstrace.changes import Change
from sstrace.live.places import Places
from sstrace.live.signals import Stopped
from sstrace.live.tracer import Tracer
from sstrace.modes.following import Following
from sstrace.namespaces.others import hint
from sstrace.plain import counted, printable
from sstrace.protocols import SWEPT
from sstrace.query import options
from sstrace.query.command import Command, followed_tables
from sstrace.render import watch as render
from sstrace.render.ends import Ends
from sstrace.render.fitted import who
from sstrace.sources.names import SystemNames
from sstrace.table import Row
from sstrace.watch.acts import kill
from sstrace.watch.detail import DetailPage
from sstrace.watch.groups import GroupsPage
from sstrace.watch.hub import Hub
from sstrace.watch.prompt import edited
from sstrace.watch.table_page import TablePage
from sstrace.watch.terminal import ESCAPE_S, Terminal, colors_of

__all__ = ["Traces", "Watch", "glyphs_of", "interval_of", "run"]

_INTERVAL_NS: Final = 1_000_000_000
_STEP_NS: Final = 1_000_000_000
"""Of the graphs."""
_TICK_S: Final = 0.1
"""The rings are emptied at least so often; they wake the loop when they fill before."""
_HEED_NS: Final = 10_000_000
"""Keys are looked for this often while something goes on."""
_RUN: Final = 64
"""And the time is looked at once in so many changes: some tenths of a millisecond."""


def run(command: Command, env: Mapping[str, str]) -> int:
    """Watch; the exit code. Raises UsageError where there is no terminal."""
    terminal = Terminal(env)
    stopped = Stopped()
    names = SystemNames(env)
    command = options.resolve(command, names)
    tracer = Tracer(
        env,
        names,
        poll_ns=command.own.poll_ns,
        fall_back=True,
        netns=command.own.netns,
        tables=followed_tables(command.selection),
    )
    with Following(command, env, tracer, stopped) as following:
        tracer.start()
        hub = Hub(command, names, following, glyphs_of(terminal), interval_of(command))
        watch = Watch(command, env, following.tracer, hub, terminal)
        tracer.meanwhile = watch.heed
        following.record(watch.say, summary=True)
        following.measure()
        # Rows live long and form no cycles: to look at them again and again would only stall the loop.
        gc.collect()
        gc.freeze()
        try:
            terminal.enter()
            watch.draw()
            following.ready(f"watching {counted(len(tracer.table), 'socket')}")
            if not len(tracer.table):
                watch.say(hint(command, env))
            watch.loop(following)
        finally:
            terminal.close()
    return following.code()


class Watch:
    """The screen and its keys. ``tracer``: what is told of it besides the rows."""

    def __init__(
        self, command: Command, env: Mapping[str, str], tracer: "Traces", hub: Hub, terminal: Terminal
    ) -> None:
        self._command = command
        self._tracer = tracer
        self._terminal = terminal
        self._interval_ns = interval_of(command)
        self._pictures = 0
        colors, plain = colors_of(command.own.color, env)
        self._painter = render.Painter(colors, plain=plain)
        self._glyphs = glyphs_of(terminal)
        self._host = printable(platform.node())
        self._hub = hub
        hub.heed = self.heed
        self._keyboard = select.poll()
        self._heeded_ns = 0
        """When keys were looked for last."""
        self._busy = False
        """A picture, or what a key asks for, is in the making."""
        self._table = TablePage(self._hub)
        self._detail: DetailPage | None = None
        """The page of one connection, while somebody looks at it."""
        self._groups: GroupsPage | None = None
        self._asked: Row | None = None
        """Whether this one is to be closed is the question."""
        self._paused = False
        self._quit = False
        self._help = False
        self._prompt: render.Prompt | None = None

    def say(self, sentence: str) -> None:
        """Show a sentence until the next key."""
        self._hub.say(sentence)

    # ------------------------------------------------------------------------------------------------------- the loop

    def loop(self, following: "Turns") -> None:
        """Until somebody ends it."""
        own, terminal = self._command.own, self._terminal
        poll = select.poll()
        terminal.register(poll)
        self._keyboard.register(0, select.POLLIN)
        following.tracer.register(poll)
        due = time.monotonic_ns() + self._interval_ns
        for seconds in following.turns(_TICK_S):
            if self._quit or terminal.hung_up or terminal.gone:
                return
            wait = min(seconds, max(0, due - time.monotonic_ns()) / 1e9)
            ready = self._wait(poll, self._patience(wait))
            terminal.flush()
            drawn = self._system()
            # Before what has happened meanwhile is folded in: that may be much.
            self._answer(terminal.keys(ready=ready))
            self._hub.take(self._heeding(following.poll(0)))
            if following.wanted:
                self._hub.take(self._heeding(following.settle()))
            now = time.monotonic_ns()
            if now >= due:
                self._hub.fold(now)
                self._hub.sample(now)
                # Late pictures are not made up for.
                due = max(due + self._interval_ns, now)
                self._pictures += 1
                drawn = drawn or not self._paused
                if own.count is not None and self._pictures >= own.count:
                    self._quit = True
            if drawn:
                self.draw()
            if self._hub.work():
                self.draw()

    def _answer(self, keys: Sequence[str]) -> None:
        """Do what they ask for, and show it."""
        self._heeded_ns = time.monotonic_ns()
        if keys:
            self._busy = True
            for key in keys:
                self._key(key)
            self._busy = False
            self.draw()

    def heed(self) -> None:
        """Answer keys that have come while something else goes on."""
        now = time.monotonic_ns()
        if self._busy or now - self._heeded_ns < _HEED_NS:
            return
        self._heeded_ns = now
        self._answer(self._terminal.keys(ready=bool(self._keyboard.poll(0))))

    def _heeding(self, changes: Iterator[Change]) -> Iterator[Change]:
        """The same, of however many."""
        for number, change in enumerate(changes):
            yield change
            if number % _RUN == 0:
                self.heed()

    def _patience(self, seconds: float) -> float:
        """How long may be slept: not so long where it has to be told whether ESC is a key."""
        return min(seconds, ESCAPE_S) if self._terminal.half else seconds

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
            self._table.resized()
            return True
        return False

    # -------------------------------------------------------------------------------------------------------- drawing

    def draw(self) -> None:
        """One picture, unless the terminal still has to take the last one."""
        if self._terminal.busy or self._quit:
            return
        busy, self._busy = self._busy, True
        if self._hub.frozen is None:
            now = self._hub.now_ns()
            self._hub.fold(now)
            self._hub.rank(now)
        width, height = self._terminal.size()
        picture = (self._detail or self._groups or self._table).picture(self._look(), width, height)
        self._terminal.draw(self._painter.paint(picture, width, height))
        self._busy = busy

    def _look(self) -> render.Look:
        """What is the same on every page."""
        hub = self._hub
        frozen, view, show = hub.frozen, hub.shown, hub.lines.show
        status = ""
        if frozen is not None:
            status = f"FROZEN {frozen.clock}, {hub.view.changes - view.changes} changes since"
        elif self._paused:
            status = "PAUSED"
        return render.Look(
            host=self._host,
            clock=hub.clock(),
            interval=_interval(self._interval_ns),
            counts=view.counts(),
            states=view.states,
            rates=frozen.rates if frozen is not None else hub.rates,
            lost=self._tracer.lost,
            place=hub.lines.place,
            polled=self._tracer.polls,
            filter=hub.filter_text,
            status=status,
            queues=show.queues,
            process=any((show.processes, show.timers, show.extended, show.memory, show.info, show.tos, show.cgroup)),
            prompt=self._prompt,
            message=hub.message,
            help=self._help,
            glyphs=self._glyphs,
        )

    # ----------------------------------------------------------------------------------------------------------- keys

    def _key(self, key: str) -> None:
        hub = self._hub
        self._table.searching = False
        if self._prompt is not None:
            self._edit(self._prompt, key)
            return
        hub.message = ""
        if self._asked is not None:
            row, self._asked = self._asked, None
            hub.say(kill(self._tracer.places, row) if key in ("y", "Y") else "nothing was closed")
            return
        if key.startswith("click-"):
            self._click(int(key.rpartition("-")[2]))
            return
        if self._help:
            self._help = False
        elif key in ("q", "Q"):
            self._quit = True
        elif key == " ":
            self._paused = not self._paused
        elif key in ("z", "Z"):
            hub.freeze()
        elif key in ("h", "?"):
            self._help = True
        elif key == "K" and (self._detail is not None or self._groups is None):
            self._ask()
        elif key == "c" and (self._detail is not None or self._groups is None):
            self._copy()
        elif self._detail is not None:
            if not self._detail.key(key):
                self._detail = None
        elif self._groups is not None:
            self._grouped(self._groups.key(key))
        elif key == "enter":
            self._open()
        elif key == "g":
            self._groups = GroupsPage(hub)
            hub.heard = self._groups.note
        elif key == "/":
            self._prompt = render.Prompt("search: ", self._table.searched, len(self._table.searched))
        elif key == "f":
            if hub.frozen is not None:
                hub.say("the table is frozen: press z to go on, then filter")
            else:
                self._prompt = render.Prompt("filter: ", hub.filter_text, len(hub.filter_text))
        elif key == "ctrl-l":
            self._terminal.enter()
        else:
            self._table.key(key)

    def _open(self) -> None:
        """Look inside the connection that the cursor is on, or the first."""
        if self._table.chosen is None:
            self._table.point(0)
        chosen = self._table.chosen
        if chosen is None:
            self._hub.say("there is no row to look into")
        else:
            self._detail = DetailPage(self._hub, chosen.row, max(_STEP_NS, self._interval_ns))

    @property
    def _chosen(self) -> Row | None:
        if self._detail is not None:
            return self._detail.row
        chosen = self._table.chosen
        return chosen.row if chosen is not None else None

    def _click(self, line: int) -> None:
        """The mouse: it points, and at what is pointed at already it opens."""
        if self._detail is None and self._groups is None and not self._help and self._table.click(line):
            self._open()

    def _ask(self) -> None:
        """Whether the connection at the cursor is to be closed."""
        row, hub = self._chosen, self._hub
        if row is None:
            hub.say("move the cursor to a connection first: j, k")
        elif os.geteuid():
            hub.say("to close a connection takes root")
        else:
            self._asked = row
            ends = Ends(hub.lines.show, self._command.dialect, hub.names).within(row.net)
            local, peer = ends.outside(row) if row.protocol in SWEPT else ends.of(row)
            holders = who(row, 40, descriptors=False)
            hub.say(f"close {local} {peer} of {holders}? y closes it, any other key does not")

    def _copy(self) -> None:
        """The connection at the cursor, to the clipboard of who sits at the terminal."""
        text = (self._detail or self._table).copied
        if text:
            self._terminal.copy(text)
        self._hub.say("copied, where the terminal allows it" if text else "move the cursor to a connection first: j, k")

    def _grouped(self, chosen: str | None) -> None:
        """A group has been chosen, by its filter; empty: back."""
        if chosen is None:
            return
        hub = self._hub
        if chosen and hub.frozen is not None:
            hub.say("the table is frozen: press z to go on, then filter")
            return
        self._groups = hub.heard = None
        if chosen and hub.filter(f"{hub.filter_text} and {chosen}" if hub.filter_text else chosen):
            self._table.renewed()

    def _edit(self, prompt: render.Prompt, key: str) -> None:
        """A key at the prompt."""
        self._hub.message = ""
        if key == "escape":
            self._prompt = None
        elif key == "enter":
            self._prompt = None
            if prompt.label == "search: ":
                self._table.search(prompt.text)
            elif self._hub.filter(prompt.text):
                self._table.renewed()
        else:
            self._prompt = edited(prompt, key)


class Turns(Protocol):
    """What tells of changes, turn by turn: see Following."""

    @property
    def tracer(self) -> "Waited": ...
    @property
    def wanted(self) -> bool: ...
    def turns(self, tick_s: float) -> Iterator[float]: ...
    def poll(self, seconds: float) -> Iterator[Change]: ...
    def settle(self) -> Iterator[Change]: ...


class Waited(Protocol):
    """What there is to wait for: see Tracer."""

    def register(self, poll: select.poll) -> None: ...


class Traces(Protocol):
    """What the first lines tell besides the rows: see Tracer."""

    @property
    def lost(self) -> int: ...
    @property
    def polls(self) -> bool: ...
    @property
    def places(self) -> Places: ...


def interval_of(command: Command) -> int:
    """Nanoseconds between two pictures."""
    return command.own.interval_ns or _INTERVAL_NS


def glyphs_of(terminal: Terminal) -> render.Glyphs:
    """The signs that a terminal can show."""
    return render.UNICODE if terminal.unicode else render.ASCII


def _interval(nanoseconds: int) -> str:
    if nanoseconds % 1_000_000_000 == 0:
        return f"{nanoseconds // 1_000_000_000}s"
    return f"{nanoseconds // 1_000_000}ms" if nanoseconds >= 1_000_000 else f"{nanoseconds}ns"
