"""Every way a connection can go, one scripted case each, against the lines that docs/lifecycle.md promises of it."""

import contextlib
import errno
import fcntl
import os
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Netns, Program, unmet
from tracing import (
    ACK,
    RST,
    SEQUENCE,
    STRANGER,
    SYN,
    Line,
    Trace,
    close_all,
    connect,
    connected,
    deafen,
    disconnect,
    keep,
    listener,
    mend,
    path,
    ports,
    reach,
    reset,
    route_stranger,
    send_segment,
    send_syn,
    synack_sequence,
    sysctl,
    wait,
)

from sstrace.model import State

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

Names = tuple[int, int] | tuple[int, int, int]
"""Local and peer port of a row; where several had them one after the other, the number of the row, from 0."""
Told = dict[str, list[Line]]
Case = Callable[["Stage"], Generator[dict[str, Names], Told, None]]

IPPROTO_MPTCP = 262
SIOCOUTQ, SIOCOUTQNSD = 0x5411, 0x894B  # include/uapi/linux/sockios.h
MSG_FASTOPEN, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCP_LINGER2, TCP_DEFER_ACCEPT = 0x20000000, 23, 30, 8, 9

CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Case], Case]:
    """Does what the document says under ``name``; yields whose rows to look at, and gets what was told of them."""

    def add(function: Case) -> Case:
        CASES[name] = function
        return function

    return add


class Stage:
    """A namespace with a trace in it."""

    def __init__(self, netns: Netns, trace: Trace, ss: Program) -> None:
        self.netns, self.trace, self.ss = netns, trace, ss
        self.call = netns.call

    def sysctl(self, name: str, value: int | str) -> None:
        if not sysctl(self.netns, name, value):
            unmet(f"kernel lacks net.ipv4.{name}")

    def cut_lo(self) -> None:
        """Whatever is sent from now on arrives nowhere."""
        self.netns.run("ip", "link", "set", "lo", "down")

    def until(self, sport: int, dport: int, new: str = "UNCONN") -> Line:
        """Wait for a transition."""
        return self.trace.wait_for(sport=sport, dport=dport, new=new)

    def told(self) -> dict[tuple[int, int], list[list[Line]]]:
        """Ctrl-C; the lives between two ports, in the order of their beginnings."""
        assert self.trace.stop() == 0
        assert ", 0 lost, 0 late" in self.trace.stderr
        lives: dict[int, list[Line]] = defaultdict(list)
        for line in self.trace.states:
            lives[line["id"]].append(line)
        found: dict[tuple[int, int], list[list[Line]]] = defaultdict(list)
        for life in lives.values():
            found[life[-1]["sport"], life[-1]["dport"]].append(life)
        return found


def documented() -> dict[str, dict[str, list[str]]]:
    """Case → row → the states it goes through, as ``path`` has them, from the table in docs/lifecycle.md."""
    text = (ROOT / "docs" / "lifecycle.md").read_text()
    table = text.partition("<!-- cases -->\n")[2].partition("<!-- end -->")[0]
    found: dict[str, dict[str, list[str]]] = {}
    name = ""
    for row in table.splitlines()[2:]:
        what, who, states = (cell.strip() for cell in row.strip("|").split("|"))
        name = what or name
        found.setdefault(name, {})[who] = [
            state.replace(" [", ":").rstrip("]") for state in states.strip("`").split(" → ")
        ]
    return found


@contextlib.contextmanager
def staged(sstrace: Program, ss: Program, directory: Path) -> Iterator[Stage]:
    netns = Netns()
    try:
        with Trace(sstrace, netns, directory) as trace:
            yield Stage(netns, trace, ss)
    finally:
        close_all()
        netns.close()


def plays() -> int:
    """How often a case may be played. Some sandboxes shut process 1 off and run no BPF program while a task of it is
    current (see scripts/verify-churn): there a timer that expires meanwhile is heard by nobody, and what it did is no
    transition.
    """
    try:
        Path("/proc/1/fd/0").readlink()
    except PermissionError:
        return 3
    except OSError:
        pass
    return 1


LONG = "TIME-WAIT runs its minute"


