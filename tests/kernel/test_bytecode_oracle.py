"""Our bytecode is ss's: the same filters, and the bytes that the real ss hands to sendmsg."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Netns, unmet

from sstrace.dialect import dialect
from sstrace.query.bytecode import compile_bytecode
from sstrace.query.command import Command
from sstrace.query.options import parse, resolve
from sstrace.sources.names import SystemNames

pytestmark = [pytest.mark.root, pytest.mark.ss]

HOST_CONDITIONS = (7, 8)
"""Opcodes of host conditions, whose bytes 6 and 7 (padding of struct inet_diag_hostcond) ss leaves uninitialised."""


def sent_by_ss(netns: Netns, arguments: list[str]) -> bytes | None:
    """The bytecode attribute's payload of the first request; None when the request carries none."""
    result = subprocess.run(
        ["strace", "-e", "trace=sendmsg", "-e", "write=all", *netns.prefix, "ss", *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    )
    buffers: list[bytearray] = []
    for line in result.stderr.decode("latin-1").splitlines():
        if line.startswith("sendmsg(") and buffers:
            break
        if line.startswith(" * "):
            buffers.append(bytearray())
        elif line.startswith(" | ") and buffers:
            buffers[-1] += bytes.fromhex(line[10:59])
    assert buffers, result.stderr
    # request, attribute header, attribute
    return bytes(buffers[2]) if len(buffers) == 3 else None


def without_padding(code: bytes) -> bytes:
    """The same program with the padding of its host conditions cleared."""
    clean = bytearray(code)
    at = 0
    while at < len(clean):
        if clean[at] in HOST_CONDITIONS:
            clean[at + 6 : at + 8] = b"\0\0"
        at += clean[at + 1]
    return bytes(clean)


def ours(arguments: list[str]) -> bytes | None:
    command = parse(["ss", *arguments], release=dialect((6, 1)))
    assert isinstance(command, Command)
    return compile_bytecode(resolve(command, SystemNames({})).selection.filter)


TESTS = (
    "src 127.0.0.1",
    "dst 10.1.2.3/8:443",
    "src [::1]:22",
    "dst fe80::/10",
    "src inet:any",
    "dst inet6:any",
    "src default:7",
    "sport = :22",
    "dport != ssh",
    "sport >= 1024",
    "dport <= 0x50",
    "sport > 70000",
    "dport < -3",
    "src localhost",
    "src 300",
    "autobound",
    "fwmark = 0x10/0xff",
    "fwmark != 7",
    "dst *:99",
    "src 1.2.3.4/255.255.0.0",
    "! src 9.9.9.9",
    "! ! sport 5",
)


def expression(random_source: random.Random, depth: int) -> list[str]:
    """Random tests, joined and nested at random."""
    words: list[str] = []
    for number in range(random_source.randint(1, 4)):
        if number:
            words += random_source.choice((["and"], ["or"], ["|"], []))
        if random_source.random() < 0.2:
            words.append("!")
        if depth and random_source.random() < 0.4:
            words += ["(", *expression(random_source, depth - 1), ")"]
        else:
            # inet6: would make the family stick and later IPv4 operands fail, which is another test's matter.
            words += random_source.choice([test for test in TESTS if "inet" not in test]).split()
    return words


@pytest.fixture(autouse=True)
def strace() -> None:
    if shutil.which("strace") is None:
        unmet("needs strace")


@pytest.mark.parametrize("test", TESTS)
def test_each_condition_compiles_as_in_ss(module_netns: Netns, test: str) -> None:
    theirs = sent_by_ss(module_netns, ["-tn", test])
    assert theirs is not None
    assert ours(["-tn", test]) == without_padding(theirs)


@pytest.mark.seconds(600)
@pytest.mark.parametrize("seed", range(60))
def test_random_expressions_compile_as_in_ss(module_netns: Netns, seed: int) -> None:
    words = expression(random.Random(seed), 3)
    theirs = sent_by_ss(module_netns, ["-tn", "--", *words])
    assert theirs is not None
    assert ours(["-tn", "--", *words]) == without_padding(theirs), " ".join(words)


@pytest.mark.parametrize("test", ["dev lo", "sport 5 or dev lo", "( ! dev lo ) and src 1.1.1.1"])
def test_a_device_anywhere_sends_nothing(module_netns: Netns, test: str) -> None:
    assert sent_by_ss(module_netns, ["-tn", test]) is None
    assert ours(["-tn", test]) is None


def test_a_cgroup_compiles_as_in_ss(module_netns: Netns) -> None:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    cgroup2 = next((line[1] for line in mounts if line[2] == "cgroup2"), None)
    if cgroup2 is None:
        pytest.skip("kernel lacks a cgroup2 mount")
    # ss first asks the kernel whether it knows the instruction; the listing's request is the one with our program.
    words = ["-tn", "cgroup", cgroup2, "or", "!", "cgroup", "=", cgroup2]
    code = ours(words)
    assert code is not None
    result = subprocess.run(
        ["strace", "-e", "trace=sendmsg", "-e", "write=all", *module_netns.prefix, "ss", *words],
        capture_output=True,
        timeout=60,
        check=True,
    )
    dumped = "".join(
        line[10:59].replace(" ", "") for line in result.stderr.decode("latin-1").splitlines() if line[:3] == " | "
    )
    assert code.hex() in dumped
