"""The full-screen live table: what is to be seen → a rich renderable → lines for a terminal. The only ``import rich``.

Enters: ``Look`` (everything about the screen that is not a row) and ``Line`` (one row, its cells made by the cell
makers of ss's table). Leaves: ``Screen``, exactly as many lines as the terminal has, none wider than it; ``Painter``
turns one into text with escape sequences. No I/O and no clock.

Marks. A changed row is told by a character in its first column, so that colour is never needed; colour repeats it. The
three colours are of the palette of Okabe and Ito, which people with any of the common colour blindnesses tell apart,
and of it those that can be read on black and on white.
"""

from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Literal

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from sstrace.model import STATE_TEXT
from sstrace.render.columns import (
    COLUMNS,
    LOCAL_ADDRESS,
    LOCAL_PORT,
    PEER_ADDRESS,
    PEER_PORT,
    PROCESS,
    RECV_Q,
    SEND_Q,
    STATE,
)

__all__ = [
    "ASCII",
    "UNICODE",
    "Glyphs",
    "Line",
    "Look",
    "Painter",
    "Prompt",
    "Rates",
    "Screen",
    "Widths",
    "fixed_rows",
    "measure",
    "screen",
]


class Glyphs(msgspec.Struct, frozen=True):
    """What a terminal's encoding may lack."""

    at_least: str
    dot: str
    more: str


UNICODE = Glyphs("≥", "·", "→")
ASCII = Glyphs(">=", "-", "->")


class Rates(msgspec.Struct, frozen=True):
    """Per second, over the last second or interval."""

    opened: float = 0.0
    closed: float = 0.0
    failed: float = 0.0
    events: float = 0.0


class Prompt(msgspec.Struct, frozen=True):
    """A line that is being typed."""

    label: str
    text: str
    cursor: int
    """Place in the text."""


class Widths(msgspec.Struct, frozen=True):
    """Cells that the columns need, those whose texts vary: address and port of both ends."""

    local: int
    local_port: int
    peer: int
    peer_port: int


class Line(msgspec.Struct, frozen=True):
    """One row."""

    mark: Literal["+", "*", "-", " "]
    state: str
    """In ss's words."""
    held: str
    recv_q: str
    send_q: str
    local: str
    """With its colon."""
    local_port: str
    peer: str
    peer_port: str
    rest: str
    """What ss prints behind the peer's port."""
    cause: str = ""
    """Of a closed row: why it closed. Stands in place of the queues, which it has no more."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """The screen but for its rows."""

    host: str
    clock: str
    """Time of day of the picture, with its zone."""
    interval: str
    counts: Sequence[tuple[int, int]]
    """(state, rows that the filter lets pass), in the order in which they are to stand."""
    states: int
    """Mask of the states that are listed; the others are counted in parentheses."""
    rates: Rates
    lost: int
    """Events lost since the start; the table has been compared with the kernel after each loss."""
    polled: bool = False
    """There are no events: the kernel is asked again and again."""
    total: int
    """Rows to scroll through."""
    top: int
    """Place of the first of them on the screen."""
    sort: str
    order: str
    """Which end comes first, in words."""
    filter: str = ""
    status: str = ""
    """PAUSED, FROZEN and since when; empty: it runs."""
    pan: int = 0
    """Cells by which the columns behind Held are moved to the left."""
    queues: bool = True
    process: bool = False
    prompt: Prompt | None = None
    message: str = ""
    """One line for the user in place of the keys."""
    help: bool = False
    widths: Widths
    glyphs: Glyphs = UNICODE


_PLAIN = Style()
_BOLD = Style(bold=True)
_DIM = Style(dim=True)
_BAR = Style(reverse=True)
_SORTED = Style(reverse=True, bold=True, underline=True)
_ALERT = Style(bold=True, reverse=True)
_MARKS = {
    "+": Style(color="#0072b2", bold=True),
    "*": Style(color="#d55e00", bold=True),
    "-": Style(color="#cc79a7", bold=True),
    " ": _PLAIN,
}

_STATE_WIDTH = max(map(len, STATE_TEXT))
_HELD_WIDTH = 8
_FIXED = 1 + 1 + _STATE_WIDTH + 1 + _HELD_WIDTH + 1
"""Mark, State, Held and their blanks: what stays when the rest is moved."""

_QUEUES_WIDTH = 14
"""Recv-Q, Send-Q and their blanks."""

_SORT_COLUMN = {"state": "State", "held": "Held", "local": "Local", "peer": "Peer", "owner": "Process"}

_HELP = """\
  +  new   *  changed its state   -  closed: its last state, how long, and why
  {ge} in Held: in this state since before sstrace started, so at least that long
  Counts are of all rows that the filter lets pass; (states) are not listed.
  opened: connections established     closed: ended, and did not fail
  failed: refused, reset, timed out, unreachable, killed

  q          quit                     arrows  PgUp PgDn Home End: scroll;
  space      pause: the screen stands         left and right move the columns
  z          freeze: a copy of the table stands, to scroll and sort in
  s S        sort by the next, the previous of held, state, local, peer, owner
  1 to 5     sort by one of these     r  reverse the order
  /          filter: [state X] [exclude X] and an expression, as after ss
  a          every state, or those that were asked for
  p          Process column           n  numbers or names of ports
  h ?        this help; any key leaves it
