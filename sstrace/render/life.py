"""The end of a connection → one text line about all of its life, for people.

Enters: the transitions with which connections end. Leaves: str, without the newline. What is not known is ``-``. Laid
out for the width of the terminal: at 80 columns the other end, with our port where it came to us; wider both ends, the
round-trip time and what was sent again.
"""

from typing import Final

from sstrace.plain import plain, printable
from sstrace.render.ends import Ends
from sstrace.render.events import errno_name
from sstrace.render.times import TimeMode, span_text
from sstrace.render.trace import TraceText
from sstrace.render.views import RowView, TransitionView, Where
from sstrace.render.width import amount, cut, padded, shortened

__all__ = ["LifeText"]

_WIDE: Final = 140
"""From so many columns on there is room for both ends."""
_ARROWS: Final = {"client": "→", "server": "←", None: "-"}


class LifeText(TraceText):
    """Formats lines. ``width``: the columns of the screen; None: as wide as it takes. The rest as in TraceText."""

    def __init__(
        self,
        offset_ns: int,
        ends: Ends,
        mode: TimeMode = "clock",
        where: Where | None = None,
        width: int | None = None,
    ) -> None:
        super().__init__(offset_ns, ends, mode, where)
        self._short = mode == "clock"
        self._cause = self._end = 0
        self.fit(width)

    def fit(self, width: int | None) -> None:
        """Lay out for so many columns from here on."""
        self._width = width
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
        return f"{when} {self._place_title()}{'Lasted':>7} {'Process':<12} {'Peer':<25} {'Sent':>4} {'Recv':>4} Cause"

    @property
    def marked(self) -> slice:
        """What of a line is in colour: the cause."""
        return slice(self._cause, self._end)

    def state(self, change: TransitionView) -> str:
        """An end."""
        row, told, lasted = change.row, change.reported, change.lifetime_ns
        place, local, peer = self._placed(row)
        arrow = _ARROWS[row.role]
        span = span_text(lasted) if lasted is not None else "-"
        sent, received = amount(told.bytes_sent), amount(told.bytes_received)
        head = f"{self.time(change.at_ns)} {place}"
        if self._wide:
            rtt = span_text(told.rtt_us * 1000) if told.rtt_us else "-"
            again = "-" if told.retrans is None else str(told.retrans)
            who = padded(_who(row), 20)
            head += f"{span:>8} {who} {local:<24} {arrow} {peer:<24} {sent:>5} {received:>5} {rtt:>8} {again:>5} "
        else:
            who = padded(shortened(_who(row), 12), 12)
            ours = "" if row.role == "client" else f":{local.rpartition(':')[2]} "
            other = padded(shortened(f"{ours}{arrow} {peer}", 25), 25)
            head += f"{span:>7} {who} {other} {sent:>4} {received:>4} "
        self._cause = len(head)
        line = head + plain(change.cause or "-") + (f" {errno_name(told.err)}" if told.err else "")
        if self._width is not None:
            line = cut(line, self._width)
        self._end = len(line)
        return line


def _who(row: RowView) -> str:
    """``comm/pid`` of each process."""
    mark = "~" * (row.owner_source == "listener")
    found = dict.fromkeys(f"{mark}{printable(owner.comm.decode('latin-1'))}/{owner.pid}" for owner in row.owners)
    return ",".join(found) or "-"
