"""How a tracer gets to know network namespaces, and into them: by itself. A server that has given up root asks another
process (server.spaces).
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from sstrace.model import Namespace
from sstrace.namespaces.finder import Finder
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.netns import inside

__all__ = ["Ways"]


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

    def interfaces(self, namespace: Namespace) -> Callable[[], dict[int, str]] | None:
        """What tells the interfaces there, where ``inside`` does not do."""
        return None
