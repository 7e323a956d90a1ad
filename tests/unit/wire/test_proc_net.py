"""/proc/net texts, line by line; what ss 6.1 printed for these very lines is what is expected here."""

import pytest

from sstrace.errors import DecodeError
from sstrace.model import InetSocket, NetlinkSocket, PacketSocket, ProcTcp, State, Table
from sstrace.wire import proc_net

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def tcp(*lines: bytes) -> list[InetSocket]:
    return list(proc_net.decode_inet(HEAD + b"".join(line + b"\n" for line in lines), Table.TCP, 2))


def test_a_full_tcp_line() -> None:
    (row,) = tcp(
        b"   0: 0100007F:0016 0203047F:1389 01 00000005:00000007 02:0000010F 00000003  1000        9 4242 2 "
        b"00000000deadbeef 21 4 31 10 -1" + b" " * 20
    )
    assert (row.src, row.sport, row.dst, row.dport) == (b"\x7f\0\0\1", 22, b"\x7f\4\3\2", 5001)
    assert (row.state, row.send_q, row.recv_q, row.uid, row.ino, row.cookie) == (1, 5, 7, 1000, 4242, 0xDEADBEEF)
    assert (row.timer, row.expires_ms, row.retrans) == (2, 2710, 9)
    assert row.proc == ProcTcp(rto=21, ato=4, qack=31, cwnd=10, ssthresh=-1, opt="")
    assert row.extras is None


def test_retransmissions_count_while_their_timer_runs() -> None:
    (row,) = tcp(b" 1: 0100007F:0016 0203047F:1389 01 0:0 01:0000010F 00000003  0 9 4242 2 1 300 4 30 10 7 foo bar")
    assert (row.timer, row.retrans) == (1, 3)
    assert row.proc == ProcTcp(rto=300, ato=4, qack=30, cwnd=10, ssthresh=7, opt="foo bar")


def test_short_lines() -> None:
    wait, no_address, bare = tcp(
        b"   2: 0100007F:0018 0200007F:1389 06 00000000:00000000 03:0000010F 00000003  1000  9 0 2 00000000deadbeef",
        b"12345: 0100007F:001A 0200007F:1389 0A 00000000:00000000 00:00000000 00000003  1000  9 0 2",
        b" 4: 0100007F:0016 0200007F:1389 01",
    )
    short = ProcTcp(rto=0, ato=0, qack=0, cwnd=2, ssthresh=-1)
    assert (wait.state, wait.timer, wait.expires_ms, wait.retrans, wait.proc) == (6, 3, 2710, 9, short)
    assert (no_address.state, no_address.cookie, no_address.retrans) == (State.LISTEN, 0, 9)
    assert (bare.state, bare.retrans, bare.ino, bare.proc) == (1, 0, 0, short)


def test_the_unit_of_time_rounds_up() -> None:
    text = HEAD + b" 0: 0100007F:0016 0200007F:1389 06 0:0 03:00000001 0  0 0 0 2 1\n"
    assert [row.expires_ms for row in proc_net.decode_inet(text, Table.TCP, 2, hz=300)] == [4]


def test_ipv6_words_are_host_order() -> None:
    text = (
        HEAD
        + b" 0: 0000000000000000FFFF00000100007F:0050 B80D01200000000000000000010000FF:ABCD 01 0:0 00:0 0 0 0 5 1 1\n"
    )
    (row,) = proc_net.decode_inet(text, Table.TCP, 10)
    assert row.src == bytes(10) + b"\xff\xff\x7f\0\0\1"
    assert (row.dst.hex(), row.dport) == ("20010db80000000000000000ff000001", 0xABCD)


def test_udp_has_no_timer_and_no_details() -> None:
    text = HEAD + b" 0: 0100007F:0016 0200007F:1389 07 5:7 02:0000010F 00000003  1000 9 4242 2 00000000deadbeef 21 \n"
    (row,) = proc_net.decode_inet(text, Table.UDP, 2)
    assert (row.table, row.state, row.send_q, row.recv_q, row.uid, row.ino) == (Table.UDP, 7, 5, 7, 1000, 4242)
    assert (row.timer, row.expires_ms, row.retrans) == (0, 0, 0)
    assert row.proc is not None


