"""Changes of the live table → NDJSON of the native schema (sstrace.lines).

Enters: rows, transitions, losses and repairs as plain values. Leaves: bytes. Keys are stable; a key whose value is not
known is absent, never null and never 0. ``id`` joins the lines of one connection; it is unique within one run.
"""

import errno as _errno
import socket as _socket
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from sstrace.coordinates import name_text
from sstrace.fields import NOTHING, Reported, report
from sstrace.lines import (
    CheckpointLine,
    DroppedLine,
    EventLine,
    GapLine,
    GoneLine,
    LifeLine,
    MarkLine,
    MetaLine,
    NetnsLine,
    OwnerLine,
    ResyncLine,
    SeenLine,
    StateLine,
)
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Owner, Reason
from sstrace.model.workload import Workload, workload
from sstrace.native import twins
from sstrace.plain import spelled
from sstrace.protocols import FAMILY_WORDS, NETID_OF_NUMBER, UNNAMED
from sstrace.render.incidents import HappenedView, incident_line
from sstrace.render.views import NO_LIVES, FarPeer, Lives, NetnsView, PeerView, RowView, TransitionView, Where

__all__ = [
    "EventWriter",
    "Place",
    "address",
    "errno_name",
    "tell",
    "timestamp",
]

_Change = TypeVar("_Change")
_FAMILIES = {family: FAMILY_WORDS[family] for family in (AF_INET, AF_INET6)}


class Place(msgspec.Struct, frozen=True):
    """A cgroup: its path, and what runs in it."""

    path: str | None = None
    work: Workload = workload("")


_STATE, _LIFE = b'{"type":"state"', b'{"type":"life"'
_NOWHERE = Place()
_NO_WORK = _NOWHERE.work


def errno_name(err: int) -> str:
    """ECONNREFUSED, …; the number, of what has no name here."""
    return _errno.errorcode.get(err, str(err))


def tell(line: Any, of: Reported) -> None:
    """Put what was reported into a line."""
    report(line, of)
    if line.err is not None:
        line.errno = errno_name(line.err)


def address(family: int, raw: bytes) -> str:
    """Text of an address, without brackets; of another family than the internet's, of a name."""
    if family not in _FAMILIES:
        return name_text(raw)
    return _socket.inet_ntop(_socket.AF_INET if family == AF_INET else _socket.AF_INET6, raw)


