"""A serving sstrace prints the lines that ss prints: every command line of the parity suite that concerns TCP, UDP or
unix sockets, and nearly all others, over the same zoo of sockets.

The lines are compared as a set, because the order of what was asked one by one is not the kernel's (live.source).
What is masked because it moves by itself is told in ``parity``; rows of netlink sockets, which a line may select as
well, are left out, because the asker is among them. The questions come from another network namespace, so that the
sockets they are asked through are not in the answer. The run ends with "N identical of M".
"""

import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import parity
import parity_cases
import pytest
from conftest import Netns, Program, unmet
from hypothesis import HealthCheck, given, settings

from sstrace.dialect import dialect
from sstrace.errors import SstraceError
from sstrace.model import Table
from sstrace.query.command import Command
from sstrace.query.options import parse
from sstrace.sources import asking

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

ROOT = Path(__file__).resolve().parents[2]


class LiveBench:
    """A zoo, a serving sstrace beside it, and the tally of all that both it and ss were asked."""

    def __init__(self, ss: str) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="live-parity-")
        self._space = Netns()
        self._warden = parity.Warden(self._space.prefix)
        self._keeper = parity.ZooKeeper(self._warden.prefix)
        self._bench = parity.Bench(self._warden.prefix, ss)
        self.path = f"{self._home.name}/live.sock"
        version = subprocess.run([ss, "-V"], capture_output=True, text=True, check=True, timeout=30).stdout
        self._release = version.strip().rpartition("-")[2]
        ready = Path(self._home.name, "ready")
        self._server = subprocess.Popen(
            [
                *self._warden.prefix,
                *(sys.executable, "-m", "sstrace", f"--serve={self.path}", "-tux", "--ready-file", str(ready)),
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        end = time.monotonic() + 60
        while not ready.exists():
            assert self._server.poll() is None, self._server.communicate()[1]
            assert time.monotonic() < end, "the server is not ready"
            time.sleep(0.02)
        self.asked = 0
        self.identical = 0

    def ask(self, words: tuple[str, ...]) -> parity.Ran:
        """What the server answers."""
        argv = [word.encode("utf-8", "surrogateescape").decode("latin-1") for word in ("--snapshot", *words)]
        pipes = [os.pipe() for _ in range(2)]
        texts = [bytearray(), bytearray()]

        def flow(number: int) -> None:
            while data := os.read(pipes[number][0], 1 << 16):
                texts[number] += data

        readers = [threading.Thread(target=flow, args=(number,)) for number in range(2)]
        for reader in readers:
            reader.start()
        request = json.dumps({"argv": argv, "ss": self._release}).encode() + b"\n"
        try:
            line = asking.ask(self.path, request, [write for _, write in pipes])
        finally:
            for _, write in pipes:
                os.close(write)
            for reader in readers:
                reader.join()
            for read, _ in pipes:
                os.close(read)
        return parity.Ran(asking.answer_of(self.path, line), bytes(texts[0]), bytes(texts[1]), 0)

    def compare(self, words: tuple[str, ...]) -> str:
        """What differs; empty when nothing does. A difference must show again and again, lest a tick fell between."""
        self._keeper.keep_fresh()
        self.asked += 1
        why = ""
        for attempt in range(parity.ATTEMPTS):
            theirs, _, again = self._bench.ask(words)
            ours = self.ask(words)
            resolved = any(word.startswith(("-r", "--re")) or (word[:1] == "-" and "r" in word) for word in words)
            a, b, c = (
                _lines(parity.masked(run.out, run.pid, ticked=attempt > 1, resolved=resolved))
                for run in (theirs, ours, again)
            )
            if a != c:
                why = "ss did not agree with itself"
                continue
            # What the kernel refuses ss asks again in other words, and tells each time.
            if (a, _lines(theirs.err).keys(), theirs.code) == (b, _lines(ours.err).keys(), ours.code):
                self.identical += 1
                return ""
            why = "\n".join(
                [
                    *(f"only ss:      {line!r}" for line in (a - b)),
                    *(f"only sstrace: {line!r}" for line in (b - a)),
                    f"exit codes {theirs.code} {ours.code}, stderr {theirs.err!r} {ours.err!r}",
                ]
            )
        return why

    def close(self) -> None:
        """End everything."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)
            pid = struct.unpack("=iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        os.kill(pid, signal.SIGINT)
        _, errors = self._server.communicate(timeout=30)
        self._bench.close()
        self._keeper.close()
        self._warden.close()
        self._space.close()
        self._home.cleanup()
        assert b"bug in sstrace" not in errors, errors.decode()
        assert b" 0 lost" in errors, errors.decode()


def _lines(text: bytes) -> Counter[bytes]:
    """Padding at the ends of lines follows the last line, whichever that is; all of it, where netlink rows are left
    out, the asker's name in one of them.
    """
    lines = [line.rstrip(b" ") for line in text.split(b"\n")]
    if any(line.startswith(b"nl ") for line in lines):
        lines = [b" ".join(line.split()) for line in lines if not line.startswith(b"nl ")]
    return Counter(lines)


def _concerned(words: tuple[str, ...]) -> bool:
    """Whether it asks for more than netlink sockets, which the asker has too, and for nothing that is the client's own
    business: -N, -F, -D, -E, -K. Mistakes are everybody's business.
    """
    if {"-N", "-F", "-D"} & set(words):
        return False
    try:
        command = parse(["ss", *words], release=dialect((6, 1)))
    except SstraceError:
        return True
    if not isinstance(command, Command):
        return True
    selection = command.selection
    return (
        selection.tables != 1 << Table.NETLINK
        and selection.netns is None
        and command.filter_file is None
        and selection.diag_file is None
        and not selection.events
        and not selection.kill
    )


LINES = [words for words in parity_cases.command_lines() if _concerned(words)]


@pytest.fixture(scope="module")
def live(ss: Program, closing_line: Callable[[str], None]) -> Iterator[LiveBench]:
    if os.geteuid():
        unmet("needs root")
    bench = LiveBench(ss.head[-1])
    yield bench
    bench.close()
    closing_line(f"live parity: {bench.identical} identical of {bench.asked} command lines")


@pytest.mark.parametrize("words", LINES, ids=lambda words: shlex.join(("ss", *words)))
def test_same_lines(live: LiveBench, words: tuple[str, ...]) -> None:
    why = live.compare(words)
    assert not why, f"ss {shlex.join(words)}\n{why}"


@pytest.mark.seconds(600)
@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(words=parity_cases.random_lines().filter(_concerned))
def test_same_lines_for_any_line(live: LiveBench, words: tuple[str, ...]) -> None:
    why = live.compare(words)
    assert not why, f"ss {shlex.join(words)}\n{why}"


def test_the_bench_sees_a_difference(live: LiveBench) -> None:
    """What this file proves with: lines that are missing are missed."""
    assert _lines(live.ask(("-tan",)).out) != _lines(live.ask(("-tan", "exclude", "listening")).out)
    assert len(LINES) > 800
