"""From changes to lines: what a trace and a replay share, so that both print the same."""

from collections import deque
from collections.abc import Collection, Iterable

import msgspec

from sstrace.causes import FIN_BY_US
from sstrace.changes import Change, Happened, NetnsNews, Told
from sstrace.errors import UsageError
from sstrace.fields import NOTHING
from sstrace.lifecycle import LIVES, may_end
from sstrace.lifecycle.udp import UNSEEN
from sstrace.lines import MetaLine
from sstrace.live.signals import Stopped
from sstrace.model import AF_INET, AF_INET6, Lost, Names, Reason, State, Table
from sstrace.output.handshakes import Handshakes
from sstrace.output.row_filter import RowFilter
from sstrace.output.sink import Sink, sinks
from sstrace.protocols import APPEARING, DATAGRAMS, TABLE_OF_NUMBER
from sstrace.query.command import Command, Selection, selects_row, selects_transition
from sstrace.query.spoken import followed, protocols
from sstrace.query.states import LISTENING
from sstrace.render.views import NO_LIVES, Where
from sstrace.render.writers import TextWriter, Writer
from sstrace.table import Resync, Row, Transition

__all__ = ["Printer"]

_NO_CONNECTION = (State.CLOSE, State.LISTEN, State.TIME_WAIT)


