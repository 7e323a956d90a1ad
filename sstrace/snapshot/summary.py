"""-s: how many sockets there are."""

import errno
import os
from collections.abc import Iterable

from sstrace.errors import DecodeError, KernelError
from sstrace.render.summary import summary
from sstrace.snapshot.streams import Output, warn
from sstrace.sources.proc import ProcFiles
from sstrace.wire import proc_net

__all__ = ["read_counters", "total", "write_summary"]


_GLOBAL = ("tcp_orphan", "tcp_alloc", "tcp_mem")
"""What the kernel counts for all network namespaces at once (net/ipv4/proc.c), and shows in each."""


def total(counters: Iterable[tuple[proc_net.SockStat, int]]) -> tuple[proc_net.SockStat, int]:
    """The counters of several network namespaces together."""
    whole, connections = proc_net.SockStat(), 0
    for count, established in counters:
        connections += established
        for name in count.__struct_fields__:
            one, before = getattr(count, name), getattr(whole, name)
            setattr(whole, name, max(one, before) if name in _GLOBAL else one + before)
    return whole, connections


def read_counters(files: ProcFiles) -> tuple[proc_net.SockStat, int]:
    """The counters of /proc, and how many TCP connections are established; what cannot be read is 0, and said."""
    count, established = proc_net.SockStat(), 0
    try:
        sockstat = _counters(files, "net/sockstat")
        try:
            sockstat6 = _counters(files, "net/sockstat6")
        except KernelError:
            sockstat6 = b""  # a kernel without IPv6
        count = proc_net.decode_sockstat(sockstat, sockstat6)
    except KernelError as error:
        warn(f"ss: get_sockstat: {os.strerror(error.errno)}")
    except DecodeError as error:
        warn(f"ss: get_sockstat: {error}")
    try:
        established = proc_net.tcp_established(_counters(files, "net/snmp"))
    except KernelError as error:
        warn(f"ss: get_snmpstat: {os.strerror(error.errno)}")
    except DecodeError:
        warn("ss: get_snmpstat: No such process")  # ESRCH is what ss finds there
    return count, established


def write_summary(counters: tuple[proc_net.SockStat, int], output: Output, *, json: bool) -> None:
    """Counters as text, or as a line of JSON."""
    if json:
        from sstrace.render.summary import summary_line

        output.write(summary_line(*counters))
    else:
        output.write(summary(*counters).encode("latin-1"))


def _counters(files: ProcFiles, name: str) -> bytes:
    """A file of counters; nothing in it when it opens but does not read: a directory, to ss an empty file."""
    try:
        return files.read(name)
    except KernelError as error:
        if error.errno == errno.EISDIR:
            return b""
        raise
