"""What a server keeps of root, in a process of its own that answers two questions, and reads nothing of any client's.

The server, which reads what clients send, has no capability left (server.serve). What takes one is asked here: a dump
of sock_diag with all that the kernel shows to administrators alone (CAP_NET_ADMIN: marks, MD5 keys, TLS, packet
filters), and who holds which socket (CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH; CAP_BPF for the walk). Nothing else is
answered: no socket is closed, no file read, no program loaded.

The broker is forked before anything is traced, so it is small. It becomes a user of its own, keeps those capabilities
and a list of system calls (sources.seccomp), and ends when the server and all its children have. It ignores what a
terminal or a service manager sends to all of a service's processes: the server needs it to its end.

A question is one message on a SOCK_SEQPACKET socket that the server and its children share; with it comes the socket
that the answer goes to, so that no two meet. A dump is answered by the kernel's datagrams as they are, each a message;
owners by one message and a file in memory.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from select import POLLIN, poll

import msgspec

from sstrace.errors import DecodeError, FeatureError, SstraceError
from sstrace.live.owners import Looked
from sstrace.model import Owner
from sstrace.sources import bugs, privilege, proc, seccomp
from sstrace.sources.cache import cache_directory
from sstrace.sources.diag import Diag, Netlink
from sstrace.sources.owners import WANTED_MOST, OwnerWalk, owners_of
from sstrace.sources.privilege import ProcessView
from sstrace.sources.standard import say, write_all
from sstrace.wire import netlink

__all__ = ["Broker", "Dump", "Held", "died"]

_MOST = 128 << 10
"""The longest question, bytes: ss's longest filters, as bytecode, are far shorter."""

_BREATH_MS = 5
_SOON = 64 << 10
"""What a dump is longer than, bytes, is answered by a child."""


class Dump(msgspec.Struct, frozen=True, tag=True):
    """What does the kernel's sock_diag answer?"""

    requests: list[bytes]
    """Messages, each of which asks for a dump or for a single socket."""


class Held(msgspec.Struct, frozen=True, tag=True):
    """Who holds which socket?"""

    wanted: list[int] | None = None
    """Inodes; None: all."""
    threads: bool = False
    contexts: int = 0
    """See sources.proc."""
    user: tuple[int, int] | None = None
    """Uid and gid of whoever may not see more than their own; None: all that we see."""


class _Found(msgspec.Struct, frozen=True):
    """The answer to ``Held``; a file comes with it."""

    walked: bool
    """Whether the file has the walk's records, else owners in msgpack."""
    spent_ns: int


_Owners = dict[int, tuple[Owner, ...]]
_questions = msgspec.msgpack.Decoder(Dump | Held)
_found = msgspec.msgpack.Decoder(_Found)
_owners = msgspec.msgpack.Decoder(_Owners)


class Broker:
    """The server's end. Who asks raises SstraceError when the broker has died."""

    def __init__(self, env: Mapping[str, str], user: tuple[int, int] | None) -> None:
        """Start it, before any thread and while this process is small. ``user``: whom it becomes, uid and gid; None: it
        stays who we are.
        """
        self._server = os.getpid()
        self._channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            code = bugs.SOFTWARE
            try:
                self._channel.close()
                _serve(its, env, user)
                code = 0
            except ConnectionError:  # the server has gone
                code = 0
            except SstraceError as error:
                say(str(error))
            except Exception as error:
                say(f"what a server keeps of root met {bugs.sentence(error)}")
            finally:
                os._exit(code)
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

    def ask(self, question: Dump | Held) -> socket.socket:
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

    def diag(self) -> Netlink:
        """A sock_diag socket that shows what administrators are shown."""
        return _Asked(self)

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
        with self.ask(question) as answer:
            waiting = poll()
            waiting.register(answer, POLLIN)
            while not waiting.poll(_BREATH_MS):
                breathe()
            data, fds, _, _ = socket.recv_fds(answer, _MOST, 1)
        if not fds:
            raise died()
        found = _found.decode(data)
        with open(fds[0], "rb") as file:
            data = file.read()
        owners = owners_of(data, wanted, breathe) if found.walked else _owners.decode(data)
        channel = os.fstat(self.fileno()).st_ino
        if channel in owners:
            # Whoever asks has it, too, for that alone: a child that answers.
            owners[channel] = tuple(owner for owner in owners[channel] if owner.pid == self._server)
        return Looked(owners, "walk" if found.walked else "proc", found.spent_ns)


def died() -> SstraceError:
    """What there is to say when the broker has ended before the server, or answers no more."""
    return SstraceError("the process that keeps what a server needs of root has died: start the server again")


class _Asked(Netlink):
    """Questions that the broker asks of the kernel, each on a socket of its own."""

    def __init__(self, broker: Broker) -> None:
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self._broker = broker

    def send(self, request: bytes) -> None:
        """Send one request."""
        self._send([request])

    def _send(self, requests: Sequence[bytes]) -> None:
        self._socket.close()
        self._socket = self._broker.ask(Dump(list(requests)))

    def answers(self, requests: Sequence[bytes]) -> Iterator[memoryview]:
        """All are asked for at once."""
        self._send(requests)
        for _ in requests:
            yield self.receive()

    def ahead(self) -> Generator[memoryview, None, None]:
        """As iteration: it is the broker that is ahead."""
        yield from self


# The broker itself.


def _serve(channel: socket.socket, env: Mapping[str, str], user: tuple[int, int] | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    walk = None
    with suppress(SstraceError, OSError):
        walk = OwnerWalk(cache_directory(env))
    privilege.shed(user, privilege.BROKER, seccomp.BROKER)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    channel.send(b"x")
    broker = os.getpid()
    while True:
        data, fds, _, _ = socket.recv_fds(channel, _MOST, 1)
        if not data or not fds:
            return
        with socket.socket(fileno=fds[0]) as to, suppress(msgspec.MsgspecError, SstraceError, OSError):
            _answer(_questions.decode(data), to, walk)
        if os.getpid() != broker:
            os._exit(0)


def _answer(question: Dump | Held, to: socket.socket, walk: OwnerWalk | None) -> None:
    """Here what is soon done, or would have to wait for others anyway; in a child what takes its time. Where an answer
    fails, its socket ends.
    """
    if isinstance(question, Dump):
        _dump(question.requests, to)
        return
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


def _dump(requests: Sequence[bytes], to: socket.socket) -> None:
    soon = _SOON
    with Diag() as diag:
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
    file = os.memfd_create("owners", os.MFD_CLOEXEC)
    try:
        write_all(file, data)
        os.lseek(file, 0, os.SEEK_SET)
        socket.send_fds(to, [msgspec.msgpack.encode(found)], [file])
    finally:
        os.close(file)
