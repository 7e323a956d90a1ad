"""A server of several network namespaces: it answers for each what ss says there, and shows root alone what is not its
own.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program, unmet
from test_serve import Service, _as_nobody
from tracing import wait
from worlds import World, Worlds

from sstrace.live.kernel import Kernel, UnreachableError
from sstrace.model import AF_INET, ALL_STATES, Namespace, Table
from sstrace.model import Netns as Identity
from sstrace.server.broker import NOBODY, Broker
from sstrace.sources.netns import current_netns, netns_of
from sstrace.sources.privilege import unused_user
from sstrace.wire import inet_diag

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


@pytest.fixture(scope="module")
def worlds() -> Iterator[Worlds]:
    with Worlds(4) as made:
        yield made


@pytest.fixture(scope="module", params=[(), ("--keep-privileges",)], ids=["shed", "kept"])
def service(request: pytest.FixtureRequest, sstrace: Any, module_netns: Netns, worlds: Worlds) -> Iterator[Service]:
    """Of its own, and of all but the last of the worlds; where a stranger may reach its socket."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    words = ",".join([module_netns.publish(), *(str(one.inode) for one in worlds.all[:-1])])
    served = Service(sstrace, module_netns, directory, "--netns", words, *request.param, "--group", "nogroup")
    yield served
    served.stop()
    shutil.rmtree(directory)


def lines(output: bytes) -> list[list[str]]:
    return [line.split() for line in output.decode("latin-1").splitlines()]


def inside(world: World, ss: Program, *options: str) -> list[list[str]]:
    done = subprocess.run([*world.prefix, *ss.head, *options], capture_output=True, check=True, timeout=60)
    return lines(done.stdout)


@pytest.mark.parametrize(
    "options", [("-tanH",), ("-tanpH",), ("-tlnpH",), ("-uxanH",), ("-tnH", "dport", "=", ":1001")]
)
def test_the_answers_are_those_of_ss_in_each(
    service: Service, worlds: Worlds, ss: Program, options: tuple[str, ...]
) -> None:
    followed = sorted(worlds.all[:-1], key=lambda one: str(one.inode))
    words = ",".join(str(one.inode) for one in followed)
    answer = service.ask(*options[:1], "--netns", words, *options[1:])
    assert not answer.stderr
    theirs = Counter((str(one.inode), *line) for one in followed for line in inside(one, ss, *options))
    assert theirs
    assert Counter(map(tuple, lines(answer.stdout))) == theirs
    (one,) = followed[:1]
    alone = service.ask(*options[:1], "--netns", str(one.inode), *options[1:])
    assert Counter(map(tuple, lines(alone.stdout))) == Counter(map(tuple, inside(one, ss, *options)))


def test_all_are_those_that_it_follows(service: Service, worlds: Worlds, module_netns: Netns) -> None:
    found = [json.loads(line) for line in service.ask("-tan", "--netns", "all", "--json").stdout.splitlines()]
    assert {line["netns"] for line in found} == {module_netns.inode, *(one.inode for one in worlds.all[:-1])}
    assert {line.get("netns_name") for line in found if line["netns"] == module_netns.inode} == {module_netns.name}
    refused = service.ask("-tan", "--netns", str(worlds.all[-1].inode))
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert refused.stderr.endswith(b": this server follows none that is called so\n")


def test_times_are_the_tables_own(service: Service, worlds: Worlds) -> None:
    one = worlds.all[0]
    held = lines(service.ask("-tanH", "--netns", str(one.inode), "held > 1ms").stdout)
    assert len(held) == 5
    assert all(line[-1].startswith("held:") for line in held)
    assert not service.ask("-tanH", "--netns", str(one.inode), "held > 5h").stdout


def test_its_own_is_answered_as_ever(service: Service, module_netns: Netns, ss: Program) -> None:
    theirs = Counter(map(tuple, lines(ss("-tanH", netns=module_netns).stdout)))
    assert Counter(map(tuple, lines(service.ask("-tanH").stdout))) == theirs
    assert Counter(map(tuple, lines(service.ask("-tanH", "--netns", module_netns.name).stdout))) == theirs


def test_a_stranger_is_shown_no_other(service: Service, worlds: Worlds, module_netns: Netns) -> None:
    """Not as a member of the group that may ask, either: ss would not let them in."""
    gid = service.path.stat().st_gid
    answer = _as_nobody(service, gid, "-tanH", "--netns", "all")
    other = {str(one.inode).encode() for one in worlds.all}
    assert not any(inode in answer for inode in other)
    own = service.ask("-tanH").stdout
    assert answer.splitlines()[: own.count(b"\n")] == own.splitlines()
    assert b"root alone" in answer
    for word in (str(worlds.all[0].inode), "holder", str(worlds.pid)):
        refused = _as_nobody(service, gid, "-tanH", "--netns", word)
        assert refused.startswith(b"sstrace: --netns ")
        assert b"127.0.0.1" not in refused
    assert module_netns.name.encode() not in answer, "one alone has no column"


def test_one_that_comes_and_goes_while_it_serves(sstrace: Any, netns: Netns, tmp_path: Path) -> None:
    served = Service(sstrace, netns, tmp_path, "--netns", "all")
    try:
        with Worlds(1) as born:
            (one,) = born.all

            def shown() -> bool:
                return len(lines(served.ask("-tanH", "--netns", str(one.inode)).stdout)) == 5

            wait("it is followed", shown, 60)
        wait("it is gone", lambda: not served.ask("-tanH", "--netns", str(one.inode)).stdout, 60)
    finally:
        served.stop()


