"""What every subject has in common: bounds, a tally, sstrace run to an end, and what an end must look like."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from conftest import Netns, Program
from tracing import Trace, wait

ROOT = Path(__file__).resolve().parents[2]
SSTRACE = Program(sys.executable, "-m", "sstrace")
SS = Program("ss")

CODES = frozenset({0, 1, 2, 3, 4, 5, 141, 255})
"""README, "Exit codes"; 141 is a snapshot whose reader has gone. 70, a bug, is no end that is meant to be."""
TOLD = re.compile(r"^sstrace: (the server met )?(out of memory|this installation is not whole)")
"""The same exit code for what is nobody's bug."""
STILLBORN = re.compile(r"(?s)(Exception ignored error evaluating path:.*?)?Fatal Python error:.*?<no Python frame>\n")
"""What an interpreter says that cannot start, as that of a process of sstrace's; who started it says the rest."""
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MOST_SECONDS = 60
"""No command of a campaign takes longer, however busy the machine is."""


@dataclass(frozen=True)
class Bounds:
    """What a subject may do: the same ``seed`` tries the same things, ``count`` of them, in a directory of its own."""

    seed: int
    count: int
    scratch: Path

    def dice(self, number: int) -> Random:
        """For one attempt."""
        return Random(f"{self.seed} {number}")


class Tally:
    """What was tried, by kind, and what was wrong."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.reports: list[str] = []

    def note(self, kind: str, wrong: str | None, how: str) -> None:
        """One attempt; ``wrong``: None where it was survived; ``how`` it can be repeated."""
        self.tried[kind] += 1
        if wrong is not None:
            self.failed[kind] += 1
            self.reports.append(f"{kind}: {how}: {wrong}")

    @contextmanager
    def attempt(self, kind: str, how: str) -> Iterator[None]:
        """The same of a block, which fails by an assertion, or by what it cannot do."""
        try:
            yield
        except (AssertionError, OSError, ValueError, subprocess.SubprocessError) as error:
            self.note(kind, f"{type(error).__name__}: {error}"[:1000], how)
        else:
            self.note(kind, None, how)


def wrong(code: int, err: bytes, codes: Iterable[int] = CODES) -> str | None:
    """What is wrong with an end, or None: a code that is documented, sentences, nothing that moves a cursor."""
    text = STILLBORN.sub("", err.decode(errors="replace"))
    if "Traceback" in text or "a bug in sstrace" in text:
        return text[-600:]
    if code not in codes and not (code == 70 and any(map(TOLD.match, text.splitlines()))):
        return f"exit code {code}: {text[-300:]}"
    found = UNSEEN.search(text)
    return f"a control on standard error: {text[max(0, found.start() - 40) : found.end() + 40]!r}" if found else None


def ended(
    words: Sequence[str], netns: Netns | None = None, before: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> tuple[str | None, bytes]:
    """Run sstrace to its end: what is wrong with that, and its output."""
    process = Program(*before, *SSTRACE.head).start(*words, netns=netns, env=env, start_new_session=True)
    try:
        out, err = process.communicate(timeout=MOST_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # and whom strace has let go
        process.communicate()
        return f"no end within {MOST_SECONDS} s", b""
    return wrong(process.returncode, err), out


@contextmanager
def busy(netns: Netns, pause_s: float = 0.01) -> Iterator[None]:
    """Connections come and go meanwhile, a hundred a second at most."""
    over = threading.Event()

    def live() -> None:
        while not over.wait(pause_s):
            connection()

    thread = threading.Thread(target=netns.call, args=(live,))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def connection() -> None:
    """One comes and goes."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0],
    ):
        pass


def recorded(bounds: Bounds) -> Path:
    """A recording of some connections, and of listeners."""
    path = bounds.scratch / "sound.ndjson"
    netns = Netns()
    try:
        with Trace(SSTRACE, netns, bounds.scratch, "--record", str(path)) as trace:
            for _ in range(5):
                netns.call(connection)
            wait("it is told", lambda: sum(line["to"] == "TIME-WAIT" for line in trace.states) > 2)
        return path
    finally:
        netns.close()


@contextmanager
def namespace() -> Iterator[Netns]:
    """Of one attempt, or of all of a subject."""
    made = Netns()
    try:
        yield made
    finally:
        made.close()
