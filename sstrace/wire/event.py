"""Perf records of the BPF programs → Facts. The other side of bpf/event.h.

Enters: runs of perf records of one CPU (struct perf_event_header: u32 type, u16 misc, u16 size; native byte order).
Leaves: ``Changed``, ``Gone``, ``Called`` and ``Lived``, in the run's order; PERF_RECORD_LOST is passed over, since the
programs count what they cannot deliver themselves, at once and exactly (sources.perf). A sample's payload is padded
(perf rounds records up to 8 bytes), so a record of our size stands in a fixed stride; a run that holds nothing else is
unpacked in one sweep.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Protocol

from sstrace.errors import DecodeError
from sstrace.fields import KINDS, NOTHING, RECORD, REPORTED, Flag, Reported, reported
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Call, Called, Changed, Gone, Kind, Lived, Netns, Owner, State
from sstrace.native import twins
from sstrace.protocols import IPPROTO_MPTCP
from sstrace.wire.cause import PLAIN_CAUSES, CauseReader
from sstrace.wire.lives import LIVES, lived

__all__ = ["SIZE", "Event", "EventDecoder", "as_sample", "record_of", "samples"]


class Event(Protocol):
    """A Fact, or what becomes one."""

    @property
    def at_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        ...


Heard = Changed | Gone | Called | Lived
"""What is told by an event."""

_CODES = "".join(code for _, code in RECORD)
SIZE = struct.calcsize("=" + _CODES)

_HEADER = struct.Struct("=IHH")
_RAW_SIZE = struct.Struct("=I")
_RECORD_SAMPLE = 9

_STRIDE = (_HEADER.size + _RAW_SIZE.size + SIZE + 7) // 8 * 8
_LEAD = _HEADER.size + _RAW_SIZE.size


def record_of(wanted: Callable[[str], bool]) -> struct.Struct:
    """What unpacks these members of a record, and passes over the others."""
    codes = (code if wanted(name) else f"{struct.calcsize('=' + code)}x" for name, code in RECORD)
    return struct.Struct(f"={_LEAD}x{''.join(codes)}{_STRIDE - _LEAD - SIZE}x")


_SAMPLE = record_of(lambda name: name not in (*REPORTED, "file", "shutdown"))
_REPORTED = record_of(lambda name: name in REPORTED)
_CALLED = record_of(
    frozenset((
        "ts_ns", "sk", "cookie", "ino", "cgroup", "since_ns", "net_cookie", "bytes_sent", "bytes_received", "netns",
        "uid", "tgid", "fd", "ifindex", "segs_out", "segs_in", "size", "family", "protocol", "sport", "dport", "old",
        "new", "flags", "shutdown", "saddr", "daddr", "comm",
    )).__contains__
)  # fmt: skip
_CLOSED = Call.CLOSE.value
_UNFIT = "bpf/ and sstrace/ are from different builds"
_AT = attrgetter("at_ns")
_KIND = _LEAD + struct.calcsize("=" + "".join(code for _, code in RECORD[: [name for name, _ in RECORD].index("kind")]))
_DATAGRAM = KINDS["EVENT_DATAGRAM"]
_KTHREAD, _MISSED, _ORPHANED, _V6ONLY = Flag.KTHREAD, Flag.MISSED, Flag.ORPHANED, Flag.V6ONLY
_FORGOTTEN = Flag.FORGOTTEN
_STRIDE_LOW = _STRIDE & 0xFF
_GOOD_BYTES = (
    (0, bytes((_RECORD_SAMPLE,))),
    (6, bytes((_STRIDE_LOW,))),
    (8, bytes(range(SIZE & 0xFF, (SIZE & 0xFF) + 8))),
    (9, bytes((SIZE >> 8,))),
)
"""Offset in a record of ours, and what the byte there may be: the low bytes of type, size and the sample's size."""

