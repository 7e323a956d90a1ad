"""LineReader by itself: blocks cut anywhere, lines out of order, the search for a few of many lines, times."""

import random
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sstrace.lines import MetaLine, StateLine
from sstrace.wire import recording
from sstrace.wire.faults import Faults
from sstrace.wire.recording import LineReader, RecordedMeta, Run


def state(seq: int, /, **fields: Any) -> bytes:
    """A state line."""
    values = {
        "type": "state", "ts": f"2026-11-20T15:00:00.{seq:09d}Z", "mono_ns": seq, "seq": seq, "id": seq, "netid": "tcp",
        "family": "inet", "from": "SYN-SENT", "to": "ESTAB", "src": "10.0.0.1", "sport": 1000, "dst": "10.0.0.2",
        "dport": 443, "netns": 1, **fields,
    }  # fmt: skip
    return msgspec.json.encode(values)


META = b'{"type":"meta","schema":"sstrace/1","ts":"2026-11-20T15:00:00.000000000Z","mono_ns":0}'


def read(blocks: list[bytes], reader: LineReader | None = None) -> tuple[list[Any], LineReader]:
    """Everything that comes out: MetaLine lines, and the facts of runs."""
    reader = reader or LineReader()
    out: list[Any] = []

    def take(items: Any) -> None:
        for item in items:
            out.extend([item] if isinstance(item, MetaLine) else item.lines)

    for block in blocks:
        take(reader.feed(block))
    take(reader.end())
    return out, reader


@given(cuts=st.lists(st.integers(0, 5000), max_size=12), newline=st.booleans())
def test_blocks_may_be_cut_anywhere(cuts: list[int], newline: bool) -> None:
    data = b"\n".join([META, *(state(seq) for seq in range(1, 20))]) + b"\n" * newline
    edges = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    pieces = [data[begin:end] for begin, end in pairwise(edges)]
    out, reader = read(pieces)
    assert [line.seq for line in out[1:]] == list(range(1, 20))
    assert reader.faults == Faults(used=20)


def test_raw_is_what_was_read() -> None:
    """But for first lines and checkpoints."""
    lines = [state(seq) for seq in range(1, 3000)]
    reader = LineReader()
    runs = [item for item in reader.feed(b"\n".join([META, *lines]) + b"\n") if isinstance(item, Run)]
    runs += [item for item in reader.end() if isinstance(item, Run)]
    assert b"".join(run.raw or b"" for run in runs) == b"\n".join(lines) + b"\n"


@pytest.mark.parametrize("block", [1 << 10, 1 << 14, 1 << 20])
@pytest.mark.parametrize("reach", [1, 10, 500])
def test_lines_are_put_in_order_as_far_as_they_are_held_back(block: int, reach: int) -> None:
    draw = random.Random(reach)
    numbers = [number for _, number in sorted((n + draw.random() * reach, n) for n in range(1, 4000))]
    data = b"\n".join([META, *map(state, numbers)]) + b"\n"
    out, reader = read([data[at : at + block] for at in range(0, len(data), block)])
    assert [line.seq for line in out[1:]] == list(range(1, 4000))
    assert reader.faults.late == 0


def test_a_line_that_comes_far_too_late_is_left_out() -> None:
    numbers = [*range(1, 50), *range(51, 5000), 50, 5000]
    data = b"\n".join([META, *map(state, numbers)]) + b"\n"
    out, reader = read([data[at : at + 4096] for at in range(0, len(data), 4096)])
    assert [line.seq for line in out[1:]] == [*range(1, 50), *range(51, 5001)]
    assert reader.faults.late == 1
    assert reader.faults.sentence("x") == "x is used but for what is damaged in it: 1 line is far out of order"


def test_a_stream_may_begin_anew() -> None:
    """With a first line of its own its numbers begin again."""
    part = b"\n".join([META, *(state(seq) for seq in range(1, 2000))]) + b"\n"
    out, reader = read([part + part])
    assert len(out) == 4000
    assert reader.faults.late == 0


@given(marked=st.sets(st.integers(1, 400)), cut=st.integers(1, 4000))
def test_only_some_lines(marked: set[int], cut: int) -> None:
    reader = LineReader()
    reader.only(b'"approximate":true')
    lines = [state(seq, approximate=True) if seq in marked else state(seq) for seq in range(1, 401)]
    data = b"\n".join(lines) + b"\n"
    out, _ = read([data[at : at + cut] for at in range(0, len(data), cut)], reader)
    seen = [line.seq for line in out]
    assert seen == sorted(seen)
    assert marked <= set(seen)
    assert 400 in seen


