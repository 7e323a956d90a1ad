"""What a snapshot prints of an error is ss's sentence, to the byte, or begins with ``sstrace:``.

Of usage and of what does not exist (UsageError, LookupFailed) ss has sentences of its own; so of these two whatever is
not in the list says that it is ours. Every raise in the code is looked at.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Program

from sstrace.errors import FeatureError, KernelError, LookupFailed, SstraceError, UsageError
from sstrace.sources.standard import refusal

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = ("{}: ", "ss: ")
"""Who is typed: getopt's sentences, and those that ss begins so, too."""
THEIRS = (
    "Cannot open network namespace", "Command line is not complete.",
    "Failed to get cgroup2 ID", "Failed to open cgroup2 mount", "Invalid cgroup2 path", "Invalid line",
    "Invalid size of cgroup2 ID", "It looks like such filter is not supported!", "More than one filter file",
    "Too long line in filter", "fopen filter file: ", "setting the network namespace", "{} failed: ",
    "{}{}",
)  # fmt: skip
"""How ss's other sentences begin: iproute2's misc/ss.c, lib/namespace.c, lib/fs.c; the last one is libnetlink's."""


def sentences() -> Iterator[tuple[str, str]]:
    """Where one is raised, and how it begins; ``{}`` stands for what is put in."""
    for path in sorted((ROOT / "sstrace").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("UsageError", "LookupFailed"):
                for text in texts(node.args[0]):
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def texts(node: ast.expr) -> list[str]:
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return []  # it is handed on, from where it was made


def test_what_is_not_of_ss_says_so() -> None:
    found = list(sentences())
    assert len(found) > 50
    unsaid = [one for one in found if not one[1].startswith(("sstrace: ", *PROGRAM, *THEIRS))]
    assert not unsaid
    unheard = [text for text in THEIRS if not any(said.startswith(text) for _, said in found)]
    assert not unheard, "nobody says this any more"


@pytest.mark.parametrize(
    ("error", "snapshot", "said"),
    [
        (UsageError("Invalid line"), True, "Invalid line\n"),
        (UsageError("ss: no"), True, "ss: no\n"),
        (LookupFailed("sstrace: \x1b is gone"), True, "sstrace: \\x1b is gone\n"),
        (FeatureError("no sstrace serves"), True, "sstrace: no sstrace serves\n"),
        (KernelError("ss: refused", 1), True, "ss: refused\n"),
        (KernelError("ss: refused", 1), False, "sstrace: refused\n"),
    ],
)
def test_who_has_said_it(error: SstraceError, snapshot: bool, said: str) -> None:
    assert refusal(error, snapshot=snapshot) == said


def test_where_a_command_line_names_what_is_not_there(sstrace: Program) -> None:
    done = sstrace("--snapshot", "-tan", "--ss-version", "x")
    assert (done.returncode, done.stderr[:12]) == (255, b'sstrace: "x"')
