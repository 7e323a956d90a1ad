"""What a server writes to its clients' descriptors, and that it never waits for them."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from sstrace.sources import asking, service

TEXT = b"".join(b"line %d\n" % number for number in range(100_000))


@pytest.fixture
def file() -> Iterator[int]:
    fd = os.memfd_create("text")
    os.write(fd, TEXT)
    yield fd
    os.close(fd)


def rest(file: int) -> bytes:
    return os.pread(file, len(TEXT), os.lseek(file, 0, os.SEEK_CUR))


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_takes_what_it_holds_and_the_position_says_how_much(file: int, blocking: bool) -> None:
    read, write = os.pipe()
    os.set_blocking(write, blocking)
    assert not service.pour(file, write)
    os.close(write)
    taken = b""
    while data := os.read(read, 1 << 20):
        taken += data
    assert 4096 <= len(taken) < len(TEXT)
    assert taken + rest(file) == TEXT
    os.close(read)


def test_a_short_text_is_out_at_once() -> None:
    read, write = os.pipe()
    fd = os.memfd_create("short")
    os.write(fd, b"short\n")
    assert service.pour(fd, write)
    os.close(fd)
    assert os.read(read, 100) == b"short\n"
    os.close(read)
    os.close(write)


def test_a_socket(file: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not service.pour(file, theirs.fileno())
        theirs.shutdown(socket.SHUT_WR)
        taken = b""
        while data := ours.recv(1 << 20):
            taken += data
        assert 0 < len(taken) < len(TEXT)
        assert taken + rest(file) == TEXT


def test_the_null_device_takes_all(file: int) -> None:
    with open(os.devnull, "wb") as null:
        assert asking.may_take(null.fileno())
        assert service.pour(file, null.fileno())
    assert rest(file) == b""


def test_a_reader_that_has_gone(file: int) -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        service.pour(file, write)
    os.close(write)


def test_what_a_server_does_not_write_to(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, open("/dev/zero", "wb") as device:
        assert not asking.may_take(file.fileno())
        assert not asking.may_take(device.fileno())
    master, slave = os.openpty()
    assert not asking.may_take(slave)
    directory = os.open(tmp_path, os.O_RDONLY)
    assert not asking.may_take(directory)
    for fd in (master, slave, directory):
        os.close(fd)
    read, write = os.pipe()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert asking.may_take(write)
        assert asking.may_take(theirs.fileno())
    os.close(read)
    os.close(write)
