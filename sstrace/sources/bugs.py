"""The last resort: what nobody foresaw, as a report in a file that a user can read, and attach to an issue."""

import os
import platform
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from sstrace import __version__
from sstrace.plain import plain

__all__ = ["SOFTWARE", "keep", "sentence", "text"]

SOFTWARE = 70
"""The exit code: EX_SOFTWARE of sysexits(3)."""

_PACKAGE = Path(__file__).resolve().parents[1]


def _place(error: BaseException) -> str:
    """Where in sstrace it happened, ``modes/trace.py:51``; "" where it happened elsewhere."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE):
            return f"{path.relative_to(_PACKAGE)}:{frame.lineno}"
    return ""


def sentence(error: BaseException) -> str:
    """What happened, on one line that a terminal can bear."""
    # A module that there is no memory for: dlopen(3) says so in words alone.
    if isinstance(error, MemoryError) or (isinstance(error, ImportError) and "failed to map segment" in str(error)):
        said = "out of memory"
    elif isinstance(error, ImportError):
        said = f"this installation is not whole, install it again: {error}"
    else:
        said = f"a bug in sstrace: {type(error).__name__} at {_place(error)}: {error}"
    return plain(said)


def text(error: BaseException, words: Sequence[str]) -> str:
    """The report: versions, the command line (``words``), the traceback, and nothing else."""
    report = "".join(
        (
            f"sstrace {__version__}, Python {platform.python_version()}, ",
            f"{platform.system()} {platform.release()} {platform.machine()}, uid {os.geteuid()}\n",
            f"command line: {' '.join(map(repr, words))}\n\n",
            *traceback.format_exception(error),
        )
    )
    return "\n".join(map(plain, report.split("\n")))


def keep(report: str) -> str:
    """Write a report to a new file that its owner alone may read; its path. Raises OSError."""
    descriptor, path = tempfile.mkstemp(prefix="sstrace-report-", suffix=".txt")
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(report)
    return path
