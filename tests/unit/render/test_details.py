"""Rows with details by column print what the same rows print one by one, whatever is in them."""

import random
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sstrace.decoders import decoders
from sstrace.dialect import dialect
from sstrace.errors import DecodeError
from sstrace.model import AF_INET, AF_INET6, InetSocket, Owner, Show, Table
from sstrace.render import info_columns
from sstrace.render.common import Context
from sstrace.render.info import tcp_items
from sstrace.render.info_columns import TcpItems
from sstrace.render.ss import Text
from sstrace.wire import inet_columns, inet_diag, inet_groups, tcp_info

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import dumps

ALL_ONES = (1 << 64) - 1
trials = st.sampled_from([-1, 0, 1024])
"""Texts after which remembering them is judged: -1 gives it up before the first."""
VERSIONS = ((6, 1), (6, 5), (6, 15), (7, 3))
FLAGS = ("timers", "extended", "memory", "info", "oneline", "numeric", "tos", "cgroup", "inet_sockopt", "processes")


Match = Callable[[InetSocket], bool]


class Names:
    """The few names that these rows ask for."""

    def ifname(self, index: int) -> str:
        return f"if{index}"

    def ephemeral(self) -> tuple[int, int]:
        return 32768, 60999

    def rpc(self, port: int, protocol: str) -> str | None:
        return "rpc.x" if port == 40_000 else None

    def host(self, family: int, address: bytes) -> str | None:
        return None

    def service(self, port: int, protocol: str | None) -> str | None:
        return "ssh" if port == 22 else None

    def cgroup_path(self, cgroup_id: int) -> bytes | None:
        return None if cgroup_id == 13 else b"/%d%%s" % cgroup_id

    def cgroup_trouble(self, cgroup_id: int) -> str | None:
        return None


class Printed:
    """One table: what it wrote, beside it, and on standard error."""

    def __init__(
        self, datagrams: Sequence[bytes], version: tuple[int, int], *, columns: bool, match: Match | None, **show: Any
    ) -> None:
        self.out: list[bytes] = []
        self.warned: list[str] = []
        self.by_column = 0
        context = Context(
            Show(**show),
            dialect(version),
            Names(),  # type: ignore[arg-type]
            decoders,
            owners={7: [Owner(b"a%sb", 1, 2)]},
            aside=self.out.append,
            warn=self.warned.append,
        )
        text = Text(context, self.out.append, screen=None)
        text.begin(Table.TCP)
        for datagram in datagrams:
            if columns and text.grouped():
                found = inet_groups.decode(datagram)
                if found is not None and match is not None:
                    found = inet_groups.select(*found, match)
                if found is not None and text.feed_groups(*found):
                    self.by_column += 1
                    continue
            text.feed([row for row in inet_diag.decode(datagram, Table.TCP).rows if match is None or match(row)])
        text.flush()

    def all(self) -> tuple[bytes, list[str]]:
        return b"".join(self.out), self.warned


def same(datagrams: Sequence[bytes], version: tuple[int, int], match: Match | None = None, **show: Any) -> int:
    """Print both ways, compare; how many datagrams went by column."""
    rows, columns = (Printed(datagrams, version, columns=way, match=match, **show) for way in (False, True))
    assert columns.all() == rows.all()
    return columns.by_column


def info(rng: random.Random, base: bytes, differing: int) -> bytes:
    """A tcp_info like another, but for some bytes."""
    blob = bytearray(base)
    for _ in range(differing):
        if blob:
            at = rng.randrange(len(blob))
            blob[at] = rng.choice([0, 1, 255, rng.randrange(256)])
    return bytes(blob)


