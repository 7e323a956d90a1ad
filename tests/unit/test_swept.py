"""Sockets that are looked for: coordinates there and back, and what looks mean for rows."""

from importlib import import_module
from pathlib import Path

import pytest

from sstrace.coordinates import Found, found, name_of, name_text, socket_at
from sstrace.lifecycle import LIVES
from sstrace.lifecycle.udp import UNSEEN
from sstrace.model import AF_UNIX, Netns, Socket, Space, State, Table, UnixSocket, VsockSocket, XdpSocket
from sstrace.protocols import NUMBER_OF_NETID, SWEPT
from sstrace.table import SocketTable, Transition
from sstrace.table.swept import SweptFold
from sstrace.wire.netlink import whole

DATA = Path(__file__).resolve().parents[1] / "data"
HOME = Netns(1, 4026531833)


def recorded(family: str) -> list[Socket]:
    data = (DATA / f"{family}.diag").read_bytes()
    rows: list[Socket] = import_module(f"sstrace.wire.{family}_diag").decode(data[: whole(data)]).rows
    return rows


VSOCK = VsockSocket(
    table=Table.VSOCK_STREAM, family=40, state=1, ino=7, cookie=9, type=1, src_cid=0xFFFFFFFF, sport=5555, dst_cid=2,
    dport=1,
)  # fmt: skip
XDP = XdpSocket(table=Table.XDP, family=44, state=7, ino=8, cookie=10, ifindex=3, queue_id=2, uid=5)


@pytest.mark.parametrize("rows", [*map(recorded, ("unix", "packet", "netlink")), [VSOCK], [XDP]])
def test_a_row_is_the_socket_that_was_found(rows: list[Socket]) -> None:
    assert rows
    table = SocketTable(HOME)
    for socket in rows:
        fact = found(socket)
        assert fact is not None
        fold = table.looked_for(Space(HOME.cookie, fact.protocol))
        fold.begin(1, 10, silent=True)
        row, told = fold.shown(fact)
        assert told is None
        again = found(socket_at(row))
        assert again is not None
        assert again._replace(dst=fact.dst, uid=fact.uid) == fact
        assert again.dst in (fact.dst, None)


@pytest.mark.parametrize("name", [b"", b"/run/x", b"\0abstract", b"relative", b"\xff\xfe"])
def test_names_are_read_back_from_lines(name: bytes) -> None:
    text = name_text(name)
    assert name_text(name_of(text)) == text


def test_every_state_that_can_be_entered_can_be_left() -> None:
    for number in SWEPT:
        life = LIVES[number]
        assert {new for to in life.values() for new in to} == set(life)
        assert all(UNSEEN in to for state, to in life.items() if state != UNSEEN)


class World:
    """A space of unix sockets, and looks at it, a second apart."""

    def __init__(self) -> None:
        self.protocol = NUMBER_OF_NETID["u_str"]
        self.table = SocketTable(HOME)
        self.fold: SweptFold = self.table.looked_for(Space(HOME.cookie, self.protocol))
        self.looks = 0

    def socket(self, ino: int, state: State, name: bytes = b"", peer: int = 0) -> Found:
        made = UnixSocket(
            table=Table.UNIX_STREAM, family=AF_UNIX, state=state, ino=ino, cookie=ino, type=1, name=name, peer_ino=peer
        )
        fact = found(made)
        assert fact is not None
        return fact

    def look(self, *shown: Found) -> list[tuple[int, int, int, int | None]]:
        """Inode, old state, new state, and how long in the old one, of what is told."""
        self.looks += 1
        self.fold.begin(self.looks, self.looks * 1000, silent=self.looks == 1)
        told: list[Transition | None] = [self.fold.shown(fact)[1] for fact in shown]
        told += [self.fold.gone(row) for row in self.fold.missing()]
        changes = [change for change in told if change is not None]
        for change in changes:
            self.fold.meet(change.row)
            assert (change.source, change.approximate) == ("sweep", True)
            assert change.ended is (change.new == UNSEEN)
        self.last = changes
        return [(change.row.ino, change.old, change.new, change.held_ns) for change in changes]


