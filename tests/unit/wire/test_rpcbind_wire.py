"""The rpcbind call and answers built by hand."""

import struct

import pytest

from sstrace.errors import DecodeError
from sstrace.wire import rpcbind


def opaque(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data + b"\0" * (-len(data) & 3)


def entry(program: int, netid: bytes, address: bytes) -> bytes:
    return struct.pack(">III", 1, program, 3) + opaque(netid) + opaque(address) + opaque(b"superuser")


ACCEPTED = struct.pack(">IIIIII", 7, 1, 0, 0, 0, 0)


def test_the_call() -> None:
    assert rpcbind.size_of_fragment(rpcbind.CALL[:4]) == (len(rpcbind.CALL) - 4, True) == (40, True)
    assert struct.unpack_from(">5I", rpcbind.CALL, 8) == (0, 2, 100000, 4, 4)


def test_entries() -> None:
    record = (
        ACCEPTED
        + entry(100003, b"tcp", b"0.0.0.0.8.1")
        + entry(100005, b"udp6", b"::.78.80")
        + entry(100021, b"tcp", b"10.0.0.1.8.1")
        + entry(100000, b"local", b"/run/rpcbind.sock")
        + entry(100024, b"udp", b"0.0.0.0.8")
        + entry(100024, b"sctp", b"0.0.0.0.255.255")
        + bytes(4)
    )
    assert rpcbind.decode(record) == [(100003, "tcp", 2049), (100005, "udp", 20048), (100024, "sctp", 65535)]


def test_refusals_and_cuts() -> None:
    good = ACCEPTED + entry(100003, b"tcp", b"0.0.0.0.8.1") + bytes(4)
    assert len(rpcbind.decode(good)) == 1
    for size in range(len(good)):
        with pytest.raises(DecodeError):
            rpcbind.decode(good[:size])
    for refused in (struct.pack(">III", 7, 1, 1) + bytes(20), struct.pack(">IIIIII", 7, 1, 0, 0, 0, 2)):
        with pytest.raises(DecodeError, match=r"refused|understood"):
            rpcbind.decode(refused)
    with pytest.raises(DecodeError, match="record mark of 3 bytes"):
        rpcbind.size_of_fragment(b"abc")
