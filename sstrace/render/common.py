"""What every table's cells are made with: the context of one invocation, and the small texts that several tables share.

Cells are ``str`` whose characters are bytes (latin-1), as the layout engine wants them; what enters as ``bytes``
(comm, unix names, cgroup paths) goes through ``text``, what enters as ``str`` from the system through ``cell``.
"""

from _socket import inet_ntop  # socket takes a millisecond to import
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from sstrace.dialect import Dialect
from sstrace.model import AF_INET, AF_INET6, STATE_TEXT, Finer, Names, Owner, Owners, Show

__all__ = [
    "SCTP_STATES",
    "Addresses",
    "Context",
    "Decoders",
    "Ports",
    "States",
    "cell",
    "duration",
    "general",
    "memory",
    "millis",
    "queue",
    "rate",
    "signed",
    "text",
    "users",
]

SCTP_STATES = (
    "CLOSED",
    "COOKIE_WAIT",
    "COOKIE_ECHOED",
    "ESTAB",
    "SHUTDOWN_PENDING",
    "SHUTDOWN_SENT",
    "SHUTDOWN_RECEIVED",
    "ACK_SENT",
)
"""enum sctp_state, include/net/sctp/constants.h, in ss's words."""

_ANY6 = bytes(16)
_MAPPED = bytes(10) + b"\xff\xff"
_MOST_ADDRESSES = 1 << 17
"""Against a scan over all of IPv6, of which lines are made for days."""
_ESCAPES = {n: "." if n < 0x80 else "?" for n in (*range(1, 0x20), *range(0x7F, 0x100))}


# The words for the filter, which stand behind those for the column in ss's memory; then the name of its first option.
_BEHIND = (
    "UNKNOWN", "established", "syn-sent", "syn-recv", "fin-wait-1", "fin-wait-2", "time-wait", "unconnected",
    "close-wait", "last-ack", "listening", "closing",
)  # fmt: skip


class States(dict[int, str]):
    """Number → text of the State column. Beyond the states that ss names, it shows what follows its names in memory: a
    DCCP socket whose handshake is not over (13, PARTOPEN) is ``established`` to 6.1.
    """

    def __init__(self, release: Dialect) -> None:
        named = (*STATE_TEXT, "(null)", "(null)", *_BEHIND) if release.bound_inactive else (*STATE_TEXT[:12], *_BEHIND)
        super().__init__(enumerate((*named, "numeric")))

    def __missing__(self, number: int) -> str:
        return "(null)"


class Decoders(msgspec.Struct, frozen=True):
    """The decoders of the info blobs that travel undecoded in ``Extras``: wire's, lent by sstrace.decoders, so that
    render needs no wire.
    """

    tcp_info: Callable[[bytes], Any]
    tcp_fields: Callable[[bytes], Sequence[int]]
    """tcp_info as a bare tuple, see ``wire.tcp_info.unpack_tcp_info``."""
    mptcp_info: Callable[[bytes], Any]
    sctp_info: Callable[[bytes], Any]
    ulp: Callable[[bytes], Any]
    storage: Callable[[bytes], Sequence[tuple[int, bytes]]]


def text(data: bytes) -> str:
    """Bytes as a cell: each byte one character."""
    return data.decode("latin-1")


def cell(name: str) -> str:
    """A name that the system gave as ``str`` (UTF-8, surrogates for strays) as a cell: its bytes."""
    return name if name.isascii() else name.encode("utf-8", "surrogateescape").decode("latin-1")


def signed(value: int) -> int:
    """A 32-bit value as C's ``%d`` shows it."""
    return value if -0x80000000 <= value < 0x80000000 else (value + 0x80000000 & 0xFFFFFFFF) - 0x80000000


def general(value: float) -> str:
    """C's ``%g``: six significant digits, ``1e+06`` from a million on."""
    return "%g" % value  # noqa: UP031 - printf's own rules are what is wanted


class _Millis(dict[int, str]):
    """Microseconds → C's ``%g`` of the milliseconds; among many sockets the same ones come again and again."""

    def __missing__(self, micros: int) -> str:
        out = "%g" % (micros / 1000)
        if len(self) < 65536:
            self[micros] = out
        return out


millis: Callable[[int], str] = _Millis().__getitem__
"""Text of a time that the kernel gives in microseconds and ss in milliseconds: ``204``, ``0.019``, ``2.14748e+06``."""


class _Queues(dict[int | None, str]):
    """Texts of queue lengths by value; most are 0."""

    def __missing__(self, value: int | None) -> str:
        cell_text = "%-6d" % signed(value or 0)  # noqa: UP031
        if len(self) < 65536:
            self[value] = cell_text
        return cell_text


queue: Callable[[int | None], str] = _Queues({None: "-     "}).__getitem__
"""Text of Recv-Q and Send-Q: signed, at least six wide inside the cell; of None, that it is not known."""


