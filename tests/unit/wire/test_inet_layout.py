"""The one layout of an inet_diag answer: whatever a decoder wants of it, it is read from its place."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from sstrace.model import AF_INET
from sstrace.wire.inet_layout import FAMILIES, MEMBERS, OFFSET, SIZE, codes, swap_words

MESSAGE = bytes(range(SIZE))


def test_size_is_the_kernels() -> None:
    assert SIZE == 16 + 72  # struct nlmsghdr, struct inet_diag_msg
    assert (OFFSET["family"], OFFSET["sport"], OFFSET["src"], OFFSET["if"]) == (16, 20, 24, 56)


@given(st.sampled_from(FAMILIES), st.sets(st.sampled_from(list(MEMBERS))))
def test_members_stand_in_their_places(family: int, wanted: set[str]) -> None:
    read = struct.Struct("=" + codes(family, *wanted))
    assert read.size == SIZE
    names = [name for name in MEMBERS if name in wanted]
    for name, value in zip(names, read.unpack(MESSAGE), strict=True):
        code = "4s" if MEMBERS[name] == "16s" and family == AF_INET else MEMBERS[name]
        assert (value,) == struct.unpack_from("=" + code, MESSAGE, OFFSET[name])


def test_words_swap_and_swap_back() -> None:
    assert swap_words(0x1_0000_0002) == 0x2_0000_0001
    assert swap_words(swap_words(0x0123456789ABCDEF)) == 0x0123456789ABCDEF
