"""The live socket table: Facts in, changes out. Owns the identity of sockets.

Identity. An event names a kernel address, and the socket cookie if somebody has asked the kernel for it; a sweep
names the cookie, the inode and the addresses. A row is therefore found by

1. the kernel address, once an event has told it;
2. the cookie. A sweep makes the kernel give every socket one, so events of rows that a sweep has met carry it (a
   timewait socket's is that of the full socket it stands for);
3. the inode, for listeners;
4. the four-tuple within its network namespace, for connections: this is also how a connection's row passes from its
request
   socket to its full socket and on to its timewait socket (see lifecycle).

A kernel address is used again at once after its socket died. Rows leave the address index when they die, and a cookie
that does not fit shows an address that outlived a death that was lost.

Sweeps. After the hooks are attached, events are the whole truth of every socket that they mention; a sweep adds what
they never mentioned. So a row that an event has touched since the sweep began wins over what the sweep saw of it, a
socket that died since then stays dead, and whatever neither the sweep nor an event knows is removed at the sweep's
complete end.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import count
from typing import Any

import msgspec

from sstrace.causes import FIN_BY_US
from sstrace.fields import NOTHING, Reported
from sstrace.lifecycle import LISTED, STEPS, Report, Step, is_listed
from sstrace.model import Changed, Gone, InetSocket, Kind, Owner, Seen, State, SweepBegin, SweepEnd
from sstrace.native import twins

__all__ = ["IPPROTO_TCP", "Resync", "Row", "SocketTable", "Transition"]

IPPROTO_TCP = 6

_ANY6 = bytes(16)
_TIMEWAIT_MS = 60_000
"""TCP_TIMEWAIT_LEN, include/net/tcp.h."""
_UNHASH_NS = 1_000_000
"""From the event of an end until the socket can be dumped no more: microseconds."""
_MAPPED = bytes(10) + b"\xff\xff"
_SOCKET, _REQUEST, _TIMEWAIT = Kind.SOCKET, Kind.REQUEST, Kind.TIMEWAIT
_REQUEST_TIMER, _TIMEWAIT_TIMER = Report.REQUEST_TIMER, Report.TIMEWAIT_TIMER
_CLOSE, _LISTEN, _SYN_RECV = int(State.CLOSE), int(State.LISTEN), int(State.SYN_RECV)
_ESTABLISHED = int(State.ESTABLISHED)
_HANDS_OVER = frozenset(map(int, (State.FIN_WAIT1, State.FIN_WAIT2, State.CLOSING)))
"""States out of which a timewait socket takes over."""
_ORDERLY = frozenset((FIN_BY_US, "reset-sent"))
"""Ends that may leave a timewait socket behind, whose stacks do not tell whether one was born unheard."""
_FIN_WAIT2, _TIME_WAIT, _SYN_SENT = int(State.FIN_WAIT2), int(State.TIME_WAIT), int(State.SYN_SENT)
_CLOSING = int(State.CLOSING)

Ends = tuple[int, int, bytes, bytes] | tuple[int, int, bytes, bytes, int, int, int]
"""The key of a connection: local port, peer port, local address, peer address; v4-mapped addresses as IPv4. Behind them
bound device, protocol and network namespace where they are not 0, TCP and the table's own: sockets that are bound to
different devices may be between the same addresses."""
Cookie = int | tuple[int, Ends | None]


class Row(msgspec.Struct, gc=False):
    """One connection or listener, whichever kernel object holds it now."""

    id: int
    """Ours: unique within the table's life."""
    kind: Kind
    state: int
    family: int
    protocol: int
    netns: int
    src: bytes
    sport: int
    dst: bytes
    dport: int
    ino: int
    uid: int | None
    """None for request and timewait sockets, of which the kernel does not know it."""
    ifindex: int
    cookie: int | None
    sk: int | None
    since_ns: int
    """When it came into its state; a lower bound of the duration follows where ``exact`` is false."""
    exact: bool
    touched_ns: int
    """Time of the last event; 0 when only sweeps know it."""
    owners: tuple[Owner, ...] = ()
    """Who held it when that was last learnt; nobody is told of its end."""
    owner_source: str | None = None
    """connect, listen, close: the system call that an event saw. walk, proc: read from the process table, nobody
    included. listener: nobody has accepted it, as far as is known, and these hold its listener. None: not known."""
    cgroup: int | None = None
    v6only: bool | None = None
    seen: int = 0
    """Number of the last sweep that met it."""
    born_ns: int | None = None
    """When the connection, or the listening, began; None when that was not seen."""
    role: str | None = None
    """client: this end sent the SYN; server: it came from the peer; None where that was not seen, and for listeners."""
    ends: Ends | None = None
    """The key under which the table finds it; None for listeners, and of a connect(2) that failed without a SYN."""
    told: bool = False
    """Whether those who follow the table have heard of it (live.announce's)."""


class Transition(msgspec.Struct, frozen=True, gc=False):
    """A change of a row's state. Read ``row`` at once: the next fact may change it."""

    at_ns: int
    row: Row
    old: int
    new: int
    held_ns: int | None
    """Time in the old state; None when its beginning is unknown."""
    cause: str | None
    reported: Reported
    """What the event says besides: by the compiled event path the event itself, which has the same attributes."""
    listed: bool
    """False: a transition that lifecycle does not list."""
    approximate: bool = False
    """True: found by looking, so it happened at ``at_ns`` or a little before."""
    source: str | None = None
    """``poll``: no event stands behind it, two sweeps differ. None: an event, or a look at this one row."""
    ended: bool = False
    """Whether the connection ends here: once in the life of a row, and never of a listener's."""
    lifetime_ns: int | None = None
    """Where the connection ends, or the listening: time since it began; None when that was not seen."""


