"""What --verify counts as drift, over dumps that are made up."""

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bpf_events import HERE, changed

from sstrace.dialect import dialect
from sstrace.live.kernel import Kernel
from sstrace.live.places import Place, Places
from sstrace.model import AF_INET, AF_INET6, InetSocket, Kind, Owner, State, Table
from sstrace.modes import verify
from sstrace.query.command import Command
from sstrace.query.options import parse
from sstrace.sources import proc
from sstrace.sources.names import SystemNames
from sstrace.table import SocketTable

S = State
A, B = 0xFFFF888000001000, 0xFFFF888000002000
ENDS: dict[str, Any] = {"src": b"\x7f\0\0\1", "sport": 5, "dst": b"\x7f\0\0\1", "dport": 6}


class Tracer:
    """A table, and what the dumps around it show, two a comparison."""

    lost = 0
    tables = (Table.TCP,)

    def __init__(self, *dumps: list[InetSocket]) -> None:
        self.table = SocketTable(HERE)
        self.between: list[Callable[[Tracer], None]] = []
        """What happens between the two dumps."""
        self._dumps = iter(dumps)
        self.places = Places(Place(HERE, cast("Kernel", self)))

    def dump(self, _states: int, table: Table) -> tuple[list[InetSocket], bool]:
        return next(self._dumps), True

    def doubts(self) -> bool:
        return False

    def settle(self) -> Iterator[Any]:
        while self.between:
            self.between.pop(0)(self)
        return iter(())


def following(tracer: Tracer) -> Any:
    return SimpleNamespace(tracer=tracer, settle=tracer.settle, poll=getattr(tracer, "poll", None))


def shown(state: State, cookie: int) -> InetSocket:
    return InetSocket(table=Table.TCP, family=AF_INET, state=int(state), cookie=cookie, **ENDS)


def drift(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch, option: str = "-a", times: int = 1
) -> list[tuple[str, str | None, str | None]]:
    """(kind, table, kernel) of each line of a comparison, or of several."""
    said = io.BytesIO()
    monkeypatch.setattr(os, "write", lambda _fd, data: said.write(data))
    command = parse(["sstrace", "--verify", option, "--json"], release=dialect())
    assert isinstance(command, Command)
    check = verify._Check(command, SystemNames({}), following(tracer), verify._Totals())
    for _ in range(times):
        check.compare()
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    return [(line["kind"], line.get("table"), line.get("kernel")) for line in lines]