def timestamp(realtime_ns: int) -> str:
    """RFC 3339 of a time since 1970 UTC, with nanoseconds."""
    seconds, nanoseconds = divmod(realtime_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"


class EventWriter:
    """Encodes lines into a buffer. ``offset_ns``: CLOCK_REALTIME minus CLOCK_MONOTONIC. ``cgroup``: id → path, None
    if unknown. ``ifname``: index → name. ``where``: of which namespace a line is shall stand in it.
    """

    def __init__(
        self,
        offset_ns: int,
        cgroup: Callable[[int], str | None],
        ifname: Callable[[int], str] | None = None,
        where: Where | None = None,
    ) -> None:
        self._offset_ns = offset_ns
        self._cgroup = cgroup
        self._ifname = ifname
        self._where = where
        self._encoder = msgspec.json.Encoder()
        self._begin_second(0)
        self._addresses: dict[bytes, str] = {}
        self._owners: dict[tuple[Owner, ...], tuple[OwnerLine, ...]] = {}
        self._places: dict[int, Place] = {}
        # What stands in a line with its keys, for the twin:
        self._owner_texts: dict[tuple[Owner, ...], bytes] = {(): b""}
        self._place_texts: dict[int, bytes] = {}
        self._work_texts: dict[int, bytes] = {}
        self._space_texts: dict[int, bytes] = {}
        self.seq = 0
        self._of_host: str | None = None
        """Of several hosts: which one lines are of."""
        self._twin: Any = None
        self._make_twin()

    def _make_twin(self) -> None:
        if twins is not None and type(self) is EventWriter:
            texts = {
                "addresses": self._addresses,
                "owners": self._owner_texts,
                "places": self._place_texts,
                "works": self._work_texts,
                "states": dict(enumerate(STATE_TEXT)),
                "families": _FAMILIES,
                "protocols": NETID_OF_NUMBER,
                "spaces": self._space_texts if self._where is not None else None,
                "errnos": {err: self._members(errno=name) for err, name in _errno.errorcode.items()},
            }
            self._twin = twins.Liner(texts, NOTHING)

    @property
    def offset_ns(self) -> int:
        """CLOCK_REALTIME minus CLOCK_MONOTONIC; may be set when the clocks have moved against each other."""
        return self._offset_ns

    @offset_ns.setter
    def offset_ns(self, offset_ns: int) -> None:
        self._second_ns += self._offset_ns - offset_ns  # the same second begins then
        self._offset_ns = offset_ns

    def _begin_second(self, at_ns: int) -> None:
        """The texts of timestamps of one second differ in their nanoseconds alone."""
        seconds = (at_ns + self._offset_ns) // 1_000_000_000
        self._second_ns = seconds * 1_000_000_000 - self._offset_ns
        self._prefix = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}."

    def _ts(self, at_ns: int) -> str:
        nanoseconds = at_ns - self._second_ns
        if not 0 <= nanoseconds < 1_000_000_000:
            self._begin_second(at_ns)
            nanoseconds = at_ns - self._second_ns
        return f"{self._prefix}{nanoseconds:09d}Z"

    def _address(self, family: int, raw: bytes) -> str:
        text = self._addresses.get(raw) if family in _FAMILIES else address(family, raw)
        if text is None:
            if len(self._addresses) > 100_000:  # against a scan over all of IPv6
                self._addresses.clear()
            text = self._addresses[raw] = address(family, raw)
        return text

    def _owner_lines(self, owners: tuple[Owner, ...]) -> tuple[OwnerLine, ...]:
        if not owners:
            return ()
        lines = self._owners.get(owners)
        if lines is None:
            if len(self._owners) > 100_000:  # against a host that forks without end
                self._owners.clear()
                self._owner_texts.clear()
                self._owner_texts[()] = b""
            lines = tuple(OwnerLine(spelled(owner.comm), owner.pid, owner.fd, owner.tid) for owner in owners)
            self._owners[owners] = lines
            self._owner_texts[owners] = self._members(owners=lines)
        return lines

    def _place(self, cgroup: int) -> Place:
        place = self._places.get(cgroup)
        if place is None:
            path = self._cgroup(cgroup)
            if path is None:
                return _NOWHERE  # not remembered: it may be found the next time
            if len(self._places) > 10_000:  # against a host that makes cgroups without end
                self._places.clear()
                self._place_texts.clear()
                self._work_texts.clear()
            place = self._places[cgroup] = Place(path, workload(path))
            self._place_texts[cgroup] = self._members(cgroup=path)
            self._work_texts[cgroup] = self._members(**msgspec.structs.asdict(place.work))
        return place

    def _members(self, **members: Any) -> bytes:
        """Members of an object, as they stand behind another one."""
        known = {key: value for key, value in members.items() if value is not None}
        return b"," + self._encoder.encode(known)[1:-1] if known else b""

    def meta(self, line: MetaLine, out: bytearray) -> None:
        """Append the first line."""
        self._put(line, out)

    def enter_host(self, host: str, head: MetaLine, offset_ns: int) -> None:
        """Of several hosts: lines that follow are of this one, whose first line is ``head``, and say so."""
        self.offset_ns = offset_ns
        self._of_host = host
        self._twin = None

    def state(self, change: TransitionView, out: bytearray) -> None:
        """Append a transition."""
        peer = self._where.peer(change.row) if self._where is not None else None
        if (
            peer is None
            and self._twin is not None
            and self._twin.line(change, self._prefix, self._second_ns, self.seq + 1, out)
        ):
            self.seq += 1
            return
        self._encoder.encode_into(self.state_line(change, peer), out, -1)
        out += b"\n"

    @property
    def runs(self) -> bool:
        """Whether ``run`` can be called."""
        return self._twin is not None and self._where is None

    def run(
        self,
        changes: Iterator[_Change],
        protocols: frozenset[int],
        out: bytearray,
        most: int,
        lives: Lives = NO_LIVES,
    ) -> _Change | None:
        """Append transitions of these protocols for as long as they need nothing but their line, and ``out`` has no
        more than ``most`` bytes; the first change that needs more, None where there is none. ``lives``: of ends alone.
        """
        where = self._prefix, self._second_ns, self.seq, out, most
        self.seq, change = self._twin.run(changes, protocols, *where, *lives)
        return change  # type: ignore[no-any-return]

    def state_line(self, change: TransitionView, peer: PeerView | None = None) -> StateLine:
        """The next line: a transition. ``peer``: the other end, in another namespace."""
        # The busiest lines of all: every value is read once, and what few sockets have is filled in afterwards.
        row = change.row
        at_ns, held, family, new = change.at_ns, change.held_ns, row.family, change.new
        cgroup, owners, src, dst, ifindex = row.cgroup, row.owners, row.src, row.dst, row.ifindex
        addresses = self._addresses
        place = _NOWHERE if cgroup is None else self._places.get(cgroup) or self._place(cgroup)
        swept = family not in _FAMILIES
        self.seq = seq = self.seq + 1
        nanoseconds = at_ns - self._second_ns
        line = StateLine(
            f"{self._prefix}{nanoseconds:09d}Z" if 0 <= nanoseconds < 1_000_000_000 else self._ts(at_ns),
            at_ns,
            seq,
            row.id,
            NETID_OF_NUMBER.get(row.protocol, UNNAMED),
            FAMILY_WORDS[family],
            STATE_TEXT[change.old],
            STATE_TEXT[new],
            (None if swept else addresses.get(src)) or self._address(family, src),
            row.sport,
            (None if swept else addresses.get(dst)) or self._address(family, dst),
            row.dport,
            row.netns,
            held / 1000 if held is not None else None,
            row.ino or None,
            row.cookie,
            row.uid,
            ifindex or None,
            place.path,
            (self._owners.get(owners) or self._owner_lines(owners)) if owners else (),
            row.owner_source,
            change.cause,
            change.approximate,
            row.v6only,
            self._ifname_of(row) if ifindex else None,
            change.source,
            row.role,
            change.ended,
        )
        if swept:
            line.exact = False if change.approximate else None
            line.peer_owners = self._owner_lines(row.peer_owners)
        if change.reported is not NOTHING:
            tell(line, change.reported)
        if change.lifetime_ns is not None:
            line.lifetime_us = change.lifetime_ns / 1000
        if place.work is not _NO_WORK:
            work = place.work
            line.container_id, line.container_runtime = work.container_id, work.container_runtime
            line.unit, line.pod_uid = work.unit, work.pod_uid
        if self._where is not None:
            self._tell_where(self._where, line, row, peer)
            line.host = self._of_host
        return line

    def life(self, change: TransitionView, handshake_ns: int | None, out: bytearray) -> None:
        """Append the transition with which a connection ends, as a line about all of its life: that transition's, by
        another type, and how long the handshake took.
        """
        begin = len(out)
        EventWriter.state(self, change, out)
        out[begin : begin + len(_STATE)] = _LIFE
        if handshake_ns is not None:
            out[-2:] = b',"handshake_us":%s}\n' % self._encoder.encode(handshake_ns / 1000)

    def life_line(self, change: TransitionView, handshake_ns: int | None) -> LifeLine:
        """The same as an object."""
        line = self.state_line(change, self._where.peer(change.row) if self._where is not None else None)
        values = {name: getattr(line, name) for name in line.__struct_fields__}
        return LifeLine(**values, handshake_us=handshake_ns / 1000 if handshake_ns is not None else None)

    def _tell_where(self, where: Where, line: Any, row: RowView, peer: PeerView | None) -> None:
        """Have a line, of any schema, say in which network namespace it is, and its other end."""
        label = where.label(row.net)
        line.netns_name, line.pod, line.pod_namespace = label.netns_name, label.pod, label.pod_namespace
        if row.net not in self._space_texts:
            self._space_texts[row.net] = self._members(
                netns_name=line.netns_name, pod=line.pod, pod_namespace=line.pod_namespace
            )
        if peer is not None:
            line.peer_owners = self._owner_lines(peer.owners)
            if isinstance(peer, FarPeer):
                line.peer_host = peer.host
            else:
                line.peer_netns = peer.netns

    def _ifname_of(self, row: RowView) -> str | None:
        if self._where is not None:
            return self._where.ifname(row.net, row.ifindex)
        return self._ifname(row.ifindex) if self._ifname is not None else None

    def netns(self, news: NetnsView, out: bytearray) -> None:
        """Append the news of a network namespace."""
        if self._space_texts.pop(news.netns.cookie, None) is not None:
            self._make_twin()  # it remembers texts
        self.seq += 1
        self._put(self._netns(news), out)

    def _netns(self, news: NetnsView) -> NetnsLine:
        label = news.label
        return NetnsLine(
            ts=self._ts(news.at_ns),
            mono_ns=news.at_ns,
            seq=self.seq,
            event=news.what,
            netns=news.netns.inode,
            netns_cookie=news.netns.cookie,
            ephemeral=news.ephemeral,
            **{name: getattr(label, name) for name in label.__struct_fields__},
        )

    def seen(self, row: RowView, at_ns: int, out: bytearray) -> None:
        """Append a row of the baseline."""
        self.seq += 1
        self._put(self._seen(row, at_ns), out)

    def _seen(self, row: RowView, at_ns: int) -> SeenLine:
        place = _NOWHERE if row.cgroup is None else self._place(row.cgroup)
        line = SeenLine(
            ts=self._ts(at_ns),
            mono_ns=at_ns,
            seq=self.seq,
            id=row.id,
            netid=NETID_OF_NUMBER.get(row.protocol, UNNAMED),
            family=FAMILY_WORDS[row.family],
            state=STATE_TEXT[row.state],
            src=self._address(row.family, row.src),
            sport=row.sport,
            dst=self._address(row.family, row.dst),
            dport=row.dport,
            netns=row.netns,
            ino=row.ino or None,
            sk=row.cookie,
            uid=row.uid,
            ifindex=row.ifindex or None,
            v6only=row.v6only,
            cgroup=place.path,
            owners=self._owner_lines(row.owners),
            owner_source=row.owner_source,
            ifname=self._ifname_of(row) if row.ifindex else None,
            held_us=(at_ns - row.since_ns) / 1000 if row.exact else None,
            role=row.role,
            exact=None if row.family in _FAMILIES else False,
            peer_owners=self._owner_lines(row.peer_owners),
            **msgspec.structs.asdict(place.work),
        )
        if self._where is not None:
            self._tell_where(self._where, line, row, self._where.peer(row))
        return line

    def incident(self, happened: HappenedView, out: bytearray) -> None:
        """Append what hurt a connection."""
        self.seq += 1
        self._put(incident_line(happened, self._seen(happened.row, happened.at_ns)), out)

    def checkpoint(
        self, places: Collection[NetnsView], rows: Collection[RowView], at_ns: int, unwritten: int, out: bytearray
    ) -> None:
        """Append the whole table for readers who start here."""
        line = CheckpointLine(
            ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, rows=len(rows), places=len(places) or None,
            unwritten=unwritten or None,
        )  # fmt: skip
        self._put(line, out)
        for place in places:
            self._put(self._netns(place), out)
        for row in rows:
            self._put(self._seen(row, at_ns), out)

    def mark(self, at_ns: int, out: bytearray) -> None:
        """Append that nothing more has happened."""
        self._put(MarkLine(ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq), out)

    def gone(self, row_id: int, state: int, at_ns: int, out: bytearray) -> None:
        """Append the end of a row whose end was lost."""
        self.seq += 1
        line = GoneLine(ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, id=row_id, state=STATE_TEXT[state])
        self._put(line, out)

    def gap(self, cpu: int, count: int, after_ns: int, before_ns: int, out: bytearray) -> None:
        """Append a loss."""
        self.seq += 1
        self._put(
            GapLine(
                ts=self._ts(before_ns),
                mono_ns=before_ns,
                seq=self.seq,
                cpu=cpu,
                count=count,
                after_ns=after_ns,
                before_ns=before_ns,
            ),
            out,
        )

    def resync(self, at_ns: int, counts: tuple[int, int, int], out: bytearray) -> None:
        """Append a repair: rows added, removed, changed. They follow, as ``gone`` and ``seen``."""
        self.seq += 1
        added, removed, changed = counts
        self._put(
            ResyncLine(ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, added=added, removed=removed, changed=changed),
            out,
        )

    def dropped(self, at_ns: int, count: int, reason: Reason, out: bytearray) -> None:
        """Append that ``count`` lines are missing; their numbers have been passed over (``skip``)."""
        self.seq += 1
        line = DroppedLine(
            ts=self._ts(at_ns), mono_ns=at_ns, seq=self.seq, count=count, first_seq=self.seq - count, reason=reason
        )
        self._put(line, out)

    def skip(self, count: int = 1) -> None:
        """Pass over the numbers of lines that will not be written."""
        self.seq += count

    def _put(self, line: EventLine, out: bytearray) -> None:
        if self._of_host is not None:
            line.host = self._of_host
        self._encoder.encode_into(line, out, -1)
        out += b"\n"
