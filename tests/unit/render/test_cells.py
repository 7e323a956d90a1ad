"""The small texts of a row, and the rules about them that a dump through ss does not reach."""

import sys
from collections.abc import Sequence
from typing import Any

import pytest

from sstrace.decoders import decoders
from sstrace.dialect import dialect
from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_TIPC,
    AF_UNIX,
    AF_VSOCK,
    AF_XDP,
    Extras,
    Finer,
    InetSocket,
    NetlinkSocket,
    Owner,
    PacketSocket,
    ProcTcp,
    Show,
    Table,
    TipcSocket,
    UnixSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.render.common import Context, duration, general, memory, queue, rate, signed, users
from sstrace.render.inet import InetCells
from sstrace.render.netlink import NetlinkCells
from sstrace.render.packet import PacketCells, link_protocol
from sstrace.render.ss import Text
from sstrace.render.summary import summary
from sstrace.render.tipc import TipcCells
from sstrace.render.unix import UnixCells, major_minor
from sstrace.render.vsock import VsockCells
from sstrace.render.xdp import XdpCells
from sstrace.wire import tcp_info
from sstrace.wire.netlink import attribute
from sstrace.wire.proc_net import SockStat


class Names:
    """A world of few names; it counts what it is asked."""

    def ifname(self, index: int) -> str:
        return {1: "lo", 2: "eth0"}.get(index, f"if{index}")

    def ephemeral(self) -> tuple[int, int]:
        return 32768, 60999

    def service(self, port: int, protocol: str | None) -> str | None:
        table: dict[tuple[int, str | None], str]
        table = {(514, "tcp"): "shell", (514, "udp"): "syslog", (514, None): "shell", (22, "tcp"): "ssh"}
        return "never" if (port, protocol) == (40000, "tcp") else table.get((port, protocol))

    def rpc(self, port: int, protocol: str) -> str | None:
        return "rpc.mountd" if (port, protocol) == (20048, "tcp") else None

    def host(self, family: int, address: bytes) -> str | None:
        return {b"\x7f\0\0\1": "localhost", b"\x0a\0\0\1": "zehn"}.get(address)

    def ip_protocol(self, number: int) -> str | None:
        return {1: "icmp", 58: "ipv6-icmp"}.get(number)

    def netlink_protocol(self, number: int) -> str | None:
        return {0: "rtnl", 16: "genl"}.get(number)

    def process(self, pid: int) -> bytes | None:
        return b"da\xc3\xa9mon" if pid == 77 else None

    def process_context(self, pid: int) -> str | None:
        return None

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        return b"/a/b" if cgroup_id == 9 else None

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        return {0xABC: None, 0xDEF: "Failed to open cgroup2 by ID"}.get(cgroup_id, "Failed to find cgroup2 mount")


def context(
    version: tuple[int, int] = (6, 1), owners: dict[int, Sequence[Owner]] | None = None, **show: Any
) -> Context:
    said: list[str] = []
    found = Context(
        Show(**show),
        dialect(version),
        Names(),  # type: ignore[arg-type]
        decoders,
        owners=owners,
        warn=said.append,
    )
    found.said = said  # type: ignore[attr-defined]
    return found


def tcp(**fields: Any) -> InetSocket:
    known: dict[str, Any] = {
        "table": Table.TCP,
        "family": AF_INET,
        "state": 1,
        "src": b"\x0a\0\0\1",
        "sport": 22,
        "dst": b"\x0a\0\0\2",
        "dport": 40000,
    }
    return InetSocket(**(known | fields))


# ------------------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("milliseconds", "old", "new"),
    [
        (0, "", ""),
        (9, "009ms", "009ms"),
        (999, "999ms", "999ms"),
        (1000, "1sec", "1sec"),
        (1050, "1.050ms", "1.050sec"),
        (9999, "9.999ms", "9.999sec"),
        (10500, "10sec", "10sec"),
        (60001, "1min", "1min"),
        (61000, "1min1sec", "1min1sec"),
        (601000, "10min", "10min"),
        (7200000, "120min", "120min"),
        (0xFFFFFFFF, "71582min", "71582min"),
    ],
)
def test_durations(milliseconds: int, old: str, new: str) -> None:
    assert duration(milliseconds, sec_bug=True) == old
    # Within the second minute milliseconds are dropped by either.
    assert duration(milliseconds, sec_bug=False) == new


