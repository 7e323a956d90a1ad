"""The programs compiled by bcc in a child process, and cached.

bcc's LLVM stays in memory for good once it has compiled (over 100 MB), so a child compiles and hands back what the
kernel needs: instructions and map shapes. What depends on the boot (addresses, namespaces) goes into the config map,
so the same instructions serve every boot of a kernel, and are cached under a key made of everything they depend on:
our C sources, the member offsets, the machine and bcc's version.

The only module that imports bcc, and only in that child.
"""

import ctypes
import hashlib
import os
import platform
import struct
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from sstrace.errors import FeatureError, PrivilegeError
from sstrace.sources import files
from sstrace.sources.bindings import bcc_advice
from sstrace.sources.bpf.load import Loaded, load
from sstrace.sources.bpf.offsets import figure_macros
from sstrace.sources.bpf.offsets import macros as offset_macros
from sstrace.sources.bpf.programs import Bundle, MapShape, Source
from sstrace.sources.bpf.syscall import bpf, no_memory, not_permitted
from sstrace.sources.btf import Btf

__all__ = ["bundle", "ready", "source_directory"]

T = TypeVar("T")

_OBJ_GET_INFO_BY_FD = 15
_F_MMAPABLE = 1 << 10
_CACHE_MOST = 8
_FORMAT = 6
"""Grows when what is in a file of the cache changes its shape."""
_SUM = hashlib.sha256().digest_size


def source_directory() -> Path:
    """The directory of the C sources: inside the installed package, else beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    for directory in (package / "bpf", package.parent / "bpf"):
        if (directory / "sstrace.bpf.c").is_file():
            return directory
    raise FeatureError("the BPF sources are missing from this installation: install sstrace again")


def ready(
    source: Source,
    cache: Path | None,
    reader: Callable[[Loaded], T],
    macros: Mapping[str, int] | None = None,
    *,
    shared: Mapping[str, int] | None = None,
) -> tuple[Loaded, T]:
    """Put the programs of ``bundle`` into the kernel, and make what reads them. What was cached and is refused, by the
    verifier or by the reader, is compiled once more: a cache that is damaged heals. ``shared``: see Loaded.

    Raises what ``bundle``, ``load`` and ``reader`` raise.
    """
    compiled, stored = _bundle(source, cache, macros)
    try:
        return _loaded(compiled, reader, shared)
    except (FeatureError, OSError, ValueError, LookupError):
        if not stored:
            raise
    return _loaded(_bundle(source, cache, macros, fresh=True)[0], reader, shared)


def _loaded(compiled: Bundle, reader: Callable[[Loaded], T], shared: Mapping[str, int] | None) -> tuple[Loaded, T]:
    loaded = load(compiled, shared)
    try:
        return loaded, reader(loaded)
    except BaseException:
        loaded.close()
        raise


def bundle(source: Source, cache: Path | None, macros: Mapping[str, int] | None = None) -> Bundle:
    """The compiled programs for this kernel: from ``cache`` (a directory of the caller's own) or from bcc.

    ``macros``: what is defined for the C source; default: the offsets that it asks for, from BTF.
    Raises FeatureError when there is no BTF, no bcc, or the compiler refuses.
    """
    return _bundle(source, cache, macros)[0]


def _bundle(
    source: Source, cache: Path | None, macros: Mapping[str, int] | None, *, fresh: bool = False
) -> tuple[Bundle, bool]:
    """The bundle, and whether it was in the cache, where ``fresh`` does not look."""
    if macros is None:
        with Btf() as btf:
            macros = offset_macros(source.offsets, source.optional, source.bits, btf)
            macros |= figure_macros(source.figures, btf) | dict.fromkeys(source.defines, 1)
    path = None
    if cache is not None:
        path = cache / f"bpf-{_cache_key(source, macros)}.msgpack"
        stored = None if fresh else _read_cache(path)
        if stored is not None and _is_of(stored, source):
            return stored, True
    compiled = _compile_in_child(source, macros)
    if path is not None:
        _write_cache(path, compiled)
    return compiled, False


def _is_of(stored: Bundle, source: Source) -> bool:
    return set(stored.programs) == set(source.programs) and [shape.name for shape in stored.maps] == [*source.maps]


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


def _read_cache(path: Path) -> Bundle | None:
    # What is read here goes into the kernel: nobody but us (or root) may have been able to write it.
    try:
        data = files.read_trusted(str(path))
        if hashlib.sha256(data[_SUM:]).digest() != data[:_SUM]:
            return None
        return msgspec.msgpack.decode(data[_SUM:], type=Bundle)
    except (OSError, msgspec.MsgspecError, RecursionError):
        return None


def _write_cache(path: Path, compiled: Bundle) -> None:
    # A cache that cannot be written costs the next start 0.3 s and nothing else. What older kernels and releases left
    # behind nobody will ask for again.
    with suppress(OSError):
        data = msgspec.msgpack.encode(compiled)
        files.write_trusted(str(path), hashlib.sha256(data).digest() + data, most=_CACHE_MOST)


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
        raise FeatureError(f"bcc for Python cannot be imported, and tracing needs it: {bcc_advice()}")
    lines = [line for line in complaint.splitlines() if line.strip()]
    detail = next((line for line in lines if "error:" in line), lines[-1] if lines else f"exit status {code}")
    if "Operation not permitted" in complaint:
        raise PrivilegeError(not_permitted("create a BPF map"))
    if "Cannot allocate memory" in complaint:
        raise FeatureError(no_memory("the BPF programs"))
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
    return Bundle(programs=programs, maps=maps, plain=source.plain, cgroup=dict(source.cgroup), raw=source.raw)


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
    if bpf(_OBJ_GET_INFO_BY_FD, attr) < 0:
        raise OSError(ctypes.get_errno(), f"BPF_OBJ_GET_INFO_BY_FD of map {name}")
    kind, _, key_size, value_size, max_entries = struct.unpack_from("=5I", info)
    return MapShape(name, kind, key_size, value_size, max_entries, flags, fd)
