"""--bpf-maps and --bpf-map-id: a real map of socket storage, made with a BTF of three fields, a value in it, and its
text.

ss prints the same with the same libbpf (tried with 6.15); here the expected lines stand in the test, because the
installed ss may be older than the option.
"""

import ctypes
import os
import platform
import socket
import struct
import sys

import pytest
from conftest import Netns, unmet

pytestmark = [pytest.mark.root, pytest.mark.bpf]

_MAP_CREATE, _MAP_UPDATE_ELEM, _OBJ_GET_INFO_BY_FD, _BTF_LOAD = 0, 2, 15, 18
_SK_STORAGE, _NO_PREALLOC = 24, 1
_NUMBER = {"x86_64": 321, "aarch64": 280, "riscv64": 280}.get(platform.machine(), 0)
_libc = ctypes.CDLL(None, use_errno=True)


def bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result = int(_libc.syscall(_NUMBER, command, buffer, len(buffer)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def btf() -> bytes:
    """``struct val { int a; u64 b; u32 c[2]; }``: types 1 int, 2 u64, 3 u32, 4 the array, 5 the struct."""
    names = ["", "int", "u64", "u32", "val", "a", "b", "c"]
    strings = b"".join(name.encode() + b"\0" for name in names)
    at = {name: strings.index(b"\0" + name.encode() + b"\0") + 1 for name in names[1:]}

    def kind(number: int, members: int = 0) -> int:
        return number << 24 | members

    types = struct.pack("=4I", at["int"], kind(1), 4, 1 << 24 | 32)
    types += struct.pack("=4I", at["u64"], kind(1), 8, 64)
    types += struct.pack("=4I", at["u32"], kind(1), 4, 32)
    types += struct.pack("=6I", 0, kind(3), 0, 3, 1, 2)
    types += struct.pack("=3I", at["val"], kind(4, 3), 24)
    types += struct.pack("=9I", at["a"], 1, 0, at["b"], 2, 64, at["c"], 4, 128)
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


@pytest.fixture
def storage() -> tuple[int, int]:
    """A map: its descriptor and id."""
    if not _NUMBER:
        unmet("kernel lacks nothing, but this machine's system call numbers are not known here")
    blob = ctypes.create_string_buffer(btf())
    try:
        loaded = bpf(_BTF_LOAD, struct.pack("=QQIII", ctypes.addressof(blob), 0, len(btf()), 0, 0))
        attributes = struct.pack("=7I16s4I", _SK_STORAGE, 4, 24, 0, _NO_PREALLOC, 0, 0, b"kept", 0, loaded, 1, 5)
        created = bpf(_MAP_CREATE, attributes)
    except OSError as error:
        unmet(f"kernel lacks BPF socket storage: {error}")
    info = ctypes.create_string_buffer(88)
    bpf(_OBJ_GET_INFO_BY_FD, struct.pack("=IIQ", created, len(info), ctypes.addressof(info)))
    return created, struct.unpack_from("=I", info, 4)[0]


def test_a_value_in_a_socket(netns: Netns, storage: tuple[int, int]) -> None:
    created, number = storage
    listener = netns.call(socket.create_server, ("127.0.0.1", 8099))
    other = netns.call(socket.create_server, ("127.0.0.1", 8100))
    key = ctypes.create_string_buffer(struct.pack("=i", listener.fileno()))
    value = ctypes.create_string_buffer(struct.pack("=iIQII", -5, 0, 1 << 40, 7, 0), 24)
    bpf(
        _MAP_UPDATE_ELEM,
        struct.pack("=IIQQQ", created, 0, ctypes.addressof(key), ctypes.addressof(value), 0),
    )

    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS"}

    def ask(*words: str) -> tuple[int, str, str]:
        command = (sys.executable, "-m", "sstrace", "--snapshot", "--ss-version", "7.1")
        done = netns.run(*command, *words, check=False, env=environ)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    with listener, other:
        plain = "LISTEN 0      128    127.0.0.1:8099 0.0.0.0:*"
        text = (
            f"{plain}\n\tmap_id:{number} [\n"
            "\t\t(struct val){\n"
            "\t\t\t.a = (int)-5,\n"
            "\t\t\t.b = (u64)1099511627776,\n"
            "\t\t\t.c = (u32[2])[\n\t\t\t\t7,\n\t\t\t\t0,\n\t\t\t],\n"
            "\t\t}\n\t]\n"
        )
        line = f"{plain} map_id:{number}(struct val){{.a = (int)-5,.b = (u64)1099511627776,.c = (u32[2])[7,0,],}}\n"
        only = ("sport", "=", "8099")
        assert ask("-Htln", "--bpf-maps", *only) == (0, text, "")
        assert ask("-Htln", f"--bpf-map-id={number}", *only) == (0, text, "")
        assert ask("-HtlnO", f"--bpf-map-id={number}", f"--bpf-map-id={number}", *only) == (0, line, "")
        assert ask("-Htln", "--bpf-maps", "sport", "=", "8100") == (0, plain.replace("8099", "8100") + "\n", "")
        assert ask("-tln", "--bpf-map-id=4294967294") == (1, "", "ss: cannot get fd for BPF map ID 4294967294\n")
    os.close(created)
