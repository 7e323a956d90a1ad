"""The network namespaces of a recording: which there are, what they are called, which are meant by --netns, and who
holds the other ends, all of it by what the lines have told so far.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from sstrace.changes import NetnsNews
from sstrace.errors import LookupFailed
from sstrace.lines import CheckpointLine, MetaLine, NetnsLine, SeenLine, StateLine
from sstrace.model import Label, Names, Netns, Owner
from sstrace.plain import spelled
from sstrace.query.nearest import nearest
from sstrace.query.netns import ALL
from sstrace.render.views import RowView
from sstrace.wire.recording import Fact

__all__ = ["RecordedPlaces", "news_of"]


_UNNAMED = Label()


class _Peer(NamedTuple):
    """What lines tell of an end in another network namespace."""

    netns: int
    owners: tuple[Owner, ...]


def news_of(line: NetnsLine) -> NetnsNews:
    """A line as what it tells."""
    label = Label(**{name: getattr(line, name) for name in Label.__struct_fields__})
    return NetnsNews(line.mono_ns, Netns(line.netns_cookie, line.netns), label, line.event, line.ephemeral)


class RecordedPlaces:
    """See above; of a recording of one namespace alone, that one. What lines say of a namespace is what writers ask for
    (render.events.Where).
    """

    title = "Netns"

    def __init__(self, names: Callable[[int], Names]) -> None:
        """``names``: those in a namespace, by its cookie."""
        self._names = names
        self.home = 0
        """Inode of the recorder's own."""
        self.several = False
        """Whether there may be lines of several."""
        self._words: tuple[str, ...] = ()
        self._met: set[str] = set()
        """Words that one has answered to."""
        self._holders: dict[int, tuple[Netns, Label]] = {}
        """By inode: whoever has it now."""
        self._labels: dict[int, Label] = {}
        """By cookie."""
        self._meant: dict[int, bool] = {}
        """By inode: whether the words mean it."""
        self._peers: dict[int, _Peer] = {}
        """By the row's id."""

    def of_another(self, names: Callable[[int], Names]) -> "RecordedPlaces":
        """Those of another recording, of which the same are meant."""
        other = RecordedPlaces(names)
        other.choose(self._words)
        other._met = self._met
        return other

    # What there is.

    def learn(self, meta: MetaLine) -> None:
        """Lines begin anew: take what the first one says."""
        self.home = meta.netns
        self.several = self.several or meta.several
        self._clear()

    def _clear(self) -> None:
        self._holders.clear()
        self._labels.clear()
        self._meant.clear()
        self._peers.clear()

    def hear(self, line: Fact) -> None:
        """Take what a line says."""
        if isinstance(line, NetnsLine):
            self._hear(line)
        elif isinstance(line, CheckpointLine):
            if line.unwritten:  # who has gone meanwhile is not told again
                self._clear()
        elif (
            isinstance(line, SeenLine | StateLine)
            and line.netns not in self._holders
            and (line.netns_name or line.pod)  # its own line is missing
        ):
            label = Label(netns_name=line.netns_name, pod=line.pod, pod_namespace=line.pod_namespace)
            self._learn(Netns(line.netns, line.netns), label)

    def _hear(self, line: NetnsLine) -> None:
        news = news_of(line)
        if line.event != "gone":
            self._learn(news.netns, news.label)
            return
        self._labels.pop(line.netns_cookie, None)
        if self.net(line.netns) == line.netns_cookie:  # else another one has its inode by now
            self._holders.pop(line.netns, None)
            self._meant.pop(line.netns, None)

    def _learn(self, netns: Netns, label: Label) -> None:
        self._holders[netns.inode] = netns, label
        self._labels[netns.cookie] = label
        self._meant[netns.inode] = self._means(netns.inode)

    def net(self, inode: int) -> int:
        """The cookie of whoever has an inode now; where no line has told it, the inode."""
        known = self._holders.get(inode)
        return known[0].cookie if known is not None else inode

    def all(self) -> list[tuple[Netns, Label]]:
        """Those that there are now, as far as lines of their own tell."""
        return list(self._holders.values())

    def named(self, inode: int) -> Label:
        """What whoever has an inode now is called."""
        known = self._holders.get(inode)
        return known[1] if known is not None else _UNNAMED

    # Which are meant.

    def choose(self, words: Sequence[str]) -> None:
        """From here on those alone are meant to which one of these words belongs; none: all."""
        self._words = () if ALL in words else tuple(words)

    @property
    def chosen(self) -> bool:
        """Whether others may not be meant."""
        return bool(self._words)

    def takes(self, inode: int) -> bool:
        """Whether one is meant."""
        if not self._words:
            return True
        meant = self._meant.get(inode)
        if meant is None:
            meant = self._meant[inode] = self._means(inode)
        return meant

    def answers(self, inode: int) -> list[str]:
        """The words to which one answers."""
        label = self.named(inode)
        return [word for word in self._words if label.bears(inode, spelled(word)) or word == str(label.pid)]

    def words_met(self) -> set[str]:
        """The words to which one of those answers that there are now."""
        return {word for inode in self._holders for word in self.answers(inode)}

    def _means(self, inode: int) -> bool:
        met = self.answers(inode)
        self._met.update(met)
        return bool(met)

    def finish(self, when: str = "while this was recorded", met: Collection[str] | None = None) -> None:
        """Everything has been heard. Raises LookupFailed for a word that none answered to; ``met``: those
        that one did, of a moment alone.
        """
        for word in self._words:
            if word not in (self._met if met is None else met):
                known = {label.text(netns.inode) for netns, label in self._holders.values()}
                near = nearest(word, known)
                advice = f"did you mean {near}?" if near is not None else "write a name, a pid or an inode"
                raise LookupFailed(f"sstrace: --netns {word}: no network namespace was called so {when}: {advice}")

    # What lines say of them: render.events.Where.

    @property
    def many(self) -> bool:
        """Whether there may be several, so that people have to be told of which a line is."""
        return self.several and len(self._words) != 1

    def label(self, net: int) -> Label:
        """What one is called, by its cookie."""
        return self._labels.get(net, _UNNAMED)

    def ifname(self, net: int, index: int) -> str:
        """What an interface is called in one of them."""
        return spelled(self._names(net).ifname(index))

    def peer(self, row: RowView) -> _Peer | None:
        """Where the other end of a connection is, and who holds it, as the row's last line has it."""
        return self._peers.get(row.id)

    def tell_peer(self, row_id: int, netns: int | None, owners: tuple[Owner, ...]) -> None:
        """What a row's line says of the other end; None: nothing."""
        if netns is not None:
            self._peers[row_id] = _Peer(netns, owners)
        else:
            self._peers.pop(row_id, None)
