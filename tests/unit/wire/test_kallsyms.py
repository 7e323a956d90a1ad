"""Symbols of a made-up kernel: spans, what is hidden, what the compiler renamed, and text that is no symbol table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.errors import DecodeError
from sstrace.wire.kallsyms import Symbols

TEXT = b"""\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000000 T startup_64
ffffffff81000040 t tcp_done
ffffffff81000140 t tcp_close.part.0
ffffffff81000150 T tcp_close
ffffffff81000150 T __alias_of_tcp_close
ffffffff81000190 t tcp_fin.isra.0
ffffffff810001a8 t tcp_fin.constprop.0
ffffffff810001b8 t tcp_fin.cold
ffffffff810001c0 W weak_one
ffffffff810001d0 D tcp_data
ffffffff810001e0 d tcp_mem
ffffffff810001f0 t last_of_vmlinux
ffffffffc0000000 t in_a_module\t[veth]
ffffffffc0000010 t tcp_done\t[other]
"""


def test_a_function_ends_where_the_next_address_begins() -> None:
    assert Symbols(TEXT).span("tcp_done") == (0xFFFFFFFF81000040, 0x100)


def test_two_names_of_one_address_have_one_size() -> None:
    symbols = Symbols(TEXT)
    assert symbols.span("tcp_close") == symbols.span("__alias_of_tcp_close") == (0xFFFFFFFF81000150, 0x40)
    assert symbols.span("_stext") == symbols.span("startup_64") == (0xFFFFFFFF81000000, 0x40)


def test_weak_functions_are_functions() -> None:
    assert Symbols(TEXT).span("weak_one") == (0xFFFFFFFF810001C0, 0x10)


@pytest.mark.parametrize(
    "name", ["tcp_data", "tcp_mem", "fixed_percpu_data", "tcp", "done", "in_a_module", "", "tcp_done\t"]
)
def test_what_is_not_a_function_of_the_kernel_proper_is_not_found(name: str) -> None:
    assert Symbols(TEXT).span(name) is None
    assert Symbols(TEXT).spans(name) == []


def test_renamed_functions_are_all_found() -> None:
    symbols = Symbols(TEXT)
    assert symbols.span("tcp_fin") is None
    assert symbols.spans("tcp_fin") == [
        (0xFFFFFFFF81000190, 0x18),
        (0xFFFFFFFF810001A8, 0x10),
        (0xFFFFFFFF810001B8, 0x08),
    ]


def test_a_function_under_its_own_name_is_all_there_is() -> None:
    # Parts beside it (tcp_close.part.0, or .cold) are not looked for: one more walk through 5 MB for each name.
    assert Symbols(TEXT).spans("tcp_close") == [(0xFFFFFFFF81000150, 0x40)]


def test_the_last_function_has_a_size() -> None:
    last = Symbols(b"ffffffff81000000 T only\n")
    assert last.span("only") == (0xFFFFFFFF81000000, 1)
    before_modules = Symbols(b"ffffffff81000000 T last\nffffffff80000000 t first\t[module]\n")
    assert before_modules.span("last") == (0xFFFFFFFF81000000, 1)


def test_hidden_addresses_are_no_addresses() -> None:
    hidden = Symbols(b"0000000000000000 T tcp_done\n0000000000000000 T tcp_close\n0000000000000000 t tcp_fin.isra.0\n")
    assert hidden.span("tcp_done") is None
    assert hidden.spans("tcp_done") == []
    assert hidden.spans("tcp_fin") == []


def test_no_text_has_no_symbols() -> None:
    assert Symbols(b"").span("tcp_done") is None
    assert Symbols(b"").spans("tcp_done") == []


def test_a_line_without_an_address_is_an_error() -> None:
    with pytest.raises(DecodeError, match="kallsyms: no address at byte 0"):
        Symbols(b"rubbish T tcp_done\n").span("tcp_done")


@given(st.binary(max_size=200), st.booleans())
def test_any_text_gives_spans_or_our_error(text: bytes, known: bool) -> None:
    symbols = Symbols(b"ffffffff81000000 T tcp_done\n" + text if known else text + b" T tcp_done\n" + text)
    try:
        found = symbols.spans("tcp_done")
    except DecodeError:
        return
    assert all(address > 0 and size > 0 for address, size in found)
