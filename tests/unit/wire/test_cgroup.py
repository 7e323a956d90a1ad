"""The container of a process, by the paths that runtimes give its cgroup."""

import pytest

from sstrace.errors import DecodeError
from sstrace.wire.cgroup import Container, Pod, container_of, container_of_monitor, pod_of_log, pod_of_spec

ID = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860"
OTHER = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d"
UID = "ac04f3f2-1f2c-11e9-b015-1ebee232acfa"
IN_UNITS = UID.replace("-", "_")
STATIC = "0c15ff5a7d9a4f9bf5f4d3b1fcb2ee31"


def v2(path: str) -> bytes:
    return f"0::{path}\n".encode()


def v1(path: str) -> bytes:
    """Every controller in a hierarchy of its own, and systemd's."""
    names = ("devices", "blkio", "memory", "cpu,cpuacct", "pids", "name=systemd")
    return "".join(f"{number}:{name}:{path}\n" for number, name in enumerate(names, 2)).encode()


def hybrid(path: str) -> bytes:
    """Version 1, and version 2 without controllers, in whose root everything stays."""
    return v1(path) + b"0::/\n"


BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{IN_UNITS}.slice"


@pytest.mark.parametrize("text", [v2, v1, hybrid])
@pytest.mark.parametrize(
    ("path", "container"),
    [
        # docker, by its two cgroup drivers; rootless; with --cgroup-parent; of cri-dockerd.
        (f"/docker/{ID}", Container(ID, "docker")),
        (f"/system.slice/docker-{ID}.scope", Container(ID, "docker")),
        (f"/system.slice/docker-{ID}.scope/init", Container(ID, "docker")),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{ID}.scope",
            Container(ID, "docker"),
        ),
        (f"/ecs/task/{ID}", Container(ID, None)),
        (f"{BURSTABLE}/docker-{ID}.scope", Container(ID, "docker", UID)),
        # containerd below Kubernetes: systemd, cgroupfs, and where systemd was told the name and not asked to make it;
        # by itself; nerdctl.
        (f"{BURSTABLE}/cri-containerd-{ID}.scope", Container(ID, "containerd", UID)),
        (
            f"/kubepods.slice/kubepods-pod{IN_UNITS}.slice/cri-containerd-{ID}.scope",
            Container(ID, "containerd", UID),
        ),
        (f"/kubepods/besteffort/pod{UID}/{ID}", Container(ID, None, UID)),
        (f"/kubepods/pod{UID}/{ID}", Container(ID, None, UID)),
        (
            f"/system.slice/containerd.service/kubepods-burstable-pod{IN_UNITS}.slice:cri-containerd:{ID}",
            Container(ID, "containerd", UID),
        ),
        (f"/k8s.io/{ID}", Container(ID, "containerd")),
        (f"/system.slice/nerdctl-{ID}.scope", Container(ID, "containerd")),
        # A static pod has no uid of the API server's, but a hash.
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/cri-containerd-{ID}.scope",
            Container(ID, "containerd", STATIC),
        ),
        # kind: a cluster in docker.
        (
            f"/docker/{OTHER}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
            f"kubelet-kubepods-besteffort-pod{IN_UNITS}.slice/cri-containerd-{ID}.scope",
            Container(ID, "containerd", UID),
        ),
        # cri-o: systemd; crun adds a cgroup; cgroupfs.
        (f"{BURSTABLE}/crio-{ID}.scope", Container(ID, "cri-o", UID)),
        (f"{BURSTABLE}/crio-{ID}.scope/container", Container(ID, "cri-o", UID)),
        (f"/kubepods/burstable/pod{UID}/crio-{ID}", Container(ID, "cri-o", UID)),
        # podman: rootful, rootless, in a pod of its own, cgroupfs, and in a unit with --cgroups=split.
        (f"/machine.slice/libpod-{ID}.scope", Container(ID, "podman")),
        (f"/machine.slice/libpod-{ID}.scope/container", Container(ID, "podman")),
        (
            f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
            Container(ID, "podman"),
        ),
        (f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope", Container(ID, "podman")),
        (f"/libpod_parent/libpod-{ID}", Container(ID, "podman")),
        (f"/system.slice/web.service/libpod-payload-{ID}", Container(ID, "podman")),
        # systemd-nspawn: as a unit, from the command line; what its own systemd makes lies below.
        ("/machine.slice/systemd-nspawn@buster.service", Container("buster", "systemd-nspawn")),
        ("/machine.slice/systemd-nspawn@my\\x2dbox.service/payload", Container("my-box", "systemd-nspawn")),
        (
            "/machine.slice/machine-my\\x2dbox.scope/payload/system.slice/ssh.service",
            Container("my-box", "systemd-nspawn"),
        ),
        # lxc: before 4.0, and since; unprivileged; of libvirt. A container in it is the one that is meant.
        ("/lxc/web", Container("web", "lxc")),
        ("/lxc/web/system.slice/ssh.service", Container("web", "lxc")),
        ("/lxc.payload/web", Container("web", "lxc")),
        ("/lxc.payload.web/init.scope", Container("web", "lxc")),
        ("/user.slice/user-1000.slice/session-3.scope/lxc.payload.web", Container("web", "lxc")),
        ("/machine.slice/machine-lxc\\x2d4711\\x2dweb.scope", Container("web", "lxc")),
        (f"/lxc.payload.web/system.slice/docker-{ID}.scope", Container(ID, "docker")),
        # As a reader sees it that is in a cgroup namespace of its own.
        (f"/../docker-{ID}.scope", Container(ID, "docker")),
        (f"/../../pod{UID}/{ID}", Container(ID, None, UID)),
        # Nobody's container.
        ("/", None),
        ("/init.scope", None),
        ("/system.slice/docker.service", None),
        ("/system.slice/containerd.service", None),
        (f"/system.slice/crio-conmon-{ID}.scope", None),
        (f"/machine.slice/libpod-conmon-{ID}.scope", None),
        ("/lxc.monitor.web", None),
        ("/user.slice/user-1000.slice/session-3.scope", None),
        ("/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/emulator", None),
        (f"/system.slice/{ID[:40]}", None),
    ],
)
def test_every_runtime_is_known_by_its_paths(text: object, path: str, container: Container | None) -> None:
    assert callable(text)
    assert container_of(text(path)) == container


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"0::\n", b"nothing", b"::::\n", b"0::/\xff/docker\n", b"0::" + b"/x" * 5000]
)
def test_what_names_none_is_none(text: bytes) -> None:
    assert container_of(text) is None


