"""What namespaces are called, from files as runtimes leave them."""

from pathlib import Path

import pytest

from sstrace.model import Label
from sstrace.namespaces.labels import netns_name, of_processes

ID = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860"
OTHER = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
UID = "ac04f3f2-1f2c-11e9-b015-1ebee232acfa"
SLICE = f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
SPEC = '{"annotations":{"io.kubernetes.cri.sandbox-name":"db-1","io.kubernetes.cri.sandbox-namespace":"shop"}}'


def process(root: Path, pid: int, comm: str, cgroup: str) -> None:
    put(root / f"proc/{pid}/comm", f"{comm}\n")
    put(root / f"proc/{pid}/cgroup", f"{cgroup}\n")


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def label(root: Path, pid: int = 7) -> Label:
    return of_processes([pid], root=str(root))[pid]


def test_a_process_of_the_host(tmp_path: Path) -> None:
    process(tmp_path, 7, "tmux: server", "0::/user.slice/user-0.slice/session-3.scope")
    assert label(tmp_path) == Label(comm="tmux: server", pid=7)
    assert of_processes([7, 8], root=str(tmp_path)).keys() == {7}, "8 has gone"


def test_a_container(tmp_path: Path) -> None:
    process(tmp_path, 7, "nginx", f"4:memory:/docker/{ID}\n0::/")
    assert label(tmp_path) == Label(container_id=ID, container_runtime="docker", comm="nginx", pid=7)


def test_a_container_that_has_no_cgroup_of_its_own(tmp_path: Path) -> None:
    process(tmp_path, 7, "nc", "2:pids:/\n0::/")
    put(tmp_path / "proc/7/stat", "7 (a) b 9 (c) S 6 7 7 0")
    put(tmp_path / "proc/6/cmdline", f"/usr/bin/conmon\0-c\0{ID}\0--exit-command\0/usr/bin/podman\0")
    assert label(tmp_path) == Label(container_id=ID, container_runtime="podman", comm="nc", pid=7)


def test_a_pod_by_the_directory_of_its_logs(tmp_path: Path) -> None:
    process(tmp_path, 7, "pause", f"{SLICE}/cri-containerd-{ID}.scope")
    process(tmp_path, 8, "pause", f"{SLICE}/cri-containerd-{OTHER}.scope")
    (tmp_path / f"var/log/pods/kube-system_coredns-5d78c9869d-abcde_{UID}").mkdir(parents=True)
    (tmp_path / "var/log/pods/lost+found").mkdir()
    named = Label(
        container_id=ID,
        container_runtime="containerd",
        pod="coredns-5d78c9869d-abcde",
        pod_namespace="kube-system",
        comm="pause",
        pid=7,
    )
    assert label(tmp_path) == named
    assert named.text(1) == "kube-system/coredns-5d78c9869d-abcde"
    assert of_processes([7, 8], root=str(tmp_path))[8].pod == named.pod


@pytest.mark.parametrize(
    "place",
    [
        "run/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
        "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/{}/config.json",
        "run/containers/storage/overlay-containers/{}/userdata/config.json",
    ],
)
def test_a_pod_by_what_its_runtime_was_told(tmp_path: Path, place: str) -> None:
    process(tmp_path, 7, "postgres", f"0::/kubepods/burstable/pod{UID}/{ID}")
    put(tmp_path / place.format(ID), SPEC)
    assert (label(tmp_path).pod_namespace, label(tmp_path).pod) == ("shop", "db-1")


def test_a_pod_of_which_nothing_is_left_but_its_uid(tmp_path: Path) -> None:
    process(tmp_path, 7, "pause", f"{SLICE}/crio-{ID}.scope")
    put(tmp_path / f"run/containers/storage/overlay-containers/{ID}/userdata/config.json", "damaged")
    found = label(tmp_path)
    assert (found.pod, found.pod_namespace, found.container_runtime) == (UID, None, "cri-o")
    assert found.text(1) == UID


def test_the_names_of_ip_netns() -> None:
    assert netns_name("/run/netns/blue") == "blue"
    assert netns_name("/var/run/netns/blue") == "blue"
    assert netns_name("/run/docker/netns/3726184226f5") is None
    assert netns_name("/run/netns/a/b") is None
