"""What other schemas call the protocol of a socket, its states, and what becomes of it."""

from functools import cache
from typing import Final, Literal

from sstrace.model import STATE_TEXT, State
from sstrace.protocols import IPPROTO_TCP, IPPROTO_UDP, NUMBER_OF_NETID, RAW

__all__ = ["TRANSPORTS", "Transport", "Type", "entered", "transport", "transport_of", "types_of"]

Transport = Literal["tcp", "udp", "raw"]
TRANSPORTS: Final[tuple[Transport, ...]] = ("tcp", "udp", "raw")

Type = Literal["start", "end", "info", "connection"]

_UNSEEN: Final = 0
_CLOSE, _LISTEN, _SYN_SENT, _SYN_RECV = (
    int(state) for state in (State.CLOSE, State.LISTEN, State.SYN_SENT, State.SYN_RECV)
)


def transport(protocol: int) -> Transport:
    """Of an IP protocol; MPTCP is TCP's."""
    return {IPPROTO_UDP: "udp", RAW: "raw"}.get(protocol, "tcp")  # type: ignore[return-value]  # of these words


def transport_of(netid: str) -> Transport:
    """Likewise, by ss's name."""
    return transport(NUMBER_OF_NETID.get(netid, IPPROTO_TCP))


@cache
def entered(state: int, *, datagram: bool = False) -> str:
    """A state in the words of ss's filters; ``closed``, too, where ss shows a datagram socket no more."""
    if state == _CLOSE:
        return "unconnected" if datagram else "closed"
    if state == _UNSEEN and datagram:
        return "closed"
    return {"ESTAB": "established", "LISTEN": "listening"}.get(STATE_TEXT[state], STATE_TEXT[state].lower())


def types_of(old: int, new: int, *, ended: bool) -> list[Type]:
    """ECS's ``event.type`` of a transition."""
    if ended:
        return ["connection", "end"]
    if old == _LISTEN and new == _CLOSE:
        return ["end"]
    if new == _LISTEN:
        return ["start"]
    started = old == _UNSEEN or (old, new) in ((_CLOSE, _SYN_SENT), (_LISTEN, _SYN_RECV))
    return ["connection", "start" if started else "info"]
