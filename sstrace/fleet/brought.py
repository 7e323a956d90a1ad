"""A recording as rows of an engine: each file's lines are a run of its own, as its first line names it. What it holds
of other families than the internet's stays behind: their names are no addresses, and --sink sends none of them.
"""

from collections.abc import Callable

import msgspec

from sstrace.fleet.rows import Rows
from sstrace.lines import CheckpointLine, MetaLine, NetnsLine, SeenLine
from sstrace.plain import counted
from sstrace.protocols import SWEPT_TABLES, TABLE_OF_NETID
from sstrace.query.connection import address_of
from sstrace.recording.fleet import Fleet, Part
from sstrace.recording.reader import Reader
from sstrace.sources.clickhouse import Refused
from sstrace.sources.standard import say
from sstrace.wire.recording import Fact

__all__ = ["bring", "of_internet"]

_BATCH = 8 << 20
_OUTSIDE = frozenset(netid for netid, table in TABLE_OF_NETID.items() if SWEPT_TABLES >> table & 1)
_encoder = msgspec.json.Encoder()


def bring(fleet: Fleet, part: Part, rows: Rows, insert: Callable[[bytes], None]) -> int:
    """Bring the lines of a file to whoever inserts rows, JSON objects a line each; how many there were. ``rows``: makes
    rows of them. Raises Moved, DecodeError, and what inserting raises.
    """
    count = 0
    if part.head.netids and _OUTSIDE.issuperset(part.head.netids):
        say(f"{part.path}: has nothing of TCP, UDP or raw sockets, and is left out")
        return 0
    with fleet.opened(part) as source:
        source.wait()
        reader = Reader(source, marks=True)
        lines = _Lines()
        for item in reader.runs():
            if isinstance(item, MetaLine):
                lines.meta(item)
            else:
                for line in item.lines:
                    lines.take(line)
            if lines.size > _BATCH:
                count += _insert(insert, rows, lines.done(), part.path)
        count += _insert(insert, rows, lines.last(), part.path)
        reader.finish()
    if lines.left_out:
        told = counted(lines.left_out, "line", "is/are")
        say(f"{part.path}: {told} of other sockets than TCP's, UDP's and raw ones, and left out")
    return count


def of_internet(head: MetaLine) -> MetaLine:
    """What a first line says of what is brought."""
    return msgspec.structs.replace(head, netids=tuple(netid for netid in head.netids if netid not in _OUTSIDE))


class _Lines:
    """Lines as they are put into an engine: what is repeated of a checkpoint comes whole, or as lines of their own."""

    def __init__(self) -> None:
        self._out: list[bytes] = []
        self._checkpoint: CheckpointLine | None = None
        self._rows: list[bytes] = []
        self._due = 0
        """So many rows are to come of it."""
        self._begun = False
        self.size = 0
        self.left_out = 0

    def meta(self, line: MetaLine) -> None:
        """A first line; those in the middle of a file are passed over."""
        self.end()
        if not self._begun:
            self._begun = True
            self._put(_encoder.encode(of_internet(line)))

    def take(self, line: Fact) -> None:
        """The next one."""
        outside = getattr(line, "netid", None) in _OUTSIDE
        self.left_out += outside
        if self._checkpoint is not None:
            if line.seq == self._checkpoint.seq and isinstance(line, SeenLine | NetnsLine):
                if outside:
                    self._checkpoint.rows -= 1
                else:
                    self._rows.append(_encoder.encode(line))
                self._due -= 1
                if not self._due:
                    self._put(_encoder.encode(self._checkpoint), *self._rows)
                    self._checkpoint, self._rows = None, []
                return
            self.end()
        if isinstance(line, CheckpointLine) and line.rows + (line.places or 0):
            self._checkpoint, self._due = line, line.rows + (line.places or 0)
        elif not outside:
            self._put(_encoder.encode(line))

    def end(self) -> None:
        """Nothing more comes that belongs to a checkpoint."""
        self._put(*self._rows)
        self._checkpoint, self._rows = None, []

    def last(self) -> list[bytes]:
        """What is left at the end of the stream; in the middle of a checkpoint a recorder may just have been."""
        if self._checkpoint is not None:
            self._rows.insert(0, _encoder.encode(self._checkpoint))
        self.end()
        return self.done()

    def done(self) -> list[bytes]:
        """What is whole."""
        out, self._out, self.size = self._out, [], 0
        return out

    def _put(self, *lines: bytes) -> None:
        self._out += lines
        self.size += sum(map(len, lines))


def _insert(insert: Callable[[bytes], None], rows: Rows, lines: list[bytes], path: str) -> int:
    if not lines:
        return 0
    body = rows.take(b"\n".join(lines) + b"\n", cut=True)
    try:
        insert(body)
    except Refused:
        found = body.splitlines(keepends=True)
        good = list(filter(_has_addresses, found))
        if len(good) == len(found):
            raise
        say(f"{path}: {len(found) - len(good)} rows have addresses that are none, and are left out")
        insert(b"".join(good))
        return len(good)
    return len(lines)


def _has_addresses(line: bytes) -> bool:
    found = msgspec.json.decode(line, type=dict[str, object])
    return all("%" not in str(found[end]) and address_of(str(found[end])) for end in ("src", "dst") if end in found)