def test_a_server_of_others_says_how_they_are_asked_for(sstrace: Any, netns: Netns, tmp_path: Path) -> None:
    with Worlds(1) as worlds:
        word = str(worlds.all[0].inode)
        served = Service(sstrace, netns, tmp_path, "--netns", word, "--keep-privileges")
        try:
            refused = served.ask("-tan")
            assert (refused.returncode, refused.stdout) == (1, b"")
            assert refused.stderr.endswith(b"ask for others with --netns\n")
            assert len(lines(served.ask("-tanH", "--netns", "all").stdout)) == 5
        finally:
            served.stop()


_OWNED = """
import socket, sys
listener = socket.create_server(("0.0.0.0", 4321))
print("listening", flush=True)
sys.stdin.read()
"""


@contextmanager
def owned(user: str) -> Iterator[int]:
    """The inode of a network namespace that a user has made who is not root, in which something listens."""
    words = ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups", "unshare", "--user", "--net"]
    command = [*words, sys.executable, "-c", _OWNED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if process.stdout.readline() != b"listening\n":
            unmet("kernel lacks user namespaces that anybody may make")
        yield netns_of(process.pid)
        process.communicate(b"")


@pytest.mark.parametrize("kept", [(), ("--keep-privileges",)], ids=["shed", "kept"])
def test_a_stranger_is_shown_what_they_own(sstrace: Any, netns: Netns, kept: tuple[str, ...]) -> None:
    """As ss would be let in by nsenter: the namespaces of one's own rootless containers, and of nobody else's."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    with owned("nobody") as theirs, owned("daemon") as others:
        served = Service(
            sstrace, netns, directory, "--netns", f"{netns.publish()},{theirs},{others}", *kept, "--group", "nogroup"
        )
        try:
            gid = served.path.stat().st_gid
            answer = _as_nobody(served, gid, "-tlnH", "--netns", "all")
            assert b":4321" in answer
            assert str(others).encode() not in answer
            (line,) = [line.split() for line in answer.splitlines() if b":4321" in line]
            alone = _as_nobody(served, gid, "-tlnH", "--netns", line[0].decode())
            assert alone.split() == line[1:]
            refused = _as_nobody(served, gid, "-tlnH", "--netns", str(others))
            assert b"4321" not in refused
            assert b"root alone" in refused
        finally:
            served.stop()
            shutil.rmtree(directory)


def test_a_server_that_has_given_up_root_keeps_what_enters_apart(sstrace: Any, netns: Netns, tmp_path: Path) -> None:
    """Who reads what clients send has no capability."""
    with Worlds(1) as worlds:
        served = Service(sstrace, netns, tmp_path, "--netns", str(worlds.all[0].inode))
        try:
            status = Path(f"/proc/{served.process.pid}/status").read_text()
            held = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")]
            assert held[0] & ~(1 << 39) == 0, "but for CAP_BPF, where maps take one"
            assert len(lines(served.ask("-tanH", "--netns", "all").stdout)) == 5
            refused = served.ask("-st", "--netns", "all")
            assert refused.returncode == 4
            assert refused.stderr.endswith(b": ask the kernel\n")
        finally:
            served.stop()


def test_one_that_has_gone_between_two_questions(netns: Netns, tmp_path: Path) -> None:
    """Of it the broker has no answer, as of any that it cannot enter: it was not asked at all, and others are."""
    broker = Broker({"HOME": str(tmp_path)}, unused_user(), spaces=True)
    try:
        broker.wait()
        here = Namespace(netns.call(current_netns), paths=(netns.path,))
        gone = Namespace(Identity(12_345_678, netns.inode), paths=(netns.path,))
        for sparse in (False, True):
            kernel = Kernel(lambda: None, partial(broker.diag, gone), sparse=sparse)
            assert kernel.dump(ALL_STATES) == ([], False)
            assert kernel.everything(ALL_STATES) == []
            assert not kernel.reachable
            kernel.diag = partial(broker.diag, here)
            assert kernel.dump(ALL_STATES) == ([], True)
        with broker.diag(gone) as diag:
            diag.send(inet_diag.dump_request(Table.TCP, AF_INET, ALL_STATES))
            with pytest.raises(UnreachableError, match=f"network namespace {netns.inode} has gone"):
                diag.receive()
    finally:
        broker.close()


def test_a_pid_that_is_another_users_by_now_tells_nothing(netns: Netns, tmp_path: Path) -> None:
    broker = Broker({"HOME": str(tmp_path)}, unused_user(), spaces=True)
    other = subprocess.Popen([*netns.prefix, "sleep", "60"])
    try:
        broker.wait()
        wait("it is there", lambda: broker.who(other.pid, 0).netns == netns.inode)
        assert broker.who(other.pid, 4321) == NOBODY
    finally:
        other.kill()
        other.wait()
        broker.close()


def test_a_server_of_one_says_so(sstrace: Any, netns: Netns, tmp_path: Path) -> None:
    served = Service(sstrace, netns, tmp_path)
    try:
        refused = served.ask("-tan", "--netns", "all")
        assert (refused.returncode, refused.stdout) == (1, b"")
        assert b"follows its own network namespace alone" in refused.stderr
    finally:
        served.stop()
