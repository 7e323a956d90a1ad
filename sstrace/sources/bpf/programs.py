"""Which programs there are: their C files below bpf/, what it takes to compile them, and what comes of that."""

from collections.abc import Mapping

import msgspec

from sstrace.incidents import SORTS
from sstrace.sources.bpf import offsets
from sstrace.sources.bpf.offsets import Figures, Offsets

__all__ = [
    "BINDS",
    "CALLS",
    "DATAGRAMS",
    "HOOKS",
    "INCIDENTS",
    "LENGTHS",
    "LIVES",
    "OF_RAW",
    "PLAIN",
    "TRACE",
    "UNIX",
    "Bundle",
    "MapShape",
    "Source",
]

HOOKS = (
    "timer_start",
    "timer_cancel",
    "timer_expire_entry",
    "timer_expire_exit",
    "inet_sock_set_state",
    "inet_sock_set_state__again",
)
"""Programs by their raw tracepoints, in the order in which they are attached: on_state hands CLOSE→SYN-SENT to
timer_start, so that comes first. A second program on one tracepoint has ``__again`` behind its name.
"""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One C file below bpf/, and what it takes to compile and load it."""

    file: str
    programs: tuple[str, ...]
    """Each stands in the file as RAW_TRACEPOINT_PROBE(name), or where ``plain`` as a function plain__name."""
    maps: tuple[str, ...]
    offsets: Offsets = {}
    optional: Offsets = {}
    """Offsets that the file does without: their macros are then not defined."""
    bits: Offsets = {}
    """Bit-fields of one bit that the file does without: BYTE_name is the offset, MASK_name the bit in it."""
    figures: Figures = {}
    """Members that are read by windows, where the file does without."""
    defines: tuple[str, ...] = ()
    """What is asked of the file besides: macros that are 1."""
    mapped: tuple[str, ...] = ()
    """Maps that user space reads through a mapping of its own (BPF_F_MMAPABLE, Linux 5.5)."""
    plain: bool = False
    """Programs of tracepoints proper, which see the record of the tracepoint, not its arguments."""
    cgroup: Mapping[str, tuple[int, int]] = {}
    """Of a ``plain`` file, those that are programs of a cgroup's hooks: BPF_PROG_TYPE_*, BPF_CGROUP_*."""
    raw: tuple[str, ...] = ()
    """Of a ``plain`` file, those of raw tracepoints."""


TRACE = Source(
    file="sstrace.bpf.c",
    programs=HOOKS,
    maps=(
        "configs",
        "chosen",
        "events",
        "counts",
        "connecting",
        "connect",
        "moving",
        "expirings",
        "passings",
        "marked",
        "losing",
    ),
    offsets=offsets.NEEDED,
    optional=offsets.OPTIONAL,
    bits=offsets.BITS,
    figures=offsets.FIGURES,
)
"""The programs of the event path."""

LIVES = msgspec.structs.replace(TRACE, maps=(*TRACE.maps, "lives", "taken"), defines=("LIVES",))
"""The same, which keep connections back until they end (bpf/lives.h)."""

PLAIN = Source(file="plain.bpf.c", programs=("inet_sock_set_state",), maps=("events", "counts"), plain=True)
"""The event path without BTF: see the C file."""

INCIDENTS = Source(
    file="incidents.bpf.c",
    programs=tuple(program.name for sort in SORTS for program in sort.programs),
    maps=("configs", "chosen", "events", "counts", "telling", "losing"),
    offsets=offsets.INCIDENTS,
    optional=offsets.OPTIONAL,
)
"""What changes no state; ``configs`` and ``chosen`` are those of TRACE."""


# include/uapi/linux/bpf.h
_CGROUP_SOCK, _CGROUP_SOCK_ADDR = 9, 18

CALLS = ("sys_enter_connect", "sys_exit_connect")
"""Programs of system calls' tracepoints in DATAGRAMS, in the order in which they are attached: one that is within the
call by then is told by the next comparison with the kernel.
"""

BINDS = ("sys_enter_bind", "sys_exit_bind")
"""Likewise, of raw sockets alone."""

OF_RAW = ("create", "release")
"""Of the cgroups' hooks those that raw sockets come by."""

LENGTHS = ("sock_send_length", "sock_recv_length")
"""Programs of raw tracepoints in DATAGRAMS, which count; Linux 6.3 and newer."""

DATAGRAMS = Source(
    file="datagrams.bpf.c",
    cgroup={
        # Since aac3fc320d94 ("bpf: Post-hooks for sys_bind"), d74bad4e74ee ("bpf: Hooks for sys_connect"), both v4.17;
        # 1cedee13d25a ("bpf: Hooks for sys_sendmsg", v4.18); f5836749c9c0 ("bpf: Add
        # BPF_CGROUP_INET_SOCK_RELEASE hook", v5.9).
        "post_bind4": (_CGROUP_SOCK, 12),
        "post_bind6": (_CGROUP_SOCK, 13),
        "connect4": (_CGROUP_SOCK_ADDR, 10),
        "connect6": (_CGROUP_SOCK_ADDR, 11),
        "sendmsg4": (_CGROUP_SOCK_ADDR, 14),
        "sendmsg6": (_CGROUP_SOCK_ADDR, 15),
        "release": (_CGROUP_SOCK, 34),
        "create": (_CGROUP_SOCK, 2),
    },
    raw=LENGTHS,
    programs=(
        "post_bind4",
        "post_bind6",
        "connect4",
        "connect6",
        "sendmsg4",
        "sendmsg6",
        "release",
        "create",
        *CALLS,
        *BINDS,
        *LENGTHS,
    ),
    maps=("configs", "chosen", "events", "counts", "calling", "sending", "flows", "waiting", "following", "losing"),
    offsets=offsets.NEEDED | offsets.DATAGRAMS,
    optional=offsets.OPTIONAL,
    bits=offsets.BITS,
    plain=True,
)
"""The programs that tell of datagram sockets."""


UNIX = Source(
    file="unix.bpf.c",
    programs=(
        *(
            f"sys_{end}_{call}"
            for call in ("bind", "listen", "connect", "accept", "accept4")
            for end in ("exit", "enter")
        ),
        "sys_enter_close",
    ),
    maps=("configs", "chosen", "events", "counts", "calling"),
    offsets=offsets.UNIX,
    optional=offsets.UNIX_OPTIONAL,
    plain=True,
)
"""The programs that tell of unix sockets, in the order in which they are attached."""


class MapShape(msgspec.Struct, frozen=True):
    """What BPF_MAP_CREATE needs, and the fd number that stands for the map in the compiled instructions."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    fd: int


class Bundle(msgspec.Struct, frozen=True):
    """Compiled programs: name → struct bpf_insn array, and the maps they use."""

    programs: dict[str, bytes]
    maps: list[MapShape]
    plain: bool = False
    cgroup: dict[str, tuple[int, int]] = {}
    raw: tuple[str, ...] = ()
    """Both as in Source."""
