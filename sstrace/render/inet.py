"""Rows of the inet tables (tcp, mptcp, dccp, udp, raw, sctp) → cells.

Order of the extras in a row: users, timer (-o), details (-e), --tos, --cgroup, --inet-sockopt, then the block of -m
and -i (its text: ``render.info``). Through /proc the tables know less, and ss prints them by another path: see
``_from_proc``.
"""

from _socket import ntohs
from collections.abc import Callable, Mapping, Sequence
from struct import pack, unpack
from typing import Any

from sstrace.model import AF_INET6, InetSocket, Table
from sstrace.protocols import IPPROTO_UDP, OF_TABLE
from sstrace.render.columns import (
    EXTRA,
    LOCAL_ADDRESS,
    LOCAL_PORT,
    NETID,
    PEER_ADDRESS,
    PEER_PORT,
    PROCESS,
    RECV_Q,
    SEND_Q,
    STATE,
)
from sstrace.render.common import SCTP_STATES, Context, Ports, general, queue
from sstrace.render.layout import Column, Same
from sstrace.render.protocol import netid, protocol_of, timer

__all__ = ["SOCKOPT", "InetCells"]


SOCKOPT = (
    "recverr",
    "is_icsk",
    "freebind",
    "hdrincl",
    "mc_loop",
    "transparent",
    "mc_all",
    "nodefrag",
    "bind_addr_no_port",
    "recverr_rfc4884",
    "defer_connect",
)
"""Flags of struct inet_diag_sockopt, in declaration order."""

_SERVICES = (Table.TCP, Table.UDP, Table.RAW)
"""The tables that change whose services ports are named after."""

_MANY_PORTS = 2048

_USER_HZ = 100
"""Ticks a second in /proc/net/tcp: USER_HZ on every architecture of today."""


class _WirePorts(dict[int, str]):
    """Port texts by the port as it came: network order, as the host reads it."""

    def __init__(self, ports: Ports) -> None:
        super().__init__()
        self._ports = ports

    def __missing__(self, port: int) -> str:
        out = self[port] = self._ports[ntohs(port)]
        if len(self) == _MANY_PORTS:
            # There will be tens of thousands: those that have no names are cheaper made all at once.
            numbers = self._ports.nameless()
            count = len(numbers)
            self.update(zip(unpack(f"={count}H", pack(f">{count}H", *numbers)), map(str, numbers), strict=True))
        return out


