"""Who holds the sockets when the walk cannot go on, and while events go on."""

from typing import Any

import pytest
from bpf_events import HERE, changed

from sstrace.errors import FeatureError
from sstrace.live import owners
from sstrace.model import Owner, State
from sstrace.sources import proc
from sstrace.table import SocketTable


class Walk:
    """Loads, and then fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def owners(self, wanted: object, breathe: object) -> dict[int, tuple[Owner, ...]]:
        raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("error", "closed"), [(OSError(24, "Too many open files"), True), (FeatureError("no"), False)])
def test_a_walk_that_fails_leaves_it_to_proc(monkeypatch: pytest.MonkeyPatch, error: Exception, closed: bool) -> None:
    walk = Walk(error)
    monkeypatch.setattr(owners, "OwnerWalk", lambda _cache: walk)
    monkeypatch.setattr(proc, "owners", lambda breathe: {7: (Owner(b"x", 1, 2),)})
    found = owners.OwnerLooks({})
    assert list(found.look()) == [7]
    assert (found.source, walk.closed) == ("proc", closed)


def test_a_walk_that_does_not_load_leaves_it_to_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_cache: object) -> Walk:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(owners, "OwnerWalk", refuse)
    monkeypatch.setattr(proc, "owners", lambda breathe: {})
    found = owners.OwnerLooks({})
    assert (found.look(), found.source) == ({}, "proc")


def test_a_look_breathes_and_what_happens_meanwhile_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many rows, so that nobody waits for all of them; an event that is younger than the look knows better."""
    table, walked, named = SocketTable(HERE), (Owner(b"walked", 1, 5),), Owner(b"named", 2, None)
    count, breaths = 3 * owners._RUN, 0

    def tell(at_ns: int, old: State, new: State, number: int, **fields: Any) -> None:
        ends = {"sport": 1 + number, "src": b"\x7f\0\0\1", "dst": b"\x7f\0\0\2", "dport": 80}
        table.apply(changed(at_ns, old, new, 0x1000 + number, ino=1 + number, **ends, **fields))

    def breathe() -> None:
        nonlocal breaths
        breaths += 1
        if breaths == 1:
            tell(200, State.ESTABLISHED, State.FIN_WAIT1, count - 1, owner=named)

    for number in range(count):
        tell(10, State.CLOSE, State.SYN_SENT, number)
        tell(11, State.SYN_SENT, State.ESTABLISHED, number)
    monkeypatch.setattr(proc, "owners", lambda breathe: {1 + number: walked for number in range(count)})
    looks = owners.OwnerLooks({}, breathe)
    looks._tried = True
    looks.own(table, table, lambda _: [], 100)
    assert breaths == 3
    assert [row.owners for row in table] == [walked] * (count - 1) + [(named,)]
