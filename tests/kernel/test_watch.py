"""``--watch`` in a real terminal: it shows what ss shows, every key does its work, every exit leaves no trace."""

import errno
import os
import pty
import re
import select
import shutil
import signal
import socket
import sys
import termios
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, Netns, Program, unmet
from tmux import Tmux
from tracing import close_all, connect, disconnect, listener, reset
from worlds import Worlds

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

Watch = Callable[..., Tmux]
ROW = 4
"""First line of the screen that is a row."""


@pytest.fixture
def watch(netns: Netns, tmp_path: Path) -> Iterator[Watch]:
    """Start the watcher in a terminal in the namespace, and wait for its first picture."""
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    started: list[Tmux] = []

    def start(*arguments: str, **options: object) -> Tmux:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        words = [*netns.prefix, sys.executable, "-m", "sstrace", "--watch", *arguments]
        pane = Tmux(directory, words, **options)  # type: ignore[arg-type]
        started.append(pane)
        # The titles, and what is drawn last.
        pane.until(lambda lines: any("Local Address:Port" in line for line in lines) and lines[-2].strip())
        return pane

    yield start
    for pane in started:
        pane.close()


class Peers:
    """A listener on loopback and connections to it."""

    def __init__(self, space: Netns, port: int) -> None:
        self.space = space
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", port))
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def connect(self) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", self.port))
        self.pairs.append((client, self.listener.accept()[0]))
        return client

    def close(self) -> None:
        for pair in self.pairs:
            for end in pair:
                end.close()
        self.pairs.clear()


@pytest.fixture
def peers(netns: Netns) -> Iterator[Peers]:
    made = netns.call(Peers, netns, 5151)
    for _ in range(3):
        netns.call(made.connect)
    yield made
    made.close()
    made.listener.close()


def rows(lines: list[str]) -> list[str]:
    return [line for line in lines[ROW:] if line.strip() and "q quit" not in line and "? help" not in line]


# ---------------------------------------------------------------------------------------------------------- the screen


def test_rows_are_those_of_ss(watch: Watch, peers: Peers, netns: Netns, ss: Program) -> None:
    """State, queues, addresses in ss's spelling; the header counts them."""
    netns.call(lambda: peers.pairs[0][0].send(b"x" * 17))
    pane = watch("-an", columns=200, lines=50)
    wanted = sorted(tuple(line.split()) for line in ss("-Htan", netns=netns).stdout.decode().splitlines())
    assert len(wanted) == 7

    def shown(lines: list[str]) -> list[tuple[str, ...]]:
        texts = [line[2:].split() for line in rows(lines)]
        return sorted((state, *rest[:4]) for state, _held, *rest in texts)  # what it carries stands behind

    pane.until(lambda lines: shown(lines) == wanted and lines[1].split() == ["LISTEN", "1", "ESTAB", "6"])


def test_datagram_sockets_come_change_and_go(watch: Watch, netns: Netns, ss: Program) -> None:
    """Beside TCP's, with what waits at them; a peer that is dissolved is no end."""

    def bound(port: int) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", port))
        return made

    older = netns.call(bound, 5300)
    server = netns.call(socket.create_server, ("127.0.0.1", 5151))
    with older, server:
        pane = watch("-tuan", columns=160)
        pane.until_text("127.0.0.1:5300")
        with netns.call(bound, 5301) as newer:
            newer.connect(("127.0.0.1", 5300))
            newer.send(bytes(17))
            waiting = netns.run("ss", "-Huan", "sport = :5300").stdout.split()[1].decode()
            pane.until(lambda lines: any(line.startswith("+ udp   ESTAB") and ":5301" in line for line in lines))
            pane.until(lambda lines: any(waiting in line.split() and ":5300" in line for line in lines))
            wanted = sorted(tuple(line.split()) for line in ss("-Htuan", netns=netns).stdout.decode().splitlines())

            def shown(lines: list[str]) -> list[tuple[str, ...]]:
                texts = [line[2:].split() for line in rows(lines)]
                return sorted((netid, state, *rest[:4]) for netid, state, _held, *rest in texts)

            pane.until(lambda lines: shown(lines) == wanted)
            disconnect(newer)
            pane.until(lambda lines: any(re.match(r"[ +*] udp   UNCONN .*:5301 ", line) for line in lines))
        pane.until(lambda lines: any(line.startswith("- udp   UNCONN") and ":5301" in line for line in lines))
    pane.until(lambda lines: not rows(lines))


def test_a_device_is_called_what_it_is_called_now(watch: Watch, netns: Netns) -> None:
    """On the screen, and in the filter."""

    def make() -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"v0")
        made.bind(("0.0.0.0", 6001))
        made.listen()
        return made

    netns.run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
    with netns.call(make):
        everything, those = watch("-an", columns=150), watch("-an", "dev", "v0", columns=150)
        everything.until_text("0.0.0.0%v0:6001")
        those.until_text("0.0.0.0%v0:6001")
        netns.run("ip", "link", "set", "v0", "name", "wan")
        everything.until_text("0.0.0.0%wan:6001")
        those.until(lambda lines: not any(":6001" in line for line in lines))
        netns.run("ip", "link", "set", "wan", "name", "v0")
        those.until_text("0.0.0.0%v0:6001")