"""


def measure(lines: Iterable[Line], before: Widths | None = None) -> Widths:
    """How wide the columns must be; never narrower than ``before``, so that they do not tremble."""
    local, local_port = len(COLUMNS[LOCAL_ADDRESS].header), len(COLUMNS[LOCAL_PORT].header)
    peer, peer_port = len(COLUMNS[PEER_ADDRESS].header), len(COLUMNS[PEER_PORT].header)
    if before is not None:
        local, local_port, peer, peer_port = before.local, before.local_port, before.peer, before.peer_port
    for line in lines:
        local, local_port = max(local, len(line.local)), max(local_port, len(line.local_port))
        peer, peer_port = max(peer, len(line.peer)), max(peer_port, len(line.peer_port))
    return Widths(local, local_port, peer, peer_port)


class Screen:
    """Lines of segments: a rich renderable."""

    def __init__(self, lines: list[list[Segment]]) -> None:
        self.lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines, with newlines between them."""
        for number, line in enumerate(self.lines):
            if number:
                yield Segment.line()
            yield from line


def _fit(text: str, width: int) -> str:
    """Exactly ``width`` cells of a text."""
    if text.isascii():
        return text[:width].ljust(width)
    return set_cell_size(text, width)


def _cut(text: str, width: int) -> str:
    """At most ``width`` cells of a text."""
    if text.isascii():
        return text[:width]
    return text if cell_len(text) <= width else set_cell_size(text, width)


def _header(look: Look, width: int) -> list[list[Segment]]:
    """The lines above the table: what and when, the states, the rates."""
    dot = look.glyphs.dot
    status = _cut(f" {look.status} ", width) if look.status else ""
    room = width - len(status)
    # What there is no room for goes, the least needed first.
    words = {"name": "sstrace --watch", "host": look.host, "clock": look.clock, "interval": f"every {look.interval}"}
    words["sort"] = f"by {look.sort}, {look.order}"
    for name in ("interval", "host", "sort", "name"):
        if cell_len(f" {dot} ".join(words.values())) < room:
            break
        del words[name]
    first = [Segment(_fit(f" {dot} ".join(words.values()), room), _BOLD)]
    if status:
        first.append(Segment(status, _ALERT))
    second: list[Segment] = []
    used = 0
    for state, count in look.counts:
        listed = look.states >> state & 1
        text = f"{STATE_TEXT[state]} {count}"
        text = text if listed else f"({text})"
        if used + len(text) > width:
            break
        second.append(Segment(text, _PLAIN if listed else _DIM))
        second.append(Segment("  "))
        used += len(text) + 2
    if not second:
        second = [Segment("no sockets" + (" that the filter lets pass" if look.filter else ""), _DIM)]
    rates = look.rates
    third = (f"opened {_rate(rates.opened)}  closed {_rate(rates.closed)}  failed {_rate(rates.failed)}  {dot}  ") + (
        "polled" if look.polled else f"{_rate(rates.events)} events"
    )
    if look.lost:
        third += f", {look.lost} lost"
    if look.filter:
        third += f"  {dot}  filter {look.filter}"
    return [first, second, [Segment(_cut(third, width))]]


