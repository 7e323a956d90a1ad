"""What --metrics says of many network namespaces: each by its names, no more of them than a Prometheus can bear."""

from typing import Any

import pytest
from bpf_events import HERE
from kernel_model import Kernel as ModelKernel

from sstrace.live.kernel import Kernel
from sstrace.live.places import Place, Places
from sstrace.model import Label, Netns
from sstrace.output.by_netns import MOST, ByNetns
from sstrace.table import SocketTable

pytest.importorskip("prometheus_client")


def told(of: ByNetns) -> dict[str, dict[str, Any]]:
    """Metric → namespace → value; the labels besides stand under their first."""
    return {
        family.name: {sample.labels["netns"]: sample.value for sample in family.samples} for family in of.families()
    }


def lived(table: SocketTable, counted: ByNetns, seed: int) -> tuple[int, int]:
    """Connections that came about and ended in a kernel in miniature."""
    kernel = ModelKernel(seed)
    opened = ended = 0
    for _ in range(500):
        kernel.step()
    for change in filter(None, map(table.apply, kernel.facts)):
        is_open = change.new == 1
        if is_open or change.ended:
            counted.count(change, opened=is_open)
            opened, ended = opened + is_open, ended + (not is_open)
    return opened, ended


def test_each_has_its_own_numbers() -> None:
    table = SocketTable(HERE)
    label = Label(netns_name="web", container_id="c" * 64, pod="web-0", pod_namespace="shop")
    idle = Place(Netns(HERE.cookie + 1, 17), Kernel(lambda: None))
    counted = ByNetns(table, Places(Place(HERE, Kernel(lambda: None), label), idle))
    opened, ended = lived(table, counted, 3)
    assert opened
    assert ended
    here = str(HERE.inode)
    found = told(counted)
    assert found["sstrace_netns_sockets"] == {here: len(table), "17": 0}
    assert found["sstrace_netns_opens"] == {here: opened, "17": 0}
    assert found["sstrace_netns_closes"] == {here: ended, "17": 0}
    assert 0 < found["sstrace_netns_failures"][here] <= ended
    sample = next(iter(counted.families())).samples[0]
    assert sample.labels == {
        "netns": here, "netns_name": "web", "container": "c" * 64, "pod": "web-0", "pod_namespace": "shop",
    }  # fmt: skip
    counted.forget(HERE.cookie)
    assert told(counted)["sstrace_netns_opens"][here] == 0, "its inode may be another's by now"


def test_what_is_told_of_one_that_has_gone_is_not_kept_for_ever() -> None:
    table = SocketTable(Netns(1, 1))
    counted = ByNetns(table, Places(Place(Netns(1, 1), Kernel(lambda: None))))
    table.know(HERE)
    lived(table, counted, 3)
    told(counted)
    assert counted._counts.keys() == {HERE.cookie}, "it may be followed yet"
    table.forget(HERE.cookie)
    told(counted)
    assert not counted._counts


def test_beyond_a_thousand_there_is_one_sum() -> None:
    table = SocketTable(HERE)
    others = [Place(Netns(number, number), Kernel(lambda: None)) for number in range(1, MOST + 1)]
    last = Netns(1 << 60, HERE.inode)
    counted = ByNetns(table, Places(*others, Place(last, Kernel(lambda: None)), Place(HERE, Kernel(lambda: None))))
    opened, _ = lived(table, counted, 3)
    for of_each in told(counted).values():
        assert len(of_each) == MOST + 1
    # HERE is older than those whose cookies are larger.
    rank = sorted([*(place.netns.cookie for place in others), HERE.cookie]).index(HERE.cookie)
    key = "other" if rank >= MOST else str(HERE.inode)
    assert told(counted)["sstrace_netns_opens"][key] == opened
