"""Who holds the sockets now: by the walk over the kernel's tables where it can be had and pays, else by /proc.

Events name who connects, listens, shuts down and closes. Of accept, dup, fork, exec, exit and SCM_RIGHTS none tells, so
somebody has to look: before events are folded in, and for as long as what they did may go on, ever less often. When
that is depends on the table alone, never on who prints what of it.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from sstrace.errors import SstraceError
from sstrace.model import InetSocket, Kind, Owner, State
from sstrace.protocols import DATAGRAMS, IPPROTO_MPTCP, IPPROTO_TCP, SWEPT
from sstrace.rows import learn
from sstrace.sources import proc
from sstrace.sources.cache import cache_directory
from sstrace.sources.owners import OwnerWalk
from sstrace.sources.privilege import CAP_SYS_PTRACE, effective
from sstrace.table import Row, SocketTable

__all__ = ["Ask", "Looked", "OwnerLooks"]

_DUTY = 100
"""A look that took t of CPU time is not repeated before 100 t have passed: 1 % of a CPU at most."""
_QUIET_DUTY = 2000
"""And where nothing has happened for a while, not before 2,000 t."""
_FIRST_NS = 300_000_000
_LAST_NS = 5_000_000_000
"""After the last event it is looked once more after the one, then ever less often, down to this."""

_RUN = 4096
"""Rows between two breaths: some milliseconds."""

_ACCEPTABLE = frozenset(map(int, (State.ESTABLISHED, State.CLOSE_WAIT)))
"""States in which a connection waits for accept(2), which gives it its inode and makes no event."""

_ACCEPTED = frozenset((IPPROTO_TCP, IPPROTO_MPTCP))
_ASKED = DATAGRAMS | _ACCEPTED
"""Protocols whose sockets the kernel is asked for by themselves."""

BLIND = (
    "without CAP_SYS_PTRACE it cannot be seen what other users' processes hold: of these only who connects, listens, "
    "shuts down or closes is known; in a container, add SYS_PTRACE"
)
"""What a trace lacks where ``sees_all`` is not so."""

Shown = Callable[[list[Row]], Iterable[tuple[Row, InetSocket]]]
"""Asks the kernel for the sockets of some rows; those that it has not got are left out."""


class Looked(msgspec.Struct, frozen=True):
    """What another process found."""

    owners: dict[int, tuple[Owner, ...]]
    source: str
    """walk or proc."""
    spent_ns: int
    """Of CPU time."""


Ask = Callable[[Collection[int] | None, Callable[[], object]], Looked]
"""Takes what ``OwnerLooks.look`` does."""


class OwnerLooks:
    """Looks again and again, so the walk is loaded once, at the first look at the latest, and kept. ``breathe`` is
    called every few milliseconds while ``own`` goes on, and may fold events in.
    """

    def __init__(
        self, env: Mapping[str, str], breathe: Callable[[], object] = lambda: None, ask: Ask | None = None
    ) -> None:
        """``ask``: another process that looks instead of this one."""
        self._env = env
        self._breathe = breathe
        self._ask = ask
        self._spent_ns = 0
        """What the last look cost another process."""
        self._looking = False
        self._walk: OwnerWalk | None = None
        self._tried = False
        self._next_ns = 0
        self._due_ns = 0
        self._pause_ns = _FIRST_NS
        self.unheld: dict[int, Row] = {}
        """Of what is followed by looks alone (live.rounds): the rows, by id, that nobody was found to hold. They are
        gone, or in flight, which only the next look tells."""
        self.sees_all = bool(effective() >> CAP_SYS_PTRACE & 1)
        """Whether what is found nowhere is held by nobody."""
        self.source = "proc"
        """walk or proc: how the last look was made."""

    def load(self) -> None:
        """Load the walk, which takes as long as many looks; harmless when done twice."""
        if not self._tried and self._ask is None:
            self._tried = True
            try:
                self._walk = OwnerWalk(cache_directory(self._env))
            except (SstraceError, OSError):  # OSError: a limit of this process, say on descriptors
                self._walk = None

    def look(
        self, wanted: Collection[int] | None = None, breathe: Callable[[], object] = lambda: None
    ) -> dict[int, tuple[Owner, ...]]:
        """Inode → owners, in ss's order; only for inodes in ``wanted`` where the walk makes that cheaper."""
        if self._ask is not None:
            looked = self._ask(wanted, breathe)
            self.source, self._spent_ns = looked.source, looked.spent_ns
            return looked.owners
        self.load()
        if self._walk is not None:
            try:
                found = self._walk.owners(wanted, breathe)
            except SstraceError:
                pass
            except OSError:
                self.close()  # its descriptors may be those that /proc is to be read with
            else:
                self.source = "walk"
                return found
        self.source = "proc"
        return proc.owners(breathe=breathe)

    def is_due(self, *, news: bool) -> bool:
        """Whether it is time to ``own``; ``news``: events are about to be folded in."""
        now = time.monotonic_ns()
        if news:
            self._pause_ns = _FIRST_NS
            self._due_ns = min(self._due_ns, now + _FIRST_NS)
        return not self._looking and now >= self._next_ns and (news or now >= self._due_ns)

    def own(self, table: SocketTable, rows: Iterable[Row], shown: Shown, at_ns: int, *, few: bool = False) -> None:
        """Look, and bring the owners of these rows up to date (``SocketTable.own``). ``few``: of all that there are.
        What an event later than ``at_ns`` has touched meanwhile is left to the next look.
        """
        spent = time.thread_time_ns()
        self._looking = True
        try:
            self._own(table, rows, shown, at_ns, few=few)
        finally:
            self._looking = False
        now = time.monotonic_ns()
        spent = time.thread_time_ns() - spent + self._spent_ns
        self._next_ns = now + _DUTY * spent
        if not few:
            long_quiet = self._pause_ns == _LAST_NS
            self._due_ns = now + max(self._pause_ns, _QUIET_DUTY * spent if long_quiet else 0)
            self._pause_ns = min(self._pause_ns * 2, _LAST_NS)

    def _own(self, table: SocketTable, rows: Iterable[Row], shown: Shown, at_ns: int, *, few: bool) -> None:
        rows = [row for row in rows if row.kind is Kind.SOCKET]
        nameless = [row for row in rows if not row.ino and row.state in _ACCEPTABLE and row.protocol in _ACCEPTED]
        for row, socket in shown(nameless):
            learn(row, socket)
        found = self.look({row.ino for row in rows if row.ino} if few else None, self._breathe)
        vanished = []
        for row in self._in_runs(rows):
            held = found.get(row.ino) if row.ino else None
            if row.touched_ns > at_ns:
                continue
            if held is not None:
                table.own(row, held, self.source, at_ns)
            elif row.ino and row.protocol in _ASKED and (row.owners or row.owner_source is None):
                vanished.append(row)
            elif row.owners and row.protocol in SWEPT and self.sees_all:
                self.unheld[row.id] = row
        # Nobody holds it: it has been closed meanwhile, which an event will tell; or it is on its way from one process
        # to another, or the kernel's own. Or it is an MPTCP subflow, which only now has its connection's inode.
        for row, socket in shown(vanished) if self.sees_all else ():
            if socket.ino:
                learn(row, socket)
                table.own(row, found.get(row.ino, ()), self.source, at_ns)

    def _in_runs(self, rows: Sequence[Row]) -> Iterator[Row]:
        for begin in range(0, len(rows), _RUN):
            yield from rows[begin : begin + _RUN]
            self._breathe()

    def close(self) -> None:
        """Unload the walk."""
        if self._walk is not None:
            self._walk.close()
            self._walk = None
