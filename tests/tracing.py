"""Runs the real ``sstrace`` in a network namespace, lets sockets live there, and reads what was told of them."""

import ctypes
import json
import signal
import socket
import struct
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from conftest import Netns, Program

from sstrace.errors import FeatureError
from sstrace.model import State
from sstrace.sources.tracefs import event_format

Line = dict[str, Any]
LINGER_0 = struct.pack("ii", 1, 0)
STRANGER = "10.9.9.9"
"""Routed to lo, where it is nobody's address: what is sent there comes in again and is dropped."""


def wait(what: str, met: Callable[[], Any], seconds: float = 20) -> Any:
    """Until a fact holds, asked again every 2 ms; gives what ``met`` gave."""
    end = time.monotonic() + seconds
    while not (found := met()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.002)
    return found


class Trace:
    """A running trace; a context manager, whose end is Ctrl-C and an orderly exit."""

    def __init__(
        self,
        sstrace: Program,
        netns: Netns,
        directory: Path,
        *arguments: str,
        json_lines: bool = True,
        env: dict[str, str] | None = None,
    ) -> None:
        self.ready = directory / "ready"
        self._out = directory / "out"
        self._err = directory / "err"
        self.ready.unlink(missing_ok=True)
        words = [*(["--json"] if json_lines else []), "--ready-file", str(self.ready), *arguments]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = sstrace.start(*words, netns=netns, stdout=out, stderr=err, env=env)

    def __enter__(self) -> "Trace":
        # Where the programs are compiled first, on an emulated machine, it takes its time.
        wait("the trace is ready", lambda: self.ready.exists() or self.process.poll() is not None, 90)
        assert self.process.poll() is None, self.stderr
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self, number: int = signal.SIGINT) -> int:
        """Ctrl-C, unless it has ended by itself; the exit code. What happened before is in ``lines`` afterwards."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    @property
    def text(self) -> list[str]:
        """Whole lines so far."""
        return self._out.read_bytes().decode().split("\n")[:-1]

    @property
    def stderr(self) -> str:
        """What it said on standard error."""
        return self._err.read_text()

    @property
    def lines(self) -> list[Line]:
        """Every line so far."""
        return [json.loads(text) for text in self.text]

    @property
    def states(self) -> list[Line]:
        """Transitions so far."""
        return [line for line in self.lines if line["type"] == "state"]

    def wait_for(self, **wanted: Any) -> Line:
        """A transition with these values (``old`` and ``new`` for from and to), when it has come."""
        keys = {"old": "from", "new": "to"}
        wanted = {keys.get(key, key): value for key, value in wanted.items()}

        def met() -> Line | None:
            return next((line for line in self.states if wanted.items() <= line.items()), None)

        found: Line = wait(f"a line with {wanted}", met)
        return found


def lives(lines: list[Line]) -> dict[tuple[int, int], list[Line]]:
    """Transitions by (local port, peer port). Each row's must follow from one another and be told in order."""
    by_ports: dict[tuple[int, int], list[Line]] = defaultdict(list)
    last: dict[int, Line] = {}
    at = 0
    for line in lines:
        if not line.get("approximate"):  # those are found by looking, and dated back to when it happened
            assert line["mono_ns"] >= at, "out of order"
            at = line["mono_ns"]
        before = last.get(line["id"])
        if before is not None:
            assert line["from"] == before["to"], (before, line)
            assert line["held_us"] == (line["mono_ns"] - before["mono_ns"]) / 1000
        if line["from"] != line["to"]:  # a timewait socket that takes over in FIN-WAIT-2 begins no state
            last[line["id"]] = line
        by_ports[line["sport"], line["dport"]].append(line)
    return dict(by_ports)


def recordable(table: str) -> list[list[str]]:
    """Of the rows that ss prints, without titles and netid, what a recording knows: state and both ends; sorted."""
    return sorted([line.split()[at] for at in (0, 3, 4)] for line in table.splitlines())


def path(lines: list[Line]) -> list[str]:
    """The states gone through, and the cause of each end: ``ESTAB UNCONN:linger``; of the connection, which is told
    once, with its lifetime where its beginning was seen, and of the timewait socket that stays behind.
    """
    states = [lines[0]["from"]] if lines else []
    over = False
    for line in lines:
        ended = line.get("ended", False)
        assert not (over and ended), "a connection ends once"
        over |= ended
        listened = (line["from"], line["to"]) == ("LISTEN", "UNCONN")
        assert ("cause" in line) == (ended or line["to"] == "UNCONN"), line
        assert over or listened or line["to"] not in ("TIME-WAIT", "UNCONN"), line
        if ended and lines[0]["from"] in ("UNCONN", "LISTEN"):
            assert line["lifetime_us"] == (line["mono_ns"] - lines[0]["mono_ns"]) / 1000
        assert ended or listened or "lifetime_us" not in line
        states.append(line["to"] + (f":{line['cause']}" if "cause" in line else ""))
    return states


CLIENT_OPEN = ["UNCONN", "SYN-SENT", "ESTAB"]
SERVER_OPEN = ["LISTEN", "SYN-RECV", "ESTAB"]


# ------------------------------------------------------------------------------- what sockets do; call in the namespace


Start = Callable[..., Trace]


