"""The command as a process: streams, exit codes, and what each mode calls itself."""

import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str | bytes, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [sys.executable, "-m", "sstrace", *arguments],
        input=stdin,
        capture_output=True,
        cwd=ROOT,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )
    return done


def test_help_goes_to_standard_output() -> None:
    for arguments, begins in (
        (("--help",), b"Usage: sstrace "),
        (("-h", "--watch"), b"sstrace is ss that never blinks"),
        (("-f", "help"), b"Usage: sstrace "),
    ):
        result = run(*arguments)
        assert (result.returncode, result.stderr) == (0, b"")
        assert result.stdout.startswith(begins)
    result = run("--snapshot", "--help", "--ss-version", "6.1")
    assert result.stdout.startswith(b"Usage: ss [ OPTIONS ]\n")


def test_versions() -> None:
    assert run("--snapshot", "-V", "--ss-version=6.15").stdout == b"ss utility, iproute2-6.15.0\n"
    assert run("-V", "--ss-version=6.15").stdout.endswith(b", printing as iproute2-6.15.0\n")


def test_mistakes_name_the_program_that_was_meant() -> None:
    theirs = run("--snapshot", "-y", "--ss-version", "6.1")
    assert theirs.returncode == 255
    assert theirs.stderr.startswith(b"ss: invalid option -- 'y'\nUsage: ss [ OPTIONS ]\n")
    ours = run("-y")
    assert ours.returncode == 255
    assert ours.stderr == b"sstrace: invalid option -- 'y'\nTry \"sstrace --help\".\n"
    for result in (theirs, ours):
        assert result.stdout == b""
    assert run("-t", "state", "nowhere").stderr.startswith(
        b'sstrace: "nowhere" is no state: write one of established, '
    )
    assert run("--watch", "--verify").stderr == b"sstrace: --watch and --verify are two modes: choose one\n"


@pytest.mark.parametrize("words", [["-A", "dccp,sctp"], ["--verify", "-A", "sctp"], ["--record", "f", "-A", "tipc"]])
def test_what_makes_no_events_is_not_waited_for(words: list[str]) -> None:
    result = run(*words)
    assert (result.returncode, result.stdout) == (255, b"")
    assert (
        result.stderr
        == b"sstrace: only TCP, MPTCP, UDP, raw, unix, packet, netlink, vsock and XDP sockets are followed: look at "
        b"others with --snapshot\n"
    )


def test_what_is_only_looked_for_goes_into_no_engine() -> None:
    result = run("-x", "--sink", "clickhouse:http://127.0.0.1:1")
    assert (result.returncode, result.stdout) == (255, b"")
    assert (
        result.stderr
        == b"sstrace: --sink clickhouse is of TCP, MPTCP, UDP and raw sockets: a trace tells of others, and --record "
        b"keeps them\n"
    )


@pytest.mark.parametrize(
    ("option", "events", "sentence"),
    [
        ("-u", "retransmit,reset", "is of TCP alone: choose -t"),
        ("-t", "error", "is of UDP alone: choose -u"),
        ("-x", "drop", "is of TCP and UDP alone: choose -t or -u"),
        ("-w", "drop", "is of TCP and UDP alone: choose -t or -u"),
    ],
)
def test_what_happens_to_no_such_socket_says_to_which_it_does(option: str, events: str, sentence: str) -> None:
    result = run(option, "--events", events)
    assert (result.returncode, result.stdout) == (255, b"")
    assert result.stderr == f"sstrace: --events {events} {sentence}\n".encode()


def test_a_link_named_ss_is_ss(tmp_path: Path) -> None:
    link = tmp_path / "ss"
    link.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        + ("from sstrace.cli import main\nsys.exit(main())\n")
    )
    link.chmod(0o755)
    result = subprocess.run([link, "-y"], capture_output=True, timeout=60, check=False)
    assert result.returncode == 255
    assert result.stderr.startswith(f"{link}: invalid option -- 'y'\nUsage: ss ".encode())


def test_arguments_are_bytes() -> None:
    for raw in (b"\xff", "é".encode()):
        assert run("--snapshot", b"-t", b"state", raw).stderr == b"ss: wrong state name: " + raw + b"\n"
        told = raw.decode(errors="replace").replace("\ufffd", "ÿ").encode()
        assert run(b"-t", b"state", raw).stderr.startswith(b'sstrace: "' + told + b'" is no state: ')


def test_what_ends_early_but_well() -> None:
    result = run("--snapshot", "-A", "!tcp")
    assert (result.returncode, result.stdout) == (0, b"")
    assert result.stderr == b"ss: no socket tables to show with such filter.\n"


