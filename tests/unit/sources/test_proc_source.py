"""The owner scan and the choice of files, over a /proc made of directories and symbolic links in a temporary place."""

import os
from pathlib import Path

import pytest

from sstrace.errors import KernelError
from sstrace.model import Finer, Owner
from sstrace.sources.proc import ProcFiles, owners


def process(root: Path, where: str, comm: bytes, links: dict[int, str]) -> None:
    folder = root / where
    (folder / "fd").mkdir(parents=True)
    pid = where.rpartition("/")[2].encode()
    (folder / "stat").write_bytes(pid + b" (" + comm + b") S 1 1\n")
    for fd, target in links.items():
        (folder / "fd" / str(fd)).symlink_to(target)


def in_order_of_discovery(root: Path) -> list[int]:
    return [int(name) for name in os.listdir(root) if name.isdecimal()]  # noqa: PTH208


def test_holders_come_in_the_reverse_of_discovery(tmp_path: Path) -> None:
    for pid in (5, 9, 12):
        process(tmp_path, str(pid), b"p%d" % pid, {3: "socket:[77]", 4: "socket:[78]"})
    (tmp_path / "net").mkdir()
    (tmp_path / "self").symlink_to("5")
    found = owners(str(tmp_path))
    expected = tuple(Owner(b"p%d" % pid, pid, 3) for pid in reversed(in_order_of_discovery(tmp_path)))
    assert found[77] == expected
    assert [owner.fd for owner in found[78]] == [4, 4, 4]
    assert set(found) == {77, 78}


def test_what_is_no_socket_is_passed_over(tmp_path: Path) -> None:
    links = {0: "/dev/null", 1: "pipe:[77]", 2: "anon_inode:[eventpoll]", 3: "socket:[79]", 4: "/tmp/socket:[80]"}
    process(tmp_path, "41", b"x", links)
    (tmp_path / "41" / "fd" / "5").write_bytes(b"no link")
    (tmp_path / "42").mkdir()  # a process that went away, or is not ours
    assert owners(str(tmp_path)) == {79: (Owner(b"x", 41, 3),)}


@pytest.mark.parametrize(
    ("comm", "shown"), [(b"par(en)x", b"par(en"), (b"", b""), (b"a\nb \xff", b"a\nb \xff"), (b")", b"")]
)
def test_comm_ends_at_its_first_parenthesis(tmp_path: Path, comm: bytes, shown: bytes) -> None:
    process(tmp_path, "7", comm, {3: "socket:[1]"})
    assert owners(str(tmp_path))[1][0].comm == shown


def test_lies_are_passed_over(tmp_path: Path) -> None:
    links = {0: "socket:[abc]", 1: "socket:[]", 2: "socket:[", 3: "socket:[²]", 4: "socket:[81]"}
    process(tmp_path, "41", b"x", links)
    (tmp_path / "41" / "fd" / "x").symlink_to("socket:[82]")
    process(tmp_path, "٣", b"three", {0: "socket:[83]"})
    process(tmp_path, "41/task/²", b"two", {0: "socket:[84]"})
    assert owners(str(tmp_path), threads=True) == {81: (Owner(b"x", 41, 4, Finer(41)),)}


def test_comm_of_a_process_that_is_gone_is_empty(tmp_path: Path) -> None:
    process(tmp_path, "7", b"x", {3: "socket:[1]"})
    (tmp_path / "7" / "stat").unlink()
    assert owners(str(tmp_path))[1] == (Owner(b"", 7, 3),)


def test_threads_come_before_their_leader(tmp_path: Path) -> None:
    process(tmp_path, "7", b"leader", {3: "socket:[1]"})
    process(tmp_path, "7/task/7", b"leader", {3: "socket:[1]"})
    process(tmp_path, "7/task/8", b"worker", {3: "socket:[1]"})
    assert owners(str(tmp_path), threads=True)[1] == (
        Owner(b"worker", 7, 3, Finer(8)),
        Owner(b"leader", 7, 3, Finer(7)),
    )
    assert owners(str(tmp_path))[1] == (Owner(b"leader", 7, 3, None),)


def test_contexts(tmp_path: Path) -> None:
    process(tmp_path, "7", b"x", {3: "socket:[1]"})
    assert owners(str(tmp_path), contexts=2)[1] == (Owner(b"x", 7, 3),)
    (tmp_path / "7" / "attr").mkdir()
    (tmp_path / "7" / "attr" / "current").write_bytes(b"system_u:system_r:init_t:s0\0")
    assert owners(str(tmp_path), contexts=1)[1][0].finer == Finer(proc_ctx="system_u:system_r:init_t:s0")
    assert owners(str(tmp_path))[1][0].finer is None


def test_no_proc_means_no_owners(tmp_path: Path) -> None:
    assert owners(str(tmp_path / "missing")) == {}


def test_files_come_from_where_the_environment_says(tmp_path: Path) -> None:
    assert ProcFiles({}).path("net/tcp") == "/proc/net/tcp"
    assert not ProcFiles({}).replaced("net/tcp")
    moved = ProcFiles({"PROC_ROOT": str(tmp_path), "PROC_NET_UDP": "/some/file"})
    assert (moved.root, moved.path("net/tcp"), moved.path("net/udp")) == (
        str(tmp_path),
        f"{tmp_path}/net/tcp",
        "/some/file",
    )
    single = ProcFiles({"PROC_NET_UDP": "/some/file"})
    assert single.replaced("net/udp")
    assert not single.replaced("net/udp6")
    assert not single.replaced("net/tcp")
    assert moved.replaced("net/tcp")


def test_reading_and_failing_to_read(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "snmp").write_bytes(b"Tcp:\xff\n")
    files = ProcFiles({"PROC_ROOT": str(tmp_path)})
    assert files.read("net/snmp") == b"Tcp:\xff\n"
    with pytest.raises(KernelError, match="No such file or directory") as caught:
        files.read("net/tcp")
    assert caught.value.errno == 2
