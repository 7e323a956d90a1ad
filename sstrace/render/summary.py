"""The summary of ``-s``: how many sockets of each kind, from the kernel's own counters. Pure text; -H and -n do not
touch it.
"""

from typing import Protocol

__all__ = ["Counters", "summary"]


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
