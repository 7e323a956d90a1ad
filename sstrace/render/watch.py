"""The full-screen live table: rows → a screen.

Enters: ``Look`` and ``Line`` (one row, its cells made by the cell makers of ss's table). Leaves: ``Screen``
(render.watch_frame). At any width the port of the peer is to be seen: where there is too little room, addresses are cut
in their middle, and the columns can be moved.

Marks. A changed row is told by a character in its first column, so that colour is never needed; colour repeats it. The
three colours are of the palette of Okabe and Ito, which people with any of the common colour blindnesses tell apart,
and of it those that can be read on black and on white.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from sstrace.model import STATE_TEXT
from sstrace.render.columns import (
    COLUMNS,
    LOCAL_ADDRESS,
    LOCAL_PORT,
    NETID,
    PEER_ADDRESS,
    PEER_PORT,
    PROCESS,
    RECV_Q,
    SEND_Q,
    STATE,
)
from sstrace.render.watch_figures import FIGURES, chosen, taken
from sstrace.render.watch_frame import (
    ASCII,
    BAR,
    DIM,
    PLAIN,
    UNICODE,
    Glyphs,
    Look,
    Painter,
    Prompt,
    Rates,
    Screen,
    Widths,
    cut,
    fit,
    fixed_rows,
    framed,
)
from sstrace.render.width import shortened

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
    "placed",
    "screen",
]


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
    netid: str = ""
    """Of which protocol it is, where there are several."""
    netns: str = ""
    """What its network namespace is called, where there are several."""
    figures: Mapping[str, str] = {}
    """What it carries, by the names of ``FIGURES``; what is not known is left out."""


_SORTED = Style(reverse=True, bold=True, underline=True)
_CURSOR = Style(reverse=True, bold=True)
_FOUND = Style(bold=True, underline=True)
_MARKS = {
    "+": Style(color="#0072b2", bold=True),
    "*": Style(color="#d55e00", bold=True),
    "-": Style(color="#cc79a7", bold=True),
    " ": PLAIN,
}

_STATE_WIDTH = max(map(len, STATE_TEXT))
_HELD_WIDTH = 8
_FIXED = 1 + 1 + _STATE_WIDTH + 1 + _HELD_WIDTH + 1
"""Mark, State, Held and their blanks: what stays when the rest is moved; with Netns in front of State, where it is."""

_NETNS_MOST = 16
"""What of a namespace's name is shown, as in a trace."""

_QUEUES_WIDTH = 14
"""Recv-Q, Send-Q and their blanks."""

_SORT_COLUMN = {
    "state": "State", "held": "Held", "local": "Local", "peer": "Peer", "owner": "Process", "netns": "Netns",
    "host": "Host",
    **{name: figure.title for name, figure in FIGURES.items()},
}  # fmt: skip


def measure(lines: Iterable[Line], before: Widths | None = None, *, netns: str = "", netid: bool = False) -> Widths:
    """How wide the columns must be; never narrower than ``before``, so that they do not tremble. ``netns``: the title
    of the column that says where a row is, where there is one; ``netid``: there is one for the protocol.
    """
    place = len(netns)
    local, local_port = len(COLUMNS[LOCAL_ADDRESS].header), len(COLUMNS[LOCAL_PORT].header)
    peer, peer_port = len(COLUMNS[PEER_ADDRESS].header), len(COLUMNS[PEER_PORT].header)
    if before is not None:
        local, local_port, peer, peer_port = before.local, before.local_port, before.peer, before.peer_port
        place = before.netns
    for line in lines:
        local, local_port = max(local, len(line.local)), max(local_port, len(line.local_port))
        peer, peer_port = max(peer, len(line.peer)), max(peer_port, len(line.peer_port))
        place = min(max(place, cell_len(line.netns)), _NETNS_MOST)
    return Widths(local, local_port, peer, peer_port, place, len(COLUMNS[NETID].header) if netid else 0)


def _fixed(widths: Widths) -> int:
    return _FIXED + sum(cells + 1 for cells in (widths.netid, widths.netns) if cells)


