"""The compiled twins do what the Python does: the same transitions, the same table, the same bytes.

Each test runs both over the same records. They are the kernel model's, made into bytes: connections that live by the
rules of TCP, with addresses that are used again, cookies that come late, reports that get lost, and sweeps in between.
"""

import errno
import gc
import json
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import chain
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dumps
import msgspec
import pytest
from bpf_events import EVENT, HERE, NETNS, SPACE, sample, state
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_model import MAPPED, Kernel

from sstrace import fields as border
from sstrace.changes import Told
from sstrace.errors import DecodeError
from sstrace.fields import NOTHING, RECORD, REPORTED, Reported
from sstrace.lifecycle import STEPS, Report, Rule, Step, raw, udp
from sstrace.live.announce import Announcer
from sstrace.model import (
    AF_INET,
    AF_INET6,
    Call,
    Changed,
    Gone,
    InetSocket,
    Kind,
    Lost,
    Owner,
    Seen,
    Space,
    State,
    SweepBegin,
    SweepEnd,
    Table,
)
from sstrace.native import INTERFACE, twins
from sstrace.output.handshakes import Handshakes
from sstrace.output.printer import Printer
from sstrace.query.command import Command
from sstrace.query.options import parse, resolve
from sstrace.render import events as rendering
from sstrace.render import layout
from sstrace.render.events import EventWriter
from sstrace.sources.names import SystemNames
from sstrace.table import Resync, Row, SocketTable, Transition
from sstrace.table.owning import inherited
from sstrace.table.table import CLASSES, taught
from sstrace.wire import inet_columns, inet_diag
from sstrace.wire.cause import CauseReader
from sstrace.wire.event import EventDecoder

DATA = Path(__file__).resolve().parents[1] / "data"
KINDS = {
    (Changed, Kind.SOCKET): "EVENT_STATE",
    (Changed, Kind.REQUEST): "EVENT_REQUEST",
    (Gone, Kind.REQUEST): "EVENT_REQUEST_GONE",
    (Changed, Kind.TIMEWAIT): "EVENT_TIMEWAIT",
    (Gone, Kind.TIMEWAIT): "EVENT_TIMEWAIT_GONE",
}
PLAIN = {(State.LAST_ACK, 0), (State.ESTABLISHED, errno.ECONNRESET), (State.ESTABLISHED, 0)}
PREFIX = bytes.fromhex("20010db80000000000000000")
TCP = frozenset({6})
PATHS = {11: "/", 12: "/system.slice/web.service", 13: '/odd/"\u00fc"'}

if twins is None and not (os.environ.get("CI") or os.environ.get("SSTRACE_REQUIRE")):
    pytest.skip("the twins have not been built", allow_module_level=True)


def test_they_are_built_and_current() -> None:
    assert twins is not None
    assert twins.INTERFACE == INTERFACE


def test_a_module_of_other_sources_is_not_used(tmp_path: Path) -> None:
    for interface in (INTERFACE, INTERFACE + 1):
        (tmp_path / "_sstrace.py").write_text(f"INTERFACE = {interface}\n")
        words = [sys.executable, "-c", "from sstrace.native import twins; print(twins is not None)"]
        env = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}  # two of one size, in one second
        done = subprocess.run(words, env=env, capture_output=True, check=True)
        assert done.stdout == f"{interface == INTERFACE}\n".encode()


# Events.


def pack(fact: Changed | Gone, chance: random.Random) -> bytes:
    """A sample of which this fact could have come; what a fact does not say is made up."""
    fields: dict[str, Any] = {
        "ts_ns": fact.at_ns, "sk": fact.sk, "cookie": fact.cookie or 0, "netns": fact.netns, "family": fact.family,
        "saddr": fact.src, "sport": fact.sport, "daddr": fact.dst, "dport": fact.dport,
        "retransmits": chance.choice((0, 0, 3)),
    }  # fmt: skip
    if isinstance(fact, Changed):
        fields |= {"ino": fact.ino or fact.listener or 0, "uid": fact.uid, "old": fact.old, "new": fact.new}
    if isinstance(fact, Changed) and fact.kind is Kind.SOCKET:
        fields["cgroup"] = chance.choice((0, 0, 11, 12, 13))
        fields["flags"] = chance.choice((0, 0, 8)) if fact.new != State.LISTEN else 0
        if chance.random() < 0.6:
            fields |= {"tgid": chance.choice((70, 71)), "fd": chance.choice((-1, 4, 5))}
            fields["comm"] = chance.choice((b'na\xefve"q', b"renamed"))
            fields["flags"] |= chance.choice((0, 0, 1))
        if fact.new == State.CLOSE:
            fields["err"] = chance.choice((0, errno.ECONNRESET, errno.ETIMEDOUT))
            fields["flags"] |= 128 if (fact.old, fields["err"]) in PLAIN and chance.random() < 0.7 else 0
        if fact.old == State.CLOSE and chance.random() < 0.2:
            fields["since_ns"] = fact.at_ns - 25
        if chance.random() < 0.05:
            fields |= chance.choice(({"ifindex": 3}, {"protocol": 262}, {"netns": 0}, {"netns": 4026532999}))
    return state(KINDS[type(fact), fact.kind], **fields)