def duration(milliseconds: int, *, sec_bug: bool) -> str:
    """A timer's time to go: ``1min1sec``, ``10sec``, ``1.050sec``, ``009ms``, nothing for 0.

    With ``sec_bug`` the fraction of seconds is followed by ``ms`` (ss before 6.11): ``1.050ms``.
    """
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    out = ""
    if minutes:
        fraction = 0
        out = f"{minutes}min"
        if minutes > 9:
            seconds = 0
    if seconds:
        if seconds > 9:
            fraction = 0
        out += f"{seconds}." if fraction else f"{seconds}sec"
    if fraction:
        out += f"{fraction:03d}{'sec' if seconds and not sec_bug else 'ms'}"
    return out


def rate(bits: float, *, numeric: bool) -> str:
    """Bits a second with ss's suffixes and three digits (``1e+03M`` just below a giga); exact with ``numeric``. No
    unit.
    """
    if numeric:
        return "%.0f" % bits  # noqa: UP031
    if bits >= 1e9:
        return "%.3gG" % (bits / 1e9) if bits < 1e12 else "%.3gT" % (bits / 1e12)
    if bits >= 1e6:
        return "%.3gM" % (bits / 1e6)
    return "%.3gk" % (bits / 1e3) if bits >= 1e3 else "%g" % bits  # noqa: UP031


def memory(words: Sequence[int]) -> str:
    """The ``skmem:(…)`` item of SK_MEMINFO's words, its leading blank included."""
    r, rb, t, tb, f, w, o = (*words, 0, 0, 0, 0, 0, 0, 0)[:7]
    out = f" skmem:(r{r},rb{rb},t{t},tb{tb},f{f},w{w},o{o}"
    if len(words) > 7:
        out += f",bl{words[7]}"
    if len(words) > 8:
        out += f",d{words[8]}"
    return out + ")"


def users(owners: Sequence[Owner], show: Show, *, escaped: bool) -> str:
    """The ``users:((…),…)`` item, its leading blank included."""
    items = []
    for owner in owners:
        comm = owner.comm.decode("latin-1")
        if escaped:
            comm = comm.translate(_ESCAPES)
        # Contexts come with or without the thread; ss calls one that it cannot read "unavailable".
        item = f'("{comm}",pid={owner.pid},'
        finer = owner.finer or Finer()
        if show.threads and finer.tid is not None:
            item += f"tid={finer.tid},"
        if show.contexts:
            item += f"proc_ctx={cell(finer.proc_ctx) if finer.proc_ctx else 'unavailable'},"
        item += f"fd={'-' if owner.fd is None else owner.fd}"
        if show.contexts > 1:
            item += f",sock_ctx={cell(finer.sock_ctx) if finer.sock_ctx else 'unavailable'}"
        items.append(item + ")")
    return f" users:({','.join(items)})"


class Addresses(dict[bytes, str]):
    """Address → text of an address cell without the interface and with the colon: ``10.0.0.1:``, ``[fe80::1]:``,
    ``*:``.

    The IPv6 wildcard is ``*:`` here; who knows the socket to be v6-only prints ``[::]:`` instead. ``host`` is asked
    for a name first when names are wanted.
    """

    def __init__(self, host: Callable[[int, bytes], str | None] | None) -> None:
        super().__init__()
        self._host = host

    def __missing__(self, address: bytes) -> str:
        if len(self) >= _MOST_ADDRESSES:
            self.clear()
        out = self[address] = "*:" if address == _ANY6 else self.bracketed(address) + ":"
        return out

    def plain(self, family: int, address: bytes) -> str:
        """An address without brackets or colon, or its name; ``???`` for a family that is none."""
        if self._host is not None:
            if address.startswith(_MAPPED):
                name = self._host(AF_INET, address[12:])
            else:
                name = self._host(family, address)
            if name:
                return cell(name)
        if family not in (AF_INET, AF_INET6):
            return "???"
        return inet_ntop(family, address)

    def bracketed(self, address: bytes) -> str:
        """An address as it stands before a port."""
        out = self.plain(AF_INET if len(address) == 4 else AF_INET6, address)
        return f"[{out}]" if ":" in out else out


class Ports(dict[int, str]):
    """Port → text of a port cell, for one of ss's service protocols (``None``: any matches, ``raw``: IP protocol
    numbers).
    """

    def __init__(self, names: Names, show: Show, protocol: str | None) -> None:
        super().__init__()
        self._names = names
        self._numeric = show.numeric
        self._resolve = show.resolve
        self._protocol = protocol
        self._first, self._last = (0, 0) if show.numeric else names.ephemeral()

    def __missing__(self, port: int) -> str:
        out = self[port] = self._name(port)
        return out

    def nameless(self) -> range:
        """Ports that are numbers whatever the databases say: those of the ephemeral range."""
        if self._resolve or self._protocol == "raw":
            return range(0)
        first, last = self._names.ephemeral()
        return range(max(first, 1), min(last, 65535) + 1)

    def _name(self, port: int) -> str:
        if port == 0:
            return "*"
        if self._numeric:
            return str(port)
        if self._protocol == "raw":
            name = self._names.ip_protocol(port)
            return cell(name) if name else f"ipproto-{port}"
        if self._resolve:
            name = self._names.rpc(port, self._protocol or "")
            if name:
                return cell(name)
        # A port of the ephemeral range is somebody's client, whatever /etc/services says.
        if not self._first <= port <= self._last:
            name = self._names.service(port, self._protocol)
            if name:
                return cell(name)
        return str(port)


