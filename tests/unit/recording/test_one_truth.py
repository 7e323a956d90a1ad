"""One recorded run, and everybody who counts its ends: the lines, --stats, --metrics and --watch say the same."""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from bpf_events import HERE
from kernel_model import Kernel
from tapes import OFFSET_NS, meta

from sstrace.causes import CAUSES, Verdict
from sstrace.cli import main
from sstrace.live.places import Places
from sstrace.model import Changed, Gone, Netns
from sstrace.output.carried import Carried, Described
from sstrace.output.counting import Counting
from sstrace.output.metrics import Metrics
from sstrace.render.ecs import EcsWriter
from sstrace.render.events import EventWriter
from sstrace.render.otel import OtelWriter
from sstrace.table import SocketTable, Transition
from sstrace.watch.view import Tally, tally
from sstrace.wire.cause import CauseReader
from sstrace.wire.event import EventDecoder
from sstrace.wire.kallsyms import Symbols

DATA = Path(__file__).parents[2] / "data"
Captured = pytest.CaptureFixture[bytes]
Line = dict[str, Any]


def recorded() -> Iterator[Transition]:
    """What real events were (scripts/record-perf): closes in every way, as they are folded in."""
    decoder = EventDecoder(CauseReader(Symbols((DATA / "events.kallsyms").read_bytes()).spans))
    data, at, facts = (DATA / "events.perf").read_bytes(), 0, list[Changed | Gone]()
    while at < len(data):
        cpu, size = struct.unpack_from("<II", data, at)
        decoded = decoder.decode(cpu, data[at + 8 : at + 8 + size])
        facts += (fact for fact in decoded if isinstance(fact, Changed | Gone))
        at += 8 + size
    facts.sort(key=lambda fact: fact.at_ns)
    yield from filter(None, map(SocketTable(Netns(facts[0].net, facts[0].netns)).apply, facts))


def imagined() -> Iterator[Transition]:
    """What a kernel in miniature did: every way through its sockets, in any order."""
    kernel, table = Kernel(7), SocketTable(HERE)
    for _ in range(2000):
        kernel.step()
    kernel.end_all()
    yield from filter(None, map(table.apply, kernel.facts))


class Run:
    """A run as its lines have it, in every schema, and what was counted while it went on."""

    def __init__(self, changes: Iterable[Transition], path: Path) -> None:
        tracer: Any = SimpleNamespace(
            table=SocketTable(HERE),
            netns=HERE,
            places=Places(),
            **dict.fromkeys(("events", "lost", "late", "missed", "sweeps"), 0),
        )
        carried = Carried((), Described(lambda _: None, None))
        metrics = Metrics("127.0.0.1", 0, tracer, carried)
        counting, self.watched = Counting(tracer.table), Tally()

        def nothing(_cgroup: int) -> str | None:
            return None

        writers: dict[str, EventWriter] = {
            "native": EventWriter(OFFSET_NS, nothing), "ecs": EcsWriter(OFFSET_NS, nothing),
            "otel": OtelWriter(OFFSET_NS, nothing),
        }  # fmt: skip
        out = {name: bytearray() for name in writers}
        for name, writer in writers.items():
            writer.meta(meta(1), out[name])
        for change in metrics.through(changes):
            counting.take([change])
            tally(self.watched, change)
            for name, writer in writers.items():
                writer.state(change, out[name])
        metrics._read()
        metrics.close()
        self.metrics = {(sample.name, tuple(sample.labels.items())): sample.value for sample in samples(metrics)}
        self.digest = counting.digest(-1)
        self.lines, self.ecs, self.otel = (
            [msgspec.json.decode(line) for line in out[name].splitlines()[1:]] for name in writers
        )
        self.path = str(path / "run.ndjson")
        Path(self.path).write_bytes(out["native"])

    @property
    def ends(self) -> list[Line]:
        """The lines with which connections end."""
        return [line for line in self.lines if line.get("ended")]

    def sums(self, name: str, label: str) -> Counter[str]:
        """A metric by one of its labels."""
        found: Counter[str] = Counter()
        for (sample, labels), value in self.metrics.items():
            if sample == name:
                found[dict(labels)[label]] += int(value)
        return found


def samples(metrics: Metrics) -> Iterator[Any]:
    for family in metrics._families:
        yield from family.samples


@pytest.fixture(params=[recorded, imagined])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    pytest.importorskip("prometheus_client")
    changes: Callable[[], Iterator[Transition]] = request.param
    return Run(changes(), tmp_path)


def json_of(capfdbinary: Captured, *words: str) -> list[Line]:
    """The lines that a command prints."""
    assert main(list(words)) == 0
    return [msgspec.json.decode(line) for line in capfdbinary.readouterr().out.splitlines()]


