"""What a server keeps of root, in a process of its own that answers a few questions, and reads nothing of any client's.

The server, which reads what clients send, has no capability left (server.serve). What takes one is asked here: a dump
of sock_diag with all that the kernel shows to administrators alone (CAP_NET_ADMIN: marks, MD5 keys, TLS, packet
filters), and who holds which socket (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH; CAP_BPF for the walk). Of a server of several
network namespaces (CAP_SYS_ADMIN) also which there are, and what they are called; the TCP sockets of all, out of the
kernel's hash tables; a socket in one of them, which shows whoever uses it no more than their own rights let them see;
and where a client is, and which namespaces its user owns.
Nothing else is answered: no socket is closed, no file read, no program loaded.

The broker is forked before anything is traced, so it is small. It becomes a user of its own, keeps those capabilities
and a list of system calls (sources.seccomp), and ends when the server and all its children have.

A question is one message on a SOCK_SEQPACKET socket that the server and its children share; with it comes the socket
that the answer goes to, so that no two meet. A dump is answered by the kernel's datagrams as they are, each a message;
owners, and what else may be long, by one message and a file in memory.
"""

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from select import POLLIN, poll
from typing import NamedTuple

import msgspec

from sstrace.errors import DecodeError, FeatureError, KernelError, LookupFailed, SstraceError
from sstrace.live.kernel import UnreachableError
from sstrace.live.owners import Looked
from sstrace.model import Label, Namespace, Owner
from sstrace.namespaces.finder import Finder
from sstrace.server.apart import apart, heedless
from sstrace.sources import privilege, proc, seccomp
from sstrace.sources.cache import cache_directory
from sstrace.sources.diag import Diag, Netlink, Route
from sstrace.sources.netns import inside, netns_of, owner_of
from sstrace.sources.owners import WANTED_MOST, OwnerWalk, owners_of
from sstrace.sources.privilege import ProcessView
from sstrace.sources.socket_walk import SocketWalk
from sstrace.sources.standard import write_all
from sstrace.wire import netlink

__all__ = ["NOBODY", "WALKED", "Broker", "Dump", "Held", "Whereabouts", "died"]

WALKED = 1
"""Stands for the hash tables that are walked: whoever asks is told no address of the kernel's."""

_MOST = 128 << 10
"""The longest question, bytes: ss's longest filters, as bytecode, are far shorter."""

_SHORT = 4 << 10
"""Bytes of an answer that is a message, and no file."""
_BREATH_MS = 5
_SOON = 64 << 10
"""What a dump is longer than, bytes, is answered by a child."""


class Dump(msgspec.Struct, frozen=True, tag=True):
    """What does the kernel's sock_diag answer?"""

    requests: list[bytes]
    """Messages, each of which asks for a dump or for a single socket."""
    namespace: Namespace | None = None
    """In which; None: in the server's own."""


class Held(msgspec.Struct, frozen=True, tag=True):
    """Who holds which socket?"""

    wanted: list[int] | None = None
    """Inodes; None: all."""
    threads: bool = False
    contexts: int = 0
    """See sources.proc."""
    user: tuple[int, int] | None = None
    """Uid and gid of whoever may not see more than their own; None: all that we see."""


class Open(msgspec.Struct, frozen=True, tag=True):
    """A netlink socket in a network namespace, with no more rights than whoever uses it."""

    namespace: Namespace
    protocol: int
    """NETLINK_ROUTE or NETLINK_SOCK_DIAG."""


class Sockets(msgspec.Struct, frozen=True, tag=True):
    """Which TCP sockets are in the hash tables that namespaces share?"""


class Spaces(msgspec.Struct, frozen=True, tag=True):
    """Which network namespaces are there?"""

    learn: bool
    """And what are they called by now?"""
    edition: int = 0
    """Of the answer that is known; 0: none."""


class Who(msgspec.Struct, frozen=True, tag=True):
    """Where is this process: in the server's user namespace? In which network namespace?"""

    pid: int
    uid: int


class Seen(msgspec.Struct, frozen=True):
    """The answer to ``Spaces``."""

    edition: int
    """Grows with every change; that of the question: it is as it was, and nothing else is told."""
    known: list[Namespace]
    exact: bool
    blind: str
    """Both as of ``Finder``."""
    labels: list[Label]
    """Of each of them; empty where nobody wanted to learn."""
    elsewhere: list[int]
    """Cookies of those whose TCP sockets are not in the tables that ``Sockets`` is about."""


