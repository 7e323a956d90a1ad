"""Runs of perf records → Facts: the ladder from nothing to good, any bytes at all, and what a real kernel sent."""

import json
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import bpf_events
import msgspec
import pytest
from bpf_events import EVENT, event, lost, record, sample, state
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from sstrace.errors import DecodeError
from sstrace.fields import CALLS, KINDS, RECORD, Reported
from sstrace.model import AF_INET6, Call, Called, Changed, Gone, Kind, Owner, State
from sstrace.wire.cause import CauseReader
from sstrace.wire.event import SIZE, EventDecoder
from sstrace.wire.kallsyms import Symbols

DATA = ROOT / "tests" / "data"
SYN_SENT: dict[str, Any] = {"old": State.CLOSE, "new": State.SYN_SENT, "sk": 0xFFFF888012345680}


def nothing(_name: str) -> list[tuple[int, int]]:
    return []


def decode(data: bytes, spans: Callable[[str], list[tuple[int, int]]] = nothing) -> list[Any]:
    return EventDecoder(CauseReader(spans)).decode(3, data)


STRIDE = len(state())
"""Of a record in its ring."""

# ---------------------------------------------------------------------------------------------------------- the ladder


def test_an_empty_run_has_no_facts() -> None:
    assert decode(b"") == []


@pytest.mark.parametrize("size", range(1, 8))
def test_less_than_a_header_is_an_error(size: int) -> None:
    with pytest.raises(DecodeError, match=f"perf record at byte 0: {size} bytes left, its header needs 8"):
        decode(state(**SYN_SENT)[:size])


@pytest.mark.parametrize("size", [0, 7, STRIDE + 1, 0xFFFF])
def test_a_lying_length_is_an_error(size: int) -> None:
    good = state(**SYN_SENT)
    with pytest.raises(DecodeError, match=f"perf record at byte {STRIDE} says {size} bytes, {STRIDE} are left"):
        decode(good + good[:6] + struct.pack("=H", size) + good[8:])


def test_a_cut_record_is_an_error() -> None:
    with pytest.raises(DecodeError, match=f"says {STRIDE} bytes, {STRIDE - 1} are left"):
        decode(state(**SYN_SENT)[:-1])


def test_a_sample_without_room_for_its_size_is_an_error() -> None:
    with pytest.raises(DecodeError, match="perf sample at byte 0 of 8 bytes has no room"):
        decode(record(b""))


@pytest.mark.parametrize("payload", [0, 100, SIZE - 8, SIZE + 8, SIZE + 16, 400])
def test_a_sample_of_another_size_is_of_another_build(payload: int) -> None:
    with pytest.raises(DecodeError, match=f"where {SIZE} are due: bpf/ and sstrace/ are from different builds"):
        decode(state(**SYN_SENT) + sample(bytes(payload)))


@pytest.mark.parametrize("size", [0, SIZE - 8, SIZE + 8])
def test_an_event_that_says_another_size_is_of_another_build(size: int) -> None:
    with pytest.raises(
        DecodeError, match=f"says {size} bytes, not {SIZE}: bpf/ and sstrace/ are from different builds"
    ):
        decode(state(**SYN_SENT, size=size))


@pytest.mark.parametrize("raw_size", [0, SIZE - 1, SIZE + 8, 0xFFFFFFFF])
def test_a_sample_whose_own_size_lies_is_an_error(raw_size: int) -> None:
    # Among other records, where each is looked at; a run of whole samples alone is judged by the event's own size.
    with pytest.raises(DecodeError, match=f"BPF event of {raw_size} bytes"):
        decode(lost(1) + sample(event(**SYN_SENT), raw_size))


@pytest.mark.parametrize("kind", [5, 99, 255])
def test_an_unknown_kind_is_of_another_build(kind: int) -> None:
    with pytest.raises(DecodeError, match=f"unknown kind {kind}: bpf/ and sstrace/ are from different builds"):
        decode(sample(event(kind=kind)))


@pytest.mark.parametrize(("old", "new"), [(14, 7), (7, 14), (255, 255)])
def test_a_state_that_nobody_can_name_is_an_error(old: int, new: int) -> None:
    with pytest.raises(DecodeError, match=f"from state {old} to {new}"):
        decode(state(old=old, new=new))


def test_other_records_are_passed_over() -> None:
    throttle = record(bytes(24), kind=5)
    first, last = state(**SYN_SENT, ts_ns=1), state(**SYN_SENT, ts_ns=2)
    run = lost(7) + first + lost(1) + throttle + last + lost(2)
    assert [fact.at_ns for fact in decode(run)] == [1, 2]
    assert decode(lost(7)) == []