@pytest.mark.parametrize(
    ("bits", "text", "exact"),
    [
        (992.0, "992", "992"),
        (1000.0, "1k", "1000"),
        (93_898_305.0, "93.9M", "93898305"),
        (999_999_992.0, "1e+03M", "999999992"),
        (1.2345e16, "1.23e+04T", "12345000000000000"),
        (0.5, "0.5", "0"),
    ],
)
def test_rates(bits: float, text: str, exact: str) -> None:
    assert rate(bits, numeric=False) == text
    assert rate(bits, numeric=True) == exact


def test_numbers_are_those_of_c() -> None:
    assert [signed(n) for n in (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, -1)] == [0, 0x7FFFFFFF, -0x80000000, -1, -1]
    assert [queue(n) for n in (0, 123, 1234567, 0xFFFFFFFF)] == ["0     ", "123   ", "1234567", "-1    "]
    assert [general(n) for n in (204.0, 1000.5, 0.019, 123456.7, 1e6)] == ["204", "1000.5", "0.019", "123457", "1e+06"]


def test_memory_has_as_many_words_as_came() -> None:
    assert memory(range(1, 8)) == " skmem:(r1,rb2,t3,tb4,f5,w6,o7)"
    assert memory(range(1, 9)) == " skmem:(r1,rb2,t3,tb4,f5,w6,o7,bl8)"
    assert memory(range(1, 10)) == " skmem:(r1,rb2,t3,tb4,f5,w6,o7,bl8,d9)"


# --------------------------------------------------------------------------------------------------------------- users


def test_users_with_threads_contexts_and_strange_names() -> None:
    owners = [Owner(b"b\x01\xc3", 9, 4), Owner(b'q"\\', 5, 3, Finer(tid=6, proc_ctx="u:r:t"))]
    assert users(owners, Show(), escaped=False) == ' users:(("b\x01\xc3",pid=9,fd=4),("q"\\",pid=5,fd=3))'
    assert users(owners, Show(), escaped=True) == ' users:(("b.?",pid=9,fd=4),("q"\\",pid=5,fd=3))'
    shown = users(owners[1:], Show(threads=True, contexts=2), escaped=False)
    assert shown == ' users:(("q"\\",pid=5,tid=6,proc_ctx=u:r:t,fd=3,sock_ctx=unavailable))'


def test_nobody_holds_inode_0() -> None:
    assert context(owners={0: [Owner(b"x", 1, 2)]}).users(0) == ""


# ------------------------------------------------------------------------------------------------------ addresses,
# ports


def cells(
    row: InetSocket, table: Table | None = None, version: tuple[int, int] = (6, 1), **show: Any
) -> tuple[str, ...]:
    maker = InetCells(context(version, **show))
    maker.begin(table or row.table)
    return maker.cells(row)


@pytest.mark.parametrize(
    ("family", "address", "v6only", "text"),
    [
        (AF_INET, bytes(4), None, "0.0.0.0:"),
        (AF_INET6, bytes(16), None, "*:"),
        (AF_INET6, bytes(16), False, "*:"),
        (AF_INET6, bytes(16), True, "[::]:"),
        (AF_INET6, bytes(15) + b"\1", True, "[::1]:"),
        (AF_INET6, bytes(10) + b"\xff\xff\x7f\0\0\1", None, "[::ffff:127.0.0.1]:"),
        (AF_INET6, bytes(12) + b"\1\2\3\4", None, "[::1.2.3.4]:"),
    ],
)
def test_addresses(family: int, address: bytes, v6only: bool | None, text: str) -> None:
    row = tcp(family=family, src=address, dst=address, extras=Extras(v6only=v6only))
    assert cells(row)[4] == text
    assert cells(row)[6] == text


def test_an_interface_stands_outside_the_brackets_and_only_at_the_local_end() -> None:
    link_local = b"\xfe\x80" + bytes(13) + b"\1"
    assert cells(tcp(family=AF_INET6, src=link_local, dst=link_local, ifindex=1))[4:8:2] == (
        "[fe80::1]%lo:",
        "[fe80::1]:",
    )
    assert cells(tcp(family=AF_INET6, src=bytes(16), dst=bytes(16), ifindex=2))[4] == "*%eth0:"
    assert cells(tcp(ifindex=77))[4] == "10.0.0.1%if77:"


