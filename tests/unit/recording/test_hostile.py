"""Files that somebody has damaged, in every mode that reads them: the right exit code, no traceback, nothing that moves
a terminal's cursor, no line that is not sstrace's. SSTRACE_LONG=1 tries twenty times as many.
"""

import gzip
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import zstandard
from mutations import HOSTILE, mutations
from test_past_cli import SECOND, Captured, Story
from test_past_cli import path as _a_story

from sstrace.cli import main

COUNT = 100_000 if os.environ.get("SSTRACE_LONG") else 5_000
DATA = Path(__file__).resolve().parents[2] / "data"

TEXT: tuple[tuple[str, ...], ...] = (
    ("--replay",),
    ("-n", "dport", "=", ":443", "--replay"),
    ("--time", "utc", "--between", "15:00:00", "15:02:00", "--replay"),
    ("--stats", "--from"),
    ("--stats", "--html", "/dev/null", "--from"),
    ("--snapshot", "-tanpe", "--at", "+15s", "--from"),
    ("--snapshot", "-tanpe", "--from"),
    ("--snapshot", "-tanp", "--between", "+0s", "-0s", "--from"),
)
NDJSON: tuple[tuple[str, ...], ...] = (
    ("--json", "--replay"),
    ("--json", "dport", "=", ":443", "--replay"),
    ("--json", "--schema", "ecs", "--replay"),
    ("--json", "--schema", "otel", "--replay"),
    ("--json", "--stats", "--from"),
    ("--json", "--snapshot", "-tanpe", "--from"),
    ("--json", "--snapshot", "-tan", "--between", "+0s", "-0s", "--from"),
)
FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|^2026 forged", re.MULTILINE)


@pytest.fixture
def sound(path: str) -> list[bytes]:
    """Lines of every kind."""
    story = Story()
    story.seq = 100
    at = {"ts": "2026-11-20T15:04:30.000000000Z", "mono_ns": 271 * SECOND}
    story.lines += [
        {"type": "gap", **at, "seq": 101, "cpu": 1, "count": 7, "after_ns": 270 * SECOND, "before_ns": 271 * SECOND},
        {"type": "resync", **at, "seq": 102, "added": 1, "removed": 1, "changed": 0},
        {"type": "gone", **at, "seq": 103, "id": 4, "state": "CLOSE-WAIT"},
        {"type": "dropped", **at, "seq": 110, "count": 6, "first_seq": 104, "reason": "slow-reader"},
        {"type": "checkpoint", **at, "seq": 110, "rows": 1, "unwritten": 3},
    ]
    story.seq = 109
    story.add("seen", 270, 5, state="LISTEN")
    story.lines.append({"type": "mark", **at, "seq": 110})
    return [*Path(path).read_bytes().splitlines(), *map(msgspec.json.encode, story.lines[1:])]


path = _a_story


def judge(words: Sequence[str], said: Captured, codes: Sequence[int], *, text: bool = True) -> int:
    """Run a command line; what is wrong with its outcome fails the test."""
    code = main(words)
    out, err = (part.decode(errors="replace") for part in said.readouterr())
    shown = f"{' '.join(words)}: {code}\n{err}"
    assert code in codes, shown
    assert "Traceback" not in err, shown
    assert not FORBIDDEN.search(err), shown
    if text:
        found = FORBIDDEN.search(out)
        assert not found, f"{shown}\n{out[max(0, found.start() - 200) : found.end()]!r}"
    return code


def damaged(data: bytes, packed: str, number: int) -> bytes:
    """Compressed; every other one with another byte somewhere."""
    pressed = bytearray(gzip.compress(data) if packed == "gzip" else zstandard.ZstdCompressor().compress(data))
    if number % 2:
        pressed[number % len(pressed)] ^= 1 << number % 8
    return bytes(pressed)


@pytest.mark.seconds(3000)
@pytest.mark.parametrize("packed", ["plain", "gzip", "zstd"])
def test_recordings(sound: list[bytes], tmp_path: Path, capfdbinary: Captured, packed: str) -> None:
    file = tmp_path / {"plain": "m", "gzip": "m.gz", "zstd": "m.zst"}[packed]
    codes: Counter[int] = Counter()
    every = [(words, True) for words in TEXT] + [(words, False) for words in NDJSON]
    for number, data in mutations(sound, 1, COUNT if packed == "plain" else COUNT // 10):
        file.write_bytes(data if packed == "plain" else damaged(data, packed, number))
        words, text = every[number % len(every)]
        codes[judge([*words, str(file)], capfdbinary, (0, 1, 5), text=text)] += 1
    assert codes[0] > sum(codes.values()) // 2, codes


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:20])
@pytest.mark.parametrize(
    "key", ["cause", "ifname", "cgroup", "owners", "src", "netid", "role", "from", "errno", "ts", "mono_ns", "held_us"]
)
def test_every_key_and_every_value(path: str, tmp_path: Path, capfdbinary: Captured, key: str, value: object) -> None:
    """In each line that may have it."""
    lines = [msgspec.json.decode(line) for line in Path(path).read_bytes().splitlines()]
    if key == "owners" and isinstance(value, str):
        value = [{"comm": value, "pid": 1, "fd": 3}]
    for line in lines[1:]:
        if key in line or line["type"] == "state":
            line[key] = value
    file = tmp_path / "m"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    for words in TEXT:
        judge([*words, str(file)], capfdbinary, (0, 5))
    for words in NDJSON:
        judge([*words, str(file)], capfdbinary, (0, 5), text=False)


