"""Many held sockets, and tracers that are stopped in a flood: they show what ss shows; a loss is told, and heals."""

import signal
import subprocess
import sys
from collections import Counter

from sockets import enter_fresh_namespace, held
from tracing import wait

from hostility.campaign import ROOT, SS, SSTRACE, Bounds, Tally, wrong

STOPS = 2000
"""For so many sockets, one time that everything is stopped: scripts/verify-loss takes half a minute."""


def run(bounds: Bounds, tally: Tally) -> None:
    """``count`` connections, held; then stops, one for each ``STOPS``."""
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


def _rows(text: bytes) -> Counter[bytes]:
    return Counter(b" ".join(line.split()) for line in text.splitlines())


def _stopped(seed: int) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/verify-loss", "--stop", "1", "--seconds", "3", "--seed", str(seed)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-500:]
