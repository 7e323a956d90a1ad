"""The shards, and the way of each fact to its own."""

from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from itertools import chain, count
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from sstrace.lifecycle import STEPS, Report, Rule, Step, raw, udp
from sstrace.model import (
    Call,
    Called,
    Changed,
    Gone,
    InetSocket,
    Kind,
    Lived,
    Lost,
    Netns,
    Owner,
    Seen,
    Space,
    State,
    SweepBegin,
    SweepEnd,
)
from sstrace.native import twins
from sstrace.protocols import APPEARING, DATAGRAMS, IPPROTO_MPTCP, IPPROTO_TCP, SWEPT
from sstrace.table.datagrams import DatagramFold, DatagramSweep, Departed
from sstrace.table.fold import Fold, Probe
from sstrace.table.gather import gather
from sstrace.table.index import Index, News
from sstrace.table.multipath import MultipathFold, MultipathIndex, MultipathSweep
from sstrace.table.owning import inherited, own
from sstrace.table.rows import Ends, Resync, Row, Transition
from sstrace.table.sweep import Sweep
from sstrace.table.swept import SweptFold
from sstrace.table.tombstones import Tombstones

__all__ = ["Shard", "SocketTable", "taught"]

_ESTABLISHED = int(State.ESTABLISHED)
_TIMEWAITS = 1 << State.TIME_WAIT | 1 << State.FIN_WAIT2
_KIND = attrgetter("kind")
_CALLS = {call.value: call for call in Call}


_TAUGHT = {
    (Report.OPENS, None): [Step.BIRTH],
    (Report.MOVES, Kind.SOCKET): [Step.MOVE],
    (Report.MOVES, Kind.REQUEST): [Step.MOVE],
    (Report.CLOSES, Kind.SOCKET): [Step.HAND_OVER_MISSED, Step.END],
    (Report.CLOSES, Kind.TIMEWAIT): [Step.NOTHING, Step.NOTHING, Step.END_OF_STRANGER],
    (Report.REQUEST_TIMER, None): [Step.BIRTH],
    (Report.TIMEWAIT_TIMER, Kind.SOCKET): [Step.HAND_OVER],
    (Report.TIMEWAIT_GONE, Kind.TIMEWAIT): [Step.DEATH],
}
"""What native/fold.c does with these reports, as lifecycle has it. Guarded steps but the last, and but for a timewait
socket that inherits, it leaves to the fold."""


def taught() -> bytes:
    """Where lifecycle still says what the compiled fold does: 1 at report * 4 + holder (0: nobody); behind these at
    the number of a call, once for UDP and once for raw sockets.
    """
    of_tcp = [
        _TAUGHT.get((report, holder)) == [rule.step for rule in STEPS[report, holder]]
        for report in Report
        for holder in (None, *Kind)
    ]
    of_datagrams = [_is_taught(steps, call) for steps in (udp.STEPS, raw.STEPS) for call in range(max(_CALLS) + 1)]
    return bytes(of_tcp + of_datagrams)


def _is_taught(steps: Mapping[tuple[Call, Kind | None], Sequence[Rule]], number: int) -> bool:
    """Whether native/datagram.c does what these rules say of a call: a birth, where there is a port, of what nobody
    knows; of CLOSE, the end.
    """
    call = _CALLS.get(number)
    if call is None:
        return False
    if call is Call.CLOSE:
        return [rule.step for rule in steps[call, Kind.SOCKET]] == [Step.END]
    *others, last = steps.get((call, None), (Rule(Step.NOTHING, ""),))
    return last.step is Step.BIRTH and all(rule.when is udp.has_no_port for rule in others)


