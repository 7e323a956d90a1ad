"""kill -9 at any moment: nothing that sstrace started lives on, what it wrote can be read, and the next one works."""

import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from conftest import Netns
from tracing import wait

from hostility.campaign import SS, SSTRACE, Bounds, Tally, busy, ended, namespace

RUNS: dict[str, tuple[str, ...]] = {
    "trace": ("--json", "--output", "{here}/out"),
    "record": ("--record", "{here}/rec", "--rotate", "20k", "--keep", "3"),
    "gzip": (
        "--record",
        "{here}/rec.gz",
    ),
    "serve": ("--serve={here}/live", "--keep-privileges", "--record", "{here}/rec"),
    "watch beside a record": ("--verify", "--interval", "100ms", "--record", "{here}/rec"),
}
_MARK = "SSTRACE_HOSTILE"


def run(bounds: Bounds, tally: Tally) -> None:
    """Kill ``count`` of them."""
    with namespace() as netns, busy(netns):
        for number in range(bounds.count):
            name = list(RUNS)[number % len(RUNS)]
            with tally.attempt(name, f"seed {bounds.seed}, number {number}"):
                _kill(bounds, netns, name, number)


def _kill(bounds: Bounds, netns: Netns, name: str, number: int) -> None:
    here = bounds.scratch / name.replace(" ", "-")
    here.mkdir(exist_ok=True)
    ready = here / "ready"
    ready.unlink(missing_ok=True)
    mark = uuid.uuid4().hex
    words = [word.format(here=here) for word in RUNS[name]]
    with (here / "err").open("wb") as err:
        process = SSTRACE.start(
            *words, "--ready-file", str(ready), netns=netns, env={_MARK: mark}, stdout=err, stderr=err
        )
    dice = bounds.dice(number)
    if dice.random() < 0.7:  # else while it begins
        wait("it is ready", lambda: ready.exists() or process.poll() is not None, 60)
        assert process.poll() is None, (here / "err").read_text()
    time.sleep(dice.random() * 0.4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait("nothing lives on", lambda: not list(_marked(mark)), 20)
    for file in here.glob("rec*"):
        found, _ = ended(["--replay", str(file)])
        assert found is None, found
    theirs = SS("-Htln", netns=netns).stdout
    ours = SSTRACE("--snapshot", "-Htln", netns=netns).stdout
    # Connections come and go meanwhile, and with each its listener.
    assert len(ours.split()) < len(theirs.split()) + 50
    if (here / "live").exists():
        found, _ = ended(["--snapshot", "-tln", "--from", f"live:{here}/live"], netns)
        assert found is None, found


def _marked(mark: str) -> Iterator[int]:
    wanted = f"{_MARK}={mark}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes():
                yield int(entry.name)
        except OSError:
            continue
