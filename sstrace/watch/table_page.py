"""The first page of ``--watch``: the rows, a cursor among them, and the keys that move, sort and search."""

import time
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sstrace.model import ALL_STATES
from sstrace.render import watch as render
from sstrace.render.fitted import who
from sstrace.render.watch_figures import FIGURES
from sstrace.watch.acts import text_of
from sstrace.watch.carried import texts
from sstrace.watch.hub import Hub
from sstrace.watch.lines import learn_inodes
from sstrace.watch.view import Entry, Watched

__all__ = ["TablePage"]

_ORDER_WORDS: Final = {
    "held": ("latest first", "longest first"),
    "state": ("listeners first", "closing first"),
    "local": ("lowest first", "highest first"),
    "peer": ("lowest first", "highest first"),
    "owner": ("A to Z", "Z to A"),
    "netns": ("A to Z", "Z to A"),
    "host": ("A to Z", "Z to A"),
    "sent": ("most first", "least first"),
    "received": ("most first", "least first"),
    "sent/s": ("most first", "least first"),
    "received/s": ("most first", "least first"),
    "rtt": ("longest first", "shortest first"),
}
_SEARCH_STEP: Final = 200
"""Rows that are searched between two looks at the keyboard: some milliseconds."""
_SEARCH_NS: Final = 30_000_000
"""A search that takes longer goes on behind the picture."""


