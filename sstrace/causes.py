"""Why a connection ended, and what that says of it: one record a cause. Whoever judges an end (events in every schema,
``--watch``, ``--stats``, metrics, colours, the documentation) takes the judgement from here.

The end of a connection is the moment when its full socket gives up (lifecycle); its transition is ``ended``, and each
is counted once: as failed where the verdict is FAILED, else as closed. A cause stands at the end of what is no
connection, too: of a listener, and of a timewait socket, which goes on for a while after its connection.
"""

import enum
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from sstrace.model import State

__all__ = ["CAUSES", "FIN_BY_US", "Cause", "Verdict", "has_failed", "outcome"]


class Verdict(enum.Enum):
    """What a cause says of the connection that it ended."""

    ENDED_WELL = "ended well"
    """As one of its ends meant it to."""
    FAILED = "failed"
    """Somebody wanted the connection, and did not get it or lost it."""
    NEITHER = "neither"
    """Nobody can say."""


class Cause(msgspec.Struct, frozen=True):
    """Why something closed."""

    word: str
    meaning: str
    verdict: Verdict


_WELL, _FAILED, _NEITHER = Verdict.ENDED_WELL, Verdict.FAILED, Verdict.NEITHER

FIN_BY_US: Final = "fin-by-us"
"""The one that needs no stack: it is why there is a timewait socket."""

_ALL: Final = (
    Cause(FIN_BY_US, "orderly close that this side began", _WELL),
    Cause("fin-by-peer", "orderly close that the peer began", _WELL),
    Cause(
        "closed",
        "close() or shutdown() of a socket that had no connection: a listener, or one that never connected",
        _WELL,
    ),
    Cause("abandoned", "close() or shutdown() while the connection was still being opened", _NEITHER),
    Cause("reset-received", "the peer sent RST", _FAILED),
    Cause(
        "reset-sent",
        "close() with unread data, data came after close(), or TCP_LINGER2 below 0: this side sent RST",
        _FAILED,
    ),
    Cause("completed", "of a request socket alone: the handshake completed, its child has taken over", _WELL),
    Cause("linger", "close() with SO_LINGER of 0 seconds: this side sent RST", _WELL),
    Cause("disconnected", "connect() to AF_UNSPEC took the connection down", _WELL),
    Cause("refused", "RST answered our SYN", _FAILED),
    Cause("unreachable", "ICMP said that the peer, or its port, cannot be reached", _FAILED),
    Cause("connect-failed", "connect() failed before a SYN was sent: no port was to be had (EADDRNOTAVAIL)", _FAILED),
    Cause("timeout-connect", "our SYN was never answered", _FAILED),
    Cause(
        "timeout-synack",
        "our SYN-ACK was never answered, or not by the data that TCP_DEFER_ACCEPT waits for",
        _FAILED,
    ),
    Cause("timeout-retransmit", "data or FIN was never acknowledged", _FAILED),
    Cause("timeout-keepalive", "keepalive probes were never answered, or TCP_USER_TIMEOUT passed", _FAILED),
    Cause("timeout-probe", "the peer kept its window closed and stopped answering probes", _FAILED),
    Cause("timeout-fin-wait-2", "this side closed in order, and the peer never sent its FIN", _NEITHER),
    Cause("expired", "TIME-WAIT ran its time", _WELL),
    Cause("reused", "TIME-WAIT made way for a new connection between the same addresses", _WELL),
    Cause("killed", "somebody killed the socket (ss -K, or a BPF program)", _FAILED),
    Cause("listener-closed", "its listener closed before anybody accepted it", _FAILED),
    Cause("overflow", "the listener's accept queue was full", _FAILED),
    Cause("out-of-memory", "the kernel was short of memory for TCP, or had too many orphans", _FAILED),
    Cause("netns-gone", "its network namespace was taken down", _FAILED),
    Cause("subflow", "the last subflow of an MPTCP socket closed; its own end says why", _NEITHER),
    Cause("unknown", "the kernel's stack matched no rule", _NEITHER),
)
CAUSES: Final[Mapping[str, Cause]] = {cause.word: cause for cause in _ALL}
"""Word → cause, in the order in which the documentation prints them."""

_FAILURES: Final = frozenset(cause.word for cause in _ALL if cause.verdict is _FAILED)
_SUCCESSES: Final = frozenset(cause.word for cause in _ALL if cause.verdict is _WELL)
_ESTABLISHED, _CLOSE, _LISTEN = int(State.ESTABLISHED), int(State.CLOSE), int(State.LISTEN)
_OPENING: Final = (int(State.SYN_SENT), int(State.SYN_RECV))


def has_failed(cause: str | None) -> bool:
    """Whether what ended by this cause has failed; None: no cause is known."""
    return cause in _FAILURES


def outcome(old: int, new: int, cause: str | None, *, ended: bool) -> Literal["success", "failure"] | None:
    """Of what this transition completes: the handshake, the connection (``ended``) or the listening. None where it
    completes nothing, or nobody can say.
    """
    if ended or (old == _LISTEN and new == _CLOSE):
        if cause in _FAILURES:
            return "failure"
        return "success" if cause in _SUCCESSES else None
    return "success" if new == _ESTABLISHED and old in _OPENING else None
