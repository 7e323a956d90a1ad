"""The one function between what others have named and a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.plain import plain, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.1:", "10.0.0.1:"),
        ("évé", "évé"),
        ("a\x1b[2Jb\n", "a\\x1b[2Jb\\n"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b1m", "\\x9b1m"),
        ("\udcff", "\\xff"),
        ("", ""),
    ],
)
def test_what_would_not_be_seen_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text())
def test_any_text_is_one_line_that_moves_nothing(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert plain(shown) == shown
    if text.isprintable():
        assert shown == text


@given(st.binary())
def test_a_cell_is_utf8_where_it_is_that(data: bytes) -> None:
    shown = printable(data.decode("latin-1"))
    assert shown == plain(data.decode(errors="surrogateescape"))
    shown.encode()
