"""Whose a connection is: a user's of this host, or an address'."""

import os
import socket
from collections.abc import Iterator

import pytest

from sstrace.live import callers

SOMEBODY = 4321


@pytest.fixture
def whose() -> Iterator[callers.Callers]:
    made = callers.Callers()
    yield made
    made.close()


@pytest.mark.root
@pytest.mark.parametrize("uid", [0, SOMEBODY])
@pytest.mark.parametrize(
    ("family", "listens", "called"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
        (socket.AF_INET6, "::", "::1"),
    ],
)
def test_a_user_of_this_host(whose: callers.Callers, uid: int, family: int, listens: str, called: str) -> None:
    with socket.create_server((listens, 0), family=family, dualstack_ipv6=listens == "::") as server:
        os.seteuid(uid)
        try:
            client = socket.create_connection((called, server.getsockname()[1]))
        finally:
            os.seteuid(0)
        with client, server.accept()[0] as accepted:
            assert whose(accepted) == f"uid {uid}"


class _Elsewhere(socket.socket):
    """A connection of another host."""

    def __init__(self, peer: str) -> None:
        super().__init__()
        self._peer = peer

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.1" if "." in self._peer else "2001:db8::1", 9435

    def getpeername(self) -> tuple[str, int]:
        return self._peer, 4000


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_address(whose: callers.Callers, one: str, other: str, alike: bool) -> None:
    with _Elsewhere(one) as first, _Elsewhere(other) as second:
        assert (whose(first) == whose(second)) == alike


def test_who_has_hung_up(whose: callers.Callers) -> None:
    with socket.socket() as nobody:
        assert whose(nobody) == ""
