"""The digest of ``--stats``, counted by the engine: the same numbers as whoever reads the lines one by one comes to
(render.digest.Digest). Whole slices of the window are asked for by the sums that the engine keeps (sstrace.fleet.sums);
of its edges, and where lines came twice, the lines are read, each once.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from sstrace.causes import CAUSES, has_failed
from sstrace.fleet.engines import Asked
from sstrace.fleet.literals import listed, quoted
from sstrace.fleet.schema import address_text
from sstrace.fleet.sql import Run, among, numbered, time
from sstrace.fleet.sums import (
    CARRIED,
    COUNTED,
    LINES,
    LOST,
    NUMBERS,
    OPENED,
    OPENED_FROM,
    OVER,
    OWNER,
    PEER,
    PORT,
    SLICE,
    SLICE_NS,
    SPREADS,
    TIMES,
)
from sstrace.render.digest import Digest, Tally

__all__ = ["count"]

_MOST_KEYS: Final = 200_000
"""Of a grouping, as Digest has it."""
_MOST_TWICE: Final = 100
"""Slices in which lines came twice: of more every line is read."""

_HOW: Final = f"cause, {OPENED} AS opened, {OVER} AS over, {OPENED_FROM} AS shaken"
_BEGUN: Final = "opened OR (over AND shaken)"
_FAILED: Final = f"over AND cause IN ({listed(filter(has_failed, CAUSES))})"

_row = msgspec.json.Decoder(tuple[Any, ...])


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
        self._among = among(runs)
        self._window = window
        self._told = f"type IN {COUNTED} AND ({condition})"
        self._pieces: list[str] = []
        """Of the window, each a table and a condition; in each every line stands once."""
        self._digest = into
        self._unowned = False
        """Whether connections were opened whose owner was not known then."""

    def count(self) -> dict[int, Tally]:
        self._cut()
        runs = self._totals()
        self._spreads()
        self._peers()
        if self._unowned:
            self._late()
        return runs

    def _ask(self, sql: str) -> Iterator[tuple[Any, ...]]:
        answer = self._engine.ask(f"{sql} FORMAT JSONCompactEachRow")
        return map(_row.decode, answer.split(b"\n")[:-1])

    def _each(self, select: str, by: str) -> Iterator[tuple[Any, ...]]:
        """The answers of all pieces, of the lines that are counted."""
        for piece in self._pieces:
            yield from self._ask(f"SELECT {select} FROM {piece} AND {self._told} GROUP BY {by}")

    def _cut(self) -> None:
        """Make the pieces, and count on the way what was lost."""
        whole, edges = self._among, []
        if self._window is not None:
            first, end = -(-self._window[0] // SLICE_NS) * SLICE_NS, (self._window[1] + 1) // SLICE_NS * SLICE_NS
            end = max(first, end)
            whole += f" AND {SLICE} >= {_slice(first)} AND {SLICE} < {_slice(end)}"
            edges = [f"ts < {time(first)}", f"ts >= {time(end)}"]
        twice = []
        for host, run, begin, lines, numbers, lost in self._ask(
            f"SELECT host, run, toUnixTimestamp({SLICE}), {LINES}, {NUMBERS}, {LOST} FROM lines WHERE {whole} "
            f"GROUP BY host, run, {SLICE}"
        ):
            if int(lines) != int(numbers):
                twice.append((host, run, int(begin) * 1_000_000_000))
            else:
                self._digest.lost += int(lost)
        if len(twice) > _MOST_TWICE:
            self._digest.lost = 0
            edges = ["1"]
        else:
            if twice:
                named = ", ".join(f"({quoted(host)}, {quoted(run)}, {_slice(at)})" for host, run, at in twice)
                whole += f" AND (host, run, {SLICE}) NOT IN ({named})"
            edges += [
                f"({among([Run(host, run)])} AND ts >= {time(at)} AND ts < {time(at + SLICE_NS)})"
                for host, run, at in twice
            ]
            self._pieces.append(f"lines WHERE {whole}")
        if edges:
            rest = f"lines FINAL WHERE {self._within()} AND ({' OR '.join(edges)})"
            self._pieces.append(rest)
            for (lost,) in self._ask(f"SELECT sum(count) FROM {rest} AND type = 'gap'"):
                self._digest.lost += int(lost or 0)

    def _within(self) -> str:
        window = self._window
        return self._among + (f" AND ts >= {time(window[0])} AND ts <= {time(window[1])}" if window is not None else "")

    def _totals(self) -> dict[int, Tally]:
        """All sums but those of peers; how the connections of each run came to their ends, by port and owner."""
        digest, groups = self._digest, self._digest.groups
        runs: dict[int, Tally] = {}
        for host, run, role, cause, opened, over, shaken, port, owner, *sums, first, last in self._each(
            f"host, run, role, {_HOW}, {PORT} AS port, {OWNER} AS owner, {', '.join(CARRIED)}, "
            + ", ".join(f"toUnixTimestamp64Nano({one})" for one in TIMES),
            "host, run, role, cause, opened, over, shaken, port, owner",
        ):
            lines, retransmits, sent, received = map(int, sums)
            digest.transitions += lines
            digest.first_ns = min(int(first), digest.first_ns if digest.first_ns is not None else int(first))
            digest.last_ns = max(int(last), digest.last_ns)
            if not (opened or over or retransmits):
                continue
            failed = over and has_failed(cause)
            tally = Tally(
                opened=lines if opened else 0,
                failed=lines if failed else 0,
                closed=lines if over and not failed else 0,
                retransmits=retransmits,
                sent=sent if over else 0,
                received=received if over else 0,
                weight=lines if opened or (over and shaken) else 0,
            )
            way = "out" if role == "client" else "in" if role == "server" or opened else ""
            digest.opened[way or "in"] += tally.opened
            digest.failed[way] += tally.failed
            digest.closed += tally.closed
            digest.retransmits += tally.retransmits
            digest.sent += tally.sent
            digest.received += tally.received
            if over:
                digest.causes[cause or "unknown"] += lines
            self._unowned |= bool(opened) and not owner
            runs.setdefault(self._places[host, run], Tally()).take(tally)
            if port:
                groups["port"].setdefault(int(port), Tally()).take(tally)
            if owner:
                groups["owner"].setdefault(owner, Tally()).take(tally)
        return runs

    def _spreads(self) -> None:
        digest = self._digest
        for client, *found in self._each(f"role = 'client' AS client, {', '.join(SPREADS)}", "client"):
            spreads = (digest.handshake["out" if client else "in"], digest.lifetime, digest.rtt)
            for number, spread in enumerate(spreads):
                buckets, least, greatest = found[3 * number : 3 * number + 3]
                for bucket, counted in buckets.items():
                    spread.count_all(int(bucket), int(counted), int(least), int(greatest))

    def _peers(self) -> None:
        tallies = self._digest.groups["peer"]
        carried = ", ".join(f"{one} AS sum{number}" for number, one in enumerate(CARRIED))
        sums = (
            f"sumIf(sum0, opened) AS opens, sumIf(sum0, {_FAILED}) AS fails, sumIf(sum0, over) - fails AS closes, "
            f"sum(sum1) AS retransmits, sumIf(sum2, over), sumIf(sum3, over), sumIf(sum0, {_BEGUN}) AS begun"
        )
        for piece in self._pieces:
            for name, *counted in self._ask(
                f"SELECT {address_text('peer')}, {sums} FROM (SELECT family, {_HOW}, {PEER} AS peer, {carried} "
                f"FROM {piece} AND {self._told} GROUP BY family, cause, opened, over, shaken, peer) "
                f"GROUP BY family, peer HAVING opens + fails + closes + retransmits > 0 "
                f"ORDER BY begun DESC, closes DESC LIMIT {_MOST_KEYS + 1}"
            ):
                tallies.setdefault(str(name), Tally()).take(Tally(*map(int, counted)))
        while len(tallies) > _MOST_KEYS:
            tallies.popitem()
            self._digest.dropped.add("peer")

    def _late(self) -> None:
        """Connections whose owner was not known when they were opened are counted with the one who had them at the
        end.
        """
        tallies = self._digest.groups["owner"]
        lines = f"FROM lines WHERE {self._within()} AND {self._told}"
        for name, opened in self._ask(
            f"SELECT {OWNER} AS name, uniqExact({self._number}, id) {lines} AND {OVER} AND name != '' "
            f"AND ({self._number}, id) IN (SELECT {self._number}, id {lines} AND {OPENED} AND {OWNER} = '') "
            "GROUP BY name"
        ):
            tally = tallies.setdefault(str(name), Tally())
            tally.opened += int(opened)
            tally.weight += int(opened)


def _slice(at_ns: int) -> str:
    return f"toDateTime({at_ns // 1_000_000_000}, 'UTC')"