def test_rows_before_a_malformed_line_are_kept() -> None:
    text = HEAD + b" 4: 0100007F:0016 0200007F:1389 01\ngarbage\n 5: 0100007F:0016 0200007F:1389 01\n"
    rows = proc_net.decode_inet(text, Table.TCP, 2)
    assert next(rows).sport == 22
    with pytest.raises(DecodeError, match=r"line 3 is no inet socket: b'garbage'"):
        next(rows)


@pytest.mark.parametrize(
    "line",
    [b"", b"0:", b"0: 0100007F:0016", b"0: 0100007F 0100007F", b"0: 0100007F:zz 0100007F:0", b"0: 01:1 02:2 01",
     b"0: 0100007F:0016 0200007F:1389 xx", b"0: 0100007F:0016 0200007F:1389 01 0:0 0:0 0 uid"],
)  # fmt: skip
def test_lines_that_are_no_sockets(line: bytes) -> None:
    with pytest.raises(DecodeError, match="line 2 is no inet socket"):
        tcp(line)


def test_empty_files_and_unfinished_lines_have_no_rows() -> None:
    for text in (b"", b"no newline", HEAD, HEAD + b" 4: 0100007F:0016 0200007F:1389 01"):
        assert list(proc_net.decode_inet(text, Table.TCP, 2)) == []
        assert proc_net.decode_unix(text[:20], lambda _: True) == []


UNIX = b"""Num       RefCount Protocol Flags    Type St Inode Path
ffff888004d5d800: 00000002 00000000 00000000 0002 01 12001 /a
0000000000000000: 00000002 00000000 00000000 0002 01 12002 /b
0000000100000000: 00000002 00000000 00000000 0002 01 12003 /c
0000000000000007: 00000002 00000000 00010000 0001 01 12004 @/d e
0000000000000007: 00000002 00000000 00000000 0001 03 4294967290
bogus line
0000000000000007: 00000002
0000000000000007: 00000002 00000000 00000000 0005 02 12000 /e
1: 2 3 0 1 4 12 zz
"""


def test_unix_quirks() -> None:
    rows = proc_net.decode_unix(UNIX, lambda _: True)
    assert [(row.table, row.state, row.name, row.ino) for row in rows] == [
        (Table.UNIX_DGRAM, 0, b"", 0),
        (Table.UNIX_DGRAM, 0, b"", 0),
        (Table.UNIX_STREAM, State.CLOSING, b"zz", 12),
        (Table.UNIX_STREAM, State.LISTEN, b"@/d", 12004),
        (Table.UNIX_STREAM, State.ESTABLISHED, b"", 4294967290),
        (Table.UNIX_DGRAM, State.ESTABLISHED, b"/a", 12001),
        (Table.UNIX_DGRAM, State.CLOSE, b"/b", 12002),
        (Table.UNIX_DGRAM, State.CLOSE, b"/c", 12003),
        (Table.UNIX_SEQPACKET, State.SYN_SENT, b"/e", 12000),
    ]
    assert {(row.recv_q, row.send_q, row.peer_ino, row.peer_name) for row in rows} == {(0, 0, 0, None)}


def test_unix_in_the_ancient_format() -> None:
    text = b"Peer" + UNIX[3:].replace(b"0000000000000007: 00000002 00000000 00000000 0005", b"2ee2: 11 12 0 0005")
    rows = proc_net.decode_unix(text, lambda row: row.type != 0)
    by_ino = {row.ino: row for row in rows}
    assert (by_ino[12000].recv_q, by_ino[12000].send_q) == (0x11, 0x12)
    assert (by_ino[12000].peer_ino, by_ino[12000].peer_name) == (0x2EE2, b"/b")
    assert by_ino[12001].peer_name == b"?"
    assert by_ino[12002].peer_name is None


