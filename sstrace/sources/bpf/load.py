"""The programs and their maps in the kernel, and attached. Plain bpf(2): include/uapi/linux/bpf.h."""

import contextlib
import ctypes
import errno
import mmap
import os
import struct
import sys
from collections.abc import Container, Iterable, Iterator, Mapping

from sstrace.errors import FeatureError, PrivilegeError, SstraceError
from sstrace.sources.bpf.programs import HOOKS, Bundle, MapShape
from sstrace.sources.bpf.syscall import (
    IOC_ENABLE,
    IOC_SET_BPF,
    bpf,
    bpf_into,
    libc,
    no_memory,
    not_permitted,
    perf_event_open_number,
    possible_cpus,
)
from sstrace.sources.privilege import without_capabilities

__all__ = ["Loaded", "load", "map_values", "maps_take_a_capability"]

_PERF_FLAG_FD_CLOEXEC = 8
_MAP_CREATE = 0
_MAP_LOOKUP_ELEM = 1
_MAP_UPDATE_ELEM = 2
_MAP_DELETE_ELEM = 3
_MAP_GET_NEXT_KEY = 4
_PROG_LOAD = 5
_MAP_LOOKUP_AND_DELETE_BATCH = 25
_BATCH = 4096
_PROG_TEST_RUN = 10
_RAW_TRACEPOINT_OPEN = 17
_LINK_CREATE = 28
_OBJ_GET_INFO_BY_FD = 15
_RECURSION_MISSES = 208
"""Of struct bpf_prog_info, include/uapi/linux/bpf.h; Linux 5.12."""
_PROG_TYPE_TRACEPOINT = 5
_PROG_TYPE_RAW_TRACEPOINT = 17
_MAP_TYPE_ARRAY = 2
_MAP_TYPE_PERF_EVENT_ARRAY = 4
_PSEUDO_MAP_FD = 1
_LD_IMM64 = 0x18
_ELEMENTS_MOST = 10_000
"""No map has more; but the key that comes next, of one that is gone by then, is the first again."""