@pytest.fixture(scope="module", autouse=True)
def begun(sstrace: Program, ss: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], None]]:
    """Ends the case that takes a minute, which begins before all others so that nobody waits for it."""
    with staged(sstrace, ss, tmp_path_factory.mktemp("long")) as stage:
        steps = CASES[LONG](stage)
        next(steps)
        yield lambda: play(stage, LONG, steps)


@pytest.mark.parametrize("name", documented())
def test_it_goes_as_documented(
    sstrace: Program, ss: Program, tmp_path: Path, begun: Callable[[], None], name: str
) -> None:
    if name == LONG:
        begun()
        return
    for left in reversed(range(plays())):
        try:
            with staged(sstrace, ss, tmp_path) as stage:
                play(stage, name, CASES[name](stage))
            return
        except AssertionError:
            if not left:
                raise


def play(stage: Stage, name: str, steps: Generator[dict[str, Names], Told, None]) -> None:
    names = next(steps)
    found = stage.told()
    told = {who: found[row[0], row[1]][row[2] if len(row) == 3 else -1] for who, row in names.items()}
    assert {who: path(life) for who, life in told.items()} == documented()[name]
    with pytest.raises(StopIteration):
        steps.send(told)


def test_every_case_is_documented() -> None:
    assert CASES.keys() == documented().keys()


# -------------------------------------------------------------------------------------------------------------- opening