@contextmanager
def traces(sstrace: Program, netns: Netns, directory: Path) -> Iterator[Start]:
    """Start traces in a namespace, each with a directory of its own; whatever still runs at the end is killed."""
    started: list[Trace] = []

    def start(*arguments: str, json_lines: bool = True) -> Trace:
        own = directory / str(len(started))
        own.mkdir()
        started.append(Trace(sstrace, netns, own, *arguments, json_lines=json_lines))
        return started[-1]

    yield start
    for one in started:
        one.stop(signal.SIGKILL)


@pytest.fixture
def trace(sstrace: Program, netns: Netns, tmp_path: Path) -> Iterator[Start]:
    """Start traces in the test's namespace; whatever still runs at the end is stopped."""
    with traces(sstrace, netns, tmp_path) as start:
        yield start


_made: list[socket.socket] = []


def keep(made: socket.socket) -> socket.socket:
    """Have ``close_all`` close a socket, so that a test need not (and none closes by chance, as garbage)."""
    _made.append(made)
    return made


def close_all() -> None:
    """At the end of a test."""
    while _made:
        _made.pop().close()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """No socket outlives its test, in modules that import this."""
    yield
    close_all()


def listener(host: str = "127.0.0.1", port: int = 0, backlog: int = 64) -> socket.socket:
    """A listening socket; IPv6 by its address."""
    made = keep(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((host, port))
    made.listen(backlog)
    return made


def connect(to: tuple[str, int]) -> socket.socket:
    """A connected client."""
    return keep(socket.create_connection(to, timeout=20))


def connected(host: str = "127.0.0.1", to: str | None = None) -> tuple[socket.socket, socket.socket, socket.socket]:
    """A listener, a client, and what was accepted."""
    listens = listener(host)
    client = connect((to or host, listens.getsockname()[1]))
    accepted = keep(listens.accept()[0])
    reach(accepted, State.ESTABLISHED)
    return listens, client, accepted


def ports(of: socket.socket) -> tuple[int, int]:
    """Local and peer port."""
    return of.getsockname()[1], of.getpeername()[1]


def state_of(of: socket.socket) -> int:
    """The state, by TCP_INFO."""
    return of.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def reach(of: socket.socket, state: State) -> None:
    """Wait until a socket is in a state."""
    wait(f"{of} is in {state.name}", lambda: state_of(of) == state)


def leave(of: socket.socket, state: State) -> None:
    """Wait until a socket is in another state."""
    wait(f"{of} is no longer in {state.name}", lambda: state_of(of) != state)


def reset(of: socket.socket) -> None:
    """Close with SO_LINGER of 0 seconds."""
    of.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_0)
    of.close()


def disconnect(of: socket.socket) -> None:
    """connect(2) to AF_UNSPEC, which Python's sockets cannot say."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.connect(of.fileno(), bytes(16), 16) == 0


SYN, RST, ACK = 2, 4, 16
SEQUENCE = 0x1234567
"""Of the SYN that ``send_syn`` sends."""


def send_syn(sport: int, dport: int) -> None:
    """A bare SYN from STRANGER to 127.0.0.1, whose answer goes nowhere. Needs ``route_stranger``."""
    send_segment((STRANGER, sport), ("127.0.0.1", dport), SYN, SEQUENCE)


def send_segment(
    source: tuple[str, int],
    target: tuple[str, int],
    flags: int,
    sequence: int,
    acknowledged: int = 0,
    *,
    data: bytes = b"",
    wrong: int = 0,
) -> None:
    """A forged segment. ``data``: an even number of bytes; ``wrong``: bits of its checksum that are."""
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    segment = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, acknowledged, 5 << 4, flags, 1024, 0, 0) + data
    check = _checksum(addresses + struct.pack("!BBH", 0, 6, len(segment)) + segment) ^ wrong
    segment = segment[:16] + struct.pack("!H", check) + segment[18:]
    header = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0, addresses)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(header + segment, (target[0], 0))


def synack_sequence(raw: socket.socket, sport: int, dport: int) -> int:
    """Of the next SYN-ACK between two ports that a raw TCP socket hears."""
    raw.settimeout(20)
    while True:
        datagram = raw.recv(65536)
        segment = datagram[(datagram[0] & 15) * 4 :]
        source, target, sequence, _, _, flags = struct.unpack_from("!HHIIBB", segment)
        if (source, target, flags & (SYN | ACK)) == (sport, dport, SYN | ACK):
            return int(sequence)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # include/uapi/asm-generic/socket.h
_DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0))
_DROP_PROGRAM = struct.pack("@HP", 1, ctypes.addressof(_DROP_ALL))
"""struct sock_fprog of one instruction, ``return 0``."""


def deafen(of: socket.socket) -> None:
    """From now on it receives nothing, as behind a cut line."""
    of.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _DROP_PROGRAM)


def mend(of: socket.socket) -> None:
    """It hears again."""
    of.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def route_stranger(netns: Netns) -> None:
    """Make STRANGER an address that swallows everything."""
    netns.run("ip", "route", "add", STRANGER, "dev", "lo")


def sysctl(netns: Netns, name: str, value: int | str) -> bool:
    """Set net.ipv4.NAME inside; False where this kernel has none."""

    def write() -> bool:
        file = Path("/proc/sys/net/ipv4") / name
        if not file.exists():
            return False
        file.write_text(str(value))
        return True

    return netns.call(write)


def counts_datagrams() -> bool:
    """Whether the kernel tells how much a call has sent and received (Linux 6.3)."""
    try:
        event_format("sock/sock_send_length")
    except FeatureError:
        return False
    return True
