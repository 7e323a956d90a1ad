"""Names in lines: both ends exactly as ss prints them, in every mode, and what is renamed while sstrace runs."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Netns, Program, unmet
from tracing import Trace, closed, keep, wait

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

Ends = tuple[str, str]


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


# -------------------------------------------------------------------------------------------------- what is renamed


def live_and_close(netns: Netns, device: str, port: int) -> None:
    """A listener comes and goes."""
    netns.call(lambda: listen("10.9.0.1", port, device).close())


def rename(netns: Netns, old: str, new: str) -> None:
    """Another name, and the addresses that a device that was down has lost."""
    link(netns, "set", old, "down")
    link(netns, "set", old, "name", new)
    address(netns, new)


def renamings(netns: Netns, as_wan: Callable[[], object] = lambda: None) -> None:
    """v0 is used, becomes wan, is used, goes; another v0 comes and is used. One listener, on 89, lives meanwhile.
    ``as_wan`` is called while it is wan.
    """
    netns.call(lambda: listen("10.9.0.1", 89, "v0"))
    live_and_close(netns, "v0", 90)
    rename(netns, "v0", "wan")
    live_and_close(netns, "wan", 91)
    as_wan()
    link(netns, "del", "wan")
    cable(netns, "v0")
    live_and_close(netns, "v0", 92)


DEVICES = {90: "v0", 91: "wan", 92: "v0"}
"""Port → what the device was called that a socket of ``renamings`` was bound to."""


def test_every_line_has_the_name_of_its_time(devices: Netns, sstrace: Program, tmp_path: Path) -> None:
    """In NDJSON and in text; two devices that bore one name are told apart by their index."""
    texts, jsons = tmp_path / "text", tmp_path / "json"
    texts.mkdir()
    jsons.mkdir()

    def as_wan() -> None:
        wanted = {"sport": 89, "ifname": "wan"}.items()
        wait("the listener is told of again", lambda: any(wanted <= line.items() for line in told.lines))

    with (
        Trace(sstrace, devices, texts, "-nH", json_lines=False) as text,
        Trace(sstrace, devices, jsons) as told,
    ):
        renamings(devices, as_wan)
        told.wait_for(sport=92, new="UNCONN")
        wait("the text is there", lambda: len(text.text) == 7)
    found = [(line["sport"], line["ifname"]) for line in told.states if line["sport"] != 89]
    assert found == [(port, name) for port, name in DEVICES.items() for _ in range(2)]
    index = {line["sport"]: line["ifindex"] for line in told.states}
    assert index[90] == index[91] != index[92]
    # Who lives through it is told of again, for those that keep the table by the lines.
    assert [line["ifname"] for line in told.lines if line.get("sport") == 89] == ["v0", "wan", f"if{index[90]}"]
    ends = [line.split()[5] for line in text.text]
    assert ends == ["10.9.0.1%v0:89", *(f"10.9.0.1%{name}:{port}" for port, name in DEVICES.items() for _ in range(2))]


def test_dev_in_a_live_trace_is_whoever_bears_the_name_then(devices: Netns, sstrace: Program, tmp_path: Path) -> None:
    with Trace(sstrace, devices, tmp_path, "dev", "v0") as running:
        renamings(devices)
        running.wait_for(sport=92, new="UNCONN")
    assert [line["sport"] for line in running.states] == [89, 90, 90, 92, 92]


@pytest.fixture
def renamed(devices: Netns, sstrace: Program, tmp_path: Path) -> Path:
    """A recording of ``renamings``."""
    path = tmp_path / "renamed.ndjson"
    with Trace(sstrace, devices, tmp_path, "--record", str(path)) as running:
        renamings(devices)
        running.wait_for(sport=92, new="UNCONN")
    return path


def test_a_recording_knows_every_name_that_it_prints(renamed: Path, sstrace: Program) -> None:
    recording = str(renamed)
    lines = [json.loads(line) for line in renamed.read_bytes().splitlines()]
    index = next(line["ifindex"] for line in lines if line.get("sport") == 89)

    def replayed(*words: str) -> list[tuple[int, str]]:
        done = sstrace("--replay", recording, "--json", *words)
        assert (done.returncode, done.stderr) == (0, b"")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return [(line["sport"], line["ifname"]) for line in found if line["type"] == "state"]

    everything = [(89, "v0"), *((port, name) for port, name in DEVICES.items() for _ in range(2))]
    assert replayed() == everything
    assert replayed("dev", "v0") == [line for line in everything if line[1] == "v0"]
    assert replayed("dev", "wan") == [(91, "wan")] * 2
    assert replayed("dev", str(index)) == [line for line in everything if line[0] != 92]
    assert replayed("dev", "lo") == []
    unknown = sstrace("--replay", recording, "dev", "nowhere")
    assert unknown.returncode == 1
    assert unknown.stderr == b'sstrace: no interface was called "nowhere" while this was recorded\n'
    counted = sstrace("--stats", "--from", recording, "--json", "dev", "wan")
    assert (counted.returncode, counted.stderr) == (0, b"")

    def table(port: int, *words: str) -> list[str]:
        """The table just after a listener on a port had come, by its addresses."""
        seq = next(line["seq"] for line in lines if line.get("sport") == port and line["type"] == "state")
        done = sstrace("--snapshot", "--from", recording, "--at", f"#{seq}", "-tlnH", *words)
        assert (done.returncode, done.stderr) == (0, b"")
        return [line.split()[3] for line in done.stdout.decode().splitlines()]

    assert table(90) == ["10.9.0.1%v0:89", "10.9.0.1%v0:90"]
    assert table(91) == ["10.9.0.1%wan:89", "10.9.0.1%wan:91"]
    assert table(91, "dev", "wan") == ["10.9.0.1%wan:89", "10.9.0.1%wan:91"]
    assert table(92) == [f"10.9.0.1%if{index}:89", "10.9.0.1%v0:92"]
    assert table(92, "dev", "v0") == ["10.9.0.1%v0:92"]
    last = max(line["seq"] for line in lines if line["type"] == "state")
    early = next(line["seq"] for line in lines if line.get("sport") == 90)
    for words, shown in (
        ((), ["- 10.9.0.1%v0:89", "- 10.9.0.1%v0:90", f"+ 10.9.0.1%if{index}:89"]),
        (("dev", "v0"), ["- 10.9.0.1%v0:89", "- 10.9.0.1%v0:90"]),
    ):
        done = sstrace("--snapshot", "--from", recording, "--between", f"#{early}", f"#{last}", "-tlnH", *words)
        assert (done.returncode, done.stderr) == (0, b"")
        split = [line.split() for line in done.stdout.decode().splitlines()]
        assert sorted(f"{words[0]} {words[4]}" for words in split) == sorted(shown)


def test_each_file_of_a_rotation_has_the_names_of_its_beginning(
    devices: Netns, sstrace: Program, tmp_path: Path
) -> None:
    path = tmp_path / "rec.ndjson"
    with Trace(sstrace, devices, tmp_path, "--record", str(path), "--rotate", "1s") as running:
        devices.call(lambda: listen("10.9.0.1", 89, "v0"))
        running.wait_for(sport=89)
        rename(devices, "v0", "wan")
        live_and_close(devices, "wan", 91)
        wait("another file", lambda: len(list(tmp_path.glob("rec*"))) > 1)
    meta = json.loads(path.read_bytes().splitlines()[0])
    assert "wan" in meta["interfaces"]
    assert "v0" not in meta["interfaces"]


def test_output_begun_anew_has_the_names_of_then(devices: Netns, sstrace: Program, tmp_path: Path) -> None:
    path = tmp_path / "out.ndjson"
    with Trace(sstrace, devices, tmp_path, "--output", str(path)) as running:
        rename(devices, "v0", "wan")
        live_and_close(devices, "wan", 91)
        wait("it is told", lambda: path.read_bytes().count(b'"wan"') > 1)
        path.rename(tmp_path / "old.ndjson")
        running.process.send_signal(signal.SIGHUP)
        wait("the file is begun anew", lambda: path.exists() and path.stat().st_size)
    meta = json.loads(path.read_bytes().splitlines()[0])
    assert "wan" in meta["interfaces"]
    assert "v0" not in meta["interfaces"]


def test_a_name_that_is_no_text(devices: Netns, sstrace: Program, tmp_path: Path) -> None:
    """The kernel takes any bytes but white space, slash and colon."""
    recording = tmp_path / "rec.ndjson"
    rename(devices, "v0", "v\udcff\x1b")

    def live() -> None:
        made = keep(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"v\xff\x1b")
        made.bind(("10.9.0.1", 90))
        made.listen()

    with Trace(sstrace, devices, tmp_path, "-nH", "--record", str(recording), json_lines=False) as running:
        devices.call(live)
        wait("a line", lambda: running.text)
    assert "10.9.0.1%v\\xff\\x1b:90" in running.text[0]
    assert [json.loads(line).get("ifname") for line in recording.read_bytes().splitlines()][1] == "v\\xff\x1b"


# --------------------------------------------------------------------------------------------------------- cgroups


def cgroup2() -> Path:
    """The cgroup2 mount."""
    for line in Path("/proc/mounts").read_text().splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return Path(words[1])
    unmet("needs cgroup2")
    raise AssertionError


@pytest.fixture
def group() -> Iterator[Path]:
    """A cgroup that may be made, removed and made again."""
    path = cgroup2() / f"sstrace-test-{os.getpid()}"
    yield path
    for one in (path, path.with_name(path.name + "-2")):
        with suppress(OSError):
            one.rmdir()


def listen_in(netns: Netns, group: Path, port: int) -> None:
    """A listener of a process in a cgroup comes and goes."""
    script = (
        "import os, socket, sys\n"
        f"open('{group}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "made = socket.socket()\n"
        f"made.bind(('127.0.0.1', {port}))\n"
        "made.listen()\n"
    )
    netns.run(sys.executable, "-c", script)


def test_a_cgroup_that_has_gone_keeps_its_path(netns: Netns, sstrace: Program, tmp_path: Path, group: Path) -> None:
    """It cannot be renamed; one that is made anew in its place is another one."""
    group.mkdir()
    with pytest.raises(PermissionError):
        group.rename(group.with_name(group.name + "-2"))
    with Trace(sstrace, netns, tmp_path) as running:
        listen_in(netns, group, 90)
        running.wait_for(sport=90, new="UNCONN")
        group.rmdir()
        other = group.with_name(group.name + "-2")
        other.mkdir()
        listen_in(netns, other, 91)
        running.wait_for(sport=91, new="UNCONN")
        group.mkdir()
        listen_in(netns, group, 92)
        running.wait_for(sport=92, new="UNCONN")
    assert [(line["sport"], line.get("cgroup")) for line in running.states] == [
        (port, f"/{path.name}") for port, path in ((90, group), (91, other), (92, group)) for _ in range(2)
    ]
