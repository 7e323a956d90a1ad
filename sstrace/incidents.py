"""What hurts a connection without changing its state (--events): one record a sort, and all that is the same of every
sort is made of these.

A new sort is a kind of record (bpf/event.h), a program that fills it (bpf/incidents.bpf.c), a line here, what its
record means (sstrace.wire.incident), and its line of NDJSON (sstrace.lines).
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from sstrace.model import Table

__all__ = ["KINDS", "SORTS", "Program", "Sort"]


class Program(msgspec.Struct, frozen=True):
    """Of bpf/incidents.bpf.c, by the name of its tracepoint."""

    tracepoint: str
    """With its group, as tracefs lists it: ``tcp/tcp_send_reset``."""
    table: Table
    """Whose sockets it tells of."""
    member: str = ""
    """What the tracepoint's format has on kernels where it tells more …"""
    macro: str = ""
    """… and what tells the program so."""
    lack: str = ""
    """What is not told where the format does not have it, a sentence."""
    mute: bool = False
    """Whether nothing is told then."""

    @property
    def name(self) -> str:
        """The tracepoint's alone."""
        return self.tracepoint.partition("/")[2]


class Sort(msgspec.Struct, frozen=True):
    """What can happen."""

    word: str
    """Of --events; the type of its line; the first word of its text."""
    noun: str
    """One of them."""
    told: str
    """What is told, for the help."""
    tables: tuple[Table, ...]
    """Whose sockets it happens to."""
    kinds: Mapping[str, int] = {}
    """Of enum sock_incident_kind."""
    programs: tuple[Program, ...] = ()
    """Empty: it is looked for (sstrace.live.incidents)."""


_TCP, _UDP = Table.TCP, Table.UDP

SORTS: Final = (
    Sort(
        "retransmit", "retransmission", "segments sent again", (_TCP,), {"EVENT_RETRANSMIT": 5},
        (
            Program("tcp/tcp_retransmit_skb", _TCP, "int err", "RETRANSMIT_TELLS_ERR"),
            Program("tcp/tcp_retransmit_synack", _TCP),
        ),
    ),
    Sort(
        "reset", "reset", "resets", (_TCP,), {"EVENT_RESET_SENT": 6, "EVENT_RESET_RECEIVED": 7},
        (
            Program("tcp/tcp_send_reset", _TCP, " reason;", "RESET_TELLS_REASON",
                    "this kernel does not say why it sends a RST (Linux 6.10 does)"),
            Program("tcp/tcp_receive_reset", _TCP),
        ),
    ),
    Sort(
        "drop", "drop", "segments and datagrams dropped", (_TCP, _UDP), {"EVENT_DROP": 8},
        (
            Program("skb/kfree_skb", _TCP, " rx_sk;", "DROP_TELLS_SOCKET",
                    "this kernel does not say whose a dropped segment was (Linux 6.11 does), so no drops", mute=True),
            Program("udp/udp_fail_queue_rcv_skb", _UDP, " saddr", "DROP_TELLS_DATAGRAM"),
        ),
    ),
    Sort(
        "error", "error", "errors that ICMP brings to UDP sockets", (_UDP,), {"EVENT_ERROR": 10},
        (
            Program("sock/inet_sk_error_report", _UDP, " error;", "",
                    "this kernel does not say which UDP socket an ICMP error was for (Linux 5.14 does)"),
        ),
    ),
    Sort("overflow", "overflow", "listeners without room", (_TCP,)),
)  # fmt: skip
"""In the order in which they are named."""

KINDS: Final[dict[str, int]] = {name: number for sort in SORTS for name, number in sort.kinds.items()}
"""enum sock_incident_kind."""
