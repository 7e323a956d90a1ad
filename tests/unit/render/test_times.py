"""Moments and durations for people: every mode of --time, zones with summer time, and what titles say."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_events import transition
from test_writers import ENDS

from sstrace.query.catalog import ENTRIES
from sstrace.query.own_options import parse_when
from sstrace.render.times import MODES, TimeMode, Times, moment, span_text, time_of_day, times
from sstrace.render.trace import TraceText
from sstrace.render.writers import TextWriter

NS = 1_000_000_000
WINTER = 1_767_225_600 * NS
"""2026-01-01T00:00:00Z"""
CHANGE = 1_774_746_000 * NS
"""2026-03-29T01:00:00Z: clocks in Paris go from 02:00 to 03:00."""


@pytest.fixture
def paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Paris")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("mode", "title", "first", "second"),
    [
        ("clock", "Time UTC+01:00 ", "01:00:00.000001", "01:00:02.500000"),
        ("iso", "Time".ljust(32), "2026-01-01T01:00:00.000001+01:00", "2026-01-01T01:00:02.500000+01:00"),
        ("utc", "Time".ljust(27), "2026-01-01T00:00:00.000001Z", "2026-01-01T00:00:02.500000Z"),
        ("delta", " Since previous", "       0.000000", "       2.499998"),
        ("relative", "    Since first", "       0.000000", "       2.499998"),
    ],
)
@pytest.mark.usefixtures("paris")
def test_every_mode(mode: TimeMode, title: str, first: str, second: str) -> None:
    of = times(mode, WINTER)
    assert of.title(5) == title
    assert of.text(1_999) == first
    assert of.text(2_500_000_000) == second
    assert len(title) == len(first) == of.width


def test_elapsed_is_since_the_first_or_the_one_before_and_may_be_negative() -> None:
    def told(of: Times) -> list[str]:
        return [of.text(at).strip() for at in (5 * NS, 7 * NS, 6_500_000_000, 107 * NS)]

    assert told(times("delta", WINTER)) == ["0.000000", "2.000000", "-0.500000", "100.500000"]
    assert told(times("relative", WINTER)) == ["0.000000", "2.000000", "1.500000", "102.000000"]


def test_every_mode_has_a_test_and_the_option_knows_it() -> None:
    assert ENTRIES["--time"].values == MODES


@pytest.mark.usefixtures("paris")
def test_where_clocks_change_the_titles_come_again() -> None:
    writer, out = TextWriter(TraceText(CHANGE - NS, ENDS), header=True), bytearray()
    writer.begin(0, out)
    for at_ns in (0, NS - 1, NS, NS + 1):
        writer.state(transition(at_ns=at_ns), out)
    assert [line[:15].rstrip() for line in out.decode().splitlines()] == [
        "Time UTC+01:00", "01:59:59.000000", "01:59:59.999999", "Time UTC+02:00", "03:00:00.000000", "03:00:00.000000",
    ]  # fmt: skip
    bare, out = TextWriter(TraceText(CHANGE - NS, ENDS), header=False), bytearray()
    bare.begin(0, out)
    for at_ns in (0, NS):
        bare.state(transition(at_ns=at_ns), out)
    assert b"Time" not in out


@pytest.mark.parametrize("mode", MODES)
def test_colours_find_the_state_whatever_the_time_takes(mode: TimeMode) -> None:
    plain, colored = bytearray(), bytearray()
    TextWriter(TraceText(WINTER, ENDS, mode), header=False).state(transition(), plain)
    TextWriter(TraceText(WINTER, ENDS, mode), header=False, colors=True).state(transition(), colored)
    assert b"\x1b[32mESTAB     \x1b[0m" in colored
    assert re.sub(rb"\x1b\[\d*m", b"", bytes(colored)) == bytes(plain)


def test_utc_is_said_where_the_machine_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        assert times("clock", WINTER).title(0) == "Time UTC       "
        assert time_of_day(WINTER, utc=False) == "00:00:00 UTC"
        assert moment(WINTER + 5, utc=False) == "2026-01-01T00:00:00.000000005+00:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.usefixtures("paris")
def test_sentences() -> None:
    assert time_of_day(WINTER, utc=False) == "01:00:00 UTC+01:00"
    assert time_of_day(WINTER, utc=True) == "00:00:00 UTC"
    assert moment(WINTER + 5, utc=False) == "2026-01-01T01:00:00.000000005+01:00"
    assert moment(WINTER + 5, utc=True) == "2026-01-01T00:00:00.000000005Z"


@given(st.integers(0, 4_000_000_000 * NS), st.booleans())
def test_what_a_sentence_says_can_be_typed(at_ns: int, utc: bool) -> None:
    when = parse_when(moment(at_ns, utc=utc))
    assert when is not None
    assert (when.kind, when.ns) == ("utc", at_ns)


@given(st.integers(0, 4_000_000_000 * NS))
def test_iso_and_utc_say_the_same_moment(at_ns: int) -> None:
    texts = [times(mode, 0).text(at_ns) for mode in ("iso", "utc")]
    assert {datetime.fromisoformat(text).astimezone(UTC) for text in texts} == {
        datetime.fromtimestamp(at_ns // NS, UTC).replace(microsecond=at_ns % NS // 1000)
    }


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (-5_000_000, "0us"),
        (0, "0us"),
        (1_499, "1us"),
        (28_400, "28us"),
        (999_499, "999us"),
        (999_500, "1.0ms"),
        (1_234_567, "1.2ms"),
        (9_949_999, "9.9ms"),
        (9_950_000, "10ms"),
        (303_204_000, "303ms"),
        (999_949_999, "999ms"),
        (999_950_000, "1.0s"),
        (7_480_000_000, "7.5s"),
        (9_950_000_000, "10s"),
        (59_900_000_000, "59s"),
        (59_950_000_000, "1m00s"),
        (3_599_000_000_000, "59m59s"),
        (3_600_000_000_000, "1h00m"),
        (86_399_000_000_000, "23h59m"),
        (86_400_000_000_000, "1d00h"),
        (999 * 86_400_000_000_000, "999d00h"),
    ],
)
def test_durations_have_the_unit_that_suits_them(nanoseconds: int, text: str) -> None:
    assert span_text(nanoseconds) == text


@given(st.integers(0, 10**9 * 86400 * 999))
def test_a_duration_has_seven_characters_at_most_and_is_right_to_a_tenth(nanoseconds: int) -> None:
    text = span_text(nanoseconds)
    assert len(text) <= 7
    units = {"us": 1000, "ms": 10**6, "s": NS, "m": 60 * NS, "h": 3600 * NS, "d": 86400 * NS}
    parts = re.findall(r"([\d.]+)(us|ms|s|m|h|d)", text)
    read = sum(round(float(number) * units[unit]) for number, unit in parts)
    assert read <= nanoseconds + units[parts[-1][1]] // 2
    assert nanoseconds < read + units[parts[-1][1]]
