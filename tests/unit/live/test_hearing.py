"""What the kernel fired against what our programs heard, with counters that are made up."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sstrace.live import probes as hooks
from sstrace.live.probes import _Hearing


class Kernel:
    """Counts of a tracepoint: ``fired`` by the kernel, ``heard`` by our programs. It may fire between two readings."""

    def __init__(self, fired: int, heard: int) -> None:
        self.fired, self.count = fired, heard
        self.renewed: set[int] = set()
        self.busy = 0
        """How many more readings find that it has fired once more meanwhile."""

    def _go_on(self) -> None:
        if self.busy:
            self.busy -= 1
            self.fired += 1
            self.count += 1

    def read(self) -> int:
        self._go_on()
        return self.fired

    def heard(self, _cpus: Sequence[int]) -> tuple[int, int]:
        self._go_on()
        return self.count, 0

    def miss(self, times: int) -> None:
        self.fired += times


@pytest.fixture
def hearing(monkeypatch: pytest.MonkeyPatch) -> "Make":
    def made(kernel: Any) -> _Hearing:
        monkeypatch.setattr(hooks, "event_format", lambda _event: "")
        monkeypatch.setattr(hooks, "decode_format", lambda _text: (1, {}))
        monkeypatch.setattr(hooks, "Fired", lambda _id, _cpus, _which: kernel)
        return _Hearing(kernel, None)

    return made


Make = Callable[[Kernel], _Hearing]


def test_what_fired_before_the_start_is_no_matter(hearing: Make) -> None:
    assert hearing(Kernel(1000, 3)).missed() == 0
    assert hearing(Kernel(3, 1000)).missed() == 0


@pytest.mark.parametrize("busy", [0, 1, 2, 3, 10, 90])
def test_a_firing_that_ran_nothing_is_found_when_there_is_a_calm_moment(hearing: Make, busy: int) -> None:
    kernel = Kernel(50, 20)
    kernel.busy = busy
    hears = hearing(kernel)
    kernel.miss(2)
    assert hears.missed() <= 2
    kernel.busy = 0
    assert hears.missed() == 2
    kernel.miss(1)
    assert hears.missed() == 3


def test_it_never_says_more_than_the_truth_and_never_takes_it_back(hearing: Make) -> None:
    kernel = Kernel(0, 0)
    hears = hearing(kernel)
    kernel.busy = 1000
    for _ in range(100):
        assert hears.missed() == 0
    kernel.busy = 0
    kernel.miss(5)
    assert hears.missed() == 5
    kernel.busy = 1000
    for _ in range(100):
        assert hears.missed() == 5


def test_a_time_in_which_the_kernel_did_not_count_hides_nothing_later(hearing: Make) -> None:
    # Somebody has a program on the tracepoint itself, and goes away again.
    kernel = Kernel(0, 0)
    hears = hearing(kernel)
    kernel.miss(3)
    assert hears.missed() == 3
    kernel.count += 10_000
    assert hears.missed() == 3
    kernel.miss(2)
    assert hears.missed() == 5
