"""Who holds the sockets now: by the walk over the kernel's tables where it can be had and pays, else by /proc."""

import time
from collections.abc import Collection, Mapping

from sstrace.errors import SstraceError
from sstrace.model import Owner
from sstrace.render.events import Looked
from sstrace.sources import proc
from sstrace.sources.cache import cache_directory
from sstrace.sources.owners import OwnerWalk
from sstrace.table import Row

__all__ = ["Holders"]

_DUTY = 100
"""A look that took t is not repeated, for the sake of single events, before 100 t have passed: 1 % of a CPU at most."""


class Holders:
    """Looks again and again, so the walk is loaded at the first look and kept."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._walk: OwnerWalk | None = None
        self._tried = False
        self.known_ns = 0
        """When the last look for the sake of an event was made."""
        self._known: dict[int, list[Owner]] = {}
        """What it found, by inode."""
        self.next_ns = 0
        """When the next may be made. Of events between the two, and of inodes that were not found before them,
        ``refresh`` knows nothing, so callers in a hurry spare themselves the call.
        """
        self.source = "proc"
        """walk or proc: how the last look was made."""

    @property
    def looked(self) -> Looked:
        """When the last look was made, when the next may be, and what is known between them."""
        return self.known_ns, self.next_ns, self._known

    def look(self, wanted: Collection[int] | None = None) -> dict[int, list[Owner]]:
        """Inode → holders, in ss's order; only for inodes in ``wanted`` where the walk makes that cheaper."""
        if not self._tried:
            self._tried = True
            try:
                self._walk = OwnerWalk(cache_directory(self._env))
            except (SstraceError, OSError):  # OSError: a limit of this process, say on descriptors
                self._walk = None
        if self._walk is not None:
            try:
                found = self._walk.owners(wanted)
            except SstraceError:
                pass
            except OSError:
                self.close()  # its descriptors may be those that /proc is to be read with
            else:
                self.source = "walk"
                return found
        self.source = "proc"
        return proc.owners()

    def refresh(self, row: Row, at_ns: int) -> None:
        """Bring a row's owners up to date, as of ``at_ns`` or later, when a look is due: dup, fork, exec and SCM_RIGHTS
        make no event of the socket.
        """
        if not row.ino:
            return
        if self.known_ns < at_ns:
            now = time.monotonic_ns()
            if now < self.next_ns:
                return
            self._known = self.look()
            self.known_ns = now
            self.next_ns = now + _DUTY * (time.monotonic_ns() - now)
        found = self._known.get(row.ino)
        if found:
            row.owners, row.owner_source = tuple(found), self.source

    def close(self) -> None:
        """Unload the walk."""
        if self._walk is not None:
            self._walk.close()
            self._walk = None
