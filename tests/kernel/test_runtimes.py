"""Containers of real runtimes, where they are installed and start here: ids, names and owners, before and after each
has gone.

A root file system is busybox alone, so nothing is fetched. What no runtime starts here, tests/kernel/test_containers.py
has by the names of cgroups.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Program, unmet

from sstrace.model import Label
from sstrace.namespaces.finder import Finder
from sstrace.sources.netns import netns_of

pytestmark = [pytest.mark.root, pytest.mark.bpf]

ID = "5f1e0c3a" * 8
NAMESPACES = ("pid", "mount", "uts", "ipc", "network")


class Container:
    """A running container, in which busybox listens at port 8080 of its own network namespace."""

    def __init__(self, pid: int, label: Label, end: Callable[[], object]) -> None:
        self.pid = pid
        self.label = label
        self.end = end


Start = Callable[[Path], Container]


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, **options)


def until(fact: Callable[[], object]) -> None:
    while not fact():
        time.sleep(0.01)


def is_installed(*programs: str) -> bool:
    return all(map(shutil.which, programs))


def refused(done: subprocess.CompletedProcess[str]) -> None:
    """A runtime that cannot start containers on this machine tests nothing."""
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        unmet(f"kernel lacks what containers are started with: {lines[-1] if lines else done.returncode}")


def root_of(directory: Path) -> Path:
    root = directory / "root"
    for name in ("bin", "proc", "sys", "dev", "tmp", "etc", "run"):
        (root / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
    (root / "bin" / "nc").symlink_to("busybox")
    return root


def by_bundle(runtime: str) -> Start:
    """As containerd starts it: a directory with a config.json."""

    def start(directory: Path) -> Container:
        root_of(directory)
        spec = {
            "ociVersion": "1.0.2",
            "root": {"path": "root", "readonly": True},
            "process": {
                "terminal": False,
                "user": {"uid": 0, "gid": 0},
                "args": ["/bin/nc", "-l", "-p", "8080"],
                "cwd": "/",
            },
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {"namespaces": [{"type": name} for name in NAMESPACES], "cgroupsPath": f"/k8s.io/{ID}"},
        }
        (directory / "config.json").write_text(json.dumps(spec))
        words = (runtime, "--root", str(directory / "state"))
        with open(directory / "errors", "w+") as errors:
            done = subprocess.run(
                [*words, "run", "-d", "-b", str(directory), ID], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                check=False, timeout=60,
            )  # fmt: skip
            errors.seek(0)
            refused(subprocess.CompletedProcess(words, done.returncode, "", errors.read()))
        pid = json.loads(run(*words, "state", ID).stdout)["pid"]
        label = Label(container_id=ID, container_runtime="containerd", comm="nc", pid=pid)
        return Container(pid, label, lambda: run(*words, "delete", "-f", ID))

    return start


def by_podman(user: str | None) -> Start:
    def start(directory: Path) -> Container:
        root = root_of(directory)
        prefix: Sequence[str] = ()
        if user is not None:
            shutil.chown(directory, user)
            for path in directory.rglob("*"):
                with suppress(FileNotFoundError):
                    shutil.chown(path, user)
            prefix = ("runuser", "-u", user, "--", "env", f"HOME={directory}", f"XDG_RUNTIME_DIR={directory}")
        podman = (
            *prefix, "podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--root", str(directory / "store"),
            "--runroot", str(directory / "run"), "--tmpdir", str(directory / "tmp"),
        )  # fmt: skip
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
        words = ("run", "-d", *limits, "--network", "none", "--rootfs", str(root), "/bin/nc", "-l", "-p", "8080")
        done = run(*podman, *words, cwd=directory)
        refused(done)
        name = done.stdout.split()[-1]
        pid = int(run(*podman, "inspect", "-f", "{{.State.Pid}}", name, cwd=directory).stdout)
        label = Label(container_id=name, container_runtime="podman", comm="nc", pid=pid)
        return Container(pid, label, lambda: run(*podman, "rm", "-f", "-t", "0", name, cwd=directory))

    return start


def by_containerd(directory: Path) -> Container:
    """By its own ``ctr``, in the namespace of containers that a kubelet uses; of a daemon of the test's own."""
    root = root_of(directory)
    socket, config = directory / "sock", directory / "config.toml"
    config.write_text(
        f'version = 2\nroot = "{directory}/store"\nstate = "{directory}/run"\n'
        f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{socket}"\n'
    )
    with open(directory / "errors", "wb") as errors:
        daemon = subprocess.Popen(["containerd", "-c", str(config)], stdout=errors, stderr=errors)
    ctr = ("ctr", "-a", str(socket), "-n", "k8s.io")

    def close() -> None:
        run(*ctr, "task", "rm", "-f", ID)
        run(*ctr, "container", "rm", ID)
        daemon.terminate()
        daemon.wait()

    try:
        until(lambda: daemon.poll() is not None or run(*ctr, "version").returncode == 0)
        refused(run(*ctr, "run", "-d", "--rootfs", str(root), ID, "/bin/nc", "-l", "-p", "8080"))
        (task,) = run(*ctr, "task", "ls").stdout.splitlines()[1:]
    except BaseException:
        close()
        raise
    pid = int(task.split()[1])
    label = Label(container_id=ID, container_runtime="containerd", comm="nc", pid=pid)
    return Container(pid, label, close)


