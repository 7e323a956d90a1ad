"""A serving sstrace: its answers beside ss's, its clients good and bad, and what each of them may see."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Program

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

NOBODY = 65534


class Service:
    """A server in a namespace of its own, with sockets in most states that stay as they are."""

    def __init__(self, sstrace: Any, netns: Any, directory: Path, *options: str, env: Any = None) -> None:
        self.sstrace, self.netns = sstrace, netns
        self.path = directory / "live.sock"
        self.sockets = netns.call(_sockets)
        ready = directory / "ready"
        words = f"--serve={self.path}", "--ready-file", str(ready), *options
        self.process = sstrace.start(*words, netns=netns, env=env)
        wait(ready.exists, self.process)

    def ask(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        result: subprocess.CompletedProcess[bytes] = self.sstrace(
            "--snapshot", "--from", f"live:{self.path}", *arguments, netns=self.netns, **options
        )
        return result

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=30)
        for opened in self.sockets:
            opened.close()
        assert self.process.returncode == 0, errors
        return str(errors.decode())


def _sockets() -> list[socket.socket]:
    opened: list[socket.socket] = []

    def listener(family: int, address: str, *, only: int | None = None) -> socket.socket:
        made = socket.socket(family)
        if only is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, 0))
        made.listen(7)
        opened.append(made)
        return made

    v4 = listener(socket.AF_INET, "127.0.0.1")
    twin = socket.socket()
    twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    twin.bind(v4.getsockname())
    twin.listen(3)
    v6 = listener(socket.AF_INET6, "::", only=0)
    listener(socket.AF_INET6, "::1", only=1)
    opened.append(twin)
    for server, address in ((v4, "127.0.0.1"), (v6, "::1"), (v6, "127.0.0.1")):
        for _ in range(3):
            client = socket.create_connection((address, server.getsockname()[1]))
            opened.append(client)
    named = socket.socket(socket.AF_UNIX)
    named.bind("\0sstrace-serve-test")
    named.listen(5)
    opened.append(named)
    # CLOSE-WAIT beside FIN-WAIT-2, and an unread byte in a receive queue.
    pair = socket.create_connection(v6.getsockname()[:2])
    pair.shutdown(socket.SHUT_WR)
    opened.append(pair)
    opened[5].send(b"unread")
    return opened


def wait(fact: Any, process: subprocess.Popen[bytes] | None = None, seconds: float = 30) -> None:
    """Until ``fact()``; fails when the process ends first or the time is over."""
    end = time.monotonic() + seconds
    while not fact():
        assert process is None or process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def service(sstrace: Any, module_netns: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    served = Service(sstrace, module_netns, tmp_path_factory.mktemp("serve"))
    yield served
    served.stop()


@pytest.mark.parametrize(
    "words",
    [
        "-tan",
        "-tanp",
        "-tane",
        "-tanm",
        "-tlp",
        "-tln",
        "-tl",
        "-ta4n",
        "-ta6n",
        "-tanO",
        "-Htan",
        "-tan state close-wait",
        "-tan state fin-wait-2",
        "-tan state listening",
        "-tan exclude listening",
        "-tan sport > :1024",
        "-tan src 127.0.0.1",
        "-tan dst [::1]",
        "-tan dev lo",
        "-uan",
        "-xa src unix:@sstrace-serve-test",
        "-wa",
        "-0a",
        "-tuanp",
        "-h",
        "-V",
        "-t state nonsense",
        "-tan src nonsense.invalid.",
    ],
)
def test_the_answer_is_the_set_of_lines_that_ss_prints(service: Service, ss: Any, words: str) -> None:
    arguments = words.split()
    before = ss(*arguments, netns=service.netns)
    ours = service.ask(*arguments)
    after = ss(*arguments, netns=service.netns)
    if before.stdout == after.stdout:
        assert sorted(ours.stdout.splitlines()) == sorted(before.stdout.splitlines())
    else:  # tables of the whole machine move under us: what stood before and after must be there
        stable = set(before.stdout.splitlines()) & set(after.stdout.splitlines())
        assert stable - set(ours.stdout.splitlines()) == set()
    assert ours.returncode == before.returncode


def test_the_summary_counts_as_ss_does(service: Service, ss: Any) -> None:
    # The first two lines count the whole machine, which moves; and the question itself is a socket.
    lines = ss("-s", netns=service.netns).stdout.splitlines()
    assert service.ask("-s").stdout.splitlines()[2:] == lines[2:]


def test_a_new_socket_is_in_the_very_next_answer(service: Service) -> None:
    made = service.netns.call(lambda: socket.create_server(("127.0.0.1", 0)))
    port = made.getsockname()[1]
    assert f"127.0.0.1:{port}".encode() in service.ask("-tln").stdout
    made.close()
    assert f"127.0.0.1:{port}".encode() not in service.ask("-tln").stdout


def test_a_connection_accepted_after_its_last_event_has_its_owner(service: Service, ss: Any) -> None:
    def accept() -> list[socket.socket]:
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        service.ask("-tln")  # by now the server knows of the connection
        return [server, client, server.accept()[0]]

    made = service.netns.call(accept)
    words = ["-Htnp", f"sport = :{made[0].getsockname()[1]}"]
    assert service.ask(*words).stdout == ss(*words, netns=service.netns).stdout
    for opened in made:
        opened.close()


def test_held_selects_by_the_time_in_the_state(service: Service) -> None:
    assert service.ask("-Htan", "held < 1h").stdout
    assert service.ask("-Htan", "held > 1h").stdout == b""
    # Whoever selects by it sees it; nearly all of these are older than the server, which says so.
    lines = service.ask("-Htan", "held < 1h").stdout.decode().splitlines()
    assert all(re.search(r" held:≥?[\d.]+(us|ms|s|m)", line) for line in lines), lines
    assert any(" held:≥" in line for line in lines), lines
    made = service.netns.call(lambda: socket.create_server(("127.0.0.1", 0)))
    (line,) = service.ask("-Htln", f"sport = :{made.getsockname()[1]} and held < 1h").stdout.decode().splitlines()
    assert re.search(r" held:≥?[\d.]+(us|ms|s)", line), line  # ≥ where its birth was lost and a sweep found it
    made.close()


def test_the_screen_is_the_clients(service: Service) -> None:
    wide = service.ask("-tan", "--ss-version", "7.1", env={"COLUMNS": "200"}).stdout
    assert {len(line) for line in wide.splitlines()} == {200}


def test_json_comes_through(service: Service) -> None:
    lines = [json.loads(line) for line in service.ask("-tan", "--json").stdout.splitlines()]
    assert lines
    assert {line["type"] for line in lines} == {"seen"}


@pytest.mark.parametrize("words", ["-tan", "-tl", "-tlp"])
def test_its_own_network_namespace_may_be_named(service: Service, ss: Any, netns: Any, words: str) -> None:
    name = service.netns.publish()
    ours = service.ask("-N", name, *words.split())
    assert sorted(ours.stdout.splitlines()) == sorted(ss("-N", name, *words.split()).stdout.splitlines())
    other = service.ask("-N", netns.publish(), *words.split())
    assert (other.stdout, other.returncode) == (b"", 1)
    assert b"ask the sstrace that serves there" in other.stderr


@pytest.mark.parametrize("words", ["-N elsewhere -tan", "-tE", "-t -D /tmp/never"])
def test_what_a_live_table_cannot_do_is_refused_in_one_sentence(service: Service, words: str) -> None:
    answer = service.ask(*words.split())
    assert answer.returncode != 0
    assert len(answer.stderr.splitlines()) == 1
    assert answer.stdout == b""


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\n",
        b"{}\n",
        b'{"argv": 1}\n',
        b"\xff\xfe\n",
        b"[" * 60_000 + b"\n",
        b'{"argv":[],"follow":true,"x":' + b"[" * 60_000 + b"\n",
        b"x" * 200_000,
    ],
    ids=["nothing", "empty", "no argv", "argv a number", "no utf-8", "deep", "deep, of who would follow", "endless"],
)
@pytest.mark.parametrize("pipes", [0, 1, 2, 3])
def test_garbage_harms_nobody(service: Service, garbage: bytes, pipes: int) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(service.path))
        ends = [os.pipe() for _ in range(pipes)]
        with suppress(OSError):
            if garbage:
                socket.send_fds(client, [garbage[:1]], [write for _, write in ends])
                client.sendall(garbage[1:])
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
        for end in ends:
            for fd in end:
                os.close(fd)
    assert service.ask("-tln").returncode == 0


def test_files_are_no_pipes(service: Service, tmp_path: Path) -> None:
    """A descriptor that is no pipe is not written to: the server's rights are not its client's."""
    target = tmp_path / "target"
    with target.open("wb") as file, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(service.path))
        socket.send_fds(client, [b'{"argv": ["-tan"]}\n'], [file.fileno(), file.fileno()])
        assert client.recv(4096) == b""
    assert target.read_bytes() == b""


def test_clients_that_stall_or_vanish_hold_up_nobody(service: Service) -> None:
    stalled = []
    for number in range(20):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(service.path))
        read, write = os.pipe()
        if number % 2:
            socket.send_fds(client, [b'{"argv": ["-tan"]}\n'], [write, write])
        stalled.append((client, read, write))
    assert service.ask("-tln").returncode == 0
    for client, read, write in stalled:
        os.close(read)
        os.close(write)
        client.close()
    assert service.ask("-tln").returncode == 0


@pytest.mark.parametrize("words", ["-xa", "-tln"], ids=["answered by a child", "answered by the server"])
def test_a_client_that_stalls_keeps_no_other_waiting_for_the_end_of_its_pipe(service: Service, words: str) -> None:
    """A child has whatever was open when it was forked, unless it lets go."""
    request = json.dumps({"argv": ["-H", words], "ss": "6.1"}).encode() + b"\n"
    early = _connected(service, request[:1])  # its pipe is at the server when the other's child is made
    assert service.ask("-tln").returncode == 0
    late = _connected(service, json.dumps({"argv": ["-tan"], "ss": "6.1"}).encode() + b"\n", full=True)
    os.close(late.write)
    wait(lambda: _children(service.process.pid))
    early.client.sendall(request[1:])
    os.close(early.write)
    assert early.client.recv(100) == b'{"code":0}\n'
    while select.select([early.read], [], [], 20)[0]:
        if not os.read(early.read, 65536):
            break
    else:
        pytest.fail("the pipe did not end")
    early.close()
    late.close()
    wait(lambda: not _children(service.process.pid))


def test_a_small_answer_into_a_full_pipe_waits_in_a_child(service: Service) -> None:
    full = _connected(service, json.dumps({"argv": ["-tln"], "ss": "6.1"}).encode() + b"\n", full=True)
    os.close(full.write)
    assert service.ask("-tln").returncode == 0
    answer = b""
    while data := os.read(full.read, 65536):
        answer += data
    assert answer.lstrip(b"x") == service.ask("-tln").stdout
    assert full.client.recv(100) == b'{"code":0}\n'
    full.close()


def test_a_small_answer_goes_into_a_socket(service: Service) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(service.path))
        request = json.dumps({"argv": ["-tln"], "ss": "6.1"}).encode() + b"\n"
        socket.send_fds(client, [request], [theirs.fileno(), theirs.fileno()])
        assert client.recv(100) == b'{"code":0}\n'
        assert ours.recv(65536) == service.ask("-tln").stdout


@pytest.mark.parametrize("words", ["-tln", "-xa"])
@pytest.mark.parametrize("odd", ["listening", "datagram", "netlink", "read end", "full and not blocking"])
def test_descriptors_that_cannot_be_written_to_harm_nobody(service: Service, words: str, odd: str) -> None:
    held: list[socket.socket] = []
    read, write = os.pipe()
    fd = write
    if odd == "listening":
        held.append(socket.create_server(("127.0.0.1", 0)))
    elif odd == "datagram":
        held.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    elif odd == "netlink":
        held.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4))
    elif odd == "read end":
        fd = read
    else:
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
    if held:
        fd = held[0].fileno()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(service.path))
        socket.send_fds(client, [json.dumps({"argv": [words], "ss": "6.1"}).encode() + b"\n"], [fd, fd])
        assert client.recv(100) in (b'{"code":141}\n', b'{"code":0}\n', b'{"code":1}\n')
    for opened in held:
        opened.close()
    os.close(read)
    os.close(write)
    assert service.ask("-tln").returncode == 0


@pytest.mark.parametrize("words", ["-tln", "-xa"])
def test_a_reader_that_has_gone_is_told_apart(service: Service, words: str) -> None:
    asked = _connected(service, b"")
    os.close(asked.read)
    request = json.dumps({"argv": [words], "ss": "6.1"}).encode() + b"\n"
    socket.send_fds(asked.client, [request], [asked.write, asked.write])
    assert asked.client.recv(100) == b'{"code":141}\n'
    os.close(asked.write)
    asked.client.close()


class _Asking:
    """A client of our own: a connection and a pipe."""

    def __init__(self, client: socket.socket, read: int, write: int) -> None:
        self.client, self.read, self.write = client, read, write

    def close(self) -> None:
        self.client.close()
        os.close(self.read)


def _connected(service: Service, request: bytes, *, full: bool = False) -> _Asking:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(service.path))
    read, write = os.pipe()
    if full:
        os.set_blocking(write, False)
        with suppress(BlockingIOError):
            while True:
                os.write(write, b"x" * 4096)
        os.set_blocking(write, True)
    if request:
        socket.send_fds(client, [request], [write, write])
    return _Asking(client, read, write)


def test_no_file_is_opened_for_a_client_that_names_its_path(service: Service, tmp_path: Path) -> None:
    """Neither what would hold up whoever opens it, a pipe that nobody writes into, nor what is the right namespace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), os.path.relpath(pipe, "/run/netns"), f"/proc/{service.process.pid}/ns/net"):
        request = {"argv": ["-N", path, "-tan"], "ss": "6.1"}
        asked = _connected(service, json.dumps(request).encode() + b"\n")
        os.close(asked.write)
        assert asked.client.recv(100) == b'{"code":1}\n'
        assert os.read(asked.read, 1000).decode() == (
            f"sstrace: this live table is not that of network namespace {path}: ask the sstrace that serves there\n"
        )
        asked.close()