class Whereabouts(msgspec.Struct, frozen=True):
    """The answer to ``Who``."""

    outside: bool
    """It is in another user namespace than the server, or gone, or another user's by now."""
    netns: int
    """Inode; 0: unknown."""
    owned: list[int]
    """Cookies of the namespaces that its user owns."""


NOBODY = Whereabouts(outside=True, netns=0, owned=[])
"""Of a client of whom nothing is known."""


class _Found(msgspec.Struct, frozen=True):
    """The answer to ``Held`` and ``Sockets``; a file comes with it."""

    walked: bool
    """Whether the file has a walk's records, else owners in msgpack."""
    spent_ns: int


_Owners = dict[int, tuple[Owner, ...]]
_questions = msgspec.msgpack.Decoder(Dump | Held | Open | Sockets | Spaces | Who)
_seen = msgspec.msgpack.Decoder(Seen)
_whereabouts = msgspec.msgpack.Decoder(Whereabouts)
_found = msgspec.msgpack.Decoder(_Found)
_owners = msgspec.msgpack.Decoder(_Owners)


class Broker:
    """The server's end. Who asks raises SstraceError when the broker has died."""

    def __init__(self, env: Mapping[str, str], user: tuple[int, int] | None, *, spaces: bool = False) -> None:
        """Start it, before any thread and while this process is small. ``user``: whom it becomes, uid and gid; None: it
        stays who we are. ``spaces``: it is to know of other network namespaces, too.
        """
        self._server = os.getpid()
        self._channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def serve() -> None:
            self._channel.close()
            _serve(its, env, user, spaces=spaces)

        apart(serve)
        its.close()

    def wait(self) -> None:
        """Until it has given up all that it does not keep."""
        if not self._channel.recv(1):
            raise died()

    def fileno(self) -> int:
        """Hangs up when the broker has died."""
        return self._channel.fileno()

    def close(self) -> None:
        """Have it end, once no child asks any more."""
        self._channel.close()

    def ask(self, question: Dump | Held | Open | Sockets | Spaces | Who) -> socket.socket:
        """Where the answer comes from."""
        data = msgspec.msgpack.encode(question)
        if len(data) > _MOST:
            raise SstraceError("sstrace: this question is too long for a server: ask the kernel")
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with its:
                socket.send_fds(self._channel, [data], [its.fileno()])
        except OSError:
            ours.close()
            raise died() from None
        return ours

    def diag(self, namespace: Namespace | None = None) -> Netlink:
        """A sock_diag socket that shows what administrators are shown; in a network namespace, None: our own."""
        return _Asked(self, namespace)

    def opened(self, namespace: Namespace, protocol: int) -> socket.socket:
        """A netlink socket in a network namespace. Raises LookupFailed where it is gone, or closed even to root."""
        with self.ask(Open(namespace, protocol)) as answer:
            _, fds, _, _ = socket.recv_fds(answer, 1, 1)
        if not fds:
            raise LookupFailed(f"sstrace: network namespace {namespace.net.inode} is gone")
        return socket.socket(fileno=fds[0])

    def spaces(self, *, learn: bool, edition: int = 0) -> Seen:
        """Which network namespaces there are; ``learn``: and what they are called; ``edition``: of what is known."""
        return _seen.decode(self._told(Spaces(learn, edition)))

    def who(self, pid: int, uid: int) -> Whereabouts:
        """Where a process is, and which namespaces its user owns."""
        return _whereabouts.decode(self._told(Who(pid, uid)))

    def _told(self, question: Spaces | Who) -> bytes:
        with self.ask(question) as answer:
            head, data = _taken(answer)
        return data or head

    def look(self, wanted: Collection[int] | None = None, breathe: Callable[[], object] = lambda: None) -> Looked:
        """Who holds which socket, as live.owners asks."""
        few = list(wanted) if wanted is not None and len(wanted) <= WANTED_MOST else None
        return self._held(Held(few), wanted, breathe)

    def held(self, question: Held) -> _Owners:
        """Inode → owners, in ss's order."""
        return self._held(question).owners

    def _held(
        self,
        question: Held,
        wanted: Collection[int] | None = None,
        breathe: Callable[[], object] = lambda: None,
    ) -> Looked:
        found, data = self._awaited(question, breathe)
        owners = owners_of(data, wanted, breathe) if found.walked else _owners.decode(data)
        channel = os.fstat(self.fileno()).st_ino
        if channel in owners:
            # Whoever asks has it, too, for that alone: a child that answers.
            owners[channel] = tuple(owner for owner in owners[channel] if owner.pid == self._server)
        return Looked(owners, "walk" if found.walked else "proc", found.spent_ns)

    def sockets(self, breathe: Callable[[], object]) -> tuple[bytes, int]:
        """What ``SocketWalk.records`` gives, and what that took, ns of CPU time."""
        found, data = self._awaited(Sockets(), breathe)
        return data, found.spent_ns

    def _awaited(self, question: Held | Sockets, breathe: Callable[[], object]) -> tuple[_Found, bytes]:
        """``breathe`` is called every few milliseconds meanwhile."""
        with self.ask(question) as answer:
            waiting = poll()
            waiting.register(answer, POLLIN)
            while not waiting.poll(_BREATH_MS):
                breathe()
            head, data = _taken(answer)
        return _found.decode(head), data


