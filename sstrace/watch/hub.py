"""What every page of ``--watch`` looks at: the table as it changes, the filter, the rates, and what is being said."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec

from sstrace.changes import Change, NetnsNews, Told
from sstrace.errors import SstraceError
from sstrace.fields import Reported
from sstrace.model import Renamed, Socket
from sstrace.modes.following import Following
from sstrace.output.row_filter import RowFilter
from sstrace.plain import printable
from sstrace.protocols import OF_TABLE
from sstrace.query.command import Command, followed_tables
from sstrace.query.expression import asks_carried
from sstrace.render import watch as render
from sstrace.render.times import time_of_day
from sstrace.sources.names import SystemNames
from sstrace.table import Resync, Row, Transition
from sstrace.watch.carried import Carried, Figures
from sstrace.watch.lines import RowLines
from sstrace.watch.order import SORTS, by_figures, by_place
from sstrace.watch.prompt import filter_text, with_filter
from sstrace.watch.view import Verdict, Watched

__all__ = ["FADE_NS", "Frozen", "Hub"]

FADE_NS: Final = 2_000_000_000
"""A mark stays so long, but always for one regular picture."""
_RATE_NS: Final = 1_000_000_000
"""Rates are taken over the last interval, but no less than this."""
_DUTY: Final = 50
"""A look at the process table, or at the figures of every row, that took t is not repeated before 50 t have passed: 2 %
of a CPU at most.
"""


class Frozen(msgspec.Struct):
    """The table as it was, with what the kernel said of its rows' queues at that moment."""

    view: Watched
    at_ns: int
    clock: str
    sockets: dict[int, Socket]
    rates: render.Rates


