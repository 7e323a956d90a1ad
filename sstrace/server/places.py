"""--from live --netns: the network namespaces that a server follows, as it shows them to a client, one by one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from sstrace.errors import LookupFailed, SstraceError
from sstrace.live.places import Place as Followed
from sstrace.live.source import LiveRows
from sstrace.live.tracer import Tracer
from sstrace.live.ways import Ways
from sstrace.model import Label, Namespace, Netns
from sstrace.plain import spelled
from sstrace.query.command import Command
from sstrace.query.netns import ALL
from sstrace.server.broker import Whereabouts
from sstrace.snapshot.sources import Place
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.standard import say

if TYPE_CHECKING:
    from sstrace.query.expression import Expr

__all__ = ["LivePlaces"]


class LivePlaces:
    """Those that the words of --netns mean (snapshot.sources.PlacesSource), each with its table as the server has it.

    Whoever takes them is in each, one after the other, as ``ways`` has it. Root is shown all that the server follows;
    anybody else what ss would show them: the server's own namespace, the one that they are in, and those that their
    user owns, of rootless containers.
    """

    def __init__(
        self, tracer: Tracer, words: Sequence[str], news: Callable[[], bool], ways: Ways, who: Whereabouts | None
    ) -> None:
        """``who``: where a client is who is not root. Raises LookupFailed and PrivilegeError."""
        self._tracer = tracer
        self._news = news
        self._ways = ways
        self._root = who is None
        self._here: Namespace | None = None
        self._all = ALL in words
        self._hidden = 0
        if who is None:
            self._chosen: Sequence[tuple[Followed, Label]] = tracer.places.chosen(words)
        else:
            seen = [place for place in tracer.places if _is_for(place, who, tracer.netns)]
            seen.sort(key=lambda place: (place.text, place.netns.inode))
            self._chosen = [(place, place.label) for place in seen if self._all or _is_meant(place, words)]
            self._hidden = len(tracer.places) - len(seen)
        if not self._chosen:
            which = "this server follows none that is called so"
            if who is not None:
                which = "a server tells root alone of others than yours"
            raise LookupFailed(f"sstrace: --netns {','.join(words)}: {which}")
        self._refused: list[SstraceError] = []

    def diag(self) -> Netlink:
        """A sock_diag socket where whoever takes them is now; root's shows what root is shown."""
        return self._ways.diag(self._here) if self._root and self._here is not None else Diag()

    @property
    def several(self) -> bool:
        """See PlacesSource."""
        return len(self._chosen) > 1

    def prepare(self, command: Command) -> None:
        """See PlacesSource."""

    def each(self) -> Iterator[Place]:
        """See PlacesSource; this thread is in each."""
        tracer = self._tracer
        for place, label in self._chosen:
            try:
                self._here = tracer.places.namespace(place)
                with self._ways.inside(self._here):
                    # Where this thread is, everything is asked as in any snapshot.
                    rows = LiveRows(
                        tracer.table,
                        place,
                        self._news,
                        self.diag,
                        doubted=tracer.ails,
                        tables=place.listed(tracer.tables),
                    )
                    yield Place(inode=place.netns.inode, label=label, source=rows)
            except LookupFailed:
                continue  # it has gone
            except SstraceError as error:
                self._refused.append(error)

    def tell(self) -> None:
        """See PlacesSource."""
        if self._refused:
            count = len(self._refused)
            say(f"without {count} network namespace{'s' * (count > 1)}: {self._refused[0]}")
        if self._hidden and self._all:
            say("of network namespaces that are not yours a server tells root alone")

    def check(self, expression: "Expr | None", met: Collection[str]) -> None:
        """See PlacesSource."""
        from sstrace.query.expression import awaited

        for name in awaited(expression):
            if name not in met:
                count = len(self._chosen)
                raise LookupFailed(f"sstrace: there is no device {name} in any of {count} network namespaces")


def _is_meant(place: Followed, words: Sequence[str]) -> bool:
    return any(place.label.bears(place.netns.inode, spelled(word)) for word in words)


def _is_for(place: Followed, who: Whereabouts, home: Netns) -> bool:
    return place.netns == home or place.netns.inode == who.netns or place.netns.cookie in who.owned
