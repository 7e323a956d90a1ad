"""Which tables a command line that follows what happens may be about."""

from collections.abc import Collection

from sstrace.errors import UsageError
from sstrace.incidents import SORTS
from sstrace.protocols import FOLLOWED, OF_TABLE, SWEPT_TABLES
from sstrace.query.command import Own

__all__ = ["followed"]


def followed(tables: int, own: Own) -> int:
    """Those among some tables, a mask, that are; others are left out where there are any. Raises UsageError."""
    if not tables & FOLLOWED:
        raise UsageError(
            "sstrace: only TCP, MPTCP, UDP, raw, unix, packet, netlink, vsock and XDP sockets are followed: look at "
            "others with --snapshot"
        )
    if own.engines:
        if not tables & FOLLOWED & ~SWEPT_TABLES:
            raise UsageError(
                "sstrace: --sink clickhouse is of TCP, MPTCP, UDP and raw sockets: a trace tells of others, and "
                "--record keeps them"
            )
        tables &= ~SWEPT_TABLES
    _check_events(own.events, tables & ~SWEPT_TABLES)
    return tables


def _check_events(events: Collection[str], heard: int) -> None:
    """Refuse what can happen to no socket of these tables."""
    happens_to = {table for sort in SORTS if sort.word in events for table in sort.tables}
    if not happens_to or "state" in events or any(heard >> table & 1 for table in happens_to):
        return
    of = [OF_TABLE[table] for table in sorted(happens_to)]
    names, keys = " and ".join(each.netid.upper() for each in of), " or ".join(f"-{each.key}" for each in of)
    raise UsageError(f"sstrace: --events {','.join(events)} is of {names} alone: choose {keys}")
