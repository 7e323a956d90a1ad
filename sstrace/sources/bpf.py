"""The BPF programs: compiled by bcc in a child process, cached, loaded and attached here.

bcc's LLVM stays in memory for good once it has compiled (over 100 MB), so a child compiles and hands back what the
kernel needs: instructions and map shapes. What depends on the boot (addresses, namespaces) goes into the config map,
so the same instructions serve every boot of a kernel, and are cached under a key made of everything they depend on:
our C sources, the member offsets, the machine and bcc's version. The loader below is plain bpf(2):
include/uapi/linux/bpf.h.

The only module that imports bcc, and only in that child.
"""

import contextlib
import ctypes
import errno
import hashlib
import os
import platform
import struct
import sys
from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

import msgspec

from sstrace.errors import FeatureError, PrivilegeError
from sstrace.sources.btf import Btf

__all__ = [
    "HOOKS",
    "Bundle",
    "Config",
    "Loaded",
    "PLAIN",
    "Source",
    "TRACE",
    "bundle",
    "config",
    "load",
    "perf_event_open_number",
    "possible_cpus",
    "source_directory",
]

_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "ppc64le": 361, "s390x": 351}

_SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "loongarch64": 241, "ppc64le": 319, "s390x": 331}
_PERF_FLAG_FD_CLOEXEC = 8
# _IO and _IOW differ on powerpc: arch/powerpc/include/uapi/asm/ioctl.h.
IOC_ENABLE = 0x2400 if platform.machine() != "ppc64le" else 0x20002400
_IOC_SET_BPF = 0x40042408 if platform.machine() != "ppc64le" else 0x80042408

_MAP_CREATE = 0
_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_MAP_GET_NEXT_KEY = 4
_PROG_LOAD = 5
_PROG_TEST_RUN = 10
_OBJ_GET_INFO_BY_FD = 15
_RAW_TRACEPOINT_OPEN = 17
_PROG_TYPE_TRACEPOINT = 5
_PROG_TYPE_RAW_TRACEPOINT = 17
_MAP_TYPE_PERF_EVENT_ARRAY = 4
_PSEUDO_MAP_FD = 1
_F_MMAPABLE = 1 << 10
_LD_IMM64 = 0x18

Offsets = dict[str, tuple[tuple[str, str], ...]]
"""Macro (without OFF_) → the struct and member that it is the offset of; where several stand, the first that the kernel
has counts."""

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

