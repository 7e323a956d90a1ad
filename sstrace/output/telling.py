"""A change of the live table as lines of the native schema, for whoever is told of all of them: recordings, and those
who follow a served table.
"""

from sstrace.changes import Change, Happened, NetnsNews, Told
from sstrace.model import Lost
from sstrace.render.events import EventWriter
from sstrace.table import Resync, Transition

__all__ = ["tell"]


def tell(change: Change, writer: EventWriter, out: bytearray) -> None:
    """Append the lines of a change; of an interface's new name there are none, every line has it."""
    kind = type(change)
    if kind is Transition:
        writer.state(change, out)  # type: ignore[arg-type]  # its type is known by ``kind``, the cheapest question
    elif isinstance(change, Told):
        if change.alive:
            writer.seen(change.row, change.at_ns, out)
        else:
            writer.gone(change.row.id, change.row.state, change.at_ns, out)
    elif isinstance(change, Happened):
        writer.incident(change, out)
    elif isinstance(change, NetnsNews):
        writer.netns(change, out)
    elif isinstance(change, Lost):
        writer.gap(change.cpu, change.count, change.after_ns, change.before_ns, out)
    elif isinstance(change, Resync):
        _resync(change, writer, out)


def _resync(change: Resync, writer: EventWriter, out: bytearray) -> None:
    writer.resync(change.at_ns, (len(change.added), len(change.removed), len(change.changed)), out)
    for row in change.removed:
        writer.gone(row.id, row.state, change.at_ns, out)
    for row in (*change.added, *(row for row, _ in change.changed)):
        writer.seen(row, change.at_ns, out)
