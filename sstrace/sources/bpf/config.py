"""What the event path's programs are told of this boot and of this process: struct config of bpf/sstrace.bpf.c."""

import struct
from collections.abc import Callable
from pathlib import Path

import msgspec

__all__ = ["Config", "config"]

# The functions that detach a timer which lives on. What a kernel has not got is left out; at most TIMER_RANGES are
# used.
_TIMER_LIVES = (
    "__mod_timer",
    "expire_timers",
    "__run_timers",
    "__run_timers.part.0",  # Debian's Linux 5.10
    "mod_timer",
    "mod_timer_pending",
)
_TIMER_RANGES = 4


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The boot-time facts of struct config in bpf/sstrace.bpf.c; 0 stands for unknown, or for no restriction."""

    fn_write_timer: int = 0
    fn_request: int = 0
    fn_timewait: int = 0
    timer_lives: tuple[tuple[int, int], ...] = ()
    """(address, size) of each function that detaches a timer which lives on."""
    pidns_dev: int = 0
    pidns_ino: int = 0
    netns: int = 0
    choosy: bool = False
    keeps: bool = False
    tcp: bool = True
    mptcp: bool = False

    def pack(self) -> bytes:
        """Native byte order, as in the C struct."""
        ranges = (self.timer_lives + ((0, 0),) * _TIMER_RANGES)[:_TIMER_RANGES]
        starts, sizes = zip(*ranges, strict=True)
        functions = (self.fn_write_timer, self.fn_request, self.fn_timewait)
        return struct.pack(
            "=3Q4Q4QQQ6I", *functions, *starts, *sizes, self.pidns_dev, self.pidns_ino, self.netns, self.choosy,
            self.keeps, self.tcp, self.mptcp, 0,
        )  # fmt: skip


def config(
    span: Callable[[str], tuple[int, int] | None],
    netns: int,
    *,
    choosy: bool = False,
    tcp: bool = True,
    mptcp: bool = False,
) -> Config:
    """What this boot's symbols and this process's namespaces say.

    ``span``: function name → (address, size), None when unknown. ``netns``: inode of the only network namespace to
    trace, 0 for all. ``choosy``: only those whose inodes are in the map ``chosen``. ``tcp``, ``mptcp``: whose sockets.
    """

    def address(name: str) -> int:
        found = span(name)
        return found[0] if found else 0

    lives = [found for found in map(span, _TIMER_LIVES) if found is not None]
    pidns = Path("/proc/self/ns/pid").stat()
    initial = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
    return Config(
        fn_write_timer=address("tcp_write_timer"),
        fn_request=address("reqsk_timer_handler") * tcp,
        fn_timewait=address("tw_timer_handler") * tcp,
        timer_lives=tuple(lives[:_TIMER_RANGES]),
        pidns_dev=0 if pidns.st_ino == initial else pidns.st_dev,
        pidns_ino=0 if pidns.st_ino == initial else pidns.st_ino,
        netns=netns,
        choosy=choosy,
        tcp=tcp,
        mptcp=mptcp,
    )
