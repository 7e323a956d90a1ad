"""What every running mode needs to begin and to end: signals as a flag, and the ready file."""

import signal
from pathlib import Path
from types import FrameType

from sstrace.errors import SstraceError

__all__ = ["Stopped", "touch"]


class Stopped:
    """Set by SIGINT and SIGTERM; looked at between two batches, so that no line is ever cut."""

    def __init__(self) -> None:
        self.now = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.now = True


def touch(path: str) -> None:
    """Make the ready file: every hook is attached and the baseline is in."""
    try:
        Path(path).touch()
    except OSError as error:
        raise SstraceError(f"cannot make the ready file {path}: {error.strerror}") from None
