"""What a report of the kernel means for a row of the table: one module for each family of protocols that has a life of
its own, each a table that is executed (sstrace.table).
"""

from collections.abc import Mapping

from sstrace.lifecycle import mptcp, raw, swept, tcp, udp, unix
from sstrace.lifecycle.tcp import LISTED, STEPS, TRANSITIONS
from sstrace.lifecycle.words import Guard, Held, Report, Rule, Sight, Step
from sstrace.protocols import IPPROTO_MPTCP, IPPROTO_TCP, IPPROTO_UDP, PROTOCOLS, RAW, UNIX

__all__ = [
    "LISTED",
    "LIVES",
    "STEPS",
    "TRANSITIONS",
    "Guard",
    "Held",
    "Report",
    "Rule",
    "Sight",
    "Step",
    "may_end",
]

LIVES: Mapping[int, Mapping[int, Mapping[int, str]]] = {
    RAW: raw.TRANSITIONS,
    IPPROTO_UDP: udp.TRANSITIONS,
    IPPROTO_TCP: TRANSITIONS,
    IPPROTO_MPTCP: mptcp.TRANSITIONS,
    **{each.number: unix.TRANSITIONS if each.family is UNIX else swept.TRANSITIONS for each in PROTOCOLS if each.swept},
}
"""``protocols.Protocol.number`` → old state → new state → what brings it about: the changes that users can see."""


def may_end(protocol: int, old: int, new: int) -> bool:
    """Whether a life may end with a change from one state to another (numbers)."""
    if protocol == IPPROTO_TCP:
        return tcp.may_end(old, new)
    return new == udp.UNSEEN and (protocol != IPPROTO_MPTCP or mptcp.may_end(old))
