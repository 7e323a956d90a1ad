"""Containers of real runtimes, where they are installed and start here: ids, names and owners, before and after each
has gone.

A root file system is busybox alone, so nothing is fetched. What no runtime starts here, tests/kernel/test_containers.py
has by the names of cgroups.
"""

import json
import os
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


RUNTIMES = {
    "runc": (("runc", "busybox"), by_bundle("runc")),
    "crun": (("crun", "busybox"), by_bundle("crun")),
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


def until(fact: Callable[[], bool]) -> None:
    while not fact():
        time.sleep(0.01)


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
