"""A command line told back: in words, and as the table beside it, which is a command line again."""

import shlex

import pytest
from smallworld import SmallWorld

from sstrace.dialect import dialect
from sstrace.query import states
from sstrace.query.command import Command, Mode
from sstrace.query.options import parse, resolve
from sstrace.query.spoken import followed, table_beside, told, unlooked


def command(*words: str) -> Command:
    parsed = parse(["sstrace", *words], release=dialect((6, 1)))
    assert isinstance(parsed, Command)
    return parsed


@pytest.mark.parametrize(
    ("typed", "what", "table"),
    [
        ("", "", "--snapshot -ta"),
        ("-tlp", " that enters or leaves listening", "--snapshot -tlp"),
        ("-n4 state established", " that enters or leaves established over IPv4", "--snapshot -tan4 state established"),
        ("exclude time-wait", " that neither enters nor leaves time-wait", "--snapshot -ta exclude time-wait"),
        ("state connected", " that enters or leaves connected", "--snapshot -ta state connected"),
        (
            "from syn-sent to established,closed dport = :443",
            " from syn-sent to established or closed where dport = :443",
            "--snapshot -ta dport = :443",
        ),
        ("-6 '(' sport = :22 ')'", " over IPv6 where '(' sport = :22 ')'", "--snapshot -ta6 '(' sport = :22 ')'"),
        (
            "state listening held '>' 5m",
            " that enters or leaves listening where held '>' 5m",
            "--watch -tl held '>' 5m",
        ),
        ("-N blue -l", " that enters or leaves listening", "--snapshot -tl -N blue"),
    ],
)
def test_what_is_followed_and_where_the_table_is(typed: str, what: str, table: str) -> None:
    of = command(*shlex.split(typed))
    assert followed(of) == f"every transition of TCP{what}"
    assert table_beside(of) == f"sstrace {table}"
    # The table has the states that are followed, and no others.
    beside = command(*shlex.split(table_beside(of))[1:])
    assert beside.mode in (Mode.SNAPSHOT, Mode.WATCH)
    everything = states.all_states(of.dialect)
    assert (beside.selection.states & everything & ~1) in (
        of.selection.touch & ~of.selection.avoid & everything & ~1,
        states.LISTENING,
    )
    assert beside.operands == of.operands


@pytest.mark.parametrize(
    ("typed", "what"),
    [
        ("", "every transition of TCP"),
        ("--events drop -u dport = :53", "every drop of UDP where dport = :53"),
        ("--events all -l", "every transition of TCP that enters or leaves listening, and every retransmission, reset, "
         "drop, error and overflow"),
        ("--events reset,drop", "every reset and drop of TCP"),
    ],
)  # fmt: skip
def test_what_a_trace_tells(typed: str, what: str) -> None:
    assert told(command(*shlex.split(typed))) == what


@pytest.mark.parametrize("release", [(6, 1), (7, 0)])
def test_the_words_of_every_mask_mean_it(release: tuple[int, int]) -> None:
    of = dialect(release)
    for mask in (1 << 1, 1 << 7 | 1 << 10, 0b1111_1111_1110, states.scan_state("big", of), 1 << 3 | 1 << 6):
        assert mask
        read = 0
        for word in states.state_words(mask, of):
            read |= states.scan_state(word, of) or 0
        assert read & 0xFFE == mask & 0xFFE


def test_ends_are_told_by_their_name() -> None:
    of = command("ended", "dport", "=", ":443")
    assert followed(of) == "the end of every TCP connection where dport = :443"
    assert table_beside(of) == "sstrace --snapshot -ta dport = :443"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", ""),
        ("user root and port 443", ""),
        ("cause fin-by-us", ""),
        ("cause refused or not cause killed", "looks alone do not tell cause, for which the filter asks"),
        ("role client sent > 1k", "looks alone do not tell role and sent, for which the filter asks"),
        ("--watch held > 5m and rtt > 1s", ""),
        ("--watch role server", "looks alone do not tell role, for which the filter asks"),
    ],
)
def test_what_is_not_known_where_nothing_is_heard(typed: str, said: str) -> None:
    assert unlooked(resolve(command(*typed.split()), SmallWorld())) == said
