"""Netlink sockets: requests out, datagrams in. Decodes nothing, so it cannot know where an answer ends.

The caller does, from what its decoder says::

    with Diag() as diag:
        diag.send(request)
        for datagram in diag:
            batch = decode(datagram)
            ...
            if batch.done:
                break

An answer that was not read to its end leaves its rest in the socket: close a Diag that failed half way, do not reuse
it.

A socket is opened as iproute2 opens its own (lib/libnetlink.c), call by call, and a refusal has its words: where the
kernel refuses ss, it refuses this at the same place, and a snapshot says the same.
"""

import _socket as socket  # all that is needed of it; socket itself takes a millisecond to import
import errno
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from sstrace.errors import FeatureError, KernelError, PrivilegeError, SstraceError

__all__ = [
    "SKNLGRP_INET6_TCP_DESTROY",
    "SKNLGRP_INET6_UDP_DESTROY",
    "SKNLGRP_INET_TCP_DESTROY",
    "SKNLGRP_INET_UDP_DESTROY",
    "Diag",
    "Netlink",
    "Route",
    "opening",
]

_NETLINK_ROUTE = 0
_NETLINK_SOCK_DIAG = 4
_SO_RCVBUFFORCE = 33
_SNDBUF = 32 << 10
_RCVBUF = 1 << 20

SKNLGRP_INET_TCP_DESTROY = 1
SKNLGRP_INET_UDP_DESTROY = 2
SKNLGRP_INET6_TCP_DESTROY = 3
SKNLGRP_INET6_UDP_DESTROY = 4

# The kernel fills a dump's datagrams up to the size of the reader's buffer, with 32 KiB its limit (6.18); a datagram
# of the destroy groups is one message. A buffer of 1 MiB is more than any kernel has been seen to use.
_BUFFER = 1 << 20
_spare: list[bytearray] = []
"""That of a socket which was closed, for the next one: to make one costs as much as a short answer, and who opens ten
in each of a thousand namespaces has memory torn to pieces by it.
"""

# ``ahead``: datagrams read before a thread is worth it (some 2,000 sockets), and how far the thread may run in front.
_ALONE = 10
_AHEAD = 4

# What the kernel keeps for us between two reads of a multicast group; only bursts of closing sockets need it.
_EVENT_BACKLOG = 8 << 20


class Netlink:
    """Questions to the kernel and its answers, over a socket."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._buffer = _spare.pop() if _spare else bytearray(_BUFFER)
        self._view = memoryview(self._buffer)

    def send(self, request: bytes) -> None:
        """Send one request. The kernel starts the dump right here, and fails here when it has no memory for it."""
        try:
            self._socket.send(request)
        except OSError as error:
            raise _refusal("Cannot send dump request", error) from error

    def receive(self) -> memoryview:
        """Wait for the next datagram. The view is valid until the next call; copy what must live longer.

        Raises KernelError: ENOBUFS means that events were lost (the socket stays usable), EMSGSIZE that a datagram
        was cut.
        """
        try:
            # With MSG_TRUNC the return value is the datagram's own length, even when it did not fit.
            size = self._socket.recv_into(self._buffer, _BUFFER, socket.MSG_TRUNC)
        except OSError as error:
            raise _refusal("netlink receive error ", error, numbered=True) from error
        return self._checked(self._view, size)

    @staticmethod
    def _checked(view: memoryview, size: int) -> memoryview:
        if size > _BUFFER:
            raise KernelError(f"A netlink datagram of {size} bytes does not fit into {_BUFFER}", errno.EMSGSIZE)
        if size == 0:
            raise KernelError("EOF on netlink", errno.ENODATA)
        return view[:size]

    def __iter__(self) -> Iterator[memoryview]:
        while True:
            yield self.receive()

    def ahead(self) -> Generator[memoryview, None, None]:
        """Like iteration, but while the caller works on a datagram, a second thread has the kernel make the next ones.

        For long dumps: half of their time is the kernel's, and it is spent inside the call that reads. The first
        datagrams are read without a thread, so short answers never start one. Only for dumps: between two datagrams
        of one there is nothing to wait for, so "none is there" means that the dump has ended.
        """
        for _ in range(_ALONE):
            yield self.receive()
        # These two modules are what threading and queue are made of; those take milliseconds to import.
        from _queue import SimpleQueue
        from _thread import allocate_lock, start_new_thread

        empty: SimpleQueue[bytearray | None] = SimpleQueue()
        full: SimpleQueue[tuple[bytearray, int] | OSError] = SimpleQueue()
        for _ in range(_AHEAD):
            empty.put(bytearray(_BUFFER))
        ended = allocate_lock()

        def read() -> None:
            try:
                while (buffer := empty.get()) is not None:
                    size = self._socket.recv_into(buffer, _BUFFER, socket.MSG_TRUNC | socket.MSG_DONTWAIT)
                    full.put((buffer, size))
            except OSError as error:
                full.put(error)
            finally:
                ended.release()

        ended.acquire()
        try:
            start_new_thread(read, ())
        except RuntimeError:  # there may be no more threads: one reads as well
            while True:
                yield self.receive()
        try:
            while True:
                found = full.get()
                if isinstance(found, BlockingIOError):
                    break
                if isinstance(found, OSError):
                    raise _refusal("netlink receive error ", found, numbered=True) from found
                buffer, size = found
                yield self._checked(memoryview(buffer), size)
                empty.put(buffer)
        finally:
            empty.put(None)
            ended.acquire()
        yield from self

    def answers(self, requests: Sequence[bytes]) -> Iterator[memoryview]:
        """The datagram with which the kernel answers each of some requests that are no dumps."""
        for request in requests:
            self.send(request)
            yield self.receive()

    def fileno(self) -> int:
        """The socket's file descriptor, for select and poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; a dump under way is abandoned, and no view of a datagram is valid any more."""
        self._socket.close()
        buffer, self._buffer = self._buffer, bytearray()
        if buffer and not _spare:
            _spare.append(buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Diag(Netlink):
    """One socket of the sock_diag protocol. ``groups``: SKNLGRP_*, for the news of destroyed sockets."""

    def __init__(self, *, groups: Iterable[int] = ()) -> None:
        joined = tuple(groups)
        super().__init__(_opened(_NETLINK_SOCK_DIAG, joined))
        if joined:
            with suppress(OSError):  # takes CAP_NET_ADMIN
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _EVENT_BACKLOG)


