"""UDP in the live table and in the trace, beside the real ss. The long run is scripts/verify-udp --rounds 100."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT, Netns, Program
from tracing import Line, Start, Trace, closed, counts_datagrams, disconnect, keep, recordable, trace, traces, wait

from sstrace.lifecycle import udp
from sstrace.model import STATE_TEXT

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

HERE = ("127.0.0.1", 9)


# ------------------------------------------------------------------------------------------------------------ the table


@pytest.fixture(scope="module")
def report() -> str:
    words = ("--rounds", "3", "--operations", "3000", "--seed", "7")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "verify-udp", *words],
        capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_table_is_never_wrong(report: str) -> None:
    line = next(line for line in report.splitlines() if line.startswith("totals: "))
    found = {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", line)}
    assert [found[name] for name in ("missed", "ghosts", "wrong", "lost")] == [0, 0, 0, 0], report
    assert found["rows"] > 100


def test_every_way_that_is_documented_was_gone_and_no_other(report: str) -> None:
    line = next(line for line in report.splitlines() if line.startswith("transitions: "))
    documented = {f"{STATE_TEXT[old]} {STATE_TEXT[new]}" for old, to in udp.TRANSITIONS.items() for new in to}
    assert set(json.loads(line.removeprefix("transitions: "))) == documented


# ------------------------------------------------------------------------------------------------------------ the trace


def made(family: int = socket.AF_INET) -> socket.socket:
    return keep(socket.socket(family, socket.SOCK_DGRAM))


def end(of: Trace) -> list[Line]:
    """Stop a trace and give its lines; nothing may be lost, late, or seen by a second sweep."""
    assert of.stop() == 0
    assert ", 0 lost, 0 late" in of.stderr
    assert {line["type"] for line in of.lines} <= {"meta", "seen", "state"}
    assert all(line["netid"] == "udp" for line in of.states)
    return of.states


def path(lines: list[Line]) -> list[str]:
    """The states gone through, with the peer's port where there is one; each follows from the one before."""
    states = [lines[0]["from"]] if lines else []
    for before, line in zip([None, *lines], lines, strict=False):
        assert before is None or line["from"] == before["to"]
        states.append(f"{line['to']} {line['dport']}" if line["to"] == "ESTAB" else line["to"])
    return states


def bind_and_close() -> None:
    one = made()
    one.bind(("127.0.0.1", 5300))
    one.sendto(b"x", HERE)
    one.close()


def send_and_close() -> None:
    one = made()
    one.sendto(b"x", HERE)
    one.sendto(b"y", ("127.0.0.1", 10))
    one.close()


def connect_and_close() -> None:
    one = made()
    one.connect(HERE)
    one.send(b"x")
    one.close()


def connect_anew() -> None:
    one = made()
    one.bind(("127.0.0.1", 5300))
    one.connect(HERE)
    one.connect(HERE)
    one.connect(("127.0.0.1", 10))
    disconnect(one)
    one.close()


def dissolve() -> None:
    one = made()
    one.connect(HERE)
    disconnect(one)
    one.connect(("127.0.0.1", 10))
    one.close()


def dissolve_and_send() -> None:
    one = made()
    for _ in range(2):
        one.sendto(b"x", HERE)
        disconnect(one)
    one.close()


def fail_to_connect() -> None:
    one = made()
    with contextlib.suppress(OSError):
        one.connect(("255.255.255.255", 9))  # without SO_BROADCAST
    one.close()


def send_mapped() -> None:
    one = made(socket.AF_INET6)
    one.sendto(b"x", ("::ffff:127.0.0.1", 9))
    one.close()


def connect_mapped() -> None:
    one = made(socket.AF_INET6)
    one.connect(("::ffff:127.0.0.1", 9))
    one.close()


def fail_to_send() -> None:
    one = made()
    with contextlib.suppress(OSError):
        one.send(b"x")  # to nobody
    one.close()


def do_nothing() -> None:
    made().close()


WAYS: list[tuple[Callable[[], None], list[str]]] = [
    (bind_and_close, ["UNKNOWN", "UNCONN", "UNKNOWN"]),
    (send_and_close, ["UNKNOWN", "UNCONN", "UNKNOWN"]),
    (connect_and_close, ["UNKNOWN", "ESTAB 9", "UNKNOWN"]),
    (connect_anew, ["UNKNOWN", "UNCONN", "ESTAB 9", "ESTAB 10", "UNCONN", "UNKNOWN"]),
    (dissolve, ["UNKNOWN", "ESTAB 9", "UNKNOWN", "ESTAB 10", "UNKNOWN"]),
    (dissolve_and_send, ["UNKNOWN", "UNCONN", "UNKNOWN", "UNCONN", "UNKNOWN"]),
    (fail_to_connect, ["UNKNOWN", "UNCONN", "UNKNOWN"]),
    (send_mapped, ["UNKNOWN", "UNCONN", "UNKNOWN"]),
    (connect_mapped, ["UNKNOWN", "ESTAB 9", "UNKNOWN"]),
    (fail_to_send, ["UNKNOWN", "UNCONN", "UNKNOWN"]),
    (do_nothing, []),
]


