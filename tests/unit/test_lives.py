"""A life that is told at once (bpf/lives.h) leaves what it would have left if it had been told event by event."""

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from bpf_events import HERE, SPACE, state

from sstrace.errors import DecodeError
from sstrace.fields import LIFE
from sstrace.model import State
from sstrace.native import twins
from sstrace.table import SocketTable, Transition
from sstrace.wire.cause import CauseReader
from sstrace.wire.event import EventDecoder

LIFE_AREA = struct.Struct("=" + "".join(code for _, code in LIFE))
WAYS: dict[str, list[State]] = {
    "reset": [State.ESTABLISHED],
    "closed-last": [State.ESTABLISHED, State.CLOSE_WAIT, State.LAST_ACK],
    "closed-first": [State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2],
    "at-once": [State.ESTABLISHED, State.FIN_WAIT1, State.CLOSING],
}
SK, TW, REQUEST, LISTENER, INO = 0x1000, 0x2000, 0x3000, 77, 900
BORN, OPEN, END = 100, 150, 900
HOLDER: dict[str, Any] = {"tgid": 70, "comm": b"nginx"}
CARRIED: dict[str, Any] = {"bytes_sent": 6, "bytes_received": 9, "bytes_retrans": 1, "segs_out": 4, "segs_in": 3}


@contextmanager
def world(native: bool) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        if not native:
            for module in ("wire.event", "table.table"):
                patch.setattr(sys.modules[f"sstrace.{module}"], "twins", None)
        yield


class Told:
    """A table that is told of samples, behind a listener; and the last that came of them."""

    def __init__(self) -> None:
        self.decoder, self.table = EventDecoder(CauseReader(lambda _name: ()), HERE), SocketTable(HERE)
        self.last: Transition | None = None
        self.tell(
            state(
                ts_ns=5, sk=9, ino=LISTENER, old=7, new=10, sport=443, netns=HERE.inode, tgid=71, comm=b"listens", fd=3
            )
        )

    def tell(self, *samples: bytes) -> None:
        fold = self.table.folder()
        for data in samples:
            for event in self.decoder.events(0, data):
                self.last = fold(event) or self.last

    def keys(self) -> dict[str, Any]:
        index = self.table.shard(SPACE).index
        return {
            name: {key: values(row) for key, row in getattr(index, name).items()}
            for name in ("by_sk", "by_cookie", "by_ends", "by_ino")
        }


def values(row: Any) -> dict[str, Any]:
    return {key: value for key, value in msgspec.structs.asdict(row).items() if key != "id"}


def common(role: str, family: int = 2) -> dict[str, Any]:
    ends = {"sport": 443, "dport": 40000} if role == "server" else {"sport": 40000, "dport": 443}
    address = bytes((127, 0, 0, 1)) if family == 2 else bytes(15) + b"\1"
    return {**ends, "saddr": address, "daddr": address, "netns": HERE.inode, "family": family, "cookie": 5}


def one_by_one(role: str, way: list[State], *, to: State | None, by_call: bool, family: int) -> Iterator[bytes]:
    """As bpf/tcp.h tells it."""
    same: dict[str, Any] = common(role, family)
    if role == "server":
        yield state("EVENT_REQUEST", ts_ns=BORN, sk=REQUEST, ino=LISTENER, old=10, new=3, **same)
        was = State.SYN_RECV
    else:
        yield state(ts_ns=BORN, sk=SK, ino=INO, old=7, new=2, uid=33, cgroup=11, fd=4, **HOLDER, **same)
        was = State.SYN_SENT
    for step in way:
        fin = step in (State.FIN_WAIT1, State.LAST_ACK)
        held = 0 if step in (State.FIN_WAIT2, State.CLOSING) else INO
        besides: dict[str, Any] = {**HOLDER, "flags": 8} if fin else {}
        cgroup = 11 if was == State.SYN_RECV else 0
        at = OPEN if step == State.ESTABLISHED else OPEN + 50
        yield state(ts_ns=at, sk=SK, ino=held, old=was, new=step, uid=33, cgroup=cgroup, **besides, **same)
        was = step
    if to is State.CLOSE:
        besides = {"err": 0 if by_call or was != State.ESTABLISHED else 104, "flags": 128, **CARRIED}
        held = INO if was == State.ESTABLISHED else 0
        yield state(ts_ns=END, sk=SK, ino=held, old=was, new=7, uid=33, **HOLDER, **besides, **same)
    elif to is not None:
        yield state("EVENT_TIMEWAIT", ts_ns=END, sk=TW, new=to, **CARRIED, **same)


