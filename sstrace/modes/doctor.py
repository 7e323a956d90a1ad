"""``--doctor``: what works on this machine, what is missing, and what would bring it back. Everything is tried,
nothing guessed.

Exit code 0: live tracing works in full. 3: only privilege is missing. 4: something else is.
"""

import contextlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from sstrace.dialect import NEWEST, dialect, parse_version
from sstrace.errors import FeatureError, KernelError, LookupFailed, PrivilegeError, SstraceError, reason
from sstrace.live.incidents import untold
from sstrace.live.owners import BLIND
from sstrace.live.probes import Hooks
from sstrace.live.rounds import families, lacks, looks
from sstrace.live.unix_calls import UnixCalls
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, State, Table
from sstrace.namespaces.finder import Finder
from sstrace.native import is_outdated, twins
from sstrace.plain import counted
from sstrace.protocols import FAMILIES, FOLLOWED, INET, OF_TABLE, SWEPT_TABLES
from sstrace.query.command import Command
from sstrace.render.doctor import Finding, lines, ndjson
from sstrace.sources import files, landlock, seccomp
from sstrace.sources.bindings import bcc_advice
from sstrace.sources.bpf.programs import BINDS, CALLS, DATAGRAMS, HOOKS
from sstrace.sources.btf import VMLINUX
from sstrace.sources.cache import cache_directory, cached
from sstrace.sources.diag import Diag, Route
from sstrace.sources.installed import ss_release
from sstrace.sources.names import SystemNames
from sstrace.sources.netns import current_netns, inside
from sstrace.sources.owners import OwnerWalk
from sstrace.sources.privilege import CAP_SYS_PTRACE, effective, may_trace
from sstrace.sources.standard import give, screen_size
from sstrace.sources.tracefs import directory, event_format, mount_point
from sstrace.wire import inet_diag
from sstrace.wire.netlink import Batch

__all__ = ["run"]

# include/uapi/linux/capability.h
_CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}


def run(command: Command, env: Mapping[str, str]) -> int:
    """Look, print, and give the exit code."""
    findings = list(chain.from_iterable(_looked(what, look, env) for what, look in _LOOKS.items()))
    statuses = {finding.status for finding in findings if finding.what not in _NOT_TRACING}
    if statuses <= {"ok"}:
        code, verdict = 0, "Live tracing works in full."
    elif "no" not in statuses and "less" not in statuses:
        code, verdict = 3, "Only privilege is missing: run it with sudo."
    else:
        code, verdict = 4, "Something is missing: see the lines above."
    if command.own.json:
        give(ndjson(findings))
    else:
        size = screen_size()
        text = lines(findings, verdict, size[0] if size is not None else None)
        give("".join(f"{line}\n" for line in text).encode())
    return code


def _looked(what: str, look: "_Look", env: Mapping[str, str]) -> Sequence[Finding]:
    """What a look found; that it was refused is a finding too."""
    try:
        found = look(env)
    except OSError as error:
        found = Finding(what, "less", f"{error.filename or 'the system'}: {reason(error)}")
    except SstraceError as error:
        found = Finding(what, "less", str(error), error.advice)
    return [found] if isinstance(found, Finding) else found


_NOT_TRACING = (
    "ss",
    "socket tables",
    "interfaces",
    "cache",
    "cgroups",
    "namespaces",
    "tracefs",
    "missed events",
    "incidents",
    "event path",
    "serving",
)
"""What live tracing does not need."""


def _kernel(_env: Mapping[str, str]) -> Finding:
    return Finding("kernel", "ok", f"Linux {platform.release()} {platform.machine()}")


def _privilege(_env: Mapping[str, str]) -> Finding:
    held = effective()
    missing = [name for name, bit in _CAPABILITIES.items() if not held >> bit & 1]
    user = "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"
    if not missing:
        return Finding("privilege", "ok", f"{user}, all capabilities")
    enough = {"CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"}.isdisjoint(missing) or "CAP_SYS_ADMIN" not in missing
    status = "ok" if enough else "root"
    return Finding("privilege", status, f"{user}, without {' '.join(missing)}", "" if enough else "run it with sudo")


