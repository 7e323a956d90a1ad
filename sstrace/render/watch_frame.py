"""What is the same on every page of ``--watch``: the lines above and below, the help, and how all becomes text.

Enters: ``Look`` (everything about the screen that is not a row) and the lines of a page. Leaves: ``Screen``, exactly as
many lines as the terminal has, none wider than it; ``Painter`` turns one into text with escape sequences. No I/O and
no clock.
"""

from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Literal

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

from sstrace.model import STATE_TEXT
from sstrace.render.width import shortened

__all__ = [
    "ALERT",
    "ASCII",
    "BAR",
    "BOLD",
    "DIM",
    "PLAIN",
    "UNICODE",
    "Glyphs",
    "Look",
    "Painter",
    "Prompt",
    "Rates",
    "Screen",
    "Widths",
    "cut",
    "fit",
    "fixed_rows",
    "framed",
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
    netns: int = 0
    """What says of which network namespace, or host, a row is; 0: there is but one, and no column for it."""
    netid: int = 0
    """0: there is but one protocol."""


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
    place: str = "Netns"
    """Title of the column that says where a row is."""
    polled: bool = False
    """There are no events: the kernel is asked again and again."""
    total: int = 0
    """Rows to scroll through."""
    top: int = 0
    """Place of the first of them on the screen."""
    sort: str = ""
    order: str = ""
    """Which end comes first, in words."""
    filter: str = ""
    status: str = ""
    """PAUSED, FROZEN and since when; empty: it runs."""
    pan: int = 0
    """Cells by which the columns behind Held are moved to the left."""
    queues: bool = True
    process: bool = False
    carried: bool | None = False
    """Whether columns of what connections carry are wanted; None: where there is room for all of them."""
    figures: Sequence[str] = ()
    """Those of them that stand on the screen, by their names in ``FIGURES``."""
    prompt: Prompt | None = None
    message: str = ""
    """One line for the user in place of the keys."""
    help: bool = False
    cursor: int | None = None
    """Line of the row that is pointed at."""
    found: str = ""
    """What was searched for: it is marked wherever it stands."""
    widths: Widths = Widths(0, 0, 0, 0)
    keys: str = ""
    """Of the last line: what can be pressed; empty: the usual ones."""
    glyphs: Glyphs = UNICODE
    guide: str = ""
    """Another help than the usual one."""


PLAIN = Style()
BOLD = Style(bold=True)
DIM = Style(dim=True)
BAR = Style(reverse=True)
ALERT = Style(bold=True, reverse=True)

_HELP = """\
  + new   * changed its state   - closed: its last state, how long, and why
  {ge} in Held: in this state since before sstrace started, so at least that long
  Counts are of all rows that the filter lets pass; (states) are not listed.
  closed: ended, and did not fail; failed: refused, reset, timed out, killed

  q      quit                          space  pause: the screen stands
  j k G arrows PgUp PgDn Home End, wheel, click   the cursor; Esc: without it
  Enter  look inside the connection    left right   move the columns
  K      close it, as ss can;          c  copy its line
         asks first                    p  Process column
  /      search a text in every        n  numbers or names of ports
         column; / Enter: the next     a  every state, or those asked for
  f      filter: [state X]             d  closed rows while they are marked,
         [exclude X] EXPRESSION           or none
  g      groups: by process,           b  columns of bytes, rates and RTT
         container, peer, port         s S 1-9  sort: held, state, local, peer,
  z      freeze: a copy of the table      owner, {more}sent, received,
         stands, to scroll and sort       sent/s, received/s, rtt
  h ?    this help; any key leaves it  r  reverse the order
"""


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


def fit(text: str, width: int) -> str:
    """Exactly ``width`` cells of a text."""
    if text.isascii():
        return text[:width].ljust(width)
    return set_cell_size(text, width)


def cut(text: str, width: int) -> str:
    """At most ``width`` cells of a text."""
    if text.isascii():
        return text[:width]
    return text if cell_len(text) <= width else set_cell_size(text, width)


def _header(look: Look, width: int) -> list[list[Segment]]:
    """The lines above the table: what and when, the states, the rates."""
    dot = look.glyphs.dot
    status = cut(f" {look.status} ", width) if look.status else ""
    room = width - len(status)
    # What there is no room for goes, the least needed first; whose table it is only gets shorter.
    words = {"name": "sstrace --watch", "host": look.host, "clock": look.clock, "interval": f"every {look.interval}"}
    if look.sort:
        words["sort"] = f"by {look.sort}, {look.order}"
    for name in ("interval", "name", "sort"):
        if cell_len(f" {dot} ".join(words.values())) < room:
            break
        words.pop(name, None)
    spare = room - 1 - cell_len(f" {dot} ".join(words.values()))
    if spare < 0:
        words["host"] = shortened(look.host, max(1, cell_len(look.host) + spare))
    first = [Segment(fit(f" {dot} ".join(words.values()), room), BOLD)]
    if status:
        first.append(Segment(status, ALERT))
    second: list[Segment] = []
    used = 0
    for state, count in look.counts:
        listed = look.states >> state & 1
        text = f"{STATE_TEXT[state]} {count}"
        text = text if listed else f"({text})"
        if used + len(text) > width:
            break
        second.append(Segment(text, PLAIN if listed else DIM))
        second.append(Segment("  "))
        used += len(text) + 2
    if not second:
        second = [Segment("no sockets" + (" that the filter lets pass" if look.filter else ""), DIM)]
    rates = look.rates
    third = (f"opened {_rate(rates.opened)}  closed {_rate(rates.closed)}  failed {_rate(rates.failed)}  {dot}  ") + (
        "polled" if look.polled else f"{_rate(rates.events)} events"
    )
    if look.lost:
        lost = f"{look.lost} lost"
        whole = f"{third}, {lost}"
        third = whole if cell_len(whole) <= width else f"{lost}  {dot}  {third}"  # it is never what is cut
    if look.filter:
        third += f"  {dot}  filter {look.filter}"
    return [first, second, [Segment(cut(third, width))]]


def _rate(value: float) -> str:
    return f"{value:.1f}/s" if value < 100 else f"{value:.0f}/s"


def _crop(line: list[Segment], width: int) -> list[Segment]:
    if sum(segment.cell_length for segment in line) <= width:
        return line
    return Segment.adjust_line_length(line, width, pad=False)


def _footer(look: Look, place: str, width: int) -> list[Segment]:
    if look.prompt is not None:
        prompt = look.prompt
        # The text moves so that the cursor is always to be seen.
        room = max(1, width - len(prompt.label) - 1)
        start = max(0, prompt.cursor - room + 1)
        text = prompt.text[start:] + " "
        at = prompt.cursor - start
        return [
            Segment(prompt.label, BOLD),
            Segment(text[:at]),
            Segment(text[at], BAR),
            Segment(text[at + 1 :]),
        ]
    if look.message:
        return [Segment(cut(f" {look.message} ", width), ALERT)]
    keys = ""
    for keys in _fewer(look.keys) if look.keys else _KEYS:
        if len(keys) + len(place) + 2 <= width:
            break
    return [Segment(cut(fit(keys, max(0, width - len(place))) + place, width), DIM)]


def _fewer(keys: str) -> Iterator[str]:
    """The same, and again without the last of them, down to the first."""
    yield keys
    while fewer := keys.rpartition("  ")[0].rstrip():
        keys = fewer
        yield keys


_KEYS = (
    "q quit  space pause  s sort  Enter inside  g group  / search  f filter  d dead  K close  c copy  ? help",
    "q quit  Enter inside  g group  / search  f filter  ? help",
    "? help",
)


_HEADER = 3


def fixed_rows(height: int) -> int:
    """Lines of a screen that are no rows: on a very low one the header goes, then the footer, then the titles."""
    if height >= 8:
        return _HEADER + 2
    if height >= 3:
        return 2
    return 0


def framed(
    look: Look, titles: list[Segment] | None, body: Sequence[list[Segment]], *, place: str, width: int, height: int
) -> Screen:
    """A page: ``height`` lines of at most ``width`` cells. ``titles``: a bar above the body; ``place``: which part of
    it that is. Lines beyond what fits are left out.
    """
    out: list[list[Segment]] = []
    if height >= 8:
        out += _header(look, width)
    if height >= 3 and titles is not None:
        out.append(titles)
    if look.help:
        many = bool(look.widths.netns)
        text = (look.guide or _HELP).format(ge=look.glyphs.at_least, more=f"{look.place.lower()}, " * many)
        out += [[Segment(cut(line, width))] for line in text.splitlines()]
    else:
        out += body
    below = 1 if height >= 3 else 0
    del out[height - below :]
    out += [[] for _ in range(height - below - len(out))]
    if below:
        out.append(_footer(look, place, width))
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
