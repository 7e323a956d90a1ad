"""What happens to the live table, as the tracer yields it and everybody downstream takes it."""

from typing import Literal

import msgspec

from sstrace.model import Details, Label, Lost, Netns, Renamed, What
from sstrace.table import Resync, Row, Transition

__all__ = ["Change", "Happened", "NetnsNews", "Told"]


class NetnsNews(msgspec.Struct, frozen=True, gc=False):
    """Of a network namespace that is followed."""

    at_ns: int
    """When it was found: it happened a little before."""
    netns: Netns
    label: Label
    what: Literal["here", "new", "named", "gone"]
    """here: it was there when the trace began; named: it is called otherwise from here on."""
    ephemeral: tuple[int, int] | None = None
    """First and last port of the local ephemeral range in it; None where that is not known, and where it has gone."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """What no transition tells (live.announce): a row as it is now (``alive``), or its end."""

    at_ns: int
    """Time of the latest change before, or of the look that found it: when exactly it happened, nobody saw."""
    row: Row
    alive: bool


class Happened(msgspec.Struct, frozen=True, gc=False):
    """An incident, which changes no state. Read ``row`` at once."""

    at_ns: int
    row: Row
    what: What
    details: Details


Change = Transition | Resync | Lost | Renamed | NetnsNews | Told | Happened