def test_a_drift_names_both_ends_as_ss_does(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.BytesIO()
    monkeypatch.setattr(os, "write", lambda _fd, data: said.write(data))
    command = parse(["sstrace", "--verify", "-an"], release=dialect())
    assert isinstance(command, Command)
    names = SystemNames({})
    names.name_interface(7, "v0")
    check = verify._Check(command, names, following(Tracer([])), verify._Totals())
    check._report(
        "missed", (HERE.cookie, AF_INET6, b"\xfe\x80" + bytes(13) + b"\1", 90, bytes(16), 0, 7, 0, 6), None, "LISTEN"
    )
    assert said.getvalue().endswith(b" missed [fe80::1]%v0:90 *:* table has nothing, kernel LISTEN\n")


class Healing(Tracer):
    """In doubt until it has been polled so often."""

    def __init__(self, polls: int, *dumps: list[InetSocket]) -> None:
        super().__init__(*dumps)
        self.polls = polls

    def doubts(self) -> bool:
        return self.polls > 0

    def poll(self, _seconds: float) -> Iterator[Any]:
        self.polls -= 1
        return iter(())


def test_the_last_comparison_waits_for_what_is_in_doubt_to_be_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    command = parse(["sstrace", "--verify", "-a", "--json"], release=dialect())
    assert isinstance(command, Command)
    same = [shown(S.ESTABLISHED, 7)]
    tracer = Healing(2, *[same] * 8)
    open_one(tracer)
    totals = verify._Totals()
    check = verify._Check(command, SystemNames({}), following(tracer), totals)
    assert not check.compare()
    check.finish()
    assert (totals.checks, totals.rows, totals.kinds.total(), tracer.polls) == (1, 1, 0, 0)
    monkeypatch.setattr(verify, "_PATIENCE_NS", 0)
    tracer = Healing(2, *[same] * 2)
    check = verify._Check(command, SystemNames({}), following(tracer), verify._Totals())
    check.finish()
    assert tracer.polls == 2  # no longer than that


class Looks:
    """What the walk finds, look after look."""

    def __init__(self, *found: tuple[Owner, ...]) -> None:
        self._found = iter(found)

    def look(self) -> dict[int, tuple[Owner, ...]]:
        return {9: next(self._found)}


def open_one(tracer: Tracer) -> None:
    tracer.table.apply(changed(10, S.CLOSE, S.SYN_SENT, A, cookie=7, **ENDS))
    tracer.table.apply(changed(20, S.SYN_SENT, S.ESTABLISHED, A, cookie=7, **ENDS))


def test_what_stood_before_and_after_must_stand_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [shown(S.CLOSE_WAIT, 7)]
    assert drift(Tracer(same, same), monkeypatch) == [("missed", None, "CLOSE-WAIT")]
    tracer = Tracer(same, same)
    open_one(tracer)
    assert drift(tracer, monkeypatch) == [("wrong", "ESTAB", "CLOSE-WAIT")]
    tracer = Tracer([], [])
    open_one(tracer)
    assert drift(tracer, monkeypatch) == [("ghost", "ESTAB", None)]


def test_sockets_bound_to_devices_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    # On one device a TIME-WAIT; on none a connection between the same addresses.
    bound, free = shown(S.TIME_WAIT, 3), shown(S.ESTABLISHED, 7)
    bound.ifindex = 2
    for both in ([bound, free], [free, bound]):
        tracer = Tracer(both, both)
        open_one(tracer)
        assert drift(tracer, monkeypatch) == [("missed", None, "TIME-WAIT")]
        tracer = Tracer(both, both)
        open_one(tracer)
        ends = {**ENDS, "ifindex": 2}
        tracer.table.apply(changed(30, 0, S.TIME_WAIT, B, kind=Kind.TIMEWAIT, cookie=3, **ends))
        assert drift(tracer, monkeypatch) == []


def test_a_socket_that_was_bound_to_a_device_later_is_no_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    bound = shown(S.ESTABLISHED, 7)
    bound.ifindex = 2
    tracer = Tracer([bound], [bound])
    open_one(tracer)
    assert drift(tracer, monkeypatch) == []
    bound.state = int(S.CLOSE_WAIT)
    tracer = Tracer([bound], [bound])
    open_one(tracer)
    assert drift(tracer, monkeypatch) == [("wrong", "ESTAB", "CLOSE-WAIT")]


def test_a_drift_that_lasts_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer([], [], [], [])
    open_one(tracer)
    assert drift(tracer, monkeypatch, times=2) == [("ghost", "ESTAB", None)]


@pytest.mark.parametrize("between", [True, False])
def test_two_sockets_in_the_same_state_prove_nothing_of_what_came_between(
    monkeypatch: pytest.MonkeyPatch, between: bool
) -> None:
    # A busy client's TIME-WAIT makes way for its next connection, which is in TIME-WAIT when it is looked at again.
    tracer = Tracer([shown(S.TIME_WAIT, 3)], [shown(S.TIME_WAIT, 7)])
    if between:
        open_one(tracer)
    assert drift(tracer, monkeypatch) == []


def connect_again(tracer: Tracer) -> None:
    now = time.monotonic_ns()
    tracer.table.apply(changed(now, S.ESTABLISHED, S.CLOSE, A, cookie=7, **ENDS))
    tracer.table.apply(changed(now + 1, S.CLOSE, S.SYN_SENT, A, cookie=7, **ENDS))


def close(tracer: Tracer) -> None:
    tracer.table.apply(changed(time.monotonic_ns(), S.ESTABLISHED, S.CLOSE, A, cookie=7, **ENDS))


@pytest.mark.parametrize("what", [connect_again, close])
def test_a_socket_may_leave_its_state_and_come_back_to_it(
    monkeypatch: pytest.MonkeyPatch, what: Callable[[Tracer], None]
) -> None:
    # It was disconnected and connects again, with the cookie and the ports that it had; the rest is folded in later.
    same = [shown(S.ESTABLISHED, 7)]
    tracer = Tracer(same, same)
    open_one(tracer)
    tracer.between = [what]
    assert drift(tracer, monkeypatch) == []


def test_one_timewait_socket_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [shown(S.TIME_WAIT, 7)]
    tracer = Tracer(same, same)
    open_one(tracer)
    tracer.table.apply(changed(30, 0, S.TIME_WAIT, B, kind=Kind.TIMEWAIT, cookie=7, **ENDS))
    assert drift(tracer, monkeypatch) == []


PARENT, CHILD = Owner(b"postgres", 7, 5), Owner(b"postgres", 8, 5)


@pytest.mark.parametrize(
    ("looks", "drifts"),
    [
        ([(PARENT,)], []),
        ([(CHILD, PARENT), (PARENT,)], []),  # it had just forked
        ([(CHILD, PARENT), (CHILD, PARENT)], [("wrong", "postgres/8/5,postgres/7/5", "postgres/7/5")]),
        ([(), ()], [("wrong", "nobody", "postgres/7/5")]),
    ],
)
def test_holders_are_wrong_when_they_stay_so(
    monkeypatch: pytest.MonkeyPatch, looks: list[tuple[Owner, ...]], drifts: list[tuple[str, str, str]]
) -> None:
    one = shown(S.ESTABLISHED, 7)
    one.ino = 9
    tracer = Tracer([one], [one])
    open_one(tracer)
    tracer.owners = Looks(*looks)  # type: ignore[attr-defined]
    monkeypatch.setattr(proc, "owners", lambda: {9: (PARENT,)})
    assert drift(tracer, monkeypatch, "-ap") == drifts