class TablePage:
    """The rows of ``hub``, which a terminal of so many lines shows a part of."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.searched = ""
        self.searching = False
        """Whether a search goes on; whoever sets it to False has it stop."""
        self._widths: render.Widths | None = None
        self._carried: bool | None = None
        """Whether columns of what connections carry are wanted; None: as there is room, or the order needs."""
        self._entries: list[Entry] = []
        """Those on the screen."""
        self._cursor: int | None = None
        """Id of the row that is pointed at; None: of none, and the latest are seen to come."""
        self._line = 0
        """Line of the screen on which it stood."""
        self._top = 0
        self._pan = 0
        self._page = 1
        self._first = 0
        """Line of the terminal on which the first row stands."""

    def resized(self) -> None:
        """The terminal has another size."""
        self._widths = None

    # The picture.

    def picture(self, base: render.Look, width: int, height: int) -> render.Screen:
        """Draw it: ``base`` has what is the same on every page."""
        hub, now = self.hub, self.hub.now_ns()
        view = hub.shown
        fixed = render.fixed_rows(height)
        self._page, self._first = max(1, height - fixed), max(0, fixed - 1)
        look = msgspec.structs.replace(
            base,
            sort=view.sort,
            carried=self._wanted(view),
            pan=self._pan,
            widths=self._widths or self._measured([]),
        )
        hub.figured = bool(render.placed(look, width).figures)
        self._entries = self._placed(view)
        lines = self._made(now)
        self._widths = self._measured(lines)
        look = msgspec.structs.replace(
            look,
            total=len(view),
            top=self._top,
            order=_ORDER_WORDS[view.sort][view.backwards],
            cursor=self._line if self._cursor is not None else None,
            found=self.searched,
            widths=self._widths,
        )
        return render.screen(look, lines, width, height)

    def _measured(self, lines: Sequence[render.Line]) -> render.Widths:
        lines_of = self.hub.lines
        return render.measure(lines, self._widths, netns=lines_of.place if lines_of.many else "", netid=lines_of.netids)

    def _wanted(self, view: Watched) -> bool | None:
        """Whether columns of what connections carry are: -i and its like have the room, unless somebody says so."""
        if self._carried is not None or view.sort in FIGURES:
            return self._carried is not False
        show = self.hub.lines.show
        told = any((show.timers, show.extended, show.memory, show.info, show.tos, show.cgroup))
        return False if told else None

    def _placed(self, view: Watched) -> list[Entry]:
        """The entries of the screen, so that the cursor's is among them."""
        self._top = max(0, min(self._top, len(view) - self._page))
        if self._cursor is None:
            return view.rows(self._top, self._page)
        place = view.place(self._cursor)
        if place is not None:
            self._top = max(min(self._top, place), place - self._page + 1)
        entries = view.rows(self._top, self._page)
        line = _line_of(entries, self._cursor)
        if line is None and place is not None:
            # The dead take some lines of the screen: further down, then, to see it at all.
            self._top = min(place, self._top + self._page // 4 + 1)
            entries = view.rows(self._top, self._page)
            line = _line_of(entries, self._cursor)
        if line is None and entries:  # it has gone: whoever stands there now
            line = min(self._line, len(entries) - 1)
            self._cursor = entries[line].row.id
        self._line = line or 0
        return entries

    def _made(self, now_ns: int) -> list[render.Line]:
        hub, entries = self.hub, self._entries
        rows = [entry.row for entry in entries if entry.mark != "-"]
        sockets = hub.sockets(rows, now_ns)
        if hub.frozen is None:
            learn_inodes(rows, sockets)
            if hub.lines.show.processes:
                hub.own(rows, now_ns)
        lines = hub.lines.make(entries, sockets, now_ns if hub.frozen is None else hub.frozen.at_ns)
        if not hub.figured:
            return lines
        return [
            msgspec.structs.replace(line, figures=texts(hub.figures(entry.row)))
            for entry, line in zip(entries, lines, strict=True)
        ]

    @property
    def chosen(self) -> Entry | None:
        """What the cursor points at."""
        return self.hub.shown.entry(self._cursor) if self._cursor is not None else None

    @property
    def copied(self) -> str:
        """The row at the cursor, as text."""
        chosen = self.chosen
        return text_of(self.hub.lines.make([chosen], {}, self.hub.now_ns())) if chosen is not None else ""

    def click(self, line: int) -> bool:
        """Somebody has pointed at a line of the screen; whether the cursor was there already."""
        line -= self._first
        if not 0 <= line < len(self._entries):
            return False
        again = self._entries[line].row.id == self._cursor
        self.point(line)
        return again

    def point(self, line: int) -> None:
        """Put the cursor on a line of the screen."""
        if self._entries:
            self._line = max(0, min(line, len(self._entries) - 1))
            self._cursor = self._entries[self._line].row.id

    # Keys.

    def key(self, key: str) -> None:
        """One that concerns the rows; others do nothing."""
        view = self.hub.shown
        if key in ("s", "S"):
            names = list(view.sorts)
            self._sort(view, names[(names.index(view.sort) + (1 if key == "s" else -1)) % len(names)])
        elif key.isdecimal() and 0 < int(key) <= len(view.sorts):
            self._sort(view, list(view.sorts)[int(key) - 1])
        elif key == "r":
            view.backwards = not view.backwards
        elif key == "a":
            view.states = self.hub.states if view.states != self.hub.states else ALL_STATES
            view.resort()
        elif key == "d":
            view.dead = not view.dead
            self.hub.say("closed rows stay until their marks fade" if view.dead else "closed rows are not shown")
        elif key == "p":
            self.hub.lines.toggle_processes()
        elif key == "b":
            self._carried = not self.hub.figured
        elif key == "n":
            self.hub.lines.toggle_numeric()
            self._widths = None
        elif key == "escape":
            self._cursor, self.searched = None, ""
        else:
            self._scroll(key, view)

    def _scroll(self, key: str, view: Watched) -> None:
        if key in ("up", "k"):
            self._move(-1)
        elif key in ("down", "j"):
            self._move(1)
        elif key in ("pageup", "ctrl-b"):
            self._turn(-self._page, view)
        elif key in ("pagedown", "ctrl-f"):
            self._turn(self._page, view)
        elif key in ("wheelup", "wheeldown"):
            self._turn(-3 if key == "wheelup" else 3, view)
        elif key == "home":
            self._pan = 0
            self._turn(-len(view), view)
        elif key in ("end", "G"):
            self._turn(len(view), view)
        elif key == "left":
            self._pan = max(0, self._pan - 8)
        elif key == "right":
            self._pan = min(4096, self._pan + 8)

    def _move(self, by: int) -> None:
        """The cursor, by a line; where the screen ends, the screen."""
        if self._cursor is None:
            self.point(0 if by > 0 else len(self._entries) - 1)
        elif 0 <= self._line + by < len(self._entries):
            self.point(self._line + by)
        else:
            self._top = max(0, self._top + by)
            entries = self.hub.shown.rows(self._top, self._page)
            if entries:
                self._entries = entries
                self.point(0 if by < 0 else len(entries) - 1)

    def _turn(self, by: int, view: Watched) -> None:
        """The screen, by so many lines, and the cursor with it."""
        before = self._top
        self._top = max(0, min(self._top + by, len(view) - self._page))
        if self._cursor is not None:
            self._entries = view.rows(self._top, self._page)
            # At the end of all rows, to the first or the last of them.
            whole = abs(by) >= len(view) or self._top == before
            self.point(self._line if not whole else 0 if by < 0 else len(self._entries) - 1)

    def _sort(self, view: Watched, name: str) -> None:
        view.sort = name
        if name == "owner" and self.hub.frozen is None:
            self.hub.later("order", self._by_owners)
        view.resort()
        self._widths = None
        self._top = 0

    def _by_owners(self) -> None:
        self.hub.own_all()
        self.hub.shown.resort()

    # Searching.

    def search(self, text: str) -> None:
        """Go to the next row, behind the cursor and round, that has this text in any column."""
        self.searched, self.searching = text, bool(text)
        if text:
            steps = self._look_for(text.lower())
            began = time.monotonic_ns()
            for _ in steps:
                if time.monotonic_ns() - began > _SEARCH_NS:
                    self.hub.say(f"looking for {text}: a key ends that")
                    self.hub.later("search", lambda: self._look_on(steps))
                    break

    def _look_on(self, steps: Iterator[None]) -> None:
        for _ in steps:
            self.hub.heed()
            if not self.searching:
                break

    def _look_for(self, wanted: str) -> Iterator[None]:
        """Step by step; at the end the cursor is there, or it is said that there is no such row."""
        view = self.hub.shown
        total = len(view)
        place = view.place(self._cursor) if self._cursor is not None else None
        start = place + 1 if place is not None else self._top
        done = 0
        while done < total:
            at = (start + done) % total
            count = min(_SEARCH_STEP, total - done, total - at)
            entries = view.living(at, count)
            for entry, line in zip(entries, self._texts(entries), strict=True):
                if wanted in line.lower():
                    self._cursor = entry.row.id
                    self.hub.say("")
                    return
            done += count
            yield
        self.hub.say(f"no row has {self.searched} in it")

    def _texts(self, entries: Sequence[Entry]) -> list[str]:
        lines = self.hub.lines.make(entries, {}, self.hub.now_ns())
        return [
            f"{text_of([line])} {who(entry.row, 1 << 16, descriptors=True)}"
            for entry, line in zip(entries, lines, strict=True)
        ]

    def renewed(self) -> None:
        """The rows are others: the filter was changed."""
        self._widths = None
        self._top = 0


def _line_of(entries: Sequence[Entry], number: int) -> int | None:
    return next((line for line, entry in enumerate(entries) if entry.row.id == number), None)
