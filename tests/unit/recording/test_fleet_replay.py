"""A directory of recordings again: lines of several hosts in the order of time, and what they come to together."""

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fleets import DB, LISTENER, SECOND, WEB, Told, ends, held_by, recorded

from sstrace.cli import main

Captured = pytest.CaptureFixture[bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A client and its database, which reset each other's second connection; a host that nothing happens on."""
    curl, postgres = held_by("curl", 7, 12), held_by("postgres", 88, 12)
    carried = {"bytes_sent": 100, "bytes_received": 50, "rtt_us": 90}
    again, answer = {**WEB, "sport": 40001}, {**DB, "dport": 40001}
    (tmp_path / "web-1.ndjson").write_bytes(
        recorded("web-1", [
            ("state", 10, 1, {"from": "UNCONN", "to": "SYN-SENT", **WEB, **curl, "role": "client"}),
            ("state", 10.002, 1, {"from": "SYN-SENT", "to": "ESTAB", **WEB, **curl, "held_us": 2000, "role": "client"}),
            ("state", 60, 1, {"from": "ESTAB", "to": "CLOSE-WAIT", **WEB, **curl, "ifindex": 9}),
            ("state", 90, 1, {"from": "CLOSE-WAIT", "to": "UNCONN", **WEB, **curl, "cause": "fin-by-peer", **carried,
                              "ended": True, "lifetime_us": 8e7, "role": "client"}),
            ("state", 100, 2, {"from": "UNCONN", "to": "SYN-SENT", **again, **curl}),
            ("state", 100.002, 2, {"from": "SYN-SENT", "to": "ESTAB", **again, **curl}),
            ("state", 101, 2, {"from": "ESTAB", "to": "UNCONN", **again, **curl, "cause": "reset-received",
                               "ended": True}),
        ])
    )  # fmt: skip
    (tmp_path / "db-1.ndjson").write_bytes(
        recorded("db-1", [
            ("seen", 0, 1, {"state": "LISTEN", **LISTENER, **held_by("postgres", 1, 3)}),
            ("state", 10.001, 2, {"from": "LISTEN", "to": "SYN-RECV", **DB}),
            ("state", 10.0025, 2, {"from": "SYN-RECV", "to": "ESTAB", **DB, **postgres, "held_us": 1500,
                                   "role": "server"}),
            ("gap", 30, 0, {"cpu": 1, "count": 3, "after_ns": 929 * SECOND, "before_ns": 930 * SECOND}),
            ("resync", 31, 0, {"added": 0, "removed": 0, "changed": 0}),
            ("state", 60, 2, {"from": "ESTAB", "to": "FIN-WAIT-2", **DB, **postgres}),
            ("gone", 91, 2, {"state": "FIN-WAIT-2"}),
            ("state", 100.001, 3, {"from": "LISTEN", "to": "ESTAB", **answer, **postgres}),
            ("state", 100.999, 3, {"from": "ESTAB", "to": "UNCONN", **answer, **postgres, "cause": "reset-sent",
                                   "ended": True}),
        ], boot_s=900)
    )  # fmt: skip
    (tmp_path / "calm.ndjson").write_bytes(recorded("calm", [("seen", 50, 1, {"state": "LISTEN", **LISTENER})]))
    return tmp_path


def told(capfdbinary: Captured, folder: Path, *words: str, code: int = 0) -> list[str]:
    """Lines of a replay, times in UTC."""
    assert main(["--replay", str(folder), "--time", "utc", *words]) == code
    return capfdbinary.readouterr().out.decode().splitlines()


def objects(capfdbinary: Captured, folder: Path, *words: str) -> list[dict[str, Any]]:
    """The same as NDJSON."""
    return [msgspec.json.decode(line) for line in told(capfdbinary, folder, "--json", *words)]


def test_lines_stand_in_the_order_of_time(folder: Path, capfdbinary: Captured) -> None:
    lines = told(capfdbinary, folder, "-n")
    assert lines[0].split()[:3] == ["Time", "Host", "From"]
    assert [line.split()[0] for line in lines[1:]] == sorted(line.split()[0] for line in lines[1:])
    assert [" ".join(line.split()[1:5]) for line in lines[1:6]] == [
        "web-1 UNCONN -> SYN-SENT", "db-1 LISTEN -> SYN-RECV", "web-1 SYN-SENT -> ESTAB", "db-1 SYN-RECV -> ESTAB",
        "db-1 3 events of",
    ]  # fmt: skip
    assert lines[6].split()[1:3] == ["db-1", "table"]
    assert "10.0.0.1%eth-web-1:40000" in next(line for line in lines if "CLOSE-WAIT " in line)


def test_every_line_for_programs_says_its_host(folder: Path, capfdbinary: Captured) -> None:
    lines = objects(capfdbinary, folder)
    assert {line["host"] for line in lines} == {"web-1", "db-1", "calm"}
    assert {"meta", "seen", "state", "gone", "gap", "resync"} == {line["type"] for line in lines}
    numbered = [line for line in lines if line["type"] != "meta"]
    assert [line["seq"] for line in numbered] == list(range(1, len(numbered) + 1))
    assert [line["host"] for line in lines if line["type"] == "meta"] == ["db-1", "web-1", "calm"]


def test_the_other_end_is_named_as_soon_as_both_are_known(folder: Path, capfdbinary: Captured) -> None:
    lines = [line for line in objects(capfdbinary, folder) if line["type"] == "state"]
    assert [(line["host"], line.get("peer_host")) for line in lines] == [
        ("web-1", None), ("db-1", "web-1"), ("web-1", "db-1"), ("db-1", "web-1"),
        ("db-1", "web-1"), ("web-1", "db-1"), ("web-1", "db-1"),
        ("web-1", None), ("db-1", "web-1"), ("web-1", "db-1"), ("db-1", "web-1"), ("web-1", "db-1"),
    ]  # fmt: skip
    # The database's end of the second connection is gone when the client hears of it.
    last = lines[-1]
    assert (last["to"], last["peer_owners"]) == ("UNCONN", [{"comm": "postgres", "pid": 88, "fd": 3}])
    # Also where the other host is not asked for; and then nothing of it is told.
    alone = objects(capfdbinary, folder, "--host", "web-1")
    assert {line["host"] for line in alone} == {"web-1"}
    assert [line.get("peer_host") for line in alone if line["type"] == "state"] == [
        line.get("peer_host") for line in lines if line["host"] == "web-1"
    ]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("to", "close-wait"), ["web-1 CLOSE-WAIT"]),
        (("comm", "postgres", "to", "established"), ["db-1 ESTAB", "db-1 ESTAB"]),
        (("dev", "eth-web-1"), ["web-1 CLOSE-WAIT"]),
        (("ended",), ["web-1 UNCONN", "db-1 UNCONN", "web-1 UNCONN"]),
        (("--count", "2"), ["web-1 SYN-SENT", "db-1 SYN-RECV"]),
        (("--between", "15:01:40.5", "15:01:40.9995"), ["db-1 UNCONN"]),
        (("--between", "+100s", "-0s", "--host", "db*"), ["db-1 ESTAB", "db-1 UNCONN"]),
    ],
)
def test_what_is_selected(folder: Path, capfdbinary: Captured, words: tuple[str, ...], wanted: list[str]) -> None:
    lines = objects(capfdbinary, folder, *words)
    assert [f"{line['host']} {line['to']}" for line in lines if line["type"] == "state"] == wanted