def _titles(look: Look, width: int) -> list[Segment]:
    """The bar of column titles, ss's own but for Held."""
    widths = look.widths
    marked = _SORT_COLUMN.get(look.sort)
    fixed = [
        Segment("  ", BAR),
        Segment(COLUMNS[STATE].header.ljust(_STATE_WIDTH + 1), _SORTED if marked == "State" else BAR),
        Segment("Held".rjust(_HELD_WIDTH) + " ", _SORTED if marked == "Held" else BAR),
    ]
    if widths.netns:
        fixed.insert(1, Segment(look.place.ljust(widths.netns + 1), _SORTED if marked == look.place else BAR))
    if widths.netid:
        fixed.insert(1, Segment(f"{COLUMNS[NETID].header} ", BAR))
    titles: list[tuple[str, str]] = []
    if look.queues:
        titles += [("", f"{COLUMNS[RECV_Q].header} "), ("", f"{COLUMNS[SEND_Q].header} ")]
    for name, address, port, cells in (
        ("Local", LOCAL_ADDRESS, LOCAL_PORT, (widths.local, widths.local_port)),
        ("Peer", PEER_ADDRESS, PEER_PORT, (widths.peer, widths.peer_port)),
    ):
        title, more = COLUMNS[address].header, COLUMNS[port].header
        fits = len(title) <= cells[0]
        text = title.rjust(cells[0]) + more.ljust(cells[1]) if fits else (title + more)[: sum(cells)].ljust(sum(cells))
        titles.append((name, f"{text} "))
    titles += [(FIGURES[name].title, f"{FIGURES[name].title:>{FIGURES[name].width}} ") for name in look.figures]
    titles.append(("Process", COLUMNS[PROCESS].header if look.process else ""))
    room = width - _fixed(widths)
    skip = look.pan
    for name, text in titles:
        shown = text[skip:][: max(0, room)]
        skip = max(0, skip - len(text))
        room -= len(shown)
        if shown:
            fixed.append(Segment(shown, _SORTED if name == marked else BAR))
    if room > 0:
        fixed.append(Segment(" " * room, BAR))
    return fixed


_LEAST = 11
"""What of an address is left at least."""

_IPV4 = 15
"""What of an address columns of figures leave, where it is longer."""

_OWNERS = 32
"""What is kept free for owners before columns of figures come by themselves: most are of one process."""


def placed(look: Look, width: int) -> Look:
    """With the columns of what connections carry for which there is room. By themselves all come, or none; whoever
    wants them has them for the queues, and for the ends of long addresses, as many as there is room for.
    """
    if look.carried is False:
        return look
    widths, every = look.widths, tuple(FIGURES)
    bare = _fixed(widths) + widths.local_port + widths.peer_port + 2
    whole = bare + widths.local + widths.peer + (_QUEUES_WIDTH if look.queues else 0) + taken(every)
    if look.carried is None:
        fits = whole + (_OWNERS if look.process else 0) <= width
        return msgspec.structs.replace(look, figures=every) if fits else look
    if whole <= width or look.pan:
        return msgspec.structs.replace(look, figures=every)
    figures = chosen(width + 1 - bare - min(widths.local, _IPV4) - min(widths.peer, _IPV4), look.sort)
    return msgspec.structs.replace(look, figures=figures, queues=look.queues and not figures)


