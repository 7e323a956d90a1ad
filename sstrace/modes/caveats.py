"""What a recording does not tell, in a sentence each."""

from collections.abc import Iterator

from sstrace.protocols import RECORDED
from sstrace.query.command import Command
from sstrace.recording.past import Past

__all__ = ["caveats", "doubts", "unheld"]


def caveats(command: Command, past: Past, bad: int) -> Iterator[str]:
    """What a reader must know to read a table right, on standard error. ``bad``: rows that cannot be shown."""
    yield from doubts(past, bad)
    yield from unheld(command)


def doubts(past: Past, bad: int) -> Iterator[str]:
    """What was not known of that table when it was recorded."""
    if not past.whole:
        yield "the recording has no baseline before that moment: sockets that did not change since are missing"
    if past.lost:
        yield f"{past.lost} events had been lost just before that moment: the table may be wrong"
    if past.missing:
        yield f"{past.missing} lines before that moment were not written: the table may be wrong"
    if bad:
        yield f"{bad} rows have addresses that are none, and are left out"


def unheld(command: Command) -> Iterator[str]:
    """What a command line asks for, and no recording has."""
    if not command.selection.tables & RECORDED:
        yield "a recording holds TCP only"
    asked = [option for option, wanted in _NOT_HELD if getattr(command.show, wanted)]
    if asked and not command.own.json:
        yield f"a recording does not hold what {', '.join(asked)} would show"


_NOT_HELD = (
    ("-m", "memory"),
    ("-i", "info"),
    ("-T", "threads"),
    ("--tos", "tos"),
    ("--inet-sockopt", "inet_sockopt"),
    ("--bpf-maps", "bpf_maps"),
)
"""Options of ss for whose columns a recording has nothing."""