def _children(pid: int | str) -> list[str]:
    """Those who answer. The broker, a child of a server that gave up root, is another user."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in children if _uid(child) == _uid(pid)]


def _uid(pid: int | str) -> str | None:
    with contextlib.suppress(OSError):  # it has ended
        return str(re.findall(r"^Uid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0])
    return None


def _stalled(service: Service, number: int, uid: int = 0) -> list[_Asking]:
    """So many clients of this user who ask and do not read."""
    os.seteuid(uid)
    try:
        request = json.dumps({"argv": ["-tan"], "ss": "6.1"}).encode() + b"\n"
        asked = [_connected(service, request, full=True) for _ in range(number)]
    finally:
        os.seteuid(0)
    for one in asked:
        os.close(one.write)
    return asked


def test_eight_that_do_not_read_do_not_stop_a_ninth(service: Service) -> None:
    stalled = _stalled(service, 8)
    wait(lambda: len(_children(service.process.pid)) == 8)
    assert service.ask("-xa").returncode == 0
    assert sum(_broken_off(one) for one in stalled) == 1, "who has waited longest has to go"
    for one in stalled:
        one.close()
    wait(lambda: not _children(service.process.pid))


def _broken_off(asked: _Asking) -> bool:
    return bool(select.select([asked.client], [], [], 0)[0]) and asked.client.recv(100) == b""


def test_no_user_has_every_answer(sstrace: Any, netns: Any, common_path: Path) -> None:
    served = Service(sstrace, netns, common_path)
    served.path.chmod(0o666)
    stalled = _stalled(served, 8, 60001)
    wait(lambda: len(_children(served.process.pid)) == 4)
    for _ in range(3):
        assert served.ask("-xa").returncode == 0
    stalled += _stalled(served, 8, 60002)
    wait(lambda: len(_children(served.process.pid)) == 7)
    assert served.ask("-xa").returncode == 0
    for one in stalled:
        one.close()
    served.stop()


@pytest.mark.parametrize(
    "request_",
    [
        b"{}",
        b'{"argv":["-N","x"]}',
        b'{"argv":["--stats"]}',
        b'{"argv":["-V"]}',
        b'{"argv":[],"follow":true}',
        b'{"argv":["-tln"]}',
    ],
    ids=["garbage", "refused", "stats", "early", "follows", "answered"],
)
def test_a_server_that_is_root_writes_as_its_client(
    sstrace: Any, netns: Any, common_path: Path, request_: bytes
) -> None:
    """Whoever is at the other end of a client's socket may trust the writer (SCM_CREDENTIALS, unix(7))."""
    served = Service(sstrace, netns, common_path, "--keep-privileges", "--stats")
    served.path.chmod(0o666)
    try:
        theirs, given = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        theirs.settimeout(60)
        with theirs, given, socket.socket(socket.AF_UNIX) as client:
            os.seteuid(60001)
            try:
                client.connect(str(served.path))
            finally:
                os.seteuid(0)
            socket.send_fds(client, [request_ + b"\n"], [given.fileno(), given.fileno()])
            data, ancillary, _, _ = theirs.recvmsg(1 << 16, 100)
        assert data
        ((_, kind, credentials),) = ancillary
        assert kind == socket.SCM_CREDENTIALS
        assert struct.unpack("iII", credentials)[1] == 60001
    finally:
        served.stop()