_CLOSE, _LISTEN = int(State.CLOSE), int(State.LISTEN)
_BY_CALL = frozenset(map(int, (State.SYN_SENT, State.LISTEN, State.FIN_WAIT1, State.LAST_ACK)))
"""States into which a socket goes by a system call of its owner: connect, listen, shutdown or close."""
_CALLS = {call.value: call for call in Call}
_SOCKET, _REQUEST, _TIMEWAIT = Kind.SOCKET, Kind.REQUEST, Kind.TIMEWAIT
_STATES = len(STATE_TEXT)


_NOWHERE = Netns(0, 0)
_MOST = 100_000
"""Of addresses and owners that are remembered, against a port scan over all of IPv6, and a host that forks without end;
they are made anew at once.
"""


class EventDecoder:
    """Decodes one tracer's events. ``causes`` reads the stacks of this boot's kernel; ``netns`` is meant where the
    programs say none: they cannot know it, or are to hear of that one alone.
    """

    def __init__(self, causes: CauseReader, netns: Netns = _NOWHERE) -> None:
        self._causes = causes
        self._netns = netns
        self._owners: dict[tuple[bytes, int, int], Owner] = {}
        self._addresses: dict[bytes, bytes] = {}
        self._lent = self._facts, self._addresses, self._owner, self._owners, causes.cause, PLAIN_CAUSES
        """What native/event.c makes an event's values with."""

    def decode(self, cpu: int, data: bytes) -> list[Heard]:
        """Facts of one CPU's run. Raises DecodeError where the bytes are not whole records of ours."""
        facts: list[Heard] = []
        for stretch in samples(data):
            facts += self._facts(cpu, stretch)
        return facts

    def events(self, cpu: int, data: bytes) -> list[Event]:
        """The same for who folds them into a table (SocketTable.folder): with a twin, they are no facts yet. Births
        that are told with an end stand before it, and not in the order of time.
        """
        if len(self._addresses) > _MOST:
            self._addresses.clear()
        events: list[Event] = []
        for stretch in samples(data):
            packed = twins.events(self._lent, stretch, cpu) if twins is not None else None
            events += packed if packed is not None else self._facts(cpu, stretch)
        return events

    def births(self, records: Iterable[bytes]) -> list[Event]:
        """Of what came some other way than by the ring."""
        return self.events(0, b"".join(map(as_sample, records)))

    def forget(self) -> None:
        """Let go of what was decoded before, and is kept because it may come again."""
        self._addresses.clear()
        self._owners.clear()
        self._causes.forget()

    def _facts(self, cpu: int, data: bytes) -> list[Heard]:
        called, others = _apart(data)
        facts = self._samples(cpu, others)
        if called:
            facts += self._called(cpu, called)
            facts.sort(key=_AT)
        return facts

    def _called(self, cpu: int, data: bytes) -> list[Called]:
        """Of samples that are of datagram sockets: whose birth is told with their end are two facts."""
        addresses, owners, (home, here) = self._addresses, self._owners, self._netns
        facts: list[Called] = []
        append = facts.append
        for (
            at, sk, cookie, ino, cgroup, since, net_cookie, sent, received, netns, uid, tgid, fd, ifindex, segs_out,
            segs_in, size, family, protocol, sport, dport, old, new, flags, birth, saddr, daddr, comm,
        ) in _CALLED.iter_unpack(data):  # fmt: skip
            if size != SIZE:
                raise DecodeError(f"BPF event says {size} bytes, not {SIZE}: {_UNFIT}")
            born = since if old == _CLOSED else 0
            if old not in _CALLS or new >= _STATES or (born and birth not in _CALLS):
                raise DecodeError(f"BPF event of call {old} or {birth}, state {new}: {_UNFIT}")
            net = net_cookie or (home if netns in (0, here) else netns)
            if family == AF_INET:
                src = addresses.get(saddr) or addresses.setdefault(saddr, saddr[:4])
                dst = addresses.get(daddr) or addresses.setdefault(daddr, daddr[:4])
                v6only = None
            else:
                src, dst, v6only = saddr, daddr, flags & _V6ONLY != 0
            owner = None
            if tgid and not flags & _KTHREAD:
                owner = owners.get((comm, tgid, fd)) or self._owner(comm, tgid, fd)
            besides = NOTHING
            if sent:
                besides = Reported(
                    bytes_sent=sent - 1, bytes_received=received - 1, segs_out=segs_out - 1, segs_in=segs_in - 1
                )
            whose = (
                sk, cookie, ino or None, net, netns or here, family, protocol, src, sport, dst, dport, uid, ifindex,
                owner, cgroup or None, v6only,
            )  # fmt: skip
            if born:
                append(Called(born, cpu, _CALLS[birth], new, *whose, NOTHING))
                append(Called(at, cpu, _CALLS[old], 0, *whose, besides))
            else:
                append(Called(at, cpu, _CALLS[old], new, *whose, besides))
        return facts

    def _samples(self, cpu: int, data: bytes) -> list[Heard]:
        addresses, owners, read_cause = self._addresses, self._owners, self._causes.cause
        if len(addresses) > _MOST:
            addresses.clear()
        home, here = self._netns
        facts: list[Heard] = []
        append = facts.append
        cause: str | None
        for (
            (
                at, sk, cookie, ino, cgroup, since, net_cookie, netns, uid, tgid, fd, ifindex, size, family, protocol,
                sport, dport, kind, old, new, flags, saddr, daddr, comm, stack,
            ),
            carried,
        ) in zip(_SAMPLE.iter_unpack(data), _REPORTED.iter_unpack(data), strict=True):  # fmt: skip
            besides = reported(carried)
            net = net_cookie or (home if netns in (0, here) else netns)
            if family == AF_INET:
                src = addresses.get(saddr) or addresses.setdefault(saddr, saddr[:4])
                dst = addresses.get(daddr) or addresses.setdefault(daddr, daddr[:4])
            else:
                src, dst = saddr, daddr
            if kind == 0:
                owner = cause = None
                if new == _CLOSE:
                    cause, by_call = read_cause(stack, old, _SOCKET, flags, besides.err or 0)
                else:
                    by_call = new in _BY_CALL
                if by_call and tgid and not flags & _KTHREAD:
                    owner = owners.get((comm, tgid, fd)) or self._owner(comm, tgid, fd)
                append(
                    Changed(
                        at, cpu, _SOCKET, old, new, sk, cookie or None, ino or None, net, netns or here,
                        family, protocol, src, sport, dst, dport, uid, ifindex, since or None, owner,
                        cgroup or None, cause, besides, flags & _ORPHANED != 0 or (ino == 0 and netns != 0),
                        flags & _V6ONLY != 0 if new == _LISTEN and netns and family == AF_INET6 else None,
                        None, protocol == IPPROTO_MPTCP and flags & _FORGOTTEN != 0,
                    )
                )  # fmt: skip
            elif kind in (1, 3):
                which = _REQUEST if kind == 1 else _TIMEWAIT
                append(
                    Changed(
                        at, cpu, which, old, new, sk, cookie or None, None, net, netns, family, protocol,
                        src, sport, dst, dport, uid, ifindex, None, None, None, None, besides,
                        False, None, (ino or None) if kind == 1 else None,
                    )
                )  # fmt: skip
            elif kind in (2, 4):
                which = _REQUEST if kind == 2 else _TIMEWAIT
                if flags & _MISSED:
                    reason = "listener-closed"
                else:
                    reason, _ = read_cause(stack, old, which, flags)
                append(
                    Gone(
                        at,
                        cpu,
                        which,
                        sk,
                        cookie or None,
                        net,
                        netns,
                        family,
                        protocol,
                        src,
                        sport,
                        dst,
                        dport,
                        ifindex,
                        reason,
                        besides,
                    )
                )
            elif kind in LIVES:
                owner = owners.get((comm, tgid, fd)) or self._owner(comm, tgid, fd) if tgid else None
                cause, by_call = read_cause(b"", old, _SOCKET, flags, besides.err or 0)
                event = Changed(
                    at, cpu, _SOCKET, old, new, sk, cookie or None, ino or None, net, netns or here, family, protocol,
                    src, sport, dst, dport, uid, ifindex, since or None, owner, cgroup or None, None, besides,
                )  # fmt: skip
                append(lived(kind, event, stack, (cause, by_call and not flags & _KTHREAD)))
            else:
                raise DecodeError(f"BPF event of unknown kind {kind}: bpf/ and sstrace/ are from different builds")
            if size != SIZE:
                raise DecodeError(
                    f"BPF event says {size} bytes, not {SIZE}: bpf/ and sstrace/ are from different builds"
                )
            if old >= _STATES or new >= _STATES:
                raise DecodeError(f"BPF event from state {old} to {new}: no such TCP state is known")
        return facts

    def _owner(self, comm: bytes, tgid: int, fd: int) -> Owner:
        if len(self._owners) > _MOST:
            self._owners.clear()
        # As /proc/PID/stat is read by ss: up to the first closing parenthesis.
        owner = Owner(comm.split(b"\0", 1)[0].split(b")", 1)[0], tgid, fd if fd >= 0 else None)
        self._owners[comm, tgid, fd] = owner
        return owner


