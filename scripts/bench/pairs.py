"""Two commands in turn, A B A B …: what each costs as a whole process, and the ratio pair by pair.

Medians are the figures to quote; machines are shared and noisy, so a ratio says more than a time.
"""

import os
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Cost(NamedTuple):
    """Of one run: seconds of wall clock and of CPU, peak memory in MB."""

    wall: float
    cpu: float
    memory: float


def cost(command: Sequence[str], env: Mapping[str, str] | None = None) -> Cost:
    """Run once, output thrown away."""
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})}
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return Cost(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(name: str, ours: Sequence[str], theirs: Sequence[str], rounds: int = 5, limit: float | None = None) -> None:
    """Print a line: medians of both, the median ratio of wall times, and what ratio was aimed at."""
    cost(ours)
    cost(theirs)
    pairs = [(cost(ours), cost(theirs)) for _ in range(rounds)]
    wall, other = statistics.median(a.wall for a, _ in pairs), statistics.median(b.wall for _, b in pairs)
    cpu, other_cpu = statistics.median(a.cpu for a, _ in pairs), statistics.median(b.cpu for _, b in pairs)
    ratio = statistics.median(a.wall / b.wall for a, b in pairs)
    memory = max(a.memory for a, _ in pairs)
    aim = f"  (aim {limit:.2f})" if limit is not None else ""
    print(
        f"{name:<34} {wall * 1e3:8.0f} ms {cpu * 1e3:7.0f} ms CPU {memory:5.0f} MB   "
        f"ss {other * 1e3:8.0f} ms {other_cpu * 1e3:7.0f} ms CPU   ratio {ratio:.2f}{aim}",
        flush=True,
    )
