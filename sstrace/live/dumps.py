"""What the kernel has of many tables at once: by sock_diag, asked in one network namespace after the other, or by a
walk over the hash tables that all of them share (sources.socket_walk), whichever costs less.

A dump of one namespace walks the whole of the kernel's hash table, whose size goes by the machine's memory: half a
millisecond, however few sockets there are. The walk pays that once; but what it finds is dearer, a row, than what a
dump shows. So it is for many namespaces of few sockets; what is large is asked for, and so is what has a hash table of
its own. Which it is goes by what either has cost so far, in CPU time of this thread.
"""

from collections.abc import Callable, Collection, Mapping
from time import thread_time_ns
from typing import NamedTuple

from sstrace.errors import SstraceError
from sstrace.live.places import Place, Places
from sstrace.live.ways import Walk, Ways
from sstrace.model import ALL_STATES, InetSocket, Netns, Space, State, Table
from sstrace.protocols import OF_TABLE
from sstrace.wire import walked
from sstrace.without import without

__all__ = ["TABLE_STATES", "Answer", "Dumps", "Swept"]

TABLE_STATES = ALL_STATES & ~(1 << State.BOUND_INACTIVE)
"""What the table holds. Of sockets that are bound and idle, which Linux 6.8 and newer dump as well, no event tells."""

_DUMP_NS = 500_000
_WALK_NS = 10_000_000
_LOAD_NS = 80_000_000
"""What a dump of a small namespace, a walk, and loading it cost, until that has been measured."""
_ROW_NS = 5_000
"""By so much a row of the walk's is dearer than one of a dump."""
_LARGE = 16 << 10
"""Bytes of an answer from which on what a dump took is not that of a small namespace."""


class Swept(NamedTuple):
    """What one dump of the kernel's shows: a table of a namespace."""

    place: Place
    table: Table

    @property
    def space(self) -> Space:
        """Where its rows are."""
        return Space(self.place.netns.cookie, OF_TABLE[self.table].number)


class Answer(NamedTuple):
    """What there is in one: datagrams of sock_diag's, or the records of the walk."""

    datagrams: list[bytes]
    records: list[bytes] | None = None

    def sockets(self) -> Collection[InetSocket]:
        """Those of the walk."""
        return list(walked.decode(self.records or (), TABLE_STATES))


class Dumps:
    """Of one trace. ``breathe`` is called every few milliseconds; ``ways`` lead to the walk."""

    def __init__(self, env: Mapping[str, str], places: Places, breathe: Callable[[], object], ways: Ways) -> None:
        self._env = env
        self._places = places
        self._breathe = breathe
        self._ways = ways
        self._walk: Walk | None = None
        self._tried = not places.several or "sockets" in without(env)
        self._dump_ns = _DUMP_NS
        self._walk_ns = _WALK_NS
        self._saved_ns = 0
        """What the walk would have saved so far."""
        self.walks = 0
        """How often it has been the way."""

    def of(self, sweeps: Collection[Swept]) -> list[tuple[Swept, Answer]]:
        """What there is in each. Of one that cannot be entered (Linux before 6.18, where no process is in it and no
        mount names it) the walk knows all the same.
        """
        found = self._cheaper([swept for swept in sweeps if swept.table is Table.TCP])
        answers = {swept: found.get(swept) or self._dumped(swept) for swept in sweeps}
        shut = [one for one in sweeps if one.table is Table.TCP and one not in found and not one.place.kernel.reachable]
        if shut and self._load(_LOAD_NS):
            answers |= self._walked(shut)
        return list(answers.items())

    def _dumped(self, swept: Swept) -> Answer:
        began = thread_time_ns()
        datagrams = swept.place.kernel.everything(TABLE_STATES, swept.table)
        if swept.table is Table.TCP and datagrams and sum(map(len, datagrams)) < _LARGE:
            self._dump_ns += (thread_time_ns() - began - self._dump_ns) // 8
        return Answer(datagrams)

    def _cheaper(self, sweeps: Collection[Swept]) -> dict[Swept, Answer]:
        """Those that the walk has found the sockets of, where that is worth while: not what is large."""
        saves_ns = len(sweeps) * self._dump_ns - self._walk_ns
        if saves_ns <= 0 or not self._load(saves_ns):
            return {}
        most = self._dump_ns // _ROW_NS
        return {swept: answer for swept, answer in self._walked(sweeps).items() if len(answer.records or ()) <= most}

    def _walked(self, sweeps: Collection[Swept]) -> dict[Swept, Answer]:
        """Those whose sockets are in the tables that are walked; none where that fails."""
        walk, began = self._walk, thread_time_ns()
        if walk is None:
            return {}
        shared = [swept for swept in sweeps if self._places.hashinfo(swept.place) == walk.hashinfo]
        try:
            apart = walked.apart(walk.records(self._breathe))
        except SstraceError:
            self.close()
            return {}
        self._walk_ns = thread_time_ns() - began + walk.spent_ns
        self.walks += 1
        found = {}
        for swept in shared:
            netns = swept.place.netns
            found[swept] = Answer([], apart.get(netns) or apart.get(Netns(0, netns.inode)) or [])
        return found

    def _load(self, saves_ns: int) -> bool:
        """Whether there is the walk: it is loaded as soon as it would have saved what loading takes."""
        self._saved_ns += saves_ns
        if not self._tried and self._saved_ns >= _LOAD_NS:
            self._tried = True
            try:
                self._walk = self._ways.walk(self._env)
            except (SstraceError, OSError):
                self._walk = None
        return self._walk is not None

    def close(self) -> None:
        """Unload the walk; it will not be loaded again."""
        self._tried = True
        if self._walk is not None:
            self._walk.close()
            self._walk = None
