"""Every sentence that names a command or an option is true when it is typed.

The sentences are collected from the code: whatever string of several words names an option, sstrace, or a program to
run. Each stands in ``advice.ADVICE`` with what it tells to type; a new one fails until it does, and one that is gone
has to go there too. What does not wait is typed here; what waits for events is read here, and typed where the kernel
can be asked (tests/kernel/test_advice_live.py).
"""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from advice import ADVICE, COMMANDS, MADE, RECORDING, ROOT, sentences

from sstrace.dialect import dialect
from sstrace.query.catalog import ENTRIES
from sstrace.query.command import Act, Command
from sstrace.query.options import parse
from sstrace.query.usage import help_text


def test_every_sentence_is_tried() -> None:
    found = {text: where for where, text in sentences()}
    untried = {where: text for text, where in found.items() if text not in ADVICE}
    assert not untried, "these name commands: say in ADVICE what they tell to type"
    assert not [text for text in ADVICE if text not in found], "nobody says this any more"


def test_every_option_that_is_named_is_one() -> None:
    known = {f"--{entry.name}" for entry in ENTRIES.values()}
    others = {"--system-site-packages", "--python", "--make-rslave", "--privileged"} | {
        "--user",
        "--query",
        "--database",
    }
    for where, text in sentences():
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert word in known | others, f"{where} names {word}"


def typed(command: str) -> Command:
    parsed = parse(["sstrace", *shlex.split(command, comments=False)[1:]], release=dialect((6, 1)))
    assert isinstance(parsed, Command)
    return parsed


@pytest.mark.parametrize("command", [words for words in COMMANDS if words.startswith("sstrace ")])
def test_what_is_advised_is_not_refused(command: str, tmp_path: Path) -> None:
    if command != "sstrace --help" and typed(command).act not in (Act.SNAPSHOT, Act.PAST, Act.REPLAY, Act.EXPLAIN_PAST):
        return  # it waits for events: tests/kernel/test_advice_live.py
    (tmp_path / "day.ndjson").write_text(RECORDING)
    done = subprocess.run(
        [sys.executable, "-m", "sstrace", *shlex.split(command)[1:]],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        capture_output=True, text=True, errors="replace", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert "sstrace: --" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [words for words in COMMANDS if words.startswith("extra ")])
def test_extras_are_there(command: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert command.partition(" ")[2] in project["optional-dependencies"]


@pytest.mark.parametrize("command", [words for words in COMMANDS if words.startswith("sysctl ")])
def test_settings_are_there(command: str) -> None:
    assert Path("/proc/sys", command.partition(" ")[2].replace(".", "/")).exists()


def test_places_that_are_named_exist() -> None:
    for told in ADVICE.values():
        if told[:1] == MADE:
            assert (ROOT / told[1]).is_file()


EXAMPLES = [line.strip() for line in help_text().partition("EXAMPLES\n")[2].splitlines()[::2]]


@pytest.mark.parametrize("command", EXAMPLES)
def test_the_examples_of_the_help(command: str) -> None:
    assert typed(command).operands is not None
