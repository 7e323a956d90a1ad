"""Sweeps and probes into rows: what somebody saw who looked.

Events are the whole truth of every socket that they mention; a sweep adds what they never mentioned. So a row that an
event has touched since the sweep began wins over what the sweep saw of it, a socket that died since then stays dead,
and whatever neither the sweep nor an event knows is removed at the sweep's complete end: of this space, and of no
other.
"""

from collections.abc import Callable
from itertools import chain
from typing import Any

from sstrace.fields import NOTHING
from sstrace.model import InetSocket, Kind, State
from sstrace.native import twins
from sstrace.protocols import IPPROTO_TCP
from sstrace.table.index import Index, cookie_key, kind_of
from sstrace.table.rows import Ends, Resync, Row, Transition
from sstrace.table.tombstones import Tombstones

__all__ = ["Sweep", "WholeSweep"]

_TIMEWAIT_MS = 60_000
"""TCP_TIMEWAIT_LEN, include/net/tcp.h."""
_SHARED_MOST = 200_000
_RUN = 4096
"""Rows between two breaths."""
_SOCKET, _REQUEST, _TIMEWAIT = Kind.SOCKET, Kind.REQUEST, Kind.TIMEWAIT
_LISTEN, _SYN_RECV, _SYN_SENT = int(State.LISTEN), int(State.SYN_RECV), int(State.SYN_SENT)
_FIN_WAIT2, _TIME_WAIT = int(State.FIN_WAIT2), int(State.TIME_WAIT)


