"""The tests that sstrace adds to ss's filter language, a line each: where it can be answered, and what it compares.

Each word is a keyword only where a test may begin: there ss knows no operand, so nothing that ss accepts changes its
meaning (``src held`` is still a host).
"""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from sstrace.causes import CAUSES
from sstrace.errors import LookupFailed, UsageError
from sstrace.model import Names, Table
from sstrace.protocols import INET, IPPROTO_MPTCP, NETLINK, OF_TABLE, PROTOCOLS, TIPC, VSOCK
from sstrace.query.catalog import ENTRIES
from sstrace.query.command import Act
from sstrace.query.expression import Amount, Chain, Expr, Named, Not
from sstrace.query.nearest import nearest
from sstrace.query.quantity import parse_duration, parse_size

__all__ = ["WORDS", "Word", "either", "test_of", "words_of"]

_EVENTS: Final = frozenset((Act.TRACE, Act.REPLAY, Act.STATS, Act.STATS_PAST, Act.SERVE_STATS))
_LIVING: Final = frozenset((Act.PAST, Act.BETWEEN, Act.LIVE, Act.WATCH, Act.WATCH_LIVE, Act.WATCH_PAST))
_ROWS: Final = _EVENTS | _LIVING
"""Those that know a row's past."""
_HELD_BY: Final = _ROWS | {Act.SNAPSHOT}
_ANY: Final = _HELD_BY | {Act.VERIFY}

_CARRIED: Final = _EVENTS | {Act.SNAPSHOT, Act.LIVE, Act.WATCH, Act.WATCH_LIVE}
"""Those that are told it at an end, and those that can ask the kernel; no recording has it of what lives."""

_MANY: Final = ENTRIES["--netns"].acts | {Act.WATCH_PAST}
"""Those that can be of several network namespaces."""

_TCP: Final = 1 << Table.TCP
_COUNTED: Final = sum(1 << each.table for each in PROTOCOLS if each.exact and each.number != IPPROTO_MPTCP)
"""Those whose ends tell what was sent and received."""
_INET: Final = sum(1 << table for table in Table if OF_TABLE[table].family is INET)
"""Those whose sockets have a cgroup."""
_USED: Final = sum(1 << table for table in Table if OF_TABLE[table].family not in (NETLINK, VSOCK, TIPC))
"""Those whose sockets have a user."""

_TIMES: Final = ("held", "lifetime", "rtt")
_EQUAL: Final = ("=", "!=")
_ORDERED: Final = ("=", "!=", ">=", "<=", ">", "<")
_ROLES: Final = ("client", "server")


class Word(msgspec.Struct, frozen=True):
    """One test: ``name OP OPERAND``, ``OP`` left away for ``=``."""

    name: str
    example: str
    """That can be typed as it stands."""
    acts: frozenset[Act]
    """Where its answer is known."""
    meaning: str
    operators: tuple[str, ...] = _EQUAL
    read: Callable[[str, Names], int | str] | None = None
    """Its operand. Raises UsageError and LookupFailed. None: what ``ends`` would take."""
    choices: tuple[str, ...] = ()
    """What its operand can be, where that can be told."""
    ends: tuple[str, str] | None = None
    """It is one of these two of ss's tests, of either end."""
    tables: int = -1
    """Of whose sockets it is known, a mask."""

    def tables_of(self, act: Act) -> int:
        """The same, for an act: where the kernel has to be asked, it has figures of TCP alone."""
        return self.tables & _TCP if self.acts is _CARRIED and act not in _EVENTS else self.tables


def _duration(name: str) -> Callable[[str, Names], int]:
    def read(word: str, _names: Names) -> int:
        ns = parse_duration(word)
        if ns is None:
            raise UsageError(f'sstrace: {name} "{word}" is not a time: write 5, 1.5s, 200ms, 5m or 2h')
        return ns

    return read


def _size(name: str) -> Callable[[str, Names], int]:
    def read(word: str, _names: Names) -> int:
        size = parse_size(word, 1000)  # as render.width.amount prints them
        if size is None:
            raise UsageError(f'sstrace: {name} "{word}" is not a number of bytes: write 4096, 100k, 10M or 2G')
        return size

    return read


def _count(name: str) -> Callable[[str, Names], int]:
    def read(word: str, _names: Names) -> int:
        if not (word.isascii() and word.isdecimal()) or len(word) > 18:
            raise UsageError(f'sstrace: {name} "{word}" is not a number of segments: write 0 or more')
        return int(word)

    return read


def _pid(word: str, _names: Names) -> int:
    several = word.split(",")
    if len(several) > 1 and all(one.isascii() and one.isdecimal() for one in several):
        raise UsageError(f'sstrace: pid "{word}" is several: write {" or ".join(f"pid {one}" for one in several)}')
    if not (word.isascii() and word.isdecimal()) or len(word) > 10:
        raise UsageError(f'sstrace: pid "{word}" is not a number: a process by its name is comm {word}')
    return int(word)


