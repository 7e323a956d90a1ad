"""HTTP for whoever scrapes: each request in a thread of its own, answered by a WSGI application.

Nothing is logged, and what a client does to its connection is its own affair. Who says nothing, or does not read, is
cut off after ``_MOST_S`` seconds. Where there are more than ``_MOST`` connections at once, the oldest of the caller who
has the most of them is, so that nobody's last one is in the way of others.
"""

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from sstrace.sources.bugs import sentence
from sstrace.sources.standard import say

__all__ = ["Server", "serve"]

_MOST_S = 30.0
"""From a connection to the end of its answer: longer than scrapers wait (10 s, unless Prometheus is told otherwise)."""
_MOST = 64


class _Came(NamedTuple):
    """Of a connection."""

    at: float
    whose: str


class Server(ThreadingMixIn, WSGIServer):
    """Listens. ``shutdown`` and ``server_close`` end it; nobody waits for requests that are being answered."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        family: int,
        address: tuple[str, int],
        app: Callable[..., Iterable[bytes]],
        whose: Callable[[socket.socket], str],
    ) -> None:
        self.address_family = family
        self._whose = whose
        self._came: dict[socket.socket, _Came] = {}
        """Of the connections that are being answered, oldest first. Threads take theirs out."""
        super().__init__(address, _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind, and ask no resolver what this host is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more has come."""
        self._came[request] = _Came(time.monotonic(), self._whose(request))
        if len(self._came) > _MOST:
            came = list(self._came.items())
            ((most, _),) = Counter(one.whose for _, one in came).most_common(1)
            _cut(next(request for request, one in came if one.whose == most))
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Twice a second, and after each that comes."""
        late = time.monotonic() - _MOST_S
        for request, came in list(self._came.items()):
            if came.at < late:
                _cut(request)

    def shutdown_request(self, request: Any) -> None:
        """It has been answered, or not."""
        self._came.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A request ended in an exception: that a client has hung up is no news, nor that no thread can be had."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | RuntimeError):
            say(f"a request of HTTP met {sentence(error)}")


def _cut(request: socket.socket) -> None:
    """Have the thread that waits for a client find that it has gone."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def serve(
    app: Callable[..., Iterable[bytes]], address: str, port: int, whose: Callable[[socket.socket], str]
) -> Server:
    """Answer at an address, or a host's name. ``whose`` says what all connections of one caller have in common. Raises
    OSError, ValueError (no name may look like this one), RuntimeError (no more threads).
    """
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, bound = found[0]
    server = Server(family, (str(bound[0]), port), app, whose)
    try:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    except RuntimeError:
        server.server_close()
        raise
    return server
