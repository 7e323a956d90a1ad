"""How a serving sstrace answers one question: whose it is, what they may see, and what is printed.

A small question is answered by the server itself (``small``): some listeners, or the few rows of a rare state, asked
by root, in numbers. Those cost a millisecond, a fork of a large process several. Everything that may take long, may
wait for somebody (name servers, the client's pipe), needs the client's rights or writes much is answered by a child
(``respond``), which prints on its own standard streams.
"""

import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from sstrace.dialect import Dialect, dialect, parse_version
from sstrace.errors import DecodeError, FeatureError, LookupFailed, PrivilegeError, SstraceError, UsageError
from sstrace.live.source import LiveRows
from sstrace.live.tracer import Tracer
from sstrace.live.ways import Ways
from sstrace.model import Owners, Table
from sstrace.modes import explain_now, snapshot
from sstrace.modes.explain_now import asked
from sstrace.query.command import Command, Early
from sstrace.query.options import parse
from sstrace.query.usage import ss_usage
from sstrace.server.broker import NOBODY, Broker, Held
from sstrace.server.client import Request
from sstrace.server.places import LivePlaces
from sstrace.server.spaces import AskedWays
from sstrace.snapshot.names import SsNames
from sstrace.snapshot.sources import Origin
from sstrace.snapshot.streams import complain, warn
from sstrace.sources import privilege, proc, service
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.netns import enter_netns, is_here
from sstrace.sources.standard import our_line, refusal, say, tell, write_all

if TYPE_CHECKING:
    from sstrace.output.counting import Counting

__all__ = ["Answers", "Small"]

_MOST_LISTENERS = 1000
_MOST_ROWS = 64
"""Of a question that the server answers itself: two milliseconds each."""

_OURS = frozenset(("--stats", "--explain"))
_PLAIN_WORDS = frozenset(("sport", "dport", "src", "dst", "and", "or", "not", "eq", "ne", "ge", "le", "gt", "lt"))
_PLAIN_SIGNS = frozenset("0123456789.:/[]()=!<>&|*")
"""What a filter consists of that asks nobody for a name."""


_NOT_TOLD = "to watch a served table takes root, or membership of the server's --group"
_NO_SUMMARY = (
    "-s of network namespaces is not for a server that has given up root, nor for who is not root: ask the kernel"
)
_MANY = "as many as may already watch this served table: try again when one has left"


class Small(msgspec.Struct, frozen=True):
    """The answer to a small question. What was printed is in two files without a name; close them."""

    code: int
    out: int
    err: int


