"""-E: sockets that are destroyed, as they are."""

import os

from sstrace.errors import SstraceError
from sstrace.model import AF_INET, AF_INET6, Table
from sstrace.snapshot.invocation import Invocation
from sstrace.snapshot.streams import Output, warn
from sstrace.sources import diag
from sstrace.wire import inet_diag

__all__ = ["follow"]


def follow(to: Invocation, output: Output) -> int:
    """A row for each inet socket that is destroyed, until interrupted; the exit code where it cannot be heard."""
    selection = to.selection
    groups = [
        group
        for table, family, group in (
            (Table.TCP, AF_INET, diag.SKNLGRP_INET_TCP_DESTROY),
            (Table.TCP, AF_INET6, diag.SKNLGRP_INET6_TCP_DESTROY),
            (Table.UDP, AF_INET, diag.SKNLGRP_INET_UDP_DESTROY),
            (Table.UDP, AF_INET6, diag.SKNLGRP_INET6_UDP_DESTROY),
        )
        if selection.tables >> table & 1 and selection.families >> family & 1
    ]
    if not groups:
        return 255
    to.sink.begin(Table.MPTCP)  # the service protocol stays unset, so any service name matches
    prompt = to.dialect.events_flush or to.command.own.json or os.isatty(1)
    try:
        source = diag.Diag(groups=groups)
    except SstraceError as error:
        warn(str(error))
        return 255
    with source:
        while True:
            try:
                datagram = source.receive()
            except SstraceError as error:
                warn(str(error))
                return 255
            for row in inet_diag.decode_event(datagram).rows:
                if selection.families >> row.family & 1:
                    to.feed([row])
            to.sink.flush()
            if prompt or output.held() >= 4096:
                output.flush()
