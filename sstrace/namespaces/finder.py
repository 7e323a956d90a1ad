"""Which network namespaces there are: by the walk over the kernel's list where that can be had, else by processes and
mounts; and what they are called.
"""

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from sstrace.errors import SstraceError
from sstrace.model import Label, Namespace, Netns
from sstrace.namespaces.labels import netns_name, of_processes
from sstrace.sources.cache import cache_directory
from sstrace.sources.netns import current_netns, inside, lowest_processes
from sstrace.sources.netns_walk import NetnsWalk, Walked
from sstrace.sources.privilege import may_trace
from sstrace.sources.proc import kallsyms
from sstrace.wire.kallsyms import Symbols
from sstrace.wire.mountinfo import netns_mounts
from sstrace.without import without

__all__ = ["Finder"]

_ANEW_NS = 60_000_000_000
"""A process that is called as before is looked at anew this often: it may be in another cgroup."""


class Finder:
    """Looks again and again; the walk is loaded once. Keeps no namespace alive."""

    def __init__(self, env: Mapping[str, str], *, follows: bool = False) -> None:
        """``follows``: many a look will find nothing new, and is to cost little."""
        self.home = current_netns()
        """The namespace of whoever made this."""
        self._cookies = self.home.cookie != self.home.inode
        self._walk: NetnsWalk | None = None
        self._without = ""
        """Why there is no walk."""
        self._refused = 0
        """Processes that may not be asked which namespace they are in."""
        self._walked_last: list[Walked] = []
        self._news: tuple[int, ...] | None = None
        """By which it is known that this is how things are still."""
        self._known: dict[int, Namespace] = {}
        self._hashinfos: dict[int, int] = {}
        self._labels: dict[int, Label] = {}
        self._by_process: dict[int, Label] = {}
        """Of the lowest process in each, by its pid."""
        self._anew_ns = 0
        self._ways: dict[int, tuple[str, ...]] = {}
        left_out = without(env)
        if "btf" in left_out:
            self._without = "done without BTF"
            return
        if not may_trace():
            self._without = "it takes root (CAP_BPF and CAP_PERFMON)"
            return
        try:
            self._walk = NetnsWalk(cache_directory(env))
            span = Symbols(kallsyms(left_out)).span("cleanup_net") if follows else None
            if span is not None:
                self._walk.watch(span[0])
        except SstraceError as error:
            self._without = str(error)
        except OSError as error:
            self._without = os.strerror(error.errno or 0)

    @property
    def exact(self) -> bool:
        """Whether every namespace is found, whatever keeps it alive."""
        return self._walk is not None

    @property
    def blind(self) -> str:
        """What is not seen, in a sentence; empty where everything is."""
        if self.exact:
            return ""
        text = "network namespaces that neither a process is in nor a mount names are not seen"
        if self._refused:
            text += f" ({self._refused} process{'es' * (self._refused > 1)} may not be asked)"
        return f"{text}: {self._without}"

    def look(self) -> Mapping[int, Namespace]:
        """Every namespace there is now, by its cookie. One that was there before is the same object, unless another way
        into it was found; so is the whole, where none has come or gone.
        """
        return self._known if self._walked(glancing=True) else self.learn()

    def learn(self) -> Mapping[int, Namespace]:
        """The same, and see what processes are in which namespace, and what is mounted where: labels, and ways to
        enter.
        """
        lowest, self._refused = lowest_processes()
        paths: dict[int, list[str]] = {}
        names: dict[int, str] = {}
        with suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
            for inode, path in netns_mounts(file.read()):
                paths.setdefault(inode, []).append(path)
                name = netns_name(path)
                if name is not None:
                    names.setdefault(inode, name)
        for inode, pid in lowest.items():
            paths.setdefault(inode, []).append(f"/proc/{pid}/ns/net")
        if not self._walked():
            self._known = {namespace.net.cookie: namespace for namespace in self._seen(paths)}
        inodes = [namespace.net.inode for namespace in self._known.values()]
        now = time.monotonic_ns()
        before = self._by_process if now < self._anew_ns else {}
        if not before:
            self._anew_ns = now + _ANEW_NS
        labels = self._by_process = of_processes((lowest[inode] for inode in inodes if inode in lowest), before)
        for key, namespace in self._known.items():
            inode = namespace.net.inode
            label = labels.get(lowest.get(inode, 0), Label())
            name = names.get(inode)
            self._labels[key] = label if name is None else msgspec.structs.replace(label, netns_name=name)
            ways = self._ways[key] = tuple(paths.get(inode, ()))
            if ways != namespace.paths:
                self._known[key] = msgspec.structs.replace(namespace, paths=ways)
        return self._known

    def known(self) -> Iterable[Namespace]:
        """Those of the last look."""
        return self._known.values()

    def label(self, namespace: Namespace) -> Label:
        """What a namespace is called, by the last ``learn`` that saw it."""
        return self._labels.get(namespace.net.cookie) or Label()

    def hashinfo(self, cookie: int) -> int:
        """See ``Walked``, of a namespace by its cookie; 0 where it is not known."""
        return self._hashinfos.get(cookie, 0)

    def forget(self, cookie: int) -> None:
        """Nobody will ask for one that is gone."""
        self._labels.pop(cookie, None)
        self._ways.pop(cookie, None)

    def close(self) -> None:
        """Unload the walk."""
        if self._walk is not None:
            self._walk.close()
            self._walk = None

    def _walked(self, *, glancing: bool = False) -> bool:
        """Bring those that are known up to date by the walk; whether there is one. ``glancing``: it can be left out
        where nothing has come or gone, as far as that is told.
        """
        if self._walk is None:
            return False
        try:
            news = self._walk.news()
            if glancing and news is not None and news == self._news:
                return True
            walked = self._walk.namespaces()
        except SstraceError as error:
            self._without = str(error)
            self.close()
            return False
        if walked is None and self._known:
            self._news = None  # as they were, and next time is soon
            return True
        if walked is None:
            self._without = "network namespaces come and go faster than their list can be walked"
            self.close()
            return False
        self._news = news
        if walked == self._walked_last:
            return True
        self._walked_last = walked
        known, self._known = self._known, {}
        self._hashinfos.clear()
        for found in walked:
            key = found.cookie or found.inode
            self._hashinfos[key] = found.hashinfo
            ways = self._ways.get(key, ())
            self._known[key] = known.get(key) or Namespace(Netns(key, found.inode), found.id or None, ways)
        return True

    def _seen(self, paths: Mapping[int, list[str]]) -> list[Namespace]:
        """Without the walk: those that processes and mounts tell of, and this one."""
        before = {namespace.net.inode: namespace for namespace in self._known.values()}
        found = []
        for inode in {self.home.inode: (), **paths}:
            ways = tuple(paths.get(inode, ()))
            net = self.home if inode == self.home.inode else self._asked(Namespace(Netns(inode, inode), paths=ways))
            namespace = before.get(inode)
            found.append(namespace if namespace is not None and namespace.net == net else Namespace(net, paths=ways))
        return found

    def _asked(self, namespace: Namespace) -> Netns:
        """A namespace with its cookie, which is to be had inside; where that is not for this process, without."""
        if self._cookies:
            with suppress(SstraceError), inside(namespace):
                return current_netns()
        return namespace.net
