"""A directory of recordings of several hosts: whose rows are shown, in which order, and who has the other end."""

import gzip
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fleets import DB, LISTENER, WEB, Told, ends, held_by, recorded
from random_hosts import random_host

from sstrace.cli import main
from sstrace.recording.fleet import Chosen, Fleet

Captured = pytest.CaptureFixture[bytes]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A client and its database, whose clocks begin at different times, and a third host that comes later."""
    curl, postgres = held_by("curl", 7, 12), held_by("postgres", 88, 12)
    (tmp_path / "web-1.ndjson").write_bytes(
        recorded("web-1", [
            ("state", 10, 1, {"from": "UNCONN", "to": "SYN-SENT", **WEB, **curl}),
            ("state", 10.002, 1, {"from": "SYN-SENT", "to": "ESTAB", **WEB, **curl}),
            ("state", 60, 1, {"from": "ESTAB", "to": "CLOSE-WAIT", **WEB, **curl}),
            ("state", 90, 1, {"from": "CLOSE-WAIT", "to": "LAST-ACK", **WEB, **curl}),
            ("state", 90.001, 1, {"from": "LAST-ACK", "to": "UNCONN", **WEB, "cause": "fin-by-peer", "ended": True}),
            ("state", 200, 2, {"from": "UNCONN", "to": "SYN-SENT", **WEB, "sport": 40001, **curl}),
        ])
    )  # fmt: skip
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "day.ndjson").write_bytes(
        recorded("db-1", [
            ("seen", 0, 1, {"state": "LISTEN", **LISTENER, **held_by("postgres", 1, 3)}),
            ("state", 10.001, 2, {"from": "LISTEN", "to": "SYN-RECV", **DB}),
            ("state", 10.0025, 2, {"from": "SYN-RECV", "to": "ESTAB", **DB, **postgres, "held_us": 1500}),
            ("state", 60, 2, {"from": "ESTAB", "to": "FIN-WAIT-1", **DB, **postgres}),
            ("state", 60.001, 2, {"from": "FIN-WAIT-1", "to": "FIN-WAIT-2", **DB, **postgres}),
            ("state", 90.0005, 2, {"from": "FIN-WAIT-2", "to": "TIME-WAIT", **DB}),
            ("state", 150, 2, {"from": "TIME-WAIT", "to": "UNCONN", **DB}),
            ("seen", 240, 3, {"state": "LISTEN", **LISTENER, "sport": 80}),
        ], boot_s=900)
    )  # fmt: skip
    (tmp_path / "web-2.ndjson.gz").write_bytes(
        gzip.compress(recorded("web-2", [
            ("seen", 100, 1, {"state": "LISTEN", **LISTENER, "sport": 22, **held_by("sshd", 5, 9)}),
            ("seen", 180, 2, {"state": "LISTEN", **LISTENER, "sport": 443}),
        ], boot_s=77))
    )  # fmt: skip
    (tmp_path / "README").write_text("no recording, and none that a name makes look like one")
    return tmp_path


def asked(capfdbinary: Captured, folder: Path, *words: str, code: int = 0) -> tuple[list[str], str]:
    """Lines and complaints of a snapshot, times in UTC."""
    assert main(["--snapshot", "--from", str(folder), "--time", "utc", *words]) == code
    found = capfdbinary.readouterr()
    return found.out.decode().splitlines(), found.err.decode()


def short(lines: Iterable[str]) -> list[str]:
    """Host, state and local end."""
    return [" ".join((words[0], words[1], words[4])) for line in lines if (words := line.split())]


def test_hosts_stand_by_name_each_with_its_own_table(folder: Path, capfdbinary: Captured) -> None:
    lines, said = asked(capfdbinary, folder, "--at", "15:01:10", "-tanp")
    assert lines[0].split()[:2] == ["Host", "State"]
    assert short(lines[1:]) == [
        "db-1 LISTEN 0.0.0.0:5432", "db-1 FIN-WAIT-2 10.0.0.9:5432", "web-1 CLOSE-WAIT 10.0.0.1:40000",
    ]  # fmt: skip
    assert [line.split()[-1] for line in lines[2:]] == [
        'users:(("postgres",pid=88,fd=3))', 'users:(("curl",pid=7,fd=3))',
    ]  # fmt: skip
    assert said == ("sstrace: web-2 begins at 2026-11-20T15:01:40.000000000Z, after 15:01:10: it is left out\n")


def test_a_moment_of_all(folder: Path, capfdbinary: Captured) -> None:
    """What counts from an end counts from that of the first, or the last, recording of all that are asked."""

    def at(*words: str) -> list[str]:
        return short(asked(capfdbinary, folder, "-H", "-tan", *words)[0])

    assert at("--at", "+5s") == ["db-1 LISTEN 0.0.0.0:5432"]
    assert at("--at", "-220s") == at("--at", "15:00:20") != at("--at", "15:00:05")
    assert at("--at", "-200s", "--host", "web-1,db-1") == at("--at", "15:00:40")
    assert at("--at", "2026-11-20T15:01:50Z") == [
        "db-1 LISTEN 0.0.0.0:5432", "db-1 TIME-WAIT 10.0.0.9:5432", "web-2 LISTEN 0.0.0.0:22",
    ]  # fmt: skip


def test_without_a_moment_each_table_is_that_of_its_end(folder: Path, capfdbinary: Captured) -> None:
    lines, said = asked(capfdbinary, folder, "-H", "-tan")
    assert short(lines) == [
        "db-1 LISTEN 0.0.0.0:5432", "db-1 LISTEN 0.0.0.0:80", "web-1 SYN-SENT 10.0.0.1:40001",
        "web-2 LISTEN 0.0.0.0:22", "web-2 LISTEN 0.0.0.0:443",
    ]  # fmt: skip
    assert "not all end together, web-2 at 2026-11-20T15:03:00.000000000Z, db-1 at" in said
    _, said = asked(capfdbinary, folder, "-tan", "--at", "15:03:50")
    assert said == (
        "sstrace: web-2 and web-1 end at 2026-11-20T15:03:00.000000000Z and later, before 15:03:50: "
        "these are their tables then\n"
    )


def test_one_host_is_shown_as_its_own_recording(folder: Path, capfdbinary: Captured) -> None:
    one, _ = asked(capfdbinary, folder / "db" / "day.ndjson", "--at", "15:01:10", "-tanpe", "state", "fin-wait-2")
    same, _ = asked(capfdbinary, folder, "--host", "db-1", "--at", "15:01:10", "-tanpe", "state", "fin-wait-2")
    assert one == same
    assert "FIN" not in one[0], "no column where there is one host"
    file, _ = asked(capfdbinary, folder / "db" / "day.ndjson", "--host", "db*", "--at", "15:01:10", "-tan")
    assert len(file) == 3


def test_a_host_is_named_by_a_word_or_a_pattern(folder: Path, capfdbinary: Captured) -> None:
    def hosts(*words: str) -> set[str]:
        lines, _ = asked(capfdbinary, folder, "-tan", "--json", *words)
        return {msgspec.json.decode(line)["host"] for line in lines}

    assert hosts("--host", "web*") == {"web-1", "web-2"}
    assert hosts("--host", "web-2", "--host", "db-?") == {"web-2", "db-1"}
    assert hosts("--host", "web-1,db-1") == {"web-1", "db-1"}
    _, said = asked(capfdbinary, folder, "--host", "web-11", code=1)
    assert said == f'sstrace: {folder} has no recording of a host "web-11": did you mean web-1?\n'
    for word in ("", ",", "web-1,"):
        _, said = asked(capfdbinary, folder, "--host", word, code=255)
        assert said == "sstrace: --host needs a name\n"
    _, said = asked(capfdbinary, folder, "--host", "mail", code=1)
    assert said == f'sstrace: {folder} has no recording of a host "mail": there are db-1, web-1 and web-2\n'


@pytest.mark.parametrize("words", [(), ("--host", "web-1")])
def test_the_other_end_is_named(folder: Path, capfdbinary: Captured, words: tuple[str, ...]) -> None:
    """Also that of a host that is not shown."""
    lines, _ = asked(capfdbinary, folder, "--at", "15:01:10", "-tan", "--json", *words)
    rows = {row["host"]: row for line in lines if (row := msgspec.json.decode(line))["state"] != "LISTEN"}
    web = rows["web-1"]
    assert (web["peer_host"], web["peer_owners"]) == ("db-1", [{"comm": "postgres", "pid": 88, "fd": 3}])
    if not words:
        assert rows["db-1"]["peer_host"] == "web-1"
        assert rows["db-1"]["peer_owners"] == [{"comm": "curl", "pid": 7, "fd": 3}]
    # The other end has gone: nobody has it.
    lines, _ = asked(capfdbinary, folder, "--at", "15:03:30", "-tan", "--json", "--host", "web-1")
    assert "peer_host" not in msgspec.json.decode(lines[0])


@pytest.mark.parametrize("which", ["ours", "theirs", "own", "loopback", "mapped"])
def test_an_end_that_several_claim_is_nobodys(tmp_path: Path, capfdbinary: Captured, which: str) -> None:
    web, db = dict(WEB), dict(DB)
    if which == "loopback":
        web, db = ends("127.0.0.1", 40000, "127.0.0.1", 80), ends("127.0.0.1", 80, "127.0.0.1", 40000)
    if which == "mapped":
        db |= {"family": "inet6", "src": "::ffff:10.0.0.9", "dst": "::ffff:10.0.0.1"}
    hosts = {"web": [web], "db": [db]}
    if which == "ours":
        hosts["other"] = [web]
    elif which == "theirs":
        hosts["other"] = [db]
    elif which == "own":
        hosts["web"].append(db)
    for host, rows in hosts.items():
        told: list[Told] = [("seen", 1, number, {"state": "ESTAB", **row}) for number, row in enumerate(rows, 1)]
        (tmp_path / f"{host}.ndjson").write_bytes(recorded(host, told))
    lines, _ = asked(capfdbinary, tmp_path, "--json", "-tan")
    peers = [(row["host"], row.get("peer_host")) for row in map(msgspec.json.decode, lines)]
    if which == "mapped":
        assert peers == [("db", "web"), ("web", "db")]
    else:
        assert len(peers) == sum(map(len, hosts.values()))
        assert {peer for _, peer in peers} == {None}


def test_what_changed(folder: Path, capfdbinary: Captured) -> None:
    lines, _ = asked(capfdbinary, folder, "--between", "15:00:20", "15:01:20", "-tan")
    assert lines[0].split()[:2] == ["Host", "State"]
    assert [" ".join(line.split()[:3]) for line in lines[1:]] == [
        "- db-1 ESTAB", "+ db-1 FIN-WAIT-2", "- web-1 ESTAB", "+ web-1 CLOSE-WAIT",
    ]  # fmt: skip
    lines, _ = asked(capfdbinary, folder, "--between", "15:00:20", "15:01:20", "-tan", "--json")
    rows = [msgspec.json.decode(line) for line in lines]
    assert [(row["host"], row["change"], row["peer_host"]) for row in rows] == [
        ("db-1", "removed", "web-1"), ("db-1", "added", "web-1"),
        ("web-1", "removed", "db-1"), ("web-1", "added", "db-1"),
    ]  # fmt: skip
    _, said = asked(capfdbinary, folder, "--between", "15:01:20", "15:00:20", code=255)
    assert said == "sstrace: 15:01:20 is after 15:00:20: write --between 15:00:20 15:01:20\n"


def test_a_restart_in_between_is_no_change(tmp_path: Path, capfdbinary: Captured) -> None:
    """Another run numbers the same connections otherwise."""
    (tmp_path / "a.ndjson").write_bytes(
        recorded("h", [("seen", 1, 1, {"state": "LISTEN", **LISTENER}), ("seen", 2, 2, {"state": "ESTAB", **DB})])
    )
    (tmp_path / "b.ndjson").write_bytes(
        recorded("h", [("seen", 100, 1, {"state": "ESTAB", **DB}), ("seen", 101, 2, {"state": "LISTEN", **LISTENER})])
    )
    lines, _ = asked(capfdbinary, tmp_path, "--between", "15:00:03", "15:01:45", "-tan", "-H")
    assert lines == []
    lines, _ = asked(capfdbinary, tmp_path, "--between", "15:00:01.5", "15:01:45", "-tan", "-H")
    assert [line.split()[:2] for line in lines] == [["+", "ESTAB"]]


def test_of_a_rotation_the_file_of_the_moment_is_read(tmp_path: Path, capfdbinary: Captured) -> None:
    """The files of one recording, some compressed later; the oldest has been dropped."""
    for part, at_s, port in ((1, 60, 81), (2, 120, 82), (None, 180, 83)):
        told: list[Told] = [
            ("checkpoint", at_s, 0, {"rows": 1}),
            ("seen", at_s, port, {"state": "LISTEN", **LISTENER, "sport": port, "seq": port + 1}),
        ]
        data = recorded("h", told, part=3 if part is None else part, seq=port)
        name = "day.ndjson" if part is None else f"day.{part:04d}.ndjson{'.gz' if part == 1 else ''}"
        (tmp_path / name).write_bytes(gzip.compress(data) if part == 1 else data)
    for when, port in (("15:01:30", 81), ("15:02:59", 82), ("15:03:00", 83), ("-0s", 83)):
        lines, said = asked(capfdbinary, tmp_path, "--at", when, "-tan", "-H")
        assert ([line.split()[3] for line in lines], said) == ([f"0.0.0.0:{port}"], "")


def rotated(folder: Path) -> None:
    """The recorder begins the next file."""
    day = folder / "day.ndjson"
    day.rename(folder / "day.0001.ndjson")
    told: list[Told] = [
        ("checkpoint", 120, 0, {"rows": 1}),
        ("seen", 120, 1, {"state": "LISTEN", **LISTENER, "sport": 82, "seq": 2}),
    ]
    day.write_bytes(recorded("h", told, part=1, seq=1))


def test_a_rotation_that_goes_on_meanwhile_is_looked_at_again(
    tmp_path: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, looks = Fleet.at, 0

    def rotates(self: Fleet, *what: Any) -> list[Chosen]:
        nonlocal looks
        found = at(self, *what)
        looks += 1
        if looks == 1:
            rotated(tmp_path)
        return found

    monkeypatch.setattr(Fleet, "at", rotates)
    (tmp_path / "day.ndjson").write_bytes(
        recorded("h", [("seen", 60, 1, {"state": "LISTEN", **LISTENER, "sport": 81})])
    )
    lines, said = asked(capfdbinary, tmp_path, "--at", "15:01:00", "-tan", "-H")
    assert ([line.split()[3] for line in lines], said, looks) == (["0.0.0.0:81"], "", 2)


@pytest.mark.parametrize("words", [["--replay"], ["--stats", "--from"]])
def test_what_is_told_says_that_a_file_has_been_begun_anew(
    tmp_path: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    limit = Fleet.limit

    def rotates(self: Fleet, parts: Any) -> None:
        limit(self, parts)
        rotated(tmp_path)

    monkeypatch.setattr(Fleet, "limit", rotates)
    (tmp_path / "day.ndjson").write_bytes(recorded("h", [("seen", 60, 1, {"state": "LISTEN", **LISTENER})]))
    assert main([*words, str(tmp_path)]) == 0
    said = capfdbinary.readouterr().err.decode()
    assert said == f"sstrace: {tmp_path}/day.ndjson has been begun anew while the others were read\n"


def test_two_machines_of_one_name_are_told_apart(tmp_path: Path, capfdbinary: Captured) -> None:
    for name, port in (("one", 81), ("two", 82)):
        told: list[Told] = [
            ("seen", 0, 1, {"state": "LISTEN", **LISTENER, "sport": port}),
            ("seen", 100, 2, {"state": "ESTAB", **DB}),
        ]
        (tmp_path / f"{name}.ndjson").write_bytes(recorded("debian", told, boot_id=f"{name}-and-the-rest"))
    lines, said = asked(capfdbinary, tmp_path, "--at", "15:00:50", "-tan", "-H")
    assert short(lines) == ["debian@one-and- LISTEN 0.0.0.0:81", "debian@two-and- LISTEN 0.0.0.0:82"]
    assert (
        said
        == "sstrace: 2 machines are called debian at the same time: here they are debian@one-and- and debian@two-and-\n"
    )
    assert len(asked(capfdbinary, tmp_path, "--host", "debian", "-tan", "-H")[0]) == 4
    # One machine that was booted again is one host.
    (tmp_path / "two.ndjson").write_bytes(
        recorded("debian", [("seen", 200, 1, {"state": "LISTEN", **LISTENER})], boot_id="two")
    )
    lines, said = asked(capfdbinary, tmp_path, "--at", "15:00:50", "-tan", "-H")
    assert [line.split()[3] for line in lines] == ["0.0.0.0:81"]
    assert said == ""


def test_two_namespaces_of_a_host_are_both_its_table(tmp_path: Path, capfdbinary: Captured) -> None:
    for netns in (1, 2):
        told: list[Told] = [
            ("seen", 0, 1, {"state": "LISTEN", **LISTENER, "sport": 80 + netns}),
            ("seen", 100, 1, {"state": "LISTEN", **LISTENER, "sport": 90 + netns}),
        ]
        (tmp_path / f"{netns}.ndjson").write_bytes(recorded("h", told, netns=netns))
    lines, _ = asked(capfdbinary, tmp_path, "--at", "15:00:50", "-tan", "-H")
    assert [line.split()[3] for line in lines] == ["0.0.0.0:81", "0.0.0.0:82"]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Two hosts, recorded with several network namespaces each, of which one is called blue on both."""
    for host in ("a", "b"):
        inside = {"netns": 5, "netns_name": "blue"}
        told: list[Told] = [
            ("netns", 0, 0, {"event": "here", "netns": 1, "netns_cookie": 1}),
            ("netns", 0, 0, {"event": "here", "netns_cookie": 77, **inside}),
            ("seen", 1, 1, {"state": "LISTEN", **LISTENER}),
            ("seen", 1, 2, {"state": "LISTEN", **LISTENER, "sport": 81, **inside}),
            ("state", 2, 3, {"from": "UNCONN", "to": "ESTAB", **WEB, **inside, "ifindex": 3, "ifname": f"v{host}"}),
            ("state", 9, 3, {"from": "ESTAB", "to": "CLOSE-WAIT", **WEB, **inside, "ifindex": 3, "ifname": f"v{host}"}),
        ]
        (tmp_path / f"{host}.ndjson").write_bytes(recorded(host, told, several=True))
    return tmp_path


