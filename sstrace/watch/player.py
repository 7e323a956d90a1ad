"""``--watch --replay FILE``: the full screen over a recording, which is gone through like a film: back and forth, by
the second or the minute, standing or running. The pages and their keys are those of the live table (``app``).
"""

import select
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from sstrace.errors import LookupFailed, SstraceError, UsageError
from sstrace.live.signals import Stopped
from sstrace.plain import plain, printable
from sstrace.query import options
from sstrace.query.command import Command
from sstrace.recording.files import files
from sstrace.recording.reader import LineNames, Span, target
from sstrace.render import watch as render
from sstrace.render.times import moment, time_of_day
from sstrace.render.watch_slider import GUIDE, slider
from sstrace.table import Row, Transition
from sstrace.watch.app import Watch, glyphs_of, interval_of
from sstrace.watch.film import Film, Moments
from sstrace.watch.hub import FADE_NS, Hub
from sstrace.watch.terminal import Terminal
from sstrace.watch.view import Tally, tally

__all__ = ["play", "run"]

_SECOND: Final = 1_000_000_000
_STEPS: Final = {
    "left": -_SECOND,
    "right": _SECOND,
    "shift-left": -60 * _SECOND,
    "shift-right": 60 * _SECOND,
    "[": -60 * _SECOND,
    "]": 60 * _SECOND,
    "home": -(1 << 62),
    "end": 1 << 62,
}
_SLOWEST, _FASTEST = 1 / 16, 4096
_IDLE_S: Final = 0.5


def run(command: Command, env: Mapping[str, str]) -> int:
    """Watch; the exit code. Raises UsageError where there is no terminal, DecodeError where there is no recording."""
    terminal = Terminal(env)
    if "-" in command.own.recordings:
        raise UsageError(
            "sstrace: --watch takes keys from standard input, so no recording: name a file, or a named pipe"
        )
    names = LineNames(env)
    with Film(files(command), names) as film:
        play(command, env, names, film, terminal)
    return 0


def play(command: Command, env: Mapping[str, str], names: LineNames, film: Moments, terminal: Terminal) -> None:
    """The same over whatever was recorded."""
    stopped = Stopped()
    begin, ended = _begin(command, film)
    film.look(begin, 0, aloud=True)
    command = options.resolve(command, names)
    hub = _PastHub(command, names, film, glyphs_of(terminal), interval_of(command))
    player = _Player(command, env, hub, terminal)
    player.say(ended)
    try:
        terminal.enter()
        player.draw()
        player.play(stopped)
    finally:
        terminal.close()


def _begin(command: Command, film: Moments) -> tuple[int, str]:
    """The moment at which the screen opens: --at, or the beginning; and what there is to say of it."""
    when, utc = command.own.at, command.own.utc
    if when is None:
        return film.first_ns, ""
    if when.kind == "seq":
        raise UsageError("sstrace: --watch goes by time: write --at with a time, not #SEQ")
    at_ns = target(when, Span(film.first_ns, film.last_ns), utc=utc)
    if at_ns + when.open_ns < film.first_ns:
        raise LookupFailed(
            f"sstrace: the recording begins at {moment(film.first_ns, utc=utc)}, after {when.text}: "
            f"it knows nothing of that moment"
        )
    ended = f"the recording ends at {time_of_day(film.last_ns, utc=utc)}, before {when.text}: this is the table then"
    return at_ns + when.open_ns, ended if at_ns > film.last_ns else ""