def test_a_line_without_flags_keeps_those_of_the_line_before() -> None:
    text = b"Num\n0: 2 0 10000 1 1 5 /x\nrest of a name\n0: 2 0 0 1 3 6 /y\n"
    assert [(row.state, row.ino) for row in proc_net.decode_unix(text, lambda _: True)] == [
        (State.LISTEN, 0),
        (State.LISTEN, 5),
        (State.ESTABLISHED, 6),
    ]


def test_only_kept_rows_fill_a_run() -> None:
    text = b"Num\n" + b"".join(b"0: 2 0 0 1 3 %d\n" % ino for ino in (9, 8, 7, 6, 5, 4))
    rows = proc_net.decode_unix(text, lambda row: row.ino != 8, batch=2)
    assert [row.ino for row in rows] == [7, 9, 5, 6, 4]


def test_packet() -> None:
    text = b"sk RefCnt Type Proto Iface R Rmem User Inode\n00000000deadbeef 3  3  88cc  7  1 77  1000   4242\n"
    assert list(proc_net.decode_packet(text)) == [
        PacketSocket(
            table=Table.PACKET_RAW,
            family=17,
            state=7,
            recv_q=77,
            ino=4242,
            type=3,
            protocol=0x88CC,
            ifindex=7,
            uid=1000,
        )
    ]
    with pytest.raises(DecodeError, match="line 2 is no packet socket"):
        list(proc_net.decode_packet(b"sk\n0001 3 10 0800\n"))


def test_netlink() -> None:
    text = (
        b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
        b"00000000c4eaf604 16  4294967290 00000011 5        6        8     2        0        4       \n"
    )
    assert list(proc_net.decode_netlink(text)) == [
        NetlinkSocket(
            table=Table.NETLINK, family=16, state=7, recv_q=5, send_q=6, ino=4, protocol=16, portid=-6, groups=0x11,
            sk=0xC4EAF604, cb=8,
        )
    ]  # fmt: skip
    with pytest.raises(DecodeError, match="line 2 is no netlink socket"):
        list(proc_net.decode_netlink(b"sk\nx y\n"))


def test_sockstat() -> None:
    stat = proc_net.decode_sockstat(
        b"sockets: used 12\nTCP: inuse 1 orphan 42 tw 14216 alloc 43 mem 162\nUDP: inuse 7 mem 3\nUDPLITE: inuse 9\n"
        b"RAW: inuse 5\nFRAG: inuse 2 memory 0\n",
        b"TCP6: inuse 11\nUDP6: inuse 13\nUDPLITE6: inuse 14\nRAW6: inuse 15\nFRAG6: inuse 16 memory 0\n",
    )
    assert stat == proc_net.SockStat(
        used=12, tcp_inuse=1, tcp_orphan=42, tcp_tw=14216, tcp_alloc=43, tcp_mem=162, udp_inuse=7, raw_inuse=5,
        frag_inuse=2, tcp6_inuse=11, udp6_inuse=13, raw6_inuse=15, frag6_inuse=16,
    )  # fmt: skip
    assert proc_net.decode_sockstat(b"") == proc_net.SockStat()
    with pytest.raises(DecodeError, match="no number"):
        proc_net.decode_sockstat(b"TCP: inuse many\n")


def test_snmp() -> None:
    text = b"Ip: A B\nIp: 1 2\nTcp: MaxConn CurrEstab InSegs\nTcp: -1 77 5\nUdp: X\nUdp: 0\n"
    assert proc_net.tcp_established(text) == 77
    for broken in (b"", b"Tcp: CurrEstab\n", b"Tcp: CurrEstab\nTcp: x\n", b"Tcp: A CurrEstab\nTcp: 1\n"):
        with pytest.raises(DecodeError):
            proc_net.tcp_established(broken)


def test_numbers_of_absurd_length() -> None:
    digits = b"9" * 5000
    assert len(proc_net.decode_unix(b"Num\n0: 2 0 0 1 3 %b /x\n" % digits, lambda _: True)) == 1
    with pytest.raises(DecodeError):
        tcp(b" 4: 0100007F:0016 0200007F:1389 01 0:0 0:0 0 " + digits)
    with pytest.raises(DecodeError):
        list(proc_net.decode_netlink(b"sk\n1 2 3 4 5 6 7 8 9 " + digits + b"\n"))