_OFFSETS: Offsets = {
    "skc_net": (("sock_common", "skc_net"),),
    "skc_family": (("sock_common", "skc_family"),),
    "skc_state": (("sock_common", "skc_state"),),
    "skc_num": (("sock_common", "skc_num"),),
    "skc_dport": (("sock_common", "skc_dport"),),
    "skc_bound_dev_if": (("sock_common", "skc_bound_dev_if"),),
    "skc_cookie": (("sock_common", "skc_cookie"),),
    "skc_rcv_saddr": (("sock_common", "skc_rcv_saddr"),),
    "skc_daddr": (("sock_common", "skc_daddr"),),
    "skc_pprev": (("sock_common", "skc_nulls_node.pprev"),),
    "net_inum": (("net", "ns.inum"),),
    "sk_socket": (("sock", "sk_socket"),),
    "sk_protocol": (("sock", "sk_protocol"),),
    "sk_err": (("sock", "sk_err"),),
    "sk_shutdown": (("sock", "sk_shutdown"),),
    "socket_ino": (("socket_alloc", "vfs_inode.i_ino"),),
    "socket_file": (("socket", "file"),),
    "task_flags": (("task_struct", "flags"),),
    "task_files": (("task_struct", "files"),),
    "files_fdt": (("files_struct", "fdt"),),
    "files_next_fd": (("files_struct", "next_fd"),),
    "fdt_fd": (("fdtable", "fd"),),
    "fdt_max_fds": (("fdtable", "max_fds"),),
    "timer_function": (("timer_list", "function"),),
    "timer_pprev": (("timer_list", "entry.pprev"),),
    # Linux 6.19 moved the timer into struct sock.
    "retransmit_timer": (("inet_connection_sock", "icsk_retransmit_timer"), ("sock", "tcp_retransmit_timer")),
    "rsk_timer": (("request_sock", "rsk_timer"),),
    "num_retrans": (("request_sock", "num_retrans"),),
    "tw_timer": (("inet_timewait_sock", "tw_timer"),),
    "tw_substate": (("inet_timewait_sock", "tw_substate"),),
}
# What a kernel may lack at the price of one field. IPv6 is a build option; sk_cgrp_data is too.
_OPTIONAL_OFFSETS: Offsets = {
    "skc_v6_rcv_saddr": (("sock_common", "skc_v6_rcv_saddr"),),
    "skc_v6_daddr": (("sock_common", "skc_v6_daddr"),),
    "sk_uid": (("sock", "sk_uid"),),
    "sk_ino": (("sock", "sk_ino"),),
    "file_ref": (("file", "f_ref"),),
    "file_count": (("file", "f_count"),),
    "icsk_retransmits": (("inet_connection_sock", "icsk_retransmits"),),
    "skc_flags": (("sock_common", "skc_flags"),),
    "sk_lingertime": (("sock", "sk_lingertime"),),
    "sk_txhash": (("sock", "sk_txhash"),),
    "snd_una": (("tcp_sock", "snd_una"),),
    "write_seq": (("tcp_sock", "write_seq"),),
    "rcv_nxt": (("tcp_sock", "rcv_nxt"),),
    "copied_seq": (("tcp_sock", "copied_seq"),),
    "inet_sport": (("inet_sock", "inet_sport"),),
    "skc_listener": (("sock_common", "skc_listener"),),
    "ack_backlog": (("sock", "sk_ack_backlog"),),
    "max_ack_backlog": (("sock", "sk_max_ack_backlog"),),
    "abort_on_overflow": (("net", "ipv4.sysctl_tcp_abort_on_overflow"),),
    # Counts one more since fbb8295248e1 ("tcp: allocate tcp_death_row outside of struct netns_ipv4", v5.18), behind a
    # pointer until e9bd0cca09d1 ("tcp: Don't allocate tcp_death_row outside of struct netns_ipv4", v6.1).
    "tw_refcount": (("net", "ipv4.tcp_death_row.tw_refcount"),),
    "tw_count": (("net", "ipv4.tcp_death_row.tw_count"),),
    "tw_most": (("net", "ipv4.tcp_death_row.sysctl_max_tw_buckets"),),
    # A pointer since 8520e224f547 ("bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed mode", v5.15), packed before.
    "sk_cgroup": (("sock", "sk_cgrp_data.cgroup"), ("sock", "sk_cgrp_data.val")),
    "cgroup_kn": (("cgroup", "kn"),),
    "kernfs_id": (("kernfs_node", "id"),),
}
_OPTIONAL_BITS: Offsets = {
    "skc_ipv6only": (("sock_common", "skc_ipv6only"),),
    "fastopen_connect": (("tcp_sock", "fastopen_connect"),),
    "acked": (("inet_request_sock", "acked"),),
}
_CACHE_MOST = 8
_ELEMENTS_MOST = 10_000
"""No map has more; but the key that comes next, of one that is gone by then, is the first again."""
_FORMAT = 3
"""Grows when Bundle changes its shape."""
_COMMON = {"skc_net": 8, "skc_family": 2, "skc_num": 2, "skc_dport": 2, "skc_bound_dev_if": 4, "skc_cookie": 8}
_COMMON |= {"skc_rcv_saddr": 4, "skc_daddr": 4, "skc_v6_rcv_saddr": 16, "skc_v6_daddr": 16}

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
    mapped: tuple[str, ...] = ()
    """Maps that user space reads through a mapping of its own (BPF_F_MMAPABLE, Linux 5.5)."""
    plain: bool = False
    """Programs of tracepoints proper, which see the record of the tracepoint, not its arguments."""


