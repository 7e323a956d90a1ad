"""A file of the kernel's that is read again and again."""

import os

__all__ = ["Reread"]


class Reread:
    """Opened once; gives what the file says by now. Raises OSError. Close it to let go."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, most: int = 4096) -> bytes:
        """Its first bytes."""
        return os.pread(self._fd, most, 0)

    def close(self) -> None:
        """Let go; harmless when done twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
