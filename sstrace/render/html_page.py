"""A digest → one HTML page that needs nothing else: no network, no script. ``--stats --html`` writes it.

Enters: ``Pictured``. Leaves: the bytes of a page. Each number is one of ``--stats``, or a part of one: all columns of a
timeline, all pairs of an owner or a peer, and all bars of a distribution come to what ``--stats`` says of it.
"""

import math
from collections.abc import Iterator
from typing import Final

from sstrace.causes import CAUSES, has_failed
from sstrace.render.digest import Tally, key_text
from sstrace.render.events import timestamp
from sstrace.render.html_counts import CLOSED, OPENED, Pictured
from sstrace.render.html_flow import flow
from sstrace.render.html_parts import bar, carried, columns, number, said, span, table
from sstrace.render.html_style import STYLE
from sstrace.render.spread import Spread
from sstrace.render.stats import spreads
from sstrace.render.times import moment, span_text, time_of_day

__all__ = ["page"]

_HEADS: Final = {"host": "Hosts", "peer": "Peers", "port": "Ports", "owner": "Processes"}
_DURATIONS: Final = {
    "handshake_out": "Handshakes, of connections to others",
    "handshake_in": "Handshakes, of connections from others",
    "lifetime": "Lifetimes",
    "rtt": "Round-trip times, as connections ended with them",
}
_COLOURS: Final = 6
"""Of causes; further ones begin anew."""
_PER_OCTAVE: Final = 2
"""Bars of a distribution from a duration to its double."""


def page(digest: Pictured, began_ns: int | None, ended_ns: int | None, offset: int, most: int, *, utc: bool) -> bytes:
    """The page. ``began_ns``, ``ended_ns``: since 1970 UTC, None where nothing tells them; ``offset``: what makes the
    digest's times such; ``most``: lines a grouping; ``utc``: its times are UTC's, else this machine's zone's.
    """
    parts = [_totals(digest)]
    if not digest.transitions:
        parts.append('<p class="faint">Nothing has happened in that time.</p>\n')
    if digest.timeline.columns:
        parts += [_timeline(digest, offset, utc=utc), _causes(digest, most)]
    if digest.pairs:
        parts.append(_pairs(digest, most))
    if any(spread.count for _, spread in spreads(digest)):
        parts.append(_durations(digest))
    parts += _talkers(digest, most)
    times = " to ".join(
        f'<time datetime="{timestamp(at)}">{moment(at, utc=utc)[:10]} {said(time_of_day(at, utc=utc))}</time>'
        for at in (began_ns, ended_ns)
        if at is not None
    )
    text = (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n<meta charset="utf-8"/>\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        '<meta name="color-scheme" content="light dark"/>\n<title>Connections, counted by sstrace</title>\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Connections</h1>\n"
        f'<p class="faint">{times}</p>\n{"".join(parts)}</body>\n</html>\n'
    )
    return text.encode()


def _section(name: str, title: str, words: str, *parts: str) -> str:
    return f'<section id="{name}">\n<h2>{title}</h2>\n<p class="faint">{words}</p>\n{"".join(parts)}</section>\n'


def _totals(digest: Pictured) -> str:
    """The lines with which the text begins."""
    out, inside = digest.opened["out"], digest.opened["in"]
    failed = digest.failed

    def both(ways: tuple[int, int]) -> str:
        return f"<small>{number(ways[0])} out, {number(ways[1])} in</small>"

    cards = [
        ("opened", number(out + inside) + both((out, inside))),
        ("failed", number(sum(failed.values())) + both((failed["out"], failed["in"]))),
        ("closed", number(digest.closed)),
        ("retransmits", number(digest.retransmits)),
        ("sent", carried(digest.sent)),
        ("received", carried(digest.received)),
        ("transitions", number(digest.transitions)),
        ("events lost", number(digest.lost)),
    ]
    return "<dl>\n" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>\n" for name, value in cards) + "</dl>\n"


def _kinds(digest: Pictured) -> dict[str, str]:
    """Causes that mean failure, the most frequent first → the class that paints them."""
    failures = [cause for cause, _ in digest.ends(len(digest.causes)) if has_failed(cause)]
    return {cause: f"s{place % _COLOURS}" for place, cause in enumerate(failures)}


def _timeline(digest: Pictured, offset: int, *, utc: bool) -> str:
    """Opened, closed and failed, each as a strip of columns over the same time."""
    timeline = digest.timeline
    kinds = _kinds(digest)
    first, count, width = timeline.first, timeline.last - timeline.first + 1, 1 << timeline.shift
    strips = []
    for name, painted in ((OPENED, {OPENED: "opened"}), (CLOSED, {CLOSED: "closed"}), ("failed", kinds)):
        stacks = []
        for column, counts in sorted(timeline.columns.items()):
            there = [(what, counts[what]) for what in painted if counts[what]]
            if there:
                at = time_of_day(column * width + offset, utc=utc)
                told = ", ".join(f"{times} {what}" for what, times in there)
                stacks.append((column - first, f"{at}: {told}", [(painted[what], times) for what, times in there]))
        total = sum(sum(times for _, times in parts) for _, _, parts in stacks)
        highest = max((sum(times for _, times in parts) for _, _, parts in stacks), default=0)
        strips.append(f"<h3>{name} {number(total)} <small>at most {highest} a column</small></h3>\n")
        strips.append(columns(f"{name} over time", count, stacks))
    start = time_of_day(first * width + offset, utc=utc)
    marks = (start, f"+{span_text(count * width // 2)}", f"+{span_text(count * width)}")
    strips.append('<div class="axis">' + "".join(f"<span>{said(mark)}</span>" for mark in marks) + "</div>\n")
    words = f"A column is {span_text(width)} wide."
    return _section("timeline", "Over time", words, f'<div class="strip">{"".join(strips)}</div>\n')