def test_names_of_hosts_are_asked_for_only_with_r() -> None:
    assert cells(tcp())[4] == "10.0.0.1:"
    assert cells(tcp(), resolve=True)[4:8:2] == ("zehn:", "10.0.0.2:")
    mapped = bytes(10) + b"\xff\xff\x7f\0\0\1"
    assert cells(tcp(family=AF_INET6, src=mapped), resolve=True)[4] == "localhost:"


def test_services_and_their_protocol_which_later_tables_inherit() -> None:
    shared = context()
    maker = InetCells(shared)
    seen = []
    for table in (Table.MPTCP, Table.UDP, Table.MPTCP, Table.TCP, Table.MPTCP, Table.RAW, Table.MPTCP):
        maker.begin(table)
        seen.append(maker.cells(tcp(table=table, sport=514))[5])
    assert seen == ["shell", "syslog", "syslog", "shell", "shell", "ipproto-514", "ipproto-514"]
    # A port of the ephemeral range is a number, whatever /etc/services says; 0 is any.
    assert cells(tcp(sport=40000, dport=0))[5:8:2] == ("40000", "*")
    assert cells(tcp(sport=22), numeric=True)[5] == "22"
    assert cells(tcp(sport=20048))[5] == "20048"
    assert cells(tcp(sport=20048), resolve=True)[5] == "rpc.mountd"


def test_states_beyond_those_that_have_names() -> None:
    """As ss 6.1.0, 6.15.0 and 7.3.0 print a dump with them."""
    for version, words in (
        ((6, 1), {12: "UNKNOWN", 13: "established", 14: "syn-sent", 23: "closing", 24: "numeric", 25: "(null)"}),
        ((6, 15), {12: "UNDEF", 13: "UNDEF", 14: "(null)", 15: "(null)", 16: "UNKNOWN", 17: "established"}),
        ((7, 3), {11: "CLOSING", 13: "UNDEF", 14: "(null)", 24: "close-wait", 255: "(null)"}),
    ):
        for state, word in words.items():
            assert cells(tcp(state=state), version=version)[1] == word


def test_raw_sockets_are_named_by_what_the_kernel_says_they_are() -> None:
    def raw(protocol: int, **show: Any) -> tuple[str, ...]:
        row = tcp(table=Table.RAW, family=AF_INET6, src=bytes(16), dst=bytes(16), sport=protocol, dport=0)
        row.extras = Extras(protocol=protocol)
        return cells(row, **show)[0::5]

    assert raw(58) == ("icmp6", "ipv6-icmp")
    assert raw(1) == ("???", "icmp")
    assert raw(6) == ("tcp", "ipproto-6")
    assert raw(255) == ("???", "ipproto-255")
    assert raw(255, numeric=True) == ("???", "255")
    assert cells(tcp(table=Table.RAW, sport=1, dport=0))[0] == "???"
    nothing = ProcTcp(rto=0, ato=0, qack=0, cwnd=0, ssthresh=-1)
    assert cells(tcp(table=Table.RAW, sport=1, dport=0, proc=nothing))[0] == "raw"


def test_dccp_has_lost_its_name() -> None:
    row = tcp(table=Table.DCCP)
    assert cells(row, version=(7, 1))[0] == "dccp"
    assert cells(row, version=(7, 3))[0] == "???"


# -------------------------------------------------------------------------------------------------------------- extras


def test_details_in_order_and_in_which_column() -> None:
    extras = Extras(mark=7, cgroup_id=9, v6only=True, shutdown=1, tos=0, tclass=16, class_id=3, sockopt=0b10000000010)
    row = tcp(uid=1000, ino=5, cookie=255, timer=5, expires_ms=1500, retrans=200, extras=extras)
    row.family, row.src, row.dst = AF_INET6, bytes(16), bytes(16)
    every: dict[str, Any] = dict.fromkeys(("timers", "extended", "tos", "cgroup", "inet_sockopt", "processes"), True)
    timer, late = " timer:(unknown,1.500ms,200)", " timer:(delack,1.500sec,200)"
    details = " uid:1000 ino:5 sk:ff fwmark:0x7 cgroup:/a/b v6only:1 -->"
    rest = details + " tos:0 tclass:0x10 class_id:0x3 cgroup:/a/b\n\tinet-sockopt: ( is_icsk defer_connect)"
    assert cells(row, **every)[8:] == (timer + rest, "")
    assert cells(row, version=(7, 1), **every)[8:] == ("", late + rest)
    assert cells(row, oneline=True, **every)[8].endswith(
        "class_id:0x3 cgroup:/a/b inet-sockopt: ( is_icsk defer_connect)"
    )


