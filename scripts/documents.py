"""Texts that scripts make from the code, whole or between two marks of a document that is otherwise written by hand."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

Parts = Mapping[str, Callable[[], str]]
"""Name → what makes the text that stands between ``<!-- NAME -->`` and ``<!-- end -->``."""


def drawn(text: str, parts: Parts) -> str:
    """A document with every part made anew. Raises ValueError where a mark is missing."""
    for name, make in parts.items():
        head, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not mark or not end:
            raise ValueError(f"there is no <!-- {name} --> … <!-- end -->")
        text = f"{head}{mark}{make()}\n{end}{tail}"
    return text


def write(wanted: Mapping[Path, str]) -> int:
    """Write what is out of date; with --check on the command line, only say so. The exit code."""
    stale = [path for path, content in wanted.items() if not path.exists() or path.read_text() != content]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run scripts/{Path(sys.argv[0]).name}", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted[path])
    return 0
