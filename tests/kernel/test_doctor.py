"""--doctor and the tiers of capability: what each still sees, and that it says what it does not."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_serve import wait

from sstrace.sources.tracefs import mount_point

pytestmark = [pytest.mark.root, pytest.mark.bpf]


def test_the_doctor_finds_this_machine_well(sstrace: Any) -> None:
    visit = sstrace("--doctor")
    assert visit.returncode == 0, visit.stdout.decode()
    assert "Live tracing works in full." in visit.stdout.decode()
    lines = [json.loads(line) for line in sstrace("--doctor", "--json").stdout.splitlines()]
    assert {line["type"] for line in lines} == {"finding"}
    assert {line["what"]: line["status"] for line in lines}["tracing"] == "ok"


def test_without_privilege_only_privilege_is_missing(sstrace: Any) -> None:
    visit = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *sstrace.head, "--doctor"],
        capture_output=True,
        env={**os.environ, "HOME": "/nonexistent"},
        timeout=60,
        check=False,
    )
    if b"Permission denied" in visit.stderr and visit.returncode == 127:
        pytest.skip("kernel lacks nothing, but this checkout is not readable to other users")
    assert visit.returncode == 3, (visit.stdout.decode(), visit.stderr.decode())
    assert b"sudo" in visit.stdout


@pytest.mark.parametrize(
    ("without", "sees"),
    [
        ("", {"port", "time-wait", "cause"}),
        ("native", {"port", "time-wait", "cause"}),
        ("timers", {"cause"}),
        ("kallsyms", set()),
        ("btf", {"cause"}),
        ("btf,kallsyms", set()),
    ],
)
def test_a_rung_sees_what_it_says(
    sstrace: Any,
    netns: Any,
    tmp_path: Path,
    without: str,
    sees: set[str],
) -> None:
    ready = tmp_path / "ready"
    server = netns.call(lambda: socket.create_server(("127.0.0.1", 0)))
    port = server.getsockname()[1]
    # Without BTF other namespaces are seen too: this port tells ours.
    ours = ["(", "sport", "=", f":{port}", "or", "dport", "=", f":{port}", ")"]
    tracer = sstrace.start("--json", "--ready-file", str(ready), *ours, netns=netns, env={"SSTRACE_WITHOUT": without})
    wait(ready.exists, tracer)
    netns.call(_one_connection, server)
    events: list[dict[str, Any]] = []
    ends = 0
    while ends < 2:
        line = json.loads(tracer.stdout.readline())
        if line["type"] == "state" and "source" not in line:
            events.append(line)
            ends += line["from"] in ("LAST-ACK", "FIN-WAIT-2") and line["from"] != line["to"]
    tracer.send_signal(signal.SIGINT)
    _, errors = tracer.communicate(timeout=60)
    server.close()
    assert tracer.returncode == 0, errors.decode()
    assert (without not in ("", "native")) == (len(errors.splitlines()) > 1), errors.decode()
    opened = next(line for line in events if line["to"] == "SYN-SENT")
    assert (opened["sport"] != 0) is ("port" in sees)
    assert any(line["to"] == "TIME-WAIT" for line in events) is ("time-wait" in sees)
    assert sum(line.get("ended", False) for line in events) == 2, "whichever object tells of it"
    causes = [line["cause"] for line in events if line["to"] == "UNCONN"]
    assert ("unknown" not in causes) is ("cause" in sees)
    steps = {(line["from"], line["to"]) for line in events}
    assert {("SYN-SENT", "ESTAB"), ("SYN-RECV", "ESTAB"), ("ESTAB", "FIN-WAIT-1"), ("CLOSE-WAIT", "LAST-ACK")} <= steps


@pytest.mark.parametrize("mode", [(), ("--stats",), ("--verify",), ("--serve={}/live.sock",)], ids=str)
def test_whatever_follows_events_says_what_it_cannot_see(
    sstrace: Any, netns: Any, tmp_path: Path, mode: tuple[str, ...]
) -> None:
    words = [word.format(tmp_path) for word in mode]
    done = sstrace(*words, "--duration", "1ms", netns=netns, env={"SSTRACE_WITHOUT": "timers"})
    assert b"sstrace: SYN-RECV and TIME-WAIT are found by sweeps, up to a second late\n" in done.stderr


def test_polling_needs_no_bpf(sstrace: Any, netns: Any, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    tracer = sstrace.start("--json", "--poll", "50ms", "--ready-file", str(ready), "--count", "1", netns=netns)
    wait(ready.exists, tracer)
    server = netns.call(lambda: socket.create_server(("127.0.0.1", 0)))
    output, errors = tracer.communicate(timeout=60)
    assert tracer.returncode == 0, errors.decode()
    (line,) = [line for line in map(json.loads, output.splitlines()) if line["type"] == "state"]
    assert (line["source"], line["to"], line["sport"]) == ("poll", "LISTEN", server.getsockname()[1])
    server.close()


def _one_connection(server: socket.socket) -> None:
    client = socket.create_connection(server.getsockname())
    child, _ = server.accept()
    client.shutdown(socket.SHUT_WR)
    assert child.recv(1) == b""
    child.close()
    assert client.recv(1) == b""
    client.close()


@pytest.mark.parametrize("mode", ["--snapshot", "--doctor"])
def test_record_is_not_ignored_where_it_does_nothing(sstrace: Any, tmp_path: Path, mode: str) -> None:
    refused = sstrace(mode, "--record", str(tmp_path / "file"))
    assert refused.returncode == 255
    assert b"--record" in refused.stderr.splitlines()[0]
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("home", ["/root", "/root/deeper", "/dev/null", "", "here", "/tmp/\udcff", "/" + "a" * 300])
def test_any_home_will_do(sstrace: Any, home: str) -> None:
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for more in ([], ["--json"]):
        for place in ("HOME", "XDG_CACHE_HOME"):
            visit = subprocess.run(
                [*user, *sstrace.head, "--doctor", *more],
                capture_output=True,
                env={"PATH": os.environ["PATH"], place: home},
                timeout=60,
                check=False,
            )
            if b"Permission denied" in visit.stderr and visit.returncode == 127:
                pytest.skip("kernel lacks nothing, but this checkout is not readable to other users")
            assert (visit.returncode, visit.stderr) == (3, b"")
            assert visit.stdout.count(b"cache") > 0


def test_what_a_sandbox_refuses_is_named(sstrace: Any) -> None:
    rules = ["socket:16::4=EACCES", "socket:16::0=EMFILE"]
    words = [sys.executable, str(ROOT / "tests/refusal.py"), *rules, "--", *sstrace.head, "--doctor", "--json"]
    visit = subprocess.run(words, capture_output=True, timeout=60, check=False)
    assert (visit.returncode, visit.stderr) == (4, b"")
    found = findings(visit.stdout)
    assert found["sock_diag"]["found"] == "Cannot open netlink socket: Permission denied"
    assert "sandbox" in found["sock_diag"]["remedy"]
    assert "Too many open files" in found["interfaces"]["found"]


def findings(output: bytes) -> dict[str, dict[str, str]]:
    return {line["what"]: line for line in map(json.loads, output.splitlines())}


def test_a_tracefs_that_cannot_be_opened_is_not_well(sstrace: Any) -> None:
    if mount_point() is not None:
        pytest.skip("kernel lacks nothing: tracefs is mounted here")
    words = [sys.executable, str(ROOT / "tests/refusal.py"), "fsopen=EPERM", "--", *sstrace.head, "--doctor", "--json"]
    found = findings(subprocess.run(words, capture_output=True, timeout=60, check=False).stdout)["tracefs"]
    assert found["status"] == "less"
    assert "Operation not permitted" in found["found"]


@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o700, "Permission denied"), (0o757, "others can write it"), (0o555, "Permission denied"), (0o755, "")],
)
def test_a_cache_that_cannot_be_used_is_not_well(sstrace: Any, common_path: Path, mode: int, said: str) -> None:
    """In turn: somebody else's that is closed, our own that others may write, one that is not to be written; sound."""
    cache = common_path / "sstrace"
    cache.mkdir()
    os.chown(cache, *(0, 0) if mode == 0o700 else (65534, 65534))
    cache.chmod(mode)
    visit = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *sstrace.head, "--doctor", "--json"],
        capture_output=True, env={**os.environ, "XDG_CACHE_HOME": str(common_path)}, timeout=60, check=False,
    )  # fmt: skip
    if b"Permission denied" in visit.stderr and visit.returncode == 127:
        pytest.skip("kernel lacks nothing, but this checkout is not readable to other users")
    found = findings(visit.stdout)["cache"]
    assert (found["status"], said in found["found"]) == ("less" if said else "ok", True)
    assert not list(cache.iterdir())


def test_what_was_compiled_of_other_sources_is_named(sstrace: Any, tmp_path: Path) -> None:
    (tmp_path / "_sstrace.py").write_text("INTERFACE = 0\n")
    found = findings(sstrace("--doctor", "--json", env={"PYTHONPATH": f"{tmp_path}:{ROOT}"}).stdout)["event path"]
    assert (found["status"], "other sources" in found["found"]) == ("less", True)
