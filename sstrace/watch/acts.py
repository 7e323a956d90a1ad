"""What ``--watch`` does to a connection at somebody's word: close it, or give its line away."""

import errno
import os
from collections.abc import Sequence

from sstrace.errors import KernelError, SstraceError
from sstrace.live.places import Places
from sstrace.protocols import SWEPT, TABLE_OF_NUMBER
from sstrace.render import watch as render
from sstrace.rows import socket_of
from sstrace.table import Row
from sstrace.wire import inet_diag

__all__ = ["kill", "text_of"]

_LACKING = {errno.EOPNOTSUPP: "this kernel closes no sockets for others (CONFIG_INET_DIAG_DESTROY)"}


def kill(places: Places, row: Row) -> str:
    """Close a socket as ss -K does, by SOCK_DESTROY; what came of it, a sentence. It is this very socket or none: the
    kernel compares its cookie.
    """
    table = TABLE_OF_NUMBER[row.protocol]
    if row.protocol in SWEPT:
        return "the kernel closes no sockets of this family for others"
    for place, _ in places.apart([row]):
        try:
            with place.kernel.diag() as diag:
                request = inet_diag.destroy_request(socket_of(row, table=table))
                number = inet_diag.decode(next(iter(diag.answers([request]))), table).error
        except KernelError as error:
            number = error.errno or errno.EIO
        except SstraceError as error:
            return str(error)
        if not number:
            return "closed"
        if number == errno.ENOENT:
            return "it has gone already"
        return f"not closed: {_LACKING.get(number) or os.strerror(number)}"
    return "it has gone already"


def text_of(lines: Sequence[render.Line]) -> str:
    """Rows as text, a line each, their columns apart by a blank."""
    return "\n".join(
        " ".join(
            part
            for part in (
                line.netid,
                line.netns,
                line.state,
                line.held,
                f"{line.local}{line.local_port}",
                f"{line.peer}{line.peer_port}",
                line.rest,
                line.cause,
            )
            if part
        )
        for line in lines
    )