def _rate(value: float) -> str:
    return f"{value:.1f}/s" if value < 100 else f"{value:.0f}/s"


def _titles(look: Look, width: int) -> list[Segment]:
    """The bar of column titles, ss's own but for Held."""
    widths = look.widths
    marked = _SORT_COLUMN.get(look.sort)
    fixed = [
        Segment("  ", _BAR),
        Segment(COLUMNS[STATE].header.ljust(_STATE_WIDTH + 1), _SORTED if marked == "State" else _BAR),
        Segment("Held".rjust(_HELD_WIDTH) + " ", _SORTED if marked == "Held" else _BAR),
    ]
    titles: list[tuple[str, str]] = []
    if look.queues:
        titles += [("", f"{COLUMNS[RECV_Q].header} "), ("", f"{COLUMNS[SEND_Q].header} ")]
    titles.append(
        (
            "Local",
            COLUMNS[LOCAL_ADDRESS].header.rjust(widths.local)
            + COLUMNS[LOCAL_PORT].header.ljust(widths.local_port)
            + " ",
        )
    )
    titles.append(
        (
            "Peer",
            COLUMNS[PEER_ADDRESS].header.rjust(widths.peer) + COLUMNS[PEER_PORT].header.ljust(widths.peer_port) + " ",
        )
    )
    titles.append(("Process", COLUMNS[PROCESS].header if look.process else ""))
    room = width - _FIXED
    skip = look.pan
    for name, text in titles:
        shown = text[skip:][: max(0, room)]
        skip = max(0, skip - len(text))
        room -= len(shown)
        if shown:
            fixed.append(Segment(shown, _SORTED if name == marked else _BAR))
    if room > 0:
        fixed.append(Segment(" " * room, _BAR))
    return fixed


def _crop(line: list[Segment], width: int) -> list[Segment]:
    if sum(segment.cell_length for segment in line) <= width:
        return line
    return Segment.adjust_line_length(line, width, pad=False)


def _row(line: Line, look: Look, width: int) -> list[Segment]:
    widths = look.widths
    style = _MARKS[line.mark]
    rest = (
        f"{line.local:>{widths.local}}{line.local_port:<{widths.local_port}} "
        f"{line.peer:>{widths.peer}}{line.peer_port:<{widths.peer_port}} "
    )
    if look.queues:
        rest = f"{line.recv_q:<6} {line.send_q:<6} {rest}"
    rest += line.rest
    if line.cause:
        # The blanks before the address may lend it some room; a word that finds none stands behind the row.
        gap = len(line.cause) + 1
        free = look.queues and not rest[_QUEUES_WIDTH:gap].strip()
        rest = f"{line.cause} {rest[gap:]}" if free else f"{rest}{' ' if line.rest else ''}[{line.cause}]"
    held = line.held.rjust(_HELD_WIDTH)
    fixed = f"{line.mark} {line.state:<{_STATE_WIDTH}} {held} "
    tail = _cut(rest[look.pan :], width - len(fixed)).rstrip() if width > len(fixed) else ""
    return [Segment(fixed, style), Segment(tail, _DIM if line.mark == "-" else _PLAIN)]


