"""Recordings put into an engine, as their recorders would have."""

from collections.abc import Iterable
from pathlib import Path

from engine_front import Front

from sstrace.fleet.rows import Rows, run_of
from sstrace.fleet.schema import GIVEN, WRITE, ddl
from sstrace.wire import recording

__all__ = ["load", "make_tables"]

_INSERTED = ", ".join(f"`{name}`" for name in GIVEN)


def make_tables(engine: Front) -> None:
    """Those of sstrace."""
    for statement in ddl("0"):
        engine.ask(statement)


def load(engine: Front, recordings: Iterable[bytes | Path]) -> None:
    """The lines of recordings, each from its first line on."""
    for one in recordings:
        data = one.read_bytes() if isinstance(one, Path) else one
        head = recording.meta(data.partition(b"\n")[0])
        assert head is not None
        body = Rows(head.host, run_of(head)).take(data)
        engine.ask(f"INSERT INTO lines ({_INSERTED}) FORMAT JSONEachRow\n{body.decode()}", **WRITE)
