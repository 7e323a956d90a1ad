"""Incidents: what hurts connections without changing their states (--events). Each is brought to its row.

Retransmissions, resets and drops are heard, by programs that are attached for them (bpf/incidents.bpf.c). What a
listener drops because its queue is full no tracepoint tells; but it counts it, and that is looked at each second.
"""

import re
import select
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from sstrace.changes import Change, Happened
from sstrace.errors import FeatureError
from sstrace.incidents import SORTS
from sstrace.live.places import Place
from sstrace.live.probes import Hooks
from sstrace.model import Details, Incident, Netns, Space, State, Table
from sstrace.protocols import DATAGRAMS
from sstrace.sources.bpf.compile import ready
from sstrace.sources.bpf.load import Loaded
from sstrace.sources.bpf.offsets import macros
from sstrace.sources.bpf.programs import INCIDENTS
from sstrace.sources.btf import Btf
from sstrace.sources.cache import cache_directory
from sstrace.sources.perf import PerfBuffers
from sstrace.sources.tracefs import event_format
from sstrace.table import Row, SocketTable
from sstrace.wire.incident import IncidentDecoder

__all__ = ["Incidents", "untold"]

_PAGES = 64
"""Of each ring: a thousand incidents."""
_DEAD = 1000
"""Rows that have ended and are remembered: the reset of who closes is sent just after its socket has."""
_LOOK_NS = 1_000_000_000
_U32 = (1 << 32) - 1
_DUTY = 50
"""A look at listeners that took t is not repeated before 50 t have passed."""

_HARMLESS = frozenset(
    ("NOT_SPECIFIED", "TCP_OFOMERGE", "TCP_OLD_ACK", "TCP_RESET", "TCP_CLOSE", "SOCKET_CLOSE", "QUEUE_PURGE", "MAX")
)
"""Reasons for which nothing is lost that anybody waits for."""
_REASON = re.compile(r'\{ *(\d+), *"(\w+)" *\}')
_REASONS = 512
"""See bpf/incidents.bpf.c: what its map has room for."""


class Incidents:
    """Of one trace. ``hooks``: None where nothing is heard; ``which``: of --events' words but state.
    Raises what compiling and attaching raises; what this kernel does not tell is in ``limits``.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        hooks: Hooks | None,
        home: Netns,
        which: Collection[str],
        tables: Collection[Table] = (Table.TCP,),
    ) -> None:
        self.limits: list[str] = []
        """What this kernel keeps from us, one sentence each."""
        self.heard = 0
        """Those that have been taken for events of the tracer's: all but what a look finds."""
        self._heard: _Heard | None = None
        self._overflows = _Overflows() if "overflow" in which and Table.TCP in tables else None
        self._dead: OrderedDict[int, Row] = OrderedDict()
        if any(sort.programs for sort in SORTS if sort.word in which):
            if hooks is None:
                self.limits.append("without BPF no retransmission, reset or drop is heard")
            else:
                try:
                    self._heard = _Heard(env, hooks, home, which, tables)
                except FeatureError as error:
                    self.limits.append(f"{error}: no retransmission, reset or drop is heard")
                else:
                    self.limits += self._heard.limits

    @property
    def lost(self) -> int:
        """Incidents for which their buffer had no room."""
        return self._heard.lost if self._heard is not None else 0

    @property
    def holds(self) -> bool:
        """Whether something has come."""
        return self._heard is not None and self._heard.perf.holds

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there is much to read."""
        if self._heard is not None:
            self._heard.perf.register(poll)

    def read(self) -> Iterable[Incident]:
        """What has come."""
        return self._heard.read() if self._heard is not None else ()

    def look(self, places: Iterable[Place], table: SocketTable, *, now: bool = False) -> Iterator[Happened]:
        """What listeners have dropped, if it is time to look, or ``now``."""
        return self._overflows.look(places, table, now=now) if self._overflows is not None else iter(())

    def folder(self, table: SocketTable) -> Callable[[Any], Change | None]:
        """What folds a run of events in: incidents are brought to their rows, all else is the table's."""
        fold, dead = table.folder(), self._dead

        def take(event: Any) -> Change | None:
            if type(event) is Incident:
                self.heard += 1
                return self._joined(event, table)
            change = fold(event)
            if change is not None and change.new == State.CLOSE and change.row.sk is not None:
                dead[change.row.sk] = change.row
                dead.move_to_end(change.row.sk)  # the kernel gives out an address again soon
                if len(dead) > _DEAD:
                    dead.popitem(last=False)
            return change

        return take

    def _joined(self, incident: Incident, table: SocketTable) -> Happened | None:
        """With its row; None where nobody knows it."""
        if not table.takes(incident.net):
            return None
        index = table.shard(Space(incident.net, incident.protocol)).index
        row = index.by_sk.get(incident.sk)
        if row is None and incident.cookie is not None and incident.protocol in DATAGRAMS:
            row = index.by_cookie.get(incident.cookie)
        if row is None or row.dport not in (0, incident.dport):
            row = index.by_ends.get(index.ends_of(incident))
        if row is None:
            row = self._dead.get(incident.sk)
            if row is None or (row.sport, row.dport) != (incident.sport, incident.dport):
                return None
        return Happened(incident.at_ns, row, incident.what, incident.details)

    def close(self) -> None:
        """Detach; harmless when done twice."""
        if self._heard is not None:
            self._heard.close()


