"""What a command line gets of a small recording in which UDP sockets stand beside a TCP connection."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sstrace.cli import main

Captured = pytest.CaptureFixture[bytes]
Run = tuple[int, list[str], str]

META = (
    b'{"type":"meta","schema":"sstrace/1","version":"0","ts":"2026-11-20T15:00:00.000000000Z","mono_ns":1000000000,'
    b'"host":"h","kernel":"6","boot_id":"b","netns":1,"ephemeral":[40000,50000],"interfaces":{"lo":1}%s}\n'
)
BOTH, TCP_ALONE = META % b',"netids":["tcp","udp"]', META % b""
STORY: tuple[tuple[int, str, int, str, str, dict[str, object]], ...] = (
    (10, "udp", 1, "UNKNOWN", "UNCONN", {"sport": 53, "dst": "0.0.0.0", "dport": 0}),
    (11, "tcp", 2, "UNCONN", "SYN-SENT", {}),
    (12, "tcp", 2, "SYN-SENT", "ESTAB", {"held_us": 1e6}),
    (13, "udp", 3, "UNKNOWN", "ESTAB", {"dport": 53, "role": "client"}),
    (20, "udp", 3, "ESTAB", "UNCONN", {"dst": "0.0.0.0", "dport": 0, "role": "client", "held_us": 7e6}),
    (21, "udp", 3, "UNCONN", "ESTAB", {"dport": 443, "role": "client", "held_us": 1e6}),
    (30, "udp", 3, "ESTAB", "UNKNOWN", {"dport": 443, "role": "client", "held_us": 9e6, "ended": True,
        "lifetime_us": 17e6, "bytes_sent": 100, "bytes_received": 900, "segs_out": 2, "segs_in": 3}),
    (40, "tcp", 2, "ESTAB", "UNCONN", {"cause": "reset-received", "ended": True, "lifetime_us": 29e6, "held_us": 28e6}),
)  # fmt: skip
"""At which second, of which socket, from which state to which, and what else."""


def told(*netids: str) -> list[bytes]:
    """The lines of these."""
    lines = []
    for seq, (at_s, netid, number, old, new, more) in enumerate((one for one in STORY if one[1] in netids), 1):
        line = {
            "type": "state", "ts": f"2026-11-20T15:00:{at_s:02d}.000000000Z", "mono_ns": (at_s + 1) * 1_000_000_000,
            "seq": seq, "id": number, "netid": netid, "family": "inet", "from": old, "to": new, "src": "10.0.0.1",
            "sport": 40000 + number, "dst": "10.0.0.2", "dport": 443, "netns": 1, "ino": 10 + number,
            "owners": [{"comm": netid, "pid": number, "fd": 3}], **more,
        }  # fmt: skip
        lines.append(msgspec.json.encode(line) + b"\n")
    return lines


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Of both."""
    file = tmp_path / "both.ndjson"
    file.write_bytes(BOTH + b"".join(told("udp", "tcp")))
    return str(file)


@pytest.fixture
def tcp_alone(tmp_path: Path) -> str:
    """Of TCP, as recordings were before there were others."""
    file = tmp_path / "tcp.ndjson"
    file.write_bytes(TCP_ALONE + b"".join(told("tcp")))
    return str(file)


def ran(capfdbinary: Captured, *words: str) -> Run:
    """Exit code, lines, and what was said."""
    code = main(list(words))
    found = capfdbinary.readouterr()
    return code, found.out.decode().splitlines(), found.err.decode()


def rows(capfdbinary: Captured, *words: str) -> list[str]:
    """Of a snapshot: netid where it is shown, state and both ends."""
    code, lines, said = ran(capfdbinary, "--snapshot", "-H", *words)
    assert (code, said) == (0, "")
    return [" ".join(word for word in line.split() if word != "-") for line in lines]


