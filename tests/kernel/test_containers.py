"""Containers by their cgroups: processes that are put into cgroups named as runtimes name them."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Program, unmet

from sstrace.model import Label
from sstrace.namespaces.finder import Finder
from sstrace.sources.netns import netns_of

pytestmark = [pytest.mark.root, pytest.mark.bpf]

ID = "3726184226f5d3147c25fdeab5b60097e378e8a720503a5e19ecfdf29f869860"
UID = "ac04f3f2-1f2c-11e9-b015-1ebee232acfa"

Start = Callable[[str], subprocess.Popen[bytes]]


def hierarchies() -> list[Path]:
    """Where cgroups can be made here: of version 2, and of version 1."""
    kinds: dict[str, Path] = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup2" or (kind == "cgroup" and "pids" in options.split(",")):
            kinds.setdefault(kind, Path(where))
    return list(kinds.values())


@pytest.fixture(params=hierarchies(), ids=lambda path: path.name)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts a process in a network namespace of its own, in a cgroup of this path."""
    top = request.param / f"sstrace-test-{os.getpid()}"
    started: list[subprocess.Popen[bytes]] = []

    def begin(path: str) -> subprocess.Popen[bytes]:
        group = top / path
        try:
            group.mkdir(parents=True)
        except OSError as error:
            unmet(f"kernel lacks cgroups that can be made here: {error}")
        enter = 'echo $$ > "$0/cgroup.procs" && exec unshare -n sleep 60'
        process = subprocess.Popen(["sh", "-c", enter, group])
        started.append(process)
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n" or process.poll() is not None)
        if process.poll() is not None:
            unmet("kernel lacks cgroups that can be entered here")
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
    groups = [path for path in top.rglob("*") if path.is_dir()]
    for group in (*sorted(groups, key=lambda path: -len(path.parts)), top):
        remove(group)


def remove(group: Path) -> None:
    """A cgroup is busy until the last of its processes has been buried."""
    while group.exists():
        with suppress(OSError):
            group.rmdir()


def until(fact: Callable[[], bool]) -> None:
    while not fact():
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        (f"docker/{ID}", {"container_id": ID, "container_runtime": "docker"}),
        (f"machine.slice/libpod-{ID}.scope/container", {"container_id": ID, "container_runtime": "podman"}),
        (f"kubepods/burstable/pod{UID}/{ID}", {"container_id": ID, "pod": UID}),
        (
            f"kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{ID}.scope",
            {"container_id": ID, "container_runtime": "cri-o", "pod": UID},
        ),
        ("lxc.payload.web", {"container_id": "web", "container_runtime": "lxc"}),
        (
            "machine.slice/systemd-nspawn@my\\x2dbox.service/payload",
            {"container_id": "my-box", "container_runtime": "systemd-nspawn"},
        ),
    ],
)
def test_a_container_is_known_by_its_cgroup(start: Start, path: str, keys: dict[str, str]) -> None:
    process = start(path)
    with_finder(lambda finder: check(finder, process, Label(**keys, comm="sleep", pid=process.pid)))


def with_finder(body: Callable[[Finder], None]) -> None:
    finder = Finder(os.environ)
    try:
        body(finder)
    finally:
        finder.close()


def check(finder: Finder, process: subprocess.Popen[bytes], label: Label) -> None:
    """Before and after the container has gone."""
    inode = netns_of(process.pid)
    (namespace,) = (one for one in finder.learn().values() if one.net.inode == inode)
    assert finder.label(namespace) == label
    process.kill()
    process.wait()
    until(lambda: namespace.net.cookie not in finder.look())
    finder.learn()
    assert finder.label(namespace) == label, "whoever tells of its end knows what it was called"
    finder.forget(namespace.net.cookie)
    assert finder.label(namespace) == Label()


def test_a_container_is_chosen_and_shown_by_its_id(start: Start, sstrace: Program) -> None:
    process = start(f"docker/{ID}")
    inside = ["nsenter", "-t", str(process.pid), "-n", "--", "python3", "-c", LISTENER]
    listener = subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert listener.stdout is not None
    try:
        assert listener.stdout.readline() == b"listening\n"
        (line,) = sstrace("--snapshot", "--netns", ID[:12], "-tln", "--json").stdout.splitlines()
        told = json.loads(line)
        assert told["container_id"] == ID
        assert told["container_runtime"] == "docker"
        assert told["netns"] == netns_of(process.pid)
        text = sstrace("--snapshot", "--netns", f"{ID},{os.getpid()}", "-tlnH", f"netns {ID[:12]}").stdout.split()
        assert text[0].decode() == ID[:12]
    finally:
        listener.communicate(b"")


LISTENER = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 80))
print("listening", flush=True)
sys.stdin.read()
"""
