"""Real consumers, fed live: each must hold exactly the connections that were made, a prime number of them."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Netns, Program, unmet
from tracing import close_all, listener, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]

PRIME = 499
PORT = 7919
OPENED = ("from", "syn-sent", "to", "established", "dport", "=", f":{PORT}")
"""One line for each connection of the workload, whatever else connects."""


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


def exchange(count: int) -> None:
    import socket

    listens = listener(port=PORT)
    with listens:
        for _ in range(count):
            with socket.create_connection(listens.getsockname(), timeout=30):
                accepted, _ = listens.accept()
                accepted.close()


class Running:
    """A trace, its ready file and its last words."""

    def __init__(self, sstrace: Program, netns: Netns, directory: Path, *words: str, **popen: Any) -> None:
        ready, self._errors = directory / "ready", directory / "errors"
        with self._errors.open("wb") as errors:
            self.process = sstrace.start(
                "--ready-file",
                str(ready),
                *words,
                netns=netns,
                stderr=errors,
                **{"stdout": subprocess.DEVNULL, **popen},
            )
        wait("the trace is ready", lambda: ready.exists() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.errors

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        assert code == 0, self.errors
        assert " 0 lost" in self.errors
        assert "did not reach" not in self.errors, self.errors


def program(name: str, package: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/lib/systemd")
    if found is None:
        unmet(f"needs {name} (package {package})")
    return found


# ------------------------------------------------------------------------------------------------------------- rsyslog


RSYSLOG = """
module(load="imuxsock" SysSock.Use="off")
module(load="mmjsonparse")
input(type="imuxsock" Socket="{socket}" UseSpecialParser="off" ParseHostname="on" RateLimit.Interval="0")
template(name="told" type="list") {{
    property(name="protocol-version") constant(value="|")
    property(name="timereported" dateFormat="rfc3339") constant(value="|")
    property(name="hostname") constant(value="|")
    property(name="app-name") constant(value="|")
    property(name="msgid") constant(value="|")
    property(name="syslogseverity-text") constant(value="|")
    property(name="$!dport") constant(value="|")
    property(name="msg") constant(value="\\n")
}}
if $app-name == "sstrace" then {{
    action(type="mmjsonparse" cookie="" useRawMsg="off")
    action(type="omfile" file="{out}" template="told")
}}
"""


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A running rsyslogd: its socket and what it writes."""
    rsyslogd = program("rsyslogd", "rsyslog")
    socket, out, conf = tmp_path / "log", tmp_path / "messages", tmp_path / "rsyslog.conf"
    conf.write_text(RSYSLOG.format(socket=socket, out=out))
    with (tmp_path / "rsyslog.err").open("wb") as errors:
        process = subprocess.Popen(
            [rsyslogd, "-n", "-f", str(conf), "-i", str(tmp_path / "pid")], stdout=errors, stderr=errors
        )
    try:
        wait("rsyslog listens", lambda: socket.exists() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "rsyslog.err").read_text()
        yield socket, out
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("schema", ["native", "ecs", "otel", None])
def test_rsyslog(
    sstrace: Program, netns: Netns, tmp_path: Path, rsyslog: tuple[Path, Path], schema: str | None
) -> None:
    socket, out = rsyslog
    words = ["--json", "--schema", schema] if schema else []
    running = Running(sstrace, netns, tmp_path, "--sink", f"syslog:{socket}", *words, *OPENED)
    netns.call(exchange, PRIME)
    running.stop()

    def states() -> list[list[str]]:
        lines = [line.split("|", 7) for line in out.read_text().splitlines()] if out.exists() else []
        return [line for line in lines if line[4] == "state"]

    wait("rsyslog has written them", lambda: len(states()) >= PRIME)
    for protocol, when, host, name, _, severity, dport, message in states():
        assert (protocol, name, severity) == ("1", "sstrace", "info")
        assert host == os.uname().nodename
        assert "T" in when
        if schema == "native":
            assert dport == str(PORT)
            assert json.loads(message)["dport"] == PORT
        elif schema is None:
            assert f":{PORT} " in message
        else:
            json.loads(message)
    assert len(states()) == PRIME


