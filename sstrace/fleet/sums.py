"""What the engine keeps the sums of, as projections of the table ``lines``: every ten minutes of each run, summed up as
``--stats`` counts them (sstrace.fleet.counted).

A projection lies in each part beside the lines that it was made of, and comes, merges and goes with them. A question in
its words is answered from it; from the lines, where a part is older than it. The same row, come twice, is summed up
twice until parts have been merged: ``numbers`` tells in which ten minutes.
"""

from collections.abc import Sequence
from typing import Final

from sstrace.fleet.sql import OLD, OPENING

__all__ = [
    "CARRIED",
    "COUNTED",
    "LINES",
    "LOST",
    "NUMBERS",
    "OPENED",
    "OPENED_FROM",
    "OVER",
    "OWNER",
    "PEER",
    "PORT",
    "SETTINGS",
    "SLICE",
    "SLICE_NS",
    "SPREADS",
    "TIMES",
    "projections",
]

SLICE_NS: Final = 600_000_000_000
SLICE: Final = "toStartOfTenMinutes(ts)"
COUNTED: Final = "('state', 'life')"
"""Types of the lines that are counted."""

OPENED: Final = "to = 'ESTAB'"
OVER: Final = f"ended AND NOT {OPENED}"
OPENED_FROM: Final = f"{OLD} IN {OPENING}"
"""Whether what happened ended a handshake."""
_TELLS: Final = f"({OPENED} OR ended OR ifNull(retransmits, 0) > 0)"
"""Whether a line tells of more than a state."""
PORT: Final = (
    f"multiIf(NOT {_TELLS}, 0, role = 'client', dport, role = 'server' OR {OPENED}, sport, least(sport, dport))"
)
"""As render.digest.called has it."""
OWNER: Final = f"if({_TELLS}, toString(tupleElement(owners[1], 'comm')), '')"
"""Empty where nobody is known."""
PEER: Final = f"if({_TELLS}, dst, toIPv6('::'))"
_OF_EACH: Final = ("type", "netid", "family", "cause")
_HOW: Final = (*_OF_EACH, OPENED, OVER, OPENED_FROM)


CARRIED: Final = (
    "count()", "sum(ifNull(retransmits, 0))", "sum(ifNull(bytes_sent, 0))", "sum(ifNull(bytes_received, 0))",
)  # fmt: skip
TIMES: Final = ("min(ts)", "max(ts)")

_DIGITS: Final = 6
"""See render.spread."""


def _ns(column: str) -> str:
    """Microseconds with three digits behind the point are kept as nanoseconds."""
    return f"reinterpretAsInt64(assumeNotNull({column}))"


def _bucket(ns: str) -> str:
    """As render.spread.Spread has it: the exponent of the number as a float is how many binary digits it has. (The
    least of engines, chdb-core-lite, shifts no bits.)
    """
    digits = f"toInt64(intDiv(reinterpretAsUInt64(toFloat64(greatest({ns}, toInt64(1)))), {1 << 52})) - 1022"
    shift = f"greatest({digits} - {_DIGITS}, toInt64(0))"  # no row can fail to be summed up, whatever stands in it
    return f"if({shift} > 0, {shift} * {1 << _DIGITS} + intDiv({ns}, toInt64(exp2({shift}))), {ns})"


DURATIONS: Final = {
    "handshake": (_ns("held_us"), f"{OPENED} AND {OPENED_FROM} AND isNotNull(held_us)"),
    "lifetime": (_ns("lifetime_us"), f"{OVER} AND isNotNull(lifetime_us)"),
    "rtt": ("toInt64(ifNull(rtt_us, 0) * 1000)", f"{OVER} AND ifNull(rtt_us, 0) > 0"),
}
"""ns, and of which lines."""
SPREADS: Final = tuple(
    f"{function}If({value}, {test})"
    for ns, test in DURATIONS.values()
    for function, value in (("sumMap", f"map({_bucket(ns)}, toUInt64(1))"), ("min", ns), ("max", ns))
)
"""Of each: how many are in which bucket, the least, and the greatest."""

LINES: Final = "countIf(nth = 0)"
"""How many have a number of their own."""
_WORD: Final = 64
_NUMBERS: Final = f"sumMapIf(map(intDiv(seq, {_WORD}), toUInt64(intExp2(seq % {_WORD}))), nth = 0)"
"""These numbers, as bits of words."""
NUMBERS: Final = f"arraySum(word -> bitCount(word), mapValues({_NUMBERS}))"
"""How many bits that are: as many as lines where each is there once, and fewer where a bit was added to itself."""
LOST: Final = "sumIf(ifNull(count, 0), type = 'gap')"
"""Events."""

SETTINGS: Final = {"deduplicate_merge_projection_mode": "rebuild", "lightweight_mutation_projection_mode": "rebuild"}
"""Of the table: what merges and deletions change is summed up anew."""


def projections() -> dict[str, str]:
    """By name the question that each answers."""
    return {
        "numbers": _kept((), (LINES, _NUMBERS, LOST)),
        "ports": _kept((*_HOW, "role", PORT, OWNER), (*CARRIED, *TIMES)),
        "peers": _kept((*_HOW, PEER), CARRIED),
        "durations": _kept((*_OF_EACH, "role"), SPREADS),
    }


def _kept(keys: Sequence[str], sums: Sequence[str]) -> str:
    # An expression is a key by its name.
    named = [f"{key} AS key{number}" for number, key in enumerate(("host", "run", SLICE, *keys))]
    return f"SELECT {', '.join([*named, *sums])} GROUP BY {', '.join(f'key{number}' for number in range(len(named)))}"
