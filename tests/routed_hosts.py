"""Hosts as network namespaces with node names of their own, behind a router, each traced by a recorder of its own."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from conftest import Netns, Program
from tracing import wait

__all__ = ["Host", "Rows", "recorded", "routed", "short", "still"]

PORT = 5432

Rows = list[tuple[str, str, str]]
"""State, local end, peer."""


class Host:
    """One of them."""

    def __init__(self, number: int, router: Netns) -> None:
        self.name = f"node{number:02d}"
        self.space = Netns()
        self.address = f"10.77.{number}.2"
        mine, theirs = (f"/proc/{os.getpid()}/fd/{space.fd}" for space in (self.space, router))
        subprocess.run(
            ["ip", "link", "add", "eth0", "netns", mine, "type", "veth", "peer", "name", f"v{number}", "netns", theirs],
            check=True, timeout=60,
        )  # fmt: skip
        for space, device, address in (
            (self.space, "eth0", f"{self.address}/30"),
            (router, f"v{number}", f"10.77.{number}.1/30"),
        ):
            space.run("ip", "addr", "add", address, "dev", device)
            space.run("ip", "link", "set", device, "up")
        self.space.run("ip", "route", "add", "default", "via", f"10.77.{number}.1")
        self.listener = self.space.call(socket.create_server, (self.address, PORT))
        self.listener.settimeout(30)
        self.ends: list[socket.socket] = []

    def connect(self, other: "Host") -> None:
        """A connection to another one, which accepts it."""
        self.ends.append(self.space.call(socket.create_connection, (other.address, PORT), 30))
        other.ends.append(other.listener.accept()[0])

    def rows(self, ss: Program) -> Rows:
        """What ss says here."""
        return short(ss("-tanH", netns=self.space).stdout.decode().splitlines())

    def close(self) -> None:
        """Everything."""
        for end in (*self.ends, self.listener):
            end.close()
        self.space.close()


def short(lines: list[str]) -> Rows:
    """Lines of ss, sorted."""
    return sorted((words[0], words[3], words[4]) for words in map(str.split, lines))


@contextmanager
def routed(count: int) -> Iterator[list[Host]]:
    """So many, who can reach each other."""
    with ExitStack() as stack:
        router = Netns()
        stack.callback(router.close)
        router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        made = [Host(number, router) for number in range(count)]
        for host in made:
            stack.callback(host.close)
        yield made


@contextmanager
def recorded(hosts: list[Host], folder: Path, more: Callable[[Host], Sequence[str]] = lambda _: ()) -> Iterator[None]:
    """All are traced at once; ``more``: options of each tracer."""
    renamed = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')
    running: list[tuple[Host, subprocess.Popen[bytes]]] = []
    try:
        for host in hosts:
            recorder = Program(*renamed, host.name, sys.executable, "-m", "sstrace")
            words = ["--record", str(folder / f"{host.name}.ndjson"), "--ready-file", str(folder / f".{host.name}")]
            words += more(host)
            with (folder / f".{host.name}.stderr").open("wb") as said:
                process = recorder.start(*words, netns=host.space, stdout=subprocess.DEVNULL, stderr=said)
            running.append((host, process))
        for host, process in running:
            ready = folder / f".{host.name}"
            wait(f"{host.name} is traced", lambda: ready.exists() or process.poll() is not None, 300)  # noqa: B023
            assert process.poll() is None, (folder / f".{host.name}.stderr").read_text()
        yield
    finally:
        for _, process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for _, process in running:
            process.wait(60)


def still(hosts: list[Host], ss: Program) -> tuple[int, dict[str, Rows]]:
    """A moment at which nothing moves, ns since 1970 UTC, and what ss says on each host then."""
    before: dict[str, Rows] = {}
    while True:
        at_ns = time.time_ns()
        now = {host.name: host.rows(ss) for host in hosts}
        if now == before:
            return at_ns, now
        before = now
