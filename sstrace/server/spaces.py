"""The network namespaces of a server that has given up root: it asks its broker which there are, and for sockets in
them.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from socket import NETLINK_ROUTE

from sstrace.live.ways import Walk, Ways
from sstrace.model import Namespace
from sstrace.namespaces.finder import Finder
from sstrace.server.broker import WALKED, Broker
from sstrace.sources.diag import Netlink, Route, opening
from sstrace.sources.netns import current_netns
from sstrace.wire import rtnetlink

__all__ = ["AskedWays"]


class AskedWays(Ways):
    """By way of a broker."""

    itself = False

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def finder(self, env: Mapping[str, str]) -> Finder:
        """See Ways."""
        return _AskedFinder(self._broker)

    @contextmanager
    def inside(self, namespace: Namespace) -> Iterator[None]:
        """See Ways. Whoever uses these sockets is shown no more than its own rights let it see."""
        broker = self._broker
        # It may be gone; and as long as this is open it does not go, so that nothing is asked of another.
        with broker.opened(namespace, NETLINK_ROUTE), opening(lambda protocol: broker.opened(namespace, protocol)):
            yield

    def diag(self, namespace: Namespace) -> Netlink:
        """See Ways. Shows what administrators are shown. A namespace is entered for each question, so it is the first
        answer that raises, UnreachableError.
        """
        return self._broker.diag(namespace)

    def walk(self, env: Mapping[str, str]) -> Walk:
        """See Ways."""
        return _AskedWalk(self._broker)

    def interfaces(self, namespace: Namespace) -> Callable[[], dict[int, str]]:
        """See Ways."""

        def ask() -> dict[int, str]:
            found: dict[int, str] = {}
            with self.inside(namespace), Route() as route:
                route.send(rtnetlink.dump_request())
                for datagram in route:
                    batch = rtnetlink.decode(datagram)
                    found |= {link.index: os.fsdecode(link.names[0]) for link in batch.rows if link.names}
                    if batch.done:
                        break
            return found

        return ask


class _AskedWalk:
    """A walk that the broker does."""

    hashinfo = WALKED
    spent_ns = 0

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def records(self, breathe: Callable[[], object], /) -> bytes:
        """See Walk."""
        found, self.spent_ns = self._broker.sockets(breathe)
        return found

    def close(self) -> None:
        """See Walk."""


class _AskedFinder(Finder):
    """Knows what the broker's finder knows."""

    def __init__(self, broker: Broker) -> None:
        self.home = current_netns()
        self._broker = broker
        self._known, self._labels, self._ways, self._hashinfos = {}, {}, {}, {}
        self._is_exact, self._is_blind = True, ""
        self._edition = 0

    @property
    def exact(self) -> bool:
        """See Finder."""
        return self._is_exact

    @property
    def blind(self) -> str:
        """See Finder."""
        return self._is_blind

    def look(self) -> Mapping[int, Namespace]:
        """See Finder."""
        return self._ask(learn=False)

    def learn(self) -> Mapping[int, Namespace]:
        """See Finder."""
        return self._ask(learn=True)

    def _ask(self, *, learn: bool) -> Mapping[int, Namespace]:
        seen = self._broker.spaces(learn=learn, edition=self._edition)
        self._is_exact, self._is_blind = seen.exact, seen.blind
        if seen.edition == self._edition:
            return self._known
        self._edition = seen.edition
        before = {one: one for one in self._known.values()}
        known = {one.net.cookie: before.get(one, one) for one in seen.known}
        if known != self._known:
            self._known = known
        self._labels.update(zip(known, seen.labels, strict=False))
        self._hashinfos = dict.fromkeys(known, WALKED) | dict.fromkeys(seen.elsewhere, 0)
        return self._known

    def close(self) -> None:
        """See Finder."""
