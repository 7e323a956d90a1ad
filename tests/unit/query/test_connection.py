"""How one connection is named."""

import re

import pytest

from sstrace.errors import UsageError
from sstrace.query.connection import address_of, parse_which
from sstrace.query.options import parse


@pytest.mark.parametrize(
    "text",
    ["10.0.0.1:40000-10.0.0.2:443", "10.0.0.2:443-10.0.0.1:40000", ":40000-:443", "*:443-10.0.0.1:40000",
     "[::ffff:10.0.0.1]:40000-:443"],
)  # fmt: skip
def test_either_order_and_any_address(text: str) -> None:
    which = parse_which(text)
    assert which is not None
    assert which.means(("10.0.0.1", 40000), ("10.0.0.2", 443))
    assert which.means(("10.0.0.2", 443), ("10.0.0.1", 40000))
    assert not which.means(("10.0.0.1", 40000), ("10.0.0.2", 444))
    assert not which.means(("10.0.0.1", 443), ("10.0.0.2", 443))


@pytest.mark.parametrize("text", [":40000", "*:40000", "10.0.0.1:40000", "[::ffff:10.0.0.1]:40000"])
def test_one_end(text: str) -> None:
    which = parse_which(text)
    assert which is not None
    assert which.means(("10.0.0.1", 40000), ("10.0.0.2", 443))
    assert which.means(("10.0.0.2", 443), ("10.0.0.1", 40000))
    assert not which.means(("10.0.0.1", 443), ("10.0.0.2", 40001))


def test_ipv6_and_numbers() -> None:
    which = parse_which("[2001:DB8:0::1]:1-[::1]:2")
    assert which is not None
    assert which.means(("2001:db8::1", 1), ("::1", 2))
    assert (parse_which("#17"), address_of("::ffff:1.2.3.4")) == (which.__class__("#17", id=17), "1.2.3.4")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "17",
        "#",
        "#x",
        "10.0.0.1",
        ":x",
        ":1-",
        "10.0.0.1-10.0.0.2",
        ":1-:65536",
        ":1-:2-:3",
        "-",
    ],
)
def test_what_is_none(text: str) -> None:
    assert parse_which(text) is None
    with pytest.raises(UsageError, match="is no connection: write"):
        parse(["sstrace", "--replay", "FILE", "--explain", text])


@pytest.mark.parametrize(
    ("text", "ports"),
    [("localhost:80", ":80"), ("a-b.example:80-c-d:81", ":80-:81"), ("[::1]:1-localhost:2", ":1-:2"),
     ("300.0.0.1:80", ":80"), ("²:1-:2", ":1-:2")],
)  # fmt: skip
def test_a_name_is_told_from_what_is_none(text: str, ports: str) -> None:
    with pytest.raises(UsageError, match=f'"{re.escape(text)}": names are not looked up: write addresses, or {ports} '):
        parse(["sstrace", "--explain", text])
    assert parse(["sstrace", "--explain", ports])


@pytest.mark.parametrize("more", ["--life", "--events reset", "--record x", "-t", "dport = :1", "--speed 1"])
@pytest.mark.parametrize("source", ["netlink", "FILE", "live"])
def test_nothing_narrows_it(more: str, source: str) -> None:
    with pytest.raises(UsageError, match=r" means nothing to --explain WHICH"):
        parse(["sstrace", "--from", source, "--explain", ":1", *more.split()])
    assert parse(["sstrace", "--from", source, "--explain", ":1", "--json", "-n"])


@pytest.mark.parametrize("source", ["netlink", "live"])
def test_only_recordings_number_connections(source: str) -> None:
    assert parse(["sstrace", "--from", "FILE", "--explain", "#1"])
    with pytest.raises(UsageError, match="--explain #1 is of a recording, whose lines have an id: name it with --from"):
        parse(["sstrace", "--from", source, "--explain", "#1"])
