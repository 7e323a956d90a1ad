"""A digest of many transitions → tables with bars, or NDJSON.

Enters: transitions as plain values, one ``add`` each. Leaves: text lines, or one JSON object a line. Nothing is kept of
a connection that has ended, and durations go into buckets 2 % wide, so any number of transitions can be digested.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

__all__ = ["Digest", "GroupLine", "SpreadLine", "StatsLine", "ndjson", "text"]

_BUCKETS = 50
"""A factor of e: each bucket is 2 % wider than the one below."""
_MOST_KEYS = 200_000
"""Of a grouping: against a scan over all addresses, keys met once are dropped when there are more."""
_BAR = 30

_FULL, _PARTS = "█", " ▏▎▍▌▋▊▉"


class Spread:
    """Durations: how many, least and greatest, and percentiles right to 2 %."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.least = 0
        self.greatest = 0

    def add(self, ns: int) -> None:
        """One duration."""
        self._buckets[round(math.log(ns) * _BUCKETS) if ns > 0 else -1] += 1
        if not self.count or ns < self.least:
            self.least = ns
        self.greatest = max(self.greatest, ns)
        self.count += 1

    def percentile(self, share: float) -> int:
        """Duration, ns, that this share of all does not exceed; 0 when there are none."""
        due = math.ceil(self.count * share)
        for bucket in sorted(self._buckets):
            due -= self._buckets[bucket]
            if due <= 0:
                ns = round(math.exp(bucket / _BUCKETS)) if bucket >= 0 else 0
                return min(max(ns, self.least), self.greatest)
        return 0


class Tally(msgspec.Struct):
    """Of one peer, port or owner."""

    opened: int = 0
    failed: int = 0
    closed: int = 0
    retransmits: int = 0

    @property
    def weight(self) -> int:
        """Connections begun."""
        return self.opened + self.failed


_SYN_SENT, _SYN_RECV, _ESTAB, _CLOSE, _LISTEN, _TIME_WAIT = (
    "SYN-SENT",
    "SYN-RECV",
    "ESTAB",
    "UNCONN",
    "LISTEN",
    "TIME-WAIT",
)


class Digest:
    """Counts. States are in ss's words."""

    def __init__(self) -> None:
        self.transitions = 0
        self.lost = 0
        self.opened = {"out": 0, "in": 0}
        self.failed = {"out": 0, "in": 0}
        self.closed = 0
        self.retransmits = 0
        self.handshake = {"out": Spread(), "in": Spread()}
        self.lifetime = Spread()
        self.groups: dict[str, dict[str, Tally]] = {"peer": {}, "port": {}, "owner": {}}
        self.causes: Counter[str] = Counter()
        self.first_ns: int | None = None
        self.last_ns = 0
        self._opened: dict[int, tuple[int | None, str]] = {}

    def add(
        self,
        at_ns: int,
        connection: int,
        *,
        old: str,
        new: str,
        held_ns: int | None,
        peer: str,
        ports: tuple[int, int],
        owner: str,
        cause: str | None,
        retransmits: int,
    ) -> None:
        """One transition. ``ports``: local, remote. ``owner``: a process's name; "" when unknown."""
        self.transitions += 1
        if self.first_ns is None or at_ns < self.first_ns:
            self.first_ns = at_ns
        self.last_ns = max(self.last_ns, at_ns)
        if _LISTEN in (old, new):
            return
        known = self._opened.get(connection)
        if new == _SYN_SENT:
            self._opened[connection] = None, "out"
            return
        if new == _ESTAB:
            way = "out" if old == _SYN_SENT or (known is not None and known[1] == "out") else "in"
            self._opened[connection] = at_ns, way
            self.opened[way] += 1
            if held_ns is not None:
                self.handshake[way].add(held_ns)
            what = "opened"
        elif new == _CLOSE and old in (_SYN_SENT, _SYN_RECV):
            way = "out" if old == _SYN_SENT else "in"
            self.failed[way] += 1
            self.causes[cause or "unknown"] += 1
            self._opened.pop(connection, None)
            what = "failed"
        elif new == _TIME_WAIT or (new == _CLOSE and old != _TIME_WAIT):
            way = known[1] if known is not None else ""
            self.closed += 1
            if new == _TIME_WAIT:
                cause = cause or "fin-by-us"
            self.causes[cause or "unknown"] += 1
            if known is not None:
                if known[0] is not None:
                    self.lifetime.add(at_ns - known[0])
                del self._opened[connection]
            what = "closed"
        else:
            if not retransmits:
                return
            way, what = known[1] if known is not None else "", ""
        local, remote = ports
        # A connection is of the port that was called: the lower one where nobody saw who called.
        port = remote if way == "out" else local if way == "in" else min(local, remote)
        self.retransmits += retransmits
        for by, key in (("peer", peer), ("port", str(port)), ("owner", owner)):
            if not key:
                continue
            tallies = self.groups[by]
            tally = tallies.get(key)
            if tally is None:
                if len(tallies) >= _MOST_KEYS:
                    self.groups[by] = tallies = {k: t for k, t in tallies.items() if t.weight > 1 or t.retransmits}
                tally = tallies[key] = Tally()
            if what:
                setattr(tally, what, getattr(tally, what) + 1)
            tally.retransmits += retransmits

    def top(self, by: str, most: int) -> list[tuple[str, Tally]]:
        """The keys of a grouping with most connections begun, then most closed."""
        tallies = self.groups[by].items()
        return sorted(tallies, key=lambda item: (-item[1].weight, -item[1].closed, item[0]))[:most]


