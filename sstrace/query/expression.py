"""What a filter says, parsed: a tree of tests, each as ss means it."""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from sstrace.model import AF_UNSPEC

__all__ = [
    "Amount",
    "Autobound",
    "Cgroup",
    "Chain",
    "Compare",
    "Device",
    "Expr",
    "Host",
    "Mark",
    "Match",
    "Named",
    "Not",
    "asks_carried",
    "asks_owners",
    "asks_user",
    "awaited",
    "tests_of",
]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host operand: an address prefix of a family, a port, or for unix a glob."""

    family: int = AF_UNSPEC
    """The pattern's own family; AF_UNSPEC for a bare port, ``*`` and ``any``."""
    address: bytes = b"\0\0\0\0"
    """16 bytes for IPv6, else 4: network order for IPv4; for packet and netlink the protocol, for vsock the CID, as
    ss keeps them, in the machine's order (written here as little-endian)."""
    bits: int = 0
    """Prefix length; 0 matches every address."""
    port: int = -1
    """-1: any."""
    glob: str | None = None
    """unix: the pattern, latin-1 text."""


class Match(msgspec.Struct, frozen=True):
    """``src``/``dst`` HOST, and ``sport``/``dport`` = PORT."""

    local: bool
    hosts: tuple[Host, ...]
    """More than one when a host name has several addresses: any of them."""


class Compare(msgspec.Struct, frozen=True):
    """``sport``/``dport`` >= or <= PORT; the other operators are these negated."""

    local: bool
    at_least: bool
    """>= when set, else <=."""
    port: int


class Device(msgspec.Struct, frozen=True):
    """``dev`` = index."""

    index: int
    """When the filter was read; -1 where nothing bore the name yet."""
    name: str | None = None
    """Where it was named: whatever bears this name then is meant, as time goes on."""


class Mark(msgspec.Struct, frozen=True):
    """``fwmark``: (mark & mask) == value."""

    value: int
    mask: int


class Cgroup(msgspec.Struct, frozen=True):
    """``cgroup`` = id."""

    id: int


class Autobound(msgspec.Struct, frozen=True):
    """``autobound``."""


class Amount(msgspec.Struct, frozen=True):
    """``held``, ``lifetime``, ``rtt`` (ns), ``sent``, ``received`` (bytes), ``retransmits`` >= or <= a number; the
    other operators are these negated.
    """

    word: str
    at_least: bool
    """>= when set, else <=."""
    value: int


class Named(msgspec.Struct, frozen=True):
    """``pid``, ``comm``, ``user``, ``container``, ``pod``, ``unit``, ``role``, ``cause``, ``netns`` = a number,
    or a pattern (latin-1 text).
    """

    word: str
    value: int | str


class Not(msgspec.Struct, frozen=True):
    """Negation."""

    inner: "Expr"


class Chain(msgspec.Struct, frozen=True):
    """Tests joined by ``and`` and ``or``, evaluated strictly from left to right: ``A or B and C`` is ``(A or B) and
    C``.

    Two or more tests: one alone is not wrapped.
    """

    first: "Expr"
    rest: tuple[tuple[Literal["and", "or"], "Expr"], ...]


Expr = Chain | Not | Match | Compare | Device | Mark | Cgroup | Autobound | Amount | Named


def tests_of(expression: Expr | None) -> Iterator[Expr]:
    """Every test of a filter, in order, whatever joins or negates them; none of none."""
    if isinstance(expression, Chain):
        for one in (expression.first, *(test for _, test in expression.rest)):
            yield from tests_of(one)
    elif isinstance(expression, Not):
        yield from tests_of(expression.inner)
    elif expression is not None:
        yield expression


def asks_owners(expression: Expr | None) -> bool:
    """Whether a filter's answer hangs on who holds a socket."""
    return any(isinstance(test, Named) and test.word in ("pid", "comm") for test in tests_of(expression))


def asks_user(expression: Expr | None) -> bool:
    """Whether a filter's answer hangs on whose a socket is."""
    return any(isinstance(test, Named) and test.word == "user" for test in tests_of(expression))


_CARRIED: Final = frozenset(("rtt", "sent", "received", "retransmits"))
"""Words of ``Amount`` that tcp_info answers of a connection that lives."""


def asks_carried(expression: Expr | None) -> bool:
    """Whether a filter's answer hangs on what a connection has carried."""
    return any(isinstance(test, Amount) and test.word in _CARRIED for test in tests_of(expression))


def awaited(expression: Expr | None) -> Iterator[str]:
    """The names of devices that nothing bore when the filter was read."""
    for test in tests_of(expression):
        if isinstance(test, Device) and test.index < 0 and test.name is not None:
            yield test.name
