"""The digest of ``--stats``, counted by the engine: the same numbers as whoever reads the lines one by one comes to
(render.stats.Digest), with nothing of them read but what is counted.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from sstrace.causes import CAUSES, has_failed
from sstrace.fleet.engines import Asked
from sstrace.fleet.literals import listed
from sstrace.fleet.schema import address_text
from sstrace.fleet.sql import OLD, OPENING, Run, among, numbered, time
from sstrace.render.stats import Digest, Tally

__all__ = ["count"]

_MOST_KEYS: Final = 200_000
"""Of a grouping, as Digest has it."""
_DIGITS: Final = 6
"""See render.stats.Spread."""

_OPENED: Final = "to = 'ESTAB'"
_ENDED: Final = f"(ended AND NOT {_OPENED})"
_FAILED: Final = f"({_ENDED} AND cause IN ({listed(filter(has_failed, CAUSES))}))"
_CLOSED: Final = f"({_ENDED} AND NOT {_FAILED})"
_OPENING: Final = f"{OLD} IN {OPENING}"
_WAY: Final = f"multiIf(role = 'client', 'out', role = 'server' OR {_OPENED}, 'in', '')"
_PORT: Final = f"multiIf({_WAY} = 'out', dport, {_WAY} = 'in', sport, least(sport, dport))"
_PEER: Final = address_text("dst")
_OWNER: Final = "toString(owners.comm[1])"
"""Empty where nobody is known."""
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
        self._places = {(run.host, run.run): place for place, run in enumerate(runs)}
        self._within = among(runs)
        if window is not None:
            self._within += f" AND ts >= {time(window[0])} AND ts <= {time(window[1])}"
        self._condition = condition
        self._from = self._told = ""
        self._digest = into

    def count(self) -> dict[int, Tally]:
        digest = self._digest
        lost = f"SELECT DISTINCT host, run, seq, nth, count FROM lines WHERE {self._within} AND type = 'gap'"
        for (count,) in self._ask(f"SELECT sum(count) FROM ({lost})"):
            digest.lost = int(count)
        # FINAL: lines that came twice are one.
        self._from = f"lines FINAL WHERE {self._within} AND type IN ('state', 'life') AND ({self._condition})"
        self._told = f"{self._from} AND ({_OPENED} OR ended OR retransmits > 0)"
        for lines, first, last in self._ask(
            f"SELECT count(), toUnixTimestamp64Nano(min(ts)), toUnixTimestamp64Nano(max(ts)) FROM {self._from}"
        ):
            digest.transitions = int(lines)
            if lines:
                digest.first_ns, digest.last_ns = int(first), int(last)
        runs = self._totals()
        self._spreads()
        self._peers()
        self._late()
        return runs

    def _ask(self, sql: str) -> Iterator[tuple[Any, ...]]:
        answer = self._engine.ask(f"{sql} FORMAT JSONCompactEachRow")
        return map(_row.decode, answer.split(b"\n")[:-1])

    def _totals(self) -> dict[int, Tally]:
        """All sums but those of peers; how the connections of each run came to their ends, by port and owner."""
        digest = self._digest
        runs: dict[int, Tally] = {}
        groups = digest.groups
        for host, run, way, over, cause, port, owner, *sums in self._ask(
            f"SELECT host, run, {_WAY} AS way, toUInt8({_ENDED}) AS over, if(over, toString(cause), '') AS why, "
            f"{_PORT} AS port, {_OWNER} AS owner, {_SUMS} FROM {self._told} "
            f"GROUP BY host, run, way, over, why, port, owner"
        ):
            tally = Tally(*map(int, sums))
            digest.opened[way or "in"] += tally.opened
            digest.failed[way] += tally.failed
            digest.closed += tally.closed
            digest.retransmits += tally.retransmits
            digest.sent += tally.sent
            digest.received += tally.received
            if over:
                digest.causes[cause or "unknown"] += tally.failed + tally.closed
            runs.setdefault(self._places[host, run], Tally()).take(tally)
            if port:
                groups["port"].setdefault(int(port), Tally()).take(tally)
            if owner:
                groups["owner"].setdefault(owner, Tally()).take(tally)
        return runs

    def _spreads(self) -> None:
        digest = self._digest
        shaken = f"{_OPENED} AND {_OPENING} AND isNotNull(held_us)"
        for (out, inside), ns, test in (
            ((digest.handshake["out"], digest.handshake["in"]), "toInt64(held_us * 1000)", shaken),
            ((digest.lifetime,) * 2, "toInt64(lifetime_us * 1000)", f"{_ENDED} AND isNotNull(lifetime_us)"),
            ((digest.rtt,) * 2, "toInt64(rtt_us) * 1000", f"{_ENDED} AND rtt_us > 0"),
        ):
            for client, bucket, counted, least, greatest in self._ask(
                f"SELECT role = 'client' AS client, {_bucket('ns')} AS bucket, count(), min(ns), max(ns) FROM "
                f"(SELECT role, assumeNotNull({ns}) AS ns FROM {self._from} AND {test}) GROUP BY client, bucket"
            ):
                (out if client else inside).count_all(int(bucket), int(counted), int(least), int(greatest))

    def _peers(self) -> None:
        tallies = self._digest.groups["peer"]
        for name, *sums in self._ask(
            f"SELECT {_PEER} AS name, {_SUMS} FROM {self._told} GROUP BY family, dst "
            f"ORDER BY 8 DESC, 4 DESC LIMIT {_MOST_KEYS + 1}"
        ):
            tallies.setdefault(str(name), Tally()).take(Tally(*map(int, sums)))
        if len(tallies) > _MOST_KEYS:
            tallies.popitem()
            self._digest.dropped.add("peer")

    def _late(self) -> None:
        """Connections whose owner was not known when they were opened are counted with the one who had them at the
        end.
        """
        tallies = self._digest.groups["owner"]
        for name, opened in self._ask(
            f"SELECT {_OWNER} AS name, count() FROM {self._from} AND {_ENDED} AND name != '' "
            f"AND ({self._number}, id) IN "
            f"(SELECT {self._number}, id FROM {self._from} AND {_OPENED} AND {_OWNER} = '') GROUP BY name"
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
