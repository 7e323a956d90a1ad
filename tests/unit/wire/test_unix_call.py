"""Records of bpf/unix.bpf.c, made by hand."""

import struct

import pytest

from sstrace.errors import DecodeError
from sstrace.model import AF_UNIX, SOCK_STREAM, Owner, State
from sstrace.protocols import NUMBER_OF_NETID
from sstrace.wire.unix_call import SIZE, UnixCall, decode

LOST = struct.pack("=IHHQQ", 2, 0, 24, 0, 7)
"""PERF_RECORD_LOST, which perf puts among them."""


def record(call: int, name: bytes, peer: bytes = b"", *, pid: int = 7, kind: int = SOCK_STREAM) -> bytes:
    event = struct.pack(
        "=QQQQIIIIIIHBB4x16s108s108s", 1000, 0, 51, 52, 4026531840, 1000, pid, 3, len(name), len(peer), kind,
        State.ESTABLISHED, call, b"curl", name, peer,
    )  # fmt: skip
    assert len(event) == SIZE
    size = (8 + 4 + SIZE + 7) // 8 * 8
    return (struct.pack("=IHHI", 9, 0, size, SIZE) + event).ljust(size, b"\0")


def test_a_call_says_who_has_done_what_to_which_socket() -> None:
    data = record(3, b"", b"/run/docker.sock\0") + LOST + record(4, b"\0a\0b", pid=0)
    called, accepted = decode(data)
    assert (called.at_ns, called.call, called.netns) == (1000, UnixCall.CONNECT, 4026531840)
    assert called.owner == Owner(b"curl", 7, 3)
    assert called.found == (
        AF_UNIX, NUMBER_OF_NETID["u_str"], State.ESTABLISHED, b"", 51, b"/run/docker.sock", 52, 0, 51, 1000, 0,
    )  # fmt: skip
    assert (accepted.call, accepted.found.src, accepted.owner) == (UnixCall.ACCEPT, b"\0a\0b", None)


@pytest.mark.parametrize("cut", [3, 12, 200])
def test_what_is_cut_off_is_no_record(cut: int) -> None:
    with pytest.raises(DecodeError):
        list(decode(record(1, b"/x")[:cut]))


def test_another_build_is_noticed() -> None:
    with pytest.raises(DecodeError, match="different builds"):
        list(decode(struct.pack("=IHHI4x", 9, 0, 16, 4)))
    with pytest.raises(DecodeError, match="type 9"):
        list(decode(record(1, b"/x", kind=9)))
