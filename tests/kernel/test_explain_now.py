"""``--explain`` of the kernel and of a server: what is known of a connection now."""

import json
import socket
from pathlib import Path

import pytest
from conftest import Netns, Program
from test_serve import Service
from tracing import closed, connect, keep, listener

__all__ = ["closed"]

pytestmark = [pytest.mark.root, pytest.mark.bpf]

SENT, RECEIVED = 12_345, 77


def connected(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """A listener, and who has called there, once so much has been carried."""
    door = listener(host)
    client = connect(door.getsockname()[:2])
    server = keep(door.accept()[0])
    for one, other, size in ((client, server, SENT), (server, client, RECEIVED)):
        one.sendall(bytes(size))
        other.recv(size, socket.MSG_WAITALL)
    return door, client


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_tells_of_both_ends(sstrace: Program, netns: Netns, host: str) -> None:
    door, client = netns.call(connected, host)
    here, there = client.getsockname()[1], door.getsockname()[1]
    local, peer = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for port in (here, there))
    told = sstrace("--explain", f"{local}-{peer}", netns=netns)
    assert told.returncode == 0, told.stderr
    stories = [story.splitlines() for story in told.stdout.decode().split("\n\n")]
    ours = next(story for story in stories if story[0] == f"{local} - {peer}")
    assert len(stories) == 2
    assert max(map(len, told.stdout.decode().splitlines())) <= 80
    words = " ".join(" ".join(ours).split())
    assert f"sent {SENT} bytes (12k) in" in words
    assert f"received {RECEIVED} (77) in" in words
    assert " ESTAB held by " in words
    assert f"/{client.fileno()} " in words
    lines = [json.loads(line) for line in sstrace("--explain", f":{here}", "--json", netns=netns).stdout.splitlines()]
    assert sorted((line["sport"], line["dport"]) for line in lines) == sorted([(here, there), (there, here)])
    # One end is that of the listener, too.
    assert sstrace("--explain", f":{there}", netns=netns).stdout.startswith(f"{peer}\n".encode())
    gone = sstrace("--explain", f"{local}-:{there + 1}", netns=netns)
    assert (gone.returncode, gone.stdout) == (1, b"")
    assert gone.stderr.decode() == f"sstrace: there is no connection {local}-:{there + 1} now\n"


def test_a_server_knows_who_called_and_since_when(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    service = Service(sstrace, netns, tmp_path)
    try:
        door, client = netns.call(connected)
        here, there = client.getsockname()[1], door.getsockname()[1]
        asked = ("--explain", f":{here}-:{there}", "--from", f"live:{service.path}")
        told = sstrace(*asked, netns=netns)
        assert told.returncode == 0, told.stderr
        text = told.stdout.decode()
        for arrow, role, one, other in (("→", "client", here, there), ("←", "server", there, here)):
            assert f"127.0.0.1:{one} {arrow} 127.0.0.1:{other}\n{role}; tcp, uid 0" in text
        assert text.count(" ago\n") >= 2
        assert "ESTAB for " in text
        assert f"sent {SENT} bytes" in text
        lines = [json.loads(line) for line in sstrace(*asked, "--json", netns=netns).stdout.splitlines()]
        assert sorted(line["sport"] for line in lines) == sorted((here, there))
        unknown = sstrace("--explain", ":1-:2", "--from", f"live:{service.path}", netns=netns)
        assert (unknown.returncode, unknown.stderr) == (1, b"sstrace: there is no connection :1-:2 now\n")
    finally:
        service.stop()
