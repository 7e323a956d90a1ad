"""Changes of the live table → one text line each, for people. Fixed columns, so that the eye finds the state.

Enters: transitions, losses, repairs as plain values. Leaves: str, one line each, without the newline. Text that is no
UTF-8, or that could move a terminal's cursor, is escaped.
"""

from collections.abc import Iterable

from sstrace.model import STATE_TEXT, Owner
from sstrace.plain import counted, plain, printable, were
from sstrace.protocols import IPPROTO_TCP, NETID_OF_NUMBER, SWEPT, UNNAMED
from sstrace.render.ends import Ends
from sstrace.render.events import errno_name
from sstrace.render.incidents import HappenedView, incident_words
from sstrace.render.times import TimeMode, span_text, times
from sstrace.render.views import NetnsView, RowView, TransitionView, Where

__all__ = ["HEADER", "SHOWN", "TraceText"]

_ADDRESS = 24
HEADER = (
    f"{'From':>10} {'':2} {'To':<10} {'Held':>10} "
    f"{'Local Address:Port':<{_ADDRESS}} {'Peer Address:Port':<{_ADDRESS}} Process"
)
"""Column titles behind that of the time; the cause of a close follows the process."""


_PLACE = 16
"""What of a namespace's name is aligned."""

_NETID = 5
"""As wide as in ss."""

SHOWN = ("-", *STATE_TEXT[1:])
"""By state number; ``-`` where ss does not show the socket (lifecycle.udp.UNSEEN)."""
_PAIRS = [f"{old:>10} -> {new:<10}" for old in SHOWN for new in SHOWN]
"""By old state * number of states + new state."""
_STATES = len(SHOWN)


_NEWS = {"new": "a new network namespace", "gone": "the network namespace is gone"}


