"""Network namespaces: what one is known by, how it is entered, and what it is called."""

from typing import NamedTuple

import msgspec

__all__ = ["Label", "Namespace", "Netns"]

_SHORT_ID = 12
"""Digits of a container's id that people are shown, by docker and podman too."""


class Netns(NamedTuple):
    """A network namespace."""

    cookie: int
    """What it is known by: never used again. The inode, where the kernel gives no cookies."""
    inode: int
    """What it is shown as: used again as soon as the namespace is gone."""


class Namespace(msgspec.Struct, frozen=True):
    """A network namespace, and the ways into it. Holds no descriptor, which would keep it alive."""

    net: Netns
    ns_id: int | None = None
    """struct ns_common's ns_id, by which the kernel opens it since Linux 6.18; None where it has none."""
    paths: tuple[str, ...] = ()
    """Where it lay when it was looked at: bind mounts, and /proc/PID/ns/net; in the order in which they are to be
    tried."""


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """What a network namespace is called; None where that is not known."""

    netns_name: str | None = None
    """Its name below /run/netns: ``ip netns``."""
    container_id: str | None = None
    """64 digits in hexadecimal, of most runtimes; a machine's or container's name, of systemd-nspawn and lxc."""
    container_runtime: str | None = None
    """docker, containerd, cri-o, podman, systemd-nspawn, lxc; None where the path of its cgroup leaves that open."""
    pod: str | None = None
    """Name of a Kubernetes pod; its uid, where nothing tells the name."""
    pod_namespace: str | None = None
    comm: str | None = None
    """Name of the process in it with the lowest pid."""
    pid: int | None = None
    """That pid, as the reader's pid namespace numbers it."""

    def text(self, inode: int) -> str:
        """The one name by which it is shown."""
        if self.netns_name is not None:
            return self.netns_name
        if self.pod is not None:
            return self.pod if self.pod_namespace is None else f"{self.pod_namespace}/{self.pod}"
        if self.container_id is not None:
            return self.container_id[:_SHORT_ID] if _is_digest(self.container_id) else self.container_id
        if self.comm is not None:
            return f"{self.comm}/{self.pid}"
        return str(inode)

    def names(self, inode: int) -> set[str]:
        """All that it answers to: what it is shown as, the parts of that, and its inode."""
        names = {self.text(inode), self.netns_name, self.pod, self.container_id, self.comm, str(inode)}
        if self.comm is not None:
            names.add(f"{self.comm}/{self.pid}")
        return {name for name in names if name is not None}

    def bears(self, inode: int, word: str) -> bool:
        """Whether a word names it: one of its names, or of a container's id the first 12 digits or more."""
        container = self.container_id
        return word in self.names(inode) or (
            container is not None and len(word) >= _SHORT_ID and container.startswith(word)
        )


def _is_digest(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
