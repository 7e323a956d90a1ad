"""What network namespaces are called, by what lies in files: no daemon is asked."""

import os
from collections.abc import Iterable, Mapping
from functools import partial
from types import MappingProxyType

from sstrace.errors import DecodeError
from sstrace.model import Label
from sstrace.plain import spelled
from sstrace.wire.cgroup import Container, Pod, container_of, container_of_monitor, pod_of_log, pod_of_spec

__all__ = ["netns_name", "of_processes"]

_RUN = ("/run/netns/", "/var/run/netns/")
_POD_LOGS = "/var/log/pods"
_SPECS = (
    "/run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
    "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
    "/run/containers/storage/overlay-containers/{}/userdata/config.json",
)
"""Where runtimes put what a container was made of: containerd, that of k3s, cri-o."""


def netns_name(path: str) -> str | None:
    """The name that ``ip netns`` has for what is mounted at a path, as text; None where it has none."""
    names = (path[len(run) :] for run in _RUN if path.startswith(run))
    return next((spelled(name) for name in names if "/" not in name), None)


def of_processes(
    pids: Iterable[int], known: Mapping[int, Label] = MappingProxyType({}), *, root: str = ""
) -> dict[int, Label]:
    """What a namespace is called by the process in it with the lowest pid, for each of these. ``known``: what was found
    before; who is called as then is looked at no further. ``root`` stands before every path.
    """
    logs: Mapping[str, Pod] | None = None
    found = {}
    for pid in pids:
        comm = _read(f"{root}/proc/{pid}/comm")
        if comm is None:
            continue  # it has gone
        name = spelled(comm.rstrip(b"\n"))
        before = known.get(pid)
        if before is not None and before.comm == name:
            found[pid] = before
            continue
        container = container_of(_read(f"{root}/proc/{pid}/cgroup") or b"") or _watched(pid, root)
        pod = None
        if container is not None:
            if container.pod_uid is not None and logs is None:
                logs = _pods(root)
            pod = (logs or {}).get(container.pod_uid or "") or _pod_by_spec(container, root)
        found[pid] = _label(pid, name, container, pod)
    return found


def _watched(pid: int, root: str) -> Container | None:
    """The container whose first process this is, by the process that watches it."""
    stat = _read(f"{root}/proc/{pid}/stat") or b""
    parent = stat.rpartition(b")")[2].split()[1:2]  # the name in front may be anything
    return container_of_monitor(_read(f"{root}/proc/{int(parent[0])}/cmdline") or b"") if parent else None


def _label(pid: int, comm: str, container: Container | None, pod: Pod | None) -> Label:
    if container is None:
        return Label(comm=comm, pid=pid)
    return Label(
        container_id=container.id,
        container_runtime=container.runtime,
        pod=pod.name if pod is not None else container.pod_uid,
        pod_namespace=pod.namespace if pod is not None else None,
        comm=comm,
        pid=pid,
    )


def _pods(root: str) -> dict[str, Pod]:
    try:
        return dict(filter(None, map(pod_of_log, os.listdir(root + _POD_LOGS))))  # noqa: PTH208
    except OSError:
        return {}


def _pod_by_spec(container: Container, root: str) -> Pod | None:
    for place in _SPECS:
        spec = _read(root + place.format(container.id))
        if spec is not None:
            try:
                return pod_of_spec(spec)
            except DecodeError:
                continue
    return None


def _read(path: str) -> bytes | None:
    # A thousand at once: half of what open() would cost.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    try:
        return b"".join(iter(partial(os.read, fd, 1 << 16), b""))
    except OSError:
        return None
    finally:
        os.close(fd)