def test_many_records_come_in_order_whether_or_not_others_stand_between() -> None:
    samples = [state(**SYN_SENT, ts_ns=number) for number in range(1, 1001)]
    assert [fact.at_ns for fact in decode(b"".join(samples))] == list(range(1, 1001))
    assert decode(b"".join(samples) + lost(1)) == decode(b"".join(samples))


def test_a_run_of_as_many_bytes_as_samples_have_may_hold_others() -> None:
    # 28 records of 24 bytes are as long as 3 samples: the sweep over whole samples must not take them.
    assert len(decode(lost(1) * 28)) == 0
    assert len(decode(lost(1) * 28 + state(**SYN_SENT))) == 1


# ------------------------------------------------------------------------------------------------------- good events


def one(**fields: Any) -> Any:
    (fact,) = decode(state(**fields))
    return fact


def test_every_member_reaches_its_place() -> None:
    fact = one(
        ts_ns=0x1122334455667788,
        sk=0xFFFF888012345680,
        cookie=0x1001,
        ino=70001,
        cgroup=80001,
        since_ns=0x1122334455660000,
        net_cookie=4711,
        file=0xFFFF888099999900,
        netns=4026531833,
        uid=90001,
        tgid=4711,
        fd=17,
        ifindex=5,
        err=111,
        family=AF_INET6,
        protocol=262,
        sport=40001,
        dport=443,
        old=State.CLOSE,
        new=State.SYN_SENT,
        flags=0,
        retransmits=6,
        shutdown=3,
        saddr=bytes(range(16)),
        daddr=bytes(range(16, 32)),
        comm=b"curl",
    )
    assert fact == Changed(
        at_ns=0x1122334455667788,
        cpu=3,
        kind=Kind.SOCKET,
        old=7,
        new=2,
        sk=0xFFFF888012345680,
        cookie=0x1001,
        ino=70001,
        net=4711,
        netns=4026531833,
        family=AF_INET6,
        protocol=262,
        src=bytes(range(16)),
        sport=40001,
        dst=bytes(range(16, 32)),
        dport=443,
        uid=90001,
        ifindex=5,
        since_ns=0x1122334455660000,
        owner=Owner(b"curl", 4711, 17),
        cgroup=80001,
        cause=None,
        reported=Reported(err=111, retransmits=6),
    )


def test_what_the_kernel_does_not_know_is_none() -> None:
    fact = one(**SYN_SENT)
    assert [fact.cookie, fact.ino, fact.since_ns, fact.owner, fact.cgroup, fact.reported.err] == [None] * 6


def test_ipv4_addresses_are_four_bytes() -> None:
    # Twice in one run, with the rest filled with garbage in between: what is cached is found by all 16 bytes.
    saddr = bytes((10, 1, 2, 3)) + bytes(12)
    for fact in decode(state(**SYN_SENT, saddr=saddr, daddr=saddr[::-1]) * 2):
        assert (fact.src, fact.dst) == (bytes((10, 1, 2, 3)), bytes(4))


def test_the_any_address_is_an_address() -> None:
    assert one(old=State.CLOSE, new=State.LISTEN).dst == bytes(4)
    assert one(old=State.CLOSE, new=State.LISTEN, family=AF_INET6).dst == bytes(16)


@pytest.mark.parametrize(
    ("comm", "wanted"),
    [
        (b"exactly-15-byte", b"exactly-15-byte"),
        (b"a\0left-over", b"a"),
        (b"\xff\xfe\n(x", b"\xff\xfe\n(x"),
        (b"par(en)x", b"par(en"),
        (b"x" * 16, b"x" * 16),
    ],
)
def test_a_name_is_the_one_that_ss_prints(comm: bytes, wanted: bytes) -> None:
    assert one(**SYN_SENT, tgid=1, comm=comm).owner == Owner(wanted, 1, None)


BY_CALL = {
    (State.CLOSE, State.SYN_SENT),
    (State.CLOSE, State.LISTEN),
    (State.ESTABLISHED, State.FIN_WAIT1),
    (State.CLOSE_WAIT, State.LAST_ACK),
}


@pytest.mark.parametrize("old", range(1, 13))
@pytest.mark.parametrize("new", range(1, 13))
def test_the_task_is_an_owner_only_where_its_own_call_moves_the_socket(old: int, new: int) -> None:
    fact = one(old=old, new=new, tgid=4711, comm=b"who")
    called = new in {to for _, to in BY_CALL}
    assert fact.owner == (Owner(b"who", 4711, None) if called else None)


