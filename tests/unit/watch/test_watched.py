"""The watcher's view of the live table: order, counts, marks, filters that hang on the clock, and rates."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from smallworld import SmallWorld

from sstrace.fields import NOTHING
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, Kind, Owner, State
from sstrace.output.row_filter import RowFilter
from sstrace.query.expression import Amount, Expr
from sstrace.rows import learn, socket_of
from sstrace.table import Row, Transition
from sstrace.watch.order import SORTS, Order
from sstrace.watch.view import Verdict, Watched

BOTH = 1 << AF_INET | 1 << AF_INET6
S = 1_000_000_000
FADE = 2 * S


class World:
    """A live table in miniature, and the view of it."""

    def __init__(self, states: int = ALL_STATES, expression: Expr | None = None) -> None:
        self.rows: dict[int, Row] = {}
        self.journal: dict[int, Row] = {}
        self.now = 1000 * S
        self.expression = expression
        self.view = Watched(Verdict(BOTH, expression, RowFilter(expression, SmallWorld()).row), states, fade_ns=FADE)
        self._next = 1

    def row(self, state: State, **fields: Any) -> Row:
        """A row as a table makes one, not in the table."""
        number = self._next
        self._next += 1
        values: dict[str, Any] = {
            "kind": Kind.SOCKET,
            "family": AF_INET,
            "protocol": 6,
            "net": 1,
            "netns": 1,
            "src": bytes([10, 0, 0, 1 + number % 7]),
            "sport": 1000 + 37 * number % 501,
            "dst": bytes([192, 0, 2, number % 5]),
            "dport": 443,
            "ino": number,
            "uid": 0,
            "ifindex": 0,
            "cookie": number,
            "sk": None,
            "since_ns": self.now,
            "exact": True,
            "touched_ns": self.now,
            **fields,
        }
        return Row(id=number, state=int(state), **values)

    def born(self, state: State, **fields: Any) -> Row:
        row = self.row(state, **fields)
        self.rows[row.id] = row
        self.journal[row.id] = row
        self.view.note(Transition(self.now, row, State.CLOSE, row.state, None, None, NOTHING, True))
        return row

    def moved(self, row: Row, state: State) -> None:
        old, held = row.state, self.now - row.since_ns
        row.state, row.since_ns = int(state), self.now
        ended = state == State.TIME_WAIT
        cause = "fin-by-us" if ended else None
        self.view.note(Transition(self.now, row, old, row.state, held, cause, NOTHING, True, ended=ended))

    def died(self, row: Row, cause: str | None = "fin-by-us", *, silently: bool = False) -> None:
        del self.rows[row.id]
        self.journal[row.id] = row
        old, row.state = row.state, int(State.CLOSE)
        if not silently:
            held = self.now - row.since_ns
            ended = old not in (State.LISTEN, State.TIME_WAIT)
            self.view.note(Transition(self.now, row, old, row.state, held, cause, NOTHING, True, ended=ended))

    def fold(self, seconds: float = 0.0) -> None:
        self.now += int(seconds * S)
        self.view.fold(self.journal, lambda row: row.id in self.rows, self.now)

    def shown(self) -> list[tuple[int, str]]:
        return [(entry.row.id, entry.mark) for entry in self.view.rows(0, 10_000)]


# --------------------------------------------------------------------------------------------------------------- order

ITEMS = st.lists(st.tuples(st.binary(max_size=2), st.integers(0, 50)), max_size=200)


@given(ITEMS, ITEMS, st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), st.booleans())
@settings(max_examples=200)
def test_order_is_a_sorted_set(
    first: list[tuple[bytes, int]], second: list[tuple[bytes, int]], look: tuple[int, int, bool], merge: bool
) -> None:
    start, count, back = look

    class Small(Order):
        _LOAD = 4  # so that parts are split and emptied

    have, turn = set(first), set(second)
    order = Small()
    order.reset(have)
    gone, come = have & turn, turn - have
    if merge:
        order.merge(gone, come)
    else:
        for item in gone:
            order.remove(item)
        for item in come:
            order.add(item)
    wanted = [number for _, number in sorted(have ^ turn)]
    assert len(order) == len(wanted)
    assert order.ids(0, 10_000) == wanted
    if back:
        wanted.reverse()
    assert order.ids(start, count, backwards=back) == wanted[start : start + count]


STEPS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 400), st.sampled_from(list(State)[:11])), max_size=120)


@given(STEPS, st.sampled_from(list(SORTS)), st.sampled_from([ALL_STATES, 1 << State.ESTABLISHED, 0b1110]))
@settings(max_examples=200, deadline=None)
def test_view_is_the_table_in_order(steps: list[tuple[int, int, State]], sort: str, states: int) -> None:
    """Whatever happens, and in whatever pieces it is folded in: no row is missed, none is left, each in its place."""
    world = World(states)
    world.view.sort = sort
    for what, number, state in steps:
        rows = list(world.rows.values())
        row = rows[number % len(rows)] if rows else None
        if what <= 1 or row is None:
            world.born(state)
        elif what == 2:
            world.moved(row, state)
        elif what == 3:
            world.died(row)
        elif what == 4:
            world.died(row, silently=True)
        elif what == 5:
            row.sport = 1 + number  # chosen late; the journal tells
            world.journal[row.id] = row
        else:
            world.fold(number / 100)
    world.fold()
    make = SORTS[sort]
    listed = [row for row in world.rows.values() if states >> row.state & 1]
    wanted = sorted((make(row, row.state, row.since_ns), row.id) for row in listed)
    assert [number for number, mark in world.shown() if mark != "-"] == [number for _, number in wanted]
    assert world.view.known == len(world.rows)
    assert dict(world.view.counts()) == {
        state: count for state in range(14) if (count := sum(row.state == state for row in world.rows.values()))
    }
    world.fold(2.1)
    assert [number for number, _ in world.shown()] == [number for _, number in wanted], "closed rows go in the end"
    assert all(mark == " " for _, mark in world.shown())


# --------------------------------------------------------------------------------------------------------------- marks


def test_baseline_is_not_marked() -> None:
    world = World()
    row = world.row(State.ESTABLISHED)
    world.rows[row.id] = row
    world.view.reset([row], world.now)
    assert world.shown() == [(row.id, " ")]


def test_a_life_in_marks() -> None:
    world = World()
    row = world.born(State.SYN_SENT)
    world.fold()
    assert world.shown() == [(row.id, "+")]
    world.fold(2.0)
    assert world.shown() == [(row.id, " ")]
    world.moved(row, State.ESTABLISHED)
    world.fold()
    assert world.shown() == [(row.id, "*")]
    world.now += S
    world.died(row, "reset-received")
    world.fold()
    (entry,) = world.view.rows(0, 5)
    assert (entry.mark, entry.state, entry.cause, entry.held_ns) == ("-", State.ESTABLISHED, "reset-received", S)
    assert world.view.counts() == []
    world.fold(1.9)
    assert world.shown() == [(row.id, "-")]
    world.fold(0.1)
    assert world.shown() == []


def test_a_closed_row_names_the_state_it_closed_from() -> None:
    """Not the one of the last picture: what Held and the cause say is of its very end."""
    world = World()
    row = world.born(State.ESTABLISHED)
    world.fold()
    world.moved(row, State.LAST_ACK)
    world.died(row, "fin-by-peer")
    world.fold()
    (entry,) = world.view.rows(0, 5)
    assert (entry.mark, entry.state, entry.held_ns) == ("-", State.LAST_ACK, 0)


def test_born_and_dead_between_two_pictures_is_seen_once() -> None:
    world = World()
    row = world.born(State.SYN_SENT)
    world.died(row, "refused")
    world.fold()
    (entry,) = world.view.rows(0, 5)
    assert (entry.mark, entry.state, entry.cause) == ("-", State.SYN_SENT, "refused")
    world.fold(2.0)
    assert world.shown() == []


def test_what_dies_in_a_state_that_is_not_listed_does_not_linger() -> None:
    world = World(1 << State.ESTABLISHED)
    row = world.born(State.TIME_WAIT)
    world.fold()
    assert world.shown() == []
    assert world.view.counts() == [(State.TIME_WAIT, 1)]
    world.died(row, "expired")
    world.fold()
    assert world.shown() == []


def test_a_row_whose_end_nobody_saw_goes_at_once() -> None:
    world = World()
    row = world.born(State.ESTABLISHED)
    world.fold()
    world.died(row, silently=True)
    world.fold()
    assert world.shown() == []


def test_a_storm_leaves_a_bounded_number_of_closed_rows() -> None:
    world = World()
    for _ in range(5000):
        world.died(world.born(State.SYN_SENT), "refused")
    world.fold()
    assert len(world.shown()) == 1000
    assert not len(world.view)
    assert world.view.tally.failed == 5000
    world.fold(2.0)
    assert len(world.view) == 0


def test_the_dead_have_the_room_that_the_living_leave_or_a_quarter() -> None:
    world = World()
    living = [world.born(State.ESTABLISHED) for _ in range(30)]
    world.fold(5.0)
    world.fold(5.0)
    for _ in range(50):
        world.died(world.born(State.SYN_SENT), "refused")
    world.fold()
    for backwards in (False, True):
        world.view.backwards = backwards
        for start, count in ((0, 20), (0, 40), (0, 4)):
            marks = [entry.mark for entry in world.view.rows(start, count)]
            assert marks.count("-") == max(count - 30, count // 4 if not backwards or count > 30 else 0)
            assert len(marks) == count
    world.view.backwards = False
    assert [entry.mark for entry in world.view.rows(10, 20)] == [" "] * 20  # where they would stand is not in sight
    world.view.dead = False
    assert [entry.mark for entry in world.view.rows(0, 40)] == [" "] * 30
    assert {world.view.place(row.id) for row in living} == set(range(30))


@given(st.lists(st.sampled_from(["born", "move", "die", "fold"]), max_size=60), st.sampled_from(sorted(SORTS)))
def test_every_living_row_has_its_place(steps: list[str], sort: str) -> None:
    world = World()
    world.view.sort = sort
    for step in steps:
        world.now += S
        alive = list(world.rows.values())
        if step == "born":
            world.born(State.ESTABLISHED)
        elif step == "fold":
            world.fold()
        elif alive:
            world.moved(alive[0], State.CLOSE_WAIT) if step == "move" else world.died(alive[-1])
    world.fold()
    for backwards in (False, True):
        world.view.backwards = backwards
        living = [entry.row.id for entry in world.view.living(0, 100)]
        assert [world.view.place(number) for number in living] == list(range(len(living)))
        assert len(living) == len(world.view) == len(world.rows)
    assert world.view.place(10**9) is None


# --------------------------------------------------------------------------------------------------- sorts and states


def test_sorts() -> None:
    world = World()
    old = world.born(State.LISTEN, src=b"\x0a\0\0\x09", sport=22, dst=bytes(4), dport=0)
    world.now += S
    six = world.born(State.ESTABLISHED, src=bytes(15) + b"\x01", dst=bytes(15) + b"\x02", family=AF_INET6)
    world.now += S
    new = world.born(State.CLOSE_WAIT, src=b"\x0a\0\0\x01", sport=99, dst=b"\xff\0\0\x01")
    old.owners, new.owners = (Owner(b"zsh", 7, 3),), (Owner(b"awk", 8, 4),)
    world.fold()
    orders = {}
    for sort in SORTS:
        world.view.sort = sort
        world.view.resort()
        orders[sort] = [number for number, _ in world.shown()]
    assert orders == {
        "held": [new.id, six.id, old.id],
        "state": [old.id, six.id, new.id],
        "local": [new.id, old.id, six.id],
        "peer": [old.id, new.id, six.id],
        "owner": [new.id, old.id, six.id],
    }
    world.view.backwards = True
    assert [number for number, _ in world.shown()] == [six.id, old.id, new.id]


def test_states_can_be_changed() -> None:
    world = World(1 << State.ESTABLISHED)
    world.born(State.LISTEN)
    row = world.born(State.ESTABLISHED)
    world.fold()
    assert [number for number, _ in world.shown()] == [row.id]
    world.view.states = ALL_STATES
    world.view.resort()
    assert len(world.view) == 2


def test_frozen_rows_stand() -> None:
    world = World()
    row = world.born(State.ESTABLISHED)
    world.fold()
    frozen = world.view.frozen()
    world.died(row)
    world.born(State.LISTEN)
    world.fold(5)
    (entry,) = frozen.rows(0, 9)
    assert (entry.row.id, entry.row.state, entry.mark) == (row.id, State.ESTABLISHED, "+")
    assert frozen.counts() == [(State.ESTABLISHED, 1)]


# -------------------------------------------------------------------------------------------------------------- filter


def test_other_families_and_protocols_are_left_out() -> None:
    world = World()
    world.view.verdict = Verdict(1 << AF_INET6)
    world.born(State.ESTABLISHED)
    world.born(State.ESTABLISHED, family=AF_INET6, protocol=132)
    six = world.born(State.ESTABLISHED, family=AF_INET6)
    world.fold()
    assert world.shown() == [(six.id, "+")]
    assert world.view.changes == 1


@pytest.mark.parametrize("at_least", [True, False])
def test_held_filter_follows_the_clock(at_least: bool) -> None:
    world = World(expression=Amount("held", at_least, 5 * S))
    row = world.born(State.ESTABLISHED)
    world.fold()
    assert bool(world.shown()) is not at_least
    world.fold(4.999)
    assert bool(world.shown()) is not at_least
    world.fold(0.002)
    assert bool(world.shown()) is at_least
    world.moved(row, State.CLOSE_WAIT)
    world.fold(1)
    assert [mark != "-" for _, mark in world.shown()] == ([] if at_least else [True])
    world.fold(4.1)
    assert bool(world.shown()) is at_least


def test_accept_gives_a_connection_an_inode_and_a_user() -> None:
    world = World()
    row = world.row(State.ESTABLISHED, uid=1002)  # the listener's
    row.ino = 0
    learn(row, socket_of(row))
    assert (row.ino, row.uid) == (0, 1002)
    accepted = socket_of(row)
    accepted.ino, accepted.uid = 9, 0
    learn(row, accepted)
    assert (row.ino, row.uid) == (9, 0)


def test_socket_of_has_what_filters_ask_for() -> None:
    world = World()
    row = world.row(State.ESTABLISHED, cgroup=77, v6only=True, uid=5, ifindex=3)
    socket = socket_of(row)
    assert (socket.src, socket.sport, socket.dst, socket.dport) == (row.src, row.sport, row.dst, row.dport)
    assert (socket.uid, socket.ifindex, socket.state, socket.ino) == (5, 3, State.ESTABLISHED, row.ino)
    assert socket.extras is not None
    assert (socket.extras.cgroup_id, socket.extras.v6only) == (77, True)
    assert socket_of(row, state=State.LISTEN).state == State.LISTEN


# --------------------------------------------------------------------------------------------------------------- rates


def test_each_connection_is_counted_once() -> None:
    world = World()
    orderly = world.born(State.SYN_SENT)
    for state in (State.ESTABLISHED, State.FIN_WAIT1, State.FIN_WAIT2, State.TIME_WAIT):
        world.moved(orderly, state)
    world.died(orderly, "expired")
    passive = world.born(State.SYN_RECV)
    for state in (State.ESTABLISHED, State.CLOSE_WAIT, State.LAST_ACK):
        world.moved(passive, state)
    world.died(passive, "fin-by-peer")
    cut = world.born(State.SYN_RECV)
    world.moved(cut, State.ESTABLISHED)
    world.died(cut, "timeout-retransmit")
    world.died(world.born(State.SYN_SENT), "refused")
    world.died(world.born(State.SYN_RECV), "timeout-synack")
    world.died(world.born(State.LISTEN), "closed")
    tally = world.view.tally
    assert (tally.opened, tally.closed, tally.failed) == (3, 2, 3)
