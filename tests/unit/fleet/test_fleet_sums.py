"""What the engine keeps the sums of is what it is asked for, and is what its lines say: at any window, under any
filter, also where lines came twice.
"""

import random
from collections.abc import Iterator

import pytest
from engine_front import Front
from fleet_engine import load, make_tables
from random_hosts import random_host

from sstrace.cli import main
from sstrace.fleet.engines import Remote
from sstrace.fleet.sums import projections

Captured = pytest.CaptureFixture[bytes]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Front]]:
    """A directory of two hosts of half an hour, and an engine to which some of it was brought twice."""
    chance = random.Random(20)
    folder = tmp_path_factory.mktemp("recordings")
    hosts = [random_host(f"node{number}", number, chance, events=3000) for number in range(2)]
    for number, recording in enumerate(hosts):
        (folder / f"{number}.ndjson").write_bytes(recording)
    with Front(tmp_path_factory.mktemp("engine")) as engine:
        make_tables(engine)
        engine.ask("SYSTEM STOP MERGES lines")
        load(engine, hosts)
        again = hosts[1]
        load(engine, [again[: again.rindex(b'{"type":"checkpoint"', 0, len(again) // 2)]])
        yield str(folder), engine


@pytest.mark.parametrize("window", [(), ("+40", "+1400"), ("2026-11-20T15:10:00Z", "2026-11-20T15:20:00Z")], ids=str)
@pytest.mark.parametrize("words", [
    [], ["cause", "refused", "or", "role", "client"], ["comm", "nginx"], ["cause", "timeout-*"],
], ids=" ".join)  # fmt: skip
def test_a_digest_of_sums_is_that_of_lines(
    capfdbinary: Captured, both: tuple[str, Front], window: tuple[str, ...], words: list[str]
) -> None:
    folder, engine = both
    found = []
    for name in (folder, f"clickhouse:{engine.url}"):
        between = ("--between", *window) if window else ()
        code = main(["--from", name, "--stats", "--json", "--count", "1000", *between, *words])
        found.append((code, *capfdbinary.readouterr()))
    assert found[0] == found[1]
    assert found[0][0] == 0


@pytest.mark.parametrize("words", [[], ["cause", "timeout-*"]], ids=" ".join)
def test_sums_are_what_is_read(both: tuple[str, Front], monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    """All questions about whole slices that a digest asks; of what came twice, lines are read besides."""
    _, engine = both
    asked: list[str] = []
    ask = Remote.ask

    def hear(self: Remote, sql: str) -> bytes:
        asked.append(sql)
        return ask(self, sql)

    monkeypatch.setattr(Remote, "ask", hear)
    assert main(["--from", f"clickhouse:{engine.url}", "--stats", *words]) == 0
    clocks = [sql for sql in asked if "approximate" in sql]
    of_sums = [sql for sql in asked if "FROM lines WHERE" in sql and "GROUP BY name" not in sql and sql not in clocks]
    read = {
        name: [sql for sql in of_sums if f"ReadFromMergeTree ({name})" in engine.ask(f"EXPLAIN {sql}")]
        for name in projections()
    }
    assert {name: len(found) for name, found in read.items()} == dict.fromkeys(projections(), 1)
    assert (len(of_sums), len(clocks)) == (4, 1)
    assert any("FINAL" in sql for sql in asked)
