"""Same question to ss and to sstrace, byte for byte: the bench that the parity tests run on.

The half that runs inside the network namespace is this file as a program: one process, no socket, everything of sstrace
imported. For each command line it runs ss, then sstrace in a forked child, then ss again, and hands back what each
wrote. The other half, ``Bench``, is what the tests use.

Which bytes may differ although both are right
    Between the two runs of ss some values change by themselves. Those are masked in all three outputs, and a case
    counts once both runs of ss agree after masking; if they do not, it is asked again.

    * ages and clocks: what is left of a timer (``timer:(on,1.2sec,3)``: the 1.2sec), lastsnd lastrcv lastack busy
      rwnd_limited sndbuf_limited last_data_sent last_data_recv last_ack_recv;
    * the asker's own netlink socket: its port id, Recv-Q and skmem; and the order of netlink rows, which the kernel
      does not keep;
    * with ``-r``, unnamed and unconnected unix streams, and the width of columns: ss makes one to ask rpcbind, and
      leaves it;
    * those numbers of ``-s`` that the kernel counts for the whole machine: total, allocated, closed, orphaned.

    Only if the two runs of ss still differ, a retransmission timer ticked between them; then also: the timer's count,
    rto backoff cwnd retrans lost unacked segs_out bytes_sent bytes_retrans notsent.

    Where something was masked, blanks at the ends of lines are not compared: padding follows the longest cell, and the
    cell is what changed. Nothing is masked while the three outputs are equal without.
"""

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import pkgutil
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import refusal

__all__ = ["Bench", "Outcome", "Ran", "Warden", "ZooKeeper", "masked"]

ROOT = Path(__file__).resolve().parents[2]
ATTEMPTS = 8


class Ran(NamedTuple):
    """What one process did."""

    code: int
    """Exit status; minus the signal's number when a signal ended it."""
    out: bytes
    err: bytes
    pid: int


class Outcome(NamedTuple):
    """The verdict on one command line."""

    same: bool
    why: str
    """Empty when same; else a few lines that show the first difference."""
    exact: bool
    """Nothing had to be masked."""


# ------------------------------------------------------------------------------------------------- inside the namespace


def _spawn(body: Callable[[], int], stdin: bytes, width: int | None) -> Ran:
    """Fork and run ``body`` in the child, with its three descriptors; stdout is a terminal if ``width`` is given."""
    out, err, given = (os.memfd_create(name) for name in ("out", "err", "in"))
    os.write(given, stdin)
    os.lseek(given, 0, os.SEEK_SET)
    master = slave = -1
    if width is not None:
        master, slave = os.openpty()
        attributes = termios.tcgetattr(slave)
        attributes[1] &= ~termios.OPOST  # the bytes as written, not "\r\n"
        termios.tcsetattr(slave, termios.TCSANOW, attributes)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("=4H", 24, width, 0, 0))
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(given, 0)
            os.dup2(out if width is None else slave, 1)
            os.dup2(err, 2)
            code = body()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            os.write(2, traceback.format_exc().encode())
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)
    shown = bytearray()
    if width is not None:
        os.close(slave)
        with contextlib.suppress(OSError):  # EIO: the child is gone and all is read
            while data := os.read(master, 65536):
                shown += data
        os.close(master)
    _, status = os.waitpid(pid, 0)
    texts = []
    for fd in (out, err):
        size = os.lseek(fd, 0, os.SEEK_END)
        texts.append(os.pread(fd, size, 0))
        os.close(fd)
    os.close(given)
    return Ran(os.waitstatus_to_exitcode(status), bytes(shown) if width is not None else texts[0], texts[1], pid)


