"""``--watch --replay FILE`` in a real terminal: every key of time does its work, over a recording written out here."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import unmet
from tmux import Tmux

from sstrace.render.watch_frame import ASCII
from sstrace.render.watch_slider import slider

SECOND = 1_000_000_000
META = {
    "type": "meta", "schema": "sstrace/1", "version": "0", "ts": "2026-11-20T15:00:00.000000000Z", "mono_ns": SECOND,
    "host": "recorded", "kernel": "6", "boot_id": "b", "netns": 1, "ephemeral": [40000, 50000], "interfaces": {"lo": 1},
}  # fmt: skip
CURL = {"role": "client", "ino": 12, "uid": 1000, "owners": [{"comm": "curl", "pid": 7, "fd": 5}]}

Player = Callable[..., Tmux]


def _line(kind: str, at_s: float, number: int, seq: int, **fields: Any) -> dict[str, Any]:
    seconds, nanoseconds = divmod(round(at_s * SECOND), SECOND)
    return {
        "type": kind, "ts": f"2026-11-20T15:{seconds // 60:02d}:{seconds % 60:02d}.{nanoseconds:09d}Z",
        "mono_ns": round(at_s * SECOND) + SECOND, "seq": seq, "id": number, "netid": "tcp", "family": "inet",
        "src": "10.0.0.1", "sport": 40000 + number, "dst": "10.0.0.2", "dport": 443, "netns": 1, **fields,
    }  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Four minutes: a listener, a connection that opens after ten seconds and is reset after two minutes, one that is
    there at the end.
    """
    lines = [
        META,
        _line("seen", 0, 1, 1, state="LISTEN", sport=22, dst="0.0.0.0", dport=0, ino=11,
              owners=[{"comm": "sshd", "pid": 1, "fd": 3}]),
        _line("state", 10, 2, 2, **{"from": "UNCONN"}, to="SYN-SENT", **CURL),
        _line("state", 10.002, 2, 3, **{"from": "SYN-SENT"}, to="ESTAB", held_us=2000.0, **CURL),
        _line("state", 120, 2, 4, **{"from": "ESTAB"}, to="UNCONN", cause="reset-received", ended=True,
              held_us=1.1e8, lifetime_us=1.1e8, **CURL),
        _line("state", 121, 4, 5, **{"from": "SYN-RECV"}, to="ESTAB", held_us=1000.0, sport=8443),
        _line("state", 240, 3, 6, **{"from": "SYN-SENT"}, to="ESTAB"),
    ]  # fmt: skip
    file = tmp_path / "story.ndjson"
    file.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return str(file)


@pytest.fixture
def player(path: str, tmp_path: Path) -> Iterator[Player]:
    """Start the player in a terminal, and wait for its first picture."""
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    started: list[Tmux] = []

    def start(*words: str) -> Tmux:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        command = [sys.executable, "-m", "sstrace", "--watch", "--replay", path, "--time", "utc", "-n", *words]
        pane = Tmux(directory, command, columns=120)
        started.append(pane)
        pane.until_text("Local Address:Port")
        return pane

    yield start
    for pane in started:
        pane.close()


def test_the_keys_of_time(player: Player) -> None:
    pane = player("-ap")
    lines = pane.until_text("15:00:00 UTC")
    assert lines[1].strip() == "LISTEN 1"
    assert "PAUSED" in lines[0]
    assert "recorded" in lines[0]
    foot = next(line for line in reversed(lines) if line.strip())
    assert foot.startswith("15:00:00 ")
    assert " 15:04:00 +0s" in foot
    for key, at in (
        ("Right", "15:00:01"), ("Right", "15:00:02"), ("Left", "15:00:01"), ("]", "15:01:01"), ("S-Right", "15:02:01"),
        ("S-Left", "15:01:01"), ("[", "15:00:01"), ("End", "15:04:00"), ("]", "15:04:00"), ("Home", "15:00:00"),
        ("Left", "15:00:00"),
    ):  # fmt: skip
        pane.type(key)
        pane.until_text(f"{at} UTC")
    pane.type("Right", "Right", "Left", "]", "Left", "?")  # together: the last is of where the others lead
    pane.until_text("15:01:00 UTC")
    pane.type("x")
    row = next(line for line in pane.until_text("10.0.0.2:443") if "10.0.0.2:443" in line)
    assert row.split() == ["ESTAB", "50s", "-", "-", "10.0.0.1:40002", "10.0.0.2:443", 'users:(("curl",pid=7,fd=5))']
    pane.type("q")
    assert pane.ended() == 0
    assert pane.restored()


def test_the_columns_are_moved_by_other_keys_than_time(player: Player) -> None:
    pane = player("-ap")
    pane.resize(60, 24)
    # A picture of 80 columns that the terminal has only cut has its last word no longer.
    before = pane.until(lambda lines: len(lines[0]) <= 60 and lines[0].endswith("PAUSED"))[3:5]
    pane.type("L")
    pane.until(lambda lines: lines[3:5] != before and "State" in lines[3] and "15:00:00" in lines[0])
    pane.type("H")
    pane.until(lambda lines: lines[3:5] == before)


