"""The network namespaces that a tracer follows, and what is asked in each."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sstrace.live.kernel import Kernel
from sstrace.model import Netns, Space
from sstrace.protocols import IPPROTO_TCP
from sstrace.table import Row

__all__ = ["Place", "Places"]


class Place:
    """A network namespace that is followed."""

    def __init__(self, netns: Netns, kernel: Kernel) -> None:
        self.netns = netns
        self.space = Space(netns.cookie, IPPROTO_TCP)
        """What sweeps read: TCP of this namespace."""
        self.kernel = kernel


class Places:
    """All that are followed now, by cookie."""

    def __init__(self, home: Place) -> None:
        self._places = {home.netns.cookie: home}

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._places.values()))

    def get(self, net: int) -> Place | None:
        """That of a namespace; None where it is not followed (any more)."""
        return self._places.get(net)

    def apart(self, rows: Iterable[Row]) -> list[tuple[Place, list[Row]]]:
        """Rows by the namespaces that they are in; those of others are left out."""
        by_net: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_net[row.net].append(row)
        return [(place, found) for net, found in by_net.items() if (place := self._places.get(net)) is not None]
