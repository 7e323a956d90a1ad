"""Changes of the live table → one text line each, as wide as the screen: none wraps.

Enters and leaves: as in render.trace, whose lines are for files. On a wide screen the columns are the same, and behind
the cause stands what there is room for: what the connection carried, its round-trip time, its container. On a narrow
one the process and the cause have their room first: of the ends it shows the other one, with our port where the
connection came to us, and cuts addresses in their middle where that is still too much.
"""

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from sstrace.model import Owner
from sstrace.model.workload import Workload
from sstrace.plain import cells, counted, plain, printable
from sstrace.render.ends import ARROWS, Ends
from sstrace.render.events import errno_name
from sstrace.render.incidents import HappenedView, incident_words
from sstrace.render.times import TimeMode, span_text
from sstrace.render.trace import SHOWN, TraceText
from sstrace.render.views import RowView, TransitionView, Where
from sstrace.render.width import amount, cut, end_shortened, padded, shortened

__all__ = ["FittedText", "causes", "who"]

"""By role: which way a connection was opened."""

_WIDE: Final = 132
"""From so many columns on, the columns of a file."""
_MIDDLE: Final = 100
"""From so many on, milliseconds, and more of a process."""
_STATES_FROM: Final = 72
"""From so many on, but for those of a namespace's name, there is room for the state that was left, …"""
_HELD_FROM: Final = 56
"""… and for how long it lasted."""
_WHO: Final = 13
"""Of a process on a narrow screen."""
_WHO_MORE: Final = 3
"""What it may take beyond its column."""
_NETID: Final = 4
_NETID_WIDE: Final = 6
"""Of a protocol's name, with the blank behind it; the latter from _MIDDLE on."""
_CLOCKS: Final = (8, 12, 15)
"""Of a time of day: to the second, millisecond, microsecond."""
_BOTH: Final = 45
"""Cells from which on both ends have room: two of IPv4 with ports, and an arrow."""
_LEAST: Final = 12
"""What an end has at least where the cause has the rest."""
_END: Final = 24
"""Of an end in a wide layout: any of IPv4."""
_LONGEST_END: Final = 47
"""Of IPv6: 39, brackets, and a port."""


class _Layout(msgspec.Struct, frozen=True):
    """Cells of the columns."""

    time: int
    place: int
    """Of a network namespace's name, with the blank behind it; 0 where none is shown."""
    netid: int
    """Of the protocol's name, with the blank behind it; 0 where it is not shown."""
    left: bool
    """Whether the state that was left is shown."""
    held: bool
    who: int
    head: int
    """All that stands before the ends (wide) or the process (narrow)."""
    wide: bool
    end: int
    """Wide: what each end may grow to."""