class Sweep:
    """Compares the rows of one space with what the kernel shows, again and again."""

    def __init__(self, index: Index, tombstones: Tombstones) -> None:
        self._index = index
        self._tombstones = tombstones
        self._shared: dict[bytes | int, bytes | int] = {}
        self._number = 0
        self._doubted = False
        self._added: list[Row] = []
        self._replaced: list[Row] = []
        self._changed: list[tuple[Row, int]] = []
        self._ended: set[int] = set()

    def begin(self, at_ns: int, *, doubted: bool = False) -> None:
        """A sweep starts. ``doubted``: see ``SweepBegin``."""
        self._number += 1
        self._doubted = doubted
        self._tombstones.begin(at_ns)
        self._added, self._replaced, self._changed = [], [], []
        self._ended.clear()

    def read(self, datagram: bytes, otherwise: Callable[[bytes], object]) -> bool:
        """The twin (native/sweep.c) has met all that a datagram of inet_diag shows; what is not usual of it has gone,
        message by message in its turn, to ``otherwise``, which decodes it and has it ``seen``. False: nothing has been
        done.
        """
        if twins is None or self._index.news.journal is not None or self._index.space.protocol != IPPROTO_TCP:
            return False
        if len(self._shared) > _SHARED_MOST:
            self._shared.clear()
        tombstones = self._tombstones
        return twins.met(  # type: ignore[no-any-return]
            self._index, datagram, self._number, tombstones.began_ns, self._shared, self._added, tombstones.is_empty(),
            self._doubted, otherwise,
        )  # fmt: skip

    def seen(self, found: InetSocket) -> None:
        """It met this socket. A cookie of 0: nobody has asked for it yet."""
        index, tombstones = self._index, self._tombstones
        ends = index.ends_of(found)
        kind = kind_of(found)
        connected = found.state != _LISTEN
        row = index.by_cookie.get(cookie_key(found.cookie, kind, ends))
        # Who has its cookie is used again, and lives.
        if row is None and tombstones.has_cookie(found.cookie, ends, kind):
            return
        if row is None and not connected:
            row = index.by_ino.get(found.ino) or self._bare_listener(found)
        if row is None and connected:
            row = index.by_ends.get(ends)
        if row is None and found.state == _SYN_SENT:
            row = self._portless(found)
        if row is None:
            if not tombstones.has(ends, found.ino, connected=connected):
                self._added.append(self._adopt(found, kind))
        elif row.touched_ns >= tombstones.began_ns or self._turns(row, found):
            self._confirm(row, found)
        elif self._is_certain(row) and self._stands(row, found, kind, ends):
            row.seen = self._number
            self._settle(row, found, kind)
        else:
            self._correct(row, found, kind)

    def _is_certain(self, row: Row) -> bool:
        """Whether what the sweep takes for a row's socket is the object at its kernel address. After a loss and without
        a cookie, it may be a younger one between the same ends; and one cookie can leave several timewait sockets.
        """
        return not self._doubted or (row.cookie is not None and row.kind is not _TIMEWAIT)

    def _stands(self, row: Row, found: InetSocket, kind: Kind, ends: Ends) -> bool:
        """Whether a row is just what the kernel shows, and is found by all its keys: nearly all are."""
        index = self._index
        return (
            row.state == found.state
            and row.kind is kind
            and row.cookie == (found.cookie or None)
            and row.ino == found.ino
            and row.sport == found.sport
            and row.dport == found.dport
            and row.src == found.src
            and row.dst == found.dst
            and row.family == found.family
            and row.ifindex == found.ifindex
            and (row.uid == found.uid or kind is not _SOCKET)
            and (found.extras is None or found.extras.v6only in (None, row.v6only))
            and (index.by_ends.get(ends) if row.state != _LISTEN else index.by_ino.get(row.ino)) is row
            and (row.cookie is None or index.by_cookie.get(cookie_key(row.cookie, kind, ends)) is row)
            and (row.sk is None or index.by_sk.get(row.sk) is row)
        )

    def _settle(self, row: Row, found: InetSocket, kind: Kind) -> None:
        if kind is _TIMEWAIT and found.state == _FIN_WAIT2:
            self._index.settle(row, settled=False)
        elif found.state != _LISTEN or found.sport:
            self._index.settle(row, settled=True)

    def _turns(self, row: Row, found: InetSocket) -> bool:
        """What turned TIME-WAIT without an event, a probe will date."""
        return (
            row.id in self._index.unsettled
            and row.kind is _TIMEWAIT
            and row.state == _FIN_WAIT2
            and found.state == _TIME_WAIT
            and row.cookie in (None, found.cookie)
        )

    def _confirm(self, row: Row, found: InetSocket) -> None:
        """What events say of it is younger. Of two sockets between the same addresses they know the later one."""
        index = self._index
        if row.cookie is None and found.cookie:
            row.cookie = found.cookie
            index.by_cookie[cookie_key(found.cookie, row.kind, row.ends)] = row
        if row.sport == 0 and row.state == found.state == _SYN_SENT:
            index.learn_port(row, found)
        row.seen = self._number

    def _correct(self, row: Row, found: InetSocket, kind: Kind) -> None:
        index = self._index
        certain = self._is_certain(row)
        # A full socket that is still half open looks like a request socket.
        if row.state == found.state == _SYN_RECV and certain:
            kind = row.kind
        if row.cookie not in (None, found.cookie) and row.kind is kind:
            # The same addresses, another connection: the end of one and the beginning of the other were lost.
            index.remove(row)
            self._replaced.append(row)
            self._added.append(self._adopt(found, kind_of(found)))
            return
        row.seen = self._number
        before = row.sport, row.dport, row.family, row.v6only
        if found.extras is not None and found.extras.v6only is not None:
            row.v6only = found.extras.v6only
        index.leave(row)
        handed_over = kind is _TIMEWAIT and row.kind is not kind
        if row.kind is not kind or not certain:
            row.kind, row.sk = kind, None  # one object took over from another, which was missed
        if handed_over:
            self._ended.add(row.id)
        if handed_over or row.state != found.state:
            self._changed.append((row, row.state))
        if row.state != found.state:
            index.restate(row, found.state)
            row.since_ns, row.exact = self._tombstones.began_ns, False
        row.cookie, row.ino, row.family = found.cookie or None, found.ino, found.family
        row.src, row.sport, row.dst, row.dport = found.src, found.sport, found.dst, found.dport
        row.ifindex = found.ifindex
        if kind is _SOCKET:
            row.uid = found.uid
        index.enter(row)
        if before != (row.sport, row.dport, row.family, row.v6only):
            index.news.note(row)
        self._settle(row, found, kind)

    def _adopt(self, found: InetSocket, kind: Kind) -> Row:
        """A row that only the sweep knows."""
        index = self._index
        # The same few addresses and ports stand in row after row: one object each, not one a row.
        if len(self._shared) > _SHARED_MOST:
            self._shared.clear()
        shared: Any = self._shared.setdefault
        src, dst = shared(found.src, found.src), shared(found.dst, found.dst)
        sport, dport = shared(found.sport, found.sport), shared(found.dport, found.dport)
        net, protocol = index.space
        row = Row(
            next(index.ids), kind, found.state, found.family, protocol, net, index.netns, src, sport, dst, dport,
            found.ino, found.uid if kind is _SOCKET else None, found.ifindex, found.cookie or None, None,
            self._tombstones.began_ns, False, 0,
        )  # fmt: skip
        row.seen = self._number
        if found.state == _SYN_SENT:
            row.role = "client"
        elif kind is _REQUEST:
            row.role = "server"
        if found.extras is not None:
            row.v6only = found.extras.v6only
            row.cgroup = found.extras.cgroup_id
        index.add(row)
        index.enter(row)
        return row

    def forget_shared(self) -> None:
        """Make the next rows' addresses and ports anew."""
        self._shared.clear()

    def _bare_listener(self, found: InetSocket) -> Row | None:
        """A listener that events told of without its inode (where the kernel's structs are unknown): by its address."""
        rows = self._index.rows.values()
        bare = (row for row in rows if row.state == _LISTEN and row.ino == 0 and row.cookie is None)
        return next((row for row in bare if (row.sport, row.src) == (found.sport, found.src)), None)

    def _portless(self, found: InetSocket) -> Row | None:
        """What connects, and chose its port after it had told."""
        unsettled = self._index.unsettled.values()
        here = self._index.rows
        waiting = (row for row in unsettled if row.state == _SYN_SENT and row.sport == 0 and row.ino and row.id in here)
        return next((row for row in waiting if (row.ino, row.dport) == (found.ino, found.dport)), None)

    def unseen(self) -> list[Row]:
        """Rows that the sweep has not met and no event has touched since it began. A dump may skip a socket while
        others come and go (net/ipv4/inet_diag.c resumes by bucket and position), so look again before the end.
        """
        began, number = self._tombstones.began_ns, self._number
        return [row for row in self._index.rows.values() if row.seen != number and row.touched_ns < began]

    def end(self, at_ns: int, breathe: Callable[[], object] = lambda: None, *, complete: bool) -> Resync:
        """The sweep ends; a complete one removes what is still unseen. ``breathe`` is called every few milliseconds,
        and folds nothing in.
        """
        removed = self.unseen() if complete else []
        for number, row in enumerate(removed):
            self._index.remove(row)
            if number % _RUN == 0:
                breathe()
        removed += self._replaced
        self._tombstones.end()
        added, changed = self._added, self._changed
        self._added, self._replaced, self._changed = [], [], []
        alive = self._index.rows  # what has died since it was seen has told of it already
        added = [row for row in added if row.id in alive]
        changed = [(row, old) for row, old in changed if row.id in alive]
        for number, row in enumerate(chain(removed, added, (row for row, _ in changed))):
            self._index.news.tell(row, at_ns)
            if number % _RUN == 0:
                breathe()
        return Resync(at_ns, added, removed, changed, frozenset(self._ended))

    def probed(self, row: Row, found: InetSocket | None, at_ns: int, until_ns: int | None = None) -> Transition | None:
        """What somebody saw who probed an unsettled row at ``at_ns`` or later, but before ``until_ns``; None: the
        kernel did not show it (its end will be an event).
        """
        index = self._index
        if found is None or row.id not in index.rows or row.touched_ns > at_ns:
            return None
        if row.state == _LISTEN:
            index.leave(row)
            row.sport = found.sport
            if found.extras is not None:
                row.v6only = found.extras.v6only
            index.enter(row)
            index.news.note(row)
            index.settle(row, settled=True)
            return None
        if row.state == _SYN_SENT:
            index.learn_port(row, found)
            return None
        if row.kind is not _TIMEWAIT or row.state != _FIN_WAIT2 or found.state != _TIME_WAIT:
            return None
        index.settle(row, settled=True)
        if 0 < found.expires_ms <= _TIMEWAIT_MS:
            # Its timer was set when the FIN came, and tells how long ago that was.
            at_ns = max((until_ns or at_ns) - (_TIMEWAIT_MS - found.expires_ms) * 1_000_000, row.since_ns)
        held = at_ns - row.since_ns if row.exact else None
        index.restate(row, _TIME_WAIT)
        row.since_ns, row.exact = at_ns, True
        index.news.tell(row, at_ns)
        return Transition(at_ns, row, _FIN_WAIT2, _TIME_WAIT, held, None, NOTHING, True, True)


