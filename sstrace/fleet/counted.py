"""The digest of ``--stats``, counted by the engine: the same numbers as whoever reads the lines one by one comes to
(render.stats.Digest), with nothing of them read but what is counted.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from sstrace.causes import CAUSES, has_failed
from sstrace.fleet.engines import Asked
from sstrace.fleet.sql import OLD, Run, among, numbered, quoted, time
from sstrace.render.stats import Digest, Tally

__all__ = ["count"]

_MOST_KEYS: Final = 200_000
"""Of a grouping, as Digest has it."""
_DIGITS: Final = 6
"""See render.stats.Spread."""

_OPENED: Final = "to = 'ESTAB'"
_ENDED: Final = f"(ended AND NOT {_OPENED})"
_FAILED: Final = f"({_ENDED} AND cause IN ({', '.join(quoted(word) for word in CAUSES if has_failed(word))}))"
_CLOSED: Final = f"({_ENDED} AND NOT {_FAILED})"
_OPENING: Final = f"{OLD} IN ('SYN-SENT', 'SYN-RECV')"
_WAY: Final = f"multiIf(role = 'client', 'out', role = 'server' OR {_OPENED}, 'in', '')"
_PORT: Final = f"multiIf({_WAY} = 'out', dport, {_WAY} = 'in', sport, least(sport, dport))"
_PEER: Final = "replaceOne(toString(dst), if(family = 'inet', '::ffff:', '\\n'), '')"
_OWNER: Final = "if(empty(owners), '', toString(owners[1].comm))"
_SUMS: Final = (
    f"countIf({_OPENED}), countIf({_FAILED}), countIf({_CLOSED}), sum(ifNull(retransmits, 0)), "
    f"sumIf(ifNull(bytes_sent, 0), {_ENDED}), sumIf(ifNull(bytes_received, 0), {_ENDED}), "
    f"countIf({_OPENED} OR (ended AND {_OPENING}))"
)
"""A Tally, member by member."""

_row = msgspec.json.Decoder(tuple[str | int | None, ...])


def count(
    engine: Asked, runs: Sequence[Run], window: tuple[int, int] | None, condition: str, into: Digest
) -> dict[int, Tally]:
    """Count the transitions of a window (ns since 1970 UTC; None: all there are) that meet a condition in SQL; by its
    place among the runs the tally of each that has any.
    """
    return _Counting(engine, runs, window, condition, into).count()


class _Counting:
    def __init__(
        self, engine: Asked, runs: Sequence[Run], window: tuple[int, int] | None, condition: str, into: Digest
    ) -> None:
        self._engine = engine
        self._number = numbered(runs)
        within = among(runs)
        if window is not None:
            within += f" AND ts >= {time(window[0])} AND ts <= {time(window[1])}"
        # Lines that came twice are one.
        self._lost = f"(SELECT DISTINCT host, run, seq, nth, count FROM lines WHERE {within} AND type = 'gap')"
        self._lines = f"lines FINAL WHERE {within} AND type IN ('state', 'life') AND ({condition})"
        self._told = f"{self._lines} AND ({_OPENED} OR ended OR retransmits > 0)"
        self._digest = into

    def count(self) -> dict[int, Tally]:
        digest = self._digest
        for (lost,) in self._ask(f"SELECT sum(count) FROM {self._lost}"):
            digest.lost = int(lost)
        tallies = self._totals()
        self._spreads()
        for by, key in (("peer", _PEER), ("port", _PORT), ("owner", _OWNER)):
            self._group(by, key)
        return tallies

    def _ask(self, sql: str) -> Iterator[tuple[Any, ...]]:
        answer = self._engine.ask(f"{sql} FORMAT JSONCompactEachRow")
        return map(_row.decode, answer.split(b"\n")[:-1])

    def _totals(self) -> dict[int, Tally]:
        digest = self._digest
        runs: dict[int, Tally] = {}
        for run, way, ended, cause, lines, first, last, *sums in self._ask(
            f"SELECT {self._number} AS n, {_WAY} AS way, toUInt8({_ENDED}) AS over, "
            f"if(over, if(cause = '', 'unknown', toString(cause)), '') AS why, count(), "
            f"toUnixTimestamp64Nano(min(ts)), toUnixTimestamp64Nano(max(ts)), {_SUMS} "
            f"FROM {self._lines} GROUP BY n, way, why, over"
        ):
            opened, failed, closed, retransmits, sent, received, weight = map(int, sums)
            digest.transitions += int(lines)
            digest.first_ns = int(first) if digest.first_ns is None else min(digest.first_ns, int(first))
            digest.last_ns = max(digest.last_ns, int(last))
            digest.opened[str(way) or "in"] += opened
            digest.failed[str(way)] += failed
            digest.closed += closed
            digest.retransmits += retransmits
            digest.sent += sent
            digest.received += received
            if int(ended):
                digest.causes[str(cause)] += failed + closed
            runs.setdefault(int(run), Tally()).take(Tally(opened, failed, closed, retransmits, sent, received, weight))
        return runs

    def _spreads(self) -> None:
        digest = self._digest
        held, shaken = "toInt64(held_us * 1000)", f"{_OPENED} AND {_OPENING} AND isNotNull(held_us)"
        spreads = {
            "out": (digest.handshake["out"], held, f"{shaken} AND {_WAY} = 'out'"),
            "in": (digest.handshake["in"], held, f"{shaken} AND {_WAY} = 'in'"),
            "lifetime": (
                digest.lifetime, "toInt64(lifetime_us * 1000)", f"{_ENDED} AND isNotNull(lifetime_us)",
            ),
            "rtt": (digest.rtt, "toInt64(rtt_us) * 1000", f"{_ENDED} AND rtt_us > 0"),
        }  # fmt: skip
        kinds = ", ".join(f"('{name}', {test}, ifNull({ns}, 0))" for name, (_, ns, test) in spreads.items())
        for kind, bucket, counted, least, greatest in self._ask(
            f"SELECT kind.1, {_bucket('kind.3')} AS bucket, count(), min(kind.3), max(kind.3) FROM "
            f"(SELECT arrayJoin(arrayFilter(one -> one.2, [{kinds}])) AS kind FROM {self._told}) "
            f"GROUP BY kind.1, bucket"
        ):
            spreads[str(kind)][0].count_all(int(bucket), int(counted), int(least), int(greatest))

    def _group(self, by: str, key: str) -> None:
        tallies = self._digest.groups[by]
        nothing = "0" if by == "port" else "''"
        for name, *sums in self._ask(
            f"SELECT {key} AS name, {_SUMS} FROM {self._told} GROUP BY name HAVING name != {nothing} "
            f"ORDER BY 8 DESC, 4 DESC LIMIT {_MOST_KEYS + 1}"
        ):
            tallies[int(name) if by == "port" else str(name)] = Tally(*map(int, sums))
        if len(tallies) > _MOST_KEYS:
            tallies.popitem()
            self._digest.dropped.add(by)
        if by == "owner":
            self._late(tallies)

    def _late(self, tallies: dict[str | bytes | int, Tally]) -> None:
        """Connections whose owner was not known when they were opened are counted with the one who had them at the
        end.
        """
        for name, opened in self._ask(
            f"SELECT {_OWNER} AS name, count() FROM {self._told} AND {_ENDED} AND notEmpty(owners) "
            f"AND (host, run, id) IN (SELECT host, run, id FROM {self._told} AND {_OPENED} AND empty(owners)) "
            f"GROUP BY name HAVING name != ''"
        ):
            tally = tallies.setdefault(str(name), Tally())
            tally.opened += int(opened)
            tally.weight += int(opened)


def _bucket(ns: str) -> str:
    """As render.stats.Spread has it: the exponent of the number as a float is how many binary digits it has. (The least
    of engines, chdb-core-lite, shifts no bits.)
    """
    digits = f"toInt64(intDiv(reinterpretAsUInt64(toFloat64({ns})), {1 << 52})) - 1022"
    shift = f"({digits} - {_DIGITS})"
    wide = f"{shift} * {1 << _DIGITS} + intDiv({ns}, toInt64(exp2({shift})))"
    return f"if({ns} > 0 AND {shift} > 0, {wide}, {ns})"
