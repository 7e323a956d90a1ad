"""Lines as rows: what stands in front of each, and how those that repeat a ``seq`` are told apart."""

import json
from typing import Any

import msgspec
import pytest

from sstrace.errors import DecodeError
from sstrace.fleet.rows import Rows, run_of
from sstrace.fleet.schema import COLUMNS, GIVEN
from sstrace.lines import EventLine, MetaLine, StateLine

META = MetaLine(schema="sstrace/1", version="1", ts="t0", mono_ns=77, host="web-1", kernel="6", boot_id="b", netns=5)


def line(kind: str, seq: int | None = None, **members: Any) -> bytes:
    numbered = {} if seq is None else {"seq": seq}
    return json.dumps({"type": kind, **numbered, **members}, separators=(",", ":")).encode() + b"\n"


def taken(*chunks: bytes) -> list[dict[str, Any]]:
    rows = Rows("web-1", "b/77")
    return [json.loads(one) for chunk in chunks for one in rows.take(chunk).splitlines()]


def checkpoint(seq: int, rows: int, **more: int) -> bytes:
    return line("checkpoint", seq, ts="t", mono_ns=9, rows=rows, **more)


def test_rows_say_whose_they_are_and_keep_every_member() -> None:
    rows = taken(line("state", 1, note="a\n{b") + line("gone", 2))
    assert rows == [
        {"host": "web-1", "run": "b/77", "type": "state", "seq": 1, "note": "a\n{b"},
        {"host": "web-1", "run": "b/77", "type": "gone", "seq": 2},
    ]
    assert run_of(META) == "b/77"
    assert taken(b"") == []


def test_lines_that_repeat_a_number_are_counted() -> None:
    first = msgspec.json.encode(META) + b"\n" + line("seen", 1)
    rows = taken(
        first,
        line("state", 2) + checkpoint(2, 2, places=1) + line("netns", 2) + line("seen", 2) + line("seen", 2),
        line("mark", 2, ts="t", mono_ns=9),
        line("state", 3) + line("mark", 3, ts="t", mono_ns=9) + line("mark", 3, ts="t", mono_ns=9),
        line("seen", 4),
    )
    told = [(row["type"], row["seq"], row.get("nth", 0)) for row in rows]
    assert told == [
        ("meta", 0, 0), ("seen", 1, 0), ("state", 2, 0), ("checkpoint", 2, 1), ("netns", 2, 2), ("seen", 2, 3),
        ("seen", 2, 4), ("mark", 2, 5), ("state", 3, 0), ("mark", 3, 1), ("mark", 3, 2), ("seen", 4, 0),
    ]  # fmt: skip
    assert len({(row["seq"], row.get("nth", 0)) for row in rows}) == len(rows)
    rest = json.loads(rows[0]["rest"])
    assert {"type": "meta", "ts": rows[0]["ts"], "mono_ns": rows[0]["mono_ns"], **rest} == msgspec.to_builtins(META)


def test_the_next_file_of_a_rotation_goes_on() -> None:
    second = msgspec.structs.replace(META, part=1)
    rows = taken(line("state", 7), msgspec.json.encode(second) + b"\n" + checkpoint(7, 1) + line("seen", 7))
    assert [(row["seq"], row.get("nth", 0)) for row in rows] == [(7, 0), (7, 1), (7, 2), (7, 3)]


def test_what_is_no_line_is_refused() -> None:
    with pytest.raises(DecodeError, match="cut off"):
        taken(checkpoint(2, 2) + line("seen", 2))
    with pytest.raises(DecodeError, match="none of sstrace's"):
        taken(b'{"type":"mark","seq":-1}\n')


def test_every_member_of_every_line_has_a_column() -> None:
    names = {column.name for column in COLUMNS}
    for one in EventLine.__args__:
        members = set(one.__struct_encode_fields__) - {"host"}
        assert one is MetaLine or members <= names, one
    assert set(StateLine.__struct_encode_fields__) <= set(GIVEN)
