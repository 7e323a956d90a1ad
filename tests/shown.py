"""What README and docs show: their code blocks, by heading, and a ``sstrace`` on PATH that runs them to an end."""

import os
import re
import sys
from pathlib import Path

import msgspec

__all__ = ["ROOT", "WITHOUT_ROOT", "Block", "blocks", "commands", "put_on_path"]

ROOT = Path(__file__).resolve().parent.parent

WITHOUT_ROOT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
"""A prefix: what follows has none of root's capabilities."""

# Of commands that go on until Ctrl-C: how they end here. The last --duration of a command line counts.
_LAUNCHER = """#!{python}
import os, sys
words = sys.argv[1:]
at_once = {{"--snapshot", "--doctor", "--help", "--version", "--replay"}}.intersection(words)
if not at_once and not any(one == "--from" for one in words):
    words += ["--duration", os.environ["SHOWN_DURATION"]]
    if "SHOWN_READY" in os.environ:
        words += ["--ready-file", os.environ["SHOWN_READY"]]
os.environ["PYTHONPATH"] = {root!r}
os.execv({python!r}, [{python!r}, "-m", "sstrace", *words])
"""


class Block(msgspec.Struct, frozen=True):
    """A fenced block."""

    path: str
    """From the checkout's root."""
    heading: str
    """The one above it, without its mark."""
    language: str
    text: str


def blocks(*paths: str) -> list[Block]:
    """All of them, in order."""
    found = []
    for path in paths:
        heading = ""
        parts = re.split(r"^```(\w*)\n(.*?)^```$", (ROOT / path).read_text(), flags=re.MULTILINE | re.DOTALL)
        for prose, language, text in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
            heading = (re.findall(r"^#+ (.*?)(?: ●)?$", prose, re.MULTILINE) or [heading])[-1]
            found.append(Block(path, heading, language, text))
    return found


def commands(block: Block) -> list[str]:
    """The command lines of a block for a shell: of a dialogue, what stands behind the prompt; without comments."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line[:2] in ("# ", "$ ")]
    return [re.sub(r"\s{2,}#.*", "", line).replace("scripts/sstrace", "sstrace") for line in lines if line]


def put_on_path(directory: Path) -> str:
    """Make the launcher; PATH with it in front."""
    file = directory / "sstrace"
    file.write_text(_LAUNCHER.format(python=sys.executable, root=str(ROOT)))
    file.chmod(0o755)
    return f"{directory}:{Path(sys.executable).parent}:{os.environ['PATH']}"
