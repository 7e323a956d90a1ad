"""How a tracer gets to know network namespaces, and into them: by itself. A server that has given up root asks another
process (server.spaces).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from sstrace.model import Namespace
from sstrace.namespaces.finder import Finder
from sstrace.sources.cache import cache_directory
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.netns import inside
from sstrace.sources.socket_walk import SocketWalk

__all__ = ["Walk", "Ways"]


class Walk(Protocol):
    """Reads the TCP sockets of every namespace at once."""

    hashinfo: int
    """Which tables it reads: see ``Finder.hashinfo``."""
    spent_ns: int
    """Of CPU time, what the last took in another process."""

    def records(self, breathe: Callable[[], object], /) -> bytes:
        """See ``SocketWalk.records``. Raises SstraceError."""

    def close(self) -> None:
        """Unload it."""


class Ways:
    """Those of this process."""

    itself = True
    """Whether this thread is really inside, so that files and the C library tell of the namespace, too."""

    def finder(self, env: Mapping[str, str]) -> Finder:
        """Who knows which there are."""
        return Finder(env, follows=True)

    def inside(self, namespace: Namespace) -> AbstractContextManager[None]:
        """Where netlink sockets that are opened are those of a namespace. Raises as sources.netns.inside."""
        return inside(namespace)

    def diag(self, namespace: Namespace) -> Netlink:
        """A sock_diag socket in a namespace. Raises as sources.netns.inside."""
        with self.inside(namespace):
            return Diag()

    def walk(self, env: Mapping[str, str]) -> Walk:
        """What reads the sockets of all. Raises SstraceError, or OSError, a limit of this process, say on
        descriptors.
        """
        return SocketWalk(cache_directory(env))

    def interfaces(self, namespace: Namespace) -> Callable[[], dict[int, str]] | None:
        """What tells the interfaces there, where ``inside`` does not do."""
        return None