class TraceText:
    """Formats lines. ``offset_ns``: CLOCK_REALTIME minus CLOCK_MONOTONIC. ``ends`` writes addresses, of TCP and of
    whatever it is had for. ``where``: each says in which namespace it is. ``netids``: each says of which protocol.
    """

    def __init__(
        self,
        offset_ns: int,
        ends: Ends,
        mode: TimeMode = "clock",
        where: Where | None = None,
        *,
        netids: bool = False,
    ) -> None:
        self.times = times(mode, offset_ns)
        self.time = self.times.text
        """A moment as the first column has it."""
        self._ends = ends
        self._where = where
        self._apart = where is not None and where.many
        self._netids = netids
        self._title = where.title if where is not None else ""
        self.host: str | None = None
        """Of several hosts: which one lines are of."""
        self.about = ""
        """In front of a line that is of a whole host: which one, where there are several."""
        self._owners: dict[tuple[Owner, ...], str] = {(): "-"}
        self._inherited: dict[tuple[Owner, ...], str] = {}
        self.caused = slice(0)
        """Of the latest transition's line: its cause."""

    def fit(self, width: int | None) -> None:
        """Lay out for a screen of so many columns from here on; None: for a file. Here there is one layout."""

    def header(self, at_ns: int) -> str:
        """Column titles as of a moment: they say the zone where the times do not."""
        return f"{self.times.title(at_ns)} {self._place_title()}{HEADER}"

    def _place_title(self) -> str:
        place = f"{self._title:<{_PLACE}} " if self._apart else ""
        return f"{place}{'Netid':<{_NETID}} " if self._netids else place

    def enter_host(self, host: str) -> None:
        """What follows is of this host."""
        self.host = plain(host)
        self.about = f"{plain(host):<{_PLACE}} " if self._apart else ""

    @property
    def marked(self) -> slice:
        """What of a line is in colour: the state that was entered."""
        before = self.times.width + (_PLACE + 1 if self._apart else 0) + (_NETID + 1 if self._netids else 0)
        return slice(before + 15, before + 25)

    def _placed(self, row: RowView) -> tuple[str, str, str]:
        """In which namespace a row is, with a blank behind it, and its ends."""
        place, ends = "", self._ends
        if self._where is not None:
            if self._apart:
                place = f"{plain(self._where.label(row.net).text(row.netns)):<{_PLACE}} "
            ends = ends.within(row.net)
        if row.protocol in SWEPT:
            return place, *ends.outside(row)
        if row.protocol != IPPROTO_TCP:
            ends = ends.speaking(NETID_OF_NUMBER.get(row.protocol, UNNAMED))
        return place, *ends.of(row)

    def _netid(self, row: RowView, cells: int = _NETID) -> str:
        """Of which protocol a row is, with a blank behind it, where lines have to say that."""
        return f"{NETID_OF_NUMBER.get(row.protocol, UNNAMED):<{cells}} " if self._netids else ""

    def state(self, change: TransitionView) -> str:
        """A transition."""
        # What the lines of many sockets share is made once.
        row, held = change.row, change.held_ns
        place, local, peer = self._placed(row)
        owners = self._inherited if row.owner_source == "listener" else self._owners
        span = f"{'~' * change.approximate + (span_text(held) if held is not None else '-'):>10}"
        line = (
            f"{self.time(change.at_ns)} {place}{self._netid(row)}{_PAIRS[change.old * _STATES + change.new]} {span} "
            f"{local:<{_ADDRESS}} {peer:<{_ADDRESS}} {owners.get(row.owners) or self._owned(row)}"
        )
        start = len(line) + 1
        if change.cause is not None:
            line += f" [{plain(change.cause)}"
            if change.reported.err:
                line += f" {errno_name(change.reported.err)}"
            if change.reported.retransmits:
                line += f" after {counted(change.reported.retransmits, 'retransmit')}"
            line += "]"
        elif change.reported.retransmits:
            line += f" [{counted(change.reported.retransmits, 'retransmit')}]"
        self.caused = slice(start, len(line))
        return line

    def incident(self, happened: HappenedView) -> str:
        """What hurt a connection: indented where the states of its transitions stand, and its columns behind."""
        row = happened.row
        place, local, peer = self._placed(row)
        owners = self._inherited if row.owner_source == "listener" else self._owners
        words = f"  {incident_words(happened.what, happened.details)}"
        return (
            f"{self.time(happened.at_ns)} {place}{self._netid(row)}{words:<35} {local:<{_ADDRESS}} {peer:<{_ADDRESS}} "
            f"{owners.get(row.owners) or self._owned(row)}"
        )

    def netns(self, news: NetnsView) -> str | None:
        """A network namespace came, went, or is called otherwise; None where that is no news."""
        name = plain(news.label.text(news.netns.inode))
        happened = _NEWS.get(news.what)
        return f"{self.time(news.at_ns)} {name:<{_PLACE}} {happened}" if happened is not None else None

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int) -> str:
        """A loss."""
        span = span_text(before_ns - after_ns) if after_ns else "an unknown time"
        what = f"{counted(count, 'event')} of CPU {cpu} {were(count)} lost"
        return f"{self.time(before_ns)} {self.about}{what} within {span}"

    def resync(self, at_ns: int, counts: tuple[int, int, int]) -> str:
        """A repair. ``counts``: added, removed, changed."""
        added, removed, changed = counts
        when = f"{self.time(at_ns)} {self.about}"
        more = counted(added, "socket")
        return f"{when}table compared with the kernel: {more} added, {removed} removed, {changed} corrected"

    def hole(self, at_ns: int, unwritten: int) -> str:
        """Lines that a recording lacks."""
        return f"{self.time(at_ns)} {self.about}{counted(unwritten, 'line')} could not be recorded before this moment"

    def _owned(self, row: RowView) -> str:
        inherited = row.owner_source == "listener"
        texts = self._inherited if inherited else self._owners
        if len(texts) > 100_000:  # against a host that forks without end
            texts.clear()
        text = texts[row.owners] = _owners(row.owners, "~" * inherited)
        return text


def _owners(owners: Iterable[Owner], mark: str) -> str:
    """``comm/pid/fd`` of each owner; ``-`` when nobody is known. ``mark``: what stands before each."""
    texts = []
    for owner in owners:
        comm = printable(owner.comm.decode("latin-1"))
        texts.append(f"{mark}{comm}/{owner.pid}" + (f"/{owner.fd}" if owner.fd is not None else ""))
    return ",".join(texts) or "-"
