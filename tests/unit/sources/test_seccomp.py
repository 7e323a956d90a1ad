"""The filter: its numbers are the kernel's, and what it says of each call, run as the kernel runs it."""

import errno
import os
import re
import struct
from pathlib import Path

import pytest

from sstrace.sources import seccomp

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
X86, ARM = 0xC000003E, 0xC00000B7
HEADERS = (
    ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0),
    ("/usr/include/asm-generic/unistd.h", 1),
)


def verdict(
    machine: str,
    number: int,
    *arguments: int,
    architecture: int | None = None,
    calls: seccomp.Calls = seccomp.SERVER,
) -> int:
    """Classic BPF (linux/filter.h), as far as the filter uses it."""
    program = seccomp.program(machine, calls)
    assert program is not None
    steps = list(struct.iter_unpack("=HBBI", program))
    known = {"x86_64": X86, "aarch64": ARM}[machine]
    data = struct.pack("=IIQ6Q", number, architecture or known, 0, *(arguments + (0,) * 6)[:6])
    at = accumulator = 0
    while True:
        code, true, false, value = steps[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[code]
            at += true if holds else false


@pytest.mark.parametrize(("header", "column"), HEADERS)
def test_the_numbers_are_the_kernels(header: str, column: int) -> None:
    if not Path(header).exists():
        pytest.skip(f"no {header} here")
    defined = dict(re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", Path(header).read_text(), re.MULTILINE))
    for name, numbers in seccomp.NUMBERS.items():
        said = defined.get(name, defined.get({"newfstatat": "fstatat"}.get(name, name)))
        assert numbers[column] == (int(said) if said is not None else None), name


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_calls(machine: str) -> None:
    column = ("x86_64", "aarch64").index(machine)

    def of(name: str, *arguments: int) -> int:
        number = seccomp.NUMBERS[name][column]
        assert number is not None
        return verdict(machine, number, *arguments)

    for calls in (seccomp.SERVER, seccomp.BROKER):
        for name in calls.allowed:
            if (number := seccomp.NUMBERS[name][column]) is not None:
                assert verdict(machine, number, calls=calls) == ALLOW
        known = {seccomp.NUMBERS[name][column] for name in (*calls.allowed, *calls.chosen)}
        for number in set(range(600)) - known:
            assert verdict(machine, number, calls=calls) == (EPERM if number < 435 else ENOSYS), number
    assert verdict(machine, 0x40000000) == EPERM
    assert verdict(machine, 63, architecture=0x40000003) == EPERM
    # clone: processes and threads, no namespaces.
    assert [of("clone", flags) for flags in (17, 0x01200011, 0x3D0F00)] == [ALLOW] * 3
    assert {of("clone", 17 | 1 << bit) for bit in (17, 25, 26, 27, 28, 29, 30)} == {EPERM}
    # open: to read, or anew.
    for flags in (os.O_RDONLY, os.O_CLOEXEC | os.O_DIRECTORY, os.O_PATH, os.O_WRONLY | os.O_CREAT | os.O_EXCL):
        assert of("openat", 0, 0, flags) == ALLOW, flags
    for flags in (
        os.O_WRONLY,
        os.O_RDWR,
        os.O_TRUNC,
        os.O_WRONLY | os.O_CREAT,
        os.O_RDWR | os.O_EXCL,
        os.O_TMPFILE | 2,
    ):
        assert of("openat", 0, 0, flags) == EPERM, flags
    assert [of("socket", *words) for words in ((16, 3, 4), (2, 1, 0), (10, 2, 17), (1, 1, 0))] == [ALLOW] * 4
    assert {of("socket", *words) for words in ((16, 3, 0), (16, 3, 12), (2, 3, 1), (2, 1, 262), (17, 3, 0))} == {EPERM}
    assert [of("bpf", command) for command in (1, 3, 4, 15)] == [ALLOW] * 4
    assert {of("bpf", command) for command in (0, 2, 5, 7, 10, 12, 13, 14, 28)} == {EPERM}
    assert of("setsockopt", 3, 1, 7) == ALLOW
    assert {of("setsockopt", 3, *words) for words in ((0, 64), (41, 64), (1, 36), (1, 25), (255, 0))} == {EPERM}
    assert of("ioctl", 3, 0x5413) == ALLOW
    assert {of("ioctl", 3, request) for request in (0x8914, 0x8916, 0x890B, 0x5412)} == {EPERM}
    assert of("prctl", 24) == ALLOW
    assert {of("prctl", option) for option in (22, 35, 36, 4)} == {EPERM}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_calls_of_the_broker(machine: str) -> None:
    """Who keeps the capabilities makes fewer calls: no other sockets, nothing made or written, nobody signalled."""
    column = ("x86_64", "aarch64").index(machine)

    def of(name: str, *arguments: int) -> int:
        number = seccomp.NUMBERS[name][column]
        assert number is not None
        return verdict(machine, number, *arguments, calls=seccomp.BROKER)

    assert [of("socket", *words) for words in ((16, 3, 4), (1, 5, 0))] == [ALLOW] * 2
    assert {of("socket", *words) for words in ((2, 1, 0), (10, 2, 17), (16, 3, 0), (17, 3, 0))} == {EPERM}
    assert [of("bpf", command) for command in (1, 2, 3, 10)] == [ALLOW] * 4
    assert {of("bpf", command) for command in (0, 4, 5, 12, 13, 14, 28)} == {EPERM}
    assert of("openat", 0, 0, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY) == ALLOW
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_EXCL, os.O_TMPFILE | os.O_RDWR):
        assert of("openat", 0, 0, flags) == EPERM, flags
    assert {of(name) for name in ("kill", "tgkill", "unlinkat", "renameat", "connect", "ftruncate", "prctl")} == {EPERM}
    assert {of("clone", 17 | 1 << bit) for bit in (17, 25, 26, 27, 28, 29, 30)} == {EPERM}


def test_another_machine_goes_without() -> None:
    assert seccomp.program("riscv64", seccomp.SERVER) is None
