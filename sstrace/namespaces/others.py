"""How many other network namespaces there is something to see in: for whoever looks at one alone, and may not know."""

from collections.abc import Mapping
from contextlib import suppress

from sstrace.errors import SstraceError
from sstrace.model import Namespace
from sstrace.namespaces.finder import Finder
from sstrace.query.catalog import ENTRIES
from sstrace.query.command import Act, Command
from sstrace.sources.netns import inside

__all__ = ["hint", "others"]

_MOST = 200
"""Namespaces that are looked into: 50 µs each."""


def hint(command: Command, env: Mapping[str, str]) -> str:
    """The sentence about them for somebody who did not ask for any; empty where there are none, or none can be seen."""
    if command.own.netns:
        return ""
    count = others(env)
    if not count:
        return ""
    what = "1 other network namespace has" if count == 1 else f"{count} other network namespaces have"
    if count == _MOST:
        what = f"{_MOST} and more other network namespaces have"
    look = "--netns all" if command.act in ENTRIES["--netns"].acts else f"sstrace {Act.SNAPSHOT.value} --netns all"
    return f"{what} sockets: {look} shows them"


def others(env: Mapping[str, str]) -> int:
    """How many namespaces besides this thread's have sockets of processes, ``_MOST`` at most."""
    finder = Finder(env)
    try:
        found = 0
        for namespace in finder.learn().values():
            if namespace.net != finder.home:
                with suppress(SstraceError, OSError):  # gone, or not for this process
                    found += _has_sockets(namespace)
                if found == _MOST:
                    break
        return found
    finally:
        finder.close()


def _has_sockets(namespace: Namespace) -> bool:
    with inside(namespace), open("/proc/thread-self/net/sockstat", "rb") as file:
        # "sockets: used N": of every family, without the kernel's own; the namespace's since Linux 4.16 (net/socket.c).
        words = file.readline().split()
    return words[:2] == [b"sockets:", b"used"] and words[2] != b"0"
