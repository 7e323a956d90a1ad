"""What --verify counts as drift, over dumps that are made up."""

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from bpf_events import NETNS, changed

from sstrace.dialect import dialect
from sstrace.driver import verify
from sstrace.model import AF_INET, InetSocket, Kind, State, Table
from sstrace.query.options import parse
from sstrace.sources.names import SystemNames
from sstrace.table import SocketTable

S = State
A, B = 0xFFFF888000001000, 0xFFFF888000002000
ENDS = {"src": b"\x7f\0\0\1", "sport": 5, "dst": b"\x7f\0\0\1", "dport": 6}


class Tracer:
    """A table, and what two dumps around it show."""

    lost, doubtful = 0, False

    def __init__(self, before: list[InetSocket], after: list[InetSocket]) -> None:
        self.table = SocketTable(NETNS)
        self._dumps = iter((before, after))

    def dump(self, _diag: object, _states: int) -> tuple[list[InetSocket], bool]:
        return next(self._dumps), True

    def settle(self) -> Iterator[Any]:
        return iter(())


def shown(state: State, cookie: int) -> InetSocket:
    return InetSocket(table=Table.TCP, family=AF_INET, state=int(state), cookie=cookie, **ENDS)


def drift(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str | None]]:
    """(kind, table, kernel) of each line of one comparison."""
    said = io.BytesIO()
    monkeypatch.setattr(os, "write", lambda _fd, data: said.write(data))
    command = parse(["sstrace", "--verify", "-a", "--json"], release=dialect())
    verify._Check(command, SystemNames({}), tracer, verify._Totals(), None).compare()  # type: ignore[arg-type]
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    return [(line["kind"], line.get("table"), line.get("kernel")) for line in lines]


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


@pytest.mark.parametrize("between", [True, False])
def test_two_sockets_in_the_same_state_prove_nothing_of_what_came_between(
    monkeypatch: pytest.MonkeyPatch, between: bool
) -> None:
    # A busy client's TIME-WAIT makes way for its next connection, which is in TIME-WAIT when it is looked at again.
    tracer = Tracer([shown(S.TIME_WAIT, 3)], [shown(S.TIME_WAIT, 7)])
    if between:
        open_one(tracer)
    assert drift(tracer, monkeypatch) == []


def test_one_timewait_socket_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [shown(S.TIME_WAIT, 7)]
    tracer = Tracer(same, same)
    open_one(tracer)
    tracer.table.apply(changed(30, 0, S.TIME_WAIT, B, kind=Kind.TIMEWAIT, cookie=7, **ENDS))
    assert drift(tracer, monkeypatch) == []
