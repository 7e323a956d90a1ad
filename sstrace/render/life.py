"""The end of a connection → one text line about all of its life, for people.

Enters: the transitions with which connections end. Leaves: str, without the newline. What is not known is ``-``. Laid
out for the width of the terminal: at 80 columns the other end, with our port where it came to us; wider both ends, the
round-trip time and what was sent again. The cause is whole: what it lacks the other end gives.
"""

from typing import Final

from sstrace.model import Owner
from sstrace.plain import cells, plain, printable
from sstrace.render.ends import ARROWS, Ends
from sstrace.render.events import errno_name
from sstrace.render.fitted import who
from sstrace.render.times import TimeMode, span_text
from sstrace.render.trace import TraceText
from sstrace.render.views import RowView, TransitionView, Where
from sstrace.render.width import amount, cut, padded, shortened

__all__ = ["LifeText"]

_WIDE: Final = 140
"""From so many columns on there is room for both ends."""
_WHO: Final = 12
"""Of a process on a narrow screen, …"""
_OTHER: Final = 25
"""… of the other end, …"""
_LEAST: Final = 12
"""… and what this has at least where the cause has the rest."""


class LifeText(TraceText):
    """Formats lines. ``width``: the columns of the screen; None: as wide as it takes. The rest as in TraceText."""

    def __init__(
        self,
        offset_ns: int,
        ends: Ends,
        mode: TimeMode = "clock",
        where: Where | None = None,
        width: int | None = None,
        *,
        netids: bool = False,
    ) -> None:
        super().__init__(offset_ns, ends, mode, where, netids=netids)
        self._short = mode == "clock"
        self._holders: dict[tuple[tuple[Owner, ...], str | None], str] = {}
        self._cause = self._end = 0
        self.fit(width)

    def fit(self, width: int | None) -> None:
        """Lay out for so many columns from here on."""
        self._width = width
        self._holders.clear()
        self._wide = width is None or width >= _WIDE
        self.time = self._clock if self._short and not self._wide else self.times.text

    def _clock(self, at_ns: int) -> str:
        return self.times.text(at_ns)[:8]

    def header(self, at_ns: int) -> str:
        """Column titles as of a moment: they say the zone where the times do not, and there is room."""
        when = self.times.title(at_ns)
        if self._wide:
            return (
                f"{when} {self._place_title()}{'Lasted':>8} {'Process':<20} {'Local Address:Port':<24}   "
                f"{'Peer Address:Port':<24} {'Sent':>5} {'Recv':>5} {'RTT':>8} {'Again':>5} Cause"
            )
        when = "Ended   " if self.time == self._clock else when
        place = self._place_title().replace("Netid ", "Net ")
        ends = f"{'Process':<{_WHO}} {'Peer':<{_OTHER}}"
        return f"{when} {place}{'Lasted':>7} {ends} {'Sent':>4} {'Recv':>4} Cause"

    @property
    def marked(self) -> slice:
        """What of a line is in colour: the cause."""
        return slice(self._cause, self._end)

    def state(self, change: TransitionView) -> str:
        """An end."""
        row, reported, lasted = change.row, change.reported, change.lifetime_ns
        place, local, peer = self._placed(row)
        arrow = ARROWS[row.role]
        span = span_text(lasted) if lasted is not None else "-"
        sent, received = amount(reported.bytes_sent), amount(reported.bytes_received)
        head = f"{self.time(change.at_ns)} {place}{self._netid(row) if self._wide else self._netid(row, 3)}"
        cause = plain(change.cause or "-")
        if self._wide:
            rtt = span_text(reported.rtt_us * 1000) if reported.rtt_us else "-"
            again = "-" if reported.retrans is None else str(reported.retrans)
            head += f"{span:>8} {self._held(row)} {local:<24} {arrow} {peer:<24} "
            head += f"{sent:>5} {received:>5} {rtt:>8} {again:>5} "
        else:
            head += f"{span:>7} {self._held(row)} "
            carried = f" {sent:>4} {received:>4} "
            room = _OTHER
            if self._width is not None:
                room = min(room, max(_LEAST, self._width - cells(head) - len(carried) - cells(cause)))
            ours = "" if row.role == "client" else f":{local.rpartition(':')[2]} "
            head += padded(shortened(f"{ours}{arrow} {peer}", room), room) + carried
        self._cause = len(head)
        line = head + cause
        errno = f" {errno_name(reported.err)}" if reported.err else ""
        if self._width is None or cells(line) + len(errno) <= self._width:
            line += errno
        else:
            line = cut(line, self._width)
        self._end = len(line)
        return line

    def _held(self, row: RowView) -> str:
        """Who held it, as wide as the column: made once for all that the same have held."""
        key = row.owners, row.owner_source
        text = self._holders.get(key)
        if text is None:
            if len(self._holders) > 100_000:  # against a host that forks without end
                self._holders.clear()
            text = padded(_who(row), 20) if self._wide else padded(who(row, _WHO, descriptors=False), _WHO)
            self._holders[key] = text
        return text


def _who(row: RowView) -> str:
    """``comm/pid`` of each process."""
    mark = "~" * (row.owner_source == "listener")
    found = dict.fromkeys(f"{mark}{printable(owner.comm.decode('latin-1'))}/{owner.pid}" for owner in row.owners)
    return ",".join(found) or "-"
