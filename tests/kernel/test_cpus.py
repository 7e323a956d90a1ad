"""A CPU that was away, or came up after the start, gets a ring and counters: nothing that it tells from then on is
lost, and what it is not heard of is counted.
"""

import json
import sys

import pytest
from conftest import ROOT, Netns

pytestmark = [pytest.mark.root, pytest.mark.bpf]

SCRIPT = """
import fcntl, json, os, socket, sys, time
from sstrace.live.tracer import Tracer
from sstrace.sources.bpf.syscall import IOC_ENABLE

tracer = Tracer(os.environ, audit=False)
tracer.start()
perf = tracer._hooks.perf
counters = tracer._hooks._hearing._fired
for counter in counters:
    for cpu, fd in list(counter._fds.items()):
        if sys.argv[1] == "away":
            fcntl.ioctl(fd, IOC_ENABLE + 1)
        else:
            os.close(counter._fds.pop(cpu))
for ring in list(perf._rings):
    if sys.argv[1] == "away":
        fcntl.ioctl(ring.fd, IOC_ENABLE + 1)  # PERF_EVENT_IOC_DISABLE: as where its CPU goes
    else:
        for poll in perf._polls:
            poll.unregister(ring.fd)
        perf._rings.remove(ring)
        ring.close()  # and it leaves the map

def listen_and_close():
    with socket.create_server(("127.0.0.1", 0)):
        pass

def until(met):
    end = time.monotonic() + 60
    while not met():
        assert time.monotonic() < end, "waited in vain"
        list(tracer.poll(0.01))

found = []
for cpu in sorted(os.sched_getaffinity(0)):
    os.sched_setaffinity(0, {cpu})
    lost = tracer.lost
    listen_and_close()
    until(lambda: tracer.lost > lost)
    lost, events = tracer.lost, tracer.events
    listen_and_close()
    until(lambda: tracer.events + tracer.lost >= events + lost + 2)
    found.append(tracer.lost - lost)
    tracer.doubts()
    fired = counters[0].read()
    listen_and_close()
    assert counters[0].read() >= fired + 2, "not counted"
tracer.close()
print(json.dumps(found))
"""


@pytest.mark.parametrize("how", ["away", "later"])
def test_its_events_are_heard_again(netns: Netns, how: str) -> None:
    done = netns.run(sys.executable, "-c", SCRIPT, how, cwd=ROOT)
    assert {*json.loads(done.stdout)} == {0}
