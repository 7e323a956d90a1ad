"""Numbers as C reads them, against the C library of this machine."""

import ctypes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sstrace.query.numbers import get_integer, get_unsigned, scan_integer, strtol, strtoul

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.strtol.restype = ctypes.c_long
LIBC.strtoul.restype = ctypes.c_ulong
TEXT = st.text(alphabet="0123456789abcfxX+- \t\n/9g", max_size=24)
ERANGE = 34


def c_number(function: str, text: str) -> tuple[int, int, bool]:
    data = text.encode("latin-1")
    buffer = ctypes.create_string_buffer(data)
    end = ctypes.c_char_p()
    ctypes.set_errno(0)
    value = getattr(LIBC, function)(buffer, ctypes.byref(end), 0)
    overflow = ctypes.get_errno() == ERANGE
    rest = end.value
    assert rest is not None
    return value, len(data) - len(rest), overflow


@given(TEXT)
@example("9223372036854775808")
@example("-9223372036854775809")
@example("0x")
@example("0xg")
@example("08")
@example("-0x10")
@example("+ 5")
def test_strtol(text: str) -> None:
    assert strtol(text) == c_number("strtol", text)


@given(TEXT)
@example("18446744073709551616")
@example("-1")
@example("-18446744073709551615")
def test_strtoul(text: str) -> None:
    assert strtoul(text) == c_number("strtoul", text)


@given(TEXT)
@example("0x")
@example("-0x/")
@example("00x")
@example("99999999999999999999")
def test_scan_integer(text: str) -> None:
    value, count = ctypes.c_int(0), ctypes.c_int(-1)
    found = LIBC.sscanf(text.encode(), b"%i%n", ctypes.byref(value), ctypes.byref(count))
    if found == 1:
        assert scan_integer(text) == (value.value & 0xFFFFFFFF, count.value)
    else:
        assert scan_integer(text)[1] == 0


@pytest.mark.parametrize(
    ("text", "value"),
    [("22", 22), ("0x16", 22), ("026", 22), ("-5", -5), (" 7", 7), ("7 ", None), ("", None), ("2147483648", None)],
)
def test_get_integer(text: str, value: int | None) -> None:
    assert get_integer(text) == value


def test_get_integer_of_64_bits() -> None:
    assert get_integer("4294967296", 64) == 1 << 32
    assert get_integer("9223372036854775808", 64) is None


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("4294967295", 0xFFFFFFFF), ("4294967296", None), ("-1", None)])
def test_get_unsigned(text: str, value: int | None) -> None:
    assert get_unsigned(text) == value