@case("both sides connect at once")
def simultaneous_open(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        first, second = keep(socket.socket()), keep(socket.socket())
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        for one in (first, second):
            one.setblocking(False)
        deafen(first)  # the RST that answers its SYN
        first.connect_ex(second.getsockname())
        mend(first)
        second.connect_ex(first.getsockname())
        reach(first, State.ESTABLISHED)
        reach(second, State.ESTABLISHED)
        names = ports(first)
        reset(first)
        reach(second, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    told = yield {"the first": (sport, dport), "the second": (dport, sport)}
    assert {line["role"] for life in told.values() for line in life} == {"client"}


@case("a socket connects to itself")
def connect_to_itself(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> int:
        alone = keep(socket.socket())
        alone.bind(("127.0.0.1", 0))
        alone.connect(alone.getsockname())
        reach(alone, State.ESTABLISHED)
        port: int = alone.getsockname()[1]
        reset(alone)
        return port

    port = stage.call(live)
    stage.until(port, port)
    yield {"it": (port, port)}


def fast_open_listener(stage: Stage) -> socket.socket:
    # Client, server, and no cookie asked for on either side.
    stage.sysctl("tcp_fastopen", 0x207)
    listens = stage.call(listener)
    listens.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 8)
    return listens


def fast_open(stage: Stage, listens: socket.socket, data: bytes) -> tuple[int, int]:
    def live() -> tuple[int, int]:
        client = keep(socket.socket())
        client.sendto(data, MSG_FASTOPEN, listens.getsockname())
        server = keep(listens.accept()[0])
        reach(server, State.ESTABLISHED)
        reach(client, State.ESTABLISHED)
        names = ports(client)
        assert server.recv(100) == data if data else True
        reset(client)
        reach(server, State.CLOSE)
        return names

    return stage.call(live)


@case("Fast Open with data")
def fast_open_with_data(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    sport, dport = fast_open(stage, fast_open_listener(stage), b"hello")
    stage.until(dport, sport)
    told = yield {"client": (sport, dport), "server": (dport, sport)}
    assert told["server"][0]["role"] == "server"
    assert told["client"][0]["owners"][0]["pid"] == os.getpid()


@case("Fast Open without data")
def fast_open_without_data(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    sport, dport = fast_open(stage, fast_open_listener(stage), b"")
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("Fast Open that has no cookie yet")
def fast_open_without_cookie(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    listens = fast_open_listener(stage)
    stage.sysctl("tcp_fastopen", 3)
    sport, dport = fast_open(stage, listens, b"hello")
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("TCP_FASTOPEN_CONNECT: connect() waits for the first write")
def fast_open_connect(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    listens = fast_open_listener(stage)

    def live() -> tuple[int, int]:
        client = keep(socket.socket())
        client.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        client.connect(listens.getsockname())
        client.send(b"hello")
        server = keep(listens.accept()[0])
        reach(server, State.ESTABLISHED)
        reach(client, State.ESTABLISHED)
        names = ports(client)
        reset(client)
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("SYN cookies (net.ipv4.tcp_syncookies=2)")
def syn_cookies(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_syncookies", 2)
    route_stranger(stage.netns)

    def live() -> tuple[int, int]:
        listens, client, server = connected()
        send_syn(1111, listens.getsockname()[1])  # leaves no trace
        names = ports(client)
        reset(client)
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}
    assert not [line for line in stage.trace.states if line["dport"] == 1111]


@case("TCP_DEFER_ACCEPT: the server waits for data")
def deferred_accept(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        listens = listener()
        listens.setsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT, 5)
        client = connect(listens.getsockname())
        names = ports(client)
        client.send(b"x")
        server = keep(listens.accept()[0])
        server.recv(1)
        reset(client)
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("v4-mapped: an IPv4 client of an IPv6 listener")
def mapped(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected("::", "127.0.0.1")
        names = ports(client)
        reset(client)
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    told = yield {"client": (sport, dport), "server": (dport, sport)}
    assert {line["family"] for line in told["client"]} == {"inet"}
    assert told["server"][-1]["src"] == "::ffff:127.0.0.1"


@case("no port is free (net.ipv4.ip_local_port_range)")
def no_port_free(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def refused() -> socket.socket:
        client = keep(socket.socket())
        assert client.connect_ex(("127.0.0.1", 7778)) == errno.ECONNREFUSED
        return client

    def live(client: socket.socket) -> None:
        listens = listener(port=7777)
        connect(listens.getsockname())
        assert client.connect_ex(listens.getsockname()) == errno.EADDRNOTAVAIL

    # The port of an earlier attempt still stands in the socket, and is not its own any more.
    stage.sysctl("ip_local_port_range", "41000 41000")
    client = stage.call(refused)
    stage.sysctl("ip_local_port_range", "40000 40000")
    stage.call(live, client)
    stage.until(0, 7777)
    told = yield {"client": (0, 7777)}
    attempt, end = told["client"]
    assert (end["err"], end["errno"]) == (errno.EADDRNOTAVAIL, "EADDRNOTAVAIL")
    assert end["role"] == "client"
    assert end["held_us"] == end["lifetime_us"] > 0
    assert {line["ino"] for line in (attempt, end)} == {attempt["ino"]}


@case("a bound port is taken between these addresses")
def bound_port_taken(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        listens = listener()
        names = 0, 0
        for _ in range(2):
            client = keep(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            client.bind(("127.0.0.1", names[0]))
            status = client.connect_ex(listens.getsockname())
            if not names[0]:
                first, names = client, ports(client)
        assert status == errno.EADDRNOTAVAIL
        reset(first)
        return names

    sport, dport = stage.call(live)
    wait("both have ended", lambda: sum(line["to"] == "UNCONN" for line in stage.trace.states) >= 2)
    told = yield {"client": (sport, dport, 1), "who has it": (sport, dport, 0)}
    assert [line.get("errno") for line in told["client"]] == [None, "EADDRNOTAVAIL"]


@case("shutdown() of a connect() under way")
def shutdown_connecting(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    route_stranger(stage.netns)

    def live() -> int:
        client = keep(socket.socket())
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        client.connect_ex((STRANGER, 9))
        port: int = client.getsockname()[1]
        client.shutdown(socket.SHUT_RDWR)
        return port

    port = stage.call(live)
    stage.until(port, 9)
    yield {"client": (port, 9)}


# ------------------------------------------------------------------------------------------------------------ listeners


@case("a listener is shut down, and listens again")
def shutdown_listener(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    port = 7777

    def live() -> None:
        listens = listener(port=port)
        listens.shutdown(socket.SHUT_RDWR)
        listens.listen(1)
        listens.close()

    stage.call(live)
    wait("it has ended twice", lambda: [line["to"] for line in stage.trace.states].count("UNCONN") == 2)
    yield {"it": (port, 0, 0), "it again": (port, 0, 1)}


@case("a listener closes with connections nobody accepted")
def listener_closes(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> list[tuple[int, int]]:
        listens = listener()
        clients = [connect(listens.getsockname()) for _ in range(2)]
        clients[1].shutdown(socket.SHUT_WR)
        reach(clients[1], State.FIN_WAIT2)
        names = [ports(client) for client in clients]
        listens.close()
        for client in clients:
            reach(client, State.CLOSE)
        return names

    (first, port), (second, _) = stage.call(live)
    stage.until(first, port)
    stage.until(second, port)
    yield {
        "client": (first, port),
        "server": (port, first),
        "client that had sent FIN": (second, port),
        "server of that": (port, second),
        "the listener": (port, 0),
    }


def overflowing(stage: Stage) -> tuple[int, int]:
    """A client whose handshake ends when the accept queue has become full; its ports."""
    listens = stage.call(listener, "127.0.0.1", 0, 0)

    def live() -> int:
        late = keep(socket.socket())
        late.setblocking(False)
        late.bind(("127.0.0.1", 0))
        deafen(late)
        late.connect_ex(listens.getsockname())
        connect(listens.getsockname())
        mend(late)  # the SYN-ACK comes again in a second
        port: int = late.getsockname()[1]
        return port

    return stage.call(live), listens.getsockname()[1]


@case("the accept queue is full")
def overflow(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_synack_retries", 1)
    sport, dport = overflowing(stage)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("the accept queue is full (net.ipv4.tcp_abort_on_overflow=1)")
def overflow_aborts(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_abort_on_overflow", 1)
    sport, dport = overflowing(stage)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


# ------------------------------------------------------------------------------------------------------------ half open


def half_open(stage: Stage, port: int = 1006) -> int:
    """A SYN of STRANGER's; the port of the listener."""
    route_stranger(stage.netns)
    listens = stage.call(listener)
    listening: int = listens.getsockname()[1]
    stage.call(send_syn, port, listening)
    stage.until(listening, port, "SYN-RECV")
    return listening


@case("half open, and the peer resets")
def half_open_reset(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    port = half_open(stage)
    stage.call(send_segment, (STRANGER, 1006), ("127.0.0.1", port), RST, SEQUENCE + 1)
    stage.until(port, 1006)
    yield {"server": (port, 1006)}


@case("half open, and the SYN comes again")
def half_open_again(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    port = half_open(stage)
    stage.call(send_segment, (STRANGER, 1006), ("127.0.0.1", port), SYN, SEQUENCE)
    stage.call(send_segment, (STRANGER, 1006), ("127.0.0.1", port), RST, SEQUENCE + 1)
    stage.until(port, 1006)
    yield {"server": (port, 1006)}


@case("half open, and nobody acknowledges")
def half_open_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_synack_retries", 1)
    port = half_open(stage)
    stage.until(port, 1006)
    told = yield {"server": (port, 1006)}
    assert told["server"][-1]["retransmits"] == 1


def migrating(stage: Stage) -> tuple[int, socket.socket, int]:
    """A half-open connection whose listener has closed, and another has its port: that port, that other, and the
    sequence number of the SYN-ACK.
    """
    stage.sysctl("tcp_migrate_req", 1)
    route_stranger(stage.netns)

    def listens(port: int = 0) -> socket.socket:
        made = keep(socket.socket())
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind(("127.0.0.1", port))
        made.listen()
        return made

    def live() -> tuple[int, socket.socket, int]:
        first = listens()
        port = first.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            send_syn(1006, port)
            sequence = synack_sequence(raw, port, 1006)
        other = listens(port)
        first.close()
        return port, other, sequence

    return stage.call(live)


def acknowledge(stage: Stage, port: int, other: socket.socket, sequence: int) -> None:
    stage.call(send_segment, (STRANGER, 1006), ("127.0.0.1", port), ACK, SEQUENCE + 1, sequence + 1)
    other.settimeout(20)
    reset(other.accept()[0])
    stage.until(port, 1006)


@case("half open, its listener closes, and another has its port (net.ipv4.tcp_migrate_req=1)")
def half_open_migrates(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    port, other, sequence = migrating(stage)
    acknowledge(stage, port, other, sequence)
    yield {"server": (port, 1006)}


@case("the same, and the SYN-ACK is sent again")
def half_open_migrates_by_timer(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    port, other, sequence = migrating(stage)

    def hears_again() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
            assert synack_sequence(raw, port, 1006) == sequence

    stage.call(hears_again)
    acknowledge(stage, port, other, sequence)
    yield {"server": (port, 1006)}


@case("half open, and killed (ss -K)")
def half_open_killed(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    port = half_open(stage)
    stage.ss("-K", "state", "syn-recv", netns=stage.netns)
    stage.until(port, 1006)
    yield {"server": (port, 1006)}


@case("half open, and a router says that the peer cannot be reached")
def half_open_unreachable(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    netns, router = stage.netns, Netns()
    try:
        netns.run("ip", "link", "add", "to-router", "type", "veth", "peer", "name", "to-host", "netns", router.path)
        netns.run("ip", "address", "add", "10.1.1.1/24", "dev", "to-router")
        netns.run("ip", "link", "set", "to-router", "up")
        netns.run("ip", "route", "add", "default", "via", "10.1.1.2")
        router.run("ip", "address", "add", "10.1.1.2/24", "dev", "to-host")
        router.run("ip", "link", "set", "to-host", "up")
        router.run("ip", "route", "add", "unreachable", "10.8.8.8")
        sysctl(router, "ip_forward", 1)
        listens = stage.call(listener, "10.1.1.1")
        port = listens.getsockname()[1]
        stage.call(send_segment, ("10.8.8.8", 1006), ("10.1.1.1", port), SYN, SEQUENCE)
        stage.until(port, 1006)
    finally:
        router.close()
    yield {"server": (port, 1006)}


# -------------------------------------------------------------------------------------------------------------- closing


@case("the client closes first")
def client_closes(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        server.send(b"half closed, and still of use")
        assert client.recv(100)
        server.close()
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("both close at once")
def simultaneous_close(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        for one in (client, server):
            deafen(one)
        for one in (client, server):
            one.shutdown(socket.SHUT_WR)
        mend(client)
        reach(client, State.CLOSING)  # by the server's FIN, sent again
        mend(server)
        reach(server, State.CLOSE)
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport, "TIME-WAIT")
    stage.until(dport, sport, "TIME-WAIT")
    yield {"the first": (sport, dport), "the second": (dport, sport)}


@case("connect() to AF_UNSPEC, then listen() with the same socket")
def disconnect_and_listen(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int, int]:
        _, client, server = connected()
        names = ports(client)
        disconnect(client)
        reach(server, State.CLOSE)
        client.listen(1)
        port: int = client.getsockname()[1]
        client.close()
        return *names, port

    sport, dport, port = stage.call(live)
    stage.until(port, 0)
    told = yield {"client": (sport, dport), "its peer": (dport, sport), "the listener": (port, 0)}
    assert told["client"][0]["id"] != told["the listener"][0]["id"]


@case("connect() to AF_UNSPEC, then another connect() with the same socket")
def disconnect_and_connect(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[tuple[int, int], tuple[int, int]]:
        listens, client, server = connected()
        first = ports(client)
        disconnect(client)
        reach(server, State.CLOSE)
        client.connect(listens.getsockname())
        second = ports(client)
        reset(client)
        return first, second

    first, second = stage.call(live)
    stage.until(*second)
    yield {"client": first, "client again": second}


@case("SO_LINGER of 0 seconds")
def linger(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        reset(client)
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("close() with unread data")
def unread(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        server.send(b"unread")
        client.recv(1, socket.MSG_PEEK)
        client.close()
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("data after close()")
def data_after_close(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[socket.socket, tuple[int, int]]:
        _, client, server = connected()
        names = ports(client)
        client.close()
        reach(server, State.CLOSE_WAIT)
        return server, names

    server, (sport, dport) = stage.call(live)
    stage.until(sport, dport, "FIN-WAIT-2")
    server.send(b"too late")
    stage.until(dport, sport)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("data after close(), with the acknowledgement of the FIN")
def data_with_the_acknowledgement(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.close()
        server.send(b"too late")  # well before the acknowledgement, which is delayed by 40 ms
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("data after close(), and the FIN has not been heard of")
def data_in_fin_wait_1(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        deafen(server)
        client.close()
        server.send(b"too late")
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case("data after shutdown(SHUT_RDWR)")
def data_after_shutdown(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_RDWR)
        reach(client, State.FIN_WAIT2)
        server.send(b"too late")
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("close() with unread data after shutdown(SHUT_WR)")
def unread_after_shutdown(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_WR)
        reach(client, State.FIN_WAIT2)
        server.send(b"unread")
        client.recv(1, socket.MSG_PEEK)
        client.close()
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("killed (ss -K)")
def killed(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    _, client, server = stage.call(connected)
    sport, dport = ports(client)
    stage.ss("-K", "dport", "=", f":{dport}", netns=stage.netns)
    reach(server, State.CLOSE)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


# --------------------------------------------------------------------------------------- the peer resets, in each state


@case("RST in FIN-WAIT-1")
def reset_in_fin_wait_1(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        deafen(server)
        client.shutdown(socket.SHUT_WR)
        reset(server)
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST in FIN-WAIT-2")
def reset_in_fin_wait_2(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        reach(client, State.FIN_WAIT2)
        reset(server)
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST in FIN-WAIT-2 that nobody holds")
def reset_of_an_orphan(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[socket.socket, tuple[int, int]]:
        _, client, server = connected()
        names = ports(client)
        client.close()
        return server, names

    server, (sport, dport) = stage.call(live)
    stage.until(sport, dport, "FIN-WAIT-2")
    reset(server)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST in CLOSE-WAIT")
def reset_in_close_wait(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        reach(client, State.FIN_WAIT2)
        reset(client)
        reach(server, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST in LAST-ACK")
def reset_in_last_ack(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        reach(client, State.FIN_WAIT2)
        deafen(client)
        server.close()
        stage.until(names[1], names[0], "LAST-ACK")
        reset(client)
        return names

    sport, dport = stage.call(live)
    stage.until(dport, sport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST in CLOSING")
def reset_in_closing(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        for one in (client, server):
            deafen(one)
        for one in (client, server):
            one.shutdown(socket.SHUT_WR)
        mend(client)
        reach(client, State.CLOSING)
        reset(server)
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST in TIME-WAIT")
def reset_in_time_wait(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    """Taken only where net.ipv4.tcp_rfc1337 is 0, and in sequence."""
    repair, queue, sequence_of, send_queue, off = 19, 20, 21, 2, -1

    def live() -> tuple[int, int]:
        _, client, server = connected()
        names = ports(client)
        server.setsockopt(socket.IPPROTO_TCP, repair, 1)
        server.setsockopt(socket.IPPROTO_TCP, queue, send_queue)
        sequence = server.getsockopt(socket.IPPROTO_TCP, sequence_of) & 0xFFFFFFFF
        server.setsockopt(socket.IPPROTO_TCP, repair, off)
        client.shutdown(socket.SHUT_WR)
        reach(server, State.CLOSE_WAIT)
        server.close()
        reach(client, State.CLOSE)
        send_segment(("127.0.0.1", names[1]), ("127.0.0.1", names[0]), RST, (sequence + 1) & 0xFFFFFFFF)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("RST answers a SYN: refused")
def refused(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        with listener() as gone:
            port = gone.getsockname()[1]
        with socket.socket() as client:
            client.bind(("127.0.0.1", 0))
            assert client.connect_ex(("127.0.0.1", port)) == 111
            return client.getsockname()[1], port

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    told = yield {"client": (sport, dport)}
    assert told["client"][-1]["err"] == 111


# ------------------------------------------------------------------------------------------------------------- timeouts


@case("a SYN that nobody answers")
def connect_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    route_stranger(stage.netns)
    stage.sysctl("tcp_syn_retries", 1)
    sysctl(stage.netns, "tcp_syn_linear_timeouts", 0)

    def live() -> int:
        with socket.socket() as client:
            client.bind(("127.0.0.1", 0))
            assert client.connect_ex((STRANGER, 9)) == 110
            port: int = client.getsockname()[1]
            return port

    port = stage.call(live)
    stage.until(port, 9)
    told = yield {"client": (port, 9)}
    assert (told["client"][-1]["err"], told["client"][-1]["retransmits"]) == (110, 1)


@case("data that nobody acknowledges (net.ipv4.tcp_retries2)")
def retransmission_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_retries2", 1)

    def live() -> tuple[int, int]:
        _, client, _ = connected()
        names = ports(client)
        stage.cut_lo()
        client.send(b"into the void")
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    told = yield {"client": (sport, dport)}
    assert told["client"][-1]["err"] == 110
    assert told["client"][-1]["retransmits"] > 0


@case("data that nobody acknowledges (TCP_USER_TIMEOUT)")
def user_timeout(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        names = ports(client)
        stage.cut_lo()
        client.send(b"into the void")
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case("a FIN that nobody acknowledges")
def fin_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_orphan_retries", 1)

    def live() -> tuple[int, int]:
        _, client, _ = connected()
        names = ports(client)
        stage.cut_lo()
        client.close()
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case("keepalive probes that nobody answers")
def keepalive_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT):
            client.setsockopt(socket.IPPROTO_TCP, option, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        names = ports(client)
        stage.cut_lo()
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case("a closed window, and probes that nobody answers")
def probe_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        names = ports(client)
        client.setblocking(False)

        def stalled() -> bool:
            with contextlib.suppress(BlockingIOError):
                while client.send(bytes(65536)):
                    pass
            # All that has been sent is acknowledged, there is more, and tcpi_snd_wnd is 0.
            window = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)[228:]
            return queued(client, SIOCOUTQ) == queued(client, SIOCOUTQNSD) > 0 and window == bytes(4)

        wait("the window is closed", stalled)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 500)
        stage.cut_lo()
        reach(client, State.CLOSE)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case("a peer that never closes (TCP_LINGER2)")
def fin_wait_2_times_out(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        client.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, 1)
        names = ports(client)
        client.close()
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("a peer that never closes, and is not waited for (TCP_LINGER2 of -1)")
def fin_wait_2_not_waited_for(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, _ = connected()
        client.setsockopt(socket.IPPROTO_TCP, TCP_LINGER2, -1)
        names = ports(client)
        client.close()
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


# ------------------------------------------------------------------------------------------------------------ TIME-WAIT


def queued(of: socket.socket, what: int) -> int:
    (count,) = struct.unpack("=i", fcntl.ioctl(of, what, bytes(4)))
    return int(count)


def closed_by_client(*, bind: int = 0, listens: socket.socket | None = None) -> tuple[int, int]:
    listens = listens or listener()
    client = keep(socket.socket())
    if bind:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("127.0.0.1", bind))
    client.connect(listens.getsockname())
    server = keep(listens.accept()[0])
    names = ports(client)
    client.shutdown(socket.SHUT_WR)
    reach(server, State.CLOSE_WAIT)
    server.close()
    reach(client, State.CLOSE)
    client.close()
    return names


@case("TIME-WAIT is used again (net.ipv4.tcp_tw_reuse=1)")
def time_wait_reused(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_tw_reuse", 1)
    sysctl(stage.netns, "tcp_tw_reuse_delay", 1)
    stage.sysctl("ip_local_port_range", "40000 40000")

    def live() -> tuple[int, int]:
        listens = listener(port=7777)
        names = closed_by_client(listens=listens)

        def again() -> bool:
            client = keep(socket.socket())
            return client.connect_ex(listens.getsockname()) == 0

        wait("its second is over", again)
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport, 0), "client again": (sport, dport, -1)}


@case("TIME-WAIT is used again (bind() and SO_REUSEADDR)")
def time_wait_bound_again(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        listens = listener()
        closed_by_client(bind=5555, listens=listens)
        return closed_by_client(bind=5555, listens=listens)

    sport, dport = stage.call(live)
    wait("both are over", lambda: [line["to"] for line in stage.trace.states].count("TIME-WAIT") == 2)
    yield {"client": (sport, dport, 0), "client again": (sport, dport, 1)}


@case("TIME-WAIT is killed (ss -K)")
def time_wait_killed(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    sport, dport = stage.call(closed_by_client)
    stage.ss("-K", "state", "time-wait", netns=stage.netns)
    if stage.ss("-Htan", "state", "time-wait", netns=stage.netns).stdout:
        unmet("kernel lacks SOCK_DESTROY of TIME-WAIT")
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case("no TIME-WAIT is to be had (net.ipv4.tcp_max_tw_buckets=0)")
def no_time_wait(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_max_tw_buckets", 0)
    sport, dport = stage.call(closed_by_client)
    stage.until(sport, dport)
    yield {"client": (sport, dport), "server": (dport, sport)}


@case("no TIME-WAIT is to be had, of a socket that nobody holds")
def no_time_wait_of_an_orphan(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.sysctl("tcp_max_tw_buckets", 0)

    def live() -> tuple[int, int]:
        _, client, _ = connected()
        names = ports(client)
        client.close()
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport)
    yield {"client": (sport, dport)}


@case(LONG)
def time_wait_expires(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    sport, dport = stage.call(closed_by_client)
    stage.trace.wait_for(sport=sport, dport=dport, new="TIME-WAIT")
    yield {}  # the other cases
    end = {"sport": sport, "dport": dport, "to": "UNCONN"}
    wait("a minute is over", lambda: any(end.items() <= line.items() for line in stage.trace.states), seconds=90)
    told = yield {"client": (sport, dport)}
    assert told["client"][-1]["held_us"] > 59_000_000


# ---------------------------------------------------------------------------------------------------------------- MPTCP


def multipath(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket, socket.socket]:
    try:
        listens = keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP))
    except OSError:
        unmet("kernel lacks MPTCP")
    listens.bind((host, 0))
    listens.listen()
    client = keep(socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP))
    client.connect(listens.getsockname())
    server = keep(listens.accept()[0])
    return listens, client, server


@case("MPTCP: the client closes first")
def multipath_closes(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    def live() -> tuple[int, int]:
        _, client, server = multipath()
        client.send(b"x")
        server.recv(1)
        names = ports(client)
        client.close()
        assert server.recv(1) == b""
        server.close()
        return names

    sport, dport = stage.call(live)
    stage.until(sport, dport, "TIME-WAIT")
    stage.until(dport, sport)
    yield {"client's subflow": (sport, dport), "server's subflow": (dport, sport)}


@case("MPTCP: a subflow joins")
def multipath_joins(stage: Stage) -> Generator[dict[str, Names], Told, None]:
    stage.netns.run("ip", "address", "add", "10.77.0.1/32", "dev", "lo")
    stage.netns.run("ip", "address", "add", "10.77.0.2/32", "dev", "lo")
    for words in ("limits set subflows 2 add_addr_accepted 2", "endpoint add 10.77.0.2 subflow"):
        if stage.netns.run("ip", "mptcp", *words.split(), check=False).returncode:
            unmet("kernel lacks MPTCP, or its path manager")

    def live() -> tuple[int, int]:
        _, client, server = multipath("10.77.0.1")
        client.send(b"x")
        server.recv(1)
        names = ports(client)
        server.send(b"y")
        client.recv(1)
        stage.trace.wait_for(src="10.77.0.2", dport=names[1], new="ESTAB")
        stage.trace.wait_for(dst="10.77.0.2", sport=names[1], new="ESTAB")
        for one in (client, server):
            one.close()
        return names

    sport, dport = stage.call(live)
    joined = stage.trace.wait_for(src="10.77.0.2", dport=dport, new="ESTAB")["sport"]
    for one in (sport, joined):
        stage.until(one, dport, "TIME-WAIT")
        stage.until(dport, one)
    yield {
        "client's subflow": (sport, dport),
        "server's subflow": (dport, sport),
        "client's second subflow": (joined, dport),
        "server's second subflow": (dport, joined),
    }