def test_sums_are_one(run: Run, capfdbinary: Captured) -> None:
    ends = run.ends
    causes = Counter(line.get("cause", "unknown") for line in ends)
    failed = sum(CAUSES[line["cause"]].verdict is Verdict.FAILED for line in ends if "cause" in line)
    opened = sum(line["to"] == "ESTAB" for line in run.lines)
    assert len(causes) > 1
    assert failed
    totals, *groups = json_of(capfdbinary, "--stats", "--from", run.path, "--json", "--count", "99")
    # By cause.
    assert run.sums("sstrace_closes_total", "cause") == causes
    assert run.digest.causes == causes
    assert {line["key"]: line["count"] for line in groups if line.get("by") == "cause"} == causes
    # Failed, closed, opened.
    counts = opened, failed, len(ends) - failed
    assert (run.watched.opened, run.watched.failed, run.watched.closed) == counts
    assert (sum(run.digest.opened.values()), sum(run.digest.failed.values()), run.digest.closed) == counts
    assert (totals["opened_out"] + totals["opened_in"], totals["failed"], totals["closed"]) == counts
    assert run.sums("sstrace_opens_total", "role").total() == opened
    assert run.sums("sstrace_failures_total", "cause").total() == failed
    # Lifetimes, transitions.
    lived = sum("lifetime_us" in line for line in ends)
    assert lived
    assert run.sums("sstrace_lifetime_seconds_count", "role").total() == run.digest.lifetime.count == lived
    assert [line["count"] for line in groups if line.get("of") == "lifetime"] == [lived]
    assert run.sums("sstrace_transitions_total", "to").total() == totals["transitions"] == len(run.lines)


def test_each_connection_ends_once(run: Run) -> None:
    ended = Counter(line["id"] for line in run.ends)
    assert set(ended.values()) == {1}
    over = {line["id"] for line in run.lines if line["to"] == "UNCONN" and line["from"] != "LISTEN"}
    assert over <= ended.keys()
    assert "fin-by-us" in {line["cause"] for line in run.ends}
    for line in run.lines:
        assert ("lifetime_us" in line) <= (line.get("ended", False) or line["from"] == "LISTEN")
        if line["from"] in ("TIME-WAIT", "LISTEN"):
            assert "ended" not in line


def test_every_schema_says_so(run: Run) -> None:
    success = [cause.word for cause in CAUSES.values() if cause.verdict is Verdict.ENDED_WELL]
    for native, ecs, otel in zip(run.lines, run.ecs, run.otel, strict=True):
        assert native.get("ended") is ecs["sstrace"].get("ended") is otel.get("sstrace.ended")
        if native.get("ended"):
            failed = CAUSES[native["cause"]].verdict is Verdict.FAILED
            outcome = "failure" if failed else "success" if native["cause"] in success else None
            assert ecs["event"]["type"] == ["connection", "end"]
            assert ecs["event"].get("outcome") == otel.get("sstrace.outcome") == outcome
            assert otel["severity_text"] == ("WARN" if failed else "INFO")
        elif native["from"] == "TIME-WAIT":
            assert "outcome" not in ecs["event"]


def test_ended_selects_just_the_ends(run: Run, capfdbinary: Captured) -> None:
    def told(*words: str) -> list[Line]:
        found = json_of(capfdbinary, "--replay", run.path, "--json", *words)
        return [{**line, "seq": 0} for line in found if line["type"] == "state"]

    ends = [{**line, "seq": 0} for line in run.ends]
    assert told("ended") == ends
    assert told("ended", "from", "syn-sent") == [line for line in ends if line["from"] == "SYN-SENT"]
    assert told("ended", "to", "time-wait") == [line for line in ends if line["to"] == "TIME-WAIT"]
    port = ends[0]["dport"]
    assert told("ended", "dport", "=", f":{port}") == [line for line in ends if line["dport"] == port]
    # A recording keeps them through a copy, too.
    assert told() == [{**line, "seq": 0} for line in run.lines]


def test_a_row_that_a_timewait_socket_takes_over_has_been_in_its_state(run: Run, capfdbinary: Captured) -> None:
    handed = [line for line in run.lines if line["from"] == line["to"]]
    assert handed
    assert {(line["from"], line["cause"]) for line in handed} == {("FIN-WAIT-2", "fin-by-us")}
    line = next(line for line in handed if "held_us" in line)
    words = "--snapshot", "--from", run.path, "--at", f"#{line['seq']}", "-tan", "--json"
    row = "sport", "=", f":{line['sport']}", "dport", "=", f":{line['dport']}"
    assert len(json_of(capfdbinary, *words, *row, "held", ">=", f"{line['held_us']}us")) == 1


def test_every_cause_has_a_meaning_and_a_verdict() -> None:
    assert all(cause.word == word and cause.meaning for word, cause in CAUSES.items())
    assert {cause.verdict for cause in CAUSES.values()} == set(Verdict)
    judged = {word: CAUSES[word].verdict for word in ("linger", "subflow", "timeout-fin-wait-2")}
    assert judged == {
        "linger": Verdict.ENDED_WELL, "subflow": Verdict.NEITHER, "timeout-fin-wait-2": Verdict.NEITHER,
    }  # fmt: skip
