"""NDJSON of a snapshot: every line fits the schema, numbers are numbers, what is not known is not there."""

import random
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from test_cells import context, netlink, packet, tcp, unix

import sstrace
from sstrace.model import (
    AF_INET6,
    AF_TIPC,
    AF_VSOCK,
    AF_XDP,
    Extras,
    Owner,
    Socket,
    Table,
    TipcSocket,
    VsockSocket,
    XdpSocket,
)
from sstrace.render.ndjson import Lines
from sstrace.render.summary import summary_line
from sstrace.wire import inet_diag
from sstrace.wire.netlink import attribute
from sstrace.wire.proc_net import SockStat

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import dumps

SCHEMA = msgspec.json.decode((Path(sstrace.__file__).parent / "schemas/snapshot.json").read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EVERY = {
    "timers": True,
    "extended": True,
    "memory": True,
    "processes": True,
    "info": True,
    "tipcinfo": True,
    "tos": True,
    "cgroup": True,
    "bpf": True,
    "inet_sockopt": True,
}
NOON = 1_700_000_000_000_000_042


def lines(rows: list[Any], *, owners: Any = None, destroyed: bool = False, **show: Any) -> list[dict[str, Any]]:
    """The rows as the objects that a reader gets, each checked against the schema."""
    written: list[bytes] = []
    sink = Lines(context((7, 1), owners=owners, **show), written.append, NOON, destroyed=destroyed)
    sink.feed(rows)
    sink.flush()
    text = b"".join(written)
    found = [msgspec.json.decode(line) for line in text.splitlines()]
    assert len(found) == len(rows)
    for line, raw in zip(found, text.splitlines(), strict=True):
        VALIDATOR.validate(line)
        assert raw.startswith(b'{"type":"')
        assert None not in line.values()
    return found


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate({"type": "seen"})


def test_a_plain_row() -> None:
    row = tcp(ino=5, cookie=6, uid=0, recv_q=1, send_q=0xFFFFFFFF)
    assert lines([row]) == [
        {
            "type": "seen",
            "ts": "2023-11-14T22:13:20.000000042Z",
            "netid": "tcp",
            "family": "inet",
            "state": "ESTAB",
            "src": "10.0.0.1",
            "sport": 22,
            "dst": "10.0.0.2",
            "dport": 40000,
            "recv_q": 1,
            "send_q": 4294967295,
            "uid": 0,
            "ino": 5,
            "sk": 6,
        }
    ]


def test_what_is_not_asked_for_is_not_there() -> None:
    extras = Extras(
        mark=1, shutdown=1, tos=4, skmem=(1,) * 9, info=bytes(104), cgroup_id=9, sockopt=2, congestion="bbr"
    )
    row = tcp(timer=1, expires_ms=7, extras=extras, ino=3)
    owners = {3: [Owner(b"a\xff", 7, 4)]}
    bare = lines([row])[0]
    full = lines([row], owners=owners, **EVERY)[0]
    assert set(full) - set(bare) == {
        "timer",
        "mark",
        "shutdown",
        "tos",
        "skmem",
        "tcp_info",
        "cgroup",
        "sockopt",
        "congestion",
        "owners",
    }
    assert full["timer"] == {"name": "on", "expires_ms": 7, "retrans": 0}
    assert full["owners"] == [{"comm": "a\\xff", "pid": 7, "fd": 4}]
    assert full["shutdown"] == ["recv"]
    assert full["cgroup"] == "/a/b"
    assert full["sockopt"] == ["is_icsk"]
    assert full["skmem"]["drops"] == 1


def test_tcp_info_ends_where_the_kernels_ends() -> None:
    blob = dumps.tcp_info(random.Random(1))
    sizes = {}
    for size in (0, 8, 104, 232, 280):
        row = tcp(extras=Extras(info=blob.ljust(280, b"\1")[:size]))
        sizes[size] = list(lines([row], info=True)[0]["tcp_info"])
    assert sizes[0] == []
    assert sizes[8][-1] == "fastopen_client_fail"
    assert sizes[104][-1] == "total_retrans"
    assert sizes[232][-1] == "rehash" or "snd_wnd" in sizes[232]
    assert len(sizes[280]) > len(sizes[232]) > len(sizes[104])


@pytest.mark.parametrize("seed", range(5))
def test_anything_the_kernel_may_say_fits_the_schema(seed: int) -> None:
    rows = inet_diag.decode(dumps.random_dump(random.Random(seed), 60, md5=True), Table.TCP).rows
    assert lines(rows, **EVERY)
    assert lines(rows)


def test_socket_storage() -> None:
    blob = attribute(1, attribute(2, (7).to_bytes(4, sys.byteorder)) + attribute(3, b"\1\2"))
    assert lines([tcp(extras=Extras(storage=blob))], bpf_maps=True)[0]["storage"] == [{"map_id": 7}]
    assert "storage" not in lines([tcp(extras=Extras(storage=blob))])[0]


def test_every_table_fits_the_schema() -> None:
    rows: list[Socket] = [
        unix(name=b"\0x\xff", shutdown=3, vfs=(11, 0x801), pending=(4,), skmem=(1,) * 9, peer_ino=9, uid=0),
        unix(),
        packet(info=(1, 2, 3, 4, 5, 6), rx_ring=(1,) * 7, fanout=7, bpf=((6, 0, 0, 1),), skmem=(1,) * 9, ifindex=1),
        netlink(portid=77, connected=True, dst_group=1, dst_portid=2, skmem=(1,) * 9),
        VsockSocket(
            table=Table.VSOCK_STREAM, family=AF_VSOCK, state=1, type=1, src_cid=3, sport=1, dst_cid=2, dport=4294967295
        ),
        TipcSocket(
            table=Table.TIPC, family=AF_TIPC, state=1, type=1, node=1, ref=2, peer_node=3, peer_ref=4, congestion=3
        ),
        XdpSocket(table=Table.XDP, family=AF_XDP, state=7, ifindex=2, umem=(1,) * 9, stats=(1,) * 6, rx_entries=5),
        tcp(family=AF_INET6, src=bytes(16), dst=bytes(16), ifindex=2, extras=Extras(v6only=True)),
    ]
    found = lines(rows, **EVERY)
    assert [line["netid"] for line in found] == ["u_str", "u_str", "p_raw", "nl", "v_str", "ti_st", "xdp", "tcp"]
    assert found[0]["src"] == "@x\\xff"
    assert "src" not in found[1]
    assert found[3]["comm"] == "daémon"
    assert found[5]["congested"] == ["link", "conn"]
    assert found[7]["ifname"] == "eth0"
    assert found[7]["v6only"] is True
    assert len(lines(rows)) == len(rows)


def test_destroyed_sockets_say_so() -> None:
    assert lines([tcp(state=7)], destroyed=True)[0]["type"] == "destroyed"


def test_the_summary_fits_the_schema() -> None:
    line = msgspec.json.decode(summary_line(SockStat(used=5, tcp_alloc=3, tcp_tw=2), 1))
    VALIDATOR.validate(line)
    assert line["sockets"] == 5
    assert line["tcp"] == 5
