"""What the questions have in common: runs, times and rows of the table ``lines`` in SQL."""

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from sstrace.fleet.literals import listed, quoted
from sstrace.fleet.where import Columns

__all__ = ["EVERY", "OLD", "OPENING", "Run", "Since", "among", "each", "numbered", "time"]


class Run(NamedTuple):
    """A stream of lines."""

    host: str
    run: str


class Since(NamedTuple):
    """A place in one: a checkpoint, or its beginning."""

    at_ns: int
    seq: int
    nth: int


def time(at_ns: int) -> str:
    """A moment, ns since 1970 UTC."""
    return f"fromUnixTimestamp64Nano(toInt64({at_ns}), 'UTC')"


def among(runs: Collection[Run]) -> str:
    """Whether a row is of one of them. A run's name tells its host, as a rule, and each name by itself costs less."""
    named = zip(("host", "run"), zip(*runs, strict=True), strict=True)
    tests = [f"{column} IN ({listed(dict.fromkeys(names))})" for column, names in named]
    if not _are_unique(runs):
        tests.append(f"(host, run) IN ({', '.join(f'({quoted(run.host)}, {quoted(run.run)})' for run in runs)})")
    return f"({' AND '.join(tests)})"


def numbered(runs: Sequence[Run]) -> str:
    """The place of a row's run among them."""
    return each(runs, range(len(runs)))


def each(runs: Sequence[Run], numbers: Iterable[int]) -> str:
    """A number for each of them."""
    key, names = "run", [run.run for run in runs]
    if not _are_unique(runs):
        key, names = "concat(run, ' ', host)", [f"{run.run} {run.host}" for run in runs]
    numbers = list(numbers)
    if len(set(numbers)) == 1:
        return f"toInt64({numbers[0]})"
    given = ", ".join(map(str, numbers))
    return f"toInt64(transform({key}, [{listed(names)}], [{given}], -1))"


def _are_unique(runs: Collection[Run]) -> bool:
    return len({run.run for run in runs}) == len(runs)


OLD: Final = '"from"'
"""The state that a transition leaves: the column's name is one of SQL's words."""
OPENING: Final = "('SYN-SENT', 'SYN-RECV')"
"""States of a handshake."""


def _raw(name: str) -> str:
    # toString leaves the zeros at the end away.
    whole = f"toString(reinterpretAsFixedString({name}))"
    return f"concat(if(family = 'inet', substring({whole}, 13), {whole}), {quoted(bytes(16))})"


EVERY: Final[Columns] = {
    "src": _raw("src"),
    "dst": _raw("dst"),
    "sport": "sport",
    "dport": "dport",
    "ifindex": "ifindex",
    "cgroup": "toString(cgroup)",
    "uid": "ifNull(uid, 0)",
    "state": "if(to = '', state, to)",
    "ino": "ino",
    "pids": "owners.pid",
    "comms": "owners.comm",
    "role": "role",
    "cause": "cause",
    "held": "ifNull(toInt64(held_us * 1000), -1)",
    "lifetime": "ifNull(toInt64(lifetime_us * 1000), -1)",
    "rtt": "ifNull(toInt64(rtt_us) * 1000, -1)",
    "sent": "ifNull(toInt64(bytes_sent), -1)",
    "received": "ifNull(toInt64(bytes_received), -1)",
    "retransmits": "ifNull(toInt64(retrans), -1)",
}
"""What filters ask of a row of ``lines``."""