def before(rng: random.Random) -> bytes:
    """Attributes that come before tcp_info."""
    found = b""
    for kind, payload in (
        (8, bytes([rng.choice([0, 1, 3])])),
        (5, bytes([rng.choice([0, 16])])),
        (15, struct.pack("=I", rng.choice([0, 7]))),
        (21, struct.pack("=Q", rng.choice([1, 1, 2, 13]))),
        (11, bytes([rng.choice([0, 1])])),
        (7, struct.pack("=9I", *(rng.choice([0, 4096]) for _ in range(9)))),
        (1, struct.pack("=4I", 1, 2, 3, 4)),
        (22, struct.pack("=H", rng.choice([0, 0x57]))),
        (10, b"\6"),
    ):
        if rng.random() < (0.5 if kind != 10 else 0.02):
            found += dumps.attribute(kind, payload)
    return found


def behind(rng: random.Random) -> bytes:
    """Attributes that come behind it."""
    found = dumps.attribute(4, rng.choice([b"cubic\0", b"bbr\0", b"100%\0", b"\0"]))
    if rng.random() < 0.3:
        found += dumps.attribute(16, struct.pack("=5I", rng.randrange(9), 0, rng.choice([0, 400]), 256, 0))
    if rng.random() < 0.2:
        found += dumps.attribute(9, struct.pack("=HHIII", rng.choice([0, 1]), 0, 1, 2, 3))
    if rng.random() < 0.05:
        found += dumps.attribute(3, struct.pack("=4I", 1, 0, 5000, 0))
    if rng.random() < 0.1:
        found += dumps.attribute(19, dumps.ulp(rng))
    if rng.random() < 0.03:
        found += dumps.attribute(18, struct.pack("=BBH16s80s", AF_INET, 24, 3, b"\x0a\0\0\1", b"key"))
    return found


def datagram(rng: random.Random) -> bytes:
    """Rows as the kernel sends them together: alike, but for some."""
    family = rng.choice([AF_INET, AF_INET6])
    size = 4 if family == AF_INET else 16
    shapes = []
    for _ in range(rng.choice([1, 1, 2, 3, 12])):
        blob = dumps.tcp_info(rng)
        shapes.append((blob, [before(rng)] * rng.choice([1, 3]) + [before(rng)], [behind(rng), behind(rng)]))
    calm, quiet = rng.random() < 0.9, rng.random() < 0.5
    out = []
    for _ in range(rng.randrange(1, 30)):
        blob, heads, tails = rng.choice(shapes)
        bare = rng.random() < 0.1
        attributes = rng.choice(heads)
        if not bare:
            attributes += dumps.attribute(2, info(rng, blob, rng.choice([0, 0, 3, 40]))) + rng.choice(tails)
        busy = not quiet and rng.random() < 0.3
        row = dumps.message(
            family=family,
            state=rng.choice([1, 1, 6, 8, 12] if calm else [1, 3, 10, 13, 14, 200]),
            timer=rng.randrange(7) if busy else 0,
            retrans=rng.choice([0, 3, 255]),
            sport=rng.choice([22, 0, 40000]),
            dport=rng.randrange(65536),
            src=bytes([10] * size) if calm or rng.random() < 0.9 else bytes(size),
            dst=rng.randbytes(size),
            ifindex=0 if calm else rng.choice([0, 0, 0, 2]),
            cookie=rng.randrange(1 << 64),
            expires=rng.choice([0, 999, 70_000]),
            rqueue=rng.choice([0, 1 << 31]),
            wqueue=rng.randrange(1 << 20),
            uid=rng.choice([0, 1000]),
            inode=rng.choice([0, 7, 8]),
            attributes=attributes,
        )
        out.append(row + bytes(-len(row) % 4))
    return b"".join(out)


@given(
    seed=st.integers(0, 1 << 32),
    version=st.sampled_from(VERSIONS),
    flags=st.sets(st.sampled_from(FLAGS)),
    trial=trials,
)
def test_columns_print_what_rows_print(seed: int, version: tuple[int, int], flags: set[str], trial: int) -> None:
    rng = random.Random(seed)
    datagrams = [datagram(rng) for _ in range(rng.randrange(1, 5))]
    options: dict[str, Any] = dict.fromkeys(flags, True)
    with mock.patch.object(info_columns, "_TRIAL", trial):
        same(datagrams, version, **options)


