"""``--explain WHICH``: everything that the kernel, or a serving sstrace, knows of one connection now.

It is a snapshot of TCP with every detail (modes.snapshot), whose rows go into stories: who asks, which network
namespaces are meant, and who may see what, are the same.
"""

import time
from _socket import inet_ntop  # socket takes a millisecond to import
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from sstrace.errors import LookupFailed
from sstrace.live.source import LiveRows
from sstrace.model import ALL_STATES, InetSocket, Label, Socket, State, Table
from sstrace.modes import snapshot
from sstrace.output.texts import work_text
from sstrace.query.command import Command
from sstrace.query.connection import Which, address_of
from sstrace.render.common import Context
from sstrace.render.explained import Known, story
from sstrace.render.times import moment
from sstrace.snapshot.sources import Origin, Sink, TableSource

__all__ = ["asked", "run"]

_REAL = ALL_STATES & ~(1 << State.BOUND_INACTIVE)


def run(command: Command, env: Mapping[str, str], origin: Origin | None = None) -> int:
    """Tell; the exit code. Raises LookupFailed where there is no such connection."""
    which = command.own.explain
    assert which is not None
    told: list[_Stories] = []

    def into(
        context: Context, lines: Sink, tcp: Callable[[], TableSource | None], write: Callable[[bytes], object]
    ) -> Sink:
        told.append(_Stories(command, context, lines, tcp, write))
        return told[0]

    code = snapshot.run(asked(command), env, origin, into)
    if not told or not told[0].count:
        raise LookupFailed(f"sstrace: there is no connection {which.text} now")
    return code


def asked(command: Command) -> Command:
    """The snapshot that a story is told from: the kernel, or the table, looks for its ports."""
    which = command.own.explain
    assert which is not None
    selection = command.selection
    selection = msgspec.structs.replace(selection, tables=1 << Table.TCP, states=_REAL)
    show = msgspec.structs.replace(
        command.show, numeric=True, processes=True, info=True, memory=True, extended=True, timers=True
    )
    return msgspec.structs.replace(command, selection=selection, show=show, operands=(_ports(which),))


def _ports(which: Which) -> str:
    """As a filter."""
    ports = [port for _, port in which.ends]
    if len(ports) == 1:
        return f"sport = :{ports[0]} or dport = :{ports[0]}"
    one, other = ports
    return f"( sport = :{one} and dport = :{other} ) or ( sport = :{other} and dport = :{one} )"


class _Stories:
    """Takes the rows (snapshot.sources.Sink). ``lines``: ss's own sink, which is that of NDJSON where it is wanted."""

    def __init__(
        self,
        command: Command,
        context: Context,
        lines: Sink,
        tcp: Callable[[], TableSource | None],
        write: Callable[[bytes], object],
    ) -> None:
        own = command.own
        assert own.explain is not None
        self.count = 0
        self._which, self._most = own.explain, own.count
        self._lines = lines if own.json else None
        self._context = context
        self._tcp = tcp
        self._write = write
        self._work = work_text(context.names)
        self._netns: str | None = None
        self._now = moment(time.time_ns(), utc=own.utc)[11:19]

    def enter(self, inode: int, label: Label) -> None:
        """The rows that follow are of this network namespace."""
        self._netns = label.text(inode)
        if self._lines is not None:
            self._lines.enter(inode, label)
        else:
            self._context.enter()

    def begin(self, table: Table) -> None:
        """They are of this table."""
        if self._lines is not None:
            self._lines.begin(table)

    def feed(self, sockets: Sequence[Socket]) -> None:
        """Tell of those that are meant."""
        meant = [one for one in sockets if isinstance(one, InetSocket) and self._which.means(*_ends(one))]
        meant = meant[: self._most - self.count] if self._most is not None else meant
        if self._lines is not None and meant:
            self._lines.feed(meant)
        elif meant:
            texts = ("\n".join(self._story(one)) + "\n" for one in meant)
            self._write(("\n" * bool(self.count) + "\n".join(texts)).encode(errors="backslashreplace"))
        self.count += len(meant)

    def flush(self) -> None:
        """Nothing is held back."""
        if self._lines is not None:
            self._lines.flush()

    def _story(self, of: InetSocket) -> Iterator[str]:
        tcp, context = self._tcp(), self._context
        (local, _), (peer, _) = _ends(of)
        cgroup = of.extras.cgroup_id if of.extras is not None else None
        known = Known(
            local=local,
            peer=peer,
            owners=context.owners.get(of.ino, ()) if of.ino else (),
            work=self._work(cgroup) if cgroup else None,
            ifname=context.names.ifname(of.ifindex) if of.ifindex else None,
            netns=self._netns,
            held_ns=tcp.held_ns(of) if tcp is not None else None,
            at_least=tcp is not None and tcp.at_least(of),
            lived_ns=tcp.lived_ns(of) if isinstance(tcp, LiveRows) else None,
            role=tcp.role(of) if tcp is not None else None,
        )
        return story(of, known, self._now, context.decoders)


def _ends(of: InetSocket) -> tuple[tuple[str, int], tuple[str, int]]:
    local, peer = (inet_ntop(of.family, address) for address in (of.src, of.dst))
    return (address_of(local) or local, of.sport), (address_of(peer) or peer, of.dport)