def test_a_cgroup_that_is_gone_makes_noise_each_time_until_6_14() -> None:
    for version, lines in (((6, 1), 2), ((6, 13), 2), ((6, 14), 0)):
        shared = context(version, extended=True, cgroup=True)
        maker = InetCells(shared)
        maker.begin(Table.TCP)
        found = maker.cells(tcp(extras=Extras(cgroup_id=0xABC)))
        assert "".join(found[8:]).count(" cgroup:unreachable:abc") == 2
        assert shared.said == ["Failed to open cgroup2 by ID"] * lines  # type: ignore[attr-defined]


def test_a_cgroup_that_may_not_be_looked_up_makes_noise_each_time() -> None:
    for version in ((6, 1), (7, 3)):
        shared = context(version, extended=True, cgroup=True)
        assert [shared.cgroup(0xDEF) for _ in range(2)] == ["unreachable:def"] * 2
        assert shared.said == ["Failed to open cgroup2 by ID"] * 2  # type: ignore[attr-defined]


def test_without_a_cgroup2_mount_the_first_look_makes_noise_too() -> None:
    for version in ((6, 1), (7, 3)):
        shared = context(version, extended=True, cgroup=True)
        assert [shared.cgroup(7) for _ in range(2)] == ["unreachable:7"] * 2
        assert shared.said == ["Failed to find cgroup2 mount"] * 3  # type: ignore[attr-defined]


def test_the_info_block_opens_even_for_nothing_but_not_for_udp() -> None:
    assert cells(tcp(), info=True)[8] == "\n\t"
    assert cells(tcp(), info=True, oneline=True)[8] == ""
    assert cells(tcp(table=Table.UDP), info=True)[8] == ""
    assert cells(tcp(table=Table.UDP, extras=Extras(skmem=(1,) * 7)), memory=True)[8].startswith("\n\t skmem:(r1,")
    assert cells(tcp(extras=Extras(meminfo=(1, 2, 3, 4))), memory=True)[8] == "\n\t mem:(r1,w2,f3,t4)"


def test_socket_storage_stands_last() -> None:
    blob = attribute(1, attribute(2, (7).to_bytes(4, sys.byteorder)) + attribute(3, b"\1\2"))
    blob += attribute(1, attribute(2, (8).to_bytes(4, sys.byteorder)) + attribute(3, b""))
    row = tcp(extras=Extras(storage=blob))
    for oneline, text in ((False, "\n\t\n\tmap_id:7 [\n\t\t{1,2}\n\t]"), (True, " map_id:7\t\t{1,2}")):
        shared = context((7, 1), info=True, bpf_maps=True, oneline=oneline)
        shared.storage_text = lambda number, value: f"\t\t{{{value[0]},{value[1]}}}" if number == 7 else None
        maker = InetCells(shared)
        maker.begin(Table.TCP)
        assert maker.cells(row)[9] == text


def test_rows_of_proc() -> None:
    proc = ProcTcp(rto=20, ato=4, qack=6, cwnd=10, ssthresh=-1, opt="abc")
    row = tcp(ino=5, proc=proc, timer=2, expires_ms=10)
    text = cells(row, timers=True, extended=True, info=True, memory=True)[8]
    assert text == (
        ' timer:(keepalive,010ms,0) ino:5 sk:0 opt:"abc" rto:0.2 ato:0.04 qack:3 bidir cwnd:10 reordering:0'
    )
    row.table = Table.UDP
    assert cells(row, timers=True, extended=True, info=True)[8] == ""


def test_sctp_associations_hang_below_their_endpoint() -> None:
    maker = InetCells(context(info=True))
    maker.begin(Table.SCTP)
    info = tcp_info._SCTP_INFO.pack(0xAB, 3, *[0] * 23)
    first = tcp(table=Table.SCTP, state=10, ino=9)
    second = tcp(table=Table.SCTP, state=3, ino=9, timer=1, extras=Extras(info=info, locals=((AF_INET, b"\1\2\3\4"),)))
    assert maker.cells(first)[:2] == ("sctp", "LISTEN")
    found = maker.cells(second)
    assert found[:2] == ("", "`- ESTAB")
    assert found[8] == "\n\t locals:1.2.3.4 tag:ab state:ESTAB"
    assert maker.cells(tcp(table=Table.SCTP, state=10, ino=10))[:2] == ("sctp", "LISTEN")


