"""``--stats --html FILE``: a digest that can be drawn, and the file that its page goes to."""

import os
import stat
from contextlib import suppress
from types import TracebackType

from sstrace.errors import SstraceError, reason
from sstrace.query.command import Command
from sstrace.render.digest import Digest
from sstrace.sources import files
from sstrace.sources.standard import write_all

__all__ = ["MOST", "Page", "new_digest", "page_of"]

MOST = 10
"""Lines a grouping, unless --count says otherwise."""


def new_digest(command: Command) -> Digest:
    """A digest that keeps what a command line wants to see."""
    if command.own.html is None:
        return Digest()
    from sstrace.render.html_counts import Pictured

    return Pictured()


def page_of(command: Command, digest: Digest, began_ns: int | None, ended_ns: int | None, offset_ns: int) -> bytes:
    """The page of a digest that was made to be drawn, from ``began_ns`` to ``ended_ns``, since 1970, UTC, which
    ``offset_ns`` makes of its own times; nothing where the command line wants none.
    """
    if command.own.html is None:
        return b""
    from sstrace.render.html_counts import Pictured
    from sstrace.render.html_page import page

    assert isinstance(digest, Pictured)
    return page(digest, began_ns, ended_ns, offset_ns, command.own.count or MOST, utc=command.own.utc)


class Page:
    """The file of ``--html``, for ``with``; nothing where no page is wanted. It is opened before anything is counted,
    so that a wrong name is told at once; what was in it stays until there is something to take its place.
    """

    def __init__(self, command: Command) -> None:
        """Raises SstraceError."""
        self._path = command.own.html
        self._fd = -1
        self._is_new = self._path is not None and not os.path.lexists(self._path)
        if self._path is not None:
            try:
                self._fd = files.open_for_writing(self._path)
            except (OSError, ValueError) as error:
                raise SstraceError(f"cannot write {self._path}: {reason(error)}") from None

    def write(self, data: bytes) -> None:
        """A page. Raises SstraceError."""
        if self._fd < 0:
            return
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
        if self._fd < 0:
            return
        if self._path is not None and self._is_new and not os.fstat(self._fd).st_size:  # nothing has come of it
            with suppress(OSError):
                files.remove(self._path)
        os.close(self._fd)