class Resync(msgspec.Struct, frozen=True):
    """What a sweep repaired."""

    at_ns: int
    added: list[Row]
    removed: list[Row]
    changed: list[tuple[Row, int]]
    """Rows whose state was wrong, with the wrong state; and those of ``ended`` in any case."""
    ended: frozenset[int] = frozenset()
    """Ids of the rows that a timewait socket holds now, and a full one did before: their connections have ended."""


class SocketTable:
    """The rows. ``netns`` is the network namespace (inode) that sweeps read."""

    def __init__(self, netns: int) -> None:
        self._netns = netns
        self._rows: dict[int, Row] = {}
        self._by_sk: dict[int, Row] = {}
        self._by_cookie: dict[Cookie, Row] = {}
        """By ``_cookie``: timewait sockets have the cookie of their full socket, which may live on."""
        self._by_ino: dict[int, Row] = {}
        """By ``_inode``: an MPTCP socket and its subflows have one inode."""
        self._by_tuple: dict[Ends, Row] = {}
        self._by_state: defaultdict[int, dict[int, Row]] | None = None
        """Rows by state and id, but for ESTABLISHED, which nearly all are; None until somebody wants that."""
        self._vague: dict[int, Row] = {}
        self._shared: dict[bytes | int, bytes | int] = {}
        self._ids = count(1)
        self._sweep = 0
        self._sweep_began = 0
        self._sweeping = False
        self._dead: set[tuple[int, Ends, bool] | Ends] = set()
        """Ends; and cookie, ends, and whether it was a timewait socket."""
        self._dead_listeners: set[int] = set()
        self._added: list[Row] = []
        self._replaced: list[Row] = []
        self._changed: list[tuple[Row, int]] = []
        self._ended: set[int] = set()
        self.probe: Callable[[Row], InetSocket | None] | None = None
        """Where somebody can look: what the kernel has between the ends of this row now. Asked where a full socket
        gives up as one does that leaves a timewait socket behind, and none has told of itself."""
        self.implied = 0
        """Timewait sockets that were found so: nobody heard of their births."""
        self.unlisted = 0
        """Transitions that lifecycle does not list."""
        self.journal: dict[int, Row] | None = None
        """Where somebody keeps a view of the rows: every row that came, went or changed its addresses or owners, by
        id, with or without a transition to tell of it. Whoever sets it empties it."""
        self.silent: dict[int, tuple[Row, int]] | None = None
        """Where somebody tells of every change: the rows, by id, that came, went or changed their ports, family,
        v6only or owners without a transition or a Resync to tell of it, and since when that has been so, 0 where
        nobody knows. Whoever sets it empties it."""
        self._twin: Any = None
        if twins is not None:
            self._twin = twins.Folder(
                Row, Transition, tuple(Kind), LISTED, netns, self._rows, self._by_sk, self._by_cookie, self._by_ino,
                self._by_tuple, self._vague, self._ids, self.apply, _own, _inherited,
            )  # fmt: skip

    def __contains__(self, row_id: int) -> bool:
        return row_id in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def in_states(self, states: int) -> list[Row] | None:
        """The rows in these states (bit n for state n), from the second time on found without a look at any other; None
        where ESTABLISHED is among them, so that they are no fewer than most.
        """
        if states >> _ESTABLISHED & 1:
            return None
        if self._by_state is None:
            self._by_state = defaultdict(dict)
            for row in self._rows.values():
                if row.state != _ESTABLISHED:
                    self._by_state[row.state][row.id] = row
            if self._twin is not None:
                self._twin.by_state = self._by_state
        return [row for state, rows in self._by_state.items() if states >> state & 1 for row in rows.values()]

    def known(self, found: InetSocket) -> Row | None:
        """The row of a socket that the kernel has just shown, by the same keys as a sweep's; None when it is news."""
        row = self._by_cookie.get(_cookie(found.cookie, _kind_of(found), self._ends_of_found(found)))
        if row is not None:
            return row
        if found.state == _LISTEN:
            return self._by_ino.get(_inode(found))
        row = self._by_tuple.get(self._ends_of_found(found))
        # The cookie that the row has, if any, is not this one.
        return row if row is not None and row.cookie is None else None

    def between(self, ends: Iterable[tuple[int, int, bytes, bytes]]) -> list[Row | None]:
        """The rows of TCP connections between these ends: local port, peer port, local address, peer address, mapped
        ones as IPv4; bound to no device. None where there is no row.
        """
        return list(map(self._by_tuple.get, ends))

    def vague(self) -> list[Row]:
        """Rows of which events cannot tell all, so somebody has to look: FIN-WAIT-2 in a timewait socket, which may
        turn TIME-WAIT without an event, listeners whose port was chosen after listen(2) had reported them, and
        listeners on the IPv6 wildcard, of which no event says whether IPv4 is meant too.
        """
        return list(self._vague.values())

    def folder(self) -> Callable[[Any], Transition | None]:
        """What folds a run of events in (wire.event.Event) as ``apply`` does, as fast as may be; good until a sweep
        begins or ends, or somebody asks for a journal.
        """
        if self._twin is None:
            return self.apply
        self._twin.is_easy = not self._sweeping and self.journal is None
        return self._twin  # type: ignore[no-any-return]

    def apply(self, fact: Changed | Gone) -> Transition | None:
        """Fold one event in. The transition that users see, None when there is none."""
        if type(fact) is Changed:
            return self._socket(fact) if fact.kind is _SOCKET else self._timer(fact)
        assert isinstance(fact, Gone)
        return self._gone(fact)

    # Full sockets.

    def _socket(self, fact: Changed) -> Transition | None:
        old, new, at_ns = fact.old, fact.new, fact.at_ns
        row = self._by_sk.get(fact.sk)
        # As a rule it is the row; only what looks odd is looked at more closely.
        if (
            row is not None
            and (
                row.state != old
                or old in (_LISTEN, new)
                or row.kind is not _SOCKET
                or row.cookie != fact.cookie
                or row.dport != fact.dport
                or row.dst != fact.dst
            )
            and (_is_stale(row, fact) or self._by_cookie.get(fact.cookie or 0, row) is not row)
        ):
            self._bury_unheard(row)
            row = None
        if row is None:
            if old == _LISTEN and new == _SYN_RECV:
                return self._child(fact)
            row = self._find(fact)
        if new == _CLOSE:
            return self._close(fact, row)
        ends = row.ends if row is not None else None
        held: int | None = None
        if row is None:
            row = self._birth(fact, _SOCKET, new)
            if old == new == _SYN_SENT:
                old = _CLOSE  # the SYN goes out, and nobody heard of the connect(2) before it
        else:
            held = at_ns - row.since_ns if row.exact and row.state == old else None
            if row.sport == 0 or row.dport == 0 or row.state in (_CLOSE, _SYN_SENT) or row.ifindex != fact.ifindex:
                self._readdress(row, fact)
            if fact.ino is not None:
                row.ino = fact.ino
            row.uid = fact.uid
            row.touched_ns = at_ns
            if row.state != new:
                if self._by_state is None:
                    row.state = new
                else:
                    self._restate(row, new)
                row.since_ns = at_ns
                row.exact = True
            if fact.cookie is not None and row.cookie is None:
                row.cookie = fact.cookie
                self._by_cookie[fact.cookie] = row
        if fact.orphaned:
            row.ino = 0
        if fact.owner is not None:
            _own(row, fact.owner, new, fact.orphaned)
        if fact.cgroup is not None:
            row.cgroup = fact.cgroup
        if new == _LISTEN:
            if fact.v6only is not None:
                row.v6only = fact.v6only
            if fact.ino is not None:
                self._by_ino[_inode(row)] = row
            if row.sport == 0 or (row.v6only is None and row.src == _ANY6):
                self._vague[row.id] = row
        elif new == _SYN_SENT and row.protocol == IPPROTO_TCP:
            if row.sport == 0:
                self._vague[row.id] = row
            else:
                self._vague.pop(row.id, None)
        elif self._vague:
            self._vague.pop(row.id, None)
        if old == new:
            if not row.told or ends is not row.ends:
                self._note(row)
            return None  # close(2) of a socket that is closing already, or news of a known one
        return self._transition(fact, row, old, new, held)

    def _close(self, fact: Changed, row: Row | None) -> Transition | None:
        if row is None:
            if fact.old == _CLOSE:
                return None  # closed more than once (tcp_abort), or never opened
            heir = self._by_tuple.get(self._ends_of(fact)) if fact.dport else None
            if heir is not None and _inherits(heir, fact):
                return None  # its timewait socket has told
            # Never met: all that is known of it is in its last event.
            row = self._row_of(fact, _SOCKET, fact.old)
            held = fact.at_ns - fact.since_ns if fact.since_ns else None
        else:
            held = fact.at_ns - row.since_ns if row.exact and row.state == fact.old else None
            implied = self._implied(fact, row)
            if implied is not None:
                self._take_over_unheard(row, implied, fact.at_ns)
                return self._end(fact, row, fact.old, held, FIN_BY_US)
        if fact.since_ns:
            # connect(2) failed before it sent anything, perhaps because another connection is between these addresses:
            # that one is not dead.
            if self._may_be_shown(fact.at_ns) and fact.cookie is not None:
                self._dead.add((fact.cookie, self._ends_of(fact), False))
            self._bury(row)
        elif self._sweeping:
            self._die(row, fact)
        else:
            self._bury(row)
        if fact.owner is not None:
            _own(row, fact.owner, _CLOSE, True)
        if fact.ino is not None:
            row.ino = fact.ino
        row.sport = row.sport or fact.sport
        row.state = _CLOSE
        return self._end(fact, row, fact.old, held, fact.cause)

    def _implied(self, fact: Changed, row: Row) -> InetSocket | None:
        """The timewait socket that has taken over from this full socket, if there is one, and it did not tell."""
        if self.probe is None or fact.old not in (_FIN_WAIT2, _CLOSING) or fact.cause not in _ORDERLY:
            return None
        found = self.probe(row)
        if found is None or _kind_of(found) is not _TIMEWAIT or row.cookie not in (None, found.cookie):
            return None
        return found

    def _take_over_unheard(self, row: Row, found: InetSocket, at_ns: int) -> None:
        self.implied += 1
        self._forget_keys(row)
        row.kind, row.sk, row.cookie, row.ino, row.touched_ns = _TIMEWAIT, None, found.cookie, 0, at_ns
        self._index(row)
        if found.state == _FIN_WAIT2:
            self._vague[row.id] = row
        if row.state != found.state:
            self._restate(row, found.state)
            row.since_ns, row.exact = at_ns, True

    def _child(self, fact: Changed) -> Transition | None:
        """LISTEN→SYN-RECV: a listener's child. Where a request socket has told of the connection, the programs keep
        this back (bpf/tcp.h); the lower rungs tell it always.
        """
        row = self._by_tuple.get(self._ends_of(fact)) if fact.dport else None
        if row is None or row.kind is not _REQUEST:
            row = self._birth(fact, _SOCKET, _SYN_RECV)
            row.cgroup = fact.cgroup
            if not fact.dport:
                self._note(row)
                return None  # its next transition names its peer
            return self._transition(fact, row, _LISTEN, _SYN_RECV, None)
        self._take_over(row, fact, _SOCKET)
        row.uid = fact.uid
        row.cgroup = fact.cgroup
        return None

    # Request and timewait sockets.

    def _timer(self, fact: Changed) -> Transition | None:
        new, kind = fact.new, fact.kind
        row = self._by_sk.get(fact.sk)
        if row is not None and (
            row.kind is not kind
            or row.family != fact.family
            or row.cookie not in (None, fact.cookie)
            or _differ(row, fact)
        ):
            self._bury_unheard(row)  # the address outlived a death that was lost
            row = None
        if row is None and fact.cookie is not None:
            row = self._by_cookie.get(_cookie(fact.cookie, kind, self._ends_of(fact)))
        if row is None and kind is _REQUEST and fact.old == _SYN_RECV:
            # Its listener closed, and another has taken it.
            copied = self._by_tuple.get(self._ends_of(fact))
            row = copied if copied is not None and copied.kind is kind else None
        if row is not None and row.sk != fact.sk and row.kind is kind:
            if row.sk is not None and self._by_sk.get(row.sk) is row:
                del self._by_sk[row.sk]
            row.sk = fact.sk
            self._by_sk[fact.sk] = row
        if kind is _TIMEWAIT and fact.cookie is not None and self._may_be_shown(fact.at_ns):
            # Its full socket has died; and of an earlier life there may have been another timewait socket.
            self._dead.add((fact.cookie, self._ends_of(fact), False))
            self._dead.discard((fact.cookie, self._ends_of(fact), True))
        report = _REQUEST_TIMER if kind is _REQUEST else _TIMEWAIT_TIMER
        if row is None and kind is _TIMEWAIT:
            row = self._by_tuple.get(self._ends_of(fact))
        elif row is None:
            child = self._by_tuple.get(self._ends_of(fact))
            if child is not None and child.kind is _SOCKET:
                # Its handler ran while another processor completed it. Its end comes next.
                return None
        step = STEPS.get((report, row.kind if row is not None else None))
        if row is None or step is None:
            row = self._birth(fact, kind, new)
            if kind is _REQUEST:
                return self._transition(fact, row, _LISTEN, new, None)
            self._note(row)
            return None  # a timewait socket from nowhere: no transition is known
        row.touched_ns = fact.at_ns
        if step is Step.REPEAT:
            return None
        old = row.state
        held = fact.at_ns - row.since_ns if row.exact else None
        if step is Step.HAND_OVER:
            self._take_over(row, fact, kind)
        if kind is _TIMEWAIT and new == _FIN_WAIT2:
            self._vague[row.id] = row
        else:
            self._vague.pop(row.id, None)
        if old != new:
            self._restate(row, new)
            row.since_ns = fact.at_ns
            row.exact = True
        if step is Step.HAND_OVER:
            # There is a timewait socket only of who has sent its FIN, and had it acknowledged.
            return self._end(fact, row, old, held, FIN_BY_US)
        return self._transition(fact, row, old, new, held) if old != new else None

    def _gone(self, fact: Gone) -> Transition | None:
        row = self._by_sk.get(fact.sk)
        if row is not None and (row.kind is not fact.kind or _differ(row, fact)):
            self._bury_unheard(row)  # the address outlived a death that was lost
            row = None
        if row is None and fact.cookie is not None:
            ends = self._ends_of(fact)
            row = self._by_cookie.get(_cookie(fact.cookie, fact.kind, ends))
            if row is None and fact.kind is _TIMEWAIT:
                row = self._by_tuple.get(ends)
                if row is not None and (
                    row.kind is _TIMEWAIT or row.cookie != fact.cookie or row.state not in _HANDS_OVER
                ):
                    row = None  # it may be the same socket, connected again in the place of its timewait socket
        if row is None or row.kind is not fact.kind:
            if fact.kind is _REQUEST:
                if row is None or row.state != _SYN_RECV or fact.cause == "completed":
                    if fact.cause != "completed" and self._may_be_shown(fact.at_ns):
                        self._mourn(fact.cookie, fact)
                    return None
            elif row is None:
                if self._may_be_shown(fact.at_ns):
                    self._mourn(fact.cookie, fact)
                return None
            else:
                # The handover from its full socket was lost.
                self._restate(row, _TIME_WAIT)
                self._forget_keys(row)
                row.kind, row.exact = _TIMEWAIT, False
            # By its cookie, it is the same connection.
        if fact.kind is _REQUEST and fact.cause == "completed":
            self._forget_keys(row)
            if self._ends_of(fact) in self._by_tuple:
                self._bury_unheard(row)  # one of two for the same SYN; the child holds the other's row
                return None
            # Its child's birth was lost: the row goes on as the child's, whose next event will name its address.
            row.kind, row.sk = _SOCKET, None
            self._index(row)
            return None
        held = fact.at_ns - row.since_ns if row.exact else None
        self._die(row, fact)
        old, row.state = row.state, _CLOSE
        if fact.kind is _REQUEST:
            return self._end(fact, row, old, held, fact.cause)
        return Transition(fact.at_ns, row, old, _CLOSE, held, fact.cause, fact.reported, is_listed(old, _CLOSE))

    # Sweeps.

    def begin(self, fact: SweepBegin) -> None:
        """A sweep of TCP starts."""
        self._sweep += 1
        self._sweep_began = fact.at_ns
        self._sweeping = True
        self._dead.clear()
        self._dead_listeners.clear()
        self._added, self._replaced, self._changed = [], [], []
        self._ended.clear()

    def seen(self, fact: Seen) -> None:
        """The sweep met this socket."""
        found = fact.socket
        assert isinstance(found, InetSocket)
        key = self._ends_of_found(found)
        kind = _kind_of(found)
        cookie = _cookie(found.cookie, kind, key)
        connected = found.state != _LISTEN
        row = self._by_cookie.get(cookie)
        # Who has its cookie is used again, and lives.
        if row is None and self._dead and (found.cookie, key, kind is _TIMEWAIT) in self._dead:
            return
        if row is None and not connected:
            row = self._by_ino.get(_inode(found)) or self._bare_listener(found)
        if row is None and connected:
            row = self._by_tuple.get(key)
        if row is None and found.state == _SYN_SENT:
            row = self._portless(found)
        if row is None:
            if key not in self._dead if connected else found.ino not in self._dead_listeners:
                self._added.append(self._adopt(found))
            return
        if row.touched_ns >= self._sweep_began or (
            row.id in self._vague
            and row.kind is _TIMEWAIT
            and row.state == _FIN_WAIT2
            and found.state == _TIME_WAIT
            and row.cookie in (None, found.cookie)
        ):
            # What events say of it is younger. Of two sockets between the same addresses they know the later one. And
            # what turned TIME-WAIT without an event, a look will date.
            if row.cookie is None:
                row.cookie = found.cookie
                self._by_cookie[_cookie(found.cookie, row.kind, row.ends)] = row
            if row.sport == 0 and row.state == found.state == _SYN_SENT:
                self._learn_port(row, found)
            row.seen = self._sweep
            return
        # A full socket that is still half open looks like a request socket.
        if row.state == found.state == _SYN_RECV:
            kind = row.kind
        if row.cookie not in (None, found.cookie) and row.kind is kind:
            # The same addresses, another connection: the end of one and the beginning of the other were lost.
            self._bury(row)
            self._replaced.append(row)
            self._added.append(self._adopt(found))
            return
        row.seen = self._sweep
        before = row.sport, row.dport, row.family, row.v6only
        if found.extras is not None and found.extras.v6only is not None:
            row.v6only = found.extras.v6only
        self._forget_keys(row)
        handed_over = kind is _TIMEWAIT and row.kind is not kind
        if row.kind is not kind:
            row.kind, row.sk = kind, None  # one object took over from another, unheard
        if handed_over:
            self._ended.add(row.id)
        if handed_over or row.state != found.state:
            self._changed.append((row, row.state))
        if row.state != found.state:
            self._restate(row, found.state)
            row.since_ns, row.exact = self._sweep_began, False
        row.cookie, row.ino, row.family = found.cookie, found.ino, found.family
        row.src, row.sport, row.dst, row.dport = found.src, found.sport, found.dst, found.dport
        row.ifindex = found.ifindex
        if kind is _SOCKET:
            row.uid = found.uid
        self._index(row)
        if before != (row.sport, row.dport, row.family, row.v6only):
            self._note(row)
        if kind is _TIMEWAIT and found.state == _FIN_WAIT2:
            self._vague[row.id] = row
        elif found.state != _LISTEN or found.sport:
            self._vague.pop(row.id, None)

    def _bare_listener(self, found: InetSocket) -> Row | None:
        """A listener that events told of without its inode (where the kernel's structs are unknown): by its address."""
        bare = (row for row in self._rows.values() if row.state == _LISTEN and row.ino == 0 and row.cookie is None)
        return next((row for row in bare if (row.sport, row.src) == (found.sport, found.src)), None)

    def _portless(self, found: InetSocket) -> Row | None:
        """What connects, and chose its port after it had told."""
        waiting = (row for row in self._vague.values() if row.state == _SYN_SENT and row.sport == 0 and row.ino)
        return next((row for row in waiting if (row.ino, row.dport) == (found.ino, found.dport)), None)

    def _learn_port(self, row: Row, found: InetSocket) -> None:
        self._forget_keys(row)
        row.sport, row.src = found.sport, found.src
        self._index(row)
        self._note(row)
        if row.sport:
            self._vague.pop(row.id, None)

    def unseen(self) -> list[Row]:
        """Rows that the sweep has not met and no event has touched since it began. A dump may skip a socket while
        others come and go (net/ipv4/inet_diag.c resumes by bucket and position), so look again before the end.
        """
        began, sweep = self._sweep_began, self._sweep
        rows = self._rows.values()
        return [row for row in rows if row.seen != sweep and row.touched_ns < began and row.protocol == IPPROTO_TCP]

    def end(self, fact: SweepEnd) -> Resync:
        """The sweep ends; a complete one removes what is still unseen."""
        removed = self.unseen() if fact.complete else []
        for row in removed:
            self._bury(row)
        removed += self._replaced
        self._sweeping = False
        self._dead.clear()
        self._dead_listeners.clear()
        added, changed = self._added, self._changed
        self._added, self._replaced, self._changed = [], [], []
        alive = self._rows  # what has died since it was seen has told of it already
        added = [row for row in added if row.id in alive]
        changed = [(row, old) for row, old in changed if row.id in alive]
        return Resync(fact.at_ns, added, removed, changed, frozenset(self._ended))

    def look(self, row: Row, found: InetSocket | None, at_ns: int, until_ns: int | None = None) -> Transition | None:
        """What somebody saw who looked at a vague row at ``at_ns`` or later, but before ``until_ns``; None: the kernel
        did not show it (its end will be an event).
        """
        if found is None or row.id not in self._rows or row.touched_ns > at_ns:
            return None
        if row.state == _LISTEN:
            self._forget_keys(row)
            row.sport = found.sport
            if found.extras is not None:
                row.v6only = found.extras.v6only
            self._index(row)
            self._note(row)
            self._vague.pop(row.id, None)
            return None
        if row.state == _SYN_SENT:
            self._learn_port(row, found)
            return None
        if row.kind is not _TIMEWAIT or row.state != _FIN_WAIT2 or found.state != _TIME_WAIT:
            return None
        self._vague.pop(row.id, None)
        if 0 < found.expires_ms <= _TIMEWAIT_MS:
            # Its timer was set when the FIN came, and tells how long ago that was.
            at_ns = max((until_ns or at_ns) - (_TIMEWAIT_MS - found.expires_ms) * 1_000_000, row.since_ns)
        held = at_ns - row.since_ns if row.exact else None
        self._restate(row, _TIME_WAIT)
        row.since_ns, row.exact = at_ns, True
        return Transition(at_ns, row, _FIN_WAIT2, _TIME_WAIT, held, None, NOTHING, True, True)

    def own(self, row: Row, owners: tuple[Owner, ...], source: str, at_ns: int) -> None:
        """Somebody looked who holds this row's socket: these, or nobody. ``at_ns``: everything up to then has been
        folded in, or is about to be.
        """
        if row.owners == owners and owners:
            return  # what told of them first stays their source
        changed = row.owners != owners
        row.owners, row.owner_source = owners, source
        if changed and row.id in self._rows:
            self._note(row, at_ns)
            if self.journal is not None:
                self.journal[row.id] = row

    # Rows and their keys.

    def _find(self, fact: Changed) -> Row | None:
        """The row of a full socket that the address index does not know."""
        row = self._by_cookie.get(fact.cookie) if fact.cookie is not None else None
        if row is None and fact.ino is not None:
            row = self._by_ino.get(_inode(fact))
        if row is not None and _is_earlier(row, fact):
            self._bury_unheard(row)
            row = None
        # A connect(2) that failed before it sent anything may have been refused because of the very connection that is
        # between these addresses.
        if row is None and fact.dport and fact.sport and fact.old not in (_CLOSE, _LISTEN) and not fact.since_ns:
            row = self._by_tuple.get(self._ends_of(fact))
            if row is not None and row.kind is _SOCKET and row.sk is not None:
                return None  # another socket, whose death was lost, or which lost the race for these addresses
        if row is None or row.kind is _TIMEWAIT:
            return None
        # A request's row: its child, which kept silent so far, takes over. Or a sweep's: now its address is known.
        by_sk = self._by_sk
        if row.sk is not None and by_sk.get(row.sk) is row:
            del by_sk[row.sk]
        row.kind, row.sk = _SOCKET, fact.sk
        by_sk[fact.sk] = row
        if self.journal is not None:
            self.journal[row.id] = row
        return row

    def _row_of(self, fact: Changed, kind: Kind, state: int) -> Row:
        return Row(
            next(self._ids), kind, state, fact.family, fact.protocol, fact.netns, fact.src, fact.sport, fact.dst,
            fact.dport, fact.ino or 0, fact.uid if kind is _SOCKET else None, fact.ifindex, fact.cookie, fact.sk,
            fact.at_ns, True, fact.at_ns,
        )  # fmt: skip

    def _birth(self, fact: Changed, kind: Kind, state: int) -> Row:
        row = self._row_of(fact, kind, state)
        if kind is _REQUEST or fact.old == _LISTEN:
            row.born_ns, row.role = fact.at_ns, "server"
            listener = self._listener_of(fact)
            if listener is not None and listener.owners:
                row.owners, row.owner_source = _inherited(listener.owners), "listener"
        elif kind is _SOCKET and state == _SYN_SENT:
            row.born_ns, row.role = fact.at_ns, "client"
        elif fact.old == _SYN_SENT:
            row.role = "client"
        elif fact.old == _CLOSE:
            row.born_ns = fact.at_ns
        if self._by_state is not None and state != _ESTABLISHED:
            self._by_state[state][row.id] = row
        self._rows[row.id] = row
        if self.journal is not None:
            self.journal[row.id] = row
        self._by_sk[fact.sk] = row
        if state == _LISTEN:
            if row.ino:
                self._by_ino[_inode(row)] = row
        elif fact.dport and not fact.since_ns:  # a connect(2) that has failed never had its addresses
            ends = row.ends = self._ends_of(fact)
            if kind is not _TIMEWAIT and state != _SYN_SENT:
                before = self._by_tuple.get(ends)
                # A timewait socket makes way for a new connection, and that is reported first (but for connect(2),
                # whose event is dated back): so its end was lost. Others may be between the same addresses for a
                # moment, when two processors answer one segment.
                if before is not None and before.kind is _TIMEWAIT:
                    self._bury_unheard(before)
            self._by_tuple[ends] = row
        if fact.cookie is not None:
            self._by_cookie[_cookie(fact.cookie, kind, row.ends)] = row
            if self._sweeping:  # its socket may have been closed, and used again
                self._dead.discard((fact.cookie, self._ends_of(fact), kind is _TIMEWAIT))
        if kind is _TIMEWAIT and state == _FIN_WAIT2:
            self._vague[row.id] = row
        return row

    def _listener_of(self, fact: Changed) -> Row | None:
        """Where a connection came to; by the address where the event does not say, as with SYN cookies."""
        if fact.listener is not None:
            return self._by_ino.get(fact.listener)
        src = _plain(fact.src)
        fits = (
            row
            for row in self._by_ino.values()
            if (row.sport, row.protocol, row.netns) == (fact.sport, fact.protocol, fact.netns)
            and row.ifindex in (0, fact.ifindex)
            and (_plain(row.src) == src or (not any(row.src) and len(row.src) >= len(src)))
        )
        return max(fits, key=lambda row: (any(row.src), row.ifindex), default=None)

    def _adopt(self, found: InetSocket) -> Row:
        """A row that only the sweep knows."""
        kind = _kind_of(found)
        # The same few addresses and ports stand in row after row: one object each, not one a row.
        if len(self._shared) > 200_000:
            self._shared.clear()
        shared: Any = self._shared.setdefault
        src, dst = shared(found.src, found.src), shared(found.dst, found.dst)
        sport, dport = shared(found.sport, found.sport), shared(found.dport, found.dport)
        row = Row(
            next(self._ids), kind, found.state, found.family, IPPROTO_TCP, self._netns, src, sport, dst, dport,
            found.ino, found.uid if kind is _SOCKET else None, found.ifindex, found.cookie, None, self._sweep_began,
            False, 0,
        )  # fmt: skip
        row.seen = self._sweep
        if found.state == _SYN_SENT:
            row.role = "client"
        elif kind is _REQUEST:
            row.role = "server"
        if found.extras is not None:
            row.v6only = found.extras.v6only
            row.cgroup = found.extras.cgroup_id
        self._rows[row.id] = row
        if self._by_state is not None and row.state != _ESTABLISHED:
            self._by_state[row.state][row.id] = row
        self._index(row)
        if kind is _TIMEWAIT and found.state == _FIN_WAIT2:
            self._vague[row.id] = row
        return row

    def _take_over(self, row: Row, fact: Changed, kind: Kind) -> None:
        self._forget_keys(row)
        row.kind = kind
        row.sk, row.cookie = fact.sk, fact.cookie
        row.ino = 0
        row.touched_ns = fact.at_ns
        row.family, row.src, row.dst = fact.family, fact.src, fact.dst
        row.ifindex = fact.ifindex
        self._index(row)

    def _readdress(self, row: Row, fact: Changed) -> None:
        old, new = (row.sport, row.dport, row.src, row.dst), (fact.sport, fact.dport, fact.src, fact.dst)
        if old != new or row.ifindex != fact.ifindex:
            self._forget_keys(row)
            row.ifindex = fact.ifindex
            row.family, row.sport, row.dport, row.src, row.dst = fact.family, fact.sport, fact.dport, fact.src, fact.dst
            self._index(row)

    def _index(self, row: Row) -> None:
        if self.journal is not None:
            self.journal[row.id] = row
        if row.sk is not None:
            self._by_sk[row.sk] = row
        if row.state == _LISTEN:
            if row.ino:
                self._by_ino[_inode(row)] = row
        elif row.dport:
            row.ends = self._ends_of(row)
            self._by_tuple[row.ends] = row
        if row.cookie is not None:
            self._by_cookie[_cookie(row.cookie, row.kind, row.ends)] = row

    def _forget_keys(self, row: Row) -> None:
        # Two rows may have one key for a moment: the later one keeps it.
        sk, cookie, ends = row.sk, row.cookie, row.ends
        if sk is not None and self._by_sk.get(sk) is row:
            del self._by_sk[sk]
        if cookie is not None:
            key = _cookie(cookie, row.kind, ends)
            if self._by_cookie.get(key) is row:
                del self._by_cookie[key]
        if ends is not None:
            if self._by_tuple.get(ends) is row:
                del self._by_tuple[ends]
            row.ends = None
        elif row.ino and self._by_ino.get(_inode(row)) is row:
            del self._by_ino[_inode(row)]

    def _ends_of(self, of: Changed | Gone | Row) -> Ends:
        src, dst = of.src, of.dst
        if len(src) == 16:
            src, dst = _plain(src), _plain(dst)
        protocol = IPPROTO_TCP if type(of) is Gone else of.protocol  # type: ignore[union-attr]
        if protocol == IPPROTO_TCP and of.ifindex == 0 and of.netns == self._netns:
            return of.sport, of.dport, src, dst
        return of.sport, of.dport, src, dst, of.ifindex, protocol, of.netns

    def _ends_of_found(self, found: InetSocket) -> Ends:
        src, dst = _plain(found.src), _plain(found.dst)
        if found.ifindex == 0:
            return found.sport, found.dport, src, dst
        return found.sport, found.dport, src, dst, found.ifindex, IPPROTO_TCP, self._netns

    def _note(self, row: Row, at_ns: int = 0) -> None:
        """It changed, and no transition tells of it."""
        if self.silent is not None:
            self.silent[row.id] = row, at_ns

    def _bury(self, row: Row) -> None:
        if self.journal is not None:
            self.journal[row.id] = row
        self._forget_keys(row)
        self._rows.pop(row.id, None)
        if self._by_state is not None:
            self._by_state[row.state].pop(row.id, None)
        if self._vague:
            self._vague.pop(row.id, None)

    def _bury_unheard(self, row: Row) -> None:
        """Its end was not reported."""
        self._bury(row)
        self._note(row)

    def _restate(self, row: Row, new: int) -> None:
        """Every change of a living row's state comes by here."""
        if self._by_state is not None:
            if row.state != _ESTABLISHED:
                self._by_state[row.state].pop(row.id, None)
            if new != _ESTABLISHED:
                self._by_state[new][row.id] = row
        row.state = new

    def _die(self, row: Row, fact: Changed | Gone) -> None:
        """Its end was reported."""
        if self._may_be_shown(fact.at_ns):
            # The sweep may have given it a cookie that the row does not know yet, but its last event does.
            self._mourn(fact.cookie or row.cookie, row)
            if row.sport != fact.sport or row.src != fact.src:  # not learnt until it ended
                self._mourn(fact.cookie, fact)
        self._bury(row)

    def _may_be_shown(self, died_ns: int) -> bool:
        """Whether the sweep that goes on may have met what died then; what died before it, it has not."""
        return self._sweeping and died_ns >= self._sweep_began - _UNHASH_NS

    def _mourn(self, cookie: int | None, of: Changed | Gone | Row) -> None:
        """A socket died while a sweep goes on, which may have seen it before."""
        if cookie is not None:
            self._dead.add((cookie, self._ends_of(of), of.kind is _TIMEWAIT))
        if of.dport:
            self._dead.add(self._ends_of(of))
        elif not isinstance(of, Gone) and of.ino:
            self._dead_listeners.add(of.ino)

    def _end(self, fact: Changed | Gone, row: Row, old: int, held: int | None, cause: str | None) -> Transition:
        """The full socket gives up, or the request socket that never became one: a connection ends, or a listening. The
        row is in its new state already.
        """
        new = row.state
        return Transition(
            fact.at_ns, row, old, new, held, cause, fact.reported, self._lists(row, old, new),
            ended=old not in (_CLOSE, _LISTEN),
            lifetime_ns=fact.at_ns - row.born_ns if row.born_ns is not None else None,
        )  # fmt: skip

    def _transition(self, fact: Changed, row: Row, old: int, new: int, held: int | None) -> Transition:
        listed = self._lists(row, old, new)
        return Transition(fact.at_ns, row, old, new, held, fact.cause, fact.reported, listed)

    def _lists(self, row: Row, old: int, new: int) -> bool:
        # MPTCP's own sockets have ways of theirs.
        listed = LISTED[old << 4 | new] == 1 or row.protocol != IPPROTO_TCP
        if not listed:
            self.unlisted += 1
        return listed


