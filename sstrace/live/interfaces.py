"""What the interfaces are called, and from when on: names change between events, in the order of time.

rtnetlink stamps no times on its messages. A change counts from the moment that it was heard: the loop is woken for it,
so that is a fraction of a millisecond late, or as late as the loop is busy.
"""

import os
import select
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

from sstrace.changes import Change
from sstrace.errors import DecodeError
from sstrace.model import Renamed
from sstrace.sources.links import Links
from sstrace.sources.names import SystemNames
from sstrace.table import SocketTable
from sstrace.wire import rtnetlink
from sstrace.wire.event import Event

__all__ = ["Interfaces"]

_AT = attrgetter("at_ns")


class Interfaces:
    """Hears of changes, and gives them when it is their turn. Close it to let go."""

    def __init__(self, names: SystemNames) -> None:
        self._links = Links()  # first, so that nothing happens between the look and the news
        self._names = names
        names.know_interfaces()
        self._latest = names.interfaces()
        """What has been heard, of which ``names`` may have to wait for some."""
        self._due: list[Renamed] = []

    def register(self, poll: select.poll) -> None:
        """Have a poll object wake up when there is something to ``hear``."""
        news = self._links.fileno()
        if news is not None:
            poll.register(news, select.POLLIN)

    def hear(self) -> None:
        """Note what has changed by now."""
        datagrams, whole = self._links.read()
        if not datagrams and whole:
            return
        now = time.monotonic_ns()
        try:
            for datagram in datagrams:
                for link in rtnetlink.news(datagram):
                    self._note(now, link.index, os.fsdecode(link.names[0]) if link.names else None)
        except DecodeError:
            whole = False
        if not whole:
            found = self._names.look_at_interfaces()
            for index in [*found, *(self._latest.keys() - found)]:
                self._note(now, index, found.get(index))

    def _note(self, at_ns: int, index: int, name: str | None) -> None:
        before = self._latest.get(index)
        if name == before:
            return
        if name is None:
            del self._latest[index]
        else:
            self._latest[index] = name
        self._due.append(Renamed(at_ns, index, before, name))

    def until(self, at_ns: int) -> list[Renamed]:
        """The changes up to a time, once; ``names`` is for the caller to change, in turn with everything else."""
        due = [change for change in self._due if change.at_ns <= at_ns]
        del self._due[: len(due)]
        return due

    def between(
        self, ready: list[Event], renamed: list[Renamed], fold: Callable[[Any], Change | None], table: SocketTable
    ) -> Iterator[Change]:
        """Fold in events, in order, each by the names of its time, and tell of these changes."""
        at = 0
        for change in renamed:
            cut = bisect_right(ready, change.at_ns, key=_AT)
            yield from filter(None, map(fold, ready[at:cut]))
            at = cut
            self._names.name_interface(change.index, change.name)
            if change.before is not None:  # of a device that comes no row knows yet
                table.renamed(change.index, change.at_ns)
            yield change
        yield from filter(None, map(fold, ready[at:]))

    def close(self) -> None:
        """Let go; harmless when done twice."""
        self._links.close()