class Loaded:
    """Programs and maps in the kernel. ``maps`` gives the fd of each map by name. Closing it detaches everything."""

    def __init__(self, compiled: Bundle, shared: Mapping[str, int] | None = None) -> None:
        """``shared``: descriptors of maps, by name, that others have made, and these programs are to use."""
        self.maps: dict[str, int] = {}
        self._programs: dict[str, int] = {}
        self._hooks: dict[str, int] = {}
        """BPF_CGROUP_* of programs of a cgroup's hooks; 0 of others."""
        self._links: dict[str, int] = {}
        self._batches: dict[str, tuple[ctypes.Array[ctypes.c_char], ...]] = {}
        """What ``take_all`` has read last, by map."""
        self.missing: dict[str, str] = {}
        """Hooks that this kernel would not attach, and why."""
        try:
            for shape in compiled.maps:
                given = (shared or {}).get(shape.name)
                self.maps[shape.name] = os.dup(given) if given is not None else _create_map(shape)
            stand_ins = {shape.fd: self.maps[shape.name] for shape in compiled.maps}
            for hook, instructions in compiled.programs.items():
                plain = compiled.plain and hook not in compiled.raw
                kind = _PROG_TYPE_TRACEPOINT if plain else _PROG_TYPE_RAW_TRACEPOINT
                kind, self._hooks[hook] = compiled.cgroup.get(hook, (kind, 0))
                code = _with_maps(instructions, stand_ins)
                self._programs[hook] = _load_program(hook, kind, code, self._hooks[hook])
        except BaseException:
            self.close()
            raise

    def attach(self, without: Container[str] = ()) -> None:
        """Attach every hook of the event path but those in ``without``; what the kernel lacks goes into ``missing``.
        Raises when there is none at all.
        """
        self.attach_to([hook for hook in HOOKS if hook not in without])
        self.missing |= {hook: "left out" for hook in HOOKS if hook in without}
        if "inet_sock_set_state" in self.missing:
            raise FeatureError(
                "this kernel has no raw tracepoint inet_sock_set_state (Linux 4.17): nothing to trace with"
            )

    def attach_to(self, hooks: Iterable[str]) -> None:
        """Attach these; what the kernel lacks goes into ``missing``."""
        for hook in hooks:
            name = ctypes.create_string_buffer(hook.removesuffix("__again").encode())
            attr = struct.pack("=QII", ctypes.addressof(name), self._programs[hook], 0)
            fd = bpf(_RAW_TRACEPOINT_OPEN, attr)
            if fd >= 0:
                self._links[hook] = fd
                continue
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(not_permitted(f"attach to {hook}"))
            self.missing[hook] = os.strerror(error)

    def attach_tracepoint(self, program: str, event_id: int) -> None:
        """Attach a plain program to the tracepoint of this id: one perf event, whose program then runs on every CPU."""
        # struct perf_event_attr: type (PERF_TYPE_TRACEPOINT), size, config, sample_period, sample_type, …
        attr = struct.pack("=IIQQQ", 2, 112, event_id, 1, 1 << 10).ljust(112, b"\0")
        fd = libc.syscall(
            ctypes.c_long(perf_event_open_number()), attr, -1, 0, -1, ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC)
        )
        if fd < 0:
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(not_permitted(f"open tracepoint {program}"))
            raise FeatureError(f"perf_event_open of tracepoint {program}: {os.strerror(error)}")
        self._links[program] = fd
        if libc.ioctl(fd, IOC_SET_BPF, self._programs[program]) < 0 or libc.ioctl(fd, IOC_ENABLE, 0) < 0:
            raise FeatureError(f"no BPF program can be attached to {program}: {os.strerror(ctypes.get_errno())}")

    def attach_cgroup(self, program: str, cgroup: int) -> None:
        """Attach a program of a cgroup's hook to this cgroup (a descriptor) beside those of others, until it is
        closed, however this process ends (BPF_LINK_CREATE of cgroups, Linux 5.7).
        """
        fd = bpf(_LINK_CREATE, struct.pack("=IIII", self._programs[program], cgroup, self._hooks[program], 0))
        if fd >= 0:
            self._links[program] = fd
            return
        error = ctypes.get_errno()
        if error == errno.EPERM:
            raise FeatureError(f"somebody else's program at the root of the cgroups lets no other hear {program}")
        raise FeatureError(f"no BPF program can be attached to a cgroup's {program}: {os.strerror(error)}")

    def misses(self, program: str) -> int:
        """How often the kernel has not run a program that was due: within another, or beside one that was kept from
        running to its end by a task of more importance; 0, too, where the kernel does not count that.
        """
        info = ctypes.create_string_buffer(_RECURSION_MISSES + 8)
        attr = struct.pack("=IIQ", self._programs[program], len(info), ctypes.addressof(info))
        if bpf(_OBJ_GET_INFO_BY_FD, attr) < 0:
            return 0
        return int.from_bytes(info.raw[_RECURSION_MISSES:], sys.byteorder)

    def run(self, program: str) -> None:
        """Run a program once, now, on this CPU (BPF_PROG_TEST_RUN of a raw tracepoint, Linux 5.10)."""
        attr = struct.pack("=IIIIQQIIIIQQIIII", self._programs[program], *(0,) * 15)
        if bpf(_PROG_TEST_RUN, attr) < 0:
            error = ctypes.get_errno()
            if error in (errno.EPERM, errno.EACCES):
                raise PrivilegeError(not_permitted(f"run {program}"))
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
        if bpf(_MAP_UPDATE_ELEM, attr) < 0:
            raise FeatureError(f"BPF map {name}: {os.strerror(ctypes.get_errno())}")

    def delete(self, name: str, key: bytes) -> bool:
        """Take one element out of a map; whether it was there."""
        key_buffer = ctypes.create_string_buffer(key, len(key))
        return bpf(_MAP_DELETE_ELEM, struct.pack("=IIQ", self.maps[name], 0, ctypes.addressof(key_buffer))) >= 0

    def elements(self, name: str, key_size: int, value_size: int) -> Iterator[tuple[bytes, bytes]]:
        """The keys of a map, and their values as they are then. One that comes or goes meanwhile may be passed over, or
        come twice.
        """
        key, found = ctypes.create_string_buffer(key_size), ctypes.create_string_buffer(key_size)
        value = ctypes.create_string_buffer(value_size)
        fd, at = self.maps[name], 0  # 0: before the first
        for _ in range(_ELEMENTS_MOST):
            if bpf(_MAP_GET_NEXT_KEY, struct.pack("=IIQQ", fd, 0, at, ctypes.addressof(found))) < 0:
                return
            key.raw, at = found.raw, ctypes.addressof(key)
            if bpf(_MAP_LOOKUP_ELEM, struct.pack("=IIQQQ", fd, 0, at, ctypes.addressof(value), 0)) >= 0:
                yield key.raw, value.raw

    def take_all(self, name: str, key_size: int, value_size: int) -> list[bytes]:
        """The values of a hash map, which is empty afterwards but for what has come meanwhile
        (BPF_MAP_LOOKUP_AND_DELETE_BATCH, Linux 5.6).
        """
        if name not in self._batches:
            sizes = 8, 8, _BATCH * key_size, _BATCH * value_size
            self._batches[name] = tuple(ctypes.create_string_buffer(size) for size in sizes)
        begin, following, keys, values = self._batches[name]
        found: list[bytes] = []
        at = 0  # before the first
        while True:
            pointers = at, *map(ctypes.addressof, (following, keys, values))
            attr = ctypes.create_string_buffer(struct.pack("=QQQQIIQQ", *pointers, _BATCH, self.maps[name], 0, 0))
            done = bpf_into(_MAP_LOOKUP_AND_DELETE_BATCH, attr)
            error = ctypes.get_errno()
            if done < 0 and error != errno.ENOENT:
                raise FeatureError(f"BPF map {name}: {os.strerror(error)}")
            (taken,) = struct.unpack_from("=I", attr, 32)
            view = memoryview(values).cast("B")
            found += [bytes(view[place : place + value_size]) for place in range(0, taken * value_size, value_size)]
            if done < 0:  # the end
                return found
            begin.raw, at = following.raw, ctypes.addressof(begin)

    def lookup_per_cpu(self, name: str, count: int) -> tuple[int, ...]:
        """Element 0 of a per-CPU array, whose values consist of u64: ``count`` of them, one possible CPU's behind the
        other's.
        """
        key_buffer = ctypes.create_string_buffer(4)
        values = (ctypes.c_uint64 * count)()
        attr = struct.pack("=IIQQQ", self.maps[name], 0, ctypes.addressof(key_buffer), ctypes.addressof(values), 0)
        if bpf(_MAP_LOOKUP_ELEM, attr) < 0:
            raise FeatureError(f"BPF map {name}: {os.strerror(ctypes.get_errno())}")
        return tuple(values)

    def close(self) -> None:
        """Detach and unload; harmless when done twice."""
        for group in (self._links, self._programs, self.maps):
            for fd in group.values():
                os.close(fd)
            group.clear()