class Shard:
    """The rows of one space, and everything that is done with them."""

    __slots__ = ("fold", "forgotten", "index", "sweep", "tombstones")

    def __init__(self, space: Space, netns: int, ids: Iterator[int], unsettled: dict[int, Row], news: News) -> None:
        self.index = Index(space, netns, ids, unsettled, news)
        self.tombstones: Tombstones
        self.fold: Fold | DatagramFold | MultipathFold | SweptFold
        self.sweep: Sweep
        if space.protocol in SWEPT:
            self.tombstones = Tombstones(self.index)
            self.fold, self.sweep = SweptFold(self.index), Sweep(self.index, self.tombstones)
        elif space.protocol in DATAGRAMS:
            self.tombstones = departed = Departed(self.index)
            self.fold, self.sweep = DatagramFold(self.index, departed), DatagramSweep(self.index, departed)
        elif space.protocol == IPPROTO_MPTCP:
            self.index = index = MultipathIndex(space, netns, ids, unsettled, news)
            self.tombstones = Tombstones(index)
            self.fold, self.sweep = MultipathFold(index, self.tombstones), MultipathSweep(index, self.tombstones)
        else:
            self.tombstones = Tombstones(self.index)
            self.fold, self.sweep = Fold(self.index, self.tombstones), Sweep(self.index, self.tombstones)
        self.forgotten = False
        """Its namespace is gone: whoever still knows it looks for another."""

    def __len__(self) -> int:
        return len(self.index.rows)

    def in_states(self, states: int) -> Iterator[Row]:
        """The rows in these states; ESTABLISHED is none of them."""
        by_state = self.index.watch_states()
        return chain.from_iterable(rows.values() for state, rows in by_state.items() if states >> state & 1)


CLASSES = {
    "row": Row,
    "transition": Transition,
    "owner": Owner,
    "index": Index,
    "news": News,
    "tombstones": Tombstones,
    "shard": Shard,
}
"""Those whose slots the twins read; scripts/twins tells them which there are."""

if twins is not None:
    twins.teach(CLASSES, tuple(Kind), own, inherited)


