"""Makes sock_diag answers of the tables that a machine's kernel may lack: SCTP, raw, DCCP, MPTCP, vsock, XDP, TIPC; and
of unix, packet and netlink sockets beyond what a test can bring about.

Plausible and absurd values mixed, as in ``dumps``; layouts: include/uapi/linux/{inet_diag,sctp,mptcp,vm_sockets_diag,
xdp_diag,tipc_netlink,unix_diag,packet_diag,netlink_diag}.h. ``tests/golden/shim.c`` hands them to the real ss.
"""

import random
import struct
from collections.abc import Callable

import dumps
from dumps import DONE, attribute, number

__all__ = ["ANSWERS", "answer"]


def message(payload: bytes) -> bytes:
    """A netlink message of type SOCK_DIAG_BY_FAMILY, part of a dump."""
    return struct.pack("=IHHII", 16 + len(payload), 20, 2, 0, 0) + payload + bytes(-len(payload) % 4)


def words(rng: random.Random, count: int) -> bytes:
    """So many u32, some of them absurd."""
    return struct.pack(f"={count}I", *(rng.choice([0, rng.randint(0, 5000), number(rng)]) for _ in range(count)))


def some(rng: random.Random, *pairs: tuple[int, bytes], chance: float = 0.7) -> bytes:
    """Each attribute present or not."""
    return b"".join(attribute(kind, payload) for kind, payload in pairs if rng.random() < chance)


def cookie(rng: random.Random) -> bytes:
    """Two words, the lower one first."""
    return struct.pack("=Q", rng.choice([0, 1, rng.randint(0, (1 << 64) - 1)]))


def inode(rng: random.Random) -> int:
    return rng.choice([0, rng.randint(1, 10**7), number(rng)])


def inet(protocol: int) -> Callable[[random.Random], bytes]:
    """Rows of an inet_diag table: ``dumps``' own, with this protocol's kind of INFO."""

    def row(rng: random.Random) -> bytes:
        made = bytearray(dumps.random_message(rng))
        head, fixed = 16, 72
        body = bytes(made[head : head + fixed])
        rest = b"".join(
            attribute(kind, value)
            for kind, value in walk(bytes(made[head + fixed :]))
            if kind not in (2, 3, 4, 9, 10, 16, 18, 19)
        )
        if protocol == 132:
            body = bytes([body[0], rng.choice([1, 2, 3, 4, 5, 6, 7, 7]), body[2], body[3]]) + body[4:]
            body = body[:-4] + struct.pack("=I", rng.choice([4711, 4711, 4712, 0]))
            rest += some(rng, (2, sctp_info(rng)), (12, sockaddrs(rng)), (13, sockaddrs(rng)))
        elif protocol == 262:
            rest += some(rng, (2, mptcp_info(rng)))
        elif protocol == 255:
            rest += some(rng, (10, bytes([rng.choice([0, 1, 6, 17, 33, 58, 89, 132, 255])])), chance=0.9)
            body = body[:4] + struct.pack(">HH", rng.choice([0, 1, 6, 58, 89, 255, 40000]), 0) + body[8:]
        return message(body + rest)

    return row


def walk(data: bytes) -> list[tuple[int, bytes]]:
    """The attributes of ``dumps``, which are sound."""
    found = []
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found.append((kind, data[4:length]))
        data = data[length + 3 & ~3 :]
    return found


def sctp_info(rng: random.Random) -> bytes:
    """Struct sctp_info."""
    blob = (
        words(rng, 1)
        + struct.pack("=I", rng.randint(0, 7))
        + words(rng, 1)
        + struct.pack("=4H", *(rng.choice([0, 1, 65535]) for _ in range(4)))
        + words(rng, 8)
    )
    blob += bytes([rng.randint(0, 1), rng.randint(0, 1), 0, 0]) + words(rng, 28) + bytes(128) + words(rng, 12)
    return blob + words(rng, 3) + bytes(rng.choice([0, 1, 255]) for _ in range(4)) + words(rng, 2)


def mptcp_info(rng: random.Random) -> bytes:
    """Struct mptcp_info of any length a kernel has had."""
    blob = bytes(rng.choice([0, 1, 255]) for _ in range(8)) + words(rng, 28)
    return blob[: rng.choice([len(blob), 40, 48, 72, 88])]


def sockaddrs(rng: random.Random) -> bytes:
    """Some struct sockaddr_storage."""
    found = b""
    for _ in range(rng.randint(0, 3)):
        if rng.random() < 0.5:
            one = struct.pack("=H", 2) + struct.pack(">H", 80) + rng.choice(dumps.ADDRESSES_4)
        else:
            one = struct.pack("=H", 10) + struct.pack(">HI", 80, 0) + rng.choice(dumps.ADDRESSES_6)
        found += one.ljust(128, b"\0")
    return found


def vsock(rng: random.Random) -> bytes:
    def cid() -> int:
        return rng.choice([0, 1, 2, 3, 0xFFFFFFFF, number(rng)])

    def port() -> int:
        return rng.choice([0, 22, 1023, 1024, 0xFFFFFFFF, number(rng)])

    kind, state = rng.choice([1, 1, 2, 5]), rng.choice([1, 2, 3, 7, 10])
    return message(
        struct.pack("=4B5I", 40, kind, state, rng.randint(0, 3), cid(), port(), cid(), port(), inode(rng)) + cookie(rng)
    )


