"""Names of interfaces by time: heard, due, told again, and what happens where nobody can hear."""

import errno
import socket
from typing import Any

import pytest
from bpf_events import HERE, SPACE
from links_heard import DELLINK, message

from sstrace.changes import Told
from sstrace.live.announce import Announcer
from sstrace.live.interfaces import Interfaces
from sstrace.model import AF_INET, InetSocket, Renamed, Seen, State, SweepBegin, SweepEnd, Table
from sstrace.sources import links
from sstrace.sources.names import SystemNames
from sstrace.table import SocketTable


class Socket:
    """Gives what is put into ``coming``: datagrams, or errors."""

    def __init__(self, *_: int) -> None:
        self.coming: list[bytes | OSError] = []
        self.closed = False

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 1)

    def recv(self, _: int) -> bytes:
        if not self.coming:
            raise BlockingIOError
        one = self.coming.pop(0)
        if isinstance(one, OSError):
            raise one
        return one

    def fileno(self) -> int:
        return 7

    def close(self) -> None:
        self.closed = True


class Names(SystemNames):
    """Interfaces from a table."""

    def __init__(self, **world: int) -> None:
        super().__init__({})
        self.world = world

    def look_at_interfaces(self) -> dict[int, str]:
        return {index: name for name, index in self.world.items()}


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Socket:
    one = Socket()
    monkeypatch.setattr(socket, "socket", lambda *_: one)
    return one


def told(changes: list[Renamed]) -> list[tuple[int, str | None, str | None]]:
    return [(change.index, change.before, change.name) for change in changes]


def test_changes_are_given_when_it_is_their_turn(wire: Socket) -> None:
    names = Names(lo=1, v0=3)
    heard = Interfaces(names)
    heard.hear()
    assert heard.until(1 << 62) == []
    wire.coming += [message(3, b"v0") + message(3, b"wan"), message(3, b"wan", DELLINK) + message(5, b"v0")]
    heard.hear()
    assert names.ifname(3) == "v0"
    assert heard.until(0) == []
    changes = heard.until(1 << 62)
    assert told(changes) == [(3, "v0", "wan"), (3, "wan", None), (5, None, "v0")]
    assert heard.until(1 << 62) == []
    for change in changes:
        names.name_interface(change.index, change.name)
    assert (names.ifname(5), names.ifindex("v0"), names.interfaces()) == ("v0", 5, {1: "lo", 5: "v0"})
    heard.close()
    assert wire.closed


@pytest.mark.parametrize("trouble", [OSError(errno.ENOBUFS, "full"), OSError(errno.ENOMEM, "no memory"), b"\1\2\3"])
def test_what_was_missed_is_looked_at(wire: Socket, trouble: Any) -> None:
    names = Names(lo=1, v0=3, v1=4)
    heard = Interfaces(names)
    names.world = {"lo": 1, "wan": 3, "v2": 5}
    wire.coming.append(trouble)
    heard.hear()
    assert told(heard.until(1 << 62)) == [(3, "v0", "wan"), (5, None, "v2"), (4, "v1", None)]


def test_where_nobody_can_hear_one_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refuse)
    names = Names(lo=1, v0=3)
    heard = Interfaces(names)
    names.world = {"lo": 1, "wan": 3}
    heard.hear()
    assert told(heard.until(1 << 62)) == [(3, "v0", "wan")]
    names.world = {"lo": 1}
    heard.hear()
    assert heard.until(1 << 62) == []
    monkeypatch.setattr(links, "_AGE_NS", 0)
    heard._links._next_ns = 0
    heard.hear()
    assert told(heard.until(1 << 62)) == [(3, "wan", None)]
    heard.close()


def test_the_real_kernel_s_socket_is_silent_while_nothing_happens() -> None:
    found = links.Links()
    assert found.fileno() is not None
    assert found.read().whole
    found.close()
    found.close()
    assert socket.if_indextoname(1) == "lo"


def test_rows_of_a_renamed_device_are_told_again() -> None:
    table = SocketTable(HERE)
    table.begin(SweepBegin(SPACE, 1))
    for port, index in ((1, 0), (2, 3), (3, 4), (4, 3)):
        ends: dict[str, Any] = {"src": bytes(4), "sport": port, "dst": bytes(4), "dport": 0}
        table.seen(
            Seen(SPACE, InetSocket(Table.TCP, AF_INET, State.LISTEN, ino=port, cookie=port, ifindex=index, **ends))
        )
    table.end(SweepEnd(SPACE, 2, complete=True))
    announcer = Announcer(table)
    announcer.begin(2)
    came, went = Renamed(10, 3, None, "v0"), Renamed(20, 3, "v0", "wan")
    assert list(announcer.through([came])) == [came]
    table.renamed(3, 20)
    first, *found = announcer.through([went])
    assert first is went
    assert [(one.row.sport, one.at_ns, one.alive) for one in found if type(one) is Told] == [
        (2, 20, True),
        (4, 20, True),
    ]
    assert list(announcer.through([])) == []
