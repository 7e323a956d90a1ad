"""State keywords to masks, and which states each table and family shows when nobody names a state.

A mask has bit n for state n (``model.State``); bit 0 is ss's UNKNOWN, which no socket is in. 6.1 has twelve
bits, 6.8 added the two of NEW_SYN_RECV and BOUND_INACTIVE, so the masks of "all", "connected", … depend on the
release.
"""

from collections.abc import Mapping
from typing import Final

from sstrace.dialect import Dialect
from sstrace.errors import UsageError
from sstrace.model import AF_INET, STATE_TEXT, State, Table
from sstrace.protocols import FAMILIES, OF_TABLE, PROTOCOLS
from sstrace.query.nearest import nearest

__all__ = [
    "ALL_TABLES",
    "FAMILY_TABLES",
    "INET_TABLES",
    "LISTENING",
    "TABLE_FAMILIES",
    "all_states",
    "connected_states",
    "family_states",
    "keywords",
    "read_states",
    "scan_state",
    "state_words",
    "table_states",
]

_CLOSE: Final = 1 << State.CLOSE
_LISTEN: Final = 1 << State.LISTEN
_BUCKET: Final = 1 << State.SYN_RECV | 1 << State.TIME_WAIT

LISTENING: Final = _LISTEN | _CLOSE
"""The mask of -l: listening, and unconnected because a UDP "listener" is that."""

# ss prints "syn-recv" but has always understood "syn-rcv" as well.
_NAMES: Final[Mapping[str, int]] = {
    "unknown": 0,
    "established": State.ESTABLISHED,
    "syn-sent": State.SYN_SENT,
    "syn-recv": State.SYN_RECV,
    "syn-rcv": State.SYN_RECV,
    "fin-wait-1": State.FIN_WAIT1,
    "fin-wait-2": State.FIN_WAIT2,
    "time-wait": State.TIME_WAIT,
    "closed": State.CLOSE,
    "close": State.CLOSE,
    "unconnected": State.CLOSE,
    "close-wait": State.CLOSE_WAIT,
    "last-ack": State.LAST_ACK,
    "listening": State.LISTEN,
    "closing": State.CLOSING,
}


def all_states(dialect: Dialect) -> int:
    """Give the mask of every state that a release knows."""
    return (1 << (14 if dialect.bound_inactive else 12)) - 1


def connected_states(dialect: Dialect) -> int:
    """Give what ss shows by default: neither listening, closed, TIME-WAIT nor SYN-RECV."""
    return all_states(dialect) & ~(LISTENING | _BUCKET)


def scan_state(name: str, dialect: Dialect) -> int | None:
    """Give the mask of a word after ``state`` or ``exclude``; case does not matter. None: no such word."""
    # strcasecmp in the C locale: only A-Z fold, so bytes beyond ASCII must not (Python would fold some).
    word = name.lower() if name.isascii() else name
    everything = all_states(dialect)
    if word == "all":
        return everything
    if word == "connected":
        return everything & ~LISTENING
    if word == "synchronized":
        return everything & ~(LISTENING | 1 << State.SYN_SENT)
    if word == "bucket":
        return _BUCKET
    if word == "big":
        return everything & ~_BUCKET
    if word == "bound-inactive" and dialect.bound_inactive:
        return 1 << State.BOUND_INACTIVE
    number = _NAMES.get(word)
    return None if number is None else 1 << number


def state_words(mask: int, dialect: Dialect) -> list[str]:
    """Give the words that together mean a mask; one, where one does."""
    for word in ("all", "connected", "synchronized", "bucket", "big"):
        if scan_state(word, dialect) == mask & all_states(dialect):
            return [word]
    names = {number: word for word, number in reversed(list(_NAMES.items()))}
    return [names[number] for number in range(1, 12) if mask >> number & 1]


_GROUPS: Final = ("all", "connected", "synchronized", "bucket", "big")


def keywords(dialect: Dialect) -> list[str]:
    """Give the words for states, in the order of their numbers, then those for several."""
    return [word for number in range(1, 12) for word in state_words(1 << number, dialect)] + list(_GROUPS)


def _letters(word: str) -> str:
    return "".join(char for char in word.lower() if char.isascii() and char.isalnum()).removeprefix("tcp")


def read_states(words: str, dialect: Dialect) -> int:
    """Give the mask of states joined by commas: each by keyword, as ss prints it, or as the kernel names it, in any
    case, with or without its dashes, and no longer than to be told from the others. Raises UsageError.

    >>> from sstrace.dialect import dialect
    >>> read_states("syn-sent,ESTAB,TCP_CLOSE_WAIT,listen", dialect((6, 1)))
    1286
    """
    names = [*_NAMES, *_GROUPS, *(["bound-inactive"] if dialect.bound_inactive else [])]
    masks = {_letters(name): scan_state(name, dialect) or 0 for name in names if name != "unknown"}
    masks |= {_letters(text): 1 << number for number, text in enumerate(STATE_TEXT) if 0 < number < 12}
    mask = 0
    for word in words.split(","):
        key = _letters(word)
        found = {masks[key]} if key in masks else {masks[name] for name in masks if key[2:] and name.startswith(key)}
        if len(found) != 1:
            near = nearest(word, keywords(dialect)) if not found else None
            hint = f"did you mean {near}?" if near is not None else f"write one of {', '.join(keywords(dialect))}"
            raise UsageError(f'sstrace: "{word}" is no state: {hint}')
        mask |= found.pop()
    return mask


FAMILY_TABLES: Final[Mapping[int, int]] = {
    number: sum({1 << each.table for each in PROTOCOLS if each.family is family})
    for family in FAMILIES
    for number in family.numbers
}
"""Address family → mask of its tables."""

INET_TABLES: Final = FAMILY_TABLES[AF_INET]
"""Mask of the tables that speak inet_diag."""

ALL_TABLES: Final = ((1 << len(Table)) - 1) & ~(1 << Table.TIPC)
"""``-A all``: every table but TIPC."""

TABLE_FAMILIES: Final[Mapping[int, int]] = {
    table: sum(1 << number for number in protocol.family.numbers) for table, protocol in OF_TABLE.items()
}
"""Table → mask of its address families, bit n for AF_ number n."""


def table_states(table: Table, dialect: Dialect) -> int:
    """Give the states that choosing a table adds."""
    states = OF_TABLE[table].states
    return connected_states(dialect) if states is None else states


def family_states(number: int, dialect: Dialect) -> int:
    """Give the states that choosing an address family adds: those of its tables, where they agree."""
    states = {each.states for each in PROTOCOLS if number in each.family.numbers}
    only = states.pop() if len(states) == 1 else None
    return connected_states(dialect) if only is None else only
