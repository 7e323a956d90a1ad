"""Cgroup paths as the managers make them, and what is read from each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.model.workload import Workload, workload

ID = "3f4e8b1c9d2a7f60" * 4
OTHER = "00aa11bb22cc33dd" * 4
UID = "8f2b7c1e-4a5d-4c3b-9e8f-0a1b2c3d4e5f"
UID_ = UID.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
TASK = "0123456789abcdef0123456789abcdef-1234567890"

SHAPES = {
    # No container.
    "/": Workload(),
    "": Workload(),
    "/system.slice/nginx.service": Workload(unit="nginx.service"),
    "/system.slice/nginx.service/worker/3": Workload(unit="nginx.service"),
    "/system.slice/system-getty.slice/getty@tty1.service": Workload(unit="getty@tty1.service"),
    "/system.slice/system-serial\\x2dgetty.slice/serial-getty@ttyS0.service": Workload(
        unit="serial-getty@ttyS0.service"
    ),
    "/init.scope": Workload(unit="init.scope"),
    "/user.slice/user-1000.slice/session-3.scope": Workload(unit="session-3.scope"),
    "/user.slice/user-1000.slice/user@1000.service/app.slice/app-shell@1.service": Workload(unit="app-shell@1.service"),
    "/user.slice/user-1000.slice/user@1000.service/init.scope": Workload(unit="init.scope"),
    "/system.slice": Workload(),
    "/build/job-17": Workload(),
    "/dev-hugepages.mount": Workload(unit="dev-hugepages.mount"),
    # Docker.
    f"/system.slice/docker-{ID}.scope": Workload(ID, "docker"),
    f"/docker/{ID}": Workload(ID, "docker"),
    f"/docker/{ID}/init": Workload(ID, "docker"),
    f"/docker/buildkit/{ID}": Workload(ID),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope": Workload(
        ID, "docker", "user@1000.service"
    ),
    f"/system.slice/docker-{ID}.scope/system.slice/sshd.service": Workload(ID, "docker", "sshd.service"),
    # Podman.
    f"/machine.slice/libpod-{ID}.scope": Workload(ID, "podman"),
    f"/machine.slice/libpod-{ID}.scope/container": Workload(ID, "podman"),
    f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope/container": Workload(ID, "podman"),
    f"/system.slice/web.service/libpod-payload-{ID}": Workload(ID, "podman", "web.service"),
    f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope": Workload(
        ID, "podman", "user@1000.service"
    ),
    f"/libpod_parent/libpod-{ID}": Workload(ID, "podman"),
    f"/machine.slice/libpod-conmon-{ID}.scope": Workload(unit=f"libpod-conmon-{ID}.scope"),
    # Kubernetes.
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/cri-containerd-{ID}.scope": Workload(
        ID, "containerd", None, UID
    ),
    f"/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope": Workload(ID, "containerd", None, UID),
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/crio-{ID}.scope": Workload(
        ID, "cri-o", None, UID
    ),
    f"/kubepods.slice/kubepods-pod{UID_}.slice/crio-{ID}.scope/container": Workload(ID, "cri-o", None, UID),
    f"/kubepods.slice/kubepods-pod{UID_}.slice/crio-conmon-{ID}.scope": Workload(
        unit=f"crio-conmon-{ID}.scope", pod_uid=UID
    ),
    f"/kubepods.slice/kubepods-pod{UID_}.slice/docker-{ID}.scope": Workload(ID, "docker", None, UID),
    f"/kubepods/burstable/pod{UID}/{ID}": Workload(ID, None, None, UID),
    f"/kubepods/pod{UID}/{ID}": Workload(ID, None, None, UID),
    f"/kubepods/besteffort/pod{STATIC}/{ID}": Workload(ID, None, None, STATIC),
    f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{ID}.scope": (
        Workload(ID, "containerd", None, STATIC)
    ),
    f"/kubepods/burstable/pod{UID}": Workload(pod_uid=UID),
    f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}": Workload(
        ID, "containerd", "containerd.service", UID
    ),
    # kind: Kubernetes inside a container of Docker's.
    f"/docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}": Workload(ID, None, None, UID),
    f"/system.slice/docker-{OTHER}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{UID_}.slice/"
    f"cri-containerd-{ID}.scope": Workload(ID, "containerd", None, UID),
    # containerd without Kubernetes.
    f"/system.slice/nerdctl-{ID}.scope": Workload(ID, "containerd"),
    f"/default/{ID}": Workload(ID),
    f"/k8s.io/{ID}": Workload(ID, "containerd"),
    # Amazon ECS.
    f"/ecs/{STATIC}/{TASK}": Workload(TASK),
    f"/ecs/{STATIC}/{ID}": Workload(ID),
    # LXC and systemd-nspawn.
    "/lxc.payload.web1": Workload("web1", "lxc"),
    "/lxc.payload.web1/system.slice/sshd.service": Workload("web1", "lxc", "sshd.service"),
    "/lxc/web1": Workload("web1", "lxc"),
    "/machine.slice/machine-debian\\x2d12.scope": Workload("debian-12", "systemd-nspawn"),
    # Names that only look like those.
    "/system.slice/docker.service": Workload(unit="docker.service"),
    "/system.slice/docker-cleanup.scope": Workload(unit="docker-cleanup.scope"),
    "/docker/abc": Workload(),
    f"/podium/{ID[:63]}": Workload(),
    f"/docker/{ID.upper()}": Workload(),
    "/kubepods/burstable": Workload(),
    "/kubepods/podless": Workload(),
    "/lxc.payload.": Workload(),
}


@pytest.mark.parametrize("path", SHAPES)
def test_shape(path: str) -> None:
    assert workload(path) == SHAPES[path]


@given(st.text("/abcdef0123456789.-:_\\podkubescrilxneru", max_size=300))
def test_any_text_gives_something(path: str) -> None:
    found = workload(path)
    assert found.container_runtime is None or found.container_id is not None
    for text in (found.container_id, found.unit, found.pod_uid):
        assert text is None or text
