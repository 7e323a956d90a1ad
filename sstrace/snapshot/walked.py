"""TCP of many network namespaces at once: out of the hash tables that they share, which sock_diag, asked in each, would
walk for each (live.dumps). So it is where a command line asks for no more of a socket than the walk reads.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress

from sstrace.errors import SstraceError
from sstrace.model import AF_INET, AF_INET6, InetSocket, Netns, Role, Socket, State, Table
from sstrace.query.command import Command, Selection
from sstrace.query.expression import Autobound, Compare, Device, Expr, Match, Named, tests_of
from sstrace.sources.cache import cache_directory
from sstrace.sources.privilege import may_trace
from sstrace.sources.socket_walk import SocketWalk
from sstrace.wire import walked
from sstrace.without import without

__all__ = ["Walked", "walk", "walks"]

_LEAST = 60
"""Namespaces, of 1.5 ms each by netlink, from which on it is worth while to load the walk."""
_MOST = 100
"""Sockets of one, which netlink and the compiled twins print sooner if there are more."""


def walks(command: Command) -> bool:
    """Whether the walk reads all that a command line, resolved, looks at of a TCP socket."""
    show, selection = command.show, command.selection
    return (
        selection.tables >> Table.TCP & 1 == 1
        and not selection.states >> State.BOUND_INACTIVE & 1
        and not selection.kill
        and not command.own.json
        and not (show.timers or show.extended or show.memory or show.info or show.tos or show.cgroup)
        and not (show.bpf or show.bpf_maps or show.inet_sockopt or show.contexts)
        and all(map(_is_read, tests_of(selection.filter)))
    )


def _is_read(test: Expr) -> bool:
    if isinstance(test, Named):
        return test.word in ("pid", "comm", "user", "netns")
    return isinstance(test, Match | Compare | Device | Autobound)


class Walked:
    """What was found in one namespace (snapshot.sources.TableSource)."""

    tables = 1 << Table.TCP

    def __init__(self, records: Sequence[bytes]) -> None:
        self._records = records

    def rows(
        self,
        _table: Table,
        selection: Selection,
        *,
        ext: int,
        attributes: bool,
        bytecode: bytes,
        take: Callable[[memoryview], bool] | None,
        complain: Callable[[int], None],
    ) -> Iterator[Sequence[InetSocket]]:
        """See TableSource: of each family those that listen, then those that are connected, as sock_diag has them."""
        found = list(walked.decode(self._records, selection.states))
        for family in (AF_INET, AF_INET6):
            mine = [one for one in found if one.family == family]
            yield [one for one in mine if one.state == State.LISTEN]
            yield [one for one in mine if one.state != State.LISTEN]

    def outside(self, _table: Table, _selection: Selection) -> Sequence[Socket]:
        """See TableSource: of these the kernel is asked."""
        return ()

    def known(self, shown: Sequence[Socket]) -> Sequence[Socket]:
        """See TableSource."""
        return shown

    def held_ns(self, row: Socket) -> None:
        """See TableSource."""

    def role(self, row: Socket) -> Role | None:
        """See TableSource."""

    def at_least(self, row: Socket) -> bool:
        """See TableSource."""
        return False


def walk(env: Mapping[str, str], namespaces: Collection[Netns], hashinfo: Callable[[int], int]) -> dict[Netns, Walked]:
    """Those of namespaces that the walk has been through, and that have few; none where it cannot be had, or where it
    would cost more than to ask in each. ``hashinfo``: see Finder.
    """
    if len(namespaces) < _LEAST or not may_trace() or "sockets" in without(env):
        return {}
    with suppress(SstraceError, OSError):
        through = SocketWalk(cache_directory(env))
        try:
            apart = walked.apart(through.records(queues=True))
        finally:
            through.close()
        shared = [one for one in namespaces if hashinfo(one.cookie) == through.hashinfo]
        found = {one: apart.get(one) or apart.get(Netns(0, one.inode)) or [] for one in shared}
        return {one: Walked(records) for one, records in found.items() if len(records) <= _MOST}
    return {}
