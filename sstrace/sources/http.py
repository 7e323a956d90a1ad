"""HTTP for whoever scrapes: each request in a thread of its own, answered by a WSGI application.

Nothing is logged, and what a client does to its connection is its own affair. Who says nothing, or does not read, is
cut off after ``_MOST_S`` seconds; the oldest sooner, where there are more than ``_MOST`` at once.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

__all__ = ["Server", "serve"]

_MOST_S = 30.0
"""From a connection to the end of its answer: longer than scrapers wait (10 s, unless Prometheus is told otherwise)."""
_MOST = 64


class Server(ThreadingMixIn, WSGIServer):
    """Listens. ``shutdown`` and ``server_close`` end it; nobody waits for requests that are being answered."""

    daemon_threads = True

    def __init__(self, family: int, address: tuple[str, int], app: Callable[..., Iterable[bytes]]) -> None:
        self.address_family = family
        self._since: dict[socket.socket, float] = {}
        """Of the connections that are being answered, oldest first: when each came. Threads take theirs out."""
        super().__init__(address, _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind, and ask no resolver what this host is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """One more has come."""
        self._since[request] = time.monotonic()
        if len(self._since) > _MOST:
            oldest, *_ = self._since
            _cut(oldest)
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Twice a second, and after each that comes."""
        late = time.monotonic() - _MOST_S
        for request, since in list(self._since.items()):
            if since < late:
                _cut(request)

    def shutdown_request(self, request: Any) -> None:
        """It has been answered, or not."""
        self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A request ended in an exception: that a client has hung up is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _cut(request: socket.socket) -> None:
    """Have the thread that waits for a client find that it has gone."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def serve(app: Callable[..., Iterable[bytes]], address: str, port: int) -> Server:
    """Answer at an address, or a host's name. Raises OSError, ValueError (no name may look like this one), RuntimeError
    (no more threads).
    """
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, bound = found[0]
    server = Server(family, (str(bound[0]), port), app)
    try:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    except RuntimeError:
        server.server_close()
        raise
    return server