def test_a_moment_shows_each_table_as_ss_would(path: str, capfdbinary: Captured) -> None:
    def at(when: str, *words: str) -> list[str]:
        return rows(capfdbinary, "--from", path, "--at", when, *words)

    assert at("+15s", "-tuan") == [
        "udp UNCONN 10.0.0.1:53 0.0.0.0:*",
        "udp ESTAB 10.0.0.1:40003 10.0.0.2:53",
        "tcp ESTAB 10.0.0.1:40002 10.0.0.2:443",
    ]
    assert at("+15s", "-an") == at("+15s", "-tuan")
    assert at("+15s", "-uln") == ["UNCONN 10.0.0.1:53 0.0.0.0:*"]
    assert at("+20s", "-un") == []
    assert at("+20s", "-uan", "sport = :40003") == ["UNCONN 10.0.0.1:40003 0.0.0.0:*"]
    assert at("+30s", "-uan") == ["UNCONN 10.0.0.1:53 0.0.0.0:*"]
    assert at("-0s", "-tan") == []


def test_what_changed_between_two_moments(path: str, capfdbinary: Captured) -> None:
    assert rows(capfdbinary, "--from", path, "--between", "+15s", "+25s", "-an") == [
        "udp ESTAB 10.0.0.1:40003 10.0.0.2:53",
        "+ udp ESTAB 10.0.0.1:40003 10.0.0.2:443",
    ]
    assert rows(capfdbinary, "--from", path, "--between", "+25s", "-0s", "-an") == [
        "udp ESTAB 10.0.0.1:40003 10.0.0.2:443",
        "tcp ESTAB 10.0.0.1:40002 10.0.0.2:443",
    ]


def test_a_replay_tells_all_that_is_recorded_or_what_is_named(path: str, capfdbinary: Captured) -> None:
    code, lines, said = ran(capfdbinary, "--replay", path, "--speed", "max")
    assert (code, said) == (0, "")
    title, *lines = lines
    assert title.split()[1] == "Netid"
    assert [line.split()[1] for line in lines] == [netid for _, netid, *_ in STORY]
    for letter, netid in (("t", "tcp"), ("u", "udp")):
        _, (title, *lines), said = ran(capfdbinary, "--replay", path, "--speed", "max", f"-{letter}")
        assert title.split()[1] == "From"
        assert len(lines) == sum(one[1] == netid for one in STORY)
        _, lines, said = ran(capfdbinary, "--replay", path, "--speed", "max", "--json", f"-{letter}")
        assert [json.loads(line).get("netid") for line in lines] == [None] + [netid for one in STORY if one[1] == netid]
        assert said == ""


def test_a_copy_of_all_is_the_recording(path: str, tcp_alone: str, capfdbinary: Captured) -> None:
    for file in (path, tcp_alone):
        assert main(["--replay", file, "--speed", "max", "--json"]) == 0
        assert capfdbinary.readouterr().out == Path(file).read_bytes()