class _PastHub(Hub):
    """The table of a recording as somebody goes through it."""

    def __init__(
        self, command: Command, names: LineNames, film: Moments, glyphs: render.Glyphs, interval_ns: int
    ) -> None:
        self.film = film
        self._back_ns = max(FADE_NS, interval_ns * 3 // 2)
        # Table, places and events are all that a hub asks a tracer for.
        super().__init__(command, names, film, glyphs, interval_ns)  # type: ignore[arg-type]
        self.recent: list[Transition] = []
        """What happened in the last second to rows that the filter lets pass."""
        self.go(film.at_ns)

    def now_ns(self) -> int:
        """The moment, by the CLOCK_MONOTONIC of the machine that was recorded."""
        return self.film.mono_ns

    def offset_ns(self) -> int:
        """See Hub."""
        return self.film.at_ns - self.film.mono_ns

    def clock(self) -> str:
        """The moment, with its date and zone."""
        utc = self.command.own.utc
        return f"{moment(self.film.at_ns, utc=utc)[:10]} {time_of_day(self.film.at_ns, utc=utc)}"

    def absent(self, row: Row) -> tuple[str, str]:
        """See Hub."""
        _, _, first_ns = self.film.life(row.id)
        if first_ns is not None and first_ns > self.film.at_ns:
            return "Not yet", f"it is first told of at {time_of_day(first_ns, utc=self.command.own.utc)}"
        return super().absent(row)

    def go(self, at_ns: int) -> None:
        """Look at another moment. Raises SstraceError, and shows the one before."""
        self.film.look(at_ns, self._back_ns)
        self._show()

    def filter(self, text: str) -> bool:
        """See Hub."""
        done = super().filter(text)
        if done:
            self._show()
        return done

    def sample(self, now_ns: int) -> None:
        """See Hub: the rates are those of the second before the moment, which ``go`` takes."""

    def _show(self) -> None:
        """Let the view have lived through what happened just before."""
        film, view, now = self.film, self.view, self.film.mono_ns
        view.verdict = self._verdict(self.filtered)  # interfaces are called what they were called then
        view.tally = Tally()
        last = {change.row.id: change.row.state for change in film.changes}
        before = []
        for row, state in film.before():
            row.state = state
            before.append(row)
        view.reset(before, now)
        for change in film.changes:
            change.row.state = last[change.row.id]
        passed = [change for change in film.changes if view.note(change)]
        view.fold({}, film.table.holds, now)
        self.recent = [change for change in passed if change.at_ns > now - _SECOND]
        counts = Tally()
        for change in self.recent:
            tally(counts, change)
        events = sum(change.at_ns > now - _SECOND for change in film.changes)
        self.rates = render.Rates(counts.opened, counts.closed, counts.failed, events)


class _Player(Watch):
    """The screen, the keys of the live one, and those of time."""

    def __init__(self, command: Command, env: Mapping[str, str], hub: _PastHub, terminal: Terminal) -> None:
        super().__init__(command, env, hub.film, hub, terminal)
        self._past = hub
        self._film = hub.film
        self._host = printable(hub.film.host)
        self._speed = 1.0
        self._paused = True
        self._goal_ns: int | None = None
        """Where keys that came together lead to: a key that is held down must not wait for every moment on the way."""
        self._went_ns = 0
        """When the film moved last, by this machine's clock."""

    def play(self, stopped: Stopped) -> None:
        """Until somebody ends it."""
        terminal = self._terminal
        poll = select.poll()
        terminal.register(poll)
        while not (stopped.now or self._quit or terminal.hung_up or terminal.gone):
            left = _IDLE_S
            if not self._paused:
                left = max(0, self._went_ns + self._interval_ns - time.monotonic_ns()) / 1e9
            ready = self._wait(poll, self._patience(left))
            terminal.flush()
            drawn = self._system()
            for key in terminal.keys(ready=ready):
                self._key(key)
                drawn = True
            self._arrive()
            now = time.monotonic_ns()
            if not self._paused and now >= self._went_ns + self._interval_ns:
                self._go(self._film.at_ns + round((now - self._went_ns) * self._speed))
                self._went_ns = now
                self._paused = self._film.at_ns >= self._film.last_ns
                drawn = True
            if drawn:
                self.draw()
            if self._past.work():
                self.draw()

    def _look(self) -> render.Look:
        look, film = super()._look(), self._film
        status = "PAUSED" if self._paused else f"PLAYING x{self._speed:g}"
        width, _ = self._terminal.size()
        line = slider(film.at_ns, (film.first_ns, film.last_ns), width, look.glyphs, utc=self._past.utc)
        return msgspec.structs.replace(look, status=status, keys=line, guide=GUIDE)

    def _key(self, key: str) -> None:
        if self._prompt is not None or self._help:
            super()._key(key)
            return
        if key in _STEPS:
            self._past.message = ""
            film = self._film
            begin = film.at_ns if self._goal_ns is None else self._goal_ns
            self._goal_ns = max(film.first_ns, min(begin + _STEPS[key], film.last_ns))
            return
        self._arrive()
        if key == " ":
            self._past.message = ""
            if self._paused and self._film.at_ns >= self._film.last_ns:
                self._past.say("the recording ends here: Home goes to its beginning")
            else:
                self._paused, self._went_ns = not self._paused, time.monotonic_ns()
        elif key in ("<", ">"):
            self._speed = max(_SLOWEST, min(self._speed * (2 if key == ">" else 0.5), _FASTEST))
            self._past.say(f"it plays {self._speed:g} times as fast as it was")
        elif key == "K":
            self._past.say("this is a recording: there is no connection to close any more")
        elif key in ("z", "Z"):
            self._past.say("a recording stands still by itself: space plays and pauses it")
        elif key in ("H", "L"):
            self._table.key("left" if key == "H" else "right")
        else:
            super()._key(key)
            self._follow()

    def _arrive(self) -> None:
        if self._goal_ns is not None:
            goal_ns, self._goal_ns = self._goal_ns, None
            self._go(goal_ns)

    def _go(self, at_ns: int) -> None:
        try:
            self._past.go(at_ns)
            self._follow()
        except SstraceError as error:  # an engine that does not answer now may do so at the next key
            self._paused = True
            self._past.say(plain(str(error)))

    def _follow(self) -> None:
        """Have the pages be of the moment, too."""
        if self._groups is not None:
            self._groups.renew(self._past.recent, self._film.mono_ns - _SECOND)
        if self._detail is not None:
            row, life, _ = self._film.life(self._detail.row.id)
            self._detail.renew(row if row is not None else self._detail.row, life)
