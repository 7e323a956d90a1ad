"""Telling systemd how a service is doing: sd_notify(3), one datagram to the socket that NOTIFY_SOCKET names."""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

__all__ = ["Notify"]


class Notify:
    """Silent where nobody asked to be told."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._path = env.get("NOTIFY_SOCKET", "")
        self._every_ns = 0
        self._due_ns = 0
        watchdog, pid = env.get("WATCHDOG_USEC", ""), env.get("WATCHDOG_PID", "")
        if watchdog.isdecimal() and pid in ("", str(os.getpid())):
            self._every_ns = int(watchdog) * 1000 // 2

    def ready(self, status: str) -> None:
        """Up and running."""
        self._send(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """Again and again, where a watchdog wants it."""
        if self._every_ns and time.monotonic_ns() >= self._due_ns:
            self._due_ns = time.monotonic_ns() + self._every_ns
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """About to end."""
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if self._path[:1] not in ("/", "@"):
            return
        address = "\0" + self._path[1:] if self._path[0] == "@" else self._path
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.setblocking(False)
            to.sendto(text.encode(), address)
