"""Recordings of real traffic: beside real ss, killed, and on a disk that is really full.

``SSTRACE_MOMENTS`` says how many moments of the churn are compared (100 for a thorough run).
"""

import fcntl
import json
import os
import pty
import random
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT, Netns, Program

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

MOMENTS = int(os.environ.get("SSTRACE_MOMENTS", "10"))

VAGUE_NS = 100_000_000

Line = tuple[str, str, str]
"""State, local end, peer: what ss prints of a socket and a recording knows."""


def lines(output: bytes) -> list[Line]:
    """The rows of ``-tanH``, without queues and padding, sorted."""
    rows = []
    for line in output.decode().splitlines():
        words = line.split()
        rows.append((words[0], words[3], words[4]))
    return sorted(rows)


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Wait for a fact."""
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)
    return found


@contextmanager
def recording(
    sstrace: Program, netns: Netns, folder: Path, path: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A running sstrace --record, ready; ended by SIGINT. Its complaints are in ``folder/stderr``."""
    path, ready = path or folder / "rec.ndjson", folder / "ready"
    words = ("--record", str(path), "--ready-file", str(ready))
    with (folder / "stderr").open("wb") as complaints:
        process = sstrace.start(*words, netns=netns, stdout=subprocess.DEVNULL, stderr=complaints)
    try:
        eventually(lambda: ready.exists() or process.poll() is not None, "ready")
        assert process.poll() is None, (folder / "stderr").read_text()
        yield process, path
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(30)


WAYS_TO_LISTEN = [
    (socket.AF_INET, "127.0.0.1", 0),
    (socket.AF_INET, "0.0.0.0", 0),
    (socket.AF_INET6, "::1", 1),
    (socket.AF_INET6, "::", 0),
    (socket.AF_INET6, "::", 1),
]
"""Family, address, IPV6_V6ONLY."""


class Traffic:
    """Sockets of every ordinary state, made and ended at random, in the thread (and namespace) that calls."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.listeners: list[socket.socket] = []
        self.ends: list[socket.socket] = []

    def step(self) -> None:
        """Something happens."""
        actions = (self.listen, self.connect, self.connect, self.connect, self.close, self.close, self.shut, self.reset)
        with suppress(OSError):
            self.random.choice((*actions, self.refused, self.end_listener))()

    def listen(self) -> None:
        """IPv4, IPv6, both; with a port of its own choice or of the kernel's; bound to lo or not."""
        if len(self.listeners) > 12:
            return
        family, address, only = self.random.choice(WAYS_TO_LISTEN)
        made = socket.socket(family)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        if self.random.random() < 0.2:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        if self.random.random() < 0.8:
            made.bind((address, 0))
        made.listen(16)
        self.listeners.append(made)

    def connect(self) -> None:
        """Accepted or left in the queue."""
        if not self.listeners:
            return
        listener = self.random.choice(self.listeners)
        address = "::1" if listener.family == socket.AF_INET6 else "127.0.0.1"
        self.ends.append(socket.create_connection((address, listener.getsockname()[1]), timeout=5))
        if self.random.random() < 0.9:
            listener.settimeout(5)
            self.ends.append(listener.accept()[0])

    def refused(self) -> None:
        """Nobody listens there."""
        socket.create_connection(("127.0.0.1", 1), timeout=5)

    def close(self) -> None:
        """One end: the other is in CLOSE-WAIT, this one an orphan in FIN-WAIT-2; or the last of a connection."""
        if self.ends:
            self.ends.pop(self.random.randrange(len(self.ends))).close()

    def shut(self) -> None:
        """Half of it."""
        if self.ends:
            self.random.choice(self.ends).shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """With a RST."""
        if self.ends:
            end = self.ends.pop(self.random.randrange(len(self.ends)))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()

    def end_listener(self) -> None:
        """And whoever waited there."""
        if len(self.listeners) > 6:
            self.listeners.pop(self.random.randrange(len(self.listeners))).close()

    def end(self) -> None:
        """Everything."""
        for made in (*self.ends, *self.listeners):
            made.close()


class Moment(NamedTuple):
    """A time, and what ss said just before and after."""

    at_ns: int
    before: list[Line]
    after: list[Line]


def look(ss: Program, netns: Netns) -> Moment:
    """Now."""
    before = lines(ss("-tanH", netns=netns).stdout)
    at_ns = time.time_ns()
    return Moment(at_ns, before, lines(ss("-tanH", netns=netns).stdout))