@given(seed=st.integers(0, 1 << 32), share=st.sampled_from([2, 3, 40]))
def test_columns_can_be_filtered(seed: int, share: int) -> None:
    """By whatever stands in the fixed part or in an attribute."""
    rng = random.Random(seed)

    def match(row: InetSocket) -> bool:
        mark = row.extras.mark if row.extras is not None and row.extras.mark is not None else 0
        told = (row.family, row.state, row.ino, row.src, row.sport, row.dst, row.dport, row.uid, mark)
        return hash(told) % share != 0

    same([datagram(rng) for _ in range(3)], (6, 1), match, info=True, extended=True)


def test_most_of_a_common_table_goes_by_column() -> None:
    """The test above would also hold if nothing went by column."""
    rng = random.Random(5)
    blob = struct.pack("=8B", 1, 0, 0, 0, 0, 7, 0x77, 1) + struct.pack("=24I", *range(24)) + bytes(176)
    tails = [dumps.attribute(4, b"cubic\0"), dumps.attribute(4, b"dctcp\0") + b""]
    datagrams = []
    for _ in range(20):
        rows = [
            dumps.message(
                src=b"\x0a\0\0\1",
                dst=rng.randbytes(4),
                state=rng.choice([1, 8]),
                attributes=b"" if rng.random() < 0.3 else dumps.attribute(2, info(rng, blob, 9)) + rng.choice(tails),
            )
            for _ in range(50)
        ]
        datagrams.append(b"".join(rows))
    for version in VERSIONS:
        assert same(datagrams, version, info=True, timers=True, extended=True) == 20


@pytest.mark.parametrize("show", [{}, {"numeric": True}, {"resolve": True}])
@pytest.mark.parametrize("details", [{}, {"extended": True}])
def test_many_ports(show: dict[str, Any], details: dict[str, Any]) -> None:
    """From some number of ports on those without names are made in one go; they stay the same."""
    datagrams = [
        b"".join(
            dumps.message(sport=port, dport=port ^ 1, src=b"\x0a\0\0\1", dst=b"\x0a\0\0\2", state=1)
            for port in range(start, start + 512)
        )
        for start in (0, 5000, *range(30000, 36000, 512), 39936, 60800, 65024)
    ]
    by_column = same(datagrams, (6, 1), **show, **details)
    assert by_column == (len(datagrams) if details else 0)
    printed = Printed(datagrams, (6, 1), columns=False, match=None, **show).all()[0]
    raw: list[bytes] = []
    text = Text(Context(Show(**show), dialect((6, 1)), Names(), decoders), raw.append, screen=None)  # type: ignore[arg-type]
    text.begin(Table.TCP)
    for each in datagrams:
        fields = inet_columns.decode(each)
        assert fields is not None
        text.feed_raw(fields)
    text.flush()
    assert b"".join(raw) == printed


@pytest.mark.parametrize("numeric", [False, True])
def test_sockets_of_which_no_two_are_alike(numeric: bool) -> None:
    """Busy ones: remembering texts is given up on the way."""
    rng = random.Random(9)
    datagrams = []
    for _ in range(60):
        rows = []
        for _ in range(40):
            blob = struct.pack("=8B", 1, 0, 0, 0, 0, 7, 0x77, 0)
            blob += struct.pack("=24I", *(rng.randrange(1, 1 << 20) for _ in range(24)))
            blob += struct.pack(
                "=4Q", rng.randrange(1, 1 << 40), (1 << 64) - 1, *(rng.randrange(1 << 40) for _ in "ab")
            )
            blob += struct.pack("=6I", *(rng.randrange(1, 1 << 20) for _ in range(6)))
            blob += struct.pack("=4Q", rng.randrange(1, 1 << 40), rng.randrange(1, 1 << 30), 0, 0)
            blob += struct.pack("=2I2Q", 5, 0, rng.randrange(1 << 40), 0)
            rows.append(
                dumps.message(
                    src=b"\x0a\0\0\1", dst=rng.randbytes(4), attributes=dumps.attribute(2, blob.ljust(280, b"\0"))
                )
            )
        datagrams.append(b"".join(rows))
    assert same(datagrams, (6, 15), info=True, numeric=numeric) == 60


