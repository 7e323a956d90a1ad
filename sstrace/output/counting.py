"""``--stats``, live: transitions are digested as they come, and the digest is printed when somebody asks."""

import time
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING

from sstrace.coordinates import name_text
from sstrace.live.living import Living
from sstrace.model import Lost, State, Table
from sstrace.output.page import MOST, Page, new_digest, page_of
from sstrace.output.row_filter import RowFilter
from sstrace.protocols import DATAGRAMS, OF_TABLE, SWEPT
from sstrace.query import options
from sstrace.query.command import Command, followed_tables
from sstrace.render.digest import Digest
from sstrace.render.events import timestamp
from sstrace.render.stats import ndjson, text
from sstrace.render.times import moment
from sstrace.sources.names import SystemNames
from sstrace.sources.standard import give, write_all
from sstrace.table import Resync, SocketTable, Transition

if TYPE_CHECKING:  # who counts what a file tells needs none
    from sstrace.live.tracer import Tracer

__all__ = ["Counting", "counting", "print_digest"]

_ESTABLISHED = int(State.ESTABLISHED)


class Counting:
    """Digests what becomes of a table, a family for itself. ``matches``: connections that are not let pass are left
    out. ``make``: a digest. ``tables``: whose sockets are counted. ``living``: looks what those have carried that have
    not ended.
    """

    def __init__(
        self,
        table: SocketTable,
        matches: RowFilter | None = None,
        make: Callable[[], Digest] = Digest,
        tables: Collection[Table] = (Table.TCP,),
        living: Living | None = None,
    ) -> None:
        self._table = table
        self._living = living
        self._protocols = {OF_TABLE[each].number for each in tables}
        self._matches = matches
        self._make = make
        self._digests = {family: make() for table in tables for family in OF_TABLE[table].family.numbers}
        self._lost = 0
        self.began_ns = time.monotonic_ns()
        """CLOCK_MONOTONIC."""

    def take(self, changes: Iterable[object]) -> None:
        """Count changes."""
        digests, matches, protocols = self._digests, self._matches, self._protocols
        for change in changes:
            if type(change) is Transition:
                row, retransmits = change.row, change.reported.retransmits or 0
                digest = digests.get(row.family)
                if digest is None or row.protocol not in protocols or (matches and not matches.change(change)):
                    continue
                if row.protocol in SWEPT:
                    digest.looked(
                        change.at_ns, row.id, change.new, ended=change.ended, lifetime_ns=change.lifetime_ns,
                        role=row.role, peer=name_text(row.dst), owner=row.owners[0].comm if row.owners else b"",
                    )  # fmt: skip
                    continue
                if row.protocol in DATAGRAMS:
                    digest.datagram(
                        change.at_ns, row.id, ended=change.ended,
                        lifetime_ns=change.lifetime_ns, role=row.role, peer=row.dst, ports=(row.sport, row.dport),
                        owner=row.owners[0].comm if row.owners else b"", reported=change.reported,
                    )  # fmt: skip
                    continue
                if change.new != _ESTABLISHED and not change.ended and not retransmits:  # half of all
                    digest.pass_over(change.at_ns)
                    continue
                owners = row.owners
                digest.add(
                    change.at_ns,
                    row.id,
                    change.old,
                    change.new,
                    ended=change.ended,
                    lifetime_ns=change.lifetime_ns,
                    held_ns=change.held_ns,
                    role=row.role,
                    peer=row.dst,
                    ports=(row.sport, row.dport),
                    owner=owners[0].comm if owners else b"",
                    cause=change.cause,
                    retransmits=retransmits,
                    reported=change.reported,
                )
            elif type(change) is Lost:
                self._lost += change.count
            elif type(change) is Resync:
                alive = self._table.__contains__
                for digest in digests.values():
                    digest.keep(alive)

    def digest(self, families: int) -> Digest:
        """All of these families (bit n for family n) so far, and what connections have carried that have not ended."""
        found = self._make()
        for family, digest in self._digests.items():
            if families >> family & 1:
                found.merge(digest)
        found.lost = self._lost
        for row, reported in self._living.look() if self._living is not None else ():
            if families >> row.family & 1 and (not self._matches or self._matches.row(row)):
                owner = row.owners[0].comm if row.owners else b""
                found.carry(role=row.role, peer=row.dst, ports=(row.sport, row.dport), owner=owner, reported=reported)
        return found

    def tell(self, command: Command, *, owners: bool) -> int:
        """Answer ``--stats --from live``: print what was counted since the beginning, whose sockets they were only to
        those who may know; the exit code.
        """
        offset = time.time_ns() - time.monotonic_ns()
        digest = self.digest(command.selection.families)
        if not owners:
            digest.hide_owners()
        span = self.began_ns + offset, time.time_ns()
        print_digest(command, digest, *span)
        if command.own.html is not None:  # whoever asks has the file
            write_all(1, b"\0" + page_of(command, digest, *span, offset))
        return 0


def counting(command: Command, tracer: "Tracer", names: SystemNames, most_keys: int | None = None) -> Counting:
    """What counts the connections that a command line selects; ``most_keys``: see ``Digest``, of one that can be drawn
    whenever somebody asks for that. Raises UsageError and LookupFailed for its filter.
    """
    expression = options.resolve(command, names).selection.filter
    if most_keys is not None:
        from sstrace.render.html_counts import Pictured

        make: Callable[[], Digest] = partial(Pictured, most_keys, most_keys)
    else:
        make = partial(new_digest, command)
    matches = RowFilter(expression, names, tracer.places.where)
    tables = followed_tables(command.selection)
    return Counting(tracer.table, matches, make, tables, Living(tracer) if Table.TCP in tables else None)


def print_digest(
    command: Command,
    digest: Digest,
    began_ns: int | None,
    ended_ns: int | None,
    offset_ns: int = 0,
    *,
    page: Page | None = None,
) -> None:
    """To standard output, and as a page where one is wanted; --count says how many lines a grouping may have.
    ``began_ns``, ``ended_ns``: since 1970, UTC, which ``offset_ns`` makes of the digest's own times.
    """
    own = command.own
    most = own.count or MOST
    if page is not None:
        page.write(page_of(command, digest, began_ns, ended_ns, offset_ns))
    say = timestamp if own.json else partial(moment, utc=own.utc)
    began, ended = ("-" if at is None else say(at) for at in (began_ns, ended_ns))
    if own.json:
        data = ndjson(digest, began, ended, most)
    else:
        data = text(digest, began, ended, most).encode(errors="backslashreplace")
    give(data)