@pytest.mark.parametrize(("way", "states"), WAYS, ids=[way.__name__ for way, _ in WAYS])
def test_a_socket_is_told_of_from_its_port_to_its_end(
    trace: Start, netns: Netns, way: Callable[[], None], states: list[str]
) -> None:
    if way is fail_to_send and not counts_datagrams():
        pytest.skip("this kernel has no tracepoint sock:sock_send_length (Linux 6.3)")
    with trace("-u") as running:
        netns.call(way)
        netns.call(mark)
        running.wait_for(sport=5999, new="UNKNOWN")
    lines = [line for line in end(running) if line["sport"] != 5999]
    assert path(lines) == states
    assert len({line["sport"] for line in lines if line["sport"]}) == len({line["id"] for line in lines})
    for line in lines:
        (owner,) = line["owners"]
        assert owner["pid"] == os.getpid()
        assert line.get("ended", False) == (line["to"] == "UNKNOWN") == ("lifetime_us" in line)
        assert ("held_us" in line) == (line["from"] != "UNKNOWN")


def mark() -> None:
    """Whoever has told of this has told of everything before."""
    one = made()
    one.bind(("127.0.0.1", 5999))
    one.close()


def test_the_last_who_holds_it_ends_it(trace: Start, netns: Netns) -> None:
    """fork(2), kill -9: the socket's end is that of the process that held it last."""
    with trace("-u") as running:
        child = netns.call(fork_with_a_socket)
        line = running.wait_for(new="ESTAB", dport=9)
        assert line["owner_source"] == "connect"
        assert "ended" not in line
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        ended = running.wait_for(new="UNKNOWN", id=line["id"])
        assert ended["owners"][0]["pid"] == child
    end(running)


def fork_with_a_socket() -> int:
    one = made()
    one.connect(HERE)
    child = os.fork()
    if child == 0:
        signal.pause()
    one.close()
    return child


def test_the_last_line_says_what_was_sent_and_received(trace: Start, netns: Netns) -> None:
    if not counts_datagrams():
        pytest.skip("this kernel has no tracepoint sock:sock_send_length (Linux 6.3)")
    older = netns.call(made)
    older.bind(("127.0.0.1", 5301))
    with trace("-u") as running:
        newer = netns.call(made)
        newer.bind(("127.0.0.1", 5300))
        newer.connect(("127.0.0.1", 5301))
        for size in (0, 1, 100, 1000):
            newer.send(bytes(size))
            assert len(older.recvfrom(2000)[0]) == size
            older.sendto(bytes(2 * size), ("127.0.0.1", 5300))
            assert len(newer.recv(4000, socket.MSG_PEEK)) == len(newer.recv(4000)) == 2 * size
        for one in (newer, older):
            one.close()
        line = running.wait_for(sport=5300, new="UNKNOWN")
        assert [line[key] for key in ("bytes_sent", "segs_out", "bytes_received", "segs_in")] == [1101, 4, 2202, 4]
        assert "bytes_sent" not in running.wait_for(sport=5301, new="UNKNOWN")
    end(running)


def test_what_was_there_is_told_of_from_there_on(trace: Start, netns: Netns) -> None:
    one, idle = netns.call(made), netns.call(made)
    one.bind(("127.0.0.1", 5300))
    with trace("-u") as running:
        (seen,) = [line for line in running.lines if line["type"] == "seen"]
        assert (seen["netid"], seen["state"], seen["sport"]) == ("udp", "UNCONN", 5300)
        one.connect(HERE)
        line = running.wait_for(old="UNCONN", new="ESTAB")
        assert line["id"] == seen["id"]
        idle.sendto(b"x", HERE)
        (owner,) = running.wait_for(old="UNKNOWN", new="UNCONN")["owners"]
        assert owner.get("fd", idle.fileno()) == idle.fileno()  # looked for in /proc: not always before the line is out
    end(running)


def test_a_filter_and_words_of_states_select(trace: Start, netns: Netns) -> None:
    with trace("-u", "to", "established", "dport = :10") as running:
        netns.call(connect_anew)
        running.wait_for(dport=10)
    assert [(line["from"], line["to"], line["dport"]) for line in end(running)] == [("ESTAB", "ESTAB", 10)]