def _own(row: Row, owner: Owner, new: int, last: bool) -> None:
    """An event names the process whose system call it was. Who connects or listens is the owner; so is who makes
    another call where those that are known do not name it, for they hold it no more. ``last``: it was the last holder.
    One that is known with its descriptor is not forgotten for one without.
    """
    known = row.owners if row.owner_source != "listener" else ()
    is_known = any(one.pid == owner.pid for one in known)
    if new in (_SYN_SENT, _LISTEN) and (owner.fd is not None or not is_known):
        row.owners, row.owner_source = (owner,), "listen" if new == _LISTEN else "connect"
    elif not is_known:
        row.owners, row.owner_source = (owner,), "close"
    else:
        # It may have another name by now: exec(2), prctl(2).
        row.owners = tuple(
            one if one.pid != owner.pid or one.comm == owner.comm else Owner(owner.comm, one.pid, one.fd)
            for one in known
            if not last or one.pid == owner.pid
        )


@lru_cache(1024)
def _inherited(owners: tuple[Owner, ...]) -> tuple[Owner, ...]:
    """Those who hold a listener, as owners of what it has not handed to one of them yet."""
    return tuple({one.pid: Owner(one.comm, one.pid, None) for one in owners}.values())


def _is_stale(row: Row, fact: Changed) -> bool:
    """Whether the row at this kernel address is of a socket that has died there before, unheard."""
    return (
        row.kind is not _SOCKET
        or (row.cookie is not None and fact.cookie is not None and row.cookie != fact.cookie)
        or (fact.old == _CLOSE and row.state != _CLOSE)
        or (fact.old == _LISTEN and fact.new == _SYN_RECV)
        or (row.state == _LISTEN) is not (fact.old == _LISTEN)
        or (fact.ino is not None and row.ino not in (0, fact.ino))
        or ((row.state != _SYN_SENT or fact.old != _SYN_SENT) and _differ(row, fact))
    )


