"""Several hosts, each traced by a recorder of its own, asked together: what ss said on each, at several moments.

A host is a network namespace with a node name of its own, behind a router. ``SSTRACE_HOSTS`` says how many there are,
``SSTRACE_MOMENTS`` how many moments are compared (20 and 50 for a thorough run).
"""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Program
from routed_hosts import Host, recorded, routed, short, still

pytestmark = [pytest.mark.root, pytest.mark.bpf, pytest.mark.ss]

HOSTS = int(os.environ.get("SSTRACE_HOSTS", "4"))
MOMENTS = int(os.environ.get("SSTRACE_MOMENTS", "6"))


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """All of them."""
    with routed(HOSTS) as made:
        yield made


@pytest.mark.seconds(1800)
def test_hosts_that_are_traced_at_once_are_asked_together(
    sstrace: Program, ss: Program, hosts: list[Host], tmp_path: Path
) -> None:
    chance = random.Random(77)
    moments = []
    opened = 0
    with recorded(hosts, tmp_path):
        for _ in range(MOMENTS):
            for _ in range(2 * HOSTS):
                host, other = chance.sample(hosts, 2)
                host.connect(other)
                opened += 1
            for host in hosts:
                for end in chance.sample(host.ends, len(host.ends) // 4):
                    host.ends.remove(end)
                    end.close()
            moments.append(still(hosts, ss))
    addresses = {host.address: host.name for host in hosts}

    def asked(*words: str) -> list[str]:
        done = sstrace("--from", str(tmp_path), *words)
        assert (done.returncode, done.stderr) == (0, b""), done.stderr
        return done.stdout.decode().splitlines()

    for at_ns, truth in moments:
        when = f"@{at_ns // 10**9}.{at_ns % 10**9:09d}"
        told: dict[str, list[str]] = {}
        for line in asked("--snapshot", "-tanH", "--at", when):
            name, _, rest = line.partition(" ")
            told.setdefault(name, []).append(rest)
        assert list(told) == sorted(truth)
        assert {name: short(lines) for name, lines in told.items()} == truth
        rows = [json.loads(line) for line in asked("--snapshot", "-tan", "--json", "--at", when)]
        own = {(row["host"], row["src"], row["sport"], row["dst"], row["dport"]): row for row in rows}
        for row in rows:
            there = own.get((addresses.get(row["dst"]), row["dst"], row["dport"], row["src"], row["sport"]))
            assert row.get("peer_host") == (there["host"] if there is not None else None), row
            assert row.get("peer_owners") == (there.get("owners") if there is not None else None), row
    whole: list[dict[str, Any]] = [json.loads(line) for line in asked("--stats", "--json", "--count", "1000")]
    assert (whole[0]["opened_out"], whole[0]["opened_in"], whole[0]["lost"]) == (opened, opened, 0)
    assert {line["key"] for line in whole if line.get("by") == "host"} == set(addresses.values())
    # Told together, each host's lines are those of its own recording, in that order.
    together = [line.split() for line in asked("-n", "--time", "utc")[1:]]
    for name in addresses.values():
        done = sstrace("--replay", str(tmp_path / f"{name}.ndjson"), "-n", "--time", "utc")
        own_lines = [line.split() for line in done.stdout.decode().splitlines()[1:]]
        assert [[line[0], *line[2:]] for line in together if line[1] == name] == own_lines