TRACE = Source(
    file="sstrace.bpf.c",
    programs=HOOKS,
    maps=("configs", "events", "counts", "connecting", "connect", "expirings", "passings", "marked"),
    offsets=_OFFSETS,
    optional=_OPTIONAL_OFFSETS,
    bits=_OPTIONAL_BITS,
)
"""The programs of the event path."""

PLAIN = Source(file="plain.bpf.c", programs=("inet_sock_set_state",), maps=("events", "counts"), plain=True)
"""The event path without BTF: see the C file."""


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

    def pack(self) -> bytes:
        """Native byte order, 88 + 8 + 16 bytes as in the C struct."""
        ranges = (self.timer_lives + ((0, 0),) * _TIMER_RANGES)[:_TIMER_RANGES]
        starts, sizes = zip(*ranges, strict=True)
        functions = (self.fn_write_timer, self.fn_request, self.fn_timewait)
        return struct.pack("=3Q4Q4QQQII", *functions, *starts, *sizes, self.pidns_dev, self.pidns_ino, self.netns, 0)


def config(span: Callable[[str], tuple[int, int] | None], netns: int) -> Config:
    """What this boot's symbols and this process's namespaces say.

    ``span``: function name → (address, size), None when unknown. ``netns``: inode of the only network namespace to
    trace, 0 for all.
    """

    def address(name: str) -> int:
        found = span(name)
        return found[0] if found else 0

    lives = [found for found in map(span, _TIMER_LIVES) if found is not None]
    pidns = Path("/proc/self/ns/pid").stat()
    initial = 0xEFFFFFFC  # PROC_PID_INIT_INO, include/linux/proc_ns.h
    return Config(
        fn_write_timer=address("tcp_write_timer"),
        fn_request=address("reqsk_timer_handler"),
        fn_timewait=address("tw_timer_handler"),
        timer_lives=tuple(lives[:_TIMER_RANGES]),
        pidns_dev=0 if pidns.st_ino == initial else pidns.st_dev,
        pidns_ino=0 if pidns.st_ino == initial else pidns.st_ino,
        netns=netns,
    )


