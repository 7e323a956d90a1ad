"""A ClickHouse to test against: the real engine (chDB) in a process of its own, behind as much of ClickHouse's HTTP
interface as clients use: POST and GET, the statement in ``query`` or in the body, data behind it, ``database``,
settings and ``param_…`` in the URL, compressed bodies, users and passwords, errors with their codes.

The engine is not a server: statements run one after another, and every user who is let in may do everything. It can be
killed at any moment and started again over the same directory, at the same port.

    with Front(tmp_path / "engine") as engine:
        engine.ask("SELECT 1")
        engine.kill()
        engine.start()
"""

import base64
import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen

__all__ = ["Front"]

_OWN = frozenset(("query", "database", "user", "password", "session_id", "session_timeout", "query_id", "role"))
_TRANSPORT = re.compile(
    r"(default_format|compress|decompress|client_protocol_version|wait_end_of_query|quota_key|.*http.*)$"
)
_CODE = re.compile(r"Code: (\d+)\. ?")


class Front:
    """The engine in a child process."""

    def __init__(
        self,
        folder: Path,
        *,
        database: str | None = "sstrace",
        users: dict[str, str] | None = None,
        certificate: tuple[Path, Path] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        """``folder``: where its data is; ``database``: is made; ``users``: names and passwords (default: user
        ``default`` without one); ``certificate``: certificate and key, to speak TLS; ``prefix``: words before the
        command, which enter a network namespace.
        """
        self.folder = folder
        self.wait_s = 120.0
        """So long ``ask`` waits for an answer."""
        self._options: dict[str, Any] = {"database": database, "users": users or {"default": ""}, "certificate": None}
        if certificate is not None:
            self._options["certificate"] = [str(path) for path in certificate]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Of the engine."""
        return f"http{'s' if self._options['certificate'] else ''}://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The same with the database that is asked."""
        return f"{self.url}/{self._options['database']}"

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        return self._process.pid

    def use(self, database: str) -> None:
        """From here on ask this one, which is made. (What is dropped, chDB waits for until its session ends.)"""
        self._options["database"] = database
        self.ask(f"CREATE DATABASE IF NOT EXISTS {database}", database="default")

    def start(self) -> None:
        """Start it, again or for the first time, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ready, told = os.pipe()
        options = json.dumps({**self._options, "folder": str(self.folder), "port": self.port, "ready": told})
        self._process = subprocess.Popen(
            [*self._prefix, sys.executable, __file__, options], pass_fds=(told,), start_new_session=True
        )
        os.close(told)
        with open(ready, "rb") as end:
            assert end.read() == b"ready", "the engine did not start"

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self, *, on: bool = True) -> None:
        """Have it answer no more, but keep its connections; ``on`` false: go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def ask(self, sql: str, **settings: object) -> str:
        """A statement's answer, TSV where it says nothing else. Raises AssertionError with the engine's words."""
        more = "".join(f"&{name}={quote(str(value))}" for name, value in settings.items())
        database = f"database={self._options['database']}" if self._options["database"] else ""
        request = Request(f"http://127.0.0.1:{self.port}/?{database}{more}", data=sql.encode())
        try:
            with urlopen(request, timeout=self.wait_s) as answer:
                return bytes(answer.read()).decode()
        except HTTPError as error:
            raise AssertionError(error.read().decode()) from None


class _Engine:
    """chDB, one statement at a time."""

    def __init__(self, folder: str, database: str | None) -> None:
        from chdb.session import Session

        self._session: Any = Session(folder)
        self._lock = threading.Lock()
        if database:
            self._session.query(f"CREATE DATABASE IF NOT EXISTS {database}")

    def run(self, statement: str, database: str, settings: dict[str, str], fmt: str) -> bytes:
        """Raises RuntimeError with the engine's text."""
        with self._lock:
            self._session.query(f"USE {database or 'default'}")
            for name, value in settings.items():
                literal = value.replace("\\", "\\\\").replace("'", "\\'")
                self._session.query(f"SET {name} = '{literal}'")
            try:
                return bytes(self._session.query(statement, fmt).bytes())
            finally:
                for name in settings:
                    if not name.startswith("param_"):
                        self._session.query(f"SET {name} = DEFAULT")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    engine: _Engine
    users: dict[str, str]

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self._body()
        given = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query, True).items()}
        if urlsplit(self.path).path == "/ping":
            return self._answer(200, b"Ok.\n")
        if not self._allowed(given):
            text = "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            return self._answer(403, text.encode(), code="516")
        statement = "\n".join(part for part in (given.get("query", ""), body.decode(errors="surrogateescape")) if part)
        settings = {
            name: value for name, value in given.items() if name not in _OWN and not _TRANSPORT.match(name)
        }  # fmt: skip
        fmt = self.headers.get("X-ClickHouse-Format") or given.get("default_format") or "TabSeparated"
        database = given.get("database") or self.headers.get("X-ClickHouse-Database") or ""
        try:
            return self._answer(200, self.engine.run(statement, database, settings, fmt))
        except RuntimeError as error:
            found = _CODE.search(str(error))
            code = found[1] if found is not None else "1000"
            status = 404 if code in ("60", "81") else 400 if code in ("62", "27", "117") else 500
            return self._answer(status, str(error).encode(), code=code)

    def _allowed(self, given: dict[str, str]) -> bool:
        user, password = given.get("user"), given.get("password", "")
        kind, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(credentials).decode().partition(":")
        user = user or self.headers.get("X-ClickHouse-User") or "default"
        return self.users.get(user) == (password or self.headers.get("X-ClickHouse-Key") or "")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        encoding = self.headers.get("Content-Encoding", "")
        if encoding == "gzip":
            return gzip.decompress(body)
        if encoding == "zstd":
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(body)
        return body

    def _answer(self, status: int, body: bytes, code: str = "") -> None:
        self.send_response(status)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.send_header("X-ClickHouse-Summary", "{}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _serve(options: dict[str, Any]) -> None:
    _Handler.engine = _Engine(options["folder"], options["database"])
    _Handler.users = options["users"]
    server = ThreadingHTTPServer(("127.0.0.1", options["port"]), _Handler)
    if options["certificate"]:
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options["certificate"])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    os.write(options["ready"], b"ready")
    os.close(options["ready"])
    server.serve_forever()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
