"""Releases of ss: reading their numbers, and where the differences lie."""

from itertools import pairwise

import msgspec
import pytest

from sstrace.dialect import (
    LINK_PROTOCOLS,
    NEWEST,
    OLDEST,
    Dialect,
    dialect,
    link_protocol,
    link_protocol_number,
    parse_version,
)
from sstrace.errors import UsageError


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.1", (6, 1)),
        ("6.1.0", (6, 1, 0)),
        ("iproute2-6.1.0", (6, 1, 0)),
        ("ss utility, iproute2-6.15.0\n", (6, 15, 0)),
        ("ss utility, iproute2-ss190107", (5, 0)),
        ("ss utility, iproute2-5.10.0", (5, 10, 0)),
        ("6.1.0+deb12u1", (6, 1, 0)),
        ("iproute2-6.4.0_rc1", (6, 4, 0)),
        ("7.1", (7, 1)),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


NO_VERSIONS = ["", " ", "6", "six.one", "ss", "x.1", "-", "iproute2-", "6.", ".1", "²·¹", "9" * 5000 + ".1"]


@pytest.mark.parametrize("text", NO_VERSIONS)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a version of ss"):
        parse_version(text)


def test_each_difference_separates_the_ends() -> None:
    old, new = dialect(OLDEST), dialect(NEWEST)
    flags = [field.name for field in msgspec.structs.fields(Dialect) if field.type is bool]
    assert len(flags) > 20
    for flag in flags:
        assert getattr(old, flag) is not getattr(new, flag), flag
        assert getattr(old, flag) is (flag in {"timer_sec_bug", "dccp"})


def test_each_difference_happens_once() -> None:
    versions = [(6, n) for n in range(1, 20)] + [(7, 0), (7, 1), (7, 9), (8, 0)]
    for field in msgspec.structs.fields(Dialect):
        if field.type is bool:
            values = [getattr(dialect(version), field.name) for version in versions]
            assert sum(a is not b for a, b in pairwise(values)) == 1, field.name


def test_beyond_the_studied_range_the_nearer_end_rules() -> None:
    before, after = dialect((5, 10, 0)), dialect((9, 3))
    for field in msgspec.structs.fields(Dialect):
        if field.type is bool:
            assert getattr(before, field.name) is getattr(dialect(OLDEST), field.name)
            assert getattr(after, field.name) is getattr(dialect(NEWEST), field.name)
    assert (before.release, after.release) == ("5.10.0", "9.3.0")


def test_the_release_is_what_ss_prints() -> None:
    assert dialect((6, 1)).release == "6.1.0"
    assert dialect((6, 15, 0), "6.15.0+vendor").release == "6.15.0+vendor"


def test_link_protocols_go_both_ways() -> None:
    new, old = dialect(NEWEST), dialect(OLDEST)
    assert len({number for number, _ in LINK_PROTOCOLS}) == len(LINK_PROTOCOLS)
    for number, name in LINK_PROTOCOLS:
        assert link_protocol(number, new) == name
        assert link_protocol_number(name.swapcase(), new) == number
    assert link_protocol(0x8902, old) is None
    assert link_protocol_number("cfm", old) is None
    assert link_protocol_number("IPv4", old) == 0x0800
    assert link_protocol(0x1234, new) is None
