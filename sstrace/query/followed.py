"""Which tables a command line that follows what happens may be about."""

from typing import Final

from sstrace.errors import UsageError
from sstrace.model import Table
from sstrace.protocols import FOLLOWED, SWEPT_TABLES
from sstrace.query.command import Act, Own

__all__ = ["LOOKED_FOR", "followed"]

LOOKED_FOR: Final = frozenset((Act.TRACE, Act.REPLAY))
"""Where sockets are told of that can only be looked for."""


def followed(tables: int, act: Act, own: Own) -> int:
    """Those among some tables, a mask, that are; others are left out where there are any. Raises UsageError."""
    if not tables & FOLLOWED:
        raise UsageError(
            "sstrace: only TCP, UDP, raw, unix, packet, netlink, vsock and XDP sockets are followed: look at others "
            "with --snapshot"
        )
    if act not in LOOKED_FOR or own.engines:
        if not tables & FOLLOWED & ~SWEPT_TABLES:
            what = "--sink clickhouse" if own.engines else act.value
            raise UsageError(
                f"sstrace: {what} is of TCP, UDP and raw sockets: a trace tells of others, and --record keeps them"
            )
        tables &= ~SWEPT_TABLES
    heard = tables & ~SWEPT_TABLES
    # Which such events can happen to their sockets:
    theirs = {"state", "drop", "error"} if heard else {"state"}
    if not heard >> Table.TCP & 1 and own.events and theirs.isdisjoint(own.events):
        raise UsageError(f"sstrace: --events {','.join(own.events)} is of TCP alone: choose -t")
    if own.events == ("error",) and not heard >> Table.UDP & 1:
        raise UsageError("sstrace: --events error is of UDP alone: choose -u")
    return tables
