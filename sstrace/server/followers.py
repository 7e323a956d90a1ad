"""Those who follow a served table (``--watch --from live``): each is told all of it, and from then on every change.

What they are told is the stream that a recording is, over the connection on which they asked: a first line, a
checkpoint with every row, then the changes, and each second a mark that says that there are no others. The lines of
changes are made once for all. A child writes the beginning, with the table as it was when it was forked; what happens
meanwhile waits here.

The server waits for none of them: who does not read what waits, ``_MOST_WAITING`` bytes, is let go, and may ask again.
"""

import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from sstrace.changes import Change, NetnsNews, Told
from sstrace.modes.following import Following
from sstrace.output.recorder import begin
from sstrace.output.telling import tell
from sstrace.output.texts import cgroup_text, ifname_text
from sstrace.render.events import EventWriter
from sstrace.sources import asking, service
from sstrace.sources.clock import clock_offset
from sstrace.sources.standard import write_all
from sstrace.table import Resync, Row

__all__ = ["Followers"]

_MOST = 16
"""Of these no user has more than ``_SHARE`` but root, for whom alone the last ones are kept."""
_SHARE = 4
_MOST_WAITING = 32 << 20
"""Bytes: ten seconds of 7,000 events a second."""
_CHUNK = 1 << 18
_MARK_NS = 1_000_000_000
_SETTLED_NS = 5_000_000
_HANGUP = select.POLLIN | select.POLLRDHUP


class _Follower:
    def __init__(self, connection: socket.socket, peer: service.Peer, *, everything: bool) -> None:
        self.connection = connection
        self.peer = peer
        self.everything = everything
        """Whether it is told of every network namespace, or of the server's own alone."""
        self.child: int | None = None
        """Who tells it the beginning, as long as that goes on."""
        self.waiting: deque[bytes] = deque()
        self.size = 0

    def put(self, data: bytes) -> None:
        self.waiting.append(data)
        self.size += len(data)

    def send(self) -> None:
        """As far as that goes without waiting. Raises OSError."""
        while self.waiting:
            data = self.waiting[0]
            try:
                # O_NONBLOCK is the connection's, and so also its other end's to change: not relied on.
                done = self.connection.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            self.size -= done
            if done < len(data):
                self.waiting[0] = data[done:]
                return
            self.waiting.popleft()


