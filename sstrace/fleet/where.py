"""A filter as SQL: two conditions for each, one that no row fails which the filter lets pass, and one that no row
passes which it does not. The exact filter (query.match) is asked afterwards; SQL only has to leave no row out.

What SQL cannot know (what an interface was called then, what has a network namespace's name, how long a state had
lasted at a moment) may be either. ``not`` turns the two round, so a superset stays one however deep it stands.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from sstrace.causes import CAUSES
from sstrace.fleet.literals import listed, quoted
from sstrace.model import AF_INET, Names, State
from sstrace.model.states import STATE_TEXT
from sstrace.query.expression import (
    Amount,
    Autobound,
    Cgroup,
    Chain,
    Compare,
    Device,
    Expr,
    Host,
    Mark,
    Match,
    Named,
    Not,
)
from sstrace.query.glob import compile_glob

__all__ = ["Columns", "Where", "where"]

Columns = Mapping[str, str]
"""What is known of a row, by name, as an expression that is never NULL. ``src``, ``dst``: the bytes of the address, and
zeros behind; amounts are -1 where they are not known.
"""


class Where(NamedTuple):
    """Two conditions, each true or false and never NULL."""

    may: str
    """True of every row that the filter lets pass."""
    must: str
    """True of no row that it does not."""

    @property
    def exact(self) -> bool:
        """Whether SQL alone tells."""
        return self.may == self.must


_ALL: Final = Where("1", "1")
_NONE: Final = Where("0", "0")
_EITHER: Final = Where("1", "0")


def _exactly(condition: str) -> Where:
    return Where(condition, condition)


def where(expression: Expr | None, names: Names, columns: Columns, *, moment: bool) -> Where:
    """A filter as two conditions. ``names``: those by which it was read; ``moment``: of rows of a table at some moment,
    else of transitions.
    """
    return _Compiler(names, columns, moment=moment).compile(expression) if expression is not None else _ALL


class _Compiler:
    def __init__(self, names: Names, columns: Columns, *, moment: bool) -> None:
        self._names = names
        self._columns = columns
        self._moment = moment

    def compile(self, expression: Expr) -> Where:
        if isinstance(expression, Chain):
            found = self.compile(expression.first)
            for operator, test in expression.rest:
                found = _joined(operator, found, self.compile(test))
            return found
        if isinstance(expression, Not):
            if isinstance(expression.inner, Amount):
                return self._amount(expression.inner, wanted=False)  # of what nobody knows neither is true
            return _not(self.compile(expression.inner))
        if isinstance(expression, Match):
            return self._match(expression)
        if isinstance(expression, Compare):
            port = self._columns["sport" if expression.local else "dport"]
            return _exactly(f"{port} {'>=' if expression.at_least else '<='} {expression.port}")
        if isinstance(expression, Device):
            return self._device(expression)
        if isinstance(expression, Mark):
            return _ALL if expression.value == 0 else _NONE  # no line has a mark, and what has none has 0
        if isinstance(expression, Cgroup):
            return self._cgroup(expression)
        if isinstance(expression, Autobound):
            return _EITHER  # each host has its own range
        if isinstance(expression, Amount):
            return self._amount(expression, wanted=True)
        return self._named(expression)

    def _match(self, match: Match) -> Where:
        head = match.hosts[0]
        if head.glob is not None:
            return _NONE  # of unix sockets
        port = self._columns["sport" if match.local else "dport"]
        tests = []
        if head.port != -1:
            tests.append(f"{port} = {head.port}")
        if head.bits:
            address = self._columns["src" if match.local else "dst"]
            tests.append(_either([_prefix(host, address) for host in match.hosts]))
        return _exactly(_all(tests)) if tests else _ALL

    def _device(self, device: Device) -> Where:
        index = self._columns["ifindex"]
        if device.name is None:
            return _exactly(f"{index} = {device.index}")
        return Where(f"{index} != 0", "0")  # what it was called then, the lines around tell

    def _cgroup(self, cgroup: Cgroup) -> Where:
        path = self._names.cgroup_path(cgroup.id)
        column = self._columns["cgroup"]
        return _exactly(f"{column} = {quoted(path)}") if path is not None else Where(f"{column} != ''", "0")

    def _amount(self, test: Amount, *, wanted: bool) -> Where:
        if self._moment:
            return _EITHER if test.word == "held" else _NONE
        column = self._columns[test.word]
        if test.at_least is wanted:
            compared = f"{column} >= {test.value}" if wanted else f"{column} > {test.value}"
        else:
            compared = f"{column} <= {test.value}" if wanted else f"{column} < {test.value}"
        return _exactly(f"({column} >= 0 AND {compared})")

    def _named(self, test: Named) -> Where:
        columns, word, value = self._columns, test.word, test.value
        if word == "user":
            return _exactly(f"({columns['uid']} = {value} AND {columns['state']} NOT IN ({_USERLESS}))")
        if word in ("pid", "comm"):
            return self._owner(value)
        if word == "role":
            fitting = [role for role in ("client", "server") if compile_glob(str(value))(role)]
            return _exactly(f"{columns['role']} IN ({listed(fitting)})") if fitting else _NONE
        if word == "cause":
            return _NONE if self._moment else self._cause(str(value))
        if word == "container" and not _special(str(value)):
            return Where(f"position({columns['cgroup']}, {quoted(str(value).encode('latin-1'))}) > 0", "0")
        return _EITHER if word in ("netns", "pod") else Where(f"{columns['cgroup']} != ''", "0")

    def _owner(self, value: int | str) -> Where:
        pids, comms = self._columns["pids"], self._columns["comms"]
        if isinstance(value, int):
            found = _exactly(f"has({pids}, {value})")
        else:
            pattern, exact = _like(value)
            may = f"arrayExists(c -> lower(c) LIKE {pattern}, {comms})"
            found = Where(may, may if exact else "0")
        # At a moment owners are found by inode, whichever line has told them.
        return (
            Where(f"({found.may} OR ({self._columns['ino']} != 0 AND empty({comms})))", "0") if self._moment else found
        )

    def _cause(self, value: str) -> Where:
        column = self._columns["cause"]
        pattern, exact = _like(value)
        if exact:
            return _exactly(f"({column} != '' AND lower({column}) LIKE {pattern})")
        fits = compile_glob(value)
        fitting = listed(word for word in CAUSES if fits(word))
        others = listed(word for word in CAUSES if not fits(word))
        # A later version may have a cause that this one does not know.
        may = f"({column} != '' AND {column} NOT IN ({others}))" if others else f"{column} != ''"
        return Where(may, f"{column} IN ({fitting})" if fitting else "0")


_USERLESS: Final = listed(STATE_TEXT[state] for state in (State.SYN_RECV, State.TIME_WAIT))
"""NEW_SYN_RECV has the first one's word."""