def test_with_l_those_without_a_peer_are_told_of(trace: Start, netns: Netns) -> None:
    with trace("-ul") as running:
        netns.call(connect_and_close)
        netns.call(bind_and_close)
        running.wait_for(sport=5300, new="UNKNOWN")
    assert {line["sport"] for line in end(running)} == {5300}


def test_beside_tcp_each_line_says_of_which_it_is(trace: Start, netns: Netns) -> None:
    with trace("-tun", json_lines=False) as running:
        netns.call(connect_and_close)
        netns.call(listen_and_close)
        wait("both ends", lambda: len(running.text) == 5)
        assert running.stop() == 0
    title, *lines = running.text
    assert title.split()[:5] == ["Time", "Netid", "From", "To", "Held"]
    told = [re.sub(r"^\S+ ", "", line).split()[:4] for line in lines]
    assert told == [
        ["udp", "-", "->", "ESTAB"], ["udp", "ESTAB", "->", "-"],
        ["tcp", "UNCONN", "->", "LISTEN"], ["tcp", "LISTEN", "->", "UNCONN"],
    ]  # fmt: skip


def listen_and_close() -> None:
    one = keep(socket.socket())
    one.bind(("127.0.0.1", 0))
    one.listen()
    one.close()


def test_only_what_is_asked_for_is_attached(trace: Start) -> None:
    for words, kinds in (
        ((), {"raw_tracepoint"}),
        (("-u",), {"cgroup", "raw_tracepoint"} if counts_datagrams() else {"cgroup"}),
    ):
        with trace(*words) as running:
            assert links(running.process.pid) == kinds


def links(pid: int) -> set[str]:
    """The kinds of BPF links that a process holds (fdinfo)."""
    found = set()
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found |= set(re.findall(r"^link_type:\t(\S+)", info.read_text(), re.M))
    return found


def test_verify_finds_no_drift(sstrace: Program, netns: Netns) -> None:
    held = [netns.call(made) for _ in range(4)]
    for one in held[:2]:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 5300))
    held[2].connect(HERE)
    done = sstrace("--verify", "-up", "--duration", "1s", "--interval", "100ms", netns=netns)
    assert done.returncode == 0, done.stderr
    assert re.search(rb"comparisons of [1-9]\d* rows in all: 0 missed, 0 ghost, 0 wrong", done.stderr)


# ------------------------------------------------------------------------------------------- what else knows the table


def test_a_recording_shows_what_ss_showed(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """At any moment, with sockets that were there before, that came and went, and that changed."""
    file, moments = tmp_path / "udp.ndjson", []
    older = netns.call(made)
    older.bind(("127.0.0.1", 5301))
    held = [older]
    with traces(sstrace, netns, tmp_path) as start, start("-u", "--record", str(file)) as running:
        for round_ in range(16):
            for way in (bind_and_close, dissolve_and_send, connect_mapped)[round_ % 3 :]:
                netns.call(way)
            held.append(netns.call(made))
            held[-1].connect(("127.0.0.1", 1000 + round_))
            if round_ % 3 == 1:
                disconnect(held[-1])
                held[-2].connect(("127.0.0.1", 9))
            if round_ % 4 == 3:
                held.pop(round_ % len(held)).close()
            text = netns.run("ss", "-Huan").stdout.decode()
            moments.append((time.monotonic_ns(), text))
        netns.call(mark)
        running.wait_for(sport=5999, new="UNKNOWN")
        assert running.stop() == 0
    with file.open() as lines:
        meta = json.loads(lines.readline())
    assert meta["netids"] == ["udp"]
    begin = datetime.fromisoformat(meta["ts"][:19] + "+00:00").timestamp() * 10**9 + int(meta["ts"][20:29])
    for at_ns, text in moments:
        second, ns = divmod(int(begin) + at_ns - meta["mono_ns"], 10**9)
        done = sstrace("--snapshot", "-Huan", "--from", str(file), "--at", f"@{second}.{ns:09d}", netns=netns)
        assert (recordable(done.stdout.decode()), done.stderr) == (recordable(text), b"")


def stands(ready: Path, process: subprocess.Popen[bytes]) -> bool:
    """Whether there is nothing to wait for any more."""
    return ready.exists() or process.poll() is not None


def test_a_server_answers_as_ss_does(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """By -tu it follows both; -u alone, and TCP is asked of the kernel."""
    held = [netns.call(made) for _ in range(4)]
    for one in held[:2]:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 5300))
    held[2].connect(("127.0.0.1", 5300))
    held[2].send(b"waits")
    for letters in ("-tu", "-u"):
        path, ready = tmp_path / f"live{letters}", tmp_path / f"ready{letters}"
        serving = sstrace.start(f"--serve={path}", letters, "--ready-file", str(ready), netns=netns)
        try:
            wait("the server is ready", partial(stands, ready, serving), 90)
            held[3].connect(HERE)
            for words in (
                "-uanpe",
                "-uampO",
                "-ua",
                "-uln",
                "-un",
                "-tuanp",
                "-uan sport = :5300",
                "-uan state closed",
            ):
                theirs = netns.run("ss", *words.split())
                mine = sstrace("--snapshot", "--from", f"live:{path}", *words.split(), netns=netns)
                assert (mine.returncode, mine.stdout) == (theirs.returncode, theirs.stdout), words
            disconnect(held[3])
            assert b":9 " not in sstrace("--snapshot", "--from", f"live:{path}", "-uan", netns=netns).stdout
        finally:
            serving.send_signal(signal.SIGINT)
            _, said = serving.communicate(timeout=30)
        assert serving.returncode == 0, said
        assert b", 0 lost, 0 late" in said