def test_brackets_without_end(tmp_path: Path, capfdbinary: Captured, path: str) -> None:
    file = tmp_path / "m"
    good = Path(path).read_bytes()
    assert main(["--replay", path]) == 0
    sound, _ = capfdbinary.readouterr()
    for nested in (b"[" * 100_000, b'{"type":"state","owners":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"a":' * 20_000):
        file.write_bytes(good + nested + b"\n" + good.splitlines()[1] + b"\n")
        assert main(["--replay", str(file)]) == 0
        out, err = capfdbinary.readouterr()
        assert out == sound
        assert b"1 line is not readable" in err


@pytest.mark.parametrize("name", ["tcp4.diag", "tcp6.diag"])
def test_dumps(name: str, tmp_path: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCPDIAG_FILE."""
    file = tmp_path / "dump"
    monkeypatch.setenv("TCPDIAG_FILE", str(file))
    data = (DATA / name).read_bytes()
    for number in range(COUNT // 10):
        dice = random.Random(f"{name} {number}")
        other = bytearray(data)
        for _ in range(dice.choice((1, 1, 8, 64))):
            other[dice.randrange(len(other))] = dice.choice((0, 1, 255, dice.randrange(256)))
        file.write_bytes(other[: dice.randrange(len(other) + 1)] if dice.random() < 0.3 else other)
        judge(
            ["--snapshot", *dice.choice((["-tan"], ["-tanei"], ["-tanmo", "--json"]))],
            capfdbinary,
            (0, 5),
            text=False,
        )


def test_proc(tmp_path: Path, capfdbinary: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """PROC_ROOT."""
    names = ("tcp", "tcp6", "udp", "raw", "unix", "packet", "netlink", "snmp", "sockstat", "sockstat6")
    sound = {name: Path("/proc/net", name) for name in names}
    texts = {name: at.read_bytes().splitlines()[:30] for name, at in sound.items() if at.exists()}
    net = tmp_path / "net"
    net.mkdir()
    monkeypatch.setenv("PROC_ROOT", str(tmp_path))
    for number in range(COUNT // 10):
        dice = random.Random(number)
        for name, lines in texts.items():
            other = [bytearray(line) for line in lines]
            for line in other:
                if line and dice.random() < 0.2:
                    line[dice.randrange(len(line))] = dice.randrange(256)
            (net / name).write_bytes(b"\n".join(other))
        words = dice.choice((["-tan"], ["-uan"], ["-xan"], ["-wan"], ["-0an"], ["-s"], ["-A", "netlink", "-n"]))
        judge(["--snapshot", *words], capfdbinary, (0, 1, 255), text=False)


def test_a_filter_file_without_end(capfdbinary: Captured) -> None:
    assert main(["--snapshot", "-tan", "-F", "/dev/zero"]) == 255
    assert capfdbinary.readouterr().err == b"sstrace: /dev/zero: a filter has no more than 1048576 bytes\n"


@pytest.mark.parametrize("ts", ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59+00:00", "2262-04-12T00:00:00Z"])
def test_a_clock_beyond_the_calendar(path: str, tmp_path: Path, capfdbinary: Captured, ts: str) -> None:
    """Of a first line: the times of the lines behind it would be years that no calendar has."""
    first, *rest = Path(path).read_bytes().splitlines()
    head = msgspec.json.decode(first)
    head["ts"] = ts
    file = tmp_path / "m"
    untimed = re.compile(rb'"ts":"[^"]*"')
    lines = [msgspec.json.encode(head), *(untimed.sub(b'"ts":"%s"' % ts.encode(), line) for line in rest)]
    file.write_bytes(b"\n".join(lines) + b"\n")
    for words in (*TEXT, *NDJSON):
        judge([*words, str(file)], capfdbinary, (0, 1, 5))


@pytest.mark.parametrize("kind", ["state", "seen", "checkpoint", "mark"])
def test_a_line_is_a_line(sound: list[bytes], tmp_path: Path, capfdbinary: Captured, kind: str) -> None:
    """An object that goes on in the next line is JSON and no line: it is left out, and never copied."""
    file = tmp_path / "m"
    at = next(number for number, line in enumerate(sound) if f'"type":"{kind}"'.encode() in line)
    broken = sound[at].replace(b',"seq":', b'\n,"seq":')
    assert broken.count(b"\n") == 1
    file.write_bytes(b"\n".join([*sound[:at], broken, *sound[at + 1 :]]) + b"\n")
    assert main(["--json", "--replay", str(file)]) == 0
    out, err = capfdbinary.readouterr()
    for line in out.splitlines():
        assert "type" in msgspec.json.decode(line)
    assert b"2 lines are not readable" in err
