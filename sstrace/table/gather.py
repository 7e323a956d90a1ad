"""Rows made anew, side by side.

Of many rows that came together a few are left, scattered over the memory that all of them took: as long as one object
lives in a piece of it, the piece cannot be given back. So those that are left are copied, with all that belongs to
them, and the copies take their places (sources.memory.plugged has them lie together). The dicts that find them are as
large as they ever were, and are filled anew.
"""

from collections.abc import Callable
from copy import copy
from typing import Any

from sstrace.model import Owner
from sstrace.table.index import Index, cookie_key
from sstrace.table.rows import Row

__all__ = ["gather"]

_APART = ("id", "ino", "cookie", "sk", "since_ns", "touched_ns", "born_ns")
"""Numbers that no other row has."""
_SHARED = ("src", "sport", "dst", "dport", "uid", "ifindex", "cgroup")
"""What stands in row after row."""
_RUN = 2048


def gather(index: Index, breathe: Callable[[], object]) -> None:
    """Make every row of a space anew. ``breathe`` is called every few milliseconds and may fold events in, but whoever
    keeps rows of his own keeps those that were.
    """
    shared: dict[Any, Any] = {}
    # All that were stay until the end: what let go of its place would leave it to the next copy.
    before = list(index.rows.values())
    for number, row in enumerate(before, 1):
        if index.rows.get(row.id) is row:
            _replace(index, row, _again(row, shared))
        if number % _RUN == 0:
            breathe()
    for found in (index.rows, index.by_sk, index.by_cookie, index.by_ino, index.by_ends, index.unsettled):
        _shrink(found)
        breathe()
    if index.by_state is not None:
        for rows in list(index.by_state.values()):
            _shrink(rows)


def _again(row: Row, shared: dict[Any, Any]) -> Row:
    new = copy(row)
    numbers: dict[int, int] = {}
    for name in _APART:
        value = getattr(row, name)
        if value is not None:
            setattr(new, name, numbers.setdefault(value, value | 0))
    for name in _SHARED:
        setattr(new, name, _anew(getattr(row, name), shared))
    if row.ends is not None:
        sport, dport, src, dst, ifindex = (_anew(part, shared) for part in row.ends)
        new.ends = sport, dport, src, dst, ifindex
    owners = shared.get(key := (id(row.owners),))  # a listener's are those of all that it has not handed out
    if owners is None:
        owners = shared[key] = tuple([_owner(one, shared) for one in row.owners])
    new.owners = owners
    return new


def _owner(one: Owner, shared: dict[Any, Any]) -> Owner:
    comm, pid, fd = (_anew(part, shared) for part in (one.comm, one.pid, one.fd))
    return Owner(comm, pid, fd, one.finer)


def _anew(value: Any, shared: dict[Any, Any]) -> Any:
    """One copy of equal numbers or addresses; None stays."""
    if value is None:
        return None
    made = shared.get(value)
    if made is None:
        made = shared[value] = bytes(bytearray(value)) if type(value) is bytes else value | 0
    return made


def _replace(index: Index, row: Row, new: Row) -> None:
    """Whatever finds a row finds the new one."""
    _swap(index.rows, row.id, row, new.id, new)
    if row.sk is not None:
        _swap(index.by_sk, row.sk, row, new.sk, new)
    if row.cookie is not None and new.cookie is not None:
        key, new_key = cookie_key(row.cookie, row.kind, row.ends), cookie_key(new.cookie, new.kind, new.ends)
        _swap(index.by_cookie, key, row, new_key, new)
    if row.ends is not None:
        _swap(index.by_ends, row.ends, row, new.ends, new)
    _swap(index.by_ino, row.ino, row, new.ino, new)
    _swap(index.unsettled, row.id, row, new.id, new)
    if index.by_state is not None and row.state in index.by_state:
        _swap(index.by_state[row.state], row.id, row, new.id, new)
    silent = index.news.silent
    if silent and row.id in silent:
        silent[row.id] = new, silent[row.id][1]


def _shrink(found: dict[Any, Any]) -> None:
    """Have a dict take what it holds: what is taken out of one leaves its place (Objects/dictobject.c)."""
    items = list(found.items())
    found.clear()
    found.update(items)


def _swap(found: Any, key: Any, row: Row, new_key: Any, new: Row) -> None:
    """The new key is equal, and another object."""
    if found.get(key) is row:
        del found[key]
        found[new_key] = new
