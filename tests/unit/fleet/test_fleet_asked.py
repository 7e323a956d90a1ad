"""An engine and a directory with the same recordings: every question has the same answer, to the byte."""

import random
from collections.abc import Iterator

import pytest
from engine_front import Front
from fleet_engine import load, make_tables
from random_hosts import random_host

from sstrace.cli import main

Captured = pytest.CaptureFixture[bytes]
MOMENTS = 2


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A directory of four hosts, and an engine."""
    chance = random.Random(41)
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(4):
        recording = random_host(f"node{number}", number, chance, several=number == 3)
        (folder / f"node{number}.ndjson").write_bytes(recording)
    with Front(tmp_path_factory.mktemp("engine")) as engine:
        make_tables(engine)
        load(engine, sorted(folder.iterdir()))
        yield str(folder), f"clickhouse:{engine.url}"


def answers(capfdbinary: Captured, both: tuple[str, str], *words: str) -> list[tuple[int, bytes, bytes]]:
    """Of the directory and of the engine: code, text, complaints, in which both have one name."""
    found = []
    for name in both:
        code = main(["--from", name, *words])
        said = capfdbinary.readouterr()
        found.append((code, said.out, said.err.replace(name.encode() + b"/sstrace", b"X").replace(name.encode(), b"X")))
    return found


def moments(words: list[str]) -> list[str]:
    """Some, others for other words."""
    chance = random.Random(" ".join(words))
    return [f"+{chance.random() * 260:.3f}" for _ in range(MOMENTS)]


@pytest.mark.parametrize("words", [
    ["-tanpe"],
    ["-tan", "--json"],
    ["-ta", "--host", "node[12]"],
    ["-tanp", "state", "established", "dport = :5432"],
    ["-tan", "not", "comm", "nginx", "and", "src", "10.0.0.1"],
    ["-tane", "held > 20", "or", "role", "client"],
    ["-tan", "dev", "renamed"],
    ["-tan6"],
    ["-tanp", "--netns", "1,web3"],
    ["-lt"],
], ids=" ".join)  # fmt: skip
def test_tables_at_any_moment(capfdbinary: Captured, both: tuple[str, str], words: list[str]) -> None:
    one, other = answers(capfdbinary, both, "--snapshot", "--at", moments(words)[0], *words)
    assert one == other
    assert one[0] == 0


@pytest.mark.parametrize("which", ["10.0.0.1:40003-10.0.0.2:5432", ":40001-:5432", "10.0.0.3:40004", "#20"])
def test_one_connection(capfdbinary: Captured, both: tuple[str, str], which: str) -> None:
    one, other = answers(capfdbinary, both, "--explain", which, "--time", "utc")
    assert one == other
    assert one[0] == 0, one


@pytest.mark.parametrize("words", [["-tanp"], ["-tan", "--json"], ["-tan", "state", "time-wait"]], ids=" ".join)
def test_what_changed_between_two(capfdbinary: Captured, both: tuple[str, str], words: list[str]) -> None:
    window = sorted(moments(words), key=float)
    one, other = answers(capfdbinary, both, "--snapshot", "--between", *window, *words)
    assert one == other


@pytest.mark.parametrize("words", [
    ["-n", "--time", "utc"],
    ["-n", "--json"],
    ["-n", "--time", "utc", "dport = :5432", "and", "comm", "nginx"],
    ["-n", "--time", "utc", "to", "close-wait"],
    ["-n", "--time", "utc", "cause", "reset*", "or", "lifetime > 50"],
    ["-n", "--time", "utc", "--life"],
    ["--json", "--life"],
    ["-n", "--time", "utc", "--host", "node1"],
    ["-n", "--time", "utc", "--columns", "time,host,to,peer,peer-process"],
    ["-n", "--time", "utc", "--events", "state", "dev", "renamed"],
    ["--stats"],
    ["--stats", "--json", "--count", "100"],
    ["--stats", "comm", "nginx", "or", "rtt > 10us"],
    ["--stats", "--netns", "web3"],
], ids=" ".join)  # fmt: skip
def test_what_happened(capfdbinary: Captured, both: tuple[str, str], words: list[str]) -> None:
    for window in ([], ["--between", *sorted(moments(words), key=float)]):
        one, other = answers(capfdbinary, both, *words, *window)
        assert one == other, window
