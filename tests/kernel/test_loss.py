"""Events lost on purpose: scripts/verify-loss, short. The long run is scripts/verify-loss --stop 3 --seconds 60. And
what is lost before there is a table.
"""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT, Netns

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]


@pytest.fixture(scope="module")
def report() -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "verify-loss", "--stop", "0.5", "--seconds", "3", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def counts(report: str, line: str) -> dict[str, int]:
    text = next(text for text in report.splitlines() if text.startswith(line))
    return {name: int(count) for name, count in re.findall(r"(\w+) (\d+)", text)}


def test_the_loss_is_told_and_one_sweep_heals_it(report: str) -> None:
    healed = counts(report, "healed: ")
    assert healed["lost"] > 0, report
    assert healed["resync"] == 1, report
    assert healed["added"] > 0, report


@pytest.mark.parametrize("what", ["served at once: ", "folded: ", "served: "])
def test_what_is_shown_afterwards_is_what_ss_shows(report: str, what: str) -> None:
    assert counts(report, what)["rows"] > 0, report


def test_nothing_drifts(report: str) -> None:
    assert counts(report, "totals: ")["bad"] == 0, report


FLOOD_AT_START = """
import json, os, socket, subprocess
from sstrace.live.tracer import Tracer
from sstrace.table import Resync, Transition

tracer = Tracer(os.environ, pages=1, audit=False)
server = socket.create_server(("127.0.0.1", 0))
made = []
for number in range(300):
    ends = socket.create_connection(server.getsockname()), server.accept()[0]
    if number % 3:
        made.append(ends)
    else:
        [end.close() for end in ends]
tracer.start()
told = [tracer.lost, tracer.resyncs, tracer.doubts()]
states = [row.state for row in tracer.table]
made[0][0].close()
told += [sum(isinstance(change, Resync) for change in tracer.settle()), tracer.lost]
ours = sorted((row.sport, row.dport) for row in tracer.table)
shown = subprocess.run(["ss", "-HOtan"], capture_output=True, text=True, check=True).stdout.splitlines()
theirs = [[int(end.rpartition(":")[2].replace("*", "0")) for end in line.split()[3:5]] for line in shown]
tracer.close()
print(json.dumps([told, states.count(1), ours == sorted(map(tuple, theirs))]))
"""


def test_what_is_lost_before_there_is_a_table_is_no_loss(netns: Netns) -> None:
    """A flood while the hooks are attached: the baseline shows what came of it, and nobody is told of it anyway."""
    told, established, alike = json.loads(netns.run(sys.executable, "-c", FLOOD_AT_START, cwd=ROOT).stdout)
    assert (told, established, alike) == ([0, 0, False, 0, 0], 400, True)
