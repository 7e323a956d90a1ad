"""Who holds a row, as far as its own events tell: who made the call, and who holds the listener."""

from functools import lru_cache

from sstrace.model import Owner, State
from sstrace.table.rows import Row

__all__ = ["inherited", "own"]

_LISTEN, _SYN_SENT = int(State.LISTEN), int(State.SYN_SENT)


def own(row: Row, owner: Owner, new: int, last: bool) -> None:
    """An event names the process whose system call it was. Who connects or listens is the owner; so is who makes
    another call where those that are known do not name it, for they hold it no more. ``last``: it was the last owner.
    One that is known with its descriptor is not forgotten for one without.
    """
    known = row.owners if row.owner_source != "listener" else ()
    same = None
    for one in known:
        if one.pid == owner.pid:
            same = one
            break
    if new in (_SYN_SENT, _LISTEN) and (owner.fd is not None or same is None):
        row.owners, row.owner_source = (owner,), "listen" if new == _LISTEN else "connect"
    elif same is None:
        row.owners, row.owner_source = (owner,), "close"
    elif last or same.comm != owner.comm:
        # It may have another name by now: exec(2), prctl(2).
        row.owners = tuple(
            one if one.pid != owner.pid or one.comm == owner.comm else Owner(owner.comm, one.pid, one.fd)
            for one in known
            if not last or one.pid == owner.pid
        )


@lru_cache(1024)
def inherited(owners: tuple[Owner, ...]) -> tuple[Owner, ...]:
    """Those who hold a listener, as owners of what it has not handed to one of them yet."""
    return tuple({one.pid: Owner(one.comm, one.pid, None) for one in owners}.values())
