"""Changes of the live table → text lines of the columns that somebody has chosen (--columns).

Enters and leaves: as in render.trace. In a file a text that is wider than its column pushes what follows; on a screen
the columns share its width, and what is too long is shortened.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sstrace.model.workload import Workload
from sstrace.plain import cells, plain, printable
from sstrace.protocols import NETID_OF_NUMBER, UNNAMED
from sstrace.render.ends import Ends
from sstrace.render.fitted import causes, who
from sstrace.render.incidents import HappenedView
from sstrace.render.times import TimeMode, span_text
from sstrace.render.trace import SHOWN, TraceText
from sstrace.render.views import FarPeer, NearPeer, PeerView, RowView, TransitionView, Where
from sstrace.render.width import amount, cut, end_shortened, padded, shortened

__all__ = ["COLUMNS", "ChosenText"]

_NOTHING: Final = Workload()
_NOWHERE: Final = 1 << 16
"""More cells than any line has."""


class _Shown(msgspec.Struct):
    """What the cells of one line are made of."""

    change: TransitionView
    place: str
    local: str
    peer: str
    work: Workload
    host: str
    """Of the recordings of several hosts: its name."""
    other: PeerView | None
    """The other end, elsewhere."""

    @property
    def row(self) -> RowView:
        """Of the connection."""
        return self.change.row


class _Column(msgspec.Struct, frozen=True):
    """``width``: of a file; ``least`` and ``most``: of a screen, by what room there is."""

    title: str
    width: int
    cell: Callable[[_Shown, int], str]
    """Of a line, in about so many cells."""
    least: int = 0
    """0: always ``width``."""
    most: int = 0
    right: bool = False
    fitted: Callable[[str, int], str] = cut


def _number(number: int | None) -> str:
    return "-" if number is None else str(number)


def _span(ns: int | None) -> str:
    return "-" if ns is None else span_text(ns)


def _held(shown: _Shown, _width: int) -> str:
    return "~" * (shown.change.approximate and shown.change.held_ns is not None) + _span(shown.change.held_ns)


def _cause(shown: _Shown, width: int) -> str:
    text = "-"
    for word in causes(shown.change, brackets=False):
        text = word or "-"
        if cells(text) <= width:
            break
    return text


def _rtt(shown: _Shown, _width: int) -> str:
    rtt_us = shown.change.reported.rtt_us
    return span_text(rtt_us * 1000) if rtt_us else "-"


def _container(shown: _Shown, _width: int) -> str:
    return plain(shown.work.container_id or "-")[:12]  # so much of it docker(1) and kin show, and take


def _peer_process(shown: _Shown, _width: int) -> str:
    """Who holds the other end, behind the host that it is on: ``db-1:postgres/88``."""
    other = shown.other
    if other is None:
        return "-"
    holders = dict.fromkeys(f"{printable(owner.comm.decode('latin-1'))}/{owner.pid}" for owner in other.owners)
    return (f"{plain(other.host)}:" if isinstance(other, FarPeer) else "") + (",".join(holders) or "-")


COLUMNS: Final[dict[str, _Column]] = {
    "time": _Column("", 0, lambda _told, _width: ""),
    "host": _Column("Host", 16, lambda shown, _width: shown.host or "-", 8, 24, fitted=shortened),
    "netns": _Column("Netns", 16, lambda shown, _width: shown.place.strip() or "-", 8, 24, fitted=shortened),
    "netid": _Column("Netid", 5, lambda shown, _width: NETID_OF_NUMBER.get(shown.row.protocol, UNNAMED)),
    "from": _Column("From", 10, lambda shown, _width: SHOWN[shown.change.old], right=True),
    "to": _Column("To", 10, lambda shown, _width: SHOWN[shown.change.new]),
    "held": _Column("Held", 7, _held, right=True),
    "lasted": _Column("Lasted", 7, lambda shown, _width: _span(shown.change.lifetime_ns), right=True),
    "process": _Column(
        "Process", 20, lambda shown, width: who(shown.row, width, descriptors=width > 16), 12, 40, fitted=shortened
    ),
    "uid": _Column("UID", 5, lambda shown, _width: _number(shown.row.uid), right=True),
    "role": _Column("Role", 6, lambda shown, _width: shown.row.role or "-"),
    "local": _Column("Local Address:Port", 24, lambda shown, _width: shown.local, 14, 47, fitted=end_shortened),
    "peer": _Column("Peer Address:Port", 24, lambda shown, _width: shown.peer, 14, 47, fitted=end_shortened),
    "peer-process": _Column("Peer Process", 24, _peer_process, 12, 40, fitted=shortened),
    "cause": _Column("Cause", 20, _cause, 10, 44),
    "sent": _Column("Sent", 4, lambda shown, _width: amount(shown.change.reported.bytes_sent), right=True),
    "received": _Column("Recv", 4, lambda shown, _width: amount(shown.change.reported.bytes_received), right=True),
    "rtt": _Column("RTT", 6, _rtt, right=True),
    "retransmits": _Column("Again", 5, lambda shown, _width: _number(shown.change.reported.retrans), right=True),
    "container": _Column("Container", 12, _container),
    "pod": _Column("Pod", 36, lambda shown, _width: plain(shown.work.pod_uid or "-"), 8, 36),
    "unit": _Column("Unit", 20, lambda shown, _width: plain(shown.work.unit or "-"), 10, 40, fitted=shortened),
}
"""Name → column. The first is made by whoever knows the clocks."""


class ChosenText(TraceText):
    """Formats lines. ``names``: of ``COLUMNS``; ``work``: cgroup → what runs in it. The rest as in TraceText."""

    def __init__(
        self,
        names: Sequence[str],
        offset_ns: int,
        ends: Ends,
        mode: TimeMode = "clock",
        *,
        where: Where | None = None,
        work: Callable[[int], Workload | None] = lambda _cgroup: None,
    ) -> None:
        super().__init__(offset_ns, ends, mode, where)
        self._names = names
        self._asks_peer = "peer-process" in names
        self._work = work
        self._to = slice(0)
        self.fit(None)

    def fit(self, width: int | None) -> None:
        """Lay out for so many columns from here on; None: for a file."""
        self._width = width
        columns = [COLUMNS[name] for name in self._names]
        natural = [column.width or self.times.width for column in columns]
        if width is not None:
            natural = _shared(columns, natural, width)
        self._widths = natural

    def header(self, at_ns: int) -> str:
        """Column titles as of a moment: they say the zone where the times do not."""
        titles = [COLUMNS[name].title or self.times.title(at_ns).strip() for name in self._names]
        narrow = [len(title) > width for title, width in zip(titles, self._widths, strict=True)]
        return self._line(
            [title.partition(" ")[0] if short else title for title, short in zip(titles, narrow, strict=True)]
        )

    @property
    def marked(self) -> slice:
        """What of a line is in colour: the state that was entered."""
        return self._to

    def state(self, change: TransitionView) -> str:
        """A transition."""
        cgroup = change.row.cgroup
        place, local, peer = self._placed(change.row)
        work = (self._work(cgroup) if cgroup else None) or _NOTHING
        other = self._where.peer(change.row) if self._where is not None and self._asks_peer else None
        if other is None and change.row.peer_owners:
            other = NearPeer(change.row.netns, change.row.peer_owners)
        shown = _Shown(change, place if self.host is None else "", local, peer, work, self.host or "", other)
        widths = self._widths if self._width is not None else [_NOWHERE] * len(self._widths)
        return self._line(
            [
                self.time(change.at_ns) if name == "time" else COLUMNS[name].cell(shown, width)
                for name, width in zip(self._names, widths, strict=True)
            ]
        )

    def incident(self, happened: HappenedView) -> str:
        """What hurt a connection: whose columns are chosen, and may have no room for it."""
        text = " ".join(super().incident(happened).split())
        head, _, rest = text.partition(" ")
        line = f"{head}   {rest}"
        return cut(line, self._width) if self._width is not None else line

    def _line(self, texts: Sequence[str]) -> str:
        line = ""
        self._to = self.caused = slice(0)
        for name, text, width in zip(self._names, texts, self._widths, strict=True):
            column = COLUMNS[name]
            shown = column.fitted(text, width) if self._width is not None else text
            start = len(line)
            line += " " * (width - cells(shown)) + shown if column.right else padded(shown, width)
            if name == "to":
                self._to = slice(start, start + len(shown))
            elif name == "cause":
                self.caused = slice(start, start + len(shown))
            line += " "
        line = line.rstrip()
        if self._width is None:
            return line
        line = cut(line, self._width)
        self._to, self.caused = (slice(min(part.start or 0, len(line)), part.stop) for part in (self._to, self.caused))
        return line


def _shared(columns: Sequence[_Column], natural: Sequence[int], width: int) -> list[int]:
    """Cells of the columns of a screen: those that can give or take do so, each as much as the others."""
    widths = list(natural)
    free = width - sum(widths) - len(widths) + 1
    step = 1 if free > 0 else -1
    while free:
        moved = False
        for at, column in enumerate(columns):
            if free and column.least and (widths[at] < column.most if step > 0 else widths[at] > column.least):
                widths[at] += step
                free -= step
                moved = True
        if not moved:
            break
    return widths
