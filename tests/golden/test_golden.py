"""Recorded dumps, laid out and printed by us, equal what ss printed for them; three releases of it, with and without a
screen. See ``record`` for how the answers were made.
"""

import gzip
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sstrace.decoders import decoders
from sstrace.dialect import dialect, parse_version
from sstrace.model import AF_INET, Table
from sstrace.native import twins
from sstrace.query.command import Command
from sstrace.query.options import parse
from sstrace.render.common import Context
from sstrace.render.ss import Text
from sstrace.wire import inet_columns, inet_diag

HOME = Path(__file__).resolve().parents[1] / "data" / "golden"
ANSWERS = sorted(HOME.glob("*.txt.gz"))
SERVICES = {22: "ssh", 80: "http", 443: "https", 514: "shell", 8080: "http-alt"}


class Names:
    """The names that the recording machine knew, as far as the dumps ask for them."""

    def ifname(self, index: int) -> str:
        return {1: "lo"}.get(index, f"if{index}")

    def ephemeral(self) -> tuple[int, int]:
        return 32768, 60999

    def service(self, port: int, protocol: str | None) -> str | None:
        assert protocol == "tcp"
        return SERVICES.get(port)

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"{name} was asked for")


def cases(path: Path) -> Iterator[tuple[str, int | None, bytes]]:
    """The options, screen widths and texts of one file of answers."""
    data = gzip.decompress(path.read_bytes())
    at = 0
    while at < len(data):
        end = data.index(b"\n", at)
        _, size, width, options = data[at:end].decode().split(" ", 3)
        at = end + 1
        yield options, None if width == "-" else int(width), data[at : at + int(size)]
        at += int(size) + 1


def ours(dump: bytes, options: str, width: int | None, release: str, pieces: Sequence[int]) -> bytes:
    """What we print; the rows are fed in as many pieces as there are cuts."""
    command = parse(["ss", *options.split()], release=dialect(parse_version(release), release))
    assert isinstance(command, Command)
    written: list[bytes] = []
    context = Context(command.show, command.dialect, Names(), decoders, aside=written.append)  # type: ignore[arg-type]
    text = Text(context, written.append, screen=width)
    text.begin(Table.TCP)
    rows = inet_diag.decode(dump, Table.TCP).rows
    for start, stop in zip((0, *pieces), (*pieces, len(rows)), strict=True):
        text.feed(rows[start:stop])
    text.flush()
    return b"".join(written)


def test_there_are_answers_of_both_layouts() -> None:
    releases = {path.name.split("-")[1].removesuffix(".txt.gz") for path in ANSWERS}
    assert {parse_version(release)[:2] for release in releases} >= {(6, 1), (6, 15), (7, 3)}
    assert sum(1 for path in ANSWERS for _ in cases(path)) > 500


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.name.removesuffix(".txt.gz"))
def test_our_text_is_the_text_of_ss(path: Path) -> None:
    name, _, release = path.name.removesuffix(".txt.gz").partition("-")
    dump = (HOME / f"{name}.diag").read_bytes()
    for options, width, expected in cases(path):
        for pieces in ((), (1,), (7, 8, 20)):
            if not pieces or len(dump) > 2000:
                assert ours(dump, options, width, release, pieces) == expected, f"{options} at {width}"


def test_rows_by_column_print_like_rows() -> None:
    """The short way through a plain table prints what the long way prints."""
    dump = b"".join(plain_messages())
    fields = inet_columns.decode(dump)
    assert fields is not None
    command = parse(["ss", "-ta"], release=dialect((7, 3)))
    assert isinstance(command, Command)
    printed = []
    for way in ("rows", "columns", *(("datagram",) if twins is not None else ())):
        written: list[bytes] = []
        text = Text(Context(command.show, command.dialect, Names(), decoders), written.append, screen=None)  # type: ignore[arg-type]
        text.begin(Table.TCP)
        if way == "rows":
            text.feed(inet_diag.decode(dump, Table.TCP).rows)
        elif way == "datagram":
            assert text.raw()
            assert text.feed_datagram(dump, 1 << AF_INET)
        else:
            assert text.raw()
            text.feed_raw(fields)
        text.flush()
        printed.append(b"".join(written))
    assert len(set(printed)) == 1
    assert printed[0].count(b"\n") == 41


def plain_messages() -> Iterator[bytes]:
    """IPv4 rows whose lengths differ, as those of TIME-WAIT rows do."""
    sys.path.insert(0, str(HOME.parents[1]))
    import dumps

    for at in range(40):
        yield dumps.message(
            state=1 + at % 11,
            sport=22 if at % 3 else 41000 + at,
            dport=at,
            src=bytes([10, 0, 0, at]),
            dst=bytes([192, 168, at, 1]),
            rqueue=at * 1000,
            attributes=dumps.attribute(8, b"\0") if at % 2 else b"",
        )
