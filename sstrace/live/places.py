"""The network namespaces that a tracer follows, and what is asked in each.

Who follows its own alone has one place, for ever. Else places come and go with the namespaces: they are
looked for again and again, and none is kept alive.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, KeysView, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

from sstrace.changes import NetnsNews
from sstrace.errors import LookupFailed, SstraceError
from sstrace.live.kernel import Kernel, UnreachableError
from sstrace.live.peers import Peers
from sstrace.live.ways import Ways
from sstrace.model import InetSocket, Label, Namespace, Netns, Space, Table
from sstrace.namespaces.choice import choose
from sstrace.plain import spelled
from sstrace.protocols import IPPROTO_TCP
from sstrace.render.views import RowView
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.mounts import MountNews
from sstrace.sources.names import SystemNames
from sstrace.table import Row, SocketTable

__all__ = ["Followed", "Place", "Places", "Sought"]

_SEEK_NS = 1_000_000_000
"""Namespaces that tell nothing are looked for this often."""
_HURRY_NS = 20_000_000
"""And at the soonest, where an event tells of one that is not known."""
_SEEK_DUTY = 500
"""A look that took t is not repeated before 500 t have passed, unless there is news."""
_LINGER_NS = 500_000_000
"""What is listed no more is still being taken down (cleanup_net): its sockets' ends are heard until then."""
_ENDED_NS = 60_000_000_000
"""What is listed again after so long is not remembered: nothing keeps the list from being read for a minute."""
_FORGET_NS = 10_000_000_000
"""In others than this process's nobody tells what interfaces are called: that is asked anew after so long."""
_LEARN_NS = 10_000_000_000
_LEARN_DUTY = 50
"""What they are called may change: who bears which name is looked up this long after something has come, or has been
mounted, as the names of ip netns are; and not before 50 t have passed."""
_LEARN_LAST_NS = 60_000_000_000
"""And where nothing happens ever less often, down to this: the lowest process in one may be another by then."""

_UNNAMED = Label()


class Place:
    """A network namespace that is followed."""

    def __init__(self, netns: Netns, kernel: Kernel, label: Label = _UNNAMED) -> None:
        self.netns = netns
        self.space = Space(netns.cookie, IPPROTO_TCP)
        """What sweeps read: TCP of this namespace."""
        self.kernel = kernel
        self.label = label

    def listed(self, tables: Iterable[Table]) -> list[Table]:
        """Those tables that the kernel shows."""
        return [table for table in tables if self.kernel.lists(table)]

    @property
    def text(self) -> str:
        """What it is called."""
        return self.label.text(self.netns.inode)

    @property
    def names(self) -> tuple[str | None, ...]:
        """The same, and of what it is besides: not of every process that comes and goes in what has another name."""
        label = self.label
        return self.text, label.netns_name, label.container_id, label.pod, label.pod_namespace


class Sought(NamedTuple):
    """What a look for namespaces found."""

    came: list[Place]
    called: list[Place]
    """Those that are called otherwise since."""
    went: list[Place]
    strays: list[int]
    """Cookies of those that events told of, and that are gone already."""
    again: list[Place]
    """Those that have come which were taken for gone: what was heard of them is forgotten."""


_NOTHING = Sought([], [], [], [], [])