def _overflows(lines: Sequence[Line], look: Look, width: int) -> bool:
    """Whether something of the rows lies beyond the right edge."""
    widths = look.widths
    used = _FIXED + (_QUEUES_WIDTH if look.queues else 0) - look.pan
    used += widths.local + widths.local_port + widths.peer + widths.peer_port + 2
    if not any(line.rest for line in lines):
        return used - 1 > width
    return used + max((len(line.rest) for line in lines), default=0) > width


def _footer(look: Look, lines: Sequence[Line], width: int) -> list[Segment]:
    if look.prompt is not None:
        prompt = look.prompt
        # The text moves so that the cursor is always to be seen.
        room = max(1, width - len(prompt.label) - 1)
        start = max(0, prompt.cursor - room + 1)
        text = prompt.text[start:] + " "
        at = prompt.cursor - start
        return [
            Segment(prompt.label, _BOLD),
            Segment(text[:at]),
            Segment(text[at], _BAR),
            Segment(text[at + 1 :]),
        ]
    if look.message:
        return [Segment(_cut(f" {look.message} ", width), _ALERT)]
    last = min(look.total, look.top + len(lines))
    place = f"{look.top + 1}-{last} of {look.total}" if lines else f"0 of {look.total}"
    if look.pan or _overflows(lines, look, width):
        place += f" {look.glyphs.more}" if _overflows(lines, look, width) else " <-"
    keys = "q quit  space pause  z freeze  s sort  r reverse  / filter  ? help"
    if len(keys) + len(place) + 2 > width:
        keys = "q quit  space pause  s sort  / filter  ? help"
    if len(keys) + len(place) + 2 > width:
        keys = "? help"
    return [Segment(_cut(_fit(keys, max(0, width - len(place))) + place, width), _DIM)]


_HEADER = 3


def fixed_rows(height: int) -> int:
    """Lines of a screen that are no rows: on a very low one the header goes, then the footer, then the titles."""
    if height >= 8:
        return _HEADER + 2
    if height >= 3:
        return 2
    return 0


def screen(look: Look, lines: Sequence[Line], width: int, height: int) -> Screen:
    """The whole screen: ``height`` lines of at most ``width`` cells. Lines beyond what fits are left out."""
    rows = lines[: max(0, height - fixed_rows(height))]
    out: list[list[Segment]] = []
    if height >= 8:
        out += _header(look, width)
    if height >= 3:
        out.append(_titles(look, width))
    if look.help:
        text = _HELP.format(ge=look.glyphs.at_least).splitlines()
        out += [[Segment(_cut(line, width))] for line in text]
    else:
        out += [_row(line, look, width) for line in rows]
    below = 1 if height >= 3 else 0
    del out[height - below :]
    out += [[] for _ in range(height - below - len(out))]
    if below:
        out.append(_footer(look, rows, width))
    return Screen([_crop(line, width) for line in out])


class Painter:
    """Screens → terminal lines. ``colors``: rich's name of what the terminal has; ``plain``: attributes but no colour
    (NO_COLOR).
    """

    def __init__(self, colors: Literal["standard", "256", "truecolor"], *, plain: bool) -> None:
        self._file = StringIO()
        self._console = Console(
            file=self._file,
            force_terminal=True,
            color_system=colors,
            no_color=plain,
            legacy_windows=False,
            highlight=False,
            markup=False,
            emoji=False,
            width=80,
            height=24,
            _environ={},
        )

    def paint(self, picture: Screen, width: int, height: int) -> list[str]:
        """The text of each line, escape sequences for colour included, ended by one that erases to the right where the
        line is shorter than the screen.
        """
        self._console.size = ConsoleDimensions(width, height)
        self._file.seek(0)
        self._file.truncate()
        self._console.print(picture, end="")
        lines = self._file.getvalue().split("\n")
        for number, segments in enumerate(picture.lines):
            if Segment.get_line_length(segments) < width:
                lines[number] += "\x1b[K"
        return lines