def test_wildcards_and_ipv6(watch: Watch, netns: Netns, ss: Program) -> None:
    def make() -> list[socket.socket]:
        both = socket.create_server(("::", 6001), family=socket.AF_INET6, dualstack_ipv6=True)
        six = socket.create_server(("::", 6002), family=socket.AF_INET6)
        one = socket.create_server(("::1", 6003), family=socket.AF_INET6)
        mapped = socket.create_connection(("127.0.0.1", 6001))
        return [both, six, one, mapped, both.accept()[0]]

    held = netns.call(make)
    pane = watch("-an", columns=200, lines=50)
    wanted = sorted(tuple(line.split()) for line in ss("-Htan", netns=netns).stdout.decode().splitlines())
    pane.until(
        lambda lines: sorted((line.split()[0], *line.split()[2:6]) for line in rows(lines)) == wanted,
    )
    for end in held:
        end.close()


def test_marks_and_rates(watch: Watch, peers: Peers, netns: Netns) -> None:
    pane = watch("-n")
    pane.until(lambda lines: [line[:2] for line in rows(lines) if "≥" in line] == ["  "] * 6)
    netns.call(peers.connect)
    pane.until(lambda lines: ["≥" in line for line in rows(lines) if line.startswith("+ ESTAB")] == [False] * 2)
    pane.until(lambda lines: not any(line.startswith("+") for line in lines))
    client, server = peers.pairs[-1]
    client.shutdown(socket.SHUT_WR)
    pane.until(lambda lines: any(line.startswith("* CLOSE-WAIT") for line in lines))
    server.close()
    pane.until(lambda lines: any(line.startswith("- ") for line in lines))
    pane.until(lambda lines: not any(line.startswith("- ") for line in lines))


def test_failures_are_seen(watch: Watch, netns: Netns) -> None:
    pane = watch("-n")

    def refused() -> None:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED

    netns.call(refused)
    pane.until(lambda lines: any(re.match(r"- SYN-SENT .* refused .* 127\.0\.0\.1:1\b", line) for line in lines))
    pane.until(lambda lines: "failed" in lines[2] and "failed 0.0/s" not in lines[2])


def test_owners(watch: Watch, peers: Peers, netns: Netns) -> None:
    pane = watch("-np", columns=200, lines=50)
    pane.until_text(f"pid={os.getpid()},fd={peers.pairs[0][0].fileno()})")
    # Both ends of a connection made meanwhile: accept(2) gives the server's end its inode after its last event.
    netns.call(peers.connect)
    ends = [f"pid={os.getpid()},fd={end.fileno()})" for end in peers.pairs[-1]]
    pane.until(lambda lines: all(any(end in line for line in lines) for end in ends))
    # Who held it last stands with what has closed.
    for end in peers.pairs[-1]:
        reset(end)
    pane.until(lambda lines: any(line.startswith("- ESTAB") and end in line for line in lines for end in ends))
    pane.type("p")
    pane.until(lambda lines: not any("pid=" in line for line in lines))


def test_what_waits_for_accept_is_of_who_holds_the_listener(watch: Watch, netns: Netns) -> None:
    pane = watch("-np", columns=200, lines=50)
    listens = netns.call(listener)
    client = netns.call(connect, listens.getsockname())
    ends = f"127.0.0.1:{listens.getsockname()[1]}", f"127.0.0.1:{client.getsockname()[1]}"
    mark = f",pid={os.getpid()},fd=-))"

    def marked(lines: list[str]) -> bool:
        mine = [line for line in lines if line.split()[4:6] == [*ends] or line.split()[5:7] == [*ends]]
        return any("~users:((" in line and mark in line for line in mine)

    pane.until(marked)
    close_all()


def test_details(watch: Watch, peers: Peers) -> None:
    """What ss prints below a row stands behind it."""
    pane = watch("-nite", columns=200, lines=50)
    pane.until(lambda lines: ["ino:" in line and "sk:" in line for line in rows(lines)] == [True] * 6)
    for _ in range(8):
        pane.type("Right")
    pane.until_text("cwnd:")


def test_exact_ends_of_a_listener_whose_port_comes_late(watch: Watch, netns: Netns) -> None:
    """listen(2) without bind(2): no event tells the port, but a look does, and the row finds its place."""
    pane = watch("-ltn")
    listener = netns.call(socket.socket)
    listener.listen()
    port = listener.getsockname()[1]
    pane.until_text(f"0.0.0.0:{port}")
    listener.close()


# ---------------------------------------------------------------------------------------------------------------- keys


def test_sorting(watch: Watch, peers: Peers) -> None:
    pane = watch("-an", columns=120)

    def ports(lines: list[str]) -> list[int]:
        return [int(line.split()[4].removeprefix("127.0.0.1:")) for line in rows(lines)]

    wanted = sorted([5151] * 4 + [client.getsockname()[1] for client, _ in peers.pairs])
    pane.type("3")
    pane.until(lambda lines: "by local, lowest first" in lines[0] and ports(lines) == wanted)
    pane.type("r")
    pane.until(lambda lines: "by local, highest first" in lines[0] and ports(lines) == wanted[::-1])
    for name in ("peer", "owner", "sent", "received", "sent/s", "received/s", "rtt", "held", "state"):
        pane.type("s")
        pane.until_text(f"by {name}, ")
    pane.type("S")
    pane.until_text("by held, ")


