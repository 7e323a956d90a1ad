"""Messages to log daemons: the journal's and syslog's sockets, made up, slow, restarting."""

import array
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sstrace.errors import FeatureError
from sstrace.sources.datagrams import Datagrams


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "log"))
        made.setblocking(False)
        yield made


def read_all(daemon: socket.socket) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(daemon.recv(1 << 20))
    except BlockingIOError:
        return found


def test_a_busy_daemon_gets_everything_in_the_end(daemon: socket.socket) -> None:
    sender = Datagrams(daemon.getsockname(), "daemon")
    sent = [b"message %d" % number for number in range(1009)]
    for message in sent:
        sender.put(message)
    assert sender.queued > 0, "a datagram socket's queue is short (net.unix.max_dgram_qlen)"
    got = []
    while sender.queued:
        got += read_all(daemon)
        sender.pump()
    assert got + read_all(daemon) == sent
    assert sender.sent == sum(map(len, sent))
    assert sender.drain(0) == 0
    sender.close()


def test_a_daemon_that_restarts(daemon: socket.socket, tmp_path: Path) -> None:
    sender = Datagrams(daemon.getsockname(), "daemon")
    sender.put(b"one")
    assert daemon.recv(100) == b"one"
    daemon.close()
    sender.put(b"two")
    assert sender.stuck == "Connection refused"
    (tmp_path / "log").unlink()
    sender.put(b"three")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as again:
        again.bind(str(tmp_path / "log"))
        assert sender.drain(30) == 0
        assert again.recv(100) == b"two"
        assert again.recv(100) == b"three"
    assert sender.stuck is None
    sender.close()


def test_a_stream_socket_takes_lines(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sender = Datagrams(path, "daemon")
        connection, _ = listener.accept()
        with connection:
            sender.put(b"one")
            sender.put(b"two")
            sender.close()
            assert connection.makefile("rb").read() == b"one\ntwo\n"


def test_the_journal_takes_long_messages_as_files(daemon: socket.socket) -> None:
    sender = Datagrams(daemon.getsockname(), "journal", memory_files=True)
    long = b"MESSAGE=" + b"x" * (20 << 20) + b"\n"
    sender.put(long)
    data, ancillary, _, _ = daemon.recvmsg(100, socket.CMSG_SPACE(4))
    assert data == b""
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    with os.fdopen(fds[0], "rb") as file:
        assert os.pread(file.fileno(), len(long) + 1, 0) == long
    assert sender.lost == 0
    sender.close()


def test_others_do_not(daemon: socket.socket) -> None:
    sender = Datagrams(daemon.getsockname(), "daemon")
    sender.put(b"x" * (20 << 20))
    sender.put(b"short")
    assert sender.lost == 1
    assert daemon.recv(100) == b"short"
    sender.close()


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"^no syslog daemon at .*/log: No such file or directory$"):
        Datagrams(str(tmp_path / "log"), "syslog daemon")


def test_a_drain_ends(daemon: socket.socket) -> None:
    sender = Datagrams(daemon.getsockname(), "daemon")
    for _ in range(2000):
        sender.put(b"x")
    left = sender.queued
    began = time.monotonic()
    assert sender.drain(0.05) == left
    assert time.monotonic() >= began
    sender.close()
    assert sender.queued == 0
