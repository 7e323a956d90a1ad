"""What other schemas call the protocol of a socket, its states, and what becomes of it."""

from functools import cache
from typing import Final, Literal

from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, State
from sstrace.protocols import FAMILY_WORDS, IPPROTO_TCP, IPPROTO_UDP, NUMBER_OF_NETID, RAW, SWEPT

__all__ = [
    "TRANSPORTS", "VERSIONS", "IpVersion", "Transport", "Type", "entered", "transport", "transport_of", "types_of",
]  # fmt: skip

Transport = Literal["tcp", "udp", "raw", "unix", "packet", "netlink", "vsock", "xdp"]
IpVersion = Literal["ipv4", "ipv6"]

VERSIONS: Final[dict[int, IpVersion]] = {AF_INET: "ipv4", AF_INET6: "ipv6"}
"""Of the internet protocol, by address family; others have none."""
TRANSPORTS: Final[tuple[tuple[Transport, int], ...]] = (
    *((transport, family) for transport in ("tcp", "udp", "raw") for family in VERSIONS),
    *dict.fromkeys((FAMILY_WORDS[number >> 16], number >> 16) for number in sorted(SWEPT)),  # type: ignore[arg-type]
)
"""Each with the address families that it goes by."""

Type = Literal["start", "end", "info", "connection"]

_UNSEEN: Final = 0
_CLOSE, _LISTEN, _SYN_SENT, _SYN_RECV = (
    int(state) for state in (State.CLOSE, State.LISTEN, State.SYN_SENT, State.SYN_RECV)
)


def transport(protocol: int) -> Transport:
    """Of an IP protocol; MPTCP is TCP's. Of other families (``protocols.Protocol.number``) their own names."""
    if protocol in SWEPT:
        return FAMILY_WORDS[protocol >> 16]  # type: ignore[return-value]  # of these words
    return {IPPROTO_UDP: "udp", RAW: "raw"}.get(protocol, "tcp")  # type: ignore[return-value]  # of these words


def transport_of(netid: str) -> Transport:
    """Likewise, by ss's name."""
    return transport(NUMBER_OF_NETID.get(netid, IPPROTO_TCP))


@cache
def entered(state: int, *, appearing: bool = False) -> str:
    """A state in the words of ss's filters; ``closed``, too, where ss shows the socket no more. ``appearing``: of one
    of protocols.APPEARING.
    """
    if state == _CLOSE:
        return "unconnected" if appearing else "closed"
    if state == _UNSEEN and appearing:
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