class _Heard:
    """Programs that are attached for them, with a buffer of their own."""

    def __init__(
        self,
        env: Mapping[str, str],
        hooks: Hooks,
        home: Netns,
        which: Collection[str],
        tables: Collection[Table],
    ) -> None:
        self.lost = 0
        self.limits: list[str] = []
        programs = [
            program for sort in SORTS if sort.word in which for program in sort.programs if program.table in tables
        ]
        formats = {program.name: _format(program.tracepoint) for program in programs}
        telling = [program for program in programs if program.member in formats[program.name]]
        self.limits += [program.lack for program in programs if program.mute and program not in telling]
        drops = _reasons(formats.get("kfree_skb", ""))
        drops = {number: name for number, name in drops.items() if name not in _HARMLESS}
        resets = _reasons(formats.get("tcp_send_reset", ""))
        resets.pop(0, None)  # NOT_SPECIFIED
        with Btf() as btf:
            found = macros(INCIDENTS.offsets, INCIDENTS.optional, {}, btf)
        found |= {program.macro: 1 for program in telling if program.macro}
        self._loaded, self.perf = ready(
            INCIDENTS, cache_directory(env), lambda loaded: PerfBuffers(loaded, _PAGES), found, shared=hooks.shared()
        )
        try:
            self._decoder = IncidentDecoder(resets, drops, home)
            _tell(self._loaded, drops)
            self._loaded.attach_to([program.name for program in programs])
        except BaseException:
            self.close()
            raise
        for program, why in self._loaded.missing.items():
            self.limits.append(f"this kernel has no tracepoint {program} ({why})")

    def read(self) -> Iterator[Incident]:
        look = self.perf.read()
        self.lost = sum(look.unread)
        for run in look.runs:
            yield from self._decoder.decode(run.data)

    def close(self) -> None:
        self.perf.close()
        self._loaded.close()


def untold() -> list[str]:
    """What this kernel does not tell of incidents, one sentence each. Raises FeatureError and PrivilegeError where that
    cannot be seen.
    """
    programs = [program for sort in SORTS for program in sort.programs]
    event_format(programs[0].tracepoint)
    return [one.lack for one in programs if one.lack and one.member not in _format(one.tracepoint)]


def _format(event: str) -> str:
    try:
        return event_format(event)
    except FeatureError:
        return ""


def _reasons(text: str) -> dict[int, str]:
    return {int(number): name for number, name in _REASON.findall(text)}


def _tell(loaded: Loaded, drops: Iterable[int]) -> None:
    for number in drops:
        if number < _REASONS:
            loaded.update("telling", number, b"\1")


class _Overflows:
    """What listeners have dropped since the look before."""

    def __init__(self) -> None:
        self._drops: dict[int, int] = {}
        """By the listener's row."""
        self._due_ns = 0

    def look(self, places: Iterable[Place], table: SocketTable, *, now: bool = False) -> Iterator[Happened]:
        """Look, if it is time, or ``now``."""
        began = time.monotonic_ns()
        if began < self._due_ns and not now:
            return
        first, before, self._drops = not self._due_ns, self._drops, {}
        for place in places:
            known = table.shard(place.space).index.known
            for socket in place.kernel.listeners():
                row, skmem = known(socket), socket.extras.skmem if socket.extras is not None else None
                if row is None or row.state != State.LISTEN or skmem is None or len(skmem) < 9:
                    continue
                drops = self._drops[row.id] = skmem[8]
                # One that is new has dropped nothing before it was born. The kernel counts in 32 bits.
                more = drops - before.get(row.id, drops if first or row.born_ns is None else 0) & _U32
                if more > 0:
                    details = Details(count=more, queue=socket.recv_q, backlog=socket.send_q)
                    yield Happened(began, row, "overflow", details)
        done = time.monotonic_ns()
        self._due_ns = done + max(_LOOK_NS, _DUTY * (done - began))
