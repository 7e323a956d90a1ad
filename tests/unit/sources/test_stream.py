"""Lines into pipes, sockets and files: never waiting, never half a line."""

import contextlib
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sstrace.errors import SstraceError
from sstrace.sources.stream import Stream, open_output

LINES = b"".join(b"line %06d %s\n" % (number, b"x" * (number % 97)) for number in range(20_000))


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        with contextlib.suppress(OSError):  # a test may have closed it
            os.close(fd)


def read_all(fd: int) -> bytes:
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 1 << 20):
            parts.append(part)
    except BlockingIOError:
        pass
    return b"".join(parts)


def test_a_full_pipe_holds_whole_lines_and_nothing_waits(pipe: tuple[int, int]) -> None:
    stream = Stream(pipe[1])
    stream.put(LINES)
    assert stream.queued > 0
    held = read_all(pipe[0])
    assert held.endswith(b"\n")
    assert held == LINES[: len(held)]
    assert stream.sent == len(held)
    assert os.get_blocking(pipe[1]), "the pipe of others is left as it was"


def test_everything_arrives_in_order_once_it_is_read(pipe: tuple[int, int]) -> None:
    stream = Stream(pipe[1])
    got = b""
    for start in range(0, len(LINES), 50_000):
        end = LINES.find(b"\n", start + 49_999) + 1 or len(LINES)
        begin = LINES.find(b"\n", start - 1) + 1 if start else 0
        stream.put(LINES[begin:end])
        if start % 150_000 == 0:
            got += read_all(pipe[0])
            assert got.endswith(b"\n")
    while stream.queued:
        stream.pump()
        got += read_all(pipe[0])
    assert got + read_all(pipe[0]) == LINES
    assert stream.drain(0) == 0


def test_a_line_longer_than_a_pipe_takes_at_once_goes_too(pipe: tuple[int, int]) -> None:
    line = b"y" * 300_000 + b"\n"
    stream = Stream(pipe[1])
    stream.put(line)
    got = b""
    while stream.queued:
        got += read_all(pipe[0])
        stream.pump()
    assert got + read_all(pipe[0]) == line


def test_without_proc_the_pipe_is_asked_first(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refused(path: str, *rest: int) -> int:
        if str(path).startswith("/proc/self/fd/"):
            raise PermissionError(errno.EACCES, "refused")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refused)
    stream = Stream(pipe[1])
    stream.put(LINES)
    got = read_all(pipe[0])
    assert got.endswith(b"\n")
    assert stream.queued
    while stream.queued:
        stream.pump()
        got += read_all(pipe[0])
    assert got == LINES
    os.close(pipe[0])
    with pytest.raises(BrokenPipeError):
        stream.put(b"nobody\n")


def test_a_reader_who_has_gone(pipe: tuple[int, int]) -> None:
    stream = Stream(pipe[1])
    assert not stream.gone()
    os.close(pipe[0])
    assert stream.gone()
    with pytest.raises(BrokenPipeError):
        stream.put(b"nobody\n")


def test_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = Stream(ours.fileno())
        stream.put(LINES)
        assert stream.queued
        got = b""
        while stream.queued:
            got += theirs.recv(1 << 20)
            stream.pump()
        theirs.setblocking(False)
        while len(got) < len(LINES):
            got += theirs.recv(1 << 20)
        assert got == LINES
        assert ours.getblocking()
        theirs.close()
        assert stream.gone()
        with pytest.raises(BrokenPipeError):
            stream.put(b"nobody\n")
        stream.close()


def test_a_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"before\n")
    stream = Stream(open_output(str(path)), owned=True)
    stream.put(b"one\ntwo\n")
    stream.close()
    assert path.read_bytes() == b"before\none\ntwo\n"


def test_a_cut_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"cut of")
    stream = Stream(open_output(str(path)), owned=True)
    stream.put(b"one\n")
    stream.close()
    assert path.read_bytes() == b"cut of\none\n"


def test_a_full_disk_takes_whole_lines_and_all_the_rest_later(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands in for a small disk: write(2) stops in the middle of a line, as with ENOSPC."""
    path = tmp_path / "out"
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[3])!r})
from sstrace.sources.stream import Stream, open_output
lines = b"".join(b"line %06d\\n" % number for number in range(1000))
resource.setrlimit(resource.RLIMIT_FSIZE, (5003, resource.RLIM_INFINITY))
stream = Stream(open_output({str(path)!r}), owned=True)
stream.put(lines)
print(stream.stuck, open({str(path)!r}).read()[-1:] == "\\n", stream.sent + stream.queued == len(lines))
stream.pump()
print(stream.drain(0) > 0, stream.sent)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(stream.drain(0), stream.stuck, open({str(path)!r}, "rb").read() == lines)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second, third = done.stdout.splitlines()
    assert first == "File too large True True"
    assert second == f"True {5003 // 12 * 12}"
    assert third == "0 None True"


def test_a_file_replaced(tmp_path: Path) -> None:
    path, old = tmp_path / "out", tmp_path / "out.1"
    stream = Stream(open_output(str(path)), owned=True)
    stream.put(b"one\n")
    path.rename(old)
    stream.replace(open_output(str(path)))
    stream.put(b"two\n")
    stream.close()
    assert (old.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/nonexistent/out", "cannot write /nonexistent/out: No such file or directory"),
        ("/", "cannot write /: Is a directory"),
    ],
)
def test_a_file_that_cannot_be_made(path: str, says: str) -> None:
    with pytest.raises(SstraceError) as caught:
        open_output(path)
    assert str(caught.value) == says


def test_a_fifo_that_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(SstraceError, match="nobody reads it"):
        open_output(str(path))
