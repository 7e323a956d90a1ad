"""What hurts a connection without changing its state."""

from typing import Literal

import msgspec

from sstrace.fields import Count

__all__ = ["Details", "Incident", "What"]

What = str
"""The word of one of sstrace.incidents' sorts."""


class Details(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """All that may be said of an incident, whichever sort it is."""

    segment: Literal["data", "syn", "syn-ack", "fin"] | None = None
    """Of a retransmission: what was sent again."""
    by: Literal["timer", "fast", "probe"] | None = None
    """timer: no answer came in time; fast: later segments were acknowledged; probe: the last segment, to learn what
    came (tail loss probe). Absent of a SYN-ACK, which only its timer sends again."""
    direction: Literal["sent", "received"] | None = None
    """Of a reset."""
    reason: str | None = None
    """The kernel's word for why: enum sk_rst_reason, enum skb_drop_reason, of an error the errno's name. Absent where
    it tells none.
    """
    bytes: Count | None = None
    """Of a retransmission: payload; of a drop: what was left of the segment when it was dropped."""
    window: Count | None = None
    """Of a drop: bytes that the peer might still send. 0: our window is closed, and the peer probes it."""
    retransmits: Count | None = None
    """How often this segment had been sent again without an answer, this time included where a timer does it."""
    count: Count | None = None
    """Of an overflow: SYNs, and ACKs that end a handshake, which the listener dropped since the look before."""
    queue: Count | None = None
    """Connections that waited for accept(2) at the look …"""
    backlog: Count | None = None
    """… of so many that may."""


class Incident(msgspec.Struct, frozen=True, gc=False):
    """Whose it is, is told by its socket: as the kernel has it, not yet a row."""

    at_ns: int
    what: What
    protocol: int
    """IPPROTO_."""
    sk: int
    cookie: int | None
    """None: nobody has asked for it yet."""
    net: int
    """See ``Space``."""
    netns: int
    family: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ifindex: int
    state: int
    details: Details