def test_a_moment_after_the_end_is_told_of(player: Player) -> None:
    pane = player("--at", "16:00")
    lines = pane.until_text("the recording ends at ")
    assert lines[23].strip() == "the recording ends at 15:04:00 UTC, before 16:00: this is the table then"
    assert "15:04:00 UTC" in lines[0]
    pane.type("Left")
    assert "the recording ends" not in "".join(pane.until_text("15:03:59 UTC"))


def test_it_plays_and_pauses(player: Player) -> None:
    pane = player("-a", "--interval", "100ms")
    for _ in range(12):
        pane.text(">")
    pane.until_text("it plays 4096 times as fast as it was")
    pane.text("<")
    pane.until_text("it plays 2048 times as fast as it was")
    pane.type("Space")
    # At its end it stands, and does not begin again by itself.
    pane.until(lambda lines: "15:04:00 UTC" in lines[0] and "PAUSED" in lines[0])
    pane.type("Space")
    pane.until_text("the recording ends here")
    pane.type("Home")
    pane.until_text("15:00:00 UTC")
    pane.type("Space")
    pane.until(lambda lines: "15:04:00 UTC" in lines[0] and "PAUSED" in lines[0])
    for _ in range(11):
        pane.text("<")
    pane.type("Home")
    pane.until_text("15:00:00 UTC")
    pane.type("Space")
    pane.until_text("PLAYING x1")
    pane.until_text("15:00:01 UTC")
    pane.type("Space")
    pane.until_text("PAUSED")


def test_the_pages_are_of_the_moment(player: Player) -> None:
    pane = player("-a", "--at", "+121s")
    lines = pane.until_text("reset-received")
    assert any(line.startswith("- ESTAB") and "1m50s" in line for line in lines)
    assert any(line.startswith("+ ESTAB") and "10.0.0.1:8443" in line for line in lines)
    pane.type("[", "/")
    pane.text("40002")
    pane.type("Enter", "Enter")
    lines = pane.until_text("SYN-SENT")
    assert any("Age" in line and "51s" in line for line in lines)
    assert any("curl/7/5" in line for line in lines)
    assert not any("reset-received" in line for line in lines)
    pane.type("]")
    lines = pane.until_text("Ended")
    assert any("1m50s in ESTAB" in line and "reset-received" in line for line in lines)
    pane.type("Home")
    pane.until_text("it is first told of at 15:00:10 UTC")
    pane.type("Escape", "]", "g")
    pane.until(lambda lines: any(line.startswith("curl/7") for line in lines))
    pane.type("[")
    pane.until(lambda lines: not any(line.startswith("curl/7") for line in lines))
    pane.type("Escape", "]", "f")
    pane.text("comm curl")
    pane.type("Enter")
    pane.until(lambda lines: lines[1].strip() == "ESTAB 1" and "filter comm curl" in lines[2])
    pane.type("[")
    pane.until_text("no sockets that the filter lets pass")


def test_what_a_recording_cannot(player: Player) -> None:
    pane = player("-a")
    pane.type("j", "K")
    pane.until_text("this is a recording: there is no connection to close any more")
    pane.type("z")
    pane.until_text("a recording stands still by itself")
    pane.type("?")
    pane.until_text("one second")
    pane.type("x")
    pane.until(lambda lines: not any("one second" in line for line in lines))


def refused(*words: str, terminal: bool = True) -> str:
    """What is said instead of a screen."""
    head, tail = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sstrace", "--watch", *words],
            stdin=tail if terminal else subprocess.DEVNULL, stdout=tail if terminal else subprocess.DEVNULL,
            stderr=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}, text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(head)
        os.close(tail)
    assert done.returncode
    return done.stderr


def test_what_is_refused(path: str, tmp_path: Path) -> None:
    assert "--watch needs a terminal" in refused("--replay", path, terminal=False)
    assert refused("--replay", path, "--at", "#4").startswith("sstrace: --watch goes by time")
    assert "knows nothing of that moment" in refused("--replay", path, "--at", "2020-01-01")
    (tmp_path / "empty").mkdir()
    assert "no recording of sstrace" in refused("--replay", str(tmp_path / "empty"))
    assert "cannot read" in refused("--replay", str(tmp_path / "missing"))
    assert refused("--replay", "-").startswith("sstrace: --watch takes keys from standard input")
    assert "--record means nothing" in refused("--replay", path, "--record", str(tmp_path / "new"))
    assert "--netns means nothing" in refused("--replay", path, "--netns", "all")


def test_the_slider_goes_from_end_to_end() -> None:
    span = 100 * SECOND, 200 * SECOND
    bars = [slider(at * SECOND, span, 80, ASCII, utc=True).split()[1] for at in (100, 150, 200)]
    assert bars[0][0] == bars[2][-1] == "|"
    assert abs(bars[1].index("|") - len(bars[1]) // 2) <= 1
    assert len({len(bar) for bar in bars}) == 1
    assert "|" in slider(SECOND, (SECOND, SECOND), 20, ASCII, utc=True), "of one moment, on a narrow terminal"
