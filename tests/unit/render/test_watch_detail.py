"""One connection, full screen: as large as asked for, graphs from nothing to the most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_watch_screen import drawn, look

from sstrace.render.watch import ASCII
from sstrace.render.watch_detail import Detail, Graph, detail, spark

ONE = Detail(
    title="10.0.0.1:40000 → 10.0.0.2:443",
    facts=[("Ended", "refused ECONNREFUSED"), ("Process", ",".join(["chrome/12345/7"] * 12))],
    states=["15:28:11.146895  SYN-SENT    ", "15:28:11.147010  UNCONN      17us in SYN-SENT  refused"],
    graphs=[Graph("Sent", "12k, 1.2k/s", [None, 0.0, 1.0, 2.0], "at most 2/s")],
    span="5m00s",
    figures="cubic wscale:7,7 " * 30,
)


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 8, 24, 60])
def test_it_is_as_large_as_the_screen(width: int, height: int) -> None:
    picture, _ = detail(look(), ONE, 0, width, height)
    lines = drawn(picture, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_all_of_it_can_be_reached() -> None:
    _, most = detail(look(), ONE, 0, 80, 12)
    seen = set()
    for top in range(most + 1):
        picture, _ = detail(look(), ONE, top, 80, 12)
        seen |= set(drawn(picture, 80, 12)[4:-1])
    whole, none = detail(look(), ONE, 0, 80, 60)
    assert none == 0
    assert set(drawn(whole, 80, 60)[4:-1]) <= seen | {""}
    assert any(line.startswith(" Ended      refused ECONNREFUSED") for line in seen)


def test_graphs() -> None:
    assert spark([None, 0.0, 4.0, 8.0], unicode=True) == " ▁▅█"
    assert spark([0.0, 0.0], unicode=True) == "▁▁"
    assert not spark([], unicode=True)
    picture, _ = detail(look(glyphs=ASCII), ONE, 0, 80, 60)
    graph = next(line for line in drawn(picture, 80, 60) if line.startswith(" Sent"))
    assert graph.isascii()


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=50), st.booleans())
def test_a_character_for_each(past: list[float | None], unicode: bool) -> None:
    assert len(spark(past, unicode=unicode)) == len(past)
