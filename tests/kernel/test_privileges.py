"""A server that has given up root: answers as before, and can do nothing else."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import ROOT, Netns, Program
from tracing import close_all, connected, listener, wait

from sstrace.errors import SstraceError
from sstrace.model import AF_INET, InetSocket, State, Table
from sstrace.server.broker import Broker, Dump, Held
from sstrace.sources import landlock, seccomp
from sstrace.sources.diag import Netlink
from sstrace.sources.privilege import BROKER, unused_user
from sstrace.wire import inet_diag

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

SHARED = {0, 65534}
"""Uids that others have, too: root, nobody."""
KEPT = {12, 39, 19, 2}
"""CAP_NET_ADMIN, CAP_BPF, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH: include/uapi/linux/capability.h."""


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


def status(process: int | str) -> dict[str, str]:
    text = Path(f"/proc/{process}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def bits(text: str) -> set[int]:
    return {bit for bit in range(64) if int(text, 16) >> bit & 1}


def _users(status_file: Path) -> set[str]:
    try:
        lines = status_file.read_text().splitlines()
    except OSError:
        return set()
    return {uid for line in lines if line.startswith("Uid:") for uid in line.split()[1:]}


class Server:
    def __init__(self, sstrace: Program, netns: Netns, directory: Path, *words: str, **options: Any) -> None:
        self.sstrace, self.netns = sstrace, netns
        self.path = directory / "live.sock"
        ready = directory / "ready"
        self.errors = directory / "errors"
        with self.errors.open("wb") as errors:
            self.process = sstrace.start(
                f"--serve={self.path}", "--ready-file", str(ready), *words, netns=netns, stderr=errors,
                stdout=subprocess.DEVNULL, **options,
            )  # fmt: skip
        wait("it serves", lambda: ready.exists() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.errors.read_text()

    def ask(self, *words: str, **options: Any) -> bytes:
        done = self.sstrace("--snapshot", "--from", f"live:{self.path}", *words, netns=self.netns, **options)
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        return bytes(done.stdout)

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.errors.read_text()
        return self.errors.read_text()


@pytest.fixture
def server(sstrace: Program, netns: Netns, tmp_path: Path) -> Iterator[Server]:
    made = Server(sstrace, netns, tmp_path)
    yield made
    made.stop()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def broker_of(server: Server, beside: int = 1) -> int:
    return kept_by(server.process.pid, beside)[0]


def kept_by(serving: int, beside: int = 1) -> list[int]:
    """The broker, and so many ``beside`` it, who takes the socket file away, once the child that made the ready file
    has ended.
    """
    wait("it has no other children", lambda: len(children(serving)) == 1 + beside)
    return sorted(children(serving), key=lambda child: not bits(status(child)["CapPrm"]))


def test_two_users_of_their_own_and_the_one_that_answers_clients_has_no_capability(server: Server) -> None:
    broker = broker_of(server)
    kept = {server.process.pid: set[int](), broker: KEPT}
    uids = {pid: status(pid)["Uid"].split()[0] for pid in kept}
    assert len(set(uids.values())) == 2
    for pid, capabilities in kept.items():
        assert int(uids[pid]) not in SHARED
        others = [path.parent.name for path in Path("/proc").glob("[0-9]*/status") if uids[pid] in _users(path)]
        assert others == [str(pid)], "nobody else is that user"
        for task in Path(f"/proc/{pid}/task").iterdir():
            said = status(f"{pid}/task/{task.name}")
            assert said["Uid"].split() == [uids[pid]] * 4
            assert said["Gid"].split()[0] not in map(str, SHARED)
            assert len(set(said["Gid"].split())) == 1
            assert said["Groups"] == ""
            assert bits(said["CapEff"]) == bits(said["CapPrm"]) == capabilities
            assert bits(said["CapInh"]) == bits(said["CapBnd"]) == bits(said["CapAmb"]) == set()
            assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
    assert len(BROKER) == len(KEPT)


@pytest.mark.parametrize(
    "words", ["-tlp", "-tanp", "-tanpe", "-tanpi", "-tanpT", "-xap", "-uanp", "-s", "-tane --cgroup"]
)
def test_it_answers_as_ss_does(server: Server, netns: Netns, ss: Program, words: str) -> None:
    netns.call(connected)
    netns.call(listener, "::1")
    other = subprocess.Popen(
        [*netns.prefix, "setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", sys.executable, "-c",
         "import socket; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout is not None
    other.stdout.readline()
    try:
        expected = ss(*words.split(), netns=netns).stdout
        answer = server.ask(*words.split())
    finally:
        other.communicate(b"\n")
    if words == "-s":
        assert answer.splitlines()[2:] == expected.splitlines()[2:]
        return
    if words == "-tlp":
        assert f'"{Path(sys.executable).resolve().name[:15]}",pid={other.pid},'.encode() in answer or (
            f"pid={other.pid},".encode() in answer
        )
    hide = re.compile(rb"(lastsnd|lastrcv|lastack|rcv_space|segs_\w+|app_limited|busy|delivery_rate)\S*| +")
    ours, theirs = (sorted(hide.sub(b" ", line) for line in text.splitlines()) for text in (answer, expected))
    ours, theirs = ([line for line in lines if b"live.sock" not in line] for lines in (ours, theirs))
    if words == "-xap":  # the question itself is a unix socket, and other processes have theirs
        stable = [line for line in theirs if b"127.0.0.1:" in line or b"[::1]:" in line]
        assert set(stable) <= set(ours)
    else:
        assert ours == theirs


@pytest.mark.parametrize("words", ["-tane", "-tanei --json", "-tan fwmark = 7", "-tn state listening fwmark = 7"])
def test_root_is_shown_what_only_administrators_see(server: Server, netns: Netns, ss: Program, words: str) -> None:
    for mark in (0, 7):
        netns.call(listener).setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK
    answer = server.ask(*words.split())
    if "--json" in words:
        assert [row["mark"] for row in map(json.loads, answer.splitlines()) if "mark" in row] == [7]
    else:
        assert answer == ss(*words.split(), netns=netns).stdout
        assert len(answer.splitlines()) == (2 if "=" in words else 3)


def test_it_closes_sockets_by_the_right_of_who_asks(server: Server, netns: Netns) -> None:
    port = netns.call(listener).getsockname()[1]
    assert b"LISTEN" in server.ask("-K", "-tln", "sport", "=", f":{port}")
    assert server.ask("-Htln", "sport", "=", f":{port}") == b""


def test_it_reads_no_module_of_its_own_any_more(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """They may lie in root's home, where a user without capabilities comes by no file."""
    private = tmp_path / "private"
    private.mkdir(0o700)
    for folder in (ROOT / "sstrace", ROOT / "bpf", *map(Path, msgspec.__path__)):
        shutil.copytree(folder, private / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    head = Program("env", f"PYTHONPATH={private}", sys.executable, "-P", "-m", "sstrace")
    server = Server(head, netns, tmp_path, "--metrics=127.0.0.1:9439", "--stats", "--record", "/dev/null")
    assert str(private) in Path(f"/proc/{server.process.pid}/maps").read_text()
    server.sstrace = sstrace
    netns.call(connected)
    for words in ("-tanpeimoOT --cgroup", "-xapem", "-uanpe", "-0ae", "-wae", "-tr", "-tan --json", "-tan held > 1ms",
                  "-t dport = :ssh or dst localhost", "-tan cgroup /", "-tlnpO", "-s -a", "-V", "-h"):  # fmt: skip
        server.ask(*words.split())
    metrics = "import urllib.request as u; print(len(u.urlopen('http://127.0.0.1:9439/metrics').read()))"
    assert int(netns.run(sys.executable, "-c", metrics).stdout) > 100
    server.stop()


def test_it_goes_on_following_the_kernel(server: Server, netns: Netns, ss: Program) -> None:
    for _ in range(3):
        listens = netns.call(listener)
        port = listens.getsockname()[1]
        assert f"127.0.0.1:{port}".encode() in server.ask("-tlnp")
        assert f"pid={os.getpid()},".encode() in server.ask("-tlnp", "sport", "=", f":{port}")
        assert server.ask("-Htlnp") .split() == ss("-Htlnp", netns=netns).stdout.split()  # fmt: skip
        listens.close()
        assert f"127.0.0.1:{port}".encode() not in server.ask("-tlnp")
    assert " 0 lost" in server.stop()


def test_its_metrics_too(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    server = Server(sstrace, netns, tmp_path, "--metrics=127.0.0.1:9437")
    wait("it listens", lambda: b":9437" in netns.run("ss", "-Htln").stdout)
    tasks = [task.name for task in Path(f"/proc/{server.process.pid}/task").iterdir()]
    assert len(tasks) > 1
    for task in tasks:
        said = status(f"{server.process.pid}/task/{task}")
        assert int(said["Uid"].split()[0]) not in SHARED
        assert len(set(said["Uid"].split())) == 1
        assert bits(said["CapPrm"]) == set()
        assert said["NoNewPrivs"] == "1"
    server.stop()


WAYS_OUT: dict[str, str] = {
    "write to /etc": "open('/etc/passwd', 'a')",
    "make a file in /etc": "open('/etc/sstrace-was-here', 'w')",
    "be root again": "os.setuid(0)",
    "be root again, really": "os.setresuid(0, 0, 0)",
    "be another user": "os.setresuid(1234, 1234, 1234)",
    "be in another group": "os.setgroups([0])",
    "own a file": "os.chown('/etc/passwd', 65534, 65534)",
    "kill": "os.kill(victim.pid, 9)",
    "bind a low port": "socket.create_server(('127.0.0.1', 80))",
    "enter a namespace": "setns(parent)",
    "mount": "mount()",
    "trace a process": "ptrace(victim.pid)",
    "read a process's memory": "read_memory(victim.pid)",
    "run a program": "os.execv('/bin/true', ['true'])",
    "load a BPF program": "bpf(5)",
    "change the firewall": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)",
    "change routes": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "have more capabilities": "privilege._capset(*[1 << 21 | 1 << 7] * 2)",
    "change the host's name": "socket.sethostname('other')",
    "leave the root": "os.chroot('/tmp')",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 6)",
    "a socket of another protocol": "socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)",
    "a socket of another family": "socket.socket(38, socket.SOCK_SEQPACKET)",
    "a packet socket": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "io_uring": "call((425, 425), 8, bytes(120))",
    "io_uring's requests": "call((426, 426), 0, 1, 0, 0, None, 0)",
    "a namespace of users by clone": "call((56, 220), 0x10000000 | 17, None, None, None, None)",
    "a namespace of mounts by clone": "call((56, 220), 0x00020000 | 17, None, None, None, None)",
    "clone3": "call((435, 435), bytes(88), 88)",
    "a namespace by unshare": "call((272, 97), 0x10000000)",
    "a file by its handle": "call((304, 265), -100, bytes(16), 0)",
    "another process's descriptor": "call((438, 438), 0, 0, 0)",
    "another process's pidfd": "call((434, 434), victim.pid, 0)",
    "a key": "call((250, 219), 0, 0, 0)",
    "page faults": "call((323, 282), 0)",
    "counters of the whole host": "call((298, 241), bytes(128), -1, 0, -1, 0)",
    "a module": "call((313, 273), 0, b'', 0)",
    "the clock": "call((227, 112), 0, bytes(16))",
    "the firewall by an option": "udp.setsockopt(0, 64, bytes(96))",
    "a mark": "udp.setsockopt(1, 36, 7)",
    "an address by an ioctl": "fcntl.ioctl(udp, 0x8916, bytes(40))",
    "a flag of an interface": "fcntl.ioctl(udp, 0x8914, bytes(40))",
    "a setting of the network": "os.open('/proc/sys/net/ipv4/ip_forward', os.O_WRONLY)",
    "a setting, emptied": "os.open('/proc/sys/net/ipv4/ip_forward', os.O_RDONLY | os.O_TRUNC)",
    "another process's memory, written": "os.open(f'/proc/{victim.pid}/mem', os.O_RDWR)",
    "a device": "os.open('/dev/mem', os.O_RDWR)",
    "another filter": "privilege._prctl(22, 2)",
    "be seen as another": "privilege._prctl(35, 8)",
}
WAYS_OUT |= {
    "read a secret": "os.open('/etc/shadow', os.O_RDONLY)",
    "read every process's memory": "os.open(f'/proc/{victim.pid}/mem', os.O_RDONLY)",
    "see every process's descriptors": "os.listdir(f'/proc/{victim.pid}/fd')",
    "close sockets": "destroy()",
    "see a mark": "marked()",
    "run a loaded BPF program": "bpf(10)",
    "make a BPF map": "bpf(0)",
    "a BPF program by its number": "bpf(13)",
    "attach a BPF program": "bpf(28)",
    "a new mount": "call((430, 430), b'tmpfs', 0)",
    "move a mount": "call((429, 429), -100, b'', -100, b'', 0)",
    "a program from memory": "call((322, 281), os.memfd_create('x'), b'', None, None, 0x1000)",
    "the kernel's log": "call((103, 116), 3, bytes(16), 16)",
    "shared memory": "call((29, 194), 0, 4096, 0o1600)",
    "a message queue": "call((240, 180), b'x', 0o102, 0o600, None)",
    "watch files": "call((300, 262), 0, 0)",
    "another's limits": "call((302, 261), victim.pid, 7, None, bytes(16))",
    "another's priority": "os.setpriority(os.PRIO_PROCESS, victim.pid, 5)",
    "a signal by a pidfd": "call((424, 424), 0, 9, None, 0)",
    "another personality": "call((135, 92), 0x0040000)",
    "a node": "os.mknod('/tmp/sstrace-was-here')",
    "a link": "os.symlink('/etc/passwd', '/tmp/sstrace-was-here')",
    "the clock, slowly": "call((159, 171), bytes(208))",
    "restart the machine": "call((169, 142), 0, 0, 0, None)",
}
REMAINS: dict[str, str] = {
    "reads what everybody may read of the system": "os.close(os.open('/etc/passwd', os.O_RDONLY))",
    "asks sock_diag as anybody may": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).close()",
    "opens TCP and UDP connections": "socket.socket().close()",
}
"""What it can do still: docs/serve.md says so."""
UNREACHED: dict[str, str] = {
    "read what everybody may read elsewhere": "os.open(elsewhere, os.O_RDONLY)",
    "make a file elsewhere": "os.open(elsewhere + '.new', os.O_WRONLY | os.O_CREAT | os.O_EXCL)",
    "list a directory elsewhere": "os.listdir(os.path.dirname(elsewhere))",
}
"""Where Landlock is."""
OF_BROKER: dict[str, str] = {
    "opens every file to read it": "os.close(os.open('/etc/shadow', os.O_RDONLY))",
    "reads every process's memory": "os.close(os.open(f'/proc/{victim.pid}/mem', os.O_RDONLY))",
    "sees every process's descriptors": "os.listdir(f'/proc/{victim.pid}/fd')",
    "asks sock_diag as an administrator": "(marked(), destroy())",
}
"""What the process that keeps capabilities can do."""
TRY = f"""
import ctypes, fcntl, os, socket, subprocess, sys
sys.path.insert(0, {str(ROOT)!r})
from sstrace.model import Table
from sstrace.sources import landlock, privilege, seccomp
from sstrace.wire import inet_diag
parent = os.getppid()
who, elsewhere = sys.argv[1:]
victim = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL)
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def setns(pid):
    check(libc.setns(os.open(f"/proc/{{pid}}/ns/mnt", os.O_RDONLY), 0))
def mount():
    check(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None))
def ptrace(pid):
    check(libc.ptrace(0x4206, pid, 0, 0))  # PTRACE_SEIZE: stops nobody
def read_memory(pid):
    check(libc.process_vm_readv(pid, None, 0, None, 0, 0))
def bpf(command):
    check(libc.syscall({{"x86_64": 321, "aarch64": 280}}[os.uname().machine], command, bytes(128), 128))
def call(numbers, *arguments):
    number = numbers[("x86_64", "aarch64").index(os.uname().machine)]
    result = libc.syscall(number, *arguments)
    if result == 0 and number in (56, 220):
        os._exit(0)  # the child
    check(result)
def diag(request):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as asked:
        asked.send(request)
        return inet_diag.decode(asked.recv(65536), Table.TCP)
def listening():
    return diag(inet_diag.dump_request(Table.TCP, socket.AF_INET, 1 << 10)).rows
def destroy():
    error = diag(inet_diag.destroy_request(listening()[0])).error
    if error:
        raise OSError(error, os.strerror(error))
def marked():
    if not listening()[0].extras.mark:
        raise PermissionError(1, "it has no mark")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listens = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
for one in listens:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 7)
user = privilege.service_user()
if who == "server":
    privilege.shed(user, reach=privilege.Reach(landlock.SYSTEM, []))
elif who == "broker":
    privilege.shed(user, privilege.BROKER, seccomp.BROKER)
else:
    privilege.shed(None, (), seccomp.REMOVER, privilege.Reach([], [os.path.dirname(elsewhere)]))
for name, attempt in { {**WAYS_OUT, **REMAINS, **UNREACHED, **OF_BROKER}!r}.items():
    try:
        eval(attempt)
    except OSError as error:
        print(name, error.errno, sep=":", flush=True)
    else:
        print(name, "worked", sep=":", flush=True)
victim.returncode = 0
"""