def _apart(data: bytes) -> tuple[bytes, bytes]:
    """The samples of a stretch that are of datagram sockets, and the others."""
    kinds = data[_KIND::_STRIDE]
    count = kinds.count(_DATAGRAM)
    if count in (0, len(kinds)):
        return (data, b"") if count else (b"", data)
    called: list[bytes] = []
    others: list[bytes] = []
    for place, kind in enumerate(kinds):
        (called if kind == _DATAGRAM else others).append(data[place * _STRIDE : (place + 1) * _STRIDE])
    return b"".join(called), b"".join(others)


def as_sample(event: bytes) -> bytes:
    """A struct sock_event that came some other way, as the ring would have brought it."""
    return (_HEADER.pack(_RECORD_SAMPLE, 0, _STRIDE) + _RAW_SIZE.pack(SIZE) + event).ljust(_STRIDE, b"\0")


def samples(data: bytes) -> Iterator[bytes]:
    """The samples of a run, in stretches that ``record_of`` unpacks. Raises DecodeError where there is something else
    than whole records of ours, and of perf's own.
    """
    count, rest = divmod(len(data), _STRIDE)
    # All records are ours when every stride begins with a sample header of just this size: by induction from the first.
    if rest == 0 and data[::_STRIDE].count(_RECORD_SAMPLE) == count and data[6::_STRIDE].count(_STRIDE_LOW) == count:
        yield data
        return
    at = 0
    while at < len(data):
        # A stretch of our records, by the same induction; then one record that is looked at by itself.
        stretch = (len(data) - at) // _STRIDE
        for offset, good in _GOOD_BYTES:
            column = data[at + offset :: _STRIDE]
            stretch = min(stretch, len(column) - len(column.lstrip(good)))
        if stretch:
            end = at + stretch * _STRIDE
            yield data[at:end]
            at = end
            continue
        kind, size = _record(data, at)
        if kind == _RECORD_SAMPLE:
            (length,) = _RAW_SIZE.unpack_from(data, at + _HEADER.size)
            if not SIZE <= length < SIZE + 8 or size != _STRIDE:
                raise DecodeError(
                    f"BPF event of {length} bytes where {SIZE} are due: bpf/ and sstrace/ are from different builds"
                )
            yield data[at : at + size]
        at += size


def _record(data: bytes, at: int) -> tuple[int, int]:
    """(type, size) of the perf record at an offset."""
    if at + _HEADER.size > len(data):
        raise DecodeError(f"perf record at byte {at}: {len(data) - at} bytes left, its header needs {_HEADER.size}")
    kind, _, size = _HEADER.unpack_from(data, at)
    if size < _HEADER.size or at + size > len(data):
        raise DecodeError(f"perf record at byte {at} says {size} bytes, {len(data) - at} are left")
    if kind == _RECORD_SAMPLE and size < _HEADER.size + _RAW_SIZE.size:
        raise DecodeError(f"perf sample at byte {at} of {size} bytes has no room for its own size")
    return kind, size
