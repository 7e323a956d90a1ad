"""The other places that --snapshot reads from: files of /proc under ss's variables, TCPDIAG_FILE, -D; and -E and -K.

Over the same zoo as test_parity, each beside ss.
"""

import fcntl
import os
import random
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import dumps
import parity
import pytest
from conftest import Netns, Program, unmet

pytestmark = [pytest.mark.root, pytest.mark.ss]


@pytest.fixture(scope="module")
def space() -> Iterator[Netns]:
    if os.geteuid():
        unmet("needs root")
    space = Netns()
    yield space
    space.close()


@pytest.fixture(scope="module")
def keeper(space: Netns) -> Iterator[parity.ZooKeeper]:
    keeper = parity.ZooKeeper(space.prefix)
    yield keeper
    keeper.close()


@pytest.fixture(scope="module")
def bench(space: Netns, ss: Program) -> Iterator[parity.Bench]:
    bench = parity.Bench(space.prefix, ss.head[-1])
    yield bench
    bench.close()


FROM_PROC = [
    ({"PROC_ROOT": "/proc"}, "-a"),
    ({"PROC_ROOT": "/proc"}, "-an"),
    ({"PROC_ROOT": "/proc"}, "-ane"),
    ({"PROC_ROOT": "/proc"}, "-tano"),
    ({"PROC_ROOT": "/proc"}, "-tanie"),
    ({"PROC_ROOT": "/proc"}, "-tanimeO"),
    ({"PROC_ROOT": "/proc"}, "-tanp"),
    ({"PROC_ROOT": "/proc"}, "-uane"),
    ({"PROC_ROOT": "/proc"}, "-wane"),
    ({"PROC_ROOT": "/proc"}, "-4tan"),
    ({"PROC_ROOT": "/proc"}, "-6tan"),
    ({"PROC_ROOT": "/proc"}, "-tan state listening"),
    ({"PROC_ROOT": "/proc"}, "-tan state big"),
    ({"PROC_ROOT": "/proc"}, "-tan src 127.0.0.1"),
    ({"PROC_ROOT": "/proc"}, "-xa"),
    ({"PROC_ROOT": "/proc"}, "-xaem"),
    ({"PROC_ROOT": "/proc"}, "-xl"),
    ({"PROC_ROOT": "/proc"}, "-xap"),
    ({"PROC_ROOT": "/proc"}, "-xa src *a*"),
    ({"PROC_ROOT": "/proc"}, "-A unix_dgram -a"),
    ({"PROC_ROOT": "/proc"}, "-0ae"),
    ({"PROC_ROOT": "/proc"}, "-0anemb"),
    ({"PROC_ROOT": "/proc"}, "-A packet_raw -a"),
    ({"PROC_ROOT": "/proc"}, "-f netlink -ae"),
    ({"PROC_ROOT": "/proc"}, "-M -a"),
    ({"PROC_ROOT": "/proc"}, "-S -a"),
    ({"PROC_ROOT": "/proc"}, "-d -a"),
    ({"PROC_ROOT": "/proc"}, "-s"),
    ({"PROC_ROOT": "/nonexistent"}, "-ap"),
    ({"PROC_ROOT": "/nonexistent"}, "-s"),
    ({"PROC_ROOT": ""}, "-anp"),
    ({"PROC_ROOT": ""}, "-s"),
    ({"PROC_ROOT": "/nonexistent"}, "-tan cgroup /nonexistent"),
    ({"PROC_ROOT": "/proc"}, "-a sport = :0"),
    ({"PROC_ROOT": "/proc"}, "-a not ( sport >= 1024 )"),
    ({"PROC_ROOT": "/proc"}, "-A unix_seqpacket -a"),
    ({"PROC_NET_SOCKSTAT": "/"}, "-s"),
    ({"PROC_NET_SOCKSTAT6": "/"}, "-s"),
    ({"PROC_NET_SNMP": "/"}, "-s"),
    ({"PROC_NET_TCP": "/"}, "-tan"),
    ({"PROC_NET_TCP": "/dev/null"}, "-tan"),
    ({"PROC_NET_TCP": "/proc/net/tcp"}, "-tan"),
    ({"PROC_NET_TCP6": "/proc/net/tcp6"}, "-tan"),
    ({"PROC_NET_TCP": "/proc/net/tcp", "PROC_NET_TCP6": "/dev/null"}, "-tan"),
    ({"PROC_NET_TCP": "/nonexistent"}, "-tan"),
    ({"PROC_NET_TCP": ""}, "-tan"),
    ({"PROC_NET_UDP": "/proc/net/udp"}, "-uanp"),
    ({"PROC_NET_RAW": "/proc/net/raw"}, "-wa"),
    ({"PROC_NET_UNIX": "/proc/net/unix"}, "-xan"),
    ({"PROC_NET_UNIX": "/proc/net/tcp"}, "-xan"),
    ({"PROC_NET_PACKET": "/proc/net/packet"}, "-0an"),
    ({"PROC_NET_NETLINK": "/proc/net/netlink"}, "-f netlink -an"),
    ({"PROC_NET_TCP": "/proc/net/udp"}, "-tan"),
    ({"PROC_NET_TCP": "/proc/net/unix"}, "-tan"),
    ({"PROC_NET_TCP": "/proc/net/sockstat"}, "-tan"),
    ({"PROC_NET_MPTCP": "x"}, "-Ma"),
    ({"PROC_NET_SOCKSTAT": "/nonexistent"}, "-s"),
    ({"PROC_NET_SOCKSTAT6": "/nonexistent"}, "-s"),
    ({"PROC_NET_SNMP": "/nonexistent"}, "-s"),
    ({"PROC_IP_LOCAL_PORT_RANGE": "/nonexistent"}, "-ta"),
    ({"COLUMNS": "60"}, "-ta"),
    ({"COLUMNS": "junk"}, "-ta"),
]


