"""Names in lines: both ends exactly as ss prints them, in every mode, and what is renamed while sstrace runs."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Netns, Program
from tracing import Trace, close_all, keep, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]

Ends = tuple[str, str]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No socket outlives its test."""
    yield
    close_all()


def link(netns: Netns, *words: str) -> None:
    """``ip link …``"""
    netns.run("ip", "link", *words)


@pytest.fixture
def devices(netns: Netns) -> Netns:
    """A namespace with two ends of a cable, v0 with addresses, and p0."""
    cable(netns, "v0")
    return netns


def cable(netns: Netns, name: str) -> None:
    """A new pair of devices, the first with the name and addresses to bind to."""
    link(netns, "add", name, "type", "veth", "peer", "name", "p0")
    link(netns, "set", "p0", "up")
    address(netns, name)


def address(netns: Netns, name: str) -> None:
    """Up, with 10.9.0.1 and fe80::9:1 that can be used at once."""
    link(netns, "set", name, "up")
    netns.run("ip", "addr", "replace", "10.9.0.1/24", "dev", name)
    netns.run("ip", "addr", "replace", "fe80::9:1/64", "dev", name, "nodad")


def listen(host: str, port: int, device: str = "", *, v6only: int = 0) -> socket.socket:
    """A listener that is bound to a device."""
    made = keep(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    if made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    scope = socket.if_nametoindex(device) if host.startswith("fe80") else 0
    made.bind((host, port, 0, scope) if scope else (host, port))
    made.listen()
    return made


def ends_by_ss(ss: Program, netns: Netns, *words: str) -> list[Ends]:
    """Both ends of every TCP socket, sorted, as ss prints them."""
    printed = ss("-taH", *words, netns=netns).stdout.decode()
    return sorted((words[3], words[4]) for words in map(str.split, printed.splitlines()))


def ends_by_trace(lines: list[str]) -> list[Ends]:
    """Both ends of those that began to listen or were established, sorted."""
    split = [line.split() for line in lines]
    return sorted((words[5], words[6]) for words in split if words[3] in ("LISTEN", "ESTAB"))


@pytest.mark.ss
@pytest.mark.parametrize("words", [(), ("-n",)])
def test_both_ends_are_what_ss_prints(
    devices: Netns, sstrace: Program, ss: Program, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """IPv4 and IPv6, with and without a device, wildcards of one family and of both; services by name without -n."""
    recording = tmp_path / "rec.ndjson"

    def live() -> None:
        listen("10.9.0.1", 22)
        listen("10.9.0.1", 80, "v0")
        listen("0.0.0.0", 81, "lo")
        listen("fe80::9:1", 90, "v0")
        listen("::", 443)
        listen("::", 444, v6only=1)
        listen("::", 445, "v0")
        listen("::", 446, "v0", v6only=1)
        for host, to, port in (("127.0.0.1", "127.0.0.1", 81), ("fe80::9:1", "fe80::9:1%v0", 90)):
            client = keep(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            client.connect(socket.getaddrinfo(to, port, type=socket.SOCK_STREAM)[0][4])

    with Trace(sstrace, devices, tmp_path, "-H", "--record", str(recording), *words, json_lines=False) as running:
        devices.call(live)
        wait("all has been told", lambda: len(ends_by_trace(running.text)) == 12)
        shown = ends_by_ss(ss, devices, *words)
        told = ends_by_trace(running.text)
    assert told == shown
    assert any("%v0" in local and local.startswith("[fe80") for local, _ in shown)
    replayed = sstrace("--replay", str(recording), "-H", *words).stdout.decode().splitlines()
    assert ends_by_trace(replayed) == shown
    table = sstrace("--snapshot", "--from", str(recording), "--at", "-0", "-taH", *words).stdout.decode()
    assert sorted(tuple(line.split()[3:5]) for line in table.splitlines()) == shown
    between = sstrace("--snapshot", "--from", str(recording), "--between", "+0", "-0", "-taH", *words).stdout.decode()
    assert sorted(tuple(line.split()[4:6]) for line in between.splitlines()) == shown
