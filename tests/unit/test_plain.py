"""The one module between what others have named and terminals, logs and programs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.plain import counted, plain, printable, spelled, visible, were
from sstrace.render.doctor import Finding, lines, ndjson


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


@given(st.binary())
def test_a_name_is_the_same_for_programs_and_for_people(name: bytes) -> None:
    text = spelled(name)
    text.encode()
    assert spelled(name.decode(errors="surrogateescape")) == text
    assert plain(text) == plain(name.decode(errors="surrogateescape"))


@given(st.lists(st.text()))
def test_json_for_a_terminal_says_the_same(texts: list[str]) -> None:
    lines = "".join(f"{json.dumps(text, ensure_ascii=False)}\n" for text in texts).encode()
    shown = visible(lines).decode()
    assert shown.replace("\n", "").isprintable()
    assert [json.loads(line) for line in shown.split("\n")[:-1]] == texts


def test_a_finding_names_what_others_have_named() -> None:
    finding = Finding("cache", "ok", "/\udcff\x1b[2J\nok    tracing", "rm \x9b1m")
    assert lines([finding], "")[:2] == ["ok    cache  /\\xff\\x1b[2J\\nok    tracing", "             -> rm \\x9b1m"]
    assert json.loads(ndjson([finding]))["found"] == "/\\xff\x1b[2J\nok    tracing"


def test_one_is_no_plural() -> None:
    assert [counted(number, "line") for number in (0, 1, 2)] == ["0 lines", "1 line", "2 lines"]
    assert [counted(number, "row", "is/are") for number in (0, 1, 2)] == ["0 rows are", "1 row is", "2 rows are"]
    assert [were(number) for number in (0, 1, 2)] == ["were", "was", "were"]