def _lockdown(_env: Mapping[str, str]) -> Finding:
    try:
        text = Path("/sys/kernel/security/lockdown").read_text()
    except OSError:
        return Finding("lockdown", "ok", "not in force, or not told")
    mode = text.partition("[")[2].partition("]")[0]
    if mode == "confidentiality":
        return Finding("lockdown", "less", mode, "boot with lockdown=integrity: BPF may then read kernel memory")
    return Finding("lockdown", "ok", mode)


def _btf(_env: Mapping[str, str]) -> Finding:
    try:
        size = Path(VMLINUX).stat().st_size
    except OSError:
        remedy = "a kernel built with CONFIG_DEBUG_INFO_BTF=y; until then only the tracepoint's own fields are seen"
        return Finding("BTF", "less", "the kernel offers none", remedy)
    return Finding("BTF", "ok", f"{VMLINUX} ({size / 1e6:.1f} MB)")


def _symbols(_env: Mapping[str, str]) -> Finding:
    try:
        with open("/proc/kallsyms", "rb") as file:
            # On x86 before Linux 6.15 per-CPU variables come first, at 0 and up: only a function's address tells.
            first = next((line for line in file if line.split(b" ", 2)[1] in b"tT"), b"")
    except OSError as error:
        return Finding("kernel symbols", "less", f"/proc/kallsyms: {reason(error)}")
    if not first.split(b" ", 1)[0].strip(b"0"):
        status = "less" if os.geteuid() == 0 else "root"
        remedy = "sysctl kernel.kptr_restrict=1, and CAP_SYSLOG; until then no causes, no SYN-RECV or TIME-WAIT events"
        return Finding("kernel symbols", status, "addresses are hidden", remedy)
    return Finding("kernel symbols", "ok", "/proc/kallsyms")


def _tracefs(_env: Mapping[str, str]) -> Finding:
    place = mount_point()
    try:
        directory()
        event_format("sock/inet_sock_set_state")
    except FeatureError as error:
        status = "less" if may_trace() else "root"
        return Finding("tracefs", status, f"{error}; needed where there is no BTF, and to count missed events")
    return Finding("tracefs", "ok", str(place) if place is not None else "not mounted, but can be opened")


def _event_path(_env: Mapping[str, str]) -> Finding:
    if twins is not None:
        return Finding("event path", "ok", "compiled")
    if is_outdated():
        found = "in Python: what is compiled is of other sources than these"
        return Finding("event path", "less", found, "compile it anew: scripts/sstrace does, and so does pip install .")
    return Finding(
        "event path",
        "ok",
        "in Python; where a C compiler and python3-dev are, set-up compiles it: a third of the CPU time",
    )


def _bcc(env: Mapping[str, str]) -> Finding:
    spec = find_spec("bcc")
    if spec is None or spec.origin is None:
        compiled = _compiled(env)
        found = "not to be imported; compiled programs are in the cache" if compiled else "not to be imported"
        return Finding("bcc", "ok" if compiled else "no", found, bcc_advice())
    version = "version unknown"
    with contextlib.suppress(OSError):
        text = Path(spec.origin).with_name("version.py").read_text()
        version = text.partition("=")[2].strip().strip("'\"") or version
    return Finding("bcc", "ok", version)


def _compiled(env: Mapping[str, str]) -> int:
    """How many compiled programs are in the cache; none where it cannot be read."""
    with contextlib.suppress(OSError):
        return len(cached(env))
    return 0


def _cache(env: Mapping[str, str]) -> Finding:
    directory = cache_directory(env)
    if directory is None:
        return Finding("cache", "ok", "none: HOME names no directory; every start compiles anew")
    try:
        programs = cached(env)
        files.try_trusted(str(directory), programs)
    except OSError as error:
        return Finding("cache", "less", f"{directory}: {reason(error)}; every start compiles anew")
    return Finding("cache", "ok", f"{directory}: {counted(len(programs), 'compiled program')}")


