"""What happens to the live table, as the tracer yields it and everybody downstream takes it."""

import msgspec

from sstrace.model import Lost, Renamed
from sstrace.table import Resync, Row, Transition

__all__ = ["Change", "Told"]

Change = Transition | Resync | Lost | Renamed


class Told(msgspec.Struct, frozen=True, gc=False):
    """What no transition tells (live.announce): a row as it is now (``alive``), or its end."""

    at_ns: int
    """Time of the latest change before, or of the look that found it: when exactly it happened, nobody saw."""
    row: Row
    alive: bool