# --------------------------------------------------------------------------------------------------------------- files


def test_jq(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    jq = program("jq", "jq")
    kept = tmp_path / "kept"
    with kept.open("wb") as out:
        read_end, write_end = os.pipe()
        reader = subprocess.Popen(
            [jq, "-r", "--unbuffered", 'select(.type == "state") | [.src, .dport, .to] | @tsv'],
            stdin=read_end,
            stdout=out,
        )
        os.close(read_end)
        running = Running(sstrace, netns, tmp_path, "--json", *OPENED, stdout=write_end)
        os.close(write_end)
    netns.call(exchange, PRIME)
    running.stop()
    assert reader.wait(60) == 0
    assert kept.read_text().splitlines() == [f"127.0.0.1\t{PORT}\tESTAB"] * PRIME


DUCKDB = {
    "native": "count(*) filter (type = 'state'), count(distinct sport), sum(dport)",
    "ecs": "count(*) filter (event.dataset = 'sstrace.state'), count(distinct source.port), sum(destination.port)",
    "otel": "count(*) filter (event_name = 'sstrace.state'), count(distinct \"network.local.port\"), "
    'sum("network.peer.port")',
}


@pytest.mark.parametrize("schema", DUCKDB)
def test_duckdb(sstrace: Program, netns: Netns, tmp_path: Path, schema: str) -> None:
    """It reads the pipe itself, and finds the columns by looking at the lines."""
    query = f"select {DUCKDB[schema]} from read_json('/dev/stdin', format = 'newline_delimited')"
    reader = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import duckdb, sys; print(*map(int, duckdb.connect().execute(sys.argv[1]).fetchone()))",
            query,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert reader.stdin is not None
    running = Running(sstrace, netns, tmp_path, "--json", "--schema", schema, *OPENED, stdout=reader.stdin)
    reader.stdin.close()
    reader.stdin = None
    netns.call(exchange, PRIME)
    running.stop()
    out, _ = reader.communicate(timeout=60)
    count, ports, total = map(int, out.split())
    assert (count, ports, total) == (PRIME, PRIME, PRIME * PORT)


# ---------------------------------------------------------------------------------------------------------------- OTLP


class Collector(HTTPServer):
    """Takes OTLP over HTTP, as an OpenTelemetry collector does; may refuse."""

    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Receive)
        self.records: list[tuple[dict[str, Any], Any]] = []
        self.refusals = 0


