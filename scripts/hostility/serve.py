"""Abuse of a server: whatever comes by its socket, or by HTTP, the next question is answered as ss answers it."""

import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from conftest import Netns
from tracing import wait

from hostility.campaign import SS, SSTRACE, Bounds, Tally, connection, namespace, wrong

PORT = 9439
QUESTION = b'{"argv": ["-tln"], "ss": "6.1"}\n'
FOLLOWING = b'{"argv": [], "follow": true}\n'
PIECES = (
    b"{", b"}", b"[", b"]", b'"argv"', b":", b",", b'"', b"\\u0000", b"\\ud800", b"\xff", b"\n", b"\0", b"-tan",
    b"null", b"1e999", b"9" * 400, b"[" * 3000, b"A" * 70_000, b'"ss"', b'"6.1"', b'"-F"', b'"/etc/shadow"',
    b'"--debug"', b'"-K"', b'"-N"', b'"live"', b"\x1b[2J",
)  # fmt: skip
_GET = b"GET /metrics HTTP/1.1\r\n"
LINES = (
    _GET + b"Host: x\r\n\r\n",
    _GET + b"X: y\r\n" * 500 + b"\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /../etc/shadow HTTP/1.1\r\n\r\n",
    b"GET /metrics?name[]=x HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n",
    b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01",
    b"\0" * 1000,
)


def run(bounds: Bounds, tally: Tally) -> None:
    """Abuse one server ``count`` times."""
    here, ready = bounds.scratch / "live", bounds.scratch / "ready"
    with namespace() as netns, (bounds.scratch / "err").open("wb") as err:
        process = SSTRACE.start(
            f"--serve={here}", f"--metrics=127.0.0.1:{PORT}", "--ready-file", str(ready), netns=netns,
            stdout=err, stderr=err,
        )  # fmt: skip
        wait("it serves", lambda: ready.exists() or process.poll() is not None, 60)
        for number in range(bounds.count):
            dice = bounds.dice(number)
            abuse = dice.choice(ABUSES)
            with tally.attempt(abuse.__name__.strip("_"), f"seed {bounds.seed}, number {number}"):
                abuse(here, netns, dice)
                _still_right(here, netns)
                assert process.poll() is None, "the server has ended"
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    tally.note("its end", wrong(code, (bounds.scratch / "err").read_bytes(), (0,)), f"seed {bounds.seed}")


