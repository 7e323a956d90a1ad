"""Cgroup path → what runs in it: container, pod, systemd unit. By the path alone; no daemon is asked.

Container managers and systemd name their cgroups by rules of their own, and those names are all that is read here::

    /system.slice/docker-<id>.scope                             Docker, systemd driver
    /docker/<id>                                                Docker, cgroupfs driver
    /machine.slice/libpod-<id>.scope/container                  Podman
    /system.slice/web.service/libpod-payload-<id>               Podman inside a unit (Quadlet)
    /kubepods.slice/kubepods-pod<uid>.slice/cri-containerd-<id>.scope
    /kubepods/burstable/pod<uid>/<id>                           Kubernetes, cgroupfs driver: the runtime is not told
    /kubepods.slice/kubepods-pod<uid>.slice/crio-<id>.scope     CRI-O
    /lxc.payload.<name>, /machine.slice/machine-<name>.scope    LXC, systemd-nspawn
    /system.slice/nginx.service/worker                          a systemd unit, with a cgroup of its own making below

Where containers stand inside containers, the innermost counts; a unit inside a container is of that container's
systemd. A monitor beside a container (conmon) is not in it.
"""

import msgspec

__all__ = ["Workload", "workload"]


class Workload(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a cgroup path tells; None where it does not."""

    container_id: str | None = None
    """As the manager gives it, whole: 64 hexadecimal digits, or a name for LXC and nspawn."""
    container_runtime: str | None = None
    """docker, containerd, podman, cri-o, lxc, systemd-nspawn; absent where the path names only the container."""
    unit: str | None = None
    """The innermost systemd unit that is not a slice, nor a container's own scope."""
    pod_uid: str | None = None
    """Kubernetes' UID of the pod."""


# What stands before the container's id, in a name that may end in .scope.
_RUNTIMES = (
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("docker-", "docker"),
    ("crio-", "cri-o"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
)
_UNITS = (".service", ".scope", ".socket", ".mount", ".swap")
_HEX = frozenset("0123456789abcdef")
_DIGITS = frozenset("0123456789")
# The cgroup that containers stand in, with the cgroupfs driver.
_PARENTS = {"docker": "docker", "libpod_parent": "podman", "k8s.io": "containerd", "moby": "docker"}
_NOTHING = Workload()


def workload(path: str) -> Workload:
    """Read a path below the cgroup mount, beginning with a slash."""
    if path in ("", "/"):
        return _NOTHING
    container = runtime = unit = pod = None
    before = ""
    for name in path.split("/"):
        part = name
        # containerd told to use systemd's driver, and given systemd's spelling: slice:cri-containerd:id
        if name.count(":") == 2:
            slice_name, prefix, identity = name.split(":")
            pod = _pod(slice_name) or pod
            part = f"{prefix}-{identity}"
        found = _container(part, before)
        if found is not None:
            container, runtime = found
        elif part.endswith(_UNITS):
            unit = part
        else:
            inner = _pod(part)
            if inner is not None:
                pod, container, runtime = inner, None, None
        before = part
    if container is None and runtime is None and unit is None and pod is None:
        return _NOTHING
    return Workload(container, runtime, unit, pod)


def _container(part: str, before: str) -> tuple[str, str | None] | None:
    """Id and runtime, where a component is a container's."""
    name = part.removesuffix(".scope")
    for prefix, runtime in _RUNTIMES:
        if name.startswith(prefix):
            identity = name[len(prefix) :]
            return (identity, runtime) if _is_id(identity) else None
    if _is_id(part):
        return part, _PARENTS.get(before)
    if part.startswith("lxc.payload.") and len(part) > 12:
        return part[12:], "lxc"
    if before == "lxc" and part:
        return part, "lxc"
    if part.startswith("machine-") and part.endswith(".scope") and len(name) > 8 and before == "machine.slice":
        return name[8:].replace("\\x2d", "-"), "systemd-nspawn"
    return None


def _is_id(text: str) -> bool:
    if len(text) == 64:
        return _HEX.issuperset(text)
    # Amazon ECS: the task's id, a dash, a number.
    return len(text) > 33 and text[32] == "-" and _HEX.issuperset(text[:32]) and _DIGITS.issuperset(text[33:])


def _pod(part: str) -> str | None:
    """Pod UID of ``pod<uid>`` or of ``kubepods[-class]-pod<uid>.slice``, in which systemd wants _ for -."""
    if part.startswith("pod"):
        uid = part[3:]
    elif part.endswith(".slice") and "kubepods" in part:
        _, found, uid = part[:-6].rpartition("-pod")
        if not found:
            return None
        uid = uid.replace("_", "-")
    else:
        return None
    if len(uid) == 36 and uid.count("-") == 4 and _HEX.issuperset(uid.replace("-", "")):
        return uid
    return uid if len(uid) == 32 and _HEX.issuperset(uid) else None  # a static pod's: a hash
