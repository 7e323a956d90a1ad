"""Predicates over rows of every family. (Against ss itself, over inet rows: tests/kernel/test_match_oracle.py.)"""

from ipaddress import ip_address

import msgspec
import pytest
from smallworld import SmallWorld

from sstrace.dialect import dialect
from sstrace.fields import Reported
from sstrace.model import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_TIPC,
    AF_UNIX,
    AF_UNSPEC,
    AF_VSOCK,
    AF_XDP,
    Extras,
    InetSocket,
    Label,
    NetlinkSocket,
    Owner,
    PacketSocket,
    Socket,
    State,
    Table,
    TipcSocket,
    UnixSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.query.expression import Amount, Chain, Compare, Not
from sstrace.query.filter import parse_filter
from sstrace.query.match import Known, predicate, thresholds
from sstrace.query.operands import Scope
from sstrace.query.words import WORDS

POD, UNIT = 71, 72
PATHS = {
    POD: b"/kubepods.slice/kubepods-pod6ba7b810_9dad_11d1_80b4_00c04fd430c8.slice/cri-containerd-"
    + b"0123456789abcdef" * 4
    + b".scope",
    UNIT: b"/system.slice/nginx.service/worker",
}
"""Cgroup → path."""


def test_a_device_is_whoever_bears_the_name_then() -> None:
    world = SmallWorld()
    tests = []
    for text in ("dev eth0", "dev != eth0", "dev 7", "dev if7", "dev if9"):
        tree = parse_filter([text], None, world, Scope(0b1001, 0, AF_UNSPEC), dialect((6, 1)))
        test = predicate(tree, world)
        assert test is not None
        tests.append(test)
    seven, nine, none = (inet("10.1.2.3", 22, ifindex=index) for index in (7, 9, 0))
    assert [test(seven) for test in tests] == [True, False, True, True, False]
    world.devices = {"lo": 1, "wan": 7, "eth0": 9}
    assert [test(seven) for test in tests] == [False, True, True, True, False]
    assert [test(nine) for test in tests] == [True, False, False, False, True]
    world.devices = {"lo": 1}
    assert [test(nine) for test in tests] == [False, True, False, False, True]
    assert [test(none) for test in tests] == [False, True, False, False, False]


def matches(row: Socket, text: str, preferred: int = AF_UNSPEC, known: Known | None = None) -> bool:
    world = SmallWorld()
    world.cgroup_path = PATHS.get  # type: ignore[assignment, method-assign]
    tree = parse_filter([text], None, world, Scope(0b1001, 0, preferred), dialect((6, 1)), words=WORDS)
    test = predicate(tree, world, known or Known())
    assert test is not None
    return test(row)


def inet(src: str, sport: int, dst: str = "0.0.0.0", dport: int = 0, **more: object) -> InetSocket:
    local, remote = ip_address(src), ip_address(dst)
    return InetSocket(
        table=Table.TCP,
        family=AF_INET if local.version == 4 else AF_INET6,
        state=State.ESTABLISHED,
        src=local.packed,
        sport=sport,
        dst=remote.packed,
        dport=dport,
        **more,  # type: ignore[arg-type]
    )


FOUR = inet("10.1.2.3", 22, "192.168.0.9", 40000, ifindex=7, extras=Extras(mark=0x15, cgroup_id=4711))
SIX = inet("2001:db8::1", 443, "fd00::3", 50000)
MAPPED = inet("::ffff:10.1.2.3", 80, "::ffff:10.9.9.9", 1)