def source_directory() -> Path:
    """The directory of the C sources: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for directory in (package / "bpf", package.parent / "bpf"):
        if (directory / "sstrace.bpf.c").is_file():
            return directory
    raise FeatureError("the BPF sources are missing from this installation: install sstrace again")


def _macros(source: Source, btf: Btf) -> dict[str, int]:
    """The -D macros: every offset that the kernel has. A missing one that no program can do without is an error."""
    found: dict[str, int] = {}
    for name, places in (source.offsets | source.optional).items():
        offset = next((at for at in (btf.offset(*place) for place in places) if at is not None), None)
        if offset is not None:
            found[f"OFF_{name}"] = offset
        elif name in source.offsets:
            raise FeatureError(f"this kernel's BTF has no {places[0][0]}.{places[0][1]}: sstrace does not know it yet")
    for name, places in source.bits.items():
        bit = next((at for at in (btf.bit(*place) for place in places) if at is not None), None)
        if bit is not None:
            found[f"BYTE_{name}"], found[f"MASK_{name}"] = bit
    if "OFF_skc_v6_daddr" not in found or "OFF_skc_v6_rcv_saddr" not in found:
        found.pop("OFF_skc_v6_rcv_saddr", None)
    if "OFF_cgroup_kn" not in found or "OFF_kernfs_id" not in found:
        found.pop("OFF_sk_cgroup", None)
    found["COMMON_END"] = max(found.get(f"OFF_{name}", 0) + size for name, size in _COMMON.items())
    return found


def bundle(source: Source, cache: Path | None, macros: Mapping[str, int] | None = None) -> Bundle:
    """The compiled programs for this kernel: from ``cache`` (a directory of the caller's own) or from bcc.

    ``macros``: what is defined for the C source; default: the offsets that it asks for, from BTF.
    Raises FeatureError when there is no BTF, no bcc, or the compiler refuses.
    """
    if macros is None:
        with Btf() as btf:
            macros = _macros(source, btf)
    path = None
    if cache is not None:
        path = cache / f"bpf-{_cache_key(source, macros)}.msgpack"
        stored = _read_cache(path)
        if stored is not None:
            return stored
    compiled = _compile_in_child(source, macros)
    if path is not None:
        _write_cache(path, compiled)
    return compiled


def _cache_key(source: Source, macros: Mapping[str, int]) -> str:
    digest = hashlib.sha256()
    facts = source.file, _FORMAT, sorted(macros.items()), platform.machine(), _bcc_version(), sys.byteorder
    digest.update(repr(facts).encode())
    directory = source_directory()
    for file in sorted(directory.rglob("*.[ch]")):
        digest.update(file.relative_to(directory).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:32]


def _bcc_version() -> str:
    # Found without importing bcc, which costs 50 ms and loads LLVM.
    from importlib.util import find_spec

    spec = find_spec("bcc")
    if spec is None or spec.origin is None:
        return "none"
    version = Path(spec.origin).with_name("version.py")
    return version.read_text() if version.is_file() else "unknown"


def _age(path: Path) -> float:
    return -path.stat().st_mtime


def _read_cache(path: Path) -> Bundle | None:
    # What is read here goes into the kernel: nobody but us (or root) may have been able to write it.
    try:
        for place in (path, path.parent):
            status = place.stat()
            if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
                return None
        return msgspec.msgpack.decode(path.read_bytes(), type=Bundle)
    except (OSError, msgspec.MsgspecError):
        return None


def _write_cache(path: Path, compiled: Bundle) -> None:
    # A cache that cannot be written costs the next start 0.3 s and nothing else.
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(msgspec.msgpack.encode(compiled))
        temporary.chmod(0o600)
        temporary.replace(path)
        # What older kernels and releases left behind: nobody will ask for it again.
        for stale in sorted(path.parent.glob("bpf-*.msgpack"), key=_age)[_CACHE_MOST:]:
            stale.unlink(missing_ok=True)
    except OSError:
        return


def _compile_in_child(source: Source, macros: Mapping[str, int]) -> Bundle:
    answer_read, answer_write = os.pipe()
    errors_read, errors_write = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(answer_read)
            os.close(errors_read)
            os.dup2(errors_write, 1)
            os.dup2(errors_write, 2)
            with open(answer_write, "wb") as out:
                out.write(msgspec.msgpack.encode(_compile(source, macros)))
            status = 0
        except ImportError as error:
            os.write(errors_write, f"\nbcc: {error}".encode())
            status = 2
        except BaseException as error:
            os.write(errors_write, f"\n{error}".encode())
        finally:
            os._exit(status)
    os.close(answer_write)
    os.close(errors_write)
    # The compiler's complaints fit a pipe (64 KiB) many times over, so reading one pipe after the other cannot dead-
    # lock.
    with open(answer_read, "rb") as answers, open(errors_read, "rb") as complaints:
        answer, complaint = answers.read(), complaints.read().decode(errors="replace").strip()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return msgspec.msgpack.decode(answer, type=Bundle)
    if code == 2:
        raise FeatureError(
            "bcc for Python is not installed, and tracing needs it (--snapshot does not); "
            "Debian and Ubuntu: apt install python3-bpfcc; Fedora: dnf install python3-bcc"
        )
    lines = [line for line in complaint.splitlines() if line.strip()]
    detail = next((line for line in lines if "error:" in line), lines[-1] if lines else f"exit status {code}")
    if "Operation not permitted" in complaint:
        raise PrivilegeError(_not_permitted("create a BPF map"))
    raise FeatureError(f"bcc could not compile the BPF programs: {detail.strip()}")


def _compile(source: Source, macros: Mapping[str, int]) -> Bundle:
    """Run in the child: everything here may leave LLVM in memory."""
    directory = source_directory()
    os.environ["BCC_KERNEL_SOURCE"] = str(directory / "kheaders")
    from bcc import BPF, lib

    # bcc loads and attaches by function name as soon as it has compiled; here only the instructions are wanted.
    BPF._trace_autoload = lambda _: None
    flags = [f"-D{name}={value}" for name, value in macros.items()]
    compiled = BPF(text=_one_file(directory / source.file).encode(), cflags=flags)
    maps = []
    for name in source.maps:
        map_flags = _F_MMAPABLE if name in source.mapped else 0
        maps.append(_map_shape(name, lib.bpf_table_fd(compiled.module, name.encode()), map_flags))
    prefix = "plain__" if source.plain else "raw_tracepoint__"
    programs = {name: compiled.dump_func((prefix + name).encode()) for name in source.programs}
    return Bundle(programs=programs, maps=maps, plain=source.plain)


def _one_file(path: Path) -> str:
    """The source with its own headers put in their places: bcc rewrites ``map.lookup()`` in the main file alone."""
    lines = [f'#line 1 "{path.name}"']
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith('#include "'):
            lines += [_one_file(path.with_name(line.split('"')[1])), f'#line {number + 1} "{path.name}"']
        elif line != "#pragma once":
            lines.append(line)
        else:
            lines.append("")
    return "\n".join(lines) + "\n"


def _map_shape(name: str, fd: int, flags: int) -> MapShape:
    # struct bpf_map_info: type, id, key_size, value_size, max_entries, map_flags, name.
    info = ctypes.create_string_buffer(128)
    attr = struct.pack("=IIQ", fd, len(info), ctypes.addressof(info))
    if _bpf(_OBJ_GET_INFO_BY_FD, attr) < 0:
        raise OSError(ctypes.get_errno(), f"BPF_OBJ_GET_INFO_BY_FD of map {name}")
    kind, _, key_size, value_size, max_entries = struct.unpack_from("=5I", info)
    return MapShape(name, kind, key_size, value_size, max_entries, flags, fd)


_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attr: bytes) -> int:
    """bpf(2): the result, -1 with ctypes.get_errno() set on failure."""
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise FeatureError(f"sstrace does not know the bpf system call of {platform.machine()}")
    buffer = ctypes.create_string_buffer(attr, len(attr))
    return int(_libc.syscall(ctypes.c_long(number), ctypes.c_int(command), buffer, ctypes.c_uint(len(attr))))


def _not_permitted(what: str) -> str:
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
    return (
        f"the kernel refused to {what}: this root lacks CAP_BPF or CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8); "
        "in a container, start it with --privileged or add both"
    )


class Loaded:
    """Programs and maps in the kernel. ``maps`` gives the fd of each map by name. Closing it detaches everything."""

    def __init__(self, compiled: Bundle) -> None:
        self.maps: dict[str, int] = {}
        self._programs: dict[str, int] = {}
        self._links: dict[str, int] = {}
        self.missing: dict[str, str] = {}
        """Hooks that this kernel would not attach, and why."""
        try:
            for shape in compiled.maps:
                self.maps[shape.name] = _create_map(shape)
            stand_ins = {shape.fd: self.maps[shape.name] for shape in compiled.maps}
            for hook, instructions in compiled.programs.items():
                kind = _PROG_TYPE_TRACEPOINT if compiled.plain else _PROG_TYPE_RAW_TRACEPOINT
                self._programs[hook] = _load_program(hook, kind, _with_maps(instructions, stand_ins))
        except BaseException:
            self.close()
            raise

    def attach(self, without: Container[str] = ()) -> None:
        """Attach every hook but those in ``without``; what the kernel lacks goes into ``missing``. Raises when there is
        none at all.
        """
        for hook in HOOKS:
            if hook in without:
                self.missing[hook] = "left out"
                continue
            name = ctypes.create_string_buffer(hook.removesuffix("__again").encode())
            attr = struct.pack("=QII", ctypes.addressof(name), self._programs[hook], 0)
            fd = _bpf(_RAW_TRACEPOINT_OPEN, attr)
            if fd >= 0:
                self._links[hook] = fd
                continue
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(_not_permitted(f"attach to {hook}"))
            self.missing[hook] = os.strerror(error)
        if "inet_sock_set_state" in self.missing:
            raise FeatureError(
                "this kernel has no raw tracepoint inet_sock_set_state (Linux 4.17): nothing to trace with"
            )

    def attach_tracepoint(self, program: str, event_id: int) -> None:
        """Attach a plain program to the tracepoint of this id: one perf event, whose program then runs on every CPU."""
        # struct perf_event_attr: type (PERF_TYPE_TRACEPOINT), size, config, sample_period, sample_type, …
        attr = struct.pack("=IIQQQ", 2, 112, event_id, 1, 1 << 10).ljust(112, b"\0")
        fd = _libc.syscall(
            ctypes.c_long(perf_event_open_number()), attr, -1, 0, -1, ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC)
        )
        if fd < 0:
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(_not_permitted(f"open tracepoint {program}"))
            raise FeatureError(f"perf_event_open of tracepoint {program}: {os.strerror(error)}")
        self._links[program] = fd
        if _libc.ioctl(fd, _IOC_SET_BPF, self._programs[program]) < 0 or _libc.ioctl(fd, IOC_ENABLE, 0) < 0:
            raise FeatureError(f"no BPF program can be attached to {program}: {os.strerror(ctypes.get_errno())}")

    def run(self, program: str) -> None:
        """Run a program once, now, on this CPU (BPF_PROG_TEST_RUN of a raw tracepoint, Linux 5.10)."""
        attr = struct.pack("=IIIIQQIIIIQQIIII", self._programs[program], *(0,) * 15)
        if _bpf(_PROG_TEST_RUN, attr) < 0:
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(_not_permitted(f"run {program}"))
            raise FeatureError(f"the kernel would not run {program}: {os.strerror(error)}")

    def update(self, name: str, key: int, value: bytes) -> None:
        """Write one element of an array map."""
        self.put(name, struct.pack("=I", key), value)

    def put(self, name: str, key: bytes, value: bytes) -> None:
        """Write one element of a map."""
        key_buffer = ctypes.create_string_buffer(key, len(key))
        value_buffer = ctypes.create_string_buffer(value, len(value))
        fd = self.maps[name]
        attr = struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), 0)
        if _bpf(_MAP_UPDATE_ELEM, attr) < 0:
            raise FeatureError(f"BPF map {name}: {os.strerror(ctypes.get_errno())}")

    def delete(self, name: str, key: bytes) -> bool:
        """Take one element out of a map; whether it was there."""
        key_buffer = ctypes.create_string_buffer(key, len(key))
        return _bpf(_MAP_DELETE_ELEM, struct.pack("=IIQ", self.maps[name], 0, ctypes.addressof(key_buffer))) >= 0

    def elements(self, name: str, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys of a map, and their values as they are then. One that comes or goes meanwhile may be passed over, or
        come twice.
        """
        key, found = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(key_size)
        value = ctypes.create_string_buffer(value_size)
        fd, at = self.maps[name], 0  # 0: before the first
        for _ in range(_ELEMENTS_MOST):
            if _bpf(_MAP_GET_NEXT_KEY, struct.pack("=IIQQ", fd, 0, at, ctypes.addressof(found))) < 0:
                return
            key.raw, at = found.raw, ctypes.addressof(key)
            if _bpf(_MAP_LOOKUP_ELEM, struct.pack("=IIQQQ", fd, 0, at, ctypes.addressof(value), 0)) >= 0:
                yield key.raw, value.raw

    def lookup_per_cpu(self, name: str, count: int) -> tuple[int, ...]:
        """Element 0 of a per-CPU array, whose values consist of u64: ``count`` of them, one possible CPU's behind the
        other's.
        """
        key_buffer = ctypes.create_string_buffer(4)
        values = (ctypes.c_uint64 * count)()
        attr = struct.pack("=IIQQQ", self.maps[name], 0, ctypes.addressof(key_buffer), ctypes.addressof(values), 0)
        if _bpf(_MAP_LOOKUP_ELEM, attr) < 0:
            raise FeatureError(f"BPF map {name}: {os.strerror(ctypes.get_errno())}")
        return tuple(values)

    def close(self) -> None:
        """Detach and unload; harmless when done twice."""
        for group in (self._links, self._programs, self.maps):
            for fd in group.values():
                os.close(fd)
            group.clear()


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


def _create_map(shape: MapShape) -> int:
    entries = possible_cpus() if shape.type == _MAP_TYPE_PERF_EVENT_ARRAY else shape.max_entries
    name = shape.name.encode()[:15]
    attr = struct.pack("=7I16s", shape.type, shape.key_size, shape.value_size, entries, shape.flags, 0, 0, name)
    fd = _bpf(_MAP_CREATE, attr)
    if fd >= 0:
        return fd
    error = ctypes.get_errno()
    if error in (errno.EPERM, errno.EACCES):
        raise PrivilegeError(_not_permitted("create a BPF map"))
    if error == errno.ENOSYS:
        raise FeatureError("this kernel has no bpf system call (CONFIG_BPF_SYSCALL)")
    raise FeatureError(f"the kernel would not create BPF map {shape.name}: {os.strerror(error)}")


def _with_maps(instructions: bytes, stand_ins: Mapping[int, int]) -> bytes:
    """The instructions with each map's stand-in fd replaced by its real one (struct bpf_insn: op, registers, off,
    imm).
    """
    code = bytearray(instructions)
    for at in range(0, len(code), 8):
        if code[at] == _LD_IMM64 and code[at + 1] >> 4 == _PSEUDO_MAP_FD:
            (fd,) = struct.unpack_from("=i", code, at + 4)
            struct.pack_into("=i", code, at + 4, stand_ins[fd])
    return bytes(code)


def _load_program(hook: str, kind: int, instructions: bytes) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 16)

    def attempt(log_level: int) -> int:
        attr = struct.pack(
            "=IIQQIIQII16s",
            kind,
            len(instructions) // 8,
            ctypes.addressof(code),
            ctypes.addressof(license_text),
            log_level,
            len(log) if log_level else 0,
            ctypes.addressof(log) if log_level else 0,
            0,
            0,
            hook.encode()[:15],
        )
        return _bpf(_PROG_LOAD, attr)

    fd = attempt(0)
    if fd >= 0:
        return fd
    error = ctypes.get_errno()
    if error in (errno.EPERM, errno.EACCES) and attempt(1) < 0 and not log.value.strip():
        raise PrivilegeError(_not_permitted(f"load the program for {hook}"))
    if not log.value:
        attempt(1)
    lines = [
        line for line in log.value.decode(errors="replace").splitlines() if line and not line.startswith("processed")
    ]
    detail = lines[-1] if lines else os.strerror(error)
    raise FeatureError(f"the kernel's verifier refused the program for {hook}: {detail}")


def load(compiled: Bundle) -> Loaded:
    """Put the programs into the kernel; nothing is attached yet. Raises PrivilegeError or FeatureError with one
    sentence.
    """
    # Before Linux 5.11 maps count against RLIMIT_MEMLOCK (d5299b67dd59, "bpf: Memcg-based memory accounting for bpf
    # maps").
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return Loaded(compiled)