def test_nobody_turns_others_away(sstrace: Any, netns: Any, common_path: Path) -> None:
    """As many connections of one user as there may be, which say nothing; then root asks."""
    served = Service(sstrace, netns, common_path, "--group", "nogroup")
    try:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        try:
            crowd = []
            for _ in range(300):
                crowd.append(socket.socket(socket.AF_UNIX))
                crowd[-1].connect(str(served.path))
        finally:
            os.seteuid(0)
            os.setegid(0)
        assert served.ask("-tln").returncode == 0
        for one in crowd:
            one.close()
    finally:
        served.stop()


def test_many_at_once(service: Service) -> None:
    words = ("-tan", "exclude", "time-wait")  # of earlier tests, a minute after
    expected = sorted(service.ask(*words).stdout.splitlines())
    clients = [
        service.sstrace.start("--snapshot", "--from", f"live:{service.path}", *words, netns=service.netns)
        for _ in range(12)
    ]
    for client in clients:
        output, errors = client.communicate(timeout=60)
        assert client.returncode == 0, errors
        assert sorted(output.splitlines()) == expected


def test_only_root_may_connect(service: Service) -> None:
    assert service.path.stat().st_mode & 0o777 == 0o600


def test_a_group_may_connect_and_others_see_their_own_processes_only(sstrace: Any, netns: Any, ss: Any) -> None:
    # Not below pytest's own directory, which is root's alone.
    directory = Path(tempfile.mkdtemp(prefix="sstrace-test-"))
    directory.chmod(0o755)
    served = Service(sstrace, netns, directory, "--group", "nogroup")
    try:
        assert served.path.stat().st_mode & 0o777 == 0o660
        everything = served.ask("-tlnp").stdout
        assert b"users:(" in everything
        as_member = _as_nobody(served, NOBODY, "-tlnp")
        assert b"users:(" in as_member
        served.path.chmod(0o666)
        as_stranger = _as_nobody(served, 60001, "-tlnp")
        assert b"users:(" not in as_stranger
        assert b"LISTEN" in as_stranger
        kept = ss("-Htan", netns=netns).stdout
        killed = _as_nobody(served, 60001, "-K", "-tan")
        assert b"ESTAB" not in killed, "only root may kill"
        assert b"bug in sstrace" not in killed
        assert sorted(ss("-Htan", netns=netns).stdout.splitlines()) == sorted(kept.splitlines())
    finally:
        served.stop()
        shutil.rmtree(directory)