@pytest.mark.parametrize(
    ("row", "text", "expected"),
    [
        (FOUR, "src 10.1.2.3", True),
        (FOUR, "src 10.1.2.4", False),
        (FOUR, "src 10/8", True),
        (FOUR, "src 10.1.3.0/23", True),
        (FOUR, "src 10.1.4.0/23", False),
        (FOUR, "src 0.0.0.0/0", True),
        (FOUR, "src any", True),
        (FOUR, "dst 192.168.0.9:40000", True),
        (FOUR, "dst 192.168.0.9:40001", False),
        (FOUR, "dst *:40000", True),
        (FOUR, "sport 22", True),
        (FOUR, "sport != 22", False),
        (FOUR, "sport >= 22 sport <= 22", True),
        (FOUR, "sport > 22", False),
        (FOUR, "dport < 40000 or sport < 23", True),
        (FOUR, "dev eth0", True),
        (FOUR, "dev lo", False),
        (FOUR, "dev != lo", True),
        (SIX, "dev 0", True),
        (FOUR, "fwmark 0x15", True),
        (FOUR, "fwmark 0x10/0xf0", True),
        (FOUR, "fwmark 0x15/0xf0", False),
        (SIX, "fwmark 0", True),
        (SIX, "fwmark 1", False),
        (FOUR, "cgroup /known", True),
        (SIX, "cgroup /known", False),
        (SIX, "src [2001:db8::]", False),
        (SIX, "src 2001:db8::/32", True),
        (SIX, "src 2001:db8::/127", True),
        # The first bits are compared whatever the families are: 2001:db8 is 32.1.13.184.
        (SIX, "src 32.1.13.184", True),
        (FOUR, "src [a01:203::]", True),
        (FOUR, "src [a01:203::1]", False),
        (MAPPED, "src 10.1.2.3", True),
        (MAPPED, "dst 10.9/16", True),
        (MAPPED, "src 10.1.2.4", False),
        (FOUR, "src [::ffff:10.1.2.3]", False),
        (MAPPED, "src [::ffff:10.1.2.3]", True),
        (SIX, "dst multi", True),
        (inet("10.0.0.2", 5), "src multi", True),
        (inet("10.0.0.2", 5), "src multi:6", False),
        (inet("10.0.0.9", 5), "src multi", False),
        (inet("10.0.0.9", 32768), "autobound", True),
        (inet("10.0.0.9", 60999), "autobound", True),
        (inet("10.0.0.9", 61000), "autobound", False),
        (FOUR, "src unix:*", False),
        (FOUR, "sport 1 or sport 2 and sport 22", False),
        (FOUR, "sport 22 or sport 1 and sport 2", False),
        (FOUR, "sport 22 and sport 1 or dport 40000", True),
        (FOUR, "sport 1 or ( sport 2 or sport 22 )", True),
        (FOUR, "sport 22 sport 22 sport 22", True),
        (FOUR, "sport 22 sport 22 sport 23", False),
        (FOUR, "! ( sport 22 and dport 1 )", True),
    ],
)
def test_inet(row: InetSocket, text: str, *, expected: bool) -> None:
    assert matches(row, text) is expected


def unix(name: bytes, peer: bytes | None = None) -> UnixSocket:
    return UnixSocket(
        table=Table.UNIX_STREAM, family=AF_UNIX, state=1, type=1, name=name, ino=71, peer_ino=72, peer_name=peer
    )


@pytest.mark.parametrize(
    ("row", "text", "expected"),
    [
        (unix(b"/run/App.sock\0"), "src unix:/RUN/*.sock", True),
        (unix(b"/run/App.sock"), "src unix:/run", False),
        (unix(b"\0ab\0cd"), "src unix:@ab@cd", True),
        (unix(b""), "src unix:", True),
        (unix(b""), "src unix:?*", False),
        (unix(b"/x"), "dst unix:*", True),
        (unix(b"/x"), "dst unix:/x", False),
        (unix(b"/x", b"/peer"), "dst unix:/peer", True),
        (unix(b"/x", b"*"), "dst unix:\\*", True),
        (unix(b"/x", b"*"), "dst unix:?", False),
        (unix(b"/x"), "sport 71", True),
        (unix(b"/x"), "dport 72", True),
        (unix(b"/x"), "sport >= 72", False),
        (unix(b"/x"), "src 0.0.0.0", False),
        (unix(b""), "src 0.0.0.0", True),
        (unix(b"/x"), "src 0.0.0.0/0", True),
        (unix(b""), "autobound", True),
        (unix(b"\x000a1f9"), "autobound", True),
        (unix(b"\x000a1F9"), "autobound", False),
        (unix(b"\x000a1f90"), "autobound", False),
        (unix(b"@0a1f9"), "autobound", True),
        (unix(b"\xff\n/x"), "src unix:\xff?/x", True),
        (unix(b"/x"), "dev 0", True),
        (unix(b"/x"), "fwmark 0", True),
    ],
)
def test_unix(row: UnixSocket, text: str, *, expected: bool) -> None:
    assert matches(row, text) is expected


PACKET = PacketSocket(table=Table.PACKET_RAW, family=AF_PACKET, state=7, type=3, protocol=0x0800, ifindex=7)
LOOSE = PacketSocket(table=Table.PACKET_RAW, family=AF_PACKET, state=7, type=3, protocol=0)
ROUTE = NetlinkSocket(table=Table.NETLINK, family=AF_NETLINK, state=7, protocol=0, portid=0)
GENL = NetlinkSocket(table=Table.NETLINK, family=AF_NETLINK, state=7, protocol=16, portid=-5)
VSOCK = VsockSocket(
    table=Table.VSOCK_STREAM, family=AF_VSOCK, state=1, type=1, src_cid=3, sport=1024, dst_cid=2, dport=0xFFFFFFFF
)
XDP = XdpSocket(table=Table.XDP, family=AF_XDP, state=7, ifindex=7, queue_id=3)


