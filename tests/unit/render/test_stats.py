"""The digest by itself: percentiles, what is kept, and the tables."""

import random
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sstrace.render import stats
from sstrace.render.stats import Digest, Spread, text


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_right_to_two_percent(values: list[int], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    exact = sorted(values)[max(-(-len(values) * round(share * 100) // 100) - 1, 0)]
    assert abs(spread.percentile(share) - exact) <= max(exact * 0.02, 1)
    assert (spread.least, spread.greatest, spread.count) == (min(values), max(values), len(values))


def add(digest: Digest, number: int, **fields: Any) -> None:
    """A transition of connection ``number``."""
    values = {"held_ns": 5, "peer": "p", "ports": (1, 2), "owner": "", "cause": None, "retransmits": 0, **fields}
    digest.add(number, number, **values)


def test_nothing_is_kept_of_what_has_ended() -> None:
    digest = Digest()
    for number in range(1000):
        for old, new in pairwise(("UNCONN", "SYN-SENT", "ESTAB", "FIN-WAIT-1", "TIME-WAIT", "UNCONN")):
            add(digest, number, old=old, new=new)
    assert digest.opened["out"] == digest.closed == 1000
    assert not digest._opened


def test_a_scan_does_not_fill_the_memory(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(stats, "_MOST_KEYS", 100)
    digest = Digest()
    draw = random.Random(1)
    for number in range(5000):
        peer = "regular" if draw.random() < 0.1 else f"p{number}"
        add(digest, number, old="SYN-SENT", new="UNCONN", peer=peer, cause="refused")
    assert len(digest.groups["peer"]) <= 100
    assert digest.top("peer", 1)[0][0] == "regular"
    assert digest.top("peer", 1)[0][1].failed > 400


def test_tables() -> None:
    digest = Digest()
    for number in range(12):
        add(digest, number, old="SYN-RECV", new="ESTAB", peer=f"10.0.0.{number % 11}", ports=(80, 5), owner="a\x1bb")
    shown = text(digest, "then", "now", 10)
    assert "opened 12 (0 out, 12 in), failed 0" in shown
    assert "\x1b" not in shown
    assert "a\\x1bb" in shown
    assert "(1 more)" in shown
    bars = [line for line in shown.splitlines() if line.startswith("10.0.0.")]
    assert bars[0].split() == ["10.0.0.0", "2", "0", "0", "0", "█" * 30]
    assert bars[1].split()[-1] == "█" * 15
    assert all(line == line.rstrip() for line in shown.splitlines())
    assert text(Digest(), "-", "-", 10).count("\n") == 2
