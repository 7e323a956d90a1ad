"""Rows made anew after many have died: the same table, in less memory."""

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from bpf_events import HERE, SPACE, changed
from kernel_model import Kernel

from sstrace.live import shrink
from sstrace.model import Changed, Gone, Seen, State, SweepBegin, SweepEnd
from sstrace.table import SocketTable

INDEXES = ("rows", "by_sk", "by_cookie", "by_ino", "by_ends", "by_state", "unsettled")
A = 0xFFFF888000001000


@pytest.mark.parametrize("seed", range(6))
def test_a_gathered_table_goes_on_as_if_nothing_had_been(seed: int) -> None:
    kernel = Kernel(seed, loss=0.02)
    plain, gathered = SocketTable(HERE), SocketTable(HERE)
    for table in (plain, gathered):
        table.in_states(0)
        table.silent = {}
    moved = 0
    for batch in range(20):
        for _ in range(30):
            kernel.step()
        facts: list[Changed | Gone] = kernel.facts
        kernel.facts = []
        for fact in facts:
            assert plain.apply(fact) == gathered.apply(fact)
        if batch % 3 == 2:
            shown = list(kernel.dump())
            for table in (plain, gathered):
                table.begin(SweepBegin(SPACE, kernel.now + 1))
                for socket in shown:
                    table.seen(Seen(SPACE, socket))
            kernel.now += 2
            assert plain.end(SweepEnd(SPACE, kernel.now, True)) == gathered.end(SweepEnd(SPACE, kernel.now, True))
        before = list(gathered)
        gathered.gather(lambda: None)
        assert not any(row is one for row in gathered for one in before)
        moved += len(before)
        assert list(gathered) == list(plain)
        for name in INDEXES:
            assert getattr(gathered.home.index, name) == getattr(plain.home.index, name), name
        assert gathered.silent == plain.silent
    assert moved


def rows_of(count: int) -> SocketTable:
    table = SocketTable(HERE)
    for number in range(count):
        table.apply(changed(10 + number, State.CLOSE, State.SYN_SENT, A + number, ino=1 + number, sport=1 + number))
    return table


def close(table: SocketTable, first: int, last: int) -> None:
    for number in range(first, last):
        table.apply(changed(5000 + number, State.SYN_SENT, State.CLOSE, A + number, sport=1 + number, cause="refused"))


def test_what_an_event_ends_meanwhile_stays_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sstrace.table.gather._RUN", 10)
    table = rows_of(40)
    ends = iter(range(4))

    def breathe() -> None:
        for at in islice(ends, 1):
            close(table, at, at + 1)  # one that has moved already
            close(table, 39 - at, 40 - at)  # and one that has not

    table.gather(breathe)
    assert [row.ino for row in table] == list(range(5, 37))
    close(table, 4, 36)
    assert not any(getattr(table.home.index, name) for name in INDEXES)


def test_rows_are_gathered_once_a_storm_is_over_and_nobody_keeps_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shrink, "_LEAST", 30)
    monkeypatch.setattr(shrink, "_PAUSE_NS", 0)
    table = rows_of(30)
    kept = list(table)[-1]
    shrinks = shrink.Shrink(table, lambda: None, lambda: None)
    for begin in range(0, 20, 10):
        shrinks.now_and_then()
        close(table, begin, begin + 10)
    shrinks.now_and_then()  # it goes on
    assert list(table)[-1] is kept
    table.journal = {}
    shrinks.now_and_then()
    assert list(table)[-1] is kept
    table.journal = None
    shrinks.now_and_then()
    assert list(table)[-1] == kept
    assert list(table)[-1] is not kept


MEASURED = """
import gc, random, sys
from sstrace.model import AF_INET, InetSocket, Seen, Space, State, SweepBegin, SweepEnd, Table
from bpf_events import HERE, SPACE, changed
from sstrace.sources.memory import give_back, plugged
from sstrace.table import SocketTable

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

gc.disable()
table, count = SocketTable(HERE), 60_000
base = resident()
table.begin(SweepBegin(SPACE, 1))
for number in range(count):
    dst, dport = (number >> 8).to_bytes(4, "big"), 1024 + (number & 255)
    ends = {"src": b"\\x0a\\0\\0\\1", "sport": 443, "dst": dst, "dport": dport}
    table.seen(Seen(SPACE, InetSocket(Table.TCP, AF_INET, 1, ino=10**7 + number, cookie=10**6 + number, **ends)))
table.end(SweepEnd(SPACE, 2, complete=True))
full = resident() - base
rows = list(table)
random.Random(1).shuffle(rows)
for row in rows[: count * 3 // 4]:
    ends = {"src": row.src, "sport": row.sport, "dst": row.dst, "dport": row.dport}
    table.apply(changed(10**9, 1, 7, 5, cookie=row.cookie, ino=row.ino, cause="fin-by-us", **ends))
del rows, row
give_back()
left = resident() - base
table.forget_shared()
with plugged():
    table.gather(lambda: None)
index = table.home.index
dicts = max(sys.getsizeof(found) for found in (index.rows, index.by_cookie, index.by_ends))
print(count, len(table), full, left, resident() - base, dicts)
"""


def test_the_memory_of_the_dead_is_given_back() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, env=env)
    rows, left, full, before, after, dicts = map(int, run.stdout.split())
    assert left == rows // 4
    assert full < 700 * rows, "of rows as a sweep finds them"
    assert after < before * 0.6, (full, before, after)
    assert dicts < 100 * left
