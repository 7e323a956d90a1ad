"""What an end means: which causes are failures, and how a transition went. One judgement for every schema and metric.

The causes are those of ``wire.cause``; a test holds the two lists together.
"""

from typing import Final

from sstrace.model import State

__all__ = ["ENDED_WELL", "FAILURES", "outcome"]

FAILURES: Final = frozenset(
    {
        "reset-received",
        "reset-sent",
        "refused",
        "unreachable",
        "connect-failed",
        "timeout-connect",
        "timeout-synack",
        "timeout-retransmit",
        "timeout-keepalive",
        "timeout-probe",
        "timeout-fin-wait-2",
        "killed",
        "listener-closed",
        "overflow",
        "out-of-memory",
        "netns-gone",
    }
)
"""Somebody wanted the connection, and did not get it or lost it."""

ENDED_WELL: Final = frozenset(
    {"fin-by-us", "fin-by-peer", "closed", "completed", "linger", "disconnected", "expired", "reused", "subflow"}
)
"""It ended as one of its ends meant it to. ``abandoned`` and ``unknown`` are neither."""

_ESTABLISHED, _CLOSE = int(State.ESTABLISHED), int(State.CLOSE)
_OPENING = (int(State.SYN_SENT), int(State.SYN_RECV))


def outcome(old: int, new: int, cause: str | None) -> str | None:
    """``success`` or ``failure`` of what this transition completes; None where it completes nothing, or nobody can
    say.
    """
    if new == _ESTABLISHED:
        return "success" if old in _OPENING else None
    if new != _CLOSE:
        return None
    if cause in FAILURES:
        return "failure"
    return "success" if cause in ENDED_WELL else None