def maps_take_a_capability() -> bool:
    """Whether a map can be read with CAP_BPF alone, by its descriptor, too: before Linux 5.19, where
    kernel.unprivileged_bpf_disabled says so (c8644cd0efe7 "bpf: refine kernel.unprivileged_bpf_disabled behaviour").
    """
    try:
        fd = _create_map(MapShape("probe", _MAP_TYPE_ARRAY, 4, 8, 1, 0, -1))
    except SstraceError:
        return False
    key, value = ctypes.create_string_buffer(4), ctypes.create_string_buffer(8)
    attr = struct.pack("=IIQQQ", fd, 0, ctypes.addressof(key), ctypes.addressof(value), 0)
    try:
        with without_capabilities():
            return bpf(_MAP_LOOKUP_ELEM, attr) < 0
    finally:
        os.close(fd)


def _create_map(shape: MapShape) -> int:
    entries = possible_cpus() if shape.type == _MAP_TYPE_PERF_EVENT_ARRAY else shape.max_entries
    name = shape.name.encode()[:15]
    attr = struct.pack("=7I16s", shape.type, shape.key_size, shape.value_size, entries, shape.flags, 0, 0, name)
    fd = bpf(_MAP_CREATE, attr)
    if fd >= 0:
        return fd
    error = ctypes.get_errno()
    if error in (errno.EPERM, errno.EACCES):
        raise PrivilegeError(not_permitted("create a BPF map"))
    if error == errno.ENOMEM:
        raise FeatureError(no_memory(f"BPF map {shape.name}"))
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


def _load_program(hook: str, kind: int, instructions: bytes, attach_type: int) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 16)

    def attempt(log_level: int) -> int:
        attr = struct.pack(
            "=IIQQIIQII16sII",
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
            0,
            attach_type,
        )
        return bpf(_PROG_LOAD, attr)

    fd = attempt(0)
    if fd >= 0:
        return fd
    error = ctypes.get_errno()
    if error in (errno.EPERM, errno.EACCES) and attempt(1) < 0 and not log.value.strip():
        raise PrivilegeError(not_permitted(f"load the program for {hook}"))
    if error == errno.ENOMEM:
        raise FeatureError(no_memory(f"the program for {hook}"))
    if not log.value:
        attempt(1)
    lines = [
        line for line in log.value.decode(errors="replace").splitlines() if line and not line.startswith("processed")
    ]
    detail = lines[-1] if lines else os.strerror(error)
    raise FeatureError(f"the kernel's verifier refused the program for {hook}: {detail}")


def load(compiled: Bundle, shared: Mapping[str, int] | None = None) -> Loaded:
    """Put the programs into the kernel; nothing is attached yet. ``shared``: see Loaded. Raises PrivilegeError or
    FeatureError with one sentence.
    """
    # Before Linux 5.11 maps count against RLIMIT_MEMLOCK (d5299b67dd59, "bpf: Memcg-based memory accounting for bpf
    # maps").
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return Loaded(compiled, shared)


def map_values(fd: int, size: int) -> mmap.mmap:
    """Map the values of an array that was made for it (``Source.mapped``). Raises FeatureError."""
    whole = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    try:
        return mmap.mmap(fd, whole, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise FeatureError(f"a BPF map cannot be mapped (Linux 5.5 can): {os.strerror(error.errno or 0)}") from None
