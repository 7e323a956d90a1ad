"""Recordings that are brought into an engine afterwards: it says what they say, and nothing is there twice."""

import gzip
import random
from pathlib import Path

import pytest
from engine_front import Front
from fleet_engine import make_tables
from fleets import WEB, Told, recorded
from random_hosts import random_host

from sstrace.cli import main

Captured = pytest.CaptureFixture[str]
QUESTIONS = (("--snapshot", "-tanp", "--at", "+90"), ("--stats",), ("-n", "--time", "utc"), ("--explain", ":40001"))


@pytest.mark.parametrize("words", [("-t",), ("--life",), ("--sink", "stdout"), ("--between", "+1", "+2")], ids=" ".join)
def test_a_recording_is_brought_whole(capfd: Captured, words: tuple[str, ...]) -> None:
    assert main(["--replay", "day.ndjson", "--sink", "clickhouse:http://x", *words]) == 255
    assert f"leave {' '.join(words[:1] if words[0] != '--sink' else words)} away" in capfd.readouterr().err


def test_recordings_brought_again_are_there_once(capfd: Captured, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    whole = random_host("node0", 0, random.Random(0), several=True)
    grown = folder / "0.ndjson"
    grown.write_bytes(whole[: whole.index(b"\n", len(whole) // 2) + 1])
    other = random_host("node1", 1, random.Random(1))
    (folder / "1.ndjson.gz").write_bytes(gzip.compress(other))
    # The end of a rotation whose beginning is there no more.
    table: list[Told] = [
        ("checkpoint", 80, 0, {"rows": 1}),
        ("seen", 80, 1, {"state": "ESTAB", **WEB, "seq": 41}),
        *(("mark", at_s, 0, {"seq": 41}) for at_s in (90, 100)),
    ]
    rest = recorded("node2", table, seq=40, part=3, begun=70)
    (folder / "2.ndjson").write_bytes(rest)
    with Front(tmp_path / "engine") as engine:
        make_tables(engine)
        bring = ["--replay", str(folder), "--sink", f"clickhouse:{engine.url}"]
        assert main([*bring, "--host", "node1,node0"]) == 0
        assert f"of 2 files are in {engine.url}/sstrace" in capfd.readouterr().err
        grown.write_bytes(whole)
        for _ in range(2):
            assert main(bring) == 0
        capfd.readouterr()
        marks = engine.ask("SELECT count() FROM lines FINAL WHERE type = 'mark' GROUP BY host ORDER BY host").split()
        assert list(map(int, marks)) == [one.count(b'{"type":"mark"') for one in (whole, other, rest)]
        for question in QUESTIONS:
            found = []
            for name in (str(folder), f"clickhouse:{engine.url}"):
                code = main(["--from", name, *question])
                found.append((code, capfd.readouterr().out))
            assert found[0] == found[1]
            assert found[0][1]


def test_sockets_without_addresses_stay_behind(capfd: Captured, tmp_path: Path) -> None:
    """Those of a trace of everything: the rest of its table is whole without them."""
    unix = {"netid": "u_str", "family": "unix", "src": "", "sport": 70_000, "dst": "", "dport": 0}
    named = {**unix, "src": "/run/x", "sport": 70_001}
    told: list[Told] = [
        ("seen", 1, 1, {"state": "ESTAB", **WEB}),
        ("state", 2, 2, {"from": "UNKNOWN", "to": "ESTAB", **unix}),
        ("checkpoint", 3, 0, {"rows": 2, "seq": 2}),
        ("seen", 3, 1, {"state": "ESTAB", **WEB, "seq": 2}),
        ("seen", 3, 2, {"state": "ESTAB", **unix, "seq": 2}),
        ("state", 4, 3, {"from": "UNKNOWN", "to": "UNCONN", **named}),
    ]
    both = tmp_path / "both.ndjson"
    both.write_bytes(recorded("web", told, netids=["tcp", "u_str"]))
    alone = tmp_path / "alone.ndjson"
    alone.write_bytes(recorded("db", told[1:2], netids=["u_str"]))
    with Front(tmp_path / "engine") as engine:
        make_tables(engine)
        assert main(["--replay", str(tmp_path), "--sink", f"clickhouse:{engine.url}"]) == 0
        said = capfd.readouterr().err
        assert f"{both}: 3 lines are of other sockets than TCP's, UDP's and raw ones, and left out" in said
        assert f"{alone}: has nothing of TCP, UDP or raw sockets, and is left out" in said
        assert engine.ask("SELECT rows FROM checkpoints FINAL WHERE seq = 2").split() == ["1"]
        answers = []
        for name in (str(both), f"clickhouse:{engine.url}"):
            assert main(["--from", name, "--snapshot", "-tan"]) == 0
            answers.append(capfd.readouterr().out)
        assert answers[0] == answers[1]
        assert "10.0.0.1:40000" in answers[0]
        assert main(["--from", f"clickhouse:{engine.url}", "--snapshot", "-xa"]) == 0
        assert "was not recorded" in capfd.readouterr().err
