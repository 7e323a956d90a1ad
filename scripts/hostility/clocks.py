"""The wall clock is set, and a machine sleeps, while sstrace runs: lines follow the clock, nothing else does.

Who sleeps hears nothing, sees CLOCK_REALTIME step and CLOCK_MONOTONIC not (clock_gettime(2)): a process that is stopped
while its clock is set. What happened meanwhile, as on a machine that others share, is told once it goes on.
"""

import re
import signal
from functools import partial
from itertools import pairwise
from pathlib import Path
from random import Random

from conftest import Netns
from set_clock import Clock
from tracing import Line, Trace, wait

from hostility.campaign import SSTRACE, Bounds, Tally, connection, ended, namespace

_TOLD = "the clock was set"
_LONGEST_US = 600e6
"""Of the shortest step a sixth; no attempt takes as long."""


def run(bounds: Bounds, tally: Tally) -> None:
    """Set it ``count`` times, every other time of one that sleeps, under a trace that records and a --verify."""
    with namespace() as netns:
        for number in range(bounds.count):
            dice, sleeps = bounds.dice(number), number % 2 == 1
            here = bounds.scratch / str(number)
            with tally.attempt("a sleep" if sleeps else "a step", f"seed {bounds.seed}, number {number}"):
                _try(here, netns, dice, sleeps=sleeps)


def _try(here: Path, netns: Netns, dice: Random, *, sleeps: bool) -> None:
    for name in ("trace", "verify"):
        (here / name).mkdir(parents=True)
    clock = Clock(here, SSTRACE)
    recording = here / "rec"
    with (
        Trace(clock.program, netns, here / "trace", "--record", str(recording)) as trace,
        Trace(clock.program, netns, here / "verify", "--verify", "--interval", "200ms") as verify,
    ):
        for told in range(1, 4):
            netns.call(connection)
            if sleeps:
                for one in (trace, verify):
                    one.process.send_signal(signal.SIGSTOP)
                netns.call(connection)
            # A machine that sleeps wakes later, never sooner.
            clock.set(dice.uniform(1, 9) * (1 if sleeps else dice.choice((1, -1))))
            if sleeps:
                for one in (trace, verify):
                    one.process.send_signal(signal.SIGCONT)
            wait("it is told", partial(_has_told, trace, told), 60)
        connections = 3 * (2 if sleeps else 1)
        wait("all is told", lambda: sum(line["to"] == "SYN-SENT" for line in trace.states) == connections, 60)
        assert trace.stop() == 0, trace.stderr
        assert verify.stop() == 0, verify.stderr
    _durations(trace.states)
    assert not re.search(r"[1-9]\d* lost", trace.stderr), trace.stderr
    found, out = ended(["--replay", str(recording), "--json"])
    assert found is None, found
    assert out.count(b'"to":"SYN-SENT"') == connections


def _has_told(trace: Trace, times: int) -> bool:
    return trace.stderr.count(_TOLD) >= times


def _durations(lines: list[Line]) -> None:
    """By the clock that nobody sets."""
    for line in lines:
        for key in ("held_us", "lifetime_us"):
            assert 0 <= line.get(key, 0) < _LONGEST_US, line
    assert all(one["seq"] < other["seq"] for one, other in pairwise(lines))
