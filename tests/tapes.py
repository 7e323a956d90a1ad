"""Recordings for tests: a kernel in miniature, its live table, a Recorder beside it, and what the table was when."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bpf_events import HERE, SPACE
from kernel_model import Kernel as ModelKernel

from sstrace.lines import MetaLine
from sstrace.live.kernel import Kernel
from sstrace.live.places import Place, Places
from sstrace.model import Lost, Seen, SweepBegin, SweepEnd
from sstrace.output import recorder as record
from sstrace.output.printer import Printer
from sstrace.output.recorder import Recorder
from sstrace.query.command import Early
from sstrace.query.options import parse, resolve
from sstrace.render.events import timestamp
from sstrace.sources.names import SystemNames
from sstrace.table import Resync, SocketTable, Transition

NETNS = 4026531833
OFFSET_NS = 1_800_000_000_000_000_000
"""CLOCK_REALTIME minus CLOCK_MONOTONIC on the machine of these recordings."""

RowKey = tuple[int, int, bytes, int, bytes, int]


def key(row: Any) -> RowKey:
    """What a recording must keep of a row."""
    return row.state, row.family, row.src, row.sport, row.dst, row.dport


class StillTracer:
    """What a Recorder needs of a Tracer."""

    def __init__(self, table: SocketTable, names: SystemNames) -> None:
        self.table = table
        self.names = names
        self.netns = NETNS
        self.places = Places(Place(HERE, Kernel(lambda: None)))


def meta(mono_ns: int = 1000, **fields: Any) -> MetaLine:
    """A first line."""
    values: dict[str, Any] = {
        "schema": "sstrace/1", "version": "0", "ts": timestamp(mono_ns + OFFSET_NS), "mono_ns": mono_ns,
        "host": "tape", "kernel": "6.18", "boot_id": "b", "netns": NETNS, "ephemeral": [32768, 60999],
        "interfaces": {"lo": 1}, **fields,
    }  # fmt: skip
    return MetaLine(**values)


def command(*words: str) -> Any:
    """A parsed and resolved command line."""
    parsed = parse(["sstrace", *words])
    assert not isinstance(parsed, Early)
    return resolve(parsed, SystemNames({}))


class Tape:
    """Runs a Kernel in batches and records it; ``moments`` is (time, seq, rows) after each batch."""

    def __init__(
        self,
        path: Path,
        seed: int,
        *,
        sweeps: bool = False,
        loss: float = 0.0,
        live: list[str] | None = None,
        **how: Any,
    ) -> None:
        self.kernel = ModelKernel(seed, loss=loss)
        self.random = random.Random(seed)
        self.table = SocketTable(HERE)
        self.names = SystemNames({})
        self.recorder = Recorder(str(path), StillTracer(self.table, self.names), **how)  # type: ignore[arg-type]
        self.sweeps = sweeps
        self.moments: list[tuple[int, int, dict[int, RowKey]]] = []
        self.changes = 0
        first = meta(self.kernel.now)
        self.printer: Printer | None = None
        if live is not None:
            self.printer = Printer(command(*live), self.names, OFFSET_NS)
            self.printer.begin(first, self.table, self.kernel.now)
        self.recorder.begin(first, OFFSET_NS)

    def run(self, batches: int, steps: int = 20) -> "Tape":
        """Go on."""
        for _ in range(batches):
            self._batch(steps)
            self.moments.append((self.kernel.now, self.recorder._writer.seq, {row.id: key(row) for row in self.table}))
        return self

    def _batch(self, steps: int) -> None:
        passed = self.recorder.through(self._changes(steps))
        if self.printer is None:
            for _ in passed:
                pass
        else:
            self.printer.take(passed)
            self.printer.flush()

    def _changes(self, steps: int) -> Iterable[Transition | Resync | Lost]:
        kernel = self.kernel
        for _ in range(steps):
            kernel.step()
        facts, kernel.facts = kernel.facts, []
        for fact in facts:
            change = self.table.apply(fact)
            if change is not None:
                self.changes += 1
                yield change
        if self.sweeps and self.random.random() < 0.3:
            doubted = bool(kernel.lost)
            if doubted:
                yield Lost(0, kernel.lost, kernel.now - 10, kernel.now)
                kernel.lost = 0
            self.table.begin(SweepBegin(SPACE, kernel.now + 1, doubted))
            for socket in kernel.dump():
                self.table.seen(Seen(SPACE, socket))
            kernel.now += 2
            yield self.table.end(SweepEnd(SPACE, kernel.now, True))

    def close(self) -> "Tape":
        """End the recording."""
        self.recorder.close()
        return self


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints after every few events."""
    monkeypatch.setattr(record, "_CHECKPOINT_EVENTS", 40)


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a plain recording as plain values."""
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
