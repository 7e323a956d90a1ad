"""getopt_long: the rules, and the sentences of glibc 2.36."""

import pytest

from sstrace.query.getopt import BadOption, Option, getopt

LONG = (
    Option("tipc", "1"),
    Option("tipcinfo", "2"),
    Option("socket", "A", 1),
    Option("query", "A", 1),
    Option("quiet", "q"),
    Option("all", "a"),
    Option("snapshot", "--snapshot", whole=True),
    Option("between", "--between", 2, whole=True),
    Option("serve", "--serve", optional=True, whole=True),
)


def taken(*words: str, posix: bool = False) -> tuple[list[tuple[str, tuple[str, ...]]], list[str]]:
    operands: list[str] = []
    return list(getopt(words, "aqA:t", LONG, operands, posix=posix)), operands


def test_options_and_operands_mix() -> None:
    assert taken("x", "-a", "y", "--all", "-", "z") == ([("a", ()), ("a", ())], ["x", "y", "-", "z"])


def test_posix_stops_at_the_first_operand() -> None:
    assert taken("-a", "x", "-a", posix=True) == ([("a", ())], ["x", "-a"])


def test_two_dashes_end_the_options() -> None:
    assert taken("-a", "--", "-a", "--all", "--") == ([("a", ())], ["-a", "--all", "--"])


def test_letters_cluster_and_arguments_join_or_follow() -> None:
    assert taken("-at", "-Ax", "-A", "y", "-aAz") == (
        [("a", ()), ("t", ()), ("A", ("x",)), ("A", ("y",)), ("a", ()), ("A", ("z",))],
        [],
    )


def test_an_argument_may_look_like_an_option() -> None:
    assert taken("-A", "--", "--socket", "-a", "--query=--all") == (
        [("A", ("--",)), ("A", ("-a",)), ("A", ("--all",))],
        [],
    )


def test_an_exact_name_wins_over_longer_ones() -> None:
    assert taken("--tipc", "--tipci") == ([("1", ()), ("2", ())], [])


def test_names_shorten_as_far_as_one_option_is_meant() -> None:
    assert taken("--al", "--so=x", "--que", "y") == ([("a", ()), ("A", ("x",)), ("A", ("y",))], [])


def test_own_options_do_not_shorten_and_do_not_disturb() -> None:
    assert taken("--snapshot", "--s=x", "--between", "a", "b", "--between=c", "d", "--serve", "--serve=p") == (
        [
            ("--snapshot", ()),
            ("A", ("x",)),
            ("--between", ("a", "b")),
            ("--between", ("c", "d")),
            ("--serve", ()),
            ("--serve", ("p",)),
        ],
        [],
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-y"], "invalid option -- 'y'"),
        (["-a:"], "invalid option -- ':'"),
        (["-a;"], "invalid option -- ';'"),
        (["-a-"], "invalid option -- '-'"),
        (["-aA"], "option requires an argument -- 'A'"),
        (["--socket"], "option '--socket' requires an argument"),
        (["--soc"], "option '--socket' requires an argument"),
        (["--all=1"], "option '--all' doesn't allow an argument"),
        (["--al="], "option '--all' doesn't allow an argument"),
        (["--nope=1"], "unrecognized option '--nope=1'"),
        (["--snap"], "unrecognized option '--snap'"),
        (["--snapshot=1"], "option '--snapshot' doesn't allow an argument"),
        (["--between", "a"], "option '--between' requires an argument"),
        (["--qu=1"], "option '--qu=1' is ambiguous; possibilities: '--query' '--quiet'"),
        (["--tip"], "option '--tip' is ambiguous; possibilities: '--tipc' '--tipcinfo'"),
    ],
)
def test_mistakes_are_told_as_glibc_tells_them(words: list[str], sentence: str) -> None:
    with pytest.raises(BadOption) as caught:
        taken(*words)
    assert str(caught.value) == sentence


def test_options_before_a_mistake_have_acted() -> None:
    options = getopt(["-a", "-y", "-t"], "at", LONG, [])
    assert next(options) == ("a", ())
    with pytest.raises(BadOption):
        next(options)
