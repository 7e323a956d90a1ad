"""UDP where the cgroups are not as a rule: somebody else's program at their root, a namespace of them, none mounted."""

import ctypes
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Netns, Program, unmet
from tracing import Trace, closed, keep, wait

from sstrace.sources.bpf.programs import DATAGRAMS
from sstrace.sources.bpf.syscall import bpf
from sstrace.sources.mounts import detached

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

_PROG_LOAD, _PROG_ATTACH = 5, 8
ALLOWS = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
"""r0 = 1; exit"""
INTO = 'echo $$ >"$0" && exec unshare --cgroup "$@"'


class Group:
    """A cgroup of the test's own, which is a root for whoever enters it."""

    def __init__(self) -> None:
        self._root = detached("cgroup2")
        self._name = f"sstrace-test-{os.getpid()}"
        os.mkdir(self._name, dir_fd=self._root)
        self.fd = os.open(self._name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=self._root)
        self._procs = f"/proc/{os.getpid()}/fd/{self.fd}/cgroup.procs"
        self.sstrace = Program("sh", "-c", INTO, self._procs, sys.executable, "-m", "sstrace")

    def keep_for_one(self, hook: str) -> None:
        """Attach a program to a hook that lets no other be there, and is gone with the group."""
        kind, attach = DATAGRAMS.cgroup[hook]
        code, license_ = ctypes.create_string_buffer(ALLOWS), ctypes.create_string_buffer(b"GPL")
        # union bpf_attr, include/uapi/linux/bpf.h: expected_attach_type is its 18th word
        attr = struct.pack(
            "=IIQQIIQI", kind, len(ALLOWS) // 8, ctypes.addressof(code), ctypes.addressof(license_), 0, 0, 0, 0
        )
        program = bpf(_PROG_LOAD, attr.ljust(68, b"\0") + struct.pack("=I", attach))
        assert program >= 0, os.strerror(ctypes.get_errno())
        assert bpf(_PROG_ATTACH, struct.pack("=IIII", self.fd, program, attach, 0)) >= 0
        os.close(program)

    def enter(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program in there."""
        return subprocess.Popen(
            ["sh", "-c", 'echo $$ >"$0" && exec "$@"', self._procs, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def close(self) -> None:
        """Nobody is in it any more."""
        os.close(self.fd)
        wait("the cgroup is empty", self._goes)
        os.close(self._root)

    def _goes(self) -> bool:
        try:
            os.rmdir(self._name, dir_fd=self._root)
        except OSError:
            return False
        return True


@pytest.fixture
def group() -> Iterator[Group]:
    try:
        made = Group()
    except OSError as error:
        unmet(f"needs the cgroup v2 hierarchy: {error.strerror}")
    yield made
    made.close()


def test_where_somebody_else_is_at_the_root_a_look_each_second_finds_them(
    group: Group, netns: Netns, tmp_path: Path
) -> None:
    group.keep_for_one("release")
    with Trace(group.sstrace, netns, tmp_path, "-u") as running:
        one = keep(netns.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        one.bind(("127.0.0.1", 5300))
        assert running.wait_for(old="UNKNOWN", new="UNCONN")["source"] == "poll"
    why = "somebody else's program at the root of the cgroups lets no other hear release; so UDP"
    assert why in running.stderr
    said = b" ".join(group.sstrace("--doctor", netns=netns).stdout.split()).decode()
    assert "less UDP, raw " + why in said


SENDS = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect(("127.0.0.1", 9))
print(one.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_in_a_cgroup_namespace_its_own_are_heard_and_others_found(group: Group, netns: Netns, tmp_path: Path) -> None:
    with Trace(group.sstrace, netns, tmp_path, "-u") as running:
        inside = netns.call(group.enter, sys.executable, "-c", SENDS)
        assert inside.stdout is not None
        port = int(inside.stdout.readline())
        assert "source" not in running.wait_for(sport=port, new="ESTAB")
        one = keep(netns.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        one.bind(("127.0.0.1", 5300))
        assert running.wait_for(sport=5300, new="UNCONN")["source"] == "poll"
        inside.communicate()
        assert "source" not in running.wait_for(sport=port, new="UNKNOWN")
    assert "in a cgroup namespace UDP sockets of its own cgroups alone are heard" in running.stderr
    said = b" ".join(group.sstrace("--doctor", netns=netns).stdout.split()).decode()
    assert "less UDP, raw in a cgroup namespace" in said


def test_the_hierarchy_need_not_be_mounted(netns: Netns, tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        unmet("needs unshare (package util-linux)")
    hide = 'umount -a -l -t cgroup2; ! grep -q \' cgroup2 \' /proc/self/mountinfo && exec "$0" "$@"'
    bare = Program("unshare", "--mount", "sh", "-c", hide, sys.executable, "-m", "sstrace")
    with Trace(bare, netns, tmp_path, "-u") as running:
        one = keep(netns.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        one.bind(("127.0.0.1", 5300))
        assert "source" not in running.wait_for(old="UNKNOWN", new="UNCONN")
