"""Our pass over rows against ss's own: random sockets in a TCPDIAG_FILE, random filters, and who comes through.

Rows from such a file get ss's pass only, the kernel has no say. Each socket has an inode of its own, which -e prints.
"""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Netns, Program
from dumps import DONE, attribute, message

from sstrace.dialect import dialect
from sstrace.model import AF_INET, AF_INET6, Extras, InetSocket, State, Table
from sstrace.query.command import Command
from sstrace.query.match import predicate
from sstrace.query.options import parse, resolve
from sstrace.sources.names import SystemNames

pytestmark = [pytest.mark.root, pytest.mark.ss]

V4 = [bytes(a) for a in ((0, 0, 0, 0), (127, 0, 0, 1), (10, 1, 2, 3), (10, 1, 2, 4), (10, 200, 0, 1), (253, 0, 0, 0))]
V6 = [
    bytes(16),
    bytes(15) + b"\1",
    b"\xfd" + bytes(14) + b"\1",
    b"\n\1\2\3" + bytes(12),
    *(bytes(10) + b"\xff\xff" + address for address in V4),
]
PORTS = (0, 1, 22, 80, 1023, 32768, 40000, 60999, 61000, 65535)


def rows(source: random.Random) -> Iterator[InetSocket]:
    for number in range(120):
        family, pool = source.choice(((AF_INET, V4), (AF_INET6, V6)))
        mark = source.choice((None, 1, 0x15, 0xFFFFFFFF))
        cgroup = source.choice((None, 1, 4711))
        yield InetSocket(
            table=Table.TCP,
            family=family,
            state=State.ESTABLISHED,
            src=source.choice(pool),
            dst=source.choice(pool),
            sport=source.choice(PORTS),
            dport=source.choice(PORTS),
            ifindex=source.choice((0, 1, 77)),
            ino=1000 + number,
            extras=Extras(mark=mark, cgroup_id=cgroup),
        )


def packed(row: InetSocket) -> bytes:
    assert row.extras is not None
    extra = b""
    if row.extras.mark is not None:
        extra += attribute(15, row.extras.mark.to_bytes(4, "little"))
    if row.extras.cgroup_id is not None:
        extra += attribute(21, row.extras.cgroup_id.to_bytes(8, "little"))
    return message(
        family=row.family,
        sport=row.sport,
        dport=row.dport,
        src=row.src,
        dst=row.dst,
        ifindex=row.ifindex,
        inode=row.ino,
        attributes=extra,
    )


OPERANDS = (
    *("src", "dst"),
    *("127.0.0.1", "127/8", "10.1.2.3", "10.1.2/23", "0.0.0.0", "0.0.0.0/0", "any", "*", "[::1]", "[::]", "fd00::/8"),
    *(
        "::/0",
        "[::ffff:10.1.2.3]",
        "[::ffff:0:0/96]",
        "[a01:203::]",
        "253/8",
        "10.1.2.3:22",
        "*:80",
        ":61000",
        "[::1]:22",
    ),
    *("10/7:40000", "localhost", "localhost:80", "0/1", "128/1", "8000::/1", "::/127", "fd00::/3"),
)


def words_of_a_test(source: random.Random) -> str:
    kind = source.randrange(6)
    if kind < 2:
        return f"{source.choice(OPERANDS[:2])} {source.choice(OPERANDS[2:])}"
    if kind < 4:
        operator = source.choice(("=", "!=", ">=", "<=", ">", "<"))
        port = source.choice((*map(str, PORTS), "ssh", ":80", "*", "70000", "0x50"))
        return f"{source.choice(('sport', 'dport'))} {operator} {port}"
    return source.choice(
        (
            "dev lo",
            "dev != lo",
            "dev 77",
            "dev 0",
            "autobound",
            "fwmark 1",
            "fwmark 0x15/0xff",
            "fwmark != 0",
            "fwmark 5/4",
        )
    )


def expression(source: random.Random, depth: int = 2) -> str:
    words = []
    for number in range(source.randint(1, 4)):
        words.append(source.choice(("and", "or", "")) if number else "")
        words.append(source.choice(("", "", "!")))
        words.append(
            f"( {expression(source, depth - 1)} )" if depth and source.random() < 0.3 else words_of_a_test(source)
        )
    return " ".join(words)


@pytest.mark.parametrize("seed", range(120))
def test_the_same_rows_come_through(module_netns: Netns, tmp_path: Path, seed: int) -> None:
    source = random.Random(seed)
    table = list(rows(source))
    dump = tmp_path / "dump"
    dump.write_bytes(b"".join(map(packed, table)) + DONE)
    text = expression(source)
    result = Program("ss")("-Htnae", "--", text, netns=module_netns, env={"TCPDIAG_FILE": str(dump)})
    assert result.returncode == 0, result.stderr
    theirs = [int(inode) for inode in re.findall(rb" ino:(\d+)", result.stdout)]

    names = SystemNames({})
    command = parse(["ss", "-Htnae", "--", text], release=dialect((6, 1)))
    assert isinstance(command, Command)
    passes = predicate(resolve(command, names).selection.filter, names)
    assert passes is not None
    assert [row.ino for row in table if passes(row)] == theirs, text
