"""``--serve``: keep the live table of this network namespace and answer ``--snapshot --from live`` on a unix socket.

The server itself only traces, accepts and reads requests, without ever waiting for a client. A complete request is
answered by a fork: the child has the table as it was at that moment, and may take its time; a client that is slow,
stuck or gone holds up nobody. The child works with its client's rights, so it is shown no more than ``ss`` would be:
for anybody but root it gives up every privilege first. Holders of other users' processes are for root and the members
of --group only.

Privileges. Once everything is loaded, a server that root started becomes the user ``sstrace``, or nobody, and keeps
four capabilities (sources.privilege), unless --keep-privileges. It cannot become its clients then; so which processes'
descriptors a client may see is judged by the kernel's rule (privilege.ProcessView) before the child sheds the rest.

Limits, each against a client that would otherwise make the server grow: ``_MOST_CLIENTS`` connections,
``service.MOST_REQUEST`` bytes a request, ``_PATIENCE_S`` seconds to send it, ``_MOST_CHILDREN`` answers at once (more
wait their turn), ``_ANSWER_S`` seconds for an answer to be read.
"""

import contextlib
import gc
import grp
import os
import pwd
import select
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from sstrace.dialect import dialect, parse_version
from sstrace.driver import snapshot
from sstrace.driver.ask import Request
from sstrace.driver.live import LiveRows
from sstrace.driver.stop import Stopped, touch_later
from sstrace.driver.tracer import Change, Tracer
from sstrace.errors import FeatureError, LookupFailed, SstraceError, UsageError
from sstrace.model import Owner, Table
from sstrace.query.command import Command, Early
from sstrace.query.options import parse
from sstrace.query.usage import ss_usage
from sstrace.sources import asking, privilege, proc, service
from sstrace.sources.notify import Notify

if TYPE_CHECKING:  # only who asks for them pays for them
    from sstrace.driver.metrics import Metrics
    from sstrace.driver.record import Recorder
    from sstrace.driver.stats import Counting

__all__ = ["run"]

_MOST_CLIENTS = 256
_MOST_CHILDREN = 8
_PATIENCE_S = 10
_ANSWER_S = 120
_MOST_KEYS = 20_000
"""Peers, ports and owners that --stats keeps, each: 5 MB."""
_TICK_S = 0.05


class _Client:
    def __init__(self, connection: socket.socket, peer: service.Peer) -> None:
        self.connection = connection
        self.peer = peer
        self.data = b""
        self.pipes: list[int] = []
        self.deadline_ns = time.monotonic_ns() + _PATIENCE_S * 1_000_000_000

    def close(self) -> None:
        self.connection.close()
        for fd in self.pipes:
            os.close(fd)
        self.pipes = []


def run(command: Command, env: Mapping[str, str]) -> int:
    """Serve until SIGINT or SIGTERM."""
    path = command.own.serve_path or service.DEFAULT_PATH
    gid = _group(command.own.group)
    stopped = Stopped()
    tracer = Tracer(env)
    beside: _Beside | None = None
    notify = Notify(env)
    try:
        listener = service.listen(path, gid)
        try:
            tracer.start()
            tracer.table.in_states(0)  # from here on the table keeps that index
            _warm()
            # Rows are long-lived and form no cycles: collecting them again and again would only stall the event path.
            gc.collect()
            gc.freeze()
            ready = touch_later(command.own.ready_file) if command.own.ready_file is not None else None
            shed = not command.own.keep_privileges
            user = privilege.service_user() if shed and os.geteuid() == 0 else None
            beside = _Beside(command, tracer, env)
            if shed:
                if user is not None:
                    service.give_away(path, user[0])
                    beside.give_away(*user)
                privilege.shed(user)
            if command.own.metrics is not None:
                # Only now: capabilities are a thread's own, and this starts one.
                from sstrace.driver import metrics as measuring

                beside.metrics = measuring.Metrics(*command.own.metrics, tracer)
            if ready is not None:
                ready()
            notify.ready(f"serving {len(tracer.table)} sockets at {path}")
            end = time.monotonic_ns() + command.own.duration_ns if command.own.duration_ns is not None else None
            server = _Server(tracer, listener, gid, env, beside, shed=shed)
            while not stopped.now and (end is None or time.monotonic_ns() < end):
                server.turn()
                notify.alive()
            notify.stopping()
            server.close()
            server.settle()
        finally:
            listener.close()
            service.remove(path)
    finally:
        tracer.close()
        if beside is not None:
            beside.close()
    text = f"sstrace: {server.answered} queries, {tracer.events} events, {tracer.lost} lost, {tracer.late} late"
    if beside.recorder is not None:
        text += f"; {beside.recorder.summary()}"
    print(text, file=sys.stderr)
    return 0