def xdp(rng: random.Random) -> bytes:
    umem = struct.pack("=Q", number(rng, 64)) + words(rng, 6) + struct.pack("=II", rng.randint(0, 3), rng.randint(0, 9))
    return message(
        struct.pack("=BBHI", 44, 3, 0, inode(rng))
        + cookie(rng)
        + some(rng, (1, struct.pack("=II", rng.choice([0, 1, 1, 7777]), rng.choice([0, 1, 63]))))
        + some(rng, (2, words(rng, 1)), (3, words(rng, 1)), (4, words(rng, 1)), (5, umem), (6, words(rng, 1)))
        + some(rng, (7, words(rng, 1)), (9, struct.pack("=6Q", *(number(rng, 64) for _ in range(6)))))
        + some(rng, (8, words(rng, 9)), chance=0.9)
    )


def tipc(rng: random.Random) -> bytes:
    def u32(value: int) -> bytes:
        return struct.pack("=I", value)

    connection = attribute(2, u32(number(rng))) + attribute(3, u32(number(rng)))
    if rng.random() < 0.6:
        connection += attribute(1, b"") + attribute(4, u32(number(rng))) + attribute(5, u32(number(rng)))
    stat = attribute(0, u32(rng.randint(0, 9))) + attribute(1, u32(rng.randint(0, 9))) + attribute(4, u32(number(rng)))
    stat += some(rng, (2, b""), (3, b""))
    nest = attribute(1, u32(number(rng))) + attribute(2, u32(number(rng)))
    nest += some(rng, (3, connection)) + some(rng, (4, b"")) + attribute(5, stat)
    nest += attribute(6, u32(rng.choice([1, 2, 4, 5]))) + attribute(7, u32(inode(rng)))
    nest += (
        attribute(8, u32(rng.choice([0, 1000])))
        + attribute(9, u32(rng.choice([1, 7, 10])))
        + attribute(10, cookie(rng))
    )
    return message(attribute(2, nest))


def unix(rng: random.Random) -> bytes:
    name = rng.choice(
        [b"/run/x.sock\0", b"\0abstract\0name", b"\0", b"/with \n newline\0", b"/\xff\xc3\xbc\0", b"x" * 108]
    )
    return message(
        struct.pack("=BBBBI", 1, rng.choice([1, 2, 5]), rng.choice([1, 7, 10]), 0, inode(rng))
        + cookie(rng)
        + some(rng, (0, name), (1, words(rng, 2)), (2, struct.pack("=I", inode(rng))), (4, words(rng, 2)))
        + some(rng, (3, words(rng, rng.randint(0, 4))), (5, words(rng, 9)), (6, bytes([rng.randint(0, 3)])))
    )


def packet(rng: random.Random) -> bytes:
    ring = struct.pack("=7I", *(number(rng) for _ in range(7)))
    info = struct.pack("=5I", rng.choice([0, 1, 7777]), rng.randint(0, 2), 0, number(rng), 0)
    bpf = b"".join(struct.pack("=HBBI", 6, 0, 0, number(rng)) for _ in range(rng.randint(0, 3)))
    return message(
        struct.pack("=BBHI", 17, rng.choice([2, 3]), rng.choice([0, 3, 0x0800, 0x8902, 0x1234, 0x88CC]), inode(rng))
        + cookie(rng)
        + some(rng, (0, info + struct.pack("=I", rng.randint(0, 31))), chance=0.9)
        + attribute(6, words(rng, 9))
        + some(rng, (2, ring), (3, ring), (4, words(rng, 1)), (5, words(rng, 1)), (7, bpf), chance=0.5)
    )


def netlink(rng: random.Random) -> bytes:
    return message(
        struct.pack("=4B", 16, 3, rng.choice([0, 4, 9, 15, 16, 17, 22, 200]), rng.randint(0, 1))
        + struct.pack("=iIII", rng.choice([0, -1, -4711, 1 << 22]), number(rng), number(rng), inode(rng))
        + cookie(rng)
        + attribute(0, words(rng, 9))
        + some(rng, (1, words(rng, rng.choice([0, 2, 4]))))
    )


ANSWERS: dict[str, Callable[[random.Random], bytes]] = {
    "1": unix,
    "16": netlink,
    "17": packet,
    "30": tipc,
    "40": vsock,
    "44": xdp,
    **{f"{family}.{protocol}": inet(protocol) for family in (2, 10) for protocol in (17, 33, 132, 255, 262)},
}
"""The file's name for the shim, FAMILY or FAMILY.PROTOCOL → what makes one row."""


def answer(name: str, rng: random.Random, count: int) -> bytes:
    """A whole answer of ``count`` rows. Of an inet table, rows of the family that was asked for only."""
    family = int(name.partition(".")[0])
    rows: list[bytes] = []
    while len(rows) < count:
        row = ANSWERS[name](rng)
        if "." not in name or row[16] == family:
            rows.append(row)
    return b"".join(rows) + DONE
