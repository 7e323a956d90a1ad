"""The summary of ``-s``: how many sockets of each kind, from the kernel's own counters. -H and -n do not touch it."""

from typing import Protocol

import msgspec

__all__ = ["Counters", "SummaryLine", "summary", "summary_line"]


class Counters(Protocol):
    """What /proc/net/sockstat and sockstat6 count; ``wire.proc_net.SockStat`` is one."""

    used: int
    tcp_inuse: int
    tcp_orphan: int
    tcp_tw: int
    tcp_alloc: int
    udp_inuse: int
    raw_inuse: int
    frag_inuse: int
    tcp6_inuse: int
    udp6_inuse: int
    raw6_inuse: int
    frag6_inuse: int


def summary(count: Counters, established: int) -> str:
    """The block of text; ``established`` is CurrEstab of /proc/net/snmp.

    "closed" is what is allocated but in neither hash, TIME-WAIT aside: sockets that are idle, bound or dying.
    """
    closed = count.tcp_alloc - (count.tcp_inuse + count.tcp6_inuse - count.tcp_tw)
    raw, udp, tcp = (
        (count.raw_inuse, count.raw6_inuse),
        (count.udp_inuse, count.udp6_inuse),
        (count.tcp_inuse, count.tcp6_inuse),
    )
    inet = (raw[0] + udp[0] + tcp[0], raw[1] + udp[1] + tcp[1])
    lines = [
        f"Total: {count.used}",
        f"TCP:   {count.tcp_alloc + count.tcp_tw} (estab {established}, closed {closed}, "
        f"orphaned {count.tcp_orphan}, timewait {count.tcp_tw})",
        "",
        "Transport Total     IP        IPv6",
    ]
    for name, (v4, v6) in (
        ("RAW", raw),
        ("UDP", udp),
        ("TCP", tcp),
        ("INET", inet),
        ("FRAG", (count.frag_inuse, count.frag6_inuse)),
    ):
        lines.append(f"{name}\t  {v4 + v6:<9d} {v4:<9d} {v6:<9d}")
    return "\n".join(lines) + "\n\n"


class SummaryLine(msgspec.Struct, tag="summary", tag_field="type"):
    """The counters of -s. ``inuse`` numbers by protocol and family."""

    sockets: int
    tcp: int
    established: int
    closed: int
    orphaned: int
    timewait: int
    raw_inuse: int
    raw6_inuse: int
    udp_inuse: int
    udp6_inuse: int
    tcp_inuse: int
    tcp6_inuse: int
    frag_inuse: int
    frag6_inuse: int


def summary_line(count: Counters, established: int) -> bytes:
    """The counters of -s as one line."""
    line = SummaryLine(
        sockets=count.used,
        tcp=count.tcp_alloc + count.tcp_tw,
        established=established,
        closed=count.tcp_alloc - (count.tcp_inuse + count.tcp6_inuse - count.tcp_tw),
        orphaned=count.tcp_orphan,
        timewait=count.tcp_tw,
        raw_inuse=count.raw_inuse,
        raw6_inuse=count.raw6_inuse,
        udp_inuse=count.udp_inuse,
        udp6_inuse=count.udp6_inuse,
        tcp_inuse=count.tcp_inuse,
        tcp6_inuse=count.tcp6_inuse,
        frag_inuse=count.frag_inuse,
        frag6_inuse=count.frag6_inuse,
    )
    return msgspec.json.encode(line) + b"\n"


# The end of each field of the structs below in the kernel's layout (include/uapi/linux/tcp.h and mptcp.h, 6.18): what
# an older kernel did not send is absent, not 0.
