"""When a count of timewait sockets shows that something was missed, and how long the next sweep may wait."""

from collections.abc import Callable
from itertools import count

import pytest

from sstrace.live import timewaits
from sstrace.live.doubts import pause
from sstrace.live.timewaits import Timewaits

S = 1_000_000_000


class Kernel:
    """/proc/net/sockstat, of a namespace with so many timewait sockets."""

    def __init__(self) -> None:
        self.waiting = 0

    def read(self) -> bytes:
        return b"sockets: used 9\nTCP: inuse 4 orphan 0 tw %d alloc 9 mem 1\n" % self.waiting

    def close(self) -> None:
        """As the file's."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    clock = count(S, 1000)
    monkeypatch.setattr(timewaits, "Reread", lambda _path: made)
    monkeypatch.setattr(timewaits, "monotonic_ns", lambda: next(clock))
    monkeypatch.setattr(timewaits, "thread_time_ns", lambda: 0)
    return made


@pytest.fixture
def found(kernel: Kernel) -> Callable[..., bool]:
    """Compares a table of so many such rows, and says whether a sweep is due."""
    timewaits = Timewaits()

    def compared(rows: int, *, waiting: int | None = None, uncertain: int = 0, swept: bool | None = None) -> bool:
        kernel.waiting = rows if waiting is None else waiting
        timewaits.look()
        assert timewaits.due(S) is None
        assert timewaits.due(2 * S) is not None
        due = timewaits.compare(lambda: rows, uncertain)
        assert timewaits.due(2 * S) is None, "once"
        if swept is not None:
            timewaits.sweep_ends(repaired=swept)
        return due

    return compared


def test_three_comparisons_must_agree(found: Callable[..., bool]) -> None:
    assert [found(7, waiting=9) for _ in range(3)] == [False, False, True]
    assert found(8, waiting=9), "until a sweep has ended"
    assert found(9, swept=True)
    assert not found(9)


@pytest.mark.parametrize("rows", [[7, 9, 7, 7, 9], [7, 11, 7, 11, 7]], ids=["now and then", "either way"])
def test_what_comes_and_goes_is_a_processor_that_was_away(found: Callable[..., bool], rows: list[int]) -> None:
    assert not any(found(one, waiting=9) for one in rows)


def test_events_of_that_very_moment_prove_nothing(found: Callable[..., bool]) -> None:
    assert not any(found(7, waiting=9, uncertain=2) for _ in range(5))
    assert [found(7, waiting=9, uncertain=1) for _ in range(3)] == [False, False, True]


def test_what_the_kernel_counts_and_does_not_show_is_learnt(found: Callable[..., bool]) -> None:
    assert [found(7, waiting=9) for _ in range(3)] == [False, False, True]
    assert found(7, waiting=9, swept=False)
    assert not any(found(7, waiting=9) for _ in range(5))
    assert [found(7, waiting=8) for _ in range(3)] == [False, False, True]


def test_after_a_loss_comparing_begins_anew(kernel: Kernel) -> None:
    timewaits = Timewaits()
    kernel.waiting = 9
    for _ in range(2):
        timewaits.look()
        assert not timewaits.compare(lambda: 7, 0)
    timewaits.look()
    timewaits.forget()
    assert timewaits.due(2 * S) is None
    timewaits.look()
    assert not timewaits.compare(lambda: 7, 0)


def test_no_sweep_is_long_in_coming_whatever_it_costs() -> None:
    assert pause(10 * S, 200, S // 1000) == 10 * S
    assert pause(10 * S, 200, S // 10) == 20 * S
    assert pause(10 * S, 200, 4 * S) == 60 * S