@pytest.mark.parametrize("name", ["", "nowhere/at/all"])
def test_filter_files_that_do_not_open(name: str) -> None:
    result = run("--snapshot", "-t", "-F", name)
    assert (result.returncode, result.stderr) == (255, b"fopen filter file: No such file or directory\n")


def test_namespaces_that_do_not_exist() -> None:
    for arguments, begins in ((["--snapshot"], b""), ([], b"sstrace: ")):
        result = run(*arguments, "-N", "no-such-namespace")
        assert result.returncode == 1
        message = b'Cannot open network namespace "no-such-namespace": No such file or directory\n'
        assert result.stderr == begins + message


def test_start_up_imports_little() -> None:
    """A command line that ends early needs none of the heavy libraries, and no mode."""
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    # What the interpreter imports by itself (site hooks of the machine) is not ours.
    bare = subprocess.run([sys.executable, "-c", "pass"], capture_output=True, env=env, check=True)
    imported = _imported(run("--snapshot", "-h", env=env).stderr) - _imported(bare.stderr)
    heavy = {"argparse", "rich", "bcc", "ipaddress", "subprocess", "dataclasses", "ctypes", "asyncio"}
    assert not imported & (heavy | {"sstrace.dispatch"})


def test_a_question_to_a_live_table_imports_hardly_anything(tmp_path: Path) -> None:
    """The serving sstrace reads the command line, so the client has no need of what reads it."""
    (tmp_path / "ss").write_bytes(b"ss utility, iproute2-6.1.0\0")  # as far as a client looks
    env = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1", "PATH": str(tmp_path)}
    env.pop("COLUMNS", None)
    bare = subprocess.run([sys.executable, "-c", "pass"], capture_output=True, env=env, check=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "live"))
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                _, pipes, _, _ = socket.recv_fds(connection, 65536, 2)
                os.write(pipes[0], b"an answer\n")
                for pipe in pipes:
                    os.close(pipe)
                connection.sendall(b'{"code":0}\n')

        serving = threading.Thread(target=answer)
        serving.start()
        asked = run("--snapshot", "--from", f"live:{tmp_path}/live", "-t", "state", "close-wait", env=env)
        serving.join()
    assert (asked.returncode, asked.stdout) == (0, b"an answer\n")
    needed = _imported(asked.stderr) - _imported(bare.stderr)
    sources = {"sources", "sources.asking", "sources.installed", "sources.standard"}
    ours = {"cli", "errors", "plain", "server", "server.forward"} | sources
    assert {name for name in needed if name.startswith("sstrace.")} <= {f"sstrace.{name}" for name in ours}
    assert not {"msgspec", "socket", "threading", "json", "selectors"} & needed


def _imported(report: bytes) -> set[str]:
    return {line.rpartition(b"|")[2].strip().decode() for line in report.splitlines()}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "--verify --from live",
            "--from live means nothing to --verify: leave it away, or use it with --stats, --explain WHICH, "
            "--snapshot or --watch",
        ),
        (
            "--from live",
            "--from live means nothing to a trace: leave it away, or use it with --stats, --explain WHICH, "
            "--snapshot or --watch",
        ),
        ("--snapshot --duration 5", "--duration means nothing to --snapshot: leave it away"),
        ("--replay x --duration 5", "--duration means nothing to --replay FILE: leave it away"),
        (
            "--stats --from live --duration 1s",
            "--duration means nothing to --stats --from live: leave it away",
        ),
        ("-S", "-S means nothing to a trace: leave it away, or use it with --snapshot"),
        ("--group adm", "--group means nothing to a trace: leave it away, or use it with --serve"),
        ("--schema ecs", "--schema means nothing without --json"),
        ("--no-baseline --sink syslog", "--no-baseline means nothing without --json or --sink otlp"),
        ("--time iso --stats", "--time iso is of lines of events: here write utc, or nothing"),
        ("--verify --sink syslog", "--sink means nothing to --verify: tables go to --output FILE"),
    ],
)
def test_what_does_not_go_together_is_refused(words: str, sentence: str) -> None:
    result = run(*words.split())
    assert (result.returncode, result.stdout) == (255, b"")
    assert result.stderr == f"sstrace: {sentence}\n".encode()


def test_what_it_took_itself_is_said_at_the_end() -> None:
    said = run("--snapshot", "-tln", "--self-usage").stderr.decode()
    assert re.fullmatch(r"sstrace: it took \d+\.\d\d s of CPU and \d+ MiB of memory\n", said)
