"""Real sockets asked of the real kernel, compared with what the sockets say of themselves."""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sstrace.errors import FeatureError, KernelError
from sstrace.model import AF_INET, AF_INET6, ALL_STATES, InetSocket, State, Table
from sstrace.sources.diag import (
    SKNLGRP_INET6_TCP_DESTROY,
    SKNLGRP_INET_TCP_DESTROY,
    SKNLGRP_INET_UDP_DESTROY,
    Diag,
)
from sstrace.sources.names import SystemNames
from sstrace.sources.proc import ProcFiles, owners
from sstrace.wire import inet_diag, netlink_diag, packet_diag, proc_net, tcp_info, unix_diag
from sstrace.wire.netlink import Batch

if TYPE_CHECKING:
    from conftest import Netns, Program

pytestmark = pytest.mark.root

MPTCP = 262


@pytest.fixture
def keep() -> Iterator[Callable[[socket.socket], socket.socket]]:
    """Holds sockets open until the test ends."""
    with ExitStack() as stack:
        yield stack.enter_context


def sweep(request: bytes, decode: Callable[[memoryview], Batch[Any]]) -> list[Any]:
    rows: list[Any] = []
    with Diag() as diag:
        diag.send(request)
        for datagram in diag:
            batch = decode(datagram)
            rows += batch.rows
            if batch.done:
                assert batch.error == 0, os.strerror(batch.error)
                break
    return rows


def inet(table: Table, family: int = AF_INET, ext: int = 0) -> list[InetSocket]:
    request = inet_diag.dump_request(table, family, ALL_STATES, ext=ext)
    return sweep(request, lambda datagram: inet_diag.decode(datagram, table))


def ino(made: socket.socket) -> int:
    return os.fstat(made.fileno()).st_ino


def cookie(made: socket.socket) -> int:
    return int.from_bytes(made.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)  # SO_COOKIE


def one(rows: list[Any], made: socket.socket) -> Any:
    (row,) = [row for row in rows if row.ino == ino(made)]
    return row


def packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address.partition("%")[0])


Keep = Callable[[socket.socket], socket.socket]


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
@pytest.mark.parametrize("protocol", [0, MPTCP])
def test_a_connection(netns: "Netns", keep: Keep, family: socket.AddressFamily, address: str, protocol: int) -> None:
    def check() -> None:
        try:
            listener = keep(socket.socket(family, socket.SOCK_STREAM, protocol))
        except OSError:
            pytest.skip("kernel lacks MPTCP")
        listener.bind((address, 0))
        listener.listen(3)
        client = keep(socket.socket(family, socket.SOCK_STREAM, protocol))
        client.connect(listener.getsockname()[:2])
        server = keep(listener.accept()[0])
        client.sendall(b"eleven byte")
        table = Table.MPTCP if protocol else Table.TCP
        rows = inet(table, int(family), inet_diag.extensions(memory=True, info=True))
        waits, calls, serves = (one(rows, made) for made in (listener, client, server))
        assert (waits.state, waits.send_q, waits.sport) == (State.LISTEN, 3, listener.getsockname()[1])
        for row, made in ((calls, client), (serves, server)):
            here, there = made.getsockname(), made.getpeername()
            assert (row.table, row.family, row.state) == (table, int(family), State.ESTABLISHED)
            assert (row.src, row.sport) == (packed(family, here[0]), here[1])
            assert (row.dst, row.dport) == (packed(family, there[0]), there[1])
            assert (row.cookie, row.uid) == (cookie(made), os.getuid())
            assert row.extras.skmem[1] == made.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            assert row.extras.skmem[3] == made.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        if protocol:
            assert serves.recv_q > 11  # memory, not bytes: net/mptcp/mptcp_diag.c
            assert tcp_info.decode_mptcp_info(calls.extras.info).token != 0
        else:
            assert serves.recv_q == 11
            asked = tcp_info.decode_tcp_info(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512))
            told = tcp_info.decode_tcp_info(calls.extras.info)
            for field in (
                "state",
                "bytes_sent",
                "segs_out",
                "snd_mss",
                "advmss",
                "snd_wscale",
                "rcv_wscale",
                "options",
            ):
                assert getattr(told, field) == getattr(asked, field), field
            assert told.bytes_sent == 11

    netns.call(check)