CGROUPS = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup")
"""Where systemd's names are: cgroup v1, both, v2."""


def vanish(cgroup: Path) -> None:
    """Take a cgroup away, as soon as nothing is in it."""
    until(lambda: not cgroup.exists() or not (cgroup / "cgroup.procs").read_text())
    with suppress(FileNotFoundError):
        cgroup.rmdir()


def by_nspawn(directory: Path) -> Container:
    """In the cgroup that systemd makes for a machine, where it runs: nspawn itself makes what is below."""
    root = root_of(directory)
    for name in ("usr", "root"):
        (root / name).mkdir()
    (root / "etc" / "os-release").touch()
    name = f"test{os.getpid()}"
    trees = [path for path in CGROUPS if Path(path, "cgroup.procs").exists()]
    scopes = [Path(tree, "machine.slice", f"machine-{name}.scope") for tree in trees]
    for scope in scopes:
        scope.mkdir(parents=True)
    words = ("systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network", "-M", name, "-D", str(root))
    enter = "".join(f"echo $$ >{scope}/cgroup.procs; " for scope in scopes)
    inside = f"{enter}exec {shlex.join([*words, '/bin/nc', '-l', '-p', '8080'])}"
    with open(directory / "errors", "w+") as errors:
        nspawn = subprocess.Popen(["sh", "-c", inside], stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)

    def close() -> None:
        with suppress(OSError, ValueError):  # killed itself, it would leave the other running
            os.kill(int(first()), signal.SIGKILL)
        nspawn.terminate()
        nspawn.wait()
        for below in sorted((path for scope in scopes for path in scope.rglob("*/") if path.is_dir()), reverse=True):
            vanish(below)
        for scope in scopes:
            vanish(scope)
            with suppress(OSError):  # somebody else's, too
                scope.parent.rmdir()

    def first() -> str:
        # The monitor of nspawn's own has a first child in the namespaces: what it runs.
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        return next((pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "nc\n"), "")

    try:
        until(lambda: nspawn.poll() is not None or first())
        if nspawn.poll() is not None:
            refused(subprocess.CompletedProcess(words, nspawn.poll() or 1, "", (directory / "errors").read_text()))
        pid = int(first())
    except BaseException:
        close()
        raise
    label = Label(container_id=name, container_runtime="systemd-nspawn", comm="nc", pid=pid)
    return Container(pid, label, close)


RUNTIMES = {
    "runc": (("runc", "busybox"), by_bundle("runc")),
    "crun": (("crun", "busybox"), by_bundle("crun")),
    "containerd": (("containerd", "ctr", "runc", "busybox"), by_containerd),
    "systemd-nspawn": (("systemd-nspawn", "busybox"), by_nspawn),
    "podman": (("podman", "runc", "busybox"), by_podman(None)),
    "rootless podman": (("podman", "runc", "busybox", "runuser"), by_podman("nobody")),
}
"""Which programs each takes; runc is small, and the suite installs it, the others are there or are not."""


@pytest.fixture(params=[name for name, (programs, _) in RUNTIMES.items() if name == "runc" or is_installed(*programs)])
def container(request: pytest.FixtureRequest) -> Iterator[Container]:
    programs, start = RUNTIMES[request.param]
    if not is_installed(*programs):
        unmet(f"needs {' and '.join(programs)}")
    # Where another user may go: pytest's own directories are their user's alone.
    directory = Path("/var/tmp", f"sstrace-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    try:
        started = start(directory)
        yield started
        started.end()
    finally:
        for file in directory.rglob("pause.pid"):  # of rootless podman, who keeps its user namespace for the next one
            os.kill(int(file.read_text()), signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)


def test_a_container_is_known_while_it_runs_and_when_it_has_gone(container: Container, sstrace: Program) -> None:
    def listening() -> list[dict[str, Any]]:
        assert Path(f"/proc/{container.pid}").exists(), "its process has ended"
        words = ("--snapshot", "--netns", container.label.container_id or "", "-tlnp", "--json")
        return [json.loads(line) for line in sstrace(*words).stdout.splitlines()]

    until(lambda: bool(listening()))
    (line,) = listening()
    assert line["container_id"] == container.label.container_id
    assert line["container_runtime"] == container.label.container_runtime
    assert line["netns"] == netns_of(container.pid)
    assert [(owner["comm"], owner["pid"]) for owner in line["owners"]] == [("nc", container.pid)]
    finder = Finder(os.environ)
    try:
        (namespace,) = (one for one in finder.learn().values() if one.net.inode == netns_of(container.pid))
        assert finder.label(namespace) == container.label
        container.end()
        until(lambda: namespace.net.cookie not in finder.look())
        finder.learn()
        assert finder.label(namespace) == container.label, "whoever tells of its end knows what it was called"
    finally:
        finder.close()