def _joined(operator: str, one: Where, other: Where) -> Where:
    join = _either if operator == "or" else _all
    return Where(join([one.may, other.may]), join([one.must, other.must]))


def _not(test: Where) -> Where:
    return Where(_opposite(test.must), _opposite(test.may))


def _opposite(condition: str) -> str:
    return {"0": "1", "1": "0"}.get(condition) or f"NOT ({condition})"


def _all(conditions: list[str]) -> str:
    if "0" in conditions:
        return "0"
    kept = [one for one in conditions if one != "1"]
    return "1" if not kept else kept[0] if len(kept) == 1 else f"({' AND '.join(kept)})"


def _either(conditions: list[str]) -> str:
    if "1" in conditions:
        return "1"
    kept = [one for one in conditions if one != "0"]
    return "0" if not kept else kept[0] if len(kept) == 1 else f"({' OR '.join(kept)})"


_MAPPED: Final = bytes(10) + b"\xff\xff"


def _prefix(host: Host, column: str) -> str:
    """The first bits of an address, as query.match compares them: shorter addresses go on in zeros."""
    test = _bits(host, column)
    if host.family == AF_INET:
        inner = _bits(host, f"substring({column}, 13)")
        test = f"({test} OR (startsWith({column}, {quoted(_MAPPED)}) AND {inner}))"
    return test


def _bits(host: Host, column: str) -> str:
    whole, rest = divmod(host.bits, 8)
    address = host.address.ljust(16, b"\0")
    tests = [f"startsWith({column}, {quoted(address[:whole])})"] if whole else []
    if rest:
        mask = 0xFF << (8 - rest) & 0xFF
        byte = f"reinterpretAsUInt8(substring({column}, {whole + 1}, 1))"
        tests.append(f"bitAnd({byte}, {mask}) = {address[whole] & mask}")
    return _all(tests)


def _special(pattern: str) -> bool:
    return bool(set(pattern) & set("*?[\\"))


def _like(pattern: str) -> tuple[str, bool]:
    """A glob (latin-1 text) as a pattern of LIKE over lower-case text, and whether it means the same; else it takes
    more.
    """
    out = bytearray()
    exact = True
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            out += b"%"
        elif character in "?[\\":
            exact = False
            out += b"%"
            if character != "?":
                break  # what follows is part of it, or not
        else:
            byte = character.encode("latin-1").lower() if character.isascii() else character.encode("latin-1")
            out += b"\\" + byte if byte in (b"%", b"_", b"\\") else byte
    return quoted(bytes(out)), exact