class Hub:
    """The live table as somebody watches it. ``interval_ns``: between two pictures."""

    def __init__(
        self, command: Command, names: SystemNames, following: Following, glyphs: render.Glyphs, interval_ns: int
    ) -> None:
        self.command = self.filtered = command
        """As it was typed, and with the filter of now."""
        self.names = names
        self.tracer = tracer = following.tracer
        self.glyphs = glyphs
        self.lines = RowLines(command, names, glyphs, tracer.places.where)
        self.filter_text = filter_text(command)
        self.states = command.selection.states
        """Those that were asked for."""
        self._by_figures = by_figures(self.figures)
        self._carried = Carried(interval_ns // 2)
        self.view = Watched(
            self._verdict(command),
            command.selection.states,
            fade_ns=max(FADE_NS, interval_ns * 3 // 2),
            sorts={
                **SORTS,
                **({self.lines.place.lower(): by_place(self.lines.called)} if self.lines.many else {}),
                **self._by_figures,
            },
        )
        self.figured = False
        """Whether the screen has columns of what connections carry."""
        self._interval_ns = interval_ns
        self._figures_due_ns = 0
        self.rates = render.Rates()
        self.frozen: Frozen | None = None
        self.message = ""
        self.heard: Callable[[Transition], None] | None = None
        """Is told of each transition that the filter lets pass."""
        self.heed: Callable[[], object] = lambda: None
        """Whoever does what takes long calls it every few milliseconds: keys that have come are answered then."""
        self._work: dict[str, Callable[[], object]] = {}
        self.utc = command.own.utc
        self._seen: Sequence[Row] = ()
        """The rows of the last picture."""
        self._journal: dict[int, Row] = {}
        tracer.table.journal = self._journal
        self.view.reset(tracer.table, self.now_ns())
        self._owners_due_ns = 0
        self._history: deque[tuple[int, int, int, int, int]] = deque()
        self.sample(self.now_ns())

    def say(self, sentence: str) -> None:
        """Show a sentence until the next key."""
        self.message = sentence

    def now_ns(self) -> int:
        """The moment that is looked at, CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def offset_ns(self) -> int:
        """CLOCK_REALTIME minus CLOCK_MONOTONIC."""
        return time.time_ns() - time.monotonic_ns()

    def absent(self, row: Row) -> tuple[str, str]:
        """What there is to say of a row that is not there, and whose end was not seen."""
        return "Gone", "its end was not seen"

    def clock(self) -> str:
        """Time of day, with its zone."""
        return time_of_day(time.time_ns(), utc=self.utc)

    def _verdict(self, command: Command) -> Verdict:
        expression = command.selection.filter
        asked = RowFilter(expression, self.names, self.tracer.places.where)
        self._asks_carried = asks_carried(expression)

        def matches(row: Row, held_ns: int, /, *, reported: Reported | None) -> bool:
            if reported is None and self._asks_carried:
                known = self._carried.of(row.id, None)
                reported = known.reported if known is not None else None
            return asked.row(row, held_ns, reported=reported)

        protocols = frozenset(OF_TABLE[table].number for table in followed_tables(command.selection))
        return Verdict(command.selection.families, expression, matches, protocols)

    # What happens.

    def take(self, changes: Iterable[Change | Told]) -> None:
        """Note what has changed."""
        for change in changes:
            if type(change) is Transition:
                if self.view.note(change) and self.heard is not None:
                    self.heard(change)
            elif type(change) is Resync:
                self.view.rekey(row for row, _ in change.changed)
            elif type(change) is Renamed and change.before is not None:
                # The filter may think otherwise of them now.
                home = self.tracer.table.within(self.tracer.table.home.index.space.net)
                self._journal.update((row.id, row) for row in home if row.ifindex == change.index)
            elif type(change) is NetnsNews and change.what == "named":  # of these, too, and their place be another
                rows = self.tracer.table.within(change.netns.cookie)
                self._journal.update((row.id, row) for row in rows)

    def fold(self, now_ns: int) -> None:
        """Bring the view up to date."""
        self.view.fold(self._journal, self.tracer.table.holds, now_ns)

    def sample(self, now_ns: int) -> None:
        """Take the rates of the last interval."""
        tally = self.view.tally
        self._history.append((now_ns, tally.opened, tally.closed, tally.failed, self.tracer.events))
        while len(self._history) > 2 and now_ns - self._history[1][0] >= _RATE_NS:
            self._history.popleft()
        first, last = self._history[0], self._history[-1]
        seconds = (last[0] - first[0]) / 1e9
        if seconds > 0:
            opened, closed, failed, events = (
                (new - old) / seconds for old, new in zip(first[1:], last[1:], strict=True)
            )
            self.rates = render.Rates(opened, closed, failed, events)

    # What takes longer than a key may wait.

    def later(self, what: str, work: Callable[[], object]) -> None:
        """Have something done once the picture is out; twice the same ``what`` is done once."""
        self._work[what] = work

    def work(self) -> bool:
        """Do that; whether there was something, and the picture is another one by that."""
        work, self._work = self._work, {}
        for each in work.values():
            each()
        return bool(work)

    # What is seen of it.

    @property
    def shown(self) -> Watched:
        """The view on the screen: the frozen one, where there is one."""
        return self.frozen.view if self.frozen is not None else self.view

    def sockets(self, rows: Iterable[Row], now_ns: int) -> Mapping[int, Socket]:
        """What the kernel says of these rows, by their ids: now, or when the table was frozen."""
        if self.frozen is not None:
            return self.frozen.sockets
        self._seen = rows = list(rows)
        sockets = self.lines.ask(self.tracer.places, rows, figures=self.figured)
        if self.figured:
            self._carried.take(sockets, now_ns)
            if self.view.sort not in self._by_figures and not self._asks_carried:
                self._carried.keep(sockets)
        return sockets

    def figures(self, row: Row) -> Figures | None:
        """What a row has carried, as far as it was asked for, or told at its end."""
        return self._carried.of(row.id, self.shown.end(row.id))

    def rank(self, now_ns: int) -> None:
        """Where the order, or the filter, goes by what connections carry, have that asked for of every row that may be
        on the screen, when a look is due.
        """
        wanted = self._asks_carried or self.view.sort in self._by_figures
        if wanted and self.frozen is None and now_ns >= self._figures_due_ns:
            self.later("figures", self._rank)

    def _rank(self) -> None:
        view, asked = self.view, self._asks_carried
        spent, now_ns = time.thread_time_ns(), self.now_ns()
        alive = list(self.tracer.table) if asked else [entry.row for entry in view.living(0, len(view))]
        sockets = self.lines.ask(self.tracer.places, alive, figures=True, heed=self.heed)
        self._carried.take(sockets, now_ns)
        self._carried.keep(sockets)
        if asked:
            view.rekey(alive)
            self.fold(now_ns)
        else:
            view.resort()
        self._figures_due_ns = now_ns + max(self._interval_ns // 2, _DUTY * (time.thread_time_ns() - spent))

    def own(self, visible: Sequence[Row], now_ns: int) -> None:
        """Have it seen who holds the rows on the screen, when a look is due: the tracer looks too, but for all rows,
        and so more seldom.
        """
        if visible and self.frozen is None and now_ns >= self._owners_due_ns:
            self.later("owners", partial(self._own, visible))

    def _own(self, rows: Sequence[Row] | None) -> None:
        spent = time.thread_time_ns()
        self.tracer.own(rows)
        self._owners_due_ns = self.now_ns() + _DUTY * (time.thread_time_ns() - spent)

    def own_all(self) -> None:
        """See who holds what, whether or not it is in sight; it takes long."""
        if self.frozen is None:
            self._own(None)

    def freeze(self) -> None:
        """Take a copy of the table, or go on."""
        if self.frozen is not None:
            still = self.frozen.view
            self.frozen = None
            # Sorting that was chosen meanwhile stays.
            view = self.view
            moved = (view.sort, view.states) != (still.sort, still.states)
            view.sort, view.backwards, view.states, view.dead = still.sort, still.backwards, still.states, still.dead
            if moved:
                view.resort()
            return
        now = self.now_ns()
        self.fold(now)
        view = self.view.frozen()
        self.frozen = frozen = Frozen(view, now, self.clock(), {}, self.rates)
        self._still(frozen, self._seen)
        self.later("frozen", lambda: self._still(frozen, [entry.row for entry in view.living(0, len(view))]))

    def _still(self, frozen: Frozen, rows: Iterable[Row]) -> None:
        """Keep what the kernel says of these rows with the frozen table; not what it has said already."""
        if self.frozen is not frozen:
            return
        rows = (row for row in rows if row.id not in frozen.sockets)
        sockets = self.lines.ask(self.tracer.places, rows, figures=self.figured, heed=self.heed)
        if self.figured:
            self._carried.take(sockets, self.now_ns())
        frozen.sockets |= sockets

    def filter(self, text: str) -> bool:
        """Look through another filter: the words as they would follow the options on a command line; whether that could
        be done.
        """
        try:
            command = with_filter(self.command, text, self.names)
        except (SstraceError, ValueError) as error:
            said = str(error).partition("\n")[0].removeprefix("ss: ").removeprefix("sstrace: ")
            self.say(printable(said.encode(errors="replace").decode("latin-1")))
            return False
        self.filtered = command
        self.filter_text = text.strip()
        self.states = command.selection.states
        view = self.view
        view.verdict = self._verdict(command)
        view.states = self.states
        self._figures_due_ns = 0
        view.reset(self.tracer.table, self.now_ns())
        self._journal.clear()
        return True