def test_several_namespaces(watch: Watch, peers: Peers, netns: Netns) -> None:
    """Each row says where it is; the filter and the order know that; what is of one that has gone goes."""
    name = netns.publish()
    with Worlds(2) as worlds:
        short = name[:16]
        one, other = (str(world.inode) for world in worlds.all)
        pane = watch("-an", "--netns", f"{name},{one},{other}", columns=140, lines=40)

        def places(lines: list[str]) -> Counter[str]:
            return Counter(line[2:].split()[0] for line in rows(lines))

        wanted = {short: 7, one: 5, other: 5}
        pane.until(lambda lines: "Netns" in lines[3] and places(lines) == wanted)
        pane.type("6")
        order = sorted(Counter(wanted).elements())
        pane.until(
            lambda lines: "by netns, A to Z" in lines[0] and [line[2:].split()[0] for line in rows(lines)] == order
        )
        pane.type("f")
        pane.text(f"netns {one}")
        pane.type("Enter")
        pane.until(lambda lines: places(lines) == {one: 5})
        pane.type("f", "C-u")
        pane.type("Enter")
        pane.until(lambda lines: places(lines) == wanted)
        worlds.close()
        pane.until(lambda lines: places(lines) == {short: 7})
        netns.call(peers.connect)
        pane.until(lambda lines: places(lines) == {short: 9})


def test_filter(watch: Watch, peers: Peers) -> None:
    pane = watch("-an", columns=120)
    pane.type("f")
    pane.text("sport = :5151")
    pane.until_text("filter: sport = :5151")
    pane.type("Enter")
    pane.until(lambda lines: lines[1].split() == ["LISTEN", "1", "ESTAB", "3"] and "filter sport = :5151" in lines[2])
    pane.type("f", "C-u")
    pane.text("state established 'dport = :5151'")
    pane.type("Enter")
    pane.until(lambda lines: lines[1].split() == ["ESTAB", "3"])
    pane.type("f", "C-u")
    pane.text("src nonsense..here and")
    pane.type("Enter")
    pane.until(lambda lines: "is no address" in lines[-2] or "is no address" in lines[-1])
    pane.type("f", "C-u")
    pane.text("sport = :1")
    pane.type("Escape")  # nothing happens
    pane.until(lambda lines: lines[1].split() == ["ESTAB", "3"])
    pane.type("f", "C-u", "Enter")
    pane.until(lambda lines: lines[1].split() == ["LISTEN", "1", "ESTAB", "6"])


def test_held_filter_lets_rows_in_when_their_time_comes(watch: Watch, peers: Peers, netns: Netns) -> None:
    pane = watch("-n", "held > 2s", columns=120)
    pane.until_text("no sockets that the filter lets pass")
    began = time.monotonic()
    netns.call(peers.connect)
    pane.until(lambda lines: lines[1].split() == ["(LISTEN", "1)", "ESTAB", "8"])
    assert time.monotonic() - began > 2


def test_a_filter_by_what_connections_carry_lets_rows_in_as_they_go_on(watch: Watch, peers: Peers) -> None:
    pane = watch("-n", "--interval", "100ms", "sent > 10k", columns=120)
    pane.until_text("no sockets that the filter lets pass")
    peers.pairs[0][0].sendall(b"x" * 20_000)
    mine = f":{peers.pairs[0][0].getsockname()[1]} "
    pane.until(lambda lines: [mine in line for line in rows(lines)] == [True])
    pane.type("f", "C-u")
    pane.text("rtt < 10s and sent < 10k")
    pane.type("Enter")
    pane.until(
        lambda lines: len(rows(lines)) == 5 and not any(line.split()[4].endswith(mine[:-1]) for line in rows(lines))
    )
    pane.type("g")
    pane.until(lambda lines: any(line.split()[1:3] == ["5", "5"] for line in lines[4:-2]))


def test_pause_and_freeze(watch: Watch, peers: Peers, netns: Netns) -> None:
    pane = watch("-n", "--interval", "100ms", columns=120)
    pane.type("Space")
    pane.until_text("PAUSED")
    netns.call(peers.connect)
    pane.type("Space")
    pane.until(lambda lines: lines[1].split() == ["(LISTEN", "1)", "ESTAB", "8"] and "PAUSED" not in lines[0])
    pane.type("z")
    pane.until_text("FROZEN")
    netns.call(peers.connect)
    lines = pane.until(lambda lines: "FROZEN" in lines[0] and " 0 changes since" not in lines[0])
    assert lines[1].split() == ["(LISTEN", "1)", "ESTAB", "8"]
    pane.type("3")
    pane.until(lambda lines: "by local, lowest first" in lines[0] and len(rows(lines)) == 8)
    pane.type("z")
    pane.until(lambda lines: lines[1].split() == ["(LISTEN", "1)", "ESTAB", "10"] and "FROZEN" not in lines[0])


def test_help_and_scrolling(watch: Watch, peers: Peers, netns: Netns) -> None:
    for _ in range(20):
        netns.call(peers.connect)
    pane = watch("-n")
    pane.type("?")
    pane.until_text("reverse the order")
    pane.type("x")
    pane.until_text("1-19 of 46")
    pane.type("NPage")
    pane.until_text("20-38 of 46")
    pane.type("End")
    pane.until_text("28-46 of 46")
    pane.type("PPage")
    pane.until_text("9-27 of 46")
    pane.type("Home")
    pane.until_text("1-19 of 46")


def test_every_state_names_and_the_columns_moved(watch: Watch, peers: Peers) -> None:
    pane = watch("-n", columns=76)
    pane.until(lambda lines: "(LISTEN 1)" in lines[1] and len(rows(lines)) == 6)
    pane.type("a")
    pane.until(lambda lines: len(rows(lines)) == 7 and lines[1].split() == ["LISTEN", "1", "ESTAB", "6"])
    pane.type("a")
    pane.until(lambda lines: len(rows(lines)) == 6 and "(LISTEN 1)" in lines[1])
    pane.type("Right")
    # What says which row it is stays.
    pane.until(lambda lines: "Recv-Q" not in lines[3] and "State" in lines[3])
    pane.type("Left")
    pane.until(lambda lines: "Recv-Q" in lines[3])
    pane.type("h")
    pane.until_text("reverse the order")
    pane.type("j")
    pane.until_text("1-6 of 6")
    assert pointed(pane) == [], "the key that leaves the help does nothing else"
    pane.type("C-l")
    pane.until(lambda lines: len(rows(lines)) == 6 and "Recv-Q" in lines[3])
    pane.type("Q")
    assert pane.ended() == 0


