"""Sockets whose names were chosen to do harm: of processes, unix sockets, cgroups, interfaces, the host.

Run inside a network namespace, as root, it is the processes that bear them::

    python tests/hostile_names.py DIRECTORY '[["1b5b324a", …], …]'

It writes ``ready`` and reads commands: at ``live`` each process has a listener and a connection come and go, then it
answers ``ok``. At the end of stdin it ends. ``World`` starts it, and undoes what it made.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

from conftest import Netns
from zoo import rename

__all__ = ["HOSTILE", "Names", "World", "invented", "world"]

HOSTILE: dict[str, bytes] = {
    "escapes": b"\x1b[2J\x1b]0;x\x07\x9b1m",
    "lines": b"x\nESTAB 0 0\r\t",
    "quotes": b"\"'),(\\`$(id)};",
    "no-utf8": b"\xff\xc3(\xed\xa0\x80\xc3",
    "unseen": "\u202eexe\u2028\u0085\u200b".encode(),
    "json": b'"},{"type":"z',
    "logs": b"x=%s%n]<30>1",
    "long": "é".encode() * 127 + b"\x1b",
}
"""What they are called; of each kind of name the kernel allows a part of it."""


FIRST_PORT = 7919
"""Of the listeners that stay, one for each name."""


class Names(NamedTuple):
    """A name, as each kind of thing can bear it."""

    comm: bytes
    """15 bytes, no NUL."""
    device: bytes
    """15 bytes; no white space, slash or colon (dev_valid_name, net/core/dev.c), and no % (dev_alloc_name)."""
    path: bytes
    """Of a unix socket: 107 bytes, in which no name has a slash."""
    abstract: bytes
    """106 bytes of any kind, behind a NUL."""
    group: bytes
    """Of a cgroup, a directory's name: no newline (cgroup_mkdir, kernel/cgroup/cgroup.c)."""


def _alike(name: bytes, number: int, directory: bytes) -> Names:
    """The ``number`` keeps them apart."""
    mark = b"%d" % number
    file = name.replace(b"/", b"|")
    device = bytes(byte for byte in name if byte not in b" \t\n\v\f\r\xa0/:%")
    return Names(
        comm=name[: 15 - len(mark)] + mark,
        device=device[: 15 - len(mark)] + mark,
        path=directory + b"/" + file[: 107 - len(directory) - 1 - len(mark)] + mark,
        abstract=name[: 107 - 1 - len(mark)] + mark,
        group=file.replace(b"\n", b"\v")[: 255 - len(mark)] + mark,
    )


def invented(seed: str) -> bytes:
    """Bytes of any kind but NUL, most of them from what is hostile."""
    dice = random.Random(seed)
    pieces = [*HOSTILE.values(), *(bytes([n]) for n in range(1, 256)), b"\x1b[", b"\n", b'"', b"\xe2\x80\xae"]
    return b"".join(dice.choice(pieces) for _ in range(dice.choice((1, 3, 9, 40))))


