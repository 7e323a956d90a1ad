"""How a row is found: the keys of one space.

An event names a kernel address, and the socket cookie if somebody has asked the kernel for it; a sweep names the
cookie, the inode and the addresses. A row is therefore found by

1. the kernel address, once an event has told it;
2. the cookie. A sweep makes the kernel give every socket one, so events of rows that a sweep has met carry it (a
   timewait socket's is that of the full socket it stands for);
3. the inode, for listeners;
4. the ends, for connections: this is also how a connection's row passes from its request socket to its full socket and
   on to its timewait socket (see lifecycle).

A kernel address is used again at once after its socket died. Rows leave the address index when they die, and a cookie
that does not fit shows an address that outlived a death that was lost.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from sstrace.model import Changed, Gone, Incident, InetSocket, Kind, Owner, Space, State
from sstrace.table.rows import Ends, Row

__all__ = ["Index", "News", "differ", "kind_of", "plain"]

_ANY6 = bytes(16)
_MAPPED = bytes(10) + b"\xff\xff"
_SOCKET, _REQUEST, _TIMEWAIT = Kind.SOCKET, Kind.REQUEST, Kind.TIMEWAIT
_CLOSE, _LISTEN, _ESTABLISHED = int(State.CLOSE), int(State.LISTEN), int(State.ESTABLISHED)
_SYN_SENT, _SYN_RECV = int(State.SYN_SENT), int(State.SYN_RECV)
_FIN_WAIT2, _TIME_WAIT = int(State.FIN_WAIT2), int(State.TIME_WAIT)

_HELD = 1000

Cookie = int | tuple[int, Ends | None]


class News:
    """What followers of the whole table are told of besides transitions; one object for all shards."""

    __slots__ = ("implied", "journal", "last_ns", "silent", "unlisted", "unmet")

    def __init__(self) -> None:
        self.journal: dict[int, Row] | None = None
        """Where somebody keeps a view of the rows: every row that came, went or changed its addresses or owners, by
        id, with or without a transition to tell of it. Whoever sets it empties it."""
        self.silent: dict[int, tuple[Row, int]] | None = None
        """Where somebody tells of every change: the rows, by id, that came, went or changed their ports, family,
        v6only or owners without a transition or a Resync to tell of it, and since when that has been so, 0 where
        nobody knows. Whoever sets it empties it."""
        self.unlisted = 0
        """Transitions that lifecycle does not list."""
        self.implied = 0
        """Timewait sockets that were found by looking (``Fold.probe``): nobody heard of their births."""
        self.unmet = 0
        """Request sockets of which others tell that nobody heard of their births: a retransmission, a handshake that
        completes."""
        self.last_ns = 0
        """Time of the latest change that was told."""

    def write(self, row: Row) -> None:
        """It came, went, or is found elsewhere."""
        if self.journal is not None:
            self.journal[row.id] = row

    def tell(self, row: Row, at_ns: int) -> None:
        """A transition or a Resync tells of it."""
        row.told = True
        if at_ns > self.last_ns:  # noqa: PLR1730 - half of max()'s price
            self.last_ns = at_ns
        if self.silent:
            self.silent.pop(row.id, None)

    def note(self, row: Row, at_ns: int = 0) -> None:
        """It changed, and no transition tells of it."""
        if self.silent is not None:
            self.silent[row.id] = row, at_ns


class Index:
    """The rows of one space, and their keys."""

    __slots__ = (
        "by_cookie", "by_ends", "by_ino", "by_sk", "by_state", "held", "ids", "netns", "news", "rows", "space",
        "unsettled",
    )  # fmt: skip

    def __init__(self, space: Space, netns: int, ids: Iterator[int], unsettled: dict[int, Row], news: News) -> None:
        self.space = space
        self.netns = netns
        """Inode of the namespace, for display."""
        self.ids = ids
        self.news = news
        self.rows: dict[int, Row] = {}
        self.by_sk: dict[int, Row] = {}
        self.by_cookie: dict[Cookie, Row] = {}
        """By ``cookie_key``: timewait sockets have the cookie of their full socket, which may live on."""
        self.by_ino: dict[int, Row] = {}
        """Listeners."""
        self.held: dict[int, tuple[Owner, ...]] = {}
        """By the inodes of the last _HELD listeners that have closed: who held them."""
        self.by_ends: dict[Ends, Row] = {}
        self.by_state: defaultdict[int, dict[int, Row]] | None = None
        """Rows by state and id, but for ESTABLISHED, which nearly all are; None until somebody wants that."""
        self.unsettled = unsettled
        """Rows, of every space, of which events cannot tell all, so somebody has to probe them: FIN-WAIT-2 in a
        timewait socket, which may turn TIME-WAIT without an event, sockets whose port was chosen after they had told,
        and listeners on the IPv6 wildcard, of which no event says whether IPv4 is meant too."""

    def watch_states(self) -> defaultdict[int, dict[int, Row]]:
        """From here on rows are found by their state."""
        if self.by_state is None:
            self.by_state = defaultdict(dict)
            for row in self.rows.values():
                if row.state != _ESTABLISHED:
                    self.by_state[row.state][row.id] = row
        return self.by_state

    # Keys.

    def ends_of(self, of: Changed | Gone | Incident | Row | InetSocket) -> Ends:
        """The key of a connection."""
        src, dst = of.src, of.dst
        if len(src) == 16:  # plain, twice
            src = src[12:] if src.startswith(_MAPPED) else src
            dst = dst[12:] if dst.startswith(_MAPPED) else dst
        return of.sport, of.dport, src, dst, of.ifindex

    def between(self, ends: Iterable[Ends]) -> list[Row | None]:
        """The rows of connections between these ends; None where there is none."""
        return list(map(self.by_ends.get, ends))

    def known(self, found: InetSocket) -> Row | None:
        """The row of a socket that the kernel has just shown, by the same keys as a sweep's; None when it is news."""
        ends = self.ends_of(found)
        row = self.by_cookie.get(cookie_key(found.cookie, kind_of(found), ends))
        if row is not None:
            return row
        if found.state == _LISTEN:
            return self.by_ino.get(found.ino)
        row = self.by_ends.get(ends)
        # The cookie that the row has, if any, is not this one.
        return row if row is not None and row.cookie is None else None

    def holders_of_listener(self, fact: Changed) -> tuple[Owner, ...]:
        """Who holds the listener that a connection came to, or held it."""
        listener = self.listener_of(fact)
        if listener is not None:
            return listener.owners
        return self.held.get(fact.listener, ()) if fact.listener is not None else ()

    def leave_listener(self, row: Row) -> None:
        """A listener closes; connections to it may be told of after that (model.Lived)."""
        self.held[row.ino] = row.owners
        if len(self.held) > _HELD:
            del self.held[next(iter(self.held))]

    def listener_of(self, fact: Changed) -> Row | None:
        """Where a connection came to; by the address where the event does not say, as with SYN cookies."""
        if fact.listener is not None:
            return self.by_ino.get(fact.listener)
        src = plain(fact.src)
        fits = (
            row
            for row in self.by_ino.values()
            if row.sport == fact.sport
            and row.ifindex in (0, fact.ifindex)
            and (plain(row.src) == src or (not any(row.src) and len(row.src) >= len(src)))
        )
        return max(fits, key=lambda row: (any(row.src), row.ifindex), default=None)

    # Which row a report is about.

    def of_socket(self, fact: Changed, row: Row | None) -> Row | None:
        """That of a full socket. ``row``: at its kernel address. Rows in its way, whose ends were lost, are removed."""
        if row is not None:
            if not _is_stale(row, fact) and self.by_cookie.get(fact.cookie or 0, row) is row:
                return row
            self.remove_missed(row)
        if fact.old == _LISTEN and fact.new == _SYN_RECV:
            return self.by_ends.get(self.ends_of(fact)) if fact.dport else None
        row = self.by_cookie.get(fact.cookie) if fact.cookie is not None else None
        if row is None and fact.ino is not None:
            row = self.by_ino.get(fact.ino)
        if row is not None and _is_earlier(row, fact):
            self.remove_missed(row)
            row = None
        # A connect(2) that failed before it sent anything may have been refused because of the very connection that is
        # between these addresses.
        if row is None and fact.dport and fact.sport and fact.old not in (_CLOSE, _LISTEN) and not fact.since_ns:
            row = self.by_ends.get(self.ends_of(fact))
            if row is not None and row.kind is _SOCKET and row.sk is not None:
                return None  # another socket, whose death was lost, or which lost the race for these addresses
        return row

    def of_timer(self, fact: Changed) -> Row | None:
        """That of a request or timewait socket whose timer starts."""
        kind = fact.kind
        row = self.by_sk.get(fact.sk)
        if row is not None and (
            row.kind is not kind
            or row.family != fact.family
            or row.cookie not in (None, fact.cookie)
            or differ(row, fact)
        ):
            self.remove_missed(row)  # the address outlived a death that was lost
            row = None
        if row is not None:
            return row
        ends = self.ends_of(fact)
        if fact.cookie is not None:
            row = self.by_cookie.get(cookie_key(fact.cookie, kind, ends))
            if row is not None:
                return row
        row = self.by_ends.get(ends)
        if row is None or kind is _TIMEWAIT or row.kind is not kind:
            return row
        # A request of its own, for another SYN-ACK of the same SYN; or its listener closed, and another has taken it.
        return row if fact.old == _SYN_RECV else None

    def of_gone(self, fact: Gone) -> Row | None:
        """That of a request or timewait socket which has died."""
        row = self.by_sk.get(fact.sk)
        if row is not None and (row.kind is not fact.kind or differ(row, fact)):
            self.remove_missed(row)  # the address outlived a death that was lost
            row = None
        if row is None and fact.cookie is not None:
            ends = self.ends_of(fact)
            row = self.by_cookie.get(cookie_key(fact.cookie, fact.kind, ends))
            if row is None and fact.kind is _TIMEWAIT:
                row = self.by_ends.get(ends)
                if row is not None and row.kind is _TIMEWAIT:
                    row = None
        return row

    # A row's life.

    def row_of(self, fact: Changed, state: int) -> Row:
        """A row as a report shows it."""
        kind = fact.kind
        return Row(
            next(self.ids), kind, state, fact.family, fact.protocol, self.space.net, self.netns, fact.src, fact.sport,
            fact.dst, fact.dport, fact.ino or 0, fact.uid if kind is _SOCKET else None, fact.ifindex, fact.cookie,
            fact.sk, fact.at_ns, True, fact.at_ns,
        )  # fmt: skip

    def add(self, row: Row) -> None:
        """It is a row of the table from now on. Its keys are not entered."""
        self.rows[row.id] = row
        if self.by_state is not None and row.state != _ESTABLISHED:
            self.by_state[row.state][row.id] = row
        if self.news.journal is not None:
            self.news.write(row)
        if row.kind is _TIMEWAIT and row.state == _FIN_WAIT2:
            self.unsettled[row.id] = row

    def enter(self, row: Row) -> None:
        """Find it by its keys."""
        if self.news.journal is not None:
            self.news.write(row)
        if row.sk is not None:
            self.by_sk[row.sk] = row
        if row.state == _LISTEN:
            if row.ino:
                self.by_ino[row.ino] = row
        elif row.dport:
            row.ends = self.ends_of(row)
            self.by_ends[row.ends] = row
        if row.cookie is not None:
            self.by_cookie[cookie_key(row.cookie, row.kind, row.ends)] = row

    def leave(self, row: Row) -> None:
        """Forget its keys. Two rows may have one key for a moment: the later one keeps it."""
        sk, cookie, ends = row.sk, row.cookie, row.ends
        if sk is not None and self.by_sk.get(sk) is row:
            del self.by_sk[sk]
        if cookie is not None:
            key = cookie_key(cookie, row.kind, ends)
            if self.by_cookie.get(key) is row:
                del self.by_cookie[key]
        if ends is not None:
            if self.by_ends.get(ends) is row:
                del self.by_ends[ends]
            row.ends = None
        elif row.ino and self.by_ino.get(row.ino) is row:
            del self.by_ino[row.ino]

    def hold(self, row: Row, kind: Kind, sk: int) -> None:
        """Another object holds it from now on, with the same other keys."""
        if row.sk is not None and self.by_sk.get(row.sk) is row:
            del self.by_sk[row.sk]
        row.kind, row.sk = kind, sk
        self.by_sk[sk] = row
        self.news.write(row)

    def recognise(self, row: Row, cookie: int | None) -> None:
        """Another object holds it, which has this cookie, or none yet."""
        self.leave(row)
        row.cookie = cookie
        self.enter(row)

    def take_over(self, row: Row, fact: Changed) -> None:
        """The object of this report holds it from now on, as it is there."""
        self.leave(row)
        row.kind = fact.kind
        row.sk, row.cookie = fact.sk, fact.cookie
        row.ino = 0
        row.touched_ns = fact.at_ns
        row.family, row.src, row.dst = fact.family, fact.src, fact.dst
        row.ifindex = fact.ifindex
        self.enter(row)

    def readdress(self, row: Row, fact: Changed) -> None:
        """It is between the addresses of this report."""
        old, new = (row.sport, row.dport, row.src, row.dst), (fact.sport, fact.dport, fact.src, fact.dst)
        if old != new or row.ifindex != fact.ifindex:
            self.leave(row)
            row.ifindex = fact.ifindex
            row.family, row.sport, row.dport, row.src, row.dst = fact.family, fact.sport, fact.dport, fact.src, fact.dst
            self.enter(row)

    def restate(self, row: Row, new: int) -> None:
        """Every change of a living row's state comes by here."""
        if self.by_state is not None:
            if row.state != _ESTABLISHED:
                self.by_state[row.state].pop(row.id, None)
            if new != _ESTABLISHED:
                self.by_state[new][row.id] = row
        row.state = new

    def settle(self, row: Row, *, settled: bool) -> None:
        """Whether events tell all of it."""
        if not settled:
            self.unsettled[row.id] = row
        elif self.unsettled:
            self.unsettled.pop(row.id, None)

    def learn_port(self, row: Row, found: InetSocket) -> None:
        """A probe shows which port it chose after it had told."""
        self.leave(row)
        row.sport, row.src = found.sport, found.src
        self.enter(row)
        self.news.note(row)
        if row.sport:
            self.unsettled.pop(row.id, None)

    def own(self, row: Row, owners: tuple[Owner, ...], source: str, at_ns: int) -> None:
        """Somebody looked who holds this row's socket: these, or nobody. ``at_ns``: everything up to then has been
        folded in, or is about to be.
        """
        if row.owners == owners and owners:
            return  # what told of them first stays their source
        changed = row.owners != owners
        row.owners, row.owner_source = owners, source
        if changed and row.id in self.rows:
            self.news.note(row, at_ns)
            self.news.write(row)

    def remove(self, row: Row) -> None:
        """It is no row of the table any more."""
        if self.news.journal is not None:
            self.news.write(row)
        self.leave(row)
        self.rows.pop(row.id, None)
        if self.by_state is not None:
            self.by_state[row.state].pop(row.id, None)
        if self.unsettled:
            self.unsettled.pop(row.id, None)

    def remove_missed(self, row: Row) -> None:
        """The same, where its end was not reported."""
        self.remove(row)
        self.news.note(row)