class Comparison:
    """The past of a recording beside what ss said then."""

    def __init__(self, sstrace: Program, path: Path, moments: list[Moment]) -> None:
        self.rows = self.vague = 0
        self.wrong: list[tuple[str, str, Line]] = []
        looked = found_by_looking(path)
        for at_ns, before, after in moments:
            at = f"@{at_ns // 10**9}.{at_ns % 10**9:09d}"
            shown = sstrace("--snapshot", "--from", str(path), "--at", at, "-tanH")
            assert (shown.returncode, shown.stderr) == (0, b"")
            past = lines(shown.stdout)
            stable = both(before, after)
            # A FIN-WAIT-2 that no process holds turns TIME-WAIT without an event; its timer tells the recorder when
            # that was, as exactly as the dump in which it was read took time.
            vague = {ends for ends, when in looked if 0 <= when - at_ns < VAGUE_NS}
            self.vague += sum(line[1:] in vague for line in stable)
            self.rows += len(stable)
            self.wrong += [(at, "missing", line) for line in stable if line not in past and line[1:] not in vague]
            known = {*before, *after}
            self.wrong += [(at, "ghost", line) for line in past if line not in known and line[1:] not in vague]
            # The same table in ss's own format, printed by ss.
            dump = path.parent / "dump"
            assert sstrace("--snapshot", "--from", str(path), "--at", at, "-ta", "-D", str(dump)).returncode == 0
            environment = {**os.environ, "TCPDIAG_FILE": str(dump)}
            printed = subprocess.run(["ss", "-tanH"], env=environment, capture_output=True, check=True)
            assert lines(printed.stdout) == past


@pytest.mark.seconds(120 + 10 * MOMENTS)
def test_the_past_is_what_ss_printed_then(
    sstrace: Program, ss: Program, netns: Netns, tmp_path: Path, closing_line: Callable[[str], None]
) -> None:
    traffic = Traffic(6)

    def go() -> None:
        for _ in range(150):
            traffic.step()

    netns.call(go)
    moments = []
    with recording(sstrace, netns, tmp_path) as (_, path):
        for _ in range(MOMENTS):
            netns.call(go)
            moments.append(look(ss, netns))
        netns.call(traffic.end)
    said = (tmp_path / "stderr").read_text()
    assert " 0 lost" in said
    found = Comparison(sstrace, path, moments)
    # Where the kernel ran no program for a transition, nothing heals what a recording says of that socket.
    sockets = {line[1:] for _, _, line in found.wrong}
    assert len(sockets) <= missed(said), "\n".join(map(str, (said, *found.wrong)))
    assert found.rows > MOMENTS * 50
    assert found.vague * 2 < found.rows
    closing_line(
        f"recordings: {MOMENTS} moments, {found.rows} rows that ss showed before and after: the past tells the same of "
        f"all but {found.vague}, of which it says that it looked too late to know"
    )


@pytest.mark.seconds(120 + 20 * MOMENTS)
def test_the_past_of_a_churn(closing_line: Callable[[str], None]) -> None:
    """Everything that Linux does with TCP, forged segments and killed sockets included, beside real ss."""
    count = max(MOMENTS // 2, 5)
    words = ["--moments", str(count), "--seed", "6"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/verify-record"), *words], capture_output=True, text=True, check=False
    )
    *_, figures, verdict = done.stdout.splitlines() or [done.stderr]
    assert (done.returncode, verdict) == (0, f"{count} of {count} moments"), done.stdout + done.stderr
    closing_line(f"recordings: {verdict} of churn are what ss said; {figures}")


def found_by_looking(path: Path) -> list[tuple[tuple[str, str], int]]:
    """Connections that the recording says changed by and by: both ends as ss prints them, and when it was found."""
    found = []
    for text in path.read_bytes().splitlines():
        if b'"approximate":true' in text:
            value = json.loads(text)
            ends = [f"[{value[key]}]" if ":" in value[key] else value[key] for key in ("src", "dst")]
            device = f"%{value['ifname']}" if "ifname" in value else ""
            when = round(datetime.fromisoformat(value["ts"][:26] + "+00:00").timestamp() * 1e9)
            found.append(((f"{ends[0]}{device}:{value['sport']}", f"{ends[1]}:{value['dport']}"), when))
    return found


def both(before: list[Line], after: list[Line]) -> list[Line]:
    """What stands in either, as often as in the poorer."""
    left = list(after)
    stable = []
    for line in before:
        if line in left:
            left.remove(line)
            stable.append(line)
    return stable


def missed(said: str) -> int:
    """Transitions that the kernel ran no program for, by what sstrace said at its end: some kernels do that."""
    found = re.search(r"(\d+) missed", said)
    return int(found[1]) if found else 0


def connect_once(netns: Netns) -> int:
    """A connection, opened and closed; the listener's port."""

    def traffic() -> int:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()), listener.accept()[0]:
                pass
            return int(listener.getsockname()[1])

    return netns.call(traffic)