def test_a_name_that_is_no_text_is_one_all_the_same() -> None:
    assert container_of(b"0::/lxc.payload.w\xff\n") == Container("w\\xff", "lxc")


@pytest.mark.parametrize(
    ("directory", "found"),
    [
        (f"kube-system_coredns-5d78c9869d-abcde_{UID}", (UID, Pod("coredns-5d78c9869d-abcde", "kube-system"))),
        (f"kube-system_etcd-node.example_{STATIC}", (STATIC, Pod("etcd-node.example", "kube-system"))),
        (UID, None),  # before Kubernetes 1.14
        ("a_b", None),
        ("a__c", None),
        ("a_b_c_d", None),
    ],
)
def test_the_directory_of_a_pods_logs(directory: str, found: tuple[str, Pod] | None) -> None:
    assert pod_of_log(directory) == found


def test_what_a_runtime_was_told_of_a_pod() -> None:
    containerd = b'{"ociVersion":"1.0.2","annotations":{"io.kubernetes.cri.container-type":"container",'
    containerd += (
        b'"io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop"},"process":{}}'
    )
    assert pod_of_spec(containerd) == Pod("web-0", "shop")
    crio = b'{"annotations":{"io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}}'
    assert pod_of_spec(crio) == Pod("web-0", "shop")
    assert pod_of_spec(b'{"annotations":{"org.opencontainers.image.stopSignal":"15"}}') is None
    assert pod_of_spec(b"{}") is None


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"annotations":[]}', b'{"annotations":{"a":1}}', b"[" * 100_000])
def test_a_damaged_file_is_an_error_of_ours(text: bytes) -> None:
    with pytest.raises(DecodeError):
        pod_of_spec(text)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        (f"/usr/bin/conmon\0--api-version\x001\0-c\0{ID}\0-n\0web\0--exit-command\0/usr/bin/podman", "podman"),
        (f"conmon\0--cid\0{ID}\0-r\0/usr/bin/crun", None),
    ],
)
def test_a_container_by_the_process_that_watches_it(command: str, found: str | None) -> None:
    assert container_of_monitor(command.encode()) == Container(ID, found)


@pytest.mark.parametrize("command", ["", "bash\0-c\0conmon", f"bash\0-c\0{ID}", "conmon\0-c", "conmon\0-c\0web"])
def test_a_process_that_watches_none(command: str) -> None:
    assert container_of_monitor(command.encode()) is None
