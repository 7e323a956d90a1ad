"""What connections carried, as ``--metrics`` counts it: bytes and segments, by labels that are asked for.

A connection is counted at its end, and before that as often as somebody has looked what it has carried so far. How many
sets of labels there are is bounded: what comes when ``MOST`` are known stands under ``other``, so that a host with any
number of containers, ports or programs costs its Prometheus no more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import Any, Final, NamedTuple

import msgspec

from sstrace.fields import Reported
from sstrace.model import AF_INET
from sstrace.model.workload import Workload, workload
from sstrace.plain import spelled
from sstrace.protocols import NETID_OF_NUMBER, UNNAMED
from sstrace.render.views import RowView, TransitionView, Where

__all__ = ["CONNECTIONS", "DATAGRAMS", "Carried", "Counter", "Described"]

MOST = 1000
OTHER = "other"

_NO_WORK = Workload()


class Sum(msgspec.Struct, gc=False):
    """Of one set of labels."""

    bytes_sent: int = 0
    bytes_received: int = 0
    bytes_retrans: int = 0
    segs_out: int = 0
    segs_in: int = 0
    retrans: int = 0


_MEMBERS = Sum.__struct_fields__
_NONE = (0,) * len(_MEMBERS)
_SO_FAR = Struct(f"={len(_MEMBERS)}Q")
"""What has been counted of one connection: a third of the memory that its numbers would take."""


class Counter(NamedTuple):
    """A counter: its name, what it says, and by direction what of ``Sum`` it shows."""

    name: str
    text: str
    ways: Mapping[str, str]


_OURS = "of connections: of those that have ended all, of the others as far as they were looked at"
_BYTES = {"sent": "bytes_sent", "received": "bytes_received"}
_SEGMENTS = {"sent": "segs_out", "received": "segs_in"}
CONNECTIONS: Final = (
    Counter("bytes", f"Payload, each byte once, {_OURS}.", _BYTES),
    Counter("segments", f"Segments {_OURS}.", _SEGMENTS),
    Counter("retransmitted_bytes", f"Payload that was sent again, {_OURS}.", {"": "bytes_retrans"}),
    Counter("retransmitted_segments", f"Segments that were sent again, {_OURS}.", {"": "retrans"}),
)
DATAGRAMS: Final = (
    Counter("datagram_bytes", "Payload of datagram sockets that are closed.", _BYTES),
    Counter("datagrams", "Datagrams that they sent and received, a call each.", _SEGMENTS),
)


class Described:
    """What may be asked of a row for a label: ``port``, ``unit``, ``container``, ``pod``, ``netns``, ``owner``.
    ``cgroup``: id → path, None if unknown.
    """

    def __init__(self, cgroup: Callable[[int], str | None], where: Where | None) -> None:
        self._cgroup = cgroup
        self._where = where
        self._works: dict[int, Workload] = {}

    def protocol(self, row: RowView) -> str:
        """As ss calls it."""
        return NETID_OF_NUMBER.get(row.protocol, UNNAMED)

    def port(self, row: RowView) -> str:
        """The one that was called: the lower one where nobody saw who called."""
        lower = min(row.sport, row.dport) or row.sport  # a datagram socket may have no peer
        return str({"client": row.dport, "server": row.sport, None: lower}[row.role] or "")

    def unit(self, row: RowView) -> str:
        """The systemd unit."""
        return self._work(row).unit or ""

    def container(self, row: RowView) -> str:
        """The container's id, whole."""
        return self._work(row).container_id or ""

    def pod(self, row: RowView) -> str:
        """The Kubernetes pod, as its network namespace tells; else its uid, as the cgroup does."""
        label = self._where.label(row.net) if self._where is not None else None
        return (label.pod if label is not None else None) or self._work(row).pod_uid or ""

    def netns(self, row: RowView) -> str:
        """The network namespace's name, where there are several; its inode otherwise."""
        return self._where.label(row.net).text(row.netns) if self._where is not None else str(row.netns)

    def owner(self, row: RowView) -> str:
        """The name of the first process that held it last."""
        return spelled(row.owners[0].comm) if row.owners else ""

    def _work(self, row: RowView) -> Workload:
        if row.cgroup is None:
            return _NO_WORK
        found = self._works.get(row.cgroup)
        if found is None:
            path = self._cgroup(row.cgroup)
            if path is None:
                return _NO_WORK
            if len(self._works) > 10_000:  # against a host that makes cgroups without end
                self._works.clear()
            found = self._works[row.cgroup] = workload(path)
        return found


class Carried:
    """Counts what connections carry. ``by``: names of ``Described``'s methods, which are the labels' names;
    ``what``: the counters.
    """

    def __init__(self, by: tuple[str, ...], described: Described, what: tuple[Counter, ...] = CONNECTIONS) -> None:
        self._by = by
        self._what = what
        self._ask: list[Callable[[RowView], str]] = [getattr(described, name) for name in by]
        self._sums: dict[tuple[str, ...], Sum] = {}
        self._so_far: dict[int, bytes] = {}
        """What has been counted of those that have not ended, by their rows' ids."""

    def count(self, end: TransitionView) -> None:
        """The transition with which a connection ends."""
        before = self._so_far.pop(end.row.id, None)
        if end.reported.segs_out is not None:  # it is None of a half-open one, and of one that was not read
            self._add(end.row, end.reported, before)

    def look(self, living: Iterable[tuple[RowView, Reported]], alive: Callable[[int], bool]) -> None:
        """What connections have carried so far that have not ended; ``alive``: whether a row is still there."""
        seen = False
        for row, reported in living:
            seen = True
            counted = self._add(row, reported, self._so_far.get(row.id))
            self._so_far[row.id] = _SO_FAR.pack(*counted)
        if seen:  # the ends of some were lost
            self._so_far = {number: counted for number, counted in self._so_far.items() if alive(number)}

    def _add(self, row: RowView, reported: Reported, before: bytes | None) -> list[int]:
        """Count what is more than before; how much has been counted then."""
        key = ("inet" if row.family == AF_INET else "inet6", *(ask(row) for ask in self._ask))
        into = self._sums.get(key) or self._sum(key)
        counted = []
        for name, known in zip(_MEMBERS, _NONE if before is None else _SO_FAR.unpack(before), strict=True):
            now = max(getattr(reported, name) or 0, known)
            setattr(into, name, getattr(into, name) + now - known)
            counted.append(now)
        return counted

    def _sum(self, key: tuple[str, ...]) -> Sum:
        if len(self._sums) >= MOST:
            key = (key[0], *(OTHER for _ in self._by))
        return self._sums.setdefault(key, Sum())

    def families(self) -> Iterator[Any]:
        """Counters, as prometheus_client has them."""
        from prometheus_client.core import CounterMetricFamily

        sums = sorted(self._sums.items())
        for name, text, ways in self._what:
            directed = ("direction",) if "" not in ways else ()
            counter = CounterMetricFamily(f"sstrace_{name}", text, labels=("family", *directed, *self._by))
            for (family, *labels), one in sums:
                for way, member in ways.items():
                    counter.add_metric((family, *((way,) if way else ()), *labels), getattr(one, member))
            yield counter