class SocketTable:
    """The live table. ``netns``: what is meant where an event names no namespace."""

    def __init__(self, netns: Netns, takes: Callable[[int], bool] = lambda _: True) -> None:
        self._ids = count(1)
        self._news = News()
        self._lesson = taught()
        self._inodes = {netns.cookie: netns.inode}
        self._unsettled: dict[int, Row] = {}
        self._shards: dict[Space, Shard] = {}
        self._watches_states = False
        self.takes = takes
        """Whether events of a network namespace of which there are none yet are folded in, by its cookie."""
        self._probe: Probe | None = None
        self._netns = netns
        self.home = self.shard(Space(netns.cookie, IPPROTO_TCP))
        """TCP of that namespace."""

    # Shards.

    def shard(self, space: Space, inode: int = 0) -> Shard:
        """That of a space, made where there is none. ``inode``: of its namespace, where that may be news."""
        found = self._shards.get(space)
        if found is None:
            inode = self._inodes.setdefault(space.net, inode)
            found = self._shards[space] = Shard(space, inode, self._ids, self._unsettled, self._news)
            found.fold.probe = self._probe
            if self._watches_states:
                found.index.watch_states()
        return found

    def looked_for(self, space: Space) -> SweptFold:
        """What takes looks at sockets that tell nothing (protocols.SWEPT)."""
        fold = self.shard(space).fold
        assert isinstance(fold, SweptFold)
        return fold

    def find(self, space: Space, ends: Ends) -> Row | None:
        """The connection between these ends; None where there is none."""
        shard = self._shards.get(space)
        return shard.index.by_ends.get(ends) if shard is not None else None

    def _of(self, row: Row) -> Shard:
        return self._shards[row.net, row.protocol]  # type: ignore[index]  # a Space is such a tuple

    def know(self, netns: Netns) -> None:
        """What a network namespace is shown as."""
        self._inodes[netns.cookie] = netns.inode

    def nets(self) -> KeysView[int]:
        """The cookie of every network namespace that is known or has been met."""
        return self._inodes.keys()

    def forget(self, net: int) -> list[Row]:
        """A network namespace is gone: the rows that are left of it, whose ends were lost."""
        self._inodes.pop(net, None)
        left = []
        for space in [space for space in self._shards if space.net == net]:
            shard = self._shards.pop(space)
            shard.forgotten = True
            rows = list(shard.index.rows.values())
            for row in rows:
                shard.index.remove(row)
            left += rows
        return left

    @property
    def probe(self) -> Probe | None:
        """See ``Fold.probe``; of every shard."""
        return self._probe

    @probe.setter
    def probe(self, probe: Probe | None) -> None:
        self._probe = probe
        for shard in self._shards.values():
            shard.fold.probe = probe

    @property
    def journal(self) -> dict[int, Row] | None:
        """See ``News.journal``."""
        return self._news.journal

    @journal.setter
    def journal(self, journal: dict[int, Row] | None) -> None:
        self._news.journal = journal

    @property
    def silent(self) -> dict[int, tuple[Row, int]] | None:
        """See ``News.silent``."""
        return self._news.silent

    @silent.setter
    def silent(self, silent: dict[int, tuple[Row, int]] | None) -> None:
        self._news.silent = silent

    @property
    def last_ns(self) -> int:
        """Time of the latest change that was told."""
        return self._news.last_ns

    def passed(self, at_ns: int) -> None:
        """What is told next happened no sooner."""
        self._news.last_ns = max(self._news.last_ns, at_ns)

    def told(self, rows: Iterable[Row]) -> None:
        """Whoever is told of the changes will hear of these as they are now."""
        for row in rows:
            self._news.tell(row, self._news.last_ns)

    def lost(self, fact: Lost) -> None:
        """Events never arrived."""
        self.passed(fact.before_ns)

    def renamed(self, index: int, at_ns: int) -> None:
        """What is bound to this device shows another name since then."""
        self.passed(at_ns)
        if self._news.silent is not None:
            for row in self:
                if row.ifindex == index:
                    self._news.note(row, at_ns)

    @property
    def implied(self) -> int:
        """See ``News.implied``."""
        return self._news.implied

    @property
    def unmet(self) -> int:
        """See ``News.unmet``."""
        return self._news.unmet

    @property
    def unlisted(self) -> int:
        """See ``News.unlisted``."""
        return self._news.unlisted

    # Rows.

    def __contains__(self, row_id: int) -> bool:
        return any(row_id in shard.index.rows for shard in self._shards.values())

    def holds(self, row: Row) -> bool:
        """Whether this row is one of the table's."""
        shard = self._shards.get(Space(row.net, row.protocol))
        return shard is not None and row.id in shard.index.rows

    def sizes(self) -> dict[int, int]:
        """How many rows there are in each network namespace, by its cookie; of sockets without connections none."""
        found: dict[int, int] = {}
        for space, shard in self._shards.items():
            if space.protocol in APPEARING:
                continue
            found[space.net] = found.get(space.net, 0) + len(shard.index.rows)
        return found

    def within(self, net: int) -> list[Row]:
        """The rows of a network namespace, by its cookie."""
        return [row for space, shard in self._shards.items() if space.net == net for row in shard.index.rows.values()]

    def __len__(self) -> int:
        return sum(len(shard.index.rows) for shard in self._shards.values())

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(shard.index.rows.values() for shard in self._shards.values())

    def in_states(self, states: int) -> list[Row] | None:
        """The rows in these states (bit n for state n), from the second time on found without a look at any other; None
        where ESTABLISHED is among them, so that they are no fewer than most.
        """
        if states >> _ESTABLISHED & 1:
            return None
        self._watches_states = True
        return [row for shard in self._shards.values() for row in shard.in_states(states)]

    def timewaits(self) -> int:
        """How many rows at home are of timewait sockets; looks at every one where they are not found by their states. A
        server's are: who looks at a row writes its count of references, and a page that a child shares is copied.
        """
        home = self.home
        rows = home.index.rows.values() if home.index.by_state is None else home.in_states(_TIMEWAITS)
        return list(map(_KIND, rows)).count(Kind.TIMEWAIT)

    def unsettled(self) -> list[Row]:
        """See ``Index.unsettled``; of every shard."""
        return list(self._unsettled.values())

    def own(self, row: Row, owners: tuple[Owner, ...], source: str, at_ns: int) -> None:
        """See ``Index.own``."""
        self._of(row).index.own(row, owners, source, at_ns)

    # Facts.

    def folder(self) -> Callable[[Any], Transition | None]:
        """What folds a run of events in (wire.event.Event) as ``apply`` does, as fast as may be."""
        if twins is None:
            return self.apply
        return twins.Folder(self._shards, self.apply, self._lesson, self._netns)  # type: ignore[no-any-return]

    def apply(self, fact: Changed | Gone | Called | Lived) -> Transition | None:
        """Fold one event in. The transition that users see, None when there is none. Of a life that is told at once:
        its end; or, where it lives on, that with which it came about.
        """
        if isinstance(fact, Lived):
            return self._live(fact)
        shard = self._shards.get((fact.net, fact.protocol))  # type: ignore[call-overload]  # a Space is such a tuple
        if shard is None:
            if not self.takes(fact.net):
                return None
            shard = self.shard(Space(fact.net, fact.protocol), fact.netns)
        return shard.fold.apply(fact)  # type: ignore[no-any-return]

    def _live(self, fact: Lived) -> Transition | None:
        opened = None
        for told in fact.before:
            change = self.apply(told)
            opened = change if told.new == _ESTABLISHED else opened
        if fact.end is None:
            return opened
        change = self.apply(fact.end)
        return replace(change, handshake_ns=fact.handshake_ns) if change is not None and change.ended else change

    def begin(self, fact: SweepBegin) -> None:
        """A sweep of a space starts."""
        self.shard(fact.space).sweep.begin(fact.at_ns, doubted=fact.doubted)

    def seen(self, fact: Seen) -> None:
        """The sweep of a space met this socket."""
        assert isinstance(fact.socket, InetSocket)
        self.met(fact.space, (fact.socket,))

    def read(self, space: Space, datagram: bytes, otherwise: Callable[[bytes], object]) -> bool:
        """See ``Sweep.read``."""
        return self.shard(space).sweep.read(datagram, otherwise)

    def met(self, space: Space, sockets: Iterable[InetSocket]) -> None:
        """The sweep of a space met these sockets: ``Seen``, each of them."""
        seen = self.shard(space).sweep.seen
        for socket in sockets:
            seen(socket)

    def unseen(self, space: Space) -> list[Row]:
        """See ``Sweep.unseen``."""
        return self.shard(space).sweep.unseen()

    def end(self, fact: SweepEnd, breathe: Callable[[], object] = lambda: None) -> Resync:
        """The sweep of a space ends; a complete one removes what is still unseen there. ``breathe``: see
        ``Sweep.end``.
        """
        return self.shard(fact.space).sweep.end(fact.at_ns, breathe, complete=fact.complete)

    def gather(self, breathe: Callable[[], object]) -> None:
        """See ``gather.gather``; of every shard, but those whose rows looks know by what the kernel says of each
        (live.rounds). ``forget_shared`` first: what goes meanwhile leaves holes.
        """
        for shard in list(self._shards.values()):
            if not isinstance(shard.fold, SweptFold):
                gather(shard.index, breathe)

    def forget_shared(self) -> None:
        """Let go of what is kept because the next row may be like the last."""
        for shard in self._shards.values():
            shard.sweep.forget_shared()

    def probed(self, row: Row, found: InetSocket | None, at_ns: int, until_ns: int | None = None) -> Transition | None:
        """See ``Sweep.probed``."""
        return self._of(row).sweep.probed(row, found, at_ns, until_ns)
