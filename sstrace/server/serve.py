"""``--serve``: keep the live table of this network namespace, or of several, and answer ``--snapshot --from live`` on a
unix socket.

The server itself traces, accepts and reads requests, and answers small questions of root's (server.answers), without
ever waiting for a client. Any other request is answered by a fork: the child has the table as it was at that moment,
and may take its time; a client that is slow, stuck or gone holds up nobody. The child works with its client's rights,
so it is shown no more than ``ss`` would be: for anybody but root it gives up every privilege first. Owners of other
users' processes are for root and the members of --group only.

Fairness. Questions are answered in the order in which they came, but a small one does not wait for a child to be free.
After ``_SMALL_NS`` of small ones it is the turn of the events again. Who asks while the table is known to be wrong, and
will be for a while, is answered out of the kernel, at once: also in the midst of what is folded in.

Privileges. Once everything is loaded, a server that root started becomes the user ``sstrace``, or an unused one, and
keeps no capability (sources.privilege; what takes one is asked of server.broker), unless --keep-privileges. It cannot
become its clients then; so which processes' descriptors a client may see is judged by the kernel's rule
(privilege.ProcessView).

Limits, each against a client that would otherwise make the server grow: ``_MOST_CLIENTS`` connections (of whoever has
the most, one makes way for another user), ``service.MOST_REQUEST`` bytes a request, ``_PATIENCE_S`` seconds to send it,
``_MOST_CHILDREN`` answers at once (more wait their turn), ``asking.ANSWER_S`` seconds for an answer to be read. No user
has more than ``_SHARE`` answers at once, but root, for whom alone the last one is kept. And where somebody waits as
others do not read, the oldest answer of whoever has the most is broken off, once it has had ``_TURN_S`` seconds.
"""

import contextlib
import gc
import grp
import os
import select
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sstrace.changes import Change, Told
from sstrace.errors import LookupFailed, PrivilegeError
from sstrace.live.signals import Stopped
from sstrace.live.tracer import Tracer
from sstrace.modes.following import Following
from sstrace.plain import counted
from sstrace.query.command import Command, followed_tables
from sstrace.server.answers import Answers
from sstrace.server.apart import Remover
from sstrace.server.broker import Broker, died
from sstrace.server.followers import Followers
from sstrace.server.spaces import AskedWays
from sstrace.server.warm import warm
from sstrace.sources import asking, bugs, haste, landlock, privilege, service
from sstrace.sources.bpf.load import maps_take_a_capability
from sstrace.sources.standard import remark, tell, write_all

if TYPE_CHECKING:  # only who asks for them pays for them
    from sstrace.output.counting import Counting

__all__ = ["run"]

_MOST_CLIENTS = 256
_MOST_CHILDREN = 8
_SHARE = 4
_PATIENCE_S = 10
_TURN_S = 10
_MOST_KEYS = 20_000
"""Peers, ports and owners that --stats keeps, each: 5 MB."""
_SMALL_NS = 25_000_000
_COLLECT_EVERY = 25
_RUN = 512
_HEED_NS = 20_000_000
"""While much is folded in, clients are looked for so often, every so many changes at the soonest."""


class _Client:
    def __init__(self, connection: socket.socket, peer: service.Peer) -> None:
        self.connection = connection
        self.peer = peer
        self.data = b""
        self.pipes: list[int] = []
        self.may_be_small = True
        self.deadline_ns = time.monotonic_ns() + _PATIENCE_S * 1_000_000_000

    def close(self) -> None:
        self.connection.close()
        self.close_pipes()

    def close_pipes(self) -> None:
        for fd in self.pipes:
            os.close(fd)
        self.pipes = []


class _Child(NamedTuple):
    """Who answers, in a process of its own."""

    uid: int
    """Whose question it is."""
    began_ns: int


