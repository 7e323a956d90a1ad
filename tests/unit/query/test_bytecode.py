"""Bytecode by its meaning: an interpreter of the kernel's rules agrees with the expression.

(By its bytes, against ss: tests/kernel/test_bytecode_oracle.py.)
"""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from smallworld import SmallWorld

from sstrace.dialect import dialect
from sstrace.query.bytecode import LONGEST, compile_bytecode
from sstrace.query.expression import Amount, Chain, Compare, Device, Expr, Match, Not
from sstrace.query.filter import parse_filter
from sstrace.query.operands import Scope

PORTS = range(4)


def parsed(*operands: str, file: bytes | None = None) -> Expr | None:
    return parse_filter(operands, file, SmallWorld(), Scope(1, 0, 0), dialect((6, 1)))


def accepts(code: bytes, sport: int, dport: int) -> bool:
    """Run a program over ports, as inet_diag_bc_run does (net/ipv4/inet_diag.c)."""
    at = 0
    while at < len(code):
        operation, yes, no = struct.unpack_from("=BBH", code, at)
        argument = struct.unpack_from("=H", code, at + 6)[0] if operation in (2, 3, 4, 5) else 0
        port = struct.unpack_from("=i", code, at + 8)[0] if operation in (7, 8) else 0
        result = {
            1: False,
            2: sport >= argument,
            3: sport <= argument,
            4: dport >= argument,
            5: dport <= argument,
            7: port in (-1, sport),
            8: port in (-1, dport),
        }[operation]
        assert yes >= 4
        assert no >= 4
        at += yes if result else no
    return at == len(code)


def holds(tree: Expr, sport: int, dport: int) -> bool:
    if isinstance(tree, Not):
        return not holds(tree.inner, sport, dport)
    if isinstance(tree, Chain):
        result = holds(tree.first, sport, dport)
        for operator, test in tree.rest:
            second = holds(test, sport, dport)
            result = (result or second) if operator == "or" else (result and second)
        return result
    assert isinstance(tree, Match | Compare)
    port = sport if tree.local else dport
    if isinstance(tree, Match):
        return tree.hosts[0].port in (-1, port)
    return port >= tree.port if tree.at_least else port <= tree.port


WORDS = st.recursive(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["sport", "dport"]),
        st.sampled_from(["=", "!=", ">=", "<=", ">", "<"]),
        st.sampled_from([str(port) for port in PORTS]),
    ),
    lambda inner: st.one_of(
        inner.map("! ( {} )".format),
        st.lists(inner, min_size=2, max_size=4).flatmap(
            lambda parts: st.lists(
                st.sampled_from(["and", "or"]), min_size=len(parts) - 1, max_size=len(parts) - 1
            ).map(lambda joints: " ".join(w for pair in zip(["", *joints], parts, strict=True) for w in pair))
        ),
        inner.map("( {} )".format),
    ),
    max_leaves=12,
)


@given(WORDS)
def test_a_program_means_its_expression(text: str) -> None:
    tree = parsed(text)
    assert tree is not None
    code = compile_bytecode(tree)
    assert code is not None
    for sport in PORTS:
        for dport in PORTS:
            assert accepts(code, sport, dport) == holds(tree, sport, dport), (text, sport, dport)


@pytest.mark.skipif(sys.byteorder == "big", reason="the bytes are written in little-endian")
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("sport = :22", "07101400000000001600000000000000"),
        ("dst 10.1.2.3/8:443", "0810140002080000bb0100000a010203"),
        ("src [::1]", "071c20000a800000ffffffff00000000000000000000000000000001"),
        ("sport >= 1024", "02080c0000000004"),
        ("autobound", "06040800"),
        ("fwmark 1/3", "0a0c10000100000003000000"),
        ("cgroup /known", "0d0c10006712000000000000"),
        ("! autobound", "0604080001040800"),
        ("autobound or autobound", "060408000104080006040800"),
        ("autobound and autobound", "06040c0006040800"),
    ],
)
def test_known_programs(text: str, code: str) -> None:
    assert compile_bytecode(parsed(text)) == bytes.fromhex(code)


def test_a_name_repeats_its_first_address() -> None:
    code = compile_bytecode(parsed("src multi"))
    assert code is not None
    assert code.count(b"\n\0\0\1") == 3
    assert b"\n\0\0\2" not in code


def test_what_the_kernel_cannot_test() -> None:
    assert compile_bytecode(None) is None
    for tree in (
        Device(1),
        Amount("held", True, 1),
        Not(Device(1)),
        Chain(Compare(True, True, 1), (("or", Amount("held", False, 5)),)),
    ):
        assert compile_bytecode(tree) is None


def test_long_filters() -> None:
    fits = compile_bytecode(parsed(file=b"autobound\n" * 5000))
    assert fits is not None
    assert len(fits) == 20000
    assert compile_bytecode(parsed(file=b"sport 5 or\n" * 20000 + b"sport 6")) is None
    assert LONGEST == 65531
