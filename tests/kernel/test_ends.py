"""How connections end, in the kernel as it runs: told once, at once, with cause, lifetime and owners; counted alike."""

import json
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Netns, Program
from test_metrics import PORT, get, values
from tracing import Trace, close_all, connected, keep, listener, ports, reach, reset, wait

from sstrace.causes import has_failed
from sstrace.model import State

pytestmark = [pytest.mark.root, pytest.mark.bpf]

Names = tuple[int, int]


@pytest.fixture(autouse=True)
def no_sockets_left() -> Iterator[None]:
    yield
    close_all()


def live() -> dict[str, Names]:
    """Ends of several sorts; what ended how → local and peer port."""
    found = {}
    _, client, server = connected()
    found["fin-by-us"], found["fin-by-peer"] = ports(client), ports(client)[::-1]
    client.shutdown(socket.SHUT_WR)
    reach(server, State.CLOSE_WAIT)
    server.close()
    reach(client, State.CLOSE)
    client.close()
    _, client, server = connected()
    found["orphan"] = ports(client)
    client.close()
    reach(server, State.CLOSE_WAIT)
    _, client, server = connected()
    found["linger"], found["reset-received"] = ports(client), ports(client)[::-1]
    reset(client)
    reach(server, State.CLOSE)
    server.close()
    with listener() as closed:
        nobody = closed.getsockname()
    refused = keep(socket.socket())
    refused.bind(("127.0.0.1", 0))
    assert refused.connect_ex(nobody)
    found["refused"] = refused.getsockname()[1], nobody[1]
    refused.close()
    return found


def test_each_end_is_told_once_and_at_once(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    """Long before TIME-WAIT is over."""
    with Trace(sstrace, netns, tmp_path, "ended") as trace:
        names = netns.call(live)
        wait("all ends are told", lambda: len(trace.states) >= len(names))
        assert trace.stop() == 0
    told = {(line["sport"], line["dport"]): line for line in trace.states}
    assert len(trace.states) == len(told) == len(names)
    for cause, of in names.items():
        line = told[of]
        assert line["ended"] is True
        assert line["cause"] == {"orphan": "fin-by-us"}.get(cause, cause)
        assert line["lifetime_us"] > 0
    assert (told[names["fin-by-us"]]["to"], told[names["fin-by-peer"]]["to"]) == ("TIME-WAIT", "UNCONN")
    orphan = told[names["orphan"]]
    assert (orphan["from"], orphan["to"], "ino" in orphan) == ("FIN-WAIT-2", "FIN-WAIT-2", False)
    assert {told[names[who]]["owners"][0]["pid"] for who in ("fin-by-us", "orphan", "linger")} == {os.getpid()}


def test_ended_goes_with_an_expression_and_other_words(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    recording = tmp_path / "all.ndjson"
    words = "--record", str(recording), "ended", "from", "syn-sent,established"
    with Trace(sstrace, netns, tmp_path, *words, json_lines=False) as trace:
        names = netns.call(live)
        wait("three have ended so", lambda: sum("[" in line for line in trace.text) == 3)
        assert trace.stop() == 0
    causes = sorted(line.rsplit("[", 1)[1].split()[0].rstrip("]") for line in trace.text if "[" in line)
    assert causes == ["linger", "refused", "reset-received"]
    # The recording has everything, from which a replay selects as the trace does.
    again = sstrace(
        "--replay", str(recording), "--json", "--no-baseline", "ended", "dport", "=", f":{names['orphan'][1]}"
    )
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert [(line["sport"], line["cause"]) for line in lines if line["type"] == "state"] == [
        (names["orphan"][0], "fin-by-us")
    ]


def test_everybody_who_counts_counts_the_same(sstrace: Program, netns: Netns, tmp_path: Path) -> None:
    recording = tmp_path / "all.ndjson"
    with Trace(sstrace, netns, tmp_path, "--record", str(recording), f"--metrics=127.0.0.1:{PORT}") as trace:
        for _ in range(3):
            netns.call(live)
        wait("all ends are told", lambda: sum(line.get("ended", False) for line in trace.states) >= 18)
        counted = values(get(netns))
        assert trace.stop() == 0
    # What asked for the metrics was not over yet.
    lines = [line for line in trace.states if PORT not in (line["sport"], line["dport"])]
    causes = Counter(line["cause"] for line in lines if line.get("ended"))
    assert causes == dict.fromkeys(("fin-by-peer", "linger", "reset-received", "refused"), 3) | {"fin-by-us": 6}

    def sums(name: str) -> dict[str, float]:
        return {dict(labels)["cause"]: number for (sample, labels), number in counted.items() if sample == name}

    assert sums("sstrace_closes_total") == causes
    assert sums("sstrace_failures_total") == {cause: count for cause, count in causes.items() if has_failed(cause)}
    others = "dport", "!=", f":{PORT}", "and", "sport", "!=", f":{PORT}"
    digest = sstrace("--stats", "--from", str(recording), "--json", *others)
    totals, *groups = [json.loads(line) for line in digest.stdout.splitlines()]
    assert {line["key"]: line["count"] for line in groups if line.get("by") == "cause"} == causes
    assert (totals["failed"], totals["closed"]) == (6, 12)


@pytest.mark.parametrize("held", [True, False], ids=["held", "orphan"])
def test_polling_tells_of_each_end_once(sstrace: Program, netns: Netns, tmp_path: Path, *, held: bool) -> None:
    """What two tables differ in is the end that lies between them."""

    def opened() -> tuple[Any, Any, Names]:
        _, client, server = connected()
        return client, server, ports(client)

    def told(of: Names, new: str) -> Any:
        return trace.wait_for(sport=of[0], dport=of[1], new=new)

    with Trace(sstrace, netns, tmp_path, "--poll", "20ms") as trace:
        client, server, names = netns.call(opened)
        told(names, "ESTAB")
        told(names[::-1], "ESTAB")
        if held:
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        told(names, "FIN-WAIT-2")
        server.close()
        told(names, "TIME-WAIT")
        told(names[::-1], "UNCONN")
        client.close()
        assert trace.stop() == 0
    ends = [line for line in trace.states if line.get("ended")]
    assert {(line["sport"], line["dport"]) for line in ends} == {names, names[::-1]}
    assert len(ends) == 2
    (ours,) = (line for line in ends if line["sport"] == names[0])
    assert (ours["to"], ours["cause"]) == ("TIME-WAIT" if held else "FIN-WAIT-2", "fin-by-us")
