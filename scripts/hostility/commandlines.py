"""Random command lines: whatever is typed, an end that is documented, in bounded time, with a sentence."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

from hostility.campaign import MOST_SECONDS, Bounds, Tally, recorded, wrong
from sstrace.cli import main
from sstrace.query.catalog import OWN, SS

WORDS = (
    *(f"--{entry.name}" for entry in (*SS, *OWN)),
    "-t", "-ta", "-tanp", "-tlpn", "-xa", "-uan", "-s", "-i", "-e", "-m", "-o", "-H", "-O", "-4", "-6", "-E", "-Q",
    "-Z", "-A", "-f", "-F", "-D", "-N", "tcp,udp", "!tcp", "inet6", "unix", "all",
    "state", "exclude", "from", "to", "ended", "established", "listening", "syn-sent,established", "bucket", "big",
    "sport", "dport", "src", "dst", "dev", "fwmark", "cgroup", "autobound", "held", "and", "or", "not", "!", "(", ")",
    "&", "|", "=", "!=", ">=", "<=", ">", "<", "==", "neq",
    "22", ":22", ":ssh", "10.0.0.1", "10/8", "[::1]:5", "*", "*:*", "any", "lo", "5/6", "/", "unix:*", "link:ip",
    "netlink:rtnl", "vsock:1", "inet:1.1.1.1", "inet6:[::1]", "65536", "-1", "99999999999999999999", "1e9", "0x10",
    "5m", "1.5s", "0", "1ns", "9" * 40, "100M", "+5s", "-0s", "@7", "#3", "12:00", "2026-01-31T13:55:00Z",
    "native", "ecs", "otel", "json", "stdout", "journald", "syslog:none", "otlp:http://127.0.0.1:1", "block", "drop",
    "max", "clock", "utc", "delta", "7.3", "6.1", "5.0", "bash", "zsh", "--", "-", "\\", "", "live", "netlink",
    "sound.ndjson", "nothing", "made", "directory", "live:none", "x" * 5000, "(" * 300, "not " * 200,
)  # fmt: skip
MODES: tuple[tuple[str, ...], ...] = (
    ("--snapshot",), ("--snapshot",), ("--snapshot", "--json"), ("--replay", "sound.ndjson"),
    ("--stats", "--from", "sound.ndjson"), ("--snapshot", "--from", "sound.ndjson"), ("--doctor",), ("--verify",),
    ("--watch",), ("--snapshot", "--from", "live"), (), ("--json",),
)  # fmt: skip
SLOW = {(), ("--json",), ("--verify",), ("--doctor",)}
"""These may start a trace, or try everything: an eighth of the time."""
PATIENCE_S = 2.0
"""Then it is told to end."""
_NEWNET, _NEWNS, _PRIVATE = 0x40000000, 0x00020000, 1 << 18 | 1 << 14


def run(bounds: Bounds, tally: Tally) -> None:
    """Try ``count`` lines, each in a child of this process, which has a network and a /run of its own."""
    recorded(bounds)
    os.chdir(bounds.scratch)
    Path("directory").mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEWNET | _NEWNS) or libc.mount(b"none", b"/", None, _PRIVATE, None):
        raise OSError(ctypes.get_errno(), "unshare")
    for command in ("mount -t tmpfs none /run", "ip link set lo up"):
        subprocess.run(command.split(), check=True)
    for number in range(bounds.count):
        words = line(bounds.dice(number))
        tally.note(" ".join(words[:1]) if words and words[0] in ("--snapshot", "--replay") else "other",
                   *_tried(words, f"seed {bounds.seed}, number {number}"))  # fmt: skip


def line(dice: Random) -> list[str]:
    """Of up to a dozen words."""
    mode = dice.choice(MODES)
    while mode in SLOW and dice.random() > 0.125:
        mode = dice.choice(MODES)
    words = [dice.choice(WORDS) for _ in range(dice.choice((0, 1, 2, 3, 4, 6, 10)))]
    if dice.random() < 0.2:
        # Any bytes that an argument can have; no path leaves the directory.
        noise = bytes(dice.choice((dice.randrange(1, 256), 65)) for _ in range(dice.randrange(1, 30)))
        words.insert(dice.randrange(len(words) + 1), os.fsdecode(noise.replace(b"/", b"|")))
    return [*mode, *words]


def _tried(words: list[str], how: str) -> tuple[str | None, str]:
    shown = " ".join(word if len(word) < 40 else f"{word[:20]}…{len(word)}" for word in words)
    how = ascii(f"{how}: {shown}")
    with open("stdout", "wb") as out, open("stderr", "wb") as err, open(os.devnull, "rb") as null:
        child = os.fork()
        if not child:
            _be(words, (null.fileno(), out.fileno(), err.fileno()))
    began, told = time.monotonic(), False
    while not (status := os.waitpid(child, os.WNOHANG))[0]:
        took = time.monotonic() - began
        if took > MOST_SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"no end within {MOST_SECONDS} s", how
        if took > PATIENCE_S and not told:
            os.kill(child, signal.SIGINT)
            told = True
        time.sleep(0.001 if took < 0.1 else 0.02)
    code = os.waitstatus_to_exitcode(status[1])
    with open("stderr", "rb") as file:
        text = file.read()
    if words[:1] == ["--snapshot"]:
        # ss's own sentences are ss's to the byte, whatever was typed.
        text = b"".join(
            one for one in text.splitlines(keepends=True) if b"Traceback" in one or b"sstrace: a bug" in one
        )
        code = 0 if code == -signal.SIGINT and told else code
    return wrong(code, text), how


def _be(words: list[str], streams: tuple[int, int, int]) -> None:
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 26, 1 << 26))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["sstrace", *words]
    code = 70
    try:
        code = main()
    except KeyboardInterrupt:  # as cli.program takes it
        code = 0
    finally:
        os._exit(code)