def test_a_kernel_thread_is_no_owner() -> None:
    assert one(**SYN_SENT, tgid=4711, flags=1).owner is None


def test_a_process_of_another_pid_namespace_is_no_owner() -> None:
    assert one(**SYN_SENT, tgid=0).owner is None


def test_descriptor_0_is_a_descriptor() -> None:
    assert one(**SYN_SENT, tgid=1, fd=0).owner.fd == 0


def spans_of(**symbols: tuple[int, int]) -> Callable[[str], list[tuple[int, int]]]:
    return lambda name: [symbols[name]] if name in symbols else []


def test_at_close_the_stack_says_whether_the_task_owns_it() -> None:
    spans = spans_of(tcp_close=(0x1000, 0x100), tcp_reset=(0x2000, 0x100))
    fields: dict[str, Any] = {"old": State.ESTABLISHED, "new": State.CLOSE, "tgid": 4711, "comm": b"who"}
    by_call, by_segment = decode(
        state(**fields, stack=bpf_events.stack(0x1010)) + state(**fields, stack=bpf_events.stack(0x2010)), spans
    )
    assert isinstance(by_call, Changed)
    assert isinstance(by_segment, Changed)
    assert by_call.owner == Owner(b"who", 4711, None)
    assert by_segment.owner is None
    assert (by_call.cause, by_segment.cause) == ("reset-sent", "reset-received")


def test_only_a_close_has_a_cause() -> None:
    assert one(**SYN_SENT).cause is None
    assert one(old=State.ESTABLISHED, new=State.CLOSE).cause == "unknown"


MINISOCK = {
    "ts_ns": 5, "sk": 0xFFFF888000000100, "cookie": 9, "netns": 7, "sport": 443, "dport": 40000, "ifindex": 2,
    "retransmits": 3, "saddr": bytes((10, 0, 0, 1)), "daddr": bytes((10, 0, 0, 2)), "tgid": 1, "ino": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "which", "old", "new"),
    [
        ("EVENT_REQUEST", Kind.REQUEST, State.LISTEN, State.SYN_RECV),
        ("EVENT_TIMEWAIT", Kind.TIMEWAIT, 0, State.FIN_WAIT2),
    ],
)
def test_births_of_request_and_timewait_sockets(kind: str, which: Kind, old: int, new: int) -> None:
    fact = one(kind=kind, old=old, new=new, **MINISOCK)
    assert fact == Changed(
        at_ns=5,
        cpu=3,
        kind=which,
        old=old,
        new=new,
        sk=0xFFFF888000000100,
        cookie=9,
        ino=None,
        net=7,
        netns=7,
        family=2,
        protocol=6,
        src=bytes((10, 0, 0, 1)),
        sport=443,
        dst=bytes((10, 0, 0, 2)),
        dport=40000,
        uid=0,
        ifindex=2,
        since_ns=None,
        owner=None,
        cgroup=None,
        cause=None,
        reported=Reported(retransmits=3),
    )


@pytest.mark.parametrize(
    ("kind", "which", "old", "flags", "cause"),
    [
        ("EVENT_REQUEST_GONE", Kind.REQUEST, State.SYN_RECV, 2, "timeout-synack"),
        ("EVENT_REQUEST_GONE", Kind.REQUEST, State.SYN_RECV, 6, "listener-closed"),
        ("EVENT_REQUEST_GONE", Kind.REQUEST, State.SYN_RECV, 0, "unknown"),
        ("EVENT_TIMEWAIT_GONE", Kind.TIMEWAIT, State.TIME_WAIT, 2, "expired"),
        ("EVENT_TIMEWAIT_GONE", Kind.TIMEWAIT, State.FIN_WAIT2, 2, "timeout-fin-wait-2"),
        ("EVENT_TIMEWAIT_GONE", Kind.TIMEWAIT, State.TIME_WAIT, 0, "unknown"),
    ],
)
def test_deaths_of_request_and_timewait_sockets(kind: str, which: Kind, old: int, flags: int, cause: str) -> None:
    assert one(kind=kind, old=old, new=State.CLOSE, flags=flags, **MINISOCK) == Gone(
        at_ns=5, cpu=3, kind=which, sk=0xFFFF888000000100, cookie=9, net=7, netns=7, family=2, protocol=6,
        src=bytes((10, 0, 0, 1)), sport=443, dst=bytes((10, 0, 0, 2)), dport=40000, ifindex=2,
        cause=cause, reported=Reported(retransmits=3),
    )  # fmt: skip


