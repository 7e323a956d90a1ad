"""A digest of many transitions → tables with bars, or NDJSON.

Leaves: text lines, or one JSON object a line.
"""

from collections.abc import Iterable, Iterator

import msgspec

from sstrace.plain import counted, plain
from sstrace.render.digest import Digest
from sstrace.render.spread import Spread
from sstrace.render.times import span_text
from sstrace.render.width import amount

__all__ = ["GroupLine", "SpreadLine", "StatsLine", "ndjson", "spreads", "text"]

_WIDTH, _BAR, _SHORT_BAR = 80, 30, 10
"""Columns that a line shall not exceed; those of a bar, where there is room, and where there is none."""

_FULL, _PARTS = "█", " ▏▎▍▌▋▊▉"


class StatsLine(msgspec.Struct, tag="stats", tag_field="type", kw_only=True):
    """All together."""

    from_: str = msgspec.field(name="from")
    """RFC 3339, UTC; ``-`` where a recording tells of nothing that is counted."""
    to: str
    transitions: int
    lost: int
    opened_out: int
    opened_in: int
    failed: int
    """Connections that ended by a cause that means failure, whether or not they had been opened."""
    failed_out: int
    """Of these, those that this end called; ``failed_in``: that the peer called. Of the rest nobody saw who called."""
    failed_in: int
    closed: int
    """Connections that ended by any other cause: ``failed`` and ``closed`` are all that ended."""
    retransmits: int
    bytes_sent: int
    """Payload of the connections that have ended, each byte once; of what happens from now on, and of a server, also
    what the others have carried so far.
    """
    bytes_received: int


class SpreadLine(msgspec.Struct, tag="stats_spread", tag_field="type", kw_only=True):
    """Durations in microseconds; percentiles are right to 2 %."""

    of: str
    """handshake_out, handshake_in, lifetime, rtt (smoothed, as each connection ended with it)."""
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
    bytes_sent: int | None = None
    bytes_received: int | None = None
    count: int | None = None


def spreads(digest: Digest) -> Iterator[tuple[str, Spread]]:
    """What there are durations of, by its name in NDJSON."""
    yield "handshake_out", digest.handshake["out"]
    yield "handshake_in", digest.handshake["in"]
    yield "lifetime", digest.lifetime
    yield "rtt", digest.rtt


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
            failed=sum(digest.failed.values()),
            failed_out=digest.failed["out"],
            failed_in=digest.failed["in"],
            closed=digest.closed,
            retransmits=digest.retransmits,
            bytes_sent=digest.sent,
            bytes_received=digest.received,
        )
    ]
    for of, spread in spreads(digest):
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
                    bytes_sent=tally.sent,
                    bytes_received=tally.received,
                )
            )
    lines += [GroupLine(by="cause", key=cause, count=count) for cause, count in digest.ends(most)]
    return msgspec.json.Encoder().encode_lines(lines)


def text(digest: Digest, began: str, ended: str, most: int) -> str:
    """Tables for people; every line ends in a newline. See ``ndjson``."""
    out, inside = digest.opened["out"], digest.opened["in"]
    failed_out, failed_in = digest.failed["out"], digest.failed["in"]
    lines = [
        *([f"{began} to {ended}"] if (began, ended) != ("-", "-") else []),
        f"{counted(digest.transitions, 'transition')}, {counted(digest.lost, 'event')} lost",
        f"opened {out + inside} ({out} out, {inside} in), failed {sum(digest.failed.values())} ({failed_out} out, "
        f"{failed_in} in), closed {digest.closed}",
        f"retransmits {digest.retransmits}",
    ]
    if digest.sent or digest.received:
        lines[-1] += f", sent {amount(digest.sent)}, received {amount(digest.received)}"
    durations = [
        (
            of.replace("_", " "),
            str(spread.count),
            *(span_text(ns) for ns in (spread.least, *map(spread.percentile, (0.5, 0.9, 0.99)), spread.greatest)),
        )
        for of, spread in spreads(digest)
        if spread.count
    ]
    if durations:
        lines += ["", *_table(("duration of", "count", "min", "p50", "p90", "p99", "max"), durations, None)]
    for by in digest.groups:
        top = digest.top(by, most)
        if top:
            rows = [
                (
                    plain(key),
                    *map(str, (t.opened, t.failed, t.closed, t.retransmits)),
                    amount(t.sent),
                    amount(t.received),
                )
                for key, t in top
            ]
            head = (by, "opened", "failed", "closed", "retransmits", "sent", "recv")
            lines += ["", *_table(head, rows, [t.weight for _, t in top])]
            lines += _more(len(digest.groups[by]), most, at_least=by in digest.dropped)
    if digest.causes:
        causes = digest.ends(most)
        rows = [(plain(cause), str(count)) for cause, count in causes]
        lines += ["", *_table(("cause of the end", "count"), rows, [count for _, count in causes])]
        lines += _more(len(digest.causes), most)
    return "\n".join(lines) + "\n"


def _more(count: int, most: int, *, at_least: bool = False) -> list[str]:
    return [f"({'at least ' if at_least else ''}{count - most} more)"] if count > most else []


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
            line += "  " + _bar(weights[index - 1] / greatest, min(max(_WIDTH - 2 - len(line), _SHORT_BAR), _BAR))
        yield line.rstrip()


def _bar(share: float, width: int) -> str:
    """``share`` of so many characters, in eighths."""
    eighths = round(share * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return _FULL * (eighths // 8) + _PARTS[eighths % 8].strip()