@pytest.mark.parametrize(("env", "words"), FROM_PROC, ids=str)
def test_files_of_proc(bench: parity.Bench, keeper: parity.ZooKeeper, env: dict[str, str], words: str) -> None:
    keeper.keep_fresh()
    outcome = bench.compare(shlex.split(words), env=env)
    assert outcome.same, outcome.why


@pytest.mark.parametrize("name", ["tcp", "udp", "raw", "unix", "packet", "netlink", "snmp", "sockstat"])
@pytest.mark.parametrize("cut", [0, 1, 2, 20])
def test_files_that_end_early(
    bench: parity.Bench, keeper: parity.ZooKeeper, space: Netns, tmp_path: Path, *, name: str, cut: int
) -> None:
    """A last line without an end is a row to some tables, and the end of both families to others."""
    keeper.keep_fresh()
    text = space.run("cat", f"/proc/net/{name}").stdout
    path = tmp_path / name
    path.write_bytes(text[: len(text) - cut])
    outcome = bench.compare(["-s"] if name[0] == "s" else ["-an"], env={f"PROC_NET_{name.upper()}": str(path)})
    assert outcome.same, outcome.why


# ------------------------------------------------------------------------------------------------------- TCPDIAG_FILE

WIDTHS = [None, None, 1, 5, 17, 40, 60, 79, 80, 81, 120, 200, 300]
FLAGS = ["-H", "-n", "-e", "-o", "-i", "-m", "-O", "-p", "--tos", "--inet-sockopt", "--cgroup"]
FILTERS = [
    [],
    ["sport", "=", ":22"],
    ["dst", "127.0.0.1"],
    ["(", "src", "10.0.0.0/8", "or", "dport", "gt", ":1000", ")"],
    ["fwmark", "=", "0x3"],
    ["dev", "lo"],
    ["state", "listening"],
]