def test_udp(netns: "Netns", keep: Keep) -> None:
    def check() -> None:
        four, six = keep(socket.socket(type=socket.SOCK_DGRAM)), keep(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        four.bind(("127.0.0.5", 0))
        four.connect(("127.0.0.6", 9))
        six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        six.bind(("::", 0))
        row = one(inet(Table.UDP), four)
        assert (row.src, row.sport, row.dst, row.dport) == (b"\x7f\0\0\5", four.getsockname()[1], b"\x7f\0\0\6", 9)
        row = one(inet(Table.UDP, AF_INET6), six)
        assert (row.src, row.sport, row.extras.v6only, row.state) == (
            bytes(16),
            six.getsockname()[1],
            True,
            State.CLOSE,
        )

    netns.call(check)


def test_exact_requests_find_one_socket_and_destroy_it(netns: "Netns", keep: Keep) -> None:
    def ask(request: bytes) -> Batch[InetSocket]:
        with Diag() as diag:
            diag.send(request)
            return inet_diag.decode(diag.receive(), Table.TCP)

    def check() -> None:
        listener = keep(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = keep(socket.socket())
        client.connect(listener.getsockname())
        row = one(inet(Table.TCP), client)
        assert ask(inet_diag.exact_request(row)).rows == [row]
        extras = ask(inet_diag.exact_request(row, ext=inet_diag.extensions(info=True))).rows[0].extras
        assert extras is not None
        assert extras.info is not None
        row.cookie += 1
        assert (ask(inet_diag.exact_request(row)).rows, ask(inet_diag.exact_request(row)).error) == ([], 2)
        row.cookie -= 1
        answer = ask(inet_diag.destroy_request(row))
        if answer.error == 95:
            pytest.skip("kernel lacks INET_DIAG_DESTROY")
        assert (answer.done, answer.error) == (True, 0)
        with pytest.raises(ConnectionAbortedError):
            client.recv(1)
        assert ask(inet_diag.exact_request(row)).error == 2

    netns.call(check)


def test_news_of_destroyed_sockets(netns: "Netns", keep: Keep) -> None:
    def check() -> None:
        groups = (SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_TCP_DESTROY)
        with Diag(groups=groups) as diag:
            listener = keep(socket.socket())
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            with socket.socket() as client, socket.socket(type=socket.SOCK_DGRAM) as datagram:
                client.connect(listener.getsockname())
                datagram.connect(("127.0.0.1", 9))
                expected = {cookie(client): Table.TCP, cookie(datagram): Table.UDP}
            keep(listener.accept()[0]).close()  # both ends closed: now the client's end may die
            seen: dict[int, InetSocket] = {}
            while not set(expected) <= set(seen):
                seen.update({row.cookie: row for row in inet_diag.decode_event(diag.receive()).rows})
        for known, table in expected.items():
            assert (seen[known].table, seen[known].ino) == (table, 0)

    netns.call(check)


def test_unix(netns: "Netns", keep: Keep, tmp_path: Path) -> None:
    def check() -> None:
        listener = keep(socket.socket(socket.AF_UNIX))
        listener.bind(str(tmp_path / "line\nbreak"))
        listener.listen(6)
        client = keep(socket.socket(socket.AF_UNIX))
        client.connect(str(tmp_path / "line\nbreak"))
        abstract = keep(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        abstract.bind(b"\0with\0nul")
        one_end, other_end = map(keep, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        rows = sweep(unix_diag.dump_request(ALL_STATES, unix_diag.show(extended=True)), unix_diag.decode)
        row, node = one(rows, listener), (tmp_path / "line\nbreak").stat()
        assert (row.name, row.state, row.recv_q, row.send_q) == (os.fsencode(tmp_path) + b"/line\nbreak", 10, 1, 6)
        assert row.vfs == (node.st_ino, os.major(node.st_dev) << 20 | os.minor(node.st_dev))
        assert len(row.pending) == 1
        assert (one(rows, abstract).name, one(rows, abstract).table) == (b"\0with\0nul", Table.UNIX_DGRAM)
        assert one(rows, one_end).peer_ino == ino(other_end)
        assert one(rows, one_end).table is Table.UNIX_SEQPACKET

    netns.call(check)


def test_packet_and_netlink(netns: "Netns", keep: Keep) -> None:
    def check() -> None:
        sniffer = keep(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        code = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 77))
        sniffer.setsockopt(socket.SOL_SOCKET, 26, struct.pack("@HP", 1, ctypes.addressof(code)))
        sniffer.bind(("lo", 0x88CC))
        row = one(sweep(packet_diag.dump_request(), packet_diag.decode), sniffer)
        assert (row.table, row.protocol, row.ifindex) == (Table.PACKET_DGRAM, 0x88CC, socket.if_nametoindex("lo"))
        assert (row.bpf, row.cookie) == (((0x06, 0, 0, 77),), cookie(sniffer))
        link = keep(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0))
        link.bind((0, 1 | 1 << 30))
        found = [row for row in sweep(netlink_diag.dump_request(), netlink_diag.decode) if row.ino == ino(link)]
        assert {(row.portid, row.groups, row.protocol) for row in found} == {(link.getsockname()[0], 1 | 1 << 30, 0)}
        # The thread's own: /proc/net is that of the process, which is elsewhere.
        files = ProcFiles({"PROC_ROOT": "/proc/thread-self"})
        row = next(row for row in proc_net.decode_packet(files.read("net/packet")) if row.ino == ino(sniffer))
        assert (row.table, row.protocol, row.ifindex) == (Table.PACKET_DGRAM, 0x88CC, socket.if_nametoindex("lo"))

    netns.call(check)


def test_proc_and_netlink_agree(netns: "Netns", keep: Keep) -> None:
    def check() -> None:
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            listener = keep(socket.socket(family))
            listener.bind((address, 0))
            listener.listen(4)
            client = keep(socket.socket(family))
            client.connect(listener.getsockname()[:2])
            keep(listener.accept()[0]).send(b"unread by the client")
            datagram = keep(socket.socket(family, socket.SOCK_DGRAM))
            datagram.bind((address, 0))
        # The thread's own: /proc/net is that of the process, which is elsewhere.
        files = ProcFiles({"PROC_ROOT": "/proc/thread-self"})
        for table, name in ((Table.TCP, "tcp"), (Table.UDP, "udp")):
            for version, suffix in ((AF_INET, ""), (AF_INET6, "6")):
                told = {(r.src, r.sport, r.dst, r.dport, r.state, r.ino, r.uid, r.recv_q) for r in inet(table, version)}
                text = files.read(f"net/{name}{suffix}")
                rows = list(proc_net.decode_inet(text, table, version))
                assert {(r.src, r.sport, r.dst, r.dport, r.state, r.ino, r.uid, r.recv_q) for r in rows} == told
                assert told

    netns.call(check)


def test_a_table_that_the_kernel_lacks_ends_with_an_errno(netns: "Netns") -> None:
    def check() -> None:
        with Diag() as diag:
            diag.send(inet_diag.dump_request(Table.DCCP, AF_INET, ALL_STATES))
            batch = inet_diag.decode(diag.receive(), Table.DCCP)
        assert batch.done
        assert batch.error in (0, 2, 22, 95)

    netns.call(check)


def test_a_closed_socket_refuses_with_its_errno() -> None:
    diag = Diag()
    diag.close()
    with pytest.raises(KernelError) as caught:
        diag.send(b"x")
    assert caught.value.errno == 9
    assert not isinstance(caught.value, FeatureError)


HOLDER = """
import os, socket, sys, threading
a = socket.socket(); b = os.dup(a.fileno())
started = threading.Event()
release = threading.Event()
def run():
    open("/proc/thread-self/comm", "w").write("wor(ker)s")
    started.set(); release.wait()
t = threading.Thread(target=run, daemon=True); t.start(); started.wait()
print(os.fstat(a.fileno()).st_ino, a.fileno(), b, t.native_id, flush=True)
sys.stdin.read()
"""


@pytest.mark.ss
def test_owners_are_those_of_ss_in_its_order(ss: "Program") -> None:
    """Forked owners of one listener, with threads; ss's text is put together from our list."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        os.set_inheritable(listener.fileno(), True)
        holders = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False
                )
            )
            for _ in range(2)
        ]
        for holder in holders:
            assert holder.stdout is not None
            own_ino, fd, copy, tid = map(int, holder.stdout.readline().split())
            mine = [owner for owner in owners(threads=True)[own_ino] if owner.pid == holder.pid]
            assert [(owner.tid, owner.fd) for owner in mine] == [
                (tid, copy), (tid, fd), (holder.pid, copy), (holder.pid, fd),
            ]  # fmt: skip
            assert mine[0].comm == b"wor(ker"
        port = listener.getsockname()[1]
        found = owners()[ino(listener)]
        users = b",".join(b'("%b",pid=%d,fd=%d)' % (owner.comm, owner.pid, owner.fd or 0) for owner in found)
        assert {owner.pid for owner in found} == {os.getpid(), *(holder.pid for holder in holders)}
        assert b"users:(" + users + b")" in ss("-Htlnp", "sport", "=", f":{port}").stdout
        found = owners(threads=True)[ino(listener)]
        users = b",".join(b'("%b",pid=%d,tid=%d,fd=%d)' % (o.comm, o.pid, o.tid or 0, o.fd or 0) for o in found)
        assert b"users:(" + users + b")" in ss("-HtlnpT", "sport", "=", f":{port}").stdout


@pytest.mark.ss
def test_cgroup_paths_are_those_of_ss(netns: "Netns", keep: Keep, ss: "Program") -> None:
    def check() -> tuple[int, int]:
        listener = keep(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        extras = one(inet(Table.TCP), listener).extras
        if extras.cgroup_id is None:
            pytest.skip("kernel lacks CONFIG_SOCK_CGROUP_DATA")
        return extras.cgroup_id, listener.getsockname()[1]

    cgroup_id, _ = netns.call(check)
    names = SystemNames({})
    path = names.cgroup_path(cgroup_id)
    if path is None:
        pytest.skip("kernel lacks a cgroup2 mount")
    assert b"cgroup:" + path in ss("-Htlne", netns=netns).stdout
    mount = names.cgroup_mount()
    assert mount is not None
    assert names.cgroup_id(mount + os.fsdecode(path)) == cgroup_id


LAYOUTS = [
    ("tcp_info", tcp_info.TcpInfo, tcp_info._TCP_INFO, "tcpi_", 8),
    ("mptcp_info", tcp_info.MptcpInfo, tcp_info._MPTCP_INFO, "mptcpi_", 0),
]


@pytest.mark.bpf
@pytest.mark.parametrize(("struct_name", "made", "layout", "prefix", "bits"), LAYOUTS, ids=lambda v: str(v)[:12])
def test_layouts_agree_with_this_kernels_btf(
    struct_name: str, made: Any, layout: struct.Struct, prefix: str, bits: int
) -> None:
    """Every field that this kernel's struct has stands where our format string puts it."""
    from sstrace.sources.btf import Btf

    decode = {"tcp_info": tcp_info.decode_tcp_info, "mptcp_info": tcp_info.decode_mptcp_info}[struct_name]
    compared = 0
    with Btf() as btf:
        for field in made.__struct_fields__:
            offset = btf.offset(struct_name, prefix + field)
            if offset is None or (bits and offset in (6, 7)):
                continue  # a newer field than this kernel knows, or a bit-field
            blob = bytearray(layout.size)
            blob[offset] = 0x5A
            assert getattr(decode(bytes(blob)), field) == 0x5A, field
            compared += 1
    assert compared >= 17