def test_of_a_pipe_what_was_recorded_besides_tcp_is_told_at_the_end(path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sstrace", "--replay", "-"], input=Path(path).read_bytes(), capture_output=True,
        check=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.stderr == b"sstrace: UDP was recorded, too: -ut tells all\n"
    assert b"udp" not in done.stdout.replace(b"udp/", b"")


def test_a_digest_counts_sockets_with_their_ports(path: str, tcp_alone: str, capfdbinary: Captured) -> None:
    code, lines, said = ran(capfdbinary, "--stats", "--from", path, "-u", "--json")
    assert (code, said) == (0, "")
    total, *others = map(json.loads, lines)
    counted = ("transitions", "opened_out", "opened_in", "closed", "failed", "bytes_sent", "bytes_received")
    assert [total[key] for key in counted] == [5, 1, 0, 1, 0, 100, 900]
    groups = {(one["by"], one["key"]): one for one in others if one["type"] == "stats_group"}
    assert {by for by, _ in groups} == {"peer", "port", "owner"}
    assert {key for by, key in groups if by == "port"} == {"53", "443"}
    _, both, _ = ran(capfdbinary, "--stats", "--from", path, "--json")
    assert json.loads(both[0])["transitions"] == len(STORY)
    _, old, _ = ran(capfdbinary, "--stats", "--from", tcp_alone, "--json")
    _, tcp, _ = ran(capfdbinary, "--stats", "--from", path, "-t", "--json")
    assert tcp == old


def test_one_socket_is_explained(path: str, capfdbinary: Captured) -> None:
    code, lines, said = ran(capfdbinary, "--explain", "#3", "--from", path, "--time", "utc")
    assert (code, said) == (0, "")
    text = " ".join(" ".join(lines).split())
    assert "client; udp, netns 1" in text
    assert "- -> ESTAB: connect()" in text
    assert "it lived 17s sent 100 bytes (100) in 2 datagrams, received 900 (900) in 3 datagrams" in text
    _, bound, _ = ran(capfdbinary, "--explain", "#1", "--from", path, "--time", "utc")
    assert bound[:2] == ["10.0.0.1:53  #1", "udp, netns 1"], "it has no peer, and nobody called"


@pytest.mark.parametrize(
    ("words", "without"),
    [("--life -t to close-wait", "--life every transition of TCP to close-wait"),
     ("-t ended from listening", '"ended" every transition of TCP from listening'),
     ("--life -u to established", "--life every transition of UDP to established"),
     ("--life -tl", "--life every transition of TCP that enters or leaves listening")],
)  # fmt: skip
def test_an_end_that_cannot_be_is_refused(path: str, capfdbinary: Captured, words: str, without: str) -> None:
    code, lines, said = ran(capfdbinary, "--replay", path, "--speed", "max", *words.split())
    assert (code, lines) == (255, [])
    assert said.startswith("sstrace: there is no end of a ")
    assert said.endswith(f"; without {without} is told\n")
    there_are = "--life state close-wait,established"
    assert ran(capfdbinary, "--replay", path, "--speed", "max", *there_are.split())[0] == 0


def test_a_life_is_one_line(path: str, capfdbinary: Captured) -> None:
    _, (title, *lines), said = ran(capfdbinary, "--replay", path, "--speed", "max", "--life", "-n", "--time", "utc")
    assert said == ""
    assert title.split()[1] == "Netid"
    assert [line.split()[1:3] for line in lines] == [["udp", "17s"], ["tcp", "29s"]]
    assert "10.0.0.1:40003           → 10.0.0.2:443" in lines[0]
    assert lines[0].split()[-5:] == ["100", "900", "-", "-", "-"]


def test_other_schemas_say_what_it_speaks(path: str, capfdbinary: Captured) -> None:
    def replayed(schema: str, *words: str) -> list[dict[str, Any]]:
        _, lines, _ = ran(capfdbinary, "--replay", path, "--speed", "max", "--json", "--schema", schema, *words)
        return [json.loads(line) for line in lines[1:]]

    documents = replayed("ecs", "-u")
    assert {one["network"]["transport"] for one in documents} == {"udp"}
    assert [(one["event"]["action"], one["event"]["type"]) for one in documents] == [
        ("unconnected", ["connection", "start"]),
        ("established", ["connection", "start"]),
        ("unconnected", ["connection", "info"]),
        ("established", ["connection", "info"]),
        ("closed", ["connection", "end"]),
    ]
    (life,) = replayed("ecs", "-u", "--life")
    assert (life["event"]["action"], life["source"]["bytes"], life["destination"]["packets"]) == ("closed", 100, 3)
    assert [one["network"]["transport"] for one in replayed("ecs")] == [netid for _, netid, *_ in STORY]
    records = replayed("otel")
    assert [one["network.transport"] for one in records] == [netid for _, netid, *_ in STORY]
    states = [
        (one.get("sstrace.state.previous"), one.get("network.connection.state")) for one in replayed("otel", "-u")
    ]
    assert states == [
        (None, None), (None, "established"), ("established", None), (None, "established"), ("established", "closed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["-ua"], "UDP was not recorded"), (["-tua"], "UDP was not recorded"), (["-a"], ""), (["-ta"], "")],
)
def test_of_a_recording_of_tcp_alone(tcp_alone: str, capfdbinary: Captured, words: list[str], sentence: str) -> None:
    code, _, said = ran(capfdbinary, "--snapshot", "--from", tcp_alone, *words)
    assert code == 0
    assert said == (f"sstrace: {sentence}\n" if sentence else "")
