"""``sstrace --snapshot`` is ss to the byte: stdout, exit code, stderr, over a zoo of real sockets.

What is masked because it moves by itself is told in ``parity``. The run ends with "N identical of M". Against another
release of ss than the installed one: ``SSTRACE_SS=/path/to/ss scripts/test tests/kernel/test_parity.py``.
"""

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator

import parity
import parity_cases
import pytest
from conftest import Netns, Program, unmet
from hypothesis import HealthCheck, given, settings

pytestmark = [pytest.mark.root, pytest.mark.ss]


@pytest.fixture(scope="module")
def space() -> Iterator[Netns]:
    if os.geteuid():
        unmet("needs root")
    space = Netns()
    yield space
    space.close()


@pytest.fixture(scope="module")
def keeper(space: Netns) -> Iterator[parity.ZooKeeper]:
    keeper = parity.ZooKeeper(space.prefix)
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def bench(
    space: Netns, keeper: parity.ZooKeeper, ss: Program, closing_line: Callable[[str], None]
) -> Iterator[parity.Bench]:
    other = os.environ.get("SSTRACE_SS")
    if other:  # not the release that is on PATH, so sstrace has to be told
        version = subprocess.run([other, "-V"], capture_output=True, text=True, check=True, timeout=30).stdout
        bench = parity.Bench(space.prefix, other, ("--snapshot", "--ss-version", version.strip().rpartition("-")[2]))
    else:
        bench = parity.Bench(space.prefix, ss.head[-1])
    yield bench
    bench.close()
    closing_line(
        f"ss parity: {bench.identical} identical of {bench.asked} command lines ({bench.exact} without any mask)"
    )


def shown(words: tuple[str, ...]) -> str:
    """A case's name: what one would type."""
    return shlex.join(("ss", *words))


@pytest.mark.parametrize("words", parity_cases.command_lines(), ids=shown)
def test_same_bytes(bench: parity.Bench, keeper: parity.ZooKeeper, words: tuple[str, ...]) -> None:
    keeper.keep_fresh()
    outcome = bench.compare(words)
    assert outcome.same, f"{shown(words)}\n{outcome.why}"


@pytest.mark.seconds(600)
@settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(words=parity_cases.random_lines())
def test_same_bytes_for_any_line(bench: parity.Bench, keeper: parity.ZooKeeper, words: tuple[str, ...]) -> None:
    keeper.keep_fresh()
    outcome = bench.compare(words)
    assert outcome.same, f"{shown(words)}\n{outcome.why}"