# ------------------------------------------------------------------------------------------------------- other families


def unix(**fields: Any) -> UnixSocket:
    return UnixSocket(**({"table": Table.UNIX_STREAM, "family": AF_UNIX, "state": 10, "type": 1, "ino": 7} | fields))


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"", "* "), (b"/run/x\n\xff", "/run/x\n\xff "), (b"\0abs\0tract", "@abs@tract "), (b"@abs", "@abs ")],
)
def test_unix_names(name: bytes, text: str) -> None:
    assert UnixCells(context()).cells(unix(name=name))[4:8] == (text, "7", "* ", "0")


def test_unix_details() -> None:
    row = unix(shutdown=3, vfs=(11, 0x00800003), pending=(4, 5), skmem=(1,) * 9, ino=0xFFFFFFFF)
    found = UnixCells(context(extended=True, memory=True)).cells(row)
    assert found[5] == "-1"
    assert found[8] == " skmem:(r1,rb1,t1,tb1,f1,w1,o1,bl1,d1) --- ino:11 dev:0/2051 peers: 4 5"
    assert UnixCells(context((6, 6))).cells(row)[5] == "4294967295"
    assert UnixCells(context(extended=True)).cells(unix(pending=()))[8] == " peers:"
    assert major_minor(0x00000801) == (8, 1)


def packet(**fields: Any) -> PacketSocket:
    known = {"table": Table.PACKET_RAW, "family": AF_PACKET, "state": 7, "type": 3, "protocol": 3, "ino": 5}
    return PacketSocket(**(known | fields))


def test_packet_rows() -> None:
    assert PacketCells(context()).cells(packet())[:8] == ("p_raw", "UNCONN", "0     ", "0     ", "*:", "*", "*", "")
    assert PacketCells(context()).cells(packet(protocol=0x800, ifindex=1))[5] == "lo"
    assert PacketCells(context()).cells(packet(table=Table.PACKET_DGRAM, type=2))[0] == "p_dgr"
    assert PacketCells(context()).cells(packet(protocol=0x800))[4] == "ip:"
    assert PacketCells(context(numeric=True)).cells(packet(protocol=0x800))[4] == "[2048]:"
    assert PacketCells(context()).cells(packet(protocol=0))[4] == "[0]:"
    assert link_protocol(0x8902, cfm=False) is None
    row = packet(
        uid=5,
        info=(1, 2, 0, 0, 0, 0b11),
        rx_ring=(4096, 2, 2048, 4, 60, 0, 1),
        fanout=0x10010007,
        bpf=((0x28, 0, 0, 12), (6, 0, 0, 65535)),
        skmem=(1,) * 7,
    )
    shown = PacketCells(context(extended=True, memory=True, bpf=True, oneline=True)).cells(row)[8]
    assert shown == (
        " uid:5 ino:5 sk:0 ver:2 cpy_thresh:0 flags( running auxdata )"
        " ring_rx(blk_size:4096,blk_nr:2,frm_size:2048,frm_nr:4,tmo:60,features:0x1) fanout(id:7,type:0x1001)"
        " bpf filter (2):  0x28 0 0 12, 0x06 0 0 65535, skmem:(r1,rb1,t1,tb1,f1,w1,o1)"
    )
    row.info = (1, 2, 0, 0, 0, 0)
    assert "\n\tver:2 cpy_thresh:0 flags( 0 )\n\tring_rx(" in PacketCells(context(extended=True)).cells(row)[8]


def netlink(**fields: Any) -> NetlinkSocket:
    known = {"table": Table.NETLINK, "family": AF_NETLINK, "state": 7, "protocol": 0, "portid": 0}
    return NetlinkSocket(**(known | fields))


@pytest.mark.parametrize(
    ("portid", "text", "number"),
    [(-1, "*", "*"), (0, "kernel", "0"), (77, "da\xc3\xa9mon/77", "77"), (78, "78", "78"), (-95, "-95", "-95")],
)
def test_netlink_ports(portid: int, text: str, number: str) -> None:
    assert NetlinkCells(context()).cells(netlink(portid=portid))[4:6] == ("rtnl:", text)
    assert NetlinkCells(context(numeric=True)).cells(netlink(portid=portid))[4:6] == ("0:", number)