def _fitted(look: Look, width: int) -> Look:
    """With columns of addresses for which there is room, so that the peer's port is in sight; not where somebody has
    moved the columns to see all of them. Where too little of the addresses would be left, the queues go first, then the
    ends of namespaces' names, then that of the local port.
    """
    widths = look.widths
    taken_up = _fixed(widths) + widths.local_port + widths.peer_port + taken(look.figures)
    room = width - taken_up - 1 - (_QUEUES_WIDTH if look.queues else 0)
    if look.pan or widths.local + widths.peer + 1 <= room:
        return look
    lacking = min(widths.local, _LEAST) + min(widths.peer, _LEAST) + 1 - room
    if lacking > 0 and look.queues:
        look = msgspec.structs.replace(look, queues=False)
        lacking, room = lacking - _QUEUES_WIDTH, room + _QUEUES_WIDTH
    for name, least in (("netns", len(look.place)), ("local_port", len(COLUMNS[LOCAL_PORT].header))):
        spare = max(0, min(lacking, getattr(widths, name) - least))
        widths = msgspec.structs.replace(widths, **{name: getattr(widths, name) - spare})
        lacking, room = lacking - spare, room + spare
    share = max(1, (room - 1) // 2)
    local = min(widths.local, max(share, room - 1 - widths.peer))
    peer = min(widths.peer, max(1, room - 1 - local))
    return msgspec.structs.replace(look, widths=msgspec.structs.replace(widths, local=local, peer=peer))


def _row(line: Line, look: Look, width: int, *, cursor: bool) -> list[Segment]:
    widths = look.widths
    style = _MARKS[line.mark]
    local_port = shortened(line.local_port, widths.local_port)
    rest = (
        f"{shortened(line.local, widths.local):>{widths.local}}{local_port:<{widths.local_port}} "
        f"{shortened(line.peer, widths.peer):>{widths.peer}}{line.peer_port:<{widths.peer_port}} "
    )
    if look.queues:
        rest = f"{line.recv_q:<6} {line.send_q:<6} {rest}"
    rest += "".join(f"{line.figures.get(name, ''):>{FIGURES[name].width}} " for name in look.figures)
    rest += line.rest
    state = f"{line.state:<{_STATE_WIDTH}} {line.held:>{_HELD_WIDTH}}"
    place = f"{line.netid:<{widths.netid}} " if widths.netid else ""
    place += f"{fit(line.netns, widths.netns)} " if widths.netns else ""
    room = width - _fixed(widths)
    if line.cause:
        # The blanks before the address may lend it some room; a word that finds none stands behind the row, or behind
        # the last figure: what has ended has no rates. Where that is beyond the edge it stands for the time in the
        # state, and a long one for that, too.
        gap = len(line.cause) + 1
        before = f"{rest.rstrip()} " if line.rest or look.figures else rest
        free = look.queues and not rest[_QUEUES_WIDTH:gap].strip()
        if free:
            rest = f"{line.cause:<{_QUEUES_WIDTH - 1}} {rest[max(gap, _QUEUES_WIDTH) :]}"
        elif len(before) + gap + 1 <= room or look.pan or look.queues:
            rest = f"{before}[{line.cause}]"
        else:
            both = f"{line.state} {line.cause}"
            more = max(0, len(both) - len(state))
            if rest[:more].strip():
                both, more = cut(line.cause, len(state)), 0
            state, rest = f"{both:<{len(state)}}", rest[more:]
    fixed = f"{line.mark} {place}{state} "
    tail = cut(rest[look.pan :], room).rstrip() if room > 0 else ""
    if cursor:
        return [Segment(fit(fixed + tail, width), _CURSOR)]
    parts = [Segment(fixed, style), Segment(tail, DIM if line.mark == "-" else PLAIN)]
    return [one for part in parts for one in _found(part, look.found)] if look.found else parts


def _found(part: Segment, wanted: str) -> list[Segment]:
    """A piece of a line, with what was searched for marked in it."""
    text, lower, wanted = part.text, part.text.lower(), wanted.lower()
    if len(lower) != len(text):  # a letter that is two in lower case
        return [part]
    out, at = [], 0
    while (hit := lower.find(wanted, at)) >= 0:
        out += [Segment(text[at:hit], part.style), Segment(text[hit : hit + len(wanted)], _FOUND)]
        at = hit + len(wanted)
    return [*out, Segment(text[at:], part.style)]


def _overflows(lines: Sequence[Line], look: Look, width: int) -> bool:
    """Whether something of the rows lies beyond the right edge."""
    widths = look.widths
    used = _fixed(widths) + (_QUEUES_WIDTH if look.queues else 0) - look.pan
    used += widths.local + widths.local_port + widths.peer + widths.peer_port + 2 + taken(look.figures)
    if not any(line.rest for line in lines):
        return used - 1 > width
    return used + max((len(line.rest) for line in lines), default=0) > width


def screen(look: Look, lines: Sequence[Line], width: int, height: int) -> Screen:
    """The whole screen: ``height`` lines of at most ``width`` cells. Lines beyond what fits are left out."""
    look = _fitted(placed(look, width), width)
    rows = lines[: max(0, height - fixed_rows(height))]
    last = min(look.total, look.top + len(lines))
    place = f"{look.top + 1}-{last} of {look.total}" if last > look.top else f"0 of {look.total}"
    if look.pan or _overflows(rows, look, width):
        place += f" {look.glyphs.more}" if _overflows(rows, look, width) else " <-"
    body = [_row(line, look, width, cursor=number == look.cursor) for number, line in enumerate(rows)]
    return framed(look, _titles(look, width), body, place=place, width=width, height=height)
