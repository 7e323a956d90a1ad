"""What hurt a connection, as a line of text: in its columns, and never wider than the screen."""

from typing import Any

import pytest
from smallworld import SmallWorld
from test_events import row, transition  # the same made-up rows

from sstrace.changes import Happened
from sstrace.dialect import NEWEST, dialect
from sstrace.model import AF_INET6, Details, Owner, Show, What
from sstrace.plain import cells
from sstrace.render.chosen import ChosenText
from sstrace.render.ends import Ends
from sstrace.render.fitted import FittedText
from sstrace.render.incidents import incident_words
from sstrace.render.trace import HEADER, TraceText

ENDS = Ends(Show(numeric=True), dialect(NEWEST), SmallWorld())
AGAIN = Details(segment="data", by="timer", bytes=1448, retransmits=2)
CASES: list[tuple[What, Details, str]] = [
    ("retransmit", AGAIN, "retransmit data 1448 timer ×2"),
    ("retransmit", Details(segment="syn-ack", retransmits=1), "retransmit syn-ack ×1"),
    ("reset", Details(direction="sent", reason="TCP_STATE"), "reset sent TCP_STATE"),
    ("reset", Details(direction="received"), "reset received"),
    ("error", Details(reason="ECONNREFUSED"), "error ECONNREFUSED"),
    ("drop", Details(reason="TCP_ZEROWINDOW", bytes=1, window=0), "drop TCP_ZEROWINDOW 1 zero window"),
    ("overflow", Details(count=3, queue=129, backlog=128), "overflow ×3 queue 129/128"),
]
LONG: dict[str, Any] = {"family": AF_INET6, "src": bytes(range(16)), "dst": bytes(range(100, 116)), "dport": 61000}


def happened(what: What = "retransmit", details: Details = AGAIN, **fields: Any) -> Happened:
    owners = (Owner(b"nginx", 4711, 7),)
    return Happened(5_000_000_000, row(**{"owners": owners, "role": "client", **fields}), what, details)


@pytest.mark.parametrize(("what", "details", "words"), CASES)
def test_words(what: What, details: Details, words: str) -> None:
    assert incident_words(what, details) == words
    line = TraceText(0, ENDS).incident(happened(what, details))
    assert f"   {words} " in line
    at = len(line) - len(line.lstrip()) + line.index("127.0.0.1")
    assert at - line.index(f"  {words}") == HEADER.index("Local"), "the ends stand where those of transitions do"


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 132, 200])
@pytest.mark.parametrize("role", ["client", "server", None])
@pytest.mark.parametrize("more", [{}, LONG], ids=["inet", "inet6"])
def test_no_line_wraps(width: int, role: str | None, more: dict[str, Any]) -> None:
    for lines in (FittedText(0, ENDS), ChosenText(("time", "process"), 0, ENDS)):
        lines.fit(width)
        for what, details, words in CASES:
            text = lines.incident(happened(what, details, role=role, **more))
            assert cells(text) <= width
            assert words.split()[0] in text
    lines.fit(None)
    assert "nginx/4711" in lines.incident(happened())


def test_at_eighty_columns_the_other_end_is_whole() -> None:
    lines = FittedText(0, ENDS)
    lines.fit(80)
    assert lines.incident(happened()).split()[1:] == [
        "retransmit", "data", "1448", "timer", "×2", "nginx/4711", "→", "127.0.0.2:443",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [None, 80, 100, 200])
def test_where_lines_say_of_which_protocol_they_are_these_do_too(width: int | None) -> None:
    """In the same column, and what stands behind it where it stands in the line of a transition."""
    lines = FittedText(0, ENDS, netids=True)
    lines.fit(width)
    short = happened("reset", Details(direction="sent"))
    title, told, moved = lines.header(0), lines.incident(short), lines.state(transition(short.row))
    at, what = title.index("Ne"), "nginx" if width == 80 else "127.0.0"
    assert told[at:].startswith("tcp ")
    assert moved[at:].startswith("tcp ")
    assert told.index(what) == moved.index(what)