def test_netlink_extras_stay_in_the_process_column() -> None:
    row = netlink(protocol=30, connected=True, dst_group=16, dst_portid=4242, groups=3, skmem=(1,) * 7)
    for version in ((6, 1), (7, 1)):
        found = NetlinkCells(context(version, extended=True, memory=True, contexts=1)).cells(row)
        assert found[4:8:2] == ("30:", "16:")
        assert found[7:] == (
            "4242",
            " proc_ctx=unavailable sk=0 cb=0 groups=0x00000003\t skmem:(r1,rb1,t1,tb1,f1,w1,o1)",
            "",
        )


def test_vsock_xdp_and_tipc_rows() -> None:
    vsock = VsockSocket(
        table=Table.VSOCK_STREAM,
        family=AF_VSOCK,
        state=10,
        type=1,
        src_cid=0xFFFFFFFF,
        sport=22,
        dst_cid=2,
        dport=0xFFFFFFFF,
    )
    assert VsockCells(context()).cells(vsock)[:8] == ("v_str", "LISTEN", "0     ", "0     ", "*:", "22", "2:", "*")
    xdp = XdpSocket(
        table=Table.XDP,
        family=AF_XDP,
        state=7,
        ifindex=2,
        queue_id=3,
        ino=5,
        rx_entries=64,
        umem=(1, 2, 3, 4, 5, 6, 7, 1, 9),
    )
    found = XdpCells(context(extended=True, oneline=True)).cells(xdp)
    assert found[4:8] == ("eth0:", "q3", "*", "")
    umem = "umem(id:2,size:1,num_pages:3,chunk_size:4,headroom:5,ifindex:6,qid:7,zc:1,refs:9)"
    assert found[8] == f" ino:5 sk:0 rx(entries:64) t{umem}"
    assert XdpCells(context(extended=True)).cells(xdp)[8].endswith(f"\n\t{umem}")
    tipc = TipcSocket(table=Table.TIPC, family=AF_TIPC, state=10, type=1, node=1, ref=2, ino=3, drops=4, published=True)
    assert TipcCells(context((7, 1), extended=True, tipcinfo=True)).cells(tipc)[4:] == (
        "1:",
        "2",
        "-",
        "",
        " ino:3 sk:0",
        "\n type:STREAM cong:none  drop:4  publ",
    )


# ------------------------------------------------------------------------------------------------------------- together


def test_md5_keys_reach_the_output_ahead_of_the_table_until_6_8() -> None:
    keys = ((AF_INET, 24, b"\x0a\0\0\0", b"a b\\c\x01"), (AF_INET6, 128, bytes(16), b"k"))
    for version, expected in (
        (
            (6, 1),
            b"a\\040b\\134c\\001kESTAB 0      0      10.0.0.1:ssh 10.0.0.2:40000\n\t md5keys:10.0.0.0/24=,::/128=\n",
        ),
        (
            (7, 1),
            b"ESTAB 0      0      10.0.0.1:ssh 10.0.0.2:40000\n\t md5keys:10.0.0.0/24=a\\040b\\134c\\001,::/128=k\n",
        ),
    ):
        written: list[bytes] = []
        shared = context(version, info=True, header=False, netid=False)
        shared.aside = written.append
        text = Text(shared, written.append, screen=None)
        text.begin(Table.TCP)
        text.feed([tcp(extras=Extras(md5=keys))])
        text.flush()
        assert b"".join(written) == expected


def test_summary() -> None:
    count = SockStat(
        used=100,
        tcp_inuse=10,
        tcp_orphan=1,
        tcp_tw=3,
        tcp_alloc=20,
        udp_inuse=4,
        raw_inuse=5,
        frag_inuse=6,
        tcp6_inuse=2,
    )
    assert summary(count, 7) == (
        "Total: 100\n"
        "TCP:   23 (estab 7, closed 11, orphaned 1, timewait 3)\n"
        "\n"
        "Transport Total     IP        IPv6\n"
        "RAW\t  5         5         0        \n"
        "UDP\t  4         4         0        \n"
        "TCP\t  12        10        2        \n"
        "INET\t  21        19        2        \n"
        "FRAG\t  6         6         0        \n"
        "\n"
    )
