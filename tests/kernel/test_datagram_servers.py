"""Real servers on UDP: who talks to whom, how much and how long, to the byte as they count it themselves."""

import importlib.util
import json
import os
import random
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

import pytest
from conftest import ROOT, Netns
from tracing import Start, Trace, closed, counts_datagrams, keep, trace, wait

__all__ = ["closed", "trace"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

QUIC = os.environ.get("SSTRACE_QUIC_PYTHON") or sys.executable
"""A Python that has aioquic."""
SIZE = int(os.environ.get("SSTRACE_QUIC_BYTES", "300000"))


@pytest.fixture(autouse=True)
def _counts() -> None:
    if not counts_datagrams():
        pytest.skip("kernel lacks the tracepoint sock:sock_send_length (Linux 6.3)")


def has_quic() -> bool:
    """Whether that is so."""
    if sys.executable == QUIC:
        return importlib.util.find_spec("aioquic") is not None
    return subprocess.run([QUIC, "-c", "import aioquic"], check=False, capture_output=True).returncode == 0


def carried(line: dict[str, Any]) -> list[int]:
    return [line[key] for key in ("bytes_sent", "segs_out", "bytes_received", "segs_in")]


def ended(running: Trace, **wanted: Any) -> dict[str, Any]:
    line = running.wait_for(new="UNKNOWN", **wanted)
    assert line["lifetime_us"] > 0
    return line


@pytest.mark.skipif(not has_quic(), reason="aioquic: not installed")
def test_an_exchange_of_quic(trace: Start, netns: Netns) -> None:
    with trace("-u") as running:
        words = [*netns.prefix, QUIC, str(ROOT / "tests" / "quic_exchange.py"), str(SIZE)]
        done = subprocess.run(words, capture_output=True, check=True, timeout=120)
        counted = {int(port): counts for port, counts in json.loads(done.stdout).items()}
        assert len(counted) == 2
        lines = {port: ended(running, sport=port) for port in counted}
    assert {port: carried(line) for port, line in lines.items()} == counted
    assert len({line["owners"][0]["pid"] for line in lines.values()}) == 1


def question(number: int, name: bytes) -> bytes:
    """A query for the address of a name of one label: RFC 1035, 4.1."""
    head = number.to_bytes(2, "big") + b"\1\0" + b"\0\1" + bytes(6)
    return head + bytes([len(name)]) + name + b"\4test\0" + b"\0\1\0\1"


@pytest.mark.skipif(shutil.which("dnsmasq") is None, reason="dnsmasq: not installed")
def test_a_server_of_names(trace: Start, netns: Netns) -> None:
    chance, sent, received, asked = random.Random(5), 0, 0, 0
    with trace("-u") as running:
        words = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--port=5353",
            "--user=root",
        ]
        words += ["--listen-address=127.0.0.1", "--bind-interfaces", "--address=/test/192.0.2.7", "--pid-file="]
        server = subprocess.Popen([*netns.prefix, "dnsmasq", *words])
        try:
            running.wait_for(sport=5353, new="UNCONN")
            lines = []
            for number in range(40):
                one = keep(netns.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
                one.settimeout(20)
                with suppress(ConnectionRefusedError):
                    one.connect(("127.0.0.1", 5353))
                query = question(number, b"n" * chance.randrange(1, 60))
                one.send(query)
                answer = one.recv(2000)
                assert answer.endswith(bytes((192, 0, 2, 7)))
                port = one.getsockname()[1]
                one.close()
                line = ended(running, sport=port)
                assert carried(line) == [len(query), 1, len(answer), 1]
                assert (line["dst"], line["dport"], line["role"]) == ("127.0.0.1", 5353, "client")
                sent, received, asked = sent + len(query), received + len(answer), asked + 1
                lines.append(line)
        finally:
            server.terminate()
            server.wait(30)
        line = ended(running, sport=5353)
    assert carried(line) == [received, asked, sent, asked]
    assert [(owner["comm"], owner["pid"]) for owner in line["owners"]] == [("dnsmasq", server.pid)]
    assert {line["owners"][0]["pid"] for line in lines} == {os.getpid()}
    wait("it has gone", lambda: server.poll() is not None)
