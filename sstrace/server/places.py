"""--from live --netns: the network namespaces that a server follows, as it shows them to a client, one by one."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from sstrace.errors import LookupFailed, SstraceError
from sstrace.live.places import Place as Followed
from sstrace.live.source import LiveRows
from sstrace.live.tracer import Tracer
from sstrace.model import Label
from sstrace.plain import spelled
from sstrace.query.netns import ALL
from sstrace.snapshot.sources import Place
from sstrace.sources.diag import Diag
from sstrace.sources.standard import say

if TYPE_CHECKING:
    from sstrace.query.expression import Expr

__all__ = ["LivePlaces"]


class LivePlaces:
    """Those that the words of --netns mean (snapshot.sources.PlacesSource), each with its table as the server has it.

    Whoever takes them is in each, one after the other, with all the rights of the server: that is for root. To anybody
    else a server shows, of several as of one, the namespace that it is in itself.
    """

    def __init__(self, tracer: Tracer, words: Sequence[str], news: Callable[[], bool], *, everything: bool) -> None:
        """``everything``: whether all may be shown. Raises LookupFailed and PrivilegeError."""
        self._tracer = tracer
        self._news = news
        self._all = ALL in words
        self._hidden = 0
        if everything:
            self._chosen: Sequence[tuple[Followed, Label]] = tracer.places.chosen(words)
        else:
            home = tracer.places.get(tracer.netns.cookie)
            meant = home is not None and (self._all or _is_meant(home, words))
            self._chosen = [(home, home.label)] if home is not None and meant else []
            self._hidden = len(tracer.places) - (home is not None)
        if not self._chosen:
            which = (
                "this server follows none that is called so" if everything else "a server tells root alone of others"
            )
            raise LookupFailed(f"sstrace: --netns {','.join(words)}: {which}")
        self._refused: list[SstraceError] = []

    @property
    def several(self) -> bool:
        """See PlacesSource."""
        return len(self._chosen) > 1

    def each(self) -> Iterator[Place]:
        """See PlacesSource; this thread is in each."""
        tracer = self._tracer
        for place, label in self._chosen:
            try:
                with tracer.places.inside(place):
                    # Where this thread is, everything is asked as in any snapshot.
                    rows = LiveRows(
                        tracer.table, place, self._news, Diag, doubted=tracer.ails, tables=place.listed(tracer.tables)
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
            say("of network namespaces besides its own a server tells root alone")

    def check(self, expression: "Expr | None", met: Collection[str]) -> None:
        """See PlacesSource."""
        from sstrace.query.expression import awaited

        for name in awaited(expression):
            if name not in met:
                count = len(self._chosen)
                raise LookupFailed(f"sstrace: there is no device {name} in any of {count} network namespaces")


def _is_meant(place: Followed, words: Sequence[str]) -> bool:
    return any(place.label.bears(place.netns.inode, spelled(word)) for word in words)
