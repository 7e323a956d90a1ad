"""To whom an incident is brought: rows that are there, and those that have just gone."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from sstrace.live.incidents import _DEAD, Incidents
from sstrace.live.source import _key
from sstrace.model import AF_INET, Extras, InetSocket, Netns, State, Table


def test_an_address_that_is_given_out_again_is_remembered_from_its_last_end() -> None:
    """Incidents come just after an end: of as many as are remembered the latest are meant."""
    ends = [*range(_DEAD), 0, _DEAD]
    changes = iter([SimpleNamespace(new=State.CLOSE, row=SimpleNamespace(sk=sk, at=at)) for at, sk in enumerate(ends)])
    table: Any = SimpleNamespace(folder=lambda: lambda _event: next(changes))
    incidents = Incidents({}, None, Netns(1, 1), ["overflow"])
    take = incidents.folder(table)
    for _ in ends:
        take(None)
    dead: Any = incidents._dead
    assert len(dead) == _DEAD
    assert dead[0].at == _DEAD
    assert 1 not in dead
    incidents.close()


@pytest.mark.parametrize(("before", "after"), [(5, 8), ((1 << 32) - 2, 1)])
def test_the_kernel_counts_what_a_listener_drops_in_32_bits(before: int, after: int) -> None:
    found = InetSocket(Table.TCP, AF_INET, int(State.LISTEN), extras=Extras(skmem=(0,) * 8 + (before,)))
    row: Any = SimpleNamespace(id=1, state=State.LISTEN, born_ns=None)
    index = SimpleNamespace(known=lambda _socket: row)
    table: Any = SimpleNamespace(shard=lambda _space: SimpleNamespace(index=index))
    place: Any = SimpleNamespace(space=None, kernel=SimpleNamespace(listeners=lambda: [found]))
    incidents = Incidents({}, None, Netns(1, 1), ["overflow"])
    assert list(incidents.look([place], table, now=True)) == []
    found.extras = Extras(skmem=(0,) * 8 + (after,))
    (happened,) = incidents.look([place], table, now=True)
    assert happened.details.count == 3
    assert list(incidents.look([place], table, now=True)) == []
    incidents.close()


def test_what_is_on_another_device_is_another_connection() -> None:
    one = InetSocket(Table.TCP, AF_INET, 1, src=b"abcd", sport=1, dst=b"efgh", dport=2, ifindex=3)
    assert _key(one) != _key(msgspec.structs.replace(one, ifindex=4))
