"""The event path end to end: hooks, perf buffers, decoder, order (live.arrivals), table, sweeps. Trace, watch, serve,
verify and record all run one.

Gap-free start: attach, let events gather, sweep, then fold what has gathered (see table for why that loses nothing).

What it may be wrong about, and when that is healed: live.doubts.
"""

import gc
import select
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial

from sstrace.changes import Change, NetnsNews, Told
from sstrace.live.arrivals import Arrivals
from sstrace.live.doubts import Doubts
from sstrace.live.dumps import Dumps
from sstrace.live.incidents import Incidents
from sstrace.live.interfaces import Interfaces
from sstrace.live.kernel import DRAIN_NS, Kernel
from sstrace.live.looks import Looks
from sstrace.live.missed import Missed
from sstrace.live.nap import is_calm, nap
from sstrace.live.owners import BLIND, Ask, OwnerLooks
from sstrace.live.places import Followed, Place, Places, Sought
from sstrace.live.polled import polled, unseen
from sstrace.live.probes import attached
from sstrace.live.rounds import Rounds
from sstrace.live.shrink import Shrink
from sstrace.live.sweeps import Sweeps
from sstrace.live.unix_calls import UnixCalls
from sstrace.live.ways import Ways
from sstrace.model import Lost, Table
from sstrace.plain import counted
from sstrace.sources.memory import give_back
from sstrace.sources.names import SystemNames
from sstrace.sources.netns import current_netns
from sstrace.table import Resync, Row, SocketTable

__all__ = ["Tracer"]

_PATIENCE_NS = 10_000_000
"""Who is in no hurry waits this long: ten milliseconds without its CPU are nothing unusual for a virtual one."""
_GC_THRESHOLD = (50_000, 20, 50)
_REST_NS = 1_000_000_000
"""Where nothing happens, what is to be done now and then is done this often: it takes ten times what waiting does."""
_SWEEP_NS = 1_000_000_000
"""What makes no events is looked for by a sweep this often."""


