"""``--stats --html FILE``: a digest that can be drawn, and the file that its page goes to."""

import os
import stat
from types import TracebackType

from sstrace.errors import SstraceError, reason
from sstrace.query.command import Command
from sstrace.render.stats import Digest
from sstrace.sources import files
from sstrace.sources.standard import write_all

__all__ = ["Page", "new_digest"]


def new_digest(command: Command) -> Digest:
    """A digest that keeps what a command line wants to see."""
    if command.own.html is None:
        return Digest()
    from sstrace.render.html_counts import Pictured

    return Pictured()


class Page:
    """The file of ``--html``, for ``with``; nothing where no page is wanted. It is opened before anything is counted,
    so that a wrong name is told at once; what was in it stays until there is something to take its place.
    """

    def __init__(self, command: Command) -> None:
        """Raises SstraceError."""
        self._own = command.own
        self._path = command.own.html
        self._fd = -1
        if self._path is not None:
            try:
                self._fd = files.open_for_writing(self._path)
            except (OSError, ValueError) as error:
                raise SstraceError(f"cannot write {self._path}: {reason(error)}") from None

    def write(self, digest: Digest, began_ns: int | None, ended_ns: int | None, most: int) -> None:
        """The page of a digest that ``new_digest`` made; ``began_ns``, ``ended_ns``: since 1970, UTC; ``most``: lines a
        grouping. Raises SstraceError.
        """
        if self._fd < 0:
            return
        from sstrace.render.html_counts import Pictured
        from sstrace.render.html_page import page

        assert isinstance(digest, Pictured)
        data = page(digest, began_ns, ended_ns, most, utc=self._own.utc)
        try:
            if stat.S_ISREG(os.fstat(self._fd).st_mode):
                os.ftruncate(self._fd, 0)
            write_all(self._fd, data, patient=True)
        except OSError as error:
            raise SstraceError(f"cannot write {self._path}: {reason(error)}") from None

    def __enter__(self) -> "Page":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)