class _Beside:
    """What sees every change beside the live table: --record, --stats, --metrics."""

    def __init__(self, command: Command, tracer: Tracer, env: Mapping[str, str]) -> None:
        self.recorder: Recorder | None = None
        self.counting: Counting | None = None
        self.metrics: Metrics | None = None
        if command.own.record is not None:
            from sstrace.driver.record import recording_of
            from sstrace.sources.names import SystemNames

            self.recorder = recording_of(command, tracer, SystemNames(env))
        if command.own.stats:
            from sstrace.driver import stats

            self.counting = stats.Counting(tracer, most_keys=_MOST_KEYS)

    def give_away(self, uid: int, gid: int) -> None:
        """Be prepared to become this user."""
        if self.recorder is not None:
            self.recorder.give_away(uid, gid)

    def take(self, changes: Iterable[Change]) -> None:
        """Have everything see these."""
        through: Iterable[object] = changes if self.metrics is None else self.metrics.through(changes)
        if self.recorder is not None:
            through = self.recorder.through(through)  # type: ignore[arg-type]  # what metrics hands on is what it got
        if self.counting is not None:
            self.counting.take(through)
        else:
            for _ in through:
                pass

    def close(self) -> None:
        """End what runs."""
        if self.metrics is not None:
            self.metrics.close()
        if self.recorder is not None:
            self.recorder.close()


def _warm() -> None:
    """Load now what every answer needs, so that no child has to."""
    from sstrace.query import bytecode, filter, match
    from sstrace.render import inet, info, layout, ndjson, ss
    from sstrace.sources import names
    from sstrace.wire import tcp_info

    assert all((bytecode, filter, match, inet, info, layout, ndjson, ss, names, tcp_info))


def _group(name: str | None) -> int | None:
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise LookupFailed(f"there is no group named {name}") from None


class _Server:
    def __init__(
        self,
        tracer: Tracer,
        listener: socket.socket,
        gid: int | None,
        env: Mapping[str, str],
        beside: _Beside,
        *,
        shed: bool,
    ) -> None:
        self._tracer = tracer
        self._shed = shed
        self._beside = beside
        self._listener = listener
        self._gid = gid
        self._env = env
        self._clients: dict[int, _Client] = {}
        self._ready: list[_Client] = []
        self._children: set[int] = set()
        self._poll = select.poll()
        self._poll.register(listener, select.POLLIN)
        tracer.register(self._poll)
        self.answered = 0

    def turn(self) -> None:
        """Events, requests, ends of children: whatever has come, or a twentieth of a second."""
        self._expire()
        for fd, _ in self._poll.poll(_TICK_S * 1000):
            if fd == self._listener.fileno():
                self._accept()
            elif fd in self._clients:
                self._read(self._clients[fd])
        self._beside.take(self._tracer.poll(0))
        metrics = self._beside.metrics
        if metrics is not None and metrics.wanted:
            self.settle()
            metrics.tick()
        self._reap()
        self._answer()

    def settle(self) -> None:
        """Fold in everything that has happened."""
        self._beside.take(self._tracer.settle())

    def close(self) -> None:
        """Drop clients; children end by themselves."""
        for client in [*self._clients.values(), *self._ready]:
            client.close()
        self._clients.clear()
        self._ready.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            if len(self._clients) + len(self._ready) >= _MOST_CLIENTS:
                connection.close()
                return
            connection.setblocking(False)
            client = self._clients[connection.fileno()] = _Client(connection, service.peer(connection))
            self._poll.register(connection, select.POLLIN)
            self._read(client)  # most send their question at once

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
        for child in list(self._children):
            with contextlib.suppress(ChildProcessError):
                done, _ = os.waitpid(child, os.WNOHANG)
                if done:
                    self._children.discard(child)

    def _answer(self) -> None:
        if not self._ready or len(self._children) >= _MOST_CHILDREN:
            return
        self.settle()
        while self._ready and len(self._children) < _MOST_CHILDREN:
            client = self._ready.pop(0)
            child = os.fork()
            if child == 0:
                _child(self._tracer, client, self._gid, self._env, self._beside.counting, shed=self._shed)
            self._children.add(child)
            self.answered += 1
            client.close()


