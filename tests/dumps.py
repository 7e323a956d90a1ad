"""Makes sock_diag answers: the bytes that TCPDIAG_FILE takes, so that ss itself can say how a socket is to be printed.

``random_dump`` mixes plausible and absurd values of every attribute, because ss's conditions ("not zero", "not 3",
"below 65535") are met only by such. Layouts: include/uapi/linux/{inet_diag,tcp,mptcp,tls}.h.
"""

import random
import struct

DONE = struct.pack("=IHHIIi", 20, 3, 2, 123456, 0, 0)


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def message(
    *,
    family: int = 2,
    state: int = 1,
    timer: int = 0,
    retrans: int = 0,
    sport: int = 0,
    dport: int = 0,
    src: bytes = bytes(4),
    dst: bytes = bytes(4),
    ifindex: int = 0,
    cookie: int = 0,
    expires: int = 0,
    rqueue: int = 0,
    wqueue: int = 0,
    uid: int = 0,
    inode: int = 0,
    attributes: bytes = b"",
) -> bytes:
    """One socket: nlmsghdr, struct inet_diag_msg, attributes."""
    body = struct.pack("=BBBB", family, state, timer, retrans) + struct.pack(">HH", sport, dport)
    body += src.ljust(16, b"\0") + dst.ljust(16, b"\0")
    body += struct.pack("=IQ5I", ifindex, cookie, expires, rqueue, wqueue, uid, inode) + attributes
    return struct.pack("=IHHII", 16 + len(body), 20, 2, 123456, 0) + body


def number(rng: random.Random, bits: int = 32) -> int:
    """A number that may matter: zeros, small ones, edges, and anything."""
    top = (1 << bits) - 1
    return (
        rng.choice([0, 0, 1, 2, 3, 10, 999, 1000, 65535, rng.randint(0, 10**6), top >> 1, top, rng.randint(0, top)])
        & top
    )


def tcp_info(rng: random.Random) -> bytes:
    """Struct tcp_info of any length a kernel has had, with values of any kind."""
    calm = rng.random() < 0.7

    def u32() -> int:
        return rng.randint(0, 5_000_000) if calm and rng.random() < 0.8 else number(rng)

    blob = struct.pack("=8B", *(rng.choice([0, 1, 2, rng.randint(0, 255)]) for _ in range(8)))
    words = [u32() for _ in range(24)]
    words[0] = rng.choice([0, 3_000_000, 204_000, u32()])  # rto
    words[17] = rng.choice([7, 65534, 65535, 65536, 0x7FFFFFFF, u32()])  # snd_ssthresh
    words[20] = rng.choice([0, 3, 3, 4, u32()])  # reordering
    blob += struct.pack("=24I", *words)
    blob += struct.pack("=4Q", *(rng.choice([0, number(rng, 64), rng.randint(0, 10**11)]) for _ in range(4)))
    blob += struct.pack("=6I", *(u32() for _ in range(6)))
    blob += struct.pack("=4Q", *(rng.choice([0, number(rng, 64), rng.randint(0, 10**9)]) for _ in range(4)))
    blob += struct.pack("=2I2Q", u32(), u32(), number(rng, 64), number(rng, 64))
    blob += struct.pack("=6I", *(u32() for _ in range(6)))
    return blob[: rng.choice([len(blob), len(blob), 104, 192, rng.randrange(0, len(blob) + 1)])]


def ulp(rng: random.Random) -> bytes:
    """The nest of INET_DIAG_ULP_INFO."""
    kind = rng.choice(["tls", "mptcp", "espintcp"])
    nest = attribute(1, kind.encode() + b"\0")
    if kind == "tls":
        inner = b""
        if rng.random() < 0.9:
            inner += attribute(1, struct.pack("=H", rng.choice([0x303, 0x304, 0x301])))
            inner += attribute(2, struct.pack("=H", rng.choice([51, 52, 54])))
            inner += attribute(3, struct.pack("=H", rng.choice([1, 2, 3, 4, 9])))
            inner += attribute(4, struct.pack("=H", rng.choice([1, 2, 3, 4, 9])))
        if rng.random() < 0.5:
            inner += attribute(5, b"")
        nest += attribute(2, inner)
    elif kind == "mptcp":
        inner = b""
        for number_, size in ((1, 4), (2, 4), (3, 4), (4, 8), (5, 4), (6, 4), (7, 2), (8, 4), (9, 1), (10, 1)):
            if rng.random() < 0.9:
                value = rng.choice([0, rng.randint(0, 255), number(rng, size * 8)]) & ((1 << size * 8) - 1)
                inner += attribute(number_, value.to_bytes(size, "little"))
        nest += attribute(3, inner)
    return nest