def _text(word: str, _names: Names) -> str:
    return word


def _user(word: str, names: Names) -> int:
    if word.isascii() and word.isdecimal():
        return int(word)
    uid = names.user_id(word.encode("latin-1", "replace").decode("utf-8", "surrogateescape"))
    if uid is None:
        raise LookupFailed(f"sstrace: there is no user {word}")
    return uid


def _one_of(name: str, choices: tuple[str, ...]) -> Callable[[str, Names], str]:
    def read(word: str, _names: Names) -> str:
        if not set(word) & set("*?[") and word not in choices:
            begun = [choice for choice in choices if choice.startswith(word)]
            near = nearest(word, choices) if not begun[1:] else None
            hint = f"did you mean {near}?" if near is not None else f"one is {', '.join(begun or choices)}"
            raise UsageError(f'sstrace: {name} "{word}" is none: {hint}')
        return word

    return read


_ALL: Final = (
    Word("port", "port 443", _ANY, "of either end", _ORDERED, ends=("sport", "dport")),
    Word("host", "host 10.0.0.1", _ANY, "of either end", ends=("src", "dst")),
    Word("pid", "pid 4711", _HELD_BY, "a process that holds the socket", read=_pid),
    Word("comm", "comm nginx", _HELD_BY, "its name, or a pattern: 'postgres*'", read=_text),
    Word("user", "user www-data", _ANY, "the socket's user, by name or number", read=_user, tables=_USED),
    Word("container", "container 0123456789ab", _HELD_BY, "its container's id, the beginning of it, or a pattern",
         read=_text, tables=_INET),
    Word("pod", "pod web-0", _HELD_BY, "its pod's uid, the beginning of it, or its name where that is shown",
         read=_text),
    Word("unit", "unit nginx", _HELD_BY, "its systemd unit, or a pattern: 'ssh*'", read=_text,
         tables=_INET),
    Word("role", "role client", _ROWS, "client: this end sent the SYN; server", read=_one_of("role", _ROLES),
         choices=_ROLES),
    Word("cause", "cause reset-received", _EVENTS, "why it ended, or a pattern: 'timeout-*'",
         read=_one_of("cause", tuple(CAUSES)), choices=tuple(CAUSES)),
    Word("netns", "netns web", _MANY, "the network namespace, as --netns shows it, or a pattern", read=_text),
    Word("held", "held > 5m", _ROWS, "how long the socket has been in its state", _ORDERED, _duration("held")),
    Word("lifetime", "lifetime < 200ms", _EVENTS, "how long the connection lived that ends", _ORDERED,
         _duration("lifetime")),
    Word("rtt", "rtt > 50ms", _CARRIED, "round-trip time; of events, of the connection that ends", _ORDERED,
         _duration("rtt"), tables=_TCP),
    Word("sent", "sent > 1M", _CARRIED, "payload that it has sent, in bytes; 1k is 1000", _ORDERED, _size("sent"),
         tables=_COUNTED),
    Word("received", "received = 0", _CARRIED, "payload that it has received", _ORDERED, _size("received"),
         tables=_COUNTED),
    Word("retransmits", "retransmits > 0", _CARRIED, "segments that it has sent again", _ORDERED,
         _count("retransmits"), tables=_TCP),
)  # fmt: skip
WORDS: Final[Mapping[str, Word]] = {word.name: word for word in _ALL}
"""By name, in the order in which the help shows them."""


def words_of(act: Act, *, namespaces: bool = True) -> Mapping[str, Word]:
    """Those that mean something to an act; ``namespaces``: to one that shows several."""
    return {name: word for name, word in WORDS.items() if act in word.acts and (namespaces or name != "netns")}


def test_of(word: Word, operator: str, operand: int | str) -> Expr:
    """The test that compares a row's own with an operand as ``Word.read`` gave it."""
    if isinstance(operand, int) and word.operators is _ORDERED:
        return _amount(word.name, operator, operand)
    named = Named(word.name, operand)
    return Not(named) if operator == "!=" else named


def either(operator: str, local: Expr, peer: Expr) -> Expr:
    """One of ss's tests of either end: any of both, of ``!=`` none of both."""
    return Chain(local, (("and" if operator == "!=" else "or", peer),))


def _amount(word: str, operator: str, value: int) -> Expr:
    """The six operators; equality of times means: the same when both are cut to the unit in which the operand was
    whole.
    """
    least, most = Amount(word, True, value), Amount(word, False, value)
    if operator == ">=":
        return least
    if operator == "<":
        return Not(least)
    if operator == "<=":
        return most
    if operator == ">":
        return Not(most)
    grain = next(unit for unit in (10**9, 10**6, 10**3, 1) if value % unit == 0) if word in _TIMES else 1
    equal = Chain(least, (("and", Amount(word, False, value + grain - 1)),))
    return Not(equal) if operator == "!=" else equal