def _serve(ss: str, mode: list[str]) -> None:
    """Read one JSON request a line from stdin, answer each with one JSON line on stdout; ``mode``: sstrace's words."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    import sstrace
    from sstrace import cli

    for module in pkgutil.walk_packages(sstrace.__path__, "sstrace."):  # here, so that no child has to
        if not re.search(r"__main__|\.bpf|watch", module.name):
            importlib.import_module(module.name)

    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    for line in questions:
        request = json.loads(line)
        words: list[str] = [w.encode("latin-1").decode("utf-8", "surrogateescape") for w in request["words"]]
        env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **request["env"]}
        rules = [refusal.Rule(*rule) for rule in request["rules"]]

        def real(words: list[str] = words, env: dict[str, str] = env, rules: list[refusal.Rule] = rules) -> int:
            refusal.refuse(rules)
            os.execve(ss, ["ss", *words], env)

        def ours(words: list[str] = words, env: dict[str, str] = env, rules: list[refusal.Rule] = rules) -> int:
            refusal.refuse(rules)
            os.environ.clear()
            os.environ.update(env)
            libc.prctl(15, b"ss")  # PR_SET_NAME: the netlink table shows the asker's name
            return cli.main([*mode, *words])

        stdin = request["stdin"].encode("latin-1")
        runs = [_spawn(body, stdin, request["width"]) for body in (real, ours, real)]
        answers.write(
            json.dumps([[r.code, r.out.decode("latin-1"), r.err.decode("latin-1"), r.pid] for r in runs]).encode()
        )
        answers.write(b"\n")
        answers.flush()


# ---------------------------------------------------------------------------------------------------------------- masks

_AGES = re.compile(rb" (lastsnd|lastrcv|lastack|last_data_sent|last_data_recv|last_ack_recv):\d+")
_BUSY = re.compile(rb" busy:\d+ms(?: rwnd_limited:[\d.]+ms\([\d.]+%\))?(?: sndbuf_limited:[\d.]+ms\([\d.]+%\))?")
_TIMER = re.compile(rb"timer:\((\w+),[\w.]*,(\d+)\)")
_TICKING = re.compile(rb" (rto|backoff|cwnd|retrans|lost|unacked|segs_out|bytes_retrans|bytes_sent|notsent):[\d./]+")
_NETLINK = re.compile(
    rb"(?:nl +)?(?:UNCONN +)?[N\d]+ +\d+ +"
    rb"(?:rtnl|usersock|tcpdiag|nflog|xfrm|selinux|audit|fiblookup|connector|nft|uevent|genl|rdma|crypto|\d+)"
    rb":[\w/-]+ +(?:\*|\d+:\d+)(?: |$)",
    re.M,
)
_TOTAL = re.compile(rb"^Total: \d+\nTCP:   \d+ \(estab (\d+), closed \d+, orphaned \d+,", re.M)
_RPC = re.compile(rb"^u_str +(?:UNCONN +)?0 +0 +\* \d+ +\* 0\b.*\n", re.M)


def masked(text: bytes, pid: int, *, netlink: bool = False, ticked: bool = False, resolved: bool = False) -> bytes:
    """The part of an output that two looks at the same sockets must agree on; ``netlink``: it may have netlink rows."""
    result = _AGES.sub(rb" \1:N", text)
    result = _BUSY.sub(b" busy:N", result)
    result = _TIMER.sub(rb"timer:(\1,N)" if ticked else rb"timer:(\1,N,\2)", result)
    result = _TOTAL.sub(rb"Total: N\nTCP:   N (estab \1, closed N, orphaned N,", result)
    if resolved:
        result = re.sub(rb" +", b" ", _RPC.sub(b"", result))
    if ticked:
        result = _TICKING.sub(rb" \1:N", result)
    if netlink:
        lines = result.split(b"\n")
        own = re.compile(rb"((?:UNCONN +)?)\d+( +\d+ +(?:tcpdiag|4|rtnl|0):(?:ss/)?)%d( .*)" % pid)
        lines = [
            re.sub(rb"skmem:\(.*?\)", b"skmem:N", own.sub(rb"\1N\2OWN\3", x)) if own.search(x) else x for x in lines
        ]
        rows = [number for number, line in enumerate(lines) if _NETLINK.match(line)]
        for number, line in zip(rows, sorted(lines[n] for n in rows), strict=True):
            lines[number] = line
        result = b"\n".join(lines)
    if result != text:
        result = b"\n".join(line.rstrip(b" ") for line in result.split(b"\n"))
    return result


def _difference(theirs: bytes, ours: bytes, what: str) -> str:
    """The first line in which two texts differ, as Python literals."""
    a, b = theirs.split(b"\n"), ours.split(b"\n")
    for number in range(max(len(a), len(b))):
        x, y = (lines[number] if number < len(lines) else None for lines in (a, b))
        if x != y:
            return f"{what}, line {number + 1} of {len(a)} / {len(b)}:\n  ss      {x!r}\n  sstrace {y!r}"
    return f"{what}: no difference"


# ---------------------------------------------------------------------------------------------------------------- bench


class Bench:
    """A process inside a namespace that asks both programs; and the tally of all it was asked."""

    def __init__(self, prefix: Sequence[str], ss: str, mode: Sequence[str] = ("--snapshot",)) -> None:
        environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("PROC_", "TCPDIAG", "COLUMNS", "LINES"))
        }
        self._process = subprocess.Popen(
            [*prefix, sys.executable, __file__, ss, *mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        )
        self.asked = 0
        self.identical = 0
        self.exact = 0

    def ask(
        self,
        words: Sequence[str],
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        width: int | None = None,
        rules: Sequence[refusal.Rule] = (),
    ) -> list[Ran]:
        """One look: what ss, sstrace and ss again did with these words, each with system calls refused by ``rules``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {
            "words": [w.encode("utf-8", "surrogateescape").decode("latin-1") for w in words],
            "env": dict(env or {}),
            "stdin": stdin.decode("latin-1"),
            "width": width,
            "rules": rules,
        }
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], 120)[0]:
            raise TimeoutError(f"no answer to {words}")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the bench ended at {words}")
        return [Ran(c, o.encode("latin-1"), e.encode("latin-1"), p) for c, o, e, p in json.loads(line)]

    def compare(self, words: Sequence[str], **how: Any) -> Outcome:
        """Ask until both runs of ss agree, then judge; a difference must show twice, lest a tick fell between."""
        why = "ss did not agree with itself"
        for _ in range(ATTEMPTS):
            first, ours, second = self.ask(words, **how)
            if first[:3] == ours[:3] == second[:3]:
                return self._count(Outcome(True, "", True))
            if first.code < 0 and second.code < 0:  # ss itself crashed: nothing to compare with, and nothing to imitate
                why = ours.err.decode("latin-1")
                return Outcome(ours.code in range(6) and "Traceback" not in why, why, False)
            resolved = any(re.match("-[^-]*r|--re", word) for word in words)
            netlink = any(_NETLINK.search(run.out) for run in (first, second))
            for ticked in (False, True):
                a, b, c = (
                    masked(run.out, run.pid, netlink=netlink, ticked=ticked, resolved=resolved)
                    for run in (first, ours, second)
                )
                if agreed := (a, first.code, first.err) == (c, second.code, second.err):
                    break
            if not agreed:
                continue
            if (a, first.code, first.err) == (b, ours.code, ours.err):
                return self._count(Outcome(True, "", False))
            seen = [
                _difference(a, b, "stdout") if a != b else "",
                _difference(first.err, ours.err, "stderr") if first.err != ours.err else "",
                f"exit code: ss {first.code}, sstrace {ours.code}" if first.code != ours.code else "",
            ]
            again, why = why.startswith("stdout") or why.startswith("stderr"), "\n".join(filter(None, seen))
            if again or "Traceback" in why or not why.startswith("stdout"):
                break
        return self._count(Outcome(False, why, False))

    def close(self) -> None:
        """End the process inside."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(10)
        if self._process.stdout:
            self._process.stdout.close()

    def _count(self, outcome: Outcome) -> Outcome:
        self.asked += 1
        self.identical += outcome.same
        self.exact += outcome.exact
        return outcome


class Warden:
    """A pid namespace with a /proc of its own, inside a network namespace: ``-p`` sees the zoo and nobody else.

    Its first process waits for the end of its stdin; when it goes, the kernel ends everything in there.
    """

    def __init__(self, prefix: Sequence[str]) -> None:
        words = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--", "sh", "-c", "echo; exec cat")
        self._process = subprocess.Popen([*prefix, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"\n":
            raise RuntimeError("no pid namespace")
        pid = self._process.pid
        first = int(Path(f"/proc/{pid}/task/{pid}/children").read_text())
        self.prefix = ("nsenter", f"--target={first}", "--net", "--pid", "--mount", "--")

    def close(self) -> None:
        """End everything inside."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


class ZooKeeper:
    """Runs tests/zoo.py inside a namespace, and knows when its short-lived exhibits need to be made anew."""

    def __init__(self, prefix: Sequence[str]) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="zoo-")
        directory, ready = Path(self._home.name, "d"), Path(self._home.name, "ready")
        directory.mkdir()
        self._process = subprocess.Popen(
            [*prefix, sys.executable, str(ROOT / "tests/zoo.py"), "--directory", str(directory), "--ready", str(ready)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        while not ready.exists():
            if self._process.poll() is not None:
                raise RuntimeError("the zoo did not open")
            select.select([], [], [], 0.02)
        self._refreshed = time.monotonic()
        self.report: dict[str, Any] = json.loads(ready.read_text())

    def keep_fresh(self) -> None:
        """Make the exhibits anew that live a minute, when half of it is over."""
        if time.monotonic() - self._refreshed < 30:
            return
        self._refreshed = time.monotonic()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print("refresh", file=self._process.stdin, flush=True)
        if self._process.stdout.readline() != "ok\n":
            raise RuntimeError("the zoo is gone")

    def close(self) -> None:
        """End it, and tidy up after it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.stdout.close()
            self._home.cleanup()


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2:])