def _is_earlier(row: Row, fact: Changed) -> bool:
    """Whether the row, found by cookie or inode, is of what a reused socket did before: its end was lost."""
    return row.kind is not _TIMEWAIT and (
        (fact.old == _CLOSE and row.state != _CLOSE)
        or (row.state == _LISTEN) is not (fact.old == _LISTEN)
        or ((row.state != _SYN_SENT or fact.old != _SYN_SENT) and _differ(row, fact))
    )


def _inherits(heir: Row, fact: Changed) -> bool:
    """Whether a full socket that closes has handed over to the timewait socket that holds this row."""
    return (
        heir.kind is _TIMEWAIT
        and fact.old in (State.FIN_WAIT1, _FIN_WAIT2, State.CLOSING)
        and (heir.cookie is None or fact.cookie is None or heir.cookie == fact.cookie)
        and not _differ(heir, fact)
    )


def _differ(row: Row, fact: Changed | Gone) -> bool:
    """Whether a connection's row is between other addresses. A port of 0 is not known: a child's on old kernels."""
    if not row.dport or not fact.dport:
        return False
    if row.dport != fact.dport or (row.sport != fact.sport and row.sport and fact.sport):
        return True
    return row.dst != fact.dst and _plain(row.dst) != _plain(fact.dst)


def _cookie(cookie: int, kind: Kind, ends: Ends | None) -> Cookie:
    """The key of a cookie. inet_twsk_alloc() copies that of the full socket, whose owner may connect or listen with it
    again, and leave another timewait socket: these are told apart by their addresses.
    """
    return (cookie, ends) if kind is _TIMEWAIT else cookie


def _inode(of: Row | Changed | InetSocket) -> int:
    """The key of an inode: those of MPTCP's own sockets are told apart by their sign."""
    tcp = isinstance(of, InetSocket) or of.protocol == IPPROTO_TCP
    return of.ino or 0 if tcp else -(of.ino or 0)


def _plain(address: bytes) -> bytes:
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address


def _kind_of(found: InetSocket) -> Kind:
    """Which kernel object a row of sock_diag is."""
    if found.state == _TIME_WAIT or (found.state == _FIN_WAIT2 and found.timer == 3):
        return _TIMEWAIT
    if found.state == _SYN_RECV and found.ino == 0 and found.uid == 0:
        return _REQUEST
    return _SOCKET
