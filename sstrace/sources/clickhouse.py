"""ClickHouse over HTTP, through the client clickhouse-connect (the optional extra ``sstrace[clickhouse]``).

An address is ``http://[USER@]HOST[:PORT][/DATABASE]``, or ``https://…``. The password is
the environment's: CLICKHOUSE_PASSWORD, or what stands in the file that CLICKHOUSE_PASSWORD_FILE names. Certificates are
checked against the system's authorities, or those in SSL_CERT_FILE.

Statements are the caller's. What goes wrong is one of two: ``Away``, where trying again may help, and ``Refused``,
where the engine has answered and somebody has to do something.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

from sstrace.errors import FeatureError, SstraceError, UsageError, reason

__all__ = ["DATABASE", "Address", "Away", "Engine", "Refused", "address_of", "pack", "password_of", "unpack"]

DATABASE: Final = "sstrace"
"""Where an address names none."""

_PORTS: Final = {"http": 8123, "https": 8443}
_AUTHORITIES: Final = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
"""Of Debian, Alpine and Arch; of Fedora and its children. The client knows public ones of its own, and no house's."""
_CONNECT_S: Final = 5
_ANSWER_S: Final = 60
_AGAIN: Final = frozenset((3, 159, 164, 201, 202, 203, 209, 210, 225, 241, 242, 252, 285, 286, 319, 425, 999))
"""Errors, by ClickHouse's numbers (its table system.errors names them), that pass: time-outs, quotas, no memory, too
many queries or parts, a replica that is read-only or has lost its keeper.
"""
_UNKNOWN: Final = 47
_NO_DATABASE: Final = 81
_NOT_LET_IN: Final = frozenset((192, 193, 194, 516))
_FORBIDDEN: Final = 497


class Away(SstraceError):  # noqa: N818 - where it is, in a word
    """The engine cannot be reached, or cannot now: trying again may help."""


class Refused(SstraceError):  # noqa: N818 - what happened, in a word
    """The engine has said no. ``code``: ClickHouse's number, 0 where it gave none."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Address(NamedTuple):
    """Where an engine is."""

    scheme: str
    host: str
    port: int
    user: str
    database: str

    @property
    def text(self) -> str:
        """As one would type it, for sentences."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/{self.database}"

    @property
    def client(self) -> str:
        """How clickhouse-client is told the same."""
        user = f" --user {self.user}" if self.user != "default" else ""
        return f"clickhouse-client --host {self.host}{user} --database {self.database}"


def address_of(text: str, option: str) -> Address:
    """Read an address. ``option``: where it was given, for the sentence. Raises UsageError."""
    wrong = UsageError(f"sstrace: {option}{text}: an address looks like http://USER@HOST:8123/DATABASE")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.password is not None:
        raise UsageError(
            f"sstrace: {option}…: everybody can read a password on a command line (ps): put it into the environment, "
            "CLICKHOUSE_PASSWORD, or into a file that CLICKHOUSE_PASSWORD_FILE names"
        )
    database = unquote(parts.path.strip("/")) or DATABASE
    named = all(one.isalnum() or one == "_" for one in database)
    if parts.scheme not in _PORTS or not parts.hostname or parts.query or parts.fragment or not named:
        raise wrong
    user = unquote(parts.username or "") or "default"
    if "://" not in text:
        raise UsageError(f"sstrace: {option}{text}: write http://{text}, or where it is encrypted https://{text}")
    return Address(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], user, database)


def password_of(env: Mapping[str, str]) -> str:
    """The password that the environment gives; empty where it gives none. Raises SstraceError."""
    path = env.get("CLICKHOUSE_PASSWORD_FILE", "")
    if not path:
        return env.get("CLICKHOUSE_PASSWORD", "")
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SstraceError(f"cannot read CLICKHOUSE_PASSWORD_FILE {path}: {reason(error)}") from None


