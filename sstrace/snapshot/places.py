"""--netns: the network namespaces that a snapshot is of, one after the other."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from sstrace.errors import LookupFailed, SstraceError
from sstrace.model import Namespace, Netns
from sstrace.namespaces.choice import choose
from sstrace.namespaces.finder import Finder
from sstrace.query.command import Command
from sstrace.query.expression import Expr, awaited
from sstrace.query.netns import ALL
from sstrace.snapshot.sources import Place
from sstrace.snapshot.walked import Walked, walk, walks
from sstrace.sources.netns import inside, netns_of
from sstrace.sources.standard import say

__all__ = ["Places"]

_NAMED = 3
"""Of those that could not be read so many are named."""


class Places:
    """Those that the words of --netns mean (snapshot.sources.PlacesSource). Raises LookupFailed and PrivilegeError."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        self._all = ALL in words
        self._env = env
        finder = Finder(env)
        try:
            choice = choose(words, finder)
            self._chosen = [(one, finder.label(one)) for one in choice.of(finder)]
            self._hashinfos = {one.net.cookie: finder.hashinfo(one.net.cookie) for one, _ in self._chosen}
            self._blind = finder.blind if self._all else ""
        finally:
            finder.close()
        self._walked: Mapping[Netns, Walked] = {}
        self._refused: list[tuple[str, SstraceError]] = []
        self._less: list[str] = []

    @property
    def several(self) -> bool:
        """Whether there is more than one, and rows have to say of which they are."""
        return len(self._chosen) > 1

    def prepare(self, command: Command) -> None:
        """Look into many of them at once, where that is enough for ``command``."""
        if walks(command):
            self._walked = walk(self._env, [one.net for one, _ in self._chosen], self._hashinfos.__getitem__)

    def each(self) -> Iterator[Place]:
        """Be in one after the other, and back when that is over. One that has gone is left out; what
        cannot be read, too: ``tell`` says so. Raises PrivilegeError and KernelError where it was asked for by name.
        """
        self._refused.clear()
        self._less.clear()
        for namespace, label in self._chosen:
            inode = namespace.net.inode
            try:
                with inside(namespace):
                    yield Place(inode=inode, label=label, source=self._walked.get(namespace.net))
                continue
            except LookupFailed:
                continue
            except SstraceError as error:
                refusal = error
            proc = _process(namespace)
            if proc is not None:
                self._less.append(label.text(inode))
                yield Place(inode=inode, label=label, proc=proc)
            elif self._all:
                self._refused.append((label.text(inode), refusal))
            else:
                raise refusal

    def tell(self) -> None:
        """Say, on standard error, what was not seen."""
        if self._less:
            say(f"of {_several(self._less)} there is only what /proc tells: to enter takes root")
        if self._refused:
            say(f"without {_several([name for name, _ in self._refused])}: {self._refused[0][1]}")
        if self._blind:
            say(self._blind)

    def check(self, expression: Expr | None, met: Collection[str]) -> None:
        """Raise LookupFailed where a filter names a device that was in none of them; ``met``: those that were."""
        for name in awaited(expression):
            if name not in met:
                raise LookupFailed(
                    f"sstrace: there is no device {name} in any of {len(self._chosen)} network namespaces"
                )


def _process(namespace: Namespace) -> str | None:
    """The directory of a process that is in a namespace, by what /proc says now."""
    for path in namespace.paths:
        pid = path.removeprefix("/proc/").removesuffix("/ns/net")
        with suppress(OSError, ValueError):  # it has gone; a mount is no process
            if pid.isdecimal() and netns_of(pid) == namespace.net.inode:
                return f"/proc/{pid}"
    return None


def _several(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"network namespace {names[0]}"
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"network namespaces {', '.join(names[:_NAMED])}{rest}"
