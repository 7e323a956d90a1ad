"""The handshakes between hosts, by which their clocks are compared (recording.clocks)."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from sstrace.fleet.engines import Asked
from sstrace.fleet.literals import quoted
from sstrace.fleet.moment import Moment
from sstrace.fleet.sql import OLD, among, each, numbered, time
from sstrace.recording.clocks import SHAKEN_NS, SHAKING, Shaken
from sstrace.recording.reader import STATE_NUMBER
from sstrace.table.index import plain

__all__ = ["shaken"]

_MOST: Final = 20_000
"""Handshakes."""
_CALLS: Final = f"({OLD} = 'SYN-SENT' OR to = 'SYN-SENT')"
_STEPS: Final = ", ".join(f"({quoted(old)}, {quoted(new)})" for old, new in sorted(SHAKING))

_row = msgspec.json.Decoder(tuple[Any, ...])


def shaken(engine: Asked, whose: Mapping[Moment, str]) -> Iterator[Shaken]:
    """Before each moment, of as many hosts, those that both ends tell of."""
    if not whose:
        return
    runs, moments = [one.run for one in whose], [one.at_ns for one in whose]
    until = each(runs, moments)
    ends = f"if({_CALLS}, src, dst), if({_CALLS}, sport, dport), if({_CALLS}, dst, src), if({_CALLS}, dport, sport)"
    answer = engine.ask(
        f"SELECT toString(key.1), key.2, toString(key.3), key.4, arrayDistinct(groupArray(10)(told)) AS steps FROM ("
        f"SELECT ({ends}) AS key, ({numbered(runs)}, {OLD}, to, {_CALLS}, toString(toUnixTimestamp64Nano(ts))) AS told "
        f"FROM lines WHERE {among(runs)} AND ts > {time(min(moments) - SHAKEN_NS)} AND ts <= {time(max(moments))} "
        f"AND toUnixTimestamp64Nano(ts) > {until} - {SHAKEN_NS} AND toUnixTimestamp64Nano(ts) <= {until} "
        f"AND type = 'state' AND NOT approximate AND ({OLD}, to) IN ({_STEPS})"
        f") GROUP BY key HAVING uniqExact(told.1) > 1 AND count() > 3 LIMIT {_MOST} FORMAT JSONCompactEachRow"
    )
    hosts = list(whose.values())
    for line in answer.split(b"\n")[:-1]:
        src, sport, dst, dport, steps = _row.decode(line)
        near, far = (_bytes(src), int(sport)), (_bytes(dst), int(dport))
        for index, old, new, calls, at_ns in steps:
            here, there = (near, far) if calls else (far, near)
            yield Shaken(int(at_ns), hosts[int(index)], *here, *there, STATE_NUMBER[old], STATE_NUMBER[new])


def _bytes(text: str) -> bytes:
    return plain(ip_address(text).packed)
