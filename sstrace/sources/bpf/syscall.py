"""bpf(2) and perf_event_open(2), which libc has no functions for, and the words for a refusal."""

import ctypes
import os
import platform
from pathlib import Path

from sstrace.errors import FeatureError
from sstrace.sources.privilege import may_trace

__all__ = [
    "IOC_ENABLE",
    "IOC_SET_BPF",
    "bpf",
    "bpf_into",
    "libc",
    "no_memory",
    "not_permitted",
    "perf_event_open_number",
    "possible_cpus",
]

_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}

_SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "loongarch64": 241, "ppc64le": 319, "s390x": 331}
# _IO and _IOW differ on powerpc: arch/powerpc/include/uapi/asm/ioctl.h.
IOC_ENABLE = 0x2400 if platform.machine() != "ppc64le" else 0x20002400
IOC_SET_BPF = 0x40042408 if platform.machine() != "ppc64le" else 0x80042408

libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attr: bytes) -> int:
    """The call's result; -1 with ctypes.get_errno() set on failure."""
    return bpf_into(command, ctypes.create_string_buffer(attr, len(attr)))


def bpf_into(command: int, attr: "ctypes.Array[ctypes.c_char]") -> int:
    """The same of a call that answers in its attributes, too."""
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise FeatureError(f"sstrace does not know the bpf system call of {platform.machine()}")
    return int(libc.syscall(ctypes.c_long(number), ctypes.c_int(command), attr, ctypes.c_uint(len(attr))))


def not_permitted(what: str) -> str:
    """What to do where the kernel answered EPERM when it was asked to do ``what``."""
    if os.geteuid() != 0:
        return "tracing needs root (or CAP_BPF, CAP_PERFMON and CAP_SYSLOG): run it with sudo"
    try:
        lockdown = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        lockdown = ""
    if "[confidentiality]" in lockdown:
        return (
            "the kernel is locked down (confidentiality) and lets no BPF program read its memory: "
            "boot with lockdown=integrity"
        )
    import resource

    if may_trace() and resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        # It has been asked for more, which takes CAP_SYS_RESOURCE (bpf.load).
        return (
            f"the kernel refused to {what}: before Linux 5.11 that takes memory that is locked, of which this process "
            "may have too little: raise RLIMIT_MEMLOCK"
        )
    return (
        f"the kernel refused to {what}: this root lacks CAP_BPF or CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); "
        "in a container, start it with --privileged or add both"
    )


def no_memory(what: str) -> str:
    """The same where it answered ENOMEM."""
    return (
        f"the kernel has no memory for {what}: free some, or raise the limit of this control group (memory.max), where "
        "it has one"
    )


def perf_event_open_number() -> int:
    """The number of perf_event_open(2), which libc has no function for."""
    number = _SYS_PERF_EVENT_OPEN.get(platform.machine())
    if number is None:
        raise FeatureError(f"sstrace does not know the perf_event_open system call of {platform.machine()}")
    return number


def possible_cpus() -> int:
    """How many values an element of a per-CPU map has: the kernel's possible CPUs, /sys/devices/system/cpu/possible."""
    last = Path("/sys/devices/system/cpu/possible").read_text().strip().split(",")[-1]
    return int(last.split("-")[-1]) + 1
