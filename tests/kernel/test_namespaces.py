"""Namespaces are found, whatever keeps them alive; entered for a while; and named. Nothing of ours keeps one alive."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Netns
from worlds import Worlds

from sstrace.errors import LookupFailed
from sstrace.model import Label, Namespace
from sstrace.model import Netns as Identity
from sstrace.namespaces.choice import choose
from sstrace.namespaces.finder import Finder
from sstrace.sources.mounts import MountNews
from sstrace.sources.netns import current_netns, inside, netns_of
from sstrace.sources.netns_walk import NetnsWalk
from sstrace.sources.proc import kallsyms
from sstrace.wire.kallsyms import Symbols

pytestmark = pytest.mark.bpf


@pytest.fixture(params=[False, True], ids=["looks", "follows"])
def finder(request: pytest.FixtureRequest) -> Iterator[Finder]:
    found = Finder(os.environ, follows=request.param)
    yield found
    found.close()


def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact; the test's own time limit is the end of it."""
    while not fact():
        time.sleep(0.01)


def test_what_only_sockets_keep_alive_is_found_and_can_be_entered(finder: Finder) -> None:
    here = current_netns()
    with Worlds(5, held=False) as worlds:
        found = finder.look()
        assert finder.exact
        assert not finder.blind
        assert {one.cookie for one in worlds.all} <= found.keys()
        for one in worlds.all:
            namespace = found[one.cookie]
            assert namespace.net == Identity(one.cookie, one.inode)
            if namespace.ns_id is None:
                continue  # before Linux 6.18 there is no way into these
            with inside(namespace):
                assert current_netns() == namespace.net
            assert current_netns() == here
        assert finder.label(found[worlds.all[0].cookie]) == Label()
    until(lambda: not {one.cookie for one in worlds.all} & finder.look().keys())


def test_a_namespace_dies_while_it_is_known(finder: Finder) -> None:
    """Looking, learning, naming and having been inside keep nothing alive; what is gone is said to be."""
    with Worlds(3, name="shortlived") as worlds:
        finder.learn()
        chosen = choose(("all",), finder).of(finder)
        mine = [one for one in chosen if one.net.cookie in {world.cookie for world in worlds.all}]
        assert len(mine) == 3
        for namespace in mine:
            with inside(namespace):
                pass
    until(lambda: not {one.cookie for one in worlds.all} & finder.look().keys())
    for namespace in mine:
        with pytest.raises(LookupFailed, match=f"network namespace {namespace.net.inode} is gone"), inside(namespace):
            pass


def test_who_follows_is_told_what_comes_and_goes(tmp_path: Path) -> None:
    """So it walks no more than it has to; the last of the figures is of those that have gone."""
    walk = NetnsWalk(tmp_path)
    try:
        assert walk.namespaces()
        assert walk.news() is None
        span = Symbols(kallsyms()).span("cleanup_net")
        assert span is not None
        walk.watch(span[0])
        before = walk.news()
        assert before is not None
        with Worlds(1, held=False):
            born = walk.news()
            assert born is not None
            assert born[:-1] != before[:-1]
        until(lambda: (walk.news() or born)[-1] > born[-1])
    finally:
        walk.close()


def test_a_walk_does_not_go_on_from_another_in_the_place_of_one(tmp_path: Path) -> None:
    """Memory of a namespace that has gone is soon another's, which stands at the end of the list."""
    walk = NetnsWalk(tmp_path)
    try:
        with Worlds(140, held=False):  # more than a run finds
            assert len(walk.namespaces() or ()) > 140
            walk._cursor[:] = bytes(len(walk._cursor))
            walk._loaded.run("walk")
            done_at, mark_at = 28, 32
            assert walk._cursor[done_at : done_at + 2] == b"\0\0", "neither done nor lost"
            walk._cursor[mark_at : mark_at + 8] = b"\xff" * 8
            walk._loaded.run("walk")
            assert walk._cursor[done_at : done_at + 2] == b"\0\1", "lost"
    finally:
        walk.close()


def test_what_is_mounted_is_told_of(tmp_path: Path) -> None:
    news = MountNews()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(tmp_path)], check=True)
    try:
        assert news.any()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert news.any()
    until(lambda: not news.any())
    news.close()


def test_one_known_by_a_path_is_not_mistaken_for_its_successor(netns: Netns) -> None:
    """Inodes are used again at once; cookies never."""
    here = current_netns()
    wrong = Namespace(Identity(12_345_678, netns.inode), paths=(netns.path,))
    with pytest.raises(LookupFailed, match="is gone"), inside(wrong):
        pass
    assert current_netns() == here
    right = Namespace(netns.call(current_netns), paths=("/nowhere", "/proc/self/ns/net", netns.path))
    with inside(right):
        assert current_netns() == right.net