class Context:
    """One invocation, as the cell makers need it: what to show, in which dialect, whom to ask for names, who owns what.

    ``decoders`` is asked once, by the first row that needs one. ``aside`` writes bytes to standard output ahead of
    the table, ``warn`` a line to standard error; both exist because ss does so in a few places.
    """

    def __init__(
        self,
        show: Show,
        dialect: Dialect,
        names: Names,
        decoders: Callable[[], Decoders],
        *,
        owners: Owners | None = None,
        aside: Callable[[bytes], object] = lambda _: None,
        warn: Callable[[str], object] = lambda _: None,
        storage_text: Callable[[int, bytes], str | None] = lambda _, __: None,
        held: Callable[[Any], str] | None = None,
        peer: Callable[[Any], tuple[str, Sequence[Owner]] | None] | None = None,
    ) -> None:
        self.show = show
        self.dialect = dialect
        self.names = names
        self._lend = decoders
        self._decoders: Decoders | None = None
        self.owners: Mapping[int, Sequence[Owner]] = owners or {}
        self.aside = aside
        self.warn = warn
        self.storage_text = storage_text
        """Map id and value of BPF socket storage → its text; ``None`` when nothing can be said."""
        self.held = held
        """A row → how long it has been in its state, as the last of its details; None where nobody asked."""
        self.peer = peer
        """A row → the host that has its other end, and who holds that; None where only one host is asked."""
        self.addresses = Addresses(names.host if show.resolve else None)
        self.protocol: str | None = None
        """ss's service protocol: set by the raw, udp and tcp tables, inherited by those that follow."""
        self._ports: dict[str | None, Ports] = {}
        self._cgroup_mount_missed = False
        self.states = States(dialect)
        self.rate: Callable[[float], str] = "%.0f".__mod__ if show.numeric else partial(rate, numeric=False)
        """``rate`` as -n wants it."""
        self.one_column = not dialect.process_column_only_with_p

    def enter(self) -> None:
        """The rows that follow are of another network namespace, whose ephemeral ports are others."""
        self._ports.clear()
        self.protocol = None

    @property
    def decoders(self) -> Decoders:
        """The decoders of info blobs."""
        if self._decoders is None:
            self._decoders = self._lend()
        return self._decoders

    def ports(self) -> Ports:
        """Port texts by the service protocol in force."""
        ports = self._ports.get(self.protocol)
        if ports is None:
            ports = self._ports[self.protocol] = Ports(self.names, self.show, self.protocol)
        return ports

    def ends(self, src: bytes, dst: bytes, ifindex: int, *, v6only: bool | None) -> tuple[str, str]:
        """The address cells of both ends of an inet socket, as they stand before the ports."""
        local, peer = self.addresses[src], self.addresses[dst]
        if v6only:
            # The one flag of the local end governs how either end's wildcard is written.
            local = "[::]:" if local == "*:" else local
            peer = "[::]:" if peer == "*:" else peer
        if ifindex:
            local = f"{local[:-1]}%{self.interface(ifindex)}:"
        return local, peer

    def interface(self, index: int) -> str:
        """Name of an interface, as it is now, as a cell."""
        return cell(self.names.ifname(index))

    def cgroup(self, cgroup_id: int) -> str:
        """The ``cgroup:…`` item's path; says on stderr what ss says when it cannot be found, each time."""
        path_text = self.cgroup_path(cgroup_id)
        if path_text is not None:
            return path_text
        trouble = self.names.cgroup_trouble(cgroup_id)
        if trouble is None:
            if not self.dialect.cgroup_estale_silent:
                self.warn("Failed to open cgroup2 by ID")
        else:
            # ss looks for the mount when the first cgroup is to be shown, and again for each.
            if not self._cgroup_mount_missed and trouble.endswith("Failed to find cgroup2 mount"):
                self._cgroup_mount_missed = True
                self.warn(trouble)
            self.warn(trouble)
        return f"unreachable:{cgroup_id:x}"

    def cgroup_path(self, cgroup_id: int) -> str | None:
        """A cgroup's path as a cell; None when it is gone."""
        path = self.names.cgroup_path(cgroup_id)
        return None if path is None else text(path)

    def users(self, inode: int) -> str:
        """The ``users:`` item of a socket, or nothing."""
        owners = self.owners.get(inode) if inode else None
        return users(owners, self.show, escaped=self.dialect.comm_escaped) if owners else ""