def test_ports_by_name_and_by_number(watch: Watch, netns: Netns) -> None:
    name = socket.getservbyport(22)
    with netns.call(socket.create_server, ("127.0.0.1", 22)):
        pane = watch("-tln")
        for shown in ("22", name, "22"):
            pane.until(lambda lines, shown=shown: rows(lines)[0].split()[4] == f"127.0.0.1:{shown}")  # type: ignore[misc]
            pane.type("n")


def test_each_number_sorts(watch: Watch, peers: Peers) -> None:
    pane = watch("-n", columns=120)
    names = ("held", "state", "local", "peer", "owner", "sent", "received", "sent/s", "received/s")
    for number, name in reversed([*enumerate(names, 1)]):
        pane.type(str(number))
        pane.until_text(f"by {name}, ")


def test_the_wheel_and_the_keys_of_a_page(watch: Watch, peers: Peers, netns: Netns) -> None:
    for _ in range(20):
        netns.call(peers.connect)
    pane = watch("-n")
    pane.until_text("1-19 of 46")
    pane.type("Up")
    pane.until(lambda lines: [line.split()[4:6] for line in pointed(pane)] == [rows(lines)[-1].split()[4:6]])
    pane.type("Escape")
    pane.text("\x1b[<65;10;10M")
    pane.until_text("4-22 of 46")
    pane.text("\x1b[<64;10;10M")
    pane.until_text("1-19 of 46")
    pane.type("C-f")
    pane.until_text("20-38 of 46")
    pane.type("C-b")
    pane.until_text("1-19 of 46")
    # Within one connection, on a low terminal.
    pane.type("j", "Enter")
    pane.resize(80, 12)
    pane.until(lambda lines: any("1-7 of " in line for line in lines))
    for key, first in (
        ("j", "2-8 of"),
        ("k", "1-7 of"),
        ("NPage", "-"),
        ("Home", "1-7 of"),
        ("G", "-"),
        ("PPage", "-"),
    ):
        pane.type(key)
        pane.until_text(first)
    pane.type("Left")
    pane.until_text("Local Address:Port")


def test_groups_are_sorted_and_gone_through(watch: Watch, peers: Peers) -> None:
    pane = watch("-n", columns=120)
    pane.type("g")
    pane.until_text("by rows, most first")
    for name in ("opened", "closed", "failed", "rows"):
        pane.type("s")
        pane.until_text(f"by {name}, most first")
    for title in ("Container, unit", "Peer", "Port"):
        pane.type("g")
        pane.until(lambda lines, title=title: lines[3].startswith(title))  # type: ignore[misc]
    pane.type("j")
    pane.until(lambda lines: [line.split()[:2] for line in pointed(pane)] == [lines[5].split()[:2]])
    pane.type("G")
    pane.until(lambda lines: lines[3].startswith("Peer"))
    pane.type("BSpace")
    pane.until_text("Local Address:Port")


def pointed(pane: Tmux) -> list[str]:
    """The lines of the screen on which the cursor is: those in reverse."""
    shown = [line for line in pane.screen(attributes=True)[ROW:-2] if re.match(r"\x1b\[(0;)?1(;7)?m(?!\x1b\[38)", line)]
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in shown]


def test_a_cursor_goes_from_row_to_row_and_stays_with_its_own(watch: Watch, peers: Peers, netns: Netns) -> None:
    for _ in range(20):
        netns.call(peers.connect)
    pane = watch("-n", "--interval", "100ms")
    lines = rows(pane.until(lambda lines: "1-19 of 46" in lines[-2] and len(rows(lines)) == 19))
    assert pointed(pane) == []
    pane.type("j")
    pane.until(lambda _lines: [line.split()[4:6] for line in pointed(pane)] == [lines[0].split()[4:6]])
    pane.type("Down", "j", "k")
    pane.until(lambda _lines: [line.split()[4:6] for line in pointed(pane)] == [lines[1].split()[4:6]])
    # New rows come above it: it stays on its own, and in sight.
    for _ in range(2):
        netns.call(peers.connect)
    pane.until(lambda seen: any("of 50" in line for line in seen))
    pane.until(lambda _lines: [line.split()[4:6] for line in pointed(pane)] == [lines[1].split()[4:6]])
    pane.type("G")
    pane.until_text("32-50 of 50")
    pane.until(lambda lines: [line.split()[4:6] for line in pointed(pane)] == [lines[ROW + 18].split()[4:6]])
    pane.type(*["k"] * 19)
    pane.until_text("31-49 of 50")
    pane.type("Escape")
    pane.until(lambda _lines: pointed(pane) == [])


def test_search_goes_to_what_is_not_in_sight(watch: Watch, peers: Peers, netns: Netns) -> None:
    for _ in range(20):
        netns.call(peers.connect)
    ports = [client.getsockname()[1] for client, _ in peers.pairs]
    pane = watch("-n", "--interval", "100ms")
    pane.until_text("1-19 of 46")
    pane.type("/")
    pane.text(f":{ports[0]}")
    pane.until_text(f"search: :{ports[0]}")
    pane.type("Enter")
    pane.until(lambda _lines: [f":{ports[0]}" in line for line in pointed(pane)] == [True])
    first = pointed(pane)[0].split()[4:6]
    pane.type("/", "Enter")  # the other end of the same connection
    pane.until(lambda _lines: [line.split()[4:6] for line in pointed(pane)] == [first[::-1]])
    pane.type("/", "C-u")
    pane.text("no such text")
    pane.type("Enter")
    pane.until_text("no row has no such text in it")