class Receive(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        assert self.path == "/v1/logs"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        collector = self.server
        assert isinstance(collector, Collector)
        if collector.refusals:
            collector.refusals -= 1
            self.send_response(503)
            self.end_headers()
            return
        request = ExportLogsServiceRequest()
        request.ParseFromString(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        for resource in request.resource_logs:
            about = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
            for scope in resource.scope_logs:
                assert scope.scope.name == "sstrace"
                collector.records += [(about, record) for record in scope.log_records]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def collector(netns: Netns) -> Iterator[Collector]:
    made: Collector = netns.call(Collector)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def states_of(collector: Collector) -> list[tuple[dict[str, Any], Any]]:
    return [(about, record) for about, record in collector.records if record.event_name == "sstrace.state"]


@pytest.mark.parametrize("refusals", [0, 1])
def test_otlp(sstrace: Program, netns: Netns, tmp_path: Path, collector: Collector, refusals: int) -> None:
    collector.refusals = refusals
    where = f"otlp:http://127.0.0.1:{collector.server_address[1]}"
    running = Running(sstrace, netns, tmp_path, "--sink", where, *OPENED)
    netns.call(exchange, PRIME)
    wait("they have arrived", lambda: len(states_of(collector)) >= PRIME, 60)
    running.stop()
    found = states_of(collector)
    assert len(found) == PRIME
    about, record = found[0]
    values = {one.key: one.value for one in record.attributes}
    assert (about["service.name"], about["host.name"], about["os.type"]) == ("sstrace", os.uname().nodename, "linux")
    assert values["network.peer.port"].int_value == PORT
    assert values["network.connection.state"].string_value == "established"
    assert values["sstrace.state.previous"].string_value == "syn_sent"
    assert values["process.pid"].int_value == os.getpid()
    assert record.severity_text == "INFO"
    assert record.severity_number == 9
    assert record.time_unix_nano > 1_700_000_000 * 10**9
    assert record.body.string_value.startswith("127.0.0.1:")
    sequence = [{one.key: one.value for one in record.attributes}["sstrace.seq"].int_value for _, record in found]
    assert sequence == sorted(set(sequence))


def test_otlp_where_nobody_listens(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Tracing goes on; an end within seconds; what did not arrive is counted."""
    running = Running(sstrace, netns, tmp_path, "--sink", "otlp:http://127.0.0.1:9", *OPENED)
    netns.call(exchange, 13)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(30) == 1
    assert running.errors.splitlines()[-1].endswith("lines did not reach otlp")
    assert "bug in sstrace" not in running.errors


# ------------------------------------------------------------------------------------------------------------- journal


JOURNAL = """
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd /run/log
mount -t tmpfs none /var/log
exec "$@"
"""


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A journald in a mount namespace of its own."""
    journald = program("systemd-journald", "systemd")
    program("journalctl", "systemd")
    with (tmp_path / "journald.err").open("wb") as errors:
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", JOURNAL, "sh", journald], stdout=errors, stderr=errors
        )
    socket = Path(f"/proc/{process.pid}/root/run/systemd/journal/socket")
    try:
        wait("journald listens", lambda: socket.exists() or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "journald.err").read_text()
        yield process
    finally:
        process.terminate()
        process.wait(30)


def test_journald(sstrace: Program, netns: Netns, tmp_path: Path, journal: subprocess.Popen[bytes]) -> None:
    inside = ["nsenter", "--target", str(journal.pid), "--mount", f"--wd={ROOT}"]
    running = Running(Program(*inside, *sstrace.head), netns, tmp_path, "--sink", "journald", *OPENED)
    netns.call(exchange, PRIME)
    running.stop()

    def entries() -> list[dict[str, Any]]:
        done = subprocess.run(
            [*inside, "journalctl", "-o", "json", "--no-pager", "-D", "/run/log/journal", "SYSLOG_IDENTIFIER=sstrace"],
            capture_output=True,
            check=False,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    wait("the journal has them", lambda: len(entries()) >= PRIME)
    found = entries()
    assert len(found) == PRIME
    one = found[0]
    assert (one["SSTRACE_TYPE"], one["SSTRACE_FROM"], one["SSTRACE_TO"]) == ("state", "SYN-SENT", "ESTAB")
    assert (one["SSTRACE_DPORT"], one["SSTRACE_ROLE"], one["PRIORITY"]) == (str(PORT), "client", "6")
    assert one["MESSAGE"].startswith("127.0.0.1:")
    assert f" SYN-SENT -> ESTAB 127.0.0.1:{PORT}" in one["MESSAGE"]
    numbers = [int(entry["SSTRACE_SEQ"]) for entry in found]
    assert numbers == sorted(set(numbers))


def test_two_ways_out_at_once(sstrace: Program, netns: Netns, tmp_path: Path, rsyslog: tuple[Path, Path]) -> None:
    """A file and rsyslog; and when one reader leaves, the other gets on."""
    socket, out = rsyslog
    file = tmp_path / "lines"
    running = Running(
        sstrace, netns, tmp_path, "--json", "--sink", f"syslog:{socket}", "--sink", "stdout", "--output", str(file),
        *OPENED, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert running.process.stdout is not None
    running.process.stdout.close()
    netns.call(exchange, PRIME)
    running.stop()
    assert sum(json.loads(line)["type"] == "state" for line in file.read_text().splitlines()) == PRIME
    wait("rsyslog has written them", lambda: out.exists() and out.read_text().count("|state|") >= PRIME)