@pytest.mark.parametrize("seed", range(60))
def test_recorded_dumps(bench: parity.Bench, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "dump"
    path.write_bytes(dumps.random_dump(rng, rng.choice([0, 1, 2, 5, 30]), rich=rng.random() < 0.8, md5=seed % 3 == 0))
    words = [rng.choice(["-ta", "-A tcp -a", "-tua"]), *rng.sample(FLAGS, rng.randint(0, 6)), *rng.choice(FILTERS)]
    outcome = bench.compare(
        shlex.split(" ".join(f"'{word}'" if word in "()" else word for word in words)),
        env={"TCPDIAG_FILE": str(path)},
        width=rng.choice(WIDTHS),
    )
    assert outcome.same, outcome.why


def broken_dumps() -> dict[str, bytes]:
    """Dumps that end in every other way than with DONE."""
    row = dumps.message(sport=22, src=b"\x7f\0\0\1")
    refusal = b"\x24\0\0\0\2\0\0\0" + bytes(8) + b"\xf3\xff\xff\xff" + bytes(16)  # NLMSG_ERROR, EACCES
    return {
        "empty": b"",
        "no DONE": row + row,
        "cut header": row + row[:7],
        "cut message": row + row[:50],
        "error": row + refusal,
        "DONE in the middle": row + dumps.DONE + row,
    }


@pytest.mark.parametrize("name", broken_dumps())
def test_broken_dumps(bench: parity.Bench, tmp_path: Path, name: str) -> None:
    path = tmp_path / "dump"
    path.write_bytes(broken_dumps()[name])
    outcome = bench.compare(["-tan"], env={"TCPDIAG_FILE": str(path)})
    assert outcome.same, outcome.why


def test_a_dump_that_is_not_there(bench: parity.Bench) -> None:
    for path in ("/nonexistent", "", "/"):
        outcome = bench.compare(["-tan"], env={"TCPDIAG_FILE": path})
        assert outcome.same, outcome.why


def test_megabytes_change_width_at_the_same_row(bench: parity.Bench, tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "dump"
    with path.open("wb") as file:
        for at in range(60_000):
            late = at > 58_000
            file.write(
                dumps.message(
                    sport=rng.choice([1, 22, 333, 4444, 55555]),
                    dport=rng.choice([1, 22, 333, 4444, 55555]),
                    src=b"\xc8\xc8\xc8\xc8" if late else b"\x0a\0\0\1",
                    dst=bytes([10, 0, 0, rng.randint(0, 255)]),
                    inode=at * 1000 if late else at,
                    cookie=at,
                    attributes=dumps.md5(rng) if at % 1000 == 7 else b"",
                )
            )
        file.write(dumps.DONE)
    for words in ("-tane", "-Htane", "-tan", "-A tcp,udp -an -e", "-tanei"):
        outcome = bench.compare(words.split(), env={"TCPDIAG_FILE": str(path)})
        assert outcome.same, outcome.why


# ------------------------------------------------------------------------------------------------------------- -D, -E


def test_raw_dumps_are_the_kernels(space: Netns, ss: Program, keeper: parity.ZooKeeper, tmp_path: Path) -> None:
    """-D: the same messages, but for our own two sockets' numbers and what moves by itself."""
    keeper.keep_fresh()
    for words in ("-ta", "-4ta", "-6ta", "-tl", "-tai", "-ta src 127.0.0.1"):
        dumped = []
        for number, program in enumerate(([ss.head[-1]], [sys.executable, "-m", "sstrace", "--snapshot"])):
            path = tmp_path / f"dump{number}"
            subprocess.run([*space.prefix, *program, "-D", str(path), *words.split()], check=True, timeout=30)
            data = path.read_bytes()
            messages = []
            at = 0
            while at < len(data):
                length = int.from_bytes(data[at : at + 4], sys.byteorder)
                # type, state, ports, addresses: what stands still
                message = data[at : at + length]
                messages.append((length, message[4:6], message[16:18], message[20:56]))
                at += length + 3 & ~3
            dumped.append(messages)
        assert dumped[0] == dumped[1], words


OURS = [sys.executable, "-m", "sstrace", "--snapshot"]
CLOSE_SOME = """
import socket
for number, port in enumerate((22, 4444, 514, 40000)):
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
            one = socket.socket(family, kind)
            one.bind((address, port + number))
            if kind == socket.SOCK_STREAM:
                one.listen(3)
            one.close()
"""


class Follower:
    """A program on a terminal of its own that follows destroyed sockets."""

    def __init__(self, argv: Sequence[str], width: int) -> None:
        self._master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.process = subprocess.Popen(argv, stdout=slave)
        os.close(slave)
        self.out = b""

    def read(self, lines: int) -> None:
        """Wait until so many lines have come."""
        deadline = time.monotonic() + 20
        while self.out.count(b"\n") < lines:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"only {self.out!r} came"
            self.out += os.read(self._master, 65536)

    def close(self) -> int:
        """Interrupt it, as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(10)
        os.close(self._master)
        return code


@pytest.mark.parametrize(
    ("words", "lines"), [("-E", 17), ("-Etn", 9), ("-E6", 9), ("-Eu", 9), ("-EHu4", 4), ("-Ete", 9)]
)
def test_destroyed_sockets(netns: Netns, ss: Program, words: str, lines: int) -> None:
    followers = [Follower([*netns.prefix, *program, words], 100) for program in ([ss.head[-1]], OURS)]
    try:
        # Both listen once their sockets are members of a group: the fourth column of /proc/net/netlink.
        deadline = time.monotonic() + 20
        listening = 0
        while listening < 2:
            assert time.monotonic() < deadline
            table = subprocess.run(
                [*netns.prefix, "cat", "/proc/net/netlink"], capture_output=True, text=True, check=True
            )
            rows = [line.split() for line in table.stdout.splitlines()[1:]]
            listening = len({row[2] for row in rows if row[1] == "4" and row[2] != "0" and int(row[3], 16)})
        subprocess.run([*netns.prefix, sys.executable, "-c", CLOSE_SOME], check=True, timeout=30)
        for follower in followers:
            follower.read(lines)
    finally:
        codes = [follower.close() for follower in followers]
    assert followers[0].out == followers[1].out
    assert codes[1] == codes[0]  # ended by the signal


def test_killed_sockets(netns: Netns, ss: Program) -> None:
    """-K: what it shows, what it leaves, and what it says to those who may not."""
    hold = "import socket, sys\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\nprint('up', flush=True)\n"
    hold += "input()"
    drop = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    for who in ([], ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]):
        seen = []
        for port, program in ((7001, [ss.head[-1]]), (7002, OURS)):
            if who and program is OURS:
                # The checkout may not be readable for nobody: drop privileges inside.
                code = f"import sstrace.cli, sstrace.modes.snapshot; {drop}; sys.exit(sstrace.cli.main())"
                argv = [sys.executable, "-c", code, "--snapshot"]
            else:
                argv = [*who, *program]
            with subprocess.Popen(
                [*netns.prefix, sys.executable, "-c", hold, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            ) as holder:
                assert holder.stdout is not None
                assert holder.stdout.readline() == b"up\n"
                done = netns.run(*argv, "-Ktlne", "sport", "=", str(port), check=False)
                left = netns.run("ss", "-Htln").stdout
                holder.communicate(b"\n")
            shown = re.sub(rb"ino:\d+ sk:\w+", b"", done.stdout).replace(b"7002", b"7001")
            seen.append((done.returncode, shown, done.stderr, left.replace(b"7002", b"7001")))
        assert seen[0] == seen[1]
        assert (b"7001" in seen[0][1]) is (not who)
        assert (b"7001" in seen[0][3]) is bool(who)