def _taken(answer: socket.socket) -> tuple[bytes, bytes]:
    """A message, and what is in the file that comes with it (``_give``), if one does."""
    head, fds, _, _ = socket.recv_fds(answer, _SHORT, 1)
    if not head:
        raise died()
    if not fds:
        return head, b""
    with open(fds[0], "rb") as file:
        return head, file.read()


def died() -> SstraceError:
    """What there is to say when the broker has ended before the server, or answers no more."""
    return SstraceError("the process that keeps what a server needs of root has died: start the server again")


class _Asked(Netlink):
    """Questions that the broker asks of the kernel, each on a socket of its own."""

    def __init__(self, broker: Broker, namespace: Namespace | None) -> None:
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self._broker = broker
        self._namespace = namespace

    def send(self, request: bytes) -> None:
        """Send one request."""
        self._send([request])

    def _send(self, requests: Sequence[bytes]) -> None:
        self._socket.close()
        self._socket = self._broker.ask(Dump(list(requests), self._namespace))

    def receive(self) -> memoryview:
        """See Netlink. Raises UnreachableError where the namespace cannot be entered any more."""
        try:
            return super().receive()
        except KernelError as error:
            if error.errno != errno.ENODATA or self._namespace is None:
                raise
            which = f"network namespace {self._namespace.net.inode}"
            raise UnreachableError(f"{which} has gone, or cannot be entered") from None

    def answers(self, requests: Sequence[bytes]) -> Iterator[memoryview]:
        """All are asked for at once."""
        self._send(requests)
        for _ in requests:
            yield self.receive()

    def ahead(self) -> Generator[memoryview, None, None]:
        """As iteration: it is the broker that is ahead."""
        yield from self


# The broker itself.


