"""Many held sockets, and tracers that are stopped in a flood: they show what ss shows; a loss is told, and heals."""

import mmap
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from functools import partial

from sockets import enter_fresh_namespace, held
from tracing import Trace, wait

from hostility.campaign import ROOT, SS, SSTRACE, Bounds, Tally, connection, namespace, wrong
from sstrace.wire.event import SIZE

EVENTS = 50
"""While nobody drains the rings, for each connection that is held later."""
OF_A_CONNECTION = 10
"""Events, both ends together, at least."""
STOPS = 2000
"""For so many sockets, one time that everything is stopped: scripts/verify-loss takes half a minute."""


def run(bounds: Bounds, tally: Tally) -> None:
    """``count`` connections, held; then stops, one for each ``STOPS``."""
    with tally.attempt("never drained", f"{EVENTS * bounds.count} events while everything is stopped"):
        _undrained(bounds)
    enter_fresh_namespace()
    for number in range(bounds.count // STOPS):
        with tally.attempt("stopped and continued", f"scripts/verify-loss --seed {bounds.seed + number}"):
            _stopped(bounds.seed + number)
    how = f"{bounds.count} connections"
    here, ready, errors = (bounds.scratch / name for name in ("live", "ready", "err"))
    with held(bounds.count), errors.open("wb") as err:
        server = SSTRACE.start(f"--serve={here}", "--ready-file", str(ready), stdout=err, stderr=err)
        wait("it serves", lambda: ready.exists() or server.poll() is not None, 120)
        for words in ("-Htan", "-Htanp", "-Htan state listening", "-Htan src 127.0.1.1"):
            with tally.attempt(words, how):
                ours = SSTRACE("--snapshot", "--from", f"live:{here}", *words.split(), timeout=300)
                theirs = SS(*words.split(), timeout=300)
                assert wrong(ours.returncode, ours.stderr, (0,)) is None, ours.stderr
                # Blanks follow the longest row of an answer's beginning, which is in another order.
                assert _rows(ours.stdout) == _rows(theirs.stdout), "other rows than ss's"
    # They are gone, all at once.
    with tally.attempt("all close at once", how):
        asked = ("--snapshot", "--from", f"live:{here}", "-Htan", "exclude", "time-wait")
        wait("nothing is left", lambda: not SSTRACE(*asked, timeout=300).stdout, 300)
    server.send_signal(signal.SIGTERM)
    code = server.wait(120)
    tally.note("the server's end", wrong(code, errors.read_bytes(), (0,)), how)


def _undrained(bounds: Bounds) -> None:
    """So much happens that the rings cannot hold it, be they as large as they are without being told."""
    events = EVENTS * bounds.count
    pages = 2048
    while pages * mmap.PAGESIZE * 4 > events * SIZE:
        pages //= 2
    with namespace() as netns, ExitStack() as stack:
        traces: list[Trace] = []
        for words in ((), ("--verify", "--interval", "200ms")):
            directory = bounds.scratch / f"undrained{len(traces)}"
            directory.mkdir()
            env = {"SSTRACE_PAGES": str(pages)}
            traces.append(stack.enter_context(Trace(SSTRACE, netns, directory, *words, env=env)))
        for trace in traces:
            trace.process.send_signal(signal.SIGSTOP)
        netns.call(partial(_connections, events // OF_A_CONNECTION))
        for trace in traces:
            trace.process.send_signal(signal.SIGCONT)
        trace, verify = traces
        wait("the loss is told, and healed", lambda: _is_healed(trace), 120)
        netns.call(partial(_connections, 1))
        assert trace.stop() == 0, trace.stderr
        assert verify.stop() == 0, verify.stderr
        assert " 0 lost" not in verify.stderr, verify.stderr


def _is_healed(trace: Trace) -> bool:
    kinds = [line["type"] for line in trace.lines]
    return "gap" in kinds and "resync" in kinds[kinds.index("gap") :]


def _connections(count: int) -> None:
    for _ in range(count):
        connection()


def _rows(text: bytes) -> Counter[bytes]:
    return Counter(b" ".join(line.split()) for line in text.splitlines())


def _stopped(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/verify-loss", "--stop", "1", "--seconds", "3", "--seed", str(seed)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-500:]