def test_what_two_looks_differ_in_is_told_once() -> None:
    world = World()
    listener = world.socket(1, State.LISTEN, b"/run/x")
    waiting, client = world.socket(2, State.ESTABLISHED), world.socket(2, State.ESTABLISHED, peer=3)
    server = world.socket(3, State.ESTABLISHED, b"/run/x", 2)
    assert world.look(listener) == []
    assert world.look(listener, listener) == []
    assert world.look(listener, waiting) == [(2, UNSEEN, State.ESTABLISHED, None)]
    assert world.look(listener, client, server) == [
        (2, State.ESTABLISHED, State.ESTABLISHED, 1000),
        (3, UNSEEN, State.ESTABLISHED, None),
    ]
    ends = {change.row.ino: (change.row.role, change.row.dst) for change in world.last}
    assert ends == {2: ("client", b"/run/x"), 3: ("server", b"")}
    left = server._replace(dport=0)
    assert world.look(left) == [
        (3, State.ESTABLISHED, State.ESTABLISHED, 1000),
        (1, State.LISTEN, UNSEEN, None),
        (2, State.ESTABLISHED, UNSEEN, 2000),
    ]
    assert [change.lifetime_ns for change in world.last] == [None, None, 2000]
    assert world.look() == [(3, State.ESTABLISHED, UNSEEN, 2000)]


def called(world: World, fact: Found, at_ns: int) -> list[tuple[int, int, int, int | None]]:
    """The same of a call of its owner's, which no look tells."""
    changes = [change for _, change in world.fold.called(fact._replace(cookie=0), at_ns)]
    assert all((change.source, change.approximate) == (None, False) for change in changes)
    return [(change.row.ino, change.old, change.new, change.held_ns) for change in changes]


def test_calls_tell_what_lies_between_two_looks() -> None:
    world = World()
    listener, caller = world.socket(1, State.LISTEN, b"/run/x"), world.socket(2, State.ESTABLISHED)
    caller = caller._replace(dst=b"/run/x")
    server = world.socket(3, State.ESTABLISHED, b"/run/x", 2)
    assert world.look(listener) == []
    assert called(world, caller, 1100) == [(2, UNSEEN, State.ESTABLISHED, None)]
    assert called(world, server, 1200) == [
        (3, UNSEEN, State.ESTABLISHED, None),
        (2, State.ESTABLISHED, State.ESTABLISHED, 100),
    ]
    end = world.fold.closed(world.socket(2, State.ESTABLISHED, peer=3), 1300)
    assert end is not None
    assert (end.ended, end.lifetime_ns, end.row.dst, end.source) == (True, 200, b"/run/x", None)
    assert world.fold.closed(world.socket(9, State.CLOSE), 1400) is None  # nobody has met it
    # The rest is found by a look, which knows both by what it has not seen yet: their cookies.
    left = server._replace(dport=0)
    assert world.look(listener, left) == [(3, State.ESTABLISHED, State.ESTABLISHED, 800)]
    assert called(world, left, 2100) == []


def test_what_a_look_has_found_later_is_not_undone_by_a_call() -> None:
    world = World()
    assert world.look() == []
    assert world.look(world.socket(1, State.LISTEN, b"/run/x")) == [(1, UNSEEN, State.LISTEN, None)]
    (row,) = world.table
    row.touched_ns = 2500  # as live.rounds notes it
    assert called(world, world.socket(1, State.CLOSE, b"/run/x"), 2400) == []
    assert row.state == State.LISTEN


def test_rows_that_looks_know_are_not_made_anew() -> None:
    world = World()
    world.look(world.socket(1, State.LISTEN, b"/run/x"))
    (row,) = world.table
    world.table.gather(lambda: None)
    assert [*world.table] == [row]
    assert next(iter(world.table)) is row