def _child(
    tracer: Tracer,
    client: _Client,
    gid: int | None,
    env: Mapping[str, str],
    counting: "Counting | None",
    *,
    shed: bool,
) -> None:
    """Answer one request and exit; never returns."""
    code = 1
    try:
        gc.disable()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        signal.alarm(_ANSWER_S)
        # Only pipes and sockets: writing anywhere else with the server's rights could do what its client may not.
        for stream, fd in zip((1, 2), client.pipes, strict=True):
            mode = os.fstat(fd).st_mode
            if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
                os._exit(1)
            os.dup2(fd, stream)
        code = _respond(tracer, client, gid, env, counting, shed=shed)
    except BrokenPipeError:
        code = asking.BROKEN_PIPE
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):  # the client has gone
            client.connection.setblocking(True)
            client.connection.sendall(asking.answer(code))
        os._exit(0)


def _respond(
    tracer: Tracer,
    client: _Client,
    gid: int | None,
    env: Mapping[str, str],
    counting: "Counting | None",
    *,
    shed: bool,
) -> int:
    try:
        request = msgspec.json.decode(client.data, type=Request)
    except msgspec.MsgspecError as error:
        os.write(2, f"sstrace: not a request: {error}\n".encode())
        return UsageError.exit_code
    try:
        release = dialect(parse_version(request.ss)) if request.ss is not None else dialect()
        command = parse(["ss", *request.argv], release=release, effects=_Effects(request))
        if isinstance(command, Early):
            os.write(1, command.stdout.encode("latin-1"))
            os.write(2, command.stderr.encode("latin-1"))
            return command.code
        if command.own.stats:
            if counting is None:
                raise FeatureError("sstrace: this server does not count: start it with sstrace --serve --stats")
            return counting.tell(command, owners=_sees_all(client.peer, gid))
        if command.selection.events or command.selection.diag_file is not None:
            raise UsageError("sstrace: -E and -D ask the kernel, not a live table: leave --from live away")
        live = LiveRows(tracer.table, tracer.news())
        holders = _holders(tracer, client.peer, gid, command, live)
        if holders is None and shed and client.peer.uid != 0:
            holders = _own_holders(client.peer, command)
        if client.peer.uid != 0:
            _become(client.peer, shed=shed)
        environment = {"COLUMNS": str(request.width)} if request.width is not None else {}
        elsewhere = snapshot.Elsewhere(tcp=live, holders=holders, width=request.width)
        return snapshot.run(command, environment, elsewhere)
    except SstraceError as error:
        text = f"{error}\n"
        if isinstance(error, UsageError) and error.usage:
            text += ss_usage(release)
        os.write(2, text.encode("latin-1", "replace"))
        return error.exit_code


def _holders(
    tracer: Tracer, peer: service.Peer, gid: int | None, command: Command, live: LiveRows
) -> Mapping[int, list[Owner]] | None:
    """Who holds what, as far as this client may know."""
    show = command.show
    if not show.processes or show.threads or show.contexts or not _sees_all(peer, gid):
        return None  # the snapshot scans /proc itself, after it has become its client
    only_tcp = command.selection.tables == 1 << Table.TCP
    return tracer.holders.look(live.inodes(command.selection) if only_tcp else None)


def _sees_all(peer: service.Peer, gid: int | None) -> bool:
    if peer.uid == 0:
        return True
    if gid is None:
        return False
    try:
        user = pwd.getpwuid(peer.uid)
    except KeyError:
        return peer.gid == gid
    return gid in os.getgrouplist(user.pw_name, peer.gid)


def _own_holders(peer: service.Peer, command: Command) -> Mapping[int, list[Owner]] | None:
    """Who holds what, of the processes that this client may look into."""
    show = command.show
    if not (show.processes or show.threads or show.contexts):
        return None
    view = privilege.ProcessView(peer.uid, peer.gid)
    found = {}
    for ino, owners in proc.owners(threads=show.threads, contexts=show.contexts).items():
        seen = [owner for owner in owners if view.sees(owner.pid)]
        if seen:
            found[ino] = seen
    return found


def _become(peer: service.Peer, *, shed: bool) -> None:
    """Have no more rights than the client: be that user, or, without the privilege to become anybody, have none."""
    if shed:
        privilege.shed(None, keep=())
    else:
        privilege.shed((peer.uid, peer.gid), keep=())


class _Effects:
    """What options may do on behalf of a client: nothing to this process."""

    def __init__(self, request: Request) -> None:
        self._filter = request.filter

    def enter_netns(self, name: str) -> None:
        """-N: another namespace's table is another server's."""
        raise LookupFailed(
            f"this live table is not that of network namespace {name}: ask the sstrace that serves there"
        )

    def require_selinux(self) -> None:
        """-Z, -z: as on this machine."""
        from sstrace.sources.selinux import selinux_enabled

        if not selinux_enabled():
            raise LookupFailed("ss: SELinux is not enabled.")

    def open_filter(self, path: str) -> Callable[[], bytes]:
        """-F: the client has read it."""
        content = (self._filter or "").encode("latin-1")
        return lambda: content
