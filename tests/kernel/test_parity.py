"""``sstrace --snapshot`` is ss to the byte: stdout, exit code, stderr, over a zoo of real sockets.

What is masked because it moves by itself is told in ``parity``. The run ends with "N identical of M". Against another
release of ss than the installed one: ``SSTRACE_SS=/path/to/ss scripts/test tests/kernel/test_parity.py``.
"""

import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

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
def warden(space: Netns) -> Iterator[parity.Warden]:
    warden = parity.Warden(space.prefix)
    yield warden
    warden.close()


@pytest.fixture(scope="module")
def keeper(warden: parity.Warden) -> Iterator[parity.ZooKeeper]:
    keeper = parity.ZooKeeper(warden.prefix)
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def bench(
    warden: parity.Warden, keeper: parity.ZooKeeper, ss: Program, closing_line: Callable[[str], None]
) -> Iterator[parity.Bench]:
    other = os.environ.get("SSTRACE_SS")
    if other:  # not the release that is on PATH, so sstrace has to be told
        version = subprocess.run([other, "-V"], capture_output=True, text=True, check=True, timeout=30).stdout
        bench = parity.Bench(warden.prefix, other, ("--snapshot", "--ss-version", version.strip().rpartition("-")[2]))
    else:
        bench = parity.Bench(warden.prefix, ss.head[-1])
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


WIDTHS = (1, 5, 17, 40, 60, 79, 80, 81, 120, 200, 300, 1000)
SHAPES = ("-tan", "-t", "-tulpn", "-ai", "-xae", "-tane", "-Htan", "-tanimeop", "-0a", "-s", "dst 9.9.9.9", "-OHtaim")


@pytest.mark.parametrize("line", SHAPES)
@pytest.mark.parametrize("width", [0, *WIDTHS])
def test_same_bytes_on_a_terminal(bench: parity.Bench, keeper: parity.ZooKeeper, line: str, width: int) -> None:
    keeper.keep_fresh()
    outcome = bench.compare(line.split(), width=width)
    assert outcome.same, f"ss {line} on {width} columns\n{outcome.why}"


SURROUNDINGS = (
    {"COLUMNS": "40"},
    {"COLUMNS": "x"},
    {"LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8"},
    {"PROC_IP_LOCAL_PORT_RANGE": "/nonexistent"},
    {"PROC_IP_LOCAL_PORT_RANGE": "/etc/services"},
    {"PROC_NET_SNMP": "/nonexistent"},
    {"PROC_NET_SOCKSTAT": "/nonexistent", "PROC_NET_SOCKSTAT6": ""},
    {"PROC_NET_TCP": "/nonexistent"},
    {"PROC_NET_MPTCP": "", "PROC_NET_SCTP": ""},
    {"POSIXLY_CORRECT": "1"},
)


@pytest.mark.parametrize("env", SURROUNDINGS, ids=str)
@pytest.mark.parametrize("line", ["-tan", "-ta", "-tape", "-ua autobound", "-s", "-tan sport = :22", "-Ma", "-Sa -t"])
def test_same_bytes_in_any_environment(
    bench: parity.Bench, keeper: parity.ZooKeeper, line: str, env: dict[str, str]
) -> None:
    keeper.keep_fresh()
    outcome = bench.compare(line.split(), env=env)
    assert outcome.same, f"{env} ss {line}\n{outcome.why}"


FILTER_FILES = {
    "plain": "sport = :22\n",
    "comments": "# no\n0zz\nsport = :22\nor sport = :80\n",
    "no newline": "sport = :22",
    "blanks": "\n\n  sport = :22   \n\n",
    "half": "( sport = :22\n",
    "a state": "state established\n",
    "empty": "",
    "long": "#" + "x" * 1021 + "\nsport = :22\n",
    "too long": "#" + "x" * 1022 + "\n",
    "comment at the end": "sport = :22 # no\n",
}


@pytest.mark.parametrize("name", FILTER_FILES)
@pytest.mark.parametrize("more", ["", "dst 127.0.0.1", "dst 127.0.0.1 or"])
def test_same_bytes_by_filter_file(
    bench: parity.Bench, keeper: parity.ZooKeeper, tmp_path: Path, name: str, more: str
) -> None:
    keeper.keep_fresh()
    file = tmp_path / "filter"
    file.write_text(FILTER_FILES[name])
    for words, stdin in ((("-tanF", str(file)), b""), (("-tan", "-F", "-"), FILTER_FILES[name].encode())):
        outcome = bench.compare((*words, *more.split()), stdin=stdin)
        assert outcome.same, f"ss {words} {more}\n{outcome.why}"


@pytest.mark.parametrize("line", ["-tan -N {}", "-N{} -s", "-xa --net={}", "-tanp --net {}", "-an -N {} -N {}"])
def test_same_bytes_in_a_named_namespace(
    keeper: parity.ZooKeeper, netns: Netns, space: Netns, ss: Program, line: str
) -> None:
    """From outside, where names of namespaces are known, into another and into the zoo's."""
    keeper.keep_fresh()
    bench = parity.Bench((), ss.head[-1])
    held = netns.call(socket.create_server, ("127.0.0.1", 4321))
    for name in (netns.publish(), space.publish()):
        outcome = bench.compare(line.replace("{}", name).split())
        assert outcome.same, f"ss {line}\n{outcome.why}"
    held.close()
    bench.close()


@pytest.mark.parametrize("line", ["-tan", "-tlnp", "-s", "-xa", "-tanie", "-0ae", "state listening", "-h", "-y"])
def test_same_bytes_as_a_process(
    space: Netns, keeper: parity.ZooKeeper, ss: Program, sstrace: Program, line: str
) -> None:
    """The command itself, from start to end: what the bench does inside one process is what users get."""
    keeper.keep_fresh()
    for _ in range(parity.ATTEMPTS):
        runs = [
            ss(*line.split(), netns=space),
            sstrace("--snapshot", *line.split(), netns=space),
            ss(*line.split(), netns=space),
        ]
        texts = [(run.returncode, parity.masked(run.stdout, 0, ticked=True)) for run in runs]
        if texts[0] == texts[2]:
            break
    assert texts[0] == texts[1] == texts[2]
    mine, theirs = runs[1].stderr, runs[0].stderr.replace(ss.head[-1].encode() + b":", b"ss:")
    assert mine == theirs


def test_the_bench_sees_a_difference(warden: parity.Warden, keeper: parity.ZooKeeper, ss: Program) -> None:
    """What this file proves with: another release's layout is not let through."""
    bench = parity.Bench(warden.prefix, ss.head[-1], ("--snapshot", "--ss-version", "7.3"))
    try:
        for line, same in (("-tan", False), ("-tanie", False), ("-V", False), ("-f help", False), ("-N /x", True)):
            outcome = bench.compare(line.split())
            assert outcome.same is same, line
            assert same or outcome.why
    finally:
        bench.close()


@pytest.mark.seconds(600)
@settings(max_examples=250, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(words=parity_cases.random_lines())
def test_same_bytes_for_any_line(bench: parity.Bench, keeper: parity.ZooKeeper, words: tuple[str, ...]) -> None:
    keeper.keep_fresh()
    outcome = bench.compare(words)
    assert outcome.same, f"{shown(words)}\n{outcome.why}"
