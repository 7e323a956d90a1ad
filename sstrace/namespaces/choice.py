"""Which network namespaces the words of ``--netns`` mean."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sstrace.errors import LookupFailed, PrivilegeError, reason
from sstrace.model import Label, Namespace
from sstrace.namespaces.finder import Finder
from sstrace.plain import spelled
from sstrace.query.nearest import nearest
from sstrace.query.netns import ALL, is_path
from sstrace.sources.netns import netns_of

__all__ = ["Choice", "choose"]

_PIDS_MOST = 1 << 22
"""PID_MAX_LIMIT, include/linux/threads.h; inodes of nsfs begin far above."""


class Choice:
    """A selection of namespaces."""

    def __init__(self, words: Sequence[str], cookies: Sequence[int]) -> None:
        self._words = tuple(words)
        """Names that one may bear, and ``all``."""
        self._cookies = frozenset(cookies)
        """Those that are meant themselves."""

    @property
    def everything(self) -> bool:
        """Whether all are meant."""
        return ALL in self._words

    def takes(self, namespace: Namespace, label: Label) -> bool:
        """Whether a namespace is meant: also one that came later, and is called as one was to be."""
        net = namespace.net
        return (
            ALL in self._words
            or net.cookie in self._cookies
            or any(label.bears(net.inode, spelled(word)) for word in self._words)
        )

    def of(self, finder: Finder) -> list[Namespace]:
        """Those that are meant of what the finder knows, in the order in which they are shown: by what they are called,
        then by inode.
        """
        found = [
            (label.text(one.net.inode), one.net.inode, one)
            for one in finder.known()
            for label in (finder.label(one),)
            if self.takes(one, label)
        ]
        return [one for _, _, one in sorted(found)]


def choose(words: Sequence[str], finder: Finder) -> Choice:
    """Find what the words of ``--netns`` mean. Raises LookupFailed for what does not exist, PrivilegeError for what
    this process may not know.
    """
    every = finder.learn()
    called: list[str] = []
    cookies: list[int] = []
    for word in words:
        number = int(word) if word.isascii() and word.isdecimal() else None
        itself = _by_inode(number, every) if number is not None else None
        if itself is not None:
            cookies.append(itself)  # not what will have this inode later
        elif word == ALL or any(finder.label(one).bears(one.net.inode, spelled(word)) for one in every.values()):
            called.append(word)
        elif is_path(word):
            cookies.append(_at_path(word, every))
        elif number is not None:
            cookies.append(_of_number(word, every))
        else:
            raise _unknown(word, finder, every)
    return Choice(called, cookies)


def _at_path(path: str, every: Mapping[int, Namespace]) -> int:
    try:
        status, here = Path(path).stat(), Path("/proc/self/ns/net").stat()
    except PermissionError:
        raise PrivilegeError(f"sstrace: --netns {path} takes root: run it with sudo") from None
    except (OSError, ValueError) as error:
        raise LookupFailed(f"sstrace: --netns {path}: {reason(error)}") from None
    found = _by_inode(status.st_ino, every) if status.st_dev == here.st_dev else None
    if found is None:
        raise LookupFailed(f"sstrace: --netns {path}: that is no network namespace")
    return found


def _of_number(word: str, every: Mapping[int, Namespace]) -> int:
    number = int(word)
    if number > _PIDS_MOST:
        raise LookupFailed(f"sstrace: --netns {word}: there is no network namespace with this inode")
    try:
        found = _by_inode(netns_of(number), every)
    except PermissionError:
        raise PrivilegeError(
            f"sstrace: --netns {word}: to see into process {word} takes root: run it with sudo"
        ) from None
    except (OSError, ValueError):
        found = None
    if found is None:
        raise LookupFailed(f"sstrace: --netns {word}: there is no process {word}")
    return found


def _by_inode(inode: int, every: Mapping[int, Namespace]) -> int | None:
    return next((cookie for cookie, one in every.items() if one.net.inode == inode), None)


def _unknown(word: str, finder: Finder, every: Mapping[int, Namespace]) -> LookupFailed:
    labels = [(finder.label(one), one.net.inode) for one in every.values()]
    known = {label.text(inode) for label, inode in labels} | {label.comm or "" for label, _ in labels} - {""}
    near = nearest(word, known)
    advice = f"did you mean {near}?" if near is not None else "write a name, a pid, an inode or a path"
    return LookupFailed(f"sstrace: --netns {word}: no network namespace is called so: {advice}")