@pytest.mark.parametrize(
    ("row", "text", "expected"),
    [
        (PACKET, "src link:ip", True),
        (PACKET, "src link:ip:eth0", True),
        (PACKET, "src link:ip:lo", False),
        (PACKET, "src link:arp", False),
        (PACKET, "sport 7", True),
        (PACKET, "dev eth0", True),
        (PACKET, "src 0.8.0.0", True),
        (PACKET, "dst link:0", True),
        (PACKET, "dst link:4", False),
        (PACKET, "autobound", False),
        (LOOSE, "autobound", True),
        (ROUTE, "src netlink:rtnl:kernel", True),
        (ROUTE, "src netlink:genl", False),
        (ROUTE, "sport 0", True),
        (ROUTE, "dport = -1", True),
        (ROUTE, "dport 5", False),
        (ROUTE, "dst netlink:4", False),
        (ROUTE, "dst netlink:rtnl", True),
        (ROUTE, "autobound", False),
        (GENL, "autobound", True),
        (GENL, "src netlink:genl:-5", True),
        (GENL, "sport < 0", True),
        (VSOCK, "src vsock:3:1024", True),
        (VSOCK, "src vsock:9:1024", True),
        (VSOCK, "src vsock:3:1025", False),
        (VSOCK, "dst vsock:2:4294967295", True),
        (VSOCK, "dport < 0", False),
        (VSOCK, "autobound", True),
        (XDP, "sport 3", True),
        (XDP, "dev eth0", True),
        (XDP, "src 1.2.3.4", False),
    ],
)
def test_other_families(row: Socket, text: str, *, expected: bool) -> None:
    assert matches(row, text) is expected


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        VSOCK,
        UnixSocket(table=Table.UNIX_STREAM, family=AF_UNIX, state=1, type=1, ino=1, peer_ino=0xFFFFFFFF),
        UnixSocket(table=Table.UNIX_STREAM, family=AF_UNIX, state=1, type=1, ino=1, peer_ino=1 << 31),
    ],
)
def test_ports_were_signed_once(row: Socket, *, signed: bool) -> None:
    """As ss 6.15 and 7.3 answer to the same dumps."""
    for text, below in (("dport < 5", True), ("dport >= 1024", False)):
        expression = parse_filter([text], None, SmallWorld(), Scope(0, 0, AF_UNSPEC), dialect((6, 1)))
        matching = predicate(expression, SmallWorld(), signed_ports=signed)
        assert matching is not None
        assert matching(row) is (below is signed)


def test_tipc_is_not_filtered() -> None:
    row = TipcSocket(table=Table.TIPC, family=AF_TIPC, state=1, type=1, node=1, ref=2)
    assert matches(row, "sport 99999")


@pytest.mark.parametrize(
    ("text", "ns", "expected"),
    [
        ("held >= 5", 5 * 10**9, True),
        ("held > 5", 5 * 10**9, False),
        ("held < 5", 5 * 10**9 - 1, True),
        ("held <= 5", 5 * 10**9 + 1, False),
        ("held = 5", 5 * 10**9 + 999_999_999, True),
        ("held = 5", 6 * 10**9, False),
        ("held != 5", 6 * 10**9, True),
        ("held >= 0", None, False),
        ("held <= 9h", None, False),
        ("! held >= 0", None, False),
    ],
)
def test_held(text: str, ns: int | None, *, expected: bool) -> None:
    asked = []

    def held(row: Socket) -> int | None:
        asked.append(row)
        return ns

    for row in (FOUR, PACKET):
        assert matches(row, text, known=Known(held=held)) is expected
        assert asked[-1] is row