def test_columns_name_host_and_the_process_at_the_other_end(folder: Path, capfdbinary: Captured) -> None:
    lines = told(capfdbinary, folder, "--columns", "host,netns,to,peer-process", "--host", "web-1")
    assert lines[0].split() == ["Host", "Netns", "To", "Peer", "Process"]
    assert [line.split() for line in lines[1:4]] == [
        ["web-1", "-", "SYN-SENT", "-"], ["web-1", "-", "ESTAB", "db-1:-"],
        ["web-1", "-", "CLOSE-WAIT", "db-1:postgres/88"],
    ]  # fmt: skip


@pytest.mark.parametrize("schema", ["ecs", "otel"])
def test_other_schemas_name_the_host_of_each_line(folder: Path, capfdbinary: Captured, schema: str) -> None:
    lines = objects(capfdbinary, folder, "--schema", schema)
    hosts = [line["host"]["name"] if schema == "ecs" else line["host.name"] for line in lines]
    assert hosts == [line["host"] for line in objects(capfdbinary, folder)]


def test_lives(folder: Path, capfdbinary: Captured) -> None:
    lines = told(capfdbinary, folder, "--life", "-n")
    assert [line.split()[1] for line in lines] == ["Host", "db-1", "db-1", "web-1", "db-1", "db-1", "web-1"]
    assert "3 events of CPU 1 were lost" in lines[1]
    lives = [line for line in objects(capfdbinary, folder, "--life") if line["type"] == "life"]
    # Connections of two hosts have the same numbers: the handshake is the own one. Of db-1's first the end was lost.
    assert [(life["host"], life.get("handshake_us"), life.get("approximate")) for life in lives] == [
        ("web-1", 2000, None), ("db-1", 1500, True), ("db-1", None, None), ("web-1", None, None),
    ]  # fmt: skip