def _causes(digest: Pictured, most: int) -> str:
    """Why connections ended; what has a colour is a failure, and has it above."""
    if not digest.causes:
        return ""
    kinds = _kinds(digest)
    found = digest.ends(most)
    greatest = found[0][1]
    rows = []
    for cause, count in found:
        kind = kinds.get(cause, "closed")
        key = f'<svg class="key" aria-hidden="true" viewBox="0 0 1 1"><rect class="{kind}" width="1" height="1"/></svg>'
        meaning = f"<br/><small>{said(CAUSES[cause].meaning)}</small>" if cause in CAUSES else ""
        rows.append((f"{key}{said(cause)}{meaning}", number(count), bar(count, greatest)))
    words = "Each end once. What is grey above and here is no failure."
    return _section(
        "causes", "Why they ended", words, table(("cause", "count", ""), rows), _more(len(digest.causes), most)
    )


def _pairs(digest: Pictured, most: int) -> str:
    words = "Processes, and the other ends of their connections; a ribbon is as thick as connections began."
    if digest.pairs_dropped:
        words += " There were too many pairs: the lightest are not counted here."
    return _section("pairs", "Who talks to whom", words, flow(digest, most))


def _more(count: int, most: int, *, at_least: bool = False) -> str:
    return f'<p class="faint">{"at least " if at_least else ""}{count - most} more</p>\n' if count > most else ""


def _durations(digest: Pictured) -> str:
    drawn = []
    for of, spread in spreads(digest):
        if not spread.count:
            continue
        marks = [("min", spread.least)]
        marks += [(f"p{share}", spread.percentile(share / 100)) for share in (50, 90, 99)]
        marks.append(("max", spread.greatest))
        told = table(("count", *(name for name, _ in marks)), [(number(spread.count), *(span(ns) for _, ns in marks))])
        drawn.append(
            f'<div id="{of}"><h3>{_DURATIONS[of]}</h3>\n<div class="strip">{_bars(of, spread)}</div>\n{told}</div>\n'
        )
    words = "Each bar reaches from a duration to 1.4 times that; percentiles are right to 2 %."
    return _section("durations", "How long it took", words, f'<div class="spreads">{"".join(drawn)}</div>\n')


def _bars(of: str, spread: Spread) -> str:
    """A distribution, its durations on a logarithmic scale."""
    bins: dict[int, int] = {}
    for ns, count in spread.counts():
        place = _place(ns)
        bins[place] = bins.get(place, 0) + count
    first, last = min(bins), max(bins)
    stacks = [
        (place - first, f"{span_text(_edge(place))} to {span_text(_edge(place + 1))}: {count}", [("spread", count)])
        for place, count in sorted(bins.items())
    ]
    ends = (span_text(_edge(first)), span_text(_edge(last + 1)))
    axis = "".join(f"<span>{end}</span>" for end in ends)
    return columns(f"{of}: how many took how long", last - first + 1, stacks) + f'<div class="axis">{axis}</div>'


def _place(ns: int) -> int:
    """The bar of a duration: by halves of octaves."""
    octave = max(ns, 1).bit_length() - 1
    return _PER_OCTAVE * octave + (ns * ns >= 1 << 2 * octave + 1)


def _edge(place: int) -> int:
    """Where a bar begins, ns."""
    return round(math.exp2(place / _PER_OCTAVE))


def _talkers(digest: Pictured, most: int) -> Iterator[str]:
    """The tables of --stats, each once by connections and once by bytes."""
    for by in digest.groups:
        top = digest.top(by, most)
        if not top:
            continue
        greatest = max(tally.weight for _, tally in top)
        rows = [
            (said(key), *map(number, (t.opened, t.failed, t.closed, t.retransmits)), bar(t.weight, greatest))
            for key, t in top
        ]
        parts = ["<h3>By connections</h3>\n", table((by, "opened", "failed", "closed", "retransmits", ""), rows)]
        parts.append(_more(len(digest.groups[by]), most, at_least=by in digest.dropped))
        carriers = _carriers(digest, by, most)
        if carriers:
            greatest = carriers[0][1].sent + carriers[0][1].received
            rows = [
                (said(key), carried(t.sent), carried(t.received), bar(t.sent + t.received, greatest))
                for key, t in carriers
            ]
            parts += ["<h3>By bytes</h3>\n", table((by, "sent", "recv", ""), rows)]
        words = "Bytes are payload: of connections that have ended, and of others up to the end."
        yield _section(by, _HEADS.get(by, by), words, *parts)


def _carriers(digest: Pictured, by: str, most: int) -> list[tuple[str, Tally]]:
    """The keys of a grouping whose connections carried most, both ways."""
    carried_any = (item for item in digest.groups[by].items() if item[1].sent or item[1].received)
    found = sorted(carried_any, key=lambda item: (-item[1].sent - item[1].received, item[0]))[:most]
    return [(key_text(by, key), tally) for key, tally in found]