def test_a_digest_counts_from_now_on(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = sstrace.start("--stats", "-u", "--json", "--ready-file", str(ready), netns=netns)
    wait("it counts", partial(stands, ready, process), 90)
    for way in (connect_and_close, connect_and_close, bind_and_close, send_and_close):
        netns.call(way)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=30)
    total, *others = map(json.loads, out.splitlines())
    assert [total[key] for key in ("transitions", "opened_out", "opened_in", "closed", "lost")] == [8, 3, 0, 3, 0], said
    ports = {one["key"]: one["opened"] for one in others if one.get("by") == "port"}
    assert ports.get("5300", 0) == 0  # it sent, and waited to be called
    assert ports["9"] == 2


# ------------------------------------------------------------------------------------------------------------ the tiers


def test_without_the_hooks_a_look_each_second_finds_them(
    trace: Start, netns: Netns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSTRACE_WITHOUT", "cgroup")
    with trace("-u") as running:
        one = netns.call(made)
        one.bind(("127.0.0.1", 5300))
        assert running.wait_for(old="UNKNOWN", new="UNCONN")["source"] == "poll"
        one.connect(HERE)
        assert running.wait_for(old="UNCONN", new="ESTAB")["source"] == "poll"
        one.close()
        assert running.wait_for(old="ESTAB", new="UNKNOWN")["ended"]
    assert "so UDP sockets are found by sweeps, up to a second late" in running.stderr


def test_without_the_tracepoints_of_calls_nothing_is_counted(
    trace: Start, netns: Netns, sstrace: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSTRACE_WITHOUT", "lengths")
    with trace("-u") as running:
        for way in (connect_and_close, dissolve_and_send, bind_and_close):
            netns.call(way)
        running.wait_for(sport=5300, new="UNKNOWN")
    lines = end(running)
    assert [line["from"] for line in lines].count("UNKNOWN") == 4
    assert not any("bytes_sent" in line for line in lines)
    said = sstrace("--doctor").stdout
    assert b"this kernel does not tell what they send and receive" in b" ".join(said.split())


def test_without_events_at_all_likewise(trace: Start, netns: Netns) -> None:
    with trace("-u", "--poll", "50ms") as running:
        one = netns.call(made)
        one.bind(("127.0.0.1", 5300))
        running.wait_for(old="UNKNOWN", new="UNCONN", source="poll")
        one.close()
        running.wait_for(old="UNCONN", new="UNKNOWN", source="poll", ended=True)


ALONE = """
import ctypes, os, struct, sys
from sstrace.sources.bpf.syscall import bpf
from sstrace.sources.mounts import detached
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x02000000) == 0  # CLONE_NEWCGROUP
code = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xb7, 0, 0, 1, 0x95, 0, 0, 0))  # return 1
text = ctypes.create_string_buffer(b"GPL")
words = 9, 2, ctypes.addressof(code), ctypes.addressof(text), 0, 0, 0, 0, 0, b"alone", 0, 34
program = bpf(5, struct.pack("=IIQQIIQII16sII", *words))
assert program >= 0, os.strerror(ctypes.get_errno())
assert bpf(8, struct.pack("=IIII", detached("cgroup2"), program, 34, 0)) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Attaches a program to the root of a cgroup namespace of its own that wants to be alone: no BPF_F_ALLOW_MULTI."""


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of the test's own."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    mount = next((Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"), None)
    if mount is None:
        pytest.skip("no cgroup2 is mounted")
    path = mount / f"sstrace-test-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def test_somebody_who_wants_to_be_alone_at_the_root_is_left_alone(netns: Netns, sstrace: Program, cgroup: Path) -> None:
    moved = ("sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh")
    words = ("-u", "--json", "--duration", "100ms")
    done = netns.run(*moved, sys.executable, "-c", ALONE, *sstrace.head, *words, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert b"somebody else's program at the root of the cgroups lets no other hear release" in done.stderr
    assert b"so UDP sockets are found by sweeps" in done.stderr
