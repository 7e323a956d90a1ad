"""-s: how many sockets there are."""

import errno
import os

from sstrace.errors import DecodeError, KernelError
from sstrace.render.summary import summary
from sstrace.snapshot.streams import Output, warn
from sstrace.sources.proc import ProcFiles
from sstrace.wire import proc_net

__all__ = ["write_summary"]


def write_summary(files: ProcFiles, output: Output, *, json: bool) -> None:
    """The counters of /proc, as text or as a line of JSON; what cannot be read is 0, and said."""
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
    if json:
        from sstrace.render.summary import summary_line

        output.write(summary_line(count, established))
    else:
        output.write(summary(count, established).encode("latin-1"))


def _counters(files: ProcFiles, name: str) -> bytes:
    """A file of counters; nothing in it when it opens but does not read: a directory, to ss an empty file."""
    try:
        return files.read(name)
    except KernelError as error:
        if error.errno == errno.EISDIR:
            return b""
        raise
