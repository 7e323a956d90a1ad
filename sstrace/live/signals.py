"""What every running mode needs to begin and to end: signals as a flag, and the ready file."""

import os
import signal
from collections.abc import Callable
from types import FrameType

from sstrace.errors import SstraceError, reason
from sstrace.sources import files

__all__ = ["Asked", "Stopped", "touch", "touch_later"]


class Stopped:
    """Set by SIGINT and SIGTERM; looked at between two batches, so that no line is ever cut."""

    def __init__(self) -> None:
        self.now = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.now = True


class Asked(Stopped):
    """Stopped, and what else a running trace is asked by signals: SIGHUP to begin its files anew, or, where it writes
    none, to stop, as everything on a terminal that is closed; SIGUSR1 to say how it is going.
    """

    def __init__(self, *, files: bool) -> None:
        super().__init__()
        self._files = files
        self.reopen = False
        self.statistics = False
        if files or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) wants it ignored
            signal.signal(signal.SIGHUP, self._hang_up)
        signal.signal(signal.SIGUSR1, self._count)

    def _hang_up(self, _number: int, _frame: FrameType | None) -> None:
        if self._files:
            self.reopen = True
        else:
            self.now = True

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.statistics = True


def touch(path: str) -> None:
    """Make the ready file: every hook is attached and the baseline is in."""
    try:
        files.touch(path)
    except (OSError, ValueError) as error:
        raise SstraceError(f"cannot make the ready file {path}: {reason(error)}") from None


def touch_later(path: str) -> Callable[[], None]:
    """What makes the ready file with the rights of now, however few this process has by then: a child that waits."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(write)
            if os.read(read, 1):
                files.touch(path)
            status = 0
        finally:
            os._exit(status)
    os.close(read)

    def make() -> None:
        os.write(write, b"x")
        os.close(write)
        if os.waitpid(child, 0)[1]:
            raise SstraceError(f"cannot make the ready file {path}")

    return make
