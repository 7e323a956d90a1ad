"""Who holds the sockets when the walk cannot go on."""

import pytest

from sstrace.errors import FeatureError
from sstrace.live import owners
from sstrace.model import Owner
from sstrace.sources import proc


class Walk:
    """Loads, and then fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def owners(self, wanted: object) -> dict[int, tuple[Owner, ...]]:
        raise self.error

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("error", "closed"), [(OSError(24, "Too many open files"), True), (FeatureError("no"), False)])
def test_a_walk_that_fails_leaves_it_to_proc(monkeypatch: pytest.MonkeyPatch, error: Exception, closed: bool) -> None:
    walk = Walk(error)
    monkeypatch.setattr(owners, "OwnerWalk", lambda _cache: walk)
    monkeypatch.setattr(proc, "owners", lambda: {7: (Owner(b"x", 1, 2),)})
    found = owners.OwnerLooks({})
    assert list(found.look()) == [7]
    assert (found.source, walk.closed) == ("proc", closed)


def test_a_walk_that_does_not_load_leaves_it_to_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_cache: object) -> Walk:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(owners, "OwnerWalk", refuse)
    monkeypatch.setattr(proc, "owners", dict)
    found = owners.OwnerLooks({})
    assert (found.look(), found.source) == ({}, "proc")