class Engine:
    """One connection. Nothing is sent before the first question; after a failure the next question connects anew."""

    def __init__(self, address: Address, env: Mapping[str, str], version: str, *, option: str) -> None:
        """``version``: sstrace's, by which the engine's own log knows it; ``option``: what needs it. Raises
        FeatureError and SstraceError.
        """
        self.address = address
        self._password = password_of(env)
        self._ca = env.get("SSL_CERT_FILE") or next(filter(os.path.exists, _AUTHORITIES), None)
        self._name = f"sstrace/{version}"
        self._client: Any = None
        try:
            import clickhouse_connect
        except ImportError as error:
            raise FeatureError(
                f"{option} needs ClickHouse's client ({error.name} is missing): pip install 'sstrace[clickhouse]'"
            ) from None
        import logging

        # What the client complains of, the owner says in its own sentence.
        logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
        logging.getLogger("clickhouse_connect").propagate = False
        self._library = clickhouse_connect

    def ask(self, sql: str, settings: Mapping[str, Any] | None = None) -> Iterator[bytes]:
        """A question's answer as it comes, in the FORMAT that it names. Raises Away and Refused."""
        try:
            stream = self._connected().raw_stream(sql, settings=dict(settings or {}), use_database=True)
            with stream:
                while block := stream.read(1 << 16):
                    yield block
        except Exception as error:
            raise self._failed(error) from None

    def lines(self, sql: str) -> list[list[str]]:
        """A short answer: its rows, and their values as text. Raises Away and Refused."""
        text = b"".join(self.ask(f"{sql} FORMAT TSVRaw")).decode(errors="surrogateescape")
        return [line.split("\t") for line in text.splitlines()]

    def run(self, sql: str) -> None:
        """A statement without an answer. Raises Away and Refused."""
        for _ in self.ask(sql):
            pass

    def insert(self, table: str, columns: Sequence[str], rows: bytes, settings: Mapping[str, Any]) -> None:
        """Put rows, JSON objects a line each, into a table; they are compressed on the way. Raises Away and Refused."""
        try:
            self._connected().raw_insert(
                table,
                columns,
                pack(rows),
                settings=dict(settings),
                fmt="JSONEachRow",
                compression="zstd",
            )
        except Exception as error:
            raise self._failed(error) from None

    def close(self) -> None:
        """Hang up."""
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close()

    def _connected(self) -> Any:
        if self._client is None:
            address = self.address
            self._client = self._library.get_client(
                interface=address.scheme,
                host=address.host,
                port=address.port,
                username=address.user,
                password=self._password,
                database=address.database,
                connect_timeout=_CONNECT_S,
                send_receive_timeout=_ANSWER_S,
                client_name=self._name,
                ca_cert=self._ca,
                autogenerate_session_id=False,
                query_retries=0,
                dedicated_pool=True,
            )
        return self._client

    def _failed(self, error: Exception) -> SstraceError:
        """What a library's exception means; the connection is made anew."""
        connecting = self._client is None
        self.close()
        if isinstance(error, SstraceError):
            return error
        address, text = self.address, str(error)
        number = _after(text, "code: ") or _after(text, "Code: ")
        if not number:
            return Away(f"cannot reach {address.text}: {_why(error)}")
        said = text.partition("DB::Exception: ")[2].partition(" (for url")[0] or text
        if number in _AGAIN:
            return Away(f"{address.text} cannot now: {said}")
        if number == _NO_DATABASE:
            make = f"clickhouse-client --host {address.host} --query 'CREATE DATABASE {address.database}'"
            return Refused(f"{address.text} has no database {address.database}: {make}", number)
        if number in _NOT_LET_IN:
            return Refused(
                f"{address.text} does not let user {address.user} in: the password is CLICKHOUSE_PASSWORD's, or that "
                "in the file that CLICKHOUSE_PASSWORD_FILE names",
                number,
            )
        if number == _UNKNOWN and connecting:  # what the client asks at first is not there: in 18.16, say
            return Refused(f"{address.text} is older than its client can ask: ClickHouse 24.8 or newer is needed")
        if number == _FORBIDDEN:
            return Refused(f"{address.text} does not allow it to user {address.user}: {said}", number)
        return Refused(f"{address.text}: {said}", number)


def _after(text: str, mark: str) -> int:
    """The number behind a mark, 0 for none."""
    digits = text.partition(mark)[2]
    length = next((at for at, one in enumerate(digits) if not one.isdecimal()), len(digits))
    return int(digits[:length] or 0)


def _why(error: BaseException) -> str:
    """The system's words, from below a library's."""
    why = error
    while (below := why.__cause__ or why.__context__ or getattr(why, "reason", None)) and below is not why:
        if not isinstance(below, BaseException):
            break
        why = below
        if isinstance(why, OSError) and why.strerror:
            return why.strerror
    return str(why).splitlines()[0] if str(why) else type(why).__name__


def pack(data: bytes) -> bytes:
    """Compress; where there is no client there is nothing to compress with."""
    return bytes(_zstd().compress(data, 1))


def unpack(data: bytes) -> bytes:
    """The other way. Raises what the library raises."""
    return bytes(_zstd().decompress(data))


def _zstd() -> Any:
    """Python's own from 3.14 on; before, the one that the client brings."""
    try:
        from compression import zstd
    except ImportError:
        from backports import zstd
    return zstd
