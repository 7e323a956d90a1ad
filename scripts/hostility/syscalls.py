"""The Nth system call fails: strace injects an errno into one call of a run, whichever it is, once the interpreter has
come to sstrace. Whatever the call was for, the end is one that is documented, with a sentence.
"""

import re
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from conftest import Netns

from hostility.campaign import Bounds, Tally, busy, ended, namespace, recorded

ERRNOS: dict[str, tuple[str, ...]] = {
    "openat": ("EMFILE", "ENFILE", "EACCES", "ENOENT", "EIO", "ENOMEM"),
    "read": ("EIO", "EINTR"),
    "pread64": ("EIO",),
    "write": ("ENOSPC", "EIO", "EPIPE", "EDQUOT"),
    "fstat": ("EIO",),
    "newfstatat": ("EIO", "EACCES", "ENOENT"),
    "lseek": ("EIO", "ESPIPE"),
    "ioctl": ("EINVAL", "ENOTTY", "EPERM"),
    "fcntl": ("EINVAL", "EMFILE"),
    "getdents64": ("EIO", "ENOENT"),
    "readlink": ("EACCES", "ENOENT"),
    "readlinkat": ("EACCES", "ENOENT"),
    "access": ("EACCES",),
    "socket": ("EMFILE", "EACCES", "EAFNOSUPPORT", "ENOBUFS"),
    "socketpair": ("EMFILE", "ENFILE"),
    "bind": ("EADDRINUSE", "EACCES", "ENOBUFS"),
    "connect": ("ECONNREFUSED", "EACCES", "ENOENT", "EAGAIN"),
    "listen": ("EADDRINUSE",),
    "accept4": ("EMFILE", "ECONNABORTED", "ENOBUFS"),
    "sendto": ("ENOBUFS", "ENOMEM", "EACCES"),
    "sendmsg": ("ENOBUFS", "ENOMEM", "EPIPE"),
    "recvfrom": ("ENOBUFS", "ENOMEM", "EINTR"),
    "recvmsg": ("ENOBUFS", "ENOMEM", "EINTR"),
    "setsockopt": ("ENOPROTOOPT", "EPERM", "ENOBUFS"),
    "getsockopt": ("ENOPROTOOPT",),
    "getsockname": ("ENOBUFS",),
    "bpf": ("EPERM", "EINVAL", "ENOMEM", "EMFILE"),
    "perf_event_open": ("EMFILE", "EACCES", "ENOENT", "EINVAL"),
    "memfd_create": ("EMFILE", "ENOSYS", "ENOMEM"),
    "mkdir": ("EACCES", "ENOSPC", "EROFS"),
    "mkdirat": ("EACCES", "ENOSPC", "EROFS"),
    "rename": ("EACCES", "ENOSPC"),
    "renameat": ("EACCES", "ENOSPC"),
    "unlink": ("EACCES",),
    "unlinkat": ("EACCES",),
    "ftruncate": ("EIO",),
    "fsync": ("EIO",),
    "fchmod": ("EPERM",),
    "fchown": ("EPERM",),
    "unshare": ("EPERM", "ENOSPC"),
    "setns": ("EPERM", "EINVAL"),
    "pipe2": ("EMFILE",),
    "dup": ("EMFILE",),
    "dup2": ("EMFILE",),
    "dup3": ("EMFILE",),
    "vfork": ("EAGAIN", "ENOMEM"),
    "fork": ("EAGAIN", "ENOMEM"),
    "clone": ("EAGAIN", "ENOMEM"),
    "clone3": ("EAGAIN", "ENOMEM"),
    "poll": ("EINTR", "ENOMEM"),
    "epoll_create1": ("EMFILE",),
    "name_to_handle_at": ("EOPNOTSUPP", "EPERM"),
    "open_by_handle_at": ("EPERM", "ESTALE"),
    "fsopen": ("EPERM", "ENOSYS"),
    "fsmount": ("EPERM", "ENOSYS"),
    "prctl": ("EINVAL", "EPERM"),
    "capset": ("EPERM",),
    "sysinfo": ("ENOSYS",),
    "sched_getaffinity": ("ENOSYS",),
}
"""What may fail, and how. Not the memory of the interpreter itself, its signals and its locks: they are glibc's."""

RUNS: dict[str, tuple[str, ...]] = {
    "snapshot": ("--snapshot", "-tanpe"),
    "unix": ("--snapshot", "-xap"),
    "trace": ("--json", "--duration", "300ms"),
    "text": ("-n", "--output", "{scratch}/out", "--duration", "300ms"),
    "record": ("--record", "{scratch}/rec", "--duration", "300ms"),
    "gzip": ("--record", "{scratch}/rec.gz", "--duration", "300ms"),
    "serve": ("--serve={scratch}/live", "--duration", "300ms"),
    "metrics": ("--metrics=127.0.0.1:9438", "--duration", "300ms"),
    "verify": ("--verify", "--interval", "100ms", "--duration", "400ms"),
    "stats": ("--stats", "--duration", "300ms"),
    "doctor": ("--doctor",),
    "replay": ("--replay", "{sound}"),
    "past": ("--snapshot", "-tan", "--at", "-0s", "--from", "{sound}"),
    "completions": ("--completions", "bash"),
}


class Call(NamedTuple):
    """One system call of a run: the ``nth`` of its name, in its task."""

    name: str
    nth: int


STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-o")
"""It stops a task at the calls that it is asked for, no others."""
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
_TRACED = ",".join(f"?{name}" for name in ERRNOS)


def run(bounds: Bounds, tally: Tally) -> None:
    """Try ``count`` calls, of all runs in turn."""
    sound = recorded(bounds)
    log = bounds.scratch / "strace"
    seen: dict[str, list[Call]] = {}
    with namespace() as netns, busy(netns):
        for number in range(bounds.count):
            dice = bounds.dice(number)
            name = list(RUNS)[number % len(RUNS)]
            words = [word.format(scratch=bounds.scratch, sound=sound) for word in RUNS[name]]
            if name not in seen:
                ended(words, netns, [*STRACE, str(log), "-e", f"trace={_TRACED}"])
                seen[name] = _calls(log.read_text(errors="replace").splitlines())
            if not seen[name]:
                tally.note(name, "strace shows no calls", f"seed {bounds.seed}, number {number}")
                continue
            inject = _injection(seen[name], dice)
            tally.note(name, _injected(words, netns, inject), f"strace -f -e {inject} {' '.join(words)}")


def _calls(lines: Sequence[str]) -> list[Call]:
    """Those that sstrace makes, which begins by looking at its standard streams: what was before, and what modules are
    found and read by, is the interpreter's.
    """
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    imported = begun = False
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        task, name, rest = match.groups()
        counts[task, name] += 1
        imported |= "sstrace/cli" in rest
        begun |= imported and name in ("fstat", "newfstatat") and rest.startswith("0,")
        if begun and ".py" not in rest:
            found.append(Call(name, counts[task, name]))
    return found


def _injection(calls: Sequence[Call], dice: Random) -> str:
    """Into any call; each name is as likely as another, for reads are many."""
    name = dice.choice(sorted({call.name for call in calls}))
    call = dice.choice([call for call in calls if call.name == name])
    return f"inject={name}:error={dice.choice(ERRNOS[name])}:when={call.nth}"


def _injected(words: Sequence[str], netns: Netns, inject: str) -> str | None:
    name = inject.split("=")[1].partition(":")[0]
    found, _ = ended(words, netns, [*STRACE, "/dev/null", "-e", f"trace={name}", "-e", inject])
    return found
