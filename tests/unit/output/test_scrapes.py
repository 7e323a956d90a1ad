"""What a scraper is told while the tracer has no time for it."""

import time
import urllib.request
from collections.abc import Iterator
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from bpf_events import HERE

from sstrace.live.places import Places
from sstrace.output import metrics
from sstrace.output.carried import Carried, Described
from sstrace.table import SocketTable

parser = pytest.importorskip("prometheus_client.parser")

Scrape = dict[str, float]


@pytest.fixture
def counted() -> Iterator[metrics.Metrics]:
    numbers = dict.fromkeys(("events", "lost", "late", "missed", "sweeps"), 0)
    tracer: Any = SimpleNamespace(table=SocketTable(HERE), netns=HERE, places=Places(), **numbers)
    counted = metrics.Metrics("127.0.0.1", 0, tracer, Carried((), Described(lambda _: None, None)))
    yield counted
    counted.close()


def scrape(counted: metrics.Metrics) -> Scrape:
    port = counted._server.server_port
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = parser.text_string_to_metric_families(text)
    return {sample.name: sample.value for family in found for sample in family.samples if not sample.labels}


READ = "sstrace_read_timestamp_seconds"


def test_numbers_that_are_old_say_from_when_they_are(counted: metrics.Metrics, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_WAIT_S", 0.0)
    counted._tracer.events = 7  # type: ignore[misc]  # it is no Tracer
    began = time.time()
    old, same = scrape(counted), scrape(counted)
    assert old["sstrace_events_total"] == same["sstrace_events_total"] == 0
    assert old[READ] == same[READ] < began
    monkeypatch.setattr(metrics, "_WAIT_S", 30.0)
    counted._wanted.clear()
    found: list[Scrape] = []
    asking = Thread(target=lambda: found.append(scrape(counted)))
    asking.start()
    counted._wanted.wait()
    counted.tick()
    asking.join()
    (new,) = found
    assert new["sstrace_events_total"] == 7
    assert began < new[READ] < time.time()
