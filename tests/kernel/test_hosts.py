"""Several hosts, each traced by a recorder of its own, asked together: what ss said on each, at several moments.

A host is a network namespace with a node name of its own, behind a router. ``SSTRACE_HOSTS`` says how many there are,
``SSTRACE_MOMENTS`` how many moments are compared (20 and 50 for a thorough run).
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from tracing import wait

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

HOSTS = int(os.environ.get("SSTRACE_HOSTS", "4"))
MOMENTS = int(os.environ.get("SSTRACE_MOMENTS", "6"))
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


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """All of them, who can reach each other."""
    with ExitStack() as stack:
        router = Netns()
        stack.callback(router.close)
        router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        made = [Host(number, router) for number in range(HOSTS)]
        for host in made:
            stack.callback(host.close)
        yield made


@contextmanager
def recorded(hosts: list[Host], folder: Path) -> Iterator[None]:
    """All are traced at once."""
    renamed = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"')
    running: list[tuple[Host, subprocess.Popen[bytes]]] = []
    try:
        for host in hosts:
            recorder = Program(*renamed, host.name, sys.executable, "-m", "sstrace")
            words = ("--record", str(folder / f"{host.name}.ndjson"), "--ready-file", str(folder / f".{host.name}"))
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


@pytest.mark.seconds(1800)
def test_hosts_that_are_traced_at_once_are_asked_together(
    sstrace: Program, ss: Program, hosts: list[Host], tmp_path: Path
) -> None:
    chance = random.Random(77)
    moments = []
    opened = 0
    with recorded(hosts, tmp_path):
        for _ in range(MOMENTS):
            for _ in range(2 * HOSTS):
                host, other = chance.sample(hosts, 2)
                host.connect(other)
                opened += 1
            for host in hosts:
                for end in chance.sample(host.ends, len(host.ends) // 4):
                    host.ends.remove(end)
                    end.close()
            moments.append(still(hosts, ss))
    addresses = {host.address: host.name for host in hosts}

    def asked(*words: str) -> list[str]:
        done = sstrace("--from", str(tmp_path), *words)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        return done.stdout.decode().splitlines()

    for at_ns, truth in moments:
        when = f"@{at_ns // 10**9}.{at_ns % 10**9:09d}"
        told: dict[str, list[str]] = {}
        for line in asked("--snapshot", "-tanH", "--at", when):
            name, _, rest = line.partition(" ")
            told.setdefault(name, []).append(rest)
        assert list(told) == sorted(truth)
        assert {name: short(lines) for name, lines in told.items()} == truth
        rows = [json.loads(line) for line in asked("--snapshot", "-tan", "--json", "--at", when)]
        own = {(row["host"], row["src"], row["sport"], row["dst"], row["dport"]): row for row in rows}
        for row in rows:
            there = own.get((addresses.get(row["dst"]), row["dst"], row["dport"], row["src"], row["sport"]))
            assert row.get("peer_host") == (there["host"] if there is not None else None), row
            assert row.get("peer_owners") == (there.get("owners") if there is not None else None), row
    whole: list[dict[str, Any]] = [json.loads(line) for line in asked("--stats", "--json", "--count", "1000")]
    assert (whole[0]["opened_out"], whole[0]["opened_in"], whole[0]["lost"]) == (opened, opened, 0)
    assert {line["key"] for line in whole if line.get("by") == "host"} == set(addresses.values())
    # Told together, each host's lines are those of its own recording, in that order.
    together = [line.split() for line in asked("-n", "--time", "utc")[1:]]
    for name in addresses.values():
        done = sstrace("--replay", str(tmp_path / f"{name}.ndjson"), "-n", "--time", "utc")
        own_lines = [line.split() for line in done.stdout.decode().splitlines()[1:]]
        assert [[line[0], *line[2:]] for line in together if line[1] == name] == own_lines