class World:
    """A namespace with devices, cgroups, and processes in them that hold sockets, called as they are told to be.

    ``host``: 64 bytes, what ``prefix`` calls the host.
    """

    def __init__(self, netns: Netns, directory: Path, names: Sequence[bytes]) -> None:
        self.netns = netns
        self.directory = directory
        at = os.fsencode(directory)
        self.names = [_alike(name, number, at) for number, name in enumerate(names)]
        self.host = b"".join(names)[:64]
        for number, name in enumerate(self.names):
            self._device(name.device, number)
        self._groups: list[Path] = []
        mount = _cgroup2()
        if mount is not None:
            above = mount / f"sstrace-test-{os.getpid()}"
            self._groups = [above, *(above / os.fsdecode(name.group) for name in self.names)]
        for group in self._groups:
            group.mkdir()
        words = json.dumps([[part.hex() for part in name] for name in self.names])
        above_words = [str(self._groups[0])] if self._groups else []
        self.process = subprocess.Popen(
            [*netns.prefix, sys.executable, __file__, words, *above_words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._expect(b"ready\n")

    def cgroup(self, name: Names) -> bytes | None:
        """The path by which ss and sstrace name a cgroup; None without one."""
        return b"/%s/%s" % (os.fsencode(self._groups[0].name), name.group) if self._groups else None

    def live(self) -> None:
        """For each name, a listener at its device and a connection come and go."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"live\n")
        self.process.stdin.flush()
        self._expect(b"ok\n")

    def prefix(self, journal: Path | None = None) -> Sequence[str]:
        """What stands before a command for which the host is called so, too, and a journal listens there."""
        steps = (
            "import ctypes, os, sys; name = bytes.fromhex(sys.argv[1]); "
            "ctypes.CDLL(None).sethostname(name, len(name)); "
            "os.system('mount -t tmpfs none /run && mkdir -p /run/systemd/journal'); "
            "os.symlink(sys.argv[2], '/run/systemd/journal/socket'); "
            "os.execvp(sys.argv[3], sys.argv[3:])"
        )
        return ("unshare", "--uts", "--mount", "--", sys.executable, "-c", steps, self.host.hex(), str(journal))

    def close(self) -> None:
        """Leave nothing behind."""
        self.process.communicate(timeout=60)
        for group in reversed(self._groups):
            with suppress(OSError):
                group.rmdir()

    def _device(self, name: bytes, number: int) -> None:
        for words in (
            (b"link", b"add", b"v", b"type", b"veth", b"peer", b"name", b"peer%d" % number),
            (b"link", b"set", b"v", b"name", name),
            (b"link", b"set", name, b"up"),
            (b"addr", b"add", b"10.9.%d.1/24" % number, b"dev", name),
        ):
            subprocess.run([*self.netns.prefix, "ip", *words], check=True, capture_output=True, timeout=30)

    def _expect(self, said: bytes) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == said


@contextmanager
def world(names: Sequence[bytes]) -> Iterator[World]:
    """In a namespace and a directory of its own."""
    netns = Netns()
    # A short path: the longer the name of a socket can be.
    with tempfile.TemporaryDirectory(prefix="h") as directory:
        made = World(netns, Path(directory), names)
        try:
            yield made
        finally:
            made.close()
            netns.close()


def _cgroup2() -> Path | None:
    for line in Path("/proc/mounts").read_text(errors="surrogateescape").splitlines():
        words = line.split()
        if words[2] == "cgroup2" and os.access(words[1], os.W_OK):
            return Path(words[1])
    return None


def _bear(names: Names, number: int, group: str | None, commands: int, answers: int) -> NoReturn:
    """Be one of the processes, in a child."""
    if group is not None:
        Path(group, os.fsdecode(names.group), "cgroup.procs").write_text("0")
    rename(names.comm)
    held = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    held[0].bind(names.path)
    held[1].bind(b"\0" + names.abstract)
    for one in held:
        one.listen()
    host = f"10.9.{number}.1"

    def listening(port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, names.device)
        made.bind((host, port))
        made.listen()
        return made

    kept = listening(FIRST_PORT + number)
    elsewhere = socket.create_server(("127.0.0.1", 0))
    os.write(answers, b".")
    while os.read(commands, 1):
        listening(0).close()
        with socket.create_connection(elsewhere.getsockname()), elsewhere.accept()[0]:
            pass
        os.write(answers, b".")
    kept.close()
    os._exit(0)


def _main(words: str, group: str | None = None) -> None:
    names = [Names(*map(bytes.fromhex, parts)) for parts in json.loads(words)]
    said, answers = os.pipe()
    ways: list[int] = []
    for number, one in enumerate(names):
        commands, way = os.pipe()
        if not os.fork():
            for other in (*ways, way):
                os.close(other)
            _bear(one, number, group, commands, answers)
        os.close(commands)
        ways.append(way)

    def answered() -> None:
        left = len(names)
        while left:
            left -= len(os.read(said, left))

    answered()
    print("ready", flush=True)
    for _ in sys.stdin:
        for way in ways:
            os.write(way, b".")
        answered()
        print("ok", flush=True)
    for way in ways:
        os.close(way)
    for _ in ways:
        os.wait()


if __name__ == "__main__":
    _main(*sys.argv[1:])
