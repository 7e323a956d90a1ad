"""What the netlink socket's refusals turn into; the socket itself is a stand-in here."""

import errno
import os
import socket
from typing import Any

import pytest

from sstrace.errors import FeatureError, KernelError, PrivilegeError, SstraceError
from sstrace.sources.diag import Diag


class Stub:
    """A socket whose every call fails with ``number``, or which hands out ``sizes`` as datagram lengths."""

    def __init__(self, number: int = 0, sizes: tuple[int, ...] = ()) -> None:
        self.number, self.sizes, self.closed = number, list(sizes), False

    def _fail(self, *_: Any) -> None:
        if self.number:
            raise OSError(self.number, "stub")

    send = bind = setsockopt = getsockname = _fail

    def recv_into(self, buffer: bytearray, room: int, flags: int) -> int:
        self._fail()
        assert (len(buffer), flags) == (room, socket.MSG_TRUNC)
        size = self.sizes.pop(0)
        buffer[: min(size, room)] = b"\xab" * min(size, room)
        return size

    def close(self) -> None:
        self.closed = True


def make(monkeypatch: pytest.MonkeyPatch, stub: Stub, **options: Any) -> Diag:
    monkeypatch.setattr("sstrace.sources.diag.socket.socket", lambda *_: stub)
    return Diag(**options)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EPROTONOSUPPORT, FeatureError, "CONFIG_INET_DIAG"),
        (errno.EPERM, PrivilegeError, "sandbox"),
        (errno.EMFILE, KernelError, ""),
    ],
)
def test_a_socket_that_cannot_be_made_has_words_of_ss_and_advice_of_ours(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: type[SstraceError], words: str
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "stub")

    monkeypatch.setattr("sstrace.sources.diag.socket.socket", refuse)
    with pytest.raises(kind) as caught:
        Diag()
    assert str(caught.value) == f"Cannot open netlink socket: {os.strerror(number)}"
    assert caught.value.errno == number
    assert words in caught.value.advice


def test_a_socket_that_cannot_be_set_up_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(errno.EINVAL)
    with pytest.raises(KernelError, match="SO_SNDBUF: Invalid argument") as caught:
        make(monkeypatch, stub, groups=[1])
    assert (caught.value.errno, stub.closed) == (errno.EINVAL, True)


def test_lost_news_are_an_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub()
    diag = make(monkeypatch, stub)
    stub.number = errno.ENOBUFS
    for call in (diag.receive, lambda: diag.send(b"x")):
        with pytest.raises(KernelError) as caught:
            call()
        assert caught.value.errno == errno.ENOBUFS


def test_datagrams_come_one_by_one_and_a_cut_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(sizes=(5, 7, (1 << 20) + 1, 0))
    with make(monkeypatch, stub) as diag:
        datagrams = iter(diag)
        assert bytes(next(datagrams)) == b"\xab" * 5
        assert len(next(datagrams)) == 7
        with pytest.raises(KernelError, match="does not fit"):
            diag.receive()
        with pytest.raises(KernelError, match="EOF on netlink"):
            diag.receive()
    assert stub.closed


def test_no_two_sockets_share_a_buffer_and_the_next_one_takes_that_of_a_closed_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def buffer(diag: Diag) -> object:
        return diag.receive().obj

    first, second = (make(monkeypatch, Stub(sizes=(8, 8))) for _ in range(2))
    used = buffer(first)
    assert used is not buffer(second)
    first.close()
    first.close()
    third, fourth = (make(monkeypatch, Stub(sizes=(8,))) for _ in range(2))
    assert buffer(third) is used
    assert buffer(fourth) is not used
    for diag in (second, third, fourth):
        diag.close()