def test_killed_hard_it_keeps_all_but_the_last_moment(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with recording(sstrace, netns, tmp_path) as (process, path):
        port = connect_once(netns)
        eventually(lambda: f'"dport":{port},'.encode() in path.read_bytes(), "the connection's lines in the file")
        process.kill()
        process.wait(30)
    replay = sstrace("--replay", str(path), "dport", "=", f":{port}")
    assert (replay.returncode, replay.stderr) == (0, b"")
    words = [line.split()[1:4:2] for line in replay.stdout.decode().splitlines()[1:]]
    assert words[:3] == [["UNCONN", "SYN-SENT"], ["SYN-SENT", "ESTAB"], ["ESTAB", "CLOSE-WAIT"]]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_compressed_while_it_runs(sstrace: Program, netns: Netns, tmp_path: Path, suffix: str) -> None:
    """A file that is still being written can be read."""
    path, ready = tmp_path / f"rec.ndjson.{suffix}", tmp_path / "ready"
    process = sstrace.start("--record", str(path), "--ready-file", str(ready), netns=netns)
    try:
        eventually(ready.exists, "ready")
        port = connect_once(netns)
        eventually(
            lambda: b"TIME-WAIT" in sstrace("--replay", str(path), f"dport = :{port} or sport = :{port}").stdout,
            "the connection in the compressed file",
        )
        shown = sstrace("--snapshot", "--from", str(path), "-tanH", f"dport = :{port} or sport = :{port}")
        assert [line[0] for line in lines(shown.stdout)] == ["TIME-WAIT"]
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_disk_that_is_really_full(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(disk)], check=True)
    try:
        (disk / "filler").write_bytes(bytes(480_000))
        with recording(sstrace, netns, tmp_path, disk / "rec.ndjson") as (process, path):

            def full() -> bool:
                connect_once(netns)
                return b"No space left on device" in (tmp_path / "stderr").read_bytes()

            eventually(full, "the sentence about the full disk")
            assert process.poll() is None
            for _ in range(5):
                connect_once(netns)
            (disk / "filler").unlink()
            eventually(lambda: b"is written again" in (tmp_path / "stderr").read_bytes(), "the recording to go on")
            port = connect_once(netns)
            eventually(lambda: f'"dport":{port},'.encode() in path.read_bytes(), "lines behind the hole")
        said = (tmp_path / "stderr").read_text()
        assert process.returncode == 0
        assert said.count("cannot write") == 1
        missing = re.search(r"(\d+) lines? (?:is|are) missing", said)
        assert missing is not None
        assert f"{missing[1]} could not be written" in said.splitlines()[-1]
        replay = sstrace("--replay", str(path))
        assert f"{missing[1]} lines could not be recorded before this moment".encode() in replay.stdout
        assert sstrace("--replay", str(path), f"dport = :{port}").stdout.count(b"ESTAB") == 2
    finally:
        subprocess.run(["umount", str(disk)], check=False)


FULL_DISK = 'mount -t tmpfs -o size=4k none "$0" && echo >"$0/filler" && exec "$@"'


@pytest.mark.parametrize("mode", ["trace", "serve", "verify", "stats"])
def test_a_disk_that_was_full_from_the_beginning(sstrace: Program, netns: Netns, tmp_path: Path, mode: str) -> None:
    """Nothing is written; a sentence says so at once, the summary once more, and so does the exit code."""
    (disk := tmp_path / "disk").mkdir()
    words = {
        "trace": [],
        "serve": [f"--serve={tmp_path / 'live.sock'}", "--keep-privileges"],
        "verify": ["--verify", "--poll", "200ms"],  # where something is not heard, that nothing is proven comes first
        "stats": ["--stats"],
    }[mode]
    path = disk / "rec.ndjson"
    command = [*sstrace.head, *words, "--record", str(path), "--duration", "1s"]
    done = netns.run("unshare", "--mount", "sh", "-c", FULL_DISK, str(disk), *command, check=False, cwd=ROOT)
    said = done.stderr.decode()
    assert done.returncode == 1, said
    assert said.count(f"cannot write {path}: No space left on device") == 1, said
    assert re.search(rf"\b0 lines recorded to {path}, [1-9]\d* could not be written$", said, re.MULTILINE), said