def _is_stale(row: Row, fact: Changed) -> bool:
    """Whether the row at this kernel address is of a socket whose death was missed. The inode of a connection proves
    nothing: whoever looked may have met a younger one between the same ends, of which no event has been folded in.
    """
    return (
        row.kind is not _SOCKET
        or (row.cookie is not None and fact.cookie is not None and row.cookie != fact.cookie)
        or (fact.old == _CLOSE and row.state != _CLOSE)
        or (fact.old == _LISTEN and fact.new == _SYN_RECV)
        or (row.state == _LISTEN) is not (fact.old == _LISTEN)
        or (fact.ino is not None and row.ino not in (0, fact.ino) and row.state in (_LISTEN, _SYN_SENT))
        or ((row.state != _SYN_SENT or fact.old != _SYN_SENT) and differ(row, fact))
    )


def _is_earlier(row: Row, fact: Changed) -> bool:
    """Whether the row, found by cookie or inode, is of what a reused socket did before: its end was lost."""
    return row.kind is not _TIMEWAIT and (
        (fact.old == _CLOSE and row.state != _CLOSE)
        or (row.state == _LISTEN) is not (fact.old == _LISTEN)
        or ((row.state != _SYN_SENT or fact.old != _SYN_SENT) and differ(row, fact))
    )


def differ(row: Row, fact: Changed | Gone) -> bool:
    """Whether a connection's row is between other addresses. A port of 0 is not known: a child's on old kernels."""
    if not row.dport or not fact.dport:
        return False
    if row.dport != fact.dport or (row.sport != fact.sport and row.sport and fact.sport):
        return True
    return row.dst != fact.dst and plain(row.dst) != plain(fact.dst)


def cookie_key(cookie: int, kind: Kind, ends: Ends | None) -> Cookie:
    """The key of a cookie. inet_twsk_alloc() copies that of the full socket, whose owner may connect or listen with it
    again, and leave another timewait socket: these are told apart by their addresses.
    """
    return (cookie, ends) if kind is _TIMEWAIT else cookie


def plain(address: bytes) -> bytes:
    """A v4-mapped address as IPv4."""
    return address[12:] if len(address) == 16 and address.startswith(_MAPPED) else address


def kind_of(found: InetSocket) -> Kind:
    """Which kernel object a row of sock_diag is."""
    if found.state == _TIME_WAIT or (found.state == _FIN_WAIT2 and found.timer == 3):
        return _TIMEWAIT
    if found.state == _SYN_RECV and found.ino == 0 and found.uid == 0:
        return _REQUEST
    return _SOCKET
