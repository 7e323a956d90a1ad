"""Of how many hosts recordings are: those of several are asked together, whether or not they lie in a directory."""

from collections.abc import Iterable

from sstrace.recording.reader import head_of
from sstrace.sources.replay import Recording

__all__ = ["are_of_several"]

_LOOK = 1 << 15
"""Bytes that are read at first."""


def are_of_several(paths: Iterable[str]) -> bool:
    """Whether files are of more than one host. What no first line tells, and pipes, are none's. Raises DecodeError for
    what cannot be read.
    """
    hosts = set()
    for path in paths:
        with Recording(path) as source:
            source.block = _LOOK
            head = head_of(source) if source.regular else None
            hosts.add(head.host if head is not None else None)
    return len(hosts - {None}) > 1