def test_enter_looks_inside_a_connection(watch: Watch, peers: Peers, netns: Netns) -> None:
    """Its states with their times, who holds it, what it carries, and in the end why it ended."""
    pane = watch("-n", columns=120, lines=40)
    client = netns.call(peers.connect)
    mine = f"127.0.0.1:{client.getsockname()[1]}"
    pane.until_text(mine)
    pane.type("/")
    pane.text(f"{mine} ")
    pane.type("Enter")
    pane.until(lambda _lines: len(pointed(pane)) == 1)
    if pointed(pane)[0].split()[4] != mine:
        pane.type("/", "Enter")
        pane.until(lambda _lines: [line.split()[4] for line in pointed(pane)] == [mine])
    pane.type("Enter")
    lines = pane.until_text("The kernel's figures")
    assert lines[3].split() == [mine, "→", "127.0.0.1:5151"]
    assert any(re.match(r"  [\d:.]{15}  SYN-SENT", line) for line in lines)
    assert any(re.match(r"  [\d:.]{15}  ESTAB +\S+ in SYN-SENT$", line) for line in lines)
    assert any(f"/{os.getpid()}/{client.fileno()}" in line for line in lines if "Process" in line)
    client.sendall(b"x" * 5000)
    pane.until(lambda lines: any(re.match(r" Sent +5\.0k, ", line) for line in lines))
    peers.pairs[-1][1].close()
    pane.until(lambda lines: any(line.startswith(" Ended ") for line in lines))
    lines = pane.until(lambda lines: any(re.match(r" Ended +reset-received ECONNRESET, ", line) for line in lines))
    assert any(line.strip() == "the peer sent RST" for line in lines)
    assert any(re.match(r" Carried +sent 5\.0k, received 0", line) for line in lines)
    pane.type("j", "k", "Escape")
    pane.until_text("Local Address:Port")
    pane.type("q")
    assert pane.ended() == 0


def test_what_was_left_of_a_connection_says_why_it_went(watch: Watch, peers: Peers, netns: Netns) -> None:
    client, server = peers.pairs.pop()
    ends = f"127.0.0.1:5151 127.0.0.1:{client.getsockname()[1]}"
    server.close()
    mine = client.getsockname()
    client.close()
    pane = watch("-na", columns=120)
    pane.type("/")
    pane.text(ends)
    pane.type("Enter", "Enter")
    pane.until(lambda lines: any(re.match("  now +TIME-WAIT", line) for line in lines))
    with netns.call(socket.socket) as again:
        again.bind(mine)
        again.connect(peers.listener.getsockname())
        pane.until(lambda lines: any(re.match(" Gone +.*made way for a new connection", line) for line in lines))


def test_columns_tell_what_connections_carry(watch: Watch, peers: Peers, netns: Netns) -> None:
    """A transfer of known size: totals, rates while it lasts, the order by them, and the figures of the end."""
    pane = watch("-n", columns=120)
    narrow = watch("-n")
    client, server = peers.pairs[0]
    mine, theirs = (f"127.0.0.1:{end.getsockname()[1]}" for end in (client, server))

    def figures(lines: list[str]) -> dict[tuple[str, ...], list[str]]:
        """(local, peer) → the texts behind."""
        at = lines[3].index("Local Address")
        return {tuple(line[at - 4 :].split()[:2]): line[at - 4 :].split()[2:] for line in rows(lines)}

    def told(sent: str, received: str, lines: list[str]) -> bool:
        found = figures(lines)
        here, there = found.get((mine, theirs), []), found.get((theirs, mine), [])
        return here[:2] == [sent, received] and there[:2] == [received, sent]

    pane.until(lambda lines: titles(lines) == ["Sent", "Recv", "Sent/s", "Recv/s", "RTT"])
    assert titles(narrow.screen()) == []
    client.sendall(b"x" * 5000)
    server.recv(5000, socket.MSG_WAITALL)
    pane.until(
        lambda lines: told("5.0k", "0", lines) and re.fullmatch(r"[\d.]+(us|ms|s)", figures(lines)[mine, theirs][-1])
    )
    pane.type("6")
    pane.until(lambda lines: "by sent, most first" in lines[0] and next(iter(figures(lines))) == (mine, theirs))
    server.sendall(b"y" * 70_000)
    client.recv(70_000, socket.MSG_WAITALL)
    pane.until(lambda lines: told("5.0k", "70k", lines) and next(iter(figures(lines))) == (theirs, mine))
    narrow.type("b")
    narrow.until(
        lambda lines: (
            "Sent/s" in lines[3] and "Recv-Q" not in lines[3] and all(end in "\n".join(lines) for end in (mine, theirs))
        )
    )
    narrow.type("b")
    narrow.until(lambda lines: "Sent/s" not in lines[3] and "Recv-Q" in lines[3])
    # A rate is seen as long as bytes flow.
    pane.until(lambda lines: flowing(client, server) and figures(lines)[mine, theirs][2:3] not in ([], ["0"]))
    pane.type("b")
    pane.until(lambda lines: "Sent/s" not in lines[3])
    pane.type("b")
    last = netns.call(peers.connect)
    last.sendall(b"z" * 4321)
    peers.pairs[-1][1].recv(4321, socket.MSG_WAITALL)
    last.close()
    peers.pairs[-1][1].close()
    pane.until(lambda lines: any(line.startswith("- ") and line.split()[6:8] == ["0", "4.3k"] for line in rows(lines)))