class FittedText(TraceText):
    """Formats lines. ``work``: cgroup → what runs in it. The rest as in TraceText."""

    def __init__(
        self,
        offset_ns: int,
        ends: Ends,
        mode: TimeMode = "clock",
        where: Where | None = None,
        work: Callable[[int], Workload | None] = lambda _cgroup: None,
        *,
        netids: bool = False,
    ) -> None:
        super().__init__(offset_ns, ends, mode, where, netids=netids)
        self._clocks = mode == "clock"
        self._work = work
        self._width: int | None = None
        self._end = _END
        """Wide: of each end now; it grows with the longest that is shown, so that what stands behind stays in line."""
        self._layout = self._laid_out(80)

    def fit(self, width: int | None) -> None:
        """Lay out for so many columns from here on; None: as for a file."""
        self._width = width
        if width is None:
            self.time = self.times.text
            return
        layout = self._layout = self._laid_out(width)
        self._end = min(self._end, layout.end) if layout.wide else _END
        self.time = (lambda at_ns: self.times.text(at_ns)[: layout.time]) if self._clocks else self.times.text

    def _laid_out(self, width: int) -> _Layout:
        wide, middle = width >= _WIDE, width >= _MIDDLE
        time = _CLOCKS[wide + middle] if self._clocks else self.times.width
        place = 17 * self._apart if middle else 9 * self._apart
        netid = (_NETID_WIDE if middle else _NETID) * self._netids
        left, held = width - place >= _STATES_FROM, width - place >= _HELD_FROM
        if wide:
            head = time + 1 + place + netid + 33
            most = min(_LONGEST_END, max(_END, (width - head - 44) // 2))
            return _Layout(time, place, netid, True, True, 0, head, True, most)
        head = time + 1 + place + netid + (22 if left else 11) + 7 * held
        return _Layout(time, place, netid, left, held, 18 if middle else _WHO, head, False, 0)

    def header(self, at_ns: int) -> str:
        """Column titles as of a moment: they say the zone where the times do not."""
        if self._width is None:
            return super().header(at_ns)
        layout = self._layout
        when = self.times.title(at_ns)
        if self._clocks and layout.time < cells(when.rstrip()):
            when = self.times.zone.replace(":00", "").replace(":", "")
        titles = padded(when.strip(), layout.time) if self._clocks else when
        titles += f" {self._title:<{layout.place}}" if layout.place else " "
        titles += f"{'Netid'[: layout.netid - 1]} " if layout.netid else ""
        if layout.wide:
            titles += (
                f"{'From':>10}    {'To':<10} {'Held':>7} {'Local Address:Port':<{self._end}} "
                f"{'Peer Address:Port':<{self._end}} Process"
            )
        else:
            titles += f"{'From':>10} {'To':<10} " if layout.left else f"{'To':<10} "
            titles += f"{'Held':>6} " if layout.held else ""
            titles += f"{'Process':<{layout.who}} {'Local → Peer' if self._both else 'Peer'}, cause"
        return cut(titles, self._width).rstrip()

    @property
    def _both(self) -> bool:
        """Of a narrow screen: whether both ends have room."""
        assert self._width is not None
        return self._width - self._layout.head - self._layout.who - 1 >= _BOTH

    @property
    def marked(self) -> slice:
        """What of a line is in colour: the state that was entered."""
        if self._width is None:
            return super().marked
        layout = self._layout
        start = layout.time + 1 + layout.place + layout.netid + (14 if layout.wide else 11 if layout.left else 0)
        return slice(start, min(start + 10, self._width))

    def state(self, change: TransitionView) -> str:
        """A transition."""
        if self._width is None:
            return super().state(change)
        layout = self._layout
        place, local, peer = self._whose(change.row)
        old, new = SHOWN[change.old], SHOWN[change.new]
        states = f"{old:>10} -> {new:<10} " if layout.wide else f"{f'{old:>10}→' if layout.left else ''}{new:<10} "
        held = f"{'~' * change.approximate}{span_text(change.held_ns)}" if change.held_ns is not None else "-"
        head = f"{self.time(change.at_ns)} {place}{states}{f'{held:>{6 + layout.wide}} ' if layout.held else ''}"
        room = self._width - cells(head)
        tail = self._wide(change, local, peer, room) if layout.wide else self._narrow(change, local, peer, room)
        line = cut(head + tail, self._width)
        self.caused = slice(len(head) + self.caused.start, min(len(head) + self.caused.stop, len(line)))
        return line

    def _whose(self, row: RowView) -> tuple[str, str, str]:
        """In which namespace a row is and of which protocol, as far as lines say that, and its ends."""
        place, local, peer = self._placed(row)
        layout = self._layout
        if layout.place:
            place = f"{padded(shortened(place.rstrip(), layout.place - 1), layout.place - 1)} "
        return place + self._netid(row, layout.netid - 1), local, peer

    def _wide(self, change: TransitionView, local: str, peer: str, room: int) -> str:
        """Both ends, the process, the cause, and what there is room for."""
        # A line that is too long takes first what of the cause can be left away and the blanks behind its ends, then
        # the middle of the addresses.
        holders = who(change.row, room // 4, descriptors=True)
        cause, left = "", room
        for cause in causes(change):
            left = room - cells(holders) - 1 - (cells(cause) + 1 if cause else 0)
            if cells(local) + 1 + cells(peer) <= left:
                break
        self._end = max(self._end, min(self._layout.end, max(cells(local), cells(peer))))
        text = f"{_side_by_side(local, peer, self._end, left)} {holders}"
        return self._ended(change, text, cause, room)

    def _narrow(self, change: TransitionView, local: str, peer: str, room: int) -> str:
        """The process, the ends or the other one, the cause."""
        row, layout = change.row, self._layout
        holders = padded(who(row, layout.who + _WHO_MORE, descriptors=layout.who > _WHO), layout.who)
        arrow = ARROWS[row.role]
        ours = "" if row.role == "client" else f":{local.rpartition(':')[2]} "
        other = f"{arrow} {peer}"
        if not row.dport:
            choice = [local]
        else:
            choice = [f"{local} {other}"] * self._both + [f"{ours}{other}", other]
        # First what of the cause can be left away goes, then what of the ends, then the middle of an address.
        ends, cause, left = "", "", room
        for ends, cause in ((ends, cause) for ends in choice for cause in causes(change, brackets=False)):
            left = room - cells(holders) - 1 - (cells(cause) + 1 if cause else 0)
            if cells(ends) <= left:
                break
        else:
            ends = f"{arrow} {end_shortened(peer, left - 2)}" if row.dport else end_shortened(local, left)
        return self._ended(change, f"{holders} {ends}", cause, room)

    def _ended(self, change: TransitionView, text: str, cause: str, room: int) -> str:
        """With the cause, and what there is room for behind it."""
        self.caused = slice(len(text) + 1, len(text) + 1 + len(cause))
        text += f" {cause}" if cause else ""
        for more in self._more(change):
            if cells(text) + cells(more) > room:
                break
            text += more
        return text

    def _more(self, change: TransitionView) -> Iterator[str]:
        """What there may be room for behind the cause."""
        reported = change.reported
        if reported.rtt_us or reported.bytes_sent or reported.bytes_received:
            yield f" sent {amount(reported.bytes_sent)} received {amount(reported.bytes_received)}"
        if reported.rtt_us:
            yield f" RTT {span_text(reported.rtt_us * 1000)}"
        work = self._work(change.row.cgroup) if change.row.cgroup else None
        if work is not None:
            if work.container_id is not None:
                yield f" {work.container_runtime or 'container'}:{plain(work.container_id)[:12]}"
            elif work.unit is not None:
                yield f" {plain(work.unit)}"

    def incident(self, happened: HappenedView) -> str:
        """What hurt a connection, as far as there is room."""
        if self._width is None:
            return super().incident(happened)
        row, layout = happened.row, self._layout
        place, local, peer = self._whose(row)
        words = f"  {incident_words(happened.what, happened.details)} "
        taken = layout.time + 1 + layout.place + layout.netid
        head = f"{self.time(happened.at_ns)} {place}{padded(words, layout.head - taken)}"
        room = self._width - cells(head)
        if layout.wide:
            holders = who(row, max(_LEAST, room - 2 * _LEAST), descriptors=True)
            text = f"{_side_by_side(local, peer, self._end, room - cells(holders) - 1)} {holders}"
        else:
            holders = padded(who(row, layout.who + _WHO_MORE, descriptors=layout.who > _WHO), layout.who)
            ours = "" if row.role == "client" else f":{local.rpartition(':')[2]} "
            left = room - cells(holders) - 1
            choice = (f"{ours}{ARROWS[row.role]} {peer}", f"{ARROWS[row.role]} {peer}") if row.dport else (local,)
            ends = next((one for one in choice if cells(one) <= left), None)
            text = (
                f"{holders} {ends if ends is not None else end_shortened(peer if row.dport else local, max(1, left))}"
            )
        return cut(head + text, self._width).rstrip()

    def resync(self, at_ns: int, counts: tuple[int, int, int]) -> str:
        """A repair."""
        if self._width is None:
            return super().resync(at_ns, counts)
        added, removed, changed = counts
        when = f"{self.time(at_ns)} {self.about}"
        return f"{when}table compared with the kernel: {added} added, {removed} removed, {changed} corrected"


def _side_by_side(local: str, peer: str, column: int, room: int) -> str:
    """Both ends: in their columns where ``room`` allows, else closer to each other, else cut, ours first."""
    room -= 1
    if cells(local) + cells(peer) > room:
        local = end_shortened(local, max(_LEAST, room - cells(peer)))
        peer = end_shortened(peer, max(_LEAST, room - cells(local)))
    local = padded(local, min(column, room - cells(peer)))
    return f"{local} {padded(peer, min(column, room - cells(local)))}"


def causes(change: TransitionView, *, brackets: bool = True) -> Iterator[str]:
    """How to say why it ended, the fullest first; the last is the shortest. Empty where there is nothing to say."""
    reported = change.reported
    start, end = "[]" if brackets else ("", "")
    if change.cause is None:
        if reported.retransmits:
            yield f"{start}{counted(reported.retransmits, 'retransmit')}{end}"
        yield ""
        return
    word = plain(change.cause)
    errno = f" {errno_name(reported.err)}" if reported.err else ""
    if reported.retransmits:
        yield f"{start}{word}{errno} after {counted(reported.retransmits, 'retransmit')}{end}"
        yield f"{start}{word}{errno} ×{reported.retransmits}{end}"
    if errno:
        yield f"{start}{word}{errno}{end}"
    yield f"{start}{word}{end}"


def who(row: RowView, width: int, *, descriptors: bool) -> str:
    """Who holds a socket, each process once: ``comm/pid/fd``, and ``comm/pid ×6`` who holds it six times. Those for
    whom ``width`` has no room are counted: ``nginx/7/3 +4``.
    """
    mark = "~" * (row.owner_source == "listener")
    held: dict[tuple[bytes, int], list[Owner]] = {}
    for owner in row.owners:
        held.setdefault((owner.comm, owner.pid), []).append(owner)
    processes = []
    for (comm, pid), owners in held.items():
        behind = f"/{pid}"
        if len(owners) > 1:
            behind += f" ×{len(owners)}"
        elif descriptors and owners[0].fd is not None:
            behind += f"/{owners[0].fd}"
        processes.append((mark + printable(comm.decode("latin-1")), behind))
    if not processes:
        return "-"
    texts = [comm + behind for comm, behind in processes]
    more = ""
    for shown in range(len(texts), 0, -1):
        more = f" +{len(texts) - shown}" if shown < len(texts) else ""
        text = ",".join(texts[:shown]) + more
        if cells(text) <= width:
            return text
    name, behind = processes[0]
    return f"{cut(name, max(1, width - cells(behind + more)))}{behind}{more}"