def _as_nobody(served: Service, gid: int, *arguments: str) -> bytes:
    """Ask as user nobody in a group, speaking the protocol ourselves: the client program may not be readable to it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            with socket.socket(socket.AF_UNIX) as client, open(os.devnull, "wb"):
                client.connect(str(served.path))
                request = json.dumps({"argv": ["--snapshot", "--from", "live", *arguments], "ss": "6.1"})
                socket.send_fds(client, [request.encode() + b"\n"], [write, write])
                os.close(write)
                client.recv(4096)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        output = answer.read()
    os.waitpid(child, 0)
    return output


def test_a_stale_socket_file_is_replaced_and_a_live_one_is_not(sstrace: Any, netns: Any, tmp_path: Path) -> None:
    path = tmp_path / "live.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    # Without --keep-privileges it has given up the right to remove a file from a directory of root's.
    served = Service(sstrace, netns, tmp_path, "--keep-privileges")
    try:
        second = sstrace(f"--serve={path}", "--duration", "1s", netns=netns)
        assert second.returncode == 1
        assert b"serves at" in second.stderr
        assert len(second.stderr.splitlines()) == 1
        assert served.ask("-tln").returncode == 0
    finally:
        served.stop()
    assert not path.exists()


def test_another_file_in_the_way_is_left_alone(sstrace: Any, netns: Any, tmp_path: Path) -> None:
    path = tmp_path / "live.sock"
    path.write_text("precious")
    refused = sstrace(f"--serve={path}", "--duration", "1s", netns=netns)
    assert refused.returncode == 1
    assert path.read_text() == "precious"


def test_nobody_serving_is_one_sentence(sstrace: Any, netns: Any, tmp_path: Path) -> None:
    answer = sstrace("--snapshot", "--from", f"live:{tmp_path}/none.sock", "-tln", netns=netns)
    assert answer.returncode == 4
    assert len(answer.stderr.splitlines()) == 1
    assert b"--serve" in answer.stderr


def test_what_was_lost_just_now_is_in_the_very_next_answer(sstrace: Any, ss: Any, netns: Any, tmp_path: Path) -> None:
    """Losses in a row are healed with pauses between; a question does not wait for the next."""
    path, ready = tmp_path / "live.sock", tmp_path / "ready"
    process = sstrace.start(f"--serve={path}", "--ready-file", str(ready), netns=netns, env={"SSTRACE_PAGES": "1"})
    opened: list[socket.socket] = []

    def burst() -> None:
        if not opened:
            opened.append(socket.create_server(("127.0.0.1", 0), backlog=4096))
        opened.extend(socket.create_connection(opened[0].getsockname()) for _ in range(60))

    try:
        wait(ready.exists, process)
        for _ in range(3):
            process.send_signal(signal.SIGSTOP)
            netns.call(burst)
            process.send_signal(signal.SIGCONT)
            answer = sstrace("--snapshot", "--from", f"live:{path}", "-Htan", netns=netns).stdout
            assert sorted(answer.splitlines()) == sorted(ss("-Htan", netns=netns).stdout.splitlines())
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert " 0 lost" not in errors.decode()
    finally:
        process.kill()
        process.communicate()
        for one in opened:
            one.close()


def test_a_bug_of_the_server_is_one_sentence_to_its_client(sstrace: Any, netns: Any, tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text(
        "import sys\nfrom sstrace import cli\nfrom sstrace.server import answers\n"
        "def broken(*_, **__):\n    raise KeyError('made for the test')\n"
        "answers.Answers.small = answers.Answers.respond = broken\n"
        "raise SystemExit(cli.main(sys.argv[1:]))\n"
    )
    broken = Program("env", f"PYTHONPATH={ROOT}", sys.executable, str(program))
    served = Service(broken, netns, tmp_path)
    try:
        for more, first in (
            ((), b"sstrace: the server met a bug in sstrace: KeyError at "),
            (("--debug",), b"sstrace 0"),
        ):
            asked = sstrace("--snapshot", "--from", f"live:{served.path}", "-tan", *more, netns=netns)
            assert (asked.returncode, asked.stdout) == (70, b"")
            assert asked.stderr.startswith(first), asked.stderr
            assert (b"Traceback" in asked.stderr) == bool(more)
    finally:
        served.stop()


def _pairs(count: int) -> list[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        return [(socket.create_connection(listener.getsockname()), listener.accept()[0]) for _ in range(count)]


@pytest.mark.parametrize("table", ["-ta", "-ua", "-Ma", "-wa"])
def test_what_the_kernel_says_of_a_filter_is_said_where_there_are_no_rows(
    sstrace: Any, netns: Any, ss: Any, tmp_path: Path, table: str
) -> None:
    path, ready = tmp_path / "live.sock", tmp_path / "ready"
    server = sstrace.start(f"--serve={path}", "-tuwM", "--ready-file", str(ready), netns=netns)
    wait(ready.exists, server)
    asked = (table, "( ! src netlink:rtnl src = inet6:[::1] )")
    (tmp_path / "ss").write_bytes(b"ss utility, iproute2-7.0.0\0")
    mine, quiet = (
        sstrace(
            "--snapshot", "--from", f"live:{path}", *asked, netns=netns, env={"PATH": f"{front}{os.environ['PATH']}"}
        )
        for front in ("", f"{tmp_path}:")
    )
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=30)
    assert server.returncode == 0
    theirs = ss(*asked, netns=netns)
    assert bool(theirs.stderr) == (table != "-Ma")
    assert (mine.stdout, mine.stderr) == (theirs.stdout, theirs.stderr)
    assert quiet.stderr == b""  # as ss has it since 7.0


def test_the_first_answers_of_a_server_that_was_stopped_meanwhile(
    sstrace: Any, netns: Any, ss: Any, tmp_path: Path
) -> None:
    """It lost events, and whatever it has healed by the time of each answer: the answer is right."""
    pairs = netns.call(_pairs, 1000)
    service = Service(sstrace, netns, tmp_path, env={"SSTRACE_PAGES": "1"})

    def rows(output: bytes) -> set[tuple[bytes, ...]]:
        """Without the queues."""
        return {(*words[:1], *words[3:]) for words in map(bytes.split, output.splitlines())}

    try:
        service.process.send_signal(signal.SIGSTOP)
        for client, server in pairs[:300]:  # TIME-WAIT
            client.close()
            server.close()
        for client, _ in pairs[300:600]:  # FIN-WAIT-2 and CLOSE-WAIT
            client.close()
        pairs += netns.call(_pairs, 300)
        before = rows(ss("-Htan", netns=netns).stdout)
        service.process.send_signal(signal.SIGCONT)
        answers = [rows(service.ask("-Htan").stdout) for _ in range(5)]
        after = rows(ss("-Htan", netns=netns).stdout)
    finally:
        for client, server in pairs:
            client.close()
            server.close()
        summary = service.stop()
    lost = re.search(r"(\d+) lost", summary)
    assert lost is not None
    assert int(lost[1]) > 0
    assert len(before) > 2000
    for answer in answers:
        assert (before & after) - answer == set()
        assert answer - (before | after) == set()