def run(command: Command, env: Mapping[str, str]) -> int:
    """Serve until SIGINT or SIGTERM."""
    path = command.own.serve_path or service.DEFAULT_PATH
    gid = _group(command.own.group)
    stopped = Stopped()
    shed = not command.own.keep_privileges
    user = privilege.service_user() if shed and os.geteuid() == 0 else None
    broker, spaces = None, bool(command.own.netns) and privilege.holds(("CAP_SYS_ADMIN",))
    if command.own.netns and shed and not spaces:
        raise PrivilegeError(
            "sstrace: --serve --netns enters network namespaces, which takes root (CAP_SYS_ADMIN): run it with sudo"
        )
    # It comes first, and so holds nothing of the broker's.
    remover = Remover(path) if user is not None else None
    if spaces or (shed and privilege.holds(privilege.BROKER)):
        broker = Broker(env, privilege.unused_user(user[0]) if user is not None else None, spaces=spaces)
    ask = broker.look if broker is not None and shed else None
    ways = AskedWays(broker) if broker is not None and shed and spaces else None
    tables = followed_tables(command.selection)
    tracer = Tracer(env, poll_ns=command.own.poll_ns, ask=ask, netns=command.own.netns, tables=tables, ways=ways)
    with Following(command, env, tracer, stopped) as following:
        listener = service.listen(path, gid)
        ours = service.mark(path)
        try:
            tracer.start()
            tracer.table.in_states(0)  # from here on the table keeps that index
            warm(command)
            # Rows are long-lived and form no cycles: collecting them again and again would only stall the event path.
            gc.collect()
            gc.freeze()
            following.keep_rights()
            following.record(user=user)
            counting = _counting(command, tracer)
            if shed:
                haste.reserve()
                keep = ("CAP_BPF",) if maps_take_a_capability() else ()
                privilege.shed(user, keep, reach=_reach(command, path if remover is None else None, tracer))
            if broker is not None:
                broker.wait()
            following.measure()  # only now: capabilities are a thread's own, and this starts one
            following.ready(f"serving {counted(len(tracer.table), 'socket')} at {path}")
            answers = Answers(tracer, gid, counting, broker, shed=shed)
            server = _Server(following, listener, counting, broker, answers)
            for seconds in following.turns():
                server.turn(seconds)
            server.close()
            server.settle()
        finally:
            if not service.remove(path, ours) and remover is not None:
                remover.remove(ours)
            listener.close()
    remark(f"{server.answered} queries, {tracer.account()}{following.recorded}")
    return following.code()


def _reach(command: Command, path: str | None, tracer: Tracer) -> privilege.Reach:
    """The files that a server goes on to read, and the directories in which it makes, writes and removes some.
    ``path``: of the socket file, where it is to remove that itself.
    """
    record = command.own.record
    written = [path, *((record, os.path.realpath(record)) if record is not None else ())]
    folders = set(map(service.folder, filter(None, written)))
    return privilege.Reach([*landlock.SYSTEM, *filter(None, [tracer.names.cgroup_mount()])], [*folders, os.devnull])


def _counting(command: Command, tracer: Tracer) -> "Counting | None":
    """Of --stats."""
    if not command.own.stats:
        return None
    from sstrace.output.counting import counting

    return counting(command, tracer, tracer.names, _MOST_KEYS)


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LookupFailed(f"sstrace: there is no group named {name}") from None


