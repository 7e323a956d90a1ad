"""A CPU goes and comes back while tracers run: none of them ends, and what they could not hear they say.

Not among ``all``, for everybody on the machine is without that CPU meanwhile: for a guest, as in
``scripts/vm/matrix 6.1 -- scripts/hostile cpus``.
"""

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from conftest import Netns
from tracing import Trace, wait

from hostility.campaign import SSTRACE, Bounds, Tally, connection, namespace

CONNECTIONS = 20
_PATIENCE_S = 120
"""A guest is slow."""


def run(bounds: Bounds, tally: Tally) -> None:
    """Take the last CPU away and give it back, ``count`` times each, from tracers that began with it, and without."""
    for words in ((), ("--verify",)):  # what is compiled now is in the cache
        SSTRACE(*words, "--duration", "1ms", timeout=10 * _PATIENCE_S)
    switches = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/online"))
    if not switches:
        tally.note("a CPU", "none can be taken away here", "/sys/devices/system/cpu/cpu*/online")
        return
    switch = switches[-1]
    for began, turns in ("1", "01"), ("0", "10"):
        with ExitStack() as stack:
            stack.callback(switch.write_text, "1")
            switch.write_text(began)
            tried = stack.enter_context(_Tried(bounds.scratch / began, tally, stack.enter_context(namespace())))
            for number in range(bounds.count):
                for state in turns:
                    what = f"it {'comes' if state == '1' else 'goes'}, {'there' if began == '1' else 'away'} at first"
                    cpu = int(switch.parent.name[3:]) if state == "1" else 0
                    tried.turn(what, f"number {number}", partial(switch.write_text, state), cpu)


class _Tried:
    """A trace and a --verify, of a namespace in which something happens again and again."""

    def __init__(self, scratch: Path, tally: Tally, netns: Netns) -> None:
        for name in ("trace", "verify"):
            (scratch / name).mkdir(parents=True)
        self._tally = tally
        self._netns = netns
        self._stack = ExitStack()
        self._trace = self._stack.enter_context(Trace(SSTRACE, netns, scratch / "trace"))
        self._verify = self._stack.enter_context(
            Trace(SSTRACE, netns, scratch / "verify", "--verify", "--interval", "1s")
        )
        self._made = 0

    def __enter__(self) -> "_Tried":
        return self

    def turn(self, what: str, how: str, happens: Callable[[], object], cpu: int) -> None:
        """What ``happens`` is survived: connections after it, on this CPU, are told."""
        with self._tally.attempt(what, how):
            happens()
            self._netns.call(partial(_connect, cpu))
            self._made += CONNECTIONS
            wait("all is told, or said to be lost", self._is_told, _PATIENCE_S)
            for one in (self._trace, self._verify):
                assert one.process.poll() is None, one.stderr

    def _is_told(self) -> bool:
        lines = self._trace.lines
        told = sum(line["type"] == "state" and line["to"] == "SYN-SENT" for line in lines)
        return told >= self._made or any(line["type"] in ("gap", "resync") for line in lines[-2 * self._made :])

    def __exit__(self, *_: object) -> None:
        with self._tally.attempt("their end", f"after {self._made} connections"), self._stack:
            assert self._trace.stop() == 0, self._trace.stderr
            assert self._verify.stop() in (0, 6), self._verify.stderr
            told = sum(line["to"] == "SYN-SENT" for line in self._trace.states)
            lost = sum(map(int, re.findall(r"(\d+) (?:lost|missed)", self._trace.stderr)))
            assert told == self._made or lost, f"{told} of {self._made} connections, and {self._trace.stderr}"


def _connect(cpu: int) -> None:
    """On this CPU alone."""
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        for _ in range(CONNECTIONS):
            connection()
    finally:
        os.sched_setaffinity(0, everywhere)
