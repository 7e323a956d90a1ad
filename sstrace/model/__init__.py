"""The nouns: what a socket is, what can be learnt of one, and who can be asked for names. No I/O, no formatting.

Conventions that hold for every field here:

* addresses are raw network-order bytes (4 for IPv4, 16 for IPv6); ports and every other number are host-order ints;
* absence is ``None``, decided once by the decoder; 0 is a value;
* times are nanoseconds of CLOCK_MONOTONIC (the clock of ``bpf_ktime_get_ns``) in fields ending ``_ns``;
* text that the kernel does not promise to be UTF-8 (unix names, comm, cgroup paths) stays ``bytes``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sstrace.model.asking import Names, Show
from sstrace.model.sockets import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_TIPC,
    AF_UNIX,
    AF_UNSPEC,
    AF_VSOCK,
    AF_XDP,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_RDM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    Extras,
    Finer,
    InetSocket,
    Kind,
    NetlinkSocket,
    Owner,
    Owners,
    PacketSocket,
    ProcTcp,
    Socket,
    Table,
    TipcSocket,
    UnixSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.model.states import ALL_STATES, STATE_TEXT, FamilyName, Role, State, StateName

if TYPE_CHECKING:
    from sstrace.model.facts import (
        Call,
        Called,
        Changed,
        Fact,
        Gone,
        Lived,
        Lost,
        Reason,
        Renamed,
        Seen,
        Space,
        SweepBegin,
        SweepEnd,
    )
    from sstrace.model.incidents import Details, Incident, What
    from sstrace.model.namespaces import Label, Namespace, Netns

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_NETLINK",
    "AF_PACKET",
    "AF_TIPC",
    "AF_UNIX",
    "AF_UNSPEC",
    "AF_VSOCK",
    "AF_XDP",
    "ALL_STATES",
    "Call",
    "Called",
    "Changed",
    "Details",
    "Extras",
    "FamilyName",
    "Fact",
    "Gone",
    "Incident",
    "InetSocket",
    "Kind",
    "Label",
    "Lived",
    "Lost",
    "Names",
    "Namespace",
    "NetlinkSocket",
    "Netns",
    "Finer",
    "Owner",
    "Owners",
    "PacketSocket",
    "ProcTcp",
    "Renamed",
    "SOCK_DGRAM",
    "SOCK_RAW",
    "SOCK_RDM",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "Seen",
    "Show",
    "Socket",
    "Space",
    "STATE_TEXT",
    "Reason",
    "Role",
    "State",
    "StateName",
    "SweepBegin",
    "SweepEnd",
    "Table",
    "TipcSocket",
    "UnixSocket",
    "VsockSocket",
    "What",
    "XdpSocket",
]

_LATER = ("facts", "incidents", "namespaces")
"""Modules that a snapshot has no use for: they are imported with the first of their names. Start-up is a feature."""


def __getattr__(name: str) -> Any:
    for module in _LATER if name in __all__ else ():
        found = import_module(f"{__name__}.{module}")
        if name in found.__all__:
            globals()[name] = getattr(found, name)
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
