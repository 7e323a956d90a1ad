"""The namespace that the workload lives in, its addresses and sysctls; and what every part of it uses."""

import ctypes
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

CLONE_NEWNET = 0x40000000

V4 = ("127.0.0.1", "127.9.8.7", "10.77.0.1", "10.77.0.2")
V6 = ("::1", "fd77::1", "fd77::2")
PORTS = range(20000, 20064)
"""Where listeners listen, so that workers find one another's."""

libc = ctypes.CDLL(None, use_errno=True)


def quiet(function: Callable[..., object], *arguments: object) -> bool:
    """Whether it went through; what a socket refuses is part of the game."""
    try:
        function(*arguments)
    except (OSError, ValueError):
        return False
    return True


def enter_namespace() -> None:
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET): churn needs root")


def furnish() -> None:
    """Addresses on lo; ``bh0`` swallows what is routed to it; on ``ur0`` nobody answers ARP, so ICMP comes later."""
    batch = """
link set lo up
address add 10.77.0.1/32 dev lo
address add 10.77.0.2/32 dev lo
address add fd77::1/128 dev lo nodad
address add fd77::2/128 dev lo nodad
link add bh0 type veth peer name bh1
link add ur0 type veth peer name ur1
link set bh0 up arp off
link set bh1 up arp off
link set ur0 up
link set ur1 up
address add 192.0.2.1/24 dev bh0
address add fd99::1/64 dev bh0 nodad
address add 203.0.113.1/24 dev ur0
route add 198.18.0.0/15 dev bh0 src 10.77.0.1
route add blackhole 198.51.100.0/24
route add unreachable 10.78.0.0/24
"""
    subprocess.run(["ip", "-batch", "-"], input=batch.encode(), check=True)
    for command in ("mptcp limits set subflows 2 add_addr_accepted 2", "mptcp endpoint add 10.77.0.2 subflow signal"):
        subprocess.run(["ip", *command.split()], check=False, stderr=subprocess.DEVNULL)  # a kernel may lack MPTCP
    sysctl("ipv4/conf/all/rp_filter", 0)
    sysctl("ipv4/conf/lo/rp_filter", 0)
    sysctl("ipv4/tcp_fastopen", 0x207)
    sysctl("ipv4/tcp_fastopen_blackhole_timeout_sec", 0)
    sysctl("ipv4/tcp_syn_retries", 1)
    sysctl("ipv4/icmp_ratelimit", 0)
    sysctl("ipv4/tcp_challenge_ack_limit", 1 << 30)


def sysctl(name: str, value: int | str) -> None:
    quiet(Path("/proc/sys/net", name).write_text, str(value))


PHASES: dict[str, tuple[int | str, ...]] = {
    "ipv4/tcp_syncookies": (0, 1, 1, 2),
    "ipv4/tcp_tw_reuse": (0, 1, 1, 2),
    "ipv4/tcp_tw_reuse_delay": (1, 1000),
    "ipv4/ip_local_port_range": ("30000 30299", "30000 30999", "32768 60999"),
    "ipv4/tcp_fin_timeout": (1, 1, 2, 60),
    "ipv4/tcp_synack_retries": (0, 1, 2),
    "ipv4/tcp_abort_on_overflow": (0, 0, 1),
    "ipv4/tcp_max_tw_buckets": (300, 2000, 2000),
    "ipv4/tcp_migrate_req": (0, 1),
    "ipv4/tcp_rfc1337": (0, 0, 1),
    "ipv4/tcp_timestamps": (0, 1, 1),
    "ipv4/tcp_retries2": (1, 3, 8),
    "ipv4/tcp_orphan_retries": (0, 1, 3),
    "ipv4/tcp_max_syn_backlog": (8, 256, 2048),
    "core/somaxconn": (8, 4096),
}
"""One value of each is drawn for every ``go``."""


def set_phase(choose: random.Random) -> None:
    for name, values in PHASES.items():
        sysctl(name, choose.choice(values))