def test_a_huge_line_is_one_bad_line() -> None:
    out, reader = read([META + b"\n", *([b"x" * 300_000] * 8), b"\n" + state(1) + b"\n"])
    assert [type(line) for line in out] == [RecordedMeta, StateLine]
    assert reader.faults.bad == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("sport", -1), ("sport", 1 << 32), ("from", "OPEN"), ("family", "ip"), ("mono_ns", 1 << 63), ("id", "x"),
     ("uid", 1 << 32), ("held_us", -1), ("seq", None), ("owners", [{"comm": 1}])],
)  # fmt: skip
def test_values_that_cannot_be(field: str, value: Any) -> None:
    out, reader = read([META + b"\n" + state(1, **{field: value}) + b"\n"])
    assert len(out) == 1
    assert (reader.faults.bad, reader.faults.used) == (1, 1)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("2026-11-20T15:00:00.123456789Z", 1_795_186_800_123_456_789),
        ("2026-11-20T15:00:00", None),
        ("2026-11-20T15:00:00+01:00", 1_795_183_200_000_000_000),
        ("2026-11-20T15:00:00.123-00:30", 1_795_188_600_123_000_000),
        ("1970-01-01T00:00:00+00:01", None),
        ("2026-11-20T15:00:00+0100", None),
        ("2026-13-20T15:00:00Z", None),
        ("2026-11-20T15:00:00.Z", 1_795_186_800_000_000_000),
        ("2026-11-20T15:00:00.1234567890Z", None),
        ("1969-12-31T23:59:59Z", None),
        ("", None),
        ("Z", None),
    ],
)
def test_realtime(text: str, ns: int | None) -> None:
    assert recording.realtime(text) == ns


@given(st.binary(max_size=300) | st.text(max_size=60).map(str.encode))
def test_times_and_numbers_of_any_bytes(data: bytes) -> None:
    for function in (recording.line_time, recording.line_seq, recording.meta):
        function(data)


def rewrite(line: dict[str, Any], how: str) -> bytes:
    """A line as some other tool writes it."""
    if how == "floats":
        line = {key: float(value) if isinstance(value, int) else value for key, value in line.items()}
    elif how == "text":
        line = {key: str(value) if isinstance(value, int) else value for key, value in line.items()}
    elif how == "nulls":
        line = {**line, **dict.fromkeys(("owners", "cause", "cgroup", "retransmits", "approximate", "ifname"))}
    elif how == "shipped":
        line = {**line, "host": {"name": "h"}, "@timestamp": line["ts"], "tags": ["a", None]}
    text = msgspec.json.encode(line)
    if how == "spaced":
        return text.replace(b'":', b'" : ')
    if how == "logged":
        return b"Nov 20 15:00:00 host sstrace[1]: " + text
    if how == "wrapped":
        return msgspec.json.encode({"log": text.decode() + "\n", "stream": "stdout", "time": line["ts"]})
    if how == "listed":
        return b"[" + text + b","
    if how == "windows":
        return b"\xef\xbb\xbf" + text + b"\r"
    return text


@pytest.mark.parametrize(
    "how", ["as we do", "floats", "text", "nulls", "shipped", "spaced", "logged", "wrapped", "listed", "windows"]
)
def test_lines_that_other_tools_have_written_anew(how: str) -> None:
    plain = [META, *(state(seq) for seq in range(1, 5))]
    texts = [rewrite(msgspec.json.decode(line), how) for line in plain]
    expected, _ = read([b"\n".join(plain) + b"\n"])
    out, reader = read([b"\n".join(texts) + b"\n"])
    assert reader.faults.bad == 0
    if how == "shipped":
        assert isinstance(out[0], MetaLine)
        out[0].host = expected[0].host
    assert out == expected
    assert [recording.line_time(text) for text in texts] == [recording.line_time(line) for line in plain]
    assert [recording.line_seq(text) for text in texts[1:]] == [1, 2, 3, 4]
    assert recording.meta(texts[0]) == expected[0] or how == "shipped"
    assert recording.meta(texts[1]) is None


def test_only_our_own_way_of_writing_is_handed_on_as_it_is() -> None:
    """So that a replay looks the same whoever had the file before."""
    for how, handed_on in (("as we do", True), ("spaced", False), ("floats", False), ("windows", False)):
        reader = LineReader()
        data = b"\n".join(rewrite(msgspec.json.decode(state(seq)), how) for seq in range(1, 9)) + b"\n"
        runs = [run for run in (*reader.feed(data), *reader.end()) if isinstance(run, Run)]
        assert sum(len(run.lines) for run in runs) == 8
        assert [run.raw is not None for run in runs] == [handed_on] * len(runs)


def test_a_row_told_just_before_a_checkpoint_is_none_of_its_rows() -> None:
    """It has the number that the checkpoint and its rows repeat, and is not put behind it."""
    told = state(2, type="seen", state="LISTEN", id=9)
    rows = [state(2, type="seen", state="ESTAB", id=number) for number in (7, 8)]
    checkpoint = b'{"type":"checkpoint","ts":"2026-11-20T15:00:00.000000002Z","mono_ns":2,"seq":2,"rows":2}'
    out, _ = read([META + b"\n", b"\n".join([state(1), told, checkpoint, *rows, state(3)]) + b"\n"])
    assert [getattr(line, "id", None) for line in out[1:]] == [1, 9, None, 7, 8, 3]