class Places:
    """All that are followed now, by their cookies."""

    everything = False
    """Whether all are followed, whichever come."""
    several = False
    """Whether there may be more than one, or another than that of this process."""
    hears_births = True
    """Whether everything that happens in one from its beginning is heard: so one that comes need not be swept."""
    blind = ""
    """Which namespaces cannot be found, a sentence; empty where all are."""

    def __init__(self, *places: Place) -> None:
        self._places = {place.netns.cookie: place for place in places}

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._places.values()))

    def __len__(self) -> int:
        return len(self._places)

    def get(self, net: int) -> Place | None:
        """That of a namespace; None where it is not followed (any more)."""
        return self._places.get(net)

    def of(self, netns: Netns) -> Place:
        """The same of one that is followed for ever."""
        return self._places[netns.cookie]

    def apart(self, rows: Iterable[Row]) -> list[tuple[Place, list[Row]]]:
        """Rows by the namespaces that they are in; those of others are left out."""
        by_net: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            by_net[row.net].append(row)
        return [(place, found) for net, found in by_net.items() if (place := self._places.get(net)) is not None]

    def shown(self, table: SocketTable, rows: Sequence[Row]) -> list[tuple[Row, InetSocket]]:
        """What the kernel says now of the sockets of these rows."""
        shown: list[tuple[Row, InetSocket]] = []
        for place, here in self.apart(rows):
            for protocol in {row.protocol for row in here}:
                mine = {row.id: row for row in here if row.protocol == protocol}
                known = table.shard(Space(place.netns.cookie, protocol)).index.known
                for socket in place.kernel.shown(list(mine.values())):
                    if (row := known(socket)) is not None and row.id in mine:
                        shown.append((row, socket))
        return shown

    def hashinfo(self, place: Place) -> int:
        """See ``netns_walk.Walked``; 0 where that is not known."""
        return 0

    def takes(self, net: int) -> bool:
        """Whether events of a namespace are to be folded in: also of one that has yet to be found."""
        return net in self._places

    @property
    def where(self) -> "Followed | None":
        """What lines have to say of which namespace they are; None where there is but one, this process's."""
        return None

    def chosen(self, words: Sequence[str]) -> list[tuple[Place, Label]]:
        """Those among them that the words of --netns mean, in the order in which they are shown, with what they are
        called now. Raises LookupFailed, PrivilegeError.
        """
        raise LookupFailed(f"sstrace: --netns {','.join(words)}: this server follows its own network namespace alone")

    def namespace(self, place: Place) -> Namespace:
        """How one is entered. Raises LookupFailed where it is gone."""
        return Namespace(place.netns)

    def join(self, table: SocketTable) -> None:
        """See the two ends of connections between them in this table."""

    def here(self, at_ns: int) -> list[NetnsNews]:
        """What is to be told of them at the beginning."""
        return []

    def news(self, place: Place, at_ns: int, what: Literal["here", "new", "named"]) -> NetnsNews:
        """What is to be told of one that is there."""
        return NetnsNews(at_ns, place.netns, place.label, what)

    def seek(self, met: KeysView[int]) -> Sought:
        """Look for those that have come and gone, when it is time. ``met``: the namespaces that events have told of."""
        return _NOTHING

    def close(self) -> None:
        """Look no more."""


