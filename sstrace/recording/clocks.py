"""How the clocks of two hosts stand to each other, by the connections between them.

Who opens a connection sends a SYN, the other end makes a request socket of it, and answers; the answer opens the first
end (RFC 9293 3.5). So the server's LISTEN → SYN-RECV is between the client's SYN-SENT and its ESTAB, whatever clocks
say: each handshake bounds their difference from both sides, by as much as it took, and many by as much as the fastest
ones. (The request socket's timer, whose start is that event, is armed before the SYN-ACK is sent: tcp_conn_request,
net/ipv4/tcp_input.c, 6.18.) Where the server keeps no request socket (SYN cookies), or none was heard, that event comes
with the last ACK, just before its end is open too; such handshakes are passed over.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from sstrace.coordinates import Connected
from sstrace.lines import StateLine
from sstrace.model import State
from sstrace.recording.crossing import Key, key_of
from sstrace.recording.reader import STATE_NUMBER, RecordedNames, row_of
from sstrace.render.times import span_text
from sstrace.wire.recording import realtime

__all__ = ["SHAKEN_NS", "SHAKING", "Clocks", "Shaken", "Skew", "compared", "shaken_of", "told"]

SHAKEN_NS: Final = 120_000_000_000
"""Whoever asks for one moment has clocks compared by so much of the time before it."""
SHAKING: Final = frozenset((
    ("UNCONN", "SYN-SENT"), ("SYN-SENT", "ESTAB"), ("LISTEN", "SYN-RECV"), ("SYN-RECV", "ESTAB"),
))  # fmt: skip
"""The transitions of a handshake: of the end that calls, and of the one that is called."""
_NAMED: Final = 3
"""Of the clocks that differ so many pairs are named."""

_MOST = 20_000
"""Handshakes of which something is known, and not all yet."""
_AGREE = 3
"""So many handshakes have to agree: the ports of one may have been used before."""

_CLOSE, _SYN_SENT, _ESTABLISHED = int(State.CLOSE), int(State.SYN_SENT), int(State.ESTABLISHED)
_LISTEN, _SYN_RECV = int(State.LISTEN), int(State.SYN_RECV)


class Skew(NamedTuple):
    """The clock of ``ahead`` shows more than that of ``behind``, by at least and at most so many ns."""

    ahead: str
    behind: str
    least_ns: int
    most_ns: int


class Shaken(NamedTuple):
    """A transition of a handshake (Connected)."""

    at_ns: int
    """Since 1970 UTC, by the host's clock."""
    host: str
    src: bytes
    sport: int
    dst: bytes
    dport: int
    old: int
    new: int


def shaken_of(host: str, line: StateLine, names: RecordedNames) -> Shaken | None:
    """A line as such; None where it is none."""
    at_ns = realtime(line.ts)
    if (line.old, line.state) not in SHAKING or line.approximate or at_ns is None:
        return None
    try:
        row = row_of(line, names)
    except OSError:
        return None
    return Shaken(at_ns, host, row.src, row.sport, row.dst, row.dport, STATE_NUMBER[line.old], row.state)


def compared(shaken: Iterable[Shaken]) -> list[Skew]:
    """What all of these tell."""
    clocks = Clocks()
    for one in sorted(shaken):
        clocks.hear(one.host, one, one.old, one.new, one.at_ns)
    return clocks.skews()


def told(skews: Sequence[Skew], what: str) -> str:
    """A sentence about clocks that differ. ``what``: what is so by each host's own."""
    texts = [
        f"{one.ahead} is {span_text((one.least_ns + one.most_ns) // 2)} ahead of {one.behind}" for one in skews[:_NAMED]
    ]
    more = f", and {len(skews) - _NAMED} more pairs differ" if len(skews) > _NAMED else ""
    return f"clocks differ, by the handshakes between hosts: {', '.join(texts)}{more}: {what} by their own host's"


class _Handshake(msgspec.Struct):
    client: str = ""
    server: str = ""
    sent_ns: int | None = None
    opened_ns: int | None = None
    heard_ns: int | None = None
    done_ns: int | None = None


class _Bounds(msgspec.Struct):
    """Of one host's clock minus another's, ns."""

    least_ns: int
    most_ns: int
    agree: int = 1


class Clocks:
    """Hears transitions; times are ns since 1970 UTC by each host's own clock, in any order among hosts."""

    def __init__(self) -> None:
        self._shaking: dict[Key, _Handshake] = {}
        """By the client's ends."""
        self._bounds: dict[tuple[str, str], _Bounds] = {}

    def hear(self, host: str, row: Connected, old: int, new: int, at_ns: int) -> None:
        """A transition on a host."""
        key = key_of(row)
        if key is None:
            return
        if (old, new) == (_CLOSE, _SYN_SENT):
            one = self._shaking.get(key)
            if one is None or one.sent_ns is not None:
                one = self._begin(key)
            one.client, one.sent_ns = host, at_ns
        elif (old, new) == (_SYN_SENT, _ESTABLISHED):
            one = self._shaking.get(key)
            if one is None or one.client != host:
                return
            one.opened_ns = at_ns
        elif (old, new) == (_LISTEN, _SYN_RECV):
            sport, dport, src, dst = key
            key = dport, sport, dst, src
            one = self._shaking.get(key)
            if one is None or one.heard_ns is not None:
                one = self._begin(key)
            one.server, one.heard_ns = host, at_ns
        elif (old, new) == (_SYN_RECV, _ESTABLISHED):
            sport, dport, src, dst = key
            key = dport, sport, dst, src
            one = self._shaking.get(key)
            if one is None or one.server != host:
                return
            one.done_ns = at_ns
        else:
            return
        if None not in (one.sent_ns, one.opened_ns, one.heard_ns, one.done_ns):
            del self._shaking[key]
            self._compare(one)

    def _compare(self, one: _Handshake) -> None:
        assert one.sent_ns is not None and one.opened_ns is not None  # noqa: PT018
        assert one.heard_ns is not None and one.done_ns is not None  # noqa: PT018
        if one.client != one.server and 2 * (one.done_ns - one.heard_ns) >= one.opened_ns - one.sent_ns:
            self._bound(one.server, one.client, one.heard_ns - one.opened_ns, one.heard_ns - one.sent_ns)

    def _begin(self, key: Key) -> _Handshake:
        if len(self._shaking) >= _MOST:
            del self._shaking[next(iter(self._shaking))]
        self._shaking.pop(key, None)
        one = self._shaking[key] = _Handshake()
        return one

    def _bound(self, one: str, other: str, least_ns: int, most_ns: int) -> None:
        if one > other:
            one, other, least_ns, most_ns = other, one, -most_ns, -least_ns
        known = self._bounds.get((one, other))
        if known is None or least_ns > known.most_ns or most_ns < known.least_ns:  # or a clock has been set
            self._bounds[one, other] = _Bounds(least_ns, most_ns)
            return
        known.least_ns, known.most_ns = max(least_ns, known.least_ns), min(most_ns, known.most_ns)
        known.agree += 1

    def skews(self) -> list[Skew]:
        """Of the clocks that cannot have shown the same at the end: the greatest difference first."""
        found = []
        for (one, other), bounds in self._bounds.items():
            if bounds.agree < _AGREE:
                continue
            if bounds.least_ns > 0:
                found.append(Skew(one, other, bounds.least_ns, bounds.most_ns))
            elif bounds.most_ns < 0:
                found.append(Skew(other, one, -bounds.most_ns, -bounds.least_ns))
        return sorted(found, key=lambda skew: (-skew.least_ns, skew.ahead, skew.behind))
