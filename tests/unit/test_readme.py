"""README's tables are what they say: complete, and the commands in them are command lines."""

import itertools
import re
import shlex
import sys
from pathlib import Path

import pytest
from smallworld import SmallWorld

from sstrace.query.command import Command
from sstrace.query.filter import parse_filter
from sstrace.query.operands import Scope
from sstrace.query.options import parse
from sstrace.query.states import scan_state
from sstrace.query.words import words_of

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "kernel")]

import parity_cases  # noqa: E402

PROMISED = parity_cases.promised_lines()

TUTORIALS = """

-l
-a
-at
-au
-ax
-aw
-a4
-a6
-t -r state established
-t -r state listening
-a state established ( dport = :https or sport = :https )
-a ( dport = :ssh or sport = :ssh )
-a ( dport = :22 or sport = :22 )
-a dst 192.168.4.25
-tp
-A tcp
-ua
-x
-xa
-nt
-ltn
-lun
-ltp
-s
-nto
-tl -f inet
-tl6
-tl -f inet6
-t4 state established
"""
STATES = """established syn-sent syn-recv fin-wait-1 fin-wait-2 time-wait closed close-wait last-ack closing all
connected synchronized bucket big"""


def test_every_command_of_the_tutorials_is_in_the_table() -> None:
    shown = {" ".join(words) for words in PROMISED}
    assert set(TUTORIALS[1:-1].split("\n")) - shown == set()
    assert {f"state {state}" for state in STATES.split()} - shown == set()


@pytest.mark.parametrize("words", PROMISED, ids=" ".join)
def test_every_command_in_the_table_is_one(words: tuple[str, ...]) -> None:
    command = parse(["ss", *words])
    assert isinstance(command, Command)
    assert words[0:1] != ("state",) or scan_state(words[1], command.dialect) is not None


def shown_commands() -> list[tuple[str, ...]]:
    """Every command line of sstrace in a code block of README and docs, up to a comment, pipe or redirection."""
    found = []
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        inside = False
        for line in path.read_text().splitlines():
            if line.lstrip().startswith("```"):
                inside = not inside
            match = re.match(r"\s*(?:[\w@:~]*[#$] )?(?:sudo )?(?:scripts/)?sstrace( [^:]*$| .*|$)", line)
            if inside and match and not re.match(" ·|:", match[1]) and " · " not in line:
                words = shlex.shlex(re.sub(r"\$\w+", "+0s", match[1]), posix=True, punctuation_chars="|>&")
                words.whitespace_split = True
                found.append(tuple(itertools.takewhile(lambda word: not re.fullmatch(r"[|>&]+|\\|…", word), words)))
    return found


@pytest.mark.parametrize("words", shown_commands(), ids=" ".join)
def test_every_command_shown_is_one(words: tuple[str, ...]) -> None:
    parsed = parse(["sstrace", *words])
    if isinstance(parsed, Command):
        scope = Scope(parsed.selection.tables, parsed.selection.families, parsed.selection.preferred)
        parse_filter(parsed.operands, None, SmallWorld(), scope, parsed.dialect, words=words_of(parsed.act))


def test_there_are_commands_shown() -> None:
    assert len(shown_commands()) > 25