@pytest.mark.parametrize(
    ("source", "words", "column"),
    [("a.ndjson", [], True), ("-", ["--netns", "all"], True), ("-", [], False)],
    ids=["file", "pipe, all", "pipe"],
)
def test_a_replay_of_a_pipe_is_told_that_there_are_several(
    many: Path, source: str, words: list[str], column: bool
) -> None:
    """The header stands there before anything has come."""
    with subprocess.Popen(["cat", many / "a.ndjson"], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [sys.executable, "-m", "sstrace", "--replay", source if source == "-" else many / source, *words],
            stdin=cat.stdout, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
    header, *lines = done.stdout.splitlines()
    assert ("Netns" in header) == column
    assert any(" blue " in line for line in lines) == column


def test_hosts_with_several_namespaces(many: Path, capfdbinary: Captured) -> None:
    lines, said = asked(capfdbinary, many, "-tanH", "--at", "15:00:05")
    assert [line.split()[5] for line in lines] == [
        "0.0.0.0:5432", "0.0.0.0:81", "10.0.0.1%va:40000", "0.0.0.0:5432", "0.0.0.0:81", "10.0.0.1%vb:40000",
    ]  # fmt: skip
    assert said == ""
    lines, _ = asked(capfdbinary, many, "-tan", "--json", "--netns", "blue", "--host", "b")
    rows = [msgspec.json.decode(line) for line in lines]
    assert [(row["host"], row["netns"], row["netns_name"], row["sport"]) for row in rows] == [
        ("b", 5, "blue", 81), ("b", 5, "blue", 40000),
    ]  # fmt: skip
    lines, _ = asked(capfdbinary, many, "-tanH", "--between", "15:00:05", "15:00:09", "--netns", "blue")
    assert [line.split()[:3] for line in lines] == [
        ["-", "a", "ESTAB"], ["+", "a", "CLOSE-WAIT"], ["-", "b", "ESTAB"], ["+", "b", "CLOSE-WAIT"],
    ]  # fmt: skip
    _, said = asked(capfdbinary, many, "-tan", "--netns", "red", code=1)
    assert "--netns red: no network namespace was called so" in said


@pytest.mark.parametrize("words", [["--stats", "--json"], ["--json"], ["-n"]])
def test_namespaces_of_hosts_that_are_told(many: Path, capfdbinary: Captured, words: list[str]) -> None:
    assert main(["--from", str(many), "--netns", "blue", *words]) == 0
    found = capfdbinary.readouterr()
    assert found.err == b""
    assert b"blue" in found.out or "--json" not in words or "--stats" in words
    assert main(["--from", str(many), "--netns", "red", *words]) == 1


def test_what_is_no_recording_is_left_out(folder: Path, tmp_path: Path, capfdbinary: Captured) -> None:
    (folder / "notes.json").write_text("{}")
    (folder / ".day.ndjson.part").write_text("copied a moment ago")
    (folder / "gone.ndjson").symlink_to(folder / "nothing")
    _, said = asked(capfdbinary, folder, "-tan", "--at", "15:02:00")
    assert said == (
        f"sstrace: left out: {folder}/gone.ndjson (No such file or directory), "
        f"{folder}/notes.json (no recording of sstrace)\n"
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    _, said = asked(capfdbinary, empty, "-tan", code=5)
    assert said == f"sstrace: {empty} holds nothing that can be used: no recording of sstrace\n"
    _, said = asked(capfdbinary, tmp_path / "nowhere", "-tan", "--host", "x", code=5)
    assert said == f"sstrace: cannot read {tmp_path}/nowhere: No such file or directory\n"


def test_what_is_of_one_recording_alone_is_refused(folder: Path, capfdbinary: Captured) -> None:
    _, said = asked(capfdbinary, folder, "--at", "#3", code=255)
    assert said == (
        f"sstrace: #SEQ numbers the lines of one recording, and {folder} has 3: choose a host that has one (--host), "
        "or say a time\n"
    )
    _, said = asked(capfdbinary, folder, "-D", "dump", code=255)
    assert said == "sstrace: -D dumps the table of one host: choose with --host, of db-1, web-1 and web-2\n"
    _, said = asked(capfdbinary, folder, "--at", "#77", "--host", "db-1", code=1)
    assert said == f"sstrace: {folder} has no line #77\n"


@pytest.mark.parametrize("words", [("--at", "#3", "-tane"), ("--at", "#2", "-D", "-"), ("-D", "-")], ids=" ".join)
def test_one_host_of_them_is_asked_as_its_file_is(folder: Path, capfdbinary: Captured, words: tuple[str, ...]) -> None:
    for host, path in (("web-1", "web-1.ndjson"), ("db-1", "db/day.ndjson"), ("web-2", "web-2.ndjson.gz")):
        if host != "web-2" or "#3" not in words:
            found = []
            for source in (("--from", str(folder), "--host", host), ("--from", str(folder / path))):
                assert main(["--snapshot", *source, *words]) == 0
                found.append(capfdbinary.readouterr())
            assert found[0] == found[1]
            assert found[0].out


def test_several_namespaces_of_a_host_have_a_column(tmp_path: Path, capfdbinary: Captured) -> None:
    for number in range(2):
        recording = random_host(f"node{number}", number, random.Random(number), several=number == 1)
        (tmp_path / f"{number}.ndjson").write_bytes(recording)
    one, _ = asked(capfdbinary, tmp_path, "-tan", "--at", "+60", "--host", "node1")
    assert main(["--snapshot", "--from", str(tmp_path / "1.ndjson"), "-tan", "--at", "+60"]) == 0
    assert one == capfdbinary.readouterr().out.decode().splitlines()
    both, _ = asked(capfdbinary, tmp_path, "-tan", "--at", "@1795186860")
    assert both[0].split()[:3] == ["Host", "Netns", "State"]
    assert {tuple(line.split()[:2]) for line in both[1:]} == {("node0", "-"), ("node1", "1"), ("node1", "web1")}
    changed, _ = asked(capfdbinary, tmp_path, "-tan", "--between", "+30", "+90")
    assert changed[0].split()[:2] == ["Host", "Netns"]
    assert {tuple(line[2:].split()[:2]) for line in changed[1:]} == {("node0", "-"), ("node1", "1"), ("node1", "web1")}


def test_a_filter_is_read_once_and_means_each_hosts_own(
    folder: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = ("--at", "15:01:10", "-tan", "-H")
    assert [line.split()[0] for line in asked(capfdbinary, folder, *at, "comm", "curl")[0]] == ["web-1"]
    assert [line.split()[0] for line in asked(capfdbinary, folder, *at, "held > 5s")[0]] == ["db-1", "db-1", "web-1"]
    assert [line.split()[0] for line in asked(capfdbinary, folder, *at, "autobound")[0]] == ["web-1"]
    assert asked(capfdbinary, folder, *at, "dev", "eth-db-1")[0] == []
    _, said = asked(capfdbinary, folder, *at, "dev", "eth7", code=1)
    assert said.endswith('sstrace: no interface was called "eth7" while this was recorded\n')


def test_too_much_to_read_is_refused(folder: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sstrace.recording.fleet._MOST", 100)
    monkeypatch.setattr("sstrace.sources.chdb.installed", lambda: False)
    asked(capfdbinary, folder, "--at", "15:01:10", "-tan", "--host", "db-1,web-1")  # plain: read around the moment
    _, said = asked(capfdbinary, folder, "--at", "15:02:10", "-tan", code=255)
    assert f"sstrace: {folder} is too large for this question: " in said
    assert "; or have an engine keep it: pip install 'sstrace[fleet]'\n" in said


def test_each_host_answers_as_its_own_recording(tmp_path: Path, capfdbinary: Captured) -> None:
    """Random lives on five hosts, at random moments: the same rows, behind the column."""
    random_ = random.Random(20)
    hosts = [f"host{number}" for number in range(5)]
    states = ["SYN-SENT", "ESTAB", "CLOSE-WAIT", "LAST-ACK", "UNCONN"]
    for number, host in enumerate(hosts):
        told: list[Told] = []
        for row in range(1, 30):
            at_s = random_.uniform(0, 100)
            what = {**ends(f"10.0.{number}.1", 40000 + row, "10.0.9.9", 443), **held_by(f"p{row}", row, 100 + row)}
            for old, new in zip(["UNCONN", *states], states, strict=False):
                told.append(("state", at_s, row, {"from": old, "to": new, **what}))
                at_s += random_.uniform(0, 40)
        told = [("seen", 0, 99, {"state": "LISTEN", **LISTENER}), *sorted(told, key=lambda line: line[1])]
        told.append(("seen", 300, 98, {"state": "LISTEN", **LISTENER, "sport": 81}))
        data = recorded(host, told, boot_s=random_.uniform(1, 1e6))
        (tmp_path / f"{host}.ndjson").write_bytes(data)
    for _ in range(20):
        when = f"+{random_.uniform(0, 290):.3f}s"
        together, _said = asked(capfdbinary, tmp_path, "--at", when, "-tanpe", "-H", "-O")
        apart = []
        for host in hosts:
            own, _said = asked(capfdbinary, tmp_path / f"{host}.ndjson", "--at", when, "-tanpe", "-H", "-O")
            apart += [[host, *line.split()] for line in own]
        assert [line.split() for line in together] == apart