class Followed(Places):
    """Those that the words of --netns mean."""

    several = True
    title = "Netns"

    def __init__(
        self,
        env: Mapping[str, str],
        words: Sequence[str],
        names: SystemNames,
        breathe: Callable[[], object],
        ways: Ways,
    ) -> None:
        """Raises LookupFailed where there is no such namespace, PrivilegeError."""
        super().__init__()
        self._ways = ways
        self._peers: Peers | None = None
        self._names = names
        self._breathe = breathe
        self._finder = ways.finder(env)
        self._home = self._finder.home
        try:
            self._choice = choose(words, self._finder)
            self._known = dict(self._finder.look())
        except BaseException:
            self._finder.close()
            raise
        self._seen: Mapping[int, Namespace] = {}
        """What the finder has given last."""
        self._leaving: dict[int, int] = {}
        """Those that the kernel no longer lists, and since when."""
        self._strays: dict[int, int] = {}
        """Those that events told of, and that the kernel does not list; likewise."""
        self._ended: dict[int, int] = {}
        """Those that were taken for gone not long ago, and when."""
        self._next_ns = self._soonest_ns = 0
        self._learn_ns = time.monotonic_ns() + _LEARN_NS
        self._learn_pause_ns = _LEARN_NS
        self._forget_ns = time.monotonic_ns() + _FORGET_NS
        self._mounts = MountNews()
        for namespace in self._choice.of(self._finder):
            self._enter(namespace)
        self.everything = self._choice.everything
        self.many = self.everything or len(self._places) > 1
        names.elsewhere = self._names_in

    @property
    def where(self) -> "Followed | None":
        """See Places."""
        return self

    def join(self, table: SocketTable) -> None:
        """See Places."""
        self._peers = Peers(table)

    def here(self, at_ns: int) -> list[NetnsNews]:
        """See Places."""
        places = sorted(self, key=lambda place: (place.text, place.netns.inode))
        return [self.news(place, at_ns, "here") for place in places]

    # What lines say of them.

    @property
    def hears_births(self) -> bool:  # type: ignore[override]
        """See Places."""
        return self.everything and self._finder.exact

    def label(self, net: int) -> Label:
        """What a namespace is called."""
        place = self._places.get(net)
        return place.label if place is not None else _UNNAMED

    def ifname(self, net: int, index: int) -> str:
        """What an interface is called in one of them."""
        return spelled(self._names.of(net).ifname(index))

    def news(self, place: Place, at_ns: int, what: Literal["here", "new", "named"]) -> NetnsNews:
        """See Places."""
        names, net = self._names.of(place.netns.cookie), place.netns
        inside = net == self._home or (names is not self._names and self._ways.itself)
        return NetnsNews(at_ns, net, place.label, what, names.read_ephemeral() if inside else None)

    def chosen(self, words: Sequence[str]) -> list[tuple[Place, Label]]:
        """See Places."""
        found = choose(words, self._finder).of(self._finder)
        places = [(self._places.get(one.net.cookie), self._finder.label(one)) for one in found]
        return [(place, label) for place, label in places if place is not None]

    def namespace(self, place: Place) -> Namespace:
        """See Places."""
        namespace = self._known.get(place.netns.cookie)
        if namespace is None:
            raise LookupFailed(f"sstrace: network namespace {place.netns.inode} is gone")
        return namespace

    def peer(self, row: RowView) -> RowView | None:
        """The other end of a connection to another of them; None where it is none, or is not known."""
        return self._peers.of(row) if self._peers is not None else None

    # Which there are.

    @property
    def blind(self) -> str:  # type: ignore[override]
        """See Places."""
        return self._finder.blind

    def hashinfo(self, place: Place) -> int:
        """See Places."""
        return self._finder.hashinfo(place.netns.cookie)

    def takes(self, net: int) -> bool:
        """See Places."""
        return net in self._places or self.everything

    def seek(self, met: KeysView[int]) -> Sought:
        """See Places."""
        now = time.monotonic_ns()
        if now < self._soonest_ns or (now < self._next_ns and met <= self._known.keys()):
            return _NOTHING
        # By CPU time: a machine that is busy elsewhere must not make looks rare.
        began = time.thread_time_ns()
        known, sought = self._finder.look(), _NOTHING
        learns = self._mounts.any() or not known.keys() <= self._known.keys()
        if learns:
            self._learn_pause_ns = _LEARN_NS
        elif now >= self._learn_ns:
            learns, self._learn_pause_ns = True, min(2 * self._learn_pause_ns, _LEARN_LAST_NS)
        if learns:
            known = self._finder.learn()
            self._learn_ns = now + max(self._learn_pause_ns, _LEARN_DUTY * (time.thread_time_ns() - began))
        if learns or known is not self._seen or self._leaving or not met <= known.keys():
            before, self._known, self._seen = self._known, dict(known), known
            sought = self._changes(before, [net for net in met if net not in known])
        if now >= self._forget_ns:
            for net in self._places:
                self._names.forget(net)
            self._forget_ns = now + _FORGET_NS
        took = time.thread_time_ns() - began
        self._next_ns = now + max(_SEEK_NS, _SEEK_DUTY * took)
        self._soonest_ns = now + max(_HURRY_NS, _LEARN_DUTY * took)
        return sought

    def _changes(self, before: Mapping[int, Namespace], strays: list[int]) -> Sought:
        now = time.monotonic_ns()
        self._leaving = {net: self._leaving.get(net, now) for net in self._places if net not in self._known}
        gone = [self._places.pop(net) for net, since in self._leaving.items() if now - since >= _LINGER_NS]
        self._strays = {net: self._strays.get(net, now) for net in strays if net not in self._places}
        lost = [net for net, since in self._strays.items() if now - since >= _LINGER_NS]
        sought = Sought([], [], gone, lost, [])
        self._ended = {net: since for net, since in self._ended.items() if now - since < _ENDED_NS}
        self._ended |= dict.fromkeys((*lost, *(one.netns.cookie for one in gone)), now)
        for one in gone:
            self._names.forget(one.netns.cookie)
        for net in before.keys() - self._known.keys():
            self._finder.forget(net)
        for net, namespace in self._known.items():
            place = self._places.get(net)
            label = self._finder.label(namespace)
            if place is None:
                if self._choice.takes(namespace, label):
                    sought.came.append(place := self._enter(namespace))
                    if self._ended.pop(net, None) is not None:
                        sought.again.append(place)
                continue
            if namespace is not before.get(net):
                place.kernel.diag = self._way(namespace)
                self._names.forget(net)
            called, place.label = place.names, label
            if place.names != called:
                sought.called.append(place)
        return sought

    def _enter(self, namespace: Namespace) -> Place:
        kernel = Kernel(self._breathe, self._way(namespace), sparse=True)
        place = Place(namespace.net, kernel, self._finder.label(namespace))
        self._places[namespace.net.cookie] = place
        return place

    def _way(self, namespace: Namespace) -> Callable[[], Netlink]:
        return Diag if namespace.net == self._home else partial(self._diag_inside, namespace)

    def _diag_inside(self, namespace: Namespace) -> Netlink:
        try:
            return self._ways.diag(namespace)
        except SstraceError as error:
            self._next_ns = 0  # it may be gone
            raise UnreachableError(str(error)) from None

    def _names_in(self, net: int) -> SystemNames | None:
        place, namespace = self._places.get(net), self._known.get(net)
        if place is None or namespace is None:
            return None
        if namespace.net == self._home:
            return self._names
        return self._names.within(lambda: self._ways.inside(namespace), self._ways.interfaces(namespace))

    def close(self) -> None:
        """See Places."""
        self._mounts.close()
        self._finder.close()