def _ss(env: Mapping[str, str]) -> Finding:
    release = ss_release(env.get("PATH"))
    newest = ".".join(map(str, NEWEST))
    if release is None:
        return Finding("ss", "ok", f"not on PATH: --snapshot answers as ss {newest}")
    with contextlib.suppress(SstraceError):
        known = dialect(parse_version(release), release)
        return Finding("ss", "ok", f"iproute2 {release}: --snapshot answers as ss {'.'.join(map(str, known.version))}")
    return Finding("ss", "ok", f"iproute2 {release}, unknown: --snapshot answers as ss {newest}")


_CALLS = f"heard at the root of the cgroups: {', '.join(DATAGRAMS.cgroup)}; and {', '.join((*CALLS, *BINDS))}"


_UNCOUNTED = "this kernel does not tell what they send and receive (Linux 6.3 does), so that is not counted"


def _hooks(env: Mapping[str, str]) -> list[Finding]:
    """Really attach, for a moment, and detach."""
    try:
        home = current_netns()
        heard = FOLLOWED & ~SWEPT_TABLES
        hooks = Hooks(env, home, home.inode, 8, tuple(table for table in Table if heard >> table & 1))
    except PrivilegeError as error:
        return [Finding("tracing", "root", str(error), "until then a trace and --watch look each second")]
    except FeatureError as error:
        return [Finding("tracing", "no", str(error), "--poll 1s lives on netlink alone")]
    told = _CALLS if hooks.counts_datagrams else f"{_CALLS}; {_UNCOUNTED}"
    told = f"{told}; {hooks.unlisted}" if hooks.unlisted else told
    less = hooks.unheard or hooks.apart
    calls = Finding("UDP, raw", "less", less) if less else Finding("UDP, raw", "ok", told)
    missed = Finding("missed events", "ok", f"not counted: {hooks.uncounted}" if hooks.uncounted else "counted")
    hooks.close()
    limits = [limit for limit in hooks.limits if limit not in (hooks.unheard, hooks.apart, hooks.unlisted)]
    if limits:
        return [*(Finding("tracing", "less", limit) for limit in limits), calls, missed]
    return [Finding("tracing", "ok", f"raw tracepoints {', '.join(reversed(HOOKS))}"), calls, missed]


def _hears_calls(env: Mapping[str, str]) -> bool:
    """Really attach, for a moment, what hears of unix sockets' calls."""
    with contextlib.suppress(SstraceError, OSError):
        UnixCalls(env, current_netns().inode).close()
        return True
    return False


def _looked_for(env: Mapping[str, str]) -> Finding:
    """Sockets that tell nothing."""
    listed, unlisted = families(table for table in Table if SWEPT_TABLES >> table & 1)
    told = "; ".join([looks(listed, heard=_hears_calls(env)), *lacks(unlisted)])
    return Finding("looks", "ok" if "unix" in {one.name for one in listed} else "less", told)


def _incidents(_env: Mapping[str, str]) -> Finding:
    """What --events can tell besides transitions."""
    limits = untold()
    return Finding("incidents", "less" if limits else "ok", "; ".join(limits) or "of every sort, with their reasons")


def _walk(env: Mapping[str, str]) -> Finding:
    try:
        walk = OwnerWalk(cache_directory(env))
    except PrivilegeError as error:
        return Finding("owner walk", "root", str(error))
    except SstraceError as error:
        return Finding("owner walk", "less", f"{error}; owners come from /proc")
    try:
        found = walk.owners()
    except SstraceError as error:
        return Finding("owner walk", "less", f"{error}; owners come from /proc")
    finally:
        walk.close()
    if not effective() >> CAP_SYS_PTRACE & 1:
        return Finding("owner walk", "root", BLIND)
    return Finding("owner walk", "ok", f"{counted(len(found), 'socket', 'has/have')} owners in sight")


def _namespaces(env: Mapping[str, str]) -> Finding:
    """How many network namespaces --netns all finds, and what it would not."""
    finder = Finder(env)
    try:
        count = len(finder.learn())
        how = "the kernel's list" if finder.exact else "/proc"
        found = f"{count} network namespace{'s' * (count > 1)}, by {how}"
        refused = 0
        for namespace in finder.known():
            try:
                with inside(namespace):
                    pass
            except LookupFailed:
                continue  # it has gone
            except SstraceError:
                refused += 1
        if refused:
            found += f"; {refused} of them cannot be entered"
        status = "ok" if finder.exact and not refused else "less" if may_trace() else "root"
        return Finding("namespaces", status, found, finder.blind)
    finally:
        finder.close()


