"""A CPU goes and comes back while tracers run: none of them ends, and what they could not hear they say.

Not among ``all``, for everybody on the machine is without that CPU meanwhile: for a guest, as in
``scripts/vm/matrix 6.1 -- scripts/hostile cpus``.
"""

import os
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from conftest import Netns
from tracing import Trace

from hostility.campaign import SSTRACE, Bounds, Tally, connection, namespace

CONNECTIONS = 20


def run(bounds: Bounds, tally: Tally) -> None:
    """Take the last CPU away and give it back, ``count`` times: from tracers that began with it, and without."""
    switches = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/online"))
    if not switches:
        tally.note("a CPU", "none can be taken away here", "/sys/devices/system/cpu/cpu*/online")
        return
    switch = switches[-1]
    for number in range(bounds.count):
        for began in ("1", "0"):
            how = "it was there at first" if began == "1" else "it came later"
            with tally.attempt(how, f"number {number}"), ExitStack() as stack:
                stack.callback(switch.write_text, "1")
                switch.write_text(began)
                _try(bounds.scratch / f"{number}-{began}", switch, stack.enter_context(namespace()))


def _try(scratch: Path, switch: Path, netns: Netns) -> None:
    for name in ("trace", "verify"):
        (scratch / name).mkdir(parents=True)
    with (
        Trace(SSTRACE, netns, scratch / "trace") as trace,
        Trace(SSTRACE, netns, scratch / "verify", "--verify", "--interval", "1s") as verify,
    ):
        netns.call(partial(_connect, 0))
        for state in "0101":
            switch.write_text(state)
            netns.call(partial(_connect, int(switch.parent.name[3:]) if state == "1" else 0))
        assert trace.stop() == 0, trace.stderr
        assert verify.stop() in (0, 6), verify.stderr
    told = sum(line["to"] == "SYN-SENT" for line in trace.states)
    lost = sum(map(int, re.findall(r"(\d+) (?:lost|missed)", trace.stderr)))
    assert told == 5 * CONNECTIONS or lost, f"{told} of {5 * CONNECTIONS} connections, and {trace.stderr}"


def _connect(cpu: int) -> None:
    """On this CPU alone."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        for _ in range(CONNECTIONS):
            connection()
    finally:
        os.sched_setaffinity(0, everywhere)
