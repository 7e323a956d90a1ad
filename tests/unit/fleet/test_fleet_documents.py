"""What docs/fleet.md, the dashboard and the compose file say to the engine is what it understands."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_front import Front
from fleet_engine import load, make_tables
from fleets import WEB, Told, recorded

from sstrace.causes import CAUSES, Verdict
from sstrace.cli import main
from sstrace.fleet import schema

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "fleet.md").read_text()
BOARD = json.loads((ROOT / "dashboards" / "fleet.json").read_text())
COMPOSE = (ROOT / "contrib" / "fleet" / "compose.yaml").read_text()
MACROS = {
    r"\$__timeFilter\((\w+)\)": r"\1 >= toDateTime(0) AND \1 <= now()",
    r"\$__timeInterval\((\w+)\)": r"toStartOfInterval(toDateTime(\1), INTERVAL 60 second)",
    r"\$\{host:singlequote\}": "'web-1','web-2'",
}
ROW = (
    '{"host":"web-1","run":"r","type":"state","ts":"2026-11-20T15:57:06.353869961Z","mono_ns":7,"seq":1,"id":1,'
    '"netid":"tcp","family":"inet","from":"SYN-SENT","to":"UNCONN","src":"10.0.0.1","sport":4,"dst":"10.0.0.2",'
    '"dport":5432,"netns":1,"ended":true,"cause":"refused","owners":[{"comm":"nc","pid":3}]}'
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with Front(tmp_path_factory.mktemp("engine")) as front:
        for statement in schema.ddl("1"):
            front.ask(statement)
        columns = ", ".join(f"`{name}`" for name in schema.GIVEN)
        front.ask(f"INSERT INTO lines ({columns}) FORMAT JSONEachRow {ROW}", **schema.WRITE)
        yield front


def parsed(engine: Front, statement: str) -> str:
    return engine.ask(f"EXPLAIN AST {statement}")


def test_statements_of_the_documentation(engine: Front) -> None:
    blocks = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
    statements = [one.strip() for block in blocks for one in block.split(";") if one.strip()]
    assert len(statements) == 15
    for statement in statements:
        assert parsed(engine, statement)
        if statement.startswith(("SELECT", "ALTER")):
            engine.ask(statement)
    assert "INTERVAL 90 DAY" in engine.ask("SHOW CREATE TABLE runs").replace("toIntervalDay(90)", "INTERVAL 90 DAY")
    # Another retention stays when the tables are made again.
    for statement in schema.ddl("1"):
        engine.ask(statement)
    assert "toIntervalDay(90)" in engine.ask("SHOW CREATE TABLE lines")


def test_what_is_printed_is_what_is_made(engine: Front, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for word, engines in (("--fleet-schema", 0), ("--fleet-schema=replicated", len(schema.TABLES))):
        assert main([word]) == 0
        printed = capfdbinary.readouterr().out.decode()
        statements = [one for one in printed.split(";\n\n") if one.strip()]
        assert printed.count("= Replicated") == engines
        for statement in statements:
            assert parsed(engine, statement)


def test_a_day_of_a_host_as_parquet(engine: Front, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an engine, and of files, which are put into one."""
    import duckdb

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    told: list[Told] = [("state", 1, 1, {"from": "SYN-SENT", "to": "UNCONN", **WEB, "ended": True, "cause": "refused"})]
    (tmp_path / "web-1.ndjson").write_bytes(recorded("web-1", told))
    engine.use("parquet")
    make_tables(engine)
    load(engine, [tmp_path / "web-1.ndjson"])
    sources = f"clickhouse:{engine.address}", str(tmp_path / "web-1.ndjson")
    engine.use("sstrace")
    for source in sources:
        day = tmp_path / "day.parquet"
        between = ("--between", "2026-11-20T00:00Z", "2026-11-20T23:59Z")
        assert main(["--replay", source, "--host", "web-1", *between, "--parquet", str(day)]) == 0
        with duckdb.connect() as database:
            sql = f"SELECT host, cause, src, dport, ended FROM '{day}' WHERE type = 'state'"
            assert database.execute(sql).fetchall() == [("web-1", "refused", "10.0.0.1", 5432, True)]


@pytest.mark.parametrize(("words", "said"), [
    (("--from", "day.ndjson", "dport = :443"), "leave the filter away"),
    (("--from", "day.ndjson", "--json"), "leave --json away"),
    (("--from", "clickhouse:http://127.0.0.1:1"), "cannot reach"),
    (("--snapshot", "--from", "day.ndjson"), "use it with --replay FILE"),
])  # fmt: skip
def test_what_is_no_parquet(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    assert main([*words, "--parquet", str(tmp_path / "x")]) in (1, 255)
    assert said in capfd.readouterr().err
    assert not (tmp_path / "x").exists()


def test_questions_of_the_dashboard(engine: Front) -> None:
    asked = [(panel["title"], target["rawSql"]) for panel in BOARD["panels"] for target in panel["targets"]]
    asked += [("host", one["query"]) for one in BOARD["templating"]["list"] if one["type"] == "query"]
    answers = {}
    for title, sql in asked:
        text = sql
        for macro, meant in MACROS.items():
            text = re.sub(macro, meant, text)
        assert "$" not in text, sql
        answers[title] = engine.ask(text)
    assert len(answers) == len(BOARD["panels"]) + 1
    assert answers["Connections ended"].strip() == "1"
    assert answers["Who fails against whom"].split("\t") == ["nc", "10.0.0.2", "5432", "refused", "1", "1\n"]
    assert answers["Lines that never came"].strip() == "0"
    failures = {cause.word for cause in CAUSES.values() if cause.verdict is Verdict.FAILED}
    [failing] = [sql for title, sql in asked if title == "Who fails against whom"]
    assert set(re.findall(r"'([a-z0-9-]+)'", failing.partition("cause IN")[2].partition(")")[0])) == failures


def test_panels_of_the_fleet_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"])
                 for y in range(place["y"], place["y"] + place["h"])}  # fmt: skip
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_the_three_nodes_know_one_another() -> None:
    content = COMPOSE.partition("content: |\n")[2]
    config = ET.fromstring("\n".join(line[6:] for line in content.splitlines()))
    nodes = re.findall(r"^  (ch\d):$", COMPOSE, re.MULTILINE)
    assert len(nodes) == 3
    for where in ("remote_servers/fleet/shard/replica/host", "zookeeper/node/host"):
        assert [one.text for one in config.findall(where)] == nodes
    assert [one.text for one in config.findall("keeper_server/raft_configuration/server/hostname")] == nodes
    numbers = [one.text for one in config.findall("keeper_server/raft_configuration/server/id")]
    assert numbers == re.findall(r'NODE: "(\d)"', COMPOSE)
    port = config.findtext("keeper_server/tcp_port")
    assert {one.text for one in config.findall("zookeeper/node/port")} == {port}