def test_the_story_of_a_connection_is_told_of_both_hosts(folder: Path, capfdbinary: Captured) -> None:
    ends = f":{WEB['sport']}-:{WEB['dport']}"
    assert main(["--explain", ends, "--from", str(folder), "--time", "utc"]) == 0
    stories = capfdbinary.readouterr().out.decode().split("\n\n")
    assert [story.partition(":")[0] for story in stories] == ["web-1", "db-1"]
    assert "SYN-SENT -> ESTAB after 2.0ms" in stories[0]
    assert "3 events were lost" in stories[1]
    assert main(["--explain", ends, "--from", str(folder), "--host", "db-1"]) == 0
    (alone,) = capfdbinary.readouterr().out.decode().split("\n\n")
    assert alone.splitlines()[0] == stories[1].splitlines()[0].removeprefix("db-1: ")
    assert main(["--explain", ends, "--from", str(folder), "--json"]) == 0
    hosts = [msgspec.json.decode(line)["host"] for line in capfdbinary.readouterr().out.splitlines()]
    assert hosts == ["web-1"] * 4 + ["db-1"] * 4
    assert main(["--explain", ":1-:2", "--from", str(folder)]) == 1
    assert capfdbinary.readouterr().err.decode() == f"sstrace: no connection :1-:2 in {folder}\n"


