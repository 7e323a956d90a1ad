"""Less memory than it takes: of the process (setrlimit(2)), which ends in a sentence; of its cgroup, where the kernel
kills, and what was written can be read.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

from conftest import Netns

from hostility.campaign import SSTRACE, Bounds, Tally, busy, ended, namespace, recorded, wrong
from hostility.syscalls import RUNS

LEAST, MOST = 20, 120
"""MiB of addresses: where the interpreter has come to sstrace, and where there is enough."""
GROUP = Path("/sys/fs/cgroup/memory")
"""The memory controller of cgroup v1; where it is cgroup2's, systemd gives nobody else a group to limit."""


def run(bounds: Bounds, tally: Tally) -> None:
    """Try ``count`` limits, of all runs in turn, and a group for every tenth."""
    sound = recorded(bounds)
    os.environ["TMPDIR"] = str(bounds.scratch)  # for reports
    with namespace() as netns, busy(netns):
        for number in range(bounds.count):
            name = list(RUNS)[number % len(RUNS)]
            words = [word.format(scratch=bounds.scratch, sound=sound) for word in RUNS[name]]
            limit = bounds.dice(number).randrange(LEAST, MOST) << 20
            found, _ = ended(words, netns, ["prlimit", f"--as={limit}"])
            tally.note(name, found, f"prlimit --as={limit} {' '.join(words)}")
            if number % 10 == 0 and GROUP.is_dir():
                how = f"seed {bounds.seed}, number {number}"
                with tally.attempt("a group's limit", how):
                    _grouped(bounds, netns, number)


def _grouped(bounds: Bounds, netns: Netns, number: int) -> None:
    """It is killed, or starves, or has enough."""
    group = GROUP / f"sstrace-hostile-{os.getpid()}"
    group.mkdir()
    recording, errors = bounds.scratch / "rec", bounds.scratch / "err"
    try:
        (group / "memory.limit_in_bytes").write_text(str(bounds.dice(number).randrange(16, 48) << 20))
        join = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
        with errors.open("wb") as err:
            process = type(SSTRACE)(*join, *SSTRACE.head).start(
                "--record", str(recording), "--duration", "1s", netns=netns, stderr=err
            )
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            # It starves, as its code is read from disk again and again; that ends like the rest.
            process.kill()
            code = process.wait()
        assert code == -signal.SIGKILL or wrong(code, errors.read_bytes()) is None, errors.read_text()
        if recording.exists() and recording.stat().st_size:
            found, _ = ended(["--replay", str(recording)])
            assert found is None, found
    finally:
        for _ in range(500):
            try:
                group.rmdir()
                break
            except OSError:  # somebody is being killed
                time.sleep(0.02)
