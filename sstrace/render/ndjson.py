"""Rows of a snapshot → NDJSON: one flat object a socket, for every table and option. What a line holds: ``line_parts``,
and each family's module.

Enters: sockets, as ``render.ss`` takes them. Leaves: bytes, a line a socket.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import import_module

import msgspec

from sstrace.model import Label, Socket, Table
from sstrace.protocols import INET, OF_TABLE
from sstrace.render.common import Context
from sstrace.render.line_parts import LineMaker
from sstrace.render.places import place

__all__ = ["Lines", "line_maker"]


def line_maker(family: str) -> type[LineMaker]:
    """What makes the lines of a family, by its name in ``protocols``."""
    module = import_module(f"sstrace.render.{'inet_lines' if family == INET.name else family}")
    made: type[LineMaker] = getattr(module, f"{family.capitalize()}Lines")
    return made


class Lines:
    """Writes lines through ``write``; a sink of rows like ``render.ss.Text``. ``now_ns``: CLOCK_REALTIME, the lines'
    ``ts``.

    ``destroyed``: the rows are news of -E.
    """

    def __init__(
        self, context: Context, write: Callable[[bytes], object], now_ns: int, *, destroyed: bool = False
    ) -> None:
        self._context = context
        self._write = write
        self._ts = _timestamp(now_ns)
        self._encoder = msgspec.json.Encoder()
        self._destroyed = destroyed
        self._host: dict[str, int | str] = {}
        self._place: dict[str, int | str] = {}
        self._makers: dict[type[Socket], LineMaker] = {}

    def enter(self, inode: int, label: Label) -> None:
        """The rows that follow are of this network namespace."""
        self._place = {**self._host, **place(inode, label)}
        self._context.enter()

    def enter_host(self, host: str, context: Context, now_ns: int) -> None:
        """The rows that follow are of this host, with its own names and owners, as of this moment."""
        self._host = {"host": host}
        self._place = self._host
        self._context = context
        self._ts = _timestamp(now_ns)
        self._makers.clear()

    def begin(self, table: Table) -> None:
        """Lines tell their table themselves."""

    def feed(self, sockets: Sequence[Socket]) -> None:
        """Write a line for each row, in this order."""
        makers = self._makers
        lines = [(makers.get(type(row)) or self._maker(row)).line(row) for row in sockets]
        for name, value in self._place.items():
            for line in lines:
                setattr(line, name, value)
        self._write(self._encoder.encode_lines(lines))

    def flush(self) -> None:
        """Nothing is held back."""

    def _maker(self, row: Socket) -> LineMaker:
        family = OF_TABLE[row.table].family
        kind = line_maker(family.name)
        more = {"destroyed": self._destroyed} if family is INET else {}
        made = self._makers[type(row)] = kind(self._context, self._ts, **more)
        return made


def _timestamp(now_ns: int) -> str:
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