@pytest.mark.parametrize("way", [["--record", "/dev/full"], ["--output", "/dev/full"]], ids=" ".join)
def test_a_device_that_is_full(sstrace: Program, netns: Netns, way: list[str]) -> None:
    done = sstrace("--json", *way, "--duration", "1s", netns=netns)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr


def test_a_replay_onto_a_full_disk(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    with recording(sstrace, netns, tmp_path) as (_, path):
        connect_once(netns)
    (disk := tmp_path / "disk").mkdir()
    command = [*sstrace.head, "--replay", str(path), "--json", "--output", str(disk / "lines")]
    done = netns.run("unshare", "--mount", "sh", "-c", FULL_DISK, str(disk), *command, check=False, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    assert re.search(rf"[1-9]\d* lines did not reach {disk / 'lines'}\n$", done.stderr.decode()), done.stderr


def test_live_digest(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = sstrace.start("--stats", "--json", "--ready-file", str(ready), netns=netns)
    eventually(ready.exists, "ready")
    ports = [connect_once(netns) for _ in range(3)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    digest = [json.loads(line) for line in out.splitlines()]
    assert digest[0]["opened_out"] == digest[0]["opened_in"] == 3
    assert digest[0]["closed"] == 6
    assert {line["key"] for line in digest if line.get("by") == "port"} == {str(port) for port in ports}


def totals(output: bytes) -> list[dict[str, Any]]:
    """The lines of ``--stats --json``, without the two times of the first."""
    found = [json.loads(line) for line in output.splitlines()]
    for key in ("from", "to"):
        found[0].pop(key)
    return sorted(found, key=json.dumps)


@pytest.mark.parametrize("mode", ["serve", "watch", "verify", "stats"])
def test_recording_beside_every_other_mode(sstrace: Program, netns: Netns, tmp_path: Path, mode: str) -> None:
    """The recording of each mode tells the same connections, and the table at its end is the kernel's."""
    path, ready, live = tmp_path / "rec.ndjson", tmp_path / "ready", tmp_path / "live.sock"
    words = {
        "serve": [f"--serve={live}", "--stats", "--keep-privileges"],
        "verify": ["--verify", "--interval", "200ms"],
    }
    command = [*words.get(mode, [f"--{mode}"]), "--record", str(path), "--ready-file", str(ready)]
    terminal, far = pty.openpty()
    fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    drawn = threading.Thread(target=drain, args=(terminal,), daemon=True)
    drawn.start()
    streams: dict[str, Any] = {"stdin": far, "stdout": far} if mode == "watch" else {}
    process = sstrace.start(*command, netns=netns, env={"TERM": "xterm"}, **streams)
    listener = None
    try:
        eventually(lambda: ready.exists() or process.poll() is not None, "ready")
        assert process.poll() is None, process.communicate()[1]
        ports = [connect_once(netns) for _ in range(3)]
        listener = netns.call(lambda: socket.create_server(("127.0.0.1", 0)))
        listens = listener.getsockname()[1]
        eventually(lambda: f'"sport":{listens},'.encode() in path.read_bytes(), "the listener's line")
        asked = sstrace("--stats", "--json", "--from", f"live:{live}") if mode == "serve" else None
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        os.close(far)
        if listener is not None:
            listener.close()
    assert process.returncode == 0, err
    assert f"lines recorded to {path}".encode() in err
    digest = sstrace("--stats", "--json", "--from", str(path))
    assert (digest.returncode, digest.stderr) == (0, b"")
    found = [json.loads(line) for line in digest.stdout.splitlines()]
    assert (found[0]["opened_out"], found[0]["opened_in"], found[0]["closed"]) == (3, 3, 6)
    assert {line["key"] for line in found if line.get("by") == "port"} == {str(port) for port in ports}
    shown = lines(sstrace("--snapshot", "--from", str(path), "-tlnH").stdout)
    assert [line[1] for line in shown] == [f"127.0.0.1:{listens}"]
    if asked is not None:
        assert (asked.returncode, asked.stderr) == (0, b"")
        assert totals(asked.stdout) == totals(digest.stdout)
    elif mode == "stats":
        assert b"opened 6 (3 out, 3 in), failed 0" in out


def drain(descriptor: int) -> None:
    """Read what a terminal is drawn, until it is closed."""
    with suppress(OSError):
        while os.read(descriptor, 1 << 16):
            pass


def test_a_server_that_does_not_count_says_so(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    live, ready = tmp_path / "live.sock", tmp_path / "ready"
    process = sstrace.start(f"--serve={live}", "--ready-file", str(ready), netns=netns)
    try:
        eventually(ready.exists, "ready")
        asked = sstrace("--stats", "--from", f"live:{live}")
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert (asked.returncode, asked.stdout) == (4, b"")
    assert b"start it with sstrace --serve --stats" in asked.stderr


def test_a_server_counts_what_it_is_told_to(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    live, ready = tmp_path / "live.sock", tmp_path / "ready"
    words = (f"--serve={live}", "--stats", "--ready-file", str(ready), "src", "[::1]", "or", "dst", "[::1]")
    process = sstrace.start(*words, netns=netns)
    try:
        eventually(ready.exists, "ready")
        connect_once(netns)

        def over_six() -> None:
            with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
                socket.create_connection(listener.getsockname()[:2]).close()

        netns.call(over_six)
        asked = sstrace("--stats", "--from", f"live:{live}", "--json")
        refused = sstrace("--stats", "--from", f"live:{live}", "dport", "=", ":80")
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    found = [json.loads(line) for line in asked.stdout.splitlines()]
    peers = {line["key"] for line in found if line.get("by") == "peer"}
    # What nobody heard is not counted.
    assert peers == {"::1"} or (not peers and missed(said.decode())), (found, said)
    assert found[0]["opened_out"] == 1 or missed(said.decode()), (found, said)
    assert (refused.returncode, refused.stdout) == (255, b"")
    assert b"give it to --serve --stats" in refused.stderr


def rotated(sstrace: Program, netns: Netns, folder: Path, *words: str) -> list[Path]:
    """The files that a recording of which three are kept leaves in a folder, when it has begun more than that."""
    process = sstrace.start(*words, "--rotate", "100ms", "--keep", "3", netns=netns, stdout=subprocess.DEVNULL)
    begun: set[tuple[bytes, ...]] = set()
    """First lines, and their ends."""

    def enough() -> bool:
        with suppress(FileNotFoundError):  # one is renamed, or removed
            begun.update(path.read_bytes().partition(b"\n")[:2] for path in folder.iterdir())
        return sum(line[1] != b"" for line in begun) > 3 or process.poll() is not None

    eventually(enough, "a fourth file")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, b"cannot" in said) == (0, False), said
    return sorted(folder.iterdir())


def test_a_server_without_root_records_where_it_may(sstrace: Program, netns: Netns, common_path: Path) -> None:
    """Every file is made by the user that the server becomes, with that user's rights."""
    uid = gid = 4321
    (common_path / "passwd").write_text(Path("/etc/passwd").read_text() + f"sstrace:x:{uid}:{gid}::/:/bin/false\n")
    there = f'mount --bind {common_path}/passwd /etc/passwd && exec "$@"'
    sstrace = Program("unshare", "--mount", "sh", "-c", there, "sh", *sstrace.head)
    folder = common_path / "recordings"
    folder.mkdir()
    words = [f"--serve={common_path / 'live.sock'}", "--record", str(folder / "rec.ndjson")]
    for more in ([], ["--rotate", "300ms"]):
        refused = sstrace(*words, *more, netns=netns)
        assert refused.returncode == 3
        assert re.fullmatch(rb"sstrace: cannot record to \S+: the server becomes uid \d+ [^\n]+\n", refused.stderr)
        assert list(folder.iterdir()) == []
    os.chown(folder, uid, gid)
    files = rotated(sstrace, netns, folder, *words)
    assert len(files) == 3
    for file in files:
        assert (file.stat().st_uid, file.stat().st_gid) == (uid, gid)
        assert sstrace("--replay", str(file)).returncode == 0


def test_files_are_begun_anew_when_they_are_old(sstrace: Any, netns: Any, tmp_path: Path) -> None:
    path = tmp_path / "rec.ndjson"
    files = rotated(sstrace, netns, tmp_path, "--record", str(path))
    assert len(files) == 3
    for file in files:
        assert file.read_text().startswith('{"type":"meta"'), "each can be replayed alone"