class _Known:
    """What a broker knows of network namespaces."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._finder = Finder(env, follows=True)
        self._walk: SocketWalk | None = None
        with suppress(SstraceError, OSError):  # where it cannot be had, nobody is answered
            self._walk = SocketWalk(cache_directory(env))
        self._mine = _userns("self")
        self._owners: dict[int, int | None] = {}
        self._told: Mapping[int, Namespace] = {}
        self._edition = 0

    def spaces(self, *, learn: bool, edition: int) -> bytes:
        finder = self._finder
        found = finder.learn() if learn else finder.look()
        if learn or found is not self._told:
            self._told = found
            self._edition += 1
        known = list(found.values()) if self._edition != edition else []
        labels = [finder.label(one) for one in known] if learn else []
        walk = self._walk
        cookies = [one.net.cookie for one in known]
        elsewhere = [cookie for cookie in cookies if walk is None or finder.hashinfo(cookie) != walk.hashinfo]
        return msgspec.msgpack.encode(Seen(self._edition, known, finder.exact, finder.blind, labels, elsewhere))

    def sockets(self, to: socket.socket) -> None:
        if self._walk is not None:
            began = time.thread_time_ns()
            records = self._walk.records()
            _tell(to, records, _Found(True, time.thread_time_ns() - began))

    def who(self, pid: int, uid: int) -> bytes:
        if proc.user(pid) != uid:  # a pid is used again
            return msgspec.msgpack.encode(NOBODY)
        if self._mine != _userns(pid):  # ns_capable(): an owner's rights are those of one who is around it
            return msgspec.msgpack.encode(Whereabouts(True, _netns(pid), []))
        known = list(self._finder.look().values())
        self._owners = {one.net.cookie: self._owner(one) for one in known}
        owned = [cookie for cookie, owner in self._owners.items() if owner == uid]
        return msgspec.msgpack.encode(Whereabouts(False, _netns(pid), owned))

    def _owner(self, namespace: Namespace) -> int | None:
        """An owner stays, so each is asked for once."""
        if namespace.net.cookie in self._owners:
            return self._owners[namespace.net.cookie]
        try:
            return owner_of(namespace)
        except SstraceError:
            return None


def _userns(process: int | str) -> int | None:
    with suppress(OSError):
        return os.stat(f"/proc/{process}/ns/user").st_ino  # noqa: PTH116
    return None


def _netns(pid: int) -> int:
    with suppress(OSError, ValueError):
        return netns_of(pid)
    return 0


class _Means(NamedTuple):
    """What a broker answers with: what was loaded while it could."""

    walk: OwnerWalk | None
    known: _Known | None


def _serve(channel: socket.socket, env: Mapping[str, str], user: tuple[int, int] | None, *, spaces: bool) -> None:
    heedless()
    walk = None
    with suppress(SstraceError, OSError):
        walk = OwnerWalk(cache_directory(env))
    means = _Means(walk, _Known(env) if spaces else None)
    if spaces:
        privilege.shed(user, privilege.BROKER_OF_SPACES, seccomp.BROKER_OF_SPACES)
    else:
        privilege.shed(user, privilege.BROKER, seccomp.BROKER)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    channel.send(b"x")
    broker = os.getpid()
    while True:
        data, fds, _, _ = socket.recv_fds(channel, _MOST, 1)
        if not data or not fds:
            return
        with socket.socket(fileno=fds[0]) as to, suppress(msgspec.MsgspecError, SstraceError, OSError):
            _answer(_questions.decode(data), to, means)
        if os.getpid() != broker:
            os._exit(0)


def _answer(question: Dump | Held | Open | Sockets | Spaces | Who, to: socket.socket, means: _Means) -> None:
    """Here what is soon done, or would have to wait for others anyway; in a child what takes its time. Where an answer
    fails, its socket ends.
    """
    known = means.known
    match question:
        case Dump(requests, None):
            _dump(Diag(), requests, to)
        case Held():
            _held(question, to, means.walk)
        case Dump(requests, namespace) if known is not None and namespace is not None:
            with inside(namespace):
                diag = Diag()
            _dump(diag, requests, to)
        case Open(namespace, protocol) if known is not None:
            with inside(namespace), Diag() if protocol else Route() as opened:
                socket.send_fds(to, [b"x"], [opened.fileno()])
        case Sockets() if known is not None:
            known.sockets(to)
        case Spaces(learn, edition) if known is not None:
            _say(to, known.spaces(learn=learn, edition=edition))
        case Who(pid, uid) if known is not None:
            _say(to, known.who(pid, uid))


def _held(question: Held, to: socket.socket, walk: OwnerWalk | None) -> None:
    sees = ProcessView(*question.user).sees if question.user is not None else lambda _: True
    began = time.thread_time_ns()
    if walk is not None and not question.threads and not question.contexts:
        with suppress(FeatureError, OSError):
            records = walk.records(question.wanted, sees=sees)
            _tell(to, records, _Found(True, time.thread_time_ns() - began))
            return
    if os.fork() == 0:
        me = os.getpid()  # it has for a moment what the broker has

        def others(pid: int) -> bool:
            return pid != me and sees(pid)

        found = proc.owners(threads=question.threads, contexts=question.contexts, sees=others)
        _tell(to, msgspec.msgpack.encode(found), _Found(False, time.thread_time_ns()))


def _dump(diag: Diag, requests: Sequence[bytes], to: socket.socket) -> None:
    soon = _SOON
    with diag:
        for request in requests:
            dump = _is_dump(request)
            diag.send(request)
            for datagram in diag:
                to.send(datagram)
                if not dump or netlink.ends(datagram):
                    break
                soon -= len(datagram)
                if soon < 0 and soon + len(datagram) >= 0 and os.fork():
                    return


def _is_dump(request: bytes) -> bool:
    """Raises DecodeError for what asks for something else than sockets."""
    kind, flags, _, end = netlink.message(request, 0)
    if kind not in netlink.READING or end != len(request):
        raise DecodeError("netlink: this asks for no sockets")
    return flags & netlink.DUMP == netlink.DUMP


def _tell(to: socket.socket, data: bytes, found: _Found) -> None:
    _give(to, data, msgspec.msgpack.encode(found))


def _say(to: socket.socket, data: bytes) -> None:
    """Each second a server that rests is told that all is as it was, which is not worth a file."""
    if len(data) <= _SHORT:
        to.send(data)
    else:
        _give(to, data, b"x")


def _give(to: socket.socket, data: bytes, head: bytes) -> None:
    file = os.memfd_create("owners", os.MFD_CLOEXEC)
    try:
        write_all(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        socket.send_fds(to, [head], [file])
    finally:
        os.close(file)