def titles(lines: list[str]) -> list[str]:
    """Those behind the peer's port."""
    return lines[3].partition("Peer Address:Port")[2].split()


def flowing(sender: socket.socket, receiver: socket.socket) -> bool:
    sender.sendall(b"x" * 1000)
    return len(receiver.recv(1000, socket.MSG_WAITALL)) == 1000


def test_groups_count_and_lead_to_their_rows(watch: Watch, peers: Peers, netns: Netns) -> None:
    """g: by process, container, peer and port, with what happens in each; Enter filters by one."""
    pane = watch("-an", "--interval", "100ms", columns=120)
    pane.type("g")
    pane.until(lambda lines: any(re.match(rf"\S+/{os.getpid()} +7 +6 +1 +0 ", line) for line in lines[ROW:]))
    pane.type("g")
    pane.until_text("Container, unit")
    pane.type("g")
    pane.until(lambda lines: any(re.match(r"127\.0\.0\.1 +6 +6 +0 ", line) for line in lines[ROW:]))
    pane.type("g")
    pane.until(lambda lines: sum(bool(re.match(r"(at 5151 +4 +3 +1|to 5151 +3 +3 +0) ", line)) for line in lines) == 2)
    netns.call(peers.connect)
    pane.until(lambda lines: any(re.match(r"to 5151 +4 +4 +0 +0 +\d\S*/s +-", line) for line in lines))
    pane.type("End", "k", "j", "Enter")
    pane.until(lambda lines: "filter dport = :5151" in lines[2] and lines[1].split() == ["ESTAB", "4"])
    pane.type("g", "Escape")
    pane.until_text("Local Address:Port")


def test_a_connection_is_closed_when_somebody_says_yes(watch: Watch, peers: Peers, netns: Netns) -> None:
    pane = watch("-n")
    client = peers.pairs[0][0]
    mine = f"127.0.0.1:{client.getsockname()[1]}"
    pane.type("K")
    pane.until_text("move the cursor to a connection first")
    pane.type("/")
    pane.text(f"{mine} 127.0.0.1:5151")
    pane.type("Enter", "K")
    pane.until_text(f"close {mine} 127.0.0.1:5151 of ")
    pane.type("n")
    pane.until_text("nothing was closed")
    client.send(b"x")  # it stands
    pane.type("K", "y")
    pane.until_text("- ESTAB")
    with pytest.raises(ConnectionAbortedError):
        client.recv(1)
    pane.until(lambda lines: lines[-2].strip() == "closed" or lines[-1].strip() == "closed")


def test_a_row_is_copied_by_the_terminal(watch: Watch, peers: Peers) -> None:
    pane = watch("-n")
    pane("set-option", "-g", "set-clipboard", "on")
    client = peers.pairs[0][0]
    mine = f"127.0.0.1:{client.getsockname()[1]} 127.0.0.1:5151"
    pane.type("/")
    pane.text(mine)
    pane.type("Enter", "c")
    pane.until_text("copied")
    pane.until(lambda _lines: re.fullmatch(rf"ESTAB \S+ {re.escape(mine)}", pane("show-buffer").strip()))


def test_the_mouse_points_and_opens(watch: Watch, peers: Peers) -> None:
    pane = watch("-n")
    row = pane.screen()[ROW + 2]
    click = f"\x1b[<0;10;{ROW + 3}M"
    pane.text(click)
    pane.until(lambda _lines: [line.split()[4:6] for line in pointed(pane)] == [row.split()[4:6]])
    pane.text("\x1b[<0;10;1M")  # no row is there
    pane.text(click)
    pane.until_text("The kernel's figures")
    pane.text("\x1b[<65;10;10M\x1b[<64;10;10M")
    pane.type("Escape")
    pane.until_text("Local Address:Port")


def test_the_dead_never_push_out_the_living(watch: Watch, peers: Peers, netns: Netns) -> None:
    """200 connections a second that end at once, and the living are all to be seen; d hides the dead."""
    for _ in range(10):
        netns.call(peers.connect)
    pane = watch("-n", "--interval", "100ms")
    pane.until_text("1-19 of 26")

    def refused() -> None:
        for _ in range(200):
            with socket.socket() as client:
                assert client.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED

    netns.call(refused)
    pane.until(
        lambda lines: (
            sum(line.startswith("- SYN-SENT") for line in lines) == 4
            and sum(" ESTAB " in line for line in rows(lines)) == 15
        )
    )
    pane.type("d")
    pane.until(lambda lines: sum(" ESTAB " in line for line in rows(lines)) == 19)
    netns.call(refused)
    pane.until(lambda lines: "failed 0.0/s" not in lines[2])
    assert not any(line.startswith("- ") for line in pane.screen())


def _has_size(pane: Tmux, size: str, _shown: list[str]) -> bool:
    return pane("display-message", "-p", "#{pane_width}x#{pane_height}").strip() == size


def _has_help(line: int, shown: list[str]) -> bool:
    return len(shown) > line and "? help" in shown[line]


def test_resize(watch: Watch, peers: Peers) -> None:
    pane = watch("-an")
    for columns, lines in ((200, 50), (40, 10), (10, 3), (1, 1), (80, 24)):
        pane.resize(columns, lines)
        pane.until(partial(_has_size, pane, f"{columns}x{lines}"))
        if columns >= 80:
            shown = pane.until(partial(_has_help, lines - 1))
            assert shown[lines - 1].rstrip().endswith(("of 7", "of 7 →"))
    pane.type("q")
    assert pane.ended() == 0