NGINX, CURL = Owner(b"nginx", 70, 3), Owner(b"curl", 71, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("port 22", True),
        ("port = :443", True),
        ("port 80", False),
        ("port != 443", False),
        ("port != 80", True),
        ("port > 400", True),
        ("port < 22", False),
        ("port <= 22 and port >= 443", True),
        ("host 10.1.2.3", True),
        ("host 192.0.2.0/24", True),
        ("host 192.0.2.9:443", True),
        ("host 192.0.2.9:22", False),
        ("host != 10.1.2.3", False),
        ("host != 10.9.9.9", True),
        ("pid 70", True),
        ("pid = 71", True),
        ("pid 7", False),
        ("pid != 70", False),
        ("comm nginx", True),
        ("comm 'cu*'", False),
        ("comm cu*", True),
        ("comm != nginx", False),
        ("not comm sshd", True),
        ("user 1000", True),
        ("user www-data", False),
        ("user != root", True),
        ("role client", True),
        ("role server", False),
        ("cause timeout-*", True),
        ("cause refused", False),
        ("cause != refused", True),
        ("lifetime > 5", True),
        ("lifetime < 5", False),
        ("comm sshd or ( port 443 and role client )", True),
        ("rtt > 40ms", True),
        ("rtt = 41ms", True),
        ("rtt < 41ms", False),
        ("sent = 2M", True),
        ("sent > 2M", False),
        ("sent < 2MiB", True),
        ("received = 0", True),
        ("received != 0", False),
        ("retransmits >= 3 and not retransmits > 3", True),
        ("container 0123456789ab", True),
        ("container 0123*", True),
        ("container f", False),
        ("container != 0123456789ab", False),
        ("pod 6ba7b810", True),
        ("pod web-0", True),
        ("pod web*", True),
        ("pod web", False),
        ("unit nginx", False),
    ],
)
def test_words_of_our_own(text: str, expected: bool) -> None:
    row = inet("10.1.2.3", 22, "192.0.2.9", 443, uid=1000)
    known = Known(
        owners=lambda _: (NGINX, CURL),
        role=lambda _: "client",
        cause=lambda _: "timeout-connect",
        lifetime=lambda _: 6 * 10**9,
        reported=lambda _: Reported(rtt_us=41_000, bytes_sent=2_000_000, bytes_received=0, retrans=3),
        netns=lambda _: (1, Label(pod="web-0")),
    )
    row.extras = Extras(cgroup_id=POD)
    assert matches(row, text, known=known) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unit nginx", True),
        ("unit nginx.service", True),
        ("unit ngin*", True),
        ("unit ngin", False),
        ("container nginx", False),
        ("pod nginx", False),
    ],
)
def test_units(text: str, expected: bool) -> None:
    row = inet("10.1.2.3", 22)
    row.extras = Extras(cgroup_id=UNIT)
    assert matches(row, text) is expected
    row.extras = Extras(cgroup_id=99)  # it has gone, and nobody knows its path
    assert not matches(row, text)
    row.extras = None
    assert not matches(row, text)


@pytest.mark.parametrize(
    "text",
    [
        "rtt > 0",
        "rtt < 5",
        "sent = 0",
        "retransmits = 0",
        "pod *",
        "unit *",
        "container *",
        "pid 70",
        "comm *",
        "role client",
        "cause *",
        "lifetime > 1",
        "lifetime < 1",
    ],
)
def test_what_nobody_knows_is_not_so(text: str) -> None:
    assert not matches(inet("10.1.2.3", 22), text)
    nobody = Known(owners=lambda _: None, role=lambda _: None, cause=lambda _: None, lifetime=lambda _: None)
    assert not matches(inet("10.1.2.3", 22), text, known=nobody)


def test_nobody_s_sockets_are_not_root_s() -> None:
    assert matches(inet("10.1.2.3", 22, uid=0), "user root")
    nobodys = msgspec.structs.replace(inet("10.1.2.3", 22, uid=0), state=State.TIME_WAIT)
    assert not matches(nobodys, "user root")


def test_no_filter_is_no_predicate() -> None:
    assert predicate(None, SmallWorld()) is None


def test_a_filter_of_many_lines() -> None:
    world = SmallWorld()
    tree = parse_filter(["sport 1 or"] * 5000 + ["sport 22"], None, world, Scope(1, 0, 0), dialect((6, 1)))
    mixed = parse_filter(["sport 1 or sport 2 and"] * 5000 + ["sport 22"], None, world, Scope(1, 0, 0), dialect((6, 1)))
    for expression, expected in ((tree, True), (mixed, False)):
        test = predicate(expression, world)
        assert test is not None
        assert test(FOUR) is expected


def test_thresholds() -> None:
    assert thresholds(None) == ()
    assert thresholds(Compare(True, True, 22)) == ()
    inner = Chain(Amount("held", True, 5), (("and", Not(Amount("held", False, 7))), ("or", Compare(True, True, 1))))
    assert thresholds(Not(inner)) == (5, 8)