class Answers:
    """Of one server. ``gid``: the group that may ask; ``broker``: who keeps what the server gave up, which it has where
    it ``shed`` root.
    """

    def __init__(
        self, tracer: Tracer, gid: int | None, counting: "Counting | None", broker: Broker | None, *, shed: bool
    ) -> None:
        self._tracer = tracer
        self._gid = gid
        self._counting = counting
        self._broker = broker
        self._shed = shed

    def small(self, peer: service.Peer, data: bytes) -> Small | None:
        """Answer a question here, when it is small; None when a child has to."""
        if peer.uid != 0 or self._tracer.ails:
            return None
        try:
            request = _read(data)
            if request.follow:
                return None
            command = _command(request)
        except SstraceError:
            return None  # a child says what is wrong
        place = self._tracer.places.get(self._tracer.netns.cookie)
        followed = Table.TCP in self._tracer.tables
        if not isinstance(command, Command) or not _is_small(command) or place is None or not followed:
            return None
        diag = self._opener(command, peer)
        live = LiveRows(self._tracer.table, place, diag=diag, tables=self._tracer.tables)
        listeners, others = live.count(command.selection.states)
        # The kernel filters dumps: of listeners, which it keeps apart, or of all that there is.
        if listeners > _MOST_LISTENERS or others > (0 if command.operands else _MOST_ROWS):
            return None
        out, err = (os.memfd_create(name, os.MFD_CLOEXEC) for name in ("out", "err"))
        try:
            with _printing_into(out, err):
                code = _printed(command, request, Origin(source=live, width=request.width, diag=diag))
        except BaseException:
            os.close(out)
            os.close(err)
            raise
        return Small(code, out, err)

    def lets_follow(self, peer: service.Peer, data: bytes) -> bool:
        """Whether a client asks to be told all that happens, and may be: it is root's, of those who may know who holds
        what, and of the user whose server this is, which then sees no more than that user does.
        """
        return b'"follow"' in data and _follows(data) and (self._sees_all(peer) or peer.uid == os.geteuid())

    def respond(self, peer: service.Peer, data: bytes) -> int:
        """Answer a question on our standard streams, with the rights of ``peer``; the exit code. What takes more is
        asked first; nothing is written before.
        """
        write = self._answer(peer, data)
        if peer.uid != 0:
            _become(peer, shed=self._shed)
        return write()

    def _answer(self, peer: service.Peer, data: bytes) -> Callable[[], int]:
        """What writes the answer; its exit code."""
        try:
            request = _read(data)
        except SstraceError as error:
            refused = error
            return lambda: _said(str(refused), UsageError)
        if request.follow:  # whoever may, and for whom there is room, is not answered here
            if self.lets_follow(peer, data):
                return lambda: _said(_MANY, SstraceError)
            return lambda: _said(_NOT_TOLD, PrivilegeError)
        try:
            command = _command(request)
            if isinstance(command, Early):
                early = command
                return lambda: _early(early)
            if command.own.stats:
                counting, owners = self._counting, self._sees_all(peer)
                if counting is None:
                    raise FeatureError("sstrace: this server does not count: start it with sstrace --serve --stats")
                return lambda: counting.tell(command, owners=owners)
            if command.selection.netns is not None and not self._shed:
                enter_netns(command.selection.netns, mounts=True)  # where this is already: for the files, as ss does
            asks = asked(command) if command.own.explain is not None else command
            origin = self._several(asks, request, peer) if command.own.netns else self._one(asks, request, peer)
        except SstraceError as error:
            refused = error
            return lambda: _refused(refused, request)
        return lambda: _printed(command, request, origin)

    def _one(self, command: Command, request: Request, peer: service.Peer) -> Origin:
        """The table of the network namespace that this server is in."""
        tracer, diag = self._tracer, self._opener(command, peer)
        place = tracer.places.get(tracer.netns.cookie)
        if place is None:
            raise LookupFailed(
                "sstrace: this server does not follow the network namespace that it is in: ask for others with --netns"
            )
        live = LiveRows(
            tracer.table, place, tracer.news(), diag, doubted=tracer.ails, tables=place.listed(tracer.tables)
        )
        owners = self._owners(peer, command, live)
        return Origin(source=live, owners=owners, width=request.width, diag=diag)

    def _several(self, command: Command, request: Request, peer: service.Peer) -> Origin:
        """Those of the network namespaces that a client asks for, as far as it may see them."""
        tracer, broker, who = self._tracer, self._broker, None
        ways = Ways()
        if peer.uid != 0:
            who = broker.who(peer.pid, peer.uid) if broker is not None and tracer.places.several else NOBODY
        if broker is not None and tracer.places.several and (self._shed or who is not None):
            ways = AskedWays(broker)
            if command.selection.summary:
                raise FeatureError(f"sstrace: {_NO_SUMMARY}")
        places = LivePlaces(tracer, command.own.netns, tracer.news(), ways, who)
        owners = self._owners(peer, command, None)
        names = SsNames({}, warn, complain, anywhere=True)
        return Origin(places=places, owners=owners, width=request.width, names=names, diag=places.diag)

    def _opener(self, command: Command, peer: service.Peer) -> Callable[[], Netlink]:
        """What opens a sock_diag socket: the broker where root asks for what the kernel shows to administrators."""
        show = command.show
        if self._broker is None or peer.uid != 0:
            return Diag
        asks = show.extended or show.info or show.bpf or show.bpf_maps or command.own.json
        return self._broker.diag if asks or any("mark" in text for text in command.operands) else Diag

    def _owners(self, peer: service.Peer, command: Command, live: LiveRows | None) -> Owners | None:
        """Who holds what, as far as this client may know; None where nobody asks, or where the snapshot is to scan
        /proc itself, after it has become its client.
        """
        show = command.show
        if not command.wants_owners:
            return None
        everything = self._sees_all(peer)
        if everything and not (show.threads or show.contexts):
            wanted = None
            if live is not None and command.selection.tables == 1 << Table.TCP:
                wanted = live.inodes(command.selection)
            return self._tracer.owners.look(wanted)
        if self._broker is not None:
            user = None if everything else (peer.uid, peer.gid)
            return self._broker.held(Held(threads=show.threads, contexts=show.contexts, user=user))
        if self._shed and peer.uid != 0:
            sees = privilege.ProcessView(peer.uid, peer.gid).sees
            return proc.owners(threads=show.threads, contexts=show.contexts, sees=sees)
        return None

    def _sees_all(self, peer: service.Peer) -> bool:
        if peer.uid == 0:
            return True
        if self._gid is None:
            return False
        try:
            user = pwd.getpwuid(peer.uid)
        except KeyError:
            return peer.gid == self._gid
        return self._gid in os.getgrouplist(user.pw_name, peer.gid)