def test_metrics_are_served_beside_it(watch: Watch, peers: Peers, netns: Netns) -> None:
    watch("-n", "--metrics=127.0.0.1:9437")

    def ask() -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open("http://127.0.0.1:9437/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    before = netns.call(ask)
    assert 'sstrace_sockets{family="inet",state="estab"}' in before
    netns.call(peers.connect)
    found = re.search(r'sstrace_opens_total\{family="inet",role="client"\} (\S+)', netns.call(ask))
    assert found
    assert float(found[1]) >= 2  # this one, and the first asker's


# --------------------------------------------------------------------------------------------------------------- colour


@pytest.mark.parametrize(
    ("arguments", "no_color", "colored"),
    [((), "", True), ((), "1", False), (("--color", "always"), "1", True), (("--color", "never"), "", False)],
)
def test_color(watch: Watch, peers: Peers, arguments: tuple[str, ...], no_color: str, colored: bool) -> None:
    environment = {"TERM": "screen-256color", "COLORTERM": "", "NO_COLOR": no_color}
    pane = watch("-n", *arguments, env=environment)
    peers.space.call(peers.connect)
    pane.until(lambda lines: any(line.startswith("+ ESTAB") for line in lines))
    text = "\n".join(pane.screen(attributes=True))
    assert ("\x1b[38;5;" in text or "\x1b[1m\x1b[38;5;" in text) is colored
    assert "+ ESTAB" in text


# ---------------------------------------------------------------------------------------------------------------- exits


@pytest.mark.parametrize("key", ["q", "C-c", "C-\\"])
def test_keys_that_end_it(watch: Watch, peers: Peers, key: str) -> None:
    pane = watch()
    pane.type(key)
    assert pane.ended() == 0
    assert pane.restored()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_that_end_it(watch: Watch, peers: Peers, number: signal.Signals) -> None:
    pane = watch()
    os.kill(pane.pid(), number)
    assert pane.ended() == 0
    assert pane.restored()


def test_an_end_in_the_middle_of_a_prompt(watch: Watch, peers: Peers) -> None:
    pane = watch()
    pane.type("f")
    pane.text("sport")
    pane.until_text("filter: sport")
    pane.type("C-c")
    assert pane.ended() == 0
    assert pane.restored()


def test_time_and_count_end_it(watch: Watch, peers: Peers) -> None:
    for arguments in (("--duration", "300ms"), ("--count", "2", "--interval", "100ms")):
        pane = watch(*arguments)
        assert pane.ended() == 0
        assert pane.restored()


SLOW = {
    "a comparison with the kernel": (
        "from sstrace.live.doubts import Doubts\n"
        "from sstrace.live.sweeps import Sweeps as Slow\n"
        "Doubts.is_audit_due = lambda self, events: lasts()\n"
        "run = Slow.run\n"
        "def slow(self, places, *, doubted):\n"
        "    while lasts():\n        self._breathe()\n"
        "    return (yield from run(self, places, doubted=doubted))\n"
        "Slow.run = slow\n"
    ),
    "much that happens": (
        "from sstrace.live.tracer import Tracer as Slow\n"
        "from sstrace.model import Lost\n"
        "def slow(self):\n"
        "    while lasts():\n        yield Lost(0, 0, 0, 0)\n"
        "Slow._seek = slow\n"
    ),
    "a look at who holds what": (
        "from sstrace.live.owners import OwnerLooks as Slow\n"
        "look = Slow.look\n"
        "def slow(self, wanted=None, breathe=bool):\n"
        "    while lasts():\n        breathe()\n"
        "    return look(self, wanted, breathe)\n"
        "Slow.look = slow\n"
    ),
    "a look at every row": (
        "from sstrace.watch.view import Watched as Slow\n"
        "living = Slow.living\n"
        "def slow(self, start, count):\n"
        "    found = living(self, start, count)\n"
        "    while count == len(self) and lasts():\n        yield found[0]\n"
        "    yield from found\n"
        "Slow.living = slow\n"
    ),
}
"""What takes long, and here as long as the test lets it."""


@pytest.mark.parametrize("what", SLOW)
def test_a_key_is_answered_while_something_takes_long(netns: Netns, tmp_path: Path, peers: Peers, what: str) -> None:
    program, begin, began, end = (tmp_path / name for name in ("slow.py", "begin", "began", "end"))
    program.write_text(
        "from pathlib import Path\n"
        "from sstrace import cli\n"
        "def lasts():\n"
        f"    if Path('{end}').exists() or not Path('{begin}').exists():\n        return False\n"
        f"    Path('{began}').touch()\n"
        "    return True\n"
        f"{SLOW[what]}"
        "raise SystemExit(cli.main(['--watch']))\n"
    )
    pane = Tmux(
        tmp_path, [*netns.prefix, sys.executable, str(program)], env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    )
    try:
        pane.until_text("Local Address:Port")
        begin.touch()
        pane.type("g")
        pane.until_text("Process")
        pane.until(lambda _lines: began.exists())
        pane.type("?")
        pane.until_text("any key leaves it")
        pane.type("Escape")
        pane.until(lambda lines: "Process" in lines[3] and "any key leaves it" not in "".join(lines))
        end.touch()
        pane.type("q")
        assert pane.ended() == 0
    finally:
        pane.close()


def test_an_exception_is_seen_on_the_ordinary_screen(netns: Netns, tmp_path: Path, peers: Peers) -> None:
    program = tmp_path / "broken.py"
    program.write_text(
        "from sstrace import cli\n"
        "from sstrace.watch import app as watch\n"
        "def broken(self, key):\n    raise RuntimeError('made for the test')\n"
        "watch.Watch._key = broken\n"
        "raise SystemExit(cli.main(['--watch']))\n"
    )
    pane = Tmux(
        tmp_path, [*netns.prefix, sys.executable, str(program)], env={"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    )
    try:
        pane.until_text("Local Address:Port")
        pane.type("x")
        assert pane.ended() == 70
        assert pane.restored()
        pane.until_text("a bug in sstrace: RuntimeError")
    finally:
        pane.close()


def test_suspended_and_continued(netns: Netns, tmp_path: Path, peers: Peers) -> None:
    """Ctrl-Z gives the terminal back to the shell; fg takes it again."""
    pane = Tmux(tmp_path, ["bash", "--norc", "-i"], env={"PS1": "prompt> ", "PATH": os.environ["PATH"]})
    try:
        pane.until_text("prompt>")
        pane.text(f"stty -g >{tmp_path}/before; {' '.join(netns.prefix)} {sys.executable} -m sstrace --watch")
        pane.type("Enter")
        pane.until_text("ESTAB")
        pane.type("C-z")
        pane.until_text("Stopped")
        pane.text(f"stty -g >{tmp_path}/after; echo stopped ok")
        pane.type("Enter")
        pane.until(lambda lines: "stopped ok" in lines)
        assert pane.restored()
        pane.text("fg")
        pane.type("Enter")
        pane.until_text("ESTAB 6")
        pane.type("q")
        pane.until(lambda lines: not any("ESTAB" in line for line in lines))
        pane.text(f"stty -g >{tmp_path}/after; echo ended ok")
        pane.type("Enter")
        pane.until(lambda lines: "ended ok" in lines)
        assert pane.restored()
    finally:
        pane.close()


def in_pty(netns: Netns, *arguments: str) -> tuple[int, int]:
    """The watcher on a terminal of which the test holds the other end: (process id, descriptor)."""
    words = [*netns.prefix, sys.executable, "-m", "sstrace", "--watch", *arguments]
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe(words[0], words, {**os.environ, "TERM": "xterm"})
    return pid, master


def reaped(pid: int, seconds: float = 30) -> int:
    """Wait for the end of a child; its exit code."""
    watcher = os.pidfd_open(pid)
    try:
        if not select.select([watcher], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise AssertionError("it did not end")
    finally:
        os.close(watcher)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def shown(master: int, text: bytes, seconds: float = 30) -> None:
    """Read the terminal's other end until this has come."""
    data = b""
    while text not in data:
        assert select.select([master], [], [], seconds)[0], f"never came; what came: {data!r}"
        try:
            data += os.read(master, 65536)
        except OSError as error:
            raise AssertionError(f"the terminal was given up ({error}) after {data!r}") from None


def test_closed_terminal(netns: Netns, peers: Peers) -> None:
    pid, master = in_pty(netns)
    shown(master, b"Local Address")
    os.close(master)
    assert reaped(pid) == 0


def test_terminal_that_takes_nothing(netns: Netns, peers: Peers) -> None:
    """Its output is stopped, as on a stalled connection: the watcher still traces, and still ends when told to."""
    pid, master = in_pty(netns, "-a", "--interval", "10ms")
    slave = -1
    try:
        shown(master, b"Local Address")
        slave = os.open(f"/proc/{pid}/fd/0", os.O_RDWR | os.O_NOCTTY)
        termios.tcflow(slave, termios.TCOOFF)
        netns.call(peers.connect)
        os.kill(pid, signal.SIGTERM)
        assert reaped(pid) == 0
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


# ------------------------------------------------------------------------------------------------- refusals, beforehand


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), b"--watch needs a terminal"),
        (("--json",), b"--json means nothing to --watch: leave it away"),
        (("-S",), b"use it with --snapshot"),
        (("--from", "live", "--record", "x"), b"--record means nothing to --watch --from live"),
        (("--from", "x.ndjson"), b"--snapshot"),
    ],
)
def test_refusals_are_one_sentence(sstrace: Program, arguments: tuple[str, ...], words: bytes) -> None:
    done = sstrace("--watch", *arguments)
    assert done.returncode == 255
    assert done.stdout == b""
    assert done.stderr.startswith(b"sstrace: -")
    assert done.stderr.count(b"\n") == 1
    assert words in done.stderr


def test_a_wrong_filter_is_told_before_the_screen_is_taken(netns: Netns, tmp_path: Path) -> None:
    words = [*netns.prefix, sys.executable, "-m", "sstrace", "--watch", "src", "nonsense..here"]
    pane = Tmux(tmp_path, words)
    try:
        assert pane.ended() == 1
        assert any("is no address" in line for line in pane.screen())
        assert pane.restored()
    finally:
        pane.close()


def test_without_root_it_looks_each_second_and_says_so(netns: Netns, tmp_path: Path, peers: Peers) -> None:
    if shutil.which("tmux") is None:
        unmet("needs tmux")
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/nonexistent")
    pane = Tmux(tmp_path, [*netns.prefix, *user, sys.executable, "-m", "sstrace", "--watch", "-n"], columns=100)
    try:
        pane.until_text("polled")
        client = netns.call(peers.connect)
        pane.until_text(f":{client.getsockname()[1]} ")
        pane.type("q")
        pane.until_text("exit=0")
        assert "what comes and goes between two looks is not seen" in " ".join(pane.screen()).replace("\n", "")
    finally:
        pane.close()
