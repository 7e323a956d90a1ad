"""To whom an incident is brought: rows that are there, and those that have just gone."""

from types import SimpleNamespace
from typing import Any

from sstrace.live.incidents import _DEAD, Incidents
from sstrace.model import Netns, State


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