class InetCells:
    """Cell maker for inet rows.

    ``begin`` at the start of each table sets what ss keeps in globals: the service protocol and SCTP's last inode.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        show = context.show
        self._ports = context.ports()
        self._wire_ports = _WirePorts(self._ports)
        self._association = 0
        # What comes behind the peer's port, each with its own leading blank; asked in this order.
        parts: list[Callable[[InetSocket], str]] = []
        if show.timers:
            parts.append(self._timer)
        if show.extended:
            parts += (_identity, self._attributes)
        own = len(parts) - show.extended
        if show.tos:
            parts.append(_tos)
        if show.cgroup:
            parts.append(self._cgroup)
        if show.inet_sockopt:
            parts.append(self._sockopt)
        self._told_by_attributes = tuple(parts[own:])
        if show.memory or show.info:
            parts.append(self._block)
        if show.bpf_maps:
            parts.append(self._storage)
        if context.held is not None:
            parts.append(context.held)
        self._parts = parts
        self._details: Any = None
        self._users = context.users if show.processes or show.threads or show.contexts else None

    def begin(self, table: Table) -> None:
        """A table starts."""
        if table in _SERVICES:
            self._context.protocol = OF_TABLE[table].netid
        self._ports = self._context.ports()
        self._wire_ports = _WirePorts(self._ports)
        self._association = 0

    def cells(self, socket: InetSocket) -> tuple[str, ...]:
        """The cells of a row, as ``Row`` has them: a plain tuple, which takes half the time."""
        ports, extras = self._ports, socket.extras
        v6only = extras is not None and extras.v6only
        local, peer = self._context.ends(socket.src, socket.dst, socket.ifindex, v6only=v6only)
        users = self._users(socket.ino) if self._users else ""
        rest = ""
        if self._parts:
            rest = (
                self._from_proc(socket) if socket.proc is not None else "".join([part(socket) for part in self._parts])
            )
        name, state = (
            netid(socket, self._context.dialect),
            self._context.states[socket.state],
        )
        if name == "sctp":
            if self._association and self._association == socket.ino:
                name, state = (
                    "",
                    f"`- {SCTP_STATES[socket.state] if socket.state < len(SCTP_STATES) else 'UNDEF'}",
                )
            else:
                self._association = socket.ino
        if self._context.one_column:
            users, rest = users + rest, ""
        return (
            name,
            state,
            queue(None if socket.partial else socket.recv_q),
            queue(None if socket.partial else socket.send_q),
            local,
            ports[socket.sport],
            peer,
            ports[socket.dport],
            users,
            rest,
        )

    def raw(self) -> bool:
        """Whether ``columns`` will do: nothing of a row is shown but what stands in its fixed part."""
        return not self._parts

    def columns(
        self,
        table: Table,
        fields: Sequence[Sequence[Any]],
        wanted: Sequence[int],
        rest: Sequence[str] | None = None,
    ) -> list[Column]:
        """Cells column by column, for many plain rows at once; ``wanted`` names the columns.

        ``fields``: states, source ports, destination ports (network order, as the host reads it), source and
        destination addresses, recv_q, send_q, inodes. Not for rows with an interface, nor for IPv6 wildcards.
        ``rest``: what comes behind the peer's port; with the users in it, where all that is one column.
        """
        states, sports, dports, sources, destinations, recv_qs, send_qs, inodes = fields
        addresses, ports = self._context.addresses.__getitem__, self._wire_ports.__getitem__
        ends = {
            LOCAL_ADDRESS: list(map(addresses, sources)),
            LOCAL_PORT: list(map(ports, sports)),
            PEER_ADDRESS: list(map(addresses, destinations)),
            PEER_PORT: list(map(ports, dports)),
        }
        return self._columns(table, (states, recv_qs, send_qs, inodes), ends, wanted, rest)

    def read(
        self, table: Table, datagram: bytes | memoryview, wanted: Sequence[int]
    ) -> tuple[int, list[Column], int] | None:
        """Family of the plain rows of a datagram, their cells column by column, and how many they are: for what the
        compiled twin of wire.inet_columns can read. None where it cannot, or is not there.
        """
        from sstrace.native import twins

        if twins is None:
            return None
        found = twins.columns(datagram, self._context.addresses, self._wire_ports, self._users is not None)
        if found is None:
            return None
        family, states, sports, dports, sources, destinations, recv_qs, send_qs, inodes = found
        ends = {LOCAL_ADDRESS: sources, LOCAL_PORT: sports, PEER_ADDRESS: destinations, PEER_PORT: dports}
        made = self._columns(table, (states, recv_qs, send_qs, inodes), ends, wanted, None)
        return family, made, len(states)

    def _columns(
        self,
        table: Table,
        numbers: Sequence[Sequence[int]],
        ends: Mapping[int, Column],
        wanted: Sequence[int],
        rest: Sequence[str] | None,
    ) -> list[Column]:
        """``numbers``: states, recv_q, send_q, inodes; ``ends``: cells of the columns of addresses and ports."""
        states, recv_qs, send_qs, inodes = numbers
        made: list[Column] = []
        for index in wanted:
            if index == NETID:
                made.append(Same(OF_TABLE[table].netid))
            elif index == STATE:
                made.append(_texts(self._context.states.__getitem__, states))
            elif index == RECV_Q:
                made.append(_texts(queue, recv_qs))
            elif index == SEND_Q:
                made.append(_texts(queue, send_qs))
            elif index in ends:
                made.append(ends[index])
            elif rest is not None and (index == EXTRA or self._context.one_column):
                made.append(rest)
            elif index == PROCESS and self._users is not None:
                made.append(list(map(self._users, inodes)))
            else:
                made.append(_EMPTY)
        return made

    def grouped(self) -> bool:
        """Whether ``group`` will do: details are wanted, and only such as it knows."""
        context = self._context
        return bool(self._parts) and not context.show.bpf_maps and context.held is None

    def group(self, table: Table, group: Any, wanted: Sequence[int]) -> list[Column] | None:
        """Cells column by column of rows with details, all of one shape: see ``wire.inet_groups.Group``; ``wanted``
        names the columns. None where the rows must be made one by one.
        """
        if self._details is None:
            from sstrace.render.details import Details  # only now: most snapshots have no use for it

            users = self._users if self._context.one_column else None
            self._details = Details(self._context, users, self._told_by_attributes)
        rest = self._details.texts(group)
        if rest is None:
            return None
        fields = (
            group.states, group.sports, group.dports, group.sources, group.destinations, group.recv_qs, group.send_qs,
            group.inodes,
        )  # fmt: skip
        return self.columns(table, fields, wanted, rest)

    def _timer(self, socket: InetSocket) -> str:
        return timer(socket, self._context.dialect)

    def _attributes(self, socket: InetSocket) -> str:
        """What -e tells of a row's attributes."""
        extras = socket.extras
        if extras is None:
            return ""
        out = f" fwmark:0x{extras.mark:x}" if extras.mark else ""
        if extras.cgroup_id:
            out += f" cgroup:{self._context.cgroup(extras.cgroup_id)}"
        if socket.family == AF_INET6 and extras.v6only is not None:
            out += f" v6only:{int(extras.v6only)}"
        if extras.shutdown is not None:
            out += f" {'-' if extras.shutdown & 1 else '<'}-{'-' if extras.shutdown & 2 else '>'}"
        return out

    def _cgroup(self, socket: InetSocket) -> str:
        if socket.extras is None or socket.extras.cgroup_id is None:
            return ""
        return f" cgroup:{self._context.cgroup(socket.extras.cgroup_id)}"

    def _sockopt(self, socket: InetSocket) -> str:
        if socket.extras is None or socket.extras.sockopt is None:
            return ""
        bits = socket.extras.sockopt
        words = "".join(f" {word}" for bit, word in enumerate(SOCKOPT) if bits >> bit & 1)
        return f"{' ' if self._context.show.oneline else chr(10) + chr(9)}inet-sockopt: ({words})"

    def _block(self, socket: InetSocket) -> str:
        show = self._context.show
        protocol = protocol_of(socket)
        if not (show.memory or (show.info and protocol != IPPROTO_UDP)):
            return ""
        out = "" if show.oneline else "\n\t"
        if socket.extras is not None:
            from sstrace.render import info  # only now: most snapshots have no use for it

            out += info.block(socket, socket.extras, protocol, self._context)
        return out

    def _storage(self, socket: InetSocket) -> str:
        if socket.extras is None or socket.extras.storage is None:
            return ""
        oneline = self._context.show.oneline
        out = ""
        for number, value in self._context.decoders.storage(socket.extras.storage):
            said = self._context.storage_text(number, value)
            if said is not None:
                out += f" map_id:{number}{said}" if oneline else f"\n\tmap_id:{number} [\n{said}\n\t]"
        return out

    def _from_proc(self, socket: InetSocket) -> str:
        """The extras of a row that came through /proc: of tcp no block, little known, times in seconds; of others
        none.
        """
        show, proc = self._context.show, socket.proc
        if proc is None or socket.table != Table.TCP:
            return ""
        out = self._timer(socket) if show.timers else ""
        if show.extended:
            out += _identity(socket) + self._attributes(socket)
            if proc.opt:
                out += f' opt:"{proc.opt}"'
        if show.info:
            if proc.rto and proc.rto != 3 * _USER_HZ:
                out += f" rto:{general(proc.rto / _USER_HZ)}"
            if proc.ato:
                out += f" ato:{general(proc.ato / _USER_HZ)}"
            if proc.qack >> 1:
                out += f" qack:{proc.qack >> 1}"
            if proc.qack >> 1 & 1:  # ss halves first, and so asks the wrong bit
                out += " bidir"
            if proc.cwnd:
                out += f" cwnd:{proc.cwnd}"
            if proc.ssthresh not in (0, -1):
                out += f" ssthresh:{proc.ssthresh}"
            if socket.retrans:
                out += f" retrans:{socket.retrans}/0"
            out += " reordering:0"
        return out


def _identity(socket: InetSocket) -> str:
    """What -e tells of a row's fixed part."""
    out = f" uid:{socket.uid}" if socket.uid else ""
    if socket.partial:
        return f"{out} ino:{socket.ino or '-'} sk:{f'{socket.cookie:x}' if socket.cookie else '-'}"
    return f"{out} ino:{socket.ino} sk:{socket.cookie:x}"


def _tos(socket: InetSocket) -> str:
    extras = socket.extras
    if extras is None:
        return ""
    out = _alternate("tos", extras.tos)
    out += _alternate("tclass", extras.tclass)
    return out + _alternate("class_id", extras.class_id)


def _alternate(name: str, value: int | None) -> str:
    """C's ``%#x``: a zero has no prefix."""
    if value is None:
        return ""
    return f" {name}:0x{value:x}" if value else f" {name}:0"


def _texts(text: Callable[[int], str], values: Sequence[int]) -> Column:
    """A column of what mostly is the same in every row: the same state, empty queues."""
    first = values[0]
    return Same(text(first)) if values.count(first) == len(values) else list(map(text, values))


_EMPTY = Same("")