class Printer:
    """Selects and writes. ``command`` must have been resolved; ``offset_ns``: CLOCK_REALTIME minus CLOCK_MONOTONIC.
    A full queue is waited for until ``stopped``.
    """

    def __init__(
        self,
        command: Command,
        names: Names,
        offset_ns: int,
        stopped: Stopped | None = None,
        where: Where | None = None,
    ) -> None:
        self._selection: Selection = command.selection
        self.sinks: list[Sink] = sinks(command, names, offset_ns, stopped or Stopped(), where)
        """Where lines go. When the reader of one has gone, the others get on. None where recorders alone take them."""
        self.json = any(not isinstance(sink.writer, TextWriter) for sink in self.sinks)
        self.handshakes = Handshakes() if command.own.life else None
        """With --life: each end of a connection is a line about all of its life."""
        self._events = frozenset(command.own.events) or None
        """What is shown (--events); None: everything that comes."""
        self._tells_states = self._events is None or "state" in self._events
        """Whether rows and their transitions are shown, and not only incidents, which say all of theirs."""
        self._most = command.own.count
        self._shown = 0
        self._wanted = {
            protocol: bytes(selects_transition(selection, pair >> 4, pair & 15) for pair in range(256))
            for protocol, selection in selections(command.selection).items()
        }
        """By protocol, and by old state * 16 + new state: whether the command line selects that transition."""
        ended = self._selection.ended
        if not any(
            wanted[old << 4 | new] and (not ended or may_end(protocol, old, new))
            for protocol, wanted in self._wanted.items()
            for old, to in LIVES[protocol].items()
            for new in to
        ):
            whose = protocols(command.selection)
            if ended:
                raise UsageError(_endless(command))
            what = followed(command).removeprefix("every ").replace(f" of {whose}", "")
            raise UsageError(f"sstrace: {whose} {'have' if ' and ' in whose else 'has'} no {what}")
        self._kept = {
            protocol: bytes(selects_row(selection, state, LIVES[protocol].get(state, range(16))) for state in range(16))
            for protocol, selection in selections(command.selection).items()
        }
        """By protocol, and by state: whether it selects a row in it."""
        self._baseline = self.json and self._tells_states and not command.own.no_baseline
        self._filter = RowFilter(command.selection.filter, names, where)
        self._all = (
            not self._filter
            and (not ended or self.handshakes is not None)
            and all(self._selection.families >> family & 1 for family in (AF_INET, AF_INET6))
            and all(
                wanted[old << 4 | new]
                for protocol, wanted in self._wanted.items()
                for old, to in LIVES[protocol].items()
                for new in to
            )
        )
        """Whether everything that happens to these protocols' sockets is selected, or each life."""
        self._easy = (
            len(self.sinks) == 1 and self.sinks[0].runs and self._tells_states and self._most is None and self._all
        )
        """Whether that is shown by what takes runs."""
        self._protocols = frozenset(self._wanted)

    @property
    def full(self) -> bool:
        """Whether --count lines are out."""
        return self._most is not None and self._shown >= self._most

    @property
    def silent(self) -> bool:
        """Whether no transition has been shown yet."""
        return not self._shown

    @property
    def writer(self) -> Writer:
        """What numbers the lines (of the first way out)."""
        return self.sinks[0].writer

    @property
    def unread(self) -> bool:
        """Whether nobody reads any more, anywhere."""
        return bool(self.sinks) and all(sink.broken or sink.transport.gone() for sink in self.sinks)

    def move(self, offset_ns: int) -> None:
        """The clocks stand otherwise to each other from here on."""
        for sink in self.sinks:
            sink.writer.offset_ns = offset_ns

    def enter_host(self, host: str, head: MetaLine, offset_ns: int, handshakes: Handshakes | None) -> None:
        """Of several hosts: what follows is of this one, whose first line is ``head``."""
        self.handshakes = handshakes
        for sink in self.sinks:
            sink.writer.enter_host(host, head, offset_ns)

    def begin(
        self, meta: MetaLine | None, rows: Iterable[Row] = (), at_ns: int = 0, places: Iterable[NetnsNews] = ()
    ) -> None:
        """The first lines: what this is, and in NDJSON the baseline, behind the namespaces where there are several."""
        for sink in self.sinks:
            if meta is not None:
                sink.meta(meta)
            else:
                sink.titles(at_ns)
        for news in places:
            self.netns(news)
        if self._baseline:
            for row in rows:
                self.seen(row, at_ns)
        self.flush()

    def take(self, changes: Iterable[Change | Told]) -> None:
        """Turn changes into lines, up to --count of them; all are taken, so that the table stays whole."""
        if not self.sinks and self._most is None:
            deque(changes, maxlen=0)  # all that there is to do with them has been done on their way here
            return
        rest, lives = iter(changes), NO_LIVES
        if self.handshakes is not None:
            lives = self.handshakes.known
        if not self._easy:
            for change in rest:
                self._take(change)
            return
        # Nearly all are transitions of which everything is shown, in one way: the way out takes those by itself.
        sink = self.sinks[0]
        while (following := sink.run(rest, self._protocols, lives)) is not None:
            self._take(following)

    def _take(self, change: Change | Told) -> None:
        if type(change) is Transition:
            self.state(change)
        elif type(change) is Told:
            (self.seen if change.alive else self.gone)(change.row, change.at_ns)
        elif type(change) is Happened:
            self.incident(change)
        elif type(change) is NetnsNews:
            self.netns(change)
        elif type(change) is Lost:
            self.gap(change.cpu, change.count, change.after_ns, change.before_ns)
        elif type(change) is Resync:
            self.resync(change.at_ns, (len(change.added), len(change.removed), len(change.changed)))
            for row in change.removed:
                self.gone(row, change.at_ns)
            for row, old in change.changed:
                if row.id in change.ended:
                    self.handed_over(row, old, change.at_ns)
            for row in (*change.added, *(row for row, _ in change.changed)):
                self.seen(row, change.at_ns)

    def state(self, change: Transition) -> None:
        """A transition, if it is selected."""
        if self.handshakes is not None:
            self._life(change, self.handshakes)
            return
        if self.full or not self._tells_states or not self._selects(change):
            return
        taken = not self.sinks
        for sink in self.sinks:
            taken = sink.state(change) or taken
        self._shown += taken

    def incident(self, happened: Happened) -> None:
        """What hurt a connection, if its row is selected."""
        if self.full or self.handshakes is not None or (self._events is not None and happened.what not in self._events):
            return
        if not self._selects_row(happened.row):
            return
        taken = not self.sinks
        for sink in self.sinks:
            taken = sink.incident(happened) or taken
        self._shown += taken

    def _life(self, change: Transition, handshakes: Handshakes) -> None:
        if not change.ended:
            handshakes.hear(change.row.id, change.old, change.new, change.held_ns)
            return
        took = handshakes.take(change.row.id, stays=change.new in (State.TIME_WAIT, State.FIN_WAIT2))
        took = took if took is not None else change.handshake_ns
        if self.full or not ((self._all and change.row.protocol in self._protocols) or self._selects(change)):
            return
        taken = False
        for sink in self.sinks:
            taken = sink.life(change, took) or taken
        self._shown += taken

    def netns(self, news: NetnsNews) -> None:
        """A network namespace came, went, or is called otherwise."""
        for sink in self.sinks:
            sink.netns(news)

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int) -> None:
        """A loss."""
        for sink in self.sinks:
            sink.gap(cpu, count, after_ns, before_ns)

    def dropped(self, at_ns: int, count: int, reason: Reason) -> None:
        """Of a recording: lines that were not written."""
        for sink in self.sinks:
            sink.missing(at_ns, count, reason)

    def resync(self, at_ns: int, counts: tuple[int, int, int]) -> None:
        """A repair: added, removed, changed; its rows follow, ``gone`` and ``seen``."""
        for sink in self.sinks:
            sink.resync(at_ns, counts)

    def seen(self, row: Row, at_ns: int) -> None:
        """A row of the baseline or of a repair, if it is selected: a line of NDJSON."""
        if self.json and not self.full and self._tells_states and self._selects_row(row):
            for sink in self.sinks:
                sink.seen(row, at_ns)

    def gone(self, row: Row, at_ns: int) -> None:
        """A row whose end was lost, if it is selected: a line of NDJSON. With --life its connection ends all the same,
        if that has not been told.
        """
        if self.handshakes is not None:
            datagrams = row.protocol in DATAGRAMS
            if not self.handshakes.is_over(row.id) and (datagrams or row.state not in _NO_CONNECTION):
                new = UNSEEN if row.protocol in APPEARING else int(State.CLOSE)
                self._life(_unheard(row, row.state, new, at_ns), self.handshakes)
            self.handshakes.take(row.id)
        elif self.json and not self.full and self._tells_states and self._selects_row(row):
            self.ended(row.id, row.state, at_ns)

    def handed_over(self, row: Row, old: int, at_ns: int) -> None:
        """Somebody who looked found a timewait socket in the place of a full one."""
        if self.handshakes is not None:
            self._life(_unheard(row, old, row.state, at_ns, FIN_BY_US), self.handshakes)

    def ended(self, row_id: int, state: int, at_ns: int) -> None:
        """The same where nothing is selected away, so that the row need not be known."""
        for sink in self.sinks:
            sink.gone(row_id, state, at_ns)

    def hole(self, places: Collection[NetnsNews], rows: Iterable[Row], at_ns: int, unwritten: int) -> None:
        """Of a recording: lines that could not be written, and the table behind them."""
        selected = [row for row in rows if self._selects_row(row)] if self.json else []
        for sink in self.sinks:
            sink.checkpoint(places, selected, at_ns, unwritten)

    def whole(self, lines: bytes) -> None:
        """Lines that are written already, in the native schema; only where ``verbatim``."""
        self.sinks[0].whole(lines)

    @property
    def verbatim(self) -> bool:
        """Whether lines of the native schema may be handed on as they are: there is one way out, and it takes them."""
        return len(self.sinks) == 1 and self.sinks[0].verbatim

    def _selects(self, change: Transition) -> bool:
        row, selection = change.row, self._selection
        wanted = self._wanted.get(row.protocol)
        return (
            bool(selection.families >> row.family & 1)
            and wanted is not None
            and wanted[change.old << 4 | change.new] == 1
            and (change.ended or not selection.ended)
            and self._filter.change(change)
        )

    def _selects_row(self, row: Row) -> bool:
        kept = self._kept.get(row.protocol)
        return (
            bool(self._selection.families >> row.family & 1)
            and kept is not None
            and kept[row.state] == 1
            and self._filter.row(row)
        )

    def flush(self) -> None:
        """Hand whole lines over. Raises BrokenPipeError when nobody reads any more, anywhere."""
        for sink in self.sinks:
            sink.flush()
        if self.sinks and all(sink.broken for sink in self.sinks):
            raise BrokenPipeError

    def reopen(self, meta: MetaLine) -> None:
        """Begin the files anew (SIGHUP)."""
        for sink in self.sinks:
            sink.reopen(meta)

    def close(self) -> None:
        """The last lines. A reader who is slow has two seconds for them."""
        for sink in self.sinks:
            sink.end()

    @property
    def failed(self) -> bool:
        """See ``Sink.failed``; of any."""
        return any(sink.failed for sink in self.sinks)

    def summary(self) -> list[str]:
        """What did not reach its reader, a sentence each."""
        return [text for sink in self.sinks if (text := sink.summary()) is not None]


