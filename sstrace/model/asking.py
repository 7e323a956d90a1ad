"""Who can be asked for names, and what a command line wants to see: what renderers and filters are given."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

__all__ = [
    "Names",
    "Show",
]


class Names(Protocol):
    """Everything that turns a number into a name or back by asking the system; renderers and filters are given one."""

    def of(self, net: int) -> "Names":
        """The names as they are in another network namespace that is followed, by its cookie (``Netns``)."""
        ...

    def ifname(self, index: int) -> str:
        """Name of a network interface; ``if<index>`` when there is none."""
        ...

    def ifindex(self, name: str) -> int | None:
        """Index of a network interface by its name, or another name that the kernel knows it by; -1 where none bears
        the name so far (of a recording that is still to be read).
        """
        ...

    def service(self, port: int, protocol: str | None) -> str | None:
        """Service of a port (getservbyport); ``protocol`` None matches any."""
        ...

    def service_port(self, name: str, protocol: str | None) -> int | None:
        """Port of a service (getservbyname)."""
        ...

    def last_service_port(self) -> int | None:
        """Port of the services database's last entry: ss takes it where it means to take udp's, see the filter."""
        ...

    def ephemeral(self) -> tuple[int, int]:
        """First and last port of the local ephemeral range, inclusive."""
        ...

    def rpc(self, port: int, protocol: str) -> str | None:
        """``rpc.NAME`` by the rpcbind map; ``None`` unless resolving was asked for."""
        ...

    def host(self, family: int, address: bytes) -> str | None:
        """Host name of an address (reverse lookup); ``None`` when there is none."""
        ...

    def addresses(self, name: str, family: int) -> Sequence[tuple[int, bytes]]:
        """Addresses of a host name, (family, address), in the resolver's order; empty when there are none."""
        ...

    def ip_protocol(self, number: int) -> str | None:
        """Name from /etc/protocols."""
        ...

    def netlink_protocol(self, number: int) -> str | None:
        """Name of a netlink protocol."""
        ...

    def netlink_protocol_number(self, name: str) -> int | None:
        """Number of a netlink protocol."""
        ...

    def process(self, pid: int) -> bytes | None:
        """The comm of a process, up to its first ``)``; ``None`` when it cannot be read."""
        ...

    def process_context(self, pid: int) -> str | None:
        """SELinux context of a process."""
        ...

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        """Path of a cgroup below the cgroup2 mount (``/`` for its root); ``None`` when it cannot be found."""
        ...

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        """Why a path was not found, in ss's words; None: the cgroup is gone."""
        ...

    def cgroup_id(self, path: str) -> int:
        """Id of a cgroup; raises LookupFailed."""
        ...

    def user_id(self, name: str) -> int | None:
        """Number of a user; ``None`` when there is none of that name."""
        ...


class Show(msgspec.Struct, frozen=True, kw_only=True):
    """What an ss command line wants to see of each row, as the renderers need it; nothing of which rows."""

    version: tuple[int, int] = (6, 1)
    """The ss to be identical to: see dialect."""
    header: bool = True
    netid: bool = True
    """Netid column visible."""
    state: bool = True
    """State column visible."""
    queues: bool = True
    oneline: bool = False
    numeric: bool = False
    resolve: bool = False
    timers: bool = False
    """-o, and what implies it."""
    extended: bool = False
    memory: bool = False
    processes: bool = False
    threads: bool = False
    contexts: int = 0
    """1 for -Z, 2 for -z."""
    info: bool = False
    tipcinfo: bool = False
    tos: bool = False
    cgroup: bool = False
    bpf: bool = False
    bpf_maps: bool = False
    inet_sockopt: bool = False
