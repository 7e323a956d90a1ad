"""News of this network namespace's interfaces: rtnetlink's link group. Decodes nothing (wire.rtnetlink does)."""

import socket
import time
from typing import NamedTuple

__all__ = ["Heard", "Links"]

_NETLINK_ROUTE = 0
_RTMGRP_LINK = 1
_BUFFER = 1 << 16
_AGE_NS = 1_000_000_000


class Heard(NamedTuple):
    """What came since the last time."""

    datagrams: list[bytes]
    whole: bool
    """False: some are missing, or nobody can hear them: look at the interfaces themselves."""


class Links:
    """A subscription, which takes no privilege, in the network namespace that the thread is in now. Where a sandbox
    refuses it, once a second nothing is certain.
    """

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._next_ns = 0
        try:
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            made = socket.socket(socket.AF_NETLINK, kind, _NETLINK_ROUTE)
        except OSError:
            return
        try:
            made.bind((0, _RTMGRP_LINK))
        except OSError:
            made.close()
            return
        self._socket = made

    def fileno(self) -> int | None:
        """What becomes readable when there is news; None where nobody can say."""
        return self._socket.fileno() if self._socket is not None else None

    def read(self) -> Heard:
        """Everything that has come; never waits."""
        if self._socket is None:
            return self._look_again()
        datagrams: list[bytes] = []
        while True:
            try:
                datagrams.append(self._socket.recv(_BUFFER))
            except BlockingIOError:
                return Heard(datagrams, whole=True)
            except OSError:  # ENOBUFS: the kernel had no room for them
                return Heard(datagrams, whole=False)

    def _look_again(self) -> Heard:
        now = time.monotonic_ns()
        due = now >= self._next_ns
        if due:
            self._next_ns = now + _AGE_NS
        return Heard([], not due)

    def close(self) -> None:
        """Let go; harmless when done twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
