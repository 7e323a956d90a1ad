"""Filter expressions: tokens, grammar, AST. Pure; names are asked of a ``model.Names``.

(The grammar is in ``parse``.)
"""

import msgspec

__all__ = ["And", "Autobound", "Cgroup", "Compare", "Device", "Expr", "Held", "Host", "Mark", "Match", "Not", "Or"]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host operand: an address prefix of a family, a port, or for unix a glob."""

    family: int
    """The pattern's own family; AF_UNSPEC for a bare port, ``*`` and ``any``."""
    address: bytes = b"\0\0\0\0"
    """Network order. For packet and netlink the protocol number, for vsock the CID: 4 bytes little-endian, as ss
    keeps them."""
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
    host: Host
    """Only its port counts."""


class Device(msgspec.Struct, frozen=True):
    """``dev`` = index."""

    index: int


class Mark(msgspec.Struct, frozen=True):
    """``fwmark``: (mark & mask) == value."""

    value: int
    mask: int


class Cgroup(msgspec.Struct, frozen=True):
    """``cgroup`` = id."""

    id: int


class Autobound(msgspec.Struct, frozen=True):
    """``autobound``."""


class Held(msgspec.Struct, frozen=True):
    """``held`` OP DURATION, sstrace's own: how long the socket has been in its state."""

    at_least: bool
    """>= when set, else <=."""
    ns: int


class And(msgspec.Struct, frozen=True):
    """Both."""

    left: "Expr"
    right: "Expr"


class Or(msgspec.Struct, frozen=True):
    """Either."""

    left: "Expr"
    right: "Expr"


class Not(msgspec.Struct, frozen=True):
    """Negation."""

    inner: "Expr"


Expr = And | Or | Not | Match | Compare | Device | Mark | Cgroup | Autobound | Held