class Followers:
    """Of one server. ``poll``: where their connections are waited for."""

    def __init__(self, following: Following, poll: select.poll) -> None:
        self._following = following
        self._tracer = tracer = following.tracer
        self._poll = poll
        self._found: dict[int, _Follower] = {}
        self._writer = EventWriter(0, cgroup_text(tracer.names), ifname_text(tracer.names), tracer.places.where)
        self._all, self._home = bytearray(), bytearray()
        """Lines that have not been handed on: of every network namespace, and of the server's own."""
        self._marked_ns = 0
        self._killed: set[int] = set()
        """Children that have not been reaped yet."""

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, fd: int) -> bool:
        return fd in self._found

    def has_room(self, uid: int) -> bool:
        """Whether one more of this user's may follow."""
        alike = sum(one.peer.uid == uid for one in self._found.values())
        return len(self._found) < _MOST if uid == 0 else alike < _SHARE and len(self._found) < _MOST - _SHARE

    def add(self, connection: socket.socket, peer: service.Peer, close_others: Callable[[socket.socket], None]) -> None:
        """Tell one more. All that has happened must have been folded in. ``close_others``, in the child, lets go of
        what is the server's and other clients'. Raises OSError where there is no child to be had.
        """
        if not self._found:
            self._following.announce(self._tracer.table.last_ns)
        self.flush()
        self._writer.offset_ns = clock_offset()
        one = _Follower(connection, peer, everything=peer.uid == 0 or not self._tracer.places.several)
        child = os.fork()
        if not child:
            self._begin(one, close_others)
        one.child = child
        self._found[connection.fileno()] = one
        self._poll.register(connection, _HANGUP)

    def _begin(self, one: _Follower, close_others: Callable[[socket.socket], None]) -> None:
        """In the child: the table as it is."""
        code = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.alarm(asking.ANSWER_S)
            close_others(one.connection)
            tracer, out, home = self._tracer, bytearray(), self._tracer.netns.cookie
            meta, _ = begin(tracer)
            self._writer.meta(meta, out)
            rows = [row for row in tracer.table if one.everything or row.net == home]
            places = tracer.places.here(meta.mono_ns) if one.everything else []
            self._writer.checkpoint(places, rows, meta.mono_ns, 0, out)
            write_all(one.connection.fileno(), out, patient=True)
            code = 0
        finally:
            os._exit(code)

    def close_all(self) -> None:
        """In another child: who follows must not wait for its end."""
        for one in self._found.values():
            one.connection.close()

    @property
    def children(self) -> list[int]:
        """Those that tell a beginning, or did until they were killed."""
        return [*self._killed, *(one.child for one in self._found.values() if one.child is not None)]

    def reaped(self, child: int, status: int) -> None:
        """A child has ended: perhaps one that told the beginning."""
        self._killed.discard(child)
        for fd, one in list(self._found.items()):
            if one.child == child:
                one.child = None
                if status:
                    self._drop(fd)
                else:
                    self._send(fd)

    def through(self, changes: Iterable[Change | Told]) -> Iterator[Change | Told]:
        """The same changes, each told before it is handed on: also to one who has come in the midst of them, while a
        sweep goes on.
        """
        for change in changes:
            if self._found:
                self._tell(change)
            yield change

    def _tell(self, change: Change) -> None:
        writer = self._writer
        own = self._of_home(change) if self._tracer.places.several else None
        if own is not None:
            seq = writer.seq
            tell(own, writer, self._home)
            writer.seq = seq
        tell(change, writer, self._all)
        if len(self._all) > _CHUNK:
            self.flush()

    def _of_home(self, change: Change) -> Change | None:
        """What of a change is of the server's own network namespace."""
        home = self._tracer.netns.cookie

        def here(row: Row) -> bool:
            return row.net == home

        if isinstance(change, Resync):
            return Resync(
                change.at_ns,
                list(filter(here, change.added)),
                list(filter(here, change.removed)),
                [(row, state) for row, state in change.changed if here(row)],
            )
        if isinstance(change, NetnsNews):
            return None
        row = getattr(change, "row", None)
        return change if row is None or here(row) else None

    def tick(self) -> None:
        """Mark what is due, and hand on what there is."""
        if not self._found:
            return
        now = time.monotonic_ns()
        if now - self._marked_ns >= _MARK_NS:
            self._marked_ns = now
            at_ns = max(now - _SETTLED_NS, self._tracer.table.last_ns)
            self._writer.mark(at_ns, self._all)
            self._writer.mark(at_ns, self._home)
        self.flush()

    def flush(self) -> None:
        """Hand on the lines that there are."""
        if not self._all and not self._home:
            return
        all_, home = bytes(self._all), bytes(self._home)
        self._all.clear()
        self._home.clear()
        for fd, one in list(self._found.items()):
            one.put(all_ if one.everything else home)
            self._send(fd)

    def heard(self, fd: int, event: int) -> None:
        """Something of the poll object's: one can take more, or has gone; none has anything to say."""
        if event & ~select.POLLOUT:
            self._drop(fd)
        else:
            self._send(fd)

    def _send(self, fd: int) -> None:
        one = self._found[fd]
        if one.size > _MOST_WAITING:
            self._drop(fd)
            return
        if one.child is not None:
            return
        try:
            one.send()
        except OSError:
            self._drop(fd)
        else:
            self._poll.modify(fd, _HANGUP | select.POLLOUT if one.waiting else _HANGUP)

    def _drop(self, fd: int) -> None:
        one = self._found.pop(fd)
        self._poll.unregister(fd)
        if one.child is not None:
            self._killed.add(one.child)
            with suppress(ProcessLookupError):
                os.kill(one.child, signal.SIGKILL)
        one.connection.close()

    def close(self) -> None:
        """Let go of all."""
        for fd in list(self._found):
            self._drop(fd)
