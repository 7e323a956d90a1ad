"""What is asked of sock_diag, where one walk over the kernel's hash table has to do for both families."""

import struct
from collections.abc import Iterator
from typing import Any, Self

from sstrace.live.kernel import Kernel
from sstrace.wire import netlink

LEGACY = 18
"""TCPDIAG_GETSOCK."""


class Answering:
    """A sock_diag socket that ends every dump at once, or refuses one type of request."""

    def __init__(self, asked: list[int], refused: int = -1) -> None:
        self._asked, self._refused = asked, refused

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, request: bytes) -> None:
        self._asked.append(netlink.message(request, 0)[0])

    def __iter__(self) -> Iterator[memoryview]:
        refused = self._asked[-1] == self._refused
        kind, code = (netlink.NLMSG_ERROR, -95) if refused else (netlink.NLMSG_DONE, 0)
        yield memoryview(struct.pack("=IHHIIi", 20, kind, 0, netlink.SEQUENCE, 0, code))


def asked(*, sparse: bool, refused: int = -1, times: int = 1) -> list[int]:
    found: list[int] = []
    diag: Any = lambda: Answering(found, refused)  # noqa: E731
    kernel = Kernel(lambda: None, diag, sparse=sparse)
    for _ in range(times):
        rows, whole = kernel.dump(-1)
        assert (rows, whole) == ([], True)
    return found


def test_one_request_is_of_both_families() -> None:
    assert asked(sparse=True, times=2) == [LEGACY, LEGACY]
    assert asked(sparse=False) == [netlink.SOCK_DIAG_BY_FAMILY] * 2


def test_where_it_is_not_known_each_is_asked_for() -> None:
    each = [netlink.SOCK_DIAG_BY_FAMILY] * 2
    assert asked(sparse=True, refused=LEGACY, times=2) == [LEGACY, *each, *each]