def test_one_digest_of_all(folder: Path, capfdbinary: Captured) -> None:
    assert main(["--stats", "--from", str(folder), "--json"]) == 0
    lines = [msgspec.json.decode(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert (lines[0]["from"], lines[0]["to"]) == ("2026-11-20T15:00:10.000000000Z", "2026-11-20T15:01:41.000000000Z")
    assert (lines[0]["transitions"], lines[0]["lost"]) == (12, 3)
    hosts = [
        (line["key"], line["opened"], line["closed"], line["failed"]) for line in lines if line.get("by") == "host"
    ]
    assert sorted(hosts) == [("db-1", 2, 0, 1), ("web-1", 2, 1, 1)]
    assert {line["key"]: line["bytes_sent"] for line in lines if line.get("by") == "host"} == {"web-1": 100, "db-1": 0}
    # The sum of each host's own.
    counted = []
    for host in ("web-1", "db-1"):
        assert main(["--stats", "--from", str(folder), "--host", host, "--json"]) == 0
        own = [msgspec.json.decode(line) for line in capfdbinary.readouterr().out.splitlines()]
        assert "host" not in {line.get("by") for line in own}
        counted.append(own[0])
    for key in ("transitions", "opened_out", "opened_in", "failed", "closed", "bytes_sent"):
        assert lines[0][key] == sum(own[key] for own in counted)
    assert main(["--stats", "--from", str(folder), "--between", "15:01:40", "15:01:40.5"]) == 0
    out = capfdbinary.readouterr().out.decode()
    assert "4 transitions" not in out
    assert "3 transitions" in out


def test_each_host_is_told_as_by_its_own_recording(tmp_path: Path, capfdbinary: Captured) -> None:
    """Random lives on four hosts, in rotated files: with the column away, the lines of each."""
    random_ = random.Random(21)
    states = ["SYN-SENT", "ESTAB", "CLOSE-WAIT", "LAST-ACK", "UNCONN"]
    for number in range(4):
        lines: list[Told] = []
        for row in range(1, 40):
            at_s = random_.uniform(0, 100)
            what = {**ends(f"10.0.{number}.1", 40000 + row, "10.0.9.9", 443), **held_by(f"p{row}", row, 100 + row)}
            for old, new in zip(["UNCONN", *states], states, strict=False):
                lines.append(("state", at_s, row, {"from": old, "to": new, **what}))
                at_s += random_.uniform(0, 40)
        lines.sort(key=lambda line: line[1])
        cut = len(lines) // 2
        boot_s = random_.uniform(1, 1e6)
        first = recorded(f"h{number}", lines[:cut], boot_s=boot_s)
        second = recorded(f"h{number}", lines[cut:], boot_s=boot_s, seq=cut, part=1)
        (tmp_path / f"h{number}.0001.ndjson").write_bytes(first)
        (tmp_path / f"h{number}.ndjson").write_bytes(second)
    together = [line.split() for line in told(capfdbinary, tmp_path, "-n")[1:]]
    assert [line[0] for line in together] == sorted(line[0] for line in together)
    for number in range(4):
        files = [str(tmp_path / f"h{number}{part}.ndjson") for part in (".0001", "")]
        assert main(["--replay", files[0], "--replay", files[1], "--time", "utc", "-n"]) == 0
        own = [line.split() for line in capfdbinary.readouterr().out.decode().splitlines()[1:]]
        assert [[line[0], *line[2:]] for line in together if line[1] == f"h{number}"] == own


@pytest.mark.parametrize("words", [("-n",), ("--json",), ("--stats",), ("--explain", ":5432")], ids=" ".join)
def test_files_of_several_hosts_are_asked_as_their_directory_is(
    folder: Path, capfdbinary: Captured, words: tuple[str, ...]
) -> None:
    files = [str(path) for path in sorted(folder.rglob("*ndjson*"))]
    found = []
    for source in ([str(folder)], files):
        named = [word for name in source for word in ("--replay", name)]
        if words[0] == "--explain":
            named = ["--from", source[0], *(word for name in source[1:] for word in ("--replay", name))]
        assert main([*named, *words, *(() if "--json" in words else ("--time", "utc"))]) == 0
        found.append(capfdbinary.readouterr())
    assert found[0] == found[1]
    assert b"web-1" in found[0].out


def test_told_lines_kept_as_one_file_are_read_as_the_first_hosts(folder: Path, capfdbinary: Captured) -> None:
    """Numbers are each host's own: what says another host is not mixed with them."""
    kept = folder / "kept.txt"
    kept.write_text("\n".join(told(capfdbinary, folder, "--json")))
    assert main(["--snapshot", "--from", str(kept), "-tanH", "--at", "15:00:50", "--time", "utc"]) == 0
    found = capfdbinary.readouterr()
    assert [line.split()[3] for line in found.out.decode().splitlines()] == ["0.0.0.0:5432", "10.0.0.9:5432"]
    assert "lines are of other hosts than the first" in found.err.decode()


@pytest.mark.parametrize("added", ["web-1.example.com", {"name": "web-1"}])
def test_a_host_that_a_shipper_adds_does_not_matter(
    tmp_path: Path, capfdbinary: Captured, added: str | dict[str, str]
) -> None:
    data = recorded(
        "web-1", [("seen", 1, 1, {"state": "LISTEN", **LISTENER}), ("seen", 2, 2, {"state": "ESTAB", **DB})]
    )
    path = tmp_path / "shipped.ndjson"
    lines = [msgspec.json.decode(line) for line in data.splitlines()]
    path.write_bytes(b"".join(msgspec.json.encode({**line, "host": added}) + b"\n" for line in lines))
    assert main(["--snapshot", "--from", str(path), "-tanH"]) == 0
    found = capfdbinary.readouterr()
    assert (len(found.out.splitlines()), found.err) == (2, b"")


def test_a_replay_at_the_pace_of_life_ends_when_it_is_told(folder: Path) -> None:
    words = [sys.executable, "-m", "sstrace", "--replay", str(folder), "--speed", "1", "-n", "--time", "utc"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        rest, complaints = process.communicate(timeout=60)
        assert (process.returncode, complaints) == (0, b"")
    assert b"SYN-SENT" in first[1]
    assert b"CLOSE-WAIT" not in rest