def _read(data: bytes) -> Request:
    """A question. Raises DecodeError for what is none."""
    try:
        return msgspec.json.decode(data, type=Request)
    except (msgspec.MsgspecError, RecursionError) as error:  # RecursionError: thousands of brackets
        raise DecodeError(f"not a request: {error}") from None


def _follows(data: bytes) -> bool:
    try:
        return _read(data).follow
    except DecodeError:
        return False  # a child says what is wrong


def _is_small(command: Command) -> bool:
    selection, show = command.selection, command.show
    return not (
        selection.tables != 1 << Table.TCP
        or selection.summary
        or selection.diag_file is not None
        or selection.events
        or selection.kill
        or command.own.stats
        or command.own.explain is not None
        or command.own.netns
        or command.filter_file is not None
        or show.processes
        or show.threads
        or show.contexts
        or show.bpf_maps
        or show.cgroup
        or show.extended
        or show.resolve
        or not show.numeric
    ) and all(
        word in _PLAIN_WORDS or _PLAIN_SIGNS.issuperset(word) for text in command.operands for word in text.split()
    )


@contextmanager
def _printing_into(out: int, err: int) -> Iterator[None]:
    """Have the standard streams be these for a moment. Nothing else of a server prints meanwhile."""
    kept = [os.dup(1), os.dup(2)]
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        yield
    finally:
        for stream, fd in zip((1, 2), kept, strict=True):
            os.dup2(fd, stream)
            os.close(fd)


def _command(request: Request) -> Command | Early:
    # As ss, whose words stay the answers' to the byte.
    program = "sstrace" if _is_ours(request) else "ss"
    return parse([program, *request.argv], release=_release(request), effects=_Effects(request))


def _is_ours(request: Request) -> bool:
    """Whether sstrace is asked, for ss neither counts nor explains."""
    return not _OURS.isdisjoint(word.partition("=")[0] for word in request.argv)


def _release(request: Request) -> Dialect:
    return dialect(parse_version(request.ss)) if request.ss is not None else dialect()


def _printed(command: Command, request: Request, origin: Origin) -> int:
    """Print the tables on our standard streams; the exit code."""
    environment = {"COLUMNS": str(request.width)} if request.width is not None else {}
    try:
        tell = snapshot.run if command.own.explain is None else explain_now.run
        return tell(command, environment, origin)
    except SstraceError as error:
        return _refused(error, request)


def _said(sentence: str, error: type[SstraceError]) -> int:
    say(sentence)
    return error.exit_code


def _early(early: Early) -> int:
    write_all(1, early.stdout.encode("latin-1"))
    tell(early.stderr.encode("latin-1"))
    return early.code


def _refused(error: SstraceError, request: Request) -> int:
    text = refusal(error, snapshot=not _is_ours(request))
    if isinstance(error, UsageError) and error.usage:
        text += ss_usage(_release(request))
    if error.hint:
        text += our_line(error.hint)
    tell(text.encode("latin-1", "replace"))
    return error.exit_code


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
        if "/" in name or not is_here(name):  # by a path of its own a client would have us open what it may not
            raise LookupFailed(
                f"sstrace: this live table is not that of network namespace {name}: ask the sstrace that serves there"
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