def test_equal_owners_are_one_object() -> None:
    # Renderers keep what they made of an owner by its identity's hash; a long trace must not hold a copy an event.
    first, second = decode(state(**SYN_SENT, tgid=9, comm=b"a") * 2)
    assert isinstance(first, Changed)
    assert isinstance(second, Changed)
    assert first.owner is second.owner


# --------------------------------------------------------------------------------------------------------- any bytes


def facts_or_error(data: bytes) -> list[Changed | Gone] | None:
    try:
        return decode(data)
    except DecodeError:
        return None


@given(st.binary(max_size=2000))
def test_any_bytes_give_facts_or_our_error(data: bytes) -> None:
    facts_or_error(data)


RECORDS = st.one_of(
    st.binary(min_size=SIZE, max_size=SIZE).map(sample),
    st.builds(record, st.binary(max_size=60), st.integers(0, 20)),
    st.integers(0, 2**64 - 1).map(lost),
    st.builds(
        lambda values: sample(EVENT.pack(*values)),
        st.tuples(*(st.binary(min_size=int(code[:-1]), max_size=int(code[:-1])) if code.endswith("s")
                    else st.integers(-(2**31), 2**31 - 1) if code == "i"
                    else st.integers(0, {"Q": 2**64 - 1, "I": 2**32 - 1, "H": 2**16 - 1, "B": 16}[code])
                    if name != "size" else st.just(SIZE)
                    for name, code in RECORD)),
    ),
)  # fmt: skip


@given(st.lists(RECORDS, max_size=6), st.data())
def test_records_of_any_content_whole_and_chopped(records: list[bytes], data: st.DataObject) -> None:
    run = b"".join(records)
    whole = facts_or_error(run)
    singly = [facts_or_error(one_record) for one_record in records]
    assert whole == (None if None in singly else [fact for facts in singly if facts for fact in facts])
    facts_or_error(run[: data.draw(st.integers(0, len(run)))])
    facts_or_error(run[data.draw(st.integers(0, len(run))) :])


@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=20), st.data())
def test_runs_may_be_cut_at_any_record(kinds: list[str], data: st.DataObject) -> None:
    records = [
        state(kind, ts_ns=at, since_ns=1, old=1 + at % 5, new=1 + at % 5, sk=at)
        if kind.startswith("EVENT_LIFE")
        else state(kind, ts_ns=at, old=at % (5 if kind == "EVENT_DATAGRAM" else 13) or 1, new=at * 5 % 13, sk=at)
        for at, kind in enumerate(kinds, 1)
    ]
    cut = data.draw(st.integers(0, len(records)))
    decoder = EventDecoder(CauseReader(nothing))
    assert decoder.decode(3, b"".join(records[:cut])) + decoder.decode(3, b"".join(records[cut:])) == decode(
        b"".join(records)
    )


# ----------------------------------------------------------------------------------------------------- datagram sockets


def test_a_call_is_told_with_the_socket_as_it_is_since() -> None:
    (fact,) = decode(
        state(
            "EVENT_DATAGRAM", old=CALLS["CALL_CONNECT"], new=State.ESTABLISHED, protocol=17, cookie=5, ino=7, tgid=42,
            comm=b"dig", fd=3, sport=40000, dport=53,
        )
    )  # fmt: skip
    assert isinstance(fact, Called)
    assert (fact.call, fact.state, fact.protocol) == (Call.CONNECT, State.ESTABLISHED, 17)
    assert (fact.cookie, fact.ino, fact.sport, fact.dport) == (5, 7, 40000, 53)
    assert fact.owner == Owner(b"dig", 42, 3)
    assert fact.v6only is None


def test_every_call_has_a_name_on_both_sides() -> None:
    assert {f"CALL_{call.name}": call.value for call in Call} == CALLS


def test_a_call_that_is_not_known_is_refused() -> None:
    with pytest.raises(DecodeError, match="different builds"):
        decode(state("EVENT_DATAGRAM", old=9))


# ------------------------------------------------------------------------------------------- recorded by a real kernel


def recorded(name: str) -> Iterator[tuple[int, bytes]]:
    data, at = (DATA / f"{name}.perf").read_bytes(), 0
    while at < len(data):
        cpu, size = struct.unpack_from("<II", data, at)
        yield cpu, data[at + 8 : at + 8 + size]
        at += 8 + size


