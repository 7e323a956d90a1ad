"""What a page draws, by itself: columns of a timeline, and pairs."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from test_stats import add

from sstrace.render.html_counts import Pictured, Timeline
from sstrace.render.html_page import page

EVENTS = st.lists(st.tuples(st.integers(0, 10**19), st.sampled_from(["opened", "closed", "refused"])), max_size=60)


@given(EVENTS, EVENTS)
def test_a_timeline_loses_nothing(events: list[tuple[int, str]], more: list[tuple[int, str]]) -> None:
    one, other = Timeline(), Timeline()
    for timeline, told in ((one, events), (other, more)):
        for at_ns, what in told:
            timeline.add(at_ns, what)
    one.merge(other)
    told = events + more
    assert one.total() == Counter(what for _, what in told)
    assert one.last - one.first < 160
    if told:
        assert (one.first, one.last) == (min(one.columns), max(one.columns))
        assert (one.first, one.last) == (min(told)[0] >> one.shift, max(told)[0] >> one.shift)
    for column, counts in one.columns.items():
        assert counts == Counter(what for at_ns, what in told if at_ns >> one.shift == column)


def test_an_owner_who_was_not_known_yet_takes_over_what_he_closes() -> None:
    digest = Pictured()
    add(digest, 1, old="SYN-RECV", new="ESTAB", role="server")
    assert digest.pairs["", "p"].opened == 1
    add(digest, 1, old="ESTAB", new="UNCONN", role="server", owner="nginx", cause="fin-by-peer")
    assert (digest.pairs["", "p"].opened, digest.pairs["", "p"].weight) == (0, 0)
    assert (digest.pairs["nginx", "p"].opened, digest.pairs["nginx", "p"].closed) == (1, 1)
    assert digest.pairs["nginx", "p"] == digest.groups["owner"]["nginx"]


def test_a_page_of_many_is_not_larger() -> None:
    """20,000 connections of as many peers, ports and programs, and a hundred of them."""

    def size(count: int) -> int:
        digest = Pictured()
        for number in range(count):
            peer, owner = f"192.0.{number >> 8}.{number & 255}", f"p{number}"
            add(digest, number, old="SYN-SENT", new="ESTAB", peer=peer, owner=owner)
            add(digest, number, old="ESTAB", new="UNCONN", peer=peer, owner=owner, cause="reset-received")
        return len(page(digest, 0, count * 10**9, 0, 10, utc=True))

    assert size(20_000) < 1.5 * size(100)


def test_pairs_do_not_fill_the_memory() -> None:
    digest = Pictured(most_pairs=100)
    draw = random.Random(1)
    for number in range(3000):
        peer = "regular" if draw.random() < 0.1 else f"p{number}"
        add(digest, number, old="SYN-SENT", new="UNCONN", peer=peer, cause="refused")
        assert len(digest.pairs) <= 100
    assert digest.pairs_dropped
    assert max(digest.pairs.items(), key=lambda item: item[1].weight)[0] == ("", "regular")
    assert b"the lightest are not counted here" in page(digest, 0, 1, 0, 10, utc=True)


def test_owners_can_be_left_away() -> None:
    """Of who may not know them: what they did is everybody's then, and nothing of it is lost."""
    digest = Pictured()
    for number, owner in enumerate(("nginx", "curl", "")):
        add(digest, number, old="SYN-SENT", new="ESTAB", owner=owner)
    digest.hide_owners()
    assert digest.groups["owner"] == {}
    assert {key: tally.opened for key, tally in digest.pairs.items()} == {("", "p"): 3}
    assert b"nginx" not in page(digest, 0, 1, 0, 10, utc=True)


def test_a_page_of_nothing_says_so() -> None:
    assert b"Nothing has happened in that time." in page(Pictured(), 0, 10**9, 0, 10, utc=True)
