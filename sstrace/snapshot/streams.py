"""The standard streams as ss uses them."""

import errno
import os

from sstrace.errors import SstraceError, reason
from sstrace.sources.standard import give, tell, write_all

__all__ = ["LACKING", "Output", "complain", "warn"]

LACKING = (errno.ENOENT, errno.EOPNOTSUPP)
"""What a kernel answers that lacks a table: nothing to tell the user."""

_BLOCK = 1 << 20


class Output:
    """Standard output as a run of large writes. A reader that went away raises BrokenPipeError.

    Text is ss's: other failures (a full disk) pass in silence, as ss lets them, who does not look. ``json``: they raise
    SstraceError.
    """

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._chunks: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Bytes, now or a little later."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size >= _BLOCK:
            self.flush()

    def held(self) -> int:
        """How many bytes have not been written yet."""
        return self._size

    def flush(self) -> None:
        """Write what is held back."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        try:
            if self._json:
                give(data)
            else:
                write_all(1, data)
        except BrokenPipeError:
            raise
        except OSError as error:
            if self._json:
                raise SstraceError(f"sstrace: cannot write: {reason(error)}") from None


def warn(line: str) -> None:
    """A line on standard error, now."""
    tell(f"{line}\n".encode("latin-1", "replace"))


def complain(number: int) -> None:
    """Of the kernel's refusal."""
    if number not in LACKING:
        warn(f"RTNETLINK answers: {os.strerror(number)}")