def recorded_facts(name: str) -> list[Changed | Gone]:
    decoder = EventDecoder(CauseReader(Symbols((DATA / "events.kallsyms").read_bytes()).spans))
    facts = [fact for cpu, run in recorded(name) for fact in decoder.decode(cpu, run)]
    assert not any(isinstance(fact, Called) for fact in facts)
    return cast("list[Changed | Gone]", facts)


def as_json(fact: Changed | Gone) -> dict[str, object]:
    plain = {"type": type(fact).__name__, **msgspec.structs.asdict(fact)}
    plain |= msgspec.structs.asdict(plain.pop("reported"))
    plain["kind"], plain["src"], plain["dst"] = fact.kind.name, fact.src.hex(), fact.dst.hex()
    if isinstance(fact, Changed) and fact.owner is not None:
        plain["owner"] = [fact.owner.comm.decode(), fact.owner.pid, fact.owner.fd]
    return {key: value for key, value in plain.items() if value is not None}


@pytest.mark.parametrize("name", ["events", "events-lost"])
def test_recorded_bytes_give_the_recorded_facts(name: str) -> None:
    wanted = json.loads((DATA / f"{name}.json").read_text())
    assert [as_json(fact) for fact in recorded_facts(name)] == wanted


def test_the_recording_has_every_kind() -> None:
    met = Counter((type(fact), fact.kind) for fact in recorded_facts("events"))
    assert met.keys() == {
        (Changed, Kind.SOCKET), (Changed, Kind.REQUEST), (Changed, Kind.TIMEWAIT), (Gone, Kind.REQUEST),
        (Gone, Kind.TIMEWAIT),
    }  # fmt: skip


def test_the_lost_recording_has_lost_records_between_samples() -> None:
    runs = b"".join(run for _, run in recorded("events-lost"))
    kinds, at = [], 0
    while at < len(runs):
        kind, _, size = struct.unpack_from("<IHH", runs, at)
        kinds.append(kind)
        at += size
    assert kinds[0] == kinds[-1] == bpf_events.SAMPLE
    assert bpf_events.LOST in kinds


@pytest.mark.parametrize(
    ("port", "kind", "old", "cause"),
    [
        # scripts/record-perf: by which port it made what.
        (1001, Kind.SOCKET, State.FIN_WAIT2, "fin-by-us"),
        (2001, Kind.SOCKET, State.LAST_ACK, "fin-by-peer"),
        (2001, Kind.SOCKET, State.LISTEN, "closed"),
        (1001, Kind.TIMEWAIT, None, "reused"),
        (2001, Kind.REQUEST, None, "completed"),
        (1002, Kind.SOCKET, State.FIN_WAIT2, "fin-by-us"),
        (1003, Kind.SOCKET, State.ESTABLISHED, "linger"),
        (2003, Kind.SOCKET, State.ESTABLISHED, "reset-received"),
        (1004, Kind.SOCKET, State.ESTABLISHED, "reset-sent"),
        (2004, Kind.SOCKET, State.ESTABLISHED, "reset-received"),
        (1005, Kind.SOCKET, State.SYN_SENT, "refused"),
        (2006, Kind.REQUEST, None, "listener-closed"),
        (2007, Kind.REQUEST, None, "timeout-synack"),
        (2008, Kind.SOCKET, State.ESTABLISHED, "listener-closed"),
        (1008, Kind.SOCKET, State.ESTABLISHED, "reset-received"),
        (1009, Kind.SOCKET, State.ESTABLISHED, "killed"),
        (2009, Kind.SOCKET, State.ESTABLISHED, "reset-received"),
    ],
)
def test_recorded_causes(port: int, kind: Kind, old: int | None, cause: str) -> None:
    ends = [
        fact
        for fact in recorded_facts("events")
        if (fact.sport, fact.kind) == (port, kind)
        and (isinstance(fact, Gone) if old is None else isinstance(fact, Changed) and (fact.old, fact.new) == (old, 7))
    ]
    assert ends
    assert {fact.cause for fact in ends} == {cause}


def test_recorded_owners_ports_and_orphans() -> None:
    facts = recorded_facts("events")
    connects = [fact for fact in facts if isinstance(fact, Changed) and fact.new == State.SYN_SENT]
    assert all(fact.sport and fact.dport and fact.owner and fact.owner.fd is not None for fact in connects)
    orphan = [fact for fact in facts if fact.kind is Kind.TIMEWAIT and fact.sport == 1002]
    assert [(fact.old, fact.new) for fact in orphan if isinstance(fact, Changed)] == [(0, State.FIN_WAIT2)]
    assert all(len(fact.src) == (16 if fact.family == AF_INET6 else 4) for fact in facts)