def story(seed: int, steps: int, *, loss: float = 0.0) -> Iterator[bytes | list[Seen]]:
    """What a kernel does: the samples of some events, or a dump in the midst of it. Of odd seeds, its IPv6 is no mapped
    IPv4.
    """
    kernel, chance = Kernel(seed, loss=loss), random.Random(seed)

    def real(of: Any) -> Any:
        if seed % 2 == 0 or not of.src.startswith(MAPPED):
            return of
        return msgspec.structs.replace(of, src=PREFIX + of.src[12:], dst=PREFIX + of.dst[12:])

    for _ in range(steps):
        kernel.step()
        if chance.random() < 0.01:
            yield b"".join(pack(real(fact), chance) for fact in kernel.facts)
            kernel.facts.clear()
            yield [Seen(SPACE, real(socket)) for socket in kernel.dump()]
    kernel.end_all()
    yield b"".join(pack(real(fact), chance) for fact in kernel.facts)


@contextmanager
def without_twins() -> Iterator[None]:
    """The Python alone."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("wire.event", "table.table", "table.sweep", "render.events"):
            patch.setattr(sys.modules[f"sstrace.{module}"], "twins", None)
        yield


class Corridor:
    """Decoder, table, telling and writer: all with their twins, or all without."""

    def __init__(self, *, native: bool) -> None:
        self.world = nullcontext if native else without_twins
        with self.world():
            self.decoder = EventDecoder(CauseReader(lambda _name: ()), HERE)
            self.table = SocketTable(HERE)
            self.writer = EventWriter(1_700_000_000_000_000_000, PATHS.get, lambda index: f"if{index}")
        self.announcer = Announcer(self.table)
        self.out = bytearray()
        self.changes: list[Any] = []
        self.unusual = 0
        """Messages of dumps that the twin has left to Python."""

    def take(self, data: bytes) -> None:
        """Events, up to their lines."""
        with self.world():
            self._take(data)

    def _take(self, data: bytes) -> None:
        events = self.decoder.events(0, data)
        fold = self.table.folder()
        for change in self.announcer.through(filter(None, map(fold, events))):
            if isinstance(change, Transition):
                told = msgspec.structs.replace(change, reported=said(change.reported))
                self.changes.append((msgspec.structs.astuple(told)[2:], plain(change.row)))
                self.writer.state(change, self.out)
            else:
                assert isinstance(change, Told)
                self.changes.append((change.at_ns, plain(change.row), change.alive))

    def sweep(self, seen: list[Seen], at_ns: int, *, doubted: bool = False, meanwhile: bytes = b"") -> Resync:
        """A dump that shows this, and events that happen while it is read."""
        self.table.begin(SweepBegin(SPACE, at_ns, doubted))
        self.take(meanwhile)
        shown = datagram(seen, random.Random(at_ns))
        with self.world():
            if not self.table.read(SPACE, shown, self._unusual):
                self.table.met(SPACE, inet_diag.decode(shown, Table.TCP).rows)
        resync = self.table.end(SweepEnd(SPACE, at_ns, True))
        list(self.announcer.through([resync]))
        return resync

    def _unusual(self, message: bytes) -> None:
        self.unusual += 1
        self.table.met(SPACE, inet_diag.decode(message, Table.TCP).rows)

    def state(self) -> dict[str, Any]:
        """Everything that the table holds."""
        table = self.table
        indexes = {
            (space, name): {key: row.id for key, row in getattr(shard.index, name).items()}
            for space, shard in table._shards.items()
            for name in ("by_sk", "by_cookie", "by_ino", "by_ends", "unsettled")
        }
        by_state = {
            (space, state): list(rows)
            for space, shard in table._shards.items()
            for state, rows in (shard.index.by_state or {}).items()
            if rows
        }
        return {
            "rows": [plain(row) for row in table], "by_state": by_state, "unlisted": table.unlisted,
            "told": (self.table.last_ns, sorted(table.silent or ())), "seq": self.writer.seq, "indexes": indexes,
        }  # fmt: skip


def datagram(seen: list[Seen], chance: random.Random) -> bytes:
    """What netlink says of these sockets, with attributes that change from dump to dump."""
    found = b""
    for socket in (one.socket for one in seen):
        assert isinstance(socket, InetSocket)
        attributes = chance.choice((b"", dumps.attribute(8, b"\3"))) + chance.choice(
            (b"", dumps.attribute(21, b"\7" * 8))
        )
        if socket.family == AF_INET6 and chance.random() < 0.8:
            attributes += dumps.attribute(11, bytes([chance.random() < 0.1]))
        found += dumps.message(
            family=socket.family, state=socket.state, timer=socket.timer, sport=socket.sport, dport=socket.dport,
            src=socket.src, dst=socket.dst, ifindex=socket.ifindex, cookie=socket.cookie, expires=socket.expires_ms,
            uid=socket.uid, inode=socket.ino, attributes=attributes,
        )  # fmt: skip
    return found


def said(reported: Reported) -> Reported:
    """The same of an event, which has the same attributes."""
    return Reported(**{name: getattr(reported, name) for name in REPORTED})


def plain(row: Row) -> tuple[Any, ...]:
    """Every value of a row."""
    return tuple(msgspec.structs.astuple(row))


@pytest.mark.parametrize("indexed", [False, True], ids=["no-index", "index-by-state"])
@pytest.mark.parametrize(
    ("seed", "loss"), [*((seed, 0.0) for seed in range(8)), *((seed, 0.1) for seed in range(8, 16))]
)
def test_the_same_events_make_the_same_table_and_the_same_lines(seed: int, loss: float, indexed: bool) -> None:
    ours, theirs = (Corridor(native=native) for native in (True, False))
    if indexed:
        for corridor in (ours, theirs):
            corridor.table.in_states(0)
    at_ns, calls = 0, 0
    for part in story(seed, 3000, loss=loss):
        if isinstance(part, list):
            at_ns += 1
            assert str(ours.sweep(part, at_ns)) == str(theirs.sweep(part, at_ns))
            continue
        ours.take(part)
        theirs.take(part)
        assert ours.changes == theirs.changes
        assert ours.state() == theirs.state()
        assert ours.out == theirs.out
        at_ns = max((struct.unpack_from("=Q", part, at + 12)[0] for at in range(0, len(part), STRIDE)), default=at_ns)
        calls += len(ours.changes)
        for corridor in (ours, theirs):
            corridor.changes.clear()
            corridor.out.clear()
    assert calls > 1000


@pytest.mark.parametrize("doubted", [False, True], ids=["sure", "doubted"])
@pytest.mark.parametrize("seed", range(20, 28))
def test_the_same_dumps_make_the_same_table(seed: int, doubted: bool) -> None:
    """Each while the events before it are folded in: some of what it shows has died, or moved."""
    ours, theirs = (Corridor(native=native) for native in (True, False))
    ours.table.in_states(0)
    theirs.table.in_states(0)
    shown, at_ns, events = 0, 0, b""
    for part in story(seed, 4000, loss=0.05):
        if isinstance(part, bytes):
            events = part
            continue
        shown += len(part)
        for again in (events, b""):  # the second time most of it stands
            assert str(ours.sweep(part, at_ns, doubted=doubted, meanwhile=again)) == str(
                theirs.sweep(part, at_ns, doubted=doubted, meanwhile=again)
            )
            assert ours.changes == theirs.changes
            assert ours.state() == theirs.state()
            at_ns = max(times(events), default=at_ns) + 1
    assert 0 < ours.unusual < shown * 2 - shown // 10  # mapped addresses, listeners, what moved: those are the Python's
    assert theirs.unusual == 0


def times(events: bytes) -> Iterator[int]:
    """When they happened."""
    for at in range(0, len(events), STRIDE):
        yield struct.unpack_from("=Q", events, at + 12)[0]


STRIDE = len(state())


def test_usual_events_are_the_twins_alone() -> None:
    """Or the tests above would compare the Python with itself."""
    table, decoder = SocketTable(HERE), EventDecoder(CauseReader(lambda _name: ()), HERE)
    unusual: list[Changed | Gone] = []
    apply = table.apply

    def otherwise(fact: Changed | Gone) -> Transition | None:
        unusual.append(fact)
        return apply(fact)

    fold = twins.Folder(table._shards, otherwise, taught(), HERE)
    events = list(chain.from_iterable(decoder.events(0, part) for part in story(1, 3000) if isinstance(part, bytes)))
    usual: set[Any] = set()
    for event in events:
        fold(event)
        if not unusual:
            fact = event.fact()  # type: ignore[attr-defined]
            usual.add((fact.kind, *((fact.old, fact.new) if isinstance(fact, Changed) else ())))
        unusual.clear()
    assert usual == {
        *((Kind.SOCKET, old, new) for old, new in (
            (7, 2), (2, 1), (2, 7), (1, 4), (1, 8), (1, 7), (4, 5), (4, 11), (4, 7), (5, 7), (11, 7), (8, 9), (8, 7),
            (9, 7), (3, 1),
        )),
        (Kind.REQUEST, 10, 3), (Kind.TIMEWAIT, 0, 5), (Kind.TIMEWAIT, 0, 6), (Kind.TIMEWAIT,),
    }  # fmt: skip
    for shard in table._shards.values():
        shard.tombstones.begin(1)
    for event in events:
        fold(event)
    assert len(unusual) == len(events)
    for shard in table._shards.values():
        shard.tombstones.end()
    table.journal = {}
    for event in events:
        fold(event)
    assert len(unusual) == 2 * len(events)


def test_events_of_what_a_sweep_has_found_are_the_twins_alone() -> None:
    """What was there at the start tells of itself last: when all of it goes at once."""
    table, decoder = SocketTable(HERE), EventDecoder(CauseReader(lambda _name: ()), HERE)
    ends: dict[str, Any] = {"src": bytes(3) + b"\1", "dst": bytes(3) + b"\2", "sport": 1000, "dport": 80}
    for cookie in (1, 2):
        ends["sport"] += 1
        shown = dumps.message(family=AF_INET, state=1, cookie=cookie, inode=cookie + 10, **ends)
        table.begin(SweepBegin(SPACE, cookie))
        table.met(SPACE, inet_diag.decode(shown, Table.TCP).rows)
        table.end(SweepEnd(SPACE, cookie, False))
    fold = twins.Folder(table._shards, lambda fact: pytest.fail(f"not usual: {fact}"), taught(), HERE)
    told: dict[str, Any] = {
        "saddr": ends["src"],
        "daddr": ends["dst"],
        "dport": 80,
        "ino": 0,
        "family": AF_INET,
        "netns": NETNS,
    }
    moved = state(ts_ns=9, sk=0x10, cookie=1, old=1, new=8, sport=1001, **told)
    moved_on = state(ts_ns=10, sk=0x10, cookie=1, old=8, new=9, sport=1001, **told)
    closed = state(ts_ns=11, sk=0x20, cookie=2, old=1, new=7, sport=1002, **told)
    first, second, third = map(fold, decoder.events(0, moved + moved_on + closed))
    assert first.row is second.row
    assert (first.row.cookie, first.row.sk, first.row.state, third.row.cookie) == (1, 0x10, 9, 2)
    assert list(table.home.index.by_sk) == [0x10]
    assert [row.cookie for row in table] == [1]


def test_a_rule_that_the_twin_was_not_taught_is_the_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Report.OPENS, None
    assert taught()[0] == 1
    monkeypatch.setitem(STEPS, pair, (Rule(Step.NOTHING, "sometimes", lambda *_: False), *STEPS[pair]))
    assert taught()[0] == 0
    ours, theirs = (Corridor(native=native) for native in (True, False))
    left: list[Changed | Gone] = []
    apply = ours.table.apply

    def otherwise(fact: Changed | Gone) -> Transition | None:
        left.append(fact)
        return apply(fact)

    monkeypatch.setattr(ours.table, "folder", lambda: twins.Folder(ours.table._shards, otherwise, taught(), HERE))
    for corridor in (ours, theirs):
        corridor.take(state(old=7, new=2, sk=9, ino=5, sport=1, dport=2, netns=NETNS))
    assert len(left) == 1
    assert ours.changes == theirs.changes


# Calls of datagram sockets.


def calls(seed: int, count: int) -> Iterator[bytes]:
    """Records of what owners of UDP and raw sockets do, in any order that might be heard: some calls are lost, and
    kernel addresses are used again.
    """
    chance = random.Random(seed)
    known: list[dict[str, Any]] = []
    for at_ns in range(10, 10 + 10 * count, 10):
        if not known or chance.random() < 0.4:
            family = chance.choice((AF_INET, AF_INET6))
            known.append({
                "sk": chance.randrange(1, 40), "cookie": at_ns, "netns": chance.choice((0, NETNS)), "family": family,
                "protocol": chance.choice((0, 17, 17)), "ino": chance.choice((0, at_ns)),
                "uid": chance.choice((0, 1000)), "tgid": chance.choice((0, 70, 71)), "fd": chance.choice((-1, 4)),
                "comm": chance.choice((b"dns", b"quic")), "flags": chance.choice((0, 0, 1, 16)),
                "cgroup": chance.choice((0, 11)), "sport": chance.randrange(4),
                "saddr": chance.choice((bytes((127, 0, 0, 1)), MAPPED + b"\1\1\1\1", PREFIX)),
            })  # fmt: skip
        fields = chance.choice(known)
        call = chance.choice((Call.BIND, Call.SEND, Call.CONNECT, Call.CLOSE, Call.CLOSE))
        if call is Call.BIND and fields["protocol"] == 0:
            call = Call.CREATE
        elif call is Call.CONNECT:
            fields |= {"dport": chance.randrange(3), "daddr": chance.choice((PREFIX, MAPPED + b"\1\1\1\2"))}
        elif call is Call.SEND and fields["protocol"] == 0:
            continue  # of raw sockets no send is told of
        if chance.random() < 0.1:
            fields |= {"tgid": 72, "fd": 9}
        told = {**fields, "old": call, "new": State.ESTABLISHED if fields.get("dport") else State.CLOSE}
        if call is Call.CLOSE:
            known.remove(fields)
            told |= {"fd": -1} | chance.choice(
                ({}, {"bytes_sent": 5, "bytes_received": 1, "segs_out": 2, "segs_in": 1})
            )
            if chance.random() < 0.5:
                born = chance.choice((Call.CREATE, Call.BIND) if fields["protocol"] == 0 else (Call.BIND, Call.SEND))
                told |= {"since_ns": at_ns - 5, "shutdown": born, "fd": fields["fd"]}
            else:
                told["new"] = 0
        yield state("EVENT_DATAGRAM", ts_ns=at_ns, **told)


@pytest.mark.parametrize("indexed", [False, True], ids=["no-index", "index-by-state"])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_calls_make_the_same_table_and_the_same_lines(seed: int, indexed: bool) -> None:
    ours, theirs = (Corridor(native=native) for native in (True, False))
    if indexed:
        for corridor in (ours, theirs):
            corridor.table.in_states(0)
    for part in calls(seed, 2000):
        ours.take(part)
        theirs.take(part)
        assert ours.changes[-2:] == theirs.changes[-2:]
    assert ours.changes == theirs.changes
    assert ours.state() == theirs.state()
    assert ours.out == theirs.out
    assert len(ours.changes) > 1500


def test_births_and_ends_of_datagram_sockets_are_the_twins_alone() -> None:
    table, decoder = SocketTable(HERE), EventDecoder(CauseReader(lambda _name: ()), HERE)
    for protocol in (0, 17):
        table.shard(Space(HERE.cookie, protocol))
    fold = twins.Folder(table._shards, lambda fact: pytest.fail(f"not usual: {fact}"), taught(), HERE)
    ends: dict[str, Any] = {"sport": 5, "saddr": PREFIX, "family": AF_INET6, "netns": NETNS, "tgid": 70, "comm": b"dns"}
    lives = [(0, Call.CREATE, 7), (17, Call.BIND, 7), (17, Call.SEND, 7), (17, Call.CONNECT, 1)]
    for number, (protocol, call, new) in enumerate(lives, 1):
        told = {**ends, "protocol": protocol, "cookie": number, "sk": number, "ts_ns": 10 * number}
        birth = state("EVENT_DATAGRAM", **told | {"old": call, "new": new})
        end = state("EVENT_DATAGRAM", **told | {"old": Call.CLOSE})
        life = {"old": Call.CLOSE, "shutdown": call, "new": new, "since_ns": 5, "cookie": number + 100}
        changes = [*map(fold, decoder.events(0, birth + end + state("EVENT_DATAGRAM", **told | life)))]
        assert [(change.old, change.new) for change in changes] == [(0, new), (new, 0)] * 2
    assert len(table) == 0


def test_a_call_that_the_twin_was_not_taught_is_the_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    before = taught()
    for steps in (udp.STEPS, raw.STEPS):
        monkeypatch.setitem(steps, (Call.CLOSE, Kind.SOCKET), (Rule(Step.NOTHING, "never"),))
        monkeypatch.setitem(
            steps, (Call.CONNECT, None), (Rule(Step.NOTHING, "once", lambda *_: True), Rule(Step.BIRTH, "else"))
        )
    calls, after = len(Call) + 1, taught()
    changed = [at for at, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    assert [at - len(before) for at in changed] == sorted(
        -calls * side + call for side in (1, 2) for call in (Call.CONNECT, Call.CLOSE)
    )


# The decoder by itself.


def both(data: bytes) -> tuple[list[Any], list[Any]]:
    """What each makes of some records."""
    decoder = EventDecoder(CauseReader(lambda _name: ()), HERE)
    facts: list[Any] = [event.fact() for event in decoder.events(3, data)]  # type: ignore[attr-defined]
    at = attrgetter("at_ns")
    return sorted(facts, key=at), sorted(decoder.decode(3, data), key=at)


def test_recorded_records_decode_alike() -> None:
    data, at, facts = (DATA / "events.perf").read_bytes(), 0, 0
    while at < len(data):
        _, length = struct.unpack_from("=II", data, at)
        ours, theirs = both(data[at + 8 : at + 8 + length])
        assert ours == theirs
        at += 8 + length
        facts += len(ours)
    assert facts > 90


@given(st.data())
def test_any_record_decodes_alike(data: st.DataObject) -> None:
    fields: dict[str, int | bytes] = {}
    for name, code in RECORD:
        if code.endswith("s"):
            fields[name] = data.draw(st.binary(max_size=int(code[:-1])))
        elif name not in ("size", "kind", "old", "new"):
            size = struct.calcsize("=" + code) * 8
            low = -(1 << size - 1) if code == "i" else 0
            fields[name] = data.draw(st.integers(low, low + (1 << size) - 1) | st.sampled_from((0, 1, 2, 10)))
    kind = data.draw(st.sampled_from(sorted(border.KINDS)))
    fields["old"] = data.draw(st.integers(0, 13))
    if kind == "EVENT_DATAGRAM":
        fields |= {name: data.draw(st.sampled_from(list(Call))) for name in ("old", "shutdown")}
    fields["new"] = data.draw(st.integers(0, 13))
    if kind.startswith("EVENT_LIFE"):
        fields |= {name: data.draw(st.sampled_from((1, 2, 3, 4, 5, 8, 9, 11))) for name in ("old", "new")}
        fields["since_ns"] = data.draw(st.integers(1, (1 << 64) - 1))
    ours, theirs = both(state(kind, **fields))
    assert ours == theirs
    assert [type(fact) for fact in ours] == [type(fact) for fact in theirs]


def test_what_datagram_sockets_tell_stands_in_order_among_the_rest() -> None:
    """A birth that is told with the end is an event of its own."""
    opens = {"old": 7, "new": 2, "protocol": 6}
    born = {"old": Call.CONNECT, "new": 1, "protocol": 17, "cookie": 5, "sport": 9, "ts_ns": 20}
    lived = {"old": Call.CLOSE, "new": 7, "protocol": 17, "cookie": 6, "sport": 10}
    lived |= {"since_ns": 25, "shutdown": Call.BIND}
    carried = {"bytes_sent": 8, "bytes_received": 1, "segs_out": 3, "segs_in": 1}
    run = b"".join((
        state("EVENT_STATE", **opens | {"ts_ns": 10}),
        state("EVENT_DATAGRAM", **born),
        state("EVENT_DATAGRAM", **lived | carried | {"ts_ns": 40}),
        state("EVENT_STATE", **opens | {"ts_ns": 30}),
    ))  # fmt: skip
    decoder = EventDecoder(CauseReader(lambda _name: ()), HERE)
    facts: list[Any] = [*decoder.decode(0, run)]
    events: list[Any] = sorted(decoder.events(0, run), key=attrgetter("at_ns"))
    assert [fact.at_ns for fact in facts] == [event.at_ns for event in events] == [10, 20, 25, 30, 40]
    _, first, birth, _, end = facts
    calls = [(one.call, one.state) for one in (first, birth, end)]
    assert calls == [(Call.CONNECT, 1), (Call.BIND, 7), (Call.CLOSE, 0)]
    assert (birth.cookie, birth.reported, end.sport) == (6, NOTHING, 10)
    for told in (end.reported, events[-1]):
        assert [getattr(told, name) for name in ("bytes_sent", "bytes_received", "segs_out", "segs_in")] == [7, 0, 2, 0]
    with pytest.raises(DecodeError):
        decoder.events(0, state("EVENT_DATAGRAM", **lived | {"shutdown": 9}))


@pytest.mark.parametrize("wrong", [{"kind": 10}, {"old": 14}, {"new": 200}, {"size": 16}, {"kind": 9, "old": 9}])
def test_what_is_wrong_with_a_record_is_said_by_the_python(wrong: dict[str, int]) -> None:
    good = state(old=1, new=4)
    values = {"size": EVENT.size, "fd": -1, "family": AF_INET, "protocol": 6, **wrong}
    bad = sample(EVENT.pack(*(values.get(name, b"" if code.endswith("s") else 0) for name, code in RECORD)))
    decoder = EventDecoder(CauseReader(lambda _name: ()))
    with pytest.raises(DecodeError):
        decoder.events(0, good + bad)


def test_more_addresses_than_anybody_has_are_forgotten() -> None:
    decoder = EventDecoder(CauseReader(lambda _name: ()))
    run = b"".join(state(saddr=struct.pack(">I", number), old=1, new=4) for number in range(1, 109_000))
    most = 0
    for event in decoder.events(0, run):
        event.fact()  # type: ignore[attr-defined]
        most = max(most, len(decoder._addresses))
    assert 100_000 <= most <= 100_002
    assert len(decoder._addresses) < 10_000


# Lines.


def line_of(change: Any, *, native: bool, patch: pytest.MonkeyPatch) -> bytes:
    """Twice: the second time, everything is known."""
    with patch.context() as context:
        if not native:
            context.setattr(rendering, "twins", None)
        writer = EventWriter(5, PATHS.get, lambda index: f"if{index}")
    out = bytearray()
    writer.state(change, out)
    writer.state(change, out)
    return bytes(out)


def a_row(**fields: Any) -> Row:
    values: dict[str, Any] = {
        "id": 7, "kind": Kind.SOCKET, "state": 1, "family": AF_INET, "protocol": 6, "net": HERE.cookie, "netns": NETNS,
        "src": bytes((127, 0, 0, 1)), "sport": 40000, "dst": bytes((127, 0, 0, 2)), "dport": 443, "ino": 0, "uid": 0,
        "ifindex": 0, "cookie": None, "sk": 1, "since_ns": 5, "exact": True, "touched_ns": 5, **fields,
    }  # fmt: skip
    return Row(**values)


OPTIONAL = st.none() | st.integers(0, 2**63 - 1)
ROWS = st.builds(
    a_row,
    id=st.integers(1, 2**40), family=st.sampled_from((AF_INET, AF_INET6)), protocol=st.sampled_from((6, 262)),
    src=st.binary(min_size=4, max_size=4), sport=st.integers(0, 65535), dport=st.integers(0, 65535),
    netns=st.integers(0, 2**32 - 1), ino=st.integers(0, 2**64 - 1), uid=st.none() | st.integers(0, 2**32 - 1),
    ifindex=st.sampled_from((0, 0, 0, 5)), cookie=st.none() | st.integers(1, 2**64 - 1),
    owners=st.lists(st.builds(Owner, st.binary(max_size=15), st.integers(1, 2**22), st.none() | st.integers(0, 99)),
                    max_size=3).map(tuple),
    owner_source=st.sampled_from((None, "walk", "connect", "listener")), cgroup=st.sampled_from((None, 11, 12, 13, 14)),
    v6only=st.sampled_from((None, True, False)), role=st.sampled_from((None, "client", "server")), born_ns=OPTIONAL,
)  # fmt: skip


CHANGES = st.builds(
    Transition,
    at_ns=st.integers(0, 2**62), row=ROWS, old=st.integers(0, 13), new=st.integers(0, 13), held_ns=OPTIONAL,
    cause=st.sampled_from((None, "linger", "reset-received")),
    reported=st.just(NOTHING) | st.builds(Reported, err=st.none() | st.integers(-5, 133), retransmits=OPTIONAL),
    listed=st.booleans(), approximate=st.booleans(),
    source=st.sampled_from((None, None, "poll")), ended=st.booleans(), lifetime_ns=OPTIONAL,
)  # fmt: skip


@settings(max_examples=300)
@given(CHANGES)
def test_any_transition_makes_the_same_line(change: Transition) -> None:
    row = change.row
    if row.family == AF_INET6:
        row.src, row.dst = row.src * 4, row.dst * 4
    with pytest.MonkeyPatch.context() as patch:
        assert line_of(change, native=True, patch=patch) == line_of(change, native=False, patch=patch)


@pytest.mark.parametrize(
    "ns", [0, 1, 10, 100, 999, 1000, 1001, 1010, 1100, 10**9, 999_999_999_999_999, 10**15, 10**15 + 1]
)
def test_durations_are_written_alike(ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    change = Transition(10**15 + 5, a_row(), 1, 7, ns, None, NOTHING, True, ended=True, lifetime_ns=ns)
    ours = line_of(change, native=True, patch=monkeypatch)
    assert ours == line_of(change, native=False, patch=monkeypatch)
    assert json.loads(ours.splitlines()[0])["held_us"] == ns / 1000


@given(st.integers(0, 10**15 - 1))
def test_below_eleven_days_the_digits_are_those_of_the_double(ns: int) -> None:
    whole, rest = divmod(ns, 1000)
    digits = f"{rest:03d}".rstrip("0") or "0"
    assert msgspec.json.encode(ns / 1000) == f"{whole}.{digits}".encode()


def test_a_line_that_is_longer_than_any_is_the_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    owners = tuple(Owner(b"worker", 1000 + number, number) for number in range(400))
    change = Transition(9, a_row(owners=owners), 1, 7, 5, None, NOTHING, True)
    ours = line_of(change, native=True, patch=monkeypatch)
    assert len(ours) > 2 * 8192
    assert ours == line_of(change, native=False, patch=monkeypatch)


def test_a_view_that_is_no_row_is_the_pythons() -> None:
    real = Transition(9, a_row(), 1, 7, 5, None, NOTHING, True)
    row = SimpleNamespace(**{name: getattr(real.row, name) for name in real.row.__struct_fields__})
    view = SimpleNamespace(**{name: getattr(real, name) for name in real.__struct_fields__} | {"row": row})
    out, writer = bytearray(), EventWriter(5, PATHS.get)
    for change in (real, view, real, view):
        writer.state(change, out)
    assert [json.loads(line)["to"] for line in out.splitlines()] == ["UNCONN"] * 4
    assert [json.loads(line)["sport"] for line in out.splitlines()] == [40000] * 4


def test_a_view_with_other_slots_is_the_pythons() -> None:
    """What it half knows of it does not spoil what it knows of others."""
    real = Transition(9, a_row(), 1, 7, 5, None, NOTHING, True)
    values = {name: getattr(real, name) for name in real.__struct_fields__}
    odd = type("Odd", (), {"__slots__": ("approximate", "at_ns", "row", "old", "new"), "held_ns": 5, "cause": None})()
    for name in odd.__slots__:
        setattr(odd, name, values[name])
    for name in ("reported", "source", "ended", "lifetime_ns"):
        setattr(type(odd), name, values[name])
    out, writer = bytearray(), EventWriter(5, PATHS.get)
    for change in (real, odd, real):
        writer.state(change, out)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [{**line, "seq": 0, "ts": ""} for line in lines] == [{**lines[0], "seq": 0, "ts": ""}] * 3


# Runs of lines.


def test_a_run_stops_before_what_needs_more_than_a_line() -> None:
    def change(**fields: Any) -> Transition:
        return Transition(50, a_row(**fields), 1, 7, 5, None, NOTHING, True)

    writer, out = EventWriter(5, PATHS.get), bytearray()
    writer.state(change(), out)  # from here on its texts are known
    del out[:]
    lost = Lost(0, 3, 1, 2)
    for odd in (lost, change(protocol=262)):
        changes = iter((change(), change(), odd, change()))
        assert writer.run(changes, TCP, out, 1 << 20) is odd
        assert len(list(changes)) == 1
        assert [json.loads(line)["seq"] for line in out.splitlines()] == [writer.seq - 1, writer.seq]
        del out[:]


def test_a_run_stops_when_there_is_much_and_goes_on() -> None:
    writer, out = EventWriter(5, PATHS.get), bytearray()
    changes = iter([Transition(50, a_row(), 1, 7, 5, None, NOTHING, True) for _ in range(5000)])
    writer.state(next(changes), out)
    stops = 0
    while writer.run(changes, TCP, out, 1 << 17) is None and len(out) > 1 << 17:
        stops += 1
        numbers = [json.loads(line)["seq"] for line in out.splitlines()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert numbers[-1] == writer.seq
        out.clear()
    assert stops > 3
    assert writer.seq == 5000


def test_what_goes_wrong_behind_a_run_leaves_the_lines_before_it() -> None:
    def changes() -> Iterator[Transition]:
        yield Transition(50, a_row(), 1, 7, 5, None, NOTHING, True)
        raise RuntimeError("behind")

    writer, out = EventWriter(5, PATHS.get), bytearray()
    writer.state(Transition(50, a_row(), 1, 7, 5, None, NOTHING, True), out)
    with pytest.raises(RuntimeError, match="behind"):
        writer.run(changes(), TCP, out, 1 << 20)
    assert out.count(b"\n") == 2


# Lives.


@pytest.mark.parametrize(
    "words", [["--json"], ["--json", "from", "established"], ["-n", "--time", "utc"]], ids=" ".join
)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_events_make_the_same_lives(tmp_path: Path, seed: int, words: list[str]) -> None:
    names = SystemNames({})
    told, left = [], []
    for native in (True, False):
        with nullcontext() if native else without_twins():
            command = parse(["sstrace", "--life", "--output", str(tmp_path / str(native)), *words])
            assert isinstance(command, Command)
            decoder, table = EventDecoder(CauseReader(lambda _name: ()), HERE), SocketTable(HERE)
            printer = Printer(resolve(command, names), names, 1_700_000_000_000_000_000)
            for part in story(seed, 3000):
                if isinstance(part, bytes):
                    printer.take(filter(None, map(table.folder(), decoder.events(0, part))))
            printer.close()
            assert printer.handshakes is not None
            left.append(printer.handshakes.known)
        told.append((tmp_path / str(native)).read_bytes())
    assert told[0] == told[1]
    assert left[0] == left[1]
    assert told[0].count(b"\n") > 30
    assert words[0] != "--json" or b',"handshake_us":' in told[0]


@pytest.mark.parametrize("world", [nullcontext, without_twins], ids=["native", "python"])
@pytest.mark.parametrize(("protocol", "new", "stays"), [(17, 0, False), (6, 7, False), (6, 6, True), (6, 5, True)])
def test_only_rows_that_stay_are_remembered(tmp_path: Path, world: Any, protocol: int, new: int, stays: bool) -> None:
    names = SystemNames({})
    with world():
        command = parse(["sstrace", "--life", "-tu", "--json", "--output", str(tmp_path / "out")])
        assert isinstance(command, Command)
        printer = Printer(resolve(command, names), names, 5)
        printer.take([Transition(60, a_row(protocol=protocol), 1, new, 10, None, NOTHING, True, ended=True)])
        assert printer.handshakes is not None
        assert printer.handshakes.known == ({}, {a_row().id} if stays else set())


def test_what_ends_nothing_is_heard_and_has_no_line() -> None:
    handshakes, lost, out = Handshakes(), Lost(0, 3, 1, 2), bytearray()
    opened = Transition(50, a_row(), State.SYN_SENT, State.ESTABLISHED, 7, None, NOTHING, True)
    writer = EventWriter(5, PATHS.get)
    assert writer.run(iter((opened, lost)), TCP, out, 1 << 20, handshakes.known) is lost
    assert not out
    assert writer.seq == 0
    assert handshakes.known == ({a_row().id: 7}, set())


# Memory.


def test_nothing_leaks() -> None:
    parts = [part for part in story(3, 2000) if isinstance(part, bytes)]
    parts.append(b"".join(calls(3, 500)))

    def once() -> None:
        decoder, table = EventDecoder(CauseReader(lambda _name: ())), SocketTable(HERE)
        writer, out = EventWriter(5, PATHS.get), bytearray()
        for part in parts:
            changes = Announcer(table).through(filter(None, map(table.folder(), decoder.events(0, part))))
            while (odd := writer.run(changes, TCP | {0, 17}, out, 1 << 30)) is not None:
                if isinstance(odd, Transition):
                    writer.state(odd, out)

    def blocks() -> int:
        inherited.cache_clear()
        gc.collect()
        return sys.getallocatedblocks()

    for _ in range(20):  # until every cache, and the free lists of structs, have what they keep
        once()
    before = blocks()
    nones, zero = sys.getrefcount(None), sys.getrefcount(0)
    for _ in range(10):
        once()
    assert blocks() - before < 200  # of 20,000 that each run makes
    assert abs(sys.getrefcount(None) - nones) < 200
    assert abs(sys.getrefcount(0) - zero) < 200


@pytest.mark.parametrize(
    ("make", "arguments"),
    [
        ("events", ()),
        ("events", ((1,) * 5, b"", 0)),
        ("met", (1,) * 9),
        ("Folder", ()),
        ("Folder", ({}, print, b"", (1, 1))),
        ("Liner", ()),
        ("Liner", ({}, NOTHING)),
        ("Liner", (dict.fromkeys(("protocols", "families", "states", "addresses", "owners", "places", "spaces")), 1)),
        ("teach", ({}, tuple(Kind), print, print)),
        ("teach", (CLASSES, (), bytes(256), print, print)),
    ],
)
def test_wrong_arguments_are_refused(make: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(twins, make)(*arguments)


def test_classes_without_slots_are_refused() -> None:
    class Loose:
        pass

    with pytest.raises((TypeError, AttributeError)):
        twins.teach({**CLASSES, "news": Loose}, tuple(Kind), print, print)


# ------------------------------------------------------------------------------------------------- plain tables


class Texts(dict[Any, str]):
    """Makes what it lacks, as the renderer's do."""

    def __missing__(self, key: Any) -> str:
        made = self[key] = str(key)
        return made


