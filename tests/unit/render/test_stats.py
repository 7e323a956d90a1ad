"""The digest by itself: percentiles, what is kept, and the tables."""

import json
import random
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sstrace.fields import Reported
from sstrace.model import STATE_TEXT
from sstrace.render.digest import Digest
from sstrace.render.spread import Spread
from sstrace.render.stats import ndjson, text


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_right_to_two_percent(values: list[int], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    exact = sorted(values)[max(-(-len(values) * round(share * 100) // 100) - 1, 0)]
    assert abs(spread.percentile(share) - exact) <= max(exact * 0.02, 1)
    assert (spread.least, spread.greatest, spread.count) == (min(values), max(values), len(values))


def add(digest: Digest, number: int, *, old: str, new: str, **fields: Any) -> None:
    """A transition of connection ``number``."""
    values = {
        "held_ns": 5, "peer": "p", "ports": (1, 2), "owner": "", "cause": None, "retransmits": 0, "lifetime_ns": None,
        "role": "client", "ended": new == "TIME-WAIT" or (new == "UNCONN" and old != "TIME-WAIT"), **fields,
    }  # fmt: skip
    digest.add(number, number, STATE_TEXT.index(old), STATE_TEXT.index(new), **values)


def test_nothing_is_kept_of_what_has_ended() -> None:
    digest = Digest()
    for number in range(1000):
        for old, new in pairwise(("UNCONN", "SYN-SENT", "ESTAB", "FIN-WAIT-1", "TIME-WAIT", "UNCONN")):
            add(digest, number, old=old, new=new)
    assert digest.opened["out"] == digest.closed == 1000
    assert not digest._there


def test_nor_of_an_end_that_was_missed() -> None:
    digest = Digest()
    for number in range(1000):
        add(digest, number, old="SYN-SENT", new="ESTAB")
    digest.keep({3, 4}.__contains__)
    assert set(digest._there) == {3, 4}


def test_what_failed_is_what_its_cause_says() -> None:
    """Whether or not it had been opened, and whoever called; all other ends are closes."""
    digest = Digest()
    add(digest, 1, old="SYN-SENT", new="UNCONN", cause="refused")
    add(digest, 2, old="ESTAB", new="UNCONN", cause="reset-received", role="server", lifetime_ns=7)
    add(digest, 3, old="ESTAB", new="UNCONN", cause="killed", role=None)
    add(digest, 4, old="SYN-SENT", new="UNCONN", cause="abandoned")
    add(digest, 5, old="FIN-WAIT-2", new="FIN-WAIT-2", cause="fin-by-us", ended=True, lifetime_ns=9)
    add(digest, 5, old="FIN-WAIT-2", new="TIME-WAIT", ended=False)
    assert digest.failed == {"out": 1, "in": 1, "": 1}
    assert digest.closed == 2
    assert digest.lifetime.count == 2
    assert "failed 3 (1 out, 1 in), closed 2\n" in text(digest, "-", "-", 10)
    assert digest.top("peer", 1)[0][1].weight == 2, "connections begun"


def test_a_scan_does_not_fill_the_memory() -> None:
    digest = Digest(most_keys=100)
    draw = random.Random(1)
    for number in range(5000):
        peer = "regular" if draw.random() < 0.1 else f"p{number % 2500}"
        add(digest, number, old="SYN-SENT", new="UNCONN", peer=peer, cause="refused")
        assert len(digest.groups["peer"]) <= 100
    assert digest.top("peer", 1)[0][0] == "regular"
    assert digest.top("peer", 1)[0][1].failed > 400
    assert "(at least " in text(digest, "-", "-", 10)


def test_an_owner_who_was_not_known_yet_has_opened_what_he_closes() -> None:
    digest = Digest()
    for number, owner in ((1, ""), (2, b"early")):
        add(digest, number, old="SYN-RECV", new="ESTAB", owner=owner)
    for number, owner in ((1, b"late"), (2, b"early"), (3, b"before")):
        add(digest, number, old="LAST-ACK", new="UNCONN", owner=owner)
    found = {name: (tally.opened, tally.closed) for name, tally in digest.top("owner", 9)}
    assert found == {"early": (1, 1), "late": (1, 1), "before": (0, 1)}


STATES = st.integers(1, 11)
ROLES = ("client", "server", None)


@given(st.lists(st.tuples(st.integers(0, 9), STATES, STATES, st.booleans(), st.integers(0, 3)), max_size=60))
def test_two_digests_together_are_one(steps: list[tuple[int, int, int, bool, int]]) -> None:
    """What no connection shares can be counted apart."""
    halves, whole = (Digest(), Digest()), Digest()
    for at, (number, old, new, ended, retransmits) in enumerate(steps):
        for digest in (halves[number % 2], whole):
            digest.add(
                at, number, old, new, ended=ended, lifetime_ns=at * 20, role=ROLES[number % 3], held_ns=at * 10,
                peer=bytes((10, 0, 0, number % 3)), ports=(1, number), owner=b"x" * (number % 3),
                cause=("refused", "linger")[number % 2], retransmits=retransmits,
            )  # fmt: skip
    halves[0].merge(halves[1])
    assert text(halves[0], "a", "b", 3) == text(whole, "a", "b", 3)
    assert halves[0].first_ns == whole.first_ns
    assert halves[0].last_ns == whole.last_ns


def test_raw_addresses_and_names_become_text_at_the_end() -> None:
    digest = Digest()
    for number, peer in enumerate((b"\x7f\0\0\1", bytes(15) + b"\1")):
        add(digest, number, old="SYN-SENT", new="ESTAB", held_ns=None, peer=peer, owner=b"a\xff")
    assert {key for key, _ in digest.top("peer", 9)} == {"127.0.0.1", "::1"}
    assert [key for key, _ in digest.top("owner", 9)] == ["a\\xff"]
    assert [key for key, _ in digest.top("port", 9)] == ["2"]


def test_tables() -> None:
    digest = Digest()
    for number in range(12):
        add(
            digest, number, old="SYN-RECV", new="ESTAB", peer=f"10.0.0.{number % 11}", ports=(80, 5), owner="a\x1bb",
            role="server",
        )  # fmt: skip
    moment = "2026-11-30T10:34:48.862237040+00:00"
    shown = text(digest, moment, moment, 10)
    assert max(map(len, shown.splitlines())) == 80  # no line wraps
    assert "opened 12 (0 out, 12 in), failed 0" in shown
    assert "\x1b" not in shown
    assert "a\\x1bb" in shown
    assert "(1 more)" in shown
    bars = [line for line in shown.splitlines() if line.startswith("10.0.0.")]
    assert bars[0].split() == ["10.0.0.0", "2", "0", "0", "0", "0", "0", "█" * 20]
    assert bars[1].split()[-1] == "█" * 10
    assert len(bars[0]) == 80
    assert all(line == line.rstrip() for line in shown.splitlines())
    assert text(Digest(), "-", "-", 10).count("\n") == 3


def test_what_they_carried_is_of_those_that_have_ended() -> None:
    digest, other = Digest(), Digest()
    add(digest, 1, old="SYN-SENT", new="ESTAB", peer="p" * 39, reported=Reported(bytes_sent=5))
    for into in (digest, other):
        carried = Reported(bytes_sent=1_500, bytes_received=77, rtt_us=40)
        add(into, 1, old="LAST-ACK", new="UNCONN", peer="p" * 39, owner="nginx", reported=carried)
        add(into, 2, old="LAST-ACK", new="UNCONN", peer="other")
    digest.merge(other)
    assert (digest.sent, digest.received, digest.rtt.count) == (3_000, 154, 2)
    shown = text(digest, "-", "-", 10)
    assert shown.splitlines()[2] == "retransmits 0, sent 3.0k, received 154"
    assert ["nginx", "1", "0", "2", "0", "3.0k", "154"] in [line.split()[:7] for line in shown.splitlines()]
    lines = [json.loads(line) for line in ndjson(digest, "-", "-", 10).splitlines()]
    assert (lines[0]["bytes_sent"], lines[0]["bytes_received"]) == (3_000, 154)
    peers = {line["key"]: line["bytes_sent"] for line in lines if line.get("by") == "peer"}
    assert peers == {"p" * 39: 3_000, "other": 0}
    assert [line["p50_us"] for line in lines if line.get("of") == "rtt"] == [40.0]