class WholeSweep(Sweep):
    """The same, of sockets that are one kernel object each, all their lives."""

    def _known(self, found: InetSocket) -> Row | None:
        """The row of a socket; None where it has none."""
        raise NotImplementedError

    def _is_dead(self, found: InetSocket) -> bool:
        """Whether it has ended since the sweep began."""
        raise NotImplementedError

    def seen(self, found: InetSocket) -> None:
        """It met this socket."""
        row = self._known(found)
        if row is None:
            if not self._is_dead(found):
                self._added.append(self._adopt(found, _SOCKET))
            return
        row.seen = self._number
        if row.touched_ns < self._tombstones.began_ns and not _is_shown_so(row, found):
            self._amend(row, found)

    def _amend(self, row: Row, found: InetSocket) -> None:
        """What happened to it was not heard."""
        index = self._index
        if row.state != found.state:
            self._changed.append((row, row.state))
            index.restate(row, found.state)
            row.since_ns, row.exact = self._tombstones.began_ns, False
        else:
            index.news.note(row)
        index.leave(row)
        row.src, row.sport, row.dst, row.dport = found.src, found.sport, found.dst, found.dport
        row.ino, row.uid, row.ifindex = found.ino, found.uid, found.ifindex
        if found.extras is not None and found.extras.v6only is not None:
            row.v6only = found.extras.v6only
        index.enter(row)


def _is_shown_so(row: Row, found: InetSocket) -> bool:
    return (
        (row.state, row.sport, row.dport, row.ino) == (found.state, found.sport, found.dport, found.ino)
        and (row.src, row.dst, row.ifindex, row.uid) == (found.src, found.dst, found.ifindex, found.uid)
        and (found.extras is None or found.extras.v6only in (None, row.v6only))
    )