def at_once(role: str, way: list[State], *, to: State | None, by_call: bool, family: int) -> bytes:
    """As bpf/lives.h does."""
    same, last = common(role, family), way[-1]
    closed = last not in (State.ESTABLISHED, State.CLOSE_WAIT)
    life: dict[str, int] = {
        "open_ns": OPEN, "moved_ns": OPEN if last == State.ESTABLISHED else OPEN + 50, "sk": SK,
        "request": REQUEST if role == "server" else 0, "listener": LISTENER if role == "server" else 0,
        "owned": role == "server" and closed,
    }  # fmt: skip
    holder: dict[str, Any] = {**HOLDER, "fd": 4} if role == "client" else HOLDER
    besides: dict[str, Any] = {"ino": 0 if closed else INO}
    kind = "EVENT_LIFE"
    if to is State.CLOSE:
        kind = "EVENT_LIFE_CLOSED"
        besides |= {"err": 0 if by_call or last != State.ESTABLISHED else 104, "flags": 128, **CARRIED}
    elif to is not None:
        kind, besides = "EVENT_LIFE_TIMEWAIT", dict(CARRIED)
    elif role == "server" and not closed:
        holder = {}
    return state(
        kind, ts_ns=END, since_ns=BORN, sk=TW if kind.endswith("TIMEWAIT") else SK, old=0 if to is None else last,
        new=last if to is None else to, uid=33, cgroup=11, stack=LIFE_AREA.pack(*(life[name] for name, _ in LIFE)),
        **holder, **besides, **same,
    )  # fmt: skip


ENDS = [
    ("reset", State.CLOSE, False),
    ("reset", State.CLOSE, True),
    ("closed-last", State.CLOSE, False),
    ("closed-first", State.TIME_WAIT, False),
    ("closed-first", State.FIN_WAIT2, False),
    ("at-once", State.TIME_WAIT, False),
]


@pytest.mark.parametrize("family", [2, 10])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(("way", "to", "by_call"), ENDS)
def test_a_whole_life(  # noqa: PLR0917
    way: str, role: str, to: State, native: bool, by_call: bool, family: int
) -> None:
    with world(native):
        apart, together = Told(), Told()
        apart.tell(*one_by_one(role, WAYS[way], to=to, by_call=by_call, family=family))
        together.tell(at_once(role, WAYS[way], to=to, by_call=by_call, family=family))
        one, other = apart.last, together.last
        assert one is not None
        assert other is not None
        assert other.handshake_ns == OPEN - BORN
        plain = [
            {
                name: getattr(change, name)
                for name in change.__struct_fields__
                if name not in ("row", "reported", "handshake_ns")
            }
            for change in (one, other)
        ]
        assert plain[0] == plain[1]
        assert plain[0]["ended"]
        assert plain[0]["lifetime_ns"] == END - BORN
        assert values(one.row) == values(other.row)
        assert other.reported.bytes_sent == one.reported.bytes_sent == 5
        assert apart.keys() == together.keys()
        gone = state("EVENT_TIMEWAIT_GONE", ts_ns=END + 60, sk=TW, old=to, new=7, flags=2, **common(role, family))
        for told in (apart, together):
            told.tell(gone)
        assert len(apart.table) == len(together.table) == 1


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(("way", "steps"), [(way, steps) for way in WAYS for steps in range(1, len(WAYS[way]) + 1)])
def test_a_life_so_far_goes_on_event_by_event(way: str, steps: int, role: str, native: bool) -> None:
    with world(native):
        apart, together = Told(), Told()
        so_far = WAYS[way][:steps]
        apart.tell(*one_by_one(role, so_far, to=None, by_call=False, family=2))
        together.tell(at_once(role, so_far, to=None, by_call=False, family=2))
        assert together.last is not None
        assert (together.last.new, together.last.held_ns) == (State.ESTABLISHED, OPEN - BORN), "the handshake is told"
        assert apart.keys() == together.keys()
        left = list(one_by_one(role, WAYS[way], to=State.CLOSE, by_call=False, family=2))[1 + steps :]
        for told in (apart, together):
            told.tell(*left)
        assert apart.last is not None
        assert values(apart.last.row) == values(together.last.row)
        assert len(together.table) == 1


@pytest.mark.parametrize("native", [True, False])
def test_connections_to_a_listener_that_has_closed_are_of_who_held_it(native: bool) -> None:
    with world(native):
        told = Told()
        told.tell(state(ts_ns=300, sk=9, ino=LISTENER, old=10, new=7, sport=443, netns=HERE.inode))
        told.tell(at_once("server", WAYS["reset"], to=State.CLOSE, by_call=False, family=2))
        assert told.last is not None
        assert told.last.row.owner_source == "listener"
        assert [one.comm for one in told.last.row.owners] == [b"listens"]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("wrong", [{"old": State.LISTEN}, {"old": State.TIME_WAIT}, {"since_ns": 0}])
def test_a_life_that_cannot_be_is_refused(wrong: dict[str, int], native: bool) -> None:
    fields = {"ts_ns": END, "since_ns": BORN, "old": 9, "new": 7, **wrong}
    with world(native), pytest.raises(DecodeError, match="different builds"):
        Told().decoder.events(0, state("EVENT_LIFE_CLOSED", sk=SK, **fields, **common("client")))


@pytest.mark.parametrize(("way", "to", "by_call"), ENDS)
@pytest.mark.parametrize("role", ["client", "server"])
def test_usual_lives_are_the_twins_alone(way: str, role: str, to: State, by_call: bool) -> None:
    if twins is None:
        pytest.skip("the twins have not been built")
    left: list[Any] = []
    told = Told()
    told.table.apply = left.append  # type: ignore[method-assign, assignment]
    told.tell(at_once(role, WAYS[way], to=to, by_call=by_call, family=2))
    assert not left
    assert told.last is not None
