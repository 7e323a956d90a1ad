"""What a recording does not tell, in a sentence each."""

from collections.abc import Iterator

from sstrace.plain import counted
from sstrace.protocols import RECORDED
from sstrace.query.command import Command
from sstrace.query.spoken import named
from sstrace.recording.past import Past

__all__ = ["caveats", "doubts", "unheld"]


def caveats(command: Command, past: Past, bad: int) -> Iterator[str]:
    """What a reader must know to read a table right, on standard error. ``bad``: rows that cannot be shown."""
    yield from doubts(past, bad)
    yield from unheld(command, past.tables)


def doubts(past: Past, bad: int) -> Iterator[str]:
    """What was not known of that table when it was recorded."""
    if not past.whole:
        yield "the recording has no baseline before that moment: sockets that did not change since are missing"
    if past.lost:
        yield f"{counted(past.lost, 'event')} had been lost just before that moment: the table may be wrong"
    if past.missing:
        yield f"{counted(past.missing, 'line', 'was/were')} not written before that moment: the table may be wrong"
    if bad:
        yield f"{counted(bad, 'row', 'has/have')} addresses that are none, and {'is' if bad == 1 else 'are'} left out"


def unheld(command: Command, tables: int) -> Iterator[str]:
    """What a command line asks for, and no recording has, or none of those that are read. ``tables``: mask of what they
    hold; 0: nobody knows.
    """
    if not command.selection.tables & RECORDED:
        yield f"a recording holds {named(RECORDED)} only"
    elif missing := command.selection.asked & RECORDED & ~(tables or RECORDED):
        names = named(missing)
        yield f"{names} {'were' if ' and ' in names else 'was'} not recorded"
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
