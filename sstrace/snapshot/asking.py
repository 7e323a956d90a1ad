"""Asking the kernel as ss does: what goes wrong is told on standard error, and then another way is tried."""

from collections.abc import Callable, Iterator
from typing import Any

from sstrace.errors import SstraceError
from sstrace.snapshot.streams import complain, warn
from sstrace.sources.diag import Netlink
from sstrace.wire.netlink import Batch

__all__ = ["Decode", "Refused", "Unsent", "ask", "dump", "open_diag"]

Decode = Callable[[memoryview], Batch[Any]]
"""A datagram → its rows."""


class Refused(Exception):  # noqa: N818 - an outcome, not an error: another way is tried
    """A table cannot be read this way; standard error has been told why, where ss tells it."""


class Unsent(Refused):
    """Not even the request got away, of which ss says nothing."""


def open_diag(diag: Callable[[], Netlink]) -> Netlink:
    """A socket. Raises Refused, and has told why."""
    try:
        return diag()
    except SstraceError as error:
        warn(str(error))
        raise Refused from error


def ask(diag: Netlink, request: bytes, decode: Decode, *, silent: bool = False) -> Iterator[list[Any]]:
    """The answer to one request, datagram by datagram. Raises Refused when it ends in an error, which has then
    been told unless ``silent``.
    """
    try:
        diag.send(request)
    except SstraceError as error:
        raise Unsent from error
    datagrams = diag.ahead()
    while True:
        try:
            datagram = next(datagrams)
        except SstraceError as error:
            warn(str(error))
            raise Refused from error
        batch = decode(datagram)
        if batch.rows:
            yield batch.rows
        if batch.done:
            if batch.error:
                if not silent:
                    complain(batch.error)
                raise Refused
            return


def dump(diag: Callable[[], Netlink], request: bytes, decode: Decode) -> Iterator[list[Any]]:
    """One request on a socket of its own."""
    with open_diag(diag) as opened:
        yield from ask(opened, request, decode)