def _still_right(here: Path, netns: Netns) -> None:
    """Asked by hand, which costs no start of a program."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(here))
        read, write = os.pipe()
        socket.send_fds(client, [QUESTION], [write, write])
        os.close(write)
        with open(read, "rb") as answer:
            ours = _listeners(answer.read())
        assert client.recv(100) == b'{"code":0}\n'
    theirs = _listeners(SS("-tln", netns=netns).stdout)
    assert ours == theirs, (ours, theirs)


def _listeners(text: bytes) -> list[list[bytes]]:
    """Without the queues: somebody may be about to be accepted."""
    return [line.split()[3:] for line in text.splitlines()]


def _noise(dice: Random) -> bytes:
    parts = [dice.choice(PIECES) if dice.random() < 0.8 else dice.randbytes(9) for _ in range(dice.randrange(1, 12))]
    return b"".join(parts) + b"\n" * (dice.random() < 0.7)


def _question(dice: Random) -> bytes:
    """Well formed, and of any content."""
    words = [dice.choice(("-tan", "-K", "-F", "/etc/shadow", "-D", "-N", "-E", "-r", "\x1b", "x" * 3000, "-A", "("))
             for _ in range(dice.randrange(6))]  # fmt: skip
    return json.dumps({"argv": words, "ss": dice.choice(("6.1", "7.3", "", "x"))}).encode() + b"\n"


def _speaks(here: Path, dice: Random, data: bytes, fds: list[int], *, reads: bool) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(str(here))
        with suppress(OSError):
            if fds:
                socket.send_fds(client, [data[:1]], fds)
                data = data[1:]
            while data:
                size = dice.choice((1, 7, 100, len(data)))
                client.sendall(data[:size])
                data = data[size:] if size < 100 else data[len(data) :]
            if reads:
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)


def _garbage(here: Path, _netns: Netns, dice: Random) -> None:
    read, write = os.pipe()
    _speaks(here, dice, _noise(dice), [write] * dice.randrange(4), reads=dice.random() < 0.5)
    os.close(read)
    os.close(write)


def _questions(here: Path, _netns: Netns, dice: Random) -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    _speaks(here, dice, _question(dice), [write, write], reads=False)
    os.close(write)
    os.close(read)


def _brackets(here: Path, _netns: Netns, dice: Random) -> None:
    """Well formed up to there, or to their end."""
    depth = dice.choice((100, 5000, 30_000))
    ending = dice.choice((b"", b"]" * depth + b"}"))
    words = b'{"argv":[],"follow":%s,"x":' % dice.choice((b"true", b"false")) + b"[" * depth + ending + b"\n"
    read, write = os.pipe()
    _speaks(here, dice, words, [write, write], reads=dice.random() < 0.5)
    os.close(read)
    os.close(write)


def _descriptors(here: Path, _netns: Netns, dice: Random) -> None:
    kinds: tuple[Callable[[], int], ...] = (
        lambda: os.open("/dev/null", os.O_RDWR), lambda: os.open("/etc/passwd", os.O_RDONLY),
        lambda: os.memfd_create("x"), lambda: os.open("/", os.O_RDONLY), lambda: socket.socket().detach(),
        lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4).detach(), lambda: os.eventfd(0),
    )  # fmt: skip
    fds = [dice.choice(kinds)() for _ in range(dice.choice((1, 2, 2, 2, 3, 20)))]
    _speaks(here, dice, QUESTION, fds, reads=dice.random() < 0.8)
    for fd in fds:
        os.close(fd)


def _crowds(here: Path, _netns: Netns, dice: Random) -> None:
    """Many at once, who say nothing, or half of it, and go."""
    crowd = []
    for _ in range(dice.randrange(1, 60)):
        client = socket.socket(socket.AF_UNIX)
        crowd.append(client)
        client.settimeout(5)
        with suppress(OSError):
            client.connect(str(here))
            client.send(QUESTION[: dice.randrange(len(QUESTION))])
    for client in crowd:
        client.close()


def _followers(here: Path, netns: Netns, dice: Random) -> None:
    """Some who ask to be told all that happens, and read none of it, or a little, and go while it happens."""
    followers = []
    for _ in range(dice.choice((1, 3, 20))):
        client = socket.socket(socket.AF_UNIX)
        followers.append(client)
        client.settimeout(5)
        with suppress(OSError):
            client.connect(str(here))
            null = os.open("/dev/null", os.O_RDWR)
            socket.send_fds(client, [FOLLOWING], [null, null])
            os.close(null)
            if dice.random() < 0.5:
                assert client.recv(dice.choice((1, 100, 65536)))
        if dice.random() < 0.3:
            client.close()
        netns.call(connection)
    for client in followers:
        client.close()


def _http(_here: Path, netns: Netns, dice: Random) -> None:
    def speak() -> None:
        with socket.create_connection(("127.0.0.1", PORT), timeout=5) as client, suppress(OSError):
            client.sendall(dice.choice(LINES) if dice.random() < 0.7 else dice.randbytes(dice.randrange(1, 3000)))
            if dice.random() < 0.5:
                client.shutdown(socket.SHUT_WR)
                client.recv(65536)

    netns.call(speak)


def _scrapers(_here: Path, netns: Netns, dice: Random) -> None:
    """Many of one user's who say nothing; another's is answered all the same."""

    def speak() -> None:
        crowd = []
        os.seteuid(dice.randrange(1000, 2000))
        try:
            crowd = [socket.create_connection(("127.0.0.1", PORT), timeout=5) for _ in range(dice.randrange(60, 90))]
        finally:
            os.seteuid(0)
        with socket.create_connection(("127.0.0.1", PORT), timeout=30) as scraper:
            scraper.sendall(LINES[0])
            assert scraper.recv(100).startswith(b"HTTP/1.0 200 OK")
        for client in crowd:
            client.close()

    netns.call(speak)


ABUSES = (_garbage, _questions, _brackets, _descriptors, _crowds, _followers, _http, _scrapers)
