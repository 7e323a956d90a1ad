"""Which release an ss binary is, from its bytes."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sstrace.sources import installed
from sstrace.sources.installed import release_in, ss_release

MARK = b"\0ss utility, iproute2-"


@pytest.mark.parametrize(
    ("binary", "release"),
    [
        (MARK + b"6.1.0\n\0", "6.1.0"),  # in the banner itself
        (MARK + b"%s\n\0 libbpf \0" + b"6.15.0\0802.1Q\0", "6.15.0"),
        (b"\0v7.0.0\0" + MARK + b"%s\n\0", "v7.0.0"),
        (MARK + b"%s\n\0" + b"0.0.0.0\0" + b"5.10.0+vendor\0", "5.10.0+vendor"),
        (MARK + b"%s\n\0" + b"ss200127\0" + b"6.1.0\0", "ss200127"),
        (MARK + b"%s\n\0" + b"6.1.0\0" + b"ss200127\0", "6.1.0"),
        (MARK + b"%s\n\0" + b"12.1\0", "12.1"),
        (MARK + b"%s\n\0" + b"112.1\0" + b"1.2\0", None),
        (MARK + b"%s\n\0", None),
        (b"#!/bin/sh\nexec ss.real\n\0" + b"6.1.0\0", None),
        (b"", None),
    ],
)
def test_release(binary: bytes, release: str | None) -> None:
    assert release_in(binary) == release


@given(st.lists(st.sampled_from([b"\0", b"\0\0", b".", b"v", b"ss", b"6", b"10", b"1", b"200127", b" ", b"+a", b"x"])))
@example([b"\0", b"6", b".", b"10", b"\0", b"ss", b"200127", b"\0"])
@example([b"\0", b"ss", b"200127", b"\0", b"6", b".", b"1", b"\0"])
def test_the_first_string_of_its_own_is_found(parts: list[bytes]) -> None:
    binary = b"".join(parts)
    slow = re.search(rb"\0" + installed._RELEASE.pattern, binary)
    fast = installed._first_alone(binary)
    assert (slow and slow.span(1)) == (fast and fast.span(1))


def test_the_first_real_ss_of_the_path_counts(tmp_path: Path) -> None:
    for name, content in (("a", None), ("b", b"#!/bin/sh\n"), ("c", MARK + b"6.2.0\n\0"), ("d", MARK + b"6.3.0\n\0")):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "ss").write_bytes(content)
    path = ":".join(str(tmp_path / name) for name in "abcd")
    assert ss_release(path) == "6.2.0"
    assert ss_release(str(tmp_path / "a")) is None
