"""What a command line gets of a small recording that is written out here: tables, filters, dumps, digests."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sstrace.cli import main
from sstrace.model import AF_INET6, Table
from sstrace.wire import inet_diag

Captured = pytest.CaptureFixture[bytes]

SECOND = 1_000_000_000
META = {
    "type": "meta", "schema": "sstrace/1", "version": "0", "ts": "2026-11-20T15:00:00.000000000Z", "mono_ns": SECOND,
    "host": "h", "kernel": "6", "boot_id": "b", "netns": 1, "ephemeral": [40000, 50000],
    "interfaces": {"lo": 1, "vpn9": 77},
}  # fmt: skip


class Story:
    """Lines with times and numbers of their own."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = [META]
        self.seq = 0

    def add(self, kind: str, at_s: float, number: int, **fields: Any) -> None:
        """A line of a connection."""
        self.seq += 1
        at_ns = round(at_s * SECOND)
        values = {"family": "inet", "src": "10.0.0.1", "sport": 40000 + number, "dst": "10.0.0.2", "dport": 443}
        seconds, nanoseconds = divmod(at_ns, SECOND)
        self.lines.append({
            "type": kind, "ts": f"2026-11-20T15:{seconds // 60:02d}:{seconds % 60:02d}.{nanoseconds:09d}Z",
            "mono_ns": at_ns + SECOND, "seq": self.seq, "id": number, "netid": "tcp", **values, "netns": 1, **fields,
        })  # fmt: skip

    def move(self, at_s: float, number: int, old: str, new: str, **fields: Any) -> None:
        """A transition."""
        ends = {"ended": True} if "cause" in fields else {}
        self.add("state", at_s, number, **{"from": old, "to": new}, **ends, **fields)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Four minutes: a listener, a connection that is opened, used and reset, one that is refused, one bound to vpn9."""
    story = Story()
    listener = {"src": "::", "sport": 22, "dst": "::", "dport": 0, "family": "inet6"}
    story.add("seen", 0, 1, state="LISTEN", v6only=False, ino=11, sk=1, uid=0, cgroup="/ssh",
              owners=[{"comm": "sshd", "pid": 1, "fd": 3}], owner_source="proc", **listener)  # fmt: skip
    curl = {
        "role": "client",
        "ino": 12,
        "uid": 1000,
        "owners": [{"comm": "curl", "pid": 7, "fd": 5}],
        "cgroup": "/user",
    }
    story.move(10, 2, "UNCONN", "SYN-SENT", **curl)
    story.move(10.002, 2, "SYN-SENT", "ESTAB", held_us=2000.0, **curl)
    story.move(20, 3, "UNCONN", "SYN-SENT", ino=13, role="client")
    story.move(
        20.001,
        3,
        "SYN-SENT",
        "UNCONN",
        cause="refused",
        err=111,
        errno="ECONNREFUSED",
        held_us=1000.0,
        lifetime_us=1000.0,
        role="client",
    )
    story.move(
        60, 4, "SYN-RECV", "ESTAB", ifindex=77, ifname="vpn9", sport=8080, dport=40123, retransmits=2, held_us=5e6
    )
    story.move(120, 2, "ESTAB", "UNCONN", cause="reset-received", held_us=1.1e8, lifetime_us=1.1e8 + 2000, **curl)
    story.add("seen", 180, 5, state="LISTEN", v6only=True, **{**listener, "sport": 80})
    story.move(240, 4, "ESTAB", "CLOSE-WAIT", ifindex=77, ifname="vpn9", sport=8080, dport=40123, held_us=1.8e8)
    file = tmp_path / "story.ndjson"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in story.lines))
    return str(file)


def rows(capfdbinary: Captured, *words: str, code: int = 0) -> list[list[str]]:
    """Words of the lines that a snapshot prints."""
    assert main(["--snapshot", "-H", *words]) == code
    return [line.split() for line in capfdbinary.readouterr().out.decode().splitlines()]


def test_moments(path: str, capfdbinary: Captured) -> None:
    def at(when: str) -> list[str]:
        return [line[0] + " " + line[3] for line in rows(capfdbinary, "--from", path, "--at", when, "-tan")]

    assert at("+0s") == ["LISTEN *:22"]
    assert at("+10s") == ["SYN-SENT 10.0.0.1:40002", "LISTEN *:22"]
    assert at("2026-11-20T15:00:15Z") == ["ESTAB 10.0.0.1:40002", "LISTEN *:22"]
    assert at("@1795186815.5") == ["ESTAB 10.0.0.1:40002", "LISTEN *:22"]
    assert at("#4") == ["ESTAB 10.0.0.1:40002", "SYN-SENT 10.0.0.1:40003", "LISTEN *:22"]
    assert at("#5") == ["ESTAB 10.0.0.1:40002", "LISTEN *:22"]
    assert at("-2m") == ["ESTAB 10.0.0.1%vpn9:8080", "LISTEN *:22"]
    assert at("-0s") == ["CLOSE-WAIT 10.0.0.1%vpn9:8080", "LISTEN *:22", "LISTEN [::]:80"]


@pytest.mark.parametrize("moment", [("--at", "+15s"), ("--between", "+15s", "+130s")])
def test_the_network_namespace_of_a_recording_of_one_is_known(
    path: str, capfdbinary: Captured, moment: tuple[str, ...]
) -> None:
    words = ("--from", path, *moment, "-tan")
    assert rows(capfdbinary, *words, "netns", "1") == rows(capfdbinary, *words) != []
    assert rows(capfdbinary, *words, "netns", "2") == []


@pytest.mark.parametrize("mode", ["clock", "iso", "utc"])
def test_a_moment_that_a_text_says_is_the_table_right_after_it(
    tmp_path: Path, capfdbinary: Captured, mode: str
) -> None:
    story = Story()
    story.add("seen", 0, 1, state="LISTEN", dport=0)
    for number, at_s in enumerate((7.0000001, 9.123456789, 9.1234579, 11.000000999), 2):
        story.move(at_s, number, "UNCONN", "SYN-SENT", role="client")
    path = tmp_path / "close.ndjson"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in story.lines))
    assert main(["--replay", str(path), "--speed", "max", "--time", mode, "--between", "+1s", "-0s"]) == 0
    times = [line.split()[0] for line in capfdbinary.readouterr().out.decode().splitlines() if "SYN-SENT" in line]
    assert len(times) == 4
    for number, time_ in enumerate(times, 1):
        zone = ["--time", "utc"] if mode == "utc" else []
        said = rows(capfdbinary, "--from", str(path), "--at", time_, *zone, "-tan", "state", "syn-sent")
        assert len(said) == number, (time_, said)
    assert main(["--replay", str(path), "--speed", "max", "--time", mode, "--between", times[1], times[2]]) == 0
    told = capfdbinary.readouterr().out.decode().splitlines()
    assert [line.split()[0] for line in told if "SYN-SENT" in line] == times[1:3]


def test_what_changed(path: str, capfdbinary: Captured) -> None:
    """Two tables, without what is alike in both."""

    def between(one: str, two: str, *words: str) -> list[str]:
        found = rows(capfdbinary, "--from", path, "--between", one, two, "-tan", *words)
        return [" ".join((line[0], line[1], line[4])) for line in found]

    assert between("+0s", "+15s") == ["+ ESTAB 10.0.0.1:40002"]
    assert between("+15s", "-0s") == [
        "- ESTAB 10.0.0.1:40002",
        "+ CLOSE-WAIT 10.0.0.1%vpn9:8080",
        "+ LISTEN [::]:80",
    ]
    # One that changed its state stands there twice.
    changed = ["- ESTAB 10.0.0.1%vpn9:8080", "+ CLOSE-WAIT 10.0.0.1%vpn9:8080"]
    assert between("+200s", "+240s") == changed
    assert between("#6", "#9", "dev", "=", "vpn9") == changed
    assert between("+200s", "+240s", "exclude", "established") == changed[1:]
    assert between("+5s", "+6s") == []
    assert main(["--snapshot", "--from", path, "--between", "+0s", "+15s", "-tnp"]) == 0
    head, line = capfdbinary.readouterr().out.decode().splitlines()
    assert head.startswith("  State ")
    assert line.index("ESTAB") == head.index("State")
    assert 'users:(("curl",pid=7,fd=5))' in line
    assert main(["--snapshot", "--from", path, "--between", "+200s", "+240s", "-tan", "--json"]) == 0
    found = [msgspec.json.decode(line) for line in capfdbinary.readouterr().out.splitlines()]
    assert [(line["change"], line["state"]) for line in found] == [("removed", "ESTAB"), ("added", "CLOSE-WAIT")]
    for wrong in (["--at", "+1s"], ["-D", "-"]):
        assert main(["--snapshot", "--from", path, "--between", "+0s", "+1s", "-ta", *wrong]) == 255
        capfdbinary.readouterr()


@pytest.fixture
def renamed(tmp_path: Path) -> str:
    """Of device 5, which is called v0, then wan, and goes; of device 6, which is called v0 later."""
    story = Story()
    for at_s, number, index, name in ((1, 1, 5, "v0"), (2, 2, 5, "v0"), (5, 3, 5, "wan"), (8, 4, 6, "v0")):
        if at_s == 5:
            story.add("seen", 4, 1, state="SYN-SENT", ifindex=5, ifname="wan", held_us=3e6)
        if at_s == 8:
            story.add("seen", 7, 1, state="SYN-SENT", ifindex=5, ifname="if5", held_us=6e6)
        story.move(at_s, number, "UNCONN", "SYN-SENT", ifindex=index, ifname=name)
        if number > 1:
            story.move(at_s + 0.5, number, "SYN-SENT", "UNCONN", cause="refused", err=111, ifindex=index, ifname=name)
    file = tmp_path / "renamed.ndjson"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in story.lines))
    return str(file)


def test_names_are_those_of_the_time(renamed: str, capfdbinary: Captured) -> None:
    def at(when: str, *words: str) -> list[str]:
        return [line[3] for line in rows(capfdbinary, "--from", renamed, "--at", when, "-tan", *words)]

    assert at("+2.2s") == ["10.0.0.1%v0:40001", "10.0.0.1%v0:40002"]
    assert at("+2.2s", "dev", "v0") == at("+2.2s")
    assert at("+3s") == ["10.0.0.1%v0:40001"]
    assert at("+5.2s") == ["10.0.0.1%wan:40001", "10.0.0.1%wan:40003"]
    assert at("+5.2s", "dev", "wan") == at("+5.2s")
    assert at("+8.2s") == ["10.0.0.1%if5:40001", "10.0.0.1%v0:40004"]
    assert at("+8.2s", "dev", "v0") == ["10.0.0.1%v0:40004"]
    assert at("+8.2s", "dev", "5") == at("+8.2s", "dev", "if5") == ["10.0.0.1%if5:40001"]
    assert rows(capfdbinary, "--from", renamed, "--at", "+3s", "-tan", "dev", "wan", code=1) == []

    def replayed(*words: str) -> list[str]:
        assert main(["--replay", renamed, "-nH", *words]) == 0
        return [line.split()[5] for line in capfdbinary.readouterr().out.decode().splitlines()]

    assert replayed("to", "syn-sent") == [
        "10.0.0.1%v0:40001", "10.0.0.1%v0:40002", "10.0.0.1%wan:40003", "10.0.0.1%v0:40004"
    ]  # fmt: skip
    assert replayed("to", "syn-sent", "dev", "v0") == ["10.0.0.1%v0:40001", "10.0.0.1%v0:40002", "10.0.0.1%v0:40004"]
    assert replayed("dev", "wan") == ["10.0.0.1%wan:40003"] * 2
    assert replayed("to", "syn-sent", "dev", "5", "and", "dev", "v0") == ["10.0.0.1%v0:40001", "10.0.0.1%v0:40002"]


def test_what_changed_of_names(renamed: str, capfdbinary: Captured) -> None:
    def between(one: str, two: str, *words: str) -> list[str]:
        found = rows(capfdbinary, "--from", renamed, "--between", one, two, "-tan", *words)
        return [f"{line[0]} {line[4]}" for line in found]

    assert between("+3s", "+7s") == ["- 10.0.0.1%v0:40001", "+ 10.0.0.1%if5:40001"]
    assert between("+2.2s", "+8.2s", "dev", "v0") == [
        "- 10.0.0.1%v0:40001", "- 10.0.0.1%v0:40002", "+ 10.0.0.1%v0:40004"
    ]  # fmt: skip
    assert between("+3s", "+3.5s") == []
    assert main(["--snapshot", "--from", renamed, "--between", "+3s", "+6s", "-tan", "dev", "nix"]) == 1
    assert b'no interface was called "nix" while this was recorded' in capfdbinary.readouterr().err


def test_a_device_that_never_was(renamed: str, capfdbinary: Captured) -> None:
    """It may come as long as there are lines; then it is known."""
    for words in (["--replay", renamed], ["--stats", "--from", renamed]):
        assert main([*words, "dev", "nix"]) == 1
        assert capfdbinary.readouterr().err == b'sstrace: no interface was called "nix" while this was recorded\n'
        assert main([*words, "dev", "nix", "or", "dev", "wan"]) == 1
        capfdbinary.readouterr()
        assert main([*words, "dev", "wan", "or", "dev", "lo"]) == 0
        capfdbinary.readouterr()
    assert main(["--replay", renamed, "--count", "1", "dev", "v0", "or", "dev", "nix"]) == 0


def test_a_name_with_a_newline_forges_no_change(tmp_path: Path, capfdbinary: Captured) -> None:
    story = Story()
    owner = {"comm": "x\n+ LISTEN", "pid": 1, "fd": 3}
    story.move(1, 2, "UNCONN", "SYN-SENT", ino=5, owners=[owner], cgroup="/a\n- ESTAB")
    file = tmp_path / "story.ndjson"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in story.lines))
    assert len(rows(capfdbinary, "--from", str(file), "--between", "+0s", "-0s", "-tanpe")) == 1


def test_filters_and_columns(path: str, capfdbinary: Captured) -> None:
    def at_15(*words: str) -> list[list[str]]:
        return rows(capfdbinary, "--from", path, "--at", "+15s", *words)

    assert at_15("-tn", "dport", "=", ":443", "-p") == [
        ["ESTAB", "-", "-", "10.0.0.1:40002", "10.0.0.2:443", 'users:(("curl",pid=7,fd=5))']
    ]
    assert at_15("-tne") == [
        ["ESTAB", "-", "-", "10.0.0.1:40002", "10.0.0.2:443", "timer:-", "uid:1000", "ino:12", "sk:-", "cgroup:/user"]
    ]
    for name in ("/ssh", "ssh/", "/sys/fs/cgroup/ssh", "/sys/fs/cgroup/unified/ssh"):
        assert len(at_15("-tan", "cgroup", "=", name)) == 1
    assert at_15("-tan", "dev", "=", "vpn9") == []
    assert len(rows(capfdbinary, "--from", path, "-tan", "dev", "=", "vpn9")) == 1
    assert len(at_15("-tan", "held", ">", "4s")) == 2
    assert len(at_15("-tan", "held", ">", "10s")) == 1
    # 40002 is in the recording's ephemeral range: no service's name, whatever this machine's range is.
    assert at_15("-t")[0][3] == "10.0.0.1:40002"
    assert len(at_15("-tan", "autobound")) == 1


def test_unknown_is_absent_in_ndjson(path: str, capfdbinary: Captured) -> None:
    assert main(["--snapshot", "--from", path, "--at", "+15s", "--json", "-tone"]) == 0
    line = msgspec.json.decode(capfdbinary.readouterr().out.splitlines()[0])
    assert line["ts"] == "2026-11-20T15:00:15.000000000Z"
    assert (line["ino"], line["uid"], line["cgroup"]) == (12, 1000, "/user")
    assert not line.keys() & {"recv_q", "send_q", "timer", "sk"}


@pytest.mark.ss
def test_dump_for_the_real_ss(path: str, tmp_path: Path, capfdbinary: Captured) -> None:
    dump = tmp_path / "dump"
    assert main(["--snapshot", "--from", path, "-ta", "-D", str(dump)]) == 0
    batch = inet_diag.decode(dump.read_bytes(), Table.TCP)
    assert batch.done
    assert [(row.family == AF_INET6, row.sport, row.extras and row.extras.v6only) for row in batch.rows] == [
        (False, 8080, None), (True, 22, False), (True, 80, True)
    ]  # fmt: skip
    shown = subprocess.run(["ss", "-Htan"], env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "TCPDIAG_FILE": str(dump)},
                           capture_output=True, check=True).stdout.decode()  # fmt: skip
    ends = [line.split()[3] for line in shown.splitlines()]
    assert [end.replace("%if77", "%vpn9") for end in ends] == [
        line[3] for line in rows(capfdbinary, "--from", path, "-tan")
    ]


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--at", "2026-11-20T14:59:59Z"], 1, "it knows nothing of that moment"),
        (["--at", "2026-11-20T15:59:59Z"], 0, "this is the table then"),
        (["--at", "#4711"], 0, "ends with line #9, before #4711"),
        (["-u"], 0, "UDP was not recorded"),
        (["-x"], 0, "unix was not recorded"),
        (["-M"], 0, "MPTCP was not recorded"),
        (["-S"], 0, "a recording holds netlink, packet, unix, raw, UDP, TCP, vsock, xdp and MPTCP only"),
        (["-ti"], 0, "a recording does not hold what -i would show"),
        (["-s"], 255, "-s means nothing to --snapshot --from FILE"),
        (["-K", "-t"], 255, "-K means nothing to --snapshot --from FILE"),
        (["-E"], 255, "-E means nothing to --snapshot --from FILE"),
        (["--between", "+1s", "+2s", "-ti"], 0, "a recording does not hold what -i would show"),
        (["-t", "-D", "/nonexistent/dump"], 1, "cannot write /nonexistent/dump"),
    ],
)
def test_sentences(path: str, capfdbinary: Captured, words: list[str], code: int, sentence: str) -> None:
    assert main(["--snapshot", "--from", path, *words]) == code
    said = capfdbinary.readouterr().err.decode()
    assert sentence in said
    assert said.count("\n") == 1


def test_a_loss_that_was_noticed_later(tmp_path: Path, capfdbinary: Captured) -> None:
    """What was lost before the moment may be told behind it, and a repair heals only what was told before."""
    story = Story()
    story.add("seen", 0, 1, state="LISTEN")
    gap = {"type": "gap", "seq": 2, "cpu": 0, "count": 7, "mono_ns": 11 * SECOND, "before_ns": 11 * SECOND}
    story.lines.append({**gap, "ts": "2026-11-20T15:00:10.000000000Z", "after_ns": 3 * SECOND})
    story.seq = 2
    story.move(12, 1, "LISTEN", "UNCONN")
    story.lines.append(
        {
            "type": "resync",
            "ts": "2026-11-20T15:00:20.000000000Z",
            "seq": 4,
            "mono_ns": 21 * SECOND,
            "added": 0,
            "removed": 0,
            "changed": 0,
        }
    )
    story.seq = 4
    story.move(30, 2, "UNCONN", "LISTEN")
    file = tmp_path / "story.ndjson"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in story.lines))
    for when, warned in (("+1s", False), ("+5s", True), ("+15s", True), ("+25s", False)):
        rows(capfdbinary, "--from", str(file), "--at", when, "-tan")
        assert main(["--snapshot", "--from", str(file), "--at", when, "-tan"]) == 0
        assert ("7 events had been lost" in capfdbinary.readouterr().err.decode()) is warned, when


def test_between(path: str, capfdbinary: Captured) -> None:
    assert main(["--from", path, "--between", "+5s", "+30s", "-H"]) == 0
    changes = [line.split()[1:4:2] for line in capfdbinary.readouterr().out.decode().splitlines()]
    assert changes == [["UNCONN", "SYN-SENT"], ["SYN-SENT", "ESTAB"], ["UNCONN", "SYN-SENT"], ["SYN-SENT", "UNCONN"]]
    assert main(["--replay", path, "--between", "-2m", "-1m", "--json"]) == 0
    assert [msgspec.json.decode(line)["type"] for line in capfdbinary.readouterr().out.splitlines()] == [
        "meta", "state", "seen"
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["--snapshot", "--replay", "--stats"])
def test_moments_the_wrong_way_round(path: str, capfdbinary: Captured, mode: str) -> None:
    words = [mode, path] if mode == "--replay" else [mode, "--from", path]
    assert main([*words, "--between", "+1s", "+0s"]) == 255
    said = capfdbinary.readouterr()
    assert (said.out, said.err) == (b"", b"sstrace: +1s is after +0s: write --between +0s +1s\n")
    assert main([*words, "--between", "+0s", "+1s"]) == 0


def test_held_chooses_transitions(path: str, capfdbinary: Captured) -> None:
    assert main(["--replay", path, "-H", "held", ">", "1s"]) == 0
    assert [line.split()[1] for line in capfdbinary.readouterr().out.decode().splitlines()] == [
        "SYN-RECV",
        "ESTAB",
        "ESTAB",
    ]


def test_speed_keeps_the_lines(path: str, capfdbinary: Captured) -> None:
    assert main(["--replay", path, "--json"]) == 0
    plain = capfdbinary.readouterr().out
    assert main(["--replay", path, "--json", "--speed", "100000"]) == 0
    slow = capfdbinary.readouterr().out
    assert [msgspec.json.decode(line) for line in slow.splitlines()] == list(
        map(msgspec.json.decode, plain.splitlines())
    )


def test_digest(path: str, capfdbinary: Captured) -> None:
    assert main(["--stats", "--from", path, "--json"]) == 0
    lines = [msgspec.json.decode(line) for line in capfdbinary.readouterr().out.splitlines()]
    totals = lines[0]
    assert (totals["from"], totals["to"]) == ("2026-11-20T15:00:10.000000000Z", "2026-11-20T15:04:00.000000000Z")
    expected = {
        "transitions": 7, "opened_out": 1, "opened_in": 1, "failed": 2, "failed_out": 2, "closed": 0, "retransmits": 2,
    }  # fmt: skip
    assert {key: totals[key] for key in expected} == expected
    groups = {(line["by"], line["key"]): line for line in lines if line["type"] == "stats_group"}
    assert (groups["peer", "10.0.0.2"]["opened"], groups["peer", "10.0.0.2"]["failed"]) == (2, 2)
    assert groups["port", "443"]["failed"] == 2
    assert groups["port", "8080"]["retransmits"] == 2
    assert groups["owner", "curl"]["opened"] == 1
    assert groups["cause", "refused"]["count"] == groups["cause", "reset-received"]["count"] == 1
    spreads = {line["of"]: line for line in lines if line["type"] == "stats_spread"}
    assert spreads["handshake_out"]["p50_us"] == 2000.0
    assert spreads["handshake_in"]["max_us"] == 5e6
    assert spreads["lifetime"]["count"] == 2
    assert (spreads["lifetime"]["min_us"], spreads["lifetime"]["max_us"]) == (1000.0, 110_002_000.0)


def test_digest_of_a_part(path: str, capfdbinary: Captured) -> None:
    assert main(["--stats", "--from", path, "--json", "--between", "+15s", "+25s"]) == 0
    totals = msgspec.json.decode(capfdbinary.readouterr().out.splitlines()[0])
    assert (totals["transitions"], totals["opened_out"], totals["failed_out"]) == (2, 0, 1)
    assert main(["--stats", "--from", path, "--json", "dport", "=", ":40123"]) == 0
    totals = msgspec.json.decode(capfdbinary.readouterr().out.splitlines()[0])
    assert (totals["transitions"], totals["opened_in"]) == (2, 1)


@pytest.fixture
def paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("paris")
def test_one_zone_is_read_and_told(path: str, capfdbinary: Captured) -> None:
    """The zone of this machine, or UTC when asked for: what a text says can be typed, and means the same."""

    def said(*words: str, code: int = 0) -> tuple[list[str], str]:
        assert main([*words]) == code
        found = capfdbinary.readouterr()
        return found.out.decode().splitlines(), found.err.decode()

    titles, first = said("--replay", path, "--count", "1")[0]
    assert titles.split()[:2] == ["Time", "From"]
    assert first.startswith("2026-11-20T16:00:10.000000+01:00     UNCONN -> SYN-SENT")
    assert said("--replay", path, "--count", "1", "--time", "clock")[0][0].startswith("Time UTC+01:00 ")
    assert said("--replay", path, "--count", "1", "--time", "utc")[0][1].startswith("2026-11-20T15:00:10.000000Z ")
    told = said("--replay", path, "--time", "delta", "-H", "--count", "3")[0]
    assert [line.split()[0] for line in told] == ["0.000000", "0.002000", "9.998000"]
    told = said("--replay", path, "--time", "relative", "-H", "--count", "3")[0]
    assert [line.split()[0] for line in told] == ["0.000000", "0.002000", "10.000000"]
    span = "2026-11-20T16:00:10.000000000+01:00 to 2026-11-20T16:04:00.000000000+01:00"
    assert said("--stats", "--from", path)[0][0].startswith(span)
    assert said("--stats", "--from", path, "--time", "utc")[0][0].startswith("2026-11-20T15:00:10.000000000Z to ")
    for local, utc in (("16:00:15", "15:00:15"), ("2026-11-20 16:00:15", "2026-11-20 15:00:15")):
        for when in (["--at", local], ["--at", utc, "--time", "utc"]):
            assert len(rows(capfdbinary, "--from", path, "-tan", *when)) == 2
        for when in (["--between", "16:00:00", local], ["--between", "15:00:00", utc, "--time", "utc"]):
            assert len(said("--replay", path, "-H", *when)[0]) == 2
    early = ["--snapshot", "--from", path, "--at", "2026-11-20T14:59:59Z"]
    assert f"{path} begins at 2026-11-20T16:00:00.000000000+01:00, after" in said(*early, code=1)[1]
    assert f"{path} begins at 2026-11-20T15:00:00.000000000Z, after" in said(*early, "--time", "utc", code=1)[1]


@pytest.mark.parametrize(
    ("when", "code", "count"),
    [("2026-11-20 16:00:15", 0, 2), ("2026-11-20T15:00:15Z", 0, 2), ("16:00:15", 255, 0), ("-1s", 255, 0)],
)
@pytest.mark.usefixtures("paris")
def test_of_a_pipe_what_needs_no_end_can_be_asked(path: str, when: str, code: int, count: int) -> None:
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
        done = subprocess.run(
            [sys.executable, "-m", "sstrace", "--snapshot", "-Htan", "--from", "/dev/stdin", f"--at={when}"],
            stdin=cat.stdout, capture_output=True, check=False,
        )  # fmt: skip
    assert (done.returncode, len(done.stdout.splitlines())) == (code, count), done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--snapshot", "--time", "utc"], "--time means nothing to --snapshot"),
        (["--doctor", "--time", "utc"], "--time means nothing to --doctor"),
        (["--json", "--time", "iso"], "--json has its times in UTC"),
        (["--stats", "--time", "delta"], "--time delta is of lines of events"),
        (["--watch", "--time", "clock"], "--time clock is of lines of events"),
        (["--time", "gmt"], '--time "gmt": it is one of clock, iso, utc, delta, relative'),
    ],
)
def test_where_no_time_is_told(capfdbinary: Captured, words: list[str], sentence: str) -> None:
    assert main(words) == 255
    assert sentence in capfdbinary.readouterr().err.decode()
