"""Several hosts whose rows stand together: whose each is, and what it is called there."""

from typing import Generic, Protocol, TypeVar

import msgspec

from sstrace.model import Label
from sstrace.plain import spelled
from sstrace.recording.fleet import Series
from sstrace.recording.reader import RecordedNames
from sstrace.render.views import PeerView, RowView

__all__ = ["HostLabel", "Hosts", "OneHost"]


class HostLabel(Label, frozen=True, kw_only=True):
    """What a network namespace of one of several hosts is called: the host's name tells people enough."""

    host: str

    def text(self, inode: int) -> str:
        """That name."""
        return self.host


class OneHost(Protocol):
    """A recording of one host."""

    index: int
    """Unique among them."""
    series: Series
    names: RecordedNames
    """Those of this host."""


_Host = TypeVar("_Host", bound=OneHost)


class Hosts(Generic[_Host]):
    """Whose the rows are (render.views.Where)."""

    title = "Host"

    def __init__(self, names: RecordedNames, *, many: bool) -> None:
        """``names``: by which the filter is read, and by which the hosts' own are found."""
        self.many = many
        self._names = names
        names.elsewhere = self.names
        self._spaces: list[tuple[_Host, int]] = []
        """By number: a host, and the cookie of a network namespace on it."""
        self._numbers: dict[tuple[int, int], int] = {}
        self._labels: dict[int, tuple[Label, HostLabel]] = {}

    def number(self, host: _Host, cookie: int) -> int:
        """Of a network namespace, unique among those of all hosts."""
        number = self._numbers.get((host.index, cookie))
        if number is None:
            number = self._numbers[host.index, cookie] = len(self._spaces)
            self._spaces.append((host, cookie))
        return number

    def whose(self, net: int) -> _Host:
        """Of which host one of them is."""
        return self._spaces[net][0]

    def names(self, net: int) -> RecordedNames:
        """Those in one of them."""
        host, cookie = self._spaces[net]
        return host.names.of(cookie)

    def label(self, net: int) -> Label:
        """As in Where."""
        host, cookie = self._spaces[net]
        label = host.names.places.label(cookie)
        known = self._labels.get(net)
        if known is None or known[0] is not label:
            made = HostLabel(host=host.series.host, **msgspec.structs.asdict(label))
            known = self._labels[net] = label, made
        return known[1]

    def ifname(self, net: int, index: int) -> str:
        """As in Where."""
        return spelled(self.names(net).ifname(index))

    def peer(self, row: RowView) -> PeerView | None:
        """As in Where: where the other end is in another network namespace of the same host."""
        return self.whose(row.net).names.places.peer(row)

    def begin(self, host: _Host) -> None:
        """Lines of a host begin anew: so do its names."""
        for number, (one, _) in enumerate(self._spaces):
            if one is host:
                self._names.forget(number)