def md5(rng: random.Random) -> bytes:
    """INET_DIAG_MD5SIG: some keys, with bytes that need escapes."""
    keys = b""
    for _ in range(rng.randint(1, 3)):
        key = bytes(rng.choice([65, 92, 44, 32, 0, 10, 200, 126]) for _ in range(rng.randint(1, 9)))
        v6 = rng.random() < 0.5
        keys += struct.pack("=BBH16s80s", 10 if v6 else 2, rng.choice([0, 24, 128]), len(key), rng.randbytes(16), key)
    return attribute(18, keys)


def attributes(rng: random.Random, *, with_keys: bool = True) -> bytes:
    """A handful of INET_DIAG_* attributes, each present or not."""
    out = b""

    def maybe(kind: int, payload: bytes, chance: float = 0.5) -> None:
        nonlocal out
        if rng.random() < chance:
            out += attribute(kind, payload)

    maybe(1, struct.pack("=4I", *(number(rng) for _ in range(4))))
    maybe(2, tcp_info(rng), 0.8)
    maybe(3, struct.pack("=4I", rng.randint(0, 1), 5, rng.choice([0, 0x7FFFFFFF, 1234, 99]), 8), 0.2)
    maybe(4, rng.choice([b"cubic\0", b"reno\0", b"\0", b"bbr\0"]))
    maybe(5, bytes([rng.choice([0, 16, 255])]))
    maybe(6, bytes([rng.choice([0, 16, 255])]), 0.3)
    maybe(7, struct.pack("=9I", *(number(rng) for _ in range(9))))
    maybe(8, bytes([rng.randint(0, 3)]))
    maybe(9, struct.pack("=HHIII", rng.randint(0, 1), 1, 2, 3, number(rng)), 0.2)
    maybe(10, bytes([rng.choice([6, 17, 0, 1, 58, 33])]), 0.2)
    maybe(11, bytes([rng.randint(0, 1)]))
    maybe(15, struct.pack("=I", number(rng)))
    maybe(16, struct.pack("=5I", number(rng), rng.choice([0, 3]), number(rng), number(rng), number(rng)), 0.2)
    maybe(17, struct.pack("=I", number(rng)), 0.3)
    if with_keys:
        maybe(18, md5(rng)[4:], 0.1)
    maybe(19, ulp(rng), 0.3)
    maybe(22, struct.pack("=H", rng.randint(0, 0xFFFF) & 0x7FF))
    return out


ADDRESSES_4 = [bytes(4), b"\x7f\0\0\x01", b"\x0a\0\0\xfe", b"\xc0\xa8\x64\xc8", b"\xff\xff\xff\xff"]
ADDRESSES_6 = [
    bytes(16),
    bytes(15) + b"\1",
    b"\xfe\x80" + bytes(6) + b"\x02\x11\x22\xff\xfe\x33\x44\x55",
    bytes(10) + b"\xff\xff\x0a\1\2\3",
    bytes(12) + b"\1\2\3\4",
    b"\x20\1\x0d\xb8" + bytes(8) + b"\0\1\0\2",
    b"\x20\1\x0d\xb8\0\0\0\1\0\1\0\1\0\1\0\1",
    b"\x20\1\0\0\0\0\0\1" + bytes(8),
]


def random_message(rng: random.Random, *, rich: bool = True, md5: bool = False) -> bytes:
    """One socket with anything in it; ``rich`` adds attributes."""
    v6 = rng.random() < 0.5
    choose = ADDRESSES_6 if v6 else ADDRESSES_4
    return message(
        family=10 if v6 else 2,
        state=rng.randint(1, 11),
        timer=rng.choice([0, 1, 2, 3, 4, 5, 6, 200]),
        retrans=rng.choice([0, 1, 7, 255]),
        sport=rng.choice([0, 22, 80, 443, 514, 8080, 40000, 65535, rng.randint(0, 65535)]),
        dport=rng.choice([0, 22, 80, 443, 514, 8080, 40000, 65535, rng.randint(0, 65535)]),
        src=rng.choice([*choose, rng.randbytes(16 if v6 else 4)]),
        dst=rng.choice([*choose, rng.randbytes(16 if v6 else 4)]),
        ifindex=rng.choice([0, 0, 0, 1, 7777]),
        cookie=rng.choice([0, 1, rng.randint(0, (1 << 64) - 1)]),
        expires=rng.choice([0, 9, 999, 1000, 1050, 9999, 10500, 60001, 61000, 601000, 7200000, number(rng)]),
        rqueue=rng.choice([0, 0, number(rng)]),
        wqueue=rng.choice([0, 128, number(rng)]),
        uid=rng.choice([0, 1000, 4294967295]),
        inode=rng.choice([0, rng.randint(1, 10**7)]),
        attributes=attributes(rng, with_keys=md5) if rich else b"",
    )


def random_dump(rng: random.Random, count: int, *, rich: bool = True, md5: bool = False) -> bytes:
    """A whole dump of ``count`` sockets and its DONE."""
    return b"".join([random_message(rng, rich=rich, md5=md5) for _ in range(count)]) + DONE