@pytest.mark.parametrize("seed", range(40))
def test_a_datagram_is_read_by_column_as_the_python_reads_it(seed: int) -> None:
    """Whole ones, and those of which the last byte, or some byte, is wrong: both take the same, and leave the same."""
    chance = random.Random(seed)
    family = chance.choice((AF_INET, AF_INET6))
    size = 4 if family == AF_INET else 16
    datagram = bytearray()
    for _ in range(chance.randrange(1, 6)):
        datagram += dumps.message(
            family=family, state=chance.randrange(1, 14), sport=chance.randrange(65536), dport=chance.randrange(65536),
            src=chance.choice((b"\x0a" * size, chance.randbytes(size))), dst=chance.randbytes(size),
            rqueue=chance.choice((0, 2**32 - 1)), wqueue=chance.randrange(9), inode=chance.randrange(2**32),
            attributes=chance.choice((b"", dumps.attribute(8, b"\0"))),
        )  # fmt: skip
    taken = 0
    for _ in range(60):
        addresses, ports = Texts(), Texts()
        ours, theirs = twins.columns(datagram, addresses, ports, True), inet_columns.decode(datagram)
        if theirs is not None:
            states, sports, dports, sources, destinations, *rest = theirs
            expected = (
                inet_columns.family_of(datagram), bytes(states), list(map(ports.__getitem__, sports)),
                list(map(ports.__getitem__, dports)), list(map(addresses.__getitem__, sources)),
                list(map(addresses.__getitem__, destinations)), *map(list, rest),
            )  # fmt: skip
            assert ours == expected
            taken += 1
        else:
            assert ours is None
        if chance.random() < 0.3:
            del datagram[-1]
        else:
            datagram[chance.randrange(len(datagram))] = chance.choice((0, 1, 2, 10, 72, 88, 255))
    assert taken


@given(st.lists(st.tuples(*(st.text(st.characters(max_codepoint=255), max_size=9),) * 4), min_size=1, max_size=20))
def test_cells_are_laid_out_as_the_python_lays_them_out(few: list[tuple[str, ...]]) -> None:
    rows = few * (layout._FEW + 1)
    for form in (
        layout._Form([("", 5), ("%s ", -7), ("", 0), (" ", 3)], "%\n"),
        layout._Form([("", 0), ("", 0), ("\xe4", -1), ("", 1)], "\n"),
    ):
        cells: list[Any] = list(zip(*rows, strict=True))
        ours = form.lines(cells, len(rows))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sstrace.native.twins", None)
            assert form.lines(cells, len(rows)) == ours
