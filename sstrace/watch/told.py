"""Rows and transitions out of lines, for a screen over a table that is somebody else's: a recording's, a server's."""

from collections.abc import Iterator
from typing import Final

from sstrace.lifecycle import LIVES
from sstrace.lifecycle.udp import UNSEEN
from sstrace.lines import SeenLine, StateLine
from sstrace.model import State
from sstrace.protocols import APPEARING, NUMBER_OF_NETID
from sstrace.recording.reader import STATE_NUMBER, LineNames, row_of
from sstrace.table import Row, Transition

__all__ = ["Rows", "birth", "row_told", "transition"]

_FOLLOWED: Final = frozenset(LIVES)
_BEFORE: Final = (int(State.CLOSE), int(State.SYN_RECV))
"""What the first transition of a connection leaves: that of the end which was called is told when it stands."""


class Rows:
    """The rows that there are, as a hub asks a live table for them."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.journal: dict[int, Row] = {}

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows.values())

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, number: int) -> bool:
        return number in self.rows

    def holds(self, row: Row) -> bool:
        """Whether it has this row, which may have been made of an earlier line."""
        return row.id in self.rows


def row_told(line: SeenLine | StateLine, names: LineNames) -> Row | None:
    """A line as a row; None where it is of no protocol that is followed, or has no addresses."""
    if NUMBER_OF_NETID.get(line.netid) not in _FOLLOWED:
        return None
    try:
        return row_of(line, names)
    except OSError:
        return None


def transition(line: StateLine, row: Row) -> Transition:
    """A line as what happened to its row."""
    return Transition(
        line.mono_ns, row, STATE_NUMBER[line.old], STATE_NUMBER[line.state], _ns(line.held_us), line.cause, line, True,
        line.approximate, line.source, line.ended, _ns(line.lifetime_us),
    )  # fmt: skip


def birth(first: Transition) -> int | None:
    """When the connection began whose first line tells this; None where that was not seen."""
    before = (UNSEEN,) if first.row.protocol in APPEARING else _BEFORE
    return first.at_ns - (first.held_ns or 0) if first.old in before else None


def _ns(microseconds: float | None) -> int | None:
    return round(microseconds * 1000) if microseconds is not None else None
