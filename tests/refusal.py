"""A kernel that refuses: system calls that fail with a chosen errno, by seccomp(2), for a child and all that it runs.

A rule is what a sandbox, a security module or a used-up limit would do::

    Rule("socket", errno.EACCES, first=AF_NETLINK, third=NETLINK_SOCK_DIAG)

As a program: ``python tests/refusal.py socket:16:4=EACCES -- ss -tan``; several rules with blanks between them.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["CALLS", "Rule", "refuse"]

# Numbers on x86-64 and arm64: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h.
CALLS: dict[str, tuple[int, int]] = {
    "socket": (41, 198),
    "connect": (42, 203),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "bind": (49, 200),
    "getsockname": (51, 204),
    "setsockopt": (54, 208),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "name_to_handle_at": (303, 264),
    "fsopen": (430, 430),
}
_ARCHITECTURES = {"x86_64": 0, "aarch64": 1}
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_ARGUMENT = (16, 24, 32)
_STEP = struct.Struct("=HBBI")
_libc = ctypes.CDLL(None, use_errno=True)


class Rule(NamedTuple):
    """``call`` fails with ``number`` when its arguments are these; None: whatever they are."""

    call: str
    number: int
    first: int | None = None
    second: int | None = None
    third: int | None = None


def refuse(rules: Iterable[Rule]) -> None:
    """From now on, for this thread and what it starts; the first rule that fits decides. Raises OSError."""
    rules = list(rules)
    if not rules:
        return
    column = _ARCHITECTURES[os.uname().machine]
    steps: list[tuple[int, int, int, int]] = []
    for rule in rules:
        tests = [(0, CALLS[rule.call][column])]
        arguments = (rule.first, rule.second, rule.third)
        tests += [(at, wanted) for at, wanted in zip(_ARGUMENT, arguments, strict=True) if wanted is not None]
        for place, (at, wanted) in enumerate(tests):
            # What does not fit goes on behind this rule's last step.
            steps += [(_LOAD, 0, 0, at), (_EQUAL, 0, 2 * (len(tests) - place) - 1, wanted)]
        steps.append((_RETURN, 0, 0, _ERRNO | rule.number))
    steps.append((_RETURN, 0, 0, _ALLOW))
    program = ctypes.create_string_buffer(b"".join(_STEP.pack(*step) for step in steps))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(program)))
    zero = ctypes.c_ulong(0)
    for option, argument, more in ((38, 1, zero), (22, 2, header)):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
        if _libc.prctl(option, ctypes.c_ulong(argument), more, zero, zero):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _parse(text: str) -> Rule:
    what, _, name = text.partition("=")
    call, *arguments = what.split(":")
    numbers = [int(argument) if argument else None for argument in arguments]
    return Rule(call, getattr(errno, name), *numbers)


def _main(words: Sequence[str]) -> None:
    split = list(words).index("--")
    refuse(_parse(word) for word in words[:split])
    os.execvp(words[split + 1], [*words[split + 1 :]])


if __name__ == "__main__":
    _main(sys.argv[1:])