def test_an_exception_inside_comes_out(netns: Netns) -> None:
    here = current_netns()
    namespace = Namespace(netns.call(current_netns), paths=(netns.path,))
    with pytest.raises(KeyError), inside(namespace):
        raise KeyError
    assert current_netns() == here


def test_the_walk_stands_coming_and_going(finder: Finder) -> None:
    """Namespaces are made and left as fast as the machine can while the list is walked."""
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            subprocess.run(["unshare", "-n", "unshare", "-n", "unshare", "-n", "true"], check=True, timeout=30)

    with Worlds(150, held=False) as worlds:
        thread = threading.Thread(target=churn)
        thread.start()
        try:
            mine = {one.cookie for one in worlds.all}
            for _ in range(200):
                found = finder.look()
                assert finder.home.cookie in found
                assert mine <= found.keys()
        finally:
            stop.set()
            thread.join()
    assert finder.exact, finder.blind


def test_names_come_from_mounts_and_processes(finder: Finder, netns: Netns) -> None:
    name = netns.publish()
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    try:
        until(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
        found = finder.learn()
        labels = {one.net.inode: finder.label(one) for one in found.values()}
        assert labels[netns.inode] == Label(netns_name=name)
        there = netns_of(sleeper.pid)
        assert labels[there] == Label(comm="sleep", pid=sleeper.pid)
        for words, inode in (
            ((name,), netns.inode),
            ((f"/run/netns/{name}",), netns.inode),
            ((netns.path,), netns.inode),
            ((str(netns.inode),), netns.inode),
            ((str(sleeper.pid),), there),
            ((f"sleep/{sleeper.pid}",), there),
            ((str(os.getpid()),), finder.home.inode),
        ):
            assert [one.net.inode for one in choose(words, finder).of(finder)] == [inode], words
        both = choose((name, str(sleeper.pid), name), finder).of(finder)
        assert [one.net.inode for one in both] == sorted((netns.inode, there), key=lambda one: labels[one].text(one))
        with pytest.raises(LookupFailed, match=f"did you mean {name}\\?"):
            choose((name[:-1] + "x",), finder)
        with pytest.raises(LookupFailed, match="there is no process 4194304"):
            choose(("4194304",), finder)
        with pytest.raises(LookupFailed, match="no network namespace with this inode"):
            choose(("4300000000",), finder)
        with pytest.raises(LookupFailed, match="/nowhere: No such file or directory"):
            choose(("/nowhere",), finder)
        for path in ("/proc/self/ns/mnt", "/etc/passwd"):
            with pytest.raises(LookupFailed, match="that is no network namespace"):
                choose((path,), finder)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_without_the_walk_processes_and_mounts_tell(netns: Netns) -> None:
    name = netns.publish()
    sleeper = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    finder = Finder({**os.environ, "SSTRACE_WITHOUT": "btf"})
    try:
        until(lambda: Path(f"/proc/{sleeper.pid}/comm").read_text() == "sleep\n")
        with Worlds(1, held=False) as worlds:
            found = finder.look()
            assert worlds.all[0].cookie not in found
        there = netns_of(sleeper.pid)
        assert {netns.inode, there, finder.home.inode} <= {one.net.inode for one in found.values()}
        assert found[netns.call(current_netns).cookie].paths[0] == f"/run/netns/{name}"
        assert finder.blind.startswith("network namespaces that neither a process is in nor a mount names are not seen")
        assert finder.blind.endswith(": done without BTF")
        again = finder.look()
        assert again[finder.home.cookie] is found[finder.home.cookie]
        with inside(choose((name,), finder).of(finder)[0]):
            assert current_netns().inode == netns.inode
    finally:
        sleeper.kill()
        sleeper.wait()
        finder.close()


def test_who_is_not_root_sees_its_own(common_path: Path) -> None:
    """And is told what it takes to see others."""
    script = (
        "import os\nfrom sstrace.namespaces.finder import Finder\nfrom sstrace.namespaces.choice import choose\n"
        "finder = Finder({})\nfound = finder.look()\nassert finder.home.cookie in found\nprint(finder.blind)\n"
        f"try:\n    choose(('{os.getpid()}',), finder)\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert not done.stderr
    blind, refused = done.stdout.splitlines()
    assert blind.endswith(" may not be asked): it takes root (CAP_BPF and CAP_PERFMON)")
    assert refused.startswith("PrivilegeError sstrace: --netns ")