class StatsLine(msgspec.Struct, tag="stats", tag_field="type", kw_only=True):
    """All together."""

    from_: str = msgspec.field(name="from")
    """RFC 3339, UTC."""
    to: str
    transitions: int
    lost: int
    opened_out: int
    opened_in: int
    failed_out: int
    failed_in: int
    closed: int
    retransmits: int


class SpreadLine(msgspec.Struct, tag="stats_spread", tag_field="type", kw_only=True):
    """Durations in microseconds; percentiles are right to 2 %."""

    of: str
    """handshake_out, handshake_in, lifetime."""
    count: int
    min_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


class GroupLine(msgspec.Struct, tag="stats_group", tag_field="type", kw_only=True, omit_defaults=True):
    """One peer, port, owner or cause. A cause has only ``count``."""

    by: str
    key: str
    opened: int | None = None
    failed: int | None = None
    closed: int | None = None
    retransmits: int | None = None
    count: int | None = None


def _spreads(digest: Digest) -> Iterator[tuple[str, Spread]]:
    yield "handshake_out", digest.handshake["out"]
    yield "handshake_in", digest.handshake["in"]
    yield "lifetime", digest.lifetime


def ndjson(digest: Digest, began: str, ended: str, most: int) -> bytes:
    """One line of totals, then the spreads and groups. ``began``, ``ended``: RFC 3339; ``most``: lines a grouping."""
    lines: list[StatsLine | SpreadLine | GroupLine] = [
        StatsLine(
            from_=began,
            to=ended,
            transitions=digest.transitions,
            lost=digest.lost,
            opened_out=digest.opened["out"],
            opened_in=digest.opened["in"],
            failed_out=digest.failed["out"],
            failed_in=digest.failed["in"],
            closed=digest.closed,
            retransmits=digest.retransmits,
        )
    ]
    for of, spread in _spreads(digest):
        if spread.count:
            p50, p90, p99 = (spread.percentile(share) / 1000 for share in (0.5, 0.9, 0.99))
            lines.append(
                SpreadLine(
                    of=of,
                    count=spread.count,
                    min_us=spread.least / 1000,
                    p50_us=p50,
                    p90_us=p90,
                    p99_us=p99,
                    max_us=spread.greatest / 1000,
                )
            )
    for by in digest.groups:
        for key, tally in digest.top(by, most):
            lines.append(
                GroupLine(
                    by=by,
                    key=key,
                    opened=tally.opened,
                    failed=tally.failed,
                    closed=tally.closed,
                    retransmits=tally.retransmits,
                )
            )
    lines += [GroupLine(by="cause", key=cause, count=count) for cause, count in digest.causes.most_common(most)]
    return msgspec.json.Encoder().encode_lines(lines)


def text(digest: Digest, began: str, ended: str, most: int) -> str:
    """Tables for people; every line ends in a newline. See ``ndjson``."""
    out, inside = digest.opened["out"], digest.opened["in"]
    failed_out, failed_in = digest.failed["out"], digest.failed["in"]
    lines = [
        f"{began} to {ended}: {digest.transitions} transitions, {digest.lost} events lost",
        f"opened {out + inside} ({out} out, {inside} in), failed {failed_out + failed_in} ({failed_out} out, "
        f"{failed_in} in), closed {digest.closed}, retransmits {digest.retransmits}",
    ]
    spreads = [
        (
            of.replace("_", " "),
            str(spread.count),
            *(_duration(ns) for ns in (spread.least, *map(spread.percentile, (0.5, 0.9, 0.99)), spread.greatest)),
        )
        for of, spread in _spreads(digest)
        if spread.count
    ]
    if spreads:
        lines += ["", *_table(("duration of", "count", "min", "p50", "p90", "p99", "max"), spreads, None)]
    for by in digest.groups:
        top = digest.top(by, most)
        if top:
            rows = [(_safe(key), *map(str, (t.opened, t.failed, t.closed, t.retransmits))) for key, t in top]
            head = (by, "opened", "failed", "closed", "retransmits")
            lines += ["", *_table(head, rows, [t.weight for _, t in top]), *_more(len(digest.groups[by]), most)]
    if digest.causes:
        causes = digest.causes.most_common(most)
        rows = [(cause, str(count)) for cause, count in causes]
        lines += ["", *_table(("cause of the end", "count"), rows, [count for _, count in causes])]
        lines += _more(len(digest.causes), most)
    return "\n".join(lines) + "\n"


def _more(count: int, most: int) -> list[str]:
    return [f"({count - most} more)"] if count > most else []


def _safe(key: str) -> str:
    return key if key.isprintable() else key.encode("unicode_escape").decode("ascii")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]], weights: list[int] | None) -> Iterator[str]:
    """Lines: the first column to the left, numbers to the right, a bar at the end of each row."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    greatest = max(weights, default=0) if weights else 0
    for index, row in enumerate((head, *rows)):
        line = "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        if index and weights and greatest:
            line += "  " + _bar(weights[index - 1] / greatest)
        yield line.rstrip()


def _bar(share: float) -> str:
    """``share`` of 30 characters, in eighths."""
    eighths = round(share * _BAR * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return _FULL * (eighths // 8) + _PARTS[eighths % 8].strip()


def _duration(ns: int) -> str:
    if ns < 1_000_000:
        return f"{ns / 1e3:.0f}us"
    if ns < 10_000_000_000:
        return f"{ns / 1e6:.1f}ms"
    seconds = ns / 1e9
    return f"{seconds:.1f}s" if seconds < 600 else f"{seconds / 60:.0f}min"
