"""The words in which a life is told: what is reported, what it means, and what a rule may depend on."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from sstrace.model import Changed, Gone, Kind

__all__ = ["Guard", "Held", "Report", "Rule", "Sight", "Step"]


class Report(enum.IntEnum):
    """What the kernel reports of one object."""

    OPENS = 0
    """A full socket leaves CLOSE: connect(2) or listen(2)."""
    CHILD = 1
    """A full socket comes out of a listener: LISTEN→SYN-RECV, on the child's own address. Where a request socket has
    told of the connection, the child keeps silent until its next transition."""
    MOVES = 2
    """A full socket goes from one open state to another."""
    REPEATS = 3
    """A full socket is where it was: its port has been chosen since, or it is closed once more."""
    CLOSES = 4
    """A full socket goes to CLOSE."""
    REQUEST_TIMER = 5
    """A request socket's timer starts."""
    REQUEST_GONE = 6
    TIMEWAIT_TIMER = 7
    """A timewait socket's timer starts."""
    TIMEWAIT_GONE = 8


class Step(enum.IntEnum):
    """What it means for the row."""

    NOTHING = 0
    """An object that does not hold the row has ended, or tells what is known."""
    BIRTH = 1
    """A new row begins."""
    MOVE = 2
    """The row changes its state, or what is known of it."""
    REPEAT = 3
    """The same state again: a segment was sent once more."""
    TAKE_OVER = 4
    """Another object holds the row from now on; nobody need hear of it."""
    SUCCEED = 5
    """The same, of an object whose own birth nobody heard: its next report will name its address."""
    HAND_OVER = 6
    """The connection ends; a timewait socket holds the row from now on."""
    HAND_OVER_MISSED = 7
    """The same, of a timewait socket whose birth nobody heard."""
    END = 8
    """The connection ends, and its row."""
    END_OF_STRANGER = 9
    """A connection ends that nobody has met: all that is known of it is in its last report."""
    DEATH = 10
    """The row ends; its connection had ended before."""
    DEATH_OF_SUCCESSOR = 11
    """The same, where nobody heard that a timewait socket had taken over."""
    VANISH = 12
    """The row was a second one for the same connection: it ends, and nothing is told."""
    PASS = 13
    """An object has ended of which the table never knew."""


class Held(Protocol):
    """What rules may know of a row."""

    kind: Kind
    state: int
    cookie: int | None


class Sight(Protocol):
    """What rules may ask of the table around the row, which is the table's own."""

    def is_taken(self, row: Any, fact: Changed | Gone) -> bool:
        """Whether another row is between the addresses of a report."""
        ...

    def inherits(self, row: Any, fact: Changed) -> bool:
        """Whether a full socket that closes has handed over to the timewait socket that holds this row."""
        ...

    def has_handed_over(self, row: Any, fact: Changed) -> bool:
        """Whether the kernel has a timewait socket in the place of this full socket, of which nobody heard."""
        ...


Guard = Callable[[Any, Any, Any], bool]
"""Of a row (``Held``; None: there is none), of what was reported, and of the table around the row (``Sight``), as each
family's module says.
"""


class Rule(NamedTuple):
    """What a report means, where ``when`` holds (None: always)."""

    step: Step
    why: str
    when: Guard | None = None