class Route(Netlink):
    """One socket of rtnetlink, which knows the interfaces."""

    def __init__(self) -> None:
        super().__init__(_opened(_NETLINK_ROUTE))


_elsewhere: list[Callable[[int], socket.socket]] = []
"""Who opens sockets at present, where not the kernel for this process."""


@contextmanager
def opening(opener: Callable[[int], socket.socket]) -> Iterator[None]:
    """Have somebody else open what is opened for a while, in another network namespace, say: takes the protocol."""
    _elsewhere.append(opener)
    try:
        yield
    finally:
        _elsewhere.pop()


def _opened(protocol: int, groups: Iterable[int] = ()) -> socket.socket:
    """A netlink socket, in the network namespace that the thread is in now.

    ``groups``: multicast groups to join, by number from 1 to 32; needs no privilege.
    Raises FeatureError where the kernel lacks the protocol, PrivilegeError where a sandbox forbids it, else
    KernelError; the text is iproute2's, ``advice`` says more.
    """
    if _elsewhere:
        return _elsewhere[-1](protocol)
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise _refusal("Cannot open netlink socket", error) from error
    doing = "SO_SNDBUF"
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SNDBUF)
        doing = "SO_RCVBUF"
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
        doing = "Cannot bind netlink socket"
        # Without a port id of its own a socket counts as the kernel, the sender, and is left out of a broadcast.
        opened.bind((0, sum(1 << group - 1 for group in groups)))
        doing = "Cannot getsockname"
        opened.getsockname()
    except OSError as error:
        opened.close()
        raise _refusal(doing, error) from error
    return opened


def _refusal(doing: str, error: OSError, *, numbered: bool = False) -> SstraceError:
    number = error.errno or 0
    what = f"{os.strerror(number)} ({number})" if numbered else f": {os.strerror(number)}"
    refusal: SstraceError
    if number in (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT):
        refusal = FeatureError(f"{doing}{what}")
        refusal.advice = "the kernel lacks CONFIG_INET_DIAG or CONFIG_NET, or a sandbox says so"
    elif number in (errno.EPERM, errno.EACCES):
        refusal = PrivilegeError(f"{doing}{what}")
        refusal.advice = "a sandbox or security policy forbids netlink"
    else:
        refusal = KernelError(f"{doing}{what}", number)
    refusal.errno = number
    return refusal
