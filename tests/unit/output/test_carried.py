"""Bytes and segments by labels: whose they are, and never more than so many."""

from typing import Any

from prometheus_client.core import Metric

from sstrace.fields import NOTHING, Reported
from sstrace.model import AF_INET, Kind, Label, Owner, State
from sstrace.output import carried
from sstrace.output.carried import Carried, Described
from sstrace.table import Row, Transition

TOLD = Reported(bytes_sent=10, bytes_received=3, segs_out=2, segs_in=1, retrans=1, bytes_retrans=7)
PATHS = {7: "/system.slice/nginx.service", 8: f"/docker/{'ab' * 32}"}


def row(**given: Any) -> Row:
    fields: dict[str, Any] = {
        "id": 17, "kind": Kind.SOCKET, "state": 7, "family": AF_INET, "protocol": 6, "net": 1, "netns": 4026531840,
        "src": b"\x0a\0\0\1", "sport": 45678, "dst": b"\x0a\0\0\2", "dport": 443, "ino": 99, "uid": 33, "ifindex": 0,
        "cookie": 4711, "sk": 1, "since_ns": 1000, "exact": True, "touched_ns": 1000,
    }  # fmt: skip
    return Row(**{**fields, **given})


class Named:
    title = "Netns"
    many = True

    def label(self, net: int) -> Label:
        return Label(netns_name=f"net{net}")

    def ifname(self, net: int, index: int) -> str:
        raise NotImplementedError

    def peer(self, row: Any) -> None:
        raise NotImplementedError


def counted(by: tuple[str, ...], *rows: Any, told: Reported = TOLD, where: Named | None = None) -> list[Metric]:
    count = Carried(by, Described(PATHS.get, where))
    for one in rows:
        count.count(Transition(5, one, State.LAST_ACK, State.CLOSE, None, "fin-by-peer", told, True, ended=True))
    return list(count.families())


def test_whose_they_are() -> None:
    rows = [
        row(role="client", sport=40000, dport=443, cgroup=7, owners=(Owner(b"nginx", 1, 2), Owner(b"x", 2, 3))),
        row(role="server", sport=22, dport=50000, cgroup=8),
        row(role=None, sport=9999, dport=80, cgroup=9),
    ]
    by = ("port", "unit", "container", "owner", "netns")
    sent, *_ = (family for family in counted(by, *rows, where=Named()) if family.name == "sstrace_bytes")
    labels = [sample.labels for sample in sent.samples if sample.labels["direction"] == "sent"]
    assert [tuple(one[name] for name in by) for one in labels] == [
        ("22", "", "ab" * 32, "", "net1"), ("443", "nginx.service", "", "nginx", "net1"), ("80", "", "", "", "net1"),
    ]  # fmt: skip


def test_sums() -> None:
    found = {
        (sample.name, sample.labels.get("direction")): sample.value
        for family in counted((), row(), row(role="server"))
        for sample in family.samples
    }
    assert found == {
        ("sstrace_bytes_total", "sent"): 20, ("sstrace_bytes_total", "received"): 6,
        ("sstrace_segments_total", "sent"): 4, ("sstrace_segments_total", "received"): 2,
        ("sstrace_retransmitted_bytes_total", None): 14, ("sstrace_retransmitted_segments_total", None): 2,
    }  # fmt: skip
    assert not [family for family in counted((), row(), told=NOTHING) if family.samples]


def test_a_scan_over_all_ports_is_bounded() -> None:
    rows = [row(role="client", dport=port) for port in range(1, carried.MOST + 100)]
    sent, *_ = counted(("port",), *rows)
    sums = {sample.labels["port"]: sample.value for sample in sent.samples if sample.labels["direction"] == "sent"}
    assert len(sums) == carried.MOST + 1
    assert sums.pop(carried.OTHER) == 99 * 10
    assert set(sums.values()) == {10}
