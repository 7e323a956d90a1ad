"""Less memory than it takes: of the process (setrlimit(2)), which ends in a sentence; of its cgroup, where the kernel
kills, and what was written can be read. So where the limit comes down in the midst of a flood: it is killed, or goes on
and says what it has lost.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from conftest import Netns
from tracing import Trace, wait

from hostility.campaign import SSTRACE, Bounds, Tally, busy, connection, ended, namespace, recorded, wrong
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
        for number in range(bounds.count // 10 + 1 if GROUP.is_dir() else 0):
            with tally.attempt("a limit in a flood", f"seed {bounds.seed}, number {number}"):
                _pressed(bounds, number)


FLOOD = 3000


def _pressed(bounds: Bounds, number: int) -> None:
    """Once it runs it may have hardly more than it has."""
    here = bounds.scratch / f"pressed{number}"
    here.mkdir()
    recording = here / "rec"
    with namespace() as netns, _group() as group:
        trace = Trace(type(SSTRACE)(*_joining(group), *SSTRACE.head), netns, here, "--record", str(recording))
        with trace:
            has = int((group / "memory.usage_in_bytes").read_text())
            # What it may have besides is less than a flood takes; in the end, as much as it likes.
            (group / "memory.limit_in_bytes").write_text(str(has + bounds.dice(number).randrange(0, 2 << 20)))
            netns.call(partial(_flood, FLOOD))
            process = trace.process
            wait("it has heard all, or is dead", lambda: process.poll() is not None or _sleeps(process.pid), 60)
            (group / "memory.limit_in_bytes").write_text("-1")
            code = trace.stop()
        assert code == -signal.SIGKILL or wrong(code, trace.stderr.encode(), (0,)) is None, trace.stderr
        if code == 0:
            told = sum(line["to"] == "SYN-SENT" for line in trace.states)
            lost = sum(map(int, re.findall(r"(\d+) (?:lost|missed)", trace.stderr)))
            assert told == FLOOD or lost, f"{told} of {FLOOD} connections, and {trace.stderr}"
        found, _ = ended(["--replay", str(recording)])
        assert found is None, found


def _sleeps(pid: int) -> bool:
    """Whether it waits for what is next."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] == "S"


def _flood(count: int) -> None:
    for _ in range(count):
        connection()


@contextmanager
def _group() -> Iterator[Path]:
    """A control group of its own."""
    group = GROUP / f"sstrace-hostile-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        for _ in range(500):
            try:
                group.rmdir()
                break
            except OSError:  # somebody is being killed
                time.sleep(0.02)


def _joining(group: Path) -> tuple[str, ...]:
    """What a command is put behind."""
    return ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")


def _grouped(bounds: Bounds, netns: Netns, number: int) -> None:
    """It is killed, or starves, or has enough."""
    recording, errors = bounds.scratch / "rec", bounds.scratch / "err"
    with _group() as group:
        (group / "memory.limit_in_bytes").write_text(str(bounds.dice(number).randrange(16, 48) << 20))
        with errors.open("wb") as err:
            process = type(SSTRACE)(*_joining(group), *SSTRACE.head).start(
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