def _tables(_env: Mapping[str, str]) -> Finding:
    """Which tables the kernel tells of through sock_diag."""
    try:
        Diag().close()
    except SstraceError as error:
        return Finding("sock_diag", "no", str(error), f"{_advice(error)}; --snapshot reads less out of /proc meanwhile")
    names: list[str] = []
    missing: list[str] = []
    for name, request, decode in _requests():
        (names if _answers(request, decode) else missing).append(name)
    found = f"{' '.join(names)} through sock_diag"
    if missing:
        found += f"; not {' '.join(missing)}"
    return Finding("socket tables", "ok" if "tcp" in names else "no", found)


def _requests() -> Iterator[tuple[str, bytes, Callable[[memoryview], Batch[Any]]]]:
    """A table or family, what asks for its sockets, and what decodes the answer."""
    for table in Table:
        if OF_TABLE[table].family is INET:
            yield table.name.lower(), inet_diag.dump_request(table, AF_INET, 1 << State.LISTEN), _inet(table)
    yield "tcp6", inet_diag.dump_request(Table.TCP, AF_INET6, 1 << State.LISTEN), _inet(Table.TCP)
    for family in FAMILIES:
        if family is not INET:
            diag = import_module(f"sstrace.wire.{family.name}_diag")
            yield family.name, diag.dump_request(ALL_STATES), diag.decode


def _inet(table: Table) -> Callable[[memoryview], Batch[Any]]:
    return lambda datagram: inet_diag.decode(datagram, table)


def _answers(request: bytes, decode: Callable[[memoryview], Batch[Any]]) -> bool:
    try:
        with Diag() as diag:
            diag.send(request)
            for datagram in diag:
                batch = decode(datagram)
                if batch.done:
                    return not batch.error
    except (KernelError, FeatureError, PrivilegeError):
        return False
    return False


def _advice(error: SstraceError) -> str:
    return error.advice or "a limit of this process, or a lack of memory"


def _interfaces(_env: Mapping[str, str]) -> Finding:
    try:
        Route().close()
    except SstraceError as error:
        return Finding("interfaces", "less", f"not through rtnetlink: {error}", _advice(error))
    return Finding("interfaces", "ok", "through rtnetlink")


def _cgroups(env: Mapping[str, str]) -> Finding:
    mount = SystemNames(env).cgroup_mount()
    found = "no cgroup2 mount: cgroups print as unreachable" if mount is None else f"cgroup2 at {mount}"
    return Finding("cgroups", "ok", found)


def _serving(_env: Mapping[str, str]) -> Finding:
    calls = seccomp.program(platform.machine(), seccomp.SERVER) is not None
    version = landlock.version()
    if not calls:
        what = f"a server's system calls are not limited: their numbers on {platform.machine()} are not known"
        return Finding("serving", "less", what)
    if not version:
        remedy = "boot with lsm=landlock,… (Linux 5.13); until then whoever breaks in reads what others may"
        return Finding("serving", "less", "a server's system calls are limited; its files are not", remedy)
    return Finding("serving", "ok", f"a server's system calls and files are limited (Landlock {version})")


_Look = Callable[[Mapping[str, str]], Finding | Sequence[Finding]]
_LOOKS: dict[str, _Look] = {
    "kernel": _kernel,
    "privilege": _privilege,
    "lockdown": _lockdown,
    "BTF": _btf,
    "kernel symbols": _symbols,
    "tracefs": _tracefs,
    "bcc": _bcc,
    "cache": _cache,
    "event path": _event_path,
    "ss": _ss,
    "tracing": _hooks,
    "looks": _looked_for,
    "incidents": _incidents,
    "owner walk": _walk,
    "namespaces": _namespaces,
    "socket tables": _tables,
    "interfaces": _interfaces,
    "cgroups": _cgroups,
    "serving": _serving,
}
"""What is looked at, in this order."""
