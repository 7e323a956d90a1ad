"""Filters as SQL: over lines of every kind, no condition leaves a row out which the filter itself lets pass, and none
that claims to be sure takes one which it does not.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from engine_front import Front
from fleet_engine import load, make_tables
from fleets import recorded

from sstrace.errors import LookupFailed, UsageError
from sstrace.fleet.literals import quoted
from sstrace.fleet.sql import EVERY
from sstrace.fleet.where import where
from sstrace.lines import StateLine
from sstrace.model import STATE_TEXT
from sstrace.output.row_filter import RowFilter
from sstrace.query import options
from sstrace.query.command import Act, Command
from sstrace.query.expression import Expr
from sstrace.query.match import Known, owners_among, predicate
from sstrace.query.words import WORDS
from sstrace.recording.past import Past, PastRows
from sstrace.recording.reader import RecordedNames, row_of
from sstrace.wire import recording

LINES, FILTERS = 600, 250
ADDRESSES = {
    "inet": ("0.0.0.0", "127.0.0.1", "10.0.0.0", "10.0.0.1", "10.1.2.3", "192.168.255.255"),
    "inet6": ("::", "::1", "::ffff:10.0.0.1", "::ffff:0.0.0.0", "fe80::1", "2001:db8::a00:1", "a00:1::"),
}
COMMS = ("nginx", "Postgres", "post gres", "x'y\\\"z", "a%b_c", "naïve", "\\xff\\xfe", "ngi*x", "[kworker]", "-")
CGROUPS = ("/", "/system.slice/nginx.service", "/system.slice/ssh%d.service", f"/docker/{'ab' * 32}", "/x'y\\z/ñ")
CAUSES = ("closed", "reset-received", "timeout-data", "of-a-later-version")
PORTS = (0, 1, 22, 80, 5432, 40000, 65535)


def zoo(chance: random.Random) -> bytes:
    """A recording of transitions of all kinds."""
    told = []
    for number in range(1, LINES + 1):
        family = chance.choice(("inet", "inet6"))
        old, state = chance.choices([text for text in STATE_TEXT if text not in ("UNKNOWN", "UNDEF")], k=2)
        line: dict[str, Any] = {
            "family": family, "src": chance.choice(ADDRESSES[family]), "dst": chance.choice(ADDRESSES[family]),
            "sport": chance.choice(PORTS), "dport": chance.choice(PORTS), "from": old, "to": state,
        }  # fmt: skip
        maybe: dict[str, Any] = {
            "uid": chance.choice((0, 33, 1000)),
            "ifindex": chance.choice((1, 9)),
            "ifname": chance.choice(("lo", "eth0")),
            "cgroup": chance.choice(CGROUPS),
            "ino": chance.randrange(1, 1 << 40),
            "owners": [
                {"comm": chance.choice(COMMS), "pid": chance.choice((1, 7, 4711)), "fd": 3}
                for _ in range(chance.randrange(1, 3))
            ],
            "role": chance.choice(("client", "server")),
            "cause": chance.choice(CAUSES),
            "held_us": chance.choice((0.0, 0.001, 999.999, 1e6, 5e6)),
            "lifetime_us": chance.choice((0.0, 200000.0, 1e6)),
            "rtt_us": chance.choice((1, 50, 50000)),
            "bytes_sent": chance.choice((1, 1000, 10**7)),
            "bytes_received": chance.choice((1, 1000, 10**7)),
            "retrans": chance.choice((1, 5)),
        }
        line |= {name: value for name, value in maybe.items() if chance.random() < 0.6}
        told.append(("state", float(number), number, line))
    return recorded("zoo", told)


def words(chance: random.Random, known: Sequence[str], depth: int = 0) -> list[str]:
    """A filter of these tests."""
    if depth < 3 and chance.random() < 0.45:
        kind = chance.choice(("and", "or", "not", "(", "none"))
        one = words(chance, known, depth + 1)
        if kind == "not":
            return ["not", "(", *one, ")"]
        if kind == "(":
            return ["(", *one, ")"]
        return [*one, *([kind] if kind != "none" else []), *words(chance, known, depth + 1)]
    order, equal = ("=", "!=", ">", "<", ">=", "<="), ("=", "!=")
    word = chance.choice(known)
    operator = chance.choice(order if word in _ORDERED else equal)
    return [word, operator, chance.choice(_OPERANDS[word])]


_ORDERED = ("sport", "dport", "port", "held", "lifetime", "rtt", "sent", "received", "retransmits")
_ENDS = (
    "10.0.0.1", "10/8", "10.0.0.0/9", "0.0.0.0/0", "0.0.0.0", "127/7", "10.0.0.1:80", "[::1]", "[::/96]", "[::/13]",
    "2001:db8::/33", "fe80::1:22", "[fe80::1]:22", "[::ffff:10.0.0.1]", "a00:1::/32", "*:5432", "[::ffff:0:0/95]",
)  # fmt: skip
_OPERANDS = {
    "src": _ENDS,
    "dst": _ENDS,
    "host": _ENDS,
    "sport": (":22", ":5432", ":0", ":65535"),
    "dport": (":22", ":80"),
    "port": (":22", ":40000"),
    "dev": ("eth0", "lo", "1", "9"),
    "fwmark": ("0", "7", "0x1/0x3"),
    "cgroup": ("/system.slice/nginx.service", "/", "/x'y\\\\z/ñ".encode().decode("latin-1"), "/none"),
    "pid": ("7", "4711", "9"),
    "comm": (
        "nginx", "POST*", "*gres", "*'*", "a%b_c", "a?b*", "[mn]ginx", "ngi\\\\*x", "naïve".encode().decode("latin-1"),
        "*ï*".encode().decode("latin-1"), "*", "?", "-", "[[]kworker]", "\\\\\\\\xff*", "x[",
    ),
    "user": ("0", "33", "5"),
    "container": ("ab", "abab", "*ab", "zz"),
    "pod": ("web", "*"),
    "unit": ("nginx", "nginx.service", "ssh*", "ssh%d"),
    "role": ("client", "server", "*"),
    "cause": ("closed", "timeout-*", "*", "reset-received", "*-received"),
    "netns": ("web", "1", "*"),
    "held": ("1ms", "1", "5", "0.000001"),
    "lifetime": ("200ms", "1"),
    "rtt": ("50ms", "50us"),
    "sent": ("1k", "10M"),
    "received": ("1000", "0"),
    "retransmits": ("0", "1", "5"),
}  # fmt: skip


class Zoo:
    """The lines, in an engine and here."""

    def __init__(self, engine: Front, data: bytes) -> None:
        self.engine = engine
        self.names = RecordedNames({})
        self.lines: dict[int, StateLine] = {}
        for text in data.splitlines()[1:]:
            line = msgspec.json.decode(text, type=StateLine)
            self.lines[line.seq] = line
        head = recording.meta(data.partition(b"\n")[0])
        assert head is not None
        self.names.learn(head)
        for line in self.lines.values():
            self.names.hear(line)

    def sql(self, may: str, must: str) -> tuple[set[int], set[int]]:
        """The numbers of lines that meet each."""
        answer = self.engine.ask(f"SELECT seq, ({may}) != 0, ({must}) != 0 FROM lines WHERE type = 'state' FORMAT TSV")
        rows = [line.split("\t") for line in answer.splitlines()]
        assert len(rows) == LINES
        return {int(seq) for seq, one, _ in rows if one == "1"}, {int(seq) for seq, _, one in rows if one == "1"}

    def transitions(self, expression: Expr | None) -> set[int]:
        """Those that the filter lets pass."""
        test = RowFilter(expression, self.names, self.names.places)
        return {
            seq
            for seq, line in self.lines.items()
            if test.row(row_of(line, self.names), _ns(line.held_us), _ns(line.lifetime_us), line.cause, line)
        }

    def table(self, expression: Expr | None) -> set[int]:
        """Those that it lets pass of a table in which each is a row."""
        past = Past()
        past.rows = dict(self.lines)
        past.mono_ns = max(line.mono_ns for line in self.lines.values())
        past.part(self.names)
        rows = PastRows(past, self.names, past.places)
        rows.recall()
        known = Known(held=rows.held_ns, role=rows.role, owners=owners_among(rows.owners), netns=rows.netns)
        test = predicate(expression, self.names, known)
        number = {id(row): rows._numbers[id(row)] for row in rows.everything()}
        return {number[id(row)] for row in rows.everything() if test is None or test(row)}


def _ns(microseconds: float | None) -> int | None:
    return round(microseconds * 1000) if microseconds is not None else None


def parsed(names: RecordedNames, *line: str) -> Command:
    command = options.parse(["sstrace", *line])
    assert isinstance(command, Command)
    return options.resolve(command, names)


@pytest.fixture(scope="module")
def zoo_asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zoo]:
    """Of a random one."""
    data = zoo(random.Random(20))
    with Front(tmp_path_factory.mktemp("engine")) as engine:
        make_tables(engine)
        load(engine, [data])
        yield Zoo(engine, data)


@pytest.mark.parametrize("moment", [False, True], ids=["transitions", "a table"])
def test_sql_leaves_nothing_out_that_a_filter_lets_pass(zoo_asked: Zoo, moment: bool) -> None:
    chance = random.Random(7 + moment)
    before = ("--snapshot", "--from", "x", "-a") if moment else ("--replay", "x")
    act = Act.PAST if moment else Act.REPLAY
    known = [word for word in _OPERANDS if word not in WORDS or act in WORDS[word].acts]
    told = 0
    for _ in range(FILTERS):
        filter_ = words(chance, known)
        try:
            expression = parsed(zoo_asked.names, *before, " ".join(filter_)).selection.filter
        except (UsageError, LookupFailed):  # an operand that this ss does not take, or an unknown user
            continue
        passed = (zoo_asked.table if moment else zoo_asked.transitions)(expression)
        found = where(expression, zoo_asked.names, EVERY, moment=moment)
        may, must = zoo_asked.sql(*found)
        assert passed <= may, (filter_, found.may, passed - may)
        assert must <= passed, (filter_, found.must, must - passed)
        told += found.may not in ("0", "1")
    assert told > FILTERS / 3


def test_plain_filters_are_told_exactly(zoo_asked: Zoo) -> None:
    for filter_ in (
        "dport = :80", "not sport > :22 and dst 10/8", "src [::ffff:10.0.0.1]", "user 33 or role client",
        "comm 'post*'", "pid 7", "rtt > 50us", "lifetime != 200ms", "cgroup /system.slice/nginx.service",
    ):  # fmt: skip
        expression = parsed(zoo_asked.names, "--replay", "x", filter_).selection.filter
        assert where(expression, zoo_asked.names, EVERY, moment=False).exact, filter_


def test_any_text_is_a_string_in_sql(zoo_asked: Zoo) -> None:
    for text in ("'; DROP TABLE lines; --", "\\", "\\'", "\n\t\0", "ñ", "{x:String}", "`", "a" * 5000):
        answer = zoo_asked.engine.ask(f"SELECT hex({quoted(text)}) FORMAT TSV").strip()
        assert bytes.fromhex(answer) == text.encode()