class Tracer:
    """A running trace. Close it to detach."""

    def __init__(
        self,
        env: Mapping[str, str],
        names: SystemNames | None = None,
        *,
        pages: int | None = None,
        poll_ns: int | None = None,
        audit: bool = True,
        fall_back: bool = False,
        netns: Sequence[str] = (),
        ask: Ask | None = None,
        incidents: Collection[str] = (),
        tables: Sequence[Table] = (Table.TCP,),
        ways: Ways | None = None,
        lives: bool = False,
    ) -> None:
        """Compile (or take from the cache), load and attach; no sweep yet. Raises PrivilegeError or FeatureError.

        ``names`` are kept as of the change that is being told of. ``pages``: size of each perf buffer, for tests of
        loss. ``poll_ns``: no BPF at all, a sweep so often instead. ``audit``: False for one who compares the table with
        the kernel himself. ``fall_back``: a sweep each second where only a privilege is missing; ``limits`` tells.
        ``netns``: the words of --netns; none: this process's network namespace alone. ``ask`` looks for owners, and
        ``ways`` lead into namespaces, where this process does not itself. ``incidents``: of which sorts they are to be
        told (--events). ``tables``: what is followed; nothing else is heard of. ``lives``: nobody is to be told
        of a connection before it ends, so until then it need not be in the table. Raises LookupFailed, too, of --netns.
        """
        self.names = names if names is not None else SystemNames(env)
        self.tables = tuple(tables)  # that are followed
        self.netns = current_netns()
        ways = ways or Ways()
        self.places = (
            Followed(env, netns, self.names, self._breathe, ways)
            if netns
            else Places(Place(self.netns, Kernel(self._breathe)))
        )
        self.table = SocketTable(self.netns, self.places.takes)
        self.places.join(self.table)
        self.sweeps = self.resyncs = 0  # all of them, baseline and audits among them; those that healed a loss
        self.repaired = 0  # rows that audits found wrong
        self.owners = OwnerLooks(env, self._breathe, ask)
        self._sweeping, self._put_aside = False, list[Change]()  # losses while a sweep goes on
        at_home = 0 if self.places.several else self.netns.inode
        calls = partial(UnixCalls, env, at_home) if poll_ns is None else None
        self._rounds = Rounds(self.table, self.places, self.owners, self.tables, calls)
        others = self._rounds.others
        self.dumps = Dumps(env, self.places, self._breathe, ways)
        pant = lambda: self.ails_long and self._breathe()  # noqa: E731
        self._sweeps = Sweeps(self.table, self._apart, self._breathe, pant, self.dumps, tables=others)
        self._looks = Looks(self.places)
        self._sweep_every_ns, self._hooks, self._without = poll_ns, None, "by netlink alone"
        if poll_ns is None and others:
            only = self.netns.inode if not self.places.several else 0 if self.places.everything else None
            # The other end of a connection may be in another namespace: whoever tells of one looks for it in the table.
            lives = lives and not self.places.several and not incidents
            self._hooks, self._without = attached(
                env, self.netns, only, pages, others, fall_back=fall_back, lives=lives
            )
        self.places.seek(self.table.nets())  # those that came before there were hooks to hear them be born
        for place in self.places:
            self._hear(place)
        if self._hooks is not None and self._hooks.minisockets:
            self.table.probe = self._looks.probe
        if poll_ns is None and others and (self._hooks is None or self._hooks.deaf):
            self._sweep_every_ns = _SWEEP_NS
        self._shrink = Shrink(self.table, self._breathe, self._hooks.decoder.forget if self._hooks else lambda: None)
        self._interfaces = Interfaces(self.names)
        self._incidents = Incidents(env, self._hooks, self.netns, incidents, tables) if incidents else None
        self._heard = [one for one in (self._hooks, self._incidents) if one is not None]
        self._news = select.poll()
        self.register(self._news)
        self._next_sweep_ns = self._rested_ns = 0
        self._folded_ns = 0
        self._revealed_ns: int | None = None
        """When the connections were, whose owners are to be looked for once they are in the table."""
        # What is told of what events have done; for one who takes less, and alone, less:
        self.meanwhile: Callable[[], None] | None = None
        """Called every 20 ms while a sweep goes on; may ``settle``, unless it ``ails_long``."""
        at_home = self.places.get(self.netns.cookie) is not None
        self._missed = Missed(self._hooks, self.table, at_home=at_home)
        losses, audit = (self._hooks.losses, audit) if self._hooks is not None else (dict, False)
        self._doubts = Doubts(self._missed, losses, audits=audit and self._sweep_every_ns is None)
        self.arrivals = Arrivals(
            self._hooks, self._incidents, self._interfaces, self.table, missed=self._missed, doubts=self._doubts
        )

    @property
    def events(self) -> int:
        """How many have been folded in; incidents are among them."""
        return self.arrivals.events

    @property
    def lost(self) -> int:
        """How many were lost."""
        return self.arrivals.lost

    @property
    def late(self) -> int:
        """How many came when younger ones had been folded in."""
        return self.arrivals.late

    @property
    def looks(self) -> int:
        """How often sockets have been looked for that tell nothing."""
        return self._rounds.number

    @property
    def calls(self) -> tuple[int, int]:
        """How many calls of unix sockets' owners were heard, and how many lost."""
        return self._rounds.calls

    @property
    def polls(self) -> bool:
        """Whether it hears of nothing, and looks instead."""
        return self._hooks is None

    @property
    def limits(self) -> Sequence[str]:
        """What this trace cannot see, one sentence each; empty when it sees everything."""
        blind = [*filter(None, [self.places.blind]), *self._rounds.limits]
        blind += self._incidents.limits if self._incidents is not None else []
        if self._hooks is None and self._rounds.others:
            return [unseen(self._without, sees_all=self.owners.sees_all), *blind]
        heard = self._hooks.limits if self._hooks is not None else []
        return [*heard, *([] if self.owners.sees_all else [BLIND]), *blind]

    @property
    def missed(self) -> int:
        """Times that the kernel fired a tracepoint, perhaps for a socket elsewhere, and ran no program."""
        return self._missed.total

    def account(self) -> str:
        """How hearing went, for a summary."""
        if self._hooks is None:
            rounds = self._rounds
            return f"{counted(self.sweeps, 'look')}{rounds.account}" if rounds.others else rounds.account[2:]
        incidents = self._incidents
        events = self.events - (incidents.heard if incidents is not None else 0)
        text = f"{counted(events, 'event')}, {self.lost} lost, {self.late} late{self._rounds.account}"
        if incidents is not None:
            text += f", {counted(incidents.heard, 'incident')}, {incidents.lost} lost"
        return text + (f", {self.missed} missed" if self.missed else "")

    def start(self) -> None:
        """The baseline: after this the table is the kernel's, and ``poll`` goes on from there."""
        self.owners.load()
        gc.disable()  # rows live long and form no cycles: looking at them takes a fifth of the time, and stalls events
        try:
            self.arrivals.drain_until_now()
            # Nobody is told of what was before these dumps, which show what came of it; but not namespaces' births.
            if not self.places.several and self._doubts.pardoned():
                self.arrivals.forget()
            for _ in self.sweep():
                pass
            self._rounds.start()
        finally:
            gc.enable()
        give_back()  # who holds what, and the dump before, take more than the table that is made of them
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLD)

    def rows(self) -> Iterator[Row]:
        """Every row of the table, for one who tells of them all; the rings are emptied meanwhile, and nothing is folded
        in.
        """
        drained = time.monotonic_ns()
        for row in self.table:
            yield row
            now = time.monotonic_ns()
            if now - drained > DRAIN_NS:
                self.arrivals.drain()
                drained = now

    def doubts(self) -> bool:
        """Listen once more: whether events were lost, or not heard, that no sweep has healed yet."""
        self._doubts.listen()
        return self._doubts.any()

    def heal(self) -> Iterator[Change]:
        """Where a sweep is short, do not leave for later what is lost or was not heard: somebody asks now. Nothing
        within a sweep.
        """
        if self._sweeping:
            return
        self._doubts.listen()
        if self._doubts.is_cure_due():
            yield from self._resync() if self._doubts.lost else self._audit()

    @property
    def ails(self) -> bool:
        """See ``Doubts.ails``."""
        return self._doubts.ails()

    @property
    def ails_long(self) -> bool:
        """See ``Doubts.lasts``: then ``settle`` is of no use to who asks."""
        return self._doubts.lasts()

    def news(self) -> Callable[[], bool]:
        """For a forked child: what tells whether anything may have happened that its copy of the table lacks."""
        if self._hooks is None or self._sweep_every_ns is not None or self.arrivals.waiting or self._doubts.any():
            return lambda: True
        try:
            return self._hooks.beside()
        except OSError:
            return lambda: True

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there is much to ``poll``."""
        for heard in (*self._heard, self._interfaces, self._rounds):
            heard.register(poll)

    def close(self) -> None:
        """Detach every hook; harmless when done twice."""
        for heard in reversed(self._heard):
            heard.close()
        self._rounds.close()
        self._missed.close()
        self.dumps.close()
        self.owners.close()
        self._interfaces.close()
        self.places.close()

    def sleep(self, waiting: select.poll, seconds: float, hurry: Callable[[], bool] = bool) -> list[tuple[int, int]]:
        """``nap`` for what a poll object waits for, until there are events, or ``hurry``."""
        return nap(waiting, seconds, lambda: self._wakes() or hurry(), self.arrivals.last_ns)

    def _wakes(self) -> bool:
        return bool(self.arrivals.waiting) or any(one.holds for one in (*self._heard, self._rounds))

    def _rests(self) -> bool:
        """Whether nothing has happened for a while, and nothing is to be done yet: of TCP alone, all that happens can
        be seen to have come.
        """
        now = time.monotonic_ns()
        rests = (
            now - self._rested_ns < _REST_NS
            and is_calm(self.arrivals.last_ns)
            and self.tables == (Table.TCP,)
            and self._hooks is not None
            and self._sweep_every_ns is None
            and self._incidents is None
            and not (self._wakes() or self._doubts.any() or self._looks.is_due(self.table.unsettled()))
        )
        self._rested_ns = self._rested_ns if rests else now
        return rests

    def poll(self, timeout_s: float, hurry: Callable[[], bool] = bool) -> Iterator[Change]:
        """Wait for events at most so long, fold them in and yield what changed, in the order of time. ``hurry``: see
        ``sleep``.

        A ``Transition`` shows its row as it was right after the transition, so use it before taking the next.
        """
        # What is too young to be complete stays for the next time: where events never cease, there is always some.
        if self._hooks is None and self._sweep_every_ns is not None:
            timeout_s = min(timeout_s, (self._next_sweep_ns - time.monotonic_ns()) / 1e9)
        if not self.sleep(self._news, self._rounds.wait_s(timeout_s), hurry) and self._rests():
            return
        until = self.arrivals.drain() - _PATIENCE_NS
        self._own(until)
        yield from self.arrivals.fold(until)
        yield from self._seek()
        self._doubts.listen_now_and_then()
        if self._doubts.is_resync_due():
            yield from self._resync()
        if self._sweep_every_ns is not None:
            if time.monotonic_ns() >= self._next_sweep_ns:
                yield from self._polled_sweep()
        elif self._doubts.is_audit_due(self.events):
            yield from self._audit()
        yield from self._look()
        if self._incidents is not None:
            yield from self._incidents.look(self.places, self.table)
        yield from self._rounds.due()
        self._shrink.now_and_then()

    def settle(self) -> Iterator[Change]:
        """Fold in everything that happened before this call, what unsettled rows are found to be included."""
        now = self.arrivals.drain_until_now()
        self._own(now)
        yield from self.arrivals.fold(now)
        yield from self._seek()
        if self._sweep_every_ns is not None:
            yield from self._polled_sweep()
        yield from self._look(everything=True)
        if self._incidents is not None:
            yield from self._incidents.look(self.places, self.table, now=True)
        yield from self._rounds.look()

    def own(self, rows: Iterable[Row] | None = None) -> None:
        """Look now who holds the sockets of these rows; None: of all."""
        few = rows is not None
        shown = partial(self.places.shown, self.table)
        at_ns = max(self.arrivals.last_ns, self._rounds.last_ns)
        self.owners.own(self.table, rows if rows is not None else self.table, shown, at_ns, few=few)

    # Owners.

    def _own(self, until_ns: int) -> None:
        """See who holds what by now, before what happened until then is folded in."""
        folded_ns, self._folded_ns = self._folded_ns, until_ns
        if not self.owners.is_due(news=bool(self.arrivals.waiting)):
            return
        if self._revealed_ns is None:
            self._revealed_ns = self.arrivals.reveal()
            self.arrivals.keep()
        if self._revealed_ns <= folded_ns:
            self._revealed_ns = None
            self.owners.own(self.table, self.table, partial(self.places.shown, self.table), until_ns)

    # Namespaces.

    def _seek(self) -> Iterator[Change]:
        """See which namespaces have come, which have gone, and which are called otherwise by now. Nothing within a
        sweep.
        """
        if self._sweeping:
            return
        sought = self.places.seek(self.table.nets())
        now = time.monotonic_ns()
        left = [row for net in sought.strays for row in self.table.forget(net)]
        for place in sought.went:
            left += self.table.forget(place.netns.cookie)
            if all(other.netns.inode != place.netns.inode for other in self.places):  # or another has it by now
                self._hear(place, heard=False)
        if left:
            self.repaired += len(left)
            yield Resync(now, [], left, [])
        yield from (NetnsNews(now, place.netns, place.label, "gone") for place in sought.went)
        yield from (self.places.news(place, now, "named") for place in sought.called)
        for place in sought.came:
            self._hear(place)
            yield self.places.news(place, now, "new")
        if sought.came and self._sweep_every_ns is None:
            yield from self._meet(sought)

    def _hear(self, place: Place, *, heard: bool = True) -> None:
        """Have its events be among ours from here on, or no longer."""
        if heard:
            self.table.know(place.netns)
        if self._hooks is not None and self.places.several and not self.places.everything:
            self._hooks.choose(place.netns, heard=heard)

    def _meet(self, sought: Sought) -> Iterator[Change]:
        """What is in those that have come, nobody may have heard of."""
        places, heard = sought.came, self.places.hears_births
        if heard:
            lost = self._doubts.lost_in(self.arrivals.unread)
            places = [place for place in places if lost(place.netns.inode) or place in sought.again]
        if not places:
            return
        self._sweeping = True
        try:
            resync, _ = yield from self._sweeps.run(places, doubted=heard)
        finally:
            self._sweeping = False
        yield from (Told(resync.at_ns, row, alive=True) for row in resync.added)
        if resync.removed or resync.changed:
            yield Resync(resync.at_ns, [], resync.removed, resync.changed, resync.ended)
        losses, self._put_aside = self._put_aside, []
        yield from losses

    # Sweeps and looks.

    def sweep(self, *, loss: bool = False) -> Iterator[Change]:
        """Compare the table with netlink dumps and repair it: the changes folded in meanwhile, one Resync, then losses
        meanwhile, which it does not heal. ``loss``: it is to heal one.
        """
        doubted, where = self._doubts.sweep_begins(loss=loss, unread=self.arrivals.unread)
        places = [place for place in self.places if where is None or place.netns.inode in where]
        self._sweeping, resync, complete = True, None, False
        self.arrivals.reveal()
        try:
            resync, complete = yield from self._sweeps.run(places, doubted=doubted)
        finally:
            self._sweeping = False
            self.arrivals.keep()
            self._doubts.sweep_ends(resync, complete=complete)
        self.sweeps += 1
        if resync.added and self.owners.is_due(news=True):
            self.own()
            self.table.told(resync.added)  # whose lines are still to come, and name who holds them
        yield resync
        losses, self._put_aside = self._put_aside, []
        yield from losses

    def _apart(self) -> Iterator[Change]:
        """Fold in what has happened by now; losses are put aside."""
        for change in self.arrivals.fold(self.arrivals.drain_until_now()):
            if type(change) is Lost:
                self._put_aside.append(change)
            else:
                yield change

    def _resync(self) -> Iterator[Change]:
        self.resyncs += 1
        yield from self.sweep(loss=True)

    def _audit(self) -> Iterator[Change]:
        for change in self.sweep():
            if isinstance(change, Resync):
                wrong = len(change.added) + len(change.removed) + len(change.changed)
                if not wrong:
                    continue
                self.repaired += wrong
            yield change

    def _polled_sweep(self) -> Iterator[Change]:
        """A sweep that stands in for events: what it finds are transitions, seen late."""
        assert self._sweep_every_ns is not None
        for change in self.sweep():
            if not isinstance(change, Resync):
                yield change
                continue
            yield from polled(change, hears=self._hooks is not None)
        self._next_sweep_ns = time.monotonic_ns() + self._sweep_every_ns

    def _breathe(self) -> int:
        """See to what cannot wait for the end of a sweep; the time after it."""
        self.arrivals.drain()
        # Where sweeps stand in for events, settling takes one.
        if self.meanwhile is not None and self._sweep_every_ns is None:
            self.meanwhile()
        return time.monotonic_ns()

    def _look(self, *, everything: bool = False) -> Iterator[Change]:
        """Look at the rows of which events cannot tell all."""
        due = self._looks.due(self.table.unsettled(), everything=everything)
        if not due:
            return
        looks = self._looks.ask(due)
        # What a row's socket has done by now stands in the rings: who closes and listens again is another listener.
        yield from self.arrivals.fold(self.arrivals.drain_until_now())
        probed = self.table.probed
        for look in looks:
            yield from filter(None, (probed(row, found, look.asked_ns) for row, found in look.whole()))
            yield from filter(
                None, (probed(row, found, look.asked_ns, look.answered_ns) for row, found in look.timewaits())
            )
