"""``--verify``: trace quietly, and again and again hold the live table against the kernel.

A comparison takes a dump, folds in everything up to now, notes the table, takes another dump. What the kernel showed
alike before and after must stand in the table (else ``missed``) in the same state (else ``wrong``); what the table
has, and had already before the first dump, must stand in one of the dumps (else it is a ``ghost``). What changed in
between proves nothing and is left out. With -p the owners that the table would tell are held against /proc in the
same way. Sockets that are followed by looks alone are compared as the look within the comparison has left them: lines
about them, and the summary, say that no event stands behind these rows.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Literal, NamedTuple

import msgspec

from sstrace.coordinates import found
from sstrace.errors import DriftError, FeatureError, UnprovenError
from sstrace.live.dumps import TABLE_STATES
from sstrace.live.kernel import Kernel
from sstrace.live.nap import TICK_S
from sstrace.live.signals import Stopped
from sstrace.live.tracer import Tracer
from sstrace.model import AF_UNIX, STATE_TEXT, Owner, Socket, State
from sstrace.modes.following import Following
from sstrace.plain import counted, plain, spelled
from sstrace.protocols import (
    APPEARING,
    DATAGRAMS,
    FAMILY_WORDS,
    FOLLOWED,
    INET,
    NETID_OF_NUMBER,
    OF_TABLE,
    SWEPT,
)
from sstrace.query import options
from sstrace.query.command import Command, followed_tables
from sstrace.query.match import Known, Predicate, predicate
from sstrace.query.spoken import named
from sstrace.render.ends import Ends
from sstrace.render.events import address, timestamp
from sstrace.render.times import times
from sstrace.rows import shown_as
from sstrace.sources import proc
from sstrace.sources.clock import clock_offset
from sstrace.sources.names import SystemNames
from sstrace.sources.standard import give, say
from sstrace.table import Resync, Row

__all__ = ["DriftLine", "run"]

_INTERVAL_NS = 1_000_000_000
_PATIENCE_NS = 3_000_000_000
"""The last comparison waits so long for the tracer to heal."""

Key = tuple[int, int, bytes, int, bytes, int, int, int, int]
"""Network namespace (its cookie), family, local address and port, peer address and port, bound device, inode of a
listener or of a datagram socket (several may share their addresses), protocol. Outside of the internet's families the
coordinates of the socket, with its cookie instead of an inode."""

Drift = tuple[str, Key, str | None, str | None]
"""Kind, of which socket, what the table says, what the kernel says."""


class DriftLine(msgspec.Struct, tag="drift", tag_field="type", omit_defaults=True, kw_only=True):
    """One disagreement between the live table and the kernel."""

    ts: str
    mono_ns: int
    kind: str
    """missed, ghost or wrong."""
    netns: int | None = None
    """With --netns: inode of the network namespace."""
    netns_name: str | None = None
    netid: str = "tcp"
    family: str
    src: str
    sport: int
    dst: str
    dport: int
    table: str | None = None
    """The state (or the owners) as the table has it; absent when missed."""
    kernel: str | None = None
    """As the kernel has it; absent for a ghost."""
    exact: Literal[False] | None = None
    """False: of a socket that is followed by looks alone."""


class _Totals(msgspec.Struct):
    checks: int = 0
    rows: int = 0
    kinds: Counter[str] = msgspec.field(default_factory=Counter)
    resynced: int = 0


def run(command: Command, env: Mapping[str, str]) -> int:
    """Verify until Ctrl-C or --duration. Raises at the end: DriftError when there was any, UnprovenError where nothing
    could be compared.
    """
    stopped = Stopped()
    names = SystemNames(env)
    command = options.resolve(command, names)
    tables = [table for table in followed_tables(command.selection) if Kernel(lambda: None).lists(table)]
    if not tables:
        whose = named(command.selection.tables & FOLLOWED)
        raise FeatureError(f"this kernel does not list {whose} sockets: there is nothing to compare")
    tracer = Tracer(env, names, poll_ns=command.own.poll_ns, audit=False, netns=command.own.netns, tables=tables)
    totals = _Totals()
    with Following(command, env, tracer, stopped) as following:
        following.measure()
        if following.metrics is not None:
            following.metrics.drift = lambda: totals.kinds
        tracer.start()
        following.record()
        following.ready(f"verifying {counted(len(tracer.table), 'socket')}")
        check = _Check(command, names, following, totals)
        following.moved = check.move
        interval = command.own.interval_ns or _INTERVAL_NS
        due = time.monotonic_ns() + interval
        for seconds in following.turns():
            check.take(following.poll(min(seconds, (due - time.monotonic_ns()) / 1e9)))
            if following.wanted:
                check.take(following.settle())
            if time.monotonic_ns() >= due:
                check.compare()
                due = time.monotonic_ns() + interval
        check.finish()
    found = ", ".join(f"{totals.kinds[kind]} {kind}" for kind in ("missed", "ghost", "wrong"))
    report = (
        f"{counted(totals.checks, 'comparison')} of {counted(totals.rows, 'row')} in all: {found}; "
        f"{tracer.account()}, {counted(totals.resynced, 'row')} repaired after losses and missed events"
        f"{following.recorded}"
    )
    if not totals.checks:
        raise UnprovenError(
            f"{report}; each time events were lost or missed, or a dump was interrupted, so nothing is proven"
        )
    if totals.kinds.total():
        raise DriftError(report)
    say(report)
    return following.code()


class _Between(NamedTuple):
    """Both ends of what differs, and what else is asked of a row."""

    src: bytes
    sport: int
    dst: bytes
    dport: int
    ifindex: int
    family: int
    protocol: int
    v6only: bool | None = None
    state: int = 0
    ino: int = 0
    uid: int | None = None
    cookie: int | None = None


class _Check:
    def __init__(self, command: Command, names: SystemNames, following: Following, totals: _Totals) -> None:
        selection = command.selection
        self._following = following
        self._tracer = following.tracer
        self._totals = totals
        self._found: set[Drift] = set()
        """What the latest comparison found."""
        self._known: set[Drift] = set()
        self._json = command.own.json
        self._families = selection.families
        self._states = selection.touch & ~selection.avoid & TABLE_STATES
        self._outside = {
            family.name: family for table in following.tracer.tables if (family := OF_TABLE[table].family) is not INET
        }.values()
        self._protocols = {OF_TABLE[table].number: table for table in following.tracer.tables}
        self._owners = command.show.processes
        self._filter = selection.filter
        self._names = names
        self._where = self._tracer.places.where
        self._times = times(command.own.time or ("clock" if os.isatty(1) else "iso"), clock_offset())
        self._ends = Ends(command.show, command.dialect, names)
        self._encoder = msgspec.json.Encoder()

    def move(self, offset_ns: int) -> None:
        """The clocks stand otherwise to each other from here on."""
        self._times.offset_ns = offset_ns

    def take(self, changes: Iterable[object]) -> None:
        """Fold changes in. Repairs after a loss are not drift: they were announced."""
        for change in changes:
            if type(change) is Resync:
                self._totals.resynced += len(change.added) + len(change.removed) + len(change.changed)

    def finish(self) -> None:
        """The last comparison, of the table once what is in doubt has been healed, if that does not take too long."""
        end = time.monotonic_ns() + _PATIENCE_NS
        while not self.compare() and time.monotonic_ns() < end:
            self.take(self._following.poll(TICK_S))

    def compare(self) -> bool:
        """One comparison; a line for each disagreement that the comparison before did not have. False where it says
        nothing.
        """
        tracer, totals = self._tracer, self._totals
        began = time.monotonic_ns()
        before, shown = self._kernel()
        owners_before = proc.owners() if self._owners else {}
        lost = tracer.lost
        moved = tracer.table.journal = {}
        self.take(self._following.settle())
        tracer.table.journal = None
        table = self._table(tracer.table)
        walked = tracer.owners.look() if self._owners else {}
        after, shown_again = self._kernel()
        owners_after = proc.owners() if self._owners else {}
        whole = shown & shown_again
        if tracer.lost != lost or tracer.doubts() or not whole:
            return False  # the tracer heals what is lost or was not heard; until then a comparison says nothing
        before = {key: socket for key, socket in before.items() if key[0] in whole}
        table = {key: noted for key, noted in table.items() if key[0] in whole}
        totals.checks += 1
        came_or_went = {key for row in moved.values() for key in _keys(row)}
        moved_cookies = {row.cookie for row in moved.values() if row.protocol in APPEARING}  # their keys were others
        self._known, self._found = self._found, set()
        moved_device = _pairs(before, table)
        for key, socket in before.items():
            later = after.get(key)
            if later is None or later.state != socket.state or later.cookie != socket.cookie:
                continue  # it moved; or it is another in the same state, and the table knew one between them
            row = table.get(moved_device.get(key, key))
            if key in came_or_went or socket.cookie in moved_cookies or (row is not None and row[1] >= began):
                continue  # it may have left its state and come back: a socket that connects again keeps its cookie
            totals.rows += 1
            if row is None:
                self._report("missed", key, None, STATE_TEXT[socket.state])
            elif row[0] != socket.state:
                self._report("wrong", key, STATE_TEXT[row[0]], STATE_TEXT[socket.state])
        told = set(moved_device.values())
        for key, (state, touched_ns) in table.items():
            if key[-1] in SWEPT and key in came_or_went:
                continue
            if touched_ns < began and key not in before and key not in after and key not in told:
                self._report("ghost", key, STATE_TEXT[state], None)
        suspects = []
        for key, socket in before.items():
            known = owners_before.get(socket.ino)
            if socket.ino and key in table and known == owners_after.get(socket.ino) and known:
                suspects += [(key, socket.ino, known)] if walked.get(socket.ino) != known else []
        if suspects:
            # A server that has just forked holds its sockets twice, until the child closes its own.
            walked, owners = tracer.owners.look(), proc.owners()
            for key, ino, known in suspects:
                if owners.get(ino) == known != walked.get(ino):
                    self._report("wrong", key, _names(walked.get(ino, ())), _names(known))
        return True

    def _kernel(self) -> tuple[dict[Key, Socket], set[int]]:
        """What the kernel has in the namespaces that are followed; and in which it showed all without interruption."""
        rows: dict[Key, Socket] = {}
        whole = set()
        for place in self._tracer.places:
            net = place.netns.cookie
            kernel, matches = place.kernel, self._predicate(net)
            dumps = {
                number: kernel.dump(TABLE_STATES, table=table)
                for number, table in self._protocols.items()
                if number not in SWEPT
            }
            others = [kernel.others(family) for family in self._outside]
            if all(complete for _, complete in (*dumps.values(), *others)):
                whole.add(net)
            for number, (shown, _) in dumps.items():
                for socket in filter(self._is_meant, shown):
                    apart = socket.ino if number in DATAGRAMS or socket.state == State.LISTEN else 0
                    ends = socket.family, socket.src, socket.sport, socket.dst, socket.dport
                    if matches is None or matches(socket):
                        rows[(net, *ends, socket.ifindex, apart, number)] = socket
            for one in filter(self._is_meant, chain.from_iterable(shown for shown, _ in others)):
                key = _key_of(net, one)
                if key is not None and key[-1] in self._protocols and (matches is None or matches(one)):
                    rows[key] = one
        return rows, whole

    def _is_meant(self, one: Socket | Row) -> bool:
        return bool(self._families >> one.family & 1 and self._states >> one.state & 1)

    def _predicate(self, net: int) -> Predicate | None:
        place, known = self._tracer.places.get(net), Known()
        if self._where is not None and place is not None:
            known = Known(netns=lambda _: (place.netns.inode, place.label))
        return predicate(self._filter, self._names.of(net), known)

    def _table(self, rows: Iterable[Row]) -> dict[Key, tuple[int, int]]:
        noted: dict[Key, tuple[int, int]] = {}
        tests = {place.netns.cookie: self._predicate(place.netns.cookie) for place in self._tracer.places}
        for row in filter(self._is_meant, rows):
            matches = tests.get(row.net)
            if row.protocol in self._protocols and (matches is None or matches(shown_as(row))):
                bound, shared = _keys(row)
                is_shared = row.protocol in DATAGRAMS or row.state == State.LISTEN
                noted[shared if is_shared else bound] = row.state, row.touched_ns
        return noted

    def _report(self, kind: str, key: Key, table: str | None, kernel: str | None) -> None:
        drift = kind, key, table, kernel
        self._found.add(drift)
        if drift in self._known:
            return
        self._totals.kinds[kind] += 1
        net, family, src, sport, dst, dport, ifindex, _, protocol = key
        netid = NETID_OF_NUMBER[protocol]
        place = self._tracer.places.get(net) if self._where is not None else None
        now = time.monotonic_ns()
        line = DriftLine(
            ts=timestamp(now + self._times.offset_ns),
            mono_ns=now,
            kind=kind,
            netns=place.netns.inode if place is not None else None,
            netns_name=place.label.netns_name if place is not None else None,
            netid=netid,
            family=FAMILY_WORDS[family],
            src=address(family, src),
            sport=sport,
            dst=address(family, dst),
            dport=dport,
            table=table,
            kernel=kernel,
            exact=False if protocol in SWEPT else None,
        )
        if self._json:
            text = self._encoder.encode(line) + b"\n"
        else:
            differs = f"table {table or 'has nothing'}, kernel {kernel or 'has nothing'}"
            ends, both = self._ends.within(net), _Between(src, sport, dst, dport, ifindex, family, protocol)
            local, peer = ends.outside(both) if protocol in SWEPT else ends.speaking(netid).of(both)
            named = f"{plain(place.text)} " if place is not None else ""
            if len(self._protocols) > 1:
                named += f"{netid} "
            text = f"{self._times.text(now)} {named}{kind} {local} {peer} {differs}\n".encode()
        give(text)


def _keys(row: Row) -> tuple[Key, Key]:
    """A row's key as a connection's, and as that of a socket that shares its addresses; of one that is followed by
    looks alone its own both times, without the name of its peer, which the kernel does not show.
    """
    if row.protocol in SWEPT:
        dst = b"" if row.family == AF_UNIX else row.dst
        own = row.net, row.family, row.src, row.sport, dst, row.dport, row.ifindex, row.cookie or 0, row.protocol
        return own, own
    ends = row.net, row.family, row.src, row.sport, row.dst, row.dport
    return (*ends, row.ifindex, 0, row.protocol), (*ends, row.ifindex, row.ino, row.protocol)


def _pairs(kernel: Mapping[Key, object], table: Mapping[Key, object]) -> dict[Key, Key]:
    """Sockets that were bound to another device after their row began, of which no event tells: key in the kernel → key
    in the table, where there is but one on either side.
    """
    ours, theirs = _by_ends(table.keys() - kernel.keys()), _by_ends(kernel.keys() - table.keys())
    return {
        theirs[ends][0]: ours[ends][0]
        for ends in ours.keys() & theirs.keys()
        if len(ours[ends]) == len(theirs[ends]) == 1
    }


def _by_ends(keys: Iterable[Key]) -> dict[tuple[object, ...], list[Key]]:
    found: dict[tuple[object, ...], list[Key]] = {}
    for key in keys:
        found.setdefault(key[:6] + key[7:], []).append(key)  # all but the device
    return found


def _key_of(net: int, socket: Socket) -> Key | None:
    """The same of a socket that the kernel shows; None where it is of no protocol that has a name."""
    at = found(socket)
    if at is None:
        return None
    return net, at.family, at.src, at.sport, at.dst or b"", at.dport, at.ifindex, at.cookie, at.protocol


def _names(owners: Iterable[Owner]) -> str:
    return ",".join(f"{spelled(owner.comm)}/{owner.pid}/{owner.fd}" for owner in owners) or "nobody"