def test_what_is_cut_off_is_an_error_both_ways() -> None:
    """An attribute that ends too soon is found by the long way, to which the short way leaves it."""
    good = dumps.message(attributes=dumps.attribute(2, bytes(280)), src=b"\x0a\0\0\1", dst=b"\x0a\0\0\1")
    bad = dumps.message(attributes=struct.pack("=HH", 40, 8) + bytes(8) + dumps.attribute(2, bytes(268)))
    assert len(bad) == len(good)
    assert inet_groups.decode(good + good) is not None
    assert inet_groups.decode(good + bad) is None
    assert inet_groups.decode(bad + good) is None
    with pytest.raises(DecodeError):
        inet_diag.decode(good + bad, Table.TCP)


@given(data=st.binary(max_size=900), cut=st.integers(1, 371))
def test_any_bytes_are_columns_or_none(data: bytes, cut: int) -> None:
    """Noise behind a good message, and a message that ends anywhere."""
    good = dumps.message(attributes=dumps.attribute(2, bytes(280)), src=b"\x0a\0\0\1", dst=b"\x0a\0\0\1")
    inet_groups.decode(data)
    inet_groups.decode(good + data)
    assert inet_groups.decode(good + good[:cut]) is None


@given(st.integers(0, 1 << 32))
def test_columns_of_tcp_info_are_its_fields(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(4):
        blob = dumps.tcp_info(rng) + rng.choice([b"", bytes(100)])
        if not blob:
            continue
        blobs = [info(rng, blob, rng.choice([0, 1, 60])) for _ in range(rng.randrange(1, 9))]
        found = tcp_info.info_columns(blobs)
        columns = iter(found.columns)
        fields = [(v,) * len(blobs) if v is not None else next(columns) for v in found.constants]
        assert list(zip(*fields, strict=True)) == [tcp_info.unpack_tcp_info(each) for each in blobs]


@given(
    values=st.lists(
        st.lists(
            st.sampled_from([0, 1, 3, 65535, 3_000_000, 0x80000000, 0xFFFFFFFF, (1 << 64) - 1]),
            min_size=68,
            max_size=68,
        ),
        min_size=2,
        max_size=5,
    ),
    numeric=st.booleans(),
    trial=trials,
)
@example(
    [[rate if field == 32 else ALL_ONES if field == 33 else 3 for field in range(68)] for rate in (9, ALL_ONES)],
    False,
    -1,
)
def test_slots_are_the_items_of_the_long_way(values: list[list[int]], numeric: bool, trial: int) -> None:
    """Every item, alone: also those that a random struct never has together."""
    context = Context(Show(info=True, timers=True, numeric=numeric), dialect((7, 3)), Names(), decoders)  # type: ignore[arg-type]
    items = TcpItems(context)
    extras = inet_diag.decode_extras(b"")
    row = InetSocket(Table.TCP, AF_INET, 1)
    constants: list[int | None] = [column[0] if len(set(column)) == 1 else None for column in zip(*values, strict=True)]
    columns = [column for column in zip(*values, strict=True) if len(set(column)) > 1]
    texts = [""] * len(values)
    with mock.patch.object(info_columns, "_TRIAL", trial):
        for part in items.plan(tuple(constants)):
            for literal, fill in part:
                template, filling = fill(columns) if fill is not None else ("", ())
                made = [list(column) for column in filling]
                for number in range(len(values)):
                    texts[number] += literal % () + template % tuple(column[number] for column in made)
    assert texts == [tcp_items(row, extras, fields, context) for fields in values]
