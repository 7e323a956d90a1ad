"""Globs against fnmatch(3) of this machine's C library."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.query.glob import compile_glob

LIBC = ctypes.CDLL(None)
FNM_CASEFOLD = 16


def fnmatch(pattern: str, name: str) -> bool:
    return int(LIBC.fnmatch(pattern.encode("latin-1"), name.encode("latin-1"), FNM_CASEFOLD)) == 0


PIECES = st.sampled_from(
    [
        "*",
        "?",
        "a",
        "B",
        "/",
        ".",
        "\\*",
        "\\a",
        "é",
        "ÿ",
        "[a-c]",
        "[!a]",
        "[^B-D]",
        "[]x]",
        "[a-]",
        "[[:digit:]]",
        "[[:upper:]]",
        "[[:alpha:]-]",
        "[\\]]",
        "[[.a.]]",
        "[[=b=]]",
        "[[=B=]-d]",
        "[[.B.]]",
        "[[.B.]-D]",
        "[a-[.C.]]",
        "[b-a]",
        "-",
        "]",
        "[![:space:]]",
        "7",
        " ",
    ]
)
NAMES = st.text(alphabet="aAbBcD/.*é\xff]-7 \\x", max_size=8)


@given(st.lists(PIECES, max_size=6).map("".join), NAMES)
def test_like_fnmatch(pattern: str, name: str) -> None:
    assert compile_glob(pattern)(name) == fnmatch(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("/run/*", "/run/a/b.sock", True),
        ("/RUN/*", "/run/.x", True),
        ("@*", "@abstract", True),
        ("[a", "[a", True),
        ("a\\", "a\\", False),
        ("É", "é", False),
        ("[[:none:]]", "n", False),
    ],
)
def test_known_cases(pattern: str, name: str, matches: bool) -> None:
    assert compile_glob(pattern)(name) is matches
    assert fnmatch(pattern, name) is matches


def test_no_pattern_takes_forever() -> None:
    assert compile_glob("a*" * 40 + "b")("a" * 4000) is False