class _Server:
    def __init__(
        self,
        following: Following,
        listener: socket.socket,
        counting: "Counting | None",
        broker: Broker | None,
        answers: Answers,
    ) -> None:
        self._following = following
        self._tracer = tracer = following.tracer
        self._counting = counting
        self._listener = listener
        self._broker = broker
        self._answers = answers
        self._clients: dict[int, _Client] = {}
        self._ready: list[_Client] = []
        self._asking: list[_Client] = []
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        tracer.register(self._poll)
        self._followers = Followers(following, self._poll)
        if broker is not None:
            self._poll.register(broker, 0)
        self._small = 0
        self._busy = False
        self._heard_ns = 0
        self._hurry = False
        tracer.meanwhile = self._meanwhile
        self.answered = 0

    def turn(self, seconds: float) -> None:
        """Events, requests, ends of children: whatever has come, waited for so long."""
        self._expire()
        self._hear(0 if self._hurry else seconds)
        self._take(self._following.poll(0))
        if self._following.wanted:
            self.settle()
        self._answer(aside=self._tracer.ails_long and not any(map(self._would_follow, self._ready)))
        self._followers.tick()

    def _meanwhile(self) -> None:
        """During a sweep, whose dump of a large table takes longer than a client should wait."""
        ill = self._tracer.ails_long
        if ill or not self._busy:
            busy, self._busy = self._busy, True
            self._hear(0)
            self._answer(aside=ill)
            self._busy = busy
            self._heard_ns = time.monotonic_ns()

    def _hear(self, seconds: float) -> None:
        for fd, event in self._following.sleep(self._poll, seconds):
            if fd == self._listener.fileno():
                self._accept()
            elif fd in self._followers:
                self._followers.heard(fd, event)
            elif fd in self._clients:
                self._read(self._clients[fd])
            elif self._broker is not None and fd == self._broker.fileno():
                raise died()

    def settle(self) -> None:
        """Fold in everything that has happened; what was lost just now is not left for later, as between questions."""
        busy, self._busy = self._busy, True
        self._take(self._following.settle())
        self._take(self._following.through(self._tracer.heal()))
        self._busy = busy

    def _take(self, changes: Iterable[Change | Told]) -> None:
        """Fold changes in, tell of them, and count them."""
        changes = self._followers.through(self._heeding(changes))
        if self._counting is not None:
            self._counting.take(changes)
        else:
            for _ in changes:
                pass

    def _heeding(self, changes: Iterable[Change | Told]) -> Iterator[Change | Told]:
        """The same, of however many events: in a storm nobody who asks waits for the end of them, where the table is
        not what is asked.
        """
        for number, change in enumerate(changes):
            yield change
            if number % _RUN == 0 and self._tracer.ails_long and time.monotonic_ns() - self._heard_ns > _HEED_NS:
                self._meanwhile()

    def close(self) -> None:
        """Drop clients; children end by themselves."""
        self._followers.close()
        for client in [*self._clients.values(), *self._ready]:
            client.close()
        self._clients.clear()
        self._ready.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(_MOST_CLIENTS):
                connection, _ = self._listener.accept()
                peer = service.peer(connection)
                if len(self._clients) + len(self._ready) >= _MOST_CLIENTS and not self._made_way(peer.uid):
                    connection.close()
                    return
                connection.setblocking(False)
                client = self._clients[connection.fileno()] = _Client(connection, peer)
                self._poll.register(connection, select.POLLIN)
                self._read(client)  # most send their question at once

    def _made_way(self, uid: int) -> bool:
        """Whether one of another user's, who has more than this one, could be let go: the oldest, if possible one that
        has not asked yet.
        """
        waiting = [*self._clients.values(), *self._ready]
        held = Counter(client.peer.uid for client in waiting)
        most = max(held.values())
        if held[uid] == most:
            return False
        oldest = next(client for client in waiting if held[client.peer.uid] == most)
        if oldest in self._ready:
            self._ready.remove(oldest)
        else:
            self._forget(oldest)
        oldest.close()
        return True

    def _read(self, client: _Client) -> None:
        try:
            data, fds = service.receive(client.connection)
        except BlockingIOError:
            return
        except OSError:
            data, fds = b"", []
        client.data += data
        client.pipes += fds
        line, end, _ = client.data.partition(b"\n")
        if end and len(line) <= service.MOST_REQUEST and len(client.pipes) == 2:
            self._forget(client)
            client.data = line
            self._ready.append(client)
        elif not data or end or len(client.data) > service.MOST_REQUEST or len(client.pipes) > 2:
            self._forget(client)
            client.close()

    def _forget(self, client: _Client) -> None:
        fd = client.connection.fileno()
        self._poll.unregister(fd)
        del self._clients[fd]

    def _expire(self) -> None:
        now = time.monotonic_ns()
        for client in [client for client in self._clients.values() if client.deadline_ns < now]:
            self._forget(client)
            client.close()

    def _reap(self) -> None:
        for child in [*self._children, *self._followers.children]:
            with contextlib.suppress(ChildProcessError):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    self._children.pop(child, None)
                    self._followers.reaped(child, status)

    def _answer(self, *, aside: bool) -> None:
        """Answer those who have asked. ``aside``: as the table is, without what has happened since."""
        self._reap()
        if not self._ready:
            return
        if not aside:
            self.settle()
        began = time.monotonic_ns()
        self._asking, self._ready = self._ready, []
        self._hurry = False
        for client in self._asking:
            if time.monotonic_ns() - began > _SMALL_NS:
                self._hurry = True
                self._ready.append(client)
            elif not all(map(asking.may_take, client.pipes)):
                client.close()
            elif self._would_follow(client):
                if aside:
                    self._ready.append(client)
                else:
                    self._follow(client)
                    self.answered += 1
            elif self._answer_here(client):
                self.answered += 1
                client.close()
            elif self._has_room(client.peer.uid):
                self.answered += 1
                self._fork(client, lambda client=client: self._respond(client))  # type: ignore[misc]
            else:
                self._ready.append(client)
        self._asking = []

    def _would_follow(self, client: _Client) -> bool:
        """Whether a client asks to be told all that happens from here on, and may."""
        return self._answers.lets_follow(client.peer, client.data) and self._followers.has_room(client.peer.uid)

    def _follow(self, client: _Client) -> None:
        try:
            self._followers.add(client.connection, client.peer, self._close_others)
        except OSError:  # no memory, or too many processes
            client.close()
        else:
            client.close_pipes()

    def _close_others(self, kept: socket.socket) -> None:
        """In a child: let go of what another's reader would wait for the end of."""
        self._listener.close()
        self._followers.close_all()
        for other in {*self._clients.values(), *self._ready, *self._asking}:
            if other.connection is not kept:
                other.close()

    def _has_room(self, uid: int) -> bool:
        """Whether a child may answer this user now. Where not, the one that has kept others waiting longest may have to
        go.
        """
        children = self._children.items()
        alike = [(child.began_ns, pid) for pid, child in children if child.uid == uid]
        if uid == 0:
            full = len(children) >= _MOST_CHILDREN
        else:
            full = len(alike) >= _SHARE or len(children) >= _MOST_CHILDREN - 1
        if not full:
            return True
        if uid == 0 or len(alike) < _SHARE:
            held = Counter(child.uid for _, child in children)
            most = max(held.values())
            alike = [(child.began_ns, pid) for pid, child in children if held[child.uid] == most]
        began_ns, pid = min(alike)
        if time.monotonic_ns() - began_ns >= _TURN_S * 1_000_000_000:
            os.kill(pid, signal.SIGKILL)  # reaped, and room, in the next turn
        return False

    def _answer_here(self, client: _Client) -> bool:
        """Answer a small question; False when it is none."""
        if not client.may_be_small:
            return False
        try:
            answer = self._answers.small(client.peer, client.data)
        except Exception:
            answer = None  # a child meets the same, and tells its client
        self._small += 1
        if self._small % _COLLECT_EVERY == 0:
            # What printed an answer is young garbage with cycles: a little of it is gone in a millisecond.
            gc.collect(0)
        if answer is None:
            client.may_be_small = False
            return False
        try:
            texts = list(zip((answer.out, answer.err), client.pipes, strict=True))
            if all(service.pour(file, pipe) for file, pipe in texts):
                with contextlib.suppress(OSError):  # the client has gone
                    client.connection.send(asking.answer(answer.code))
            else:
                self._fork(client, lambda: _pour_slowly(texts, answer.code))
        except OSError:  # nobody reads, or it is nothing that can be written to
            with contextlib.suppress(OSError):
                client.connection.send(asking.answer(asking.BROKEN_PIPE))
        finally:
            os.close(answer.out)
            os.close(answer.err)
        return True

    def _respond(self, client: _Client) -> int:
        for stream, pipe in enumerate(client.pipes, 1):
            os.dup2(pipe, stream)
        try:
            return self._answers.respond(client.peer, client.data)
        except BrokenPipeError:
            raise
        except Exception as error:
            shown = b'"--debug"' in client.data
            said = f"{bugs.text(error, ()) if shown else ''}sstrace: the server met {bugs.sentence(error)}"
            tell(f"{said}{'' if shown else '; --debug shows where'}\n".encode(errors="backslashreplace"))
            return bugs.SOFTWARE

    def _fork(self, client: _Client, body: Callable[[], int]) -> None:
        """Have a child do the rest for a client: its result is the answer's code."""
        try:
            child = os.fork()
        except OSError:  # no memory, or too many processes: its client sees that the answer breaks off
            client.close()
            return
        if child:
            self._children[child] = _Child(client.peer.uid, time.monotonic_ns())
            client.close()
            return
        code = 1
        try:
            gc.disable()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            signal.alarm(asking.ANSWER_S)
            self._close_others(client.connection)
            code = body()
        except OSError:
            code = asking.BROKEN_PIPE
        finally:
            with contextlib.suppress(OSError):  # the client has gone
                # Its reader is not kept waiting until this process has taken down its memory.
                for fd in (1, 2, *client.pipes):
                    os.close(fd)
                client.connection.setblocking(True)
                client.connection.sendall(asking.answer(code))
            os._exit(0)


def _pour_slowly(texts: list[tuple[int, int]], code: int) -> int:
    for file, pipe in texts:
        while data := os.read(file, 1 << 16):
            write_all(pipe, data)
    return code
