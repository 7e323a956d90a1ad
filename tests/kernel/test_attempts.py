"""Every connect(2) is told, from its attempt to its end, whatever of it is not heard."""

import errno
import json
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Netns, Program
from test_metrics import PORT, get, value, values
from tracing import Trace, close_all, listener, route_stranger, sysctl, wait

pytestmark = [pytest.mark.root, pytest.mark.bpf]


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


def ten_connects() -> list[int]:
    """What connect(2) returned to each of ten, in a namespace with four ports."""
    listens = listener(port=9000)
    found = []
    for _ in range(10):
        with socket.socket() as client:
            found.append(client.connect_ex(listens.getsockname()))
            if not found[-1]:
                client.detach()  # it keeps its port
    return found


def test_each_of_ten_connects_is_told_though_there_are_four_ports(
    sstrace: Program, netns: Netns, tmp_path: Path
) -> None:
    assert sysctl(netns, "ip_local_port_range", "40000 40003")
    with Trace(sstrace, netns, tmp_path, f"--metrics=127.0.0.1:{PORT}") as trace:
        outcomes = netns.call(ten_connects)
        assert outcomes == [0] * 4 + [errno.EADDRNOTAVAIL] * 6
        wait("all ends are told", lambda: sum(line.get("errno") == "EADDRNOTAVAIL" for line in trace.states) == 6)
        counted = values(get(netns))
        assert trace.stop() == 0
    lines = [line for line in trace.states if line["dport"] == 9000]
    attempts = [line for line in lines if line["to"] == "SYN-SENT"]
    assert Counter(line["sport"] for line in attempts) == {0: 6, 40000: 1, 40001: 1, 40002: 1, 40003: 1}
    assert {line["role"] for line in attempts} == {"client"}
    ends = [line for line in lines if line.get("cause") == "connect-failed"]
    assert {(line["from"], line["err"], line["role"], "lifetime_us" in line) for line in ends} == {
        ("SYN-SENT", errno.EADDRNOTAVAIL, "client", True)
    }
    assert {line["id"] for line in ends} == {line["id"] for line in attempts if line["sport"] == 0}
    # What asked for the metrics connected too, once.
    seen = {
        new: value(counted, "sstrace_transitions_total", family="inet", from_=old, to=new)
        for old, new in (("unconn", "syn-sent"), ("syn-sent", "estab"), ("syn-sent", "unconn"))
    }
    assert seen == {"syn-sent": 10 + 1, "estab": 4 + 1, "unconn": 6}


def test_the_errno_stands_in_the_text_by_its_name(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    assert sysctl(netns, "ip_local_port_range", "40000 40000")
    with Trace(sstrace, netns, tmp_path, "-n", json_lines=False) as trace:
        netns.call(ten_connects)
        wait("nine have failed", lambda: sum("[connect-failed EADDRNOTAVAIL]" in line for line in trace.text) == 9)
        assert sum("UNCONN -> SYN-SENT" in line for line in trace.text) == 10


HALF_DEAF = """
import json, os, socket, sys, time
from sstrace.live.tracer import Tracer
from sstrace.table import Transition

tracer = Tracer(os.environ, audit=False)
tracer.start()
links = tracer._hooks._loaded._links
for program in sys.argv[1].split(","):
    os.close(links.pop(program))  # the kernel fires on, and runs nothing

def told():
    found, end = [], time.monotonic() + 10
    while not found and time.monotonic() < end:
        # Read the row at once: it goes on.
        changes = (change for change in tracer.poll(0.01) if isinstance(change, Transition))
        found += [(change.old, change.new, change.row.role) for change in changes]
    return found

def connects(bound):
    client = socket.socket()
    if bound:
        client.bind(("127.0.0.1", 0))
    client.setblocking(False)
    client.connect_ex(("10.9.9.9", 9))
    found = told()
    for _ in tracer.settle():
        pass
    port = client.getsockname()[1]
    assert [row.state for row in tracer.table if row.sport == port] == [2]
    client.close()
    return found + (told() if "timer_start" in sys.argv[1] else [])

print(json.dumps([connects(False), connects(True)]))
tracer.close()
"""


@pytest.mark.parametrize(
    ("deaf", "after"),
    [
        ("timer_start", [[2, 7, "client"]]),
        ("inet_sock_set_state,inet_sock_set_state__again", []),
    ],
    ids=["to-the-timer", "to-the-transition"],
)
def test_one_hook_that_is_not_heard_hides_no_attempt(netns: Netns, deaf: str, after: list[object]) -> None:
    route_stranger(netns)
    done = netns.run(sys.executable, "-c", HALF_DEAF, deaf, cwd=ROOT)
    assert json.loads(done.stdout) == [[[7, 2, "client"], *after]] * 2
