"""Events that nobody heard: an audit finds what they left, and tells of it."""

import json
import sys

import pytest
from conftest import ROOT, Netns

pytestmark = [pytest.mark.root, pytest.mark.bpf]

SCRIPT = """
import json, os, socket, sys
from sstrace.live.tracer import Tracer
from sstrace.table import Resync

tracer = Tracer(os.environ)
tracer.start()
old = socket.create_server(("127.0.0.1", 0))
list(tracer.settle())
assert len(tracer.table) == 1

# Its end, and a connection's beginning, happen; their events are taken away before the tracer can read them.
port = old.getsockname()[1]
client = socket.create_connection(("127.0.0.1", port))
server, _ = old.accept()
old.close()
taken = sum(len(run.data) for run in tracer._hooks.perf.read().runs)

quiet = list(tracer.poll(0))
tracer._next_audit_ns = 0
found = [change for change in tracer.poll(0) if isinstance(change, Resync)]
tracer._next_audit_ns = 0
again = list(tracer.poll(0))
tracer.close()
print(json.dumps({
    "taken": taken > 0, "quiet": len(quiet), "again": len(again), "repaired": tracer.repaired, "lost": tracer.lost,
    "added": sorted(row.dport == port for change in found for row in change.added),
    "removed": [row.sport == port for change in found for row in change.removed],
    "rows": sorted(row.state for row in tracer.table),
}))
"""


UNHEARD = """
import json, os, socket, time
from sstrace.live.tracer import Tracer
from sstrace.table import Resync

tracer = Tracer(os.environ, audit=False)
tracer.start()
links = tracer._hooks._loaded._links
for program in list(links):
    os.close(links.pop(program))  # the kernel fires on, and runs nothing

server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
assert not tracer._hooks.uncounted
doubtful = tracer.doubts()
changes, end = [], time.monotonic() + 10
while tracer.doubts() and time.monotonic() < end:
    changes += tracer.heal()
tracer.close()
print(json.dumps({
    "doubtful": doubtful, "unheard": tracer.unheard >= 4, "lost": tracer.lost,
    "told": [type(change).__name__ for change in changes],
    "added": sorted(row.state for change in changes for row in change.added), "repaired": tracer.repaired,
}))
"""


WITHOUT_TRACEFS = ("unshare", "--mount", "sh", "-c", 'umount -a -t tracefs,debugfs; exec "$@"', "sh")


@pytest.mark.parametrize("prefix", [(), WITHOUT_TRACEFS], ids=["as-it-is", "tracefs-not-mounted"])
def test_what_no_program_was_run_for_is_counted_and_repaired_soon(netns: Netns, prefix: tuple[str, ...]) -> None:
    done = netns.run(*prefix, sys.executable, "-c", UNHEARD, cwd=ROOT)
    assert json.loads(done.stdout) == {
        "doubtful": True,
        "unheard": True,
        "lost": 0,
        "told": ["Resync"],
        "added": [1, 1, 10],
        "repaired": 3,
    }


def test_an_audit_finds_what_no_event_told(netns: Netns) -> None:
    done = netns.run(sys.executable, "-c", SCRIPT, cwd=ROOT)
    assert json.loads(done.stdout) == {
        "taken": True,
        "quiet": 0,
        "again": 0,
        "repaired": 3,
        "lost": 0,
        "added": [False, True],
        "removed": [True],
        "rows": [1, 1],
    }
