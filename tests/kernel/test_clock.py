"""The wall clock is set while sstrace runs: lines follow it within a second, and durations do not."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from set_clock import Clock
from test_sinks import program
from tracing import Trace, close_all, listener, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]

HOURS = (2, -5)
"""It is set forward, then back, from where it stands each time."""


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


@pytest.fixture
def clock(tmp_path: Path, sstrace: Program) -> Clock:
    program("gcc", "gcc")
    return Clock(tmp_path, sstrace)


def when(line: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(line["ts"][:26] + "+00:00")


def test_lines_and_recordings_follow(sstrace: Program, netns: Netns, tmp_path: Path, clock: Clock) -> None:
    recording = tmp_path / "rec"
    ports = []
    with Trace(clock.program, netns, tmp_path, "--record", str(recording)) as trace:
        for number, hours in enumerate((0, *HOURS)):
            clock.set(hours)
            while trace.stderr.count("the clock was set") != number:
                wait("a sentence", lambda: trace.stderr.count("the clock was set"))
            made = netns.call(listener)
            ports.append(made.getsockname()[1])
            made.close()
            trace.wait_for(sport=ports[-1], new="UNCONN")
        assert trace.stop() == 0
    assert [line.partition(" by ")[0] for line in trace.stderr.splitlines()[:2]] == [
        "sstrace: the clock was set forward",
        "sstrace: the clock was set back",
    ]
    born = [next(line for line in trace.states if line["sport"] == port) for port in ports]
    for before, after, hours in zip(born, born[1:], HOURS, strict=False):
        passed = timedelta(microseconds=(after["mono_ns"] - before["mono_ns"]) / 1000)
        assert abs(when(after) - when(before) - passed - timedelta(hours=hours)) < timedelta(seconds=1)
    assert all(line.get("held_us", 0) < 3600e6 for line in trace.states)  # which is by the other clock
    # Whoever reads the recording has each line's time, as it was told.
    replayed = sstrace("--replay", str(recording), "-nH", "--time", "utc")
    assert (replayed.returncode, replayed.stderr) == (0, b"")
    told = [line.split()[0] for line in replayed.stdout.decode().splitlines() if " -> LISTEN" in line]
    assert [datetime.fromisoformat(text) for text in told] == [when(line) for line in born]


def test_what_has_passed_is_no_matter_of_the_wall_clock(netns: Netns, tmp_path: Path, clock: Clock) -> None:
    recording = tmp_path / "rec"
    words = ("-nH", "--time", "relative", "--record", str(recording))
    with Trace(clock.program, netns, tmp_path, *words, json_lines=False) as trace:
        netns.call(listener).close()
        for number, hours in enumerate(HOURS, 1):
            clock.set(hours)
            wait("it is noticed", partial(_has_checkpoints, recording, number))
            netns.call(listener).close()
        wait("all is told", lambda: len(trace.text) == 6)
    assert all(0 <= float(line.split()[0]) < 3600 for line in trace.text)


def _has_checkpoints(recording: Path, number: int) -> bool:
    return recording.read_bytes().count(b'"type":"checkpoint"') >= number
