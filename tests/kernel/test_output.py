"""Whoever reads the lines: gone, slow, stopped, on a full disk, or a file that is rotated. The tracer goes on."""

import errno
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
from conftest import Netns, Program
from tracing import Trace, close_all, connected, listener, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]

OPENED = ("from", "syn-sent", "to", "established")
"""One line for each connection made in the namespace."""


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()
    while Piped.running:
        process = Piped.running.pop().process
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def exchange(count: int, port: int = 0) -> int:
    """So many connections, one after the other, each closed by its client with a reset; the listener's port."""
    listens = listener(port=port)
    address = listens.getsockname()
    with listens:
        for _ in range(count):
            with socket.create_connection(address, timeout=30) as client:
                accepted, _ = listens.accept()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
    return int(address[1])


class Piped:
    """A trace whose stdout is a pipe that the test holds, or hands to another process."""

    running: ClassVar[list["Piped"]] = []

    def __init__(
        self, sstrace: Program, netns: Netns, directory: Path, *words: str, stdout: Any = None, queue: str = ""
    ) -> None:
        self.ready = directory / "ready"
        self.errors = directory / "errors"
        with self.errors.open("wb") as errors:
            self.process = sstrace.start(
                "--ready-file",
                str(self.ready),
                *words,
                netns=netns,
                stdout=subprocess.PIPE if stdout is None else stdout,
                stderr=errors,
                env={"SSTRACE_QUEUE": queue},
            )
        self.running.append(self)
        wait("the trace is ready", lambda: self.ready.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.errors.read_text()

    def statistics(self) -> str:
        """What SIGUSR1 makes it say."""
        before = len(self.errors.read_text())
        self.process.send_signal(signal.SIGUSR1)
        return str(wait("the statistics", lambda: self.errors.read_text()[before:].endswith("\n") and (
            self.errors.read_text()[before:])))  # fmt: skip

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


def read_lines(process: subprocess.Popen[bytes]) -> tuple[list[bytes], threading.Thread]:
    """Read a process's stdout in a thread."""
    lines: list[bytes] = []
    assert process.stdout is not None
    source = process.stdout

    def read() -> None:
        lines.extend(source)

    thread = threading.Thread(target=read)
    thread.start()
    return lines, thread


def check_numbers(lines: list[dict[str, Any]]) -> int:
    """Every number once, but for those that ``dropped`` lines account for; how many these are."""
    at = missing = 0
    for line in lines:
        if line["type"] == "meta":
            continue
        if line["type"] == "dropped":
            assert line["first_seq"] == at + 1
            assert line["count"] == line["seq"] - line["first_seq"]
            missing += line["count"]
        else:
            assert line["seq"] == at + 1
        at = line["seq"]
    return missing


def test_head_takes_one_line_and_all_is_quiet(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    piped = Piped(sstrace, netns, tmp_path, "--json", stdout=write_end)
    head = subprocess.Popen(["head", "-1"], stdin=read_end, stdout=subprocess.PIPE)
    os.close(read_end)
    os.close(write_end)
    out, _ = head.communicate(timeout=60)
    assert json.loads(out)["type"] == "meta"
    assert piped.process.wait(60) == 0
    assert piped.errors.read_text().startswith("sstrace: 0 events, 0 lost, 0 late")


@pytest.mark.parametrize("schema", ["native", "ecs", "otel"])
def test_a_consumer_that_is_stopped_for_ten_seconds_misses_nothing(
    sstrace: Program, netns: Netns, tmp_path: Path, schema: str
) -> None:
    piped = Piped(sstrace, netns, tmp_path, "--json", "--schema", schema)
    kept = tmp_path / "kept"
    with kept.open("wb") as file:
        cat = subprocess.Popen(["cat"], stdin=piped.process.stdout, stdout=file)
    assert piped.process.stdout is not None
    piped.process.stdout.close()
    cat.send_signal(signal.SIGSTOP)
    stopped = time.monotonic()
    made = 0
    while time.monotonic() - stopped < 10 or made < 997:
        netns.call(exchange, 11)
        made += 11
        queued = piped.statistics()  # which answers: it is not stuck
    assert " 0 bytes queued" not in queued
    assert " 0 lost" in queued
    cat.send_signal(signal.SIGCONT)
    assert piped.stop() == 0
    cat.wait(60)
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    opened = {
        "native": lambda line: line["type"] == "state" and (line["from"], line["to"]) == ("SYN-SENT", "ESTAB"),
        "ecs": lambda line: (line["sstrace"].get("from"), line["sstrace"].get("to")) == ("SYN-SENT", "ESTAB"),
        "otel": lambda line: (
            line.get("sstrace.state.previous") == "syn_sent" and line["network.connection.state"] == "established"
        ),
    }
    assert sum(map(opened[schema], lines)) == made
    if schema == "native":
        assert check_numbers(lines) == 0


def test_drop_says_what_is_missing(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """A reader who is stopped until the queue is full, then reads on; what it gets accounts for every line."""
    piped = Piped(sstrace, netns, tmp_path, "--json", "--on-full", "drop", queue="1M")
    made = 0
    while "dropped" not in piped.statistics():
        netns.call(exchange, 997)
        made += 997
        assert made < 20_000, "the queue is bounded"
    resident = int(Path(f"/proc/{piped.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    lines, thread = read_lines(piped.process)
    wait("the queue is read", lambda: "; stdout: " in (said := piped.statistics()) and " 0 bytes queued" in said, 60)
    netns.call(exchange, 499)
    made += 499
    assert piped.stop() == 0
    thread.join(60)
    told = [json.loads(line) for line in lines]
    missing = check_numbers(told)
    assert missing > 0
    assert [line["reason"] for line in told if line["type"] == "dropped"] == ["slow-reader"]
    assert told[-1]["seq"] == missing + len(told) - 1, "every line is here, or counted as missing; one is meta"
    opened = sum(line["type"] == "state" and (line["from"], line["to"]) == ("SYN-SENT", "ESTAB") for line in told)
    assert made - missing <= opened < made
    assert f"{missing} lines did not reach stdout" in piped.errors.read_text()
    assert resident < 300 << 20


def test_block_waits_and_loses_only_what_the_kernel_counts(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """With a queue that is full, events wait in the kernel; what it had to drop is in gap lines, and repaired."""
    piped = Piped(sstrace, netns, tmp_path, "--json", queue="1M")
    made = 0
    while made < 25_000:
        netns.call(exchange, 997)
        made += 997
        queued = int(piped.statistics().rpartition(" bytes queued")[0].split()[-1])
        assert queued < 3 << 20
    lines, thread = read_lines(piped.process)
    wait("the queue is read", lambda: " 0 bytes queued" in piped.statistics(), 120)
    assert piped.stop() == 0
    thread.join(60)
    told = [json.loads(line) for line in lines]
    assert check_numbers(told) == 0
    opened = sum(line["type"] == "state" and (line["from"], line["to"]) == ("SYN-SENT", "ESTAB") for line in told)
    gaps = sum(line["count"] for line in told if line["type"] == "gap")
    if gaps:
        assert opened < made
        assert any(line["type"] == "resync" for line in told)
    else:
        assert opened == made


@pytest.fixture
def heeds_hangups() -> Iterator[None]:
    """Also where the tests run under nohup(1)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("heeds_hangups")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_told_to_stop_while_nobody_reads(sstrace: Program, netns: Netns, tmp_path: Path, number: int) -> None:
    """Whole lines, an end within seconds, status 0, and a word about the rest."""
    piped = Piped(sstrace, netns, tmp_path, "--json")
    netns.call(exchange, 499)
    wait("lines wait", lambda: " 0 bytes queued" not in piped.statistics())
    assert piped.stop(number) == 0
    assert piped.process.stdout is not None
    out = piped.process.stdout.read()
    assert out.endswith(b"\n")
    told = [json.loads(line) for line in out.splitlines()]
    assert check_numbers(told) == 0
    last = piped.errors.read_text().splitlines()[-1]
    missing = int(last.rpartition("; ")[2].split()[0])
    assert last.endswith(" lines did not reach stdout")
    assert missing > 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.parametrize("redirected", [False, True], ids=["--output", "stdout"])
def test_a_full_disk(sstrace: Program, netns: Netns, tmp_path: Path, small_disk: Path, redirected: bool) -> None:
    file, filler = small_disk / "lines", small_disk / "filler"
    filler.write_bytes(bytes(100 << 10))
    if redirected:
        with file.open("wb") as out:
            piped = Piped(sstrace, netns, tmp_path, "--json", stdout=out)
        name = "stdout"
    else:
        piped = Piped(sstrace, netns, tmp_path, "--json", "--output", str(file))
        name = str(file)
    netns.call(exchange, 997)
    wait("it says so", lambda: f"cannot write to {name}: No space left on device: " in piped.errors.read_text())
    assert file.read_bytes().endswith(b"\n"), "not half a line"
    for line in file.read_text().splitlines():
        json.loads(line)
    netns.call(exchange, 97)
    assert " 0 lost" in piped.statistics()
    filler.unlink()
    big = subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=False)
    assert big.returncode == 0
    wait("it goes on", lambda: f"writing to {name} works again" in piped.errors.read_text())
    netns.call(exchange, 101)
    assert piped.stop() == 0
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert check_numbers(told) == 0, "the queue was large enough"
    opened = sum(line["type"] == "state" and (line["from"], line["to"]) == ("SYN-SENT", "ESTAB") for line in told)
    assert opened == 997 + 97 + 101


def test_a_disk_that_stays_full(sstrace: Program, netns: Netns, tmp_path: Path, small_disk: Path) -> None:
    file = small_disk / "lines"
    piped = Piped(sstrace, netns, tmp_path, "--json", "--output", str(file))
    netns.call(exchange, 997)
    wait("it says so", lambda: "No space left on device" in piped.errors.read_text())
    assert piped.stop() == 1
    out = file.read_bytes()
    assert out.endswith(b"\n")
    assert check_numbers([json.loads(line) for line in out.splitlines()]) == 0
    assert piped.errors.read_text().splitlines()[-1].endswith(f" lines did not reach {file}")


def test_rotation(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """As logrotate does it: rename, SIGHUP. The two files together are the stream; each begins with a meta line."""
    file, old = tmp_path / "lines", tmp_path / "lines.1"
    piped = Piped(sstrace, netns, tmp_path, "--json", "--output", str(file))
    netns.call(exchange, 499)
    file.rename(old)
    piped.process.send_signal(signal.SIGHUP)
    wait("a new file", file.exists)
    netns.call(exchange, 601)
    assert piped.stop() == 0
    first, second = ([json.loads(line) for line in path.read_text().splitlines()] for path in (old, file))
    assert first[0]["type"] == second[0]["type"] == "meta"
    assert first[0]["boot_id"] == second[0]["boot_id"]
    assert sum(line["type"] == "meta" for line in first + second) == 2
    assert check_numbers(first + second) == 0
    opened = sum(
        line["type"] == "state" and (line["from"], line["to"]) == ("SYN-SENT", "ESTAB") for line in first + second
    )
    assert opened == 499 + 601


def test_rotation_in_the_middle_of_traffic(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    file = tmp_path / "lines"
    piped = Piped(sstrace, netns, tmp_path, "--json", "--output", str(file), *OPENED)
    parts = []
    for number in range(5):
        netns.call(exchange, 199)
        part = tmp_path / f"lines.{number}"
        file.rename(part)
        piped.process.send_signal(signal.SIGHUP)
        parts.append(part)
        netns.call(exchange, 1)
        wait("a new file", file.exists)
    assert piped.stop() == 0
    told = [json.loads(line) for part in [*parts, file] for line in part.read_text().splitlines()]
    assert sum(line["type"] == "state" for line in told) == 5 * 200
    assert check_numbers(told) == 0


def test_text_goes_to_files_too(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """With the date."""
    began = datetime.now().astimezone()
    file = tmp_path / "lines"
    piped = Piped(sstrace, netns, tmp_path, "--output", str(file), *OPENED)
    netns.call(exchange, 13)
    assert piped.stop() == 0
    lines = file.read_text().splitlines()
    assert lines[0].startswith("Time ")
    assert len(lines) == 14
    days = {datetime.fromisoformat(line.split()[0]).astimezone().date() for line in lines[1:]}
    assert days <= {began.date(), datetime.now().astimezone().date()}
    assert piped.process.stdout is not None
    assert piped.process.stdout.read() == b""


@pytest.mark.parametrize("schema", ["native", "ecs", "otel"])
def test_real_lines_obey_their_schema(sstrace: Program, netns: Netns, tmp_path: Path, schema: str) -> None:
    """Both families, both ends, listeners, refusals, resets, the baseline: every line, by JSON Schema."""
    root = Path(__file__).resolve().parents[2]
    validator = jsonschema.Draft202012Validator(
        json.loads((root / "sstrace" / "schemas" / f"{schema}.json").read_text())
    )
    netns.call(connected)
    netns.call(connected, "::1")
    with Trace(sstrace, netns, tmp_path, "--schema", schema) as trace:
        netns.call(exchange, 3)
        netns.call(connected, "::1")
        netns.call(connected, "::", "127.0.0.1")

        def refused() -> None:
            with socket.socket() as closed, socket.socket() as client:
                closed.bind(("127.0.0.1", 0))
                assert client.connect_ex(closed.getsockname()) == errno.ECONNREFUSED

        netns.call(refused)
        wait("they are told", lambda: "ECONNREFUSED" in (text := "".join(trace.text)) or '"err":111' in text)
    lines = trace.lines
    for line in lines:
        validator.validate(line)
    assert len(lines) > 30
    families = {
        "native": lambda line: line.get("family"),
        "ecs": lambda line: line.get("network", {}).get("type"),
        "otel": lambda line: line.get("network.type"),
    }
    assert len({families[schema](line) for line in lines} - {None}) == 2


def test_statistics(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with Trace(sstrace, netns, tmp_path, "--json") as trace:
        netns.call(exchange, 11)
        wait("they are told", lambda: sum(line["to"] == "ESTAB" for line in trace.states) == 22)
        trace.process.send_signal(signal.SIGUSR1)
        said = wait("it speaks", lambda: trace.stderr)
    assert said.startswith("sstrace: ")
    assert re.search(r" 0 lost, 0 late,.* \d+ sweeps?, ", said), said
    assert "; stdout: " in said


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--output", "/nonexistent/file"], "cannot write /nonexistent/file: No such file or directory"),
        (["--sink", "carrier-pigeon"], "--sink carrier-pigeon: it is one of stdout, journald, syslog"),
        (["--sink", "syslog:/nonexistent"], "no syslog daemon at /nonexistent: No such file or directory"),
    ],
)
def test_places_that_are_not_there(sstrace: Program, netns: Netns, words: list[str], says: str) -> None:
    done = sstrace("--json", *words, netns=netns)
    assert done.returncode in (1, 4, 255)
    assert done.stderr.startswith(f"sstrace: {says}".encode())
    assert done.stdout == b""


def test_a_pipe_of_another_user(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Where /proc/self/fd cannot be opened anew, poll(2) is asked; the pipe's own flags stay as they are."""
    program = "import os, sys; os.setuid(65534); sys.stdout.buffer.write(sys.stdin.buffer.read())"
    reader = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdin is not None
    piped = Piped(sstrace, netns, tmp_path, "--json", *OPENED, stdout=reader.stdin)
    assert os.get_blocking(reader.stdin.fileno())
    netns.call(exchange, 31)
    assert piped.stop() == 0
    assert os.get_blocking(reader.stdin.fileno())
    out, _ = reader.communicate(timeout=60)
    assert sum(json.loads(line)["type"] == "state" for line in out.splitlines()) == 31
