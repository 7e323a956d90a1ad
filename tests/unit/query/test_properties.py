"""Whatever is typed, the answer is a Command, an Early, or an error of ours; and it comes."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from smallworld import SmallWorld

from sstrace.dialect import NEWEST, OLDEST, dialect
from sstrace.errors import SstraceError
from sstrace.model import AF_INET, InetSocket, Table, UnixSocket
from sstrace.query.bytecode import compile_bytecode
from sstrace.query.catalog import OWN, SS
from sstrace.query.command import Command, Early
from sstrace.query.expression import Expr
from sstrace.query.filter import parse_filter
from sstrace.query.match import Known, predicate
from sstrace.query.operands import Scope
from sstrace.query.options import parse, resolve
from sstrace.query.words import WORDS

ROWS = (
    InetSocket(table=Table.TCP, family=AF_INET, state=1, src=b"\n\0\0\1", sport=1, dst=b"\n\0\0\2", dport=2),
    UnixSocket(table=Table.UNIX_STREAM, family=1, state=1, type=1, name=b"/x"),
)

LATIN = st.text(st.characters(max_codepoint=255), max_size=12)
WORD = st.one_of(
    LATIN,
    st.sampled_from([f"--{option.name}" for option in (*SS, *OWN)]),
    st.sampled_from([f"--{option.name}=" for option in (*SS, *OWN)]).flatmap(lambda name: LATIN.map(name.__add__)),
    st.text("dhaletuwxnro460spTbEf:mMiA:D:F:vVzZN:KHSOBQ", min_size=1, max_size=6).map("-{}".format),
    st.sampled_from(
        [
            "state",
            "exclude",
            "excl",
            "from",
            "to",
            "established",
            "all",
            "closed",
            "sport",
            "dport",
            "src",
            "dst",
            "dev",
            "fwmark",
            "cgroup",
            "autobound",
            "held",
            "and",
            "or",
            "not",
            "!",
            "(",
            ")",
            "&",
            "|",
            "=",
            "!=",
            ">=",
            "<=",
            ">",
            "<",
            "22",
            ":22",
            "ssh",
            "10.0.0.1",
            "10/8",
            "[::1]:5",
            "multi",
            "*",
            "any",
            "lo",
            "5/6",
            "/known",
            "--",
            "-",
            "\\",
            "5m",
            "unix:*",
            "link:ip",
            "netlink:rtnl",
            "vsock:1",
            "inet:1.1.1.1",
            "inet6:[::1]",
            "tcp,udp",
            "!tcp",
            "all",
            "inet",
            "1.5s",
            "100M",
            "+5",
            "@7",
            "12:00",
        ]
    ),
)


def judge(error: SstraceError) -> None:
    """An error is told in words, with a code that ss has."""
    assert str(error)
    assert error.exit_code in (1, 255)


def use(tree: Expr | None) -> None:
    code = compile_bytecode(tree)
    assert code is None or len(code) % 4 == 0
    test = predicate(tree, SmallWorld(), Known(held=lambda _row: 5))
    for row in ROWS:
        assert test is None or test(row) in (True, False)


def answer(argv: Sequence[str], newest: bool) -> None:
    try:
        result = parse(argv, release=dialect(NEWEST if newest else OLDEST))
        assert isinstance(result, Command | Early)
        if isinstance(result, Command):
            use(resolve(result, SmallWorld()).selection.filter)
    except SstraceError as error:
        judge(error)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(["ss", "sstrace", ""]), st.lists(WORD, max_size=8), st.booleans())
def test_any_command_line(program: str, words: list[str], newest: bool) -> None:
    answer([program, *words], newest)
    answer([program, "--snapshot", "-t", *words], newest)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(WORD, max_size=12), st.binary(max_size=200) | st.lists(WORD).map(lambda w: " ".join(w).encode("latin-1"))
)
def test_any_filter(words: list[str], file: bytes) -> None:
    for known in ({}, WORDS):
        try:
            use(parse_filter(words, file, SmallWorld(), Scope(0b1001, 0, 0), dialect(), words=known))
        except SstraceError as error:
            judge(error)


def test_no_arguments_at_all() -> None:
    assert isinstance(parse([]), Command)
