"""A wall clock that only one program sees being set (tests/clock.c)."""

import subprocess
from pathlib import Path

from conftest import ROOT, Program

__all__ = ["Clock"]


class Clock:
    """That of one program."""

    def __init__(self, directory: Path, of: Program) -> None:
        library = directory / "clock.so"
        subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, ROOT / "tests/clock.c"], check=True)
        self._file = directory / "step"
        self._seconds = 0
        self.set(0)
        self.program = Program("env", f"LD_PRELOAD={library}", f"CLOCK_STEP={self._file}", *of.head)

    def set(self, hours: float) -> None:
        """By so many, as of now."""
        self._seconds += int(hours * 3600)
        draft = self._file.with_suffix(".new")
        draft.write_text(str(self._seconds))
        draft.replace(self._file)