def attempts(netns: Netns, who: str, elsewhere: Path) -> dict[str, str]:
    """What became of every attempt, from within a process that has shed its privileges as the server, the broker or the
    remover does: an errno, or that it worked.
    """
    process = subprocess.Popen(
        [*netns.prefix, sys.executable, "-c", TRY, who, str(elsewhere)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    os.killpg(process.pid, signal.SIGKILL)  # the victim, who was not harmed
    assert process.returncode == 0
    assert not Path("/etc/sstrace-was-here").exists()
    assert not os.path.lexists("/tmp/sstrace-was-here")
    return dict(line.split(":") for line in out.splitlines())


REFUSED = {"1", "13", "38"}
"""EPERM, EACCES; ENOSYS where libc falls back."""


def test_there_is_no_way_out(netns: Netns, common_path: Path) -> None:
    elsewhere = common_path / "file"
    elsewhere.touch()
    elsewhere.chmod(0o666)
    common_path.chmod(0o777)
    found = attempts(netns, "server", elsewhere)
    tried = {**WAYS_OUT, **REMAINS, **UNREACHED}
    assert found.keys() >= tried.keys()
    open_ways = {name for name in tried if found[name] not in REFUSED}
    assert open_ways == {*REMAINS, *(() if landlock.version() else UNREACHED)}
    told = (ROOT / "docs/serve.md").read_text()
    assert [name for name in (*REMAINS, *OF_BROKER) if name not in told] == []
    assert f"tries {len(tried)} ways out" in told


def test_what_the_broker_can_do_is_what_is_told(netns: Netns, common_path: Path) -> None:
    (common_path / "file").touch()
    found = attempts(netns, "broker", common_path / "file")
    # To look is all that it can: files, memory, descriptors, marks.
    reads = {
        "read a secret", "read every process's memory", "see every process's descriptors", "see a mark",
        "close sockets",
        "read what everybody may read elsewhere", "list a directory elsewhere",
        "reads what everybody may read of the system", "asks sock_diag as anybody may",
    }  # fmt: skip
    tried = {**WAYS_OUT, **REMAINS, **UNREACHED, **OF_BROKER}
    assert {name for name in tried if found[name] not in REFUSED} == reads | {*OF_BROKER}


def test_who_takes_the_socket_file_away_can_do_nothing_else(netns: Netns, common_path: Path) -> None:
    (common_path / "file").touch()
    found = attempts(netns, "remover", common_path / "file")
    worked = {name for name, outcome in found.items() if outcome not in REFUSED}
    if landlock.version():
        assert worked == {"read what everybody may read elsewhere"}, "it is the directory of the socket"
    else:
        assert worked >= {"read a secret"}


def test_what_a_killed_server_leaves_is_roots(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Its uid is another's one day, and whose directory /run/sstrace is, clients trust."""
    ready = tmp_path / "ready"
    hidden = Program("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run && exec "$@"', "sh", *sstrace.head)
    server = hidden.start("--serve", "--ready-file", str(ready), netns=netns, stderr=subprocess.DEVNULL)
    wait("it serves", lambda: ready.exists() or server.poll() is not None, 60)
    assert int(status(server.pid)["Uid"].split()[0]) not in SHARED
    with open(f"/proc/{server.pid}/ns/mnt", "rb") as mounts:
        inside = ("nsenter", f"--mount=/proc/{os.getpid()}/fd/{mounts.fileno()}")
        server.kill()
        server.communicate()
        found = subprocess.run([*inside, "stat", "-c", "%u %a %n", "/run/sstrace", "/run/sstrace/live.sock"],
                               capture_output=True, check=True, text=True)  # fmt: skip
        assert found.stdout.splitlines() == ["0 755 /run/sstrace", "0 600 /run/sstrace/live.sock"]
        done = Program(*inside, *sstrace.head)("--snapshot", "--from", "live", "-tln", netns=netns)
        assert (done.returncode, done.stdout) == (4, b"")
        assert done.stderr.decode() == (
            "sstrace: no sstrace serves at /run/sstrace/live.sock: start one with sstrace --serve\n"
        )
        again = Program(*inside, *sstrace.head)("--serve", "--duration", "100ms", netns=netns)
        assert again.returncode == 0, again.stderr
        left = subprocess.run([*inside, "ls", "-A", "/run/sstrace"], capture_output=True, check=True)
        assert left.stdout == b""


@pytest.mark.parametrize("replaced", [False, True])
def test_it_takes_its_socket_file_away_and_no_other(
    sstrace: Program, netns: Netns, tmp_path: Path, replaced: bool
) -> None:
    """Out of a directory in which it may not: it is root's."""
    server = Server(sstrace, netns, tmp_path)
    assert int(status(server.process.pid)["Uid"].split()[0]) not in SHARED
    assert [path.name for path in tmp_path.glob("live.sock*")] == ["live.sock"]
    if replaced:
        server.path.unlink()
        with socket.socket(socket.AF_UNIX) as another:
            another.bind(str(server.path))
    server.stop()
    assert server.path.exists() == replaced


def test_a_client_without_privileges_sees_what_ss_shows_it(
    sstrace: Program, netns: Netns, ss: Program, tmp_path: Path
) -> None:
    tmp_path.chmod(0o755)
    for directory in tmp_path.parents:
        if directory.stat().st_uid == os.getuid() and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    server = Server(sstrace, netns, tmp_path)
    server.path.chmod(0o666)
    user = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")
    netns.call(connected)  # root's
    theirs = subprocess.Popen(
        [*netns.prefix, *user, sys.executable, "-c",
         "import socket; s = socket.create_server(('127.0.0.1', 0)); print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert theirs.stdout is not None
    theirs.stdout.readline()
    try:
        for words in (["-Htlnp"], ["-Htanp"], ["-HtlnpT"], ["-HtlnpeO"], ["-Htlnm"]):
            expected = Program(*user, *ss.head)(*words, netns=netns)
            answer = Program(*user, *sstrace.head)(
                "--snapshot", "--from", f"live:{server.path}", *words, netns=netns, env={"HOME": "/"}
            )
            assert answer.stderr == b""
            assert sorted(answer.stdout.splitlines()) == sorted(expected.stdout.splitlines())
            if "p" in words[0]:
                assert answer.stdout.count(f"pid={theirs.pid},".encode()) == 1
                assert f"pid={os.getpid()},".encode() not in answer.stdout
    finally:
        theirs.communicate(b"\n")
        server.stop()


def test_root_may_stay_root(sstrace: Program, netns: Netns, tmp_path: Path, ss: Program) -> None:
    server = Server(sstrace, netns, tmp_path, "--keep-privileges")
    netns.call(listener)
    assert status(server.process.pid)["Uid"].split() == ["0"] * 4
    wait("nobody keeps anything for it", lambda: not children(server.process.pid))
    assert server.ask("-Htlnp").split() == ss("-Htlnp", netns=netns).stdout.split()
    server.stop()
    assert not server.path.exists()


def test_started_by_somebody_else_with_capabilities(
    sstrace: Program, netns: Netns, common_path: Path, ss: Program
) -> None:
    """As the systemd unit starts it: an ordinary user, ambient capabilities."""
    unit = (ROOT / "packaging" / "sstrace.service").read_text()
    given = re.search(r"^AmbientCapabilities=(.*)$", unit, re.MULTILINE)
    assert given
    # CAP_IPC_LOCK stands here for LimitMEMLOCK=infinity, which takes more than root to set in some containers.
    names = [*(name.removeprefix("CAP_").lower() for name in given[1].split()), "ipc_lock"]
    caps = ",".join(["-all", *(f"+{name}" for name in names)])
    place = common_path / "place"
    place.mkdir()
    os.chown(place, 4321, 4321)
    user = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups", f"--inh-caps={caps}",
            f"--ambient-caps={caps}", f"--bounding-set={caps}")  # fmt: skip
    started = Program(*user, *sstrace.head)
    server = Server(started, netns, place, env={"HOME": str(place)})
    # Who asks is that user: a server of somebody else's, at a place that root did not make for it, root does not trust.
    refused = sstrace("--snapshot", "--from", f"live:{server.path}", "-Htlnp", netns=netns)
    assert (refused.returncode, b"is served by user 4321" in refused.stderr) == (1, True)
    plain = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups")
    server.sstrace = Program(*plain, *sstrace.head)
    broker = broker_of(server, beside=0)
    assert [bits(status(pid)["CapPrm"]) for pid in (server.process.pid, broker)] == [set(), KEPT]
    assert status(server.process.pid)["Uid"].split() == ["4321"] * 4
    netns.call(listener)
    expected = Program(*plain, *ss.head)("-Htlnp", netns=netns).stdout
    assert server.ask("-Htlnp", env={"HOME": str(place)}).split() == expected.split()
    assert " 0 lost" in server.stop()
    assert not server.path.exists()


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_list_has_what_the_server_calls(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Recorded: from where it has given up root, every system call of a server and its children is one of the list; and
    so of those beside it.
    """
    trace = tmp_path / "trace"
    traced = Program("strace", "-f", "-qq", "-o", str(trace), *sstrace.head)
    server = Server(traced, netns, tmp_path, "--metrics=127.0.0.1:9438", "--stats")
    server.sstrace = sstrace
    netns.call(connected)
    for words in ("-tlp", "-tan", "-tanpe", "-tanpi", "-tanpT", "-tanpm", "-xap", "-uanp", "-0a", "-wa", "-tr", "-s",
                  "-tane --cgroup", "-tan --json"):  # fmt: skip
        server.ask(*words.split())
    metrics = "import urllib.request as u; print(len(u.urlopen('http://127.0.0.1:9438/metrics').read()))"
    assert int(netns.run(sys.executable, "-c", metrics).stdout) > 100
    (serving,) = children(server.process.pid)
    kept = dict(zip(map(str, kept_by(serving)), ("broker", "remover"), strict=True))
    os.kill(serving, signal.SIGINT)
    assert server.process.wait(60) == 0
    lists = {"server": seccomp.SERVER, "broker": seccomp.BROKER, "remover": seccomp.REMOVER}
    called: dict[str, set[str]] = {who: set() for who in lists}
    refused, shed = set(), set()
    for line in trace.read_text(errors="replace").splitlines():
        pid, _, rest = line.partition(" ")
        if (found := re.match(r" *(?:<\.\.\. )?(\w+)[( ]", rest)) is None:
            continue
        who = kept.get(pid, "server")
        if pid in kept and (made := re.search(r"(?:fork|clone)\S* .*= (\d+)$|(?:fork|clone)\(.*= (\d+)$", rest)):
            kept[made[1] or made[2]] = who
        if "PR_SET_SECCOMP" in rest:
            shed.add(who)
        elif who in shed:
            called[who].add(found[1])
            if "= -1 EPERM" in rest:
                refused.add(rest)
    assert shed == lists.keys()
    for who, calls in lists.items():
        assert called[who] - {*calls.allowed, *calls.chosen, "clone3", "prctl"} == set()
    # A bounding set that is empty already; the name service asks for addresses first, and does without.
    assert [line for line in refused if not re.search(r"PR_CAPBSET_DROP|NETLINK_ROUTE|/proc/\d+", line)] == []


@pytest.fixture
def broker(netns: Netns, tmp_path: Path) -> Iterator[Broker]:
    def made() -> Broker:
        return Broker({"HOME": str(tmp_path)}, unused_user())

    found = netns.call(made)
    found.wait()
    yield found
    found.close()


def listed(diag: Netlink) -> list[InetSocket]:
    """The listeners."""
    rows = []
    diag.send(inet_diag.dump_request(Table.TCP, AF_INET, 1 << State.LISTEN))
    for datagram in diag.ahead():
        batch = inet_diag.decode(datagram, Table.TCP)
        rows += batch.rows
        if batch.done:
            break
    return rows


def test_the_broker_shows_what_administrators_see_and_who_holds_what(broker: Broker, netns: Netns) -> None:
    listens = netns.call(listener)
    listens.setsockopt(socket.SOL_SOCKET, 36, 7)  # SO_MARK
    inode = os.fstat(listens.fileno()).st_ino
    with broker.diag() as diag:
        rows = listed(diag)
        exact = [inet_diag.exact_request(row) for row in rows] * 300
        again = [inet_diag.decode(datagram, Table.TCP).rows for datagram in diag.answers(exact)]
    assert [(row.ino, row.extras and row.extras.mark) for row in rows] == [(inode, 7)]
    assert [[row.ino for row in found] for found in again] == [[inode]] * 300
    mine = [(owner.pid, owner.fd) for owner in broker.look([inode]).owners[inode]]
    assert mine == [(os.getpid(), listens.fileno())]
    for question in (Held(), Held(threads=True), Held(contexts=2)):
        assert (os.getpid(), listens.fileno()) in {(owner.pid, owner.fd) for owner in broker.held(question)[inode]}
    for question in (Held(user=(4321, 4321)), Held(threads=True, user=(4321, 4321))):
        assert inode not in broker.held(question)


def test_the_broker_answers_nothing_else(broker: Broker, netns: Netns) -> None:
    """What is no question has no answer, and does not harm whoever asks next."""
    listens = netns.call(listener)
    with broker.diag() as diag:
        (row,) = listed(diag)
    kill = inet_diag.destroy_request(row)
    for request in (kill, inet_diag.exact_request(row) + kill, kill[:20], b"", b"\xff" * 64):
        with broker.ask(Dump([request])) as answer:
            assert answer.recv(1 << 16) == b"", request
    for data in (b"x", b"\xc1", b"\0" * 1000):
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its, socket.socket(fileno=os.dup(broker.fileno())) as channel:
            socket.send_fds(channel, [data], [its.fileno()])
        with ours:
            assert ours.recv(1 << 16) == b""
    with pytest.raises(SstraceError, match="too long"):
        broker.ask(Dump([bytes(1 << 20)]))
    assert os.fstat(listens.fileno()).st_ino in broker.held(Held())
    assert netns.run("ss", "-Htln").stdout.startswith(b"LISTEN")


def test_a_server_whose_broker_dies_says_so_and_ends(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    server = Server(sstrace, netns, tmp_path)
    keeps = broker_of(server)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(keeps, number)  # as a terminal or a service manager does, to all
    assert server.ask("-Htane") is not None
    os.kill(keeps, signal.SIGKILL)
    assert server.process.wait(30) == 1
    assert server.errors.read_text() == (
        "sstrace: the process that keeps what a server needs of root has died: start the server again\n"
    )


def test_the_broker_ends_with_the_server(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    server = Server(sstrace, netns, tmp_path)
    keeps = broker_of(server)
    server.process.kill()
    server.process.wait()
    wait("it has ended", lambda: not Path(f"/proc/{keeps}").exists())


CHANGES = re.compile(
    r"\b(?P<call>open|openat|creat|rename\w*|unlink\w*|mkdir\w*|rmdir|link\w*|symlink\w*|f?chmod\w*|f?chown\w*|lchown|"
    r"mknod\w*|truncate|utime\w*|bind)\((?P<rest>.*)"
)
BY_PATH = re.compile(r'(AT_FDCWD(<[^>]*>)?, |\{sa_family=AF_UNIX, sun_path=|^)"')


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize("rights", [[], ["--keep-privileges"]], ids=["gives up root", "stays root"])
def test_root_writes_by_descriptors_of_directories_alone(
    sstrace: Program, netns: Netns, common_path: Path, rights: list[str]
) -> None:
    """What a server does, as the kernel sees it: no path is opened for writing, renamed, given away or removed."""
    passwd, folder, trace = common_path / "passwd", common_path / "recordings", common_path / "trace"
    passwd.write_text(Path("/etc/passwd").read_text() + "sstrace:x:4321:4321::/:/bin/false\n")
    folder.mkdir()
    os.chown(folder, 4321, 4321)
    there = f'mount --bind {passwd} /etc/passwd && exec "$@"'
    calls = (
        "open,openat,creat,/^rename,/^unlink,/mkdir,rmdir,/^link,/^symlink,/chmod,/chown,/mknod,truncate,/utime,bind"
    )
    traced = Program("unshare", "--mount", "sh", "-c", there, "sh", "strace", "-f", "-o", str(trace), "-e",
                     f"trace={calls}", *sstrace.head)  # fmt: skip
    done = traced(
        f"--serve={common_path / 'live.sock'}", "--record", str(folder / "rec.ndjson"), "--rotate", "200ms",
        "--keep", "2", "--ready-file", str(common_path / "ready"), "--duration", "3s", *rights,
        netns=netns, env={"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list(folder.iterdir())) == 2
    assert (common_path / "ready").exists()
    changes = [found for line in trace.read_text().splitlines() if (found := CHANGES.search(line))]
    assert {found["call"] for found in changes} >= {"openat", "renameat", "unlinkat"}, "it sees them"
    by_path = set()
    for found in changes:
        rest = found["rest"]
        opens = found["call"] in ("open", "openat", "creat")
        if (opens and not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", rest)) or not BY_PATH.search(rest):
            continue
        path = rest.split('"')[1]
        if not (opens and re.match(r"/dev/null$|/proc/self/fd/\d+$", path)):
            by_path.add((found["call"], path))
    # The socket, which lies where root alone can put one.
    assert {path for _, path in by_path} <= {str(common_path / "live.sock")}, by_path
    rights_left = {file.stat().st_uid for file in folder.iterdir()}
    assert rights_left == ({0} if rights else {4321})


def test_a_service_that_gave_its_recording_away_does_not_lead_root_astray(
    sstrace: Program, netns: Netns, tmp_path: Path
) -> None:
    """The directory is the service user's, and its file a link to root's."""
    folder, target = tmp_path / "svc", tmp_path / "precious"
    target.write_text("precious")
    folder.mkdir()
    (folder / "day.ndjson").symlink_to(target)
    for path in (folder, folder / "day.ndjson"):
        os.chown(path, 4321, 4321, follow_symlinks=False)
    for words in ([], ["--keep-privileges"], ["--keep-privileges", "--rotate", "1M"]):
        done = sstrace(
            f"--serve={tmp_path / 'live.sock'}", "--record", str(folder / "day.ndjson"), "--duration", "1s", *words,
            netns=netns,
        )  # fmt: skip
        if "--rotate" not in words:  # else the link is renamed
            assert done.returncode != 0
            assert len(done.stderr.splitlines()) == 1
        assert (target.read_text(), target.stat().st_uid) == ("precious", 0)


def test_systemd_is_told(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        (tmp_path / "notify").chmod(0o777)
        for directory in [tmp_path, *tmp_path.parents]:
            if directory != Path("/") and directory.stat().st_uid == os.getuid():
                directory.chmod(directory.stat().st_mode | 0o055)
        manager.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
        server = Server(sstrace, netns, tmp_path, env=env)
        assert re.fullmatch(rb"READY=1\nSTATUS=serving \d+ sockets? at \S+", manager.recv(1000))
        assert manager.recv(1000) == b"WATCHDOG=1"
        assert manager.recv(1000) == b"WATCHDOG=1"
        server.stop()
        last = [manager.recv(1000)]
        while last[-1] != b"STOPPING=1":
            last.append(manager.recv(1000))
        assert set(last) <= {b"WATCHDOG=1", b"STOPPING=1"}


@pytest.mark.parametrize(
    ("words", "doing"),
    [("--json", b"tracing"), ("--verify", b"verifying"), ("--stats", b"counting what happens to")],
)
def test_systemd_is_told_by_whatever_follows_events(
    sstrace: Program, netns: Netns, tmp_path: Path, words: str, doing: bytes
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        done = sstrace(words, "--duration", "100ms", netns=netns, env=env)
        assert done.returncode == 0, done.stderr
        manager.setblocking(False)
        assert re.fullmatch(rb"READY=1\nSTATUS=%s \d+ sockets?" % doing, manager.recv(1000))
        assert manager.recv(1000) == b"STOPPING=1"
