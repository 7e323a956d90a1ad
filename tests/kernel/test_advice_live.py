"""What sentences tell to type, typed where the kernel can be asked: see tests/advice.py."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from advice import COMMANDS, RECORDING
from conftest import Netns

from sstrace.dialect import dialect
from sstrace.query.command import Act, Command
from sstrace.query.options import parse

pytestmark = [pytest.mark.root, pytest.mark.bpf]

_AT_ONCE = (Act.SNAPSHOT, Act.PAST, Act.REPLAY, Act.EXPLAIN_PAST, Act.FLEET_SCHEMA)


def act(command: str) -> Act | None:
    parsed = parse(["sstrace", *shlex.split(command)[1:]], release=dialect((6, 1)))
    return parsed.act if isinstance(parsed, Command) else None


LIVE = [words for words in COMMANDS if words.startswith("sstrace ") and act(words) not in (None, *_AT_ONCE)]


@pytest.mark.parametrize("command", LIVE)
def test_what_waits_for_events_starts_and_ends(command: str, netns: Netns, tmp_path: Path) -> None:
    (tmp_path / "day.ndjson").write_text(RECORDING)
    words = shlex.split(command)[1:]
    words = [f"--serve={tmp_path}/live" if word == "--serve" else word for word in words]
    if act(command) is Act.WATCH:
        words = ["script", "-qec", shlex.join([sys.executable, "-m", "sstrace", *words, "--duration", "300ms"]), "out"]
    else:
        words = [sys.executable, "-m", "sstrace", *words, "--duration", "300ms"]
    done = subprocess.run(
        [*netns.prefix, *words], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert done.returncode in (0, 4), done.stderr  # 4: this machine has no journal, or no syslog daemon
    assert b"means nothing" not in done.stderr


@pytest.mark.parametrize("command", [words for words in COMMANDS if words.startswith("unshare ")])
def test_what_the_system_is_told(command: str, tmp_path: Path) -> None:
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
    assert run(command.split(), capture_output=True, text=True, check=False).returncode == 0
