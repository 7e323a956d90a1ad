"""Which container a process is in, by the names of its cgroups: /proc/PID/cgroup, and what container runtimes leave in
files.

The line of cgroups(7) is ``hierarchy:controllers:path``: one a controller in version 1, ``0::path`` in version 2, both
in a hybrid. The path is that of the reader's cgroup namespace. A runtime makes a cgroup for each container and names it
after it, differently by what it leaves the making to (its cgroup driver):

=============== ================================================ ============================================
runtime         systemd                                          cgroupfs
=============== ================================================ ============================================
docker          docker-ID.scope                                  docker/ID
containerd      cri-containerd-ID.scope, nerdctl-ID.scope        kubepods/…/podUID/ID, k8s.io/ID
cri-o           crio-ID.scope                                    crio-ID
podman          libpod-ID.scope, libpod-payload-ID               libpod_parent/libpod-ID
systemd-nspawn  systemd-nspawn@NAME.service, machine-NAME.scope
lxc, incus                                                       lxc/NAME, lxc.payload/NAME, lxc.payload.NAME
=============== ================================================ ============================================

Where a user may make no cgroups (rootless podman on cgroup v1), no path tells. Then the command line of the container's
monitor, conmon(8), its first process's parent, does: ``conmon … -c ID``.

Containers run in containers; what lies deepest is meant. Kubernetes puts those of a pod into one cgroup,
``…-podUID.slice`` or ``podUID``, the dashes of the uid as ``_`` where the path is systemd's.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from sstrace.errors import DecodeError

__all__ = ["Container", "Pod", "container_of", "container_of_monitor", "pod_of_log", "pod_of_spec"]


class Container(msgspec.Struct, frozen=True):
    """A container, as a path names it."""

    id: str
    """64 digits in hexadecimal; the name, of nspawn and lxc."""
    runtime: str | None
    """None where the path is the same of several."""
    pod_uid: str | None = None
    """With its dashes; of static pods it has none (it is a hash then)."""


class Pod(msgspec.Struct, frozen=True):
    """A Kubernetes pod."""

    name: str
    namespace: str


_ID = "([0-9a-f]{64})"
_RUNTIMES = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
}
_UNIT = re.compile(rf"({'|'.join(_RUNTIMES)})-{_ID}(?:\.scope)?")
_COLONS = re.compile(rf"[^:]+:({'|'.join(_RUNTIMES)}):{_ID}")
"""slice:prefix:name, by which a runtime tells systemd what to make: a cgroup of that name, where it was made without
systemd after all."""
_BARE = re.compile(_ID)
_PARENTS = {"docker": "docker", "k8s.io": "containerd", "nerdctl": "containerd", "libpod_parent": "podman"}
_POD = re.compile(r"(?:.*-)?pod([0-9a-f]{32}|[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12})(?:\.slice.*)?")
_NSPAWN = re.compile(r"systemd-nspawn@(.+)\.service|machine-(.+)\.scope")
_LXC = re.compile(r"lxc\.payload\.(.+)")
_LXC_PARENTS = ("lxc", "lxc.payload")
_VIRTUAL = ("qemu-", "xen-")
"""libvirt's virtual machines, which systemd-machined names as it does containers; their processes are the host's."""
_LIBVIRT_LXC = re.compile(r"lxc-[0-9]+-(.+)")


def container_of(text: bytes) -> Container | None:
    """Find the container of a process; None where it is in none. ``text``: /proc/PID/cgroup."""
    for line in text.decode("utf-8", "backslashreplace").splitlines():
        parts = line.split(":", 2)
        found = _in_path(parts[2].split("/")) if len(parts) == 3 else None
        if found is not None:
            return found
    return None


def container_of_monitor(command: bytes) -> Container | None:
    """Find the container that a process watches; None where it is no conmon. ``command``: /proc/PID/cmdline."""
    words = command.decode("utf-8", "backslashreplace").split("\0")
    if words[0].rpartition("/")[2] != "conmon":
        return None
    ids = [word for option, word in pairwise(words) if option in ("-c", "--cid") and _BARE.fullmatch(word)]
    by_podman = any(word.rpartition("/")[2] == "podman" for word in words)
    return Container(ids[0], "podman" if by_podman else None) if ids else None


def _in_path(names: list[str]) -> Container | None:
    for at in range(len(names) - 1, 0, -1):
        found = _named(names[at], names[at - 1])
        if found is not None:
            return Container(found[0], found[1], _pod_uid(names[: at + 1]))
    return None


def _named(name: str, parent: str) -> tuple[str, str | None] | None:
    """The id and the runtime that the name of a cgroup, below another, stands for."""
    match = _UNIT.fullmatch(name) or _COLONS.fullmatch(name)
    if match:
        return match[2], _RUNTIMES[match[1]]
    if _BARE.fullmatch(name):
        return name, _PARENTS.get(parent)
    match = _LXC.fullmatch(name)
    if match or (parent in _LXC_PARENTS and name):
        return (match[1] if match else name), "lxc"
    match = _NSPAWN.fullmatch(name)
    if match:
        machine = _unescaped(match[1] or match[2])
        inner = _LIBVIRT_LXC.fullmatch(machine)
        if inner:
            return inner[1], "lxc"
        return None if machine.startswith(_VIRTUAL) else (machine, "systemd-nspawn")
    return None


def _pod_uid(names: Iterable[str]) -> str | None:
    uid = None
    for name in names:
        match = _POD.fullmatch(name)
        if match:
            uid = match[1].replace("_", "-")
    return uid


def _unescaped(name: str) -> str:
    """The name of a unit without systemd's escapes: systemd.unit(5)."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), name)


def pod_of_log(directory: str) -> tuple[str, Pod] | None:
    """The uid and the pod that the name of a directory in /var/log/pods stands for: NAMESPACE_NAME_UID (kubelet, since
    Kubernetes 1.14); None where it is no such name. Neither part can have a ``_`` in it.
    """
    parts = directory.split("_")
    return (parts[2], Pod(parts[1], parts[0])) if len(parts) == 3 and all(parts) else None


class _Annotated(msgspec.Struct):
    """config.json of an OCI runtime, as far as it is looked at."""

    annotations: dict[str, str] = {}


_ANNOTATIONS = (
    ("io.kubernetes.cri.sandbox-name", "io.kubernetes.cri.sandbox-namespace"),
    ("io.kubernetes.pod.name", "io.kubernetes.pod.namespace"),
)
"""Of containerd's CRI plugin, and of cri-o."""


def pod_of_spec(text: bytes) -> Pod | None:
    """The pod that an OCI runtime's config.json names; None where it names none. Raises DecodeError."""
    try:
        annotations = msgspec.json.decode(text, type=_Annotated).annotations
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"no config.json of a container: {error}") from None
    for name, namespace in _ANNOTATIONS:
        if name in annotations and namespace in annotations:
            return Pod(annotations[name], annotations[namespace])
    return None