def _unheard(row: Row, old: int, new: int, at_ns: int, cause: str | None = None) -> Transition:
    """The end of a connection of which no event has told: ``at_ns`` is when somebody looked."""
    lived = at_ns - row.born_ns if row.born_ns is not None else None
    return Transition(at_ns, row, old, new, None, cause, NOTHING, True, True, "poll", True, lived)


def _endless(command: Command) -> str:
    """Why nothing would ever come where ends alone are asked for, and what was meant."""
    ends = followed(command).removeprefix("the end of every ")
    command = msgspec.structs.replace(command, selection=msgspec.structs.replace(command.selection, ended=False))
    without = "--life" if command.own.life else '"ended"'
    tcp = command.selection.tables >> Table.TCP & 1
    how = "connections of TCP end in closed, time-wait or fin-wait-2" if tcp else "a socket that has ended has no state"
    return f"sstrace: there is no end of a {ends}: {how}; without {without} {followed(command)} is told"


def selections(selection: Selection) -> dict[int, Selection]:
    """What is selected of each protocol that is followed. Of datagram sockets none listens: with -l, ss shows those
    that have no peer.
    """
    found = {protocol: selection for protocol in LIVES if selection.tables >> TABLE_OF_NUMBER[protocol] & 1}
    if selection.states == LISTENING and selection.touch == 1 << State.LISTEN:
        unconnected = msgspec.structs.replace(selection, touch=1 << State.CLOSE)
        found |= dict.fromkeys(found.keys() & DATAGRAMS, unconnected)
    return found
